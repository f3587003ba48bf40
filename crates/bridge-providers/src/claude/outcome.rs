//! What a `result` line means, and what a turn has cost.

use bridge_proto::model::{Actor, Fault, Fix, Outcome, Usage};
use serde_json::Value;

use crate::plain::readable;

/// Judges by `is_error` and `terminal_reason`, because an API failure has `subtype: success`.
/// Versions without `terminal_reason` say `is_error: false` for an interrupted turn; there the
/// subtype decides. `code` is what the last error message of the turn called its error.
///
/// | seen | becomes |
/// |---|---|
/// | turn or budget limit | blocked, limit |
/// | not logged in, 401, 403 | blocked, login |
/// | 402, billing, 429 after all retries | blocked, credit |
/// | unknown model, 400, 5xx, 529, no connection | failed, model |
/// | aborted, not by us | cancelled |
/// | anything else with an error | failed, agent |
pub(super) fn judge(result: &Value, code: Option<&str>) -> Outcome {
    let text = |name: &str| result.get(name).and_then(Value::as_str);
    let subtype = text("subtype").unwrap_or_default();
    let terminal = text("terminal_reason");
    let is_error = result
        .get("is_error")
        .and_then(Value::as_bool)
        .unwrap_or(false);
    let reason = || reason_of(result);

    if subtype == "error_max_turns" || terminal == Some("max_turns") {
        return Outcome::Blocked {
            fix: Fix::Limit,
            reason: reason(),
        };
    }
    if subtype == "error_max_budget_usd" || terminal == Some("budget_exhausted") {
        return Outcome::Blocked {
            fix: Fix::Limit,
            reason: reason(),
        };
    }
    if terminal.is_some_and(|terminal| terminal.starts_with("aborted")) {
        return Outcome::Cancelled { by: Actor::Person };
    }
    if terminal.is_none() && !is_error && subtype == "error_during_execution" {
        return Outcome::Cancelled { by: Actor::Person };
    }
    if !is_error && !subtype.starts_with("error") {
        return Outcome::Completed;
    }
    let status = result.get("api_error_status").and_then(Value::as_u64);
    let api = terminal == Some("api_error") || status.is_some() || code.is_some();
    match (status, code) {
        (Some(401 | 403), _) | (_, Some("authentication_failed" | "oauth_org_not_allowed")) => {
            Outcome::Blocked {
                fix: Fix::Login,
                reason: reason(),
            }
        }
        (Some(402 | 429), _) | (_, Some("billing_error" | "rate_limit")) => Outcome::Blocked {
            fix: Fix::Credit,
            reason: reason(),
        },
        _ if api => Outcome::Failed {
            fault: Fault::Model,
            reason: reason(),
        },
        _ => Outcome::Failed {
            fault: Fault::Agent,
            reason: reason(),
        },
    }
}

fn reason_of(result: &Value) -> String {
    let said = result
        .get("result")
        .and_then(Value::as_str)
        .map(str::trim)
        .unwrap_or_default();
    if !said.is_empty() {
        return readable(said, REASON);
    }
    let errors: Vec<&str> = result
        .get("errors")
        .and_then(Value::as_array)
        .map(|errors| errors.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    if errors.is_empty() {
        "the agent reported an error without a reason".into()
    } else {
        readable(&errors.join("; "), REASON)
    }
}

/// Turns the running totals of the process into what one turn has used.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Totals of the last result; `None` while a resumed conversation has not told its own.
    totals: Option<Usage>,
    turn: Usage,
}

impl Ledger {
    /// `resumed`: the totals begin with what earlier processes have used.
    pub(super) fn new(resumed: bool) -> Self {
        let zero = Usage {
            input_tokens: Some(0),
            output_tokens: Some(0),
            cost_usd: Some(0.0),
        };
        Self {
            totals: (!resumed).then_some(zero),
            turn: Usage::default(),
        }
    }

    /// A turn begins.
    pub(super) fn begin(&mut self) {
        self.turn = Usage::default();
    }

    /// Adds one result; gives what the turn has used so far.
    pub(super) fn add(&mut self, result: &Value) -> Usage {
        let mut totals = result.get("modelUsage").map(sum).unwrap_or_default();
        totals.cost_usd = result
            .get("total_cost_usd")
            .and_then(Value::as_f64)
            .or(totals.cost_usd);
        let since = result
            .get("model_usage_since_last_result")
            .filter(|v| v.is_object())
            .map(sum);
        let step = since.unwrap_or_else(|| match self.totals {
            Some(before) => difference(totals, before),
            None => result.get("usage").map(main_loop).unwrap_or_default(),
        });
        self.totals = Some(totals);
        self.turn = Usage {
            input_tokens: plus(self.turn.input_tokens, step.input_tokens),
            output_tokens: plus(self.turn.output_tokens, step.output_tokens),
            cost_usd: match (self.turn.cost_usd, step.cost_usd) {
                (Some(a), Some(b)) => Some(a + b),
                (a, b) => a.or(b),
            },
        };
        self.turn
    }
}

