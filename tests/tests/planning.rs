//! Plans of pipelines: an agent is asked, changes nothing, and whoever asked always hears the end.

#![cfg(unix)]

use std::time::Duration;

use bridge_providers::custom::{PromptBy, Protocol};
use bridge_testkit::{
    bridge::{self, Bridge, Setup},
    fake_plane::{FakePlane, Heard, Manners, What},
    home::Home,
};
use serde_json::{Value, json};

struct World {
    home: Home,
    plane: FakePlane,
    bridge: Bridge,
}

async fn world(change: impl FnOnce(&mut Setup<'_>)) -> World {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::plain()).await);
    let mut setup = Setup::new(&home, plane.url());
    change(&mut setup);
    let bridge = setup.start();
    plane.sync(&["demo", "fake", "claude"]).await;
    World {
        home,
        plane,
        bridge,
    }
}

impl World {
    /// The result of a plan, with the phases that were told before it.
    async fn plan(&self, request: &str, agent: &str, prompt: &str) -> (Value, Vec<Value>) {
        let frame = json!({
            "action": "generate_graph_blueprint", "requestId": request, "agentId": agent,
            "args": { "prompt": prompt },
        });
        self.plane.send(&frame).await;
        self.result(request).await
    }

    async fn result(&self, request: &str) -> (Value, Vec<Value>) {
        let of = |frame: &Value, action: &str| {
            frame["requestId"] == request && frame["action"] == action
        };
        let result = self.plane.heard(|frame| of(frame, "intent_result")).await;
        let mut phases = self.plane.frames();
        phases.retain(|frame| of(frame, "graph_generation_progress"));
        let told = phases.iter().map(|frame| frame["phase"].clone());
        (result, told.collect())
    }

    async fn finish(self) {
        assert!(self.bridge.stop().await.clean, "{}", self.plane.told());
        self.home.none_left().await;
    }
}

fn document() -> Value {
    json!({
        "name": "Report", "description": "", "topology": "single", "templateFamily": "blank",
        "schedule": {
            "kind": "manual", "time": null, "days": null, "hours": null, "timezone": null,
            "cron": null,
        },
        "agentMode": "single", "agents": [],
        "nodes": [{
            "key": "one", "label": "One", "instructions": "", "taskMode": "output",
            "focusFiles": [], "outputFolder": "", "dependsOn": [], "agentKey": null,
        }],
    })
}

#[tokio::test]
async fn an_agent_plans_and_is_allowed_nothing_meanwhile() {
    let world = world(|_| {}).await;
    let document = document().to_string();
    for agent in ["fake", "claude"] {
        let prompt = format!("@ask\n@say {document}");
        let (result, phases) = world.plan(agent, agent, &prompt).await;
        let text = result["result"].as_str().unwrap_or_default();
        assert!(text.starts_with('{'), "{agent}: {result}");
        let parsed: Value = serde_json::from_str(text).unwrap();
        assert_eq!(parsed["name"], "Report", "{agent}");
        assert_eq!(result["providerMethod"], "graph.generate");
        assert_eq!(phases, ["accepted", "planning", "completed"], "{agent}");
    }
    let waits = |frame: &Value| frame["action"] == "task_waiting_for_input";
    assert!(!world.plane.frames().iter().any(waits), "nobody is asked");
    world.finish().await;
}

#[tokio::test]
async fn whatever_goes_wrong_the_asker_hears_of_it_with_its_code() {
    let world = world(|_| {}).await;
    let (result, phases) = world.plan("1", "nobody", "plan").await;
    assert_eq!(result["error"], "AGENT_NOT_FOUND");
    assert_eq!(phases, Vec::<Value>::new());
    let (result, phases) = world.plan("2", "fake", " ").await;
    assert_eq!(result["error"], "MISSING_INTENT_PAYLOAD");
    assert_eq!(phases, ["accepted"]);
    let (result, phases) = world.plan("3", "fake", "@say I would rather not").await;
    let error = result["error"].as_str().unwrap_or_default();
    assert!(
        error.starts_with("GRAPH_GENERATION_PROVIDER_ERROR: "),
        "{result}"
    );
    assert_eq!(phases, ["accepted", "planning", "failed"]);
    let (result, _) = world.plan("4", "fake", "@exit 3").await;
    let error = result["error"].as_str().unwrap_or_default();
    assert!(
        error.starts_with("GRAPH_GENERATION_PROVIDER_ERROR"),
        "{result}"
    );
    let mut missing = document();
    missing.as_object_mut().unwrap().remove("agentMode");
    let (result, _) = world.plan("5", "fake", &format!("@say {missing}")).await;
    let error = result["error"].as_str().unwrap_or_default();
    assert!(error.contains("agentMode"), "{result}");
    world.finish().await;
}

#[tokio::test]
async fn a_planner_that_does_not_end_is_ended_in_time_and_at_the_stop() {
    let quick = world(|setup| setup.planning = Duration::from_secs(1)).await;
    let (result, _) = quick.plan("1", "fake", "@hang").await;
    assert_eq!(result["error"], "GRAPH_GENERATION_TIMEOUT");
    quick.finish().await;

    let patient = world(|_| {}).await;
    let frame = json!({
        "action": "generate_graph_blueprint", "requestId": "1", "agentId": "fake",
        "content": "@say thinking\n@hang",
    });
    patient.plane.send(&frame).await;
    patient
        .plane
        .heard(|frame| frame["phase"] == "planning")
        .await;
    patient.finish().await;
}

#[tokio::test]
async fn an_agent_that_asks_for_nothing_is_not_let_plan() {
    let world = world(|setup| {
        let protocol = Protocol::Exec(PromptBy::Input);
        let exec = bridge::fake_in(setup.home, "exec", &["exec"], protocol);
        setup.providers.push(exec);
    })
    .await;
    world.plane.sync(&["exec"]).await;
    let (result, _) = world.plan("1", "exec", "plan").await;
    assert_eq!(result["error"], "GRAPH_GENERATION_UNSUPPORTED_PROVIDER");
    world.finish().await;
}

#[tokio::test]
async fn many_plans_wait_for_their_turn_and_each_is_answered() {
    let world = world(|_| {}).await;
    let document = document().to_string();
    for request in 0..8 {
        let frame = json!({
            "action": "generate_graph_blueprint", "requestId": format!("r{request}"),
            "agentId": "fake", "content": format!("@say {document}"),
        });
        world.plane.send(&frame).await;
    }
    for request in 0..8 {
        let (result, _) = world.result(&format!("r{request}")).await;
        assert!(result["error"].is_null(), "{result}");
    }
    world.finish().await;
}

fn request(id: &str, prompt: &str) -> Value {
    json!({
        "action": "generate_graph_blueprint", "requestId": id, "agentId": "fake",
        "args": { "prompt": prompt },
    })
}

impl World {
    /// The result on a connection after so many frames were seen.
    async fn result_after(&self, seen: usize, id: &str) -> Value {
        let result = |frame: &Value| frame["requestId"] == id && frame["action"] == "intent_result";
        self.plane.heard_after(seen, result).await.1
    }

    /// How many times an agent began to plan.
    fn begun(&self) -> usize {
        let frames = self.plane.frames();
        let planning = frames.iter().filter(|frame| frame["phase"] == "planning");
        planning.count()
    }
}

#[tokio::test]
async fn an_asker_that_lost_its_connection_is_told_when_it_asks_again() {
    let world = world(|_| {}).await;
    let document = document().to_string();
    // It takes a second, in which the connection breaks.
    let asked = request("1", &format!("@clock 10 100\n@say {document}"));
    world.plane.send(&asked).await;
    let planning = |frame: &Value| frame["phase"] == "planning";
    world.plane.heard(planning).await;
    world.plane.cut();
    world.plane.opened(2).await;
    let seen = world.plane.seen();
    world.plane.send(&asked).await;
    let moved = world.result_after(seen, "1").await;
    assert!(moved["error"].is_null(), "{moved}");
    let seen = world.plane.seen();
    world.plane.send(&asked).await;
    let again = world.result_after(seen, "1").await;
    assert_eq!(again["result"], moved["result"]);
    assert_eq!(world.begun(), 1, "nothing was planned twice");
    world.finish().await;
}

#[tokio::test]
async fn a_plan_that_became_ready_while_nobody_was_there_is_told_later() {
    let world = world(|_| {}).await;
    let document = document().to_string();
    let asked = request("1", &format!("@clock 5 100\n@say {document}"));
    world.plane.send(&asked).await;
    let planning = |frame: &Value| frame["phase"] == "planning";
    world.plane.heard(planning).await;
    world.plane.set_manners(Manners::refuse(503, "later"));
    world.plane.cut();
    world.home.none_left().await;
    let (dials, opened) = (world.plane.seen(), |heard: &Heard| {
        matches!(heard.what, What::Opened(_))
    });
    world.plane.set_manners(Manners::plain());
    let (seen, _) = world.plane.see_after(dials, opened).await;
    world.plane.send(&asked).await;
    let told = world.result_after(seen, "1").await;
    assert!(told["error"].is_null(), "{told}");
    assert_eq!(world.begun(), 1);
    world.finish().await;
}

#[tokio::test]
async fn too_many_plans_are_refused_and_not_kept_waiting() {
    let world = world(|_| {}).await;
    for n in 0..70 {
        world.plane.send(&request(&format!("r{n}"), "@hang")).await;
    }
    for n in 64..70 {
        let result = world.result_after(0, &format!("r{n}")).await;
        let error = result["error"].as_str().unwrap_or_default();
        assert!(error.ends_with("too many plans wait"), "{result}");
    }
    let ended = |frame: &Value| frame["action"] == "intent_result";
    let frames = world.plane.frames();
    assert_eq!(frames.iter().filter(|frame| ended(frame)).count(), 6);
    world.finish().await;
}
