//! Looks where tasks are dropped, hands them to the supervisor as commands like any other, and
//! tells in their folders what became of them.
//!
//! What is handed on is kept on the disk first, under the name of its run. After a crash the same
//! name is asked for again: if the journal knows it, its end is told; if not, it never began.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use bridge_proto::{
    AgentId, RunKey, TaskFolder, TaskId,
    model::{
        FollowUp, Origin, Outcome, Place, ReplyToken, RunKind, Source, StartRun, Tuning, When,
    },
};
use bridge_workspace::{
    Astray, DropBox, DropError, DropPlace, DropRecord, DropState, DropStatus, DropText,
    DropWatcher, Workspace,
};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{MissedTickBehavior, interval, sleep_until},
};

use super::{DropNews, DropSettings, DropWord, Drops, Step};
use crate::{
    clock,
    intake::{Asked, Taken, asked_follow_up, asked_start, resolve},
};

/// The task between the folders and the supervisor.
pub(crate) struct Porter {
    pub(crate) drops: DropBox,
    pub(crate) settings: DropSettings,
    pub(crate) workspace: Arc<Workspace>,
    /// Repositories whose own agent settings may be in force, canonical.
    pub(crate) trusted: Arc<[PathBuf]>,
    pub(crate) supervisor: mpsc::Sender<Taken>,
    /// What the supervisor says of runs that were handed on.
    pub(crate) words: mpsc::Receiver<DropWord>,
    /// The folders of those that are handed on.
    pub(crate) held: HashMap<RunKey, DropPlace>,
    /// How runs of folders ended that this process did not start.
    pub(crate) ended: HashMap<RunKey, Outcome>,
    /// Nothing more is taken up.
    pub(crate) stopping: watch::Receiver<bool>,
    /// Whether it was told already that there are too many folders.
    pub(crate) told_too_many: bool,
}

