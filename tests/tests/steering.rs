//! What can be said to a task that goes on, and when it counts: a bridge with agents in this
//! process, one fake plane.

#![cfg(unix)]

use std::{sync::Arc, time::Duration};

use bridge_providers::provider::{Asking, Provider};
use bridge_testkit::{
    bridge::{self, Bridge, Setup},
    fake_plane::{FakePlane, Manners},
    home::Home,
    program::beside,
    recorder::Recorder,
    wire,
};
use serde_json::{Value, json};

struct World {
    home: Home,
    plane: FakePlane,
    bridge: Bridge,
    demo: Arc<Recorder>,
}

/// A bridge whose demo agent is watched.
async fn world(manners: Manners, change: impl FnOnce(&mut Setup<'_>)) -> World {
    let (home, plane) = (Home::new(), FakePlane::start(manners).await);
    let demo = Recorder::of(bridge::demo(&home));
    let mut setup = Setup::new(&home, plane.url());
    let watched: Arc<dyn Provider> = demo.clone();
    setup.providers[0] = watched;
    change(&mut setup);
    let bridge = setup.start();
    plane.sync(&["demo", "fake", "claude"]).await;
    World {
        home,
        plane,
        bridge,
        demo,
    }
}

impl World {
    async fn finish(self) {
        assert!(self.bridge.stop().await.clean, "{}", self.plane.told());
        self.home.none_left().await;
    }

    fn asking(&self) -> Vec<Asking> {
        self.demo.opened().iter().map(|spec| spec.asking).collect()
    }

    /// Waits for an event of a run.
    async fn event(&self, task: &str, attempt: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let fits = |frame: &Value| {
            let run = &frame["event"]["run"];
            run["task"] == task && run["attempt"] == attempt && fits(&frame["event"]["body"])
        };
        let frame = self.plane.heard(fits).await;
        frame["event"]["body"].clone()
    }

    /// How often something of a sort was said of a run.
    fn count(&self, attempt: &str, kind: &str) -> usize {
        let frames = self.plane.frames();
        let fits = |frame: &&Value| {
            let body = &frame["event"]["body"];
            frame["event"]["run"]["attempt"] == attempt
                && (body["type"] == kind || body["event"]["kind"] == kind)
        };
        frames.iter().filter(fits).count()
    }

    /// Drops the connection and waits for the next one, received like this.
    async fn reconnected(&self, conn: u64, manners: Manners) {
        self.plane.set_manners(manners);
        self.plane.cut();
        self.plane.opened(conn).await;
    }
}

#[tokio::test]
async fn a_viewer_that_came_while_a_run_waited_counts_for_it() {
    let world = world(Manners::plain(), |setup| setup.policy.parallel = 1).await;
    let plane = &world.plane;
    plane
        .send(&wire::dispatch("a", "r", "demo", "#demo slow 600"))
        .await;
    plane.says("a", "Step 1").await;
    plane
        .send(&wire::dispatch("b", "r", "demo", "#demo fast"))
        .await;
    world.reconnected(2, Manners::extended()).await;
    // The answer to the sync comes behind the opening, so the bridge knows who listens.
    plane.sync(&["demo"]).await;
    plane.send(&wire::cancel("a", "demo")).await;
    assert_eq!(plane.end_of("b", "r").await.status, "completed");
    assert_eq!(world.asking(), [Asking::Unanswered, Asking::Answered]);
    world.finish().await;
}

#[tokio::test]
async fn a_follow_up_is_asked_as_things_stand_then_and_forgets_nothing() {
    let world = world(Manners::extended(), |_| {}).await;
    let plane = &world.plane;
    plane
        .run("t", "r1", "demo", "#demo fast\nthe blue whale")
        .await;
    world.reconnected(2, Manners::plain()).await;
    plane.sync(&["demo"]).await;
    plane
        .send(&wire::follow_up("t", "r2", "demo", "#demo remember"))
        .await;
    assert_eq!(plane.end_of("t", "r2").await.status, "completed");
    assert_eq!(world.asking(), [Asking::Answered, Asking::Unanswered]);
    let text = plane.text_of("t");
    assert!(text.contains("Before this you wrote"), "{text}");
    world.finish().await;
}

#[tokio::test]
async fn a_message_is_read_in_the_turn_at_work_and_never_said_again() {
    let world = world(Manners::extended(), |_| {}).await;
    let plane = &world.plane;
    plane
        .send(&wire::dispatch(
            "t",
            "r1",
            "claude",
            "@say working\n@listen",
        ))
        .await;
    plane.says("t", "working").await;
    let message = wire::follow_up_now("t", "r2", "claude", "the red fox");
    plane.send(&message).await;
    let joined = world
        .event("t", "r2", |body| body["type"] == "joined")
        .await;
    assert_eq!(joined["into"], "r1");
    assert_eq!(plane.end_of("t", "r1").await.status, "completed");
    assert_eq!(plane.text_of("t"), "workingHeard: the red fox");
    let injected = world.event("t", "r1", |body| body["event"]["kind"] == "injected");
    assert_eq!(injected.await["event"]["text"], "the red fox");
    // Asked for again it is answered, and nobody reads it a second time.
    plane.send(&message).await;
    let again = |_: &_| world.count("r2", "joined") == 2;
    plane.see(again).await;
    plane.send(&wire::check("t", "r2", "claude")).await;
    let checked = |_: &_| world.count("r2", "joined") == 3;
    plane.see(checked).await;
    assert_eq!(
        (world.count("r2", "started"), world.count("r1", "injected")),
        (0, 1)
    );
    world.finish().await;
}

#[tokio::test]
async fn a_message_that_comes_over_a_broken_connection_twice_is_read_once() {
    let world = world(Manners::extended(), |_| {}).await;
    let plane = &world.plane;
    plane
        .send(&wire::dispatch(
            "t",
            "r1",
            "claude",
            "@say working\n@listen\n@hang",
        ))
        .await;
    plane.says("t", "working").await;
    let message = wire::follow_up_now("t", "r2", "claude", "the red fox");
    plane.send(&message).await;
    world.reconnected(2, Manners::extended()).await;
    plane.send(&message).await;
    world
        .event("t", "r2", |body| body["type"] == "joined")
        .await;
    plane.says("t", "Heard: the red fox").await;
    plane.send(&wire::cancel("t", "claude")).await;
    assert_eq!(plane.end_of("t", "r1").await.status, "cancelled");
    assert_eq!(plane.text_of("t").matches("Heard").count(), 1);
    assert_eq!(
        (world.count("r2", "started"), world.count("r2", "ended")),
        (0, 0)
    );
    world.finish().await;
}

#[tokio::test]
async fn a_message_for_an_agent_that_cannot_read_it_now_waits_for_the_end_of_the_turn() {
    let world = world(Manners::extended(), |_| {}).await;
    let plane = &world.plane;
    plane
        .send(&wire::dispatch("t", "r1", "fake", "@say working\n@hang"))
        .await;
    plane.says("t", "working").await;
    plane
        .send(&wire::follow_up_now(
            "t",
            "r2",
            "fake",
            "@say the next turn",
        ))
        .await;
    world
        .event("t", "r2", |body| body["type"] == "queued")
        .await;
    plane.send(&wire::interrupt("t")).await;
    assert_eq!(plane.end_of("t", "r1").await.status, "cancelled");
    assert_eq!(plane.end_of("t", "r2").await.status, "completed");
    assert_eq!(world.count("r1", "injected"), 0);
    world.finish().await;
}

#[tokio::test]
async fn an_interrupted_turn_leaves_its_conversation_to_the_next_message() {
    let world = world(Manners::extended(), |_| {}).await;
    let plane = &world.plane;
    plane
        .send(&wire::dispatch(
            "t",
            "r1",
            "claude",
            "@say working\n@hang\nthe blue whale",
        ))
        .await;
    plane.says("t", "working").await;
    let process = world.home.of_run("t", "r1");
    plane.send(&wire::interrupt("t")).await;
    assert_eq!(plane.end_of("t", "r1").await.status, "cancelled");
    assert_eq!(world.home.of_run("t", "r1"), process, "the same process");
    plane
        .send(&wire::follow_up("t", "r2", "claude", "@remember"))
        .await;
    assert_eq!(plane.end_of("t", "r2").await.status, "completed");
    assert!(
        plane.text_of("t").contains("the blue whale"),
        "{}",
        plane.told()
    );
    assert_eq!(world.home.of_run("t", "r1"), process, "the same process");
    world.finish().await;
}

#[tokio::test]
async fn an_interrupted_turn_that_left_something_at_work_takes_its_conversation_along() {
    let world = world(Manners::extended(), |_| {}).await;
    let plane = &world.plane;
    plane.run("t", "r1", "claude", "@say ready").await;
    let prompt = "@say working\n@background\n@tool\n@hang";
    plane
        .send(&wire::follow_up("t", "r2", "claude", prompt))
        .await;
    let done = |body: &Value| body["event"]["status"] == "completed";
    world.event("t", "r2", done).await;
    world.home.some_of("t", "r1", 2).await;
    plane.send(&wire::interrupt("t")).await;
    assert_eq!(plane.end_of("t", "r2").await.status, "cancelled");
    world.home.none_left_of("t", "r1").await;
    plane
        .send(&wire::follow_up("t", "r3", "claude", "@say back"))
        .await;
    assert_eq!(plane.end_of("t", "r3").await.status, "completed");
    world.finish().await;
}

#[tokio::test]
async fn settings_are_told_to_the_turn_at_work_and_what_is_in_force_comes_back() {
    let world = world(Manners::extended(), |_| {}).await;
    let plane = &world.plane;
    plane
        .send(&wire::dispatch("t", "r1", "claude", "@say working\n@hang"))
        .await;
    plane.says("t", "working").await;
    let tune = json!({
        "action": "tune_task", "requestId": "q", "taskId": "t", "model": "large",
        "effort": "high",
    });
    plane.send(&tune).await;
    let is = |kind: &'static str, value: &'static str| {
        move |body: &Value| body["event"]["kind"] == kind && body["event"][kind] == value
    };
    world.event("t", "r1", is("model", "large")).await;
    world.event("t", "r1", is("effort", "high")).await;
    plane.send(&wire::interrupt("t")).await;
    plane.end_of("t", "r1").await;
    // A follow-up says what it wants; only what differs is told.
    let mut more = wire::follow_up("t", "r2", "claude", "@say more");
    more["args"]["model"] = json!("large");
    more["args"]["effort"] = json!("low");
    plane.send(&more).await;
    world.event("t", "r2", is("effort", "low")).await;
    assert_eq!(plane.end_of("t", "r2").await.status, "completed");
    assert_eq!(world.count("r2", "effort"), 1);
    world.finish().await;
}

#[tokio::test]
async fn an_agent_without_a_choice_says_so_instead_of_nothing() {
    let world = world(Manners::extended(), |_| {}).await;
    let mut task = wire::dispatch("t", "r1", "demo", "#demo fast");
    task["args"]["mode"] = json!("plan");
    world.plane.send(&task).await;
    let said = |body: &Value| body["event"]["kind"] == "status";
    let said = world.event("t", "r1", said).await;
    assert_eq!(
        said["event"]["text"],
        "This agent offers no choice of mode; its own stays in force."
    );
    assert_eq!(world.plane.end_of("t", "r1").await.status, "completed");
    world.finish().await;
}

#[tokio::test]
async fn a_model_that_is_tried_in_vain_is_given_up_with_its_last_word() {
    let patience = Some(Duration::from_secs(1));
    let world = world(Manners::extended(), |setup| {
        setup.policy.patience = patience;
    })
    .await;
    let prompt = "@say working\n@retry\n@hang";
    let end = world.plane.run("t", "r1", "claude", prompt).await;
    assert_eq!(end.status, "failed");
    assert_eq!(
        end.reason,
        "the model did not answer for 1 s; its last word was: trying again (1 of 10): overloaded (529)"
    );
    world.finish().await;
}

#[tokio::test]
async fn an_agent_that_starts_slowly_is_not_a_model_that_does_not_answer() {
    let world = world(Manners::extended(), |setup| {
        setup.policy.patience = Some(Duration::from_secs(1));
        let agent = beside("fake_agent").display().to_string();
        let args = ["-c", "sleep 3; exec \"$0\" acp", &agent];
        setup.providers[1] = bridge::custom(setup.home, "fake", "/bin/sh", &args);
    })
    .await;
    let end = world.plane.run("t", "r1", "fake", "@say well").await;
    assert_eq!(
        (end.status.as_str(), end.reason.as_str()),
        ("completed", "")
    );
    world.finish().await;
}
