//! Whether the connection still lives.
//!
//! Invariant: a connection is dropped only for a silence that pings failed to break or for pings
//! that stay unanswered, on a peer known to answer pings, or for a write that moves no byte. Times
//! in which this side did not read, or could not ping because it wrote, never count as silence. It
//! is [proven](Liveness::is_proven) only by a round trip, or by a byte of a peer that never answers
//! pings.

use std::time::{Duration, Instant};

use super::proof::Proof;
use crate::{carrier::Traffic, config::Timings, jitter::about};

#[derive(Debug)]
pub(super) struct Liveness {
    timings: Timings,
    /// Kept over connections: it is a property of the peer.
    answers_pings: bool,
    /// Pings of a whole silence span went unanswered, and none was ever answered; kept as well.
    mute: bool,
    opened: Instant,
    /// Silence is counted from here or from the last byte, whichever is later.
    listening_since: Instant,
    heard: Instant,
    writing_since: Option<Instant>,
    sent: Instant,
    reading: bool,
    ping_due: Instant,
    pings: u64,
    pinged: Instant,
    /// When the oldest ping was sent that is not answered, as far as it matters.
    unanswered: Option<Instant>,
    /// The last ping that was answered on this connection, and when.
    ponged: Option<(u64, Instant)>,
    round_trip: Option<Duration>,
}

/// What the time asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Ping(u64),
    GiveUpSilent(Duration),
    GiveUpUnanswered(Duration),
    GiveUpStalled(Duration),
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    Ping,
    Silence,
    Unanswered,
    Stall,
}

impl Liveness {
    pub(super) fn new(timings: Timings, now: Instant) -> Self {
        Self {
            timings,
            answers_pings: false,
            mute: false,
            opened: now,
            listening_since: now,
            heard: now,
            writing_since: None,
            sent: now,
            reading: true,
            ping_due: now,
            pings: 0,
            pinged: now,
            unanswered: None,
            ponged: None,
            round_trip: None,
        }
    }

    /// A new connection is up; it is pinged at once to learn the round trip.
    pub(super) fn on_opened(&mut self, now: Instant) {
        *self = Self {
            answers_pings: self.answers_pings,
            mute: self.mute,
            pings: self.pings,
            ..Self::new(self.timings.clone(), now)
        };
    }

    pub(super) fn on_heard(&mut self, now: Instant) {
        self.heard = self.heard.max(now);
    }

    pub(super) fn on_traffic(&mut self, traffic: Traffic) {
        self.heard = self.heard.max(traffic.received);
        self.sent = self.sent.max(traffic.sent);
    }

    pub(super) fn on_pong(&mut self, now: Instant, id: u64) {
        self.answers_pings = true;
        self.mute = false;
        self.on_heard(now);
        if id > self.pings {
            return;
        }
        let last = self.ponged.map_or(id, |(last, _)| last.max(id));
        self.ponged = Some((last, now));
        // Of those behind it the newest is counted from, which errs on the side of patience.
        self.unanswered = (last < self.pings).then_some(self.pinged);
        if id == self.pings {
            self.round_trip = Some(now.saturating_duration_since(self.pinged));
        }
    }

    pub(super) fn on_reading(&mut self, now: Instant, reading: bool) {
        self.reading = reading;
        self.listening_since = now;
    }

    pub(super) fn on_write(&mut self, now: Instant) {
        self.writing_since = Some(now);
    }

    /// The time of the write does not count as silence; the silence before it does, or a peer
    /// that is gone would never be noticed as long as the socket takes small writes.
    pub(super) fn on_wrote(&mut self, now: Instant) {
        let Some(since) = self.writing_since.take() else {
            return;
        };
        let heard = self.heard.max(self.listening_since);
        self.listening_since = heard + now.saturating_duration_since(since.max(heard));
    }

    pub(super) fn on_timeout(&mut self, now: Instant, random: u64) -> Option<Need> {
        if self.stall_limit().is_some_and(|limit| limit <= now) {
            return Some(Need::GiveUpStalled(self.timings.silence));
        }
        if self.silence_limit().is_some_and(|limit| limit <= now) {
            return Some(Need::GiveUpSilent(self.timings.silence));
        }
        if self.unanswered_limit().is_some_and(|limit| limit <= now) {
            // Another server may stand there now, that answers none.
            self.answers_pings = self.ponged.is_some();
            return Some(Need::GiveUpUnanswered(self.timings.silence * PATIENCE));
        }
        self.learn(now);
        let due = self.next_ping().is_some_and(|due| due <= now);
        due.then(|| Need::Ping(self.ping(now, random)))
    }

    /// Between two writes goes a ping that came due during the first.
    pub(super) fn ping_between(&mut self, now: Instant, random: u64) -> Option<u64> {
        (self.ping_due < now).then(|| self.ping(now, random))
    }

    /// A ping is wanted to prove a message: soon, and of a few messages together.
    pub(super) fn want_ping(&mut self, now: Instant, gap: Duration) {
        let soon = (self.pinged + gap).max(now);
        self.ping_due = self.ping_due.min(soon);
    }

