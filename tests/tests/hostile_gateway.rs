//! A gateway of OpenClaw that does not behave. The promises are those of `hostile_agents`, as far
//! as they apply to something that is no process of ours.

#![cfg(unix)]

use std::sync::Arc;

use bridge_proto::model::{Outcome, RunEvent, ToolState, ToolStatus};
use bridge_providers::provider::Provider;
use bridge_testkit::{
    bridge,
    fake_gateway::{FakeGateway, Manners},
    home::Home,
    talk::Talk,
};

/// A conversation with such a gateway.
struct Bench {
    home: Home,
    _gateway: FakeGateway,
    talk: Talk,
}

impl Bench {
    async fn open() -> Self {
        let home = Home::new();
        let gateway = FakeGateway::start(Manners::default());
        let provider: Arc<dyn Provider> = bridge::openclaw(&home, &gateway);
        let talk = Talk::open(&home, "openclaw", provider.as_ref(), TASK).await;
        Self {
            home,
            _gateway: gateway,
            talk,
        }
    }

    /// The turn ends well, and its answer is this.
    async fn completes(&mut self, prompt: &str, answer: &str) {
        self.talk.say(prompt).await;
        let end = self.talk.over().await;
        assert_eq!(end.outcome, Outcome::Completed, "{:?}", self.talk.seen);
        assert_eq!(end.answer, answer, "{:?}", self.talk.seen);
    }

    async fn close(mut self) {
        self.talk.still_works("@say well").await;
        self.talk.close(&self.home, TASK).await;
    }

    fn others(&self) -> usize {
        let others = self.talk.seen.iter();
        others
            .filter(|event| matches!(event, RunEvent::Other { .. }))
            .count()
    }

    fn tools(&self) -> Vec<&ToolState> {
        let seen = self.talk.seen.iter();
        seen.filter_map(|event| {
            let RunEvent::Tool(tool) = event else {
                return None;
            };
            Some(tool)
        })
        .collect()
    }
}

#[tokio::test]
async fn noise_and_escape_sequences_are_no_words_of_the_agent() {
    let mut bench = Bench::open().await;
    let prompt = "@garbage\n@escapes\n@say before \n@escapes\n@garbage\n@say after";
    bench.completes(prompt, "before\n\nafter").await;
    let told = format!("{:?}", bench.talk.seen);
    assert!(
        !told.contains("\\u{1b}") && !told.contains("\\u{202e}"),
        "{told}"
    );
    bench.close().await;
}

#[tokio::test]
async fn messages_of_the_wrong_shape_change_nothing() {
    let mut bench = Bench::open().await;
    let prompt = "@wrong\n@say one \n@wrong\n@tool\n@wrong\n@say two";
    bench.completes(prompt, "one\n\ntwo").await;
    let last = bench.tools().pop().map(|tool| tool.status);
    assert_eq!(last, Some(ToolStatus::Completed));
    bench.close().await;
}

#[tokio::test]
async fn what_nobody_knows_is_passed_on_and_the_turn_goes_on() {
    let mut bench = Bench::open().await;
    bench.completes("@unknown\n@say after", "after").await;
    assert_eq!(bench.others(), 2, "{:?}", bench.talk.seen);
    bench.close().await;
}

#[tokio::test]
async fn a_reason_to_stop_that_nobody_knows_ends_the_turn() {
    let mut bench = Bench::open().await;
    bench.completes("@say words\n@odd-end", "words").await;
    bench.close().await;
}

#[tokio::test]
async fn answers_to_nothing_change_nothing() {
    let mut bench = Bench::open().await;
    bench
        .completes("@stray\n@say one\n@stray\n@say two", "one\n\ntwo")
        .await;
    bench.close().await;
}

#[tokio::test]
async fn ids_that_are_used_twice_confuse_nobody() {
    let mut bench = Bench::open().await;
    bench.talk.say("@reuse\n@ask\n@say after").await;
    let (end, asked) = bench.talk.over_allowing().await;
    assert_eq!((end.outcome, asked), (Outcome::Completed, 1));
    assert!(end.answer.ends_with("after"), "{}", end.answer);
    let three = bench.tools().iter().any(|tool| {
        let output = tool.output.as_deref();
        output.is_some_and(|text| text.contains("three"))
    });
    assert!(!three, "an event that was told is told again");
    bench.close().await;
}

#[tokio::test]
async fn a_flood_of_increments_is_all_there_and_in_order() {
    let mut bench = Bench::open().await;
    let wanted: Vec<String> = (1..=FLOOD).map(|n| format!("w{n} ")).collect();
    let wanted = wanted.concat();
    bench.completes(&format!("@stream {FLOOD}"), &wanted).await;
    assert!(
        bench.talk.text() == wanted,
        "what was shown is another text"
    );
    bench.close().await;
}

const TASK: &str = "hostile";
/// The gateway tells the whole text with each increment.
const FLOOD: u64 = 3000;
