//! Reading and writing by single HTTP requests: what every network lets through.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use http::Method;

use super::{
    Carrier, Connection, Target,
    line::{Batch, Most},
    session::{Ear, Patience, Session},
    way::Way,
};
use crate::{config::Endpoint, dial::DialError, inbound::CloseReason};

/// Carries frames to our hub by HTTP: a request that waits reads, others write.
#[derive(Clone)]
pub struct LongPoll {
    way: Way,
}

impl LongPoll {
    /// Prepares a carrier with the proxy and TLS settings of an endpoint.
    pub fn new(endpoint: &Endpoint) -> Self {
        Self {
            way: Way::new(endpoint),
        }
    }
}

impl fmt::Debug for LongPoll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LongPoll").field(&self.way).finish()
    }
}

#[async_trait]
impl Carrier for LongPoll {
    async fn open(&self, target: &Target) -> Result<Connection, DialError> {
        let session = Session::open(&self.way, target).await?;
        Ok(Arc::new(session).connect(true, read))
    }
}

async fn read(session: Arc<Session>, mut ear: Ear) -> CloseReason {
    let mut http = session.reading();
    let mut patience = Patience::new();
    let limit = session.longest_line() + MOST.bytes;
    loop {
        let query = format!("?after={}", ear.after());
        let question = session.question(Method::GET, &query, Bytes::new());
        let body = match http.ask(&question).await {
            Ok(answer) if answer.status == 200 => answer.whole(limit).await,
            Ok(answer) => match patience.on_refused(&answer).await {
                Ok(()) => continue,
                Err(reason) => return reason,
            },
            Err(error) => Err(error),
        };
        let body = match body {
            Ok(body) => body,
            Err(error) => match patience.on_broken(&error).await {
                Ok(()) => continue,
                Err(reason) => return reason,
            },
        };
        patience.on_good();
        let batch = match Batch::decode(&body, MOST) {
            Ok(batch) => batch,
            Err(error) => return CloseReason::Protocol(error.to_string()),
        };
        if let Err(reason) = ear.hear(batch.first, batch.lines).await {
            return reason;
        }
    }
}

/// What is taken in one go, but for one line that is longer: more than a hub of ours tells.
const MOST: Most = Most {
    lines: 4096,
    bytes: 1 << 20,
};
