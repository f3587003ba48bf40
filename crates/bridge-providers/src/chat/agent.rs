//! The agent's side of the protocol: reads requests on a thread of its own, opens and finds
//! sessions, and joins the one [`Talk`] that has a turn with the endpoint and the files.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, BufRead, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{sync::mpsc, time};

use super::{
    endpoint::{Endpoint, Heard, Running},
    history::{History, Message},
    memory::Memory,
    models::{self, Offer},
    place::{FileError, Place},
    request::Rules,
    search,
    settings::{Api, ChatSettings},
    talk::{Act, End, Talk},
    tools::Deed,
    trouble::{INTERNAL_ERROR, Trouble},
    words,
};
use crate::acp::RETRYING;

/// Serves one client until its input ends. Errors are those of writing to `output`.
pub(super) async fn serve(
    input: impl BufRead + Send + 'static,
    output: impl Write,
    settings: ChatSettings,
    endpoint: Endpoint,
) -> io::Result<()> {
    let (sender, inbox) = mpsc::channel(INBOX);
    thread::Builder::new()
        .name("chat-input".into())
        .spawn(move || listen(input, &sender))?;
    let mut agent = Agent {
        out: output,
        inbox,
        settings,
        endpoint,
        sessions: BTreeMap::new(),
        later: VecDeque::new(),
        turn: None,
        next_id: 0,
    };
    match agent.run().await {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn listen(mut input: impl BufRead, inbox: &mpsc::Sender<Value>) {
    let mut line = Vec::new();
    loop {
        line.clear();
        match input.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                if let Ok(message) = serde_json::from_slice(&line)
                    && inbox.blocking_send(message).is_err()
                {
                    return;
                }
            }
        }
    }
}

struct Agent<W> {
    out: W,
    inbox: mpsc::Receiver<Value>,
    settings: ChatSettings,
    endpoint: Endpoint,
    sessions: BTreeMap<String, Session>,
    /// What came while a turn ran and is not about it.
    later: VecDeque<Value>,
    turn: Option<Turn>,
    next_id: u64,
}

/// One conversation.
struct Session {
    place: Place,
    memory: Memory,
    offer: Offer,
    talk: Talk,
}

/// The turn that runs.
struct Turn {
    session: String,
    /// The id of the prompt's request.
    request: Value,
    /// The request to the endpoint, if one runs.
    running: Option<Running>,
    /// The id of the open question, if one is.
    ask: Option<u64>,
}

/// Why a request is refused.
struct Refused {
    code: i64,
    message: String,
}

impl Refused {
    fn invalid(message: impl Into<String>) -> Self {
        Self {
            code: INVALID_PARAMS,
            message: message.into(),
        }
    }
}

impl<W: Write> Agent<W> {
    async fn run(&mut self) -> io::Result<()> {
        loop {
            self.carry_out()?;
            if self.turn.is_none()
                && let Some(message) = self.later.pop_front()
            {
                self.on_message(message).await?;
                continue;
            }
            let deadline = self.talk().and_then(|talk| talk.deadline());
            tokio::select! {
                message = self.inbox.recv() => match message {
                    Some(message) => self.on_message(message).await?,
                    None => return Ok(()),
                },
                heard = next_of(self.turn.as_mut()) => self.on_heard(heard),
                () = until(deadline) => {
                    if let Some(talk) = self.talk() {
                        talk.on_timeout(now());
                    }
                }
            }
        }
    }

    /// The conversation that has a turn.
    fn talk(&mut self) -> Option<&mut Talk> {
        let session = &self.turn.as_ref()?.session;
        Some(&mut self.sessions.get_mut(session)?.talk)
    }

