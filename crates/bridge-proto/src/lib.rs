//! Words: the one internal model of commands and events, and the dialects that translate frames
//! to and from it. Nothing here opens a socket, reads a clock, touches a file or rolls dice.
//!
//! Reading order: [`id`] (names of things), [`model`] (what can be asked, what can happen),
//! [`ctrlnode`] (the CTRL NODE wire, both halves), [`secret`] (tokens that cannot be printed).

mod base64_bytes;
pub mod ctrlnode;
pub mod id;
pub mod model;
pub mod secret;
pub mod time;

pub use id::{
    AgentId, AskId, BlockId, BridgeId, Digest, IdError, ProviderKey, ResumeId, RunKey, TaskFolder,
    TaskId, ToolCallId,
};
pub use secret::Secret;
pub use time::Timestamp;
