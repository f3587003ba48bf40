//! What an error of Codex means: whose fault it is, whether it can be mended, whether it is final.

use std::time::Duration;

use bridge_proto::model::{Fault, Fix, Outcome, Retry};
use serde_json::Value;

use crate::{
    dialogue::Exit,
    plain::{one_line, readable, sentence, tail},
};

/// What a turn that failed with this error ended as.
///
/// | seen | becomes |
/// |---|---|
/// | 401, 403, `unauthorized`, the variable of the key is missing | blocked, login |
/// | 402, 429, `usageLimitExceeded`, `rateLimitExceeded` | blocked, credit |
/// | `sessionBudgetExceeded` | blocked, limit |
/// | `cyberPolicy`, `misalignmentPolicyViolation`, `tooManyDenials` | failed, task |
/// | `sandboxError`, `threadRollbackFailed` | failed, agent |
/// | everything else: unknown model, 400, 5xx, lost connections | failed, model |
pub(super) fn judge(error: &Value) -> Outcome {
    let reason = reason(error);
    let blocked = |fix| Outcome::Blocked {
        fix,
        reason: reason.clone(),
    };
    let failed = |fault| Outcome::Failed {
        fault,
        reason: reason.clone(),
    };
    match (status(error), code(error)) {
        (Some(401 | 403), _) | (_, "unauthorized") => blocked(Fix::Login),
        _ if names_missing_key(&reason) => blocked(Fix::Login),
        (Some(402 | 429), _) | (_, "usageLimitExceeded" | "rateLimitExceeded") => {
            blocked(Fix::Credit)
        }
        (_, "sessionBudgetExceeded") => blocked(Fix::Limit),
        (_, "cyberPolicy" | "misalignmentPolicyViolation" | "tooManyDenials") => {
            failed(Fault::Task)
        }
        (_, "sandboxError" | "threadRollbackFailed") => failed(Fault::Agent),
        (_, _) => failed(Fault::Model),
    }
}

/// Whether this error, though it will be retried, cannot end otherwise: the key was refused.
pub(super) fn is_refused_key(error: &Value) -> bool {
    status(error) == Some(401) || code(error) == "unauthorized"
}

/// What a turn ends as whose key was refused.
pub(super) fn refused_key(error: &Value) -> Outcome {
    let details = text(error, "additionalDetails");
    let why = if details.is_empty() {
        text(error, "message")
    } else {
        details
    };
    Outcome::Blocked {
        fix: Fix::Login,
        reason: format!(
            "Codex is not authorised: the login or key was refused ({})",
            one_line(why, MAX_NOTE)
        ),
    }
}

/// What a person reads of a retry. `attempt` is for errors that do not number themselves.
pub(super) fn retry(error: &Value, attempt: u32) -> Retry {
    let message = text(error, "message");
    let (number, limit) = numbers(message).unzip();
    let details = text(error, "additionalDetails");
    let why = if details.is_empty() { message } else { details };
    Retry {
        attempt: number.unwrap_or(attempt),
        limit,
        delay: None::<Duration>,
        reason: one_line(why, MAX_NOTE),
    }
}

/// What the program could not do with a conversation that was to be continued or begun.
pub(super) fn refused_thread(message: &str) -> Outcome {
    let said = readable(message, MAX_REASON);
    if message.contains("already has an active writer") {
        return Outcome::Blocked {
            fix: Fix::Setup,
            reason: format!("another Codex has this conversation open; close it there: {said}"),
        };
    }
    let gone = ["no rollout found", "invalid session id", "thread not found"];
    let reason = if gone.iter().any(|sign| message.contains(sign)) {
        format!("Codex does not know this conversation any more: {said}")
    } else {
        format!("Codex would not begin: {said}")
    };
    Outcome::Failed {
        fault: Fault::Agent,
        reason,
    }
}

