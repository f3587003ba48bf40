//! Nobody is left: cancelled, closed, crashed or dropped.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use bridge_proto::model::RunEvent;
use bridge_providers::{
    process::{Kin, strays},
    provider::{Heard, Steer},
};

use crate::support::{Plain, Stage, cancelled, soon};

const LADDER: Duration = Duration::from_secs(10);

/// Ignores SIGTERM, and has a command in a session of its own that ignores it too.
const STUBBORN: &str = r#"
    exec 9>$LIVES
    trap "" TERM
    setsid sh -c 'echo ready; while :; do sleep 1000; done' &
    while :; do sleep 1000; done
"#;

#[tokio::test]
async fn a_cancelled_program_is_gone_with_commands_that_left_its_group_and_ignore_sigterm() {
    let stage = Stage::new();
    let marker = [stage.run().marker()];
    let gone = stage.everybody_gone();
    let mut talk = stage.converse(STUBBORN, Plain::new()).await;
    talk.prompt("go").await;
    talk.until_said("ready").await;
    assert!(strays::find(&marker).len() >= 2);
    let begin = Instant::now();
    talk.say(Steer::Interrupt).await;
    assert_eq!(talk.rest().await, [cancelled(), Heard::Gone]);
    assert!(begin.elapsed() < LADDER);
    assert_eq!(strays::find(&marker), []);
    gone.await;
}

/// Keeps one command all the time; a prompt makes it start another one that leaves its group, and
/// one that is an orphan with a session of its own.
const HELPED: &str = r"
    exec 9>$LIVES
    sleep 1000 &
    echo ready
    read go
    setsid sleep 1001 &
    (setsid sleep 1002 &)
    echo more
    read rest
";

