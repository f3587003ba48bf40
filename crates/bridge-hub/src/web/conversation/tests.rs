//! What prompts and events become.

use bridge_proto::{
    AskId, BlockId, Digest, RunKey, TaskId, ToolCallId,
    model::{
        AskKind, Choice, ChoiceKind, Event, EventBody, PlanStatus, RunEvent, ToolKind, ToolStatus,
    },
};

use super::*;

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_773_480_413_000 + seconds * 1000)
}

pub(crate) fn event(attempt: &str, n: u64, body: EventBody) -> Event {
    let run = RunKey {
        task: TaskId::parse("t1").unwrap(),
        attempt: attempt.into(),
    };
    Event {
        run,
        n,
        at: at(n.try_into().unwrap()),
        body,
    }
}

pub(crate) fn seen(attempt: &str, n: u64, event_: RunEvent) -> Event {
    event(attempt, n, EventBody::Seen(Box::new(event_.into())))
}

pub(crate) fn text(attempt: &str, n: u64, block: &str, delta: &str) -> Event {
    let block = BlockId::parse(block).unwrap();
    seen(
        attempt,
        n,
        RunEvent::Text {
            block,
            delta: delta.into(),
        },
    )
}

pub(crate) fn tool(id: &str, title: &str, status: ToolStatus) -> ToolState {
    ToolState {
        id: ToolCallId::parse(id).unwrap(),
        title: title.into(),
        kind: ToolKind::Edit,
        status,
        input: None,
        output: None,
        locations: Vec::new(),
        diffs: Vec::new(),
    }
}

pub(crate) fn ask(id: &str, tool: Option<&str>) -> Ask {
    Ask {
        id: AskId::parse(id).unwrap(),
        kind: AskKind::Edit,
        summary: "Write hello.txt".into(),
        options: vec![Choice {
            id: "yes".into(),
            label: "Allow".into(),
            kind: ChoiceKind::AllowOnce,
        }],
        digest: Digest::of(&["write", "hello.txt"]),
        tool: tool.map(|id| ToolCallId::parse(id).unwrap()),
        expires: None,
        answered: None,
        action: None,
    }
}

pub(crate) fn prompt(attempt: &str, text: &str) -> Prompt {
    Prompt {
        attempt: attempt.into(),
        text: text.into(),
        at: at(0),
        attachments: Vec::new(),
    }
}

fn fold_numbered(prompts: &[Prompt], events: &[Event]) -> Conversation {
    fold(prompts, (1..).zip(events))
}

fn bodies(conversation: Conversation) -> Vec<Body> {
    conversation
        .items
        .into_iter()
        .map(|item| item.body)
        .collect()
}

fn answer(block: &str, text: &str, open: bool) -> Body {
    Body::Answer {
        attempt: "a".into(),
        block: block.into(),
        text: text.into(),
        open,
    }
}

#[test]
fn deltas_of_a_block_are_joined_and_the_last_block_stays_open() {
    let events = [
        text("a", 1, "b1", "Hel"),
        text("a", 2, "b1", "lo"),
        text("a", 3, "b2", "!"),
    ];
    let folded = fold_numbered(&[], &events);
    assert_eq!(folded.seq, 3);
    assert_eq!(
        bodies(folded),
        [answer("b1", "Hello", false), answer("b2", "!", true)]
    );
}

#[test]
fn a_replaced_text_stands_instead_of_what_was_streamed() {
    let block = BlockId::parse("b1").unwrap();
    let events = [
        text("a", 1, "b1", "draft"),
        seen(
            "a",
            2,
            RunEvent::TextReplaced {
                block,
                text: "final".into(),
            },
        ),
    ];
    assert_eq!(
        bodies(fold_numbered(&[], &events)),
        [answer("b1", "final", true)]
    );
}

