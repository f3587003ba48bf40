//! A conversation with a model: what is sent to it, what its answers mean, which tools are called
//! and when a person is asked. Pure: hand in one input, carry out [`Talk::next_act`] to `None`,
//! then wait for the next input or for [`Talk::deadline`].
//!
//! ```text
//!            begin                      calls                        all done
//!   idle ───────────► Answering ─────────────────► Acting ─────────────────────► Answering …
//!    ▲                 │  ▲  │ no calls             │  ▲
//!    │                 │  │  └──────────► over      └──┘ one call after the other; changes
//!    │        trouble  ▼  │ wait is over                are worked out, asked for, made
//!    │               Waiting
//!    └── over: answered, out of calls, failed, cancelled, out of time
//! ```

mod turn;

use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    time::Instant,
};

use bridge_proto::model::Usage;
use serde_json::{Value, json};

use self::turn::{Doing, Stage, Step, Turn};
use super::{
    chunk::Finish,
    files::Change,
    history::{Call, History, Message, Tongue},
    place::FileError,
    reply::{Answer, Head, News, Reply, WantedCall},
    request::{Request, Rules},
    retry::{LIMIT, Retries},
    tools::{self, Deed},
    trouble::{INTERNAL_ERROR, Trouble},
    words::{self, Verdict},
};
use crate::plain::head;

/// What the conversation wants done.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Act {
    /// Send this to the endpoint.
    Request(Value),
    /// Drop the request that runs.
    Abort,
    /// Tell the client this update of the session.
    Update(Value),
    /// Tell the client that the request is sent again.
    Retrying(Value),
    /// Ask the client for permission for this tool call.
    Ask(Value),
    /// Look, and hand the result to [`Talk::on_looked`].
    Look(Deed),
    /// Work a change out, for [`Talk::on_prepared`].
    Prepare(Deed),
    /// Make a change, for [`Talk::on_applied`].
    Apply(Change),
    /// The turn is over; always the last.
    Over(End),
}

/// How a turn ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum End {
    /// With a stop reason of the protocol.
    Stopped { reason: &'static str, usage: Usage },
    /// With an error.
    Failed { code: i64, message: String },
}

/// One conversation.
#[derive(Debug)]
pub(super) struct Talk {
    rules: Rules,
    directory: PathBuf,
    history: History,
    model: String,
    tongue: Tongue,
    /// The person has allowed all changes.
    always: bool,
    /// Tool calls so far; names them.
    calls: u64,
    /// US dollars so far.
    cost: Option<f64>,
    turn: Option<Turn>,
    acts: VecDeque<Act>,
}

impl Talk {
    /// A conversation in this directory that may have a history.
    pub(super) fn new(rules: Rules, directory: &Path, model: String, history: History) -> Self {
        Self {
            rules,
            directory: directory.to_owned(),
            history,
            model,
            tongue: Tongue::Tools,
            always: false,
            calls: 0,
            cost: None,
            turn: None,
            acts: VecDeque::new(),
        }
    }

    /// What was said so far.
    pub(super) fn history(&self) -> &History {
        &self.history
    }

    /// Uses another model from the next request on.
    pub(super) fn set_model(&mut self, model: &str) {
        if self.model != model {
            model.clone_into(&mut self.model);
            self.tongue = Tongue::Tools;
        }
    }

    /// Begins a turn. `jitter` is any number, another one each time.
    pub(super) fn begin(&mut self, now: Instant, prompt: &str, jitter: u64) {
        debug_assert!(self.turn.is_none(), "one turn at a time");
        self.history.push(Message::User {
            text: prompt.to_owned(),
        });
        self.turn = Some(Turn {
            due: now + self.rules.turn_limit,
            requests: 0,
            retries: Retries::default(),
            usage: Usage::default(),
            jitter,
            said: false,
            stage: Stage::Waiting { until: now },
        });
        self.ask_model(now);
    }

    /// The head of the response is here.
    pub(super) fn on_head(&mut self, now: Instant, head: Head) {
        let Some((reply, _)) = self.answering(now) else {
            return;
        };
        if let Err(trouble) = reply.on_head(head) {
            self.acts.push_back(Act::Abort);
            self.on_trouble(now, &trouble);
        }
    }

    /// A piece of the response is here.
    pub(super) fn on_bytes(&mut self, now: Instant, bytes: &[u8]) {
        let Some((reply, _)) = self.answering(now) else {
            return;
        };
        match reply.on_bytes(bytes, tools::is_tool) {
            Ok(news) => self.tell(news),
            Err(trouble) => {
                self.acts.push_back(Act::Abort);
                self.on_trouble(now, &trouble);
            }
        }
    }