#[tokio::test]
async fn what_a_program_started_since_a_look_is_told_from_what_was_there() {
    let stage = Stage::new();
    let gone = stage.everybody_gone();
    let mut talk = stage.converse(HELPED, Plain::new()).await;
    let pid = talk.0.pid.unwrap();
    talk.until_said("ready").await;
    let before = Kin::of(pid).unwrap();
    assert_eq!(Kin::of(pid).unwrap().came_after(&before), 0);
    talk.prompt("go").await;
    talk.until_said("more").await;
    // One that is just being started cannot be looked at yet.
    let now = soon(async {
        loop {
            let now = Kin::of(pid).unwrap();
            if now.came_after(&before) >= 2 {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(now.came_after(&before), 2);
    assert_eq!(before.came_after(&now), 0);
    drop(talk);
    gone.await;
    assert_eq!(Kin::of(pid), None);
}

#[tokio::test]
async fn a_dropped_conversation_ends_its_program() {
    let stage = Stage::new();
    let gone = stage.everybody_gone();
    let mut talk = stage.converse(STUBBORN, Plain::new()).await;
    talk.until_said("ready").await;
    drop(talk);
    gone.await;
}

#[test]
fn a_runtime_that_shuts_down_leaves_no_program_behind() {
    let stage = Stage::new();
    let gone = stage.everybody_gone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let talk = runtime.block_on(async {
        let mut talk = stage.converse(STUBBORN, Plain::new()).await;
        talk.until_said("ready").await;
        talk
    });
    runtime.shutdown_background();
    tokio::runtime::Runtime::new().unwrap().block_on(gone);
    drop(talk);
}

#[tokio::test]
async fn what_a_program_leaves_running_ends_with_it() {
    let stage = Stage::new();
    let gone = stage.everybody_gone();
    let script = r#"
        exec 9>$LIVES
        setsid sh -c 'echo ready >&9; exec sleep 1000' &
        (trap "" HUP; exec sleep 1000) &
        read -r end
    "#;
    let mut talk = stage.converse(script, Plain::new()).await;
    talk.say(Steer::Close).await;
    assert_eq!(talk.rest().await, [Heard::Gone]);
    gone.await;
}

#[tokio::test]
async fn an_orphan_that_wiped_its_environment_and_left_every_group_is_ended_too() {
    let stage = Stage::new();
    let gone = stage.everybody_gone();
    let script = r#"
        exec 9>$LIVES 8<&0
        setsid env -i PATH="$PATH" sh -c '
            sh -c "echo ready; exec sleep 1000" &
            read -r go <&8
        ' &
        wait
    "#;
    let mut talk = stage.converse(script, Plain::new()).await;
    talk.until_said("ready").await;
    // Its parent ends now, and the orphan comes to this process.
    talk.prompt("go").await;
    talk.rest().await;
    gone.await;
}

#[tokio::test]
async fn dead_orphans_are_reaped() {
    let stage = Stage::new();
    // Each prints its number when its parent is gone already or about to go.
    let script = "for n in 1 2 3 4 5; do (setsid sh -c 'echo $$' &); done; read -r end";
    let mut talk = stage.converse(script, Plain::new()).await;
    let mut orphans = Vec::new();
    while orphans.len() < 5 {
        let Some(Heard::Seen(seen)) = talk.next().await else {
            panic!("five numbers")
        };
        let RunEvent::Status { text } = seen.event else {
            panic!("a number")
        };
        orphans.push(text);
    }
    talk.say(Steer::Close).await;
    assert_eq!(talk.rest().await, [Heard::Gone]);
    orphans.retain(|pid| Path::new("/proc").join(pid).exists());
    assert_eq!(orphans, [""; 0]);
}

#[tokio::test]
async fn a_program_that_never_reads_does_not_hold_up_a_cancel() {
    let stage = Stage::new();
    let gone = stage.everybody_gone();
    let mut talk = stage
        .converse("exec 9>$LIVES; echo ready; exec sleep 1000", Plain::new())
        .await;
    talk.until_said("ready").await;
    for _ in 0..4 {
        talk.prompt(&"x".repeat(1_000_000)).await;
    }
    let begin = Instant::now();
    talk.say(Steer::Interrupt).await;
    assert_eq!(talk.rest().await, [cancelled(), Heard::Gone]);
    assert!(begin.elapsed() < LADDER);
    gone.await;
}

#[tokio::test]
async fn an_interrupt_that_neither_dialogue_nor_program_obeys_ends_within_ten_seconds() {
    let stage = Stage::new();
    let gone = stage.everybody_gone();
    let mut talk = stage.converse(STUBBORN, Plain::deaf()).await;
    talk.prompt("go").await;
    talk.until_said("ready").await;
    let begin = Instant::now();
    talk.say(Steer::Interrupt).await;
    assert_eq!(talk.rest().await, [cancelled(), Heard::Gone]);
    assert!(begin.elapsed() < LADDER);
    gone.await;
}

#[tokio::test]
async fn strays_are_found_by_their_marker_and_ended() {
    let stage = Stage::new();
    let gone = stage.everybody_gone();
    let marker = stage.run().marker();
    let mut stray = stray(&stage, &marker);
    let found = soon(async {
        loop {
            let found = strays::find(std::slice::from_ref(&marker));
            if found.len() >= 4 {
                return found;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(found.iter().any(|found| found.pid == stray.id()));
    assert_eq!(strays::find(&["another".into()]), []);
    let count = found.len();
    assert_eq!(strays::end(found).await, count);
    assert_eq!(strays::find(std::slice::from_ref(&marker)), []);
    stray.wait().unwrap();
    gone.await;
}

#[tokio::test]
async fn a_stray_whose_number_went_to_another_process_is_left_alone() {
    let stage = Stage::new();
    let marker = stage.run().marker();
    let mut stray = stray(&stage, &marker);
    let found = soon(async {
        loop {
            let mut found = strays::find(std::slice::from_ref(&marker));
            found.retain(|found| found.pid == stray.id());
            if let Some(found) = found.pop() {
                return found;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    let earlier = strays::Stray {
        start_time: found.start_time - 1,
        ..found.clone()
    };
    assert_eq!(strays::end(vec![earlier]).await, 0);
    assert_eq!(stray.try_wait().unwrap(), None);
    assert_eq!(strays::end(vec![found]).await, 1);
    stray.wait().unwrap();
}

/// What a daemon that was killed leaves behind.
#[expect(clippy::disallowed_methods, reason = "a stray is nobody's child")]
fn stray(stage: &Stage, marker: &str) -> std::process::Child {
    let launch = stage.launch(STUBBORN);
    Command::new(launch.program)
        .args(launch.args)
        .envs(launch.env.iter())
        .env("CTRLNODE_RUN", marker)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}
