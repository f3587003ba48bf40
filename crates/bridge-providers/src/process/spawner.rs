//! The one thread that starts programs, and that reaps the orphans they leave to this process.
//!
//! It lives as long as the process: the parent-death signal of Linux fires when the *thread* that
//! spawned ends. It alone knows which children were started here, so it can tell them from
//! orphans that were handed to this process as the nearest subreaper.

use std::{
    collections::BTreeSet,
    io,
    process::Stdio,
    sync::{OnceLock, mpsc},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{process::Command, runtime::Handle, sync::oneshot};

use super::{
    LAUNCH_MARKER, RUN_MARKER,
    child::Child,
    launch::Launch,
    platform::{self, Tree},
};

/// Starts a program; its output and end are delivered by the runtime of the caller.
pub(super) async fn spawn(launch: Launch) -> io::Result<Child> {
    let (reply, answer) = oneshot::channel();
    let runtime = Handle::current();
    orders()?
        .send(Order::Spawn {
            launch: Box::new(launch),
            runtime,
            reply,
        })
        .map_err(|_| thread_is_gone())?;
    answer.await.map_err(|_| thread_is_gone())?
}

/// Says that a child started here was waited for, and comes back when the orphans it left were
/// reaped, and ended if no other child can own them.
pub(super) async fn release(pid: u32) {
    let (done, swept) = oneshot::channel();
    let sent = orders().is_ok_and(|orders| orders.send(Order::Ended { pid, done }).is_ok());
    if !sent || swept.await.is_err() {
        tracing::warn!(pid, "orphans of a program could not be looked for");
    }
}

enum Order {
    Spawn {
        launch: Box<Launch>,
        runtime: Handle,
        reply: oneshot::Sender<io::Result<Child>>,
    },
    Ended {
        pid: u32,
        done: oneshot::Sender<()>,
    },
}

/// Unbounded, but every sender waits for its answer, so it holds at most one order a child.
fn orders() -> io::Result<&'static mpsc::Sender<Order>> {
    static ORDERS: OnceLock<Result<mpsc::Sender<Order>, io::ErrorKind>> = OnceLock::new();
    ORDERS
        .get_or_init(|| {
            let (sender, receiver) = mpsc::channel();
            thread::Builder::new()
                .name("spawner".into())
                .spawn(move || Spawner::default().run(&receiver))
                .map(|_| sender)
                .map_err(|error| error.kind())
        })
        .as_ref()
        .map_err(|kind| io::Error::from(*kind))
}

fn thread_is_gone() -> io::Error {
    io::Error::other("the spawning thread is gone")
}

#[derive(Default)]
struct Spawner {
    /// Children started here that were not waited for yet. One whose runtime shut down before it
    /// could be waited for is struck out by the next sweep.
    own: BTreeSet<u32>,
    orphanage: platform::Orphanage,
    started: u64,
}

impl Spawner {
    fn run(mut self, orders: &mpsc::Receiver<Order>) {
        loop {
            let order = if self.own.is_empty() {
                orders
                    .recv()
                    .map_err(|_| mpsc::RecvTimeoutError::Disconnected)
            } else {
                orders.recv_timeout(REAP_EVERY)
            };
            match order {
                Ok(Order::Spawn {
                    launch,
                    runtime,
                    reply,
                }) => {
                    let within = runtime.enter();
                    // A caller that went away drops the child, which ends it.
                    drop(reply.send(self.spawn(&launch)));
                    drop(within);
                }
                Ok(Order::Ended { pid, done }) => {
                    self.own.remove(&pid);
                    self.sweep();
                    if done.send(()).is_err() {
                        tracing::trace!(pid, "nobody waited for the orphans of a program");
                    }
                }
                Err(mpsc::RecvTimeoutError::Timeout) => self.sweep(),
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn spawn(&mut self, launch: &Launch) -> io::Result<Child> {
        self.started += 1;
        self.orphanage.open()?;
        let marker = launch_marker(self.started);
        let mut command = command(launch, &marker);
        platform::prepare(&mut command);
        let mut child = start(&mut command)?;
        let Some(pid) = child.id() else {
            return Err(io::Error::other("a program ended before it began"));
        };
        // From here on it is ours to wait for, whatever goes wrong.
        self.own.insert(pid);
        match Tree::of_child(&child, pid, &marker) {
            Ok(tree) => Ok(Child::new(child, pid, tree)),
            Err(error) => {
                child.start_kill()?;
                Err(error)
            }
        }
    }

    /// Reaps what is dead; ends orphans when no child is left that they could belong to.
    fn sweep(&mut self) {
        platform::forget_gone(&mut self.own);
        for _ in 0..SWEEPS {
            self.orphanage.reap(&self.own);
            if !self.own.is_empty() || self.orphanage.end_unclaimed() == 0 {
                return;
            }
            thread::sleep(SWEEP_PAUSE);
        }
        tracing::warn!("orphans of a program could not be ended");
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that starts programs"
)]
fn command(launch: &Launch, marker: &str) -> Command {
    let mut command = Command::new(&launch.program);
    command
        .args(&launch.args)
        .current_dir(&launch.directory)
        .env_clear()
        .envs(launch.env.iter())
        .env(LAUNCH_MARKER, marker)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if let Some(run) = &launch.run {
        command.env(RUN_MARKER, run.marker());
    }
    command
}

/// A program file that is being written (an update, an installation) is "busy" for a moment.
fn start(command: &mut Command) -> io::Result<tokio::process::Child> {
    for _ in 0..BUSY_TRIES {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                thread::sleep(BUSY_PAUSE);
            }
            outcome => return outcome,
        }
    }
    command.spawn()
}

/// Different from the marker of every other start on this machine.
fn launch_marker(number: u64) -> String {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    format!("{}-{number}-{}", std::process::id(), since.as_nanos())
}

/// How often dead orphans are reaped while a program runs; they cost a process id each.
const REAP_EVERY: Duration = Duration::from_secs(10);
/// Orphans die within a moment of SIGKILL, and may leave children of their own each time.
const SWEEPS: usize = 50;
const SWEEP_PAUSE: Duration = Duration::from_millis(5);
const BUSY_TRIES: usize = 10;
const BUSY_PAUSE: Duration = Duration::from_millis(20);
