//! How long a link tries again before it is given up.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::debug;

use crate::{carrier::http::Answer, dial::DialError, driver::with_causes, inbound::CloseReason};

/// How long something is tried again before it is given up.
pub(in crate::carrier) struct Patience {
    since: Option<Instant>,
    wait: Duration,
}

impl Patience {
    pub(in crate::carrier) fn new() -> Self {
        Self {
            since: None,
            wait: FIRST_WAIT,
        }
    }

    /// The other end answered.
    pub(in crate::carrier) fn on_good(&mut self) {
        *self = Self::new();
    }

    /// Waits before the next attempt; the end of the link when that would be of no use any more.
    pub(in crate::carrier) async fn on_broken(
        &mut self,
        error: &DialError,
    ) -> Result<(), CloseReason> {
        self.wait_within(REVIVING, self.wait, with_causes(error))
            .await?;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        Ok(())
    }

    /// Either of both, for a request that was answered or not.
    pub(in crate::carrier) async fn on_failed(
        &mut self,
        error: &DialError,
    ) -> Result<(), CloseReason> {
        if let DialError::Refused {
            status,
            retry_after,
            body: _,
        } = error
        {
            self.on_status(*status, *retry_after).await
        } else {
            self.on_broken(error).await
        }
    }

    /// Judges an answer that is not the one that was hoped for, and waits where that is of use.
    pub(in crate::carrier) async fn on_refused(
        &mut self,
        answer: &Answer,
    ) -> Result<(), CloseReason> {
        self.on_status(answer.status, answer.retry_after()).await
    }

    async fn on_status(
        &mut self,
        status: u16,
        retry_after: Option<Duration>,
    ) -> Result<(), CloseReason> {
        let why = format!("the server answers with status {status}");
        match status {
            429 | 503 => {
                let wait = retry_after.unwrap_or(LONGEST_WAIT);
                self.wait_within(BUSY, wait, why).await
            }
            500..=599 => {
                self.wait_within(REVIVING, self.wait, why).await?;
                self.wait = (self.wait * 2).min(LONGEST_WAIT);
                Ok(())
            }
            _ => Err(CloseReason::Lost(why)),
        }
    }

    async fn wait_within(
        &mut self,
        limit: Duration,
        wait: Duration,
        why: String,
    ) -> Result<(), CloseReason> {
        let at = Instant::now() + wait;
        if at >= *self.since.get_or_insert_with(Instant::now) + limit {
            return Err(CloseReason::Lost(why));
        }
        debug!(why, "a request of a link is made again");
        sleep_until(at).await;
        Ok(())
    }
}

/// How long a link may not be reached.
const REVIVING: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How long a server may say that it is busy.
const BUSY: Duration = Duration::from_secs(30);
pub(super) const FIRST_WAIT: Duration = Duration::from_millis(50);
