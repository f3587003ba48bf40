//! What is asked of OpenClaw itself: requests, answers, and the frames they become.

use bridge_proto::{
    ctrlnode::{
        Profile, decode, encode_notice, encode_refusal, encode_reply,
        plane::{self, FromBridge, PlainMessage},
    },
    model::{
        CallEnd, CallPurpose, CommandBody, FileChange, GatewayReply, GatewayRequest, Notice, Reply,
        Source, ToolCall,
    },
};
use serde_json::{Map, Value, json};

use crate::{agent, golden, origin, task};

const TASK: &str = "9f8e7d6c-1111-4222-8333-444455556666";

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other} is no object"),
    }
}

fn call(purpose: CallPurpose, id: &str) -> ToolCall {
    ToolCall {
        purpose,
        agent: Some(agent(id)),
        tool: String::new(),
        args: Map::new(),
        content: None,
        task: None,
    }
}

/// The command that each golden frame of this file is.
pub(crate) fn expected() -> Vec<(&'static str, CommandBody)> {
    let calls = [
        ("init_ping", call(CallPurpose::Greeting, "writer")),
        (
            "init_ping_message",
            ToolCall {
                content: Some("Hello".into()),
                ..call(CallPurpose::Greeting, "scout")
            },
        ),
        (
            "invoke_tool",
            ToolCall {
                tool: "exec".into(),
                args: map(json!({ "command": "id" })),
                ..call(CallPurpose::Tool, "writer")
            },
        ),
        (
            "invoke_tool_send",
            ToolCall {
                tool: "sessions_send".into(),
                args: map(json!({ "sessionKey": "agent:scout:main",
                    "message": "How far are you?", "timeoutSeconds": 30 })),
                task: Some(task(TASK)),
                ..call(CallPurpose::Tool, "scout")
            },
        ),
    ];
    let calls = calls.map(|(name, call)| (name, GatewayRequest::Call(Box::new(call))));
    let configured = [("sync_config", Some("{}")), ("sync_config_missing", None)];
    let configured = configured.map(|(name, content)| {
        let content = content.map(str::to_owned);
        (name, GatewayRequest::Configure { content })
    });
    let all = calls.into_iter().chain(configured);
    all.map(|(name, request)| (name, CommandBody::Gateway(request)))
        .collect()
}

fn called(purpose: CallPurpose, tool: Option<&str>, result: Result<&str, &str>) -> GatewayReply {
    let of_a_task = purpose == CallPurpose::Tool && tool.is_some();
    GatewayReply::Called {
        purpose,
        tool: tool.map(str::to_owned),
        task: of_a_task.then(|| task(TASK)),
        result: result.map(str::to_owned).map_err(str::to_owned),
    }
}

