//! One turn: the run that works for it, and everything that decides when and how it is over.

use std::time::{Duration, Instant};

use bridge_proto::model::Outcome;

use super::{outcome::Ledger, texts::Texts, tools::Tools};

/// A prompt that is being worked on.
#[derive(Debug)]
pub(super) struct Turn {
    /// The run's name, which is the key our message was sent with.
    pub(super) run: String,
    /// The message as it was sent, for the case that it never arrived.
    pub(super) message: String,
    /// The gateway has confirmed the message.
    pub(super) accepted: bool,
    /// The run has really begun; an abort before that is told differently.
    pub(super) begun: bool,
    /// The highest number of an event of the run.
    seq: Option<u64>,
    pub(super) texts: Texts,
    pub(super) tools: Tools,
    pub(super) ledger: Ledger,
    pub(super) stopping: Option<Stopping>,
    /// How it is over unless something better is said until then.
    pub(super) verdict: Option<Verdict>,
    heard: Instant,
    silences: u32,
}

/// The run was asked to stop, and the turn ends as cancelled whatever the run says. The driver sees
/// to it that this does not take too long.
#[derive(Debug)]
pub(super) struct Stopping {
    pub(super) asked: Instant,
    /// It was said twice: that does no harm, and the first may have been lost with a connection.
    pub(super) again: bool,
}

/// An end that was told by less than the one event that settles a run.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) at: Instant,
    pub(super) outcome: Outcome,
}

impl Turn {
    pub(super) fn new(run: String, message: String, root: Option<String>, now: Instant) -> Self {
        Self {
            run,
            message,
            accepted: false,
            begun: false,
            seq: None,
            texts: Texts::default(),
            tools: Tools::in_folder(root),
            ledger: Ledger::default(),
            stopping: None,
            verdict: None,
            heard: now,
            silences: 0,
        }
    }

    /// Whether an event with this number is news. After a reconnect old ones come again.
    pub(super) fn is_news(&mut self, seq: Option<u64>) -> bool {
        if let (Some(seq), Some(last)) = (seq, self.seq)
            && seq <= last
        {
            return false;
        }
        self.seq = seq.or(self.seq);
        true
    }

    /// The run goes on under another name, and counts from the beginning.
    pub(super) fn adopt(&mut self, run: String) {
        self.run = run;
        self.seq = None;
        self.begun = false;
    }

    /// Something was heard of the run, or of the person it waits for.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.silences = 0;
    }

    pub(super) fn silence_due(&self) -> Instant {
        self.heard + SILENCE * (self.silences + 1)
    }

    /// For how many seconds nothing was heard, if that is due to be told.
    pub(super) fn silence(&mut self, now: Instant) -> Option<u64> {
        if now < self.silence_due() {
            return None;
        }
        let seconds = now.saturating_duration_since(self.heard).as_secs();
        let told = seconds / SILENCE.as_secs();
        self.silences = u32::try_from(told).unwrap_or(u32::MAX - 1);
        Some(seconds)
    }

    /// When something has to happen although nothing is said.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let stopping = self.stopping.as_ref().and_then(Stopping::due);
        let verdict = self.verdict.as_ref().map(|verdict| verdict.at);
        [stopping, verdict].into_iter().flatten().min()
    }
}

impl Stopping {
    /// When it is said again.
    pub(super) fn due(&self) -> Option<Instant> {
        (!self.again).then(|| self.asked + AGAIN)
    }
}

/// Silence is told this often.
const SILENCE: Duration = Duration::from_secs(60);
/// An abort is answered in milliseconds.
const AGAIN: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_come_again_are_no_news() {
        let now = Instant::now();
        let mut turn = Turn::new("r".into(), "m".into(), None, now);
        assert!(turn.is_news(Some(1)) && turn.is_news(Some(3)) && turn.is_news(None));
        assert!(!turn.is_news(Some(3)) && !turn.is_news(Some(2)));
        turn.adopt("r2".into());
        assert!(turn.is_news(Some(1)));
    }

    #[test]
    fn silence_is_told_once_a_minute() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut turn = Turn::new("r".into(), "m".into(), None, start);
        assert_eq!(turn.silence(at(59)), None);
        assert_eq!(turn.silence(at(61)), Some(61));
        assert_eq!(turn.silence(at(62)), None);
        assert_eq!(turn.silence_due(), at(120));
        turn.heard(at(90));
        assert_eq!(turn.silence_due(), at(150));
    }
}
