//! Calls of single tools of the gateway: how each is asked for, and what its answers mean. Pure.

use std::time::Duration;

use bridge_proto::{
    Secret,
    model::{Action, AskKind, CallPurpose, ToolCall, ToolKind},
};
use serde_json::{Map, Value, json};

use super::{agents::is_called, tools};
use crate::{
    plain::readable,
    remote::{CallFault, DirectAnswer, DirectCall},
};

/// The calls a request leads to: the first is made, each further one only if the one before it was
/// refused because its session cannot be seen. `agent` is how the gateway spells the agent.
pub(super) fn planned(call: &ToolCall, agent: Option<&str>) -> Result<Vec<DirectCall>, CallFault> {
    let tool = match call.purpose {
        CallPurpose::Greeting => SEND.to_owned(),
        CallPurpose::Tool => call.tool.replace('.', "_"),
    };
    if tool.is_empty() {
        return Err(CallFault::NoTool);
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if tool.len() > MAX_NAME || !tool.chars().all(plain) {
        return Err(broken("no tool has such a name"));
    }
    let asked = Asked {
        call,
        agent,
        args: arguments(call),
    };
    match tool.as_str() {
        SEND => {
            let send = asked.send()?;
            Ok(vec![send, asked.spawn()?])
        }
        SPAWN => Ok(vec![asked.spawn()?]),
        _ => Ok(vec![asked.other(tool)?]),
    }
}

/// The arguments, or what stands beside them as arguments.
fn arguments(call: &ToolCall) -> Map<String, Value> {
    match &call.content {
        Some(content) if call.args.is_empty() => {
            serde_json::from_str(content).unwrap_or_else(|_| {
                let message = ("message".to_owned(), Value::String(content.clone()));
                Map::from_iter([message])
            })
        }
        Some(_) | None => call.args.clone(),
    }
}

struct Asked<'a> {
    call: &'a ToolCall,
    agent: Option<&'a str>,
    args: Map<String, Value>,
}

impl Asked<'_> {
    /// A message to a session of the agent.
    fn send(&self) -> Result<DirectCall, CallFault> {
        let session = self.session()?.unwrap_or_else(|| MAIN.to_owned());
        let mut args = json!({ "sessionKey": session, "message": self.message()? });
        self.time(&mut args);
        Ok(self.made(SEND.to_owned(), &args, None))
    }

    /// The same message to a session made for it.
    fn spawn(&self) -> Result<DirectCall, CallFault> {
        let message = self.message()?;
        let mut args = json!({ "task": message, "message": message });
        let key = self.text("key").map(str::to_owned);
        let key = key.or(self.session()?).filter(|key| key != MAIN);
        if let Some(key) = key {
            args["key"] = key.into();
        }
        if let Some(id) = self.text("sessionId") {
            args["sessionId"] = id.into();
        }
        self.time(&mut args);
        let agent = self.agent.unwrap_or(MAIN);
        let session = format!("agent:{agent}:{MAIN}");
        Ok(self.made(SPAWN.to_owned(), &args, Some(session)))
    }

    fn other(&self, tool: String) -> Result<DirectCall, CallFault> {
        let mut args = self.args.clone();
        if let Some(session) = self.session()? {
            args.insert("sessionKey".to_owned(), session.into());
        }
        Ok(self.made(tool, &Value::Object(args), None))
    }

    fn made(&self, tool: String, args: &Value, session: Option<String>) -> DirectCall {
        let seconds = self.seconds().unwrap_or(USUAL_SECONDS);
        let (kind, action) = action(&tool, args);
        let talks = tool == SEND || tool == SPAWN;
        let mut body = json!({ "tool": tool, "args": args });
        if let Some(agent) = self.agent {
            body["agentId"] = agent.into();
        }
        if let Some(session) = session {
            body["sessionKey"] = session.into();
        }
        DirectCall {
            tool,
            kind,
            action,
            talks,
            body,
            limit: Duration::from_secs(seconds) + GRACE,
        }
    }

    /// The session that is meant, as the agent itself calls it. That of another agent is none of
    /// this request.
    fn session(&self) -> Result<Option<String>, CallFault> {
        if self
            .text("agentId")
            .is_some_and(|named| !self.is_own(named))
        {
            return Err(broken("the arguments name another agent"));
        }
        let Some(named) = self.text("sessionKey") else {
            return Ok(None);
        };
        let Some(rest) = named.strip_prefix("agent:") else {
            return Ok(Some(named.to_owned()));
        };
        match rest.split_once(':') {
            Some((agent, own)) if self.is_own(agent) && !own.is_empty() => Ok(Some(own.to_owned())),
            Some(_) | None => Err(broken("the session belongs to another agent")),
        }
    }

    fn is_own(&self, name: &str) -> bool {
        let asked = self.call.agent.as_ref();
        self.agent == Some(name) || asked.is_some_and(|agent| is_called(name, agent))
    }

    fn message(&self) -> Result<&str, CallFault> {
        let given = ["message", "task", "content"];
        let given = given.into_iter().find_map(|name| self.text(name));
        match (given.or(self.call.content.as_deref()), self.call.purpose) {
            (Some(message), _) if !message.trim().is_empty() => Ok(message),
            (_, CallPurpose::Greeting) => Ok(GREETING),
            (_, CallPurpose::Tool) => Err(broken("there is no message to send")),
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        let value = self.args.get(name)?.as_str()?;
        Some(value).filter(|value| !value.trim().is_empty())
    }

    fn time(&self, args: &mut Value) {
        if let Some(seconds) = self.seconds() {
            args["timeoutSeconds"] = seconds.into();
        }
    }

    fn seconds(&self) -> Option<u64> {
        let given = self.args.get("timeoutSeconds")?.as_u64()?;
        Some(given.min(MAX_SECONDS))
    }
}

