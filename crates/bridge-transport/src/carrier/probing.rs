//! Finds the best carrier that gets through, and remembers it while the process lives.
//!
//! ```text
//!            a carrier is not known there, or stalls          none gets through
//!  best ──────────────────────────► next … ──────────────────► best alone for BARREN
//!   ▲                                 │ opens
//!   └──── at a dial after BETTER ─────┘ and is the first from then on
//! ```
//!
//! A peer that cannot be reached at all, or refuses the credential, is no reason to try another
//! carrier. All of them go to the same host.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tracing::{debug, info};

use super::{Carrier, CarrierKind, Connection, Target};
use crate::{
    dial::{DialError, Disposition},
    link::close::CloseRules,
};

/// Several carriers, of which the first that gets through is used.
pub struct Probing {
    /// The best first.
    carriers: Vec<(CarrierKind, Arc<dyn Carrier>)>,
    rules: CloseRules,
    found: watch::Sender<Found>,
}

/// What earlier dials found out.
#[derive(Debug, Clone, Copy)]
enum Found {
    /// Nothing: begin with the best.
    Nothing,
    /// This one gets through; better ones are tried again from then on.
    This { index: usize, until: Instant },
    /// None gets through; until then only the best is tried.
    None { until: Instant },
}

impl Probing {
    /// Tries carriers in this order; the rules tell what blames the credential.
    pub fn new(
        carriers: impl IntoIterator<Item = (CarrierKind, Box<dyn Carrier>)>,
        rules: CloseRules,
    ) -> Self {
        let carriers = carriers.into_iter();
        Self {
            rules,
            carriers: carriers.map(|(kind, it)| (kind, Arc::from(it))).collect(),
            found: watch::Sender::new(Found::Nothing),
        }
    }

    /// The carrier that was used last and will be tried first.
    pub fn found(&self) -> Option<CarrierKind> {
        match *self.found.borrow() {
            Found::This { index, .. } => self.carriers.get(index).map(|(kind, _)| *kind),
            Found::Nothing | Found::None { .. } => None,
        }
    }
}

impl fmt::Debug for Probing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<_> = self.carriers.iter().map(|(kind, _)| *kind).collect();
        f.debug_struct("Probing")
            .field("carriers", &kinds)
            .field("found", &*self.found.borrow())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Carrier for Probing {
    async fn open(&self, target: &Target) -> Result<Connection, DialError> {
        let now = Instant::now();
        let found = *self.found.borrow();
        let (begin, end) = match found {
            Found::This { index, until } if now < until => (index, self.carriers.len()),
            Found::None { until } if now < until => (0, 1),
            Found::Nothing | Found::This { .. } | Found::None { .. } => (0, self.carriers.len()),
        };
        let mut first_error = None;
        let tried = self.carriers.iter().enumerate().take(end).skip(begin);
        for (index, (kind, carrier)) in tried {
            let last = index + 1 == end;
            // The last one has whatever time the dial has.
            let opened = if last {
                carrier.open(target).await
            } else {
                timeout(STALL, carrier.open(target))
                    .await
                    .unwrap_or(Err(DialError::TimedOut { after: STALL }))
            };
            let error = match opened {
                Ok(connection) => {
                    self.on_opened(index, found);
                    return Ok(connection);
                }
                Err(error) => error,
            };
            if !is_of_the_carrier(&error, &self.rules) {
                return Err(error);
            }
            debug!(carrier = kind.name(), %error, "a carrier does not get through");
            first_error.get_or_insert(error);
        }
        let next = if begin > 0 {
            // What got through before does not any more: begin anew.
            Found::Nothing
        } else {
            let until = match found {
                Found::None { until } if now < until => until,
                Found::Nothing | Found::This { .. } | Found::None { .. } => now + BARREN,
            };
            Found::None { until }
        };
        self.found.send_replace(next);
        Err(first_error.unwrap_or(NOTHING_TO_TRY))
    }
}

impl Probing {
    fn on_opened(&self, index: usize, before: Found) {
        let known = matches!(before, Found::This { index: known, .. } if known == index);
        let until = match before {
            Found::This { until, .. } if known && Instant::now() < until => until,
            Found::This { .. } | Found::Nothing | Found::None { .. } => Instant::now() + BETTER,
        };
        if !known && let Some((kind, _)) = self.carriers.get(index) {
            info!(carrier = kind.name(), "a carrier gets through");
        }
        self.found.send_replace(Found::This { index, until });
    }
}

/// Whether another carrier may fare better: something answered, and it was not what was hoped for.
fn is_of_the_carrier(error: &DialError, rules: &CloseRules) -> bool {
    match error {
        // A hub that is busy or knows the token to be bad says so whatever the carrier is.
        DialError::Refused { .. } => match error.disposition(rules) {
            Disposition::Retry | Disposition::RetryFor(_) => true,
            Disposition::RetryAfter(_) | Disposition::NeedsNewToken => false,
        },
        DialError::NotWebSocket { .. }
        | DialError::NotOurs { .. }
        | DialError::Broken(_)
        | DialError::TimedOut { .. } => true,
        DialError::Unreachable { .. }
        | DialError::Proxy { .. }
        | DialError::Roots { .. }
        | DialError::Identity { .. }
        | DialError::IdentityRefused { .. }
        | DialError::Tls { .. } => false,
    }
}

const NOTHING_TO_TRY: DialError = DialError::NotOurs {
    reason: "there is no carrier to try",
};
/// How long a carrier may take that is not the last one.
const STALL: Duration = Duration::from_secs(4);
/// After how long a better carrier is tried again, at the next dial.
const BETTER: Duration = Duration::from_secs(600);
/// How long the others are left alone when none got through: a plane that is down is not asked
/// three times as often.
const BARREN: Duration = Duration::from_secs(60);