    async fn on_message(&mut self, message: Value) -> io::Result<()> {
        let method = message.get("method").and_then(Value::as_str);
        let id = message.get("id");
        let params = message.get("params").unwrap_or(&Value::Null);
        match (method, id) {
            (None, Some(id)) => {
                let result = message.get("result").unwrap_or(&Value::Null);
                self.on_answer(id, result);
                Ok(())
            }
            (Some("session/cancel"), None) => {
                self.on_cancel(params);
                Ok(())
            }
            (Some("session/set_model"), Some(id)) => {
                let outcome = self.set_model(params);
                self.reply(id, outcome)
            }
            (Some(_), Some(_)) if self.turn.is_some() => {
                if self.later.len() < INBOX {
                    self.later.push_back(message);
                }
                Ok(())
            }
            (Some("session/prompt"), Some(id)) => match self.begin(id, params) {
                Ok(()) => Ok(()),
                Err(refused) => self.reply(id, Err(refused)),
            },
            (Some(method), Some(id)) => {
                let outcome = match method {
                    "initialize" => Ok(self.capabilities()),
                    "session/new" => self.open(params).await,
                    "session/load" => self.load(params).await,
                    _ => Err(Refused {
                        code: METHOD_NOT_FOUND,
                        message: format!("no method {method}"),
                    }),
                };
                self.reply(id, outcome)
            }
            (_, None) => Ok(()),
        }
    }

    fn capabilities(&self) -> Value {
        json!({
            "protocolVersion": 1,
            "agentInfo": {
                "name": "ctrlnode-chat",
                "title": self.settings.name,
                "version": env!("CARGO_PKG_VERSION"),
            },
            "agentCapabilities": {
                "loadSession": self.settings.state.is_some(),
                "promptCapabilities": {},
                "sessionCapabilities": { "additionalDirectories": {} },
            },
            "authMethods": [],
        })
    }

    async fn open(&mut self, params: &Value) -> Result<Value, Refused> {
        let place = place_of(params)?;
        let offer = self.offer().await?;
        let begun = Memory::begin(self.settings.state.as_deref());
        let (id, memory) = begun.map_err(|error| Refused {
            code: INTERNAL_ERROR,
            message: format!("the conversation cannot be remembered: {error}"),
        })?;
        let models = offered(&offer);
        self.keep(id.clone(), place, memory, offer, History::default());
        Ok(json!({ "sessionId": id, "models": models }))
    }

    async fn load(&mut self, params: &Value) -> Result<Value, Refused> {
        let place = place_of(params)?;
        let id = text_of(params, "sessionId");
        let state = self.settings.state.as_deref();
        let found = state.and_then(|folder| Memory::find(folder, id));
        let (memory, history) = found.ok_or_else(|| Refused {
            code: NO_SESSION,
            message: "no conversation of this name".into(),
        })?;
        let offer = self.offer().await?;
        for message in history.messages() {
            let update = match message {
                Message::User { text } => words::prompt(text),
                Message::Model { text, .. } => words::text(text),
                Message::Tool { .. } => continue,
            };
            self.update(id, &update).map_err(|error| Refused {
                code: INTERNAL_ERROR,
                message: error.to_string(),
            })?;
        }
        let models = offered(&offer);
        self.keep(id.to_owned(), place, memory, offer, history);
        Ok(json!({ "models": models }))
    }

    fn keep(&mut self, id: String, place: Place, memory: Memory, offer: Offer, history: History) {
        let rules = Rules::of(&self.settings);
        let talk = Talk::new(rules, place.directory(), offer.current.clone(), history);
        let session = Session {
            place,
            memory,
            offer,
            talk,
        };
        self.sessions.insert(id, session);
    }

    /// Which models there are. Only Ollama has to say; of others a refusal of the key counts.
    async fn offer(&self) -> Result<Offer, Refused> {
        let listed = match (self.endpoint.models(LIST_LIMIT).await, self.settings.api) {
            (Ok(models), _) => Some(models),
            (
                Err(
                    trouble @ Trouble::Refused {
                        status: 401..=403, ..
                    },
                ),
                _,
            ) => {
                return Err(Refused {
                    code: trouble.code(),
                    message: trouble.to_string(),
                });
            }
            (Err(trouble), Api::Ollama) => {
                return Err(Refused {
                    code: INTERNAL_ERROR,
                    message: format!("{trouble}; start it with `ollama serve`"),
                });
            }
            (Err(_), Api::OpenAi) => None,
        };
        models::offer(&self.settings, listed).map_err(|error| Refused::invalid(error.to_string()))
    }

