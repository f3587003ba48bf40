//! The agent's side of the protocol: reads requests on a thread of its own, opens and finds
//! sessions, and hands prompts to a [`Turn`].

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, BufRead, Write},
    path::PathBuf,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use serde_json::{Value, json};

use super::{memory::Memory, script::Script, turn::Turn};

/// What the demo agent is told by whoever starts it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DemoSettings {
    /// Folder for what it remembers, the variable `CTRLNODE_DEMO_STATE`. Without one its
    /// conversations cannot be continued by another process.
    pub state: Option<PathBuf>,
}

/// How the demo agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DemoEnd {
    /// Its input was closed.
    Closed,
    /// It was told to crash; the process shall exit with 3.
    Crashed,
}

impl DemoEnd {
    /// The exit code that belongs to it.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::Crashed => 3,
        }
    }
}

/// Serves one client until its input ends. Blocks; reads on a thread of its own, so that it hears
/// a cancel while it works. Errors are those of writing to `output`.
pub fn run(
    input: impl BufRead + Send + 'static,
    output: impl Write,
    settings: &DemoSettings,
) -> io::Result<DemoEnd> {
    let (sender, inbox) = sync_channel(INBOX);
    thread::Builder::new()
        .name("demo-input".into())
        .spawn(move || listen(input, &sender))?;
    let mut agent = Agent {
        out: output,
        inbox,
        settings,
        sessions: BTreeMap::new(),
        later: VecDeque::new(),
        next_id: 0,
        opened: 0,
    };
    match agent.serve() {
        Stop::Crash => Ok(DemoEnd::Crashed),
        Stop::Io(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        Stop::Gone | Stop::Io(_) | Stop::Cancelled | Stop::Failed { .. } => Ok(DemoEnd::Closed),
    }
}

fn listen(mut input: impl BufRead, inbox: &SyncSender<Value>) {
    let mut line = Vec::new();
    loop {
        line.clear();
        match input.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                if let Ok(message) = serde_json::from_slice(&line)
                    && inbox.send(message).is_err()
                {
                    return;
                }
            }
        }
    }
}

pub(super) struct Agent<'a, W> {
    pub(super) out: W,
    pub(super) inbox: Receiver<Value>,
    settings: &'a DemoSettings,
    sessions: BTreeMap<String, Session>,
    /// What came while a turn ran and is not about it.
    pub(super) later: VecDeque<Value>,
    pub(super) next_id: u64,
    opened: u64,
}

/// One conversation.
pub(super) struct Session {
    pub(super) directory: PathBuf,
    pub(super) memory: Memory,
    model: String,
    /// The person has allowed everything.
    pub(super) always: bool,
    pub(super) calls: u64,
}

/// Why work stops before it is done.
pub(super) enum Stop {
    Cancelled,
    Failed { code: i64, message: String },
    Crash,
    Gone,
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl<W: Write> Agent<'_, W> {
    fn serve(&mut self) -> Stop {
        loop {
            let message = match self.later.pop_front() {
                Some(message) => message,
                None => match self.inbox.recv() {
                    Ok(message) => message,
                    Err(_) => return Stop::Gone,
                },
            };
            match self.handle(&message) {
                Ok(()) => {}
                Err(stop) => return stop,
            }
        }
    }

