//! What the owner says: prompts one after another, messages for a running turn, answers,
//! interrupts, settings and the end.

use std::time::{Duration, Instant};

use bridge_proto::{
    AskId,
    model::{Actor, Answer, AskEnd, Fault, Outcome, RunEvent, ToolStatus, Tuning},
};
use serde_json::{Value, json};

use super::{
    asks::{Closed, How},
    dialogue::{Act, MODE, OpenclawDialogue, Request, Rights, Stage, Work},
    frames::Failure,
    turn::{Stopping, Turn},
};
use crate::{
    plain::{one_line, sentence},
    provider::{Heard, Injection, Steer, TurnEnd},
};

/// A message for a running turn on its way.
#[derive(Debug)]
pub(super) struct Injected {
    pub(super) run: String,
    pub(super) until: Instant,
    /// What became of it, while that of an earlier one is not known.
    pub(super) what: Option<Injection>,
}

impl OpenclawDialogue {
    /// The owner says something.
    pub fn on_steer(&mut self, now: Instant, steer: Steer) {
        match steer {
            Steer::Prompt(text) => self.on_prompt(now, text),
            Steer::Inject(text) => self.inject(now, &text),
            Steer::Answer(ask, answer) => self.on_answer(now, &ask, &answer),
            Steer::Interrupt => self.on_interrupt(now),
            Steer::Tune(tuning) => self.on_tune(tuning),
            Steer::Close => {
                self.closing = true;
                if self.turn.is_none() && self.waiting.is_empty() {
                    self.hang_up();
                }
            }
        }
    }

    pub(super) fn on_prompt(&mut self, now: Instant, text: String) {
        match &self.stage {
            Stage::Over(outcome) => {
                let outcome = outcome.clone();
                self.turn_over(outcome, String::new());
            }
            Stage::Fresh | Stage::Opening | Stage::Ready => {
                self.waiting.push_back(text);
                self.next_turn(now);
            }
        }
    }

    pub(super) fn next_turn(&mut self, now: Instant) {
        let free = self.turn.is_none() && self.injections.is_empty();
        if self.stage != Stage::Ready || !free || !self.is_up() {
            return;
        }
        if let Some(text) = self.waiting.pop_front() {
            if text.len() > MAX_PROMPT {
                let reason = format!("OpenClaw takes no prompt of {} bytes", text.len());
                let fault = Fault::Task;
                self.turn_over(Outcome::Failed { fault, reason }, String::new());
                return self.next_turn(now);
            }
            let message = self.message(&text);
            self.runs += 1;
            let run = format!("ctrlnode-{}-{}", self.plan.seed, self.runs);
            self.turn = Some(Turn::new(run, message, self.root.clone(), now));
            self.guard();
            self.send_message();
        } else if self.closing {
            self.hang_up();
        }
    }

    /// A prompt with what has to stand before it.
    pub(super) fn message(&mut self, text: &str) -> String {
        let instructions = std::mem::take(&mut self.plan.instructions);
        let instructions = instructions.trim();
        if !instructions.is_empty() && self.plan.resume.is_none() {
            format!("{instructions}\n\n{text}")
        } else {
            text.to_owned()
        }
    }

    /// Sends the message of the turn. `interrupt` makes sure that it begins a run of its own name
    /// even if something else still works in the session; the mode it expects is checked by the
    /// gateway, so that nobody can have switched to full access in between.
    pub(super) fn send_message(&mut self) {
        let (Some(session), Some(turn)) = (self.session.clone(), &self.turn) else {
            return;
        };
        let params = self.message_params(&session, &turn.message, &turn.run, "interrupt");
        self.ask("chat.send", &params, Request::Message);
        self.tell(Heard::Prompted);
    }

    pub(super) fn message_params(
        &self,
        session: &str,
        text: &str,
        run: &str,
        queue: &str,
    ) -> Value {
        let mut params = json!({
            "sessionKey": session,
            "message": text,
            "idempotencyKey": run,
            "queueMode": queue,
            "deliver": false,
        });
        if let Some(fields) = params.as_object_mut() {
            if queue == "interrupt" {
                fields.insert("expectedPermissionMode".into(), MODE.into());
            }
            // What looks like a command of the gateway (`/exec security=full` in the middle of a
            // text) is text. Only an administrator may say so.
            if self.rights == Rights::Admin {
                fields.insert("suppressCommandInterpretation".into(), true.into());
            } else if text.trim_start().starts_with('/') {
                fields.insert("message".into(), format!("The user writes: {text}").into());
            }
        }
        params
    }

