//! From the link's inbox to the supervisor: frames are decoded, paths resolved and files served
//! here, away from the decisions. Commands keep their order, so a file written before a task is
//! there when the task starts, and a cancel never overtakes the run it means.
//!
//! A command with a number was carried out once its number is in the journal. A run gets there in
//! the write that records it, before anything of it begins; what changes files when it is done,
//! because then it may be done again: nothing behind it was begun. Everything else dies with this
//! process anyway. A number that is in the journal is dropped when it comes again.

use std::{path::PathBuf, sync::Arc};

use bridge_proto::{
    TaskId, ctrlnode,
    model::{
        Command, CommandBody, FileRoot, FollowUp, Origin, Place, Reply, Request, RunKind, Source,
        StartRun, Tuning, When,
    },
};
use bridge_transport::{ConnId, Handle, Inbound, Inbox, Rarely};
use bridge_workspace::{
    CommandId, DropBox, DropError, Executed, PlaceError, Repository, Served, Watch, Workspace,
};
use tokio::sync::mpsc;

use crate::{
    contents::Border,
    git,
    homes::Homes,
    numbers,
    outgoing::Outgoing,
    pipeline,
    runner::Site,
    scribe::Scribe,
    serving::{Job, Serving},
    unwritten::Unwritten,
};

/// What the supervisor gets.
#[derive(Debug)]
pub(crate) enum Taken {
    /// A connection is open.
    Opened { conn: ConnId, extended: bool },
    /// A run was asked for; its place is resolved, or refused.
    Run {
        asked: Box<Asked>,
        site: Result<Box<Site>, String>,
        /// Which command asked for it, if it has a number.
        id: Option<CommandId>,
    },
    /// A task is to end, as somebody on this machine wants it.
    Cancel { task: TaskId },
    /// Anything else that needs a decision.
    Command {
        command: Command,
        conn: ConnId,
        id: Option<CommandId>,
    },
}

/// A run as it was asked for, dispatch and follow-up alike.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) run: bridge_proto::RunKey,
    pub(crate) agent: bridge_proto::AgentId,
    pub(crate) kind: RunKind,
    pub(crate) text: String,
    pub(crate) focus_files: Vec<String>,
    pub(crate) when: When,
    pub(crate) tuning: Tuning,
    pub(crate) place: Place,
    pub(crate) task_log: Option<String>,
    pub(crate) origin: Origin,
}

/// The task between inbox and supervisor.
pub(crate) struct Intake {
    pub(crate) inbox: Inbox,
    pub(crate) link: Handle<Outgoing>,
    pub(crate) workspace: Arc<Workspace>,
    /// Repositories whose own agent settings may be in force, canonical.
    pub(crate) trusted: Arc<[PathBuf]>,
    pub(crate) supervisor: mpsc::Sender<Taken>,
    pub(crate) unwritten: Unwritten,
    /// Carries out what is asked of git.
    pub(crate) git: mpsc::Sender<git::Asked>,
    pub(crate) homes: Homes,
    pub(crate) serving: Serving,
    pub(crate) scribe: Scribe,
    /// What had been carried out when this process began.
    pub(crate) executed: Executed,
    /// Hears which files were written here.
    pub(crate) watch: Option<Arc<Watch>>,
    /// The dropped tasks, where they are looked for.
    pub(crate) drops: Option<DropBox>,
}

impl Intake {
    /// Runs until the link or the supervisor is gone.
    pub(crate) async fn run(mut self) {
        let mut source = Source::Plane;
        let mut odd = Rarely::default();
        while let Some(inbound) = self.inbox.recv().await {
            let sent = match inbound {
                Inbound::Opened { conn, extended } => {
                    source = if extended { Source::Hub } else { Source::Plane };
                    self.supervisor.send(Taken::Opened { conn, extended }).await
                }
                Inbound::Closed { reason, .. } => {
                    tracing::debug!(?reason, "connection closed");
                    Ok(())
                }
                Inbound::Gap { gap, .. } => {
                    tracing::warn!(
                        from = gap.from,
                        to = gap.to,
                        why = gap.why_in_brief(),
                        "messages of this machine that only one end knows"
                    );
                    Ok(())
                }
                Inbound::Missed { gap, upto, .. } => {
                    tracing::warn!(
                        from = gap.from,
                        to = gap.to,
                        why = gap.why_in_brief(),
                        "commands of the hub will never come"
                    );
                    if let Some(upto) = numbers::place(upto) {
                        self.scribe
                            .passed(CommandId {
                                seq: gap.to,
                                ..upto
                            })
                            .await;
                    }
                    Ok(())
                }
                Inbound::Refused { reason, .. } => {
                    if let Some(odd_frames) = odd.count() {
                        tracing::warn!(?reason, odd_frames, "a frame was refused");
                    }
                    Ok(())
                }
                Inbound::Frame {
                    conn,
                    text,
                    receipt,
                } => {
                    let id = receipt.and_then(numbers::command);
                    if id.is_some_and(|id| self.executed.contains(id)) {
                        tracing::debug!(?id, "a command that was carried out came again");
                        continue;
                    }
                    match ctrlnode::decode(&text, source) {
                        Ok(command) => self.take(command, conn, id, &mut odd).await,
                        Err(error) => {
                            if let Some(odd_frames) = odd.count() {
                                tracing::warn!(%error, odd_frames, "a frame could not be read");
                            }
                            if let Err(error) = self.link.useless(conn).await {
                                tracing::trace!(%error, "nobody counts it");
                            }
                            if let Some(frame) = ctrlnode::encode_refusal(&text, &error) {
                                send(&self.link, frame, conn).await;
                            }
                            self.scribe.done(id).await;
                            Ok(())
                        }
                    }
                }
            };
            if sent.is_err() {
                break;
            }
        }
    }

