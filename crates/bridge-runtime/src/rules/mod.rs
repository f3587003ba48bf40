//! What the user of this machine decided beforehand about single actions of agents.
//!
//! Rules are asked in order and the first one that fits decides. They are about the exact action:
//! a rule that allows never fits an action that is not known for certain, and a rule that asks or
//! denies and cannot be checked against the action asks. So a mistake in a rule can only ever lead
//! to a question.

mod pattern;

use std::path::{Component, Path, PathBuf};

use bridge_proto::model::{Action, Ask, AskKind};

use self::pattern::Fit;
pub use self::pattern::{Pattern, PatternError};

/// All rules of this machine, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules(pub Vec<Rule>);

/// One rule. What is absent fits everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// An agent's id or its provider's key, in lower case.
    pub agent: Option<String>,
    /// Which sort of action.
    pub kind: Option<ActionKind>,
    /// The agent's own name for the tool.
    pub tool: Option<String>,
    /// Over the exact command, or over every path that is touched. A path pattern that is not
    /// absolute is about paths below the working directory of the run.
    pub matches: Option<Pattern>,
    /// What to do then.
    pub decision: RuleDecision,
}

/// Sorts of actions that rules can be about. Questions that are no permission are for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActionKind {
    /// A file is created, changed or deleted.
    Edit,
    /// A command is run.
    Command,
    /// Anything else.
    Other,
}

/// What a rule says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleDecision {
    /// Do it.
    Allow,
    /// Ask a person, on every plane.
    Ask,
    /// Do not do it.
    Deny,
}

/// Who wants to do something, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doer<'a> {
    /// The agent's id.
    pub agent: &'a str,
    /// The key of its provider.
    pub provider: &'a str,
    /// The working directory of the run, absolute.
    pub directory: &'a Path,
}

/// What the rules say about a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ruling {
    /// What to do.
    pub decision: RuleDecision,
    /// Which rule, from 1.
    pub rule: usize,
}

/// What rules may say about the commands of an agent, before anything is known of the commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaning {
    /// One may be allowed.
    pub allows: bool,
    /// One may be asked for.
    pub asks: bool,
    /// One may be denied.
    pub denies: bool,
}

impl Rules {
    /// What the rules say about this question; `None` when none fits.
    pub fn decide(&self, ask: &Ask, doer: Doer<'_>) -> Option<Ruling> {
        let kind = match ask.kind {
            AskKind::Edit => ActionKind::Edit,
            AskKind::Command => ActionKind::Command,
            AskKind::Other => ActionKind::Other,
            AskKind::Question => return None,
        };
        let nothing = Action::default();
        let action = ask.action.as_deref().unwrap_or(&nothing);
        self.0.iter().zip(1..).find_map(|(rule, number)| {
            let about = rule.is_about(doer) && rule.kind.is_none_or(|wanted| wanted == kind);
            let fit = if about {
                rule.fit(kind, action, doer.directory)
            } else {
                Fit::No
            };
            let decision = match (fit, rule.decision) {
                (Fit::Yes, decision) => decision,
                (Fit::Unclear, RuleDecision::Ask | RuleDecision::Deny) => RuleDecision::Ask,
                (Fit::Unclear, RuleDecision::Allow) | (Fit::No, _) => return None,
            };
            Some(Ruling {
                decision,
                rule: number,
            })
        })
    }

    /// What they may say about commands of this agent.
    pub fn leaning(&self, agent: &str, provider: &str) -> Leaning {
        let doer = Doer {
            agent,
            provider,
            directory: Path::new(""),
        };
        let says = |wanted| {
            self.0.iter().any(|rule| {
                let about = rule.kind.is_none_or(|kind| kind != ActionKind::Edit);
                rule.decision == wanted && about && rule.is_about(doer)
            })
        };
        Leaning {
            allows: says(RuleDecision::Allow),
            asks: says(RuleDecision::Ask),
            denies: says(RuleDecision::Deny),
        }
    }
}

impl Rule {
    fn is_about(&self, doer: Doer<'_>) -> bool {
        let is = |name: &String| name == doer.agent || name == doer.provider;
        self.agent.as_ref().is_none_or(is)
    }

    fn fit(&self, kind: ActionKind, action: &Action, directory: &Path) -> Fit {
        let tool = match (&self.tool, &action.tool) {
            (None, _) => Fit::Yes,
            (Some(wanted), Some(tool)) if wanted == tool => Fit::Yes,
            (Some(_), Some(_)) => return Fit::No,
            (Some(_), None) => Fit::Unclear,
        };
        let what = match &self.matches {
            Some(pattern) => self.fit_pattern(pattern, kind, action, directory),
            // Whatever it is, but it has to be known.
            None if self.decision != RuleDecision::Allow || self.is_known(kind, action) => Fit::Yes,
            None => Fit::Unclear,
        };
        match (tool, what) {
            (Fit::No, _) | (_, Fit::No) => Fit::No,
            (Fit::Yes, Fit::Yes) => Fit::Yes,
            (Fit::Unclear, _) | (_, Fit::Unclear) => Fit::Unclear,
        }
    }

