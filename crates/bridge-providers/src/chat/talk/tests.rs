//! The rules of a conversation, in virtual time, without an endpoint and without files.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test that meets something else shall fail"
)]

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::chat::settings::{BaseUrl, ChatSettings};

/// A conversation, what it wanted done, and its clock.
struct Scene {
    talk: Talk,
    now: Instant,
    acts: Vec<Act>,
}

impl Scene {
    fn with(change: impl FnOnce(&mut ChatSettings)) -> Self {
        let mut settings = ChatSettings::new("E", BaseUrl::parse("http://h").unwrap());
        change(&mut settings);
        let rules = Rules::of(&settings);
        Self {
            talk: Talk::new(rules, Path::new("/work"), "m".into(), History::default()),
            now: Instant::now(),
            acts: Vec::new(),
        }
    }

    fn begun() -> Self {
        let mut scene = Self::with(|_| {});
        scene.begin("do it");
        scene
    }

    fn begin(&mut self, prompt: &str) {
        self.talk.begin(self.now, prompt, 0);
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    /// Lets the deadline come, if there is one.
    fn wait(&mut self) -> Duration {
        let due = self.talk.deadline().expect("there is a deadline");
        let waited = due.saturating_duration_since(self.now);
        self.now = due;
        self.talk.on_timeout(self.now);
        waited
    }

    /// What it wants done now.
    fn acts(&mut self) -> Vec<Act> {
        let mut acts = Vec::new();
        while let Some(act) = self.talk.next_act() {
            acts.push(act);
        }
        self.acts.extend(acts.iter().cloned());
        acts
    }

    /// The one request among what it wants done now.
    fn request(&mut self) -> Value {
        let acts = self.acts();
        let mut requests = acts.into_iter().filter_map(|act| match act {
            Act::Request(body) => Some(body),
            _ => None,
        });
        let request = requests.next().expect("a request");
        assert_eq!(requests.next(), None);
        request
    }

    fn head(&mut self, status: u16) {
        let head = Head {
            status,
            kind: "text/event-stream".into(),
            ..Head::default()
        };
        self.talk.on_head(self.now, head);
    }

    fn event(&mut self, document: &Value) {
        let text = format!("data: {document}\n\n");
        self.talk.on_bytes(self.now, text.as_bytes());
    }

    fn delta(&mut self, delta: &Value) {
        self.event(&json!({ "choices": [{ "delta": delta }] }));
    }

    /// A whole answer with this text, these calls and this reason to stop.
    fn answer(&mut self, text: &str, calls: &[(&str, Value)], reason: &str) {
        self.head(200);
        if !text.is_empty() {
            self.delta(&json!({ "content": text }));
        }
        for (at, (name, arguments)) in calls.iter().enumerate() {
            let arguments = arguments
                .as_str()
                .map_or_else(|| arguments.to_string(), Into::into);
            self.delta(
                &json!({ "tool_calls": [{ "index": at, "id": format!("m{at}"),
                "function": { "name": name, "arguments": arguments } }] }),
            );
        }
        self.event(&json!({ "choices": [{ "delta": {}, "finish_reason": reason }] }));
        self.talk.on_response_end(self.now);
    }

    fn refuse(&mut self, status: u16, message: &str) {
        self.refuse_for(status, message, None);
    }

    fn refuse_for(&mut self, status: u16, message: &str, seconds: Option<u64>) {
        let head = Head {
            status,
            retry_after: seconds.map(Duration::from_secs),
            ..Head::default()
        };
        self.talk.on_head(self.now, head);
        let body = json!({ "error": { "message": message } }).to_string();
        self.talk.on_bytes(self.now, body.as_bytes());
        self.talk.on_response_end(self.now);
    }

    fn over(&mut self) -> End {
        let acts = self.acts();
        match acts.last() {
            Some(Act::Over(end)) => end.clone(),
            other => panic!("not over but {other:?} after {acts:?}"),
        }
    }

    fn stop_reason(&mut self) -> &'static str {
        match self.over() {
            End::Stopped { reason, .. } => reason,
            End::Failed { message, .. } => panic!("{message}"),
        }
    }

