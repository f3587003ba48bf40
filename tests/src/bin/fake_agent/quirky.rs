//! The fake agent as one of the agents of the Agent Client Protocol that have ways of their own:
//! started under the name of one of them it does what that one does differently.
//!
//! - `copilot`: a failed model call ends the turn well, with `Error: …` as its last words; remarks
//!   stand in the text as `Info: …`; a rejection ends the turn; usage is that of all turns
//! - `hermes`: a failed model call ends the turn well, without usage; permissions have ids of their
//!   own; some calls get no end; a cancel while a tool runs is answered
//!   with an error and wedges the session; text that begins with `/` is a command; conversations
//!   are kept in the home folder and can be loaded
//! - `cursor-agent`: ids of calls have line ends in them; a rejected call is completed; what a
//!   command printed stands in its raw output only; nothing is said about usage

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process,
    sync::mpsc::Receiver,
};

use serde_json::{Value, json};

use crate::{
    acp::{self, error, line, result},
    script,
    turn::{End, Words, play},
};

/// Whose ways it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    Copilot,
    Hermes,
    Cursor,
}

impl Flavour {
    /// By the name it was started under.
    pub(crate) fn of(program: &str) -> Option<Self> {
        match Path::new(program).file_stem()?.to_str()? {
            "copilot" => Some(Self::Copilot),
            "hermes" => Some(Self::Hermes),
            "cursor-agent" => Some(Self::Cursor),
            _ => None,
        }
    }
}

/// Serves until the input ends; gives the exit code.
pub(crate) fn serve(flavour: Flavour, inbox: &Receiver<Value>) -> io::Result<i32> {
    let mut agent = Agent {
        flavour,
        session: String::new(),
        asked: 0,
        calls: 0,
        used: 0,
        open: None,
        rejected: false,
        wedged: false,
        stop: "end_turn",
        earlier: Vec::new(),
    };
    while let Ok(message) = inbox.recv() {
        let (Some(method), Some(id)) = (message["method"].as_str(), message.get("id")) else {
            continue;
        };
        let params = &message["params"];
        match method {
            "initialize" => result(id, &agent.greeting())?,
            "session/new" => {
                agent.session = format!("fake-{}", process::id());
                agent.commands(Flavour::Copilot)?;
                let mut offer = agent.offer();
                offer["sessionId"] = json!(agent.session);
                result(id, &offer)?;
                agent.commands(Flavour::Hermes)?;
            }
            "session/load" => {
                let session = params["sessionId"].as_str().unwrap_or_default();
                agent.load(id, session)?;
            }
            "session/set_mode" | "session/set_model" => result(id, &json!({}))?,
            "session/prompt" => {
                let blocks = params["prompt"].as_array().into_iter().flatten();
                let texts: Vec<_> = blocks.filter_map(|block| block["text"].as_str()).collect();
                if let Some(code) = agent.prompt(id, texts.join("\n").trim(), inbox)? {
                    return Ok(code);
                }
            }
            other => error(id, -32601, &format!("no method {other}"))?,
        }
    }
    Ok(0)
}

struct Agent {
    flavour: Flavour,
    session: String,
    asked: u64,
    calls: u64,
    used: u64,
    /// The call that waits or runs.
    open: Option<String>,
    /// A person said no, after which Copilot says nothing more.
    rejected: bool,
    /// Nothing runs in the session any more.
    wedged: bool,
    /// Why the turn ends, if nothing comes between.
    stop: &'static str,
    earlier: Vec<String>,
}

impl Agent {
    fn greeting(&self) -> Value {
        let sessions = match self.flavour {
            Flavour::Copilot => json!({ "close": {}, "list": {} }),
            Flavour::Hermes => json!({ "fork": {}, "list": {}, "resume": {} }),
            Flavour::Cursor => json!({ "list": {} }),
        };
        let can = json!({ "loadSession": true, "sessionCapabilities": sessions });
        json!({ "protocolVersion": 1, "agentCapabilities": can })
    }

    fn offer(&self) -> Value {
        let modes = |ids: &[&str]| {
            let all: Vec<_> = ids.iter().map(|id| json!({ "id": id })).collect();
            json!({ "currentModeId": ids.first(), "availableModes": all })
        };
        let models =
            |id: &str| json!({ "currentModelId": id, "availableModels": [{ "modelId": id }] });
        match self.flavour {
            Flavour::Copilot => {
                json!({ "modes": modes(&["https://x/modes#agent", "https://x/modes#plan"]) })
            }
            Flavour::Hermes => json!({
                "modes": modes(&["default", "accept_edits"]), "models": models("custom:fake"),
            }),
            Flavour::Cursor => json!({
                "modes": modes(&["agent", "plan", "ask"]), "models": models("fake"),
            }),
        }
    }

