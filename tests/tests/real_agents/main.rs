//! The real product with the real agents, offline: `ctrlnode up`, seen through its API, with
//! the agents as their vendors ship them, against the model server of the test kit.
//!
//! Runs where `CTRLNODE_E2E_AGENTS` names the folder the agents are installed in; `cargo xtask
//! e2e` installs them and sets it. Each test starts a product in a home of its own and ends
//! everything that lives there, also when it fails.
//!
//! Every promise is tried with every agent; what cannot be stands in `report.rs` with its reason.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

/// The tests of a topic: each of its promises with every agent, as `topic::promise::agent`.
macro_rules! promises {
    ($($promise:ident),* $(,)?) => {
        $(mod $promise {
            with_every_agent!(
                $promise: claude => Claude, codex => Codex, copilot => Copilot, gemini => Gemini,
                hermes => Hermes, opencode => Opencode, openclaw => Openclaw
            );
        })*
    };
}

macro_rules! with_every_agent {
    ($promise:ident: $($name:ident => $agent:ident),*) => {
        $(#[test]
        fn $name() {
            crate::check(crate::agents::Agent::$agent, stringify!($promise), super::$promise);
        })*
    };
}

mod agents;
mod commands;
mod ending;
mod files;
mod gateway;
mod installed;
mod memory;
mod product;
mod remains;
mod report;
mod story;
mod text;
mod trouble;

use std::{io::Write as _, time::Duration};

use bridge_testkit::program;
use serde_json::{Value, json};

use self::{agents::Agent, installed::Installed, product::Product, report::Try};

/// Runs a promise with a product of its own and within a limit, and prints its figures.
fn check(agent: Agent, promise: &'static str, keep: impl AsyncFnOnce(&mut Product) -> String) {
    let name = format!("{} {promise}", agent.id());
    let Some(installed) = Installed::find() else {
        tell(&format!("{name}: skipped, CTRLNODE_E2E_AGENTS is not set"));
        return;
    };
    if !installed.offers(agent) || !report::is_tried(agent, promise) {
        tell(&format!("{name}: left out"));
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    program::ctrlnode();
    let tried = Try::begin(agent, promise);
    let figures = runtime.block_on(async {
        let product = Product::start(agent, &installed);
        let product = tokio::time::timeout(START_LIMIT, product).await;
        let mut product = product.expect("the product starts and finds its agent in time");
        let figures = tokio::time::timeout(LIMIT, keep(&mut product)).await;
        figures.unwrap_or_else(|late| panic!("{late} after {LIMIT:?}\n{}", product.diagnosis()))
    });
    drop(tried);
    tell(&format!("{name}: {figures}"));
}

/// A line that is seen although the test passes.
fn tell(line: &str) {
    let mut stderr = std::io::stderr().lock();
    writeln!(stderr, "{line}").unwrap();
}

fn output() -> Value {
    json!({ "mode": "output" })
}

/// Until the agent is found and said to be healthy; the gateway of OpenClaw starts slowly.
const START_LIMIT: Duration = Duration::from_secs(200);
/// For what a test does with it; Gemini CLI can resume only when the minute of the clock has changed.
const LIMIT: Duration = Duration::from_secs(120);
