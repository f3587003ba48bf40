//! The print mode of Cursor CLI, driven by lines as its documents show them: nobody here has seen
//! it run.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that meets something else shall fail"
)]

use std::time::{Duration, Instant};

use bridge_proto::model::{Fix, Outcome, RunEvent, ToolStatus};
use bridge_providers::{
    cursor::StreamDialogue,
    dialogue::{Dialogue as _, Exit, Step},
    provider::{Injection, Steer, TurnEnd},
};
use serde_json::{Value, json};

struct Bench {
    dialogue: StreamDialogue,
    now: Instant,
    steps: Vec<Step>,
}

impl Bench {
    fn new(instructions: &str) -> Self {
        let mut dialogue = StreamDialogue::new(instructions, false);
        let now = Instant::now();
        dialogue.on_start(now);
        Self {
            dialogue,
            now,
            steps: Vec::new(),
        }
    }

    fn running() -> Self {
        let mut bench = Self::new("");
        bench.steer(Steer::Prompt("work".into()));
        bench.steps.clear();
        bench
    }

    fn drain(&mut self) {
        while let Some(step) = self.dialogue.next_step() {
            self.steps.push(step);
        }
    }

    fn steer(&mut self, steer: Steer) {
        self.dialogue.on_steer(self.now, steer);
        self.drain();
    }

    fn line(&mut self, message: &Value) {
        self.text(&message.to_string());
    }

    fn text(&mut self, line: &str) {
        self.dialogue.on_line(self.now, line.as_bytes());
        self.drain();
    }

    fn end(&mut self, code: i32, stderr: &str) {
        let exit = Exit {
            code: Some(code),
            signal: None,
            stderr_tail: stderr.into(),
        };
        self.dialogue.on_end(self.now, exit);
        self.drain();
    }

    fn events(&self) -> Vec<RunEvent> {
        let seen = |step: &Step| match step {
            Step::Emit(seen) => Some(seen.event.clone()),
            _ => None,
        };
        self.steps.iter().filter_map(seen).collect()
    }

    fn told(&self) -> Vec<String> {
        let text = |event| match event {
            RunEvent::Text { delta, .. } => Some(delta),
            _ => None,
        };
        self.events().into_iter().filter_map(text).collect()
    }

    fn ends(&self) -> Vec<TurnEnd> {
        let over = |step: &Step| match step {
            Step::TurnOver(end) => Some(end.clone()),
            _ => None,
        };
        self.steps.iter().filter_map(over).collect()
    }

    fn end_of_turn(&self) -> TurnEnd {
        let ends = self.ends();
        let [end] = &ends[..] else { panic!("{ends:?}") };
        end.clone()
    }
}

fn assistant(text: &str, more: &Value) -> Value {
    let mut message = json!({"type": "assistant", "session_id": "s",
        "message": {"role": "assistant", "content": [{"type": "text", "text": text}]}});
    for (name, value) in more.as_object().unwrap() {
        message[name] = value.clone();
    }
    message
}

fn done() -> Value {
    json!({"type": "result", "subtype": "success", "is_error": false, "duration_ms": 5,
        "result": "whole", "session_id": "s"})
}

#[test]
fn the_prompt_goes_to_standard_input_which_is_then_closed() {
    let mut bench = Bench::new("Be nice.");
    bench.steer(Steer::Prompt("work".into()));
    assert_eq!(
        bench.steps[..2],
        [Step::Send("Be nice.\n\nwork".into()), Step::EndInput]
    );
    let Some(RunEvent::Status { text }) = bench.events().pop() else {
        panic!("it says what it cannot do")
    };
    assert!(text.contains("makes none"), "{text}");
}

#[test]
fn text_that_is_repeated_whole_is_told_once() {
    let mut bench = Bench::running();
    bench.line(
        &json!({"type": "system", "subtype": "init", "session_id": "s", "model": "auto",
        "apiKeySource": "login", "permissionMode": "default"}),
    );
    for piece in ["Hello ", "there."] {
        bench.line(&assistant(piece, &json!({"timestamp_ms": 1})));
    }
    bench.line(&assistant(
        "Hello there.",
        &json!({"timestamp_ms": 2, "model_call_id": "m"}),
    ));
    bench.line(
        &json!({"type": "tool_call", "subtype": "started", "call_id": "c",
        "tool_call": {"shellToolCall": {"args": {"command": "ls"}}}}),
    );
    bench.line(
        &json!({"type": "tool_call", "subtype": "completed", "call_id": "c",
        "tool_call": {"shellToolCall": {"args": {"command": "ls"},
            "result": {"success": {"stdout": "a\n", "exitCode": 0}}}}}),
    );
    bench.line(&assistant("Done.", &json!({"timestamp_ms": 3})));
    bench.line(&assistant("Hello there.Done.", &json!({})));
    bench.line(&done());
    assert_eq!(bench.told(), ["Hello ", "there.", "Done."]);
    let end = bench.end_of_turn();
    assert_eq!(end.outcome, Outcome::Completed);
    assert_eq!(end.answer, "Hello there.\n\nDone.");
    let tools: Vec<_> = bench
        .events()
        .into_iter()
        .filter_map(|event| match event {
            RunEvent::Tool(tool) => Some((tool.status, tool.output)),
            _ => None,
        })
        .collect();
    let output = Some("a".to_owned());
    assert_eq!(
        tools,
        [
            (ToolStatus::InProgress, None),
            (ToolStatus::Completed, output)
        ]
    );
    assert!(matches!(bench.steps.last(), Some(Step::CloseInput(_))));
}

