//! The fake agent as an agent of the Agent Client Protocol.

use std::{collections::BTreeMap, io, sync::mpsc::Receiver};

use serde_json::{Value, json};

use crate::{
    say, script,
    turn::{End, Words, play, shapeless},
};

/// Serves until the input ends; gives the exit code.
pub(crate) fn serve(inbox: &Receiver<Value>, options: &[&str]) -> io::Result<i32> {
    let mut sessions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut asked = 0;
    while let Ok(message) = inbox.recv() {
        let (Some(method), Some(id)) = (message["method"].as_str(), message.get("id")) else {
            continue;
        };
        let params = &message["params"];
        match method {
            "initialize" => {
                let can = json!({ "protocolVersion": 1, "agentCapabilities": {} });
                result(id, &can)?;
            }
            "session/new" => {
                let session = format!("fake-{}", sessions.len() + 1);
                let mut made = json!({ "sessionId": session });
                if options.contains(&"--modes") {
                    let mode = |id: &str| json!({ "id": id, "name": id });
                    made["modes"] = json!({ "currentModeId": "code",
                        "availableModes": [mode("code"), mode("plan")] });
                }
                result(id, &made)?;
                sessions.insert(session, Vec::new());
            }
            "session/set_mode" => result(id, &json!({}))?,
            "session/prompt" => {
                let session = params["sessionId"].as_str().unwrap_or_default().to_owned();
                let prompt = params["prompt"][0]["text"].as_str().unwrap_or_default();
                let earlier = sessions.entry(session.clone()).or_default();
                let mut words = Acp {
                    session,
                    asked,
                    tools: earlier.len(),
                    stop: "end_turn",
                };
                let steps = script::read(prompt);
                let (end, exit) = play(&mut words, inbox, &steps, earlier)?;
                asked = words.asked;
                earlier.push(script::subject(prompt));
                match end {
                    End::Done => result(id, &json!({ "stopReason": words.stop }))?,
                    End::Cancelled => result(id, &json!({ "stopReason": "cancelled" }))?,
                    End::Failed(reason) => error(id, -32603, &reason)?,
                    End::Gone => return Ok(0),
                }
                if let Some(code) = exit {
                    return Ok(code);
                }
            }
            other => error(id, -32601, &format!("no method {other}"))?,
        }
    }
    Ok(0)
}

struct Acp {
    session: String,
    asked: u64,
    tools: usize,
    /// Why the turn ends, if nothing comes between.
    stop: &'static str,
}

impl Acp {
    fn update(&self, what: &Value) -> io::Result<()> {
        update(&self.session, what)
    }

    fn call(&self) -> String {
        format!("call-{}", self.tools)
    }
}

impl Words for Acp {
    fn text(&mut self, pieces: &[String]) -> io::Result<()> {
        for piece in pieces {
            let content = json!({ "type": "text", "text": piece });
            self.update(&json!({ "sessionUpdate": "agent_message_chunk", "content": content }))?;
        }
        Ok(())
    }

    fn tool(&mut self) -> io::Result<()> {
        let call = self.call();
        self.update(&json!({
            "sessionUpdate": "tool_call", "toolCallId": call, "title": "echo fake",
            "kind": "execute", "status": "in_progress", "rawInput": { "command": "echo fake" },
        }))?;
        let text = json!({ "type": "text", "text": "fake\n" });
        self.update(&json!({
            "sessionUpdate": "tool_call_update", "toolCallId": call, "status": "completed",
            "content": [{ "type": "content", "content": text }],
        }))
    }

    fn ask(&mut self) -> io::Result<()> {
        self.asked += 1;
        let call = json!({
            "toolCallId": format!("ask-{}", self.asked), "title": "echo fake", "kind": "execute",
            "status": "pending", "rawInput": { "command": "echo fake" },
        });
        let options = json!([
            { "optionId": "yes", "name": "Allow once", "kind": "allow_once" },
            { "optionId": "no", "name": "Deny", "kind": "reject_once" },
        ]);
        let params = json!({ "sessionId": self.session, "toolCall": call, "options": options });
        let method = "session/request_permission";
        line(&json!({ "jsonrpc": "2.0", "id": self.asked, "method": method, "params": params }))
    }

