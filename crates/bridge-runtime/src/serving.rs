//! Serving of file requests: a few at a time on blocking threads, in bounded memory, and each with
//! an answer, whatever becomes of its handler.
//!
//! Reads and listings wait in a short queue; when it is full the plane is not read any further.
//! Those that are there together are served by one thread, which hands its answers to the link
//! when it has [`MOST_AT_HAND`] bytes of them or is done, and takes nothing more before the link
//! has them: so no more wait than that for each thread, and one answer. Changes are made one after the other, each before the
//! next request or run is looked at, so that a file deleted before a task is not there when the
//! task starts; other commands do not wait for them.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use bridge_proto::{
    ctrlnode,
    model::{Origin, ReadOutcome, Reply, Request},
};
use bridge_transport::{ConnId, Handle};
use bridge_workspace::{CommandId, DropBox, Served, Tree, Workspace};
use tokio::{
    runtime,
    sync::{Semaphore, mpsc},
    task::JoinHandle,
    time::timeout,
};

use crate::{intake::leave_to_the_plane, outgoing::Outgoing, scribe::Scribe};

/// A request with everything that is needed to answer it.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) request: Request,
    pub(crate) tree: Option<Tree>,
    pub(crate) origin: Origin,
    pub(crate) conn: ConnId,
    /// Which command it is, if it has a number.
    pub(crate) id: Option<CommandId>,
}

/// The tasks that serve file requests; they end with it.
#[derive(Debug)]
pub(crate) struct Serving {
    scribe: Scribe,
    queue: mpsc::Sender<Job>,
    /// The change at work.
    changing: Option<JoinHandle<()>>,
    link: Handle<Outgoing>,
    workspace: Arc<Workspace>,
    /// The dropped tasks, where they are looked for.
    drops: Option<DropBox>,
}

impl Serving {
    /// Must be called on a tokio runtime.
    pub(crate) fn start(
        workspace: Arc<Workspace>,
        link: Handle<Outgoing>,
        scribe: Scribe,
        drops: Option<DropBox>,
    ) -> Self {
        let (queue, jobs) = mpsc::channel(QUEUE);
        tokio::spawn(hand_out(jobs, Arc::clone(&workspace), link.clone()));
        Self {
            scribe,
            queue,
            changing: None,
            link,
            workspace,
            drops,
        }
    }

    /// Takes a read or a listing; waits while the queue is full.
    pub(crate) async fn read(&mut self, job: Job) {
        self.settled().await;
        let id = job.id;
        if self.queue.send(job).await.is_err() {
            tracing::error!("nobody serves file requests any more");
        }
        // It changes nothing, and its answer dies with the connection.
        self.scribe.done(id).await;
    }

    /// Begins a change, after the one before it.
    pub(crate) async fn change(&mut self, job: Job) {
        self.settled().await;
        let (workspace, link) = (Arc::clone(&self.workspace), self.link.clone());
        let (scribe, drops) = (self.scribe.clone(), self.drops.clone());
        let here = runtime::Handle::current();
        self.changing = Some(tokio::task::spawn_blocking(move || {
            let mut answers = Answers::new(here.clone(), link);
            answers.add(&job, |job| {
                let served = workspace.serve(&job.request, job.tree.as_ref());
                if let (Some(drops), Served::Moved { to, .. }) = (&drops, &served) {
                    leave_to_the_plane(drops.moved_by_the_plane(to));
                }
                served
            });
            here.block_on(scribe.done(job.id));
            answers.hand_over();
        }));
    }

    /// Waits for the change at work.
    pub(crate) async fn settled(&mut self) {
        if let Some(changing) = self.changing.take()
            && let Err(error) = changing.await
        {
            tracing::error!(%error, "a change of files was cut short");
        }
    }
}

async fn hand_out(
    mut jobs: mpsc::Receiver<Job>,
    workspace: Arc<Workspace>,
    link: Handle<Outgoing>,
) {
    let readers = Arc::new(Semaphore::new(READERS));
    let here = runtime::Handle::current();
    loop {
        let Ok(permit) = Arc::clone(&readers).acquire_owned().await else {
            return;
        };
        // Those that came meanwhile share a thread: starting one costs more than a small file.
        let mut batch = Vec::new();
        if jobs.recv_many(&mut batch, AT_A_TIME).await == 0 {
            return;
        }
        let (workspace, link, here) = (Arc::clone(&workspace), link.clone(), here.clone());
        let served = tokio::task::spawn_blocking(move || {
            let mut reader = workspace.reader();
            let mut answers = Answers::new(here, link);
            for job in batch {
                answers.add(&job, |job| reader.serve(&job.request, job.tree.as_ref()));
            }
            answers.hand_over();
            drop(permit);
        });
        // More of them are begun beside it only if it takes its time: two threads that wake each
        // other for every small file cost more than the files.
        match timeout(ALONE, served).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(error)) => tracing::error!(%error, "file requests were cut short"),
        }
    }
}

