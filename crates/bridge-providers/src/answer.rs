//! The answer text of one turn, block by block, bounded.

use bridge_proto::BlockId;

use crate::plain::tail;

/// What the turn has said so far. Keeps the newest [`LIMIT`] bytes.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    entries: Vec<Entry>,
    weight: usize,
}

#[derive(Debug)]
struct Entry {
    block: BlockId,
    /// The kept end of the text.
    text: String,
    /// Length of the whole text.
    whole: usize,
}

impl Answer {
    /// Appends to a block, which is made if need be.
    pub(crate) fn append(&mut self, block: &BlockId, delta: &str) {
        self.weight += delta.len();
        if let Some(entry) = self
            .entries
            .iter_mut()
            .rev()
            .find(|entry| entry.block == *block)
        {
            entry.text.push_str(delta);
            entry.whole += delta.len();
        } else {
            self.weight += ENTRY;
            self.entries.push(Entry {
                block: block.clone(),
                text: delta.to_owned(),
                whole: delta.len(),
            });
        }
        self.trim();
    }

    /// Puts a text in the place of what a block had.
    pub(crate) fn replace(&mut self, block: &BlockId, text: &str) {
        if let Some(at) = self.entries.iter().position(|entry| entry.block == *block) {
            if text.is_empty() {
                let gone = self.entries.remove(at);
                self.weight -= gone.text.len() + ENTRY;
            } else if let Some(entry) = self.entries.get_mut(at) {
                self.weight = self.weight - entry.text.len() + text.len();
                text.clone_into(&mut entry.text);
                entry.whole = text.len();
            }
            self.trim();
        } else if !text.is_empty() {
            self.append(block, text);
        }
    }

    /// Whether this is what the block says already.
    pub(crate) fn says(&self, block: &BlockId, text: &str) -> bool {
        match self
            .entries
            .iter()
            .rev()
            .find(|entry| entry.block == *block)
        {
            Some(entry) => entry.whole == text.len() && text.ends_with(&entry.text),
            None => text.is_empty(),
        }
    }

    /// The blocks that have text, one after another on lines of their own.
    pub(crate) fn text(&self) -> String {
        let texts: Vec<&str> = self
            .entries
            .iter()
            .map(|entry| entry.text.as_str())
            .collect();
        texts.join("\n")
    }

    fn trim(&mut self) {
        if self.entries.len() > MAX_ENTRIES {
            self.join_oldest();
        }
        if self.weight <= LIMIT {
            return;
        }
        while self.weight > KEEP && self.entries.len() > 1 {
            let gone = self.entries.remove(0);
            self.weight -= gone.text.len() + ENTRY;
        }
        if self.weight > KEEP
            && let Some(entry) = self.entries.first_mut()
        {
            entry.text = tail(&entry.text, KEEP - ENTRY).to_owned();
            self.weight = entry.text.len() + ENTRY;
        }
    }

    /// Makes one entry of the older half; those blocks are finished long since.
    fn join_oldest(&mut self) {
        let newer = self.entries.split_off(self.entries.len() / 2);
        let older = std::mem::replace(&mut self.entries, newer);
        let text = older
            .iter()
            .map(|entry| entry.text.as_str())
            .collect::<Vec<_>>()
            .join("\n");
        if let Some(last) = older.into_iter().next_back() {
            let whole = text.len();
            self.entries.insert(
                0,
                Entry {
                    block: last.block,
                    text,
                    whole,
                },
            );
        }
        self.weight = self
            .entries
            .iter()
            .map(|entry| entry.text.len() + ENTRY)
            .sum();
    }
}

/// Most bytes of one turn's answer; what is older goes first, because status tags stand at the end.
const LIMIT: usize = 4 << 20;
/// Left after trimming, so that a long text is not copied for every increment.
const KEEP: usize = 3 << 20;
/// What an entry costs beside its text.
const ENTRY: usize = 128;
/// Most blocks told apart.
const MAX_ENTRIES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn block(name: &str) -> BlockId {
        BlockId::parse(name).unwrap()
    }

    #[test]
    fn knows_what_was_streamed_and_what_differs() {
        let mut answer = Answer::default();
        answer.append(&block("a"), "Hel");
        answer.append(&block("a"), "lo");
        assert!(answer.says(&block("a"), "Hello"));
        assert!(!answer.says(&block("a"), "Hello!"));
        answer.append(&block("b"), "gone");
        answer.replace(&block("b"), "");
        answer.replace(&block("c"), "End");
        assert_eq!(answer.text(), "Hello\nEnd");
    }

    #[test]
    fn keeps_the_end_of_an_endless_answer() {
        let mut answer = Answer::default();
        let piece = "x".repeat(1 << 16);
        for _ in 0..200 {
            answer.append(&block("a"), &piece);
        }
        answer.append(&block("a"), "the end");
        let text = answer.text();
        assert!(text.len() <= LIMIT && text.ends_with("the end"));
        assert!(answer.says(&block("a"), &format!("{}the end", piece.repeat(200))));
        for n in 0..100_000 {
            answer.append(&block(&format!("b{n}")), "y");
        }
        assert!(answer.weight <= LIMIT && answer.entries.len() <= MAX_ENTRIES);
        assert!(answer.text().ends_with("y\ny\ny"));
    }
}
