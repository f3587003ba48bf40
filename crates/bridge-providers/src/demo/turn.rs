//! One prompt being worked on: what is said and done, while a cancel is listened for.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    process::Child,
    sync::mpsc::RecvTimeoutError,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    agent::{Agent, INBOX, Session, Stop},
    script::{AskFor, Script},
    wording,
};

/// One prompt being worked on.
pub(super) struct Turn<'a, 'b, W> {
    pub(super) agent: &'a mut Agent<'b, W>,
    pub(super) session: &'a mut Session,
    pub(super) id: &'a str,
    pub(super) script: &'a Script,
}

impl<W: Write> Turn<'_, '_, W> {
    /// Does what the script says; gives the number of pieces of the answer.
    pub(super) fn work(&mut self) -> Result<usize, Stop> {
        let script = self.script;
        let shown = answer_file(&self.session.directory);
        let answer = wording::answer(script, &self.session.memory.prompts, &shown);
        let writes = !script.nofile && !script.remember;
        self.plan(writes, 0)?;
        self.think("I know what to say; it is always the same.")?;
        if script.noise {
            self.noise()?;
        }
        if let Some(bytes) = script.bigline {
            self.big_line(bytes)?;
        }
        if script.fail.is_some() || script.crash {
            self.say("I shall do this, and then…")?;
        }
        if script.crash {
            return Err(Stop::Crash);
        }
        if let Some(failure) = script.fail.clone() {
            return Err(Stop::Failed {
                code: failure.code,
                message: failure.message,
            });
        }
        if let Some(time) = script.silent {
            self.pause(time)?;
        }
        if let Some(time) = script.slow {
            self.work_slowly(time)?;
        }
        if let Some(time) = script.shell {
            self.shell(time)?;
        }
        let mut count = 0;
        for piece in wording::pieces(&answer) {
            self.say(piece)?;
            count += 1;
        }
        self.plan(writes, 1)?;
        if script.ask == Some(AskFor::Command) {
            self.command()?;
        }
        if writes {
            self.write_file(&shown, &answer)?;
        }
        self.plan(writes, 2)?;
        Ok(count)
    }

    fn update(&mut self, update: &Value) -> Result<(), Stop> {
        self.agent.update(self.id, update)?;
        Ok(())
    }

    fn say(&mut self, text: &str) -> Result<(), Stop> {
        let content = json!({ "type": "text", "text": text });
        self.update(&json!({ "sessionUpdate": "agent_message_chunk", "content": content }))?;
        let quick = self.script.fast || self.script.long.is_some();
        self.pause(if quick {
            Duration::ZERO
        } else {
            BETWEEN_PIECES
        })
    }

    fn think(&mut self, text: &str) -> Result<(), Stop> {
        let content = json!({ "type": "text", "text": text });
        self.update(&json!({ "sessionUpdate": "agent_thought_chunk", "content": content }))
    }

    fn plan(&mut self, writes: bool, done: usize) -> Result<(), Stop> {
        let steps: &[&str] = if writes {
            &["Say the answer", "Write it to a file"]
        } else {
            &["Say the answer"]
        };
        let entries: Vec<_> = steps
            .iter()
            .enumerate()
            .map(|(n, step)| {
                let status = match n {
                    n if n < done => "completed",
                    n if n == done => "in_progress",
                    _ => "pending",
                };
                json!({ "content": step, "priority": "medium", "status": status })
            })
            .collect();
        self.update(&json!({ "sessionUpdate": "plan", "entries": entries }))
    }

