//! The network and the plane do what they do; the work goes on and nothing that ends is lost.

#![cfg(unix)]

use std::time::Duration;

use bridge_testkit::{
    bridge::Setup,
    fake_plane::{FakePlane, Manners, Order, What, frame},
    home::{Home, Running},
    wire,
};
use bridge_transport::Phase;

const WIRES: [bool; 2] = [false, true];

fn manners(extended: bool) -> Manners {
    Manners::Accept {
        extended,
        token: None,
    }
}

/// Waits for so many further refused dials.
async fn refused(plane: &FakePlane, times: usize) {
    let mut at = plane.seen();
    for _ in 0..times {
        (at, _) = plane
            .see_after(at, |heard| matches!(heard.what, What::Refused(_)))
            .await;
    }
}

#[tokio::test]
async fn text_and_end_of_a_run_survive_cuts_in_its_middle() {
    for extended in WIRES {
        let (home, plane) = (Home::new(), FakePlane::start(manners(extended)).await);
        let bridge = Setup::new(&home, plane.url()).start();
        plane.sync(&["demo"]).await;
        plane
            .send(&wire::dispatch(
                "t",
                "r",
                "demo",
                "#demo slow 3\n#demo nofile\nbye",
            ))
            .await;
        for step in ["Step 1 of 6.", "Step 3 of 6."] {
            plane.says("t", step).await;
            plane.set_manners(Manners::refuse(503, "a moment"));
            plane.cut();
            refused(&plane, 3).await;
            plane.set_manners(manners(extended));
        }
        assert_eq!(plane.end_of("t", "r").await.status, "completed");
        let text = plane.text_of("t");
        for step in 1..=6 {
            assert_eq!(
                text.matches(&format!("Step {step} of 6.")).count(),
                1,
                "{text}"
            );
        }
        assert!(text.contains("> bye"), "{text}");
        assert_eq!(plane.ends_of("t").len(), if extended { 1 } else { 2 });
        assert!(bridge.stop().await.clean);
    }
}

#[tokio::test]
async fn a_run_that_ends_while_nobody_listens_is_reported_once_afterwards() {
    for extended in WIRES {
        let (home, plane) = (Home::new(), FakePlane::start(manners(extended)).await);
        let bridge = Setup::new(&home, plane.url()).start();
        plane.sync(&["demo"]).await;
        let prompt = "#demo silent 1\n#demo long 20000\n#demo nofile";
        plane.send(&wire::dispatch("t", "r", "demo", prompt)).await;
        plane
            .heard(|frame| frame["action"] == "heartbeat" && frame["status"] == "running")
            .await;
        plane.set_manners(Manners::refuse(502, "bad gateway"));
        plane.cut();
        let log = home.root().join("tasks/t/output/agent_log.md");
        while !std::fs::read_to_string(&log)
            .unwrap_or_default()
            .contains("completed")
        {
            refused(&plane, 1).await;
        }
        plane.set_manners(manners(extended));
        assert_eq!(plane.end_of("t", "r").await.status, "completed");
        let text = plane.text_of("t");
        let words: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(words.len(), 20_000, "{extended}");
        assert_eq!((words[0], words[19_999]), ("word1", "word20000"));
        assert_eq!(plane.ends_of("t").len(), if extended { 1 } else { 2 });
        assert!(bridge.stop().await.clean);
    }
}

#[tokio::test]
async fn a_hub_that_asks_about_a_run_gets_its_end_once_more_or_hears_whether_it_is_here() {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::extended()).await);
    let bridge = Setup::new(&home, plane.url()).start();
    plane.sync(&["demo"]).await;
    let end = plane
        .run("t", "ended", "demo", "#demo fast\n#demo nofile")
        .await;
    assert_eq!(end.status, "completed");
    let working = "#demo slow 600\n#demo nofile";
    plane
        .send(&wire::dispatch("t", "working", "demo", working))
        .await;
    plane
        .send(&wire::dispatch("t", "queued", "demo", working))
        .await;
    // The answer to an end is the end, so it need not be waited for.
    plane.send(&wire::check("t", "ended", "demo")).await;
    for (request, known) in [("working", true), ("queued", true), ("never", false)] {
        plane.send(&wire::check("t", request, "demo")).await;
        let id = format!("check-{request}");
        let answer = plane
            .heard(|frame| frame["action"] == "run_checked" && frame["requestId"] == id)
            .await;
        assert_eq!(
            (&answer["taskId"], &answer["executionId"], &answer["known"]),
            (&"t".into(), &request.into(), &known.into())
        );
    }
    let ends = plane.ends_of("t");
    assert_eq!(ends.len(), 2, "{}", plane.told());
    for key in ["run", "n", "body"] {
        assert_eq!(ends[0]["event"][key], ends[1]["event"][key]);
    }
    plane.send(&wire::cancel("t", "demo")).await;
    assert_eq!(plane.end_of("t", "working").await.status, "cancelled");
    assert!(bridge.stop().await.clean);
}

