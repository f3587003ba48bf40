//! The handle every door uses: questions are answered from the store, commands go to the owner.

use std::{fmt, sync::Arc, time::Duration};

use bridge_proto::{
    AskId, BridgeId, Digest, RunKey, Secret, TaskId, Timestamp,
    ctrlnode::git_error,
    model::{
        Answer, GitFault, GitReply, GitRequest, GitStatus, Reply, Request, RunKind, Tuning, When,
    },
};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    access::{self, Source},
    clock::now,
    error::HubError,
    owner::Message,
    prepare,
    store::{BridgeRecord, GrantKind, GrantRecord, RunRecord, Store, TokenHash},
    view::{
        Applies, Attachment, FileContent, Files, Machine, Mode, NewTask, NewToken, OpenAsk,
        StoredEvent, TaskStatus, TaskSummary, TaskView, TokenView, Told,
    },
};

/// A cheap handle to a running hub. All methods may be called at the same time from anywhere;
/// dropping a future gives up the answer, not the effect.
#[derive(Clone)]
pub struct Hub {
    pub(crate) owner: mpsc::Sender<Message>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) changes: watch::Receiver<u64>,
    /// Whether what bridges say can be stored now.
    pub(crate) storable: watch::Receiver<bool>,
    /// The origin others reach it under, where one was named.
    pub(crate) public: Option<Arc<str>>,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}

/// Wakes when something new can be read. Marks do not pile up: a reader that sleeps through ten
/// changes wakes once.
#[derive(Debug)]
pub struct Watch(watch::Receiver<u64>);

impl Watch {
    /// Waits for the next change; `false`: the hub has stopped, or the task was removed. Safe to
    /// drop and call again.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

impl Hub {
    /// All machines, by name.
    pub async fn machines(&self) -> Result<Vec<Machine>, HubError> {
        self.ask(|reply| Message::Machines { reply }).await
    }

    /// One page of tasks, newest first, at most 200; `before` is the last task of the page before.
    pub async fn tasks(
        &self,
        limit: usize,
        before: Option<TaskId>,
    ) -> Result<Vec<TaskSummary>, HubError> {
        Ok(self
            .store
            .tasks(limit.clamp(1, MAX_PAGE_TASKS), before)
            .await?)
    }

    /// One task; `None` when there is none of this id (any more).
    pub async fn task(&self, id: &TaskId) -> Result<Option<TaskView>, HubError> {
        Ok(self.store.task(id).await?)
    }