/// Answers of one thread on their way to the link.
struct Answers {
    here: runtime::Handle,
    link: Handle<Outgoing>,
    at_hand: Vec<Outgoing>,
    bytes: usize,
}

impl Answers {
    fn new(here: runtime::Handle, link: Handle<Outgoing>) -> Self {
        Self {
            here,
            link,
            at_hand: Vec::new(),
            bytes: 0,
        }
    }

    /// Serves one request; its answer goes with those before it.
    fn add(&mut self, job: &Job, serve: impl FnOnce(&Job) -> Served) {
        let reply = reply_to(job, serve);
        let frame = reply.and_then(|reply| ctrlnode::encode_reply(&reply, &job.origin));
        let Some(frame) = frame else {
            return;
        };
        self.bytes += frame.len();
        self.at_hand.push(Outgoing::reply(job.conn, frame));
        if self.bytes >= MOST_AT_HAND {
            self.hand_over();
        }
    }

    /// Waits until the link has all answers.
    fn hand_over(&mut self) {
        self.bytes = 0;
        let answers = std::mem::take(&mut self.at_hand);
        if answers.is_empty() {
            return;
        }
        if self.here.block_on(self.link.push_all(answers)).is_err() {
            tracing::debug!("the link closed before a reply could go out");
        }
    }
}

/// A handler that fails has an answer as well: one that says so in the words of its action.
fn reply_to(job: &Job, serve: impl FnOnce(&Job) -> Served) -> Option<Reply> {
    match catch_unwind(AssertUnwindSafe(|| serve(job))) {
        Ok(Served::Reply(reply) | Served::Moved { reply, .. }) => Some(reply),
        Ok(Served::Write(_)) => None,
        Err(_) => {
            tracing::error!("a file request made its handler fail");
            failed(&job.request)
        }
    }
}

fn failed(request: &Request) -> Option<Reply> {
    match request {
        Request::WriteFile { .. } => None,
        Request::ReadFile { path, .. } => Some(Reply::ReadFile {
            path: path.clone(),
            outcome: ReadOutcome::Unreadable,
        }),
        Request::ListFiles { .. } => Some(Reply::ListFiles {
            listing: Err(INTERNAL.to_owned()),
        }),
        Request::Tree(change) => Some(Reply::Tree(change.refused(INTERNAL))),
    }
}

const INTERNAL: &str = "BRIDGE_INTERNAL_ERROR";

/// Threads that serve reads and listings at the same time.
const READERS: usize = 4;

/// Requests that wait for one of them.
const QUEUE: usize = 256;

/// Requests that one thread takes with it.
const AT_A_TIME: usize = 64;

/// Bytes of answers that a thread keeps until it hands them over.
const MOST_AT_HAND: usize = 64 * 1024;

/// How long the requests of one thread may take before others are served beside them.
const ALONE: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use bridge_proto::{
        ctrlnode::decode,
        model::{CommandBody, Source},
    };

    use super::*;

    fn job(frame: &str) -> Job {
        let command = decode(frame.as_bytes(), Source::Plane).unwrap();
        let CommandBody::Request(request) = command.body else {
            panic!("not a request")
        };
        Job {
            request,
            tree: Some(Tree::Base),
            origin: command.origin,
            conn: ConnId(1),
            id: None,
        }
    }

    #[test]
    fn a_handler_that_panics_is_answered_in_the_words_of_its_action() {
        for (frame, answer) in [
            (
                r#"{"action":"read_file","requestId":"q","path":"x"}"#,
                r#"{"action":"read_file_response","requestId":"q","agentId":"","path":"x","content":null,"contentType":"text/plain","error":"FILE_READ_ERROR"}"#,
            ),
            (
                r#"{"action":"list_files","requestId":"q"}"#,
                r#"{"action":"list_files_response","requestId":"q","files":[],"error":"BRIDGE_INTERNAL_ERROR"}"#,
            ),
            (
                r#"{"action":"delete_path","requestId":"q","path":"x"}"#,
                r#"{"action":"delete_path_ack","requestId":"q","success":false,"error":"BRIDGE_INTERNAL_ERROR"}"#,
            ),
            (
                r#"{"action":"create_workspace","requestId":"q","folderName":"x"}"#,
                r#"{"action":"create_workspace_response","requestId":"q","workspacePath":null,"success":false,"error":"BRIDGE_INTERNAL_ERROR"}"#,
            ),
            (
                r#"{"action":"delete_agent_folders","requestId":"q","folderName":"x"}"#,
                r#"{"action":"delete_agent_folders_response","requestId":"q","success":false,"deleted":[],"errors":["BRIDGE_INTERNAL_ERROR"]}"#,
            ),
        ] {
            let job = job(frame);
            let reply = reply_to(&job, |_| panic!("as a test wants it")).unwrap();
            let frame = ctrlnode::encode_reply(&reply, &job.origin);
            assert_eq!(frame.as_deref(), Some(answer));
        }
        let write = job(r#"{"action":"write_file","path":"x","content":"y"}"#);
        assert_eq!(reply_to(&write, |_| panic!("as a test wants it")), None);
    }
}
