//! A recording of every frame between this bridge and its control plane, as lines of JSON in a
//! file, so that two bridges can be compared.
//!
//! One line is one frame, `{"at", "conn", "way": "in" | "out", "frame"}`, or an event of the
//! connection, `{"at", "conn", "event": "opened" | "closed" | "missed", …}`. Secrets are masked;
//! prompts, answers and file contents are not.

mod mask;
mod shapes;

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use bridge_proto::{Secret, Timestamp};
use bridge_transport::{CloseReason, TextFrame, carrier::watched::Watcher};
use serde_json::{Value, json};

use self::mask::Mask;
use crate::report::Problem;

/// Begins a recording. The file is made for its user alone and must not be there yet.
pub(crate) fn begin(path: &Path, secrets: Vec<Secret>) -> Result<Arc<Recorder>, Problem> {
    let cannot = |error: io::Error| {
        let hint = if error.kind() == io::ErrorKind::AlreadyExists {
            "name a file that is not there yet"
        } else {
            "check the folder and its rights"
        };
        Problem::new(format!("{} cannot be recorded to", path.display()))
            .hint(hint)
            .because(error)
    };
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path).map_err(cannot)?;
    let (lines, written) = mpsc::channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let writer = Writer {
        file,
        mask: Mask::new(secrets),
        waiting: Arc::clone(&waiting),
    };
    // A thread of its own: neither masking nor the disk may hold up the link.
    thread::Builder::new()
        .name("recording".into())
        .spawn(move || {
            if let Err(error) = writer.write(&written) {
                tracing::error!(%error, "the recording has ended");
            }
        })
        .map_err(cannot)?;
    Ok(Arc::new(Recorder {
        lines,
        waiting,
        missed: AtomicUsize::new(0),
    }))
}

/// Hands frames to the thread that writes them. Never waits: beyond 64 MiB that are not written
/// yet frames are left out, and the recording says how many.
#[derive(Debug)]
pub(crate) struct Recorder {
    lines: mpsc::Sender<Line>,
    waiting: Arc<AtomicUsize>,
    missed: AtomicUsize,
}

#[derive(Debug)]
struct Line {
    at: Timestamp,
    conn: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    In(TextFrame),
    Out(TextFrame),
    Event(Value),
}

impl What {
    fn len(&self) -> usize {
        match self {
            Self::In(frame) | Self::Out(frame) => frame.len() + size_of::<Line>(),
            Self::Event(_) => 0,
        }
    }
}

impl Recorder {
    fn note(&self, conn: u64, what: What) {
        let len = what.len();
        if self.waiting.load(Ordering::Relaxed) + len > MAX_WAITING {
            self.missed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let missed = self.missed.swap(0, Ordering::Relaxed);
        if missed > 0 {
            self.send(
                conn,
                What::Event(json!({ "event": "missed", "frames": missed })),
            );
        }
        self.waiting.fetch_add(len, Ordering::Relaxed);
        self.send(conn, what);
    }

    fn send(&self, conn: u64, what: What) {
        let line = Line {
            at: now(),
            conn,
            what,
        };
        if self.lines.send(line).is_err() {
            tracing::trace!("nobody writes the recording any more");
        }
    }
}

impl Watcher for Recorder {
    fn on_opened(&self, conn: u64, extended: bool) {
        let event = json!({ "event": "opened", "extended": extended });
        self.note(conn, What::Event(event));
    }

    fn on_received(&self, conn: u64, frame: &TextFrame) {
        self.note(conn, What::In(frame.clone()));
    }

    fn on_sent(&self, conn: u64, frame: &TextFrame) {
        self.note(conn, What::Out(frame.clone()));
    }

    fn on_closed(&self, conn: u64, reason: &CloseReason) {
        let event = json!({ "event": "closed", "reason": reason.to_string() });
        self.note(conn, What::Event(event));
    }
}

struct Writer {
    file: File,
    mask: Mask,
    waiting: Arc<AtomicUsize>,
}

impl Writer {
    fn write(self, lines: &mpsc::Receiver<Line>) -> io::Result<()> {
        let mut file = BufWriter::new(self.file);
        while let Ok(first) = lines.recv() {
            for line in std::iter::once(first).chain(lines.try_iter()) {
                let len = line.what.len();
                serde_json::to_writer(&mut file, &shown(&self.mask, line))?;
                file.write_all(b"\n")?;
                self.waiting.fetch_sub(len, Ordering::Relaxed);
            }
            file.flush()?;
        }
        Ok(())
    }
}

fn shown(mask: &Mask, line: Line) -> Value {
    let Line { at, conn, what } = line;
    match what {
        What::In(frame) => {
            let frame = mask.frame(frame.as_str());
            json!({ "at": at, "conn": conn, "way": "in", "frame": frame })
        }
        What::Out(frame) => {
            let frame = mask.frame(frame.as_str());
            json!({ "at": at, "conn": conn, "way": "out", "frame": frame })
        }
        What::Event(event) => {
            let mut event = mask.masked(event);
            if let Some(fields) = event.as_object_mut() {
                fields.insert("at".into(), json!(at));
                fields.insert("conn".into(), json!(conn));
            }
            event
        }
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = since.unwrap_or_default().as_millis();
    Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

const MAX_WAITING: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path, lines: usize) -> Vec<Value> {
        loop {
            let text = fs::read_to_string(path).unwrap();
            if text.lines().count() >= lines {
                return text
                    .lines()
                    .map(|line| serde_json::from_str(line).unwrap())
                    .collect();
            }
            thread::yield_now();
        }
    }

    #[test]
    fn frames_of_both_ways_stand_in_their_order_with_secrets_masked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.jsonl");
        let recorder = begin(&path, vec![Secret::new("a-secret-token")]).unwrap();
        recorder.on_opened(1, false);
        recorder.on_sent(1, &TextFrame::from(r#"{"action":"handshake"}"#));
        recorder.on_received(1, &TextFrame::from(r#"{"x":"a-secret-token"}"#));
        recorder.on_received(1, &TextFrame::from("no json"));
        let lines = read(&path, 4);
        assert_eq!(lines[0]["event"], "opened");
        assert_eq!(lines[1]["way"], "out");
        assert_eq!(lines[1]["frame"]["action"], "handshake");
        assert_eq!(lines[2]["frame"]["x"], "[masked]");
        assert_eq!(lines[3]["frame"], "no json");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert!(begin(&path, Vec::new()).is_err(), "nothing is overwritten");
    }

    #[test]
    fn what_cannot_be_written_in_time_is_left_out_and_counted() {
        let (lines, written) = mpsc::channel();
        let recorder = Recorder {
            lines,
            waiting: Arc::new(AtomicUsize::new(MAX_WAITING)),
            missed: AtomicUsize::new(0),
        };
        recorder.on_received(1, &TextFrame::from("{}"));
        recorder.on_received(1, &TextFrame::from("{}"));
        assert!(written.try_recv().is_err());
        recorder.waiting.store(0, Ordering::Relaxed);
        recorder.on_received(1, &TextFrame::from("{}"));
        let gap = written.try_recv().unwrap().what;
        assert!(matches!(gap, What::Event(event) if event["frames"] == 2));
        assert!(matches!(written.try_recv().unwrap().what, What::In(_)));
    }
}
