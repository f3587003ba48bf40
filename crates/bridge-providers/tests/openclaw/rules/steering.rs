//! Messages and settings for a running turn.

use std::time::Duration;

use bridge_proto::model::{Outcome, RunEvent, Tuning};
use bridge_providers::{
    openclaw::Act,
    provider::{Heard, Injection, Steer},
};
use serde_json::json;

use super::{begun, chat, seconds, settled};
use crate::play::{EVERYTHING, Play, SESSION, accept, agent, agents, plan, working};

#[test]
fn a_message_for_a_running_turn_is_taken_when_its_own_run_ends_empty() {
    let (mut play, run) = working("go");
    begun(&mut play, &run);
    play.steer(Steer::Inject("also this".into()));
    let sent = play.sent("chat.send");
    assert_eq!((&sent[1]["queueMode"], sent.len()), (&json!("steer"), 2));
    let injected = accept(&mut play);
    let taken = Act::Tell(Heard::Injected(Injection::Taken));
    assert!(!play.acts.contains(&taken), "it may still come too late");
    play.event("chat", chat(&injected, "final", &json!({})));
    assert!(play.acts.contains(&taken));
    play.event("agent", settled(&run, 9, "end", &json!({})));
    assert_eq!(play.outcomes(), [Outcome::Completed]);
}

#[test]
fn a_message_that_came_too_late_for_the_turn_is_stopped_and_refused() {
    let (mut play, run) = working("go");
    begun(&mut play, &run);
    play.steer(Steer::Inject("also this".into()));
    let injected = accept(&mut play);
    play.event("agent", settled(&run, 9, "end", &json!({})));
    assert_eq!(play.outcomes(), [], "whoever sent it would say it again");
    play.say("next");
    assert_eq!(
        play.sent("chat.send").len(),
        2,
        "the next prompt waits for the verdict"
    );
    let status = agent(
        &injected,
        1,
        "run_status",
        json!({ "phase": "preparing_context" }),
    );
    play.event("agent", status);
    assert_eq!(play.sent("chat.abort")[0]["runId"], json!(injected));
    assert!(
        play.acts
            .contains(&Act::Tell(Heard::Injected(Injection::Refused)))
    );
    assert_eq!(play.sent("chat.send").len(), 3);
}

#[test]
fn a_turn_is_not_over_before_it_is_known_what_it_has_read() {
    for taken in [true, false] {
        let (mut play, run) = working("go");
        begun(&mut play, &run);
        play.steer(Steer::Inject("also this".into()));
        let injected = accept(&mut play);
        play.event("agent", settled(&run, 9, "end", &json!({})));
        assert_eq!(play.outcomes(), []);
        let expected = if taken {
            play.event("chat", chat(&injected, "final", &json!({})));
            Injection::Taken
        } else {
            play.wait(seconds(5));
            Injection::Refused
        };
        let place = |wanted: fn(&Act) -> bool| play.acts.iter().position(wanted).unwrap();
        let told = place(|act| matches!(act, Act::Tell(Heard::Injected(_))));
        assert_eq!(play.acts[told], Act::Tell(Heard::Injected(expected)));
        assert!(told < place(|act| matches!(act, Act::Tell(Heard::TurnOver(_)))));
        assert_eq!(play.outcomes(), [Outcome::Completed]);
    }
}

#[test]
fn a_turn_is_over_when_all_its_messages_are_decided_in_the_order_they_were_said() {
    let (mut play, run) = working("go");
    begun(&mut play, &run);
    play.steer(Steer::Inject("first".into()));
    let first = accept(&mut play);
    play.steer(Steer::Inject("second".into()));
    let second = accept(&mut play);
    let told = |play: &Play| {
        let told = play.acts.iter().filter_map(|act| match act {
            Act::Tell(Heard::Injected(what)) => Some(Some(*what)),
            Act::Tell(Heard::TurnOver(_)) => Some(None),
            _ => None,
        });
        told.collect::<Vec<_>>()
    };
    play.event("chat", chat(&second, "final", &json!({})));
    assert_eq!(told(&play), [], "it would be taken for the first one's");
    play.event("agent", settled(&run, 9, "end", &json!({})));
    assert_eq!(told(&play), []);
    play.event("chat", chat(&first, "final", &json!({})));
    let (taken, refused) = (Some(Injection::Taken), Some(Injection::Refused));
    assert_eq!(told(&play), [taken, taken, None]);

    let (mut play, run) = working("go");
    begun(&mut play, &run);
    play.steer(Steer::Inject("nobody says what became of it".into()));
    accept(&mut play);
    play.event("agent", settled(&run, 9, "end", &json!({})));
    play.wait(Duration::from_secs(6));
    assert_eq!(told(&play), [refused, None]);
}

#[test]
fn a_message_without_a_running_turn_is_refused_and_never_sent() {
    let mut play = Play::new(plan());
    play.steer(Steer::Inject("early".into()));
    assert!(
        play.acts
            .contains(&Act::Tell(Heard::Injected(Injection::Refused)))
    );
    let (mut play, run) = working("go");
    play.event("agent", settled(&run, 9, "end", &json!({})));
    play.steer(Steer::Inject("late".into()));
    assert!(
        play.acts
            .contains(&Act::Tell(Heard::Injected(Injection::Refused)))
    );
    assert_eq!(play.sent("chat.send").len(), 1);
}

fn tune(model: Option<&str>, mode: Option<&str>, effort: Option<&str>) -> Steer {
    Steer::Tune(Tuning {
        model: model.map(str::to_owned),
        mode: mode.map(str::to_owned),
        effort: effort.map(str::to_owned),
    })
}

#[test]
fn settings_are_told_as_the_gateway_resolved_them() {
    let (mut play, _) = working("go");
    play.steer(tune(Some("mock/two"), Some("full"), Some("high")));
    let patches = play.sent("sessions.patch");
    assert_eq!(patches[0], json!({ "key": SESSION, "model": "mock/two" }));
    assert_eq!(
        patches[1],
        json!({ "key": SESSION, "thinkingLevel": "high" })
    );
    let resolved = json!({ "modelProvider": "mock", "model": "two", "thinkingLevel": "low" });
    play.answer("sessions.patch", &json!({ "resolved": resolved }));
    play.answer("sessions.patch", &json!({ "resolved": resolved }));
    let model = RunEvent::Model {
        model: "mock/two".into(),
    };
    let effort = RunEvent::Effort {
        effort: "low".into(),
    };
    assert!(play.seen.contains(&model) && play.seen.contains(&effort));
    assert!(
        play.statuses()
            .iter()
            .any(|text| text.starts_with("the mode stays guarded"))
    );
    play.steer(tune(Some("nope/x"), None, None));
    play.refuse("sessions.patch", "INVALID_REQUEST", "unknown provider");
    assert!(
        play.statuses()
            .last()
            .unwrap()
            .contains("did not take the model nope/x")
    );
}

#[test]
fn settings_that_come_before_the_session_are_part_of_it() {
    let mut play = Play::new(plan());
    play.steer(tune(Some("mock/two"), None, Some("high")));
    play.say("go");
    play.let_in("boot-1", &EVERYTHING);
    play.answer("agents.list", &agents());
    let made = &play.sent("sessions.create")[0];
    assert_eq!(
        (&made["model"], &made["thinkingLevel"]),
        (&json!("mock/two"), &json!("high"))
    );
}