/// What the rules of this machine are asked about. What is not known for certain is left away.
fn action(tool: &str, args: &Value) -> (AskKind, Action) {
    let kind = match tools::kind(tool) {
        ToolKind::Execute => AskKind::Command,
        ToolKind::Edit | ToolKind::Delete | ToolKind::Move => AskKind::Edit,
        ToolKind::Read
        | ToolKind::Search
        | ToolKind::Think
        | ToolKind::Fetch
        | ToolKind::SwitchMode
        | ToolKind::Other => AskKind::Other,
    };
    let names = args.as_object().into_iter().flatten().map(|(name, _)| name);
    // Anything else beside a command may change what it does, and where.
    let mut more = names.filter(|name| !["command", "timeoutSeconds"].contains(&name.as_str()));
    let command = args.get("command").and_then(Value::as_str);
    let command = command.filter(|_| more.next().is_none());
    // A patch names its files in its text.
    let paths = match kind {
        AskKind::Edit if tool != "apply_patch" => tools::locations(args)
            .into_iter()
            .map(|location| location.path)
            .collect(),
        AskKind::Edit | AskKind::Command | AskKind::Other | AskKind::Question => Vec::new(),
    };
    let action = Action {
        tool: Some(tool.to_owned()),
        command: command.map(str::to_owned),
        paths,
    };
    (kind, action)
}

/// What an answer of the gateway means. Nothing in it is believed, and its secret never goes on.
pub(super) fn read(
    status: u16,
    body: &[u8],
    secret: Option<&Secret>,
) -> Result<DirectAnswer, CallFault> {
    let text = String::from_utf8_lossy(body);
    let text = match secret.filter(|secret| !secret.is_empty()) {
        Some(secret) => text.replace(secret.expose(), "***"),
        None => text.into_owned(),
    };
    if !(200..300).contains(&status) {
        let unseen = status == 403 && text.to_ascii_lowercase().contains("visib");
        let beginning: String = text.trim().chars().take(MAX_REFUSAL).collect();
        return Err(CallFault::Refused {
            status,
            text: readable(&beginning, beginning.len()),
            unseen,
        });
    }
    let Ok(value) = serde_json::from_str::<Value>(&text) else {
        let message = Some(text.clone()).filter(|text| !text.trim().is_empty());
        return Ok(DirectAnswer { raw: text, message });
    };
    if let Some(said) = failure(&value) {
        let said: String = said.chars().take(MAX_REFUSAL).collect();
        return Err(CallFault::Broken(readable(&said, said.len())));
    }
    let message = message(&value);
    Ok(DirectAnswer { raw: text, message })
}

/// What went wrong, where the status alone does not tell.
fn failure(answer: &Value) -> Option<&str> {
    let said = |place: &str| answer.pointer(place).and_then(Value::as_str);
    if answer.get("ok") == Some(&Value::Bool(false)) {
        return Some(said("/error/message").unwrap_or_default());
    }
    (said("/result/details/status") == Some("error"))
        .then(|| said("/result/details/error").unwrap_or_default())
}