    /// The response is over.
    pub(super) fn on_response_end(&mut self, now: Instant) {
        let Some((reply, _)) = self.answering(now) else {
            return;
        };
        match reply.on_end(tools::is_tool) {
            Ok((news, answer)) => {
                self.tell(news);
                self.on_answer(now, answer);
            }
            Err(trouble) => self.on_trouble(now, &trouble),
        }
    }

    /// There is no response, or no more of it.
    pub(super) fn on_broken(&mut self, now: Instant, reason: String) {
        if self.answering(now).is_some() {
            self.on_trouble(now, &Trouble::Broken(reason));
        }
    }

    /// What [`Act::Look`] found.
    pub(super) fn on_looked(&mut self, now: Instant, found: Result<String, FileError>) {
        if let Some((step, Doing::Looking)) = self.take_doing() {
            match found {
                Ok(text) => self.close(&step, "completed", &text),
                Err(error) => self.close(&step, "failed", &error.to_string()),
            }
            self.advance(now);
        }
    }

    /// What [`Act::Prepare`] worked out. A change is asked for, unless all are allowed.
    pub(super) fn on_prepared(&mut self, now: Instant, worked: Result<Change, FileError>) {
        let Some((step, Doing::Preparing(deed))) = self.take_doing() else {
            return;
        };
        let change = match worked {
            Ok(change) => change,
            Err(error) => {
                self.close(&step, "failed", &error.to_string());
                return self.advance(now);
            }
        };
        let call = words::change(&step.id, &deed, &change);
        if self.always {
            self.acts
                .push_back(Act::Update(words::update(call, "in_progress")));
            self.acts.push_back(Act::Apply(change.clone()));
            self.set_doing(step, Doing::Applying(change));
        } else {
            self.acts.push_back(Act::Ask(call));
            self.set_doing(step, Doing::Asking(change, now));
        }
    }

    /// What a person said to [`Act::Ask`]. The time they took does not count.
    pub(super) fn on_verdict(&mut self, now: Instant, verdict: Verdict) {
        let Some((step, Doing::Asking(change, since))) = self.take_doing() else {
            return;
        };
        if let Some(turn) = &mut self.turn {
            turn.due += now.saturating_duration_since(since);
        }
        match verdict {
            Verdict::Once | Verdict::Always => {
                self.always |= verdict == Verdict::Always;
                self.acts.push_back(Act::Apply(change.clone()));
                self.set_doing(step, Doing::Applying(change));
            }
            Verdict::No => {
                self.close(&step, "failed", NOT_ALLOWED);
                self.advance(now);
            }
        }
    }

    /// Whether [`Act::Apply`] worked.
    pub(super) fn on_applied(&mut self, now: Instant, done: Result<(), FileError>) {
        let Some((step, Doing::Applying(change))) = self.take_doing() else {
            return;
        };
        match done {
            Ok(()) => {
                let said = format!("{} has been written.", change.shown);
                self.close(&step, "completed", &said);
            }
            Err(error) => self.close(&step, "failed", &error.to_string()),
        }
        self.advance(now);
    }

    /// Ends the turn because somebody wants it to end.
    pub(super) fn cancel(&mut self) {
        self.break_off("cancelled by the user");
        self.stop("cancelled");
    }

    /// The deadline has passed.
    pub(super) fn on_timeout(&mut self, now: Instant) {
        let Some(turn) = &self.turn else { return };
        if turn.due <= now && turn.is_timed() {
            let minutes = self.rules.turn_limit.as_secs().div_ceil(60);
            self.break_off("out of time");
            return self.fail(
                INTERNAL_ERROR,
                format!("no final answer within {minutes} min"),
            );
        }
        match &turn.stage {
            Stage::Answering { heard, .. } if *heard + self.rules.quiet_limit <= now => {
                self.acts.push_back(Act::Abort);
                self.on_trouble(now, &Trouble::Silent(self.rules.quiet_limit));
            }
            Stage::Waiting { until } if *until <= now => self.send(now),
            Stage::Answering { .. } | Stage::Waiting { .. } | Stage::Acting { .. } => {}
        }
    }

    /// The next thing to do, oldest first.
    pub(super) fn next_act(&mut self) -> Option<Act> {
        self.acts.pop_front()
    }

