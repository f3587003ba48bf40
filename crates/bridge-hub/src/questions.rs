//! What viewers ask of a machine and wait for: files, contents and the state of repositories.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bridge_proto::{
    BridgeId,
    model::{
        CommandBody, FileEntry, GitReply, GitRequest, Listing, ReadOutcome, Reply, Request,
        TreeChange, TreeChanged,
    },
};

use crate::{
    error::HubError,
    owner::{Answered, Owner, answer, clocks},
    requests::{frames, scope},
    state::{Route, Unanswered},
    view::{FileContent, Files, TaskView},
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
        let route = match self.route(machine) {
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
