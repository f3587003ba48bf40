//! The sending half: numbers, keeps until acknowledged, sends again.
//!
//! Invariant: a number is given once; a message is let go only when its number or a higher one was
//! acknowledged, or when it arrived another way ([lent], or given up); of two messages of one stream
//! the later one is never begun before the earlier one has gone out whole; nothing goes out that is to
//! be written down and is not, and nothing that is not here before what is.

mod lent;

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::{
    Epoch, Frame, Gap, Key, PART_BYTES, Part, Violation, WINDOW,
    frame::{cut, is_reserved, numbered},
};

/// The sending half of one direction; `P` is what it keeps of a message to send it again.
#[derive(Debug)]
pub struct Writer<P> {
    epoch: Epoch,
    /// The number the next message gets.
    next: u64,
    /// Everything up to this number is acknowledged.
    acked: u64,
    /// By rising numbers; one that is not among them will never come.
    unacked: VecDeque<Taken<P>>,
    /// Numbers whose messages are on their way to a peer that knows none.
    lent: BTreeSet<u64>,
    /// What is held: messages until they are acknowledged, large ones without a number until they
    /// are out.
    bytes: usize,
    /// The last number that is written down, where none may go out before it is.
    stored: Option<u64>,
    /// From this number on messages are where they are written down, and not here.
    elsewhere: Option<u64>,
    /// The longest text of one part, and of a message that goes whole.
    part_bytes: usize,
    line: Option<Line>,
}

/// A message with its number, as a writer keeps it and takes it back.
#[derive(Debug)]
pub struct Taken<P> {
    /// Its number.
    pub seq: u64,
    /// What is kept of it.
    pub payload: P,
    /// Its stream.
    pub stream: u64,
    /// What it counts for.
    pub size: usize,
}

/// What belongs to the connection.
#[derive(Debug, Default)]
struct Line {
    resumed: bool,
    control: VecDeque<String>,
    /// The lowest number that was not looked at yet.
    cursor: u64,
    /// Numbers below the cursor that may go now.
    ready: VecDeque<u64>,
    /// Numbers below the cursor that wait for the large message of their stream.
    held: HashMap<u64, VecDeque<u64>>,
    /// On the way in parts, in turns.
    large: VecDeque<Large>,
    last_bare: u64,
}

#[derive(Debug)]
struct Large {
    key: Key,
    stream: Option<u64>,
    text: String,
    /// How much of it is out, in how many parts.
    sent: usize,
    parts: u32,
}

