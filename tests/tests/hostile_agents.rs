//! Agents that do not behave, for every protocol: what they print may be anything, and how they
//! end as well. A turn has its one end, the conversation goes on where the agent does, and nobody
//! is left behind.

#![cfg(unix)]

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc, time::Duration};

use bridge_proto::{
    ProviderKey,
    model::{Actor, Fault, Outcome, RunEvent, ToolStatus},
};
use bridge_providers::{
    claude::ClaudeProvider,
    codex::CodexProvider,
    provider::{Heard, Provider, StartError, Steer},
};
use bridge_testkit::{bridge, home::Home, program::beside, talk::Talk};

/// A protocol, as the fake agent speaks it.
struct Flavour {
    name: &'static str,
    /// The provider around this program, which is started with the provider's own arguments.
    around: fn(&Home, &Path) -> Arc<dyn Provider>,
}

const FLAVOURS: [Flavour; 6] = [
    Flavour {
        name: "acp",
        around: |home, program| {
            bridge::custom(home, "fake", &program.display().to_string(), &["acp"])
        },
    },
    Flavour {
        name: "claude",
        around: |home, program| {
            let program = program.display().to_string();
            let host = home.host(&[
                ("CLAUDE_SDK_EXECUTABLE", &program),
                ("ANTHROPIC_API_KEY", "none"),
            ]);
            let key = ProviderKey::parse("claude").expect("a key");
            Arc::new(ClaudeProvider::new(key, host))
        },
    },
    Flavour {
        name: "codex",
        around: |home, program| {
            let program = program.display().to_string();
            // What has no app-server that works is used by its fallback.
            let host = home.host(&[("CODEX_BIN_PATH", &program), ("CODEX_EXEC_FALLBACK", "1")]);
            Arc::new(CodexProvider::new(host))
        },
    },
    Flavour {
        name: "copilot",
        around: bridge::copilot_as,
    },
    Flavour {
        name: "hermes",
        around: bridge::hermes_as,
    },
    Flavour {
        name: "cursor-agent",
        around: bridge::cursor_as,
    },
];

impl Flavour {
    async fn open(&self, home: &Home, program: &Path, task: &str) -> Talk {
        let provider = (self.around)(home, program);
        Talk::open(home, self.name, provider.as_ref(), task).await
    }
}

/// A program of this name in this home that is made of these lines of shell; `"$FAKE" "$@"` in them
/// is the fake agent as it was meant.
fn script(home: &Home, name: &str, lines: &str) -> std::path::PathBuf {
    let program = home.path().join(name);
    let fake = bridge::called(home, name, &beside("fake_agent"));
    let text = format!("#!/bin/sh\nFAKE='{}'\n{lines}\n", fake.display());
    fs::write(&program, text).expect("a fresh folder can be written");
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&program, executable).expect("our own file");
    program
}

