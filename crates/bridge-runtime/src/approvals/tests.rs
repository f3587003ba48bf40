//! Promises of the table of open questions.

use std::path::Path;

use bridge_proto::model::Action;

use super::*;
use crate::{
    policy::CommandRule,
    rules::{ActionKind, Doer, Rule, RuleDecision},
};

fn around(inside: bool, viewer: bool) -> Surroundings<'static> {
    Surroundings {
        doer: Doer {
            agent: "a",
            provider: "p",
            directory: Path::new("/w"),
        },
        inside,
        viewer,
        patience: None,
    }
}

fn hub() -> Surroundings<'static> {
    around(true, true)
}

fn plain() -> Surroundings<'static> {
    around(true, false)
}

const NONE: Rules = Rules(Vec::new());

fn run(task: &str) -> RunKey {
    RunKey {
        task: TaskId::parse(task).unwrap(),
        attempt: "r".into(),
    }
}

fn ask(id: &str, kind: AskKind) -> Ask {
    let choice = |id: &str, label: &str, kind| Choice {
        id: id.into(),
        label: label.into(),
        kind,
    };
    Ask {
        id: AskId::parse(id).unwrap(),
        kind,
        summary: "do it".into(),
        options: vec![
            choice("y", "Allow", ChoiceKind::AllowOnce),
            choice("n", "Reject", ChoiceKind::RejectOnce),
        ],
        digest: Digest::of(&["do it", id]),
        tool: None,
        expires: None,
        answered: None,
        action: None,
    }
}

fn choose(option: &str) -> Answer {
    Answer::Choose {
        option: option.into(),
    }
}

#[test]
fn edits_inside_the_place_are_allowed_and_outside_are_asked() {
    let mut table = Approvals::default();
    let now = Instant::now();
    let policy = Policy::default();
    assert_eq!(
        table.raise(
            now,
            &run("t"),
            ask("a", AskKind::Edit),
            hub(),
            &policy,
            &NONE
        ),
        Decision::ByPolicy {
            answer: choose("y"),
            rule: "edits = allow: do it".into()
        }
    );
    let outside = around(false, true);
    assert_eq!(
        table.raise(
            now,
            &run("t"),
            ask("b", AskKind::Edit),
            outside,
            &policy,
            &NONE
        ),
        Decision::Show
    );
}

#[test]
fn a_command_is_denied_where_nobody_can_answer() {
    let decision = Approvals::default().raise(
        Instant::now(),
        &run("t"),
        ask("a", AskKind::Command),
        plain(),
        &Policy::default(),
        &NONE,
    );
    assert!(
        matches!(
            &decision,
            Decision::ByPolicy {
                answer: Answer::Deny { .. },
                ..
            }
        ),
        "{decision:?}"
    );
}

#[test]
fn the_first_answer_wins_and_is_confirmed_only_when_applied() {
    let mut table = Approvals::default();
    let now = Instant::now();
    let (run, policy) = (run("t"), Policy::default());
    table.raise(now, &run, ask("a", AskKind::Command), hub(), &policy, &NONE);
    let id = AskId::parse("a").unwrap();
    let taken = table
        .answer(&run.task, Some(&id), None, &choose("y"))
        .unwrap();
    assert_eq!(
        taken,
        Accepted {
            run: run.clone(),
            ask: Ask {
                answered: Some("Allow".into()),
                ..ask("a", AskKind::Command)
            },
            answer: choose("y")
        }
    );
    let second = table.answer(&run.task, Some(&id), None, &choose("n"));
    assert_eq!(
        second,
        Err(AnswerError::NotOpen {
            task: run.task.clone()
        })
    );
    let closed = table.applied(&run, &id).unwrap();
    assert_eq!(
        closed.how,
        AskEnd::Answered {
            answer: "Allow".into()
        }
    );
    assert!(!table.is_waiting(&run));
}

#[test]
fn an_answer_to_something_else_than_was_shown_is_refused() {
    let mut table = Approvals::default();
    let policy = Policy::default();
    table.raise(
        Instant::now(),
        &run("t"),
        ask("a", AskKind::Command),
        hub(),
        &policy,
        &NONE,
    );
    let other = Digest::of(&["rm -rf /"]);
    assert_eq!(
        table.answer(&run("t").task, None, Some(&other), &choose("y")),
        Err(AnswerError::DigestDiffers)
    );
}

#[test]
fn an_unknown_option_or_free_words_leave_a_permission_open() {
    let mut table = Approvals::default();
    let (run, policy) = (run("t"), Policy::default());
    table.raise(
        Instant::now(),
        &run,
        ask("a", AskKind::Command),
        hub(),
        &policy,
        &NONE,
    );
    let words = Answer::Text {
        text: "perhaps later".into(),
    };
    assert!(matches!(
        table.answer(&run.task, None, None, &choose("zzz")),
        Err(AnswerError::NoSuchOption { .. })
    ));
    assert!(matches!(
        table.answer(&run.task, None, None, &words),
        Err(AnswerError::NotAnOption { .. })
    ));
    let number = Answer::Text { text: "2".into() };
    assert_eq!(
        table.answer(&run.task, None, None, &number).unwrap().answer,
        choose("n")
    );
}