    fn is_known(&self, kind: ActionKind, action: &Action) -> bool {
        match kind {
            ActionKind::Command => action.command.is_some(),
            ActionKind::Edit => !action.paths.is_empty(),
            // Only a name tells one of these from another.
            ActionKind::Other => self.tool.is_some() && action.tool.is_some(),
        }
    }

    fn fit_pattern(
        &self,
        pattern: &Pattern,
        kind: ActionKind,
        action: &Action,
        directory: &Path,
    ) -> Fit {
        let command = match kind {
            ActionKind::Command => Some(action.command.as_ref()),
            ActionKind::Edit => None,
            ActionKind::Other => action.command.as_ref().map(Some),
        };
        if let Some(command) = command {
            return command.map_or(Fit::Unclear, |command| pattern.command(command));
        }
        let fits: Vec<Fit> = action
            .paths
            .iter()
            .map(|path| fit_path(pattern, path, directory))
            .collect();
        let all = !fits.is_empty() && fits.iter().all(|fit| *fit == Fit::Yes);
        let any = fits.contains(&Fit::Yes);
        match self.decision {
            RuleDecision::Allow if all => Fit::Yes,
            RuleDecision::Ask | RuleDecision::Deny if any => Fit::Yes,
            RuleDecision::Allow | RuleDecision::Ask | RuleDecision::Deny => {
                if fits.is_empty() || fits.contains(&Fit::Unclear) {
                    Fit::Unclear
                } else {
                    Fit::No
                }
            }
        }
    }
}

