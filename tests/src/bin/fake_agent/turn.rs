//! One turn: the steps of a script, said in whichever protocol.

use std::{
    io::{self, Write as _},
    process,
    sync::mpsc::Receiver,
    thread,
    time::{Duration, SystemTime},
};

use serde_json::Value;

use crate::{script::Step, write};

/// How a turn ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    Done,
    Cancelled,
    Failed(String),
    /// The other side closed its end.
    Gone,
}

/// A protocol's words for what a turn does.
pub(crate) trait Words {
    /// Answer text, in these pieces.
    fn text(&mut self, pieces: &[String]) -> io::Result<()>;
    /// A tool call that works.
    fn tool(&mut self) -> io::Result<()>;
    /// A permission is asked for; the answer comes as a message.
    fn ask(&mut self) -> io::Result<()>;
    /// The answer to the open question, when the message is one.
    fn answer(&mut self, message: &Value) -> io::Result<Option<bool>>;
    /// A failed model call is tried again.
    fn retry(&mut self) -> io::Result<()>;
    /// What a person says while the turn goes on, when the message is that.
    fn further(&mut self, message: &Value) -> Option<String>;
    /// Whether the message asks to stop; answers it where the protocol wants that.
    fn is_cancel(&mut self, message: &Value) -> io::Result<bool>;

    /// Messages of the wrong shape.
    fn wrong(&mut self) -> io::Result<()>;

    /// Messages of kinds that nobody knows.
    fn unknown(&mut self) -> io::Result<()>;

    /// Answers to requests that nobody made.
    fn stray(&mut self) -> io::Result<()>;

    /// Ids that are in use for something else.
    fn reuse(&mut self) -> io::Result<()>;

    /// Lets the turn end for a reason that nobody knows.
    fn odd_end(&mut self);
}

/// Does the steps.
pub(crate) fn play(
    words: &mut impl Words,
    inbox: &Receiver<Value>,
    steps: &[Step],
    earlier: &[String],
) -> io::Result<(End, Option<i32>)> {
    let mut exit = None;
    for step in steps {
        if let Some(end) = one(words, inbox, step, earlier)? {
            return Ok((end, exit));
        }
        if let Step::ExitAfter(code) = step {
            exit = Some(*code);
        }
    }
    Ok((End::Done, exit))
}

fn one(
    words: &mut impl Words,
    inbox: &Receiver<Value>,
    step: &Step,
    earlier: &[String],
) -> io::Result<Option<End>> {
    match step {
        Step::Say(text) => words.text(&in_words(text))?,
        Step::Stream(pieces) => {
            let pieces: Vec<String> = (1..=*pieces).map(|n| format!("w{n} ")).collect();
            words.text(&pieces)?;
        }
        Step::Clock(pieces, apart) => {
            for _ in 0..*pieces {
                if *apart > 0 {
                    thread::sleep(Duration::from_millis(*apart));
                }
                words.text(&[format!("{} ", nanoseconds())])?;
            }
        }
        Step::Remember => words.text(&in_words(&format!("Before: {}.", earlier.join(", "))))?,
        Step::Tool => words.tool()?,
        Step::Ask => {
            words.ask()?;
            let allowed = loop {
                let Ok(message) = inbox.recv() else {
                    return Ok(Some(End::Gone));
                };
                if words.is_cancel(&message)? {
                    return Ok(Some(End::Cancelled));
                }
                if let Some(allowed) = words.answer(&message)? {
                    break allowed;
                }
            };
            let said = if allowed {
                "It was allowed."
            } else {
                "It was denied."
            };
            words.text(&in_words(said))?;
        }
        Step::Listen => loop {
            let Ok(message) = inbox.recv() else {
                return Ok(Some(End::Gone));
            };
            if words.is_cancel(&message)? {
                return Ok(Some(End::Cancelled));
            }
            if let Some(text) = words.further(&message) {
                words.text(&in_words(&format!("Heard: {text}")))?;
                break;
            }
        },
        Step::Background => background()?,
        Step::Retry => words.retry()?,
        Step::Hang => loop {
            let Ok(message) = inbox.recv() else {
                return Ok(Some(End::Gone));
            };
            if words.is_cancel(&message)? {
                return Ok(Some(End::Cancelled));
            }
        },
        Step::Deaf => loop {
            thread::park();
        },
        Step::Exit(code) => exit_now(*code),
        Step::Error(reason) => return Ok(Some(End::Failed(reason.clone()))),
        Step::BigLine(bytes) => big_line(*bytes)?,
        Step::Garbage => {
            write(b"warning: this line is not the protocol\n{\"cut\":\n[1,2]\n\n")?;
            write(b"\xff\xfe\xc3\x28 not even text\n")?;
            write(b"{\"jsonrpc\":\"2.0\",\"method\":\"x\",\"params\":{\"a\":\"\xff\"}}\n")?;
        }
        Step::Escapes => {
            write(b"\x1b[2J\x1b[1;31mred\x1b[0m\x1b]0;owned\x07\r\n")?;
            write(b"\x1b]52;c;ZWNobyBoaQ==\x07\x08\x08\x00\n\x1bc\n\r\r\r\n")?;
        }
        Step::Wrong => words.wrong()?,
        Step::Unknown => words.unknown()?,
        Step::Stray => words.stray()?,
        Step::Reuse => words.reuse()?,
        Step::OddEnd => words.odd_end(),
        Step::Children { deaf } => children(*deaf)?,
        Step::Stderr(bytes) => flood(*bytes)?,
        Step::ExitAfter(_) => {}
    }
    Ok(None)
}