#[test]
fn on_the_plain_wire_one_question_is_shown_at_a_time() {
    let mut table = Approvals::default();
    let now = Instant::now();
    let policy = Policy {
        commands: CommandRule::Ask,
        ..Policy::default()
    };
    let run = run("t");
    let raise = |table: &mut Approvals, id| {
        table.raise(
            now,
            &run,
            ask(id, AskKind::Command),
            plain(),
            &policy,
            &NONE,
        )
    };
    assert_eq!(raise(&mut table, "a"), Decision::Show);
    assert_eq!(raise(&mut table, "b"), Decision::Wait);
    assert_eq!(table.show_next(&run.task), None);
    table.answer(&run.task, None, None, &choose("y")).unwrap();
    table.applied(&run, &AskId::parse("a").unwrap());
    assert_eq!(table.show_next(&run.task).unwrap().1.id.as_str(), "b");
}

#[test]
fn without_an_answer_in_time_it_is_denied_on_a_plane_without_viewers() {
    let mut table = Approvals::default();
    let now = Instant::now();
    let policy = Policy {
        commands: CommandRule::Ask,
        ..Policy::default()
    };
    table.raise(
        now,
        &run("t"),
        ask("a", AskKind::Command),
        plain(),
        &policy,
        &NONE,
    );
    assert_eq!(table.deadline(), Some(now + policy.ask_wait));
    assert!(table.expire(now + Duration::from_secs(599)).is_empty());
    let late = table.expire(now + policy.ask_wait);
    assert_eq!(late.len(), 1);
    assert_eq!(late[0].0.how, AskEnd::Expired);
    assert!(!table.is_waiting(&run("t")));
}

#[test]
fn an_agent_that_waits_for_a_while_only_is_not_waited_for_longer() {
    let mut table = Approvals::default();
    let now = Instant::now();
    let policy = Policy {
        commands: CommandRule::Ask,
        ..Policy::default()
    };
    let minute = Duration::from_secs(60);
    for around in [hub(), plain()] {
        let around = Surroundings {
            patience: Some(minute),
            ..around
        };
        table.raise(
            now,
            &run("t"),
            ask("a", AskKind::Command),
            around,
            &policy,
            &NONE,
        );
        assert_eq!(table.deadline(), Some(now + minute + LAST_WORD));
        assert!(table.expire(now + minute).is_empty(), "its own word counts");
        let late = table.expire(now + minute + LAST_WORD);
        assert_eq!(late[0].0.how, AskEnd::Expired);
    }
}

#[test]
fn a_rule_never_answers_for_longer_than_this_once() {
    let mut table = Approvals::default();
    let rules = Rules(vec![Rule {
        agent: None,
        kind: Some(ActionKind::Command),
        tool: None,
        matches: None,
        decision: RuleDecision::Allow,
    }]);
    let mut always = ask("a", AskKind::Command);
    always.action = Some(Box::new(Action {
        command: Some("ls".into()),
        ..Action::default()
    }));
    let mut once = always.clone();
    always.options[0].kind = ChoiceKind::AllowAlways;
    let (now, policy) = (Instant::now(), Policy::default());
    let mut raise = |ask: Ask| table.raise(now, &run("t"), ask, plain(), &policy, &rules);
    assert_eq!(raise(always), Decision::Show);
    once.id = AskId::parse("b").unwrap();
    assert_eq!(
        raise(once),
        Decision::ByPolicy {
            answer: choose("y"),
            rule: "rule 1: do it".into()
        }
    );
}

#[test]
fn the_questions_of_a_run_end_with_it() {
    let mut table = Approvals::default();
    let policy = Policy::default();
    let now = Instant::now();
    table.raise(
        now,
        &run("t"),
        ask("a", AskKind::Command),
        hub(),
        &policy,
        &NONE,
    );
    table.raise(
        now,
        &run("u"),
        ask("b", AskKind::Command),
        hub(),
        &policy,
        &NONE,
    );
    let closed = table.run_ended(&run("t"));
    assert_eq!(closed.len(), 1);
    assert!(table.is_waiting(&run("u")));
}

#[test]
fn an_answered_question_no_longer_excuses_a_silent_agent() {
    let mut table = Approvals::default();
    let policy = Policy::default();
    table.raise(
        Instant::now(),
        &run("t"),
        ask("a", AskKind::Command),
        hub(),
        &policy,
        &NONE,
    );
    assert!(table.is_waiting(&run("t")));
    let task = TaskId::parse("t").unwrap();
    table.answer(&task, None, None, &choose("y")).unwrap();
    assert!(!table.is_waiting(&run("t")));
}
