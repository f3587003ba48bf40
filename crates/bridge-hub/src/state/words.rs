//! What the machine is told, what it wants done, and the words both are made of.

use std::time::Instant;

use bridge_proto::{
    BridgeId, ProviderKey, RunKey, Timestamp,
    ctrlnode::plane::FromBridge,
    model::{Event, Outcome, Reply},
};
use bridge_transport::delivery::Position;

use crate::store::{BridgeRecord, LiveRun};

/// One connection of a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnId(pub(crate) u64);

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) instant: Instant,
    pub(crate) wall: Timestamp,
}

/// Something happened.
#[derive(Debug)]
pub(crate) enum Input {
    /// A bridge was let in.
    Opened {
        conn: ConnId,
        bridge: BridgeId,
        extended: bool,
    },
    /// It said something.
    Said { conn: ConnId, message: FromBridge },
    /// It takes the hub's stream with numbers, from here on.
    Resume { conn: ConnId, from: Position },
    /// [`Effect::GoOn`] was done; the machine was known to have what it acknowledged, or not.
    Resumed { conn: ConnId, known: bool },
    /// Its socket is gone.
    Closed { conn: ConnId },
    /// The answer to [`Effect::LoadRuns`].
    Runs { conn: ConnId, runs: Vec<LiveRun> },
    /// A machine was paired.
    Paired(BridgeRecord),
    /// A machine's token was revoked.
    Unpaired(BridgeId),
    /// The deadline has come.
    Timeout,
    /// The hub stops.
    Stop,
}

/// Something to do.
#[derive(Debug, PartialEq)]
pub(crate) enum Effect {
    Send {
        conn: ConnId,
        frame: String,
    },
    HangUp {
        conn: ConnId,
        why: HangUp,
    },
    /// Begin to read what a connection says.
    Listen {
        conn: ConnId,
    },
    /// Keep these events.
    Append {
        bridge: BridgeId,
        events: Vec<Event>,
    },
    /// Go on with the hub's stream from where the machine wants it.
    GoOn {
        conn: ConnId,
        bridge: BridgeId,
        from: Position,
    },
    /// Tell which runs of the machine have not ended.
    LoadRuns {
        conn: ConnId,
        bridge: BridgeId,
    },
    /// End a run in the hub's name.
    End {
        run: RunKey,
        outcome: Outcome,
    },
    /// Send a run that did not reach its machine once more, under the same name.
    Resend {
        conn: ConnId,
        run: RunKey,
    },
    /// Keep what a machine said of itself.
    Remember(BridgeRecord),
    /// A request was answered, or never will be.
    Settle {
        request: String,
        answer: Result<Reply, Unanswered>,
    },
    /// What [`machines`](super::HubState::machines) shows has changed.
    Changed,
}

/// Why a connection is ended by the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HangUp {
    /// The same token came again.
    Superseded,
    /// No handshake in time.
    NoHandshake,
    /// The token was revoked.
    Revoked,
    /// It does not read what it is sent.
    TooSlow,
    /// Its events cannot be kept; what it still runs is settled when it comes back.
    NotKept,
    /// It broke the rules of the envelope.
    OutOfTurn,
    /// Too much of what it says is of no use.
    Useless,
    /// The hub stops.
    Stopping,
}

impl HangUp {
    /// The close code and reason of the WebSocket.
    pub(crate) fn close(self) -> (u16, &'static str) {
        match self {
            // Two bridges with one token take turns slowly instead of fighting.
            Self::Superseded => (
                4001,
                "superseded by a newer connection with the same token; retry-after=60",
            ),
            Self::NoHandshake => (4002, "no handshake"),
            Self::Revoked => (1008, "pairing token revoked"),
            Self::TooSlow => (4003, "too slow"),
            Self::NotKept => (1011, "the hub cannot store events"),
            Self::OutOfTurn => (1002, "against the rules of the envelope"),
            // The credential is good: it comes back, slowly.
            Self::Useless => (1008, "too many useless frames; retry-after=60"),
            Self::Stopping => (1001, "the hub is shutting down"),
        }
    }
}

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// The connection ended.
    Disconnected,
    /// Its time is up.
    TimedOut,
}

/// A way to a machine that is on line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) conn: ConnId,
    pub(crate) name: String,
    pub(crate) extended: bool,
}

/// An agent of a machine that is on line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AgentRoute {
    pub(crate) route: Route,
    pub(crate) provider: ProviderKey,
    /// `CTRLNODE_ROOT` of the agent, when the machine told.
    pub(crate) root: Option<String>,
}
