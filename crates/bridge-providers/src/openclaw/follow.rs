//! Following the log of a session on this disk while a turn is at work over HTTP.

use std::{
    fs::{self, File, Metadata},
    io::{Read as _, Seek as _, SeekFrom},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use bridge_proto::model::RunEvent;
use serde_json::Value;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use super::session_log::{Look, SessionLog, log_of};
use crate::provider::Heard;

/// Where logs lie, and how often they are looked at.
#[derive(Debug, Clone)]
pub(super) struct Logs {
    /// `agents` in OpenClaw's own folder.
    pub(super) agents: PathBuf,
    pub(super) interval: Duration,
}

/// A log that is followed until [`Self::stop`]; dropping it stops as well.
#[derive(Debug)]
pub(super) struct Following {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Following {
    /// Begins behind what the log says already, before this returns. `None` when the agent has no
    /// logs.
    pub(super) async fn start(
        logs: &Logs,
        agent: &str,
        session: &str,
        tell: mpsc::Sender<Heard>,
    ) -> Option<Self> {
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
        if agent.is_empty() || !agent.chars().all(is_name) {
            return None;
        }
        let folder = logs.agents.join(agent).join("sessions");
        let keys = vec![session.to_owned(), format!("agent:{agent}:{session}")];
        let begun = tokio::task::spawn_blocking(move || Follower::begin(folder, keys));
        let follower = begun.await.ok().flatten()?;
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(follow(follower, logs.interval, stopped, tell));
        Some(Self { stop, task })
    }

    /// Tells what is left, and ends.
    pub(super) async fn stop(self) {
        if self.stop.send(()).is_err() {
            tracing::debug!("a log is not followed any more");
        }
        if let Err(error) = self.task.await {
            tracing::error!(%error, "following a log failed");
        }
    }
}

async fn follow(
    mut follower: Follower,
    every: Duration,
    mut stopped: oneshot::Receiver<()>,
    tell: mpsc::Sender<Heard>,
) {
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let last = tokio::select! {
            _ = tick.tick() => false,
            asked = &mut stopped => match asked {
                Ok(()) => true,
                // The turn was given up.
                Err(_) => return,
            },
        };
        let looked = tokio::task::spawn_blocking(move || {
            let mut events = follower.look();
            if last {
                events.extend(follower.log.close());
            }
            (follower, events)
        });
        let Ok((back, events)) = looked.await else {
            return;
        };
        follower = back;
        for event in events {
            if tell
                .send(Heard::Seen(Box::new(event.into())))
                .await
                .is_err()
            {
                return;
            }
        }
        if last {
            return;
        }
    }
}

/// The files behind one log.
#[derive(Debug)]
struct Follower {
    folder: PathBuf,
    keys: Vec<String>,
    /// When the notes of the sessions were written that were read last.
    noted: Option<SystemTime>,
    name: Option<String>,
    log: SessionLog,
}

impl Follower {
    fn begin(folder: PathBuf, keys: Vec<String>) -> Option<Self> {
        if !folder.is_dir() {
            return None;
        }
        let mut follower = Self {
            folder,
            keys,
            noted: None,
            name: None,
            log: SessionLog::default(),
        };
        follower.find();
        if let Some((mut file, meta)) = follower.open() {
            let tail = meta.len().min(MAX_TAIL);
            let mut end = Vec::new();
            let read = file
                .seek(SeekFrom::Start(meta.len() - tail))
                .and_then(|_| file.take(tail).read_to_end(&mut end));
            if read.is_ok() {
                follower.log.begin(look(&meta), &end);
            }
        }
        Some(follower)
    }

    /// Reads again which file it is, if the gateway wrote down something new.
    fn find(&mut self) {
        let notes = self.folder.join(NOTES);
        let Ok(meta) = fs::metadata(&notes) else {
            return;
        };
        let written = meta.modified().ok();
        if !meta.is_file() || meta.len() > MAX_NOTES || (written.is_some() && written == self.noted)
        {
            return;
        }
        let text = fs::read(&notes).unwrap_or_default();
        // While it is being written it may be half: then it is read the next time.
        if let Ok(sessions) = serde_json::from_slice::<Value>(&text) {
            self.noted = written;
            self.name = log_of(&sessions, &self.keys).or_else(|| self.name.take());
        }
    }

    fn open(&self) -> Option<(File, Metadata)> {
        let path = self.folder.join(self.name.as_ref()?);
        // No link, and nothing that could hold up whoever opens it.
        if !fs::symlink_metadata(&path).ok()?.is_file() {
            return None;
        }
        let file = File::open(path).ok()?;
        let meta = file.metadata().ok()?;
        meta.is_file().then_some((file, meta))
    }

    fn look(&mut self) -> Vec<RunEvent> {
        self.find();
        let Some((mut file, meta)) = self.open() else {
            return Vec::new();
        };
        let from = self.log.on_look(look(&meta));
        let mut events = Vec::new();
        if file.seek(SeekFrom::Start(from)).is_err() {
            return events;
        }
        let mut chunk = vec![0; CHUNK];
        for _ in 0..MAX_CHUNKS {
            match file.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => {
                    let read = chunk.get(..read).unwrap_or_default();
                    events.extend(self.log.on_bytes(read));
                }
                Err(error) => {
                    tracing::debug!(%error, "a log cannot be read");
                    break;
                }
            }
        }
        let skipped = self.log.take_skipped();
        if skipped > 0 {
            tracing::debug!(skipped, "lines of a log were too long");
        }
        events
    }
}

#[cfg(unix)]
fn look(meta: &Metadata) -> Look {
    use std::os::unix::fs::MetadataExt as _;

    Look {
        file: meta.ino(),
        len: meta.len(),
    }
}

#[cfg(not(unix))]
fn look(meta: &Metadata) -> Look {
    Look {
        file: 0,
        len: meta.len(),
    }
}

/// What the gateway notes of an agent's sessions.
const NOTES: &str = "sessions.json";
const MAX_NOTES: u64 = 16 << 20;
/// Where the last line's beginning is looked for.
const MAX_TAIL: u64 = 4 << 20;
const CHUNK: usize = 64 << 10;
/// Read in one look; the rest the next time.
const MAX_CHUNKS: usize = 128;