#[test]
fn a_tool_call_is_updated_where_it_stands() {
    let (pending, done) = (
        tool("x", "Write", ToolStatus::Pending),
        tool("x", "Write hello.txt", ToolStatus::Completed),
    );
    let events = [
        seen("a", 1, RunEvent::Tool(pending)),
        text("a", 2, "b1", "working"),
        seen("a", 3, RunEvent::Tool(done.clone())),
    ];
    let folded = fold_numbered(&[], &events);
    assert_eq!(folded.items[0].rev, 3);
    assert_eq!(
        bodies(folded),
        [
            Body::Tool {
                state: Box::new(done),
                asking: None
            },
            answer("b1", "working", true)
        ]
    );
}

#[test]
fn follow_ups_come_after_the_run_before_whatever_the_order_of_events() {
    let prompts = [prompt("a", "first"), prompt("c", "second")];
    let events = [
        text("a", 1, "b1", "one"),
        text("c", 1, "b1", "two"),
        event(
            "a",
            2,
            EventBody::Ended {
                outcome: Outcome::Completed,
            },
        ),
    ];
    let folded = fold_numbered(&prompts, &events);
    let mut orders: Vec<u64> = folded.items.iter().map(|item| item.order).collect();
    let sorted = orders.clone();
    orders.sort_unstable();
    assert_eq!(orders, sorted);
    let ends = Body::End {
        end: End::Ran(Outcome::Completed),
        took_millis: None,
    };
    let words = |text: &str| Body::Prompt {
        text: text.into(),
        attachments: Vec::new(),
        joined: false,
    };
    let two = Body::Answer {
        attempt: "c".into(),
        block: "b1".into(),
        text: "two".into(),
        open: true,
    };
    assert_eq!(
        bodies(folded),
        [
            words("first"),
            answer("b1", "one", false),
            ends,
            words("second"),
            two
        ]
    );
}

#[test]
fn a_question_opens_its_tool_call_and_closes_with_its_answer() {
    let question = ask("q", Some("x"));
    let open = [
        seen(
            "a",
            1,
            RunEvent::Tool(tool("x", "Write", ToolStatus::Pending)),
        ),
        seen("a", 2, RunEvent::Ask(question.clone())),
    ];
    let folded = fold_numbered(&[], &open);
    assert!(matches!(
        folded.items[0].body,
        Body::Tool {
            asking: Some(_),
            ..
        }
    ));
    assert_eq!(folded.items[0].rev, 2);
    assert!(matches!(folded.items[1].body, Body::Ask { end: None, .. }));

    let how = AskEnd::Answered {
        answer: "Allow".into(),
    };
    let closing = RunEvent::AskClosed {
        ask: question.id.clone(),
        how: how.clone(),
    };
    let events = [open[0].clone(), open[1].clone(), seen("a", 3, closing)];
    let folded = fold_numbered(&[], &events);
    assert!(matches!(
        folded.items[0].body,
        Body::Tool { asking: None, .. }
    ));
    let end = Some(Closed::Told(how));
    assert_eq!(
        folded.items[1].body,
        Body::Ask {
            ask: Box::new(question),
            end
        }
    );
    assert_eq!(folded.items[1].rev, 3);
}

#[test]
fn the_end_of_a_run_closes_questions_and_tool_calls_and_says_how_long_it_took() {
    let events = [
        event("a", 1, EventBody::Started { conversation: None }),
        seen(
            "a",
            2,
            RunEvent::Tool(tool("x", "Write", ToolStatus::InProgress)),
        ),
        seen("a", 3, RunEvent::Ask(ask("q", None))),
        event(
            "a",
            4,
            EventBody::Ended {
                outcome: Outcome::Completed,
            },
        ),
    ];
    let folded = bodies(fold_numbered(&[], &events));
    assert_eq!(
        folded,
        [
            Body::Tool {
                state: Box::new(tool("x", "Write", ToolStatus::Unknown)),
                asking: None
            },
            Body::Ask {
                ask: Box::new(ask("q", None)),
                end: Some(Closed::RunOver)
            },
            Body::End {
                end: End::Ran(Outcome::Completed),
                took_millis: Some(3000)
            },
        ]
    );
}

