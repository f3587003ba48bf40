//! Agents, folders and the rights that work in them needs.

use bridge_proto::{ResumeId, model::Fix};
use bridge_providers::openclaw::Plan;
use serde_json::{Value, json};

use super::blocked;
use crate::play::{EVERYTHING, Play, SESSION, agents, created, plan, working};

#[test]
fn the_default_agent_works_unless_another_is_named() {
    let (play, _) = working("go");
    assert_eq!(play.sent("sessions.create")[0]["agentId"], "main");
    let named = |agent: &str, resume: Option<&str>| {
        let mut play = Play::new(Plan {
            agent: Some(agent.into()),
            resume: resume.map(|key| ResumeId::parse(key).unwrap()),
            ..plan()
        });
        play.say("go");
        play.let_in("boot-1", &EVERYTHING);
        play.answer("agents.list", &agents());
        play
    };
    let play = named("reviewer", None);
    let made = &play.sent("sessions.create")[0];
    assert_eq!(made["key"], "agent:reviewer:task:task-1");
    let reason = blocked(&named("nobody", None), Fix::Setup);
    assert!(
        reason.contains("OPENCLAW_AGENT") && reason.contains("main, reviewer"),
        "{reason}"
    );
    let mut resumed = named("reviewer", Some("agent:main:task:old"));
    resumed.answer("sessions.resolve", &json!({ "ok": true }));
    assert_eq!(
        resumed.sent("sessions.create")[0]["key"],
        "agent:main:task:old"
    );
}

#[test]
fn the_right_to_work_anywhere_is_asked_for_only_where_it_is_needed() {
    let mut home = Play::new(Plan {
        directory: "/home/user/.openclaw/workspace".into(),
        foreign: false,
        ..plan()
    });
    home.say("go");
    home.let_in("boot-1", &EVERYTHING[..3]);
    home.ready(SESSION);
    assert_eq!(home.sent("connect")[0]["scopes"], json!(EVERYTHING[..3]));
    assert_eq!(home.sent("sessions.create")[0].get("cwd"), None);
    // No file told that the folder is somebody else's.
    let mut elsewhere = Play::new(Plan {
        foreign: false,
        ..plan()
    });
    elsewhere.say("go");
    elsewhere.let_in("boot-1", &EVERYTHING[..3]);
    elsewhere.answer("agents.list", &agents());
    elsewhere.let_in("boot-1", &EVERYTHING);
    elsewhere.ready(SESSION);
    assert_eq!(elsewhere.sent("connect")[1]["scopes"], json!(EVERYTHING));
    assert_eq!(
        elsewhere.sent("sessions.create")[0]["cwd"],
        "/home/user/project"
    );
}

#[test]
fn without_that_right_only_the_agents_own_folder_is_worked_in() {
    let refused = |directory: &str| {
        let mut play = Play::new(Plan {
            directory: directory.into(),
            ..plan()
        });
        play.say("go");
        play.open_line();
        play.event("connect.challenge", json!({ "nonce": "n", "ts": 1 }));
        play.refuse("connect", "NOT_PAIRED", "PAIRING_REQUIRED");
        play.let_in("boot-1", &EVERYTHING[..3]);
        play.answer("agents.list", &agents());
        play
    };
    let mut home = refused("/home/user/.openclaw/workspace");
    home.answer("sessions.create", &created(SESSION));
    assert_eq!(home.sent("chat.send").len(), 1);
    let elsewhere = refused("/home/user/project");
    let reason = blocked(&elsewhere, Fix::Setup);
    assert!(
        reason.contains("operator.admin") && reason.contains("devices approve"),
        "{reason}"
    );
    assert_eq!(elsewhere.sent("sessions.create"), Vec::<Value>::new());
}

#[test]
fn a_gateway_that_grants_less_than_was_asked_for_counts_as_a_refusal() {
    let mut play = Play::new(plan());
    play.say("go");
    play.let_in("boot-1", &EVERYTHING[..3]);
    play.answer("agents.list", &agents());
    assert!(blocked(&play, Fix::Setup).contains("operator.admin"));
}

#[test]
fn a_model_the_gateway_does_not_know_leaves_its_own_in_force() {
    let mut play = Play::new(Plan {
        model: Some("nope/none".into()),
        ..plan()
    });
    play.say("go");
    play.let_in("boot-1", &EVERYTHING);
    play.answer("agents.list", &agents());
    play.refuse("sessions.create", "INVALID_REQUEST", "unknown provider");
    play.answer("sessions.create", &created(SESSION));
    let made = play.sent("sessions.create");
    assert_eq!(
        (&made[0]["model"], made[1].get("model")),
        (&json!("nope/none"), None)
    );
    assert!(play.statuses()[0].contains("its own stays in force"));
    assert_eq!(play.sent("chat.send").len(), 1);
}

#[test]
fn a_folder_the_gateway_cannot_open_blocks_with_its_reason() {
    let mut play = Play::new(plan());
    play.say("go");
    play.let_in("boot-1", &EVERYTHING);
    play.answer("agents.list", &agents());
    play.refuse("sessions.create", "INVALID_REQUEST", "cwd is unavailable");
    assert!(blocked(&play, Fix::Setup).contains("cwd is unavailable"));
}

#[test]
fn a_conversation_the_gateway_forgot_begins_anew_and_says_so() {
    let mut play = Play::new(Plan {
        resume: Some(ResumeId::parse(SESSION).unwrap()),
        ..plan()
    });
    play.say("go on");
    play.let_in("boot-1", &EVERYTHING);
    play.answer("agents.list", &agents());
    play.answer("sessions.resolve", &json!({ "ok": false }));
    play.answer("sessions.create", &created(SESSION));
    assert!(play.statuses()[0].contains("begins anew"));
    assert_eq!(play.sent("sessions.create")[0]["key"], SESSION);
}
