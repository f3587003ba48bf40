//! What a conversation with the gateway of OpenClaw promises, without a gateway. One test per trap
//! of the protocol.

mod approvals;
mod connections;
mod ends;
mod rights;
mod sent;
mod shown;
mod steering;

use std::time::Duration;

use bridge_proto::model::{Actor, Fault, Fix, Outcome};
use bridge_providers::openclaw::Act;
use serde_json::{Value, json};

use crate::play::{Play, SESSION, agent, working};

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn settled(run: &str, seq: u64, phase: &str, more: &Value) -> Value {
    let mut data = json!({ "phase": phase, "executionSettled": true });
    let fields = data.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    agent(run, seq, "lifecycle", data)
}

fn begun(play: &mut Play, run: &str) {
    play.event(
        "agent",
        agent(run, 1, "lifecycle", json!({ "phase": "start" })),
    );
}

fn chat(run: &str, state: &str, more: &Value) -> Value {
    let mut payload = json!({ "runId": run, "sessionKey": SESSION, "seq": 1, "state": state });
    let fields = payload.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    payload
}

fn says(play: &mut Play, run: &str, seq: u64, text: &str) {
    let data = json!({ "itemId": format!("{run}:1"), "text": text, "delta": text });
    play.event("agent", agent(run, seq, "assistant", data));
}

fn blocked(play: &Play, fix: Fix) -> String {
    match play.outcomes().last() {
        Some(Outcome::Blocked { fix: is, reason }) if *is == fix => reason.clone(),
        other => panic!("{other:?}"),
    }
}

fn failed(play: &Play, fault: Fault) -> String {
    match play.outcomes().last() {
        Some(Outcome::Failed { fault: is, reason }) if *is == fault => reason.clone(),
        other => panic!("{other:?}"),
    }
}

fn approval(id: &str, session: &str, run: &str) -> Value {
    json!({ "id": id, "expiresAtMs": 1_795_151_186_323_i64, "request": {
        "command": "touch a", "cwd": "/home/user/project", "host": "gateway", "runId": run,
        "toolCallId": "c1", "sessionKey": session, "allowedDecisions": ["allow-once", "deny"] } })
}

/// A turn in which the gateway asks whether a command may run.
fn asked() -> (Play, String) {
    let (mut play, run) = working("go");
    begun(&mut play, &run);
    let call = json!({ "phase": "start", "name": "exec", "toolCallId": "c1",
        "args": { "command": "touch a" } });
    play.event("agent", agent(&run, 2, "tool", call));
    play.event("exec.approval.requested", approval("a1", SESSION, &run));
    (play, run)
}

fn is_over(play: &Play) -> bool {
    play.acts.contains(&Act::HangUp)
}

const CANCELLED: Outcome = Outcome::Cancelled { by: Actor::Person };