    fn set_model(&mut self, params: &Value) -> Result<Value, Refused> {
        let session = self
            .sessions
            .get_mut(text_of(params, "sessionId"))
            .ok_or_else(no_session)?;
        let model = text_of(params, "modelId");
        if !session.offer.models.iter().any(|one| one == model) {
            return Err(Refused::invalid("this model is not offered"));
        }
        model.clone_into(&mut session.offer.current);
        session.talk.set_model(model);
        Ok(json!({}))
    }

    fn begin(&mut self, id: &Value, params: &Value) -> Result<(), Refused> {
        let name = text_of(params, "sessionId");
        let session = self.sessions.get_mut(name).ok_or_else(no_session)?;
        let blocks = params.get("prompt").and_then(Value::as_array);
        let texts = blocks
            .into_iter()
            .flatten()
            .filter_map(|block| block.get("text")?.as_str());
        let prompt = texts.collect::<Vec<_>>().join("\n\n");
        session.talk.begin(now(), &prompt, jitter());
        self.turn = Some(Turn {
            session: name.to_owned(),
            request: id.clone(),
            running: None,
            ask: None,
        });
        Ok(())
    }

    fn on_cancel(&mut self, params: &Value) {
        let about = text_of(params, "sessionId");
        let ours = self.turn.as_ref().is_some_and(|turn| turn.session == about);
        if ours && let Some(talk) = self.talk() {
            talk.cancel();
        }
    }

    fn on_answer(&mut self, id: &Value, result: &Value) {
        let Some(turn) = &mut self.turn else { return };
        if turn.ask.is_some() && id.as_u64() == turn.ask {
            turn.ask = None;
            let verdict = words::verdict(result);
            if let Some(talk) = self.talk() {
                talk.on_verdict(now(), verdict);
            }
        }
    }

    fn on_heard(&mut self, heard: Option<Heard>) {
        if matches!(heard, Some(Heard::End | Heard::Broken(_)) | None)
            && let Some(turn) = &mut self.turn
        {
            turn.running = None;
        }
        let Some(talk) = self.talk() else { return };
        match heard {
            Some(Heard::Head(head)) => talk.on_head(now(), head),
            Some(Heard::Bytes(bytes)) => talk.on_bytes(now(), &bytes),
            Some(Heard::End) => talk.on_response_end(now()),
            Some(Heard::Broken(reason)) => talk.on_broken(now(), reason),
            None => talk.on_broken(now(), "the request was lost".to_owned()),
        }
    }