    fn updates(&self, kind: &str) -> Vec<Value> {
        let updates = self.acts.iter().filter_map(|act| match act {
            Act::Update(update) if update["sessionUpdate"] == kind => Some(update.clone()),
            _ => None,
        });
        updates.collect()
    }

    /// The status the call with this name had last.
    fn last_status(&self, id: &str) -> String {
        let status = self.acts.iter().rev().find_map(|act| match act {
            Act::Update(update) if update["toolCallId"] == id => update["status"].as_str(),
            _ => None,
        });
        status.unwrap_or_default().to_owned()
    }
}

fn read_call() -> (&'static str, Value) {
    ("read_file", json!({ "path": "a" }))
}

fn write_call() -> (&'static str, Value) {
    ("write_file", json!({ "path": "a", "content": "new" }))
}

/// A change as the files would work it out.
fn change() -> Change {
    let folder = tempfile::TempDir::new().unwrap();
    let place = crate::chat::place::Place::open(folder.path(), &[]).unwrap();
    let deed = Deed::read("write_file", &write_call().1.to_string()).unwrap();
    place.prepare(&deed).unwrap()
}

#[test]
fn an_answer_without_calls_ends_the_turn() {
    let mut scene = Scene::begun();
    let request = scene.request();
    assert_eq!(request["messages"][1]["content"], "do it");
    scene.answer("Done.", &[], "stop");
    assert_eq!(scene.stop_reason(), "end_turn");
    assert_eq!(scene.updates("agent_message_chunk").len(), 1);
    assert_eq!(scene.talk.deadline(), None);
    scene.begin("and now?");
    let request = scene.request();
    assert_eq!(request["messages"][2]["content"], "Done.");
    assert_eq!(request["messages"][3]["content"], "and now?");
}

#[test]
fn a_call_that_looks_is_made_without_a_question_and_its_result_goes_back() {
    let mut scene = Scene::begun();
    scene.request();
    scene.answer("I look.", &[read_call()], "tool_calls");
    let acts = scene.acts();
    assert!(
        matches!(acts.last(), Some(Act::Look(Deed::Read { .. }))),
        "{acts:?}"
    );
    scene.talk.on_looked(scene.now, Ok("content".into()));
    let request = scene.request();
    assert_eq!(request["messages"][3]["content"], "content");
    assert_eq!(request["messages"][3]["tool_call_id"], "m0");
    assert_eq!(scene.last_status("call-1"), "completed");
    scene.answer("It says content.", &[], "stop");
    assert_eq!(scene.stop_reason(), "end_turn");
}

#[test]
fn a_change_is_shown_asked_for_and_made() {
    let mut scene = Scene::begun();
    scene.request();
    scene.answer("", &[write_call()], "tool_calls");
    assert!(matches!(scene.acts().last(), Some(Act::Prepare(_))));
    scene.talk.on_prepared(scene.now, Ok(change()));
    let acts = scene.acts();
    let Some(Act::Ask(call)) = acts.last() else {
        panic!("{acts:?}")
    };
    assert_eq!(call["content"][0]["newText"], "new");
    assert_eq!(scene.talk.deadline(), None, "a person is not hurried");
    scene.talk.on_verdict(scene.now, Verdict::Once);
    let Some(Act::Apply(applied)) = scene.acts().pop() else {
        panic!("not applied")
    };
    assert_eq!(applied.new, "new");
    scene.talk.on_applied(scene.now, Ok(()));
    scene.request();
    assert_eq!(scene.last_status("call-1"), "completed");
}