/// Why a turn is over whose process is gone.
pub(super) fn reason_of_end(exit: &Exit) -> String {
    let how = match (exit.code, exit.signal) {
        (_, Some(signal)) => format!("Codex was ended by signal {signal}"),
        (Some(code), None) => format!("Codex ended with code {code}"),
        (None, None) => "Codex ended".to_owned(),
    };
    match last_words(&exit.stderr_tail) {
        said if said.is_empty() => format!("{how} before it was done"),
        said => format!("{how}: {said}"),
    }
}

/// What it printed last to standard error, without what it prints in every run.
pub(super) fn last_words(stderr: &str) -> String {
    let (told, _) = stderr
        .split_once("Stack backtrace:")
        .unwrap_or((stderr, ""));
    let usual = |line: &str| USUAL.iter().any(|usual| line.contains(usual));
    let lines: Vec<&str> = told.lines().filter(|line| !usual(line)).collect();
    sentence(tail(lines.join("\n").trim(), MAX_REASON), MAX_REASON)
}

/// The status in a text such as `unexpected status 401 Unauthorized: …`.
pub(super) fn status_in(text: &str) -> Option<u64> {
    let (_, rest) = text
        .split_once("status ")
        .or_else(|| text.split_once("status: "))?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    (digits.len() == 3).then(|| digits.parse().ok())?
}

/// The HTTP status of an error, where it has one.
fn status(error: &Value) -> Option<u64> {
    let info = error.get("codexErrorInfo");
    let detail = info
        .and_then(Value::as_object)
        .and_then(|it| it.values().next());
    let told = detail.and_then(|detail| detail.get("httpStatusCode")?.as_u64());
    told.or_else(|| status_in(text(error, "message")))
}

/// The program's word for an error: a string, or the one key of an object.
fn code(error: &Value) -> &str {
    match error.get("codexErrorInfo") {
        Some(Value::String(word)) => word,
        Some(Value::Object(info)) => info.keys().next().map_or("", String::as_str),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_)) | None => "",
    }
}

fn reason(error: &Value) -> String {
    let message = text(error, "message").trim();
    if message.is_empty() {
        return "Codex reported an error without a reason".to_owned();
    }
    match text(error, "additionalDetails").trim() {
        "" => readable(message, MAX_REASON),
        details => readable(&format!("{message} ({details})"), MAX_REASON),
    }
}

fn names_missing_key(reason: &str) -> bool {
    reason.starts_with("Missing environment variable")
}

/// `2` and `5` of `Reconnecting... 2/5`.
fn numbers(message: &str) -> Option<(u32, u32)> {
    let word = message
        .split_whitespace()
        .find(|word| word.contains('/') && word.chars().all(|c| c.is_ascii_digit() || c == '/'))?;
    let (attempt, limit) = word.split_once('/')?;
    Some((attempt.parse().ok()?, limit.parse().ok()?))
}

fn text<'a>(error: &'a Value, name: &str) -> &'a str {
    error.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Lines of standard error that say nothing about an end.
