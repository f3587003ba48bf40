//! A conversation that only finds out whether a program speaks the protocol, and ends.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bridge_proto::model::{Fault, Outcome};
use serde_json::json;
use tokio::time::timeout;

use super::jsonrpc::{self, Incoming};
use crate::{
    conversation::converse,
    dialogue::{Dialogue, Exit, Step},
    process::Launch,
    provider::{Heard, Steer, TurnEnd},
};

/// Starts the program, says hello and waits for any answer to that within `limit`. No session is
/// opened. The program is ended before this returns, or soon after `limit`.
pub(crate) async fn answers(launch: Launch, limit: Duration) -> bool {
    let Ok(mut conversation) = converse(launch, Box::new(Greeting::default())).await else {
        return false;
    };
    let answered = async {
        while let Some(heard) = conversation.heard.recv().await {
            if let Heard::TurnOver(end) = heard {
                return end.outcome == Outcome::Completed;
            }
        }
        false
    };
    timeout(limit, answered).await.unwrap_or(false)
}

/// Its one turn completes when the hello is answered.
#[derive(Debug, Default)]
struct Greeting {
    steps: VecDeque<Step>,
    told: bool,
}

impl Greeting {
    fn tell(&mut self, outcome: Outcome) {
        if !std::mem::replace(&mut self.told, true) {
            let answer = String::new();
            self.steps
                .push_back(Step::TurnOver(TurnEnd { outcome, answer }));
            self.steps.push_back(Step::Terminate(GRACE));
        }
    }
}

impl Dialogue for Greeting {
    fn on_start(&mut self, _now: Instant) {
        let params = json!({ "protocolVersion": 1, "clientCapabilities": {} });
        let line = jsonrpc::request(0, "initialize", &params);
        self.steps.push_back(Step::Send(line));
    }

    fn on_line(&mut self, _now: Instant, line: &[u8]) {
        if let Incoming::Response { id, .. } = jsonrpc::classify(line)
            && id == 0
        {
            self.tell(Outcome::Completed);
        }
    }

    fn on_oversized(&mut self, _now: Instant, _bytes: u64) {}

    fn on_steer(&mut self, _now: Instant, _steer: Steer) {}

    fn on_end(&mut self, _now: Instant, _exit: Exit) {
        self.tell(Outcome::Failed {
            fault: Fault::Agent,
            reason: "it does not answer".into(),
        });
    }

    fn on_timeout(&mut self, _now: Instant) {}

    fn next_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }
}

const GRACE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lines: &[&str]) -> Vec<Outcome> {
        let now = Instant::now();
        let mut greeting = Greeting::default();
        greeting.on_start(now);
        for line in lines {
            greeting.on_line(now, line.as_bytes());
        }
        let exit = Exit {
            code: Some(0),
            signal: None,
            stderr_tail: String::new(),
        };
        greeting.on_end(now, exit);
        let mut outcomes = Vec::new();
        while let Some(step) = greeting.next_step() {
            if let Step::TurnOver(end) = step {
                outcomes.push(end.outcome);
            }
        }
        outcomes
    }

    #[test]
    fn any_answer_to_the_hello_counts_and_nothing_else() {
        let answer = r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":1}}"#;
        assert_eq!(told(&["Welcome!", answer]), [Outcome::Completed]);
        let other = r#"{"jsonrpc":"2.0","id":7,"result":{}}"#;
        for lines in [&["acp is not a command"][..], &[other], &[]] {
            assert!(
                matches!(told(lines)[..], [Outcome::Failed { .. }]),
                "{lines:?}"
            );
        }
    }
}
