//! What a scenario file says.

use std::{collections::BTreeMap, fmt};

use serde::Deserialize;
use serde_json::Value;

/// A whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// What it shows, for people.
    pub about: String,
    /// What is running when the first step begins.
    pub start: Start,
    /// What happens, in order.
    pub step: Vec<Step>,
}

/// What is running at the beginning.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// The other end.
    pub plane: Other,
    /// Other ends it is played with as well, one after the other.
    #[serde(default)]
    pub also: Vec<Other>,
    /// Further variables of the bridge.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// The other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Other {
    /// A fake plane that speaks the published wire.
    Plain,
    /// A fake plane that accepts the extension.
    Extended,
    /// A real hub, as `ctrlnode up` starts it with its bridge.
    Hub,
}

/// One step: exactly one of these keys.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Makes one agent per provider known, and waits until each is acknowledged.
    Sync(Vec<String>),
    /// Sends a frame.
    Send(Value),
    /// Sends this as a text frame, whatever it is.
    SendText(String),
    /// Sends so many bytes as a binary frame.
    SendBinary(usize),
    /// Waits for a frame behind those that were expected before.
    Expect(Expect),
    /// No frame so far may fit.
    Never(Value),
    /// Waits until the answer of a task holds a text.
    Says {
        /// Which task.
        task: String,
        /// What.
        text: String,
    },
    /// Waits for a file below the workspace.
    File {
        /// Its path there.
        path: String,
        /// What it holds.
        contains: String,
    },
    /// Drops the connection without a word.
    Cut(bool),
    /// Closes the connection with this code.
    Close(u16),
    /// Refuses those who dial with this HTTP status, and drops the connection.
    Refuse(u16),
    /// Waits for so many further refused dials.
    Refused(usize),
    /// Accepts those who dial again.
    Accept(bool),
    /// Waits for a further connection.
    Connected(bool),
    /// `SIGKILL` to the bridge.
    Kill(bool),
    /// `SIGTERM` to the bridge, which has to end with exit code 0.
    Stop(bool),
    /// Starts the bridge again.
    Start(bool),
    /// Nobody may work for a run any more: task and request.
    NobodyLeft {
        /// Whose.
        task: String,
        /// Which of its runs.
        request: String,
    },
    /// Runs `ctrlnode` with these arguments.
    Run(Run),
    /// Asks the hub over its API.
    Call(Call),
}

/// What is waited for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// What the frame has at least; `*` at the ends of a text stands for anything.
    pub frame: Value,
    /// How long, in seconds.
    #[serde(default = "patience")]
    pub within: u64,
    /// Values of the frame to keep for later steps: name to JSON pointer.
    #[serde(default)]
    pub keep: BTreeMap<String, String>,
}

/// A run of the binary.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Its arguments.
    pub args: Vec<String>,
    /// Its standard input.
    #[serde(default)]
    pub input: String,
    /// The exit code it has to have.
    #[serde(default)]
    pub exit: i32,
    /// What its standard output has to hold.
    #[serde(default)]
    pub stdout: Vec<String>,
    /// What its standard error has to hold.
    #[serde(default)]
    pub stderr: Vec<String>,
    /// The name under which its standard output is kept for later steps.
    pub keep: Option<String>,
    /// Whether it goes on in the background; then neither exit nor output are looked at.
    #[serde(default)]
    pub background: bool,
}

/// A request to the API of the hub.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// `GET`, which is repeated until the answer fits, or another one.
    #[serde(default = "get")]
    pub method: String,
    /// From the first `/` on.
    pub path: String,
    /// What is sent.
    pub body: Option<Value>,
    /// Whether the token of this machine's command line is shown.
    #[serde(default = "yes")]
    pub token: bool,
    /// The status it has to have.
    #[serde(default = "ok")]
    pub status: u16,
    /// What the answer has at least.
    pub json: Option<Value>,
    /// What it has to hold as text.
    #[serde(default)]
    pub text: Vec<String>,
    /// Values of the answer to keep for later steps: name to JSON pointer.
    #[serde(default)]
    pub keep: BTreeMap<String, String>,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Expect(expect) = self {
            write!(f, "expect {}", expect.frame)
        } else if let Self::Send(frame) = self {
            write!(f, "send {frame}")
        } else if let Self::Never(frame) = self {
            write!(f, "never {frame}")
        } else if let Self::Call(call) = self {
            write!(f, "call {} {}", call.method, call.path)
        } else if let Self::Run(run) = self {
            write!(f, "run {}", run.args.join(" "))
        } else {
            write!(f, "{self:?}")
        }
    }
}

fn get() -> String {
    "GET".to_owned()
}

fn yes() -> bool {
    true
}

fn ok() -> u16 {
    200
}

/// Generous: a busy machine is no failure.
fn patience() -> u64 {
    60
}
