//! The fake agent as Claude Code in stream-json mode.

use std::{io, sync::mpsc::Receiver};

use serde_json::{Value, json};

use crate::{
    say, script,
    turn::{End, Words, play, shapeless},
};

/// Serves until the input ends; gives the exit code.
pub(crate) fn serve(inbox: &Receiver<Value>, options: &[&str]) -> io::Result<i32> {
    let flag = |name: &str| options.iter().find_map(|option| option.strip_prefix(name));
    let session = flag("--session-id=")
        .or_else(|| flag("--resume="))
        .unwrap_or("fake-session");
    let mut claude = Claude {
        session: session.to_owned(),
        messages: 0,
        asked: None,
        odd: false,
    };
    let mut earlier: Vec<String> = Vec::new();
    while let Ok(message) = inbox.recv() {
        if claude.is_cancel(&message)? || message["type"] != "user" {
            continue;
        }
        let prompt = message
            .pointer("/message/content/0/text")
            .and_then(Value::as_str);
        let prompt = prompt.unwrap_or_default();
        claude.line(json!({
            "type": "system", "subtype": "init", "cwd": ".", "tools": ["Bash"],
            "mcp_servers": [], "model": "fake-model", "permissionMode": "default",
        }))?;
        let (end, exit) = play(&mut claude, inbox, &script::read(prompt), &earlier)?;
        earlier.push(script::subject(prompt));
        claude.result(&end)?;
        match (end, exit) {
            (End::Gone, _) => return Ok(0),
            (_, Some(code)) => return Ok(code),
            (End::Done | End::Cancelled | End::Failed(_), None) => {}
        }
    }
    Ok(0)
}

struct Claude {
    session: String,
    messages: u64,
    asked: Option<String>,
    /// The turn shall end for a reason that nobody knows.
    odd: bool,
}

impl Claude {
    fn line(&self, mut message: Value) -> io::Result<()> {
        message["session_id"] = json!(self.session);
        say(&format!("{message}\n"))
    }

    fn event(&self, event: &Value) -> io::Result<()> {
        self.line(json!({ "type": "stream_event", "event": event, "parent_tool_use_id": null }))
    }

    fn begin(&mut self) -> io::Result<String> {
        self.messages += 1;
        let id = format!("msg_{}", self.messages);
        self.event(&json!({ "type": "message_start", "message": {
            "id": id, "type": "message", "role": "assistant", "model": "fake-model",
            "content": [], "stop_reason": null, "usage": { "input_tokens": 1, "output_tokens": 1 },
        } }))?;
        Ok(id)
    }

    fn whole(&self, id: &str, block: &Value) -> io::Result<()> {
        self.line(
            json!({ "type": "assistant", "parent_tool_use_id": null, "message": {
            "id": id, "type": "message", "role": "assistant", "model": "fake-model",
            "content": [block], "stop_reason": null,
            "usage": { "input_tokens": 1, "output_tokens": 1 },
        } }),
        )
    }

    fn finish(&self, reason: &str) -> io::Result<()> {
        self.event(&json!({ "type": "content_block_stop", "index": 0 }))?;
        self.event(
            &json!({ "type": "message_delta", "delta": { "stop_reason": reason },
            "usage": { "output_tokens": 1 } }),
        )?;
        self.event(&json!({ "type": "message_stop" }))
    }

    /// Calls the tool; gives the id of the call.
    fn call(&mut self) -> io::Result<String> {
        let id = self.begin()?;
        let call = format!("toolu_{}", self.messages);
        let input = json!({ "command": "echo fake" });
        let start = json!({ "type": "tool_use", "id": call, "name": "Bash", "input": {} });
        self.event(&json!({ "type": "content_block_start", "index": 0, "content_block": start }))?;
        let delta = json!({ "type": "input_json_delta", "partial_json": input.to_string() });
        self.event(&json!({ "type": "content_block_delta", "index": 0, "delta": delta }))?;
        let block = json!({ "type": "tool_use", "id": call, "name": "Bash", "input": input });
        self.whole(&id, &block)?;
        self.finish("tool_use")?;
        Ok(call)
    }

    fn returned(&self, call: &str, text: &str, error: bool) -> io::Result<()> {
        let block = json!({ "type": "tool_result", "tool_use_id": call, "content": text,
            "is_error": error });
        self.line(json!({ "type": "user", "parent_tool_use_id": null,
            "message": { "role": "user", "content": [block] } }))
    }

    fn result(&mut self, end: &End) -> io::Result<()> {
        let odd = std::mem::take(&mut self.odd);
        let (subtype, is_error, terminal, text) = match end {
            End::Done if odd => ("telepathy", false, "confused", "done"),
            End::Done | End::Gone => ("success", false, "completed", "done"),
            End::Cancelled => ("error_during_execution", true, "aborted_streaming", ""),
            End::Failed(reason) => ("success", true, "api_error", reason.as_str()),
        };
        self.line(json!({
            "type": "result", "subtype": subtype, "is_error": is_error, "num_turns": 1,
            "terminal_reason": terminal, "result": text, "total_cost_usd": 0.0,
            "usage": { "input_tokens": 1, "output_tokens": 1 }, "permission_denials": [],
        }))
    }
}

