//! What every agent that speaks the protocol must do, proven on the demo agent: the real agent
//! code and the real dialogue, joined by pipes.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that meets something else shall fail"
)]

mod acp_support;

use std::{fs, path::Path};

use acp_support::{Talk, is_cancelled};
use bridge_proto::{
    ResumeId,
    model::{
        Answer, AskEnd, AskKind, Fault, Fix, Outcome, PlanStatus, RunEvent, ToolKind, ToolStatus,
    },
};
use bridge_providers::{
    acp::AcpStart,
    demo::{DemoEnd, DemoSettings},
    dialogue::Step,
    provider::Steer,
};
use tempfile::TempDir;

fn start_in(directory: &Path) -> AcpStart {
    AcpStart {
        directory: directory.to_owned(),
        ..AcpStart::default()
    }
}

fn talk(directory: &TempDir) -> Talk {
    Talk::start(start_in(directory.path()), DemoSettings::default())
}

#[test]
fn a_turn_streams_an_answer_and_writes_it_to_a_file() {
    let folder = TempDir::new().unwrap();
    let mut talk = talk(&folder);
    let end = talk.turn("#demo fast\nhello there");
    assert_eq!(end.outcome, Outcome::Completed);
    assert!(end.answer.contains("> hello there"), "{}", end.answer);
    assert!(talk.deltas() > 50);
    let written = talk.events(|event| match event {
        RunEvent::FileWritten { path } => Some(path.clone()),
        _ => None,
    });
    let file = folder.path().join("output/answer.md");
    assert_eq!(written, [file.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(&file).unwrap(), end.answer);
    let plans = talk.events(|event| match event {
        RunEvent::Plan { items } => Some(items.clone()),
        _ => None,
    });
    assert!(
        plans
            .last()
            .unwrap()
            .iter()
            .all(|item| item.status == PlanStatus::Completed)
    );
    let tools = talk.events(|event| match event {
        RunEvent::Tool(state) => Some(state.clone()),
        _ => None,
    });
    let last = tools.last().unwrap();
    assert_eq!(
        (last.kind, last.status),
        (ToolKind::Edit, ToolStatus::Completed)
    );
    assert_eq!(last.diffs[0].new, end.answer);
    assert!(
        talk.seen
            .iter()
            .any(|seen| matches!(seen.event, RunEvent::Usage(_)))
    );
    assert_eq!(
        talk.resumable, None,
        "nothing is remembered without a folder for it"
    );
}

#[test]
fn a_folder_that_was_moved_during_a_turn_is_not_made_anew() {
    let folder = TempDir::new().unwrap();
    let mut talk = talk(&folder);
    talk.steer(Steer::Prompt("#demo fast\n#demo ask write".into()));
    let ask = talk.ask();
    let moved = folder.path().with_extension("moved");
    fs::rename(folder.path(), &moved).unwrap();
    talk.answer(&ask, "allow_once");
    let end = talk.turn_over();
    fs::remove_dir(&moved).unwrap();
    assert!(end.answer.contains("could not write"), "{end:?}");
    assert!(!folder.path().exists());
}

#[test]
fn a_repository_without_an_output_folder_gets_no_output_folder() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join(".git")).unwrap();
    let mut talk = talk(&folder);
    talk.turn("#demo fast\nwrite a haiku");
    assert_eq!(
        fs::read_to_string(folder.path().join("answer.md"))
            .unwrap()
            .lines()
            .count(),
        3
    );
    assert!(!folder.path().join("output").exists());
}

#[test]
fn a_follow_up_in_the_same_process_remembers() {
    let folder = TempDir::new().unwrap();
    let mut talk = talk(&folder);
    talk.turn("#demo fast\nmy cat is called Ada");
    let end = talk.turn("#demo fast\n#demo remember");
    assert!(
        end.answer.contains("1. my cat is called Ada"),
        "{}",
        end.answer
    );
}

