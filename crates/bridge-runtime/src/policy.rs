//! What this machine allows, decided here and nowhere else (decisions 11, 12, 18, 19).

use std::time::Duration;

use bridge_proto::model::{Ask, AskKind};
use bridge_providers::provider::Asking;

use crate::rules::{Doer, Leaning, RuleDecision, Rules};

/// The settings every decision is made by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Runs at work at the same time; further ones wait, first in first out. At least 1.
    pub parallel: usize,
    /// A run without any sign of life for this long is stopped and reported as blocked.
    pub silence: Duration,
    /// An agent whose model does not answer for this long is stopped and its run reported as
    /// failed; `None`: it is waited for as long as it says that it tries. Tools at work and open
    /// questions do not count.
    pub patience: Option<Duration>,
    /// An agent process stays this long after a turn, for a quick follow-up.
    pub idle: Duration,
    /// At most so many idle processes; the one idle longest is closed first.
    pub idle_processes: usize,
    /// Changes of files inside the place of the run.
    pub edits: EditRule,
    /// Commands, and everything else an agent asks for.
    pub commands: CommandRule,
    /// How long a question stays open on a plane that cannot say whether a person looks at it.
    pub ask_wait: Duration,
    /// Whether an agent's thinking leaves the machine.
    pub send_thinking: bool,
    /// What a plane may ask of OpenClaw past its runs.
    pub remote: RemoteRule,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            parallel: 4,
            silence: Duration::from_secs(30 * 60),
            patience: Some(Duration::from_secs(5 * 60)),
            idle: Duration::from_secs(5 * 60),
            idle_processes: 4,
            edits: EditRule::Allow,
            commands: CommandRule::AskViewer,
            ask_wait: Duration::from_secs(10 * 60),
            send_thinking: true,
            remote: RemoteRule::Off,
        }
    }
}

impl Policy {
    /// Whether an agent that asks before it runs a command gets an answer. Rules are asked only
    /// where the agent asks, so one that could make a difference makes it ask.
    pub fn asking(&self, viewer: bool, rules: Leaning) -> Asking {
        match self.commands {
            CommandRule::Ask => Asking::Answered,
            CommandRule::AskViewer if viewer => Asking::Answered,
            CommandRule::AskViewer | CommandRule::Deny => {
                if rules.allows || rules.asks {
                    Asking::Answered
                } else {
                    Asking::Unanswered
                }
            }
            CommandRule::Allow => {
                if rules.asks || rules.denies {
                    Asking::Answered
                } else {
                    Asking::Unneeded
                }
            }
        }
    }

    /// What is done about a question: the user's rules first, then the settings. Questions that are
    /// no permission are always a person's.
    pub fn decide(&self, rules: &Rules, ask: &Ask, around: Surroundings<'_>) -> Verdict {
        if let Some(ruling) = rules.decide(ask, around.doer) {
            let rule = format!("rule {}", ruling.rule);
            return match ruling.decision {
                RuleDecision::Allow => Verdict::Allow { rule },
                RuleDecision::Ask => Verdict::Ask,
                RuleDecision::Deny => Verdict::Deny {
                    rule,
                    why: "a rule of this machine does not allow it",
                },
            };
        }
        let allow = |rule: &str| Verdict::Allow { rule: rule.into() };
        let deny = |rule: &str, why| Verdict::Deny {
            rule: rule.into(),
            why,
        };
        match ask.kind {
            AskKind::Question => Verdict::Ask,
            AskKind::Edit if around.inside => match self.edits {
                EditRule::Allow => allow("edits = allow"),
                EditRule::Ask => Verdict::Ask,
            },
            AskKind::Edit | AskKind::Command | AskKind::Other => match self.commands {
                CommandRule::Ask => Verdict::Ask,
                CommandRule::AskViewer if around.viewer => Verdict::Ask,
                CommandRule::AskViewer => deny(
                    "commands = ask, but nobody is watching",
                    "this machine asks a person before that, and the control plane has no way to \
                     answer",
                ),
                CommandRule::Allow => allow("commands = allow"),
                CommandRule::Deny => deny(
                    "commands = deny",
                    "the settings of this machine do not allow it",
                ),
            },
        }
    }
}

/// What surrounds a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Surroundings<'a> {
    /// Who wants to do it.
    pub doer: Doer<'a>,
    /// Everything the action touches lies inside the place of the run.
    pub inside: bool,
    /// Our hub is on the other end, so a person can see and answer it.
    pub viewer: bool,
    /// How long the agent itself waits, if it said so.
    pub patience: Option<Duration>,
}

/// What is done about a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is allowed this once.
    Allow {
        /// Which rule, for people.
        rule: String,
    },
    /// It is denied.
    Deny {
        /// Which rule, for people.
        rule: String,
        /// For the agent.
        why: &'static str,
    },
    /// A person is asked.
    Ask,
}

/// What happens when an agent wants to change a file inside the place of its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EditRule {
    /// Allowed without a question: the user pointed the task at this place.
    Allow,
    /// A person is asked.
    Ask,
}

/// What happens when an agent wants to run a command or act outside its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandRule {
    /// Asked where a viewer can answer (our hub), denied elsewhere.
    AskViewer,
    /// Asked everywhere; without an answer in time it is denied.
    Ask,
    /// Allowed without a question.
    Allow,
    /// Denied without a question.
    Deny,
}

/// What a plane may ask of OpenClaw past its runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteRule {
    /// Nothing.
    Off,
    /// Single calls of its tools.
    Tools,
    /// A new configuration.
    Config,
    /// Both.
    All,
}

