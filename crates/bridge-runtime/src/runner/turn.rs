//! What one turn is: its run, its agent, the place it works in; and its files and prompt made
//! ready before the agent hears of it.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bridge_proto::{
    ResumeId, RunKey,
    ctrlnode::RunFacts,
    model::{AgentProfile, Event, EventBody, Fault, Fix, Outcome, RunKind, Source, Tuning},
};
use bridge_providers::provider::{Asking, Provider, RunSpec, StartError};
use bridge_workspace::{Repository, RepositoryContext, TaskDir, TaskLog};

use crate::{clock::now, contents::Border, outgoing::Outgoing, prompt};

/// What the events of one run are numbered and labelled with; shared with the supervisor, which
/// reports the end.
#[derive(Debug, Clone)]
pub(crate) struct Ticket {
    pub(crate) run: RunKey,
    pub(crate) facts: Arc<RunFacts>,
    next: Arc<AtomicU64>,
}

impl Ticket {
    pub(crate) fn new(run: RunKey, facts: RunFacts) -> Self {
        Self {
            run,
            facts: Arc::new(facts),
            next: Arc::default(),
        }
    }

    /// The next event of the run.
    pub(crate) fn event(&self, body: EventBody) -> Event {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        Event {
            run: self.run.clone(),
            n,
            at: now(),
            body,
        }
    }

    /// The number the next event will have.
    pub(super) fn next_number(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// The next event of the run, ready to go out.
    pub(crate) fn outgoing(&self, body: EventBody) -> Outgoing {
        Outgoing::event(self.event(body), Arc::clone(&self.facts))
    }
}

/// Everything one turn needs.
#[derive(Clone)]
pub(crate) struct Turn {
    pub(crate) ticket: Ticket,
    pub(crate) kind: RunKind,
    pub(crate) agent: AgentProfile,
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) text: String,
    pub(crate) focus_files: Vec<String>,
    pub(crate) tuning: Tuning,
    pub(crate) site: Site,
}

impl std::fmt::Debug for Turn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turn")
            .field("run", &self.ticket.run)
            .finish_non_exhaustive()
    }
}

/// Where a run works, resolved and allowed.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub(crate) dir: TaskDir,
    /// The canonical repository, in work-directory mode.
    pub(crate) repository: Option<Repository>,
    /// `CTRLNODE_ROOT`.
    pub(crate) root: PathBuf,
    /// Where the plane wants the summary, absolute.
    pub(crate) task_log: Option<PathBuf>,
    pub(crate) border: Border,
    /// Whether the repository's own agent settings may be in force.
    pub(crate) trusted: bool,
}

impl Site {
    pub(super) fn directory(&self) -> PathBuf {
        let repository = self.repository.as_ref().map(Repository::path);
        repository.unwrap_or_else(|| self.dir.path()).to_owned()
    }
}

/// A turn whose files are in place: its prompt for a conversation that begins and for one that
/// goes on, its log, its number among the follow-ups.
pub(super) struct Prepared {
    pub(super) first: String,
    pub(super) bare: String,
    pub(super) log: TaskLog,
    pub(super) number: Option<u32>,
}

pub(super) async fn prepare(turn: Turn, remembers: bool) -> Result<Prepared, String> {
    let prepared = tokio::task::spawn_blocking(move || {
        let dir = &turn.site.dir;
        let (text, number) = match turn.kind {
            RunKind::FollowUp => {
                let context = turn
                    .site
                    .repository
                    .as_ref()
                    .map(|repository| RepositoryContext {
                        repository,
                        focus_files: &turn.focus_files,
                    });
                let files = dir
                    .prepare_follow_up_in(&turn.text, context)
                    .map_err(|error| format!("the follow-up could not be saved: {error}"))?;
                // The plane's follow-ups carry their context with them; on our own hub people
                // talk with an agent that remembers.
                let chat = remembers && turn.ticket.facts.origin.source == Source::Hub;
                let text = if chat {
                    turn.text.clone()
                } else {
                    files.prompt
                };
                (text, Some(files.n))
            }
            RunKind::Dispatch | RunKind::AgentCommand => (turn.text.clone(), None),
        };
        let log = dir.log(number);
        let first = match (&turn.site.repository, turn.kind) {
            (Some(_), RunKind::Dispatch) => {
                prompt::in_repository(&text, turn.site.task_log.as_deref())
            }
            (None, RunKind::Dispatch) => prompt::in_task_folder(&text, dir.path(), &turn.site.root),
            (_, RunKind::FollowUp | RunKind::AgentCommand) => text.clone(),
        };
        Ok(Prepared {
            first,
            bare: text,
            log,
            number,
        })
    });
    prepared
        .await
        .unwrap_or_else(|error| Err(format!("preparing the run failed: {error}")))
}

pub(super) fn spec(turn: &Turn, asking: Asking, resume: Option<ResumeId>) -> RunSpec {
    let site = &turn.site;
    let extra_directories = match &site.repository {
        Some(_) => vec![site.dir.path().to_owned()],
        None => Vec::new(),
    };
    RunSpec {
        run: turn.ticket.run.clone(),
        agent: Some(turn.agent.id.clone()),
        directory: site.directory(),
        extra_directories,
        model: turn
            .tuning
            .model
            .clone()
            .or_else(|| turn.agent.model.clone()),
        asking,
        instructions: prompt::instructions(&turn.agent),
        resume,
        trusted: site.trusted,
        temp: site.dir.temp().ok(),
    }
}

/// What a start that was refused means for the run.
pub(crate) fn refused(error: &StartError) -> Outcome {
    let mut reason = error.to_string();
    if let Some(source) = std::error::Error::source(error) {
        reason = format!("{reason}: {source}");
    }
    match error {
        StartError::Missing { .. } | StartError::NotTrusted { .. } | StartError::Unasked { .. } => {
            Outcome::Blocked {
                fix: Fix::Setup,
                reason,
            }
        }
        StartError::LoginNeeded { .. } => Outcome::Blocked {
            fix: Fix::Login,
            reason,
        },
        StartError::Spawn { .. } => Outcome::Failed {
            fault: Fault::Agent,
            reason,
        },
        StartError::NoDirectory { .. } => Outcome::Failed {
            fault: Fault::Task,
            reason,
        },
    }
}