#[tokio::test]
async fn a_full_outbox_slows_the_agent_and_loses_nothing() {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::extended()).await);
    let mut setup = Setup::new(&home, plane.url());
    setup.limits.outbox = 32 * 1024;
    let bridge = setup.start();
    plane.sync(&["demo", "fake"]).await;
    plane.order(Order::Stall).await;
    plane
        .send(&wire::dispatch("t", "r", "fake", "@stream 5000"))
        .await;
    home.logged("t", "w100 ").await;
    plane.order(Order::GoOn).await;
    assert_eq!(plane.end_of("t", "r").await.status, "completed");
    let text = plane.text_of("t");
    assert_eq!(text.split_whitespace().count(), 5000);
    assert!(bridge.stop().await.clean);
}

#[tokio::test]
async fn the_handshake_is_the_first_frame_of_every_connection() {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::extended()).await);
    let bridge = Setup::new(&home, plane.url()).start();
    plane.sync(&["demo"]).await;
    plane
        .send(&wire::dispatch("t", "r", "demo", "#demo slow 600"))
        .await;
    plane.says("t", "Step 1").await;
    let codes = [1000, 1001, 1011, 1012, 1013, 4000];
    for (n, code) in codes.into_iter().enumerate() {
        plane.close(code, "as you were");
        plane.opened(n as u64 + 2).await;
    }
    plane.cut();
    let last = codes.len() as u64 + 2;
    plane.opened(last).await;
    plane
        .see(|heard| heard.conn == last && frame(heard).is_some())
        .await;
    for conn in 1..=last {
        let log = plane.log();
        let first = log
            .iter()
            .filter(|heard| heard.conn == conn)
            .find_map(frame);
        // A connection may be closed before anything was said on it.
        assert!(
            first.is_none_or(|first| first["action"] == "handshake"),
            "{conn}: {first:?}"
        );
    }
    assert!(bridge.stop().await.clean);
}

#[tokio::test]
async fn a_refused_token_waits_for_another_and_uses_it_at_once() {
    let token = Some("good".to_owned());
    let plane = FakePlane::start(Manners::Accept {
        extended: true,
        token,
    })
    .await;
    let home = Home::new();
    let mut setup = Setup::new(&home, plane.url());
    setup.token = "bad".into();
    let mut bridge = setup.start();
    let state = bridge
        .state(|state| state.phase == Phase::AuthRequired)
        .await;
    assert!(state.last_error.is_some_and(|error| error.contains("401")));
    let wait = state.next_retry.unwrap() - state.since;
    assert!(wait > Duration::from_secs(1), "slowly: {wait:?}");
    bridge.set_token("good");
    bridge.state(|state| state.phase == Phase::Online).await;
    let opened = plane
        .see(|heard| matches!(heard.what, What::Opened(_)))
        .await;
    assert_eq!(opened.conn, 2, "it was not asked in between");
    assert!(bridge.stop().await.clean);
}

#[tokio::test]
async fn a_token_that_is_taken_away_is_waited_for_and_the_run_goes_on() {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::extended()).await);
    let mut bridge = Setup::new(&home, plane.url()).start();
    plane.sync(&["demo"]).await;
    plane
        .send(&wire::dispatch(
            "t",
            "r",
            "demo",
            "#demo slow 1\n#demo nofile",
        ))
        .await;
    plane.says("t", "Step 1").await;
    plane.set_manners(Manners::Accept {
        extended: true,
        token: Some("new".into()),
    });
    plane.close(1008, "revoked");
    bridge
        .state(|state| state.phase == Phase::AuthRequired)
        .await;
    bridge.set_token("new");
    assert_eq!(plane.end_of("t", "r").await.status, "completed");
    assert!(plane.text_of("t").contains("Step 2 of 2."));
    assert!(bridge.stop().await.clean);
}

#[tokio::test]
async fn a_login_page_in_between_is_no_verdict_about_the_token() {
    let (home, plane) = (
        Home::new(),
        FakePlane::start(Manners::refuse(403, "<html>token?")).await,
    );
    let mut bridge = Setup::new(&home, plane.url()).start();
    refused(&plane, 5).await;
    assert_ne!(bridge.state.borrow().phase, Phase::AuthRequired);
    plane.set_manners(Manners::extended());
    bridge.state(|state| state.phase == Phase::Online).await;
    assert!(bridge.stop().await.clean);
}

