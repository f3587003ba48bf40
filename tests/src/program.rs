//! Programs that tests start: the product itself and the tools around it.

use std::{
    env,
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

/// A command that is not started by the product.
#[expect(
    clippy::disallowed_methods,
    reason = "tests start the product from outside"
)]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    Command::new(program)
}

/// The built `ctrlnode` binary, beside the test that runs; cargo brings it up to date first, once
/// in the life of the test.
pub fn ctrlnode() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| built("bridge-cli", "ctrlnode"))
}

/// The built `replay_frames` of the examples, in the same way.
pub fn replay_frames() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| built("bridge-examples", "replay_frames"))
}

/// The built `embed_transport` of the examples, in the same way.
pub fn embed_transport() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| built("bridge-examples", "embed_transport"))
}

/// The built `control_plane` of the examples, in the same way.
pub fn control_plane() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| built("bridge-examples", "control_plane"))
}

fn built(package: &str, binary: &str) -> PathBuf {
    let folder = folder();
    let mut build = command(env!("CARGO"));
    build.current_dir(env!("CARGO_MANIFEST_DIR"));
    for (name, _) in env::vars_os() {
        // What cargo tells a test about its package: build scripts that look at it would run
        // again here, and once more in the next build outside.
        let told = ["CARGO_PKG_", "CARGO_MANIFEST_"];
        let name = name.to_string_lossy();
        if told.iter().any(|beginning| name.starts_with(beginning)) {
            build.env_remove(&*name);
        }
    }
    build.args(["build", "--locked", "--quiet"]);
    build.args(["--package", package, "--bin", binary]);
    build
        .arg("--target-dir")
        .arg(folder.parent().expect("a profile lies in target"));
    if folder.ends_with("release") {
        build.arg("--release");
    }
    let status = build.status().expect("cargo can be started");
    assert!(status.success(), "{binary} cannot be built: {status}");
    beside(binary)
}

/// A program of the same build as the one that runs.
pub fn beside(name: &str) -> PathBuf {
    folder().join(format!("{name}{}", env::consts::EXE_SUFFIX))
}

/// The folder of this build's programs; tests lie one folder deeper, in `deps`.
fn folder() -> PathBuf {
    let this = env::current_exe().expect("a program knows its own file");
    let folder = this.parent().expect("a program lies in a folder");
    match folder.parent() {
        Some(above) if folder.ends_with("deps") => above.to_owned(),
        Some(_) | None => folder.to_owned(),
    }
}

/// A started program. Dropping it asks it to end, and kills it when it does not.
#[derive(Debug)]
pub struct Running {
    child: Child,
}

impl Running {
    /// Starts it.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        Ok(Self {
            child: command.spawn()?,
        })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended; `None` while it runs.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Asks it to end with SIGTERM (where there are signals) and kills it after `limit`.
    pub fn end(&mut self, limit: Duration) -> io::Result<ExitStatus> {
        // A child that was not waited for keeps its id, so the signal cannot meet a stranger.
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        let asked = self.ask_to_end();
        let until = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if !asked || Instant::now() >= until {
                self.child.kill()?;
                return self.child.wait();
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Whether it could be asked to end.
    #[cfg(unix)]
    fn ask_to_end(&self) -> bool {
        use rustix::process::{Pid, Signal, kill_process};
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        pid.is_some_and(|pid| kill_process(pid, Signal::TERM).is_ok())
    }

    #[cfg(not(unix))]
    fn ask_to_end(&self) -> bool {
        false
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.end(PATIENCE));
    }
}

/// The product ends its agents within 10 s; a little more for a busy machine.
const PATIENCE: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
