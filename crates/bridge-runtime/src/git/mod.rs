//! Git for the control plane: a task of its own takes requests, carries them out a few at a time,
//! and answers each on the connection it came from. Nothing here ever holds up the supervisor or
//! the frames that follow.
//!
//! Reading order: [`queue`] (which request is due, pure), [`job`] (one request; looks), [`change`]
//! (changes). What may be asked
//! of git, by which commands, is in `bridge_workspace::git`.

mod change;
mod job;
mod queue;

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use bridge_proto::model::{GitReply, GitRequest, Origin, Reply};
use bridge_providers::host::Host;
use bridge_transport::{ConnId, Handle};
use bridge_workspace::Workspace;
use tokio::{
    sync::mpsc,
    task::{self, JoinError, JoinSet},
};

use self::queue::{MAX_WAITING, Queue, Ticket};
use crate::{intake::send_reply, outgoing::Outgoing};

/// What requests of git are carried out with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tools {
    /// Which folders are allowed, and what may leave them.
    pub workspace: Arc<Workspace>,
    /// Where git is, and the variables it is started with.
    pub host: Host,
    /// Repositories whose own settings and hooks may be in force, canonical.
    pub trusted: Arc<[PathBuf]>,
    /// How long git may take and how much it may print.
    pub limits: Limits,
}

/// How long git may take and how much it may print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For all commands of a look, and for each command of a change; default 20 s.
    pub time: Duration,
    /// Bytes of output of one command; default 32 MiB.
    pub output: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(20),
            output: 32 << 20,
        }
    }
}

/// Carries out one request and gives its answer, whatever happens.
pub async fn answer(tools: &Tools, request: &GitRequest) -> GitReply {
    job::answer(tools, request).await
}

/// A request and whom to answer.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) request: GitRequest,
    pub(crate) origin: Origin,
    pub(crate) conn: ConnId,
}

/// The task that carries out requests; ends, with all it started, when its sender is gone.
pub(crate) struct Desk {
    tools: Tools,
    link: Handle<Outgoing>,
    queue: Queue<Arc<Asked>>,
    working: JoinSet<()>,
    /// Who waits for which piece of work, in case it breaks.
    tickets: HashMap<task::Id, (Ticket, Arc<Asked>)>,
}

impl Desk {
    /// Starts it.
    pub(crate) fn start(tools: Tools, link: Handle<Outgoing>) -> mpsc::Sender<Asked> {
        let (sender, asked) = mpsc::channel(64);
        let desk = Self {
            tools,
            link,
            queue: Queue::default(),
            working: JoinSet::new(),
            tickets: HashMap::new(),
        };
        tokio::spawn(desk.run(asked));
        sender
    }

    async fn run(mut self, mut asked: mpsc::Receiver<Asked>) {
        loop {
            tokio::select! {
                Some(ended) = self.working.join_next_with_id(), if !self.working.is_empty() => {
                    self.ended(ended).await;
                }
                next = asked.recv() => match next {
                    Some(asked) => self.take(asked).await,
                    None => return,
                },
            }
            while let Some((ticket, asked)) = self.queue.next() {
                self.begin(ticket, asked);
            }
        }
    }

    async fn take(&mut self, asked: Asked) {
        let asked = Arc::new(asked);
        if let Err(asked) = self.queue.push(&asked.request, Arc::clone(&asked)) {
            tracing::warn!(waiting = MAX_WAITING, "too many requests of git");
            // A plane that does not take its answers is not listened to meanwhile.
            let busy = job::refused(
                &asked.request,
                "too many requests of git wait on this machine",
            );
            send(&self.link, &asked, busy).await;
        }
    }

    fn begin(&mut self, ticket: Ticket, asked: Arc<Asked>) {
        let (tools, link) = (self.tools.clone(), self.link.clone());
        let work = Arc::clone(&asked);
        let handle = self.working.spawn(async move {
            let reply = job::answer(&tools, &work.request).await;
            send(&link, &work, reply).await;
        });
        self.tickets.insert(handle.id(), (ticket, asked));
    }

    async fn ended(&mut self, ended: Result<(task::Id, ()), JoinError>) {
        let (id, broke) = match ended {
            Ok((id, ())) => (id, None),
            Err(error) => (error.id(), Some(error)),
        };
        let Some((ticket, asked)) = self.tickets.remove(&id) else {
            return;
        };
        self.queue.done(ticket);
        if let Some(error) = broke {
            tracing::error!(%error, "a request of git broke");
            let reply = job::refused(&asked.request, "the bridge failed");
            send(&self.link, &asked, reply).await;
        }
    }
}

async fn send(link: &Handle<Outgoing>, asked: &Asked, reply: GitReply) {
    send_reply(link, &Reply::Git { reply }, &asked.origin, asked.conn).await;
}
