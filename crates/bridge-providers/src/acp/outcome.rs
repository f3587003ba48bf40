//! What a stop reason, an error or an exit of the agent means for the run, in words for a person.

use bridge_proto::model::{Actor, Fault, Fix, Outcome};
use serde_json::Value;

use super::{jsonrpc::RpcError, quirks::AcpQuirks};
use crate::{dialogue::Exit, plain::sentence};

/// The outcome of a prompt that was answered. A reason nobody knows, or none, counts as done.
pub(crate) fn of_stop_reason(quirks: &AcpQuirks, reason: Option<&str>) -> Outcome {
    let name = &quirks.name;
    match reason {
        Some("max_tokens") => Outcome::Blocked {
            fix: Fix::Limit,
            reason: format!("{name} stopped: the answer or the context reached its length limit"),
        },
        Some("max_turn_requests") => Outcome::Blocked {
            fix: Fix::Limit,
            reason: format!("{name} stopped: max turns reached without a final answer"),
        },
        Some("refusal") => Outcome::Failed {
            fault: Fault::Model,
            reason: "the model refused to answer".into(),
        },
        Some("cancelled") => Outcome::Cancelled { by: Actor::Person },
        Some(_) | None => Outcome::Completed,
    }
}

/// The outcome of a request that was refused; `fault` when the error names nothing a person could
/// mend.
pub(crate) fn of_error(quirks: &AcpQuirks, error: &RpcError, fault: Fault) -> Outcome {
    let detail = detail(error);
    let name = &quirks.name;
    match trouble(error.code, &detail) {
        Some(Fix::Login) => Outcome::Blocked {
            fix: Fix::Login,
            reason: login_reason(quirks, &detail),
        },
        Some(fix) => Outcome::Blocked {
            fix,
            reason: format!("{name}: {detail}"),
        },
        None => Outcome::Failed {
            fault,
            reason: format!("{name}: {detail}"),
        },
    }
}

/// The outcome of a turn in which a model call failed, from the words the agent had for it; empty
/// when it had none.
pub(crate) fn of_words(quirks: &AcpQuirks, words: &str) -> Outcome {
    let words = words.trim();
    let message = match words.strip_prefix("Error:").unwrap_or(words).trim() {
        "" => "the model call failed, and no reason was given",
        words => words,
    };
    let error = RpcError {
        code: 0,
        message: message.to_owned(),
        data: None,
    };
    of_error(quirks, &error, Fault::Model)
}

/// The outcome when the process is gone although it was needed; `doing` says what for.
pub(crate) fn of_exit(quirks: &AcpQuirks, exit: &Exit, doing: &str, noise: &str) -> Outcome {
    let how = match (exit.code, exit.signal) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no exit code".to_owned(),
    };
    let said = last_words(&exit.stderr_tail);
    let said = if said.is_empty() {
        sentence(noise, DETAIL_CHARS)
    } else {
        said
    };
    if exit
        .code
        .is_some_and(|code| quirks.login_exit_codes.contains(&code))
    {
        return Outcome::Blocked {
            fix: Fix::Login,
            reason: login_reason(quirks, &said),
        };
    }
    let name = &quirks.name;
    let reason = if said.is_empty() {
        format!("{name} ended {doing} ({how})")
    } else {
        format!("{name} ended {doing} ({how}): {said}")
    };
    Outcome::Failed {
        fault: Fault::Agent,
        reason,
    }
}

/// The outcome when the start drowned in lines that are not the protocol: a question for a login,
/// as far as the words tell, or a program that speaks something else.
pub(crate) fn of_noise(quirks: &AcpQuirks, noise: &str) -> Outcome {
    if asks_for_login(quirks, noise) {
        return Outcome::Blocked {
            fix: Fix::Login,
            reason: login_reason(quirks, noise),
        };
    }
    let name = &quirks.name;
    let reason = if noise.is_empty() {
        format!("{name} does not speak the Agent Client Protocol")
    } else {
        format!("{name} does not speak the Agent Client Protocol; it said: {noise}")
    };
    Outcome::Failed {
        fault: Fault::Agent,
        reason,
    }
}