fn sum(models: &Value) -> Usage {
    let mut usage = Usage {
        input_tokens: Some(0),
        output_tokens: Some(0),
        cost_usd: Some(0.0),
    };
    for model in models
        .as_object()
        .into_iter()
        .flatten()
        .map(|(_, model)| model)
    {
        let tokens = |name: &str| model.get(name).and_then(Value::as_u64);
        for name in [
            "inputTokens",
            "cacheReadInputTokens",
            "cacheCreationInputTokens",
        ] {
            usage.input_tokens = plus(usage.input_tokens, tokens(name));
        }
        usage.output_tokens = plus(usage.output_tokens, tokens("outputTokens"));
        let cost = model
            .get("costUSD")
            .and_then(Value::as_f64)
            .unwrap_or_default();
        usage.cost_usd = usage.cost_usd.map(|sum| sum + cost);
    }
    usage
}

fn main_loop(usage: &Value) -> Usage {
    let tokens = |name: &str| usage.get(name).and_then(Value::as_u64);
    let input = [
        "input_tokens",
        "cache_creation_input_tokens",
        "cache_read_input_tokens",
    ]
    .into_iter()
    .fold(None, |sum, name| plus(sum, tokens(name)));
    Usage {
        input_tokens: input,
        output_tokens: tokens("output_tokens"),
        cost_usd: None,
    }
}

fn difference(now: Usage, before: Usage) -> Usage {
    let minus = |a: Option<u64>, b: Option<u64>| a.map(|a| a.saturating_sub(b.unwrap_or(0)));
    Usage {
        input_tokens: minus(now.input_tokens, before.input_tokens),
        output_tokens: minus(now.output_tokens, before.output_tokens),
        cost_usd: now
            .cost_usd
            .map(|cost| (cost - before.cost_usd.unwrap_or(0.0)).max(0.0)),
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
    fn an_api_failure_is_a_failure_although_its_subtype_says_success() {
        let result = json!({"subtype": "success", "is_error": true, "result": "API Error: 500",
            "terminal_reason": "api_error", "api_error_status": 500});
        assert_eq!(
            judge(&result, Some("server_error")),
            Outcome::Failed {
                fault: Fault::Model,
                reason: "API Error: 500".into()
            }
        );
    }

    #[test]
    fn versions_without_a_terminal_reason_are_judged_by_subtype() {
        let interrupted = json!({"subtype": "error_during_execution", "is_error": false});
        assert_eq!(
            judge(&interrupted, None),
            Outcome::Cancelled { by: Actor::Person }
        );
        let good = json!({"subtype": "success", "is_error": false, "result": "x"});
        assert_eq!(judge(&good, None), Outcome::Completed);
    }

    #[test]
    fn logins_limits_and_credit_can_be_mended() {
        let fix = |result: Value, code: Option<&str>| match judge(&result, code) {
            Outcome::Blocked { fix, .. } => Some(fix),
            Outcome::Completed | Outcome::Failed { .. } | Outcome::Cancelled { .. } => None,
        };
        let api = |status: u64| {
            json!({"is_error": true, "terminal_reason": "api_error",
            "subtype": "success", "api_error_status": status, "result": "no"})
        };
        assert_eq!(fix(api(401), None), Some(Fix::Login));
        assert_eq!(
            fix(json!({"is_error": true}), Some("authentication_failed")),
            Some(Fix::Login)
        );
        assert_eq!(fix(api(429), None), Some(Fix::Credit));
        assert_eq!(fix(api(404), Some("model_not_found")), None);
        assert_eq!(
            fix(json!({"subtype": "error_max_turns"}), None),
            Some(Fix::Limit)
        );
        assert_eq!(
            fix(json!({"terminal_reason": "budget_exhausted"}), None),
            Some(Fix::Limit)
        );
    }

    #[test]
    fn a_resumed_conversation_is_not_charged_for_its_past() {
        let result = json!({"total_cost_usd": 5.0, "modelUsage": {"m": {"inputTokens": 900}},
            "usage": {"input_tokens": 10, "output_tokens": 2}});
        let mut ledger = Ledger::new(true);
        assert_eq!(
            ledger.add(&result),
            Usage {
                input_tokens: Some(10),
                output_tokens: Some(2),
                cost_usd: None
            }
        );
        ledger.begin();
        let next = json!({"total_cost_usd": 5.5,
            "modelUsage": {"m": {"inputTokens": 950, "outputTokens": 3}}});
        assert_eq!(
            ledger.add(&next),
            Usage {
                input_tokens: Some(50),
                output_tokens: Some(3),
                cost_usd: Some(0.5)
            }
        );
    }
}