#[tokio::test]
async fn a_plane_that_falls_asleep_is_left_and_the_run_is_reported_to_the_next() {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::extended()).await);
    let mut setup = Setup::new(&home, plane.url());
    setup.timings.ping = Duration::from_millis(200);
    setup.timings.silence = Duration::from_millis(1500);
    let mut bridge = setup.start();
    plane.sync(&["demo"]).await;
    plane
        .send(&wire::dispatch(
            "t",
            "r",
            "demo",
            "#demo slow 4\n#demo nofile",
        ))
        .await;
    plane.says("t", "Step 1").await;
    // Only a plane that answers pings is judged by them.
    bridge.state(|state| state.round_trip.is_some()).await;
    plane.order(Order::Stall).await;
    plane.opened(2).await;
    assert_eq!(plane.end_of("t", "r").await.status, "completed");
    assert!(bridge.stop().await.clean);
}

#[tokio::test]
async fn what_was_written_to_a_connection_that_died_unread_comes_again_and_once() {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::extended()).await);
    let bridge = Setup::new(&home, plane.url()).start();
    plane.sync(&["demo", "fake"]).await;
    plane.order(Order::Stall).await;
    plane
        .send(&wire::dispatch("t", "r", "fake", "@stream 5000"))
        .await;
    home.logged("t", "completed").await;
    assert_eq!(plane.ends_of("t").len(), 0, "nothing was read");
    plane.cut();
    assert_eq!(plane.end_of("t", "r").await.status, "completed");
    let text = plane.text_of("t");
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(words.len(), 5000, "{text}");
    assert_eq!((words[0], words[4999]), ("w1", "w5000"));
    assert_eq!(plane.ends_of("t").len(), 1);
    assert!(bridge.stop().await.clean);
}

#[tokio::test]
async fn a_plane_that_never_answers_the_dial_is_given_up() {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::Silent).await);
    let mut setup = Setup::new(&home, plane.url());
    setup.limits.dial = Duration::from_millis(300);
    let mut bridge = setup.start();
    let state = bridge
        .state(|state| state.attempt >= 2 && state.last_error.is_some())
        .await;
    assert!(state.last_error.is_some(), "{state:?}");
    plane.set_manners(Manners::HangUp);
    bridge.state(|state| state.attempt >= 4).await;
    plane.set_manners(Manners::plain());
    bridge.state(|state| state.phase == Phase::Online).await;
    assert!(bridge.stop().await.clean);
}

#[tokio::test]
async fn a_new_pairing_is_used_without_a_restart() {
    let token = Some("new-token".to_owned());
    let plane = FakePlane::start(Manners::Accept {
        extended: true,
        token,
    })
    .await;
    let home = Home::new();
    let work = home.workspace().display().to_string();
    let url = plane.url();
    let setup = [
        "setup",
        "--token-stdin",
        "--workspace",
        &work,
        "--url",
        &url,
    ];
    assert_eq!(home.run(&setup, "old-token\n").await.code, Some(1));
    let mut command = home.ctrlnode(&["bridge", "start"]);
    command.env("RECONNECT_MS", "100");
    // What it asks over HTTP would be connections here as well.
    command.env("CTRLNODE_SIDE_CHANNEL", "off");
    let mut bridge = Running::start(command);
    plane
        .see(|heard| matches!(heard.what, What::Refused(_)))
        .await;
    bridge
        .line(|line| line.contains("does not accept the pairing token"))
        .await;
    assert_eq!(home.run(&setup, "new-token\n").await.code, Some(0));
    let opened = plane
        .see(|heard| matches!(heard.what, What::Opened(_)))
        .await;
    assert!(opened.conn <= 3, "{}", plane.told());
    assert_eq!(bridge.terminate().await, Some(0));
}

#[tokio::test]
async fn a_plane_that_repeats_the_token_does_not_bring_it_into_logs_or_notes() {
    let token = "ctrlb_0123456789abcdef";
    let home = Home::new();
    let plane = FakePlane::start(Manners::plain()).await;
    let mut command = home.ctrlnode(&["bridge", "start", "--log", "trace"]);
    command
        .env("PAIRING_TOKEN", token)
        .env("SAAS_URL", plane.url())
        .env("CTRLNODE_SIDE_CHANNEL", "off")
        .env("BASE_PATH", home.workspace());
    let mut bridge = Running::start(command);
    plane.opened(1).await;
    plane.set_manners(Manners::refuse(401, &format!("token {token}")));
    plane.close(1008, &format!("unknown token {token}\u{1b}[2J"));
    bridge.line(|line| line.contains("does not accept")).await;
    let note = home.root().join("link.json");
    let noted = loop {
        let text = std::fs::read_to_string(&note).unwrap_or_default();
        if text.contains("token_refused") {
            break text;
        }
        tokio::task::yield_now().await;
    };
    assert!(noted.contains("[token]"), "{noted}");
    assert_eq!(bridge.terminate().await, Some(0));
    let told = bridge.told() + &noted;
    let piece = token.get(..12).unwrap();
    assert!(!told.contains(piece), "{told}");
}