fn asks_for_login(quirks: &AcpQuirks, noise: &str) -> bool {
    let lower = noise.to_lowercase();
    // A file name or an address is one word here, whatever stands in it.
    let words = lower.split_whitespace();
    let words: Vec<&str> = words
        .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()))
        .collect();
    let mut known = quirks.login_prompts.iter();
    known.any(|prompt| noise.contains(prompt))
        || LOGIN_WORDS.iter().any(|word| lower.contains(word))
        || words.iter().any(|word| LOGIN_VERBS.contains(word))
        || words.windows(2).any(|two| {
            matches!(
                two,
                ["log" | "logged" | "sign" | "signed", "in"] | ["authorization" | "device", "code"]
            )
        })
}

fn login_reason(quirks: &AcpQuirks, said: &str) -> String {
    let (name, hint) = (&quirks.name, &quirks.login_hint);
    if said.is_empty() {
        format!("{name} wants a login; {hint}")
    } else {
        format!("{name} wants a login; {hint}. It said: {said}")
    }
}

/// The message of an error with what its data adds. Vendors' JSON inside the message is unwrapped.
fn detail(error: &RpcError) -> String {
    let message = unwrap_vendor_json(&error.message);
    let added = error.data.as_ref().and_then(|data| {
        let text = ["details", "message", "error"]
            .iter()
            .find_map(|key| data.get(key)?.as_str());
        text.or_else(|| data.as_str()).map(unwrap_vendor_json)
    });
    let message = match added {
        Some(added) if !message.contains(&added) => format!("{message}: {added}"),
        Some(_) | None => message,
    };
    let message = sentence(&message, DETAIL_CHARS);
    match (message.is_empty(), error.code) {
        (true, code) => format!("error {code}"),
        (false, code @ 400..=599) => format!("{message} (status {code})"),
        (false, _) => message,
    }
}

fn unwrap_vendor_json(text: &str) -> String {
    let inner = serde_json::from_str::<Value>(text).ok().and_then(|value| {
        let message = value
            .pointer("/error/message")
            .or_else(|| value.get("message"))?;
        message.as_str().map(str::to_owned)
    });
    inner.unwrap_or_else(|| text.to_owned())
}

/// What a person could mend, by code or, where an agent loses the code, by the words.
fn trouble(code: i64, detail: &str) -> Option<Fix> {
    match code {
        -32000 | 401 | 403 => return Some(Fix::Login),
        402 | 429 => return Some(Fix::Credit),
        _ => {}
    }
    let lower = detail.to_lowercase();
    let words: Vec<&str> = lower
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    let status = words.windows(2).find_map(|pair| match pair {
        ["error" | "status" | "code" | "http", number] => number
            .parse::<u16>()
            .ok()
            .filter(|status| (400..600).contains(status)),
        _ => None,
    });
    match status {
        Some(401 | 403) => return Some(Fix::Login),
        Some(402 | 429) => return Some(Fix::Credit),
        Some(_) | None => {}
    }
    if LOGIN_WORDS.iter().any(|word| lower.contains(word)) {
        return Some(Fix::Login);
    }
    CREDIT_WORDS
        .iter()
        .any(|word| lower.contains(word))
        .then_some(Fix::Credit)
}

/// The last lines of a standard error that may be a stack trace.
fn last_words(tail: &str) -> String {
    let lines: Vec<&str> = tail
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("at "))
        .collect();
    let start = lines.len().saturating_sub(3);
    sentence(
        &lines.get(start..).unwrap_or_default().join(" / "),
        DETAIL_CHARS,
    )
}