    /// The commands, which each of them tells at another time.
    fn commands(&self, when: Flavour) -> io::Result<()> {
        if self.flavour != when {
            return Ok(());
        }
        self.update(&json!({ "sessionUpdate": "available_commands_update",
            "availableCommands": [{ "name": "help", "description": "Help" }] }))
    }

    /// Continues what an earlier process left in the home folder.
    fn load(&mut self, id: &Value, session: &str) -> io::Result<()> {
        let Ok(kept) = fs::read_to_string(file_of(session)) else {
            return result(id, &json!({}));
        };
        session.clone_into(&mut self.session);
        self.earlier = kept.lines().map(str::to_owned).collect();
        for prompt in &self.earlier {
            for (kind, text) in [
                ("user_message_chunk", prompt.as_str()),
                ("agent_message_chunk", "old"),
            ] {
                let content = json!({ "type": "text", "text": text });
                self.update(&json!({ "sessionUpdate": kind, "content": content }))?;
            }
        }
        result(id, &self.offer())?;
        self.commands(Flavour::Hermes)
    }

    fn prompt(
        &mut self,
        id: &Value,
        text: &str,
        inbox: &Receiver<Value>,
    ) -> io::Result<Option<i32>> {
        if self.flavour == Flavour::Hermes {
            let local = if self.wedged {
                Some("Queued for the next turn. (1 queued)")
            } else if text.starts_with('/') {
                Some("Available commands: /help")
            } else {
                None
            };
            if let Some(local) = local {
                self.chunk(local)?;
                result(id, &json!({ "stopReason": "end_turn" }))?;
                return Ok(None);
            }
        }
        self.rejected = false;
        self.stop = "end_turn";
        let earlier = self.earlier.clone();
        let (end, exit) = play(self, inbox, &script::read(text), &earlier)?;
        self.earlier.push(script::subject(text));
        self.keep()?;
        match end {
            End::Done => self.done(id)?,
            End::Cancelled => self.cancelled(id)?,
            End::Failed(reason) => self.failed(id, &reason)?,
            End::Gone => return Ok(Some(0)),
        }
        Ok(exit)
    }

    fn keep(&self) -> io::Result<()> {
        if self.flavour != Flavour::Hermes {
            return Ok(());
        }
        let file = file_of(&self.session);
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(file, self.earlier.join("\n"))
    }

    fn done(&mut self, id: &Value) -> io::Result<()> {
        self.used += 100;
        let usage = json!({ "inputTokens": self.used, "outputTokens": self.used });
        match self.flavour {
            Flavour::Copilot | Flavour::Hermes => {
                result(id, &json!({ "stopReason": self.stop, "usage": usage }))
            }
            Flavour::Cursor => result(id, &json!({ "stopReason": self.stop })),
        }
    }

    fn cancelled(&mut self, id: &Value) -> io::Result<()> {
        if self.open.take().is_some() && self.flavour == Flavour::Hermes {
            self.wedged = true;
            return error(id, -32603, "Internal error");
        }
        result(id, &json!({ "stopReason": "cancelled" }))
    }

    fn failed(&mut self, id: &Value, reason: &str) -> io::Result<()> {
        self.retry()?;
        match self.flavour {
            Flavour::Copilot => {
                self.chunk(&format!("Error: {reason}"))?;
                result(id, &json!({ "stopReason": "end_turn" }))
            }
            Flavour::Hermes => {
                self.chunk(&format!("API call failed after 3 retries: {reason}"))?;
                self.update(&json!({ "sessionUpdate": "usage_update", "used": 1, "size": 2 }))?;
                result(id, &json!({ "stopReason": "end_turn" }))
            }
            Flavour::Cursor => error(id, -32603, reason),
        }
    }

    fn update(&self, update: &Value) -> io::Result<()> {
        acp::update(&self.session, update)
    }

    fn chunk(&self, text: &str) -> io::Result<()> {
        let content = json!({ "type": "text", "text": text });
        self.update(&json!({ "sessionUpdate": "agent_message_chunk", "content": content }))
    }

    /// A call begins; gives its id.
    fn call(&mut self, kind: &str) -> io::Result<String> {
        self.calls += 1;
        let id = match self.flavour {
            Flavour::Copilot => format!("call_{}", self.calls),
            Flavour::Hermes => format!("tc-{}", self.calls),
            Flavour::Cursor => format!("call_{}\nfc_{}", self.calls, self.calls),
        };
        let mut call = json!({ "sessionUpdate": "tool_call", "toolCallId": id,
            "title": "echo fake", "kind": kind, "locations": [] });
        match self.flavour {
            Flavour::Copilot | Flavour::Cursor => {
                call["status"] = json!("pending");
                call["rawInput"] = json!({ "command": "echo fake", "description": "fake" });
            }
            Flavour::Hermes => call["content"] = content("$ echo fake"),
        }
        self.update(&call)?;
        Ok(id)
    }

