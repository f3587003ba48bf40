//! The fake agent as `codex app-server`.

use std::{io, sync::mpsc::Receiver};

use serde_json::{Value, json};

use crate::{
    say, script,
    turn::{End, Words, play, shapeless},
};

/// Serves until the input ends; gives the exit code.
pub(crate) fn serve(inbox: &Receiver<Value>) -> io::Result<i32> {
    let mut codex = Codex {
        turns: 0,
        items: 0,
        asked: 0,
        odd: false,
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
    /// The turn ends for a reason nobody knows.
    odd: bool,
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
            "command": "/bin/bash -lc 'touch fake'", "aggregatedOutput": output,
        });
        self.tell(method, json!({ "item": item }))
    }

    fn over(&mut self, end: &End) -> io::Result<()> {
        let odd = std::mem::take(&mut self.odd);
        let (status, error) = match end {
            End::Done if odd => ("telepathy", Value::Null),
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
            "command": "/bin/bash -lc 'touch fake'", "cwd": ".",
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

    fn retry(&mut self) -> io::Result<()> {
        let error = json!({ "message": "overloaded", "codexErrorInfo": "serverOverloaded" });
        self.tell("error", json!({ "error": error, "willRetry": true }))
    }

    fn further(&mut self, message: &Value) -> Option<String> {
        let steers = message["method"] == "turn/steer";
        let text = message.pointer("/params/input/0/text")?.as_str()?;
        steers.then(|| text.to_owned())
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

    fn wrong(&mut self) -> io::Result<()> {
        shapeless()?;
        for (method, params) in [
            ("item/started", json!(7)),
            ("item/started", json!({ "item": 7 })),
            ("item/completed", json!({ "item": { "type": 7, "id": [] } })),
            (
                "item/completed",
                json!({ "item": { "type": "fileChange", "id": "f", "changes": 7 } }),
            ),
            (
                "item/agentMessage/delta",
                json!({ "itemId": 7, "delta": {} }),
            ),
            ("item/commandExecution/outputDelta", json!({})),
            ("thread/tokenUsage/updated", json!({ "tokenUsage": "many" })),
            ("turn/diff/updated", json!({ "diff": 7 })),
            ("error", json!({ "error": 7, "willRetry": "perhaps" })),
        ] {
            line(&json!({ "method": method, "params": params }))?;
        }
        line(&json!({ "method": "item/commandExecution/requestApproval", "id": "w", "params": 7 }))
    }

    fn unknown(&mut self) -> io::Result<()> {
        self.tell("telepathy/thought", json!({ "thought": "x" }))?;
        let item = json!({ "type": "telepathy", "id": "t" });
        self.tell("item/started", json!({ "item": item }))?;
        line(&json!({ "method": "mind/read", "id": "t1", "params": {} }))
    }

    fn stray(&mut self) -> io::Result<()> {
        for id in [json!(99_999), json!("never"), json!(null)] {
            result(&id, &json!({}))?;
            self.tell("serverRequest/resolved", json!({ "requestId": id }))?;
        }
        self.tell(
            "item/agentMessage/delta",
            json!({ "itemId": "never", "delta": "" }),
        )
    }

    fn reuse(&mut self) -> io::Result<()> {
        self.tool()?;
        self.items -= 1;
        self.tool()?;
        // The same question twice under one number; the answer is waited for by the next `@ask`.
        self.ask()?;
        self.items -= 1;
        self.asked -= 1;
        Ok(())
    }

    fn odd_end(&mut self) {
        self.odd = true;
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