    /// The number of the next ping.
    pub(super) fn next_id(&self) -> u64 {
        self.pings + 1
    }

    fn ping(&mut self, now: Instant, random: u64) -> u64 {
        self.pings += 1;
        self.pinged = now;
        self.unanswered.get_or_insert(now);
        self.ping_due = now + about(self.timings.ping, random);
        self.pings
    }

    fn learn(&mut self, now: Instant) {
        self.mute |= !self.answers_pings
            && self.reading
            && self
                .unanswered
                .is_some_and(|since| since + self.timings.silence <= now);
    }

    pub(super) fn deadline(&self) -> Option<(Instant, Wait)> {
        let stall = self.stall_limit().map(|at| (at, Wait::Stall));
        let silence = self.silence_limit().map(|at| (at, Wait::Silence));
        let unanswered = self.unanswered_limit().map(|at| (at, Wait::Unanswered));
        let ping = self.next_ping().map(|at| (at, Wait::Ping));
        [stall, silence, unanswered, ping]
            .into_iter()
            .flatten()
            .min_by_key(|(at, _)| *at)
    }

    /// Whether a round trip succeeded within the limit; on a peer that was never heard to answer a
    /// ping, whether it was heard at all. The upgrade is the first round trip.
    pub(super) fn is_proven(&self, now: Instant) -> bool {
        now < self.proven_until()
    }

    /// Until when the connection counts as proven if nothing comes.
    pub(super) fn proven_until(&self) -> Instant {
        let last = match self.ponged {
            Some((_, at)) => at,
            None if self.answers_pings => self.opened,
            None => self.heard,
        };
        last + self.timings.silence
    }

    pub(super) fn answers_pings(&self) -> bool {
        self.answers_pings
    }

    /// Whether the peer is known never to answer pings.
    pub(super) fn is_mute(&self) -> bool {
        self.mute
    }

    /// Whether a message that waits for this arrived.
    pub(super) fn proves(&self, now: Instant, proof: Proof) -> bool {
        self.ponged.is_some_and(|(last, _)| proof.ping <= last)
            || self.proves_by_age(proof).is_some_and(|at| at <= now)
    }

    /// When the mere life of the connection proves a message, because nothing else can.
    pub(super) fn proves_by_age(&self, proof: Proof) -> Option<Instant> {
        (!self.answers_pings).then(|| proof.wrote + self.timings.silence)
    }

    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// Pings wait for a write to end; progress of the write shows life meanwhile.
    fn next_ping(&self) -> Option<Instant> {
        self.writing_since.is_none().then_some(self.ping_due)
    }

    fn silence_limit(&self) -> Option<Instant> {
        let judged = self.answers_pings && self.reading && self.writing_since.is_none();
        judged.then(|| self.heard.max(self.listening_since) + self.timings.silence)
    }

    /// A pong may stand behind a long frame, or many; so this is longer while bytes arrive.
    fn unanswered_limit(&self) -> Option<Instant> {
        let judged = self.answers_pings && self.reading;
        let since = self.unanswered.filter(|_| judged)?;
        Some(since.max(self.listening_since) + self.timings.silence * PATIENCE)
    }

    fn stall_limit(&self) -> Option<Instant> {
        self.writing_since
            .map(|since| self.sent.max(since) + self.timings.silence)
    }
}