    fn returned(&self, id: &str, allowed: bool) -> io::Result<()> {
        let mut update = json!({ "sessionUpdate": "tool_call_update", "toolCallId": id });
        let status = if allowed || self.flavour == Flavour::Cursor {
            "completed"
        } else {
            "failed"
        };
        update["status"] = json!(status);
        match (self.flavour, allowed) {
            (Flavour::Copilot | Flavour::Hermes, true) => update["content"] = content("fake\n"),
            (Flavour::Hermes, false) => update["content"] = content("BLOCKED"),
            (Flavour::Copilot, false) => {
                update["rawOutput"] = json!({ "code": "rejected", "message": "rejected" });
            }
            (Flavour::Cursor, true) => {
                update["rawOutput"] = json!({ "exitCode": 0, "stdout": "fake\n", "stderr": "" });
            }
            (Flavour::Cursor, false) => {}
        }
        self.update(&update)
    }
}

impl Words for Agent {
    fn text(&mut self, pieces: &[String]) -> io::Result<()> {
        if self.rejected && self.flavour == Flavour::Copilot {
            return Ok(());
        }
        pieces.iter().try_for_each(|piece| self.chunk(piece))
    }

    fn tool(&mut self) -> io::Result<()> {
        if self.flavour == Flavour::Hermes {
            // Nothing is ever said about its end.
            self.call("read")?;
        }
        let id = self.call("execute")?;
        if self.flavour == Flavour::Copilot {
            self.chunk("Info: /fake/remark")?;
        }
        self.returned(&id, true)
    }

    fn ask(&mut self) -> io::Result<()> {
        self.asked += 1;
        let id = self.call("execute")?;
        let mut call = json!({ "toolCallId": id, "title": "another title", "kind": "execute",
            "status": "pending", "rawInput": { "command": "echo fake", "commands": ["echo fake"] } });
        let (yes, no) = match self.flavour {
            Flavour::Copilot => ("allow_once", "reject_once"),
            Flavour::Hermes => {
                call["toolCallId"] = json!(format!("perm-check-{}", self.asked));
                ("allow_once", "deny")
            }
            Flavour::Cursor => ("allow-once", "reject-once"),
        };
        self.open = Some(id);
        let options = json!([
            { "optionId": yes, "name": "Allow once", "kind": "allow_once" },
            { "optionId": no, "name": "Deny", "kind": "reject_once" },
        ]);
        let params = json!({ "sessionId": self.session, "toolCall": call, "options": options });
        let method = "session/request_permission";
        line(&json!({ "jsonrpc": "2.0", "id": self.asked, "method": method, "params": params }))
    }

    fn answer(&mut self, message: &Value) -> io::Result<Option<bool>> {
        if message.get("method").is_some() || message["id"] != self.asked {
            return Ok(None);
        }
        let Some(id) = self.open.take() else {
            return Ok(None);
        };
        let chosen = message.pointer("/result/outcome/optionId");
        let chosen = chosen.and_then(Value::as_str).unwrap_or_default();
        let allowed = chosen.starts_with("allow");
        self.returned(&id, allowed)?;
        if !allowed && self.flavour == Flavour::Copilot {
            self.rejected = true;
            self.chunk("Info: Operation cancelled by user")?;
        }
        Ok(Some(allowed))
    }

    fn retry(&mut self) -> io::Result<()> {
        match self.flavour {
            Flavour::Copilot => {
                self.chunk("Info: Request failed due to a transient API error. Retrying...")
            }
            Flavour::Hermes | Flavour::Cursor => Ok(()),
        }
    }

    fn further(&mut self, _: &Value) -> Option<String> {
        None
    }

    fn is_cancel(&mut self, message: &Value) -> io::Result<bool> {
        Ok(message["method"] == "session/cancel")
    }

    fn wrong(&mut self) -> io::Result<()> {
        acp::wrong(&self.session)
    }

    fn unknown(&mut self) -> io::Result<()> {
        acp::unknown(&self.session)
    }

    fn stray(&mut self) -> io::Result<()> {
        acp::stray()
    }

    fn reuse(&mut self) -> io::Result<()> {
        let calls = self.calls;
        self.tool()?;
        self.calls = calls;
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

fn content(text: &str) -> Value {
    let text = json!({ "type": "text", "text": text });
    json!([{ "type": "content", "content": text }])
}

/// Where a conversation is kept.
fn file_of(session: &str) -> PathBuf {
    let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let name: String = session.chars().filter(|c| *c != '/').collect();
    home.join(".hermes/fake-sessions").join(name)
}
