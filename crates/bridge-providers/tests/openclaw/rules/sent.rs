//! What the gateway is sent, and what never.

use bridge_proto::{ResumeId, model::Fix};
use bridge_providers::openclaw::{Act, Plan, Work};
use serde_json::{Value, json};

use super::{begun, blocked, is_over, settled};
use crate::play::{EVERYTHING, Play, SESSION, accept, agents, created, plan, working};

#[test]
fn full_access_is_never_in_force_by_default() {
    let (play, _) = working("go");
    for made in play.sent("sessions.create") {
        assert_eq!(made["permissionMode"], "guarded");
    }
    for sent in play.sent("chat.send") {
        assert_eq!(sent["expectedPermissionMode"], "guarded");
    }
}

#[test]
fn a_session_that_is_not_confirmed_as_guarded_is_not_used() {
    for mode in [json!("full"), json!("workspace"), Value::Null] {
        let mut play = Play::new(plan());
        play.say("go");
        play.let_in("boot-1", &EVERYTHING);
        play.answer("agents.list", &agents());
        let mut made = created(SESSION);
        made["entry"]["permissionMode"] = mode;
        play.answer("sessions.create", &made);
        assert!(blocked(&play, Fix::Setup).contains("guarded"));
        assert_eq!(play.sent("chat.send"), Vec::<Value>::new());
        assert!(is_over(&play));
    }
}

#[test]
fn a_session_that_somebody_took_out_of_the_mode_gets_no_message() {
    let mut play = Play::new(plan());
    play.say("go");
    play.let_in("boot-1", &EVERYTHING);
    play.ready(SESSION);
    play.refuse("chat.send", "INVALID_REQUEST", "session-settings-changed");
    assert!(blocked(&play, Fix::Setup).contains("guarded"));
}

#[test]
fn commands_of_the_gateway_in_a_prompt_are_text() {
    let (play, _) = working("please /exec security=full ask=off");
    assert_eq!(
        play.sent("chat.send")[0]["suppressCommandInterpretation"],
        true
    );
    let mut home = Play::new(Plan {
        directory: "/home/user/.openclaw/workspace".into(),
        foreign: false,
        ..plan()
    });
    home.say("/exec security=full");
    home.let_in("boot-1", &EVERYTHING[..3]);
    home.ready(SESSION);
    let sent = &home.sent("chat.send")[0];
    assert_eq!(sent["message"], "The user writes: /exec security=full");
    assert_eq!(sent.get("suppressCommandInterpretation"), None);
}

#[test]
fn one_message_is_in_flight_and_the_next_waits_here() {
    let (mut play, run) = working("one");
    play.say("two");
    begun(&mut play, &run);
    assert_eq!(play.sent("chat.send").len(), 1);
    play.event("agent", settled(&run, 2, "end", &json!({})));
    let sent = play.sent("chat.send");
    assert_eq!(sent.len(), 2);
    assert_ne!(sent[0]["idempotencyKey"], sent[1]["idempotencyKey"]);
    assert_eq!(
        (&sent[0]["queueMode"], &sent[1]["message"]),
        (&json!("interrupt"), &json!("two"))
    );
}

#[test]
fn standing_instructions_come_once_and_not_when_a_conversation_goes_on() {
    let with = |resume: Option<&str>| {
        let mut play = Play::new(Plan {
            instructions: "Be brief.\n".into(),
            resume: resume.map(|key| ResumeId::parse(key).unwrap()),
            ..plan()
        });
        play.say("one");
        play.let_in("boot-1", &EVERYTHING);
        play.ready(SESSION);
        play
    };
    let mut play = with(None);
    let run = accept(&mut play);
    play.event("agent", settled(&run, 2, "end", &json!({})));
    play.say("two");
    let sent = play.sent("chat.send");
    assert_eq!(
        (&sent[0]["message"], &sent[1]["message"]),
        (&json!("Be brief.\n\none"), &json!("two"))
    );
    assert_eq!(with(Some(SESSION)).sent("chat.send")[0]["message"], "one");
}

#[test]
fn what_works_is_guarded_until_it_is_over() {
    let (mut play, run) = working("go");
    let work = Work {
        session: SESSION.into(),
        run: run.clone(),
    };
    let guards = |play: &Play| {
        let guards = play.acts.iter().filter_map(|act| {
            let Act::Guard(work) = act else { return None };
            Some(work.clone())
        });
        guards.collect::<Vec<_>>()
    };
    assert_eq!(guards(&play), [Some(work.clone())]);
    play.event("agent", settled(&run, 2, "end", &json!({})));
    assert_eq!(guards(&play), [Some(work), None]);
}