    fn handle(&mut self, message: &Value) -> Result<(), Stop> {
        let (Some(method), Some(id)) = (
            message.get("method").and_then(Value::as_str),
            message.get("id"),
        ) else {
            return Ok(());
        };
        let params = message.get("params").unwrap_or(&Value::Null);
        let outcome = match method {
            "initialize" => Ok(self.capabilities()),
            "session/new" => self.open(params),
            "session/load" => self.load(params),
            "session/set_model" => self.set_model(params),
            "session/prompt" => self.prompt(params),
            _ => Err(Stop::Failed {
                code: -32601,
                message: format!("no method {method}"),
            }),
        };
        let reply = match outcome {
            Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
            Err(Stop::Cancelled) => {
                json!({ "jsonrpc": "2.0", "id": id, "result": { "stopReason": "cancelled" } })
            }
            Err(Stop::Failed { code, message }) => {
                json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } })
            }
            Err(stop @ (Stop::Crash | Stop::Gone | Stop::Io(_))) => return Err(stop),
        };
        self.write(&reply)?;
        Ok(())
    }

    fn capabilities(&self) -> Value {
        json!({
            "protocolVersion": 1,
            "agentInfo": {
                "name": "ctrlnode-demo",
                "title": "Demo agent",
                "version": env!("CARGO_PKG_VERSION"),
            },
            "agentCapabilities": {
                "loadSession": self.settings.state.is_some(),
                "promptCapabilities": {},
            },
            "authMethods": [],
        })
    }

    fn open(&mut self, params: &Value) -> Result<Value, Stop> {
        let directory = directory_of(params)?;
        self.opened += 1;
        let (id, memory) = Memory::begin(self.settings.state.as_deref(), self.opened)?;
        self.sessions
            .insert(id.clone(), Session::new(directory, memory));
        Ok(json!({ "sessionId": id, "models": models() }))
    }

    fn load(&mut self, params: &Value) -> Result<Value, Stop> {
        let directory = directory_of(params)?;
        let id = params
            .get("sessionId")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let state = self.settings.state.as_deref();
        let memory = state
            .and_then(|folder| Memory::find(folder, &id))
            .ok_or_else(|| Stop::Failed {
                code: -32002,
                message: "no conversation of this name".into(),
            })?;
        for prompt in &memory.prompts {
            let text = json!({ "type": "text", "text": prompt });
            self.update(
                &id,
                &json!({ "sessionUpdate": "user_message_chunk", "content": text }),
            )?;
        }
        self.sessions.insert(id, Session::new(directory, memory));
        Ok(json!({ "models": models() }))
    }

    fn set_model(&mut self, params: &Value) -> Result<Value, Stop> {
        let model = params
            .get("modelId")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if !MODELS.contains(&model) {
            return Err(Stop::Failed {
                code: -32602,
                message: format!("no model {model}"),
            });
        }
        let id = params
            .get("sessionId")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let session = self.sessions.get_mut(id).ok_or_else(no_session)?;
        model.clone_into(&mut session.model);
        Ok(json!({}))
    }

    fn prompt(&mut self, params: &Value) -> Result<Value, Stop> {
        let id = params
            .get("sessionId")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let blocks = params.get("prompt").and_then(Value::as_array);
        let texts = blocks
            .into_iter()
            .flatten()
            .filter_map(|block| block.get("text")?.as_str());
        let text = texts.collect::<Vec<_>>().join("\n");
        let mut script = Script::read(&text);
        let mut session = self.sessions.remove(&id).ok_or_else(no_session)?;
        script.haiku |= session.model == "demo-haiku";
        let done = Turn {
            agent: self,
            session: &mut session,
            id: &id,
            script: &script,
        }
        .work();
        session.memory.add(if script.subject.is_empty() {
            text.trim()
        } else {
            &script.subject
        })?;
        self.sessions.insert(id, session);
        let words = done?;
        let read = text.split_whitespace().count();
        Ok(json!({
            "stopReason": "end_turn",
            "usage": { "inputTokens": read, "outputTokens": words, "totalTokens": read + words },
        }))
    }

    pub(super) fn update(&mut self, session: &str, update: &Value) -> io::Result<()> {
        let params = json!({ "sessionId": session, "update": update });
        self.write(&json!({ "jsonrpc": "2.0", "method": "session/update", "params": params }))
    }

    pub(super) fn write(&mut self, message: &Value) -> io::Result<()> {
        self.raw(format!("{message}\n").as_bytes())
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.flush()
    }
}

impl Session {
    fn new(directory: PathBuf, memory: Memory) -> Self {
        Self {
            directory,
            memory,
            model: DEFAULT_MODEL.to_owned(),
            always: false,
            calls: 0,
        }
    }
}

fn directory_of(params: &Value) -> Result<PathBuf, Stop> {
    let text = params
        .get("cwd")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let directory = PathBuf::from(text);
    if directory.is_absolute() && directory.is_dir() {
        return Ok(directory);
    }
    let message = "the working directory is not an absolute path of a folder".into();
    Err(Stop::Failed {
        code: -32602,
        message,
    })
}

fn no_session() -> Stop {
    Stop::Failed {
        code: -32002,
        message: "no such session".into(),
    }
}

fn models() -> Value {
    let list: Vec<_> = MODELS
        .iter()
        .map(|model| json!({ "modelId": model, "name": model }))
        .collect();
    json!({ "currentModelId": DEFAULT_MODEL, "availableModels": list })
}

/// The models it offers: what it always says, and a haiku whatever it is asked.
pub(crate) const MODELS: [&str; 2] = [DEFAULT_MODEL, "demo-haiku"];
const DEFAULT_MODEL: &str = "demo";
/// Messages that may wait while it works.
pub(super) const INBOX: usize = 64;
