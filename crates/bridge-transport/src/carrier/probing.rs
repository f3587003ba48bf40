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
        | DialError::BuiltWithout(_)
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

#[cfg(test)]
mod tests {
    use std::{future::pending, sync::Mutex};

    use super::*;
    use crate::{
        carrier::{FrameSink, FrameSource, Received, SinkClosed, TrafficMeter},
        payload::TextFrame,
    };

    /// How a carrier of a test fares.
    #[derive(Clone, Copy)]
    enum Fares {
        Well,
        Stalls,
        Unknown,
        Status(u16, &'static str),
        Unreachable,
    }

    /// Carriers whose fate the test decides, and which of them were tried.
    #[derive(Default)]
    struct World {
        fates: Mutex<[Option<Fares>; 3]>,
        tried: Mutex<Vec<usize>>,
    }

    impl World {
        fn set(&self, fates: [Fares; 3]) {
            *self.fates.lock().unwrap() = fates.map(Some);
        }

        fn tried(&self) -> Vec<usize> {
            std::mem::take(&mut *self.tried.lock().unwrap())
        }
    }

    struct One(usize, Arc<World>);

    #[async_trait]
    impl Carrier for One {
        async fn open(&self, _: &Target) -> Result<Connection, DialError> {
            self.1.tried.lock().unwrap().push(self.0);
            let fate = self.1.fates.lock().unwrap()[self.0].unwrap();
            match fate {
                Fares::Well => Ok(Connection {
                    sink: Box::new(Nothing),
                    source: Box::new(Nothing),
                    extended: true,
                    traffic: TrafficMeter::new(),
                }),
                Fares::Stalls => pending().await,
                Fares::Unknown => Err(DialError::NotWebSocket { reason: "no" }),
                Fares::Status(status, body) => Err(DialError::Refused {
                    status,
                    retry_after: None,
                    body: body.to_owned(),
                }),
                Fares::Unreachable => Err(DialError::Unreachable {
                    host: "x".to_owned(),
                    reason: "no".to_owned(),
                }),
            }
        }
    }

    struct Nothing;

    #[async_trait]
    impl FrameSink for Nothing {
        async fn send(&mut self, _: Vec<TextFrame>) -> Result<(), SinkClosed> {
            Ok(())
        }

        async fn ping(&mut self, _: u64) -> Result<(), SinkClosed> {
            Ok(())
        }

        async fn close(&mut self, _: u16) {}
    }

    #[async_trait]
    impl FrameSource for Nothing {
        async fn next(&mut self) -> Received {
            pending().await
        }
    }

    fn probing() -> (Probing, Arc<World>) {
        let world = Arc::new(World::default());
        // Which kinds they are does not matter.
        let kinds = [
            CarrierKind::WebSocket,
            CarrierKind::WebSocket,
            CarrierKind::Lines,
        ];
        let each = kinds.into_iter().enumerate().map(|(index, kind)| {
            let one: Box<dyn Carrier> = Box::new(One(index, Arc::clone(&world)));
            (kind, one)
        });
        (Probing::new(each, CloseRules::ctrlnode()), world)
    }

    async fn dial(probing: &Probing) -> Result<(), DialError> {
        let target = Target {
            url: "http://localhost/ws/bridge".parse().unwrap(),
            headers: Vec::new(),
            offer_extension: true,
            frame_limit: 1,
        };
        probing.open(&target).await.map(drop)
    }

    #[tokio::test(start_paused = true)]
    async fn what_got_through_is_tried_first_and_better_ones_again_after_a_while() {
        let (probing, world) = probing();
        world.set([Fares::Status(426, ""), Fares::Stalls, Fares::Well]);
        dial(&probing).await.unwrap();
        assert_eq!(world.tried(), [0, 1, 2]);
        assert_eq!(probing.found(), Some(CarrierKind::Lines));
        dial(&probing).await.unwrap();
        assert_eq!(world.tried(), [2]);
        world.set([Fares::Well; 3]);
        tokio::time::advance(BETTER).await;
        dial(&probing).await.unwrap();
        assert_eq!(world.tried(), [0]);
        assert_eq!(probing.found(), Some(CarrierKind::WebSocket));
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_get_through_any_more_is_forgotten() {
        let (probing, world) = probing();
        world.set([Fares::Unknown, Fares::Unknown, Fares::Well]);
        dial(&probing).await.unwrap();
        world.set([Fares::Well, Fares::Unknown, Fares::Status(404, "")]);
        dial(&probing).await.unwrap_err();
        world.tried();
        dial(&probing).await.unwrap();
        assert_eq!(world.tried(), [0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_plane_where_nothing_gets_through_is_not_asked_three_times_as_often() {
        let (probing, world) = probing();
        world.set([Fares::Status(502, "first"), Fares::Unknown, Fares::Unknown]);
        let error = dial(&probing).await.unwrap_err();
        // The best carrier's words are those that tell most.
        assert!(
            matches!(error, DialError::Refused { status: 502, .. }),
            "{error}"
        );
        assert_eq!(world.tried(), [0, 1, 2]);
        for _ in 0..5 {
            dial(&probing).await.unwrap_err();
        }
        assert_eq!(world.tried(), [0; 5]);
        tokio::time::advance(BARREN).await;
        dial(&probing).await.unwrap_err();
        assert_eq!(world.tried(), [0, 1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_token_a_busy_hub_and_a_missing_network_are_no_reason_to_fall_back() {
        for fate in [
            Fares::Status(401, "pairing token not accepted"),
            Fares::Status(403, "this token was revoked"),
            Fares::Unreachable,
        ] {
            let (probing, world) = probing();
            world.set([fate, Fares::Well, Fares::Well]);
            dial(&probing).await.unwrap_err();
            assert_eq!(world.tried(), [0]);
        }
        let (probing, world) = probing();
        let page = "<html>upgrades are blocked; csrf_token</html>";
        world.set([Fares::Status(403, page), Fares::Well, Fares::Well]);
        dial(&probing).await.unwrap();
        assert_eq!(world.tried(), [0, 1]);
    }
}