/// Compares lexically; a path that climbs can mean anything.
fn fit_path(pattern: &Pattern, path: &str, directory: &Path) -> Fit {
    let path = directory.join(path);
    if path.components().any(|part| part == Component::ParentDir) {
        return Fit::Unclear;
    }
    let path: PathBuf = path.components().collect();
    let path = if pattern.is_absolute() {
        Some(path.as_path())
    } else {
        path.strip_prefix(directory).ok()
    };
    let Some(path) = path else { return Fit::No };
    match path.to_str() {
        Some(text) if pattern.path(&text.replace('\\', "/")) => Fit::Yes,
        Some(_) => Fit::No,
        None => Fit::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use bridge_proto::{AskId, Digest};

    use super::*;

    const DIRECTORY: &str = "/home/me/web";

    fn doer() -> Doer<'static> {
        Doer {
            agent: "reviewer",
            provider: "codex",
            directory: Path::new(DIRECTORY),
        }
    }

    fn ask(kind: AskKind, action: Option<Action>) -> Ask {
        Ask {
            id: AskId::parse("a").unwrap(),
            kind,
            summary: "git status".into(),
            options: Vec::new(),
            digest: Digest::of(&["x"]),
            tool: None,
            expires: None,
            answered: None,
            action: action.map(Box::new),
        }
    }

    fn command(line: &str) -> Ask {
        let action = Action {
            tool: Some("Bash".into()),
            command: Some(line.into()),
            paths: Vec::new(),
        };
        ask(AskKind::Command, Some(action))
    }

    fn edit(paths: &[&str]) -> Ask {
        let action = Action {
            tool: Some("Edit".into()),
            command: None,
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        };
        ask(AskKind::Edit, Some(action))
    }

    fn rule(kind: Option<ActionKind>, matches: Option<&str>, decision: RuleDecision) -> Rule {
        Rule {
            agent: None,
            kind,
            tool: None,
            matches: matches.map(|text| Pattern::parse(text).unwrap()),
            decision,
        }
    }

    fn says(rules: &[Rule], ask: &Ask) -> Option<(RuleDecision, usize)> {
        let ruling = Rules(rules.to_vec()).decide(ask, doer())?;
        Some((ruling.decision, ruling.rule))
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let commands = Some(ActionKind::Command);
        let rules = [
            rule(commands, Some("git push*"), RuleDecision::Deny),
            rule(commands, Some("git *"), RuleDecision::Allow),
            rule(commands, None, RuleDecision::Ask),
        ];
        for (line, expected) in [
            ("git push origin", (RuleDecision::Deny, 1)),
            ("git status", (RuleDecision::Allow, 2)),
            ("make", (RuleDecision::Ask, 3)),
            // Nobody can tell whether this pushes.
            ("git status; git push", (RuleDecision::Ask, 1)),
        ] {
            assert_eq!(says(&rules, &command(line)), Some(expected), "{line}");
        }
        assert_eq!(says(&rules, &edit(&["a"])), None, "about commands alone");
        assert_eq!(says(&rules, &ask(AskKind::Question, None)), None);
    }

    #[test]
    fn rules_can_be_about_one_agent_or_one_tool() {
        let about = |agent: Option<&str>, tool: Option<&str>| Rule {
            agent: agent.map(str::to_owned),
            tool: tool.map(str::to_owned),
            ..rule(None, None, RuleDecision::Allow)
        };
        for (agent, tool, fits) in [
            (Some("codex"), None, true),
            (Some("reviewer"), None, true),
            (Some("claude"), None, false),
            (None, Some("Bash"), true),
            (None, Some("bash"), false),
        ] {
            let said = says(&[about(agent, tool)], &command("ls"));
            assert_eq!(said.is_some(), fits, "{agent:?} {tool:?}");
        }
        let fetch = |tool: Option<&str>| {
            let action = Action {
                tool: tool.map(str::to_owned),
                ..Action::default()
            };
            ask(AskKind::Other, Some(action))
        };
        let rules = [about(None, Some("WebFetch"))];
        assert_eq!(
            says(&rules, &fetch(Some("WebFetch"))),
            Some((RuleDecision::Allow, 1))
        );
        assert_eq!(says(&rules, &fetch(Some("Other"))), None);
        assert_eq!(says(&rules, &fetch(None)), None);
        let any = [rule(Some(ActionKind::Other), None, RuleDecision::Allow)];
        assert_eq!(says(&any, &fetch(Some("WebFetch"))), None, "by name only");
    }

    #[test]
    fn every_path_has_to_be_allowed_and_one_is_enough_to_deny() {
        let edits = Some(ActionKind::Edit);
        let allow = [rule(edits, Some("src/**"), RuleDecision::Allow)];
        let deny = [rule(edits, Some("src/**"), RuleDecision::Deny)];
        for (paths, allowed, denied) in [
            (&["src/a.rs"][..], true, Some(RuleDecision::Deny)),
            (&["/home/me/web/src/a.rs"], true, Some(RuleDecision::Deny)),
            (&["./src/a.rs"], true, Some(RuleDecision::Deny)),
            (&["src/a.rs", "b.rs"], false, Some(RuleDecision::Deny)),
            (&["b.rs"], false, None),
            (&["/elsewhere/src/a.rs"], false, None),
            (&["src/../b.rs"], false, Some(RuleDecision::Ask)),
            (&[], false, Some(RuleDecision::Ask)),
        ] {
            let said = says(&allow, &edit(paths)).is_some();
            assert_eq!(said, allowed, "{paths:?}");
            let said = says(&deny, &edit(paths)).map(|(decision, _)| decision);
            assert_eq!(said, denied, "{paths:?}");
        }
        let absolute = [rule(edits, Some("/tmp/**"), RuleDecision::Allow)];
        assert!(says(&absolute, &edit(&["/tmp/x"])).is_some());
    }

    #[test]
    fn what_rules_may_say_about_commands_is_known_beforehand() {
        let rules = Rules(vec![
            rule(Some(ActionKind::Edit), None, RuleDecision::Deny),
            Rule {
                agent: Some("codex".into()),
                ..rule(Some(ActionKind::Command), Some("ls"), RuleDecision::Allow)
            },
        ]);
        let leaning = |allows| Leaning {
            allows,
            asks: false,
            denies: false,
        };
        assert_eq!(rules.leaning("reviewer", "codex"), leaning(true));
        assert_eq!(rules.leaning("claude", "claude"), leaning(false));
    }

    /// Whatever rules there are: what is not known for certain is never allowed by one, and what is
    /// more than one simple command only by a rule that has the rest in its own words.
    #[test]
    fn no_rules_allow_by_accident() {
        let mut state = 7_u64;
        let mut roll = move |sides: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % sides as u64).unwrap()
        };
        let patterns = [
            "*",
            "**",
            "git *",
            "git status",
            "?*",
            "/**",
            "src/*",
            "* *",
            "*;*",
            "ls",
        ];
        for _ in 0..20_000 {
            let rules: Vec<Rule> = (0..=roll(4))
                .map(|_| Rule {
                    agent: [None, Some("codex".to_owned())][roll(2)].clone(),
                    kind: [
                        None,
                        Some(ActionKind::Edit),
                        Some(ActionKind::Command),
                        Some(ActionKind::Other),
                    ][roll(4)],
                    tool: [None, Some("Bash".to_owned())][roll(2)].clone(),
                    matches: (roll(3) > 0)
                        .then(|| Pattern::parse(patterns[roll(patterns.len())]).unwrap()),
                    decision: [RuleDecision::Allow, RuleDecision::Ask, RuleDecision::Deny][roll(3)],
                })
                .collect();
            let kind = [AskKind::Edit, AskKind::Command, AskKind::Other][roll(3)];
            let unknown = [
                None,
                Some(Action::default()),
                Some(Action {
                    tool: (kind != AskKind::Other).then(|| "Bash".to_owned()),
                    ..Action::default()
                }),
            ][roll(3)]
            .clone();
            let said = says(&rules, &ask(kind, unknown.clone()));
            assert!(
                !matches!(said, Some((RuleDecision::Allow, _))),
                "{rules:?} allow {kind:?} {unknown:?}"
            );
            let line = ["git status; rm x", "git status && ls", "a\nb", "$(x)"][roll(4)];
            if let Some((RuleDecision::Allow, number)) = says(&rules, &command(line)) {
                let matches = rules[number - 1].matches.as_ref();
                let meant = matches
                    .is_none_or(|pattern| pattern.to_string().contains(';') && line.contains(';'));
                assert!(meant, "{rules:?} allow {line:?}");
            }
        }
    }
}
