//! The log of a session while it grows, is torn, cut short and replaced.

use bridge_proto::model::{RunEvent, ToolStatus};
use bridge_providers::openclaw::{Look, SessionLog, log_of};
use proptest::prelude::*;
use serde_json::{Value, json};

fn message(message: &Value) -> Vec<u8> {
    let line = json!({ "type": "message", "timestamp": 1, "message": message });
    format!("{line}\n").into_bytes()
}

fn called(id: &str, command: &str) -> Vec<u8> {
    message(&json!({ "role": "assistant", "content": [
        { "type": "text", "text": "I look. äöü" },
        { "type": "toolCall", "id": id, "name": "exec", "arguments": { "command": command } } ] }))
}

fn came(id: &str, text: &str) -> Vec<u8> {
    message(
        &json!({ "role": "toolResult", "toolCallId": id, "toolName": "exec",
        "content": [{ "type": "text", "text": text }], "isError": false }),
    )
}

/// Which tool, how far it got, and what came of it.
fn told(events: &[RunEvent]) -> Vec<(String, ToolStatus, Option<String>)> {
    let tool = |event: &RunEvent| match event {
        RunEvent::Tool(tool) => (
            tool.id.as_str().to_owned(),
            tool.status,
            tool.output.clone(),
        ),
        other => panic!("{other:?}"),
    };
    events.iter().map(tool).collect()
}

fn look(file: u64, bytes: &[u8]) -> Look {
    let len = bytes.len() as u64;
    Look { file, len }
}

/// Reads what is new, as its driver does.
fn read(log: &mut SessionLog, file: u64, bytes: &[u8]) -> Vec<RunEvent> {
    let from = usize::try_from(log.on_look(look(file, bytes))).unwrap();
    log.on_bytes(&bytes[from..])
}

#[test]
fn calls_and_their_results_are_told_and_texts_are_not() {
    let mut log = SessionLog::default();
    let mut bytes = message(&json!({ "role": "user", "content": "Go" }));
    bytes.extend(called("c1", "ls"));
    bytes.extend(came("c1", "a.md"));
    bytes.extend(b"{\"type\":\"session\",\"id\":\"x\"}\nnot json\n[]\n\n\xff\xfe\n");
    bytes.extend(message(&json!({ "role": "tool", "content": "done" })));
    bytes.extend(message(&json!({ "role": 7, "content": null })));
    let events = read(&mut log, 1, &bytes);
    let seen = told(&events);
    assert_eq!(seen[0], ("c1".into(), ToolStatus::InProgress, None));
    assert_eq!(
        seen[1],
        ("c1".into(), ToolStatus::Completed, Some("a.md".into()))
    );
    let last = seen.last().unwrap();
    assert_eq!(
        *last,
        ("log-1".into(), ToolStatus::Completed, Some("done".into()))
    );
    assert_eq!(log.close(), []);
}

#[test]
fn what_was_there_before_the_turn_is_not_told_again() {
    let mut bytes = called("old", "ls");
    let mut torn = called("new", "pwd");
    let rest = torn.split_off(20);
    bytes.extend(&torn);
    let mut log = SessionLog::default();
    log.begin(look(1, &bytes), &bytes);
    bytes.extend(&rest);
    let events = read(&mut log, 1, &bytes);
    assert_eq!(
        told(&events),
        [("new".into(), ToolStatus::InProgress, None)]
    );
    let open = log.close();
    assert_eq!(told(&open), [("new".into(), ToolStatus::Unknown, None)]);
}

#[test]
fn a_line_that_is_too_long_is_skipped_counted_and_forgotten() {
    let mut log = SessionLog::default();
    let mut bytes = came("c1", &"x".repeat(5 << 20));
    bytes.extend(called("c2", "ls"));
    let events = read(&mut log, 1, &bytes);
    assert_eq!(told(&events), [("c2".into(), ToolStatus::InProgress, None)]);
    assert_eq!((log.take_skipped(), log.take_skipped()), (1, 0));
}

