//! What viewers ask of a machine: checked against who is on line, kept, sent, and for questions
//! about files, waited for.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bridge_proto::{
    BridgeId, RunKey, TaskId,
    ctrlnode::plane::encode,
    model::{
        Answer, Ask, Can, Choosing, CommandBody, FileEntry, FileRoot, FileScope, FollowUp,
        GitReply, GitRequest, Listing, Place, ReadOutcome, Reply, Request, RunKind, StartRun,
        TreeChange, TreeChanged, Tuning, When,
    },
};

use crate::{
    error::HubError,
    owner::{Answered, Owner, answer, clocks},
    prepare::{Draft, prompt_with_files},
    state::{AgentRoute, Route, Unanswered},
    store::{RunRecord, TaskRecord},
    view::{Applies, Attachment, FileContent, Files, Mode, TaskView, Told},
};

/// A viewer that waits for a machine's reply.
pub(crate) struct Waiter {
    name: String,
    waited: Duration,
    what: Wanted,
}

enum Wanted {
    Files {
        below: String,
        reply: Answered<Files>,
    },
    File {
        reply: Answered<FileContent>,
    },
    Git {
        reply: Answered<GitReply>,
    },
    Deleted {
        reply: Answered<()>,
    },
    Anything {
        reply: Answered<Reply>,
    },
}

impl Waiter {
    /// The reply is there, or never will be.
    pub(crate) fn settle(self, result: Result<Reply, Unanswered>) {
        let result = result.map_err(|why| match why {
            Unanswered::Disconnected => HubError::MachineOffline { name: self.name },
            Unanswered::TimedOut => HubError::NoReply {
                waited: self.waited,
            },
        });
        match self.what {
            Wanted::Files { below, reply } => {
                answer(reply, result.and_then(|got| listing(got, &below)));
            }
            Wanted::File { reply } => answer(reply, result.and_then(content)),
            Wanted::Git { reply } => answer(reply, result.and_then(of_git)),
            Wanted::Deleted { reply } => answer(reply, result.and_then(deleted)),
            Wanted::Anything { reply } => answer(reply, result),
        }
    }
}

impl Owner {
    pub(crate) async fn create(
        &mut self,
        draft: Draft,
        run: RunRecord,
        attachments: Vec<Attachment>,
    ) -> Result<(), HubError> {
        let AgentRoute {
            route,
            provider,
            root,
        } = self.state.agent(&draft.machine, &draft.agent)?;
        let folder = draft.folder.clone();
        let input = input_folder(root.as_deref(), folder.as_str(), &draft.mode);
        let place = place(&draft.mode, &folder);
        let start = StartRun {
            run: run.key.clone(),
            agent: draft.agent.clone(),
            prompt: prompt_with_files(&run.prompt, &run.attachments, &input),
            task_log: task_log(&draft.mode, folder.as_str()),
            place,
            tuning: draft.tuning.clone(),
        };
        let scope = scope(&start.agent, &provider);
        let mut commands = writes(&scope, folder.as_str(), attachments);
        commands.push(CommandBody::Start(Box::new(start)));
        let frames = frames(&commands, &run.key.attempt)?;
        let sending = self.sending(&route, &run.key.task, Some(&run.key), frames)?;
        let record = TaskRecord {
            id: run.key.task.clone(),
            bridge: draft.machine,
            agent: draft.agent,
            provider,
            title: draft.title,
            mode: draft.mode,
            folder,
            tuning: draft.tuning,
        };
        let key = run.key.clone();
        let kept = sending.commands.clone();
        self.store.create_task(record, run, kept).await?;
        self.state.on_run_sent(&route, &key);
        self.go(sending);
        self.tick();
        Ok(())
    }

