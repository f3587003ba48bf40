//! What goes out over the link: events, notices and replies as the transport's payload. Becomes
//! frames at the last moment, because only then it is known what the other end understands.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use bridge_proto::{
    RunKey,
    ctrlnode::{self, Profile, RunFacts},
    model::{Event, EventBody, Notice, RunEvent},
};
use bridge_transport::{Bytes, Class, ConnId, Frames, Payload, Stored, TextFrame};
use serde::{Deserialize, Serialize};

/// One outbound message before it is a frame.
#[derive(Debug, Clone)]
pub struct Outgoing {
    what: What,
    bytes: usize,
}

#[derive(Debug, Clone)]
enum What {
    Run {
        event: Box<Event>,
        facts: Arc<RunFacts>,
    },
    Notice(Box<Notice>),
    Reply {
        conn: ConnId,
        frame: String,
    },
    Nothing,
}

impl Outgoing {
    /// An event of a run.
    pub fn event(event: Event, facts: Arc<RunFacts>) -> Self {
        let bytes = weight(&event);
        Self {
            what: What::Run {
                event: Box::new(event),
                facts,
            },
            bytes,
        }
    }

    /// Something the machine says of itself; a newer one of its sort replaces an older one that
    /// still waits. Changes of files are none of these: each of them is told.
    pub fn notice(notice: Notice) -> Self {
        Self {
            bytes: notice_weight(&notice),
            what: What::Notice(Box::new(notice)),
        }
    }

    /// Becomes no frame; taken when there is room for more.
    pub(crate) fn nothing() -> Self {
        Self {
            what: What::Nothing,
            bytes: 0,
        }
    }

    /// A reply, which dies with the connection its request came from.
    pub fn reply(conn: ConnId, frame: String) -> Self {
        Self {
            bytes: frame.len(),
            what: What::Reply { conn, frame },
        }
    }
}

impl Payload for Outgoing {
    fn class(&self) -> Class {
        match &self.what {
            What::Run { event, .. } => {
                let stream = stream_of(&event.run);
                if must_arrive(&event.body) {
                    Class::Durable { stream }
                } else if is_increment(&event.body) {
                    Class::Paced { stream }
                } else {
                    Class::Coalesce { stream }
                }
            }
            What::Notice(notice) => match slot_of(notice) {
                Some(slot) => Class::Latest { slot },
                None => Class::Coalesce {
                    stream: OUTSIDE_OF_TASKS,
                },
            },
            What::Reply { conn, .. } => Class::Reply { conn: *conn },
            What::Nothing => Class::Coalesce {
                stream: OUTSIDE_OF_TASKS,
            },
        }
    }

    fn size(&self) -> usize {
        self.bytes
    }

    fn absorb(&mut self, next: Self) -> Result<(), Self> {
        let Self {
            what: What::Run { event, .. },
            bytes,
        } = self
        else {
            return Err(next);
        };
        let What::Run { event: later, .. } = &next.what else {
            return Err(next);
        };
        if event.run != later.run || *bytes + next.bytes > MERGED_LIMIT {
            return Err(next);
        }
        let (EventBody::Seen(into), EventBody::Seen(from)) = (&mut event.body, &later.body) else {
            return Err(next);
        };
        match (&mut into.event, &from.event) {
            (
                RunEvent::Text { block, delta },
                RunEvent::Text {
                    block: same,
                    delta: more,
                },
            ) if block == same => delta.push_str(more),
            (RunEvent::Thinking { delta }, RunEvent::Thinking { delta: more }) => {
                delta.push_str(more);
            }
            _ => return Err(next),
        }
        into.raw = None;
        *bytes = weight(event);
        Ok(())
    }

    fn seal(&self, extended: bool) -> Frames {
        let profile = if extended {
            Profile::Extended
        } else {
            Profile::Plain
        };
        let frames = match &self.what {
            What::Run { event, facts } => ctrlnode::encode_event(event, facts, profile),
            What::Notice(notice) => ctrlnode::encode_notice(notice, profile),
            What::Reply { frame, .. } => vec![frame.clone()],
            What::Nothing => Vec::new(),
        };
        frames.into_iter().map(TextFrame::from).collect()
    }
}

