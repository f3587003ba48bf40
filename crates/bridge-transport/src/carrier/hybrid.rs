//! Reading by a WebSocket, writing by HTTP requests: what is written is known to have arrived.

use std::{fmt, sync::Arc};

use async_trait::async_trait;

use super::{
    Carrier, Connection, Received, Target,
    line::Line,
    session::{Ear, Patience, Session},
    way::Way,
    websocket::WebSocket,
};
use crate::{address, config::Endpoint, dial::DialError, inbound::CloseReason};

/// Carries frames to our hub by a WebSocket that only reads and by HTTP requests that write.
pub struct Hybrid {
    way: Way,
    socket: Arc<WebSocket>,
}

impl Hybrid {
    /// Prepares a carrier with the proxy and TLS settings of an endpoint.
    pub fn new(endpoint: &Endpoint) -> Self {
        Self {
            way: Way::new(endpoint),
            socket: Arc::new(WebSocket::new(endpoint)),
        }
    }
}

impl fmt::Debug for Hybrid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hybrid").field(&self.way).finish()
    }
}

#[async_trait]
impl Carrier for Hybrid {
    async fn open(&self, target: &Target) -> Result<Connection, DialError> {
        let session = Session::open(&self.way, target).await?;
        let by = Arc::clone(&self.socket);
        let first = socket(&by, &session, 0).await?;
        Ok(Arc::new(session).connect(false, |session, ear| read(by, session, ear, first)))
    }
}

/// Opens the socket that tells what comes after a number.
async fn socket(by: &WebSocket, session: &Session, after: u64) -> Result<Connection, DialError> {
    let path = format!("{}/socket?after={after}", session.url.path());
    let url = address::with(&session.url, None, Some(&path));
    let target = Target {
        url,
        headers: session.headers.clone(),
        offer_extension: false,
        frame_limit: session.longest_line(),
    };
    by.open_metered(&target, session.receiving()).await
}

async fn read(
    by: Arc<WebSocket>,
    session: Arc<Session>,
    mut ear: Ear,
    first: Connection,
) -> CloseReason {
    let mut patience = Patience::new();
    let mut open = Some(first);
    loop {
        let opened = match open.take() {
            Some(opened) => Ok(opened),
            None => socket(&by, &session, ear.after()).await,
        };
        let ended = match opened {
            Ok(opened) => hear(&mut ear, &mut patience, opened).await,
            Err(error) => patience.on_failed(&error).await,
        };
        if let Err(reason) = ended {
            return reason;
        }
    }
}

/// Hears lines until the socket breaks off.
async fn hear(
    ear: &mut Ear,
    patience: &mut Patience,
    mut opened: Connection,
) -> Result<(), CloseReason> {
    loop {
        match opened.source.next().await {
            Received::Text(text) => {
                let line = Line::decode(&text);
                let line = line.map_err(|error| CloseReason::Protocol(error.to_string()))?;
                patience.on_good();
                ear.hear(ear.after() + 1, vec![line]).await?;
            }
            Received::Pong { .. } => {}
            Received::Refused(refused) => return Err(CloseReason::Protocol(refused.to_string())),
            // The link may be there still; the next socket finds out.
            Received::Closed(_) => return patience.on_failed(&BROKEN_OFF).await,
        }
    }
}

const BROKEN_OFF: DialError = DialError::NotOurs {
    reason: "its socket broke off",
};