#[test]
fn everything_that_changed_after_a_number_is_a_filter_on_rev() {
    let mut events = vec![
        text("a", 1, "b1", "one"),
        seen("a", 2, RunEvent::Thinking { delta: "hm".into() }),
        text("a", 3, "b2", "two"),
    ];
    let before = fold_numbered(&[prompt("a", "go")], &events);
    events.push(seen("a", 4, RunEvent::Thinking { delta: "hm".into() }));
    let after = fold_numbered(&[prompt("a", "go")], &events);
    let kept: Vec<&Item> = after
        .items
        .iter()
        .filter(|item| item.rev <= before.seq)
        .collect();
    for item in kept {
        assert!(
            before.items.contains(item),
            "changed without a new rev: {item:?}"
        );
    }
}

#[test]
fn a_prompt_counts_as_new_until_its_run_is_heard_of() {
    assert_eq!(
        fold_numbered(&[prompt("a", "go")], &[]).items[0].rev,
        u64::MAX
    );
    let events = [text("a", 1, "b1", "one")];
    assert_eq!(fold_numbered(&[prompt("a", "go")], &events).items[0].rev, 1);
}

#[test]
fn waiting_and_silence_are_gone_once_something_happens() {
    let events = [
        event("a", 1, EventBody::Queued { ahead: 2 }),
        event("a", 2, EventBody::Queued { ahead: 1 }),
        event("a", 3, EventBody::Started { conversation: None }),
        seen("a", 4, RunEvent::Silent { seconds: 30 }),
        text("a", 5, "b1", "back"),
    ];
    assert_eq!(
        bodies(fold_numbered(&[], &events)),
        [
            Body::Note {
                note: Note::Queued(1),
                gone: true
            },
            Body::Note {
                note: Note::Silent(30),
                gone: true
            },
            answer("b1", "back", true),
        ]
    );
}

#[test]
fn a_block_that_goes_on_after_a_silence_is_open_again() {
    let events = [
        text("a", 1, "b1", "one "),
        seen("a", 2, RunEvent::Silent { seconds: 30 }),
        text("a", 3, "b1", "two"),
    ];
    assert_eq!(
        bodies(fold_numbered(&[], &events)),
        [
            answer("b1", "one two", true),
            Body::Note {
                note: Note::Silent(30),
                gone: true
            },
        ]
    );
}

#[test]
fn plan_files_model_and_usage_are_taken_as_last_said_and_summed_over_runs() {
    let item = |status| PlanItem {
        text: "write".into(),
        status,
    };
    let usage = |tokens| Usage {
        output_tokens: Some(tokens),
        ..Usage::default()
    };
    let plan = |status| RunEvent::Plan {
        items: vec![item(status)],
    };
    let file = |path: &str| RunEvent::FileWritten { path: path.into() };
    let events = [
        seen("a", 1, plan(PlanStatus::Pending)),
        seen("a", 2, file("one.txt")),
        seen("a", 3, file("two.txt")),
        seen("a", 4, file("one.txt")),
        seen("a", 5, plan(PlanStatus::Completed)),
        seen("a", 6, RunEvent::Usage(usage(3))),
        seen("a", 7, RunEvent::Usage(usage(5))),
        seen("a", 8, RunEvent::Model { model: "m".into() }),
        seen("c", 1, RunEvent::Usage(usage(7))),
    ];
    let folded = fold_numbered(&[], &events);
    assert_eq!(folded.usage, usage(12));
    assert_eq!(folded.model.as_deref(), Some("m"));
    assert_eq!(
        bodies(folded),
        [
            Body::Plan {
                items: vec![item(PlanStatus::Completed)],
                over: false
            },
            Body::Files {
                files: ["one.txt", "two.txt"]
                    .map(|path| Written {
                        path: path.into(),
                        address: None
                    })
                    .into()
            },
        ]
    );
}