impl RemoteRule {
    /// Whether single tools may be called.
    pub fn tools(self) -> bool {
        match self {
            Self::Tools | Self::All => true,
            Self::Off | Self::Config => false,
        }
    }

    /// Whether the configuration may be replaced.
    pub fn config(self) -> bool {
        match self {
            Self::Config | Self::All => true,
            Self::Off | Self::Tools => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bridge_proto::{AskId, Digest, model::Action};

    use super::*;
    use crate::rules::{ActionKind, Pattern, Rule};

    fn ask(kind: AskKind, command: Option<&str>) -> Ask {
        let action = command.map(|command| {
            Box::new(Action {
                command: Some(command.into()),
                ..Action::default()
            })
        });
        Ask {
            id: AskId::parse("a").unwrap(),
            kind,
            summary: "do it".into(),
            options: Vec::new(),
            digest: Digest::of(&["x"]),
            tool: None,
            expires: None,
            answered: None,
            action,
        }
    }

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

    fn word(verdict: &Verdict) -> &'static str {
        match verdict {
            Verdict::Allow { .. } => "allow",
            Verdict::Deny { .. } => "deny",
            Verdict::Ask => "ask",
        }
    }

    /// Kind, inside, viewer; then what each setting makes of it.
    #[test]
    fn without_rules_the_settings_decide() {
        use AskKind::{Command, Edit, Other, Question};
        use CommandRule::{Allow, Ask, AskViewer, Deny};
        for (kind, inside, viewer, expected) in [
            (Edit, true, false, ["allow", "allow", "allow", "allow"]),
            (Edit, false, true, ["ask", "ask", "allow", "deny"]),
            (Edit, false, false, ["deny", "ask", "allow", "deny"]),
            (Command, true, true, ["ask", "ask", "allow", "deny"]),
            (Command, true, false, ["deny", "ask", "allow", "deny"]),
            (Other, true, false, ["deny", "ask", "allow", "deny"]),
            (Question, true, false, ["ask", "ask", "ask", "ask"]),
        ] {
            let said = [AskViewer, Ask, Allow, Deny].map(|commands| {
                let policy = Policy {
                    commands,
                    ..Policy::default()
                };
                let ask = ask(kind, None);
                word(&policy.decide(&Rules::default(), &ask, around(inside, viewer)))
            });
            assert_eq!(said, expected, "{kind:?} {inside} {viewer}");
        }
        let asks = Policy {
            edits: EditRule::Ask,
            ..Policy::default()
        };
        let verdict = asks.decide(&Rules::default(), &ask(Edit, None), around(true, true));
        assert_eq!(verdict, Verdict::Ask);
    }

    #[test]
    fn a_rule_comes_before_the_settings_and_says_which_it_is() {
        let rule = |matches: &str, decision| Rule {
            agent: None,
            kind: Some(ActionKind::Command),
            tool: None,
            matches: Some(Pattern::parse(matches).unwrap()),
            decision,
        };
        let rules = Rules(vec![
            rule("rm *", RuleDecision::Deny),
            rule("git *", RuleDecision::Allow),
            rule("make", RuleDecision::Ask),
        ]);
        let policy = |commands| Policy {
            commands,
            ..Policy::default()
        };
        let says = |commands, command: &str| {
            let ask = ask(AskKind::Command, Some(command));
            policy(commands).decide(&rules, &ask, around(true, false))
        };
        assert_eq!(
            says(CommandRule::Allow, "rm x"),
            Verdict::Deny {
                rule: "rule 1".into(),
                why: "a rule of this machine does not allow it"
            }
        );
        assert_eq!(
            says(CommandRule::Deny, "git status"),
            Verdict::Allow {
                rule: "rule 2".into()
            }
        );
        assert_eq!(says(CommandRule::Deny, "make"), Verdict::Ask);
        assert_eq!(word(&says(CommandRule::Deny, "ls")), "deny");
        assert_eq!(word(&says(CommandRule::Allow, "ls")), "allow");
        assert_eq!(
            word(&says(CommandRule::Allow, "ls; rm x")),
            "ask",
            "nobody can tell what it runs"
        );
    }

    #[test]
    fn an_agent_asks_where_an_answer_could_differ() {
        use CommandRule::{Allow, Ask, AskViewer, Deny};
        let leaning = |allows, asks, denies| Leaning {
            allows,
            asks,
            denies,
        };
        let none = leaning(false, false, false);
        for (commands, viewer, rules, expected) in [
            (Ask, false, none, Asking::Answered),
            (AskViewer, true, none, Asking::Answered),
            (AskViewer, false, none, Asking::Unanswered),
            (
                AskViewer,
                false,
                leaning(true, false, false),
                Asking::Answered,
            ),
            (
                AskViewer,
                false,
                leaning(false, false, true),
                Asking::Unanswered,
            ),
            (Deny, true, none, Asking::Unanswered),
            (Deny, true, leaning(false, true, false), Asking::Answered),
            (Allow, false, none, Asking::Unneeded),
            (Allow, false, leaning(true, false, false), Asking::Unneeded),
            (Allow, false, leaning(false, false, true), Asking::Answered),
        ] {
            let policy = Policy {
                commands,
                ..Policy::default()
            };
            let said = policy.asking(viewer, rules);
            assert_eq!(said, expected, "{commands:?} {viewer} {rules:?}");
        }
    }
}
