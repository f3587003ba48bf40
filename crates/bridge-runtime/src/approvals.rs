//! What waits for a person: a pure table of open questions and the rules that close them.
//!
//! ```text
//!             raise ──► allowed or denied by policy (never shown)
//!               │
//!               ▼
//!   waiting ─ show ─► shown ─ answer ─► answered ─ applied ─► closed
//!               │        └──── expired / withdrawn / run ended ──► closed
//! ```
//!
//! The first valid answer wins; it is confirmed only when the agent took it. On a plane without
//! the extension one question of a task is shown at a time (decision 18).

#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bridge_proto::{
    AskId, Digest, RunKey, TaskId,
    model::{Answer, Ask, AskEnd, AskKind, Choice, ChoiceKind, match_answer},
};
use thiserror::Error;

use crate::{
    policy::{Policy, Surroundings, Verdict},
    rules::Rules,
};

/// The open questions of all runs.
#[derive(Debug, Default)]
pub struct Approvals {
    open: VecDeque<Open>,
}

#[derive(Debug)]
struct Open {
    run: RunKey,
    ask: Ask,
    expires: Option<Instant>,
    shown: bool,
}

/// What becomes of a new question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Answered by a rule of this machine.
    ByPolicy {
        /// For the agent.
        answer: Answer,
        /// Which rule, for people.
        rule: String,
    },
    /// A person is asked now.
    Show,
    /// A person is asked when the questions before it are closed.
    Wait,
}

/// Why an answer was not taken; nothing is changed by it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AnswerError {
    /// No question of this task is open, or it was answered before.
    #[error("no such question is open for task {task}; it may have been answered or withdrawn")]
    NotOpen {
        /// Which task.
        task: TaskId,
    },
    /// What the viewer saw is not what would be done.
    #[error("the question changed since it was shown; look at it again")]
    DigestDiffers,
    /// No option of this id.
    #[error("there is no option {option}; choose one of {offered}")]
    NoSuchOption {
        /// What was sent.
        option: String,
        /// What there is.
        offered: String,
    },
    /// A permission needs one of its options.
    #[error("the answer fits no option; choose one of {offered} by number, name or yes/no")]
    NotAnOption {
        /// What there is.
        offered: String,
    },
}

/// An answer on its way to the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Whose question.
    pub run: RunKey,
    /// The question, answered, for everybody who sees it.
    pub ask: Ask,
    /// What to tell the agent.
    pub answer: Answer,
}

/// A question that was closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// Whose question.
    pub run: RunKey,
    /// Which.
    pub ask: AskId,
    /// How.
    pub how: AskEnd,
}

impl Approvals {
    /// Takes a new question and decides whether a person must see it.
    pub fn raise(
        &mut self,
        now: Instant,
        run: &RunKey,
        ask: Ask,
        around: Surroundings<'_>,
        policy: &Policy,
        rules: &Rules,
    ) -> Decision {
        if let Some((answer, rule)) = by_policy(&ask, around, policy, rules) {
            return Decision::ByPolicy { answer, rule };
        }
        let for_people = (!around.viewer).then_some(policy.ask_wait);
        let for_agents = around.patience.map(|patience| patience + LAST_WORD);
        let wait = for_people.into_iter().chain(for_agents).min();
        let alone = around.viewer || !self.open.iter().any(|open| open.run.task == run.task);
        self.open.push_back(Open {
            run: run.clone(),
            ask,
            expires: wait.map(|wait| now + wait),
            shown: alone,
        });
        if alone {
            Decision::Show
        } else {
            Decision::Wait
        }
    }

    /// Takes a person's answer. Without an id it goes to the question that is shown first.
    pub fn answer(
        &mut self,
        task: &TaskId,
        id: Option<&AskId>,
        digest: Option<&Digest>,
        answer: &Answer,
    ) -> Result<Accepted, AnswerError> {
        let open = self
            .open
            .iter_mut()
            .find(|open| {
                open.run.task == *task
                    && open.shown
                    && open.ask.answered.is_none()
                    && id.is_none_or(|id| open.ask.id == *id)
            })
            .ok_or_else(|| AnswerError::NotOpen { task: task.clone() })?;
        if digest.is_some_and(|digest| open.ask.digest != *digest) {
            return Err(AnswerError::DigestDiffers);
        }
        let (answer, label) = settle(&open.ask, answer)?;
        open.ask.answered = Some(label);
        Ok(Accepted {
            run: open.run.clone(),
            ask: open.ask.clone(),
            answer,
        })
    }

    /// The agent took the answer. `None` when the question was decided by policy.
    pub fn applied(&mut self, run: &RunKey, ask: &AskId) -> Option<Closed> {
        let place = self.place(run, ask)?;
        let label = self.open.get(place)?.ask.answered.clone()?;
        self.open.remove(place);
        Some(Closed {
            run: run.clone(),
            ask: ask.clone(),
            how: AskEnd::Answered { answer: label },
        })
    }

