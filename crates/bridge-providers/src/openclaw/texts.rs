//! The answer of one turn, item by item. The gateway sends the whole text of an item each time;
//! what is shown is the difference, and every text is shown once.

use bridge_proto::{BlockId, model::RunEvent};

use crate::plain::tail;

/// What the turn has said so far. Keeps the newest [`LIMIT`] bytes.
#[derive(Debug, Default)]
pub(super) struct Texts {
    items: Vec<Item>,
    weight: usize,
    /// Items made so far, for those without a usable name.
    made: u64,
    /// Something else happened since the last text: the next text without a name is another item.
    broken: bool,
}

#[derive(Debug)]
struct Item {
    name: String,
    block: BlockId,
    /// The kept end of the text.
    text: String,
    /// Length of the whole text.
    whole: usize,
}

impl Texts {
    /// The whole text of an item as it is now; `replaces` when it need not begin with what was
    /// shown.
    pub(super) fn set(&mut self, name: &str, text: &str, replaces: bool) -> Option<RunEvent> {
        if !self.items.iter().any(|item| item.name == name) {
            if text.is_empty() {
                return None;
            }
            self.add(name);
        }
        let item = self.items.iter_mut().rev().find(|item| item.name == name)?;
        self.broken = false;
        let more = item.beyond(text).map(str::to_owned);
        let event = match more {
            Some(more) if more.is_empty() => return None,
            Some(more) if !(replaces && item.whole > 0 && more.len() == text.len()) => {
                item.text.push_str(&more);
                item.whole = text.len();
                self.weight += more.len();
                RunEvent::Text {
                    block: item.block.clone(),
                    delta: more,
                }
            }
            // Shorter than what was shown and not meant as a replacement: an older message.
            None if !replaces && item.whole > text.len() && item.text.starts_with(text) => {
                return None;
            }
            Some(_) | None => {
                self.weight = self.weight - item.text.len() + text.len();
                text.clone_into(&mut item.text);
                item.whole = text.len();
                RunEvent::TextReplaced {
                    block: item.block.clone(),
                    text: text.to_owned(),
                }
            }
        };
        self.trim();
        Some(event)
    }

    /// What the model said before it called a tool. Usually it was streamed; when it came too
    /// fast for that, it is told only here.
    pub(super) fn preamble(&mut self, name: &str, text: &str) -> Option<RunEvent> {
        let text = text.trim();
        let known = self.last_unbroken().map(|item| item.text.trim());
        if text.is_empty() || known.is_some_and(|known| known.ends_with(text)) {
            return None;
        }
        match self.last_unbroken() {
            Some(item) if item.beyond(text).is_some() => {
                let name = item.name.clone();
                self.set(&name, text, false)
            }
            Some(_) | None => self.set(name, text, false),
        }
    }

    /// The text of the whole turn as the gateway keeps it for those who come late: what is missing
    /// here is added.
    pub(super) fn catch_up(&mut self, whole: &str) -> Option<RunEvent> {
        let shown = self.answer();
        let rest = whole.strip_prefix(shown.as_str())?;
        match self.last_unbroken() {
            Some(item) if !rest.starts_with(BREAK) => {
                let (name, text) = (item.name.clone(), format!("{}{rest}", item.text));
                self.set(&name, &text, false)
            }
            Some(_) | None => {
                let text = rest.trim_start_matches('\n');
                let name = format!("caught-up-{}", self.made);
                self.set(&name, text, false)
            }
        }
    }

    /// The last message of the turn as the gateway gives it at the end: shown if it was not.
    pub(super) fn closing(&mut self, text: &str) -> Option<RunEvent> {
        let text = text.trim();
        if text.is_empty() || self.items.iter().any(|item| item.text.trim() == text) {
            return None;
        }
        match self.items.last() {
            Some(item) if item.beyond(text).is_some() => {
                let name = item.name.clone();
                self.set(&name, text, false)
            }
            Some(item) if item.text.trim().ends_with(text) => None,
            Some(_) | None => self.set("closing", text, false),
        }
    }

    /// A tool was called or a thought came: what follows is another item.
    pub(super) fn part(&mut self) {
        self.broken = true;
    }

    /// The items that have text, as paragraphs.
    pub(super) fn answer(&self) -> String {
        let texts: Vec<&str> = self
            .items
            .iter()
            .filter(|item| !item.text.is_empty())
            .map(|item| item.text.as_str())
            .collect();
        texts.join(BREAK)
    }

    fn last_unbroken(&self) -> Option<&Item> {
        self.items.last().filter(|_| !self.broken)
    }

    fn add(&mut self, name: &str) {
        self.made += 1;
        let made = self.made;
        let block = BlockId::parse(name)
            .or_else(|_| BlockId::parse(&format!("item-{made}")))
            .expect("a word and a number are a valid id");
        self.weight += ITEM;
        self.items.push(Item {
            name: name.to_owned(),
            block,
            text: String::new(),
            whole: 0,
        });
    }

