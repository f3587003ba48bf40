//! OpenClaw: a gateway of the user that runs by itself, spoken to over its WebSocket protocol.
//! No process of ours: a conversation is a session of the gateway.
//!
//! Reading order: [`OpenclawProvider`] (finding the gateway, opening conversations, with `config`,
//! `identity` and `door`), [`OpenclawDialogue`] (the life of a conversation: `line` with
//! `handshake` and `refusal` for its connection, `opening` for its session, `steer` for its owner, `running` with
//! `turn` for its turns, `recovery` after a lost connection), `events` (what each message means)
//! and its parts: `texts` (every text is shown once), `tools`, `asks` (approvals), `outcome` (what
//! a failure means); `driver` and `socket` carry it all out, `logbook` remembers what
//! works. `agents` and `edit` read and change the agents its configuration names, `whole` with `judge` puts a new
//! configuration in its place. `calls` and `caller` are single calls of its tools. `http` with [`HttpAnswer`] is the fallback for gateways
//! of another protocol; `follow` with [`SessionLog`] adds its tools from the log of the session.

mod agents;
mod asks;
mod caller;
mod calls;
mod config;
mod dialogue;
mod door;
mod driver;
mod edit;
mod events;
mod follow;
mod frames;
mod handshake;
mod http;
mod http_answer;
mod identity;
mod judge;
mod line;
mod logbook;
mod opening;
mod outcome;
mod provider;
mod recovery;
mod refusal;
mod running;
mod session_log;
mod socket;
mod steer;
mod texts;
mod tools;
mod turn;
mod whole;

pub use config::own_folder;
pub use dialogue::{Act, Lost, OpenclawDialogue, Plan, Work};
pub use handshake::Credentials;
pub use http_answer::HttpAnswer;
pub use identity::{BadKey, DeviceKey, Grant};
pub use provider::OpenclawProvider;
pub use session_log::{Look, SessionLog, log_of};
