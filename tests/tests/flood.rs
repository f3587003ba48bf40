//! Many increments of text through a whole bridge: few messages, all of the text, in order.

#![cfg(unix)]

use std::time::Duration;

use bridge_testkit::{
    bridge::Setup,
    fake_plane::{FakePlane, Heard, Manners, frame},
    home::Home,
    wire,
};

/// When each message with answer text of a task came, in order.
fn texts(log: &[Heard], task: &str) -> Vec<std::time::SystemTime> {
    let of_task = |heard: &&Heard| {
        let Some(frame) = frame(heard) else {
            return false;
        };
        let event = &frame["event"];
        let plain = frame["action"] == "agent_activity" && frame["taskId"] == task;
        let text = event["body"]["event"]["kind"] == "text";
        (plain && frame["delta"].is_string()) || (text && event["run"]["task"] == task)
    };
    log.iter().filter(of_task).map(|heard| heard.at).collect()
}

async fn a_flood_is_told_in_few_messages(manners: Manners) {
    let (home, plane) = (Home::new(), FakePlane::start(manners).await);
    let bridge = Setup::new(&home, plane.url()).start();
    plane.sync(&["fake"]).await;
    let prompt = format!("@stream {INCREMENTS}");
    for task in ["one", "two"] {
        plane
            .send(&wire::dispatch(task, "r", "fake", &prompt))
            .await;
    }
    let words: Vec<String> = (1..=INCREMENTS).map(|n| format!("w{n}")).collect();
    for task in ["one", "two"] {
        assert_eq!(plane.end_of(task, "r").await.status, "completed");
        assert_eq!(plane.text_of(task).trim_end(), words.join(" "), "{task}");
        let times = texts(&plane.log(), task);
        let (Some(first), Some(last)) = (times.first(), times.last()) else {
            panic!("no text of {task}")
        };
        let lasted = last.duration_since(*first).unwrap_or_default();
        let most = lasted.as_millis() / PACE.as_millis() + 3;
        assert!(
            times.len() as u128 <= most,
            "{} messages of {task} within {lasted:?}",
            times.len()
        );
    }
    assert!(bridge.stop().await.clean);
}

#[tokio::test]
async fn a_flood_is_told_in_few_messages_on_the_plain_wire() {
    a_flood_is_told_in_few_messages(Manners::plain()).await;
}

#[tokio::test]
async fn a_flood_is_told_in_few_messages_to_our_hub() {
    a_flood_is_told_in_few_messages(Manners::extended()).await;
}

/// A tool call and the end never wait for the text before them, and never overtake it.
#[tokio::test]
async fn what_is_no_text_comes_behind_all_text_before_it() {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::extended()).await);
    let bridge = Setup::new(&home, plane.url()).start();
    plane.sync(&["fake"]).await;
    let prompt = "@stream 500\n@tool\n@stream 300";
    let end = plane.run("t", "r", "fake", prompt).await;
    assert_eq!(end.status, "completed");
    let (mut words, mut at_tool, mut at_end) = (0, None, None);
    for frame in plane.frames() {
        let body = &frame["event"]["body"];
        let delta = body["event"]["delta"].as_str().unwrap_or_default();
        words += delta.split_whitespace().count();
        if body["event"]["kind"] == "tool" {
            at_tool = at_tool.or(Some(words));
        }
        if body["type"] == "ended" {
            at_end = Some(words);
        }
    }
    assert_eq!((at_tool, at_end), (Some(500), Some(800)));
    assert!(bridge.stop().await.clean);
}

const INCREMENTS: u32 = 5_000;
const PACE: Duration = Duration::from_millis(30);
