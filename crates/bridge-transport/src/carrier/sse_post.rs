//! Reading server-sent events, writing by HTTP requests: for networks that let no WebSocket through
//! and do let an answer stay open.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, header};
use tokio::time::timeout;

use super::{
    Carrier, Connection, Target,
    events::{Event, Events},
    http::{Answer, Http},
    line::Line,
    session::{Ear, Patience, Session},
    way::Way,
};
use crate::{config::Endpoint, dial::DialError, inbound::CloseReason};

/// Carries frames to our hub by HTTP: one answer that does not end reads, requests write.
#[derive(Clone)]
pub struct SsePost {
    way: Way,
}

impl SsePost {
    /// Prepares a carrier with the proxy and TLS settings of an endpoint.
    pub fn new(endpoint: &Endpoint) -> Self {
        Self {
            way: Way::new(endpoint),
        }
    }
}

impl fmt::Debug for SsePost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SsePost").field(&self.way).finish()
    }
}

#[async_trait]
impl Carrier for SsePost {
    async fn open(&self, target: &Target) -> Result<Connection, DialError> {
        let session = Session::open(&self.way, target).await?;
        let mut http = session.reading();
        let mut answer = ask(&mut http, &session, 0).await?;
        // A proxy that collects the whole answer before it passes anything on is of no use.
        let first = match timeout(FIRST, answer.piece()).await {
            Ok(Some(first)) => first?,
            Ok(None) | Err(_) => return Err(KEPT_BACK),
        };
        Ok(Arc::new(session).connect(false, |session, ear| async move {
            let mut reader = Reader {
                http,
                session,
                ear,
                patience: Patience::new(),
            };
            reader.read(Some((answer, first))).await
        }))
    }
}

/// Asks for the events after a number.
async fn ask(http: &mut Http, session: &Session, after: u64) -> Result<Answer, DialError> {
    let query = format!("/events?after={after}");
    let mut question = session.question(Method::GET, &query, Bytes::new());
    let accept = header::HeaderValue::from_static(EVENTS);
    question.headers.push((header::ACCEPT, accept));
    let answer = http.ask(&question).await?;
    if answer.status != 200 {
        return Err(answer.into_refusal().await);
    }
    let kind = answer.headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.starts_with(EVENTS) {
        return Err(NO_EVENTS);
    }
    Ok(answer)
}

struct Reader {
    http: Http,
    session: Arc<Session>,
    ear: Ear,
    patience: Patience,
}

impl Reader {
    async fn read(&mut self, mut opened: Option<(Answer, Bytes)>) -> CloseReason {
        loop {
            let ended = match opened.take() {
                Some((answer, first)) => self.hear(answer, first).await,
                None => match ask(&mut self.http, &self.session, self.ear.after()).await {
                    Ok(answer) => self.hear(answer, Bytes::new()).await,
                    Err(error) => self.patience.on_failed(&error).await,
                },
            };
            if let Err(reason) = ended {
                return reason;
            }
        }
    }

    /// Hears events until the stream breaks off.
    async fn hear(&mut self, mut answer: Answer, first: Bytes) -> Result<(), CloseReason> {
        let limit = self.session.longest_line();
        let mut events = Events::new(limit);
        let mut piece = first;
        loop {
            let read = events.read(&piece);
            let read = read.map_err(|error| CloseReason::Protocol(error.to_string()))?;
            for event in read {
                let (number, line) = line(&event)?;
                self.ear.hear(number, vec![line]).await?;
            }
            piece = match answer.piece().await {
                Some(Ok(piece)) => piece,
                Some(Err(error)) => return self.patience.on_failed(&error).await,
                None => return self.patience.on_failed(&BROKEN_OFF).await,
            };
            self.patience.on_good();
        }
    }
}

fn line(event: &Event) -> Result<(u64, Line), CloseReason> {
    let number = event.id.parse();
    let number = number.map_err(|_| CloseReason::Protocol("an event has no number".to_owned()))?;
    let line = Line::decode(event.data.as_bytes());
    let line = line.map_err(|error| CloseReason::Protocol(error.to_string()))?;
    Ok((number, line))
}

const EVENTS: &str = "text/event-stream";
/// How long the first bytes of a stream may take.
const FIRST: Duration = Duration::from_secs(3);
const KEPT_BACK: DialError = DialError::NotOurs {
    reason: "its events are kept back on the way",
};
const NO_EVENTS: DialError = DialError::NotOurs {
    reason: "its answer is no stream of events",
};
const BROKEN_OFF: DialError = DialError::NotOurs {
    reason: "its events broke off",
};
