//! Bytes on the wire for increments of text: merged and compressed, beside one raw frame each. A
//! proxy between the two ends counts them.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bridge_transport::{Class, Compress, Endpoint, Frames, Payload, TextFrame, connect};
use futures_util::SinkExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_tungstenite::{connect_async, tungstenite::Message as Words};

use super::{
    PATIENCE, endpoint_at,
    far_end::{FarEnd, Random, Ways},
    on_one_thread,
    table::Row,
};

/// Twenty tasks say five hundred words each, a word in ten milliseconds.
pub(super) fn all() -> Vec<Row> {
    let raw = raw();
    let (linked, said) = linked();
    let wanted: u64 = (0..TASKS).map(|task| length(&words(task))).sum();
    let missing = wanted.abs_diff(said);
    let times = raw / linked;
    let what = "wire bytes of 10,000 token deltas, times smaller";
    vec![
        Row::at_least(what, times, "×", 4.0),
        Row::told_only("  bytes of all of them", format!("{linked:.0} B")).beside(raw, "B"),
        Row::none("  letters missing at the far end", missing),
    ]
}

fn linked() -> (f64, u64) {
    let far = FarEnd::start(Ways {
        keeps: true,
        ..Ways::enveloped()
    });
    on_one_thread(async {
        let (url, counted) = proxy(far.address()).await;
        // The proxy stands for a network.
        let endpoint: Endpoint = endpoint_at(&url).compress(Compress::Always);
        let (link, _inbox) = connect(endpoint);
        assert!(far.sees(PATIENCE, |seen| seen.opened == 1).await);
        let all: Vec<Vec<String>> = (0..TASKS).map(words).collect();
        for n in 0..WORDS {
            for (task, words) in (0..).zip(&all) {
                let delta = Delta::new(task, &words[n]);
                link.push(delta).await.expect("the link is there");
            }
            sleep(APART).await;
        }
        let _counted_below = link.shutdown(PATIENCE).await;
        let texts = far.ledger().texts.clone();
        let said = texts.iter().filter_map(|text| {
            let text: serde_json::Value = serde_json::from_str(text).ok()?;
            Some(text["delta"].as_str()?.len() as u64)
        });
        (bytes(&counted), said.sum())
    })
}

fn raw() -> f64 {
    let far = FarEnd::start(Ways::default());
    on_one_thread(async {
        let (url, counted) = proxy(far.address()).await;
        let (mut socket, _) = connect_async(url).await.expect("the far end listens");
        let all: Vec<Vec<String>> = (0..TASKS).map(words).collect();
        for n in 0..WORDS {
            for (task, words) in (0..).zip(&all) {
                let text = Delta::new(task, &words[n]).text();
                socket
                    .send(Words::text(text))
                    .await
                    .expect("the far end reads");
            }
        }
        let many = u64::from(TASKS) * WORDS as u64;
        assert!(far.sees(PATIENCE, |seen| seen.others >= many).await);
        bytes(&counted)
    })
}

/// Passes one connection on; gives its address and the count of what went to the far end.
async fn proxy(to: SocketAddr) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("loopback has a free port");
    let url = format!("ws://{}/", listener.local_addr().expect("it is bound"));
    let counted = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&counted);
    tokio::spawn(async move {
        let (near, _) = listener.accept().await.expect("somebody dials");
        let far = TcpStream::connect(to).await.expect("the far end listens");
        let (mut near_in, mut near_out) = near.into_split();
        let (mut far_in, mut far_out) = far.into_split();
        // An error is the end of the connection.
        tokio::spawn(async move { copy(&mut far_in, &mut near_out).await.is_ok() });
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = near_in.read(&mut buffer).await {
            count.fetch_add(read as u64, Ordering::Relaxed);
            if far_out.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    });
    (url, counted)
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn bytes(counted: &AtomicU64) -> f64 {
    counted.load(Ordering::Relaxed) as f64
}

/// What a task says, the same each time.
fn words(task: u32) -> Vec<String> {
    let mut random = Random(task.into());
    let word = |_| {
        let at = random.below(SPOKEN.len() as u64);
        let at = usize::try_from(at).expect("a small number");
        format!("{} ", SPOKEN[at])
    };
    (0..WORDS).map(word).collect()
}

fn length(words: &[String]) -> u64 {
    words.iter().map(|word| word.len() as u64).sum()
}

/// An increment of the text of a task.
struct Delta {
    task: u32,
    delta: String,
}

impl Delta {
    fn new(task: u32, delta: &str) -> Self {
        let delta = delta.to_owned();
        Self { task, delta }
    }

    fn text(&self) -> String {
        let Self { task, delta } = self;
        format!(
            r#"{{"action":"agent_text","taskId":"1a2b3c4d-1111-4222-8333-{task:012}","agentId":"dev-1","provider":"demo","delta":"{delta}"}}"#
        )
    }
}

impl Payload for Delta {
    fn class(&self) -> Class {
        let stream = self.task.into();
        Class::Paced { stream }
    }

    fn size(&self) -> usize {
        self.delta.len() + 128
    }

    fn absorb(&mut self, next: Self) -> Result<(), Self> {
        self.delta.push_str(&next.delta);
        Ok(())
    }

    fn seal(&self, _extended: bool) -> Frames {
        TextFrame::from(self.text()).into()
    }
}

const TASKS: u32 = 20;
const WORDS: usize = 500;
const APART: Duration = Duration::from_millis(10);
const SPOKEN: [&str; 32] = [
    "the", "queue", "is", "read", "from", "its", "head", "and", "a", "message", "that", "was",
    "stored", "leaves", "it", "I", "have", "changed", "three", "tests", "so", "they", "fail",
    "when", "this", "line", "goes", "function", "returns", "error", "value", "again",
];
