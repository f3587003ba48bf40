//! What is known of the turn that runs.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use bridge_proto::model::Usage;

use crate::chat::{files::Change, history::Call, reply::Reply, retry::Retries, tools::Deed};

/// A turn that runs.
#[derive(Debug)]
pub(super) struct Turn {
    /// When it has to be over.
    pub(super) due: Instant,
    /// Requests so far, without retries.
    pub(super) requests: u32,
    pub(super) retries: Retries,
    pub(super) usage: Usage,
    pub(super) jitter: u64,
    /// The model has said something.
    pub(super) said: bool,
    pub(super) stage: Stage,
}

/// How far a turn is.
#[derive(Debug)]
pub(super) enum Stage {
    /// The endpoint has the request.
    Answering {
        reply: Box<Reply>,
        heard: Instant,
        /// The names of calls that were announced, by their numbers in the answer.
        announced: BTreeMap<u64, String>,
    },
    /// Before the request is sent again.
    Waiting { until: Instant },
    /// The calls of the answer are made.
    Acting {
        queue: VecDeque<Step>,
        doing: Option<Box<(Step, Doing)>>,
    },
}

/// A call that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    /// Its name towards the client.
    pub(super) id: String,
    pub(super) call: Call,
}

/// How far a call is.
#[derive(Debug)]
pub(super) enum Doing {
    Looking,
    Preparing(Deed),
    /// A person is asked, since when.
    Asking(Change, Instant),
    Applying(Change),
}

impl Turn {
    /// Whether its time runs.
    pub(super) fn is_timed(&self) -> bool {
        let asking = match &self.stage {
            Stage::Acting { doing, .. } => doing
                .as_ref()
                .is_some_and(|doing| matches!(doing.1, Doing::Asking(..))),
            Stage::Answering { .. } | Stage::Waiting { .. } => false,
        };
        !asking
    }
}
