//! The fake agent as a program without a protocol: the prompt is its last argument or its whole
//! standard input, what it says are lines.

use std::{
    io::{self, Read as _, Write as _},
    sync::mpsc::sync_channel,
};

use serde_json::Value;

use crate::{
    say, script,
    turn::{End, Words, play},
};

/// Answers one prompt; gives the exit code.
pub(crate) fn serve(prompt: Option<&str>) -> io::Result<i32> {
    let mut text = String::new();
    if let Some(prompt) = prompt {
        prompt.clone_into(&mut text);
    } else {
        io::stdin().lock().read_to_string(&mut text)?;
    }
    // Nobody says anything further: what waits for that waits for ever.
    let (_silent, inbox) = sync_channel(1);
    let (end, exit) = play(&mut Lines, &inbox, &script::read(&text), &[])?;
    match end {
        End::Failed(reason) => {
            writeln!(io::stderr(), "{reason}")?;
            Ok(1)
        }
        End::Done | End::Cancelled | End::Gone => Ok(exit.unwrap_or(0)),
    }
}

struct Lines;

impl Words for Lines {
    fn text(&mut self, pieces: &[String]) -> io::Result<()> {
        pieces
            .iter()
            .try_for_each(|piece| say(&format!("{piece}\n")))
    }

    fn tool(&mut self) -> io::Result<()> {
        say("fake\n")
    }

    fn ask(&mut self) -> io::Result<()> {
        say("may I?\n")
    }

    fn answer(&mut self, _message: &Value) -> io::Result<Option<bool>> {
        Ok(None)
    }

    fn retry(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn further(&mut self, _: &Value) -> Option<String> {
        None
    }

    fn is_cancel(&mut self, _message: &Value) -> io::Result<bool> {
        Ok(false)
    }

    // Whatever it prints is its answer, so there is nothing it could get wrong.

    fn wrong(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn unknown(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn stray(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn reuse(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn odd_end(&mut self) {}
}
