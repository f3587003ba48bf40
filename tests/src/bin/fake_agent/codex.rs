//! The fake agent as `codex app-server`.

use std::{io, sync::mpsc::Receiver};

use serde_json::{Value, json};

use crate::{
    say, script,
    turn::{End, Words, play},
};

/// Serves until the input ends; gives the exit code.
pub(crate) fn serve(inbox: &Receiver<Value>) -> io::Result<i32> {
    let mut codex = Codex {
        turns: 0,
        items: 0,
        asked: 0,
    };
    let mut earlier: Vec<String> = Vec::new();
    while let Ok(message) = inbox.recv() {
        let (Some(method), Some(id)) = (message["method"].as_str(), message.get("id")) else {
            continue;
        };
        match method {
            "initialize" => result(id, &json!({ "userAgent": "fake/9.9.9" }))?,
            "account/read" => {
                let account =
                    json!({ "account": { "type": "apiKey" }, "requiresOpenaiAuth": true });
                result(id, &account)?;
            }
            "model/list" => result(id, &json!({ "data": [{ "model": "fake-model" }] }))?,
            "thread/start" | "thread/resume" => {
                let thread = json!({ "thread": { "id": THREAD }, "model": "fake-model" });
                result(id, &thread)?;
            }
            "thread/backgroundTerminals/clean" => result(id, &json!({}))?,
            "turn/start" => {
                codex.turns += 1;
                let turn = json!({ "turn": { "id": codex.turn(), "status": "inProgress" } });
                result(id, &turn)?;
                codex.tell("turn/started", turn)?;
                let prompt = message.pointer("/params/input/0/text");
                let prompt = prompt.and_then(Value::as_str).unwrap_or_default();
                let (end, exit) = play(&mut codex, inbox, &script::read(prompt), &earlier)?;
                earlier.push(script::subject(prompt));
                codex.over(&end)?;
                match (end, exit) {
                    (End::Gone, _) => return Ok(0),
                    (_, Some(code)) => return Ok(code),
                    (End::Done | End::Cancelled | End::Failed(_), None) => {}
                }
            }
            other => refuse(id, other)?,
        }
    }
    Ok(0)
}

struct Codex {
    turns: u64,
    items: u64,
    /// Questions so far; each has the number before it as its id.
    asked: u64,
}

impl Codex {
    fn turn(&self) -> String {
        format!("turn-{}", self.turns)
    }

    fn call(&self) -> String {
        format!("call-{}", self.items)
    }

    fn tell(&self, method: &str, mut params: Value) -> io::Result<()> {
        params["threadId"] = json!(THREAD);
        if params.get("turn").is_none() {
            params["turnId"] = json!(self.turn());
        }
        line(&json!({ "method": method, "params": params }))
    }

    fn command(&self, over: bool, status: &str, output: &Value) -> io::Result<()> {
        let method = if over {
            "item/completed"
        } else {
            "item/started"
        };
        let item = json!({
            "type": "commandExecution", "id": self.call(), "status": status, "cwd": ".",
            "command": "/bin/bash -lc 'echo fake'", "aggregatedOutput": output,
        });
        self.tell(method, json!({ "item": item }))
    }

    fn over(&self, end: &End) -> io::Result<()> {
        let (status, error) = match end {
            End::Done | End::Gone => ("completed", Value::Null),
            End::Cancelled => ("interrupted", Value::Null),
            End::Failed(reason) => {
                let error = json!({ "message": reason, "codexErrorInfo": "other" });
                self.tell("error", json!({ "error": error, "willRetry": false }))?;
                ("failed", error)
            }
        };
        let turn = json!({ "id": self.turn(), "status": status, "error": error });
        self.tell("turn/completed", json!({ "turn": turn }))
    }
}

impl Words for Codex {
    fn text(&mut self, pieces: &[String]) -> io::Result<()> {
        self.items += 1;
        let id = format!("msg-{}", self.items);
        let item = |text: &str| json!({ "type": "agentMessage", "id": id, "text": text });
        self.tell("item/started", json!({ "item": item("") }))?;
        for piece in pieces {
            let delta = json!({ "itemId": id, "delta": piece });
            self.tell("item/agentMessage/delta", delta)?;
        }
        self.tell("item/completed", json!({ "item": item(&pieces.concat()) }))
    }

    fn tool(&mut self) -> io::Result<()> {
        self.items += 1;
        self.command(false, "inProgress", &Value::Null)?;
        self.command(true, "completed", &json!("fake\n"))
    }

    fn ask(&mut self) -> io::Result<()> {
        self.items += 1;
        self.command(false, "inProgress", &Value::Null)?;
        let params = json!({
            "kind": "command", "threadId": THREAD, "turnId": self.turn(), "itemId": self.call(),
            "command": "/bin/bash -lc 'echo fake'", "cwd": ".",
            "availableDecisions": ["accept", "cancel"],
        });
        let method = "item/commandExecution/requestApproval";
        let id = self.asked;
        self.asked += 1;
        line(&json!({ "id": id, "method": method, "params": params }))
    }

    fn answer(&mut self, message: &Value) -> io::Result<Option<bool>> {
        let Some(id) = self.asked.checked_sub(1) else {
            return Ok(None);
        };
        if message.get("method").is_some() || message["id"] != id {
            return Ok(None);
        }
        let decision = message.pointer("/result/decision").and_then(Value::as_str);
        let allowed = decision == Some("accept");
        self.tell("serverRequest/resolved", json!({ "requestId": id }))?;
        if allowed {
            self.command(true, "completed", &json!("fake\n"))?;
        } else {
            self.command(true, "declined", &Value::Null)?;
        }
        Ok(Some(allowed))
    }

    fn is_cancel(&mut self, message: &Value) -> io::Result<bool> {
        let Some(id) = message.get("id") else {
            return Ok(false);
        };
        match message["method"].as_str() {
            Some("turn/interrupt") => {
                result(id, &json!({}))?;
                return Ok(true);
            }
            Some("turn/steer") => result(id, &json!({ "turnId": self.turn() }))?,
            Some(other) => refuse(id, other)?,
            None => {}
        }
        Ok(false)
    }
}

fn result(id: &Value, result: &Value) -> io::Result<()> {
    line(&json!({ "id": id, "result": result }))
}

fn refuse(id: &Value, method: &str) -> io::Result<()> {
    let message = format!("Invalid request: unknown variant `{method}`");
    line(&json!({ "id": id, "error": { "code": -32600, "message": message } }))
}

fn line(message: &Value) -> io::Result<()> {
    say(&format!("{message}\n"))
}

const THREAD: &str = "fake-thread";