/// What the agent answered, or else the text of the result.
fn message(answer: &Value) -> Option<String> {
    let reply = answer.pointer("/result/details/reply");
    let reply = reply.and_then(Value::as_str).map(str::to_owned);
    let parts = answer.pointer("/result/content").and_then(Value::as_array);
    let parts = parts.into_iter().flatten();
    let texts: Vec<&str> = parts
        .filter_map(|part| part.get("text").and_then(Value::as_str))
        .collect();
    let said = |text: &String| !text.trim().is_empty();
    reply
        .filter(said)
        .or_else(|| Some(texts.join("\n")).filter(said))
}

fn broken(why: &str) -> CallFault {
    CallFault::Broken(why.to_owned())
}

const SEND: &str = "sessions_send";
const SPAWN: &str = "sessions_spawn";
/// An agent's usual session.
const MAIN: &str = "main";
/// Said where a greeting brings no words.
const GREETING: &str = "ping";
const MAX_NAME: usize = 64;
/// Characters of a refusal that are passed on.
const MAX_REFUSAL: usize = 512;
/// What the gateway itself waits for an agent's answer, and more.
const USUAL_SECONDS: u64 = 60;
const MAX_SECONDS: u64 = 600;
/// For the way there and back.
const GRACE: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use bridge_proto::AgentId;

    use super::*;

    fn call(tool: &str, args: Value) -> ToolCall {
        let Value::Object(args) = args else {
            panic!("no object");
        };
        ToolCall {
            purpose: CallPurpose::Tool,
            agent: Some(AgentId::parse("scout").unwrap()),
            tool: tool.into(),
            args,
            content: None,
            task: None,
        }
    }

    fn bodies(call: &ToolCall) -> Vec<Value> {
        let planned = planned(call, Some("Scout")).unwrap();
        planned.into_iter().map(|call| call.body).collect()
    }

    fn why(call: &ToolCall) -> CallFault {
        planned(call, Some("Scout")).unwrap_err()
    }

    #[test]
    fn a_message_goes_to_the_agents_own_session_and_else_to_a_new_one() {
        let send = call(
            "sessions.send",
            json!({ "sessionKey": "agent:scout:web", "message": "Hi", "timeoutSeconds": 9000,
                "cwd": "/etc" }),
        );
        assert_eq!(
            bodies(&send),
            [
                json!({ "tool": "sessions_send", "agentId": "Scout",
                    "args": { "sessionKey": "web", "message": "Hi", "timeoutSeconds": 600 } }),
                json!({ "tool": "sessions_spawn", "agentId": "Scout",
                    "args": { "task": "Hi", "message": "Hi", "key": "web", "timeoutSeconds": 600 },
                    "sessionKey": "agent:Scout:main" }),
            ]
        );
        let limit = planned(&send, Some("Scout")).unwrap()[0].limit;
        assert_eq!(limit, Duration::from_secs(615));
    }

    #[test]
    fn a_greeting_needs_nothing_and_takes_words() {
        let mut ping = call("", json!({}));
        ping.purpose = CallPurpose::Greeting;
        let args = |ping: &ToolCall| bodies(ping)[0]["args"].clone();
        assert_eq!(
            args(&ping),
            json!({ "sessionKey": "main", "message": "ping" })
        );
        ping.content = Some("Hello".into());
        assert_eq!(
            args(&ping),
            json!({ "sessionKey": "main", "message": "Hello" })
        );
    }

    #[test]
    fn another_agents_sessions_are_out_of_reach() {
        for args in [
            json!({ "sessionKey": "agent:admin:main", "message": "x" }),
            json!({ "sessionKey": "agent:scout:", "message": "x" }),
            json!({ "sessionKey": "agent:", "message": "x" }),
            json!({ "agentId": "admin", "message": "x" }),
        ] {
            for tool in ["sessions_send", "sessions_spawn", "sessions_history"] {
                let fault = why(&call(tool, args.clone()));
                assert!(matches!(fault, CallFault::Broken(_)), "{tool} {args}");
            }
        }
    }

    #[test]
    fn a_tool_has_a_name() {
        assert_eq!(why(&call("", json!({}))), CallFault::NoTool);
        for name in ["a b", "../x", "é", &"x".repeat(65)] {
            let fault = why(&call(name, json!({})));
            assert!(matches!(fault, CallFault::Broken(_)), "{name}");
        }
        let empty = why(&call("sessions_send", json!({})));
        assert!(matches!(empty, CallFault::Broken(_)));
    }

    #[test]
    fn rules_see_the_exact_action_or_none() {
        let of = |tool: &str, args: Value| {
            let mut planned = planned(&call(tool, args), None).unwrap();
            let call = planned.remove(0);
            (call.kind, call.action.command, call.action.paths)
        };
        let id = Some("id".to_owned());
        for (tool, args, expected) in [
            (
                "exec",
                json!({ "command": "id" }),
                (AskKind::Command, id, vec![]),
            ),
            (
                "exec",
                json!({ "command": "id", "env": { "LD_PRELOAD": "/x" } }),
                (AskKind::Command, None, vec![]),
            ),
            (
                "write",
                json!({ "path": "a.md", "content": "x" }),
                (AskKind::Edit, None, vec!["a.md".to_owned()]),
            ),
            (
                "apply_patch",
                json!({ "path": "a.md", "input": "x" }),
                (AskKind::Edit, None, vec![]),
            ),
            ("cron", json!({}), (AskKind::Other, None, vec![])),
        ] {
            assert_eq!(of(tool, args), expected, "{tool}");
        }
    }

    #[test]
    fn arguments_may_stand_beside_as_text() {
        let mut read = call("read", json!({}));
        read.content = Some(r#"{"path":"a"}"#.into());
        assert_eq!(bodies(&read)[0]["args"], json!({ "path": "a" }));
        read.content = Some("a".into());
        assert_eq!(bodies(&read)[0]["args"], json!({ "message": "a" }));
    }

    #[test]
    fn refusals_are_short_readable_and_without_the_secret() {
        let secret = Secret::new("hush-hush");
        let body = format!("no hush-hush \u{1b}[2J{}", "ä".repeat(2000));
        let fault = read(500, body.as_bytes(), Some(&secret)).unwrap_err();
        let CallFault::Refused {
            status,
            text,
            unseen,
        } = fault
        else {
            panic!("{fault:?}");
        };
        assert_eq!((status, unseen), (500, false));
        assert!(text.starts_with("no *** [2Jää"), "{text}");
        assert!(
            text.chars().count() <= MAX_REFUSAL,
            "{}",
            text.chars().count()
        );
        let unseen = read(403, b"session is not VISIBLE from here", None);
        assert!(matches!(
            unseen,
            Err(CallFault::Refused { unseen: true, .. })
        ));
    }

    #[test]
    fn an_answer_is_the_agents_words_or_the_text_of_the_result() {
        let message = |body: &str| read(200, body.as_bytes(), None).unwrap().message;
        for (body, expected) in [
            (
                r#"{"ok":true,"result":{"content":[{"type":"text","text":"{}"}],"details":{"reply":"Done."}}}"#,
                Some("Done."),
            ),
            (
                r#"{"ok":true,"result":{"content":[{"text":"a"},{"text":7},{"text":"b"}]}}"#,
                Some("a\nb"),
            ),
            (
                r#"{"ok":true,"result":{"content":"x","details":{"reply":" "}}}"#,
                None,
            ),
            ("[]", None),
            ("plain", Some("plain")),
            (" ", None),
        ] {
            assert_eq!(message(body).as_deref(), expected, "{body}");
        }
        let failed = read(
            200,
            br#"{"ok":false,"error":{"message":"no such tool"}}"#,
            None,
        );
        assert_eq!(failed, Err(CallFault::Broken("no such tool".into())));
    }

    #[test]
    fn a_gateway_that_could_not_reach_the_session_did_not_answer() {
        // As version 2026.9.6 says it.
        let body = br#"{"ok":true,"result":{"content":[{"type":"text","text":"{}"}],"details":{"runId":"95d32827","status":"error","error":"Session not found: web (use the full sessionKey from sessions_list)"}}}"#;
        let said = "Session not found: web (use the full sessionKey from sessions_list)";
        assert_eq!(read(200, body, None), Err(CallFault::Broken(said.into())));
        let whole = br#"{"ok":true,"result":{"content":[{"type":"text","text":"{}"}],"details":{"sessionKey":"main","status":"ok","delivery":{"status":"pending"},"reply":"the quick brown fox jumps."}}}"#;
        let answer = read(200, whole, None).unwrap();
        assert_eq!(
            answer.message.as_deref(),
            Some("the quick brown fox jumps.")
        );
        let spawned = br#"{"ok":true,"result":{"content":[{"type":"text","text":"accepted"}],"details":{"status":"accepted","childSessionKey":"agent:scout:subagent:8429"}}}"#;
        assert_eq!(
            read(200, spawned, None).unwrap().message.as_deref(),
            Some("accepted")
        );
    }
}