    pub(crate) async fn follow_up(
        &mut self,
        task: TaskView,
        run: RunRecord,
        attachments: Vec<Attachment>,
        when: When,
    ) -> Result<(), HubError> {
        let AgentRoute {
            route,
            provider,
            root,
        } = self
            .state
            .agent(&task.summary.machine, &task.summary.agent)?;
        let input = input_folder(root.as_deref(), task.folder.as_str(), &task.mode);
        let message = prompt_with_files(&run.prompt, &run.attachments, &input);
        let mut follow_up = further(&task, run.key.clone(), run.kind, message);
        if route.extended {
            // Whether it can be read in the turn at work is known there alone.
            follow_up.when = when;
        } else {
            follow_up.tuning = Tuning::default();
        }
        let scope = scope(&follow_up.agent, &provider);
        let mut commands = writes(&scope, task.folder.as_str(), attachments);
        commands.push(CommandBody::FollowUp(Box::new(follow_up)));
        let frames = frames(&commands, &run.key.attempt)?;
        let key = run.key.clone();
        let sending = self.sending(&route, &key.task, Some(&key), frames)?;
        self.store.add_run(run, sending.commands.clone()).await?;
        self.state.on_run_sent(&route, &key);
        self.go(sending);
        self.wake(&key.task);
        self.tick();
        Ok(())
    }

    /// Sent also when the wish cannot be kept; promised only when it is: a word that does not arrive
    /// is said again on every connection until the machine has it, or the run has ended.
    pub(crate) async fn cancel(
        &mut self,
        bridge: &BridgeId,
        task: TaskId,
    ) -> Result<Told, HubError> {
        let command = CommandBody::Cancel { task: task.clone() };
        let words = frames(&[command], "")?;
        let route = match self.state.route(bridge) {
            Ok(route) => route,
            Err(HubError::MachineOffline { name }) => {
                let commands = self.for_later(bridge, name, &task, words).await?;
                self.store.want_cancel(&task, commands).await?;
                return Ok(Told::OnReturn);
            }
            Err(error) => return Err(error),
        };
        let sending = self.sending(&route, &task, None, words)?;
        self.state.on_cancel_sent(bridge, &task);
        let Some(commands) = sending.commands.clone() else {
            self.go(sending);
            self.store.want_cancel(&task, None).await?;
            return Ok(Told::Now);
        };
        let kept = self.store.want_cancel(&task, Some(commands)).await;
        match &kept {
            Ok(()) => self.go(sending),
            Err(_) => self.go_unkept(sending),
        }
        kept?;
        Ok(Told::Now)
    }

    pub(crate) async fn interrupt(&mut self, task: &TaskView) -> Result<(), HubError> {
        let (route, _) = self.steered(task, "stop a turn alone")?;
        let task = task.summary.id.clone();
        let command = CommandBody::Interrupt { task: task.clone() };
        let sending = self.sending(&route, &task, None, frames(&[command], "")?)?;
        Ok(self.keep_and_go(sending).await?)
    }

    /// Kept first, so that the next run has it whatever happens to the frame.
    pub(crate) async fn tune(
        &mut self,
        task: &TaskView,
        tuning: Tuning,
    ) -> Result<Applies, HubError> {
        let (route, can) = self.steered(task, "change settings of a conversation")?;
        let chosen = [
            (tuning.model.is_some(), can.model, "choose a model"),
            (tuning.mode.is_some(), can.mode, "choose a mode"),
            (
                tuning.effort.is_some(),
                can.effort,
                "choose a thinking effort",
            ),
        ];
        let mut applies = if task.summary.status.is_live() {
            Applies::Now
        } else {
            Applies::NextRun
        };
        for (_, choosing, what) in chosen.into_iter().filter(|(wanted, ..)| *wanted) {
            match choosing {
                Choosing::Never => {
                    let machine = route.name;
                    return Err(HubError::NotSupported { machine, what });
                }
                Choosing::AtStart => applies = Applies::NextRun,
                Choosing::AnyTime => {}
            }
        }
        let id = task.summary.id.clone();
        let mut words = Vec::new();
        if task.summary.status.is_live() {
            let (task, tuning) = (id.clone(), tuning.clone());
            let request = self.state.next_request();
            words = frames(&[CommandBody::Tune { task, tuning }], &request)?;
        }
        let sending = self.sending(&route, &id, None, words)?;
        let kept = sending.commands.clone();
        self.store.tune(&id, tuning, kept).await?;
        self.go(sending);
        self.wake(&id);
        Ok(applies)
    }