impl Porter {
    /// Runs until the supervisor has said its last word.
    pub(crate) async fn run(mut self) {
        tracing::info!(folder = %self.drops.place().display(), "looking for dropped tasks");
        let changed = Arc::new(Notify::new());
        let wake = Arc::clone(&changed);
        let mut watcher = match DropWatcher::start(move || wake.notify_one()) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(%error, "dropped tasks are looked for once a minute");
                None
            }
        };
        self.end_astray().await;
        let mut machine = Drops::default();
        let mut whole = interval(LOOK_ANYWAY);
        whole.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let deadline = machine.deadline();
            let due = async {
                match deadline {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                word = self.words.recv() => match word {
                    Some(word) => self.on_word(&mut machine, word).await,
                    None => return,
                },
                () = due => {}
                () = changed.notified() => {}
                _ = whole.tick() => self.tidy().await,
            }
            if *self.stopping.borrow() {
                break;
            }
            self.look(&mut machine, watcher.as_mut()).await;
        }
        while let Some(word) = self.words.recv().await {
            self.on_word(&mut machine, word).await;
        }
    }

    async fn look(&mut self, machine: &mut Drops, mut watcher: Option<&mut DropWatcher>) {
        for _ in 0..LOOKS {
            let drops = self.drops.clone();
            let Some(look) = blocking(move || drops.look()).await else {
                return;
            };
            if look.too_many && !self.told_too_many {
                self.told_too_many = true;
                tracing::warn!("there are more folders than are looked through for tasks");
            }
            let watcher = watcher.as_mut();
            let new = watcher.is_some_and(|watcher| watcher.watch(look.places));
            let mut steps = self.cancelled(machine).await;
            steps.extend(machine.on_look(Instant::now(), &look.found));
            for step in steps {
                self.carry_out(machine, step).await;
            }
            // Something may have come in there before it was watched.
            if !new {
                return;
            }
        }
    }

    /// Asks the folders of what is handed on whether it shall end.
    async fn cancelled(&self, machine: &mut Drops) -> Vec<Step> {
        if self.held.is_empty() {
            return Vec::new();
        }
        let held = self.held.clone();
        let wishes = blocking(move || {
            let wishes = held.into_iter().filter(|(_, place)| place.wants_cancel());
            wishes.map(|(run, _)| run).collect::<Vec<_>>()
        });
        let wishes = wishes.await.unwrap_or_default();
        wishes
            .iter()
            .filter_map(|run| machine.cancel(run))
            .collect()
    }

    /// Tells the end of what was at work when the process before this one ended, where the folder
    /// was moved since and so is not found under the name of its record.
    async fn end_astray(&self) {
        let drops = self.drops.clone();
        for Astray { folder, task } in blocking(move || drops.astray()).await.unwrap_or_default() {
            let runs = self.ended.iter().filter(|(run, _)| run.task == task);
            let last = runs.max_by_key(|(run, _)| run.attempt.parse::<u128>().ok());
            let (word, reason) = match last {
                Some((_, outcome)) => told(outcome.clone()),
                None => ("failed", Some(MOVED.to_owned())),
            };
            let drops = self.drops.clone();
            let status = status(&task, word, reason, None);
            let name = folder.clone();
            let told = blocking(move || {
                let told = drops.tell(&name, &status);
                let replaced = drops.replaced(&task);
                told.and(replaced)
            });
            warn_untold(&folder, told.await);
        }
    }

    async fn carry_out(&mut self, machine: &mut Drops, step: Step) {
        match step {
            Step::Take { folder, print } => self.take(machine, folder, print).await,
            Step::Refuse {
                folder,
                print,
                fault,
            } => {
                let why = DropError::Input(fault);
                self.refuse(machine, folder, print, &why).await;
            }
            Step::Cancel(run) => {
                tracing::info!(%run, "cancel asked for in its folder");
                let task = run.task;
                self.send(Taken::Cancel { task }).await;
            }
        }
    }

    async fn take(&mut self, machine: &mut Drops, folder: String, print: String) {
        let (drops, name, look) = (self.drops.clone(), folder.clone(), print.clone());
        let default = self.settings.agent.clone();
        let (workspace, trusted) = (Arc::clone(&self.workspace), Arc::clone(&self.trusted));
        let taken = blocking(move || {
            let place = drops.hold(&name)?;
            let taken = take_up(&drops, name, look, default.as_ref())?;
            Ok(taken.map(|(asked, record)| {
                let site = resolve(&workspace, &trusted, &asked);
                (asked, record, site, place)
            }))
        });
        let (asked, record, site, place) = match taken.await {
            Some(Ok(Some(taken))) => taken,
            Some(Ok(None)) => return,
            Some(Err(error)) => return self.refuse(machine, folder, print, &error).await,
            None => return machine.put_off(Instant::now(), folder, print),
        };
        let run = asked.run.clone();
        tracing::info!(folder, %run, agent = %asked.agent, "a dropped task");
        machine.begun(folder, run.clone(), asked.agent.clone());
        self.held.insert(run.clone(), place);
        if let Some(outcome) = self.ended.remove(&run) {
            let news = DropNews::Ended(outcome);
            return self.on_word(machine, DropWord { run, news }).await;
        }
        let waiting = status(&run.task, "waiting", None, Some(&asked.agent));
        self.tell(record, waiting).await;
        let taken = Taken::Run {
            asked: Box::new(asked),
            site: site.map(Box::new).map_err(|error| error.reason()),
            id: None,
        };
        self.send(taken).await;
    }

    /// What became of a run.
    async fn on_word(&mut self, machine: &mut Drops, word: DropWord) {
        let DropWord { run, news } = word;
        let (open, place) = (machine.open_of(&run), self.held.get(&run).cloned());
        let (Some((folder, agent)), Some(place)) = (open, place) else {
            tracing::debug!(%run, "news of a run that came from no folder");
            return;
        };
        let say = |word, reason| status(&run.task, word, reason, Some(&agent));
        let (word, reason, may_mend) = match news {
            DropNews::Begun => {
                let working = say("working", None);
                let told = blocking(move || place.tell(&working)).await;
                return warn_untold(&folder, told);
            }
            DropNews::Ended(outcome) => {
                let (word, reason) = told(outcome);
                (word, reason, None)
            }
            DropNews::Rejected { reason, may_mend } => ("blocked", Some(reason), Some(may_mend)),
        };
        let status = say(word, reason);
        machine.over(&folder);
        self.held.remove(&run);
        let (drops, name, attempt) = (self.drops.clone(), folder.clone(), run.attempt);
        let closed = blocking(move || {
            if !drops.is_at(&place, &name) {
                tracing::info!(
                    folder = name,
                    "a dropped task was moved while it was handed on"
                );
                let told = place.tell(&status);
                let forgotten = drops.moved_away(&name, &attempt);
                return (None, told.and(forgotten));
            }
            let Some(mut record) = drops.record(&name) else {
                return (None, place.tell(&status));
            };
            // What changed while it was at work is seen: an agent that edits its own task does not
            // start itself again.
            if may_mend.is_some() {
                record.state = DropState::Refused;
                record.text.clear();
                record.runs = record.runs.saturating_sub(1);
            } else {
                record.state = DropState::Over;
                record.text = drops.digest(&name);
                record.print.clear();
            }
            let again = may_mend == Some(true);
            let again = again.then(|| std::mem::take(&mut record.print));
            let told = drops.close(&mut record, &status);
            (again, told)
        });
        let (again, told) = closed.await.unzip();
        warn_untold(&folder, told);
        if let Some(print) = again.flatten() {
            machine.put_off(Instant::now(), folder, print);
        }
    }

    async fn refuse(&self, machine: &mut Drops, folder: String, print: String, why: &DropError) {
        let reason = with_causes(why);
        let drops = self.drops.clone();
        let (name, look) = (folder.clone(), print.clone());
        let before = blocking(move || {
            let before = drops.record(&name);
            let over = before.as_ref().filter(|it| it.state == DropState::Over);
            let over = over.filter(|it| it.text == drops.digest(&name));
            // How it ended stays told, whatever its agent left in the folder.
            let kept = over.map(|over| {
                drops.keep(&DropRecord {
                    print: look,
                    ..over.clone()
                })
            });
            (before, kept)
        });
        let before = match before.await {
            Some((_, Some(Ok(())))) => return,
            Some((before, Some(Err(_)) | None)) => before,
            None => None,
        };
        tracing::warn!(folder, reason, "a dropped task is refused");
        machine.put_off(Instant::now(), folder.clone(), print.clone());
        let record = DropRecord {
            state: DropState::Refused,
            print,
            text: String::new(),
            runs: before.as_ref().map_or(0, |before| before.runs),
            told: before.is_some_and(|before| before.told),
            folder,
        };
        let task = DropBox::task_of(&record.folder);
        let status = status(&task, "refused", Some(reason), None);
        self.tell(record, status).await;
    }

    /// Tells it and keeps what was dealt with.
    async fn tell(&self, mut record: DropRecord, status: DropStatus) {
        let drops = self.drops.clone();
        let folder = record.folder.clone();
        let told = blocking(move || drops.close(&mut record, &status)).await;
        warn_untold(&folder, told);
    }

    async fn tidy(&self) {
        let drops = self.drops.clone();
        if let Some(Err(error)) = blocking(move || drops.tidy()).await {
            tracing::debug!(%error, "folders that are gone are not forgotten");
        }
    }

    async fn send(&self, taken: Taken) {
        if self.supervisor.send(taken).await.is_err() {
            tracing::debug!("the supervisor takes nothing more");
        }
    }
}

