//! One turn: its answer text, its blocks, how long it has been silent and how far a cancel got.

use std::time::{Duration, Instant};

use bridge_proto::{BlockId, model::PlanItem};
use serde_json::Value;

use super::quirks::{Beginning, TextQuirks};
use crate::plain::head;

/// A prompt that is being worked on.
#[derive(Debug)]
pub(crate) struct Turn {
    /// The id of the prompt's request.
    pub(crate) request: u64,
    /// When a cancel was asked for, and which step of the ladder comes next.
    pub(crate) cancel: Option<Cancel>,
    /// How often the agent has said that it tries again.
    pub(crate) retries: u32,
    /// The to-do list that was told last.
    pub(crate) plan: Vec<PlanItem>,
    number: u64,
    block: u64,
    break_before_text: bool,
    last_block: Option<BlockId>,
    answer: String,
    /// How the last block begins, and how long it is.
    opening: String,
    block_bytes: usize,
    /// Text comes right behind other text.
    mid_text: bool,
    held: Option<Held>,
    heard: Instant,
    silences: u32,
}

/// A chunk that begins like the words of a failed model call. Whether it is that is only known
/// when the turn ends or goes on.
#[derive(Debug)]
pub(crate) struct Held {
    /// What the agent said.
    pub(crate) delta: String,
    /// Its message.
    pub(crate) update: Value,
    alone: bool,
}

/// The words of a failed model call.
#[derive(Debug, PartialEq)]
pub(crate) enum LastWords {
    /// Nobody has seen them.
    Held(String, Value),
    /// They have been told as this block of the answer.
    Told(String, BlockId),
}

/// How far a cancel got.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cancel {
    asked: Instant,
    next: CancelStep,
}

/// The steps of a cancel, each at its time after the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CancelStep {
    /// Say it again: it does no harm, and one in eight was lost under load.
    Resend,
    /// Close the agent's input.
    CloseInput,
    /// End the process.
    Terminate,
    /// Say that the turn is over even if the process has not ended.
    GiveUp,
    /// Nothing is left to do.
    Done,
}

impl Cancel {
    /// A cancel asked for now.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            asked: now,
            next: CancelStep::Resend,
        }
    }

    /// When the next step is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        let after = match self.next {
            CancelStep::Resend => RESEND_AFTER,
            CancelStep::CloseInput => CLOSE_AFTER,
            CancelStep::Terminate => TERMINATE_AFTER,
            CancelStep::GiveUp => GIVE_UP_AFTER,
            CancelStep::Done => return None,
        };
        Some(self.asked + after)
    }

    /// The step that is due, if one is; each is given once.
    pub(crate) fn step(&mut self, now: Instant) -> Option<CancelStep> {
        if self.due().is_none_or(|due| now < due) {
            return None;
        }
        let step = self.next;
        self.next = match step {
            CancelStep::Resend => CancelStep::CloseInput,
            CancelStep::CloseInput => CancelStep::Terminate,
            CancelStep::Terminate => CancelStep::GiveUp,
            CancelStep::GiveUp | CancelStep::Done => CancelStep::Done,
        };
        Some(step)
    }
}

impl Turn {
    /// Begins the `number`th turn of a conversation.
    pub(crate) fn new(number: u64, request: u64, now: Instant) -> Self {
        Self {
            request,
            cancel: None,
            retries: 0,
            plan: Vec::new(),
            number,
            block: 0,
            break_before_text: true,
            last_block: None,
            answer: String::new(),
            opening: String::new(),
            block_bytes: 0,
            mid_text: false,
            held: None,
            heard: now,
            silences: 0,
        }
    }