    /// The way to the agent of a task, with what can be done while it works.
    fn steered(&self, task: &TaskView, what: &'static str) -> Result<(Route, Can), HubError> {
        let summary = &task.summary;
        let route = self.state.route(&summary.machine)?;
        match self.state.can(&summary.machine, &summary.provider) {
            Some(can) => Ok((route, can)),
            None => Err(HubError::NotSupported {
                machine: route.name,
                what,
            }),
        }
    }

    pub(crate) async fn answer(
        &mut self,
        bridge: &BridgeId,
        task: TaskId,
        ask: Ask,
        given: Answer,
    ) -> Result<(), HubError> {
        let route = self.state.route(bridge)?;
        let words = words(&ask, &given);
        let (id, digest) = (Some(ask.id), Some(ask.digest));
        let (id, digest) = if route.extended {
            (id, digest)
        } else {
            (None, None)
        };
        let command = CommandBody::Answer {
            task: task.clone(),
            ask: id,
            digest,
            answer: given,
        };
        let sending = self.sending(&route, &task, None, frames(&[command], "")?)?;
        self.keep_and_go(sending).await?;
        let effects = self.state.on_answer_sent(clocks(), &route, &task, &words);
        self.carry_out(effects).await;
        Ok(())
    }

    pub(crate) fn ask_files(&mut self, task: &TaskView, reply: Answered<Files>) {
        let below = format!("{}/output", task.folder);
        let request = Request::ListFiles {
            scope: scope(&task.summary.agent, &task.summary.provider),
            subpath: below.clone(),
            recursive: true,
            include_files: true,
        };
        let request = CommandBody::Request(request);
        self.ask(task, &request, LIST_WITHIN, Wanted::Files { below, reply });
    }

    pub(crate) fn ask_file(&mut self, task: &TaskView, path: &str, reply: Answered<FileContent>) {
        let request = Request::ReadFile {
            scope: scope(&task.summary.agent, &task.summary.provider),
            path: format!("{}/output/{path}", task.folder),
        };
        let request = CommandBody::Request(request);
        self.ask(task, &request, READ_WITHIN, Wanted::File { reply });
    }

    pub(crate) fn ask_git(
        &mut self,
        task: &TaskView,
        request: GitRequest,
        reply: Answered<GitReply>,
    ) {
        let request = CommandBody::Git(request);
        self.ask(task, &request, READ_WITHIN, Wanted::Git { reply });
    }

    /// Kept like a command: it is done even when the one who waits has heard that the machine went
    /// away.
    pub(crate) async fn ask_delete(&mut self, task: &TaskView, path: &str, reply: Answered<()>) {
        let change = TreeChange::DeletePath {
            scope: scope(&task.summary.agent, &task.summary.provider),
            path: format!("{}/output/{path}", task.folder),
        };
        let request = CommandBody::Request(Request::Tree(change));
        let wanted = Wanted::Deleted { reply };
        let asked = self.waiting(&task.summary.machine, &request, CHANGE_WITHIN, wanted);
        let Some(Asking { route, id, frames }) = asked else {
            return;
        };
        let sent = match self.sending(&route, &task.summary.id, None, frames) {
            Ok(sending) => self.keep_and_go(sending).await.map_err(HubError::from),
            Err(error) => Err(error),
        };
        if let Err(error) = sent
            && let Some(waiter) = self.waiters.remove(&id)
        {
            waiter.what.refuse(error);
        }
    }

    pub(crate) fn ask_anything(
        &mut self,
        machine: &BridgeId,
        request: Request,
        reply: Answered<Reply>,
    ) {
        let request = CommandBody::Request(request);
        self.ask_machine(machine, &request, CHANGE_WITHIN, Wanted::Anything { reply });
    }

    fn ask(&mut self, task: &TaskView, request: &CommandBody, waited: Duration, what: Wanted) {
        self.ask_machine(&task.summary.machine, request, waited, what);
    }

    fn ask_machine(
        &mut self,
        machine: &BridgeId,
        request: &CommandBody,
        waited: Duration,
        what: Wanted,
    ) {
        if let Some(Asking { route, frames, .. }) = self.waiting(machine, request, waited, what) {
            for frame in frames {
                self.send(route.conn, frame);
            }
        }
    }