#[test]
fn prompts_given_at_once_run_one_after_the_other() {
    let folder = TempDir::new().unwrap();
    let mut talk = talk(&folder);
    for word in ["one", "two", "three"] {
        talk.steer(Steer::Prompt(format!("#demo fast\n{word}")));
    }
    for word in ["one", "two", "three"] {
        assert!(talk.turn_over().answer.contains(&format!("> {word}")));
    }
}

#[test]
fn another_process_continues_the_conversation_and_its_history_is_not_told_again() {
    let (folder, state) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let settings = DemoSettings {
        state: Some(state.path().to_owned()),
    };
    let mut first = Talk::start(start_in(folder.path()), settings.clone());
    first.turn("#demo fast\nthe number is 42");
    let id = first.resumable.clone().unwrap();
    first.steer(Steer::Close);
    first.finish();
    assert_eq!(first.end, Some(DemoEnd::Closed));

    let resume = Some(ResumeId::parse(&id).unwrap());
    let mut second = Talk::start(
        AcpStart {
            resume,
            instructions: "told before".into(),
            ..start_in(folder.path())
        },
        settings.clone(),
    );
    let end = second.turn("#demo fast\n#demo remember");
    assert!(end.answer.contains("1. the number is 42"), "{}", end.answer);
    assert!(!second.seen.iter().any(|seen| matches!(
        &seen.event,
        RunEvent::Other { what } if what == "user_message_chunk"
    )));

    let resume = Some(ResumeId::parse("demo-0-unknown").unwrap());
    let mut third = Talk::start(
        AcpStart {
            resume,
            ..start_in(folder.path())
        },
        settings,
    );
    let end = third.turn("hello");
    assert!(
        matches!(
            end.outcome,
            Outcome::Failed {
                fault: Fault::Agent,
                ..
            }
        ),
        "{end:?}"
    );
}

#[test]
fn instructions_stand_before_the_first_prompt_only() {
    let folder = TempDir::new().unwrap();
    let start = AcpStart {
        instructions: "#demo nofile".into(),
        ..start_in(folder.path())
    };
    let mut talk = Talk::start(start, DemoSettings::default());
    talk.turn("#demo fast\nfirst");
    assert!(!folder.path().join("output").exists());
    talk.turn("#demo fast\nsecond");
    assert!(folder.path().join("output/answer.md").exists());
}

#[test]
fn a_wanted_model_is_chosen_and_one_that_is_not_offered_is_told() {
    let folder = TempDir::new().unwrap();
    let start = AcpStart {
        model: Some("demo-haiku".into()),
        ..start_in(folder.path())
    };
    let mut talk = Talk::start(start, DemoSettings::default());
    let end = talk.turn("#demo fast\nanything");
    assert_eq!(end.answer.trim().lines().count(), 3);
    let models = talk.events(|event| match event {
        RunEvent::Model { model } => Some(model.clone()),
        _ => None,
    });
    assert_eq!(models, ["demo", "demo-haiku"]);

    let start = AcpStart {
        model: Some("gpt-0".into()),
        ..start_in(folder.path())
    };
    let mut talk = Talk::start(start, DemoSettings::default());
    assert_eq!(
        talk.turn("#demo fast\nanything").outcome,
        Outcome::Completed
    );
    assert!(
        talk.seen
            .iter()
            .any(|seen| matches!(&seen.event, RunEvent::Status { text } if text.contains("gpt-0")))
    );
}

