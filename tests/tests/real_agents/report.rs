//! What became of each promise with each agent: a line in the file that `CTRLNODE_E2E_REPORT`
//! names, of which `cargo xtask e2e` makes a table. And the promises that some agents cannot keep.

use std::{env, fs::File, io::Write as _, thread, time::Instant};

use serde_json::json;

use crate::agents::Agent;

/// What cannot be with an agent, and why.
const CANNOT: &[(Agent, &str, &str)] = &[
    (
        Agent::Gemini,
        "ends_what_was_left_running",
        "Gemini CLI itself ends what a command leaves running, at the end of that command",
    ),
    (
        Agent::Codex,
        "ends_what_was_left_running",
        "Codex itself ends what a command leaves running, at the end of that command",
    ),
    (
        Agent::Openclaw,
        "ends_what_was_left_running",
        "OpenClaw asks nobody about a command that goes on in the background: it does not run it",
    ),
];

/// What takes longer than a minute with an agent, and why; only with `--agents all`.
const SLOW: &[(Agent, &str, &str)] = &[];

/// Whether a promise is to be tried with an agent; notes why when it is not.
pub(crate) fn is_tried(agent: Agent, promise: &str) -> bool {
    let why = |list: &[(Agent, &str, &'static str)]| {
        let fits = |entry: &&(Agent, &str, &'static str)| (entry.0, entry.1) == (agent, promise);
        list.iter().find(fits).map(|entry| entry.2)
    };
    let slow_ones = env::var_os("CTRLNODE_E2E_SLOW").is_some();
    let left_out = why(CANNOT).map(|why| ("not-applicable", why)).or_else(|| {
        why(SLOW)
            .filter(|_| !slow_ones)
            .map(|why| ("not-asked-for", why))
    });
    if let Some((result, why)) = left_out {
        note(agent, promise, result, 0.0, why);
    }
    left_out.is_none()
}

/// One try. Dropping it notes how it went.
#[derive(Debug)]
pub(crate) struct Try {
    agent: Agent,
    promise: &'static str,
    begun: Instant,
}

impl Try {
    pub(crate) fn begin(agent: Agent, promise: &'static str) -> Self {
        Self {
            agent,
            promise,
            begun: Instant::now(),
        }
    }
}

impl Drop for Try {
    fn drop(&mut self) {
        let (result, why) = if thread::panicking() {
            ("failed", "see the output of the test")
        } else {
            ("passed", "")
        };
        let seconds = self.begun.elapsed().as_secs_f64();
        note(self.agent, self.promise, result, seconds, why);
    }
}

fn note(agent: Agent, promise: &str, result: &str, seconds: f64, why: &str) {
    let Some(file) = env::var_os("CTRLNODE_E2E_REPORT").filter(|file| !file.is_empty()) else {
        return;
    };
    let line = json!({
        "promise": promise, "agent": agent.id(), "result": result, "seconds": seconds, "why": why,
    });
    let mut file = File::options()
        .create(true)
        .append(true)
        .open(file)
        .unwrap();
    // One write each, so that tests that run side by side do not tear each other's lines.
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}