    pub(super) fn guard(&mut self) {
        let work = self.turn.as_ref().zip(self.session.clone());
        let work = work.map(|(turn, session)| Work {
            session,
            run: turn.run.clone(),
        });
        self.acts.push_back(Act::Guard(work));
    }

    pub(super) fn abort(&mut self) {
        if let (Some(session), Some(turn)) = (&self.session, &self.turn) {
            let params = json!({ "sessionKey": session, "runId": turn.run });
            self.ask("chat.abort", &params, Request::Abort);
        }
    }

    pub(super) fn on_interrupt(&mut self, now: Instant) {
        if let Some(turn) = &mut self.turn {
            if turn.stopping.is_none() {
                turn.stopping = Some(Stopping {
                    asked: now,
                    again: false,
                });
                self.abort();
            }
            return;
        }
        self.refuse_injections();
        let cancelled = Outcome::Cancelled { by: Actor::Person };
        for _ in std::mem::take(&mut self.waiting) {
            self.turn_over(cancelled.clone(), String::new());
        }
    }

    /// The gateway puts the message into the run, or begins a run of its own with it when it comes
    /// too late. Which of the two is told later.
    pub(super) fn inject(&mut self, now: Instant, text: &str) {
        let running = self
            .turn
            .as_ref()
            .is_some_and(|turn| turn.accepted && turn.stopping.is_none());
        let session = self.session.clone().filter(|_| running);
        let room = self.injections.len() < MAX_INJECTIONS;
        if let Some(session) = session.filter(|_| room) {
            self.runs += 1;
            let run = format!("ctrlnode-{}-{}", self.plan.seed, self.runs);
            let params = self.message_params(&session, text, &run, "steer");
            if self.ask("chat.send", &params, Request::Inject(run.clone())) {
                let until = now + INJECTED;
                self.injections.push_back(Injected {
                    run,
                    until,
                    what: None,
                });
                return;
            }
        }
        self.tell(Heard::Injected(Injection::Refused));
    }

    /// What became of a message for a running turn. One that began a run of its own is stopped.
    pub(super) fn injected(&mut self, now: Instant, run: &str, what: Injection) {
        let unsettled = |one: &&mut Injected| one.run == run && one.what.is_none();
        let Some(injected) = self.injections.iter_mut().find(unsettled) else {
            return;
        };
        injected.what = Some(what);
        if what == Injection::Refused
            && let Some(session) = &self.session
        {
            let params = json!({ "sessionKey": session, "runId": run });
            self.ask("chat.abort", &params, Request::Unread);
        }
        self.tell_settled();
        self.next_turn(now);
    }

    /// The turn is over for the owner as soon as it is known of every message for it whether it was
    /// read in it.
    pub(super) fn end_of_turn(&mut self, now: Instant, end: TurnEnd) {
        for one in &mut self.injections {
            one.until = now + INJECTED;
        }
        self.ended = Some(end);
        self.tell_settled();
    }

    /// Nobody waits for what becomes of the messages that are still on their way.
    pub(super) fn refuse_injections(&mut self) {
        for one in &mut self.injections {
            one.what.get_or_insert(Injection::Refused);
        }
        self.tell_settled();
    }

    /// Tells what is known, in the order in which the messages were said.
    fn tell_settled(&mut self) {
        while let Some(what) = self.injections.front().and_then(|one| one.what) {
            self.injections.pop_front();
            self.tell(Heard::Injected(what));
        }
        if self.injections.is_empty()
            && let Some(end) = self.ended.take()
        {
            self.tell(Heard::TurnOver(end));
        }
    }

    pub(super) fn is_injected(&self, run: &str) -> bool {
        self.injections.iter().any(|one| one.run == run)
    }

    pub(super) fn settle_overdue_injections(&mut self, now: Instant) {
        // While the turn runs the gateway may still be waiting for the model's next step.
        let running = self.turn.is_some();
        let overdue: Vec<String> = self
            .injections
            .iter_mut()
            .filter(|one| one.until <= now)
            .map(|one| {
                one.until = now + INJECTED;
                one.run.clone()
            })
            .collect();
        for run in overdue.iter().filter(|_| !running) {
            self.injected(now, run, Injection::Refused);
        }
    }

