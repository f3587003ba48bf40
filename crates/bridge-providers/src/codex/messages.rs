//! The answer as it streams: every text is shown once, although the program sends it twice
//! (increments, then the finished message) and begins again under another id after a lost stream.

use std::collections::VecDeque;

use bridge_proto::{BlockId, Digest, model::RunEvent};

use crate::answer::Answer;

/// The messages of the running turn that are not finished, and which ones are.
#[derive(Debug, Default)]
pub(super) struct Messages {
    open: Vec<Open>,
    finished: VecDeque<String>,
}

#[derive(Debug)]
struct Open {
    id: String,
    block: BlockId,
    /// Its stream was lost; what comes next is the same once more.
    lost: bool,
}

impl Messages {
    /// A message begins.
    pub(super) fn started(&mut self, id: &str, answer: &mut Answer) -> Vec<RunEvent> {
        let mut events = self.withdraw_lost(answer);
        let known = self.open.iter().find(|open| open.id == id);
        match known {
            Some(open) if !answer.says(&open.block, "") => {
                answer.replace(&open.block, "");
                events.push(replaced(&open.block, ""));
            }
            Some(_) => {}
            None => {
                self.finished.retain(|finished| finished != id);
                self.begin(id);
            }
        }
        events
    }

    /// More text of a message.
    pub(super) fn delta(&mut self, id: &str, delta: &str, answer: &mut Answer) -> Vec<RunEvent> {
        if delta.is_empty() || self.finished.iter().any(|finished| finished == id) {
            return Vec::new();
        }
        let mut events = Vec::new();
        if !self.open.iter().any(|open| open.id == id) {
            events = self.withdraw_lost(answer);
            self.begin(id);
        }
        let block = block_id(id);
        answer.append(&block, delta);
        events.push(RunEvent::Text {
            block,
            delta: delta.to_owned(),
        });
        events
    }

    /// A message is finished; this is all of it.
    pub(super) fn finished(&mut self, id: &str, text: &str, answer: &mut Answer) -> Vec<RunEvent> {
        let known = self.open.iter().any(|open| open.id == id);
        let mut events = if known {
            Vec::new()
        } else {
            self.withdraw_lost(answer)
        };
        self.open.retain(|open| open.id != id);
        if self.finished.len() >= MAX_FINISHED {
            self.finished.pop_front();
        }
        self.finished.push_back(id.to_owned());
        let block = block_id(id);
        if answer.says(&block, text) {
            return events;
        }
        let shown = !answer.says(&block, "");
        answer.replace(&block, text);
        events.push(if shown {
            replaced(&block, text)
        } else {
            RunEvent::Text {
                block,
                delta: text.to_owned(),
            }
        });
        events
    }

    /// The stream is lost and begun anew: what is not finished will come again.
    pub(super) fn stream_lost(&mut self) {
        for open in &mut self.open {
            open.lost = true;
        }
    }

    /// The turn is over; what was not finished stays as it was shown.
    pub(super) fn clear(&mut self) {
        self.open.clear();
        self.finished.clear();
    }

    fn begin(&mut self, id: &str) {
        if self.open.len() >= MAX_OPEN {
            self.open.remove(0);
        }
        self.open.push(Open {
            id: id.to_owned(),
            block: block_id(id),
            lost: false,
        });
    }

    fn withdraw_lost(&mut self, answer: &mut Answer) -> Vec<RunEvent> {
        let mut events = Vec::new();
        self.open.retain(|open| {
            if open.lost && !answer.says(&open.block, "") {
                answer.replace(&open.block, "");
                events.push(replaced(&open.block, ""));
            }
            !open.lost
        });
        events
    }
}

fn replaced(block: &BlockId, text: &str) -> RunEvent {
    RunEvent::TextReplaced {
        block: block.clone(),
        text: text.to_owned(),
    }
}

/// An id that cannot be one is replaced by its digest.
fn block_id(id: &str) -> BlockId {
    BlockId::parse(id)
        .or_else(|_| BlockId::parse(Digest::of(&["message", id]).as_str()))
        .expect("a digest is a valid id")
}

/// Most unfinished messages at once.
const MAX_OPEN: usize = 64;
/// Most finished messages that are remembered, so that nothing is appended to them.
const MAX_FINISHED: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Screen {
        messages: Messages,
        answer: Answer,
        events: Vec<RunEvent>,
    }

    impl Screen {
        fn delta(&mut self, id: &str, text: &str) {
            let events = self.messages.delta(id, text, &mut self.answer);
            self.events.extend(events);
        }

        fn finished(&mut self, id: &str, text: &str) {
            let events = self.messages.finished(id, text, &mut self.answer);
            self.events.extend(events);
        }

        fn started(&mut self, id: &str) {
            let events = self.messages.started(id, &mut self.answer);
            self.events.extend(events);
        }

        fn replaced(&self) -> Vec<(&str, &str)> {
            let told = self.events.iter().filter_map(|event| {
                if let RunEvent::TextReplaced { block, text } = event {
                    Some((block.as_str(), text.as_str()))
                } else {
                    None
                }
            });
            told.collect()
        }
    }

    #[test]
    fn a_message_that_was_streamed_is_not_told_again() {
        let mut screen = Screen::default();
        screen.started("m");
        screen.delta("m", "Hel");
        screen.delta("m", "lo");
        screen.finished("m", "Hello");
        screen.delta("m", " late");
        screen.finished("n", "Unstreamed");
        assert_eq!(screen.events.len(), 3);
        assert_eq!(screen.answer.text(), "Hello\nUnstreamed");
    }

    #[test]
    fn text_of_a_lost_stream_is_withdrawn_when_it_comes_under_another_id() {
        let mut screen = Screen::default();
        screen.delta("a", "Hel");
        screen.messages.stream_lost();
        assert!(screen.replaced().is_empty());
        screen.started("b");
        screen.delta("b", "Hello");
        assert_eq!(screen.replaced(), [("a", "")]);
        assert_eq!(screen.answer.text(), "Hello");
    }

    #[test]
    fn text_that_was_cut_by_a_person_stays() {
        let mut screen = Screen::default();
        screen.delta("a", "I was about to");
        screen.delta("b", "Very well.");
        screen.finished("b", "Very well.");
        assert!(screen.replaced().is_empty());
        assert_eq!(screen.answer.text(), "I was about to\nVery well.");
    }

    #[test]
    fn a_message_that_begins_again_under_its_own_id_begins_empty() {
        let mut screen = Screen::default();
        screen.delta("a", "Hel");
        screen.started("a");
        screen.delta("a", "Hello");
        screen.finished("a", "Hello");
        assert_eq!(screen.replaced(), [("a", "")]);
        assert_eq!(screen.answer.text(), "Hello");
    }

    #[test]
    fn ids_that_cannot_be_block_ids_do_no_harm() {
        let mut screen = Screen::default();
        for n in 0..1000 {
            screen.delta(&format!("\n{n}"), "x");
            screen.finished(&"y".repeat(n), "z");
        }
        assert!(screen.messages.open.len() <= MAX_OPEN);
        assert!(screen.messages.finished.len() <= MAX_FINISHED);
    }
}