/// What time it is.
pub(crate) fn nanoseconds() -> u128 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap_or_default().as_nanos()
}

/// Two programs that do not end by themselves.
#[expect(
    clippy::disallowed_methods,
    reason = "a program that leaves others behind is what the test asked for"
)]
fn children(deaf: bool) -> io::Result<()> {
    let script = if deaf { DEAF } else { STAYS };
    for launcher in [&["sh"][..], &["setsid", "sh"]] {
        let (program, words) = launcher.split_first().unwrap_or((&"sh", &[]));
        let mut command = process::Command::new(program);
        command.args(words).args(["-c", script]);
        command.stdin(process::Stdio::null());
        command.stdout(process::Stdio::null());
        command.stderr(process::Stdio::null());
        drop(command.spawn()?);
    }
    Ok(())
}

/// Prints JSON that is a message of no protocol, and brackets no parser should follow to their
/// end.
pub(crate) fn shapeless() -> io::Result<()> {
    write(SHAPELESS.as_bytes())?;
    write("[".repeat(100_000).as_bytes())?;
    write(b"\n")
}

#[expect(clippy::exit, reason = "a crash is what the test asked for")]
fn exit_now(code: i32) -> ! {
    process::exit(code)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a process nobody waits for is what the test asked for"
)]
fn background() -> io::Result<()> {
    process::Command::new("sleep")
        .arg("600")
        .stdin(process::Stdio::null())
        .stdout(process::Stdio::null())
        .stderr(process::Stdio::null())
        .spawn()
        .map(drop)
}

fn in_words(text: &str) -> Vec<String> {
    text.split_inclusive(' ').map(str::to_owned).collect()
}

fn big_line(bytes: u64) -> io::Result<()> {
    let mut left = usize::try_from(bytes).unwrap_or(usize::MAX);
    let block = vec![b'x'; 64 * 1024];
    while left > 0 {
        let some = left.min(block.len());
        write(block.get(..some).unwrap_or_default())?;
        left -= some;
    }
    write(b"\n")
}

fn flood(bytes: u64) -> io::Result<()> {
    let line = b"this agent complains a lot about nothing in particular, again and again\n";
    let mut err = io::stderr().lock();
    let mut left = bytes;
    while left > 0 {
        err.write_all(line)?;
        left = left.saturating_sub(line.len() as u64);
    }
    Ok(())
}

/// JSON that is a message of no protocol.
const SHAPELESS: &str = "null\n7\n\"text\"\n[]\n[[],{}]\n{}\n{\"a\":1}{\"b\":2}\n\
    {\"type\":7}\n{\"method\":7}\n{\"jsonrpc\":\"2.0\"}\n{\"id\":{}}\n\
    {\"jsonrpc\":\"2.0\",\"id\":[1],\"result\":null,\"error\":null}\n";
/// A shell with another program below it.
const STAYS: &str = "while :; do sleep 600; done";
/// The same, whatever it is told.
const DEAF: &str = "trap '' TERM INT HUP; while :; do sleep 600; done";
