//! Questions about the skills of agents, away from the decisions: a program may take its time. A
//! few are asked at once, answers are kept for a while, and every question gets one.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use bridge_proto::{
    ProviderKey,
    model::{
        Capabilities, CapabilityQuery, Discovery, Origin, Reply, Skill, SkillSource, TaskMode,
    },
};
use bridge_providers::{
    provider::Provider,
    skills::{SkillQuery, Skills},
};
use bridge_transport::{ConnId, Handle};
use bridge_workspace::Workspace;
use tokio::{sync::mpsc, task::JoinSet};

use crate::{clock::now, intake::send_reply, outgoing::Outgoing};

/// A question on its way.
pub(crate) struct SkillQuestion {
    pub(crate) query: CapabilityQuery,
    /// Who is asked; `None` when the agent has no provider here.
    pub(crate) provider: Option<Arc<dyn Provider>>,
    pub(crate) origin: Origin,
    pub(crate) conn: ConnId,
}

/// What makes two questions the same.
type Place = (ProviderKey, PathBuf, bool);

/// The task that asks.
pub(crate) struct SkillDesk {
    workspace: Arc<Workspace>,
    link: Handle<Outgoing>,
    kept: BTreeMap<Place, (Instant, Skills)>,
}

impl SkillDesk {
    /// Begins; ends when the sender is dropped.
    pub(crate) fn start(
        workspace: Arc<Workspace>,
        link: Handle<Outgoing>,
    ) -> mpsc::Sender<SkillQuestion> {
        let (sender, questions) = mpsc::channel(WAITING);
        let desk = Self {
            workspace,
            link,
            kept: BTreeMap::new(),
        };
        tokio::spawn(desk.run(questions));
        sender
    }

    async fn run(mut self, mut questions: mpsc::Receiver<SkillQuestion>) {
        let mut asked: JoinSet<Option<(Place, Skills)>> = JoinSet::new();
        loop {
            tokio::select! {
                Some(done) = asked.join_next() => match done {
                    Ok(Some((place, skills))) => self.keep(place, skills),
                    Ok(None) => {}
                    Err(error) => tracing::error!(%error, "a question about skills failed"),
                },
                question = questions.recv(), if asked.len() < AT_ONCE => match question {
                    Some(question) => {
                        let place = self.place(&question).await;
                        let known = place.as_ref().and_then(|place| self.known(place));
                        asked.spawn(ask(question, place, known, self.link.clone()));
                    }
                    None => return,
                },
            }
        }
    }

    /// Where skills are looked for; `None` when nobody is to be asked.
    async fn place(&self, question: &SkillQuestion) -> Option<Place> {
        let key = question.provider.as_ref()?.key().clone();
        let workspace = Arc::clone(&self.workspace);
        let wanted = match question.query.mode {
            TaskMode::Repo => question.query.repository.clone(),
            TaskMode::Output => None,
        };
        let found = tokio::task::spawn_blocking(move || {
            let repository = wanted.and_then(|path| workspace.repository(&path).ok());
            match repository {
                Some(repository) => (repository.path().to_owned(), true),
                None => (workspace.root().to_owned(), false),
            }
        });
        let (directory, project) = found.await.ok()?;
        Some((key, directory, project))
    }

    fn known(&self, place: &Place) -> Option<Skills> {
        let (since, skills) = self.kept.get(place)?;
        (since.elapsed() < FRESH).then(|| skills.clone())
    }

    fn keep(&mut self, place: Place, skills: Skills) {
        self.kept.retain(|_, (since, _)| since.elapsed() < FRESH);
        if skills.warnings.is_empty() && self.kept.len() < MAX_KEPT {
            self.kept
                .entry(place)
                .or_insert_with(|| (Instant::now(), skills));
        }
    }
}

async fn ask(
    question: SkillQuestion,
    place: Option<Place>,
    known: Option<Skills>,
    link: Handle<Outgoing>,
) -> Option<(Place, Skills)> {
    let found = match (known, &place, &question.provider) {
        (Some(known), _, _) => known,
        (None, Some((_, directory, project)), Some(provider)) => {
            let query = SkillQuery {
                directory: directory.clone(),
                project: *project,
            };
            let asking = provider.skills(query, LIMIT);
            // Whatever the program does, there is an answer.
            match tokio::time::timeout(LIMIT + GRACE, asking).await {
                Ok(skills) => skills,
                Err(_) => without("discovery_failed"),
            }
        }
        (None, _, _) => without("agent_provider_unknown"),
    };
    answer(&question, found.clone(), &link).await;
    Some((place?, found))
}

/// Tells that nothing is known, and why.
pub(crate) async fn refuse(question: &SkillQuestion, link: &Handle<Outgoing>) {
    answer(question, without("discovery_failed"), link).await;
}

async fn answer(question: &SkillQuestion, found: Skills, link: &Handle<Outgoing>) {
    let provider = question.provider.as_ref();
    let provider = provider.map_or("unknown", |provider| provider.key().as_str());
    let capabilities = Capabilities {
        provider: provider.to_owned(),
        agent: question.query.agent.clone(),
        mode: question.query.mode,
        skills: tidy(found.skills),
        discovery: Discovery {
            skills: found.source,
            warnings: found.warnings,
            observed_at: now(),
        },
    };
    let reply = Reply::Capabilities(Box::new(capabilities));
    send_reply(link, &reply, &question.origin, question.conn).await;
}