/// Which request, which frame, which answer.
fn replies() -> Vec<(&'static str, &'static str, GatewayReply)> {
    let tool = |result| called(CallPurpose::Tool, Some("sessions_send"), result);
    let greeting = |result| called(CallPurpose::Greeting, Some("sessions_send"), result);
    let configured = |error: Option<&str>| GatewayReply::Configured {
        error: error.map(str::to_owned),
    };
    vec![
        (
            "invoke_tool_send",
            "agent_message",
            GatewayReply::Said {
                task: Some(task(TASK)),
                message: "Half way.".into(),
            },
        ),
        (
            "init_ping_message",
            "agent_message_no_task",
            GatewayReply::Said {
                task: None,
                message: "Hello.".into(),
            },
        ),
        (
            "invoke_tool_send",
            "tool_result",
            tool(Ok(r#"{"ok":true}"#)),
        ),
        (
            "invoke_tool_send",
            "tool_result_http",
            tool(Err("HTTP_401: Unauthorized")),
        ),
        (
            "invoke_tool",
            "tool_result_agent_not_found",
            called(CallPurpose::Tool, None, Err("AGENT_NOT_FOUND")),
        ),
        (
            "init_ping_message",
            "intent_result_init_ping",
            greeting(Ok(r#"{"ok":true}"#)),
        ),
        (
            "init_ping_message",
            "intent_result_init_ping_failed",
            greeting(Err("INVOKE_ERROR")),
        ),
        ("sync_config", "sync_config_ack", configured(None)),
        (
            "sync_config_missing",
            "sync_config_ack_failed",
            configured(Some("MISSING_CONFIG_CONTENT")),
        ),
    ]
}

#[test]
fn every_answer_is_the_golden_frame_and_the_hub_reads_it_back() {
    for (frame, name, reply) in replies() {
        let reply = Reply::Gateway { reply };
        let written = encode_reply(&reply, &origin(frame, Source::Plane)).unwrap();
        assert_eq!(written, golden(&format!("out/{name}")), "{name}");
        let read = plane::decode(written.as_bytes()).unwrap();
        let FromBridge::Reply { reply: read, .. } = read else {
            panic!("{name} is not a reply: {read:?}");
        };
        assert_eq!(read, reply, "{name}");
    }
}

#[test]
fn the_end_of_a_calls_task_is_told_to_planes_that_do_not_know_runs() {
    let refused = CallEnd::Refused {
        blocked: true,
        reason: "HTTP_401: Unauthorized".into(),
    };
    let broken = CallEnd::Broken {
        reason: "INVOKE_ERROR".into(),
    };
    for (name, end) in [
        ("task_complete_keyword", CallEnd::Completed),
        ("task_complete_gateway_blocked", refused),
        ("task_complete_gateway_exception", broken),
    ] {
        let reply = Reply::Gateway {
            reply: GatewayReply::Over {
                task: task(TASK),
                end,
            },
        };
        let to = |source| encode_reply(&reply, &origin("invoke_tool_send", source));
        let written = to(Source::Plane).unwrap();
        assert_eq!(written, golden(&format!("out/{name}")), "{name}");
        let read = plane::decode(written.as_bytes()).unwrap();
        let FromBridge::Run(read) = read else {
            panic!("{name}: {read:?}");
        };
        assert!(matches!(read.message, PlainMessage::Complete { .. }));
        assert_eq!(to(Source::Hub), None, "{name}");
    }
}

#[test]
fn a_preview_is_the_beginning_of_a_result_and_whole_characters() {
    let long = "ä".repeat(500);
    let reply = Reply::Gateway {
        reply: called(CallPurpose::Tool, Some("read"), Ok(&long)),
    };
    let written = encode_reply(&reply, &origin("invoke_tool", Source::Plane)).unwrap();
    let written: Value = serde_json::from_str(&written).unwrap();
    assert_eq!(written["result"], long);
    assert_eq!(written["resultPreview"], "ä".repeat(200));
}

#[test]
fn what_cannot_be_read_is_answered_in_the_words_of_its_action() {
    for (frame, answer) in [
        (
            json!({ "action": "invoke_tool", "requestId": "q", "agentId": "A", "tool": 7 }),
            json!({ "action": "tool_result", "requestId": "q", "agentId": "a",
                "providerMethod": "gateway_http", "error": "INVOKE_ERROR" }),
        ),
        (
            json!({ "action": "init_ping", "requestId": "q", "args": [] }),
            json!({ "action": "intent_result", "requestId": "q", "agentId": "",
                "intentType": "init_ping", "providerMethod": "sessions.send",
                "error": "INVOKE_ERROR" }),
        ),
        (
            json!({ "action": "sync_config", "requestId": "q", "configContent": {} }),
            json!({ "action": "sync_config_ack", "requestId": "q", "success": false,
                "error": "MISSING_CONFIG_CONTENT" }),
        ),
    ] {
        let frame = frame.to_string();
        let error = decode(frame.as_bytes(), Source::Plane).unwrap_err();
        let refusal = encode_refusal(frame.as_bytes(), &error).unwrap();
        let refusal: Value = serde_json::from_str(&refusal).unwrap();
        assert_eq!(refusal, answer);
    }
}

#[test]
fn arguments_that_are_no_object_are_a_message() {
    let frame = json!({ "action": "invoke_tool", "requestId": "q", "agentId": "\u{7}",
        "tool": " sessions_spawn ", "args": "do it" });
    let command = decode(frame.to_string().as_bytes(), Source::Plane).unwrap();
    let CommandBody::Gateway(GatewayRequest::Call(call)) = command.body else {
        panic!("not a call");
    };
    assert_eq!(call.content.as_deref(), Some("do it"));
    assert_eq!((call.tool.as_str(), call.agent), ("sessions_spawn", None));
}

#[test]
fn a_changed_file_is_told_with_its_text_or_without() {
    for (name, path, change, content) in [
        (
            "file_changed",
            "notes/today.md",
            FileChange::Change,
            Some("# Today\n"),
        ),
        ("file_changed_withheld", "logo.png", FileChange::Add, None),
    ] {
        let notice = Notice::FileChanged {
            agent: agent("scout"),
            path: path.into(),
            change,
            content: content.map(str::to_owned),
        };
        let frames = encode_notice(&notice, Profile::Plain);
        assert_eq!(frames, [golden(&format!("out/{name}"))]);
        let read = plane::decode(frames[0].as_bytes());
        assert_eq!(read, Ok(FromBridge::Notice(notice)));
    }
}