const USUAL: [&str; 2] = [
    "could not find bubblewrap on PATH",
    "Reading additional input from stdin",
];
/// Longest reason of an outcome.
pub(super) const MAX_REASON: usize = 2000;
const MAX_NOTE: usize = 300;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error(message: &str, info: &Value) -> Value {
        json!({"message": message, "codexErrorInfo": info, "additionalDetails": null})
    }

    fn fix(error: &Value) -> Option<Fix> {
        match judge(error) {
            Outcome::Blocked { fix, .. } => Some(fix),
            Outcome::Completed | Outcome::Failed { .. } | Outcome::Cancelled { .. } => None,
        }
    }

    fn fault(error: &Value) -> Option<Fault> {
        match judge(error) {
            Outcome::Failed { fault, .. } => Some(fault),
            Outcome::Completed | Outcome::Blocked { .. } | Outcome::Cancelled { .. } => None,
        }
    }

    #[test]
    fn logins_credit_and_limits_can_be_mended() {
        let status = |code: u64| {
            error(
                "no",
                &json!({"httpConnectionFailed": {"httpStatusCode": code}}),
            )
        };
        assert_eq!(fix(&status(401)), Some(Fix::Login));
        assert_eq!(fix(&status(429)), Some(Fix::Credit));
        assert_eq!(
            fix(&error("no", &json!("usageLimitExceeded"))),
            Some(Fix::Credit)
        );
        assert_eq!(
            fix(&error("no", &json!("sessionBudgetExceeded"))),
            Some(Fix::Limit)
        );
        assert_eq!(fix(&status(500)), None);
    }

    #[test]
    fn a_missing_environment_variable_of_the_key_asks_for_a_login() {
        let missing = error("Missing environment variable: `MOCK_KEY`.", &json!("other"));
        assert_eq!(fix(&missing), Some(Fix::Login));
    }

    #[test]
    fn an_unknown_model_and_a_bad_request_are_the_models_fault() {
        assert_eq!(
            fault(&error("no", &json!("modelNotFound"))),
            Some(Fault::Model)
        );
        assert_eq!(
            fault(&error("{\"error\":1}", &json!("other"))),
            Some(Fault::Model)
        );
        assert_eq!(
            fault(&error("no", &json!("internalServerError"))),
            Some(Fault::Model)
        );
        assert_eq!(
            fault(&error("no", &json!("cyberPolicy"))),
            Some(Fault::Task)
        );
        assert_eq!(
            fault(&error("no", &json!("sandboxError"))),
            Some(Fault::Agent)
        );
        assert_eq!(fault(&json!(7)), Some(Fault::Model));
    }

    #[test]
    fn retries_say_how_often_and_why() {
        let told = retry(
            &json!({"message": "Reconnecting... 2/5", "additionalDetails": "429 Too Many"}),
            9,
        );
        assert_eq!(
            (told.attempt, told.limit, told.reason.as_str()),
            (2, Some(5), "429 Too Many")
        );
        let waiting = retry(
            &json!({"message": "Reconnecting... waiting for network"}),
            3,
        );
        assert_eq!((waiting.attempt, waiting.limit), (3, None));
    }

    #[test]
    fn a_refused_key_is_seen_in_a_retry_and_in_words() {
        let info = json!({"responseStreamDisconnected": {"httpStatusCode": 401}});
        assert!(is_refused_key(&error("Reconnecting... 1/5", &info)));
        assert_eq!(
            status_in("unexpected status 401 Unauthorized: no"),
            Some(401)
        );
        assert_eq!(
            status_in("exceeded retry limit, last status: 429 Too Many"),
            Some(429)
        );
        assert_eq!(status_in("the status of things"), None);
    }

    #[test]
    fn the_reason_of_an_end_is_what_it_does_not_say_in_every_run() {
        let exit = |stderr: &str| Exit {
            code: Some(101),
            signal: None,
            stderr_tail: stderr.to_owned(),
        };
        let usual =
            "\u{1b}[31mERROR\u{1b}[0m Codex could not find bubblewrap on PATH. Install it.\n";
        let reason = reason_of_end(&exit(&format!("{usual}thread 'main' panicked\n")));
        assert_eq!(reason, "Codex ended with code 101: thread 'main' panicked");
        let reason = reason_of_end(&exit(usual));
        assert_eq!(reason, "Codex ended with code 101 before it was done");
        assert_eq!(
            last_words("Error: no\n\nStack backtrace:\n 0: <unknown>"),
            "Error: no"
        );
    }

    #[test]
    fn a_conversation_with_another_owner_can_be_mended_and_an_unknown_one_not() {
        let busy = "thread 01a1 already has an active writer";
        assert!(matches!(
            refused_thread(busy),
            Outcome::Blocked {
                fix: Fix::Setup,
                ..
            }
        ));
        let gone = refused_thread("no rollout found for thread id 01a1");
        let Outcome::Failed { reason, .. } = gone else {
            panic!()
        };
        assert!(
            reason.starts_with("Codex does not know this conversation"),
            "{reason}"
        );
    }
}