    /// Waits for the answer to a request, which is to be sent now; nothing when it was refused.
    fn waiting(
        &mut self,
        machine: &BridgeId,
        request: &CommandBody,
        waited: Duration,
        what: Wanted,
    ) -> Option<Asking> {
        let route = match self.state.route(machine) {
            Ok(route) => route,
            Err(error) => {
                what.refuse(error);
                return None;
            }
        };
        if self.waiters.len() >= MAX_WAITERS {
            what.refuse(HubError::NoReply {
                waited: Duration::ZERO,
            });
            return None;
        }
        let id = self.state.on_request(clocks(), route.conn, waited);
        let frames = match frames(std::slice::from_ref(request), &id) {
            Ok(frames) => frames,
            Err(error) => {
                what.refuse(error);
                return None;
            }
        };
        let name = route.name.clone();
        self.waiters
            .insert(id.clone(), Waiter { name, waited, what });
        Some(Asking { route, id, frames })
    }
}

/// A request that somebody waits for.
struct Asking {
    route: Route,
    id: String,
    frames: Vec<String>,
}

impl Wanted {
    fn refuse(self, error: HubError) {
        match self {
            Self::Files { reply, .. } => answer(reply, Err(error)),
            Self::File { reply } => answer(reply, Err(error)),
            Self::Git { reply } => answer(reply, Err(error)),
            Self::Deleted { reply } => answer(reply, Err(error)),
            Self::Anything { reply } => answer(reply, Err(error)),
        }
    }
}

pub(crate) fn further(task: &TaskView, run: RunKey, kind: RunKind, message: String) -> FollowUp {
    FollowUp {
        run,
        agent: task.summary.agent.clone(),
        message,
        place: place(&task.mode, &task.folder),
        kind,
        focus_files: Vec::new(),
        when: When::After,
        tuning: task.tuning.clone(),
    }
}

pub(crate) fn frames(commands: &[CommandBody], request_id: &str) -> Result<Vec<String>, HubError> {
    let frames = commands.iter().map(|command| encode(command, request_id));
    frames
        .collect::<Result<_, _>>()
        .map_err(|error| HubError::Malformed {
            what: "command",
            reason: error.to_string(),
        })
}

fn writes(scope: &FileScope, folder: &str, attachments: Vec<Attachment>) -> Vec<CommandBody> {
    attachments
        .into_iter()
        .map(|file| {
            CommandBody::Request(Request::WriteFile {
                scope: scope.clone(),
                path: format!("{folder}/input/{}", file.name),
                bytes: file.bytes,
                text: false,
            })
        })
        .collect()
}

fn scope(agent: &bridge_proto::AgentId, provider: &bridge_proto::ProviderKey) -> FileScope {
    FileScope {
        root: FileRoot::Ctrlnode,
        agent: Some(agent.clone()),
        provider: Some(provider.clone()),
    }
}

pub(crate) fn place(mode: &Mode, folder: &bridge_proto::TaskFolder) -> Place {
    let folder = Some(folder.clone());
    match mode {
        Mode::Output => Place::Output { folder },
        Mode::Repository { path } => Place::Repository {
            path: path.clone(),
            folder,
        },
    }
}

/// Where the agent finds its files: from its working directory in output mode, which is the task
/// folder; absolute in a repository, as far as the machine has told its root.
fn input_folder(root: Option<&str>, folder: &str, mode: &Mode) -> String {
    match (mode, root) {
        (Mode::Output, _) => "input".to_owned(),
        (Mode::Repository { .. }, Some(root)) => {
            format!("{}/{folder}/input", root.trim_end_matches(['/', '\\']))
        }
        (Mode::Repository { .. }, None) => format!("{folder}/input"),
    }
}

/// In a repository the agent writes its summary outside of it.
pub(crate) fn task_log(mode: &Mode, folder: &str) -> Option<String> {
    let name = folder.rsplit('/').next().unwrap_or(folder);
    match mode {
        Mode::Output => None,
        Mode::Repository { .. } => Some(format!("{folder}/output/{name}-output.md")),
    }
}