/// Runs a promise for every protocol, one after the other.
macro_rules! for_every_flavour {
    ($(#[$doc:meta])* $promise:ident, |$home:ident, $flavour:ident, $task:ident| $body:expr) => {
        $(#[$doc])*
        #[tokio::test]
        async fn $promise() {
            let $home = Home::new();
            for $flavour in &FLAVOURS {
                let $task = format!("{}-{}", stringify!($promise), $flavour.name);
                $body;
                $home.none_left_of(&$task, "1").await;
            }
        }
    };
}

for_every_flavour!(
    noise_and_escape_sequences_are_no_words_of_the_agent,
    |home, flavour, task| {
        let mut talk = flavour.open(&home, &beside("fake_agent"), &task).await;
        talk.say("@garbage\n@escapes\n@say before \n@escapes\n@garbage\n@say after")
            .await;
        let end = talk.over().await;
        assert_eq!(end.outcome, Outcome::Completed, "{}", flavour.name);
        let text = talk.text();
        assert!(
            text.starts_with("before") && text.ends_with("after"),
            "{}: {text:?}",
            flavour.name
        );
        assert!(!text.contains('\u{1b}'), "{}: {text:?}", flavour.name);
        talk.still_works("@say well").await;
        talk.close(&home, &task).await;
    }
);

for_every_flavour!(
    messages_of_the_wrong_shape_change_nothing,
    |home, flavour, task| {
        let mut talk = flavour.open(&home, &beside("fake_agent"), &task).await;
        talk.say("@wrong\n@say one \n@wrong\n@tool\n@wrong\n@say two")
            .await;
        let end = talk.over().await;
        assert_eq!(end.outcome, Outcome::Completed, "{}", flavour.name);
        assert!(end.answer.ends_with("two"), "{}: {end:?}", flavour.name);
        let done = talk.seen.iter().any(
            |event| matches!(event, RunEvent::Tool(tool) if tool.status == ToolStatus::Completed),
        );
        assert!(done, "{}: {:?}", flavour.name, talk.seen);
        talk.still_works("@say well").await;
        talk.close(&home, &task).await;
    }
);

for_every_flavour!(
    what_nobody_knows_is_passed_on_and_the_turn_goes_on,
    |home, flavour, task| {
        let mut talk = flavour.open(&home, &beside("fake_agent"), &task).await;
        talk.say("@unknown\n@say after").await;
        let end = talk.over().await;
        assert_eq!(end.outcome, Outcome::Completed, "{}", flavour.name);
        assert!(end.answer.ends_with("after"), "{}: {end:?}", flavour.name);
        let others = talk
            .seen
            .iter()
            .filter(|event| matches!(event, RunEvent::Other { .. }));
        assert!(others.count() > 0, "{}: {:?}", flavour.name, talk.seen);
        talk.still_works("@say well").await;
        talk.close(&home, &task).await;
    }
);

for_every_flavour!(
    /// Whatever it means, the turn is over.
    a_reason_to_stop_that_nobody_knows_ends_the_turn,
    |home, flavour, task| {
        let mut talk = flavour.open(&home, &beside("fake_agent"), &task).await;
        talk.say("@say words\n@odd-end").await;
        let end = talk.over().await;
        assert_eq!(end.answer, "words", "{}: {end:?}", flavour.name);
        talk.still_works("@say well").await;
        talk.close(&home, &task).await;
    }
);

for_every_flavour!(answers_to_nothing_change_nothing, |home, flavour, task| {
    let mut talk = flavour.open(&home, &beside("fake_agent"), &task).await;
    talk.say("@stray\n@say one \n@stray\n@say two").await;
    let end = talk.over().await;
    assert_eq!(end.outcome, Outcome::Completed, "{}", flavour.name);
    assert!(talk.text().ends_with("two"), "{}: {end:?}", flavour.name);
    talk.still_works("@say well").await;
    talk.close(&home, &task).await;
});

for_every_flavour!(
    ids_that_are_used_twice_confuse_nobody,
    |home, flavour, task| {
        let mut talk = flavour.open(&home, &beside("fake_agent"), &task).await;
        talk.say("@reuse\n@ask\n@say after").await;
        let (end, asked) = talk.over_allowing().await;
        assert_eq!(end.outcome, Outcome::Completed, "{}", flavour.name);
        assert!((1..=2).contains(&asked), "{}: {asked}", flavour.name);
        assert!(end.answer.ends_with("after"), "{}: {end:?}", flavour.name);
        talk.still_works("@say well").await;
        talk.close(&home, &task).await;
    }
);

for_every_flavour!(
    a_flood_of_increments_is_all_there_and_in_order,
    |home, flavour, task| {
        let mut talk = flavour.open(&home, &beside("fake_agent"), &task).await;
        talk.say(&format!("@stream {FLOOD}")).await;
        let mut next = 0;
        let end = loop {
            match talk.next().await {
                Heard::Seen(seen) => {
                    let RunEvent::Text { delta, .. } = &seen.event else {
                        continue;
                    };
                    for word in delta.split_terminator(' ') {
                        next += 1;
                        assert_eq!(word.strip_prefix('w'), Some(next.to_string().as_str()));
                    }
                }
                Heard::TurnOver(end) => break end,
                Heard::Prompted | Heard::Resumable(_) | Heard::Applied(_) | Heard::Injected(_) => {}
                Heard::Gone => panic!("{}: gone after {next}", flavour.name),
            }
        };
        assert_eq!(end.outcome, Outcome::Completed, "{}", flavour.name);
        assert_eq!(next, FLOOD, "{}", flavour.name);
        talk.close(&home, &task).await;
    }
);

for_every_flavour!(
    an_agent_that_ends_at_once_says_why,
    |home, flavour, task| {
        let program = script(&home, flavour.name, "echo 'no licence' >&2; exit 9");
        let provider = (flavour.around)(&home, &program);
        let opened = Talk::try_open(&home, flavour.name, provider.as_ref(), &task, None).await;
        let mut talk = opened.unwrap_or_else(|error| panic!("{}: {error}", flavour.name));
        talk.say("hello").await;
        let end = talk.over().await;
        let Outcome::Failed { reason, .. } = &end.outcome else {
            panic!("{}: {end:?}", flavour.name)
        };
        assert!(
            reason.contains("code 9") && reason.contains("no licence"),
            "{}: {reason}",
            flavour.name
        );
        assert_eq!(talk.next().await, Heard::Gone, "{}", flavour.name);
    }
);

for_every_flavour!(
    an_agent_that_ends_in_the_middle_keeps_what_it_said,
    |home, flavour, task| {
        let mut talk = flavour.open(&home, &beside("fake_agent"), &task).await;
        talk.say("@say some words\n@deaf-children\n@exit 139").await;
        let end = talk.over().await;
        let Outcome::Failed {
            fault: Fault::Agent,
            ..
        } = end.outcome
        else {
            panic!("{}: {end:?}", flavour.name)
        };
        assert_eq!(talk.text(), "some words", "{}", flavour.name);
        assert_eq!(talk.next().await, Heard::Gone, "{}", flavour.name);
    }
);

for_every_flavour!(
    an_agent_that_never_ends_is_ended_with_what_it_started,
    |home, flavour, task| {
        let lines = "trap '' TERM INT HUP QUIT\nexec \"$FAKE\" \"$@\"";
        let program = script(&home, flavour.name, lines);
        let mut talk = flavour.open(&home, &program, &task).await;
        talk.say("@deaf-children\n@say working\n@deaf").await;
        talk.until(|heard| {
            let working = |seen: &RunEvent| matches!(seen, RunEvent::Text { .. });
            matches!(heard, Heard::Seen(seen) if working(&seen.event)).then_some(())
        })
        .await;
        let asked = std::time::Instant::now();
        talk.steer(Steer::Interrupt).await;
        let end = talk.over().await;
        let cancelled = Outcome::Cancelled { by: Actor::Person };
        assert_eq!(end.outcome, cancelled, "{}", flavour.name);
        assert_eq!(talk.next().await, Heard::Gone, "{}", flavour.name);
        home.none_left_of(&task, "1").await;
        let took = asked.elapsed();
        assert!(took < CANCEL_LIMIT, "{}: {took:?}", flavour.name);
    }
);

for_every_flavour!(
    what_an_agent_leaves_running_ends_with_the_conversation,
    |home, flavour, task| {
        let mut talk = flavour.open(&home, &beside("fake_agent"), &task).await;
        talk.say("@deaf-children\n@say done").await;
        assert_eq!(talk.over().await.outcome, Outcome::Completed);
        home.some_of(&task, "1", 3).await;
        talk.close(&home, &task).await;
    }
);

for_every_flavour!(
    the_name_of_a_model_is_never_read_by_a_shell,
    |home, flavour, task| {
        let sprung = home.path().join("sprung");
        let touch = format!("touch {}", sprung.display());
        let lines = "printf '%s\\n' \"$@\" > \"$0.args\"\nexec \"$FAKE\" \"$@\"";
        let program = script(&home, flavour.name, lines);
        for model in [
            format!("; {touch}"),
            format!("$({touch})"),
            format!("`{touch}`"),
            format!("a'\"b | {touch} & {touch}"),
            "--dangerously-skip-permissions".to_owned(),
            "\u{1b}]0;x\u{7}".to_owned(),
        ] {
            let provider = (flavour.around)(&home, &program);
            let opened =
                Talk::try_open(&home, flavour.name, provider.as_ref(), &task, Some(&model)).await;
            // A name that cannot be one may be refused.
            if let Ok(mut talk) = opened {
                talk.say("@say well").await;
                talk.over().await;
                talk.close(&home, &task).await;
            }
            let args = fs::read_to_string(program.with_extension("args")).unwrap_or_default();
            let alone = args
                .lines()
                .any(|word| word == "--dangerously-skip-permissions");
            assert!(!alone, "{}: {args}", flavour.name);
            assert!(!sprung.exists(), "{}: {model}", flavour.name);
        }
    }
);

#[tokio::test]
async fn what_is_no_program_is_refused_with_a_reason() {
    let home = Home::new();
    let folder = home.path().join("folder");
    fs::create_dir(&folder).unwrap();
    let plain = home.path().join("plain");
    fs::write(&plain, "#!/bin/sh\n").unwrap();
    let unstartable = home.path().join("unstartable");
    fs::write(&unstartable, "#!/nowhere/interpreter\n").unwrap();
    fs::set_permissions(&unstartable, fs::Permissions::from_mode(0o755)).unwrap();
    let dangling = home.path().join("dangling");
    std::os::unix::fs::symlink("nowhere", &dangling).unwrap();
    for flavour in &FLAVOURS {
        for program in [
            &folder,
            &plain,
            &unstartable,
            &dangling,
            &home.path().join("absent"),
        ] {
            let provider = (flavour.around)(&home, program);
            let name = program.file_name().unwrap_or_default();
            let opened =
                Talk::try_open(&home, flavour.name, provider.as_ref(), "nobody", None).await;
            let Err(error) = opened else {
                panic!("{}: {name:?} was started", flavour.name)
            };
            assert!(!error.to_string().is_empty(), "{} {name:?}", flavour.name);
            let missing = matches!(error, StartError::Missing { .. });
            assert_eq!(
                missing,
                program != &unstartable,
                "{} {name:?}: {error}",
                flavour.name
            );
        }
    }
}

/// `cargo xtask bench` sends a million through a whole bridge; an unoptimised one is slow at it.
const FLOOD: u64 = if cfg!(debug_assertions) {
    100_000
} else {
    1_000_000
};
/// Eight seconds for the interrupt, then signals; and a busy machine.
const CANCEL_LIMIT: Duration = Duration::from_secs(12);