/// How many times the silence limit pings may stay unanswered while bytes arrive.
const PATIENCE: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> (Liveness, Instant) {
        let now = Instant::now();
        let mut liveness = Liveness::new(Timings::default(), now);
        liveness.on_opened(now);
        (liveness, now)
    }

    /// Lets time pass up to a limit; returns when and why the connection was given up.
    fn run(liveness: &mut Liveness, from: Instant, limit: u64) -> Option<(u64, Need)> {
        while let Some((at, _)) = liveness.deadline() {
            if at > from + Duration::from_secs(limit) {
                return None;
            }
            match liveness.on_timeout(at, 1 << 63) {
                Some(Need::Ping(_)) | None => {}
                Some(need) => return Some((at.duration_since(from).as_secs(), need)),
            }
        }
        None
    }

    const SILENCE: Duration = Duration::from_secs(25);

    #[test]
    fn writes_that_succeed_do_not_hide_that_nothing_is_heard() {
        let (mut liveness, now) = opened();
        assert_eq!(liveness.on_timeout(now, 0), Some(Need::Ping(1)));
        liveness.on_pong(now, 1);
        let second = Duration::from_secs(1);
        // A stream of small messages into a socket whose other end is gone.
        for at in 1..25 {
            liveness.on_write(now + second * at);
            liveness.on_wrote(now + second * at);
            let need = liveness.on_timeout(now + second * at, 1 << 63);
            assert!(
                matches!(need, None | Some(Need::Ping(_))),
                "{at} s: {need:?}"
            );
        }
        let need = liveness.on_timeout(now + SILENCE, 1 << 63);
        assert_eq!(need, Some(Need::GiveUpSilent(SILENCE)));
    }

    #[test]
    fn gives_up_after_25_silent_seconds() {
        let (mut liveness, now) = opened();
        assert_eq!(liveness.on_timeout(now, 0), Some(Need::Ping(1)));
        liveness.on_pong(now + Duration::from_millis(80), 1);
        assert_eq!(liveness.round_trip(), Some(Duration::from_millis(80)));
        assert_eq!(
            run(&mut liveness, now, 100),
            Some((25, Need::GiveUpSilent(SILENCE)))
        );
    }

    #[test]
    fn does_not_judge_a_peer_that_never_answered_a_ping() {
        let (mut liveness, now) = opened();
        assert_eq!(run(&mut liveness, now, 10_000), None);
    }

    #[test]
    fn remembers_over_connections_that_the_peer_answers_pings() {
        let (mut liveness, now) = opened();
        liveness.on_pong(now, 0);
        liveness.on_opened(now);
        assert_eq!(
            run(&mut liveness, now, 100),
            Some((25, Need::GiveUpSilent(SILENCE)))
        );
    }

    #[test]
    fn any_byte_counts_as_life() {
        let (mut liveness, now) = opened();
        liveness.on_pong(now, 0);
        let received = now + Duration::from_secs(20);
        liveness.on_traffic(Traffic {
            received,
            sent: now,
        });
        assert_eq!(
            run(&mut liveness, now, 100),
            Some((45, Need::GiveUpSilent(SILENCE)))
        );
    }

    #[test]
    fn gives_up_a_write_that_moves_no_byte_on_any_peer() {
        let (mut liveness, now) = opened();
        liveness.on_write(now + Duration::from_secs(1));
        assert_eq!(
            run(&mut liveness, now, 100),
            Some((26, Need::GiveUpStalled(SILENCE)))
        );
    }

    #[test]
    fn a_slow_write_that_moves_is_not_silence() {
        let (mut liveness, now) = opened();
        liveness.on_pong(now, 0);
        liveness.on_write(now);
        let after = |secs| now + Duration::from_secs(secs);
        for secs in (10..=200).step_by(10) {
            liveness.on_traffic(Traffic {
                received: now,
                sent: after(secs),
            });
            assert_eq!(liveness.on_timeout(after(secs), 0), None);
        }
        liveness.on_wrote(after(200));
        assert_eq!(liveness.on_timeout(after(200), 0), Some(Need::Ping(1)));
        assert_eq!(
            run(&mut liveness, after(200), 100),
            Some((25, Need::GiveUpSilent(SILENCE)))
        );
    }

    #[test]
    fn not_reading_is_not_the_peers_silence() {
        let (mut liveness, now) = opened();
        liveness.on_pong(now, 0);
        liveness.on_reading(now, false);
        assert_eq!(run(&mut liveness, now, 300), None);
        let later = now + Duration::from_secs(300);
        liveness.on_reading(later, true);
        assert_eq!(
            run(&mut liveness, later, 100),
            Some((25, Need::GiveUpSilent(SILENCE)))
        );
    }

    #[test]
    fn pings_that_stay_unanswered_while_bytes_arrive_end_it_in_three_times_the_limit() {
        let (mut liveness, now) = opened();
        assert_eq!(liveness.on_timeout(now, 0), Some(Need::Ping(1)));
        liveness.on_pong(now, 1);
        let at = |secs| now + Duration::from_secs(secs);
        let mut given_up = None;
        for secs in 1..200 {
            liveness.on_heard(at(secs));
            match liveness.on_timeout(at(secs), 1 << 63) {
                Some(Need::Ping(_)) | None => {}
                Some(need) => given_up = given_up.or(Some((secs, need))),
            }
            assert_eq!(liveness.is_proven(at(secs)), secs < 25, "{secs}");
        }
        // The first ping that was not answered went out after 12 s.
        assert_eq!(given_up, Some((87, Need::GiveUpUnanswered(SILENCE * 3))));
    }

    #[test]
    fn a_pong_that_stood_behind_a_long_frame_is_not_too_late() {
        let (mut liveness, now) = opened();
        assert_eq!(liveness.on_timeout(now, 0), Some(Need::Ping(1)));
        liveness.on_pong(now, 1);
        let at = |secs| now + Duration::from_secs(secs);
        for round in 1..10 {
            for secs in round * 70..(round + 1) * 70 {
                liveness.on_heard(at(secs));
                let need = liveness.on_timeout(at(secs), 1 << 63);
                assert!(
                    matches!(need, None | Some(Need::Ping(_))),
                    "{secs}: {need:?}"
                );
            }
            liveness.on_pong(at((round + 1) * 70), liveness.pings);
        }
    }

    #[test]
    fn a_server_that_answers_no_pings_in_the_place_of_one_that_did_is_found_out() {
        let (mut liveness, now) = opened();
        liveness.on_pong(now, 0);
        liveness.on_opened(now);
        let at = |secs| now + Duration::from_secs(secs);
        let mut secs = 0;
        while !matches!(
            liveness.on_timeout(at(secs), 1 << 63),
            Some(Need::GiveUpUnanswered(_))
        ) {
            secs += 1;
            liveness.on_heard(at(secs));
        }
        liveness.on_opened(at(secs));
        assert_eq!(run(&mut liveness, at(secs), 10_000), None);
        assert!(liveness.is_mute());
    }
}