fn without(warning: &str) -> Skills {
    Skills {
        source: SkillSource::Unsupported,
        skills: Vec::new(),
        warnings: vec![warning.to_owned()],
    }
}

/// As they may leave the machine: the first of each name, short texts, no places on its disk.
fn tidy(skills: Vec<Skill>) -> Vec<Skill> {
    let mut names = BTreeSet::new();
    let mut ids = BTreeSet::new();
    let named = skills.into_iter().filter_map(|skill| {
        let name = shortened(&skill.name, NAME);
        let new = !name.is_empty() && names.insert(name.clone());
        new.then_some(Skill {
            id: shortened(
                &format!("{:?}:{name}", skill.scope).to_lowercase(),
                NAME + 20,
            ),
            description: skill.description.map(|text| shortened(&text, DESCRIPTION)),
            argument_hint: skill.argument_hint.map(|text| shortened(&text, NAME)),
            invocation: shortened(&skill.invocation, NAME + 1),
            name,
            ..skill
        })
    });
    named
        .filter(|skill| ids.insert(skill.id.clone()))
        .take(MAX_SKILLS)
        .collect()
}

/// One line of at most so many characters, with `[path]` where a place on the disk stood.
fn shortened(text: &str, limit: usize) -> String {
    let plain: String = text
        .chars()
        .take(limit * 20)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let plain = without_paths(plain.trim());
    if plain.chars().count() <= limit {
        return plain;
    }
    let mut short: String = plain.chars().take(limit - 1).collect();
    short.push('…');
    short
}

/// `/name` stays, because that is how skills are called; `/a/b`, `~/a` and `C:\a` do not.
fn without_paths(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        let run: String = rest.chars().take_while(|c| !ends_a_path(*c)).collect();
        let begins =
            !before.is_alphanumeric() && !matches!(before, '/' | ':' | '.' | '_' | '-' | '~');
        let mut letters = run.chars();
        let (one, two, three) = (letters.next(), letters.next(), letters.next());
        let rooted = one == Some('/') && run.chars().skip(1).any(|c| c == '/');
        let homely = one == Some('~') && two == Some('/');
        let drive = one.is_some_and(|c| c.is_ascii_alphabetic())
            && two == Some(':')
            && matches!(three, Some('\\' | '/'));
        if begins && (rooted || homely || drive) && !run.is_empty() {
            out.push_str("[path]");
            before = ']';
            rest = rest.strip_prefix(run.as_str()).unwrap_or_default();
        } else {
            out.push(first);
            before = first;
            rest = rest.strip_prefix(first).unwrap_or_default();
        }
    }
    out
}

fn ends_a_path(c: char) -> bool {
    c.is_whitespace()
        || matches!(
            c,
            '"' | '\'' | '`' | '(' | ')' | '<' | '>' | '[' | ']' | ',' | ';'
        )
}

const MAX_SKILLS: usize = 200;
/// Characters of a name or a hint.
const NAME: usize = 120;
/// Characters of a description.
const DESCRIPTION: usize = 300;
/// For one program.
const LIMIT: Duration = Duration::from_secs(40);
/// Until a program that was told to end has ended.
const GRACE: Duration = Duration::from_secs(15);
const FRESH: Duration = Duration::from_secs(300);
const MAX_KEPT: usize = 200;
/// Programs asked at the same time.
const AT_ONCE: usize = 3;
/// Questions that wait; further ones are answered at once, with nothing.
const WAITING: usize = 64;

#[cfg(test)]
mod tests {
    use bridge_proto::model::SkillScope;

    use super::*;

    fn skill(name: &str, scope: SkillScope) -> Skill {
        Skill {
            id: name.into(),
            name: name.into(),
            description: None,
            argument_hint: None,
            invocation: format!("/{name}"),
            scope,
            user_invocable: true,
            enabled: true,
        }
    }

    #[test]
    fn the_first_of_a_name_wins_and_a_long_list_is_cut() {
        let mut skills = vec![
            skill("review", SkillScope::Project),
            skill("review", SkillScope::User),
            skill(" ", SkillScope::User),
        ];
        skills.extend((0..500).map(|n| skill(&format!("s{n}"), SkillScope::User)));
        let tidy = tidy(skills);
        assert_eq!(tidy.len(), MAX_SKILLS);
        assert_eq!(
            (tidy[0].scope, tidy[0].id.as_str()),
            (SkillScope::Project, "project:review")
        );
        assert_eq!(tidy[1].name, "s0");
    }

    #[test]
    fn texts_are_short_and_name_no_place_on_the_disk() {
        for (text, shown) in [
            ("see /home/u/x.md now", "see [path] now"),
            ("(/etc/passwd)", "([path])"),
            ("~/notes and C:\\Users\\u", "[path] and [path]"),
            ("call /review or /git:commit", "call /review or /git:commit"),
            ("https://a.example/b/c", "https://a.example/b/c"),
            ("src/app and and/or", "src/app and and/or"),
            ("a\u{1b}[2Jb\nc", "a [2Jb c"),
        ] {
            assert_eq!(shortened(text, 300), shown, "{text}");
        }
        let long = shortened(&"x".repeat(5000), DESCRIPTION);
        assert_eq!(long.chars().count(), DESCRIPTION);
        assert!(long.ends_with('…'));
    }
}
