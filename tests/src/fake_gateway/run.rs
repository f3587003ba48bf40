//! One run: the steps of a script, said in the gateway's events.

use axum::extract::ws::Message;
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc, watch};

use super::{
    Line,
    brain::{ToBrain, frame},
    odd,
    script::Step,
};

/// What a run is told.
pub(super) enum ToRun {
    Abort,
    /// The approval it waits for was decided.
    Decided(bool),
    /// A message for the running turn, sent under this name.
    Message {
        run: String,
        text: String,
    },
}

/// Everything a run needs.
pub(super) struct Work {
    pub(super) session: String,
    pub(super) run: String,
    pub(super) steps: Vec<Step>,
    pub(super) subject: String,
    pub(super) earlier: Vec<String>,
    pub(super) events: broadcast::Sender<Message>,
    pub(super) brain: mpsc::Sender<ToBrain>,
    pub(super) line: watch::Sender<Line>,
}

enum End {
    Done,
    Aborted,
    Failed(String),
    /// For a reason that nobody knows.
    Odd,
    /// The gateway dies.
    Dead(i32),
}

struct Run {
    work: Work,
    seq: u64,
    items: u64,
    inbox: mpsc::Receiver<ToRun>,
}

pub(super) async fn play(work: Work, inbox: mpsc::Receiver<ToRun>) {
    let mut run = Run {
        work,
        seq: 0,
        items: 0,
        inbox,
    };
    run.agent("run_status", json!({ "phase": "preparing_context" }));
    run.agent("lifecycle", json!({ "phase": "start" }));
    run.agent(
        "lifecycle",
        json!({ "phase": "model", "provider": "fake", "model": "big" }),
    );
    let end = run.steps().await;
    let over = ToBrain::Over {
        session: run.work.session.clone(),
        subject: run.work.subject.clone(),
    };
    drop(run.work.brain.send(over).await);
    match end {
        End::Done => {
            run.settle("end", json!({}));
            run.chat("final", json!({ "agentId": "main" }));
        }
        End::Aborted => {
            run.chat("aborted", json!({ "agentId": "main" }));
            let cancelled = json!({ "phase": "end", "status": "cancelled", "aborted": true });
            run.agent("lifecycle", cancelled);
            let aborted = json!({ "aborted": true, "error": "This operation was aborted" });
            run.settle("error", aborted);
        }
        End::Failed(reason) => {
            let detail = json!({ "failoverReason": "server_error" });
            let failure = json!({ "error": reason, "errorObservation": detail });
            run.settle("error", failure);
            let told = json!({ "errorMessage": reason, "agentId": "main" });
            run.chat("error", told);
            run.chat(
                "error",
                json!({ "errorMessage": format!("Agent failed: {reason}") }),
            );
        }
        End::Odd => {
            run.settle("evaporated", json!({}));
            run.chat("evaporated", json!({ "agentId": "main" }));
            run.chat("final", json!({ "agentId": "main" }));
        }
        End::Dead(code) => {
            run.work.line.send_replace(Line::Dead(Some(code)));
        }
    }
}

impl Run {
    async fn steps(&mut self) -> End {
        let mut last_words = None;
        for step in std::mem::take(&mut self.work.steps) {
            match step {
                Step::Say(text) => self.text(&in_words(&text)),
                Step::Stream(pieces) => {
                    let pieces: Vec<String> = (1..=pieces).map(|n| format!("w{n} ")).collect();
                    self.text(&pieces);
                }
                Step::Remember => {
                    let text = format!("Before: {}.", self.work.earlier.join(", "));
                    self.text(&in_words(&text));
                }
                Step::Tool => {
                    let call = self.call();
                    self.result(&call, "fake\n", false);
                }
                Step::Ask => match self.ask().await {
                    Some(true) => self.text(&in_words("It was allowed.")),
                    Some(false) => self.text(&in_words("It was denied.")),
                    None => return End::Aborted,
                },
                Step::Hang | Step::Listen => {
                    if !self.hang().await {
                        return End::Aborted;
                    }
                }
                Step::Deaf => std::future::pending().await,
                Step::Exit(code) => return End::Dead(code),
                Step::ExitAfter(code) => last_words = Some(End::Dead(code)),
                Step::Error(reason) => return End::Failed(reason),
                Step::BigLine(bytes) => {
                    let length = usize::try_from(bytes).unwrap_or(usize::MAX).min(32 << 20);
                    self.agent("noise", json!({ "phase": "x".repeat(length) }));
                }
                Step::Garbage => self.send_all(odd::garbage()),
                Step::Escapes => self.send_all(odd::escapes()),
                Step::Wrong => {
                    let frames = odd::wrong(&self.work.session, &self.work.run, &mut self.seq);
                    self.send_all(frames.iter().map(frame));
                }
                Step::Unknown => {
                    self.agent("hologram", json!({ "phase": "spin" }));
                    let payload = json!({ "sessionKey": self.work.session, "more": [1] });
                    self.event("session.hologram", &payload);
                }
                Step::Stray => self.send_all(odd::stray(&self.work.session).iter().map(frame)),
                Step::Reuse => {
                    let call = self.call();
                    self.result(&call, "one\n", false);
                    self.result(&call, "two\n", true);
                    // The same number once more is the same event.
                    self.seq -= 1;
                    self.result(&call, "three\n", false);
                }
                Step::OddEnd => last_words = Some(End::Odd),
                Step::Retry => self.agent(
                    "run_status",
                    json!({ "phase": "retrying", "retryAttempt": 1, "maxRetries": 8,
                        "delayMs": 500, "reason": "overloaded" }),
                ),
                // Ways of programs that are started by the bridge.
                Step::Stderr(_) | Step::Clock(..) | Step::Background | Step::Children { .. } => {}
            }
        }
        last_words.unwrap_or(End::Done)
    }

