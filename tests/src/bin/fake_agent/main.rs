//! A deterministic agent for tests. It speaks the Agent Client Protocol as `fake_agent acp`, the
//! protocol of Codex as `fake_agent app-server`, Claude Code's stream-json when it is started with
//! Claude Code's own flags (`-p …`), and none as `fake_agent exec` (the prompt on standard input) or
//! `fake_agent exec PROMPT`. Under the name of an agent of the Agent Client Protocol it has the ways
//! of that agent (see [`quirky`]).
//!
//! What it does is told by lines of the prompt that begin with `@`, in order (see [`script`]).
//! As `fake_agent clock N MS` it speaks no protocol and prints what time it is, as `@clock` says it.
//!
//! What it does before the first prompt is told by further arguments of `acp`:
//!
//! - `--garbage N`: prints N lines that are not the protocol first
//! - `--exit CODE`: ends at once
//! - `--deaf`: reads nothing and says nothing
//! - `--silent`: reads, but answers nothing
//! - `--modes`: its sessions can be in the modes `code` and `plan`

mod acp;
mod claude;
mod codex;
mod exec;
mod quirky;
mod script;
mod turn;

use std::{
    env,
    io::{self, BufRead as _, Write as _},
    process::ExitCode,
    sync::mpsc::{Receiver, sync_channel},
    thread,
    time::Duration,
};

use serde_json::Value;

use self::quirky::Flavour;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().collect();
    let words: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    let flavour = args.first().and_then(|program| Flavour::of(program));
    let done = match words.as_slice() {
        ["acp", "--check"] => say("Hermes ACP check OK\n").map(|()| 0),
        ["acp", "--version"] => say("9.9.9\n").map(|()| 0),
        ["acp" | "--acp", ..] if flavour.is_some() => match flavour {
            Some(flavour) => quirky::serve(flavour, &listen()),
            None => Ok(2),
        },
        ["--version"] => say("9.9.9 (Fake Agent)\n").map(|()| 0),
        ["auth", "status", ..] => say("{\"loggedIn\":true}\n").map(|()| 0),
        ["acp", options @ ..] => match before(options) {
            Ok(None) => acp::serve(&listen(), options),
            Ok(Some(code)) => Ok(code),
            Err(error) => Err(error),
        },
        ["clock", pieces, apart] => clock(pieces, apart).map(|()| 0),
        ["app-server", ..] => codex::serve(&listen()),
        ["exec"] => exec::serve(None),
        ["exec", prompt] => exec::serve(Some(prompt)),
        ["-p", options @ ..] => claude::serve(&listen(), options),
        _ => say("fake_agent: `acp`, `app-server` or Claude Code's flags\n").map(|()| 2),
    };
    match done {
        Ok(code) => u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from),
        // The other end is gone: nobody is there to complain to.
        Err(_) => ExitCode::FAILURE,
    }
}

fn clock(pieces: &str, apart: &str) -> io::Result<()> {
    let apart = Duration::from_millis(apart.parse().unwrap_or(0));
    for _ in 0..pieces.parse().unwrap_or(20) {
        if !apart.is_zero() {
            thread::sleep(apart);
        }
        say(&format!("{}\n", turn::nanoseconds()))?;
    }
    Ok(())
}

/// Does what is to be done before the first word; the exit code when that is all.
fn before(options: &[&str]) -> io::Result<Option<i32>> {
    let mut options = options.iter();
    while let Some(option) = options.next() {
        match *option {
            "--garbage" => {
                let lines = options.next().and_then(|n| n.parse().ok()).unwrap_or(3);
                for n in 0..lines {
                    say(&format!("Welcome! This is line {n} of a banner.\n"))?;
                }
            }
            "--modes" => {}
            "--exit" => {
                let code = options.next().and_then(|code| code.parse().ok());
                return Ok(Some(code.unwrap_or(1)));
            }
            "--deaf" => loop {
                thread::park();
            },
            "--silent" => {
                for line in io::stdin().lock().lines() {
                    drop(line?);
                }
                return Ok(Some(0));
            }
            _ => return Ok(Some(2)),
        }
    }
    Ok(None)
}

/// Reads messages on a thread of its own, so that a cancel is heard while a turn runs.
fn listen() -> Receiver<Value> {
    let (sender, inbox) = sync_channel(256);
    thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if let Ok(message) = serde_json::from_str(&line)
                && sender.send(message).is_err()
            {
                return;
            }
        }
    });
    inbox
}

/// Writes text to standard output at once.
pub(crate) fn say(text: &str) -> io::Result<()> {
    write(text.as_bytes())
}

/// Writes bytes to standard output at once.
pub(crate) fn write(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}