/// Reads the task and keeps that it is taken up. `None`: there is nothing to do.
fn take_up(
    drops: &DropBox,
    folder: String,
    print: String,
    default: Option<&AgentId>,
) -> Result<Option<(Asked, DropRecord)>, DropError> {
    let before = drops.record(&folder);
    let (text, digest) = drops.read(&folder)?;
    let runs = before.as_ref().map_or(0, |before| before.runs);
    let told = before.as_ref().is_some_and(|before| before.told);
    let mut record = DropRecord {
        folder,
        state: DropState::Over,
        print,
        text: digest,
        runs,
        told,
    };
    let attempt = match before {
        Some(before) => match before.state {
            DropState::Elsewhere => return Ok(None),
            DropState::Working { attempt } => Some(attempt),
            DropState::Over if before.text == record.text => {
                drops.keep(&record)?;
                return Ok(None);
            }
            DropState::Over | DropState::Refused => None,
        },
        None => None,
    };
    let agent = agent_of(&text, default)?;
    let attempt = attempt.unwrap_or_else(|| {
        record.runs += 1;
        clock::now().as_millis().to_string()
    });
    record.state = DropState::Working {
        attempt: attempt.clone(),
    };
    drops.keep(&record)?;
    let run = RunKey {
        task: DropBox::task_of(&record.folder),
        attempt,
    };
    let asked = asked(text, agent, run, &record)?;
    Ok(Some((asked, record)))
}

