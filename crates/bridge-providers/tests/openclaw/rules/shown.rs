//! What is shown of a run, once each.

use bridge_proto::model::{RunEvent, ToolStatus};
use bridge_providers::provider::Steer;
use serde_json::json;

use super::{approval, begun, chat, says, settled};
use crate::play::{SESSION, agent, working};

#[test]
fn a_replacement_with_nothing_withdraws_what_a_cut_connection_left() {
    let (mut play, run) = working("go");
    begun(&mut play, &run);
    says(&mut play, &run, 2, "half an ans");
    let item = format!("{run}:1");
    let reset = json!({ "itemId": item, "text": "", "delta": "", "replace": true });
    play.event("agent", agent(&run, 3, "assistant", reset));
    assert_eq!(play.texts(), Vec::<String>::new());
    says(&mut play, &run, 4, "a whole answer");
    play.event("agent", settled(&run, 5, "end", &json!({})));
    assert_eq!(play.turns[0].answer, "a whole answer");
}

#[test]
fn what_other_sessions_and_runs_say_is_left_alone() {
    let (mut play, run) = working("go");
    let before = play.acts.len();
    let mut theirs = agent(
        &run,
        2,
        "assistant",
        json!({ "text": "secret", "itemId": "x" }),
    );
    theirs["sessionKey"] = json!("agent:main:main");
    play.event("agent", theirs);
    let other = agent(
        "another-run",
        2,
        "assistant",
        json!({ "text": "x", "itemId": "x" }),
    );
    play.event("agent", other);
    play.event("agent", settled("another-run", 3, "end", &json!({})));
    play.event("chat", chat("another-run", "error", &json!({})));
    play.event(
        "exec.approval.requested",
        approval("a1", "agent:main:main", "r"),
    );
    let usage = json!({ "usage": { "input": 5, "output": 5 }, "__openclaw": { "runId": "r" } });
    play.event(
        "session.message",
        json!({ "sessionKey": SESSION, "message": usage }),
    );
    for noise in [
        "tick",
        "health",
        "presence",
        "sessions.changed",
        "task",
        "cron",
    ] {
        play.event(noise, json!({ "anything": true }));
    }
    assert_eq!(play.acts.len(), before, "{:?}", &play.acts[before..]);
}

#[test]
fn events_that_come_twice_are_shown_once() {
    let (mut play, run) = working("go");
    begun(&mut play, &run);
    let data = json!({ "delta": "hm", "text": "hm" });
    for _ in 0..2 {
        play.event("agent", agent(&run, 2, "thinking", data.clone()));
    }
    let thoughts = play
        .seen
        .iter()
        .filter(|seen| matches!(seen, RunEvent::Thinking { .. }));
    assert_eq!(thoughts.count(), 1);
}

#[test]
fn what_has_no_place_is_passed_on_whole() {
    let (mut play, run) = working("go");
    begun(&mut play, &run);
    play.event(
        "agent",
        agent(&run, 2, "hologram", json!({ "phase": "spin", "x": 1 })),
    );
    play.event(
        "agent",
        agent(&run, 3, "lifecycle", json!({ "phase": "dreaming" })),
    );
    play.event("chat", chat(&run, "levitating", &json!({})));
    play.event("session.horoscope", json!({ "sessionKey": SESSION }));
    play.text("not json");
    play.text("[1,2]");
    let whats: Vec<&str> = play
        .seen
        .iter()
        .filter_map(|event| {
            let RunEvent::Other { what } = event else {
                return None;
            };
            Some(what.as_str())
        })
        .collect();
    let strange = "a frame of no known kind";
    let wanted = [
        "hologram spin",
        "lifecycle dreaming",
        "chat levitating",
        "session.horoscope",
    ];
    assert_eq!(whats, [&wanted[..], &[strange, strange]].concat());
    assert_eq!(play.raws, 6);
}

#[test]
fn plans_models_and_compaction_are_told() {
    let (mut play, run) = working("go");
    let steps = json!([{ "step": "look", "status": "completed" }, { "step": "act" }, 7]);
    play.event(
        "agent",
        agent(
            &run,
            1,
            "plan",
            json!({ "phase": "update", "steps": steps }),
        ),
    );
    let model = json!({ "phase": "model", "provider": "mock", "model": "other" });
    play.event("agent", agent(&run, 2, "lifecycle", model.clone()));
    play.event("agent", agent(&run, 3, "lifecycle", model));
    play.event(
        "agent",
        agent(&run, 4, "compaction", json!({ "phase": "start" })),
    );
    let told = RunEvent::Model {
        model: "mock/other".into(),
    };
    assert_eq!(play.seen.iter().filter(|event| **event == told).count(), 1);
    assert!(
        play.seen
            .iter()
            .any(|event| matches!(event, RunEvent::Plan { items } if items.len() == 2))
    );
    assert!(play.statuses().iter().any(|text| text.contains("shortens")));
}

#[test]
fn calls_that_are_open_at_the_end_are_closed() {
    let (mut play, run) = working("go");
    begun(&mut play, &run);
    let call = json!({ "phase": "start", "name": "exec", "toolCallId": "c1",
        "args": { "command": "sleep 9" } });
    play.event("agent", agent(&run, 2, "tool", call));
    play.steer(Steer::Interrupt);
    play.event(
        "agent",
        settled(&run, 3, "error", &json!({ "aborted": true })),
    );
    let Some(RunEvent::Tool(tool)) = play.seen.last() else {
        panic!("{:?}", play.seen)
    };
    assert_eq!(tool.status, ToolStatus::Cancelled);
}