    pub(super) fn on_answer(&mut self, now: Instant, ask: &AskId, answer: &Answer) {
        let Some(decision) = self.asks.answer(ask, answer) else {
            return;
        };
        if let Some(turn) = &mut self.turn {
            turn.heard(now);
        }
        // Without a connection it is sent when there is one again.
        let params = json!({ "id": decision.approval, "decision": decision.word });
        let about = Request::Resolve(ask.clone());
        self.ask("exec.approval.resolve", &params, about);
    }

    /// The gateway has our answer to a question, or cannot take it.
    pub(super) fn on_resolved(&mut self, ask: &AskId, result: Result<Value, Failure>) {
        let closed = match result {
            Ok(_) => self.asks.applied(ask),
            Err(failure) => {
                let detail = failure.detail();
                let words = ["ALREADY_RESOLVED", "NOT_FOUND", "EXPIRED"];
                let over = words.iter().any(|word| detail.contains(word));
                let said = sentence(&failure.message, 200);
                self.status(format!("OpenClaw did not take the answer: {said}"));
                self.asks.refused(ask, over)
            }
        };
        if let Some(closed) = closed {
            self.closed(closed);
        }
    }

    pub(super) fn closed(&mut self, closed: Closed) {
        let Closed { ask, call, how } = closed;
        match how {
            How::Applied => self.tell(Heard::Applied(ask)),
            How::Otherwise(how) => self.emit(RunEvent::AskClosed { ask, how }),
        }
        let goes_on = self
            .turn
            .as_mut()
            .zip(call)
            .and_then(|(turn, call)| turn.tools.status(&call, ToolStatus::InProgress));
        self.emit_all(goes_on);
    }

    /// Closes every question but these.
    pub(super) fn close_asks(&mut self, still_open: &[&str]) {
        for gone in self.asks.keep_only(still_open) {
            let how = match gone.how {
                How::Applied => AskEnd::Withdrawn,
                How::Otherwise(how) => how,
            };
            self.emit(RunEvent::AskClosed { ask: gone.ask, how });
        }
    }

    pub(super) fn on_tune(&mut self, tuning: Tuning) {
        let Tuning {
            model,
            mode,
            effort,
        } = tuning;
        if let Some(mode) = mode.filter(|mode| mode != MODE) {
            let mode = one_line(&mode, 50);
            self.status(format!(
                "the mode stays {MODE}: {mode} would let commands run without a question or not at all"
            ));
        }
        let session = self
            .session
            .clone()
            .filter(|_| self.stage == Stage::Ready && self.is_up());
        let Some(session) = session else {
            self.plan.model = model.or_else(|| self.plan.model.take());
            self.effort = effort.or_else(|| self.effort.take());
            return;
        };
        if let Some(model) = model {
            let params = json!({ "key": session, "model": model });
            self.ask("sessions.patch", &params, Request::Model(model));
        }
        if let Some(effort) = effort {
            let params = json!({ "key": session, "thinkingLevel": effort });
            self.ask("sessions.patch", &params, Request::Effort(effort));
        }
    }

    pub(super) fn wanted_effort(&self) -> Option<&str> {
        self.effort.as_deref()
    }

    pub(super) fn on_tuned(&mut self, what: &str, wanted: &str, result: Result<Value, Failure>) {
        match result {
            Ok(payload) => {
                let resolved = payload.get("resolved").unwrap_or(&Value::Null);
                self.tell_model(resolved);
                if what != "model"
                    && let Some(effort) = resolved.get("thinkingLevel").and_then(Value::as_str)
                {
                    let effort = one_line(effort, 50);
                    self.emit(RunEvent::Effort { effort });
                }
            }
            Err(failure) => {
                let said = sentence(&failure.message, 200);
                let wanted = one_line(wanted, 100);
                self.status(format!("OpenClaw did not take the {what} {wanted}: {said}"));
            }
        }
    }
}

/// How long a message for a running turn may stay undecided once the turn is over.
const INJECTED: Duration = Duration::from_secs(5);
const MAX_INJECTIONS: usize = 16;
/// Longest prompt: the gateway hangs up on messages of more than 25 MiB, written as JSON.
const MAX_PROMPT: usize = 8 << 20;