    fn answer(&mut self, message: &Value) -> io::Result<Option<bool>> {
        let ours = message.get("method").is_none() && message["id"] == self.asked;
        let chosen = message
            .pointer("/result/outcome/optionId")
            .and_then(Value::as_str);
        Ok(ours.then_some(chosen == Some("yes")))
    }

    fn retry(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn further(&mut self, _: &Value) -> Option<String> {
        None
    }

    fn is_cancel(&mut self, message: &Value) -> io::Result<bool> {
        Ok(message["method"] == "session/cancel")
    }

    fn wrong(&mut self) -> io::Result<()> {
        wrong(&self.session)
    }

    fn unknown(&mut self) -> io::Result<()> {
        unknown(&self.session)
    }

    fn stray(&mut self) -> io::Result<()> {
        stray()
    }

    fn reuse(&mut self) -> io::Result<()> {
        self.tool()?;
        self.tool()?;
        // The same question twice under one number; the answer is waited for by the next `@ask`.
        self.ask()?;
        self.asked -= 1;
        Ok(())
    }

    fn odd_end(&mut self) {
        self.stop = "confused";
    }
}

/// Messages of the wrong shape.
pub(crate) fn wrong(session: &str) -> io::Result<()> {
    shapeless()?;
    for params in [json!(null), json!(7), json!([]), json!({ "update": 7 })] {
        line(&json!({ "jsonrpc": "2.0", "method": "session/update", "params": params }))?;
    }
    for what in [
        json!({}),
        json!({ "sessionUpdate": 7 }),
        json!({ "sessionUpdate": "agent_message_chunk" }),
        json!({ "sessionUpdate": "agent_message_chunk", "content": { "type": 7 } }),
        json!({ "sessionUpdate": "agent_message_chunk", "content": { "type": "text" } }),
        json!({ "sessionUpdate": "tool_call", "toolCallId": 7, "content": 7 }),
        json!({ "sessionUpdate": "tool_call_update", "toolCallId": "never", "locations": 7 }),
        json!({ "sessionUpdate": "plan", "entries": { "a": 1 } }),
    ] {
        update(session, &what)?;
    }
    Ok(())
}

/// Messages of kinds that nobody knows.
pub(crate) fn unknown(session: &str) -> io::Result<()> {
    update(
        session,
        &json!({ "sessionUpdate": "telepathy", "thought": "x" }),
    )?;
    let content = json!({ "type": "smell", "data": "x" });
    update(
        session,
        &json!({ "sessionUpdate": "agent_message_chunk", "content": content }),
    )?;
    line(&json!({ "jsonrpc": "2.0", "method": "session/telepathy", "params": {} }))?;
    line(&json!({ "jsonrpc": "2.0", "id": "t1", "method": "mind/read", "params": {} }))
}

/// Answers to requests that nobody made.
pub(crate) fn stray() -> io::Result<()> {
    for id in [
        json!(999_999),
        json!("never"),
        json!(null),
        json!(-1),
        json!(1.5),
    ] {
        result(&id, &json!({ "stopReason": "end_turn" }))?;
        error(&id, -32603, "an answer to nothing")?;
    }
    Ok(())
}

pub(crate) fn update(session: &str, update: &Value) -> io::Result<()> {
    let params = json!({ "sessionId": session, "update": update });
    line(&json!({ "jsonrpc": "2.0", "method": "session/update", "params": params }))
}

pub(crate) fn result(id: &Value, result: &Value) -> io::Result<()> {
    line(&json!({ "jsonrpc": "2.0", "id": id, "result": result }))
}

pub(crate) fn error(id: &Value, code: i64, message: &str) -> io::Result<()> {
    let error = json!({ "code": code, "message": message });
    line(&json!({ "jsonrpc": "2.0", "id": id, "error": error }))
}

pub(crate) fn line(message: &Value) -> io::Result<()> {
    say(&format!("{message}\n"))
}
