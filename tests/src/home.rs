//! A home folder of its own for a test, and real `ctrlnode` processes in it. Nothing of the
//! machine's own settings is seen, and whatever was started there ends with it, also on a panic.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use bridge_proto::{RunKey, TaskId};
use bridge_providers::host::Host;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader},
    process::{Child, Command},
    sync::watch,
    time::timeout,
};

use crate::program::ctrlnode;

/// The home folder; removed with everything in it, and everything started in it, when dropped.
#[derive(Debug)]
pub struct Home {
    folder: TempDir,
    path: PathBuf,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

/// A `ctrlnode` process at work; killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    lines: watch::Sender<Vec<String>>,
}

impl Home {
    /// A fresh one, with a workspace in it.
    ///
    /// # Panics
    /// When there is no place for temporary files.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("ctrlnode-test-").tempdir();
        let folder = folder.expect("a place for temporary files");
        let path = folder
            .path()
            .canonicalize()
            .expect("a folder that was just made");
        for name in ["work", "tmp"] {
            fs::create_dir(path.join(name)).expect("a fresh folder can be written");
        }
        Self { folder, path }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder agents may work in (`BASE_PATH`).
    pub fn workspace(&self) -> PathBuf {
        self.path.join("work")
    }

    /// `CTRLNODE_ROOT` of a bridge in that workspace.
    pub fn root(&self) -> PathBuf {
        self.workspace().join(".ctrlnode")
    }

    /// A git-like repository in the workspace, with one file.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn repository(&self, name: &str) -> PathBuf {
        let folder = self.workspace().join(name);
        fs::create_dir_all(folder.join(".git")).expect("a fresh folder can be written");
        fs::write(folder.join("main.txt"), "one\n").expect("a fresh folder can be written");
        folder
    }

    /// Waits until the log of a task in a folder of its own holds these words.
    ///
    /// # Panics
    /// When it does not within a minute.
    pub async fn logged(&self, task: &str, words: &str) {
        let log = self
            .root()
            .join("tasks")
            .join(task)
            .join("output/agent_log.md");
        let told = || fs::read_to_string(&log).is_ok_and(|text| text.contains(words));
        let waiting = async {
            while !told() {
                tokio::time::sleep(LOOK).await;
            }
        };
        let within = timeout(DEADLINE, waiting).await;
        assert!(within.is_ok(), "{words:?} is not in {}", log.display());
    }

    /// The variables of every program started here.
    pub fn variables(&self) -> Vec<(OsString, OsString)> {
        let mut all: Vec<(OsString, OsString)> = vec![
            ("HOME".into(), self.path.clone().into()),
            ("TMPDIR".into(), self.path.join("tmp").into()),
            ("CTRLNODE_STATE".into(), self.path.join("state").into()),
            ("LANG".into(), "C.UTF-8".into()),
        ];
        for name in ["PATH", "SystemRoot", "LLVM_PROFILE_FILE"] {
            all.extend(env::var_os(name).map(|value| (name.into(), value)));
        }
        all
    }

    /// The machine as agents of a bridge in this process see it, with these variables more.
    pub fn host(&self, more: &[(&str, &str)]) -> Host {
        let more = more.iter().map(|(name, value)| (name.into(), value.into()));
        Host::new(self.variables().into_iter().chain(more))
    }

    /// `ctrlnode` with these arguments, not started yet.
    #[expect(
        clippy::disallowed_methods,
        reason = "the product itself is what is started"
    )]
    pub fn ctrlnode(&self, args: &[&str]) -> Command {
        let mut command = Command::new(ctrlnode());
        command
            .args(args)
            .env_clear()
            .envs(self.variables())
            .current_dir(&self.path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs `ctrlnode` to its end.
    ///
    /// # Panics
    /// When it cannot be started or does not end within a minute.
    pub async fn run(&self, args: &[&str], input: &str) -> Finished {
        finish(self.ctrlnode(args), input).await
    }

    /// Starts `ctrlnode bridge start` for this plane.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn bridge(&self, url: &str) -> Running {
        let mut command = self.ctrlnode(&["bridge", "start", "--log", "debug"]);
        command
            .env("PAIRING_TOKEN", "test-token")
            .env("SAAS_URL", url)
            // A plane of a test speaks the WebSocket alone.
            .env("CTRLNODE_SIDE_CHANNEL", "off")
            .env("BASE_PATH", self.workspace())
            .env("RECONNECT_MS", "100");
        Running::start(command)
    }

    /// Processes that were started here and live, by their environment. Linux only.
    pub fn processes(&self) -> Vec<u32> {
        let home = format!("HOME={}", self.path.display());
        with_variables(&[home])
    }

    /// Those of them that work for this run. Linux only.
    ///
    /// # Panics
    /// When the task has no proper name.
    pub fn of_run(&self, task: &str, attempt: &str) -> Vec<u32> {
        let task = TaskId::parse(task).expect("a task id");
        let marker = RunKey {
            task,
            attempt: attempt.to_owned(),
        }
        .marker();
        let home = format!("HOME={}", self.path.display());
        with_variables(&[home, format!("CTRLNODE_RUN={marker}")])
    }

    /// Waits until so many work for this run: one that is just being started cannot be looked at.
    ///
    /// # Panics
    /// When there are fewer after a minute.
    pub async fn some_of(&self, task: &str, attempt: &str, count: usize) {
        let all = async {
            while self.of_run(task, attempt).len() < count {
                tokio::time::sleep(LOOK).await;
            }
        };
        let all = timeout(DEADLINE, all).await;
        assert!(all.is_ok(), "{:?}", self.of_run(task, attempt));
    }

    /// Waits until nobody works for this run. The end of a process that is no child of ours makes
    /// no event, so it is looked for.
    ///
    /// # Panics
    /// When some are left after a minute.
    pub async fn none_left_of(&self, task: &str, attempt: &str) {
        none_left(|| self.of_run(task, attempt)).await;
    }

    /// Waits until nothing runs here any more.
    ///
    /// # Panics
    /// When something does after a minute.
    pub async fn none_left(&self) {
        none_left(|| self.processes()).await;
    }
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for pid in self.processes() {
            signal(pid, Signal::Kill);
        }
        // A folder that cannot be removed is the temporary folder's own affair.
        debug_assert!(
            self.folder.path().is_absolute(),
            "tempfile gives absolute paths"
        );
    }
}

