//! What viewers order of a machine: checked against who is on line, kept, sent. What they wait for an
//! answer to is in [`questions`](crate::questions).

use bridge_proto::{
    AgentId, BridgeId, RunKey, TaskId,
    ctrlnode::plane::encode,
    model::{
        Answer, Ask, Can, Choosing, CommandBody, FileRoot, FileScope, FollowUp, Place, Request,
        RunKind, StartRun, Tuning, When,
    },
};

use crate::{
    error::HubError,
    owner::{Owner, clocks},
    prepare::{Draft, prompt_with_files},
    state::{AgentRoute, Route},
    store::{RunRecord, TaskRecord},
    view::{Applies, Attachment, Mode, TaskView, Told},
};

impl Owner {
    /// The way to a machine. One that was hung up on has none, although its last words are still read.
    pub(crate) fn route(&self, bridge: &BridgeId) -> Result<Route, HubError> {
        self.open(self.state.route(bridge)?)
    }

    /// The way to an agent, as to its machine.
    fn agent(&self, bridge: &BridgeId, agent: &AgentId) -> Result<AgentRoute, HubError> {
        let mut found = self.state.agent(bridge, agent)?;
        found.route = self.open(found.route)?;
        Ok(found)
    }

    fn open(&self, route: Route) -> Result<Route, HubError> {
        if self.connections.contains_key(&route.conn) {
            return Ok(route);
        }
        Err(HubError::MachineOffline { name: route.name })
    }

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
        } = self.agent(&draft.machine, &draft.agent)?;
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
        } = self.agent(&task.summary.machine, &task.summary.agent)?;
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
        let word = frame(&command, "")?;
        let told = match self.route(bridge) {
            Ok(route) => {
                self.cancel_now(&route, bridge, &task, word).await?;
                Told::Now
            }
            Err(HubError::MachineOffline { .. }) => {
                let commands = self.for_later(bridge, &task, word).await?;
                self.store.want_cancel(&task, commands).await?;
                Told::OnReturn
            }
            Err(error) => return Err(error),
        };
        self.wake(&task);
        Ok(told)
    }

    async fn cancel_now(
        &mut self,
        route: &Route,
        bridge: &BridgeId,
        task: &TaskId,
        word: String,
    ) -> Result<(), HubError> {
        let sending = self.sending(route, task, None, vec![word])?;
        self.state.on_cancel_sent(bridge, task);
        let Some(commands) = sending.commands.clone() else {
            self.go(sending);
            return Ok(self.store.want_cancel(task, None).await?);
        };
        let kept = self.store.want_cancel(task, Some(commands)).await;
        match &kept {
            Ok(()) => self.go(sending),
            Err(_) => self.go_unkept(sending),
        }
        Ok(kept?)
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
        let route = self.route(&summary.machine)?;
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
        let route = self.route(bridge)?;
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
    let frames = commands.iter().map(|command| frame(command, request_id));
    frames.collect()
}

fn frame(command: &CommandBody, request_id: &str) -> Result<String, HubError> {
    encode(command, request_id).map_err(|error| HubError::Malformed {
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

pub(crate) fn scope(agent: &AgentId, provider: &bridge_proto::ProviderKey) -> FileScope {
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