    /// Waits, and listens meanwhile.
    fn pause(&mut self, time: Duration) -> Result<(), Stop> {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.agent.inbox.recv_timeout(left) {
                Ok(message) => self.meanwhile(message)?,
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) if self.script.stubborn => {
                    thread::sleep(left);
                    return Ok(());
                }
                Err(RecvTimeoutError::Disconnected) => return Err(Stop::Gone),
            }
        }
    }

    fn meanwhile(&mut self, message: Value) -> Result<(), Stop> {
        let method = message.get("method").and_then(Value::as_str);
        let about = message.pointer("/params/sessionId").and_then(Value::as_str);
        if method == Some("session/cancel") && about == Some(self.id) {
            return if self.script.stubborn {
                Ok(())
            } else {
                Err(Stop::Cancelled)
            };
        }
        if method.is_some() && self.agent.later.len() < INBOX {
            self.agent.later.push_back(message);
        }
        Ok(())
    }

    fn work_slowly(&mut self, time: Duration) -> Result<(), Stop> {
        let steps = time.as_millis() / SLOW_STEP.as_millis();
        for step in 1..=steps {
            self.say(&format!("Step {step} of {steps}.\n"))?;
            self.pause(SLOW_STEP)?;
        }
        Ok(())
    }

    fn next_call(&mut self) -> String {
        self.session.calls += 1;
        format!("call-{}", self.session.calls)
    }

    /// Writes the answer, after asking if it was told to.
    fn write_file(&mut self, shown: &str, answer: &str) -> Result<(), Stop> {
        let path = self.session.directory.join(shown);
        let old = fs::read_to_string(&path)
            .ok()
            .filter(|old| old.len() <= MAX_OLD_BYTES);
        let call = self.next_call();
        let title = format!("Write {shown}");
        let described = json!({
            "toolCallId": call,
            "title": title,
            "kind": "edit",
            "locations": [{ "path": path }],
            "content": [{ "type": "diff", "path": path, "oldText": old, "newText": answer }],
        });
        self.tool(&described, "tool_call", "pending")?;
        if self.script.ask == Some(AskFor::Write) && !self.ask(&described)? {
            self.tool(&json!({ "toolCallId": call }), "tool_call_update", "failed")?;
            return self.say("\nYou said no, so I have written nothing.\n");
        }
        self.tool(
            &json!({ "toolCallId": call }),
            "tool_call_update",
            "in_progress",
        )?;
        match write_below(&path, answer) {
            Ok(()) => self.tool(&described, "tool_call_update", "completed"),
            Err(error) => {
                let output = json!({ "toolCallId": call, "rawOutput": error.to_string() });
                self.tool(&output, "tool_call_update", "failed")?;
                self.say(&format!("\nI could not write `{shown}`: {error}\n"))
            }
        }
    }

    /// "Runs" a harmless command after asking for it.
    fn command(&mut self) -> Result<(), Stop> {
        let call = self.next_call();
        let described = json!({
            "toolCallId": call,
            "title": "echo hello",
            "kind": "execute",
            "rawInput": { "command": "echo hello" },
        });
        self.tool(&described, "tool_call", "pending")?;
        if !self.ask(&described)? {
            self.tool(&json!({ "toolCallId": call }), "tool_call_update", "failed")?;
            return self.say("\nYou said no, so I have not run the command.\n");
        }
        let text = json!({ "type": "text", "text": "hello\n" });
        let done = json!({
            "toolCallId": call,
            "content": [{ "type": "content", "content": text }],
            "rawOutput": { "output": "hello\n", "exit": 0 },
        });
        self.tool(&done, "tool_call_update", "completed")
    }

    fn tool(&mut self, fields: &Value, update: &str, status: &str) -> Result<(), Stop> {
        let mut whole = json!({ "sessionUpdate": update, "status": status });
        if let (Some(whole), Some(fields)) = (whole.as_object_mut(), fields.as_object()) {
            whole.extend(fields.clone());
        }
        self.update(&whole)
    }

    /// Asks the person; `true` means go ahead.
    fn ask(&mut self, call: &Value) -> Result<bool, Stop> {
        if self.session.always {
            return Ok(true);
        }
        let id = self.agent.next_id;
        self.agent.next_id += 1;
        let options = json!([
            { "optionId": "yes", "name": "Allow", "kind": "allow_once" },
            { "optionId": "always", "name": "Allow for this conversation", "kind": "allow_always" },
            { "optionId": "no", "name": "Reject", "kind": "reject_once" },
        ]);
        let params = json!({ "sessionId": self.id, "toolCall": call, "options": options });
        let method = "session/request_permission";
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.agent.write(&request)?;
        loop {
            let Ok(message) = self.agent.inbox.recv() else {
                return Err(Stop::Gone);
            };
            if message.get("method").is_some() || message.get("id") != Some(&json!(id)) {
                self.meanwhile(message)?;
                continue;
            }
            let chosen = message
                .pointer("/result/outcome/optionId")
                .and_then(Value::as_str);
            self.session.always |= chosen == Some("always");
            return Ok(matches!(chosen, Some("yes" | "always")));
        }
    }

    /// Starts a real child in a session of its own, as agents do with the commands they run.
    fn shell(&mut self, time: Duration) -> Result<(), Stop> {
        let call = self.next_call();
        let command = format!("sleep {}", time.as_secs());
        let described = json!({
            "toolCallId": call,
            "title": command,
            "kind": "execute",
            "rawInput": { "command": command },
        });
        self.tool(&described, "tool_call", "in_progress")?;
        let mut child = match start_sleep(time) {
            Ok(child) => child,
            Err(error) => {
                let output = json!({ "toolCallId": call, "rawOutput": error.to_string() });
                return self.tool(&output, "tool_call_update", "failed");
            }
        };
        let waited = self.pause(time);
        child.kill()?;
        child.wait()?;
        waited?;
        self.tool(
            &json!({ "toolCallId": call }),
            "tool_call_update",
            "completed",
        )
    }

    fn noise(&mut self) -> Result<(), Stop> {
        self.agent
            .raw(b"warning: this line is not the protocol\n")?;
        self.agent.raw(b"{\"jsonrpc\":\"2.0\",\"method\n")?;
        self.agent.raw(b"\xff\xfe not even text\n\n[1,2,3]\n")?;
        self.update(&json!({ "sessionUpdate": "moon_phase", "phase": "waning" }))?;
        let odd = json!({ "sessionUpdate": "tool_call", "toolCallId": 7, "title": null });
        self.update(&odd)?;
        let image = json!({ "type": "hologram", "data": [1, 2, 3] });
        self.update(&json!({ "sessionUpdate": "agent_message_chunk", "content": image }))?;
        let params = json!({ "path": "/nowhere" });
        let method = "fs/read_text_file";
        self.agent.write(
            &json!({ "jsonrpc": "2.0", "id": "noise", "method": method, "params": params }),
        )?;
        Ok(())
    }

    fn big_line(&mut self, bytes: u64) -> Result<(), Stop> {
        let block = vec![b'x'; 64 * 1024];
        let mut left = usize::try_from(bytes).unwrap_or(usize::MAX);
        while left > 0 {
            let some = left.min(block.len());
            self.agent
                .out
                .write_all(block.get(..some).unwrap_or_default())?;
            left -= some;
        }
        self.agent.raw(b"\n")?;
        Ok(())
    }
}