    /// Something was heard, or the turn had a reason to be silent until now.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.silences = 0;
    }

    /// When the next silence is to be reported.
    pub(crate) fn silence_due(&self) -> Instant {
        self.heard + SILENCE * (self.silences + 1)
    }

    /// For how long nothing was heard, if that is due to be reported.
    pub(crate) fn silence(&mut self, now: Instant) -> Option<Duration> {
        if now < self.silence_due() {
            return None;
        }
        let silent = now.saturating_duration_since(self.heard);
        self.silences = u32::try_from(silent.as_secs() / SILENCE.as_secs()).unwrap_or(u32::MAX - 1);
        Some(silent)
    }

    /// A tool was called: text that follows is another block.
    pub(crate) fn break_block(&mut self) {
        self.break_before_text = true;
        self.mid_text = false;
    }

    /// Something else than text was said; what follows does not go on with the words before it.
    pub(crate) fn pause_text(&mut self) {
        self.mid_text = false;
    }

    /// Keeps a chunk back if it begins like the words of a failed model call, else gives it back.
    /// What was kept before has to be released first.
    pub(crate) fn hold(
        &mut self,
        quirks: &TextQuirks,
        delta: String,
        update: Value,
    ) -> Option<(String, Value)> {
        if !begins(quirks.failed, &delta) && !begins(quirks.failed_alone, &delta) {
            return Some((delta, update));
        }
        self.held = Some(Held {
            delta,
            update,
            alone: !self.mid_text,
        });
        None
    }

    /// The chunk that was kept back: the turn goes on, so it is text.
    pub(crate) fn release(&mut self) -> Option<Held> {
        self.held.take()
    }

    /// Takes the words of a failed model call out of a turn that has ended as a good one does.
    pub(crate) fn last_words(&mut self, quirks: &TextQuirks, has_usage: bool) -> Option<LastWords> {
        if let Some(held) = self.held.take() {
            if !has_usage || (held.alone && begins(quirks.failed_alone, &held.delta)) {
                return Some(LastWords::Held(held.delta, held.update));
            }
            self.held = Some(held);
            return None;
        }
        let block = self.last_block.clone()?;
        if has_usage || !begins(quirks.failed, &self.opening) {
            return None;
        }
        let start = self.answer.len().saturating_sub(self.block_bytes);
        let start = (start..=self.answer.len()).find(|&at| self.answer.is_char_boundary(at))?;
        let words = self.answer.split_off(start);
        self.answer.truncate(self.answer.trim_end().len());
        self.block_bytes = 0;
        Some(LastWords::Told(words, block))
    }

    /// Adds text to the answer and says to which block it belongs.
    pub(crate) fn text(&mut self, message: Option<&str>, delta: &str) -> Option<BlockId> {
        let named = message.and_then(|id| BlockId::parse(id).ok());
        let block = if let Some(block) = named {
            block
        } else {
            if self.break_before_text {
                self.block += 1;
            }
            BlockId::parse(&format!("t{}-b{}", self.number, self.block)).ok()?
        };
        self.break_before_text = false;
        self.mid_text = true;
        if self.last_block.as_ref() != Some(&block) {
            self.opening.clear();
            self.block_bytes = 0;
            self.part_from_answer(delta);
        }
        self.last_block = Some(block.clone());
        self.block_bytes += delta.len();
        if self.opening.len() < OPENING_BYTES {
            self.opening.push_str(head(delta, OPENING_BYTES));
        }
        self.answer.push_str(delta);
        if self.answer.len() > 2 * ANSWER_BYTES {
            self.shorten();
        }
        Some(block)
    }

    /// The answer; of a huge one the end, where status tags stand.
    pub(crate) fn into_answer(mut self) -> String {
        if self.answer.len() > ANSWER_BYTES {
            self.shorten();
        }
        self.answer
    }

    /// An empty line between what was answered before and another block.
    fn part_from_answer(&mut self, delta: &str) {
        if self.answer.is_empty() {
            return;
        }
        let is_break = |byte: &u8| *byte == b'\n';
        let before = self.answer.bytes().rev().take_while(is_break).count();
        let after = delta.bytes().take_while(is_break).count();
        for _ in before + after..2 {
            self.answer.push('\n');
        }
    }

    fn shorten(&mut self) {
        let from = self.answer.len().saturating_sub(ANSWER_BYTES);
        let from = (from..=self.answer.len()).find(|&at| self.answer.is_char_boundary(at));
        self.answer.drain(..from.unwrap_or(0));
    }
}

fn begins(with: &[Beginning], text: &str) -> bool {
    with.iter().any(|beginning| beginning.fits(text))
}