    fn event(&self, name: &str, payload: &Value) {
        let event = json!({ "type": "event", "event": name, "payload": payload });
        // Nobody is connected: that is no reason to stop.
        drop(self.work.events.send(frame(&event)));
    }

    fn send_all(&self, messages: impl IntoIterator<Item = Message>) {
        for message in messages {
            drop(self.work.events.send(message));
        }
    }

    fn agent(&mut self, stream: &str, data: Value) {
        self.seq += 1;
        let mut payload = json!({ "runId": self.work.run, "sessionKey": self.work.session,
            "agentId": "main", "stream": stream, "seq": self.seq });
        payload["data"] = data;
        self.event("agent", &payload);
    }

    fn chat(&self, state: &str, more: Value) {
        let mut payload = more;
        payload["runId"] = json!(self.work.run);
        payload["sessionKey"] = json!(self.work.session);
        payload["state"] = json!(state);
        self.event("chat", &payload);
    }

    fn settle(&mut self, phase: &str, more: Value) {
        let mut data = more;
        data["phase"] = json!(phase);
        data["executionSettled"] = json!(true);
        self.agent("lifecycle", data);
    }

    fn text(&mut self, pieces: &[String]) {
        self.items += 1;
        let item = format!("{}:{}", self.work.run, self.items);
        let mut whole = String::new();
        for piece in pieces {
            whole.push_str(piece);
            let data = json!({ "text": whole, "delta": piece, "itemId": item });
            self.agent("assistant", data);
        }
    }

    fn call(&mut self) -> String {
        self.items += 1;
        let call = format!("call-{}-{}", self.work.run, self.items);
        let data = json!({ "phase": "start", "name": "exec", "toolCallId": call,
            "args": { "command": "echo fake" } });
        self.agent("tool", data);
        call
    }

    fn result(&mut self, call: &str, text: &str, failed: bool) {
        let result = json!({ "content": [{ "type": "text", "text": text }],
            "details": { "exitCode": i32::from(failed) } });
        let data = json!({ "phase": "result", "name": "exec", "toolCallId": call,
            "isError": failed, "result": result });
        self.agent("tool", data);
    }

    /// Whether it was allowed; `None` when the run is stopped instead.
    async fn ask(&mut self) -> Option<bool> {
        let call = self.call();
        let id = format!("{}#{call}", self.work.session);
        let request = json!({ "command": "echo fake", "cwd": "/", "host": "gateway",
            "runId": self.work.run, "toolCallId": call, "sessionKey": self.work.session,
            "allowedDecisions": ["allow-once", "deny"] });
        let payload = json!({ "id": id, "request": request, "expiresAtMs": 4_000_000_000_000_i64 });
        let asked = ToBrain::Asked {
            session: self.work.session.clone(),
            approval: payload.clone(),
        };
        drop(self.work.brain.send(asked).await);
        self.event("exec.approval.requested", &payload);
        self.agent(
            "lifecycle",
            json!({ "phase": "waiting-approval", "toolCallId": call }),
        );
        let allowed = loop {
            match self.inbox.recv().await {
                Some(ToRun::Decided(allowed)) => break allowed,
                Some(ToRun::Message { run, text }) => self.inject(&run, &text),
                Some(ToRun::Abort) | None => return None,
            }
        };
        self.result(&call, if allowed { "fake\n" } else { "denied" }, !allowed);
        Some(allowed)
    }

    /// Until a message comes; false when it is stopped.
    async fn hang(&mut self) -> bool {
        loop {
            match self.inbox.recv().await {
                Some(ToRun::Message { run, text }) => {
                    self.inject(&run, &text);
                    return true;
                }
                Some(ToRun::Decided(_)) => {}
                Some(ToRun::Abort) | None => return false,
            }
        }
    }

    /// A message for this turn: said back, and its own run ends empty.
    fn inject(&mut self, run: &str, text: &str) {
        let said = text.lines().last().unwrap_or_default();
        self.text(&in_words(&format!("You added: {said}.")));
        let payload = json!({ "runId": run, "sessionKey": self.work.session, "state": "final" });
        self.event("chat", &payload);
    }
}

fn in_words(text: &str) -> Vec<String> {
    text.split_inclusive(' ').map(str::to_owned).collect()
}