/// Longest quotation of the agent in a reason.
const DETAIL_CHARS: usize = 400;
const LOGIN_WORDS: [&str; 8] = [
    "api key",
    "api-key",
    "unauthorized",
    "unauthenticated",
    "not logged in",
    "authentication required",
    "invalid credentials",
    "no llm provider",
];
/// What programs say when they ask for a login themselves.
const LOGIN_VERBS: [&str; 5] = ["login", "signin", "authenticate", "authorize", "passcode"];
const CREDIT_WORDS: [&str; 6] = [
    "quota",
    "credit",
    "rate limit",
    "too many requests",
    "billing",
    "usage limit",
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error(code: i64, message: &str, data: Value) -> RpcError {
        RpcError {
            code,
            message: message.into(),
            data: Some(data).filter(|data| !data.is_null()),
        }
    }

    fn quirks() -> AcpQuirks {
        AcpQuirks::plain("Agent", "log in")
    }

    #[test]
    fn login_and_credit_troubles_are_blocked_and_the_rest_is_failed() {
        let fix = |code, message, data| match of_error(
            &quirks(),
            &error(code, message, data),
            Fault::Model,
        ) {
            Outcome::Blocked { fix, .. } => Some(fix),
            Outcome::Failed { .. } | Outcome::Completed | Outcome::Cancelled { .. } => None,
        };
        assert_eq!(
            fix(-32000, "Gemini API key is missing", Value::Null),
            Some(Fix::Login)
        );
        assert_eq!(
            fix(401, "{\"error\":{\"message\":\"no\"}}", Value::Null),
            Some(Fix::Login)
        );
        assert_eq!(
            fix(-32603, "Internal error: mock error 401", json!({})),
            Some(Fix::Login)
        );
        assert_eq!(fix(429, "slow down", Value::Null), Some(Fix::Credit));
        assert_eq!(
            fix(0, "Last error: 429 slow down", Value::Null),
            Some(Fix::Credit)
        );
        assert_eq!(
            fix(0, "refused by http://127.0.0.1:80 (HTTP 401)", Value::Null),
            Some(Fix::Login)
        );
        assert_eq!(
            fix(-32603, "Internal", json!({"details": "quota exceeded"})),
            Some(Fix::Credit)
        );
        assert_eq!(fix(500, "terminated", Value::Null), None);
        assert_eq!(fix(-32603, "read 401 lines", Value::Null), None);
    }

    #[test]
    fn reasons_quote_the_innermost_message_and_the_detail() {
        let told = of_error(
            &quirks(),
            &error(
                500,
                "{\"error\":{\"message\":\"model\\nis down\"}}",
                json!({"details": "try later"}),
            ),
            Fault::Model,
        );
        assert_eq!(
            told,
            Outcome::Failed {
                fault: Fault::Model,
                reason: "Agent: model is down: try later (status 500)".into()
            }
        );
    }

    #[test]
    fn only_noise_that_speaks_of_a_login_is_one() {
        let fix = |noise| match of_noise(&quirks(), noise) {
            Outcome::Blocked { fix, .. } => Some(fix),
            failed @ (Outcome::Failed { .. } | Outcome::Completed | Outcome::Cancelled { .. }) => {
                let agent = Fault::Agent;
                assert!(matches!(failed, Outcome::Failed { fault, .. } if fault == agent));
                None
            }
        };
        for login in [
            "To continue, Log in at https://vendor.example/device",
            "Please sign in: https://vendor.example",
            "Enter the authorization code:",
            "run `agent login` first",
            "Error: Authentication required",
            "Missing API key",
        ] {
            assert_eq!(fix(login), Some(Fix::Login), "{login}");
        }
        for garbage in [
            "",
            "bash: no such option / usage: agent [-h]",
            "\u{fffd}\u{fffd}PNG IHDR",
            "Listening on 127.0.0.1:4096 / writing blogins.log in / ENOENT relogin.js",
            "warning: signing in progress",
            "undefined is not a function / at author.js:3",
        ] {
            assert_eq!(fix(garbage), None, "{garbage}");
        }
        let gemini = AcpQuirks {
            login_prompts: vec!["Visit the page".into()],
            ..quirks()
        };
        let told = of_noise(&gemini, "Visit the page x");
        assert!(matches!(told, Outcome::Blocked { .. }), "{told:?}");
    }

    #[test]
    fn what_is_not_the_protocol_is_quoted() {
        let told = of_noise(&quirks(), "usage: agent");
        let reason = "Agent does not speak the Agent Client Protocol; it said: usage: agent";
        assert_eq!(
            told,
            Outcome::Failed {
                fault: Fault::Agent,
                reason: reason.into()
            }
        );
    }

    #[test]
    fn exits_quote_the_end_of_standard_error_without_stack_frames() {
        let exit = Exit {
            code: Some(1),
            signal: None,
            stderr_tail: "Error: boom\n    at main (x.js:1)\n    at run (y.js:2)\n".into(),
        };
        assert_eq!(
            of_exit(&quirks(), &exit, "during the turn", ""),
            Outcome::Failed {
                fault: Fault::Agent,
                reason: "Agent ended during the turn (exit code 1): Error: boom".into()
            }
        );
    }
}