const RESEND_AFTER: Duration = Duration::from_secs(2);
const CLOSE_AFTER: Duration = Duration::from_secs(5);
/// How long the agent has to end by itself once its input is closed.
pub(crate) const CLOSE_GRACE: Duration = Duration::from_secs(1);
const TERMINATE_AFTER: Duration = Duration::from_secs(6);
/// Between SIGTERM and SIGKILL.
pub(crate) const TERMINATE_GRACE: Duration = Duration::from_secs(2);
/// Below the promise of ten seconds.
const GIVE_UP_AFTER: Duration = Duration::from_millis(9500);
/// Agents retry failed model calls for minutes without a word; a person shall see that.
const SILENCE: Duration = Duration::from_secs(60);
/// Enough to tell by how a text begins what it is.
const OPENING_BYTES: usize = 64;
/// Of the answer as a whole; every piece has been passed on before.
const ANSWER_BYTES: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_after_a_tool_call_is_another_block_and_another_paragraph() {
        let mut turn = Turn::new(3, 0, Instant::now());
        let first = turn.text(None, "I will").unwrap();
        assert_eq!(turn.text(None, " look.").unwrap(), first);
        turn.break_block();
        let second = turn.text(None, "Done.").unwrap();
        assert_eq!((first.as_str(), second.as_str()), ("t3-b1", "t3-b2"));
        assert_eq!(turn.text(Some("msg_1"), "!").unwrap().as_str(), "msg_1");
        assert_eq!(turn.into_answer(), "I will look.\n\nDone.\n\n!");
    }

    #[test]
    fn paragraphs_are_parted_by_one_empty_line_whoever_puts_it_there() {
        for (first, second) in [("a", "b"), ("a\n", "b"), ("a", "\nb"), ("a", "\n\nb")] {
            let mut turn = Turn::new(1, 0, Instant::now());
            turn.text(None, first);
            turn.break_block();
            turn.text(None, second);
            assert_eq!(turn.into_answer(), "a\n\nb", "{first:?} {second:?}");
        }
    }

    #[test]
    fn words_of_a_failure_that_were_told_in_pieces_are_taken_back() {
        let quirks = TextQuirks {
            failed: &[Beginning::Status("HTTP ")],
            ..TextQuirks::default()
        };
        let mut turn = Turn::new(1, 0, Instant::now());
        turn.text(None, "Calling.");
        turn.break_block();
        for piece in ["\n\nHTTP", " 4", "01: no"] {
            turn.text(None, piece);
        }
        assert_eq!(turn.last_words(&quirks, true), None);
        let block = BlockId::parse("t1-b2").unwrap();
        let words = LastWords::Told("\n\nHTTP 401: no".into(), block);
        assert_eq!(turn.last_words(&quirks, false), Some(words));
        assert_eq!(turn.into_answer(), "Calling.");
    }

    #[test]
    fn a_huge_answer_keeps_its_end_within_the_limit() {
        let mut turn = Turn::new(1, 0, Instant::now());
        for _ in 0..3 * ANSWER_BYTES / 1000 {
            turn.text(None, &"ä".repeat(500));
        }
        turn.text(None, "STATUS");
        let answer = turn.into_answer();
        assert!(answer.len() <= ANSWER_BYTES);
        assert!(answer.ends_with("STATUS"));
    }

    #[test]
    fn silence_is_reported_once_a_minute_and_starts_anew_when_something_is_heard() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut turn = Turn::new(1, 0, start);
        assert_eq!(turn.silence(at(59)), None);
        assert_eq!(turn.silence(at(60)), Some(Duration::from_secs(60)));
        assert_eq!(turn.silence(at(61)), None);
        assert_eq!(turn.silence(at(200)), Some(Duration::from_secs(200)));
        assert_eq!(turn.silence_due(), at(240));
        turn.heard(at(210));
        assert_eq!(turn.silence_due(), at(270));
    }

    #[test]
    fn the_cancel_ladder_is_climbed_step_by_step_within_ten_seconds() {
        let start = Instant::now();
        let mut cancel = Cancel::new(start);
        let mut steps = Vec::new();
        while let Some(due) = cancel.due() {
            assert!(due <= start + Duration::from_secs(10));
            assert_eq!(
                cancel.step(due.checked_sub(Duration::from_millis(1)).unwrap()),
                None
            );
            steps.push(cancel.step(due).unwrap());
        }
        assert_eq!(
            steps,
            [
                CancelStep::Resend,
                CancelStep::CloseInput,
                CancelStep::Terminate,
                CancelStep::GiveUp
            ]
        );
    }
}
