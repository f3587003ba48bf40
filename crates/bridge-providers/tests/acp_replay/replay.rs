//! A recording played to the dialogue: what the recorder said is said by the owner, what the agent
//! answered is heard, and everything that comes of it is written down.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use bridge_proto::{
    AskId, ResumeId,
    model::{Answer, RunEvent, Tuning},
};
use bridge_providers::{
    acp::{AcpDialogue, AcpQuirks, AcpStart},
    copilot, cursor,
    dialogue::{Dialogue as _, Exit, Step},
    gemini, hermes, opencode,
    provider::Steer,
};
use serde_json::Value;

use crate::recording::{Recording, What};

/// A replay under way.
pub(crate) struct Replay {
    pub(crate) dialogue: AcpDialogue,
    pub(crate) now: Instant,
    base: Instant,
    /// Everything the dialogue did, and notes about what the recorder did beside it.
    pub(crate) story: Vec<Told>,
    /// Requests of the dialogue that no request of the recorder was found for yet: id and method.
    open: Vec<(u64, String)>,
    /// Ids of the recorder's requests and of the dialogue's.
    ids: BTreeMap<u64, u64>,
    /// Requests of the recorder that the dialogue never makes.
    foreign: BTreeSet<u64>,
    session: Option<String>,
    /// Prompts that begin with a slash never reach the agent as commands.
    keeps_slashes: bool,
    /// Questions by the request they came with.
    asks: Vec<(Value, AskId)>,
    asking: Option<Value>,
    running: bool,
    pub(crate) prompts: usize,
    pub(crate) ends: usize,
}

/// One line of the story.
pub(crate) enum Told {
    Step(Step),
    Note(String),
}

/// What is known of the agents.
pub(crate) fn quirks(agent: &str) -> AcpQuirks {
    match agent {
        "copilot" => copilot::quirks(),
        "cursor" => cursor::quirks(),
        "gemini" => gemini::quirks(),
        "hermes" => hermes::quirks(),
        "opencode" => opencode::quirks(),
        _ => AcpQuirks::plain("Agent", "log in"),
    }
}

/// The conversation that the recorder asked to be continued.
fn resumed(recording: &Recording) -> Option<ResumeId> {
    let told = recording
        .records
        .iter()
        .filter_map(|record| match &record.what {
            What::Told(message) => Some(message),
            What::Heard(_) | What::Exit { .. } | What::Note(_) => None,
        });
    let opens = told
        .map(|message| (message, message["method"].as_str().unwrap_or_default()))
        .find(|(_, method)| OPENING.contains(method));
    let (message, method) = opens?;
    let resumes = method != "session/new";
    resumes.then(|| ResumeId::parse(message["params"]["sessionId"].as_str()?).ok())?
}

impl Replay {
    /// The dialogue has been started, with what is known of the agent.
    pub(crate) fn new(recording: &Recording) -> Self {
        Self::with(recording, quirks(&recording.agent))
    }

    /// The dialogue has been started with these quirks.
    pub(crate) fn with(recording: &Recording, quirks: AcpQuirks) -> Self {
        let start = AcpStart {
            directory: "/home/user/project".into(),
            resume: resumed(recording),
            ..AcpStart::default()
        };
        let base = Instant::now();
        let mut replay = Self {
            keeps_slashes: quirks.turn.before_slash.is_some(),
            session: start.resume.as_ref().map(|id| id.as_str().to_owned()),
            dialogue: AcpDialogue::new(start, quirks),
            now: base,
            base,
            story: Vec::new(),
            open: Vec::new(),
            ids: BTreeMap::new(),
            foreign: BTreeSet::new(),
            asks: Vec::new(),
            asking: None,
            running: false,
            prompts: 0,
            ends: 0,
        };
        replay.dialogue.on_start(base);
        replay.drain();
        replay
    }

    /// Plays it to its end, or to where the recorder did something after which the agent does not
    /// behave as it would with the dialogue.
    pub(crate) fn run(&mut self, recording: &Recording) {
        for record in &recording.records {
            self.pass_to(self.base + record.at);
            match &record.what {
                What::Told(message) => {
                    if let Some(why) = self.told(message) {
                        self.note(format!("the replay ends here: {why}"));
                        return;
                    }
                }
                What::Heard(line) => self.heard(line, recording),
                What::Exit { code, signal } => {
                    if self.prompts == 0 {
                        self.note("the recorder never asked for work; the owner does".into());
                        self.prompts += 1;
                        self.steer(Steer::Prompt("work".into()));
                    }
                    self.note("the process ended".into());
                    let exit = Exit {
                        code: *code,
                        signal: *signal,
                        stderr_tail: String::new(),
                    };
                    self.dialogue.on_end(self.now, exit);
                    self.drain();
                }
                What::Note(note) if note == "spawn" => {}
                What::Note(note) => self.note(format!("the recorder: {note}")),
            }
        }
    }

    /// The recorder said something: makes the owner say what makes the dialogue say the same.
    /// Gives the reason when the replay cannot go on.
    fn told(&mut self, message: &Value) -> Option<String> {
        let Some(method) = message["method"].as_str() else {
            self.answered(message);
            return None;
        };
        let params = &message["params"];
        match method {
            "session/prompt" => {
                if params["sessionId"].as_str() != self.session.as_deref() {
                    self.skip(message);
                    return None;
                }
                if self.running {
                    return Some("the recorder sends a second prompt while one runs".into());
                }
                let text = params["prompt"][0]["text"].as_str().unwrap_or_default();
                if text.starts_with('/') && self.keeps_slashes {
                    return Some(format!("the recorder sends the command {text}"));
                }
                self.prompts += 1;
                self.running = true;
                self.steer(Steer::Prompt(text.to_owned()));
                if !self
                    .open
                    .iter()
                    .any(|(_, method)| method == "session/prompt")
                {
                    // After a reload the dialogue waits for quiet where the recorder did not.
                    self.pass_to(self.now + Duration::from_millis(200));
                }
            }
            "session/cancel" if params["sessionId"].as_str() == self.session.as_deref() => {
                self.steer(Steer::Interrupt);
                return None;
            }
            method if SETTINGS.contains(&method) => self.steer(Steer::Tune(tuning(params))),
            _ => {}
        }
        self.pair(message, method);
        None
    }