#[test]
fn a_rejected_change_is_not_made_and_the_model_is_told() {
    let mut scene = Scene::begun();
    scene.request();
    scene.answer("", &[write_call()], "tool_calls");
    scene.talk.on_prepared(scene.now, Ok(change()));
    scene.talk.on_verdict(scene.now, Verdict::No);
    let request = scene.request();
    assert_eq!(request["messages"][3]["content"], NOT_ALLOWED);
    assert_eq!(scene.last_status("call-1"), "failed");
    assert!(!scene.acts.iter().any(|act| matches!(act, Act::Apply(_))));
}

#[test]
fn allowed_for_the_conversation_means_not_asked_again_in_it() {
    let mut scene = Scene::begun();
    scene.request();
    scene.answer("", &[write_call(), write_call()], "tool_calls");
    scene.talk.on_prepared(scene.now, Ok(change()));
    scene.talk.on_verdict(scene.now, Verdict::Always);
    scene.talk.on_applied(scene.now, Ok(()));
    scene.talk.on_prepared(scene.now, Ok(change()));
    let asked = |scene: &Scene| {
        let asks = scene.acts.iter().filter(|act| matches!(act, Act::Ask(_)));
        asks.count()
    };
    assert!(matches!(scene.acts().last(), Some(Act::Apply(_))));
    assert_eq!(asked(&scene), 1);
    scene.talk.on_applied(scene.now, Ok(()));
    scene.answer("ok", &[], "stop");
    scene.stop_reason();
    scene.begin("again");
    scene.answer("", &[write_call()], "tool_calls");
    scene.talk.on_prepared(scene.now, Ok(change()));
    assert!(matches!(scene.acts().last(), Some(Act::Apply(_))));
}

#[test]
fn the_time_a_person_takes_does_not_count() {
    let mut scene = Scene::begun();
    scene.request();
    scene.answer("", &[write_call()], "tool_calls");
    scene.talk.on_prepared(scene.now, Ok(change()));
    scene.pass(24 * 3600);
    scene.talk.on_timeout(scene.now);
    scene.talk.on_verdict(scene.now, Verdict::No);
    scene.request();
    assert!(scene.talk.deadline().unwrap() > scene.now);
}

