//! A conversation over the pipes of a real process.

use std::{fs, path::PathBuf};

use bridge_proto::model::{Fault, Outcome};
use bridge_providers::provider::{Heard, StartError, Steer};

use crate::support::{Plain, Stage, cancelled, failed, over, said};

#[tokio::test]
async fn two_turns_in_one_process_and_a_close_in_good_order() {
    let stage = Stage::new();
    let script = r#"while read -r line; do echo "heard $line"; echo done; done; echo bye"#;
    let mut talk = stage.converse(script, Plain::new()).await;
    talk.prompt("one").await;
    assert_eq!(talk.next().await, Some(said("heard one")));
    assert_eq!(talk.next().await, Some(over(Outcome::Completed)));
    talk.prompt("two").await;
    assert_eq!(talk.next().await, Some(said("heard two")));
    assert_eq!(talk.next().await, Some(over(Outcome::Completed)));
    talk.say(Steer::Close).await;
    assert_eq!(talk.rest().await, [said("bye"), Heard::Gone]);
}

#[tokio::test]
async fn a_line_of_100_mb_is_skipped_with_bounded_memory_and_the_next_arrives() {
    let stage = Stage::new();
    let script = "read -r go; head -c 100000000 /dev/zero; echo; echo next; echo done; read -r on";
    let mut talk = stage.converse(script, Plain::new()).await;
    talk.prompt("go").await;
    assert_eq!(talk.next().await, Some(said("100000000 bytes skipped")));
    assert_eq!(talk.next().await, Some(said("next")));
    let peak = peak_kilobytes();
    assert!(peak < 95_000, "{peak} kB");
}

/// The most memory this process ever had.
fn peak_kilobytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn bytes_that_are_not_utf_8_arrive_as_they_are() {
    let stage = Stage::new();
    let script = r"printf 'a\377\376\000z\n\303(\n'; read -r end";
    let mut talk = stage.converse(script, Plain::new()).await;
    assert_eq!(talk.next().await, Some(said(r"a\xff\xfe\x00z")));
    assert_eq!(talk.next().await, Some(said(r"\xc3(")));
}

#[tokio::test]
async fn a_flood_of_complaints_blocks_nobody() {
    let stage = Stage::new();
    let script = "read -r go; yes complaint | head -c 20000000 >&2; echo done; read -r end";
    let mut talk = stage.converse(script, Plain::new()).await;
    talk.prompt("go").await;
    assert_eq!(talk.next().await, Some(over(Outcome::Completed)));
}

#[tokio::test]
async fn a_crash_tells_its_code_and_the_last_complaints() {
    let stage = Stage::new();
    let script = r"read -r go; echo working; echo first >&2; printf 'l\377st\n' >&2; exit 3";
    let mut talk = stage.converse(script, Plain::new()).await;
    talk.prompt("go").await;
    let reason = "code Some(3) signal None: first\nl\u{fffd}st";
    assert_eq!(
        talk.rest().await,
        [said("working"), failed(Fault::Agent, reason), Heard::Gone]
    );
}

#[tokio::test]
async fn a_killed_program_tells_its_signal() {
    let stage = Stage::new();
    let mut talk = stage.converse("read -r go; kill -9 $$", Plain::new()).await;
    talk.prompt("go").await;
    let reason = "code None signal Some(9): ";
    assert_eq!(
        talk.rest().await,
        [failed(Fault::Agent, reason), Heard::Gone]
    );
}

#[tokio::test]
async fn a_dialogue_that_panics_fails_its_turn_and_ends_its_program() {
    let stage = Stage::new();
    let script = "exec 9>$LIVES; read -r go; echo hello; echo boom; exec sleep 1000";
    let gone = stage.everybody_gone();
    let mut talk = stage.converse(script, Plain::new()).await;
    talk.prompt("go").await;
    let reason = "the bridge failed to understand the agent";
    assert_eq!(
        talk.rest().await,
        [said("hello"), failed(Fault::Bridge, reason), Heard::Gone]
    );
    gone.await;
}

#[tokio::test]
async fn a_turn_that_a_dialogue_leaves_open_is_closed_when_the_program_is_gone() {
    let stage = Stage::new();
    let script = "read -r go; echo cannot go on >&2; exit 4";
    let mut talk = stage.converse(script, Plain::forgetful()).await;
    talk.prompt("go").await;
    let reason = "the agent ended with exit code 4: cannot go on";
    assert_eq!(
        talk.rest().await,
        [failed(Fault::Agent, reason), Heard::Gone]
    );
}

#[tokio::test]
async fn an_owner_that_does_not_read_stops_the_output_and_can_still_interrupt() {
    let stage = Stage::new();
    let mut talk = stage.converse("read -r go; exec yes", Plain::new()).await;
    talk.prompt("go").await;
    while talk.0.heard.len() < talk.0.heard.max_capacity() {
        tokio::task::yield_now().await;
    }
    talk.say(Steer::Interrupt).await;
    let rest = talk.rest().await;
    assert_eq!(rest.last_chunk(), Some(&[cancelled(), Heard::Gone]));
    // Two bytes a line: what waits is bounded by its cost, not by how much the program prints.
    assert!(rest.len() < 40_000, "{} pieces of news", rest.len());
}

#[tokio::test]
async fn what_was_said_before_a_program_went_is_heard_before_it_is_gone() {
    let stage = Stage::new();
    let script = "for n in 1 2 3 4 5 6 7 8 9; do for m in 0 1 2 3 4 5 6 7 8 9; do echo $n$m; \
                  done; done; printf last";
    let mut talk = stage.converse(script, Plain::new()).await;
    let mut expected: Vec<Heard> = (10..100).map(|number| said(&number.to_string())).collect();
    expected.extend([said("last"), Heard::Gone]);
    assert_eq!(talk.rest().await, expected);
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let stage = Stage::new();
    let start = async |program: PathBuf, directory: PathBuf| {
        let mut launch = stage.launch("true");
        launch.program = program;
        launch.directory = directory;
        let dialogue = Box::new(Plain::new());
        bridge_providers::conversation::converse(launch, dialogue)
            .await
            .unwrap_err()
    };
    let here = stage.launch("").directory;
    let missing = start(here.join("agent"), here.clone()).await;
    assert!(matches!(missing, StartError::Missing { .. }), "{missing:?}");
    let nowhere = start("/bin/sh".into(), here.join("nowhere")).await;
    assert!(
        matches!(nowhere, StartError::NoDirectory { .. }),
        "{nowhere:?}"
    );
    fs::write(here.join("data"), "not a program").unwrap();
    let refused = start(here.join("data"), here.clone()).await;
    assert!(matches!(refused, StartError::Spawn { .. }), "{refused:?}");
}
