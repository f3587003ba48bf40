//! What a failed run means, and what a turn has cost.

use bridge_proto::model::{Fault, Fix, Outcome, Usage};
use serde_json::Value;

use crate::plain::readable;

/// A run that failed, by the gateway's class of the failure and, where it gives none, by its
/// words: after a refused key every run on it is refused for a minute without a class.
///
/// | seen | becomes |
/// |---|---|
/// | `auth`, `auth_permanent` | blocked, login |
/// | `billing`, `rate_limit` | blocked, credit |
/// | any other class | failed, model |
/// | "temporarily disabled after a provider auth/billing failure" | blocked, login |
/// | anything else | failed, agent |
pub(super) fn judge(data: &Value) -> Outcome {
    let class = data.pointer("/errorObservation/failoverReason");
    let said = data.get("error").and_then(Value::as_str);
    failed(class.and_then(Value::as_str), said.unwrap_or_default())
}

/// The same, from class and words.
pub(super) fn failed(class: Option<&str>, said: &str) -> Outcome {
    let said = said.trim();
    let reason = if said.is_empty() {
        "OpenClaw reported a failure without a reason".to_owned()
    } else {
        readable(said, REASON)
    };
    match class {
        Some("auth" | "auth_permanent") => Outcome::Blocked {
            fix: Fix::Login,
            reason,
        },
        Some("billing" | "rate_limit") => Outcome::Blocked {
            fix: Fix::Credit,
            reason,
        },
        Some(_) => Outcome::Failed {
            fault: Fault::Model,
            reason,
        },
        None if is_cooldown(said) => Outcome::Blocked {
            fix: Fix::Login,
            reason,
        },
        None => Outcome::Failed {
            fault: Fault::Agent,
            reason,
        },
    }
}

fn is_cooldown(said: &str) -> bool {
    said.contains("temporarily disabled after a provider auth")
}

/// Adds up what the model calls of a turn have used.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Model calls that were told in full.
    exact: Usage,
    /// Output of the running turn as the gateway estimates it.
    estimate: u64,
}

impl Ledger {
    /// The running estimate; `None` if it is no news.
    pub(super) fn estimate(&mut self, data: &Value) -> Option<Usage> {
        let output = data.get("outputTokens").and_then(Value::as_u64)?;
        if output <= self.estimate {
            return None;
        }
        self.estimate = output;
        Some(self.so_far())
    }

    /// One model call as it stands in the transcript.
    pub(super) fn add(&mut self, usage: &Value) -> Option<Usage> {
        let count = |name: &str| usage.get(name).and_then(Value::as_u64);
        let input = ["input", "cacheRead", "cacheWrite"]
            .into_iter()
            .filter_map(count)
            .fold(None, |sum, tokens| plus(sum, Some(tokens)));
        let output = count("output");
        if plus(input, output).is_none_or(|tokens| tokens == 0) {
            return None;
        }
        let cost = usage.pointer("/cost/total").and_then(Value::as_f64);
        self.exact = Usage {
            input_tokens: plus(self.exact.input_tokens, input),
            output_tokens: plus(self.exact.output_tokens, output),
            cost_usd: match (self.exact.cost_usd, cost) {
                (Some(a), Some(b)) => Some(a + b),
                (a, b) => a.or(b),
            },
        };
        Some(self.so_far())
    }

    fn so_far(&self) -> Usage {
        let exact = self.exact.output_tokens.unwrap_or_default();
        Usage {
            output_tokens: Some(exact.max(self.estimate)),
            ..self.exact
        }
    }
}

fn plus(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.saturating_add(b)),
        (a, b) => a.or(b),
    }
}

/// Longest reason of an outcome.
const REASON: usize = 2000;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn classes_decide_who_can_mend_it() {
        let class = |class: &str| {
            let observed = json!({ "failoverReason": class });
            match judge(&json!({ "error": "x", "errorObservation": observed })) {
                Outcome::Blocked { fix, .. } => format!("{fix:?}"),
                Outcome::Failed { fault, .. } => format!("{fault:?}"),
                other @ (Outcome::Completed | Outcome::Cancelled { .. }) => format!("{other:?}"),
            }
        };
        assert_eq!(
            (class("auth").as_str(), class("billing").as_str()),
            ("Login", "Credit")
        );
        assert_eq!(class("rate_limit"), "Credit");
        for other in [
            "server_error",
            "timeout",
            "context_overflow",
            "something new",
        ] {
            assert_eq!(class(other), "Model", "{other}");
        }
    }

    #[test]
    fn a_key_in_cooldown_still_asks_for_a_login() {
        let said = "Inline API key for provider \"mock\" is temporarily disabled after a provider \
                    auth/billing failure. Retry after about 1 minute.";
        let outcome = judge(&json!({ "error": said }));
        let reason = said.to_owned();
        let fix = Fix::Login;
        assert_eq!(outcome, Outcome::Blocked { fix, reason });
        assert!(matches!(
            judge(&json!({})),
            Outcome::Failed {
                fault: Fault::Agent,
                ..
            }
        ));
    }

    #[test]
    fn estimates_are_replaced_by_what_the_transcript_says() {
        let mut ledger = Ledger::default();
        let first = ledger.estimate(&json!({ "outputTokens": 3 })).unwrap();
        assert_eq!((first.input_tokens, first.output_tokens), (None, Some(3)));
        assert_eq!(ledger.estimate(&json!({ "outputTokens": 3 })), None);
        let call = |input: u64, output: u64| json!({ "input": input, "output": output, "cacheRead": 1, "cost": { "total": 0.5 } });
        ledger.add(&call(10, 3));
        let both = ledger.add(&call(20, 4)).unwrap();
        assert_eq!((both.input_tokens, both.output_tokens), (Some(32), Some(7)));
        assert_eq!(both.cost_usd, Some(1.0));
        let nothing = json!({ "input": 0, "output": 0, "cost": { "total": 0 } });
        assert_eq!(ledger.add(&nothing), None, "an error message costs nothing");
    }
}