    async fn take(
        &mut self,
        command: Command,
        conn: ConnId,
        id: Option<CommandId>,
        odd: &mut Rarely,
    ) -> Result<(), mpsc::error::SendError<Taken>> {
        let Command { origin, body } = command;
        let body = match body {
            CommandBody::Start(start) => {
                return self.run_asked(asked_start(*start, origin), id).await;
            }
            CommandBody::FollowUp(follow) => {
                return self.run_asked(asked_follow_up(*follow, origin), id).await;
            }
            CommandBody::Request(request) => {
                self.serve(request, origin, conn, id).await;
                return Ok(());
            }
            CommandBody::Git(request) => {
                let asked = git::Asked {
                    request,
                    origin,
                    conn,
                };
                if self.git.send(asked).await.is_err() {
                    tracing::debug!("nobody carries out requests of git any more");
                }
                self.scribe.done(id).await;
                return Ok(());
            }
            CommandBody::Pipeline(request) => {
                let reply = pipeline::answer(&self.workspace, request).await;
                self.reply(&Reply::Pipeline { reply }, &origin, conn).await;
                self.scribe.done(id).await;
                return Ok(());
            }
            CommandBody::Unknown { kind } => {
                if let Some(odd_frames) = odd.count() {
                    tracing::info!(
                        action = kind,
                        odd_frames,
                        "an action this version does not know"
                    );
                }
                self.reply(&Reply::Unknown { kind }, &origin, conn).await;
                self.scribe.done(id).await;
                return Ok(());
            }
            other @ (CommandBody::Cancel { .. }
            | CommandBody::Interrupt { .. }
            | CommandBody::Answer { .. }
            | CommandBody::Check { .. }
            | CommandBody::Tune { .. }
            | CommandBody::Plan(_)
            | CommandBody::Agents(_)
            | CommandBody::Models(_)
            | CommandBody::Gateway(_)
            | CommandBody::Capabilities(_)) => other,
        };
        let command = Command { origin, body };
        let taken = Taken::Command { command, conn, id };
        self.supervisor.send(taken).await
    }

    async fn run_asked(
        &mut self,
        asked: Asked,
        id: Option<CommandId>,
    ) -> Result<(), mpsc::error::SendError<Taken>> {
        self.serving.settled().await;
        // Every run costs answers that must arrive. A plane that does not take those that wait is
        // not given more of them.
        if self.link.push(Outgoing::nothing()).await.is_err() {
            tracing::debug!("the link is closed");
        }
        let (workspace, trusted) = (Arc::clone(&self.workspace), Arc::clone(&self.trusted));
        let drops = self.drops.clone();
        let resolved = tokio::task::spawn_blocking(move || {
            let site = resolve(&workspace, &trusted, &asked);
            if let (Some(drops), Ok(site)) = (&drops, &site) {
                leave_to_the_plane(drops.leave_to_the_plane(&site.dir.relative()));
            }
            (asked, site)
        });
        match resolved.await {
            Ok((asked, site)) => {
                let site = site.map_err(|error| error.reason());
                let site = site.and_then(|site| match self.unwritten.missed_by(site.dir.path()) {
                    Some(missed) => Err(missed),
                    None => Ok(Box::new(site)),
                });
                self.supervisor
                    .send(Taken::Run {
                        asked: Box::new(asked),
                        site,
                        id,
                    })
                    .await
            }
            Err(error) => {
                tracing::error!(%error, "resolving the place of a run failed");
                self.scribe.done(id).await;
                Ok(())
            }
        }
    }