/// A message of a stream as it waits on the disk; read by later versions.
#[derive(Serialize)]
#[serde(untagged)]
enum Written<'a> {
    Run {
        event: &'a Event,
        facts: &'a RunFacts,
    },
    Notice {
        notice: &'a Notice,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Read {
    Run { event: Box<Event>, facts: RunFacts },
    Notice { notice: Notice },
}

impl Stored for Outgoing {
    fn store(&self) -> Option<Bytes> {
        let written = match &self.what {
            What::Run { event, facts } => Written::Run { event, facts },
            What::Notice(notice) => Written::Notice { notice },
            What::Reply { .. } | What::Nothing => return None,
        };
        let written = serde_json::to_vec(&written);
        if let Err(error) = &written {
            tracing::error!(%error, "a message cannot be written down");
        }
        written.ok().map(Bytes::from)
    }

    fn restore(stored: &[u8]) -> Option<Self> {
        Some(match serde_json::from_slice(stored).ok()? {
            Read::Run { event, facts } => Self::event(*event, Arc::new(facts)),
            Read::Notice { notice } => Self::notice(notice),
        })
    }
}

/// Ends, questions and what a person said must arrive, and what the supervisor itself says must not hold it up;
/// everything else may wait for room.
fn must_arrive(body: &EventBody) -> bool {
    match body {
        EventBody::Queued { .. }
        | EventBody::Ended { .. }
        | EventBody::Joined { .. }
        | EventBody::Rejected(_) => true,
        EventBody::Seen(seen) => matches!(
            seen.event,
            RunEvent::Ask(_) | RunEvent::AskClosed { .. } | RunEvent::Injected { .. }
        ),
        EventBody::Started { .. } => false,
    }
}

/// What comes by the thousand while an agent writes, and says the same in fewer pieces.
fn is_increment(body: &EventBody) -> bool {
    let EventBody::Seen(seen) = body else {
        return false;
    };
    matches!(
        seen.event,
        RunEvent::Text { .. } | RunEvent::Thinking { .. }
    )
}

/// All runs of a task share a stream, so that a follow-up never overtakes the end before it. Two
/// tasks may meet in one: nothing of different runs is merged.
fn stream_of(run: &RunKey) -> u64 {
    let mut hasher = DefaultHasher::new();
    run.task.hash(&mut hasher);
    hasher.finish()
}

fn slot_of(notice: &Notice) -> Option<u64> {
    match notice {
        Notice::Hello(_) => Some(0),
        Notice::Heartbeat(_) => Some(1),
        Notice::Agents { .. } => Some(2),
        Notice::ProviderHealth { .. } => Some(3),
        Notice::AvailableModels { .. } => Some(4),
        Notice::FileChanged { .. } => None,
    }
}

fn notice_weight(notice: &Notice) -> usize {
    let content = match notice {
        Notice::FileChanged { content, .. } => content.as_ref().map_or(0, String::len),
        Notice::Hello(_)
        | Notice::Heartbeat(_)
        | Notice::Agents { .. }
        | Notice::ProviderHealth { .. }
        | Notice::AvailableModels { .. } => 0,
    };
    content + FRAME_WEIGHT
}

/// About how many bytes the event takes on the wire.
fn weight(event: &Event) -> usize {
    let body = match &event.body {
        EventBody::Seen(seen) => match (&seen.event, &seen.raw) {
            (RunEvent::Text { delta, .. } | RunEvent::Thinking { delta }, None) => delta.len(),
            _ => serde_json::to_string(seen).map_or(0, |text| text.len()),
        },
        EventBody::Queued { .. }
        | EventBody::Started { .. }
        | EventBody::Ended { .. }
        | EventBody::Joined { .. }
        | EventBody::Rejected(_) => 0,
    };
    body + FRAME_WEIGHT
}