fn agent_of(text: &DropText, default: Option<&AgentId>) -> Result<AgentId, DropError> {
    let named = text.agent.as_deref().map(AgentId::parse);
    match (named, default) {
        (Some(Ok(agent)), _) => Ok(agent),
        (Some(Err(error)), _) => Err(DropError::Input(error.to_string())),
        (None, Some(agent)) => Ok(agent.clone()),
        (None, None) => Err(DropError::Input(
            "TASK.md names no agent, and there is none for those: begin it with the lines `---`, \
             `agent: <name>` and `---`, or set CTRLNODE_WATCH_AGENT"
                .to_owned(),
        )),
    }
}

/// What a control plane would have asked for.
fn asked(
    text: DropText,
    agent: AgentId,
    run: RunKey,
    record: &DropRecord,
) -> Result<Asked, DropError> {
    let folder = TaskFolder::parse(&record.folder);
    let folder = Some(folder.map_err(|error| DropError::Input(error.to_string()))?);
    let place = match text.repository {
        Some(path) => Place::Repository { path, folder },
        None => Place::Output { folder },
    };
    let tuning = Tuning {
        model: text.model,
        mode: None,
        effort: text.effort,
    };
    let origin = Origin {
        source: Source::Folder,
        reply: ReplyToken::default(),
    };
    if record.runs > 1 {
        let follow = FollowUp {
            run,
            agent,
            message: text.task,
            place,
            kind: RunKind::FollowUp,
            focus_files: Vec::new(),
            when: When::After,
            tuning,
        };
        return Ok(asked_follow_up(follow, origin));
    }
    let start = StartRun {
        run,
        agent,
        prompt: text.task,
        place,
        task_log: None,
        tuning,
    };
    Ok(asked_start(start, origin))
}

fn status(
    task: &TaskId,
    status: &'static str,
    reason: Option<String>,
    agent: Option<&AgentId>,
) -> DropStatus {
    DropStatus {
        status,
        reason,
        agent: agent.map(ToString::to_string),
        task: task.to_string(),
        at: clock::now().to_string(),
    }
}

/// The word for an end, and why.
fn told(outcome: Outcome) -> (&'static str, Option<String>) {
    match outcome {
        Outcome::Completed => ("completed", None),
        Outcome::Failed { fault: _, reason } => ("failed", Some(reason)),
        Outcome::Blocked { fix: _, reason } => ("blocked", Some(reason)),
        Outcome::Cancelled { by: _ } => ("cancelled", None),
    }
}

fn warn_untold(folder: &str, told: Option<Result<(), DropError>>) {
    if let Some(Err(error)) = told {
        let error = with_causes(&error);
        tracing::warn!(
            folder,
            error,
            "what became of a dropped task is not written"
        );
    }
}

/// Away from the runtime; `None` when that failed.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Some(done),
        Err(error) => {
            tracing::error!(%error, "looking after dropped tasks failed");
            None
        }
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Of a task that the journal does not know.
const MOVED: &str = "the bridge was stopped, and the folder moved, before the task had ended";
/// Looks in a row, each because the one before found further folders.
const LOOKS: usize = 8;
/// Events can be lost, and some file systems make none.
const LOOK_ANYWAY: Duration = Duration::from_secs(60);
