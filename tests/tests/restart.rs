//! What a crash and a stop of the real process leave behind: an end for every run, and nobody.

#![cfg(target_os = "linux")]

use bridge_testkit::{
    fake_plane::{FakePlane, Manners},
    home::Home,
    wire,
};

#[tokio::test]
async fn a_killed_bridge_reports_its_runs_at_the_next_start_and_ends_the_strays() {
    for manners in [Manners::plain(), Manners::extended()] {
        let (home, plane) = (Home::new(), FakePlane::start(manners.clone()).await);
        let task = "killed";
        let mut bridge = home.bridge(&plane.url());
        plane.sync(&["demo"]).await;
        plane
            .send(&wire::dispatch(task, "r1", "demo", "#demo shell 600"))
            .await;
        plane
            .heard(|frame| frame.to_string().contains("sleep 600"))
            .await;
        assert!(
            !home.of_run(task, "r1").is_empty(),
            "the agent and its command run"
        );
        bridge.kill().await;

        let mut again = home.bridge(&plane.url());
        let end = plane.end_of(task, "r1").await;
        assert_eq!(end.status, "failed", "{end:?}");
        assert!(end.reason.contains("bridge was stopped"), "{end:?}");
        home.none_left_of(task, "r1").await;

        // The same run asked for again is answered from the journal, not started.
        plane.sync(&["demo"]).await;
        let before = plane.ends_of(task).len();
        plane
            .send(&wire::dispatch(task, "r1", "demo", "#demo shell 600"))
            .await;
        plane.see(|_| plane.ends_of(task).len() >= 2 * before).await;
        assert!(home.of_run(task, "r1").is_empty(), "started again");
        // A new request for the same task is a retry and runs.
        let end = plane.run(task, "r2", "demo", "#demo fast").await;
        assert_eq!(end.status, "completed", "{manners:?}: {end:?}");
        assert_eq!(again.terminate().await, Some(0), "{}", again.told());
    }
}

#[tokio::test]
async fn a_second_start_reports_nothing_twice() {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::extended()).await);
    let task = "twice";
    let mut bridge = home.bridge(&plane.url());
    plane.sync(&["demo"]).await;
    plane
        .send(&wire::dispatch(task, "r1", "demo", "#demo slow 600"))
        .await;
    plane.says(task, "Step 1").await;
    bridge.kill().await;
    let mut second = home.bridge(&plane.url());
    plane.end_of(task, "r1").await;
    assert_eq!(second.terminate().await, Some(0));
    let mut third = home.bridge(&plane.url());
    plane.opened(3).await;
    plane.sync(&["demo"]).await;
    assert_eq!(plane.ends_of(task).len(), 1, "{}", plane.told());
    assert_eq!(third.terminate().await, Some(0));
}

#[tokio::test]
async fn what_waited_when_the_bridge_was_killed_arrives_after_the_next_start_and_once() {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::extended()).await);
    let mut bridge = home.bridge(&plane.url());
    plane.sync(&["demo"]).await;
    let prompt = "#demo silent 1\n#demo long 20000\n#demo nofile";
    plane.send(&wire::dispatch("t", "r", "demo", prompt)).await;
    plane
        .heard(|frame| frame["action"] == "heartbeat" && frame["status"] == "running")
        .await;
    plane.set_manners(Manners::refuse(503, "a moment"));
    plane.cut();
    home.logged("t", "completed").await;
    // The end is said after the log has it, and journalled after that.
    let journal = home.root().join("journal/runs.jsonl");
    while !std::fs::read_to_string(&journal).is_ok_and(|text| text.contains("{\"end\"")) {
        tokio::task::yield_now().await;
    }
    bridge.kill().await;
    plane.set_manners(Manners::extended());

    let mut again = home.bridge(&plane.url());
    assert_eq!(plane.end_of("t", "r").await.status, "completed");
    let text = plane.text_of("t");
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(words.len(), 20_000);
    assert_eq!((words[0], words[19_999]), ("word1", "word20000"));
    assert_eq!(plane.ends_of("t").len(), 1);
    assert_eq!(again.terminate().await, Some(0), "{}", again.told());
}

#[tokio::test]
async fn a_stop_ends_what_runs_tells_it_and_leaves_nobody() {
    for (manners, status) in [
        (Manners::plain(), "failed"),
        (Manners::extended(), "cancelled"),
    ] {
        let (home, plane) = (Home::new(), FakePlane::start(manners).await);
        let task = "stopped";
        let mut bridge = home.bridge(&plane.url());
        plane.sync(&["demo"]).await;
        plane
            .send(&wire::dispatch(task, "r1", "demo", "#demo shell 600"))
            .await;
        plane
            .heard(|frame| frame.to_string().contains("sleep 600"))
            .await;
        assert_eq!(bridge.terminate().await, Some(0), "{}", bridge.told());
        let end = plane.end_of(task, "r1").await;
        assert_eq!(end.status, status, "{end:?}");
        assert_eq!(home.of_run(task, "r1"), Vec::<u32>::new());
        assert_eq!(home.processes(), Vec::<u32>::new());
    }
}

#[tokio::test]
async fn a_stop_does_not_wait_for_an_agent_that_does_not_listen() {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::extended()).await);
    let task = "stubborn";
    let mut bridge = home.bridge(&plane.url());
    plane.sync(&["demo"]).await;
    plane
        .send(&wire::dispatch(
            task,
            "r1",
            "demo",
            "#demo stubborn\n#demo slow 600",
        ))
        .await;
    plane.says(task, "Step 1").await;
    assert_eq!(bridge.terminate().await, Some(0), "{}", bridge.told());
    assert_eq!(plane.end_of(task, "r1").await.status, "cancelled");
    assert_eq!(home.of_run(task, "r1"), Vec::<u32>::new());
}

#[tokio::test]
async fn one_bridge_works_in_a_workspace() {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::extended()).await);
    let mut first = home.bridge(&plane.url());
    plane.opened(1).await;
    let mut second = home.bridge(&plane.url());
    assert_eq!(second.ended().await, Some(1));
    let told = second
        .line(|line| line.contains("another bridge uses this workspace"))
        .await;
    assert!(told.contains(&first.pid().to_string()), "{told}");
    assert_eq!(first.terminate().await, Some(0));
}