/// Runs a command to its end, with this on its standard input.
///
/// # Panics
/// When it cannot be started or does not end within a minute.
pub async fn finish(mut command: Command, input: &str) -> Finished {
    command.stdin(Stdio::piped());
    let mut child = command.spawn().expect("ctrlnode can be started");
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input has ended or does not want it.
        drop(stdin.write_all(input.as_bytes()).await);
    }
    let output = timeout(DEADLINE, child.wait_with_output());
    let output = output
        .await
        .expect("ctrlnode ends in time")
        .expect("ctrlnode can be waited for");
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Running {
    /// Starts a command; both of its outputs are read line by line.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("ctrlnode can be started");
        let lines = watch::Sender::new(Vec::new());
        if let Some(out) = child.stdout.take() {
            tokio::spawn(gather(out, lines.clone()));
        }
        if let Some(err) = child.stderr.take() {
            tokio::spawn(gather(err, lines.clone()));
        }
        Self { child, lines }
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it has ended and was waited for.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Waits for a line of its output that fits, also among those before.
    ///
    /// # Panics
    /// When none comes within a minute; tells what came instead.
    pub async fn line(&self, fits: impl Fn(&str) -> bool) -> String {
        let mut lines = self.lines.subscribe();
        let found = lines.wait_for(|lines| lines.iter().any(|line| fits(line)));
        let found = timeout(DEADLINE, found).await;
        let Ok(Ok(lines)) = found else {
            panic!("no such line; there is:\n{}", self.told())
        };
        lines
            .iter()
            .find(|line| fits(line))
            .cloned()
            .unwrap_or_default()
    }

    /// Everything it printed so far.
    pub fn told(&self) -> String {
        self.lines.borrow().join("\n")
    }

    /// `SIGKILL`, and waits until it is gone.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("it can be killed");
    }

    /// `SIGTERM`, then waits for its end; the exit code.
    ///
    /// # Panics
    /// When it does not end within a minute.
    pub async fn terminate(&mut self) -> Option<i32> {
        signal(self.pid(), Signal::Term);
        self.ended().await
    }

    /// Waits for its end; the exit code.
    ///
    /// # Panics
    /// When it does not end within a minute.
    pub async fn ended(&mut self) -> Option<i32> {
        let Ok(status) = timeout(DEADLINE, self.child.wait()).await else {
            panic!("still running; it said:\n{}", self.told());
        };
        status.expect("it can be waited for").code()
    }
}

async fn gather(from: impl AsyncRead + Unpin, lines: watch::Sender<Vec<String>>) {
    let mut from = BufReader::new(from).lines();
    while let Ok(Some(line)) = from.next_line().await {
        lines.send_modify(|lines| lines.push(line));
    }
}

async fn none_left(alive: impl Fn() -> Vec<u32>) {
    let gone = async {
        while !alive().is_empty() {
            tokio::time::sleep(LOOK).await;
        }
    };
    let in_time = timeout(DEADLINE, gone).await.is_ok();
    assert!(in_time, "left behind: {:?}", alive());
}

/// Living processes whose environment has all of these, except this one.
fn with_variables(wanted: &[String]) -> Vec<u32> {
    let Ok(all) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let here = std::process::id();
    pids.filter(|pid| *pid != here)
        .filter(|pid| {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let variables: Vec<&[u8]> = environ.split(|byte| *byte == 0).collect();
            wanted
                .iter()
                .all(|wanted| variables.contains(&wanted.as_bytes()))
        })
        .collect()
}

#[derive(Debug, Clone, Copy)]
enum Signal {
    Term,
    Kill,
}

#[cfg(unix)]
fn signal(pid: u32, signal: Signal) {
    use rustix::process::{Pid, Signal as Sys, kill_process};
    let signal = match signal {
        Signal::Term => Sys::TERM,
        Signal::Kill => Sys::KILL,
    };
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let sent = pid.map(|pid| kill_process(pid, signal));
    // One that has ended this moment has what it was to get.
    debug_assert!(
        matches!(sent, None | Some(Ok(()) | Err(rustix::io::Errno::SRCH))),
        "{sent:?}"
    );
}

#[cfg(not(unix))]
fn signal(_pid: u32, _signal: Signal) {}

/// Generous: a busy machine is no failure.
const DEADLINE: Duration = Duration::from_secs(60);
/// Between two looks at what makes no event.
const LOOK: Duration = Duration::from_millis(20);