    fn trim(&mut self) {
        if self.weight <= LIMIT && self.items.len() <= MAX_ITEMS {
            return;
        }
        while self.items.len() > 1 && (self.weight > KEEP || self.items.len() > MAX_ITEMS) {
            let gone = self.items.remove(0);
            self.weight -= gone.text.len() + ITEM;
        }
        if self.weight > KEEP
            && let Some(item) = self.items.first_mut()
        {
            item.text = tail(&item.text, KEEP - ITEM).to_owned();
            self.weight = item.text.len() + ITEM;
        }
    }
}

impl Item {
    /// What a whole text has beyond what was shown; `None` when it does not begin with that.
    fn beyond<'a>(&self, text: &'a str) -> Option<&'a str> {
        let (shown, more) = text.split_at_checked(self.whole)?;
        shown.ends_with(&self.text).then_some(more)
    }
}

/// Between two items of an answer; the gateway writes it the same way.
const BREAK: &str = "\n\n";
/// Most bytes of one turn's answer; what is older goes first, because status tags stand at the end.
const LIMIT: usize = 4 << 20;
/// Left after trimming, so that a long text is not copied for every increment.
const KEEP: usize = 3 << 20;
/// What an item costs beside its text.
const ITEM: usize = 128;
/// Most items told apart.
const MAX_ITEMS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn more(block: &str, delta: &str) -> RunEvent {
        RunEvent::Text {
            block: BlockId::parse(block).unwrap(),
            delta: delta.into(),
        }
    }

    fn instead(block: &str, text: &str) -> RunEvent {
        RunEvent::TextReplaced {
            block: BlockId::parse(block).unwrap(),
            text: text.into(),
        }
    }

    #[test]
    fn only_the_difference_of_a_growing_text_is_shown() {
        let mut texts = Texts::default();
        assert_eq!(texts.set("a:1", "the", false), Some(more("a:1", "the")));
        assert_eq!(
            texts.set("a:1", "the fox", false),
            Some(more("a:1", " fox"))
        );
        assert_eq!(texts.set("a:1", "the fox", false), None, "said twice");
        assert_eq!(texts.set("a:1", "the", false), None, "an older message");
        texts.part();
        assert_eq!(texts.set("a:2", "Done.", false), Some(more("a:2", "Done.")));
        assert_eq!(texts.answer(), "the fox\n\nDone.");
    }

    #[test]
    fn a_replacement_withdraws_what_was_shown() {
        let mut texts = Texts::default();
        assert_eq!(texts.set("a", "", true), None, "nothing was shown");
        texts.set("a", "half an ans", false);
        assert_eq!(texts.set("a", "", true), Some(instead("a", "")));
        assert_eq!(texts.answer(), "");
        assert_eq!(texts.set("a", "again", false), Some(more("a", "again")));
        assert_eq!(texts.set("a", "other", false), Some(instead("a", "other")));
        assert_eq!(texts.set("a", "other text", true), Some(more("a", " text")));
    }

    #[test]
    fn a_preamble_is_shown_only_if_it_was_not_streamed() {
        let mut texts = Texts::default();
        texts.set("a:1", "Calling a tool.", false);
        assert_eq!(texts.preamble("c-1", "Calling a tool."), None);
        assert_eq!(
            texts.preamble("c-1", "Calling a tool. Now."),
            Some(more("a:1", " Now."))
        );
        texts.part();
        assert_eq!(
            texts.preamble("c-2", "I will look."),
            Some(more("c-2", "I will look."))
        );
        assert_eq!(texts.preamble("c-2", " I will look. "), None);
    }

    #[test]
    fn what_was_missed_is_added_once() {
        let mut texts = Texts::default();
        texts.set("a:1", "one", false);
        assert_eq!(texts.catch_up("one two"), Some(more("a:1", " two")));
        assert_eq!(texts.catch_up("one two"), None);
        assert_eq!(
            texts.set("a:1", "one two three", false),
            Some(more("a:1", " three"))
        );
        assert_eq!(
            texts.catch_up("one two three\n\nfour"),
            Some(more("caught-up-1", "four"))
        );
        assert_eq!(texts.catch_up("something else"), None);
        assert_eq!(texts.answer(), "one two three\n\nfour");
    }

    #[test]
    fn the_last_message_is_completed_and_never_repeated() {
        let mut texts = Texts::default();
        texts.set("a:1", "Step 1.", false);
        texts.set("a:2", "Tool said", false);
        assert_eq!(
            texts.closing("Tool said: done"),
            Some(more("a:2", ": done"))
        );
        assert_eq!(texts.closing("Tool said: done"), None);
        assert_eq!(texts.closing("Step 1."), None);
        let mut nothing = Texts::default();
        assert_eq!(nothing.closing("Hello"), Some(more("closing", "Hello")));
    }

    #[test]
    fn an_endless_answer_keeps_its_end() {
        let mut texts = Texts::default();
        let mut text = String::new();
        for _ in 0..80 {
            text.push_str(&"x".repeat(1 << 16));
            texts.set("a", &text, false);
        }
        text.push_str("the end");
        assert_eq!(texts.set("a", &text, false), Some(more("a", "the end")));
        let answer = texts.answer();
        assert!(answer.len() <= LIMIT && answer.ends_with("the end"));
        for n in 0..5000 {
            texts.set(&format!("b{n}"), "y", false);
        }
        assert!(texts.items.len() <= MAX_ITEMS && texts.answer().ends_with("y\n\ny"));
    }
}