#[test]
fn a_version_without_increments_tells_its_messages_whole() {
    let mut bench = Bench::running();
    bench.line(&assistant("One.", &json!({})));
    bench.line(&assistant("Two.", &json!({})));
    bench.line(&done());
    assert_eq!(bench.end_of_turn().answer, "One.\n\nTwo.");
}

#[test]
fn the_chat_can_be_continued_by_its_id() {
    let mut bench = Bench::running();
    bench.line(&json!({"type": "system", "subtype": "init", "session_id": "chat-1"}));
    assert!(matches!(&bench.steps[0], Step::Resumable(id) if id.as_str() == "chat-1"));
}

#[test]
fn a_failure_has_no_result_and_its_reason_stands_on_standard_error() {
    let mut bench = Bench::running();
    bench.end(1, "Error: the model is not available\n");
    let Outcome::Failed { reason, .. } = bench.end_of_turn().outcome else {
        panic!("{:?}", bench.ends())
    };
    assert!(reason.contains("the model is not available"), "{reason}");

    let mut bench = Bench::running();
    bench.end(1, "Authentication required. Run cursor-agent login.\n");
    let outcome = bench.end_of_turn().outcome;
    assert!(
        matches!(
            outcome,
            Outcome::Blocked {
                fix: Fix::Login,
                ..
            }
        ),
        "{outcome:?}"
    );
}

#[test]
fn a_result_that_says_it_is_an_error_is_one() {
    let mut bench = Bench::running();
    bench.line(
        &json!({"type": "result", "subtype": "success", "is_error": true,
        "result": "rate limit reached"}),
    );
    let outcome = bench.end_of_turn().outcome;
    assert!(
        matches!(
            outcome,
            Outcome::Blocked {
                fix: Fix::Credit,
                ..
            }
        ),
        "{outcome:?}"
    );
}

#[test]
fn an_interrupt_ends_the_process_and_the_turn_is_cancelled() {
    let mut bench = Bench::running();
    bench.line(
        &json!({"type": "tool_call", "subtype": "started", "call_id": "c",
        "tool_call": {"shellToolCall": {"args": {"command": "sleep 9"}}}}),
    );
    bench.steer(Steer::Interrupt);
    assert!(matches!(bench.steps.last(), Some(Step::Terminate(_))));
    bench.end(143, "");
    assert!(matches!(
        bench.end_of_turn().outcome,
        Outcome::Cancelled { .. }
    ));
    let tool = bench
        .events()
        .into_iter()
        .rev()
        .find_map(|event| match event {
            RunEvent::Tool(tool) => Some(tool.status),
            _ => None,
        });
    assert_eq!(tool, Some(ToolStatus::Cancelled));
}

#[test]
fn a_second_prompt_and_what_it_cannot_do_are_refused_in_words() {
    let mut bench = Bench::running();
    bench.steer(Steer::Inject("more".into()));
    assert_eq!(
        bench.steps.last(),
        Some(&Step::Injected(Injection::Refused))
    );
    bench.steer(Steer::Prompt("more".into()));
    assert!(matches!(&bench.ends()[..], [end] if matches!(end.outcome, Outcome::Failed { .. })));
    bench.line(&done());
    assert_eq!(bench.ends().len(), 2);
}

#[test]
fn silence_is_told_every_minute() {
    let mut bench = Bench::running();
    bench.now += Duration::from_secs(60);
    assert_eq!(bench.dialogue.deadline(), Some(bench.now));
    bench.dialogue.on_timeout(bench.now);
    bench.drain();
    assert_eq!(bench.events(), [RunEvent::Silent { seconds: 60 }]);
}

#[test]
fn lines_in_any_order_and_state_do_no_harm_and_every_prompt_gets_its_end() {
    let lines = [
        json!({"type": "system", "subtype": "init", "session_id": "s", "model": 3}).to_string(),
        assistant("a", &json!({"timestamp_ms": 1})).to_string(),
        json!({"type": "assistant", "message": {"content": "text"}}).to_string(),
        json!({"type": "tool_call", "subtype": "completed", "call_id": "c\n"}).to_string(),
        json!({"type": "tool_call", "call_id": 4, "tool_call": []}).to_string(),
        json!({"type": "thinking", "subtype": "delta"}).to_string(),
        json!({"type": 7}).to_string(),
        "[1]".into(),
        "\u{1b}[2J not json".into(),
        done().to_string(),
    ];
    for seed in 0..500_usize {
        let mut bench = Bench::running();
        for step in 0..12 {
            let line = &lines[(seed * 7 + step * (seed % 9 + 1)) % lines.len()];
            let cut = if seed % 3 == 0 {
                line.len() / 2
            } else {
                line.len()
            };
            bench.text(&String::from_utf8_lossy(&line.as_bytes()[..cut]));
        }
        bench.end(1, "");
        assert_eq!(bench.ends().len(), 1, "{seed}");
        assert_eq!(bench.dialogue.deadline(), None);
    }
}
