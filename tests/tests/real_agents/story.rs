//! What was heard of one run, and how questions in it are answered.

use std::{
    fmt,
    pin::pin,
    time::{Duration, Instant},
};

use bridge_proto::{
    BlockId,
    model::{Answer, Ask, ChoiceKind, EventBody, Outcome, RunEvent},
};
use futures_util::StreamExt as _;

use crate::product::Product;

/// One run from its first event to its last.
#[derive(Debug)]
pub(crate) struct Story {
    pub(crate) outcome: Outcome,
    /// Increments of answer text.
    pub(crate) increments: usize,
    /// How long before the end the first of them arrived.
    pub(crate) first_before_end: Duration,
    pub(crate) asks: Vec<Ask>,
    /// The number of its last event in the task.
    pub(crate) last: u64,
    text: Vec<(BlockId, String)>,
    events: usize,
    /// How long it was followed.
    pub(crate) took: Duration,
}

impl Story {
    /// The answer as a viewer shows it.
    pub(crate) fn answer(&self) -> String {
        self.text.iter().map(|(_, text)| text.as_str()).collect()
    }

    /// Whether it ended well.
    pub(crate) fn assert_completed(&self, product: &Product) {
        assert_eq!(
            self.outcome,
            Outcome::Completed,
            "{self}\n{}",
            product.diagnosis()
        );
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} events, {} increments, {} asked, {:.1} s",
            self.events,
            self.increments,
            self.asks.len(),
            self.took.as_secs_f32(),
        )
    }
}

/// What a person does when asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Person {
    /// Must not be asked.
    Absent,
    /// Does not answer.
    Away,
    Allows,
    Rejects,
}

impl Person {
    fn decides(self, ask: &Ask) -> Option<Answer> {
        let wanted = match self {
            Self::Absent => panic!("nobody should be asked: {ask:?}"),
            Self::Away => return None,
            Self::Allows => ChoiceKind::AllowOnce,
            Self::Rejects => ChoiceKind::RejectOnce,
        };
        let option = ask.options.iter().find(|choice| choice.kind == wanted);
        let option = option.unwrap_or_else(|| panic!("no {wanted:?} among {:?}", ask.options));
        Some(Answer::Choose {
            option: option.id.clone(),
        })
    }
}

/// Follows the run that comes after event `after` to its end.
pub(crate) async fn follow(product: &Product, task: &str, after: u64, person: Person) -> Story {
    let begun = Instant::now();
    let mut events = pin!(product.events(task, after).await);
    let mut first = None;
    let mut story = Story {
        outcome: Outcome::Completed,
        increments: 0,
        first_before_end: Duration::ZERO,
        asks: Vec::new(),
        last: after,
        text: Vec::new(),
        events: 0,
        took: Duration::ZERO,
    };
    loop {
        let stored = events
            .next()
            .await
            .expect("the stream of events never ends");
        assert_eq!(
            stored.seq,
            story.last + 1,
            "events are counted without gaps"
        );
        story.last = stored.seq;
        story.events += 1;
        match stored.event.body {
            EventBody::Seen(seen) => {
                if let RunEvent::Text { block, delta } = seen.event {
                    story.increments += 1;
                    first.get_or_insert_with(Instant::now);
                    story.block(block).push_str(&delta);
                } else if let RunEvent::TextReplaced { block, text } = seen.event {
                    *story.block(block) = text;
                } else if let RunEvent::Ask(ask) = seen.event
                    && ask.answered.is_none()
                {
                    if let Some(answer) = person.decides(&ask) {
                        product.answer(task, &ask, &answer).await;
                    }
                    story.asks.push(ask);
                }
            }
            EventBody::Ended { outcome } => {
                story.outcome = outcome;
                story.took = begun.elapsed();
                story.first_before_end = first.map_or(Duration::ZERO, |first| first.elapsed());
                return story;
            }
            EventBody::Rejected(why) => panic!("rejected: {why:?}\n{}", product.diagnosis()),
            EventBody::Queued { .. } | EventBody::Started { .. } | EventBody::Joined { .. } => {}
        }
    }
}

impl Story {
    fn block(&mut self, block: BlockId) -> &mut String {
        let at = self.text.iter().position(|(known, _)| *known == block);
        let at = at.unwrap_or_else(|| {
            self.text.push((block, String::new()));
            self.text.len() - 1
        });
        &mut self.text[at].1
    }
}
