//! What a turn has used, from the running totals of its conversation.

use bridge_proto::model::Usage;
use serde_json::Value;

/// The totals, and where the running turn began.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    total: Option<Tokens>,
    base: Option<Tokens>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tokens {
    input: u64,
    output: u64,
}

impl Ledger {
    /// A turn begins.
    pub(super) fn begin(&mut self) {
        self.base = self.total;
    }

    /// Takes a `tokenUsage`; gives what the turn has used so far if it is about the running turn.
    /// A continued conversation begins with what earlier processes have used.
    pub(super) fn on_usage(&mut self, usage: &Value, of_this_turn: bool) -> Option<Usage> {
        let total = tokens(usage.get("total")?)?;
        self.total = Some(total);
        if !of_this_turn {
            self.base = Some(total);
            return None;
        }
        let last = usage.get("last").and_then(tokens);
        let before = || total.minus(last.unwrap_or(total));
        let base = *self.base.get_or_insert_with(before);
        let used = total.minus(base);
        Some(Usage {
            input_tokens: Some(used.input),
            output_tokens: Some(used.output),
            cost_usd: None,
        })
    }
}

impl Tokens {
    fn minus(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_sub(other.input),
            output: self.output.saturating_sub(other.output),
        }
    }
}

fn tokens(breakdown: &Value) -> Option<Tokens> {
    let count = |name: &str| breakdown.get(name).and_then(Value::as_u64);
    Some(Tokens {
        input: count("inputTokens")?,
        output: count("outputTokens")?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn usage(total: (u64, u64), last: (u64, u64)) -> Value {
        let side = |(input, output)| json!({"inputTokens": input, "outputTokens": output});
        json!({ "total": side(total), "last": side(last) })
    }

    fn used(input: u64, output: u64) -> Usage {
        Usage {
            input_tokens: Some(input),
            output_tokens: Some(output),
            cost_usd: None,
        }
    }

    #[test]
    fn each_turn_is_counted_from_where_the_one_before_ended() {
        let mut ledger = Ledger::default();
        ledger.begin();
        assert_eq!(
            ledger.on_usage(&usage((10, 1), (10, 1)), true),
            Some(used(10, 1))
        );
        assert_eq!(
            ledger.on_usage(&usage((25, 3), (15, 2)), true),
            Some(used(25, 3))
        );
        ledger.begin();
        assert_eq!(
            ledger.on_usage(&usage((45, 7), (20, 4)), true),
            Some(used(20, 4))
        );
    }

    #[test]
    fn a_continued_conversation_is_not_charged_for_its_past() {
        let mut told = Ledger::default();
        told.begin();
        assert_eq!(told.on_usage(&usage((900, 90), (40, 4)), false), None);
        assert_eq!(
            told.on_usage(&usage((950, 93), (50, 3)), true),
            Some(used(50, 3))
        );
        let mut untold = Ledger::default();
        untold.begin();
        assert_eq!(
            untold.on_usage(&usage((950, 93), (50, 3)), true),
            Some(used(50, 3))
        );
        assert_eq!(
            untold.on_usage(&json!({"total": {"inputTokens": -1}}), true),
            None
        );
    }
}
