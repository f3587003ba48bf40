//! The CTRL NODE wire, both halves: what a bridge reads and writes, and under [`plane`] what a
//! control plane writes and reads. One text frame is one JSON object with the string `action`.
//!
//! Reading order: [`decode`] (frame to command), [`encode_event`], [`encode_notice`],
//! [`encode_reply`] (what goes back), [`plane`] (the hub's half), [`side`] and [`device`] (what is asked over HTTP), [`status_tag()`] (how an agent says
//! in words how its task ended).
//!
//! Two profiles exist. [`Profile::Plain`] is the published wire, field by field.
//! [`Profile::Extended`] is spoken with our own hub only: one `bridge_event` carries a whole
//! [`Event`](crate::model::Event) instead of the messages it would become on the plain wire.

mod agents;
pub mod blueprint;
mod capabilities;
pub mod device;
mod error;
mod fields;
mod frames;
mod gateway;
mod git;
mod graph;
mod inbound;
mod notice;
mod outbound;
mod pipeline;
pub mod plane;
mod refusal;
mod reply;
pub mod side;
mod status_tag;
mod token;
mod tree;

pub use error::DecodeError;
pub use git::git_error;
pub use inbound::decode;
pub use notice::encode_notice;
pub use outbound::{CANCELLED_REASON, Profile, RunFacts, encode_event};
pub use refusal::encode_refusal;
pub use reply::encode_reply;
pub use status_tag::{status_tag, strip_status_tags};
pub use token::is_numbered;

/// Largest frame accepted in either direction, in bytes: a PDF of 15 MiB is 20 MB of base64.
pub const MAX_FRAME_BYTES: usize = 32 << 20;