#[test]
fn an_allowed_write_happens_and_a_refused_one_does_not() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("output/answer.md");
    let mut talk = talk(&folder);
    talk.steer(Steer::Prompt("#demo fast\n#demo ask write".into()));
    let ask = talk.ask();
    assert_eq!(ask.kind, AskKind::Edit);
    assert!(ask.summary.starts_with("Create ") && ask.summary.contains("answer.md"));
    assert!(!file.exists(), "it waits");
    talk.answer(&ask, "perhaps");
    talk.wait_for(|event| matches!(event, RunEvent::Status { .. }).then_some(()));
    talk.steer(Steer::Answer(
        ask.id.clone(),
        Answer::Deny {
            reason: "no".into(),
        },
    ));
    let end = talk.turn_over();
    assert_eq!(end.outcome, Outcome::Completed);
    assert!(end.answer.contains("You said no"));
    assert!(!file.exists());
    assert_eq!(talk.applied, [ask.id]);

    talk.steer(Steer::Prompt("#demo fast\n#demo ask write".into()));
    let ask = talk.ask();
    talk.answer(&ask, "allow_always");
    talk.turn_over();
    assert!(file.exists());
    assert_eq!(
        talk.turn("#demo fast\n#demo ask write").outcome,
        Outcome::Completed
    );
}

#[test]
fn a_command_is_asked_for_as_a_command() {
    let folder = TempDir::new().unwrap();
    let mut talk = talk(&folder);
    talk.steer(Steer::Prompt("#demo fast\n#demo nofile\n#demo ask".into()));
    let ask = talk.ask();
    assert_eq!(
        (ask.kind, ask.summary.as_str()),
        (AskKind::Command, "Run: echo hello")
    );
    talk.answer(&ask, "yes");
    talk.turn_over();
    assert!(talk.seen.iter().any(|seen| matches!(
        &seen.event,
        RunEvent::Tool(state) if state.output.as_deref() == Some("hello\n")
    )));
}

#[test]
fn a_cancel_ends_a_slow_turn_and_the_conversation_goes_on() {
    let folder = TempDir::new().unwrap();
    let mut talk = talk(&folder);
    talk.steer(Steer::Prompt("#demo slow 600".into()));
    talk.steer(Steer::Prompt("never begun".into()));
    talk.wait_for(|event| matches!(event, RunEvent::Text { .. }).then_some(()));
    talk.steer(Steer::Interrupt);
    talk.steer(Steer::Interrupt);
    let end = talk.turn_over();
    assert!(is_cancelled(&end.outcome));
    assert!(end.answer.starts_with("Step 1"));
    assert!(
        is_cancelled(&talk.turn_over().outcome),
        "a prompt that waited is withdrawn with it"
    );
    assert!(talk.endings.is_empty(), "the process stays");
    assert_eq!(talk.turn("#demo fast\nagain").outcome, Outcome::Completed);
}

#[test]
fn a_cancel_withdraws_an_open_question() {
    let folder = TempDir::new().unwrap();
    let mut talk = talk(&folder);
    talk.steer(Steer::Prompt("#demo fast\n#demo ask write".into()));
    let ask = talk.ask();
    talk.steer(Steer::Interrupt);
    assert!(is_cancelled(&talk.turn_over().outcome));
    let closed = talk.events(|event| match event {
        RunEvent::AskClosed { ask, how } => Some((ask.clone(), how.clone())),
        _ => None,
    });
    assert_eq!(closed, [(ask.id.clone(), AskEnd::Withdrawn)]);
    let last = talk.events(|event| match event {
        RunEvent::Tool(state) => Some(state.status),
        _ => None,
    });
    assert_eq!(last.last(), Some(&ToolStatus::Cancelled));
    talk.answer(&ask, "yes");
    assert_eq!(talk.turn("#demo fast\nagain").outcome, Outcome::Completed);
}

#[test]
fn a_cancel_before_the_agent_is_ready_gives_the_prompt_back_at_once() {
    let folder = TempDir::new().unwrap();
    let mut talk = talk(&folder);
    talk.steer(Steer::Prompt("#demo slow 600".into()));
    talk.steer(Steer::Interrupt);
    assert!(is_cancelled(&talk.turn_over().outcome));
    assert_eq!(talk.turn("#demo fast\nhello").outcome, Outcome::Completed);
}

