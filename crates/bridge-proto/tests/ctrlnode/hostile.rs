//! Bad input gives typed errors; nothing panics.

use bridge_proto::{
    IdError,
    ctrlnode::{
        DecodeError, MAX_FRAME_BYTES, Profile, RunFacts, decode, encode_event, encode_refusal,
        encode_reply,
        plane::{self, FromBridge, Translator},
        status_tag, strip_status_tags,
    },
    model::{AgentChange, CommandBody, Reply, RunKind, Source},
};
use proptest::{
    prelude::{Strategy, any, prop_assert, prop_oneof, proptest},
    sample::select,
};
use serde_json::{Value, json};

use crate::{TASK, agent, golden, golden_names, provider, run};

fn refused(frame: &str) -> DecodeError {
    decode(frame.as_bytes(), Source::Plane).unwrap_err()
}

#[test]
fn malformed_json_is_refused_with_its_place() {
    assert_eq!(
        refused(r#"{"action":"#),
        DecodeError::NotJson {
            line: 1,
            column: 10
        }
    );
    assert_eq!(refused(""), DecodeError::NotJson { line: 1, column: 0 });
    let not_utf8 = decode(b"{\"action\":\"\xff\"}", Source::Plane);
    assert!(matches!(not_utf8, Err(DecodeError::NotJson { .. })));
    let deep = "[".repeat(100_000);
    assert!(matches!(refused(&deep), DecodeError::NotJson { .. }));
}

#[test]
fn what_is_not_an_object_with_an_action_is_refused() {
    for frame in ["[]", "null", "7", "\"x\""] {
        assert_eq!(refused(frame), DecodeError::NotAnObject, "{frame}");
        assert_eq!(
            plane::decode(frame.as_bytes()),
            Err(DecodeError::NotAnObject),
            "{frame}"
        );
    }
    for frame in [
        "{}",
        r#"{"action":null}"#,
        r#"{"action":7}"#,
        r#"{"Action":"x"}"#,
    ] {
        assert_eq!(refused(frame), DecodeError::NoAction, "{frame}");
    }
}

#[test]
fn a_frame_over_the_limit_is_refused_unread() {
    let frame = vec![b' '; MAX_FRAME_BYTES + 1];
    let refused = Err(DecodeError::TooLarge {
        bytes: MAX_FRAME_BYTES + 1,
    });
    assert_eq!(decode(&frame, Source::Plane).map(|_| ()), refused);
}

#[test]
fn an_unknown_action_is_no_error_and_its_name_is_cut() {
    let frame = json!({"action": format!("x\n{}", "y".repeat(500)), "requestId": 7}).to_string();
    let CommandBody::Unknown { kind } = decode(frame.as_bytes(), Source::Hub).unwrap().body else {
        panic!("known");
    };
    assert_eq!(kind, format!("x{}", "y".repeat(63)));
    let FromBridge::Unknown { kind } = plane::decode(frame.as_bytes()).unwrap() else {
        panic!("known");
    };
    assert_eq!(kind.chars().count(), 64);
}

#[test]
fn wrong_types_are_named_without_their_values() {
    for (field, value, expected) in [
        ("taskId", json!(7), "a text"),
        ("agentId", json!({"secret": 1}), "a text"),
        ("requestId", json!(["secret"]), "a text"),
        ("executionId", json!(true), "a text"),
        ("args", json!(7), "an object or a JSON text"),
        ("args", json!(["secret"]), "an object or a JSON text"),
    ] {
        let mut frame: Value = serde_json::from_str(&golden("in/dispatch_task")).unwrap();
        frame[field] = value;
        let action = "dispatch_task".to_owned();
        assert_eq!(
            refused(&frame.to_string()),
            DecodeError::WrongType {
                action,
                field,
                expected
            }
        );
    }
    for (frame, field, expected) in [
        (
            r#"{"action":"read_file","useBasePath":"yes"}"#,
            "useBasePath",
            "true or false",
        ),
        (
            r#"{"action":"write_file","path":"x","content":{"a":1}}"#,
            "content",
            "a text",
        ),
        (
            r#"{"action":"list_files","subpath":[]}"#,
            "subpath",
            "a text",
        ),
        (
            r#"{"action":"input_response","taskId":"t","text":5}"#,
            "text",
            "a text",
        ),
        (
            r#"{"action":"input_response","taskId":"t","text":"x","digest":5}"#,
            "digest",
            "a text",
        ),
        (
            r#"{"action":"followup","agentId":"a","taskId":"t","requestId":"q","args":{"focusFiles":[1]}}"#,
            "focusFiles",
            "a list of texts",
        ),
        (
            r#"{"action":"dispatch_task","agentId":"a","taskId":"t","requestId":"q","args":"{\"task\":5}"}"#,
            "task",
            "a text",
        ),
    ] {
        let error = refused(frame);
        let DecodeError::WrongType {
            field: f,
            expected: e,
            ..
        } = error
        else {
            panic!("{frame}: {error}");
        };
        assert_eq!((f, e), (field, expected), "{frame}");
    }
}

#[test]
fn missing_fields_are_named() {
    for (frame, field) in [
        (r#"{"action":"cancel_task","contextTaskId":"t"}"#, "taskId"),
        (r#"{"action":"input_response","taskId":"t"}"#, "text"),
        (
            r#"{"action":"input_response","taskId":"t","text":""}"#,
            "text",
        ),
        (r#"{"action":"input_response","text":"x"}"#, "taskId"),
        (
            r#"{"action":"dispatch_task","requestId":"q","agentId":"a"}"#,
            "taskId",
        ),
        (
            r#"{"action":"dispatch_task","requestId":"q","taskId":"t"}"#,
            "agentId",
        ),
        (
            r#"{"action":"followup","agentId":"a","taskId":"t"}"#,
            "executionId or requestId",
        ),
    ] {
        let error = refused(frame);
        let DecodeError::Missing { field: missing, .. } = error else {
            panic!("{frame}: {error}");
        };
        assert_eq!(missing, field, "{frame}");
    }
}

#[test]
fn unusable_identifiers_and_broken_base64_are_refused() {
    let long = "x".repeat(300);
    for field in ["taskId", "agentId", "executionId"] {
        let mut frame: Value = serde_json::from_str(&golden("in/dispatch_task")).unwrap();
        frame[field] = json!(long);
        let error = refused(&frame.to_string());
        let DecodeError::Id {
            source: IdError::TooLong { bytes: 300, .. },
            ..
        } = error
        else {
            panic!("{field}: {error}");
        };
    }
    assert_eq!(
        refused(r#"{"action":"write_file","path":"x","content":"%%","contentEncoding":"base64"}"#),
        DecodeError::Base64 {
            action: "write_file".into()
        }
    );
}

#[test]
fn lists_of_agents_that_cannot_be_read_become_the_text_of_the_ack() {
    for (agents, error) in [
        (json!(null), "MISSING_AGENTS"),
        (json!(""), "MISSING_AGENTS"),
        (json!([{"id": "a"}]), "agents is not a JSON text"),
        (json!("{}"), "agents is not a list"),
        (json!("[1]"), "agents holds something that is not an object"),
        (json!("[{\"id\":7}]"), "id of sync_x_agents is not a text"),
    ] {
        let frame = json!({"action": "sync_x_agents", "requestId": "q", "agents": agents});
        let body = decode(frame.to_string().as_bytes(), Source::Plane)
            .unwrap()
            .body;
        let sync = AgentChange::Sync {
            provider: provider("x"),
            agents: Err(error.into()),
        };
        assert_eq!(body, CommandBody::Agents(sync));
    }
}

#[test]
fn a_refused_request_is_answered_in_the_error_shape_of_its_action() {
    for (frame, answer) in [
        (
            json!({"action": "dispatch_task", "requestId": "q", "taskId": TASK}),
            json!({"action": "intent_result", "requestId": "q", "agentId": "", "intentType": "dispatch_task", "providerMethod": "sessions.send", "contextTaskId": TASK, "error": "AGENT_NOT_FOUND"}),
        ),
        (
            json!({"action": "followup", "requestId": "q", "agentId": "A", "taskId": "t", "executionId": "e", "args": 7}),
            json!({"action": "intent_result", "requestId": "q", "agentId": "a", "intentType": "followup", "executionId": "e", "contextTaskId": "t", "error": "BRIDGE_INTERNAL_ERROR: args of followup is not an object or a JSON text"}),
        ),
        (
            json!({"action": "read_file", "requestId": "q", "path": 7}),
            json!({"action": "read_file_response", "requestId": "q", "agentId": "", "path": "", "content": null, "error": "INVALID_REQUEST"}),
        ),
        (
            json!({"action": "list_files", "requestId": "q", "recursive": 7}),
            json!({"action": "list_files_response", "requestId": "q", "files": [], "error": "INVALID_REQUEST"}),
        ),
    ] {
        let frame = frame.to_string();
        let error = decode(frame.as_bytes(), Source::Plane).unwrap_err();
        assert_eq!(
            encode_refusal(frame.as_bytes(), &error),
            Some(answer.to_string())
        );
    }
    for frame in [
        r#"{"action":"cancel_task","requestId":"q"}"#,
        r#"{"action":"followup"}"#,
        "{",
    ] {
        let error = decode(frame.as_bytes(), Source::Plane).unwrap_err();
        assert_eq!(encode_refusal(frame.as_bytes(), &error), None, "{frame}");
    }
}

/// Everything the decoders are used for, on any bytes at all.
fn survives(frame: &[u8]) {
    match decode(frame, Source::Hub) {
        Ok(command) => {
            drop(plane::encode(&command.body, "r"));
            let reply = Reply::Unknown { kind: "x".into() };
            drop(encode_reply(&reply, &command.origin));
        }
        Err(error) => {
            drop(encode_refusal(frame, &error));
            drop(error.to_string());
        }
    }
    let mut translator = Translator::default();
    translator.open(run(TASK, "e1"));
    match plane::decode(frame) {
        Ok(FromBridge::Run(message)) => {
            for (run, body) in translator.on(message) {
                assert_eq!(run.attempt, "e1");
                drop(body);
            }
        }
        Ok(FromBridge::Event { event, .. }) => {
            let origin = decode(golden("in/dispatch_task").as_bytes(), Source::Plane)
                .unwrap()
                .origin;
            for log_thinking in [true, false] {
                let facts = RunFacts {
                    agent: agent("a"),
                    provider: provider("claude"),
                    kind: RunKind::Dispatch,
                    origin: origin.clone(),
                    log_thinking,
                };
                for profile in [Profile::Plain, Profile::Extended] {
                    drop(encode_event(&event, &facts, profile));
                }
            }
        }
        Ok(
            FromBridge::Handshake(_)
            | FromBridge::Notice(_)
            | FromBridge::Reply { .. }
            | FromBridge::Unknown { .. },
        )
        | Err(_) => {}
    }
}

fn frames() -> impl Strategy<Value = Vec<u8>> {
    let all: Vec<Vec<u8>> = ["in", "out"]
        .into_iter()
        .flat_map(|direction| {
            let names = golden_names(direction).into_iter();
            names.map(move |name| golden(&format!("{direction}/{name}")).into_bytes())
        })
        .collect();
    select(all)
}

/// A value of another type or size, to put in place of any field.
fn odd_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        select(vec![
            json!(null),
            json!(true),
            json!(-1),
            json!(1e308),
            json!([]),
            json!({}),
            json!([null, [1], {"id": 7}]),
            json!(" "),
            json!("\u{0}"),
            json!("[{\"id\":\"x\",\"model\":[]}]"),
            json!("../../etc"),
            json!("x".repeat(400)),
        ]),
        ".{0,12}".prop_map(Value::String),
    ]
}

/// Puts the value in place of the n-th value anywhere in the frame.
fn replace(value: &mut Value, n: &mut usize, with: &Value) {
    if *n == 0 {
        *value = with.clone();
        *n = usize::MAX;
        return;
    }
    *n -= 1;
    let children: Vec<&mut Value> = match value {
        Value::Object(map) => map.values_mut().collect(),
        Value::Array(items) => items.iter_mut().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    for child in children {
        if *n == usize::MAX {
            return;
        }
        replace(child, n, with);
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        survives(&bytes);
    }

    #[test]
    fn no_broken_golden_frame_makes_a_decoder_panic(
        mut frame in frames(),
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let at = at.index(frame.len());
        if cut {
            frame.truncate(at);
        } else {
            frame[at] = byte;
        }
        survives(&frame);
    }

    #[test]
    fn no_field_of_another_type_makes_a_decoder_panic(
        frame in frames(),
        mut n in 1_usize..24,
        with in odd_value(),
    ) {
        let mut value: Value = serde_json::from_slice(&frame).unwrap();
        replace(&mut value, &mut n, &with);
        survives(value.to_string().as_bytes());
    }

    #[test]
    fn stored_text_has_one_closing_line_break_and_no_tag(text in "(<TASK_COMPLETED:[0-9a-f-]{0,3}>?|[<>:a \n]){0,20}") {
        let stored = strip_status_tags(&text);
        prop_assert!(text.is_empty() == stored.is_empty());
        prop_assert!(stored.is_empty() || stored.trim_end().len() + 1 == stored.len());
        drop(status_tag(&text));
    }
}
