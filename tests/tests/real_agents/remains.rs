//! Who is still alive: processes are told by what stands in their environment, which they hand on
//! to whatever they start. Only Linux shows it; elsewhere nothing is found.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// One process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// The run it works for: the value of `CTRLNODE_RUN`.
    pub(crate) run: Option<String>,
    pub(crate) command: String,
}

/// Kills a process, if it is still there.
pub(crate) fn kill(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.map(|pid| kill_process(pid, Signal::KILL));
}

/// Who still lives in this home folder after so long; comes back at once when nobody does.
pub(crate) fn after(home: &Path, limit: Duration) -> Vec<Process> {
    let until = Instant::now() + limit;
    loop {
        let left = of_home(home);
        if left.is_empty() || Instant::now() >= until {
            return left;
        }
        thread::sleep(LOOK_AGAIN);
    }
}

/// All processes that live in this home folder.
pub(crate) fn of_home(home: &Path) -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| process(&entry.path(), home))
        .collect()
}

fn process(folder: &Path, home: &Path) -> Option<Process> {
    let pid = folder.file_name()?.to_str()?.parse().ok()?;
    // Empty for a process that is dead and was not yet waited for.
    let environment = fs::read(folder.join("environ")).ok()?;
    let value = |name: &str| {
        let mut entries = environment.split(|byte| *byte == 0);
        entries.find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    };
    let lives_there = value("HOME").is_some_and(|value| OsStr::from_bytes(value) == home);
    lives_there.then(|| Process {
        pid,
        run: value("CTRLNODE_RUN").map(|run| String::from_utf8_lossy(run).into_owned()),
        command: command(folder),
    })
}

fn command(folder: &Path) -> String {
    let line = fs::read(folder.join("cmdline")).unwrap_or_default();
    let words: Vec<_> = line
        .split(|byte| *byte == 0)
        .map(String::from_utf8_lossy)
        .collect();
    words.join(" ").trim_end().to_owned()
}

const LOOK_AGAIN: Duration = Duration::from_millis(20);