    /// Finds the dialogue's request for one of the recorder.
    fn pair(&mut self, message: &Value, method: &str) {
        let same = |own: &str| {
            let both = |words: &[&str]| words.contains(&own) && words.contains(&method);
            own == method || both(&OPENING[1..]) || both(&SETTINGS)
        };
        let found = self.open.iter().position(|(_, own)| same(own));
        match (found, message["id"].as_u64()) {
            (Some(at), Some(id)) => {
                let (own, _) = self.open.remove(at);
                self.ids.insert(id, own);
            }
            (Some(_) | None, _) => self.skip(message),
        }
    }

    fn skip(&mut self, message: &Value) {
        let method = message["method"].as_str().unwrap_or_default();
        let value = ["modeId", "modelId", "value", "methodId", "sessionId"]
            .iter()
            .find_map(|name| message["params"][name].as_str());
        self.note(format!(
            "the recorder: {method} {}",
            value.unwrap_or_default()
        ));
        if let Some(id) = message["id"].as_u64() {
            self.foreign.insert(id);
        }
    }

    /// The recorder answered a request of the agent.
    fn answered(&mut self, message: &Value) {
        let outcome = &message["result"]["outcome"];
        let known = self.asks.iter().find(|(id, _)| *id == message["id"]);
        let Some((_, ask)) = known.cloned() else {
            return;
        };
        let answer = match outcome["optionId"].as_str() {
            Some(option) => Answer::Choose {
                option: option.to_owned(),
            },
            None => Answer::Deny {
                reason: "no".into(),
            },
        };
        self.steer(Steer::Answer(ask, answer));
    }

    fn heard(&mut self, line: &str, recording: &Recording) {
        let Ok(mut message) = serde_json::from_str::<Value>(line) else {
            self.line(line.as_bytes());
            return;
        };
        if message.get("method").is_none()
            && let Some(id) = message["id"].as_u64()
        {
            if self.foreign.contains(&id) {
                return;
            }
            let own = self
                .ids
                .get(&id)
                .unwrap_or_else(|| panic!("{}: who asked what {message} answers?", recording.name));
            message["id"] = (*own).into();
            if let Some(session) = message["result"]["sessionId"].as_str() {
                self.session = Some(session.to_owned());
            }
        }
        // The recorder reloaded where the dialogue would rather resume.
        let offers = message.pointer_mut("/result/agentCapabilities/sessionCapabilities");
        if let Some(Value::Object(offers)) = offers
            && says(recording, "session/load")
        {
            offers.remove("resume");
        }
        self.asking =
            (message["method"] == "session/request_permission").then(|| message["id"].clone());
        self.line(message.to_string().as_bytes());
        self.asking = None;
    }

    /// The owner says this.
    pub(crate) fn steer(&mut self, steer: Steer) {
        self.dialogue.on_steer(self.now, steer);
        self.drain();
    }

    /// The agent says this.
    pub(crate) fn line(&mut self, line: &[u8]) {
        self.dialogue.on_line(self.now, line);
        self.drain();
    }

    /// Lets time pass, stopping at every deadline.
    pub(crate) fn pass_to(&mut self, until: Instant) {
        while let Some(due) = self.dialogue.deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.dialogue.on_timeout(self.now);
            self.drain();
        }
        self.now = self.now.max(until);
    }

    /// Takes what the dialogue wants done.
    pub(crate) fn drain(&mut self) {
        while let Some(step) = self.dialogue.next_step() {
            if let Step::Send(line) = &step {
                let sent: Value = serde_json::from_str(line).unwrap();
                if let (Some(id), Some(method)) = (sent["id"].as_u64(), sent["method"].as_str()) {
                    self.open.push((id, method.to_owned()));
                }
            }
            if let Step::Emit(seen) = &step
                && let RunEvent::Ask(ask) = &seen.event
            {
                let request = self.asking.clone().unwrap_or_default();
                self.asks.push((request, ask.id.clone()));
            }
            if let Step::TurnOver(_) = &step {
                self.ends += 1;
                self.running = false;
            }
            self.story.push(Told::Step(step));
        }
    }

    /// The last question that was asked.
    pub(crate) fn last_ask(&self) -> Option<AskId> {
        self.asks.last().map(|(_, ask)| ask.clone())
    }

    fn note(&mut self, note: String) {
        self.story.push(Told::Note(note));
    }
}

fn says(recording: &Recording, method: &str) -> bool {
    recording
        .records
        .iter()
        .any(|record| matches!(&record.what, What::Told(message) if message["method"] == method))
}

fn tuning(params: &Value) -> Tuning {
    let text = |name: &str| params[name].as_str().map(str::to_owned);
    let option = params["configId"].as_str().unwrap_or_default();
    let value = |id: &str| text("value").filter(|_| option == id);
    Tuning {
        model: text("modelId").or_else(|| value("model")),
        mode: text("modeId").or_else(|| value("mode")),
        effort: value("effort"),
    }
}

const OPENING: [&str; 3] = ["session/new", "session/load", "session/resume"];
const SETTINGS: [&str; 3] = [
    "session/set_mode",
    "session/set_model",
    "session/set_config_option",
];
