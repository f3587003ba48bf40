//! Lines a person types while a task is followed, so that a question can be answered where it is
//! read.

use std::io::{self, BufRead as _, IsTerminal as _};

use tokio::sync::mpsc;

/// What is typed, line by line.
#[derive(Debug)]
pub(crate) struct Typed(Option<mpsc::Receiver<String>>);

impl Typed {
    /// Listens if standard input is a terminal; what a script leaves open there is no answer.
    pub(crate) fn listen() -> Self {
        if !io::stdin().is_terminal() {
            return Self(None);
        }
        let (lines, typed) = mpsc::channel(1);
        // A thread of its own: a read of a terminal cannot be given up, and must not hold up the end.
        std::thread::spawn(move || {
            for line in io::stdin().lock().lines() {
                let Ok(line) = line else { return };
                if lines.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        Self(Some(typed))
    }

    /// Whether anybody can type here.
    pub(crate) fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// The next line; never, where nobody can type (any more).
    pub(crate) async fn line(&mut self) -> String {
        if let Some(typed) = &mut self.0
            && let Some(line) = typed.recv().await
        {
            return line;
        }
        self.0 = None;
        std::future::pending().await
    }
}