    /// Does what the conversation wants, until it waits for something.
    fn carry_out(&mut self) -> io::Result<()> {
        while let Some(act) = self.talk().and_then(Talk::next_act) {
            let Some(turn) = &mut self.turn else { break };
            let Some(session) = self.sessions.get_mut(&turn.session) else {
                break;
            };
            let (place, talk) = (&session.place, &mut session.talk);
            match act {
                Act::Request(request) => turn.running = Some(self.endpoint.ask(&request)),
                Act::Abort => turn.running = None,
                Act::Look(deed) => {
                    let found = look(place, &deed);
                    talk.on_looked(now(), found);
                }
                Act::Prepare(deed) => {
                    let worked = place.prepare(&deed);
                    talk.on_prepared(now(), worked);
                }
                Act::Apply(change) => {
                    let done = place.apply(&change);
                    talk.on_applied(now(), done);
                }
                Act::Update(update) => {
                    let session = turn.session.clone();
                    self.update(&session, &update)?;
                }
                Act::Retrying(mut retry) => {
                    turn.running = None;
                    retry["sessionId"] = json!(turn.session);
                    let method = RETRYING;
                    self.write(&json!({ "jsonrpc": "2.0", "method": method, "params": retry }))?;
                }
                Act::Ask(call) => {
                    let id = self.next_id;
                    self.next_id += 1;
                    turn.ask = Some(id);
                    let params = json!({
                        "sessionId": turn.session, "toolCall": call, "options": words::options(),
                    });
                    let method = "session/request_permission";
                    self.write(
                        &json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }),
                    )?;
                }
                Act::Over(end) => self.over(end)?,
            }
        }
        Ok(())
    }

    fn over(&mut self, end: End) -> io::Result<()> {
        let Some(turn) = self.turn.take() else {
            return Ok(());
        };
        if let Some(session) = self.sessions.get(&turn.session)
            && let Err(error) = session.memory.save(session.talk.history())
        {
            tracing::warn!(%error, "the conversation cannot be remembered");
        }
        let outcome = match end {
            End::Failed { code, message } => Err(Refused { code, message }),
            End::Stopped { reason, usage } => {
                let mut result = json!({ "stopReason": reason });
                if usage.input_tokens.is_some() || usage.output_tokens.is_some() {
                    let input = usage.input_tokens.unwrap_or(0);
                    let output = usage.output_tokens.unwrap_or(0);
                    result["usage"] = json!({
                        "inputTokens": input, "outputTokens": output,
                        "totalTokens": input.saturating_add(output),
                    });
                }
                Ok(result)
            }
        };
        self.reply(&turn.request, outcome)
    }

    fn reply(&mut self, id: &Value, outcome: Result<Value, Refused>) -> io::Result<()> {
        let reply = match outcome {
            Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
            Err(Refused { code, message }) => {
                json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } })
            }
        };
        self.write(&reply)
    }

    fn update(&mut self, session: &str, update: &Value) -> io::Result<()> {
        let params = json!({ "sessionId": session, "update": update });
        self.write(&json!({ "jsonrpc": "2.0", "method": "session/update", "params": params }))
    }

    fn write(&mut self, message: &Value) -> io::Result<()> {
        self.out.write_all(format!("{message}\n").as_bytes())?;
        self.out.flush()
    }
}

/// Does what changes nothing.
fn look(place: &Place, deed: &Deed) -> Result<String, FileError> {
    match deed {
        Deed::Read { path, from, lines } => place.read(path, *from, *lines),
        Deed::Glob { pattern, folder } => search::glob(place, pattern, folder),
        Deed::Grep {
            pattern,
            folder,
            only,
        } => search::grep(place, pattern, folder, only.as_deref()),
        Deed::Write { path, .. } | Deed::Edit { path, .. } => {
            Err(FileError::Protected { path: path.clone() })
        }
    }
}

fn place_of(params: &Value) -> Result<Place, Refused> {
    let directory = Path::new(text_of(params, "cwd"));
    let extra: Vec<PathBuf> = params
        .get("additionalDirectories")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(PathBuf::from)
        .filter(|folder| folder.is_absolute())
        .collect();
    if !directory.is_absolute() {
        return Err(Refused::invalid("the working directory is not absolute"));
    }
    Place::open(directory, &extra).map_err(|error| {
        Refused::invalid(format!("the working directory cannot be opened: {error}"))
    })
}

fn offered(offer: &Offer) -> Value {
    let models: Vec<Value> = offer
        .models
        .iter()
        .map(|model| json!({ "modelId": model, "name": model }))
        .collect();
    json!({ "currentModelId": offer.current, "availableModels": models })
}

fn text_of<'a>(params: &'a Value, key: &str) -> &'a str {
    params.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn no_session() -> Refused {
    Refused {
        code: NO_SESSION,
        message: "no such session".into(),
    }
}

async fn next_of(turn: Option<&mut Turn>) -> Option<Heard> {
    match turn.and_then(|turn| turn.running.as_mut()) {
        Some(running) => running.next().await,
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

fn now() -> Instant {
    time::Instant::now().into_std()
}

/// Any number; without a source of randomness the waits are not spread.
fn jitter() -> u64 {
    let mut bytes = [0; 8];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u64::from_ne_bytes(bytes),
        Err(_) => 0,
    }
}

/// Messages that may wait.
const INBOX: usize = 64;
/// A list of models comes quickly, or not while somebody waits for the session.
const LIST_LIMIT: Duration = Duration::from_secs(8);
const METHOD_NOT_FOUND: i64 = -32601;
const INVALID_PARAMS: i64 = -32602;
const NO_SESSION: i64 = -32002;