#[test]
fn a_log_that_is_replaced_or_cut_is_read_from_its_beginning() {
    let mut log = SessionLog::default();
    let mut first = called("c1", "ls");
    // Torn at the end: what follows belongs to another file.
    first.extend(b"{\"type\":\"mess");
    read(&mut log, 1, &first);
    let other = called("c2", "ls");
    let of_the_other = read(&mut log, 2, &other);
    assert_eq!(told(&of_the_other)[0].0, "c2");
    let shorter = called("c3", "x");
    let cut = read(&mut log, 2, &shorter[..shorter.len() - 4]);
    assert_eq!(cut, []);
    let whole = read(&mut log, 2, &shorter);
    assert_eq!(told(&whole)[0].0, "c3");
}

#[test]
fn a_log_is_a_name_beside_the_notes_whatever_they_say() {
    let keys = ["agent:main:task-1".to_owned(), "task-1".to_owned()];
    let of = |entry: Value| {
        log_of(
            &json!({ "task-1": entry, "main": { "sessionId": "m" } }),
            &keys,
        )
    };
    for (entry, name) in [
        (json!({ "sessionId": "s-1" }), Some("s-1.jsonl")),
        (
            json!({ "sessionFile": "/x/sessions/s.jsonl", "sessionId": "t" }),
            Some("s.jsonl"),
        ),
        (json!({ "sessionFile": "C:\\x\\s.jsonl" }), Some("s.jsonl")),
        (json!({ "sessionFile": "/etc/.." }), None),
        (json!({ "sessionFile": "../../../../etc/.env" }), None),
        (json!({ "sessionId": "../x" }), None),
        (json!({ "sessionId": "a b" }), None),
        (json!({ "sessionId": 7 }), None),
        (json!([]), None),
    ] {
        assert_eq!(of(entry.clone()).as_deref(), name, "{entry}");
    }
    assert_eq!(
        log_of(&json!({ "main": { "sessionId": "m" } }), &keys),
        None
    );
    assert_eq!(log_of(&json!(7), &keys), None);
}

/// A line of a log: a call, its result, noise, or something that is no text.
fn line() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        (0..5_u8, "[a-zäöü🦀 ]{0,12}").prop_map(|(n, text)| called(&format!("c{n}"), &text)),
        (0..5_u8, "[a-zäöü🦀\n ]{0,12}").prop_map(|(n, text)| came(&format!("c{n}"), &text)),
        "[a-zäöü🦀 ]{0,12}".prop_map(|text| message(&json!({ "role": "tool", "content": text }))),
        proptest::collection::vec(any::<u8>(), 0..30).prop_map(|mut bytes| {
            bytes.push(b'\n');
            bytes
        }),
    ]
}

proptest! {
    #[test]
    fn nothing_is_lost_or_doubled_however_the_log_grows(
        lines in proptest::collection::vec(line(), 0..20),
        cuts in proptest::collection::vec(0..2000_usize, 0..30),
    ) {
        let bytes: Vec<u8> = lines.concat();
        let mut whole = SessionLog::default();
        let mut expected = read(&mut whole, 1, &bytes);
        expected.extend(whole.close());
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let mut log = SessionLog::default();
        let mut events = Vec::new();
        for cut in cuts {
            events.extend(read(&mut log, 1, &bytes[..cut]));
        }
        events.extend(log.close());
        prop_assert_eq!(events, expected);
    }

    #[test]
    fn a_turn_hears_every_line_that_ends_after_it_began(
        lines in proptest::collection::vec(line(), 1..12),
        at in 0..3000_usize,
    ) {
        let bytes: Vec<u8> = lines.concat();
        let at = at.min(bytes.len());
        let from = bytes[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let mut expected = SessionLog::default();
        let expected = read(&mut expected, 1, &bytes[from..]);
        let mut log = SessionLog::default();
        log.begin(look(1, &bytes[..at]), &bytes[..at]);
        prop_assert_eq!(read(&mut log, 1, &bytes), expected);
    }
}