    async fn serve(
        &mut self,
        request: Request,
        origin: Origin,
        conn: ConnId,
        id: Option<CommandId>,
    ) {
        let scope = request.scope();
        let tree = scope.and_then(|scope| self.homes.tree_of(scope));
        let job = Job {
            request,
            tree,
            origin,
            conn,
            id,
        };
        match &job.request {
            Request::WriteFile { .. } => {
                self.write(job).await;
                self.scribe.done(id).await;
            }
            Request::ReadFile { .. } | Request::ListFiles { .. } => self.serving.read(job).await,
            Request::Tree(_) => self.serving.change(job).await,
        }
    }

    /// In order with what follows: an attachment is there before its task starts.
    async fn write(&mut self, job: Job) {
        self.serving.settled().await;
        let workspace = Arc::clone(&self.workspace);
        let Job { request, tree, .. } = job;
        let Request::WriteFile { scope, path, .. } = &request else {
            return;
        };
        let for_a_task = scope.root != FileRoot::Base;
        let asked = workspace.root().join(path.trim_start_matches('/'));
        let drops = self.drops.clone();
        let served = tokio::task::spawn_blocking(move || {
            let served = workspace.serve(&request, tree.as_ref());
            if let (Some(drops), Served::Write(Ok(file))) = (&drops, &served) {
                leave_to_the_plane(drops.written_by_the_plane(file));
            }
            served
        });
        match served.await {
            Ok(Served::Write(Ok(file))) => {
                self.unwritten.written(&file);
                if let Some(watch) = &self.watch {
                    watch.wrote(&file);
                }
            }
            Ok(Served::Write(Err(error))) => {
                tracing::warn!(file = %asked.display(), %error, "write_file was refused");
                if for_a_task {
                    self.unwritten.refused(asked, error.to_string());
                }
            }
            Ok(Served::Reply(_) | Served::Moved { .. }) => {}
            Err(error) => tracing::error!(%error, "writing a file failed"),
        }
    }

    async fn reply(&self, reply: &Reply, origin: &Origin, conn: ConnId) {
        send_reply(&self.link, reply, origin, conn).await;
    }
}

/// A folder that a control plane uses is no dropped task.
pub(crate) fn leave_to_the_plane(kept: Result<(), DropError>) {
    if let Err(error) = kept {
        tracing::warn!(%error, "a folder of the control plane may be taken for a dropped task");
    }
}

/// Sends a reply, if its dialect has one, on the connection its request came from.
pub(crate) async fn send_reply(
    link: &Handle<Outgoing>,
    reply: &Reply,
    origin: &Origin,
    conn: ConnId,
) {
    if let Some(frame) = ctrlnode::encode_reply(reply, origin) {
        send(link, frame, conn).await;
    }
}

async fn send(link: &Handle<Outgoing>, frame: String, conn: ConnId) {
    if link.push(Outgoing::reply(conn, frame)).await.is_err() {
        tracing::debug!("the link closed before a reply could go out");
    }
}

pub(crate) fn asked_start(start: StartRun, origin: Origin) -> Asked {
    Asked {
        run: start.run,
        agent: start.agent,
        kind: RunKind::Dispatch,
        text: start.prompt,
        focus_files: Vec::new(),
        when: When::After,
        tuning: start.tuning,
        place: start.place,
        task_log: start.task_log,
        origin,
    }
}

pub(crate) fn asked_follow_up(follow: FollowUp, origin: Origin) -> Asked {
    Asked {
        run: follow.run,
        agent: follow.agent,
        kind: follow.kind,
        text: follow.message,
        focus_files: follow.focus_files,
        when: follow.when,
        tuning: follow.tuning,
        place: follow.place,
        task_log: None,
        origin,
    }
}

/// Where the run works, if it may.
pub(crate) fn resolve(
    workspace: &Workspace,
    trusted: &[PathBuf],
    asked: &Asked,
) -> Result<Site, PlaceError> {
    let dir = workspace.task_dir(&asked.run.task, asked.place.folder())?;
    let repository = match &asked.place {
        Place::Output { .. } => None,
        Place::Repository { path, .. } => Some(workspace.repository(path)?),
    };
    let task_log = match &asked.task_log {
        Some(text) => Some(workspace.task_log_path(text)?),
        None => None,
    };
    let border = Border {
        policy: workspace.policy(),
        task_folder: dir.path().to_owned(),
        directory: repository
            .as_ref()
            .map_or_else(|| dir.path(), Repository::path)
            .to_owned(),
    };
    let trusted = repository
        .as_ref()
        .is_some_and(|it| trusted.iter().any(|path| path == it.path()));
    Ok(Site {
        dir,
        repository,
        root: workspace.root().to_owned(),
        task_log,
        border,
        trusted,
    })
}