    /// When to call [`Talk::on_timeout`], if nothing else happens before. While a person is asked
    /// there is no hurry.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let turn = self.turn.as_ref()?;
        let own = match &turn.stage {
            Stage::Answering { heard, .. } => *heard + self.rules.quiet_limit,
            Stage::Waiting { until } => *until,
            Stage::Acting { .. } => turn.due,
        };
        turn.is_timed().then(|| own.min(turn.due))
    }

    fn ask_model(&mut self, now: Instant) {
        let max = self.rules.max_turns;
        let Some(turn) = &mut self.turn else { return };
        if turn.requests >= max {
            return self.stop("max_turn_requests");
        }
        turn.requests += 1;
        turn.retries = Retries::default();
        self.send(now);
    }

    fn send(&mut self, now: Instant) {
        let request = Request {
            rules: &self.rules,
            model: &self.model,
            tongue: self.tongue,
            directory: &self.directory,
            history: &self.history,
        };
        let request = request.body();
        let Some(turn) = &mut self.turn else { return };
        turn.stage = Stage::Answering {
            reply: Box::default(),
            heard: now,
            announced: BTreeMap::new(),
        };
        self.acts.push_back(Act::Request(request));
    }

    /// The answer that is being received; notes that something was heard of it.
    fn answering(&mut self, now: Instant) -> Option<(&mut Reply, &mut BTreeMap<u64, String>)> {
        match &mut self.turn.as_mut()?.stage {
            Stage::Answering {
                reply,
                heard,
                announced,
            } => {
                *heard = now;
                Some((reply, announced))
            }
            Stage::Waiting { .. } | Stage::Acting { .. } => None,
        }
    }

    fn tell(&mut self, news: Vec<News>) {
        for news in news {
            let Some(turn) = &mut self.turn else { return };
            let update = match news {
                News::Text(text) => {
                    turn.said |= !text.trim().is_empty();
                    words::text(&text)
                }
                News::Reasoning(text) => words::thought(&text),
                News::Calling(number, name) => {
                    self.calls += 1;
                    let id = format!("call-{}", self.calls);
                    if let Stage::Answering { announced, .. } = &mut turn.stage {
                        announced.insert(number, id.clone());
                    }
                    words::calling(&id, &name)
                }
                News::Odd(part) => words::odd(&part),
            };
            self.acts.push_back(Act::Update(update));
        }
    }

    fn on_answer(&mut self, now: Instant, answer: Answer) {
        self.count(answer.usage);
        let Some(turn) = &mut self.turn else { return };
        let announced = match &mut turn.stage {
            Stage::Answering { announced, .. } => std::mem::take(announced),
            Stage::Waiting { .. } | Stage::Acting { .. } => BTreeMap::new(),
        };
        let cut = match answer.finish {
            Finish::Length => answer.calls.iter().any(|(_, call)| !is_whole(call)),
            Finish::Refused => true,
            Finish::Done | Finish::Error => false,
        };
        let empty = answer.is_empty() && !turn.said;
        let mut queue = VecDeque::new();
        for (number, wanted) in answer.calls.iter().filter(|_| !cut) {
            let id = announced.get(number).cloned().unwrap_or_else(|| {
                // A call whose name never came.
                self.calls += 1;
                format!("call-{}", self.calls)
            });
            let call = Call::new(wanted, &id);
            queue.push_back(Step { id, call });
        }
        let text = answer.text;
        if !text.is_empty() || !queue.is_empty() {
            let calls = queue.iter().map(|step| step.call.clone()).collect();
            self.history.push(Message::Model { text, calls });
        }
        match answer.finish {
            Finish::Done | Finish::Error | Finish::Length if !queue.is_empty() => {
                turn.stage = Stage::Acting { queue, doing: None };
                self.advance(now);
            }
            Finish::Length => self.stop("max_tokens"),
            Finish::Refused => self.stop("refusal"),
            Finish::Done | Finish::Error if empty => {
                self.fail(INTERNAL_ERROR, "the model gave no answer".to_owned());
            }
            Finish::Done | Finish::Error => self.stop("end_turn"),
        }
    }

    fn count(&mut self, usage: Option<Usage>) {
        let (Some(turn), Some(usage)) = (&mut self.turn, usage) else {
            return;
        };
        let sum = |before: Option<u64>, more: Option<u64>| match (before, more) {
            (Some(before), Some(more)) => Some(before.saturating_add(more)),
            (before, more) => before.or(more),
        };
        turn.usage.input_tokens = sum(turn.usage.input_tokens, usage.input_tokens);
        turn.usage.output_tokens = sum(turn.usage.output_tokens, usage.output_tokens);
        if let Some(dollars) = usage.cost_usd {
            let total = self.cost.unwrap_or(0.0) + dollars;
            self.cost = Some(total);
            let used = usage.input_tokens.unwrap_or(0) + usage.output_tokens.unwrap_or(0);
            let size = self.rules.context_tokens.map_or(0, u64::from);
            self.acts
                .push_back(Act::Update(words::cost(total, used, size)));
        }
    }

    fn on_trouble(&mut self, now: Instant, trouble: &Trouble) {
        let Some(turn) = &mut self.turn else { return };
        let reply = match &mut turn.stage {
            Stage::Answering { reply, .. } => std::mem::take(reply),
            Stage::Waiting { .. } | Stage::Acting { .. } => Box::default(),
        };
        if trouble.is_about_tools() && self.tongue == Tongue::Tools && !reply.is_shown() {
            self.tongue = Tongue::Text;
            return self.send(now);
        }
        // What a person has seen of an answer cannot be unsaid, so it is not begun again.
        if !reply.is_shown()
            && let Some(again) = turn.retries.after(now, trouble, turn.jitter)
        {
            turn.jitter = turn.jitter.rotate_left(7).wrapping_add(1);
            turn.stage = Stage::Waiting {
                until: now + again.delay,
            };
            let delay = u64::try_from(again.delay.as_millis()).unwrap_or(u64::MAX);
            self.acts.push_back(Act::Retrying(json!({
                "attempt": again.attempt,
                "limit": LIMIT,
                "delayMs": delay,
                "reason": trouble.to_string(),
            })));
            return;
        }
        let tried = match turn.retries.made() {
            0 => String::new(),
            1 => " (after one more try)".to_owned(),
            more => format!(" (after {more} more tries)"),
        };
        self.keep(reply.into_text());
        self.fail(trouble.code(), format!("{trouble}{tried}"));
    }

    /// Begins the next call, or asks the model what to do with the results.
    fn advance(&mut self, now: Instant) {
        loop {
            let Some(Turn {
                stage: Stage::Acting { queue, doing: None },
                ..
            }) = &mut self.turn
            else {
                return;
            };
            let Some(step) = queue.pop_front() else {
                return self.ask_model(now);
            };
            match Deed::read(&step.call.name, &step.call.arguments) {
                Err(wrong) => self.close(&step, "failed", &wrong),
                Ok(deed) if deed.changes() => {
                    self.acts.push_back(Act::Prepare(deed.clone()));
                    return self.set_doing(step, Doing::Preparing(deed));
                }
                Ok(deed) => {
                    let path = self.directory.join(deed.path()).display().to_string();
                    self.acts
                        .push_back(Act::Update(words::looking(&step.id, &deed, &path)));
                    self.acts.push_back(Act::Look(deed));
                    return self.set_doing(step, Doing::Looking);
                }
            }
        }
    }

    fn take_doing(&mut self) -> Option<(Step, Doing)> {
        match &mut self.turn.as_mut()?.stage {
            Stage::Acting { doing, .. } => Some(*doing.take()?),
            Stage::Answering { .. } | Stage::Waiting { .. } => None,
        }
    }

    fn set_doing(&mut self, step: Step, what: Doing) {
        if let Some(Turn {
            stage: Stage::Acting { doing, .. },
            ..
        }) = &mut self.turn
        {
            *doing = Some(Box::new((step, what)));
        }
    }

    /// A call is over: tells it, and remembers what it gave.
    fn close(&mut self, step: &Step, status: &str, output: &str) {
        self.acts
            .push_back(Act::Update(words::done(&step.id, status, output)));
        self.remember(step, output);
    }

    fn remember(&mut self, step: &Step, output: &str) {
        self.history.push(Message::Tool {
            call: step.call.id.clone(),
            name: step.call.name.clone(),
            fenced: step.call.fenced,
            text: head(output, RESULT_BYTES).to_owned(),
        });
    }

    /// Leaves the history in a state every endpoint takes: each call has a result.
    fn break_off(&mut self, why: &str) {
        let Some(turn) = &mut self.turn else { return };
        match std::mem::replace(
            &mut turn.stage,
            Stage::Acting {
                queue: VecDeque::new(),
                doing: None,
            },
        ) {
            Stage::Answering { reply, .. } => {
                self.acts.push_back(Act::Abort);
                self.keep(reply.into_text());
            }
            Stage::Waiting { .. } => {}
            Stage::Acting { queue, doing } => {
                let doing = doing.map(|doing| doing.0);
                for step in doing.into_iter().chain(queue) {
                    self.remember(&step, why);
                }
            }
        }
    }

    /// What there was of an answer that broke off.
    fn keep(&mut self, text: String) {
        if !text.trim().is_empty() {
            self.history.push(Message::Model {
                text,
                calls: Vec::new(),
            });
        }
    }

    fn stop(&mut self, reason: &'static str) {
        if let Some(turn) = self.turn.take() {
            self.acts.push_back(Act::Over(End::Stopped {
                reason,
                usage: turn.usage,
            }));
        }
    }

    fn fail(&mut self, code: i64, message: String) {
        if self.turn.take().is_some() {
            self.acts
                .push_back(Act::Over(End::Failed { code, message }));
        }
    }
}

/// Whether the arguments of a call came to their end.
fn is_whole(call: &WantedCall) -> bool {
    call.arguments.trim().is_empty() || serde_json::from_str::<Value>(&call.arguments).is_ok()
}

const NOT_ALLOWED: &str = "The user did not allow this change; nothing was written.";
/// Of what a tool gave, for the model.
const RESULT_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests;