#[test]
fn failures_say_whose_fault_it_is() {
    let folder = TempDir::new().unwrap();
    let mut talk = talk(&folder);
    let failed = talk.turn("#demo fail the model is on strike").outcome;
    let reason = "Demo: the model is on strike".to_owned();
    assert_eq!(
        failed,
        Outcome::Failed {
            fault: Fault::Model,
            reason
        }
    );
    let login = talk.turn("#demo fail 401 who are you").outcome;
    assert!(
        matches!(
            login,
            Outcome::Blocked {
                fix: Fix::Login,
                ..
            }
        ),
        "{login:?}"
    );
    let credit = talk.turn("#demo fail 429 slow down").outcome;
    assert!(
        matches!(
            credit,
            Outcome::Blocked {
                fix: Fix::Credit,
                ..
            }
        ),
        "{credit:?}"
    );
    assert_eq!(talk.turn("#demo fast\nhello").outcome, Outcome::Completed);
}

#[test]
fn a_crash_in_a_turn_is_a_failure_with_the_exit_code() {
    let folder = TempDir::new().unwrap();
    let mut talk = talk(&folder);
    let end = talk.turn("#demo crash");
    let Outcome::Failed {
        fault: Fault::Agent,
        reason,
    } = end.outcome
    else {
        panic!("{end:?}");
    };
    assert!(reason.contains("exit code 3"), "{reason}");
    assert!(end.answer.starts_with("I shall do this"));
    let after = talk.turn("hello?").outcome;
    assert!(matches!(after, Outcome::Failed { .. }), "{after:?}");
}

#[test]
fn two_thousand_pieces_arrive_as_two_thousand_pieces() {
    let folder = TempDir::new().unwrap();
    let mut talk = talk(&folder);
    let end = talk.turn("#demo long 2000");
    assert_eq!(talk.deltas(), 2000);
    assert!(end.answer.ends_with("word2000 "));
}

#[test]
fn hostile_output_is_survived_and_passed_on_as_other() {
    let folder = TempDir::new().unwrap();
    let mut talk = talk(&folder);
    let end = talk.turn("#demo fast\n#demo noise\n#demo bigline 100000\nhello");
    assert_eq!(end.outcome, Outcome::Completed);
    let others = talk.events(|event| match event {
        RunEvent::Other { what } => Some(what.clone()),
        _ => None,
    });
    for what in [
        "unreadable line",
        "moon_phase",
        "tool_call without an id",
        "agent_message_chunk",
    ] {
        assert!(
            others.iter().any(|other| other == what),
            "{what} is not in {others:?}"
        );
    }
    let moon = talk
        .seen
        .iter()
        .find(|seen| matches!(&seen.event, RunEvent::Other { what } if what == "moon_phase"));
    assert_eq!(moon.unwrap().raw.as_ref().unwrap()["phase"], "waning");
}

#[cfg(unix)]
#[test]
fn the_command_it_starts_ends_with_a_cancel() {
    let folder = TempDir::new().unwrap();
    let mut talk = talk(&folder);
    talk.steer(Steer::Prompt("#demo shell 600".into()));
    talk.wait_for(|event| match event {
        RunEvent::Tool(state) => (state.status == ToolStatus::InProgress).then_some(()),
        _ => None,
    });
    talk.steer(Steer::Interrupt);
    assert!(is_cancelled(&talk.turn_over().outcome));
}

#[test]
fn closing_an_idle_conversation_closes_its_input_and_later_prompts_are_refused() {
    let folder = TempDir::new().unwrap();
    let mut talk = talk(&folder);
    talk.turn("#demo fast\nhello");
    talk.steer(Steer::Close);
    talk.finish();
    assert_eq!(talk.end, Some(DemoEnd::Closed));
    assert!(matches!(talk.endings[..], [Step::CloseInput(_)]));
    assert!(matches!(
        talk.turn("too late").outcome,
        Outcome::Failed { .. }
    ));
}