/// An answer as a person would say it.
fn words(ask: &Ask, given: &Answer) -> String {
    match given {
        Answer::Choose { option } => ask
            .options
            .iter()
            .find(|choice| choice.id == *option)
            .map_or_else(|| option.clone(), |choice| choice.label.clone()),
        Answer::Text { text } => text.clone(),
        Answer::Deny { reason } if reason.is_empty() => "denied".to_owned(),
        Answer::Deny { reason } => reason.clone(),
    }
}

fn listing(reply: Reply, below: &str) -> Result<Files, HubError> {
    let Reply::ListFiles { listing } = reply else {
        return Err(unexpected(&reply));
    };
    let Listing { entries, cut, .. } = listing.map_err(|code| HubError::FileRefused { code })?;
    let prefix = format!("{below}/");
    let mut entries: Vec<_> = entries
        .into_iter()
        .filter_map(|entry| {
            // The bridge's paths start with the folder; anything else did not come from it.
            let path = entry
                .path
                .strip_prefix(&prefix)
                .filter(|path| !path.is_empty())?
                .to_owned();
            Some(FileEntry { path, ..entry })
        })
        .collect();
    entries.sort_by_cached_key(|entry| entry.path.to_lowercase());
    Ok(Files {
        entries,
        truncated: cut,
    })
}

fn content(reply: Reply) -> Result<FileContent, HubError> {
    let Reply::ReadFile { outcome, .. } = reply else {
        return Err(unexpected(&reply));
    };
    let refused = |code: &str| HubError::FileRefused {
        code: code.to_owned(),
    };
    match outcome {
        ReadOutcome::Content {
            content,
            content_type,
        } => {
            let encoded = content_type.starts_with("image/") || content_type == "application/pdf";
            let bytes = if encoded {
                STANDARD
                    .decode(&content)
                    .map_err(|_| refused("BAD_ENCODING"))?
            } else {
                content.into_bytes()
            };
            Ok(FileContent {
                bytes,
                content_type,
            })
        }
        ReadOutcome::Binary {
            bytes,
            content_type,
        } => Ok(FileContent {
            bytes,
            content_type,
        }),
        ReadOutcome::NoRoot => Err(refused("BASE_PATH_NOT_FOUND")),
        ReadOutcome::InvalidPath => Err(refused("INVALID_PATH")),
        ReadOutcome::NotFound => Err(refused("FILE_NOT_FOUND")),
        ReadOutcome::TooLarge { bytes, .. } => Err(HubError::FileTooLarge { bytes }),
        ReadOutcome::Unreadable => Err(refused("FILE_READ_ERROR")),
    }
}

fn of_git(reply: Reply) -> Result<GitReply, HubError> {
    let Reply::Git { reply: said } = reply else {
        return Err(unexpected(&reply));
    };
    Ok(said)
}

fn deleted(reply: Reply) -> Result<(), HubError> {
    let Reply::Tree(TreeChanged::Done { error, .. }) = reply else {
        return Err(unexpected(&reply));
    };
    error.map_or(Ok(()), |code| Err(HubError::FileRefused { code }))
}

fn unexpected(reply: &Reply) -> HubError {
    let code = match reply {
        Reply::Unknown { .. } => "NOT_SUPPORTED",
        Reply::AgentsSynced { .. }
        | Reply::ReadFile { .. }
        | Reply::ListFiles { .. }
        | Reply::RunChecked { .. }
        | Reply::Tree(_)
        | Reply::Plan(_)
        | Reply::Capabilities(_)
        | Reply::Git { .. }
        | Reply::Pipeline { .. }
        | Reply::Gateway { .. } => "UNEXPECTED_REPLY",
    };
    HubError::FileRefused {
        code: code.to_owned(),
    }
}

const LIST_WITHIN: Duration = Duration::from_secs(15);
const READ_WITHIN: Duration = Duration::from_secs(30);
/// Of a folder with many entries.
const CHANGE_WITHIN: Duration = Duration::from_secs(60);
/// More questions at once than people could ask.
const MAX_WAITERS: usize = 256;
