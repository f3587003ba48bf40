//! What no gateway should say: frames that are none, of the wrong shape, or about nothing.

use axum::extract::ws::Message;
use serde_json::{Value, json};

/// Messages that are not the protocol.
pub(super) fn garbage() -> Vec<Message> {
    let deep = "[".repeat(10_000);
    let texts = [
        "",
        "not a frame",
        "{\"type\":\"event\"",
        "\"text\"",
        "[1, 2]",
    ];
    let texts = texts.into_iter().chain([deep.as_str()]);
    let mut all: Vec<Message> = texts.map(|text| Message::Text(text.into())).collect();
    all.push(Message::Binary(vec![0xff, 0xfe, 0, 0x1b].into()));
    all.push(Message::Text(json!({ "type": 7 }).to_string().into()));
    all
}

/// Messages full of what a terminal would obey.
pub(super) fn escapes() -> Vec<Message> {
    let screen = "\u{1b}[2J\u{1b}]0;title\u{7}\u{202e}";
    let named = json!({ "type": screen, "event": screen, "payload": { "text": screen } });
    vec![
        Message::Text(screen.into()),
        Message::Text(named.to_string().into()),
    ]
}

/// Frames about this run with everything in the wrong place, numbered behind this one.
pub(super) fn wrong(session: &str, run: &str, seq: &mut u64) -> Vec<Value> {
    let event =
        |name: &str, payload: Value| json!({ "type": "event", "event": name, "payload": payload });
    let mut agent = |stream: Value, data: Value| {
        *seq += 1;
        let payload = json!({ "runId": run, "sessionKey": session, "seq": *seq,
            "stream": stream, "data": data });
        event("agent", payload)
    };
    let chat = |state: Value| {
        event(
            "chat",
            json!({ "runId": run, "sessionKey": session, "state": state }),
        )
    };
    vec![
        event("agent", json!("text")),
        event("agent", json!({ "runId": 7, "sessionKey": [session] })),
        event("agent", Value::Null),
        agent(json!(7), json!([])),
        agent(json!("assistant"), json!({ "text": 7, "itemId": {} })),
        agent(json!("tool"), json!({ "phase": "start", "toolCallId": [] })),
        agent(json!("tool"), json!("start")),
        agent(
            json!("lifecycle"),
            json!({ "phase": {}, "executionSettled": true }),
        ),
        agent(json!("plan"), json!({ "steps": 7 })),
        agent(json!("usage"), json!({ "outputTokens": -1 })),
        agent(
            json!("run_status"),
            json!({ "phase": "retrying", "retryAttempt": 1e300 }),
        ),
        chat(json!(["final"])),
        chat(Value::Null),
        event(
            "exec.approval.requested",
            json!({ "id": 7, "request": { "sessionKey": session } }),
        ),
        event("exec.approval.requested", json!({ "request": session })),
        event("exec.approval.resolved", json!([])),
        event(
            "session.message",
            json!({ "sessionKey": session, "message": "text" }),
        ),
        json!({ "type": "event", "event": 7 }),
        json!({ "type": "res", "id": 7, "ok": "yes" }),
    ]
}

/// Answers to nothing.
pub(super) fn stray(session: &str) -> Vec<Value> {
    let approval = json!({ "id": "nobody", "decision": "allow-always", "resolvedBy": "nobody" });
    let other = json!({ "runId": "another", "sessionKey": session, "state": "final" });
    vec![
        json!({ "type": "res", "id": "nobody", "ok": true, "payload": { "runId": "x" } }),
        json!({ "type": "res", "id": "nobody", "ok": false, "error": {} }),
        json!({ "type": "event", "event": "exec.approval.resolved", "payload": approval }),
        json!({ "type": "event", "event": "chat", "payload": other }),
    ]
}