#[test]
fn a_call_that_cannot_be_made_is_answered_with_what_is_wrong() {
    let mut scene = Scene::begun();
    scene.request();
    let calls = [("rm", json!({})), ("read_file", json!("{\"path\":"))];
    scene.answer("", &calls, "tool_calls");
    let request = scene.request();
    let said = |at: usize| {
        request["messages"][at]["content"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert!(said(3).contains("no such tool") && said(4).contains("not JSON"));
    assert_eq!(scene.last_status("call-2"), "failed");
}

#[test]
fn a_fenced_call_of_a_model_without_tools_is_made() {
    let mut scene = Scene::begun();
    scene.request();
    let text = "```json\n{\"name\":\"read_file\",\"arguments\":{\"path\":\"a\"}}\n```";
    scene.answer(text, &[], "stop");
    assert!(matches!(scene.acts().last(), Some(Act::Look(_))));
    scene.talk.on_looked(scene.now, Ok("content".into()));
    let request = scene.request();
    assert_eq!(request["messages"][2]["content"], text);
    assert_eq!(request["messages"][3]["role"], "user");
    assert_eq!(scene.updates("agent_message_chunk"), [] as [Value; 0]);
}

#[test]
fn an_endpoint_that_takes_no_tools_is_asked_again_without_them() {
    let mut scene = Scene::begun();
    scene.request();
    scene.refuse(400, "registry/x does not support tools");
    let request = scene.request();
    assert_eq!(request.get("tools"), None);
    assert!(
        request["messages"][0]["content"]
            .as_str()
            .unwrap()
            .contains("read_file")
    );
    scene.refuse(400, "still nothing about tools");
    assert!(matches!(scene.over(), End::Failed { code: 400, .. }));
}

#[test]
fn out_of_calls_the_turn_stops() {
    let mut scene = Scene::with(|settings| settings.max_turns = 2);
    scene.begin("do it");
    for _ in 0..2 {
        scene.request();
        scene.answer("", &[read_call()], "tool_calls");
        scene.talk.on_looked(scene.now, Ok("x".into()));
    }
    assert_eq!(scene.stop_reason(), "max_turn_requests");
    scene.begin("go on");
    scene.request();
}

#[test]
fn reasons_to_stop_are_told_from_each_other() {
    for (reason, calls, wanted) in [
        ("length", vec![], "max_tokens"),
        ("content_filter", vec![read_call()], "refusal"),
        (
            "length",
            vec![("write_file", json!("{\"path\":\"a\",\"con"))],
            "max_tokens",
        ),
        ("anything", vec![], "end_turn"),
    ] {
        let mut scene = Scene::begun();
        scene.request();
        scene.answer("Well", &calls, reason);
        assert_eq!(scene.stop_reason(), wanted, "{reason}");
        scene.begin("go on");
        let request = scene.request();
        assert_eq!(request["messages"][2].get("tool_calls"), None, "{reason}");
    }
}

#[test]
fn an_answer_with_nothing_in_it_is_a_failure_unless_something_was_said() {
    let mut scene = Scene::begun();
    scene.request();
    scene.answer("", &[], "stop");
    assert!(matches!(scene.over(), End::Failed { .. }));
    scene.begin("again");
    scene.answer("I look.", &[read_call()], "tool_calls");
    scene.talk.on_looked(scene.now, Ok("x".into()));
    scene.answer("", &[], "stop");
    assert_eq!(scene.stop_reason(), "end_turn");
}

#[test]
fn what_passes_is_tried_again_and_each_time_told() {
    let mut scene = Scene::begun();
    scene.request();
    for attempt in 1..=4 {
        scene.refuse(503, "overloaded");
        let acts = scene.acts();
        let Some(Act::Retrying(retry)) = acts.last() else {
            panic!("{acts:?}")
        };
        assert_eq!(
            (&retry["attempt"], &retry["limit"]),
            (&json!(attempt), &json!(4))
        );
        assert_eq!(retry["reason"], "overloaded");
        let waited = scene.wait();
        assert!(waited >= Duration::from_millis(500) && waited < Duration::from_secs(12));
        scene.request();
    }
    scene.refuse(503, "overloaded");
    let wanted = End::Failed {
        code: 503,
        message: "overloaded (after 4 more tries)".into(),
    };
    assert_eq!(scene.over(), wanted);
}

#[test]
fn a_wait_the_service_asks_for_is_kept_and_a_long_one_refused() {
    let mut scene = Scene::begun();
    scene.request();
    scene.refuse_for(429, "slow down", Some(17));
    scene.acts();
    assert_eq!(scene.wait(), Duration::from_secs(17));
    scene.request();
    scene.refuse_for(429, "come back tomorrow", Some(86_400));
    assert!(matches!(scene.over(), End::Failed { code: 429, .. }));
}

#[test]
fn what_does_not_pass_ends_the_turn_with_its_status() {
    for status in [400, 401, 402, 403, 404] {
        let mut scene = Scene::begun();
        scene.request();
        scene.refuse(status, "no");
        let wanted = End::Failed {
            code: status.into(),
            message: "no".into(),
        };
        assert_eq!(scene.over(), wanted);
    }
}

#[test]
fn an_answer_that_was_seen_is_not_begun_again() {
    let mut scene = Scene::begun();
    scene.request();
    scene.head(200);
    scene.delta(&json!({ "content": "I think" }));
    scene.talk.on_broken(scene.now, "reset".into());
    assert!(matches!(scene.over(), End::Failed { .. }));
    scene.begin("go on");
    let request = scene.request();
    assert_eq!(request["messages"][2]["content"], "I think");
    scene.head(200);
    scene.delta(&json!({ "reasoning": "hm" }));
    scene.talk.on_broken(scene.now, "reset".into());
    assert!(matches!(scene.acts().last(), Some(Act::Retrying(_))));
}

#[test]
fn a_silent_endpoint_and_an_endless_turn_have_their_limits() {
    let mut scene = Scene::begun();
    scene.request();
    scene.pass(200);
    scene.head(200);
    assert_eq!(scene.wait(), Duration::from_secs(300));
    assert!(scene.acts().contains(&Act::Abort));
    let End::Failed { message, .. } = (match scene.acts.last() {
        Some(Act::Over(end)) => end.clone(),
        other => panic!("{other:?}"),
    }) else {
        panic!("not failed")
    };
    assert_eq!(message, "no answer within 300 s");

    let mut scene = Scene::begun();
    scene.request();
    scene.head(200);
    for _ in 0..2000 {
        scene.pass(1);
        scene.delta(&json!({ "content": "on and on " }));
        scene.talk.on_timeout(scene.now);
    }
    let End::Failed { message, .. } = scene.over() else {
        panic!("not failed")
    };
    assert_eq!(message, "no final answer within 30 min");
}

#[test]
fn a_cancel_ends_the_turn_at_once_and_leaves_a_history_that_can_go_on() {
    let mut answering = Scene::begun();
    answering.request();
    answering.head(200);
    answering.delta(&json!({ "content": "I beg" }));
    let mut acting = Scene::begun();
    acting.request();
    acting.answer("", &[write_call(), read_call()], "tool_calls");
    acting.talk.on_prepared(acting.now, Ok(change()));
    let mut waiting = Scene::begun();
    waiting.request();
    waiting.refuse(500, "x");
    for mut scene in [answering, acting, waiting] {
        scene.acts();
        scene.talk.cancel();
        assert_eq!(scene.stop_reason(), "cancelled");
        scene.talk.on_verdict(scene.now, Verdict::Once);
        scene.talk.on_bytes(scene.now, b"data: x\n\n");
        scene.talk.on_response_end(scene.now);
        assert_eq!(scene.acts(), [], "nothing happens after it");
        scene.begin("go on");
        let request = scene.request();
        let messages = request["messages"].as_array().unwrap();
        let calls: usize = messages
            .iter()
            .filter_map(|message| message["tool_calls"].as_array())
            .map(Vec::len)
            .sum();
        let results = messages.iter().filter(|message| message["role"] == "tool");
        assert_eq!(calls, results.count());
    }
}

#[test]
fn tokens_and_money_of_all_requests_are_added_up() {
    let mut scene = Scene::begun();
    for _ in 0..2 {
        scene.request();
        scene.head(200);
        scene.event(&json!({ "choices": [], "usage":
            { "prompt_tokens": 10, "completion_tokens": 2, "cost": 0.25 } }));
        scene.answer("", &[read_call()], "tool_calls");
        scene.talk.on_looked(scene.now, Ok("x".into()));
    }
    scene.request();
    scene.answer("ok", &[], "stop");
    let End::Stopped { usage, .. } = scene.over() else {
        panic!("failed")
    };
    assert_eq!(
        (usage.input_tokens, usage.output_tokens),
        (Some(20), Some(4))
    );
    let costs = scene.updates("usage_update");
    assert_eq!(costs.last().unwrap()["cost"]["amount"], 0.5);
}

#[test]
fn answers_to_questions_nobody_asked_change_nothing() {
    let mut scene = Scene::begun();
    scene.request();
    let now = scene.now;
    scene.talk.on_verdict(now, Verdict::Always);
    scene.talk.on_looked(now, Ok("x".into()));
    scene.talk.on_applied(now, Ok(()));
    scene.talk.on_prepared(now, Ok(change()));
    assert_eq!(scene.acts(), []);
    scene.answer("", &[write_call()], "tool_calls");
    scene.talk.on_prepared(now, Ok(change()));
    assert!(matches!(scene.acts().last(), Some(Act::Ask(_))));
}