impl<P> Writer<P> {
    /// Starts a numbering.
    pub fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            next: 1,
            acked: 0,
            unacked: VecDeque::new(),
            lent: BTreeSet::new(),
            bytes: 0,
            stored: None,
            elsewhere: None,
            part_bytes: PART_BYTES,
            line: None,
        }
    }

    /// Goes on with a numbering that is written down: what was not acknowledged has the numbers from
    /// `first` on, by rising ones, and the next message gets `next`. Of the numbers in between that
    /// have no message the reader is told a gap.
    ///
    /// What is [kept](Self::keep) or [left](Self::leave) from now on goes out when it
    /// [is stored](Self::on_stored).
    pub fn restored(
        epoch: Epoch,
        first: u64,
        next: u64,
        messages: impl IntoIterator<Item = Taken<P>>,
    ) -> Self {
        Self::restored_in_part(epoch, first, next, next, messages)
    }

    /// As [`restored`](Self::restored) with the messages before `upto`; the rest is given when it is
    /// [wanted](Self::wants).
    pub fn restored_in_part(
        epoch: Epoch,
        first: u64,
        upto: u64,
        next: u64,
        messages: impl IntoIterator<Item = Taken<P>>,
    ) -> Self {
        let mut writer = Self {
            next,
            acked: first - 1,
            stored: Some(next - 1),
            elsewhere: Some(first),
            ..Self::new(epoch)
        };
        writer.on_read(first, upto, messages);
        writer
    }

    /// The name of the numbering.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Returns the bytes it holds, as they were named when it was given them.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns how many messages are not acknowledged; what is missing among those that are not
    /// here counts.
    pub fn len(&self) -> usize {
        let elsewhere = self.elsewhere.map_or(0, |from| self.next - from);
        let elsewhere = usize::try_from(elsewhere).unwrap_or(usize::MAX);
        self.unacked.len().saturating_add(elsewhere)
    }

    /// Tells whether everything is acknowledged, and nothing large without a number under way.
    pub fn is_empty(&self) -> bool {
        let large = self
            .line
            .as_ref()
            .is_some_and(|line| !line.large.is_empty());
        self.unacked.is_empty() && self.is_all_here() && !large
    }

    /// Tells whether everything that is not acknowledged is here.
    pub fn is_all_here(&self) -> bool {
        self.elsewhere.is_none()
    }

    /// A connection with the envelope is up. Nothing with a number goes out before its resume.
    pub fn on_opened(&mut self) {
        self.on_closed();
        self.line = Some(Line::default());
    }

    /// The connection is gone; what has no number and was not out dies with it.
    pub fn on_closed(&mut self) {
        let Some(line) = self.line.take() else {
            return;
        };
        for large in line.large {
            if matches!(large.key, Key::Bare(_)) {
                self.bytes -= large.text.len();
            }
        }
    }

    /// Something on the way takes no frames as long as these: from now on parts are half as long, down
    /// to a limit, and what is longer than one goes in parts.
    pub fn narrow(&mut self) {
        self.part_bytes = (self.part_bytes / 2).max(LEAST_PART);
    }

    /// The reader says where to go on. Everything after that is sent again.
    ///
    /// Gives what was acknowledged before and is not known to this reader: it knows another
    /// numbering, or none.
    ///
    /// # Errors
    /// Fails for a second resume of one connection and for a number that was never given.
    pub fn on_resume(&mut self, epoch: Option<Epoch>, last: u64) -> Result<Option<Gap>, Violation> {
        let turn = Violation::OutOfTurn { what: "resume" };
        if self.line.as_ref().is_none_or(|line| line.resumed) {
            return Err(turn);
        }
        let known = epoch == Some(self.epoch);
        if known {
            self.acknowledge(last)?;
        }
        let first = self.first();
        let gap = (!known && first > 1).then(|| Gap {
            epoch: self.epoch,
            from: 1,
            to: first - 1,
            why: "acknowledged or let go before, and the other end does not know them".to_owned(),
        });
        let begin = Frame::Begin {
            epoch: self.epoch,
            next: first,
        };
        if let Some(line) = &mut self.line {
            line.resumed = true;
            line.cursor = first;
            line.control.push_back(begin.text());
        }
        Ok(gap)
    }

    /// Counts on under another name, because the reader has messages under this one that this side
    /// does not know of: its disk was set back. To that reader it is a new numbering.
    pub fn rename(&mut self, epoch: Epoch) {
        self.epoch = epoch;
    }

    /// The reader has stored everything up to this number.
    ///
    /// # Errors
    /// Fails before the resume and for a number that was never given.
    pub fn on_ack(&mut self, seq: u64) -> Result<(), Violation> {
        if self.line.as_ref().is_none_or(|line| !line.resumed) {
            return Err(Violation::OutOfTurn { what: "ack" });
        }
        self.acknowledge(seq)
    }

    fn acknowledge(&mut self, seq: u64) -> Result<(), Violation> {
        let last = self.next - 1;
        if seq > last {
            return Err(Violation::NeverSent { seq, last });
        }
        self.let_acknowledged_go(seq);
        Ok(())
    }

    fn let_acknowledged_go(&mut self, seq: u64) {
        while self
            .unacked
            .front()
            .is_some_and(|unacked| unacked.seq <= seq)
            && let Some(unacked) = self.unacked.pop_front()
        {
            self.bytes -= unacked.size;
        }
        self.acked = self.acked.max(seq);
        let first = self.first();
        self.elsewhere = self.elsewhere.map(|from| from.max(first));
        self.elsewhere.take_if(|from| *from == self.next);
        if let Some(line) = &mut self.line {
            line.forget_below(first);
        }
    }

    /// The lowest number that is not acknowledged; the next one to be given when all are.
    pub fn first(&self) -> u64 {
        self.acked + 1
    }

    /// Tells whether the reader of this connection has said where to go on.
    pub fn is_resumed(&self) -> bool {
        self.line.as_ref().is_some_and(|line| line.resumed)
    }

    /// Tells whether new messages may be numbered: what came before them is on its way.
    pub fn is_caught_up(&self) -> bool {
        let Some(line) = &self.line else { return false };
        line.resumed
            && line.control.is_empty()
            && line.ready.is_empty()
            && line.cursor == self.next
            && self.next - self.acked <= WINDOW
    }

    /// Gives a message its number. `messages` [writes its list of texts](super::write_list), `size`
    /// is what it counts for here.
    ///
    /// Returns its frame, unless it goes in parts or waits for those of its stream. Only when
    /// [caught up](Self::is_caught_up).
    pub fn number(
        &mut self,
        payload: P,
        stream: u64,
        size: usize,
        messages: impl FnOnce(&mut String),
    ) -> Option<String> {
        let seq = self.keep(payload, stream, size);
        let line = self.line.as_mut()?;
        line.cursor = self.next;
        line.start(seq, stream, size, self.part_bytes, messages)
    }

    /// Gives a message its number; [`next_frame`](Self::next_frame) sends it when its turn comes.
    pub fn keep(&mut self, payload: P, stream: u64, size: usize) -> u64 {
        let seq = self.next;
        self.next += 1;
        self.bytes += size;
        self.unacked.push_back(Taken {
            seq,
            payload,
            stream,
            size,
        });
        seq
    }

    /// Gives a message its number that is written down and not held here, because enough is; those
    /// behind it are [left](Self::leave) too until it was [read](Self::on_read).
    pub fn leave(&mut self) -> u64 {
        let seq = self.next;
        self.next += 1;
        self.elsewhere.get_or_insert(seq);
        seq
    }

    /// The numbers of what is written down, not here, and next.
    pub fn wants(&self) -> Option<(u64, u64)> {
        let from = self.elsewhere?;
        let upto = self.stored.map_or(self.next, |stored| stored + 1);
        (from < upto).then_some((from, upto))
    }

    /// What was [left](Self::leave) is here, from a number on and before another; those of them that
    /// have no message are missing where they were written down.
    pub fn on_read(&mut self, from: u64, upto: u64, messages: impl IntoIterator<Item = Taken<P>>) {
        // What was acknowledged meanwhile is not needed any more.
        let Some(expected) = self.elsewhere.filter(|it| from <= *it && *it <= upto) else {
            return;
        };
        for message in messages {
            if (expected..upto).contains(&message.seq) {
                self.bytes += message.size;
                self.unacked.push_back(message);
            }
        }
        self.elsewhere = Some(upto).filter(|upto| *upto < self.next);
    }

    /// Everything up to this number is written down.
    pub fn on_stored(&mut self, upto: u64) {
        self.stored = self.stored.map(|stored| stored.max(upto));
    }

    /// Takes a text without a number that cannot go as it is, because it is too long for one frame or
    /// would be taken for one of the envelope; it goes in parts.
    ///
    /// Tells whether it did.
    pub fn bare(&mut self, text: &str) -> bool {
        let Some(line) = &mut self.line else {
            return false;
        };
        if text.len() <= self.part_bytes && !is_reserved(text) {
            return false;
        }
        self.bytes += text.len();
        line.last_bare += 1;
        line.large.push_back(Large {
            key: Key::Bare(line.last_bare),
            stream: None,
            text: text.to_owned(),
            sent: 0,
            parts: 0,
        });
        true
    }

    /// The next frame that goes before anything new: what the envelope has to say, and what has to
    /// be sent again. `seal` [writes the list of texts](super::write_list) of a message, the same
    /// each time.
    pub fn next_frame(&mut self, mut seal: impl FnMut(&P, &mut String)) -> Option<String> {
        let first = self.first();
        let end = self.next.min(first + WINDOW);
        let end = self.stored.map_or(end, |stored| end.min(stored + 1));
        let here = self.elsewhere.unwrap_or(self.next);
        let end = end.min(here);
        loop {
            let line = self.line.as_mut()?;
            if let Some(control) = line.control.pop_front() {
                return Some(control);
            }
            if !line.resumed {
                return None;
            }
            let within = line.cursor < end;
            let seq = match line.ready.pop_front() {
                Some(seq) => seq,
                None if within => {
                    line.cursor += 1;
                    line.cursor - 1
                }
                None => return None,
            };
            let message = self.unacked.get(index(&self.unacked, seq));
            let Some(message) = message.filter(|message| message.seq == seq) else {
                // What is on its way in parts lies before it, and would be passed over with it.
                if !line.large.is_empty() {
                    line.ready.push_front(seq);
                    return None;
                }
                let to = message.map_or(here, |later| later.seq) - 1;
                line.cursor = line.cursor.max(to + 1);
                let why = MISSING.into();
                return Some(Frame::Gap { to, why }.text());
            };
            let messages = |text: &mut String| seal(&message.payload, text);
            let (stream, size) = (message.stream, message.size);
            if let Some(frame) = line.start(seq, stream, size, self.part_bytes, messages) {
                return Some(frame);
            }
        }
    }

    /// Tells whether something large is on its way in parts.
    pub fn has_parts(&self) -> bool {
        self.line
            .as_ref()
            .is_some_and(|line| !line.large.is_empty())
    }

    /// The next part of a large message, in turns.
    pub fn next_part(&mut self) -> Option<String> {
        let line = self.line.as_mut()?;
        let mut large = line.large.pop_front()?;
        let to = cut(&large.text, large.sent, self.part_bytes);
        let more = to < large.text.len();
        let part = Frame::Part(Part {
            of: large.key,
            part: large.parts,
            more,
            text: large.text.get(large.sent..to).unwrap_or_default().into(),
        });
        let frame = part.text();
        (large.sent, large.parts) = (to, large.parts + 1);
        if more {
            let turn = line.turns(&large);
            line.large.insert(turn, large);
        } else {
            match large.stream {
                Some(stream) => line.release(stream),
                None => self.bytes -= large.text.len(),
            }
        }
        Some(frame)
    }

    /// Lets go of everything up to a number, which has waited for too long, and says what that is.
    /// Without a connection only; the next reader is told to begin behind it.
    pub fn let_go(&mut self, upto: u64, why: &str) -> Option<Gap> {
        let (from, to) = (self.first(), upto.min(self.next - 1));
        if self.line.is_some() || !self.lent.is_empty() || to < from {
            return None;
        }
        self.let_acknowledged_go(to);
        let (epoch, why) = (self.epoch, why.to_owned());
        Some(Gap {
            epoch,
            from,
            to,
            why,
        })
    }

    /// Gives up everything that has a number, oldest first, to be sent another way. The numbers
    /// are a gap to a reader of this stream that comes later.
    pub fn give_up(&mut self) -> Vec<P> {
        self.on_closed();
        self.bytes = 0;
        self.acked = self.elsewhere.unwrap_or(self.next) - 1;
        let unacked = std::mem::take(&mut self.unacked);
        unacked.into_iter().map(|it| it.payload).collect()
    }
}