    /// Events of a task after number `after` (0: from the start), in order, at most `limit`
    /// (and at most 1000).
    pub async fn events(
        &self,
        id: &TaskId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, HubError> {
        Ok(self
            .store
            .since(id, after, limit.clamp(1, MAX_PAGE_EVENTS))
            .await?)
    }

    /// Wakes on every new event of the task. Subscribe first, then read with [`Hub::events`]:
    /// nothing is missed then.
    pub async fn watch(&self, id: &TaskId) -> Result<Watch, HubError> {
        let task = id.clone();
        Ok(Watch(
            self.ask(|reply| Message::Watch { task, reply }).await?,
        ))
    }

    /// Wakes when a machine or any task changed.
    pub fn watch_all(&self) -> Watch {
        let mut receiver = self.changes.clone();
        receiver.mark_unchanged();
        Watch(receiver)
    }

    /// Makes a task and sends it to its machine.
    ///
    /// # Errors
    /// The machine must be on line and know the agent; nothing is kept otherwise.
    pub async fn create(&self, task: NewTask) -> Result<TaskId, HubError> {
        let id = prepare::new_task_id();
        let order = prepare::order(&task.prompt, task.attachments)?;
        prepare::check_tuning(&task.tuning)?;
        prepare::check_mode(&task.mode)?;
        let at = now();
        let run = RunRecord {
            key: RunKey {
                task: id.clone(),
                attempt: prepare::new_attempt(),
            },
            kind: RunKind::Dispatch,
            prompt: order.prompt,
            attachments: order
                .attachments
                .iter()
                .map(|file| file.name.clone())
                .collect(),
            created: at,
        };
        let draft = prepare::Draft {
            title: prepare::title(&run.prompt),
            folder: prepare::folder(&id, &run.prompt, at),
            machine: task.machine,
            agent: task.agent,
            mode: task.mode,
            tuning: task.tuning,
        };
        let attachments = order.attachments;
        self.attempt(|reply| Message::Create {
            draft,
            run,
            attachments,
            reply,
        })
        .await?;
        Ok(id)
    }

    /// Goes on with a task's conversation; gives the attempt of the new run.
    ///
    /// The machine queues it behind a run that is still going. With [`When::Now`] the agent reads
    /// it in that run, if it can: then the new one ends as [`TaskStatus::Joined`] without ever
    /// having been at work. Exactly one of both happens, also over a lost connection: the message
    /// is a run from the beginning, kept here before it is sent, sent again when the machine comes
    /// back without having mentioned it, and taken there once however often it comes.
    ///
    /// [`TaskStatus::Joined`]: crate::TaskStatus::Joined
    pub async fn follow_up(
        &self,
        id: &TaskId,
        text: &str,
        attachments: Vec<Attachment>,
        when: When,
    ) -> Result<String, HubError> {
        let task = self.existing(id).await?;
        let order = prepare::order(text, attachments)?;
        let run = RunRecord {
            key: RunKey {
                task: id.clone(),
                attempt: prepare::new_attempt(),
            },
            kind: RunKind::FollowUp,
            prompt: order.prompt,
            attachments: order
                .attachments
                .iter()
                .map(|file| file.name.clone())
                .collect(),
            created: now(),
        };
        let attachments = order.attachments;
        let task = Box::new(task);
        let attempt = run.key.attempt.clone();
        self.attempt(|reply| Message::FollowUp {
            task,
            run,
            attachments,
            when,
            reply,
        })
        .await?;
        Ok(attempt)
    }

    /// Asks the machine to stop what runs or waits of the task, again after every interruption
    /// until it has ended. The end arrives as an event. A machine that is not connected is asked when
    /// it comes back.
    pub async fn cancel(&self, id: &TaskId) -> Result<Told, HubError> {
        let task = self.existing(id).await?;
        if !task.summary.status.is_live() {
            return Err(HubError::TaskEnded);
        }
        let (bridge, task) = (task.summary.machine, id.clone());
        self.attempt(|reply| Message::Cancel {
            bridge,
            task,
            reply,
        })
        .await
    }

    /// Asks the machine to stop the turn at work and to keep the conversation for the next one. What
    /// waits for the task goes on then. The end of the run arrives as an event.
    pub async fn interrupt(&self, id: &TaskId) -> Result<(), HubError> {
        let task = Box::new(self.existing(id).await?);
        match task.summary.status {
            TaskStatus::Running | TaskStatus::Waiting => {}
            TaskStatus::Queued
            | TaskStatus::Completed
            | TaskStatus::Failed
            | TaskStatus::Blocked
            | TaskStatus::Cancelled
            | TaskStatus::Rejected
            | TaskStatus::Joined => return Err(HubError::NothingWorks),
        }
        self.attempt(|reply| Message::Interrupt { task, reply })
            .await
    }

    /// Changes what the task's conversation is set to, for good; says when it applies. What is
    /// really in force then comes as an event.
    pub async fn tune(&self, id: &TaskId, tuning: Tuning) -> Result<Applies, HubError> {
        prepare::check_tuning(&tuning)?;
        if tuning.is_empty() {
            return Err(HubError::Malformed {
                what: "tuning",
                reason: "name a model, a mode or an effort".to_owned(),
            });
        }
        let task = Box::new(self.existing(id).await?);
        self.attempt(|reply| Message::Tune {
            task,
            tuning,
            reply,
        })
        .await
    }

    /// The questions of all tasks that wait for an answer, oldest first, at most 200.
    pub async fn asks(&self) -> Result<Vec<OpenAsk>, HubError> {
        Ok(self.store.asks(MAX_PAGE_TASKS).await?)
    }

    /// Answers an open question. `digest` is that of the question the viewer saw: the answer to
    /// another one is refused, and so is a second one. The question is closed when the machine says
    /// that the agent took the answer.
    pub async fn answer(
        &self,
        id: &TaskId,
        ask: AskId,
        digest: &Digest,
        answer: Answer,
    ) -> Result<(), HubError> {
        let task = self.existing(id).await?;
        let Some(open) = self.store.open_ask(id, &ask).await? else {
            return Err(HubError::AskClosed { ask });
        };
        if open.answered.is_some() {
            return Err(HubError::AskAnswered { ask });
        }
        prepare::check_answer(&open, digest, &answer)?;
        let (bridge, task) = (task.summary.machine, id.clone());
        self.attempt(|reply| Message::Answer {
            bridge,
            task,
            ask: Box::new(open),
            answer,
            reply,
        })
        .await
    }

    /// What lies in the task's `output/` folder; asked from the machine, at most 15 s.
    pub async fn files(&self, id: &TaskId) -> Result<Files, HubError> {
        let task = Box::new(self.existing(id).await?);
        self.attempt(|reply| Message::Files { task, reply }).await
    }

    /// One file of the task's `output/` folder; asked from the machine, at most 30 s.
    pub async fn read_file(&self, id: &TaskId, path: &str) -> Result<FileContent, HubError> {
        let path = prepare::result_path(path)?;
        let task = Box::new(self.existing(id).await?);
        self.attempt(|reply| Message::ReadFile { task, path, reply })
            .await
    }

    /// The state of the repository a task works in; asked from the machine, at most 30 s. `None`
    /// for a task that works in its own folder, and where no repository is.
    pub async fn git_status(&self, id: &TaskId) -> Result<Option<GitStatus>, HubError> {
        let task = self.existing(id).await?;
        let Mode::Repository { path } = &task.mode else {
            return Ok(None);
        };
        let request = GitRequest::Status { path: path.clone() };
        match self.git(task, request).await? {
            GitReply::Status { status } => status.map_err(|fault| git_refused(&fault)),
            GitReply::Diff { .. } | GitReply::Operation { .. } => Err(another_reply()),
        }
    }

    /// How one file of the repository a task works in differs, as git prints it; asked from the
    /// machine, at most 30 s. `file` is a name of the status.
    pub async fn git_diff(
        &self,
        id: &TaskId,
        file: &str,
        untracked: bool,
    ) -> Result<String, HubError> {
        let task = self.existing(id).await?;
        let Mode::Repository { path } = &task.mode else {
            return Err(git_refused(&GitFault::NotARepository));
        };
        let request = GitRequest::Diff {
            path: path.clone(),
            file: file.to_owned(),
            untracked,
        };
        match self.git(task, request).await? {
            GitReply::Diff { diff, .. } => diff.map_err(|fault| git_refused(&fault)),
            GitReply::Status { .. } | GitReply::Operation { .. } => Err(another_reply()),
        }
    }

    async fn git(&self, task: TaskView, request: GitRequest) -> Result<GitReply, HubError> {
        let task = Box::new(task);
        self.attempt(|reply| Message::Git {
            task,
            request,
            reply,
        })
        .await
    }

    /// Deletes one file or folder of the task's `output/` folder; what is not there is deleted.
    /// The machine has 60 s, and may refuse.
    pub async fn delete_file(&self, id: &TaskId, path: &str) -> Result<(), HubError> {
        let path = prepare::result_path(path)?;
        let task = Box::new(self.existing(id).await?);
        self.attempt(|reply| Message::DeleteFile { task, path, reply })
            .await
    }

    /// Asks a machine anything about its files and gives its answer as it is, refusals included.
    /// `write_file` is never answered and not asked here. At most 60 s.
    pub async fn ask_machine(
        &self,
        machine: &BridgeId,
        request: Request,
    ) -> Result<Reply, HubError> {
        if matches!(request, Request::WriteFile { .. }) {
            return Err(HubError::Malformed {
                what: "request",
                reason: "a machine never answers write_file".into(),
            });
        }
        let (machine, request) = (machine.clone(), Box::new(request));
        self.attempt(|reply| Message::AskMachine {
            machine,
            request,
            reply,
        })
        .await
    }

    /// Makes a pairing token, and with it a machine. The text is in the answer and nowhere else.
    pub async fn create_bridge_token(&self, name: &str) -> Result<NewToken, HubError> {
        let name = prepare::name(name)?;
        let secret = access::new_secret("ctrlb_")?;
        let bridge = BridgeRecord::new(prepare::new_bridge_id(), name);
        let id = bridge.id.to_string();
        self.pair(bridge, access::hash(&secret)).await?;
        Ok(NewToken { id, secret })
    }

    /// Adds a machine with its token.
    pub(crate) async fn pair(
        &self,
        bridge: BridgeRecord,
        token: TokenHash,
    ) -> Result<(), HubError> {
        self.attempt(|reply| Message::Pair {
            bridge,
            token,
            reply,
        })
        .await
    }

    /// The valid pairing tokens, by name.
    pub async fn bridge_tokens(&self) -> Result<Vec<TokenView>, HubError> {
        let bridges = self.store.bridges().await?;
        Ok(bridges
            .into_iter()
            .map(|bridge| TokenView {
                id: bridge.id.to_string(),
                name: bridge.name,
                created: bridge.created,
                used: bridge.seen,
            })
            .collect())
    }

    /// Makes a pairing token invalid, ends its connection and what runs there in the hub's books.
    /// Its tasks stay readable.
    pub async fn revoke_bridge_token(&self, id: &BridgeId) -> Result<(), HubError> {
        let bridge = id.clone();
        self.attempt(|reply| Message::Unpair { bridge, reply })
            .await
    }

    /// Makes a code for `/login?code=…`: good once, for ten minutes.
    pub async fn create_login_code(&self) -> Result<Secret, HubError> {
        Ok(self
            .grant(GrantKind::LoginCode, "login", "", Some(LOGIN_CODE_LIFE))
            .await?
            .secret)
    }

    /// Makes a token for programs (`Authorization: Bearer`), good until it is revoked.
    pub async fn create_api_token(&self, name: &str) -> Result<NewToken, HubError> {
        let name = prepare::name(name)?;
        self.grant(GrantKind::ApiToken, &name, "ctrla_", None).await
    }

    /// The valid tokens for programs.
    pub async fn api_tokens(&self) -> Result<Vec<TokenView>, HubError> {
        Ok(self.store.grants(GrantKind::ApiToken, now()).await?)
    }

    /// Makes a token for programs invalid.
    pub async fn revoke_api_token(&self, id: &str) -> Result<(), HubError> {
        if self.store.ungrant(GrantKind::ApiToken, id).await? {
            return Ok(());
        }
        Err(HubError::UnknownToken { id: id.to_owned() })
    }

    /// Turns a login code into a session; wrong codes are counted for each source.
    pub(crate) async fn log_in(&self, from: Source, code: &Secret) -> Result<NewToken, HubError> {
        self.attempt(|reply| Message::LoginAttempt { from, reply })
            .await?;
        if code.is_empty() || !self.store.take_login(access::hash(code), now()).await? {
            return Err(HubError::LoginRefused);
        }
        self.tell(Message::LoginSucceeded { from }).await?;
        self.grant(GrantKind::Session, "browser", "", Some(SESSION_LIFE))
            .await
    }

    pub(crate) async fn log_out(&self, session: &Secret) -> Result<(), HubError> {
        if let Some(id) = self
            .store
            .granted(GrantKind::Session, access::hash(session), now())
            .await?
        {
            self.store.ungrant(GrantKind::Session, &id).await?;
        }
        Ok(())
    }

    pub(crate) async fn is_granted(
        &self,
        kind: GrantKind,
        secret: &Secret,
    ) -> Result<bool, HubError> {
        let hash: TokenHash = access::hash(secret);
        Ok(self.store.granted(kind, hash, now()).await?.is_some())
    }

    pub(crate) async fn tell(&self, message: Message) -> Result<(), HubError> {
        self.owner
            .send(message)
            .await
            .map_err(|_| HubError::Stopping)
    }

    async fn grant(
        &self,
        kind: GrantKind,
        name: &str,
        prefix: &str,
        life: Option<Duration>,
    ) -> Result<NewToken, HubError> {
        let secret = access::new_secret(prefix)?;
        let created = now();
        let id = prepare::new_attempt();
        let expires = life.map(|life| later(created, life));
        let record = GrantRecord {
            id: id.clone(),
            kind,
            name: name.to_owned(),
            created,
            expires,
        };
        self.store.grant(record, access::hash(&secret)).await?;
        Ok(NewToken { id, secret })
    }

    async fn existing(&self, id: &TaskId) -> Result<TaskView, HubError> {
        self.task(id)
            .await?
            .ok_or_else(|| HubError::UnknownTask { id: id.clone() })
    }

    async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<T>) -> Message,
    ) -> Result<T, HubError> {
        let (reply, answer) = oneshot::channel();
        self.tell(message(reply)).await?;
        answer.await.map_err(|_| HubError::Stopping)
    }

    async fn attempt<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<Result<T, HubError>>) -> Message,
    ) -> Result<T, HubError> {
        self.ask(message).await?
    }
}

fn git_refused(fault: &GitFault) -> HubError {
    HubError::GitRefused {
        reason: git_error(fault),
    }
}

fn another_reply() -> HubError {
    HubError::GitRefused {
        reason: "the machine answered something else".to_owned(),
    }
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(at.as_millis().saturating_add(millis))
}

/// A list longer than this is read in pages.
const MAX_PAGE_TASKS: usize = 200;
/// One page of events stays well below a second of SQLite's time.
const MAX_PAGE_EVENTS: usize = 1000;
/// Long enough to walk to a phone, short enough for a code in a terminal's history.
const LOGIN_CODE_LIFE: Duration = Duration::from_secs(10 * 60);
/// A browser logs in again after a month.
pub(crate) const SESSION_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
