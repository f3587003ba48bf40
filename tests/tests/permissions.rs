//! Who decides what an agent may do: the user's rules, the settings, a person; and what everybody
//! sees of it.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use bridge_runtime::{ActionKind, CommandRule, Pattern, Rule, RuleDecision, Rules};
use bridge_testkit::{
    bridge::{Bridge, Setup},
    fake_plane::{FakePlane, Manners},
    home::Home,
    wire,
};
use serde_json::{Value, json};

struct World {
    home: Home,
    plane: FakePlane,
    bridge: Bridge,
}

async fn world(manners: Manners, change: impl FnOnce(&mut Setup<'_>)) -> World {
    let (home, plane) = (Home::new(), FakePlane::start(manners).await);
    let mut setup = Setup::new(&home, plane.url());
    change(&mut setup);
    let bridge = setup.start();
    plane.sync(&["fake", "claude"]).await;
    World {
        home,
        plane,
        bridge,
    }
}

impl World {
    async fn finish(self) {
        assert!(self.bridge.stop().await.clean, "{}", self.plane.told());
        self.home.none_left().await;
    }

    async fn seen(&self, kind: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let frame = self.plane.heard(|frame| {
            let event = &frame["event"]["body"]["event"];
            event["kind"] == kind && fits(event)
        });
        frame.await["event"]["body"]["event"].clone()
    }
}

fn command(matches: &str, decision: RuleDecision) -> Rules {
    Rules(vec![Rule {
        agent: None,
        kind: Some(ActionKind::Command),
        tool: None,
        matches: Some(Pattern::parse(matches).unwrap()),
        decision,
    }])
}

#[tokio::test]
async fn a_rule_allows_its_command_where_nobody_watches_and_no_other() {
    for (matches, said) in [
        ("echo *", "It was allowed."),
        ("echo", "It was denied."),
        ("ls *", "It was denied."),
    ] {
        for agent in ["fake", "claude"] {
            let rules = command(matches, RuleDecision::Allow);
            let world = world(Manners::plain(), |setup| setup.rules = rules).await;
            let end = world.plane.run("t", "r", agent, "@ask").await;
            assert_eq!(end.status, "completed");
            assert_eq!(world.plane.text_of("t"), said, "{agent} {matches}");
            world.finish().await;
        }
    }
}

#[tokio::test]
async fn a_rule_denies_its_command_whatever_the_settings_allow_and_says_so() {
    let world = world(Manners::extended(), |setup| {
        setup.policy.commands = CommandRule::Allow;
        setup.rules = command("echo *", RuleDecision::Deny);
    })
    .await;
    let end = world.plane.run("t", "r", "fake", "@ask").await;
    assert_eq!(end.status, "completed");
    assert_eq!(world.plane.text_of("t"), "It was denied.");
    let closed = world.seen("ask_closed", |_| true).await;
    assert_eq!(
        closed["how"],
        json!({ "how": "by_policy", "rule": "rule 1: Run: echo fake" })
    );
    world.finish().await;
}

#[tokio::test]
async fn an_answer_on_its_way_is_seen_by_everybody_until_the_agent_took_it() {
    let world = world(Manners::extended(), |_| {}).await;
    let plane = &world.plane;
    plane.send(&wire::dispatch("t", "r", "fake", "@ask")).await;
    let ask = world.seen("ask", |ask| ask["answered"].is_null()).await;
    let answer = json!({
        "action": "input_response", "taskId": "t", "text": "1", "askId": ask["id"],
        "digest": ask["digest"], "option": "yes",
    });
    plane.send(&answer).await;
    let answered = world.seen("ask", |ask| !ask["answered"].is_null()).await;
    assert_eq!(
        (&answered["id"], &answered["answered"]),
        (&ask["id"], &json!("Allow once"))
    );
    let closed = world.seen("ask_closed", |_| true).await;
    assert_eq!(
        closed["how"],
        json!({ "how": "answered", "answer": "Allow once" })
    );
    assert_eq!(plane.end_of("t", "r").await.status, "completed");
    // Nobody's second answer counts.
    let kinds: Vec<Value> = plane
        .frames()
        .iter()
        .map(|frame| frame["event"]["body"]["event"]["kind"].clone())
        .filter(|kind| kind.as_str().is_some_and(|kind| kind.starts_with("ask")))
        .collect();
    assert_eq!(kinds, ["ask", "ask", "ask_closed"]);
    world.finish().await;
}
