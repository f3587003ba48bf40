//! What happens in a new process before its program begins (all Unix systems).

use std::io;

use tokio::process::Command;

/// The program leads a session of its own: no terminal, and signals meant for the daemon's group
/// (Ctrl-C) do not reach it. On Linux it gets SIGTERM when the daemon dies, however that happens.
#[expect(
    unsafe_code,
    reason = "code between fork and exec cannot be had without"
)]
pub(super) fn prepare(command: &mut Command) {
    let parent = rustix::process::getpid();
    // SAFETY: the closure runs in the forked child before exec; it makes plain system calls, and
    // touches neither the heap nor locks.
    unsafe {
        command.pre_exec(move || {
            rustix::process::setsid()?;
            follow_to_death(parent)
        });
    }
}

#[cfg(target_os = "linux")]
fn follow_to_death(parent: rustix::process::Pid) -> io::Result<()> {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};

    set_parent_process_death_signal(Some(Signal::TERM))?;
    // A parent that died before the line above sends no signal any more.
    if getppid() == Some(parent) {
        Ok(())
    } else {
        Err(io::ErrorKind::NotConnected.into())
    }
}

/// Elsewhere programs end when they find their input closed; what is left is ended by nobody.
#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "the shape of the Linux version")]
fn follow_to_death(_: rustix::process::Pid) -> io::Result<()> {
    Ok(())
}