impl Words for Claude {
    fn text(&mut self, pieces: &[String]) -> io::Result<()> {
        let id = self.begin()?;
        let empty = json!({ "type": "text", "text": "" });
        self.event(&json!({ "type": "content_block_start", "index": 0, "content_block": empty }))?;
        for piece in pieces {
            let delta = json!({ "type": "text_delta", "text": piece });
            self.event(&json!({ "type": "content_block_delta", "index": 0, "delta": delta }))?;
        }
        self.whole(&id, &json!({ "type": "text", "text": pieces.concat() }))?;
        self.finish("end_turn")
    }

    fn tool(&mut self) -> io::Result<()> {
        let call = self.call()?;
        self.returned(&call, "fake\n", false)
    }

    fn ask(&mut self) -> io::Result<()> {
        let call = self.call()?;
        self.asked = Some(call.clone());
        self.line(
            json!({ "type": "control_request", "request_id": format!("ask-{call}"),
            "request": {
                "subtype": "can_use_tool", "tool_name": "Bash", "tool_use_id": call,
                "input": { "command": "echo fake" }, "permission_suggestions": [],
            } }),
        )
    }

    fn answer(&mut self, message: &Value) -> io::Result<Option<bool>> {
        let Some(call) = self.asked.clone() else {
            return Ok(None);
        };
        let about = message
            .pointer("/response/request_id")
            .and_then(Value::as_str);
        if about != Some(&format!("ask-{call}")) {
            return Ok(None);
        }
        self.asked = None;
        let said = message
            .pointer("/response/response/behavior")
            .and_then(Value::as_str);
        let allowed = said == Some("allow");
        self.returned(&call, if allowed { "fake\n" } else { "denied" }, !allowed)?;
        Ok(Some(allowed))
    }

    fn retry(&mut self) -> io::Result<()> {
        self.line(
            json!({ "type": "system", "subtype": "api_retry", "attempt": 1,
            "max_retries": 10, "retry_delay_ms": 500, "error_status": 529, "error": "overloaded" }),
        )
    }

    fn further(&mut self, message: &Value) -> Option<String> {
        let text = message.pointer("/message/content/0/text")?.as_str()?;
        (message["type"] == "user").then(|| text.to_owned())
    }

    fn is_cancel(&mut self, message: &Value) -> io::Result<bool> {
        if message["type"] != "control_request" {
            return Ok(false);
        }
        let response = json!({ "subtype": "success", "request_id": message["request_id"],
            "response": {} });
        self.line(json!({ "type": "control_response", "response": response }))?;
        Ok(message.pointer("/request/subtype").and_then(Value::as_str) == Some("interrupt"))
    }

    fn wrong(&mut self) -> io::Result<()> {
        shapeless()?;
        for message in [
            json!({ "type": "assistant" }),
            json!({ "type": "assistant", "message": 7 }),
            json!({ "type": "assistant", "message": { "id": 7, "content": 7 } }),
            json!({ "type": "assistant", "message": { "content": [7, { "type": 7 }] } }),
            json!({ "type": "user", "message": { "content": [{ "type": "tool_result" }] } }),
            json!({ "type": "stream_event" }),
            json!({ "type": "stream_event", "event": { "type": "content_block_delta" } }),
            json!({ "type": "control_request" }),
            json!({ "type": "control_request", "request_id": 7, "request": 7 }),
            json!({ "type": "system", "subtype": ["init"] }),
        ] {
            self.line(message)?;
        }
        Ok(())
    }

    fn unknown(&mut self) -> io::Result<()> {
        self.line(json!({ "type": "telepathy", "thought": "x" }))?;
        self.line(json!({ "type": "system", "subtype": "telepathy" }))?;
        self.event(&json!({ "type": "smell", "index": 0 }))?;
        self.line(json!({ "type": "control_request", "request_id": "t1",
            "request": { "subtype": "mind_read" } }))
    }

    fn stray(&mut self) -> io::Result<()> {
        for id in [json!("never"), json!(7), json!(null)] {
            let response = json!({ "subtype": "success", "request_id": id, "response": {} });
            self.line(json!({ "type": "control_response", "response": response }))?;
            self.line(json!({ "type": "control_cancel_request", "request_id": id }))?;
        }
        self.returned("toolu_never", "a result of nothing", false)
    }

    fn reuse(&mut self) -> io::Result<()> {
        self.tool()?;
        self.messages -= 1;
        self.tool()?;
        // The same question twice under one number; the answer is waited for by the next `@ask`.
        self.ask()?;
        self.messages -= 1;
        self.asked = None;
        Ok(())
    }

    fn odd_end(&mut self) {
        self.odd = true;
    }
}