/// A stream without messages. That a task has the same number does no harm: nothing merges with it.
const OUTSIDE_OF_TASKS: u64 = u64::MAX;

/// The envelope around an event: action, ids, time.
const FRAME_WEIGHT: usize = 256;

/// Text is merged up to this size, so that one frame never delays the others for long; more than
/// an agent that streams says between two messages.
const MERGED_LIMIT: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use bridge_proto::{
        AgentId, BlockId, ProviderKey, TaskId, Timestamp,
        model::{FileChange, Observed, Origin, Outcome, ReplyToken, RunKind, Source},
    };

    use super::*;

    fn event(n: u64, event: RunEvent) -> Outgoing {
        let body = EventBody::Seen(Box::new(Observed::from(event)));
        wrap(n, body)
    }

    fn wrap(n: u64, body: EventBody) -> Outgoing {
        let run = RunKey {
            task: TaskId::parse("t").unwrap(),
            attempt: "r".into(),
        };
        let facts = RunFacts {
            agent: AgentId::parse("a").unwrap(),
            provider: ProviderKey::parse("demo").unwrap(),
            kind: RunKind::Dispatch,
            origin: Origin {
                source: Source::Hub,
                reply: ReplyToken::default(),
            },
            log_thinking: true,
        };
        let event = Event {
            run,
            n,
            at: Timestamp::from_millis(0),
            body,
        };
        Outgoing::event(event, Arc::new(facts))
    }

    fn text(n: u64, block: &str, delta: &str) -> Outgoing {
        let block = BlockId::parse(block).unwrap();
        event(
            n,
            RunEvent::Text {
                block,
                delta: delta.into(),
            },
        )
    }

    fn delta_of(outgoing: &Outgoing) -> (u64, String) {
        let What::Run { event, .. } = &outgoing.what else {
            panic!("not an event")
        };
        let EventBody::Seen(seen) = &event.body else {
            panic!("not seen")
        };
        let RunEvent::Text { delta, .. } = &seen.event else {
            panic!("not text")
        };
        (event.n, delta.clone())
    }

    #[test]
    fn neighbouring_text_of_one_block_is_merged_under_the_lower_number() {
        let mut first = text(3, "b", "Hello ");
        first.absorb(text(4, "b", "world")).unwrap();
        assert_eq!(delta_of(&first), (3, "Hello world".into()));
    }

    #[test]
    fn an_event_that_was_written_down_is_the_same_message_again() {
        let said = text(3, "b", "Hello \u{1f600}");
        let again = Outgoing::restore(&said.store().unwrap()).unwrap();
        assert_eq!(again.class(), said.class());
        for extended in [false, true] {
            assert_eq!(again.seal(extended), said.seal(extended));
        }
        let changed = Outgoing::notice(Notice::FileChanged {
            agent: AgentId::parse("a").unwrap(),
            path: "notes.md".to_owned(),
            change: FileChange::Add,
            content: Some("x".to_owned()),
        });
        let again = Outgoing::restore(&changed.store().unwrap()).unwrap();
        assert_eq!(again.class(), changed.class());
        assert_eq!(again.seal(false), changed.seal(false));
        assert!(!again.seal(false).is_empty());
        assert!(Outgoing::restore(b"{\"event\":7}").is_none());
        assert!(Outgoing::nothing().store().is_none());
    }

    #[test]
    fn other_blocks_ends_and_large_texts_are_not_merged() {
        let mut first = text(0, "b", "x");
        assert!(first.absorb(text(1, "c", "y")).is_err());
        assert!(
            first
                .absorb(text(1, "b", &"y".repeat(MERGED_LIMIT)))
                .is_err()
        );
        let end = wrap(
            2,
            EventBody::Ended {
                outcome: Outcome::Completed,
            },
        );
        assert!(first.absorb(end.clone()).is_err());
        assert!(matches!(end.class(), Class::Durable { .. }));
        assert!(matches!(first.class(), Class::Paced { .. }));
    }
}
