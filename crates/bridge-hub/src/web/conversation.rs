//! What a person reads of a task, in items.
//!
//! Items are only ever appended and changed in place, never removed or reordered. Each knows the
//! sequence number of the last event that changed how it looks ([`Item::rev`]), so "everything
//! that changed after N" is a filter. How events become items is in [`fold`](self::fold()).

mod fold;
#[cfg(test)]
pub(crate) mod tests;

use bridge_proto::{
    Timestamp,
    model::{Ask, AskEnd, Outcome, PlanItem, Rejection, Retry, ToolState, Usage},
};

pub(crate) use self::fold::fold;

/// What a person asked for; one for each run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prompt {
    /// Which run it began (`RunKey::attempt`).
    pub(crate) attempt: String,
    /// The words.
    pub(crate) text: String,
    /// When they were sent.
    pub(crate) at: Timestamp,
    /// Names of files sent along.
    pub(crate) attachments: Vec<String>,
}

/// A task's whole conversation as far as it is known.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Conversation {
    /// In reading order.
    pub(crate) items: Vec<Item>,
    /// The model that answers, as last reported.
    pub(crate) model: Option<String>,
    /// The mode in force, as last reported.
    pub(crate) mode: Option<String>,
    /// The thinking effort in force, once known.
    pub(crate) effort: Option<String>,
    /// Tokens and money of all runs together.
    pub(crate) usage: Usage,
    /// Sequence number of the last event that went in; 0 without any.
    pub(crate) seq: u64,
}

/// One thing in the stream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Item {
    /// Names the item on the page; stable for its life.
    pub(crate) key: String,
    /// Sorts the items of a page.
    pub(crate) order: u64,
    /// The last event that changed it; `u64::MAX` for a prompt whose run is still unheard of.
    pub(crate) rev: u64,
    /// When it first appeared.
    pub(crate) at: Timestamp,
    /// What it is.
    pub(crate) body: Body,
}

/// What an item is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Body {
    /// A person's words. `joined`: they are shown in another run.
    Prompt {
        text: String,
        attachments: Vec<String>,
        joined: bool,
    },
    /// A block of the answer; an empty text was withdrawn. `open`: more may come.
    Answer {
        attempt: String,
        block: String,
        text: String,
        open: bool,
    },
    /// What the model thought. `open`: more may come.
    Thinking {
        attempt: String,
        text: String,
        open: bool,
    },
    /// A tool call as last heard of. `asking`: what a person is being
    /// asked about it.
    Tool {
        state: Box<ToolState>,
        asking: Option<String>,
    },
    /// The to-do list as last heard of. `over`: its run has ended.
    Plan { items: Vec<PlanItem>, over: bool },
    /// Files written in a row.
    Files { files: Vec<Written> },
    /// A question. `end` is `None` while it waits.
    Ask { ask: Box<Ask>, end: Option<Closed> },
    /// A line about what goes on.
    Note { note: Note, gone: bool },
    /// The end of a run.
    End { end: End, took_millis: Option<i64> },
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    /// As the agent named it, or below the task's folder.
    pub(crate) path: String,
    /// Where it can be downloaded; of result files only.
    pub(crate) address: Option<String>,
}

/// Why a question waits no longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Closed {
    /// The machine said so.
    Told(AskEnd),
    /// Its run ended first.
    RunOver,
}

/// Lines about what goes on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Note {
    /// Waits behind this many runs.
    Queued(u32),
    /// Waits until the run before it in the same task has ended.
    AfterAnswer,
    /// A sentence of the agent or the bridge.
    Status(String),
    /// A failed model call is tried again.
    Retrying(Retry),
    /// Nothing was heard for this many seconds.
    Silent(u64),
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// It ran.
    Ran(Outcome),
    /// It was never accepted.
    Rejected(Rejection),
}