/// Where the answer goes, relative to the working directory.
fn answer_file(directory: &Path) -> String {
    let repository = directory.join(".git").exists() && !directory.join("output").is_dir();
    if repository {
        "answer.md"
    } else {
        "output/answer.md"
    }
    .to_owned()
}

/// Makes `output`, and no more: a working directory that is gone, moved say, is not made anew.
fn write_below(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent()
        && let Err(error) = fs::create_dir(folder)
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(error);
    }
    fs::write(path, text)
}

/// `setsid` is not everywhere; a process group of its own is the next best thing.
#[cfg(unix)]
#[expect(
    clippy::disallowed_methods,
    reason = "the demo agent imitates agents that start commands by themselves"
)]
fn start_sleep(time: Duration) -> io::Result<Child> {
    use std::{
        os::unix::process::CommandExt as _,
        process::{Command, Stdio},
    };

    let seconds = time.as_secs().to_string();
    let quiet = |command: &mut Command| {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
    };
    let own_session = quiet(Command::new("setsid").arg("sleep").arg(&seconds));
    own_session.or_else(|_| quiet(Command::new("sleep").arg(&seconds).process_group(0)))
}

#[cfg(not(unix))]
fn start_sleep(_time: Duration) -> io::Result<Child> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "only on Unix"))
}

/// Long enough to see the text grow.
const BETWEEN_PIECES: Duration = Duration::from_millis(15);
const SLOW_STEP: Duration = Duration::from_millis(500);
const MAX_OLD_BYTES: usize = 64 * 1024;
