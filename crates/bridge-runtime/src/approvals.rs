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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bridge_proto::model::Action;

    use super::*;
    use crate::{
        policy::CommandRule,
        rules::{ActionKind, Doer, Rule, RuleDecision},
    };

    fn around(inside: bool, viewer: bool) -> Surroundings<'static> {
        Surroundings {
            doer: Doer {
                agent: "a",
                provider: "p",
                directory: Path::new("/w"),
            },
            inside,
            viewer,
            patience: None,
        }
    }

    fn hub() -> Surroundings<'static> {
        around(true, true)
    }

    fn plain() -> Surroundings<'static> {
        around(true, false)
    }

    const NONE: Rules = Rules(Vec::new());

    fn run(task: &str) -> RunKey {
        RunKey {
            task: TaskId::parse(task).unwrap(),
            attempt: "r".into(),
        }
    }

    fn ask(id: &str, kind: AskKind) -> Ask {
        let choice = |id: &str, label: &str, kind| Choice {
            id: id.into(),
            label: label.into(),
            kind,
        };
        Ask {
            id: AskId::parse(id).unwrap(),
            kind,
            summary: "do it".into(),
            options: vec![
                choice("y", "Allow", ChoiceKind::AllowOnce),
                choice("n", "Reject", ChoiceKind::RejectOnce),
            ],
            digest: Digest::of(&["do it", id]),
            tool: None,
            expires: None,
            answered: None,
            action: None,
        }
    }

    fn choose(option: &str) -> Answer {
        Answer::Choose {
            option: option.into(),
        }
    }

    #[test]
    fn edits_inside_the_place_are_allowed_and_outside_are_asked() {
        let mut table = Approvals::default();
        let now = Instant::now();
        let policy = Policy::default();
        assert_eq!(
            table.raise(
                now,
                &run("t"),
                ask("a", AskKind::Edit),
                hub(),
                &policy,
                &NONE
            ),
            Decision::ByPolicy {
                answer: choose("y"),
                rule: "edits = allow: do it".into()
            }
        );
        let outside = around(false, true);
        assert_eq!(
            table.raise(
                now,
                &run("t"),
                ask("b", AskKind::Edit),
                outside,
                &policy,
                &NONE
            ),
            Decision::Show
        );
    }

    #[test]
    fn a_command_is_denied_where_nobody_can_answer() {
        let decision = Approvals::default().raise(
            Instant::now(),
            &run("t"),
            ask("a", AskKind::Command),
            plain(),
            &Policy::default(),
            &NONE,
        );
        assert!(
            matches!(
                &decision,
                Decision::ByPolicy {
                    answer: Answer::Deny { .. },
                    ..
                }
            ),
            "{decision:?}"
        );
    }

    #[test]
    fn the_first_answer_wins_and_is_confirmed_only_when_applied() {
        let mut table = Approvals::default();
        let now = Instant::now();
        let (run, policy) = (run("t"), Policy::default());
        table.raise(now, &run, ask("a", AskKind::Command), hub(), &policy, &NONE);
        let id = AskId::parse("a").unwrap();
        let taken = table
            .answer(&run.task, Some(&id), None, &choose("y"))
            .unwrap();
        assert_eq!(
            taken,
            Accepted {
                run: run.clone(),
                ask: Ask {
                    answered: Some("Allow".into()),
                    ..ask("a", AskKind::Command)
                },
                answer: choose("y")
            }
        );
        let second = table.answer(&run.task, Some(&id), None, &choose("n"));
        assert_eq!(
            second,
            Err(AnswerError::NotOpen {
                task: run.task.clone()
            })
        );
        let closed = table.applied(&run, &id).unwrap();
        assert_eq!(
            closed.how,
            AskEnd::Answered {
                answer: "Allow".into()
            }
        );
        assert!(!table.is_waiting(&run));
    }

    #[test]
    fn an_answer_to_something_else_than_was_shown_is_refused() {
        let mut table = Approvals::default();
        let policy = Policy::default();
        table.raise(
            Instant::now(),
            &run("t"),
            ask("a", AskKind::Command),
            hub(),
            &policy,
            &NONE,
        );
        let other = Digest::of(&["rm -rf /"]);
        assert_eq!(
            table.answer(&run("t").task, None, Some(&other), &choose("y")),
            Err(AnswerError::DigestDiffers)
        );
    }

    #[test]
    fn an_unknown_option_or_free_words_leave_a_permission_open() {
        let mut table = Approvals::default();
        let (run, policy) = (run("t"), Policy::default());
        table.raise(
            Instant::now(),
            &run,
            ask("a", AskKind::Command),
            hub(),
            &policy,
            &NONE,
        );
        let words = Answer::Text {
            text: "perhaps later".into(),
        };
        assert!(matches!(
            table.answer(&run.task, None, None, &choose("zzz")),
            Err(AnswerError::NoSuchOption { .. })
        ));
        assert!(matches!(
            table.answer(&run.task, None, None, &words),
            Err(AnswerError::NotAnOption { .. })
        ));
        let number = Answer::Text { text: "2".into() };
        assert_eq!(
            table.answer(&run.task, None, None, &number).unwrap().answer,
            choose("n")
        );
    }

    #[test]
    fn on_the_plain_wire_one_question_is_shown_at_a_time() {
        let mut table = Approvals::default();
        let now = Instant::now();
        let policy = Policy {
            commands: CommandRule::Ask,
            ..Policy::default()
        };
        let run = run("t");
        let raise = |table: &mut Approvals, id| {
            table.raise(
                now,
                &run,
                ask(id, AskKind::Command),
                plain(),
                &policy,
                &NONE,
            )
        };
        assert_eq!(raise(&mut table, "a"), Decision::Show);
        assert_eq!(raise(&mut table, "b"), Decision::Wait);
        assert_eq!(table.show_next(&run.task), None);
        table.answer(&run.task, None, None, &choose("y")).unwrap();
        table.applied(&run, &AskId::parse("a").unwrap());
        assert_eq!(table.show_next(&run.task).unwrap().1.id.as_str(), "b");
    }

    #[test]
    fn without_an_answer_in_time_it_is_denied_on_a_plane_without_viewers() {
        let mut table = Approvals::default();
        let now = Instant::now();
        let policy = Policy {
            commands: CommandRule::Ask,
            ..Policy::default()
        };
        table.raise(
            now,
            &run("t"),
            ask("a", AskKind::Command),
            plain(),
            &policy,
            &NONE,
        );
        assert_eq!(table.deadline(), Some(now + policy.ask_wait));
        assert!(table.expire(now + Duration::from_secs(599)).is_empty());
        let late = table.expire(now + policy.ask_wait);
        assert_eq!(late.len(), 1);
        assert_eq!(late[0].0.how, AskEnd::Expired);
        assert!(!table.is_waiting(&run("t")));
    }

    #[test]
    fn an_agent_that_waits_for_a_while_only_is_not_waited_for_longer() {
        let mut table = Approvals::default();
        let now = Instant::now();
        let policy = Policy {
            commands: CommandRule::Ask,
            ..Policy::default()
        };
        let minute = Duration::from_secs(60);
        for around in [hub(), plain()] {
            let around = Surroundings {
                patience: Some(minute),
                ..around
            };
            table.raise(
                now,
                &run("t"),
                ask("a", AskKind::Command),
                around,
                &policy,
                &NONE,
            );
            assert_eq!(table.deadline(), Some(now + minute + LAST_WORD));
            assert!(table.expire(now + minute).is_empty(), "its own word counts");
            let late = table.expire(now + minute + LAST_WORD);
            assert_eq!(late[0].0.how, AskEnd::Expired);
        }
    }

    #[test]
    fn a_rule_never_answers_for_longer_than_this_once() {
        let mut table = Approvals::default();
        let rules = Rules(vec![Rule {
            agent: None,
            kind: Some(ActionKind::Command),
            tool: None,
            matches: None,
            decision: RuleDecision::Allow,
        }]);
        let mut always = ask("a", AskKind::Command);
        always.action = Some(Box::new(Action {
            command: Some("ls".into()),
            ..Action::default()
        }));
        let mut once = always.clone();
        always.options[0].kind = ChoiceKind::AllowAlways;
        let (now, policy) = (Instant::now(), Policy::default());
        let mut raise = |ask: Ask| table.raise(now, &run("t"), ask, plain(), &policy, &rules);
        assert_eq!(raise(always), Decision::Show);
        once.id = AskId::parse("b").unwrap();
        assert_eq!(
            raise(once),
            Decision::ByPolicy {
                answer: choose("y"),
                rule: "rule 1: do it".into()
            }
        );
    }

    #[test]
    fn the_questions_of_a_run_end_with_it() {
        let mut table = Approvals::default();
        let policy = Policy::default();
        let now = Instant::now();
        table.raise(
            now,
            &run("t"),
            ask("a", AskKind::Command),
            hub(),
            &policy,
            &NONE,
        );
        table.raise(
            now,
            &run("u"),
            ask("b", AskKind::Command),
            hub(),
            &policy,
            &NONE,
        );
        let closed = table.run_ended(&run("t"));
        assert_eq!(closed.len(), 1);
        assert!(table.is_waiting(&run("u")));
    }

    #[test]
    fn an_answered_question_no_longer_excuses_a_silent_agent() {
        let mut table = Approvals::default();
        let policy = Policy::default();
        table.raise(
            Instant::now(),
            &run("t"),
            ask("a", AskKind::Command),
            hub(),
            &policy,
            &NONE,
        );
        assert!(table.is_waiting(&run("t")));
        let task = TaskId::parse("t").unwrap();
        table.answer(&task, None, None, &choose("y")).unwrap();
        assert!(!table.is_waiting(&run("t")));
    }
}
