//! Compares a bridge with a recording of another one: plays the control plane's half of the
//! recording to whoever dials, and says which answers differ.
//!
//! 1. `ctrlnode bridge start --record first.jsonl` with any plain control plane, and use it.
//! 2. `cargo run -p bridge-examples --bin replay_frames -- first.jsonl [port]`
//! 3. Start the bridge to compare with `SAAS_URL=ws://127.0.0.1:9000`; any pairing token is good.
//!
//! Exit code 0: every answer was the same; 1: some differ or did not come. Times, versions, host
//! names and paths of the machine are not compared.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    process::ExitCode,
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::{
    io::{AsyncWriteExt as _, stdout},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

type Problem = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<ExitCode, Problem> {
    let mut args = std::env::args().skip(1);
    let file = args.next().ok_or("name the recording")?;
    let port: u16 = args.next().map_or(Ok(9000), |port| port.parse())?;
    let steps = read(&tokio::fs::read_to_string(file).await?)?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    say(&format!("listening on ws://{}", listener.local_addr()?)).await?;
    let (stream, _) = listener.accept().await?;
    let socket = tokio_tungstenite::accept_async(stream).await?;
    let mut bridge = Bridge {
        socket,
        answers: BTreeMap::new(),
    };
    let mut differing = 0;
    for step in steps {
        match step {
            Step::Send(frame) => bridge.socket.send(Message::text(frame.to_string())).await?,
            Step::Expect(recorded) => {
                let key = key(&recorded).unwrap_or_default();
                let found = match bridge.answer(&key).await? {
                    Some(answer) => differences(&recorded, &answer),
                    None => vec!["did not come".to_owned()],
                };
                differing += usize::from(!found.is_empty());
                let verdict = if found.is_empty() {
                    "same   "
                } else {
                    "DIFFERS"
                };
                say(&format!("{verdict} {key}")).await?;
                for one in found {
                    say(&format!("        {one}")).await?;
                }
            }
        }
    }
    say(&format!("{differing} differ")).await?;
    Ok(ExitCode::from(u8::from(differing > 0)))
}

/// What happened in the recording, in its order.
enum Step {
    Send(Value),
    Expect(Value),
}

fn read(text: &str) -> Result<Vec<Step>, Problem> {
    let mut steps = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line: Value =
            serde_json::from_str(line).map_err(|error| format!("line {}: {error}", at + 1))?;
        if line["extended"] == true {
            return Err(
                "it was recorded with a hub of ours, whose frames only it understands".into(),
            );
        }
        if line["event"] == "missed" {
            return Err(format!("line {}: the recording has a gap", at + 1).into());
        }
        let frame = line["frame"].clone();
        if line["way"] == "in" {
            steps.push(Step::Send(frame));
        } else if line["way"] == "out" && key(&frame).is_some() {
            steps.push(Step::Expect(frame));
        }
    }
    Ok(steps)
}

/// What makes an answer that one and no other; `None` for what bridges say by themselves and for
/// the stream of a run, whose pieces depend on time.
fn key(frame: &Value) -> Option<String> {
    let action = frame["action"].as_str()?;
    let is_answer = frame.get("requestId").is_some() || action == "task_complete";
    let name = |field: &str| frame[field].as_str().unwrap_or("-").to_owned();
    let progress = action == "graph_generation_progress";
    (is_answer && !progress).then(|| format!("{action} {} {}", name("requestId"), name("taskId")))
}

struct Bridge {
    socket: WebSocketStream<TcpStream>,
    /// Answers that came before they were asked about here, by key.
    answers: BTreeMap<String, VecDeque<Value>>,
}

impl Bridge {
    /// The next answer of this key; `None` if there is none within a minute.
    async fn answer(&mut self, key: &str) -> Result<Option<Value>, Problem> {
        let waiting = timeout(PATIENCE, async {
            loop {
                let found = self.answers.get_mut(key).and_then(VecDeque::pop_front);
                if found.is_some() {
                    return Ok(found);
                }
                self.hear().await?;
            }
        });
        waiting.await.unwrap_or(Ok(None))
    }

    async fn hear(&mut self) -> Result<(), Problem> {
        let message = self.socket.next().await.ok_or("the bridge has left")??;
        if let Message::Text(text) = message {
            let frame: Value = serde_json::from_str(text.as_str())?;
            if let Some(key) = key(&frame) {
                self.answers.entry(key).or_default().push_back(frame);
            }
        }
        Ok(())
    }
}

/// Which fields differ, in words.
fn differences(recorded: &Value, now: &Value) -> Vec<String> {
    let empty = serde_json::Map::new();
    let [old, new] = [recorded, now].map(|frame| frame.as_object().unwrap_or(&empty));
    let fields: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let differs = |field: &&String| {
        !OF_THE_MACHINE.contains(&field.as_str()) && old.get(*field) != new.get(*field)
    };
    let shown =
        |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), Value::to_string);
    fields
        .into_iter()
        .filter(differs)
        .map(|field| {
            let (old, new) = (shown(old.get(field)), shown(new.get(field)));
            format!("{field}: recorded {old}, now {new}")
        })
        .collect()
}

async fn say(text: &str) -> io::Result<()> {
    stdout().write_all(format!("{text}\n").as_bytes()).await
}

const OF_THE_MACHINE: [&str; 7] = [
    "timestamp",
    "version",
    "hostname",
    "basePath",
    "workspace",
    "workspacePath",
    "root",
];
const PATIENCE: Duration = Duration::from_secs(60);