    /// The agent withdrew the question itself and has said so.
    pub fn withdrawn(&mut self, run: &RunKey, ask: &AskId) {
        if let Some(place) = self.place(run, ask) {
            self.open.remove(place);
        }
    }

    /// The run is over; its questions go with it.
    pub fn run_ended(&mut self, run: &RunKey) -> Vec<Closed> {
        let (over, rest) = self.open.drain(..).partition(|open| open.run == *run);
        self.open = rest;
        let over: VecDeque<Open> = over;
        over.into_iter()
            .map(|open| Closed {
                run: open.run,
                ask: open.ask.id,
                how: AskEnd::Withdrawn,
            })
            .collect()
    }

    /// Denies what nobody answered in time. Each comes with what to tell the agent.
    pub fn expire(&mut self, now: Instant) -> Vec<(Closed, Answer)> {
        let mut late = Vec::new();
        self.open.retain(|open| {
            let due = open.ask.answered.is_none() && open.expires.is_some_and(|at| at <= now);
            if due {
                let closed = Closed {
                    run: open.run.clone(),
                    ask: open.ask.id.clone(),
                    how: AskEnd::Expired,
                };
                let answer = Answer::Deny {
                    reason: "nobody answered in time".into(),
                };
                late.push((closed, answer));
            }
            !due
        });
        late
    }

    /// The question of this task to show next, now that one was closed.
    pub fn show_next(&mut self, task: &TaskId) -> Option<(RunKey, Ask)> {
        if self
            .open
            .iter()
            .any(|open| open.run.task == *task && open.shown)
        {
            return None;
        }
        let open = self.open.iter_mut().find(|open| open.run.task == *task)?;
        open.shown = true;
        Some((open.run.clone(), open.ask.clone()))
    }

    /// Whether a run waits for a person; an answer that the agent has yet to take is the agent's
    /// to hurry with.
    pub fn is_waiting(&self, run: &RunKey) -> bool {
        self.open
            .iter()
            .any(|open| open.run == *run && open.ask.answered.is_none())
    }

    /// When [`Approvals::expire`] is due next.
    pub fn deadline(&self) -> Option<Instant> {
        self.open
            .iter()
            .filter(|open| open.ask.answered.is_none())
            .filter_map(|open| open.expires)
            .min()
    }

    fn place(&self, run: &RunKey, ask: &AskId) -> Option<usize> {
        self.open
            .iter()
            .position(|open| open.run == *run && open.ask.id == *ask)
    }
}

fn by_policy(
    ask: &Ask,
    around: Surroundings<'_>,
    policy: &Policy,
    rules: &Rules,
) -> Option<(Answer, String)> {
    match policy.decide(rules, ask, around) {
        Verdict::Ask => None,
        Verdict::Allow { rule } => {
            // Never more than this once: where that cannot be said, a person decides.
            let once = |choice: &&Choice| choice.kind == ChoiceKind::AllowOnce;
            let option = ask.options.iter().find(once)?.id.clone();
            Some((
                Answer::Choose { option },
                format!("{rule}: {}", ask.summary),
            ))
        }
        Verdict::Deny { rule, why } => {
            let answer = Answer::Deny { reason: why.into() };
            Some((answer, format!("{rule}: {}", ask.summary)))
        }
    }
}

/// Turns what a person sent into what the agent gets, and into what others read about it.
fn settle(ask: &Ask, answer: &Answer) -> Result<(Answer, String), AnswerError> {
    let offered = || {
        let labels: Vec<&str> = ask
            .options
            .iter()
            .map(|option| option.label.as_str())
            .collect();
        labels.join(", ")
    };
    let by_id = |id: &str| ask.options.iter().find(|option| option.id == id);
    match answer {
        Answer::Choose { option } => match by_id(option) {
            Some(choice) => Ok((answer.clone(), choice.label.clone())),
            None => Err(AnswerError::NoSuchOption {
                option: option.clone(),
                offered: offered(),
            }),
        },
        Answer::Deny { reason } => Ok((answer.clone(), format!("no: {reason}"))),
        Answer::Text { text } => match match_answer(ask, text) {
            Answer::Choose { option } => {
                let label =
                    by_id(&option).map_or_else(|| option.clone(), |choice| choice.label.clone());
                Ok((Answer::Choose { option }, label))
            }
            Answer::Text { .. } if ask.kind != AskKind::Question => {
                Err(AnswerError::NotAnOption { offered: offered() })
            }
            words @ (Answer::Text { .. } | Answer::Deny { .. }) => Ok((words, text.clone())),
        },
    }
}

/// An agent that gives up waiting says so itself; this is how long it may take for that.
const LAST_WORD: Duration = Duration::from_secs(2);