impl Line {
    /// Begins a message: its frame, or `None` where it goes in parts or has to wait for some.
    fn start(
        &mut self,
        seq: u64,
        stream: u64,
        size: usize,
        limit: usize,
        messages: impl FnOnce(&mut String),
    ) -> Option<String> {
        if !self.held.is_empty()
            && let Some(held) = self.held.get_mut(&stream)
        {
            held.push_back(seq);
            return None;
        }
        // A list of one text is longer by its brackets.
        let messages = match numbered(seq, size + 2, limit, messages) {
            Ok(frame) => return Some(frame),
            Err(too_long) => too_long,
        };
        self.held.insert(stream, VecDeque::new());
        self.large.push_back(Large {
            key: Key::Seq(seq),
            stream: Some(stream),
            text: messages,
            sent: 0,
            parts: 0,
        });
        None
    }

    /// Where the large message that has just sent a part queues again. Those beyond are not begun:
    /// the reader has to hold all that are.
    fn turns(&self, mine: &Large) -> usize {
        let mut bytes = mine.text.len();
        let fits = self.large.iter().take(TURNS - 1).take_while(|other| {
            bytes += other.text.len();
            bytes <= OPEN_BYTES
        });
        fits.count()
    }

    /// The large message of a stream is out: what waited for it goes on, in its order.
    fn release(&mut self, stream: u64) {
        let held = self.held.remove(&stream).unwrap_or_default();
        self.ready.extend(held);
    }

    /// Numbers that are acknowledged are not sent any more.
    fn forget_below(&mut self, first: u64) {
        self.ready.retain(|seq| *seq >= first);
        for held in self.held.values_mut() {
            held.retain(|seq| *seq >= first);
        }
        self.cursor = self.cursor.max(first);
    }
}

/// Where the first message from a number on is. Nearly always none is missing before it.
fn index<P>(unacked: &VecDeque<Taken<P>>, seq: u64) -> usize {
    let first = unacked.front().map_or(seq, |first| first.seq);
    let dense = usize::try_from(seq.saturating_sub(first)).unwrap_or(usize::MAX);
    if unacked.get(dense).is_some_and(|it| it.seq == seq) {
        return dense;
    }
    unacked.partition_point(|unacked| unacked.seq < seq)
}

const MISSING: &str = "not on the disk of the sender any more";
/// No part is made shorter than this.
const LEAST_PART: usize = 4 << 10;
/// How many large messages are on their way at a time.
const TURNS: usize = 8;
/// What they may hold together, unless there is only one.
const OPEN_BYTES: usize = 16 << 20;
