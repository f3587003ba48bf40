//! The Agent Client Protocol, version 1, from the client's side: one pure [`AcpDialogue`] for
//! every agent that speaks it, and one [`AcpQuirks`] table per agent for what it does differently.
//!
//! ```text
//! New ─► Initializing ─► (Holding) ─► Opening ─► (Settling) ─► (Choosing) ─► Idle ◄─► Running
//!              │                        │                                     │         │
//!              └────────────────────────┴──────────► Over ◄───────────────────┴─────────┘
//! ```
//!
//! Holding waits out a quirk before a reload, Settling swallows the replayed history, Choosing
//! waits for the wanted model. Prompts may be handed in at any time; every prompt gets exactly one
//! [`crate::dialogue::Step::TurnOver`].

mod dialogue;
mod ending;
mod extensions;
mod greeting;
mod handshake;
pub(crate) mod jsonrpc;
mod listing;
mod outcome;
mod permissions;
mod questions;
mod quirks;
mod session;
mod steer;
mod tool_content;
mod tools;
mod turn;
mod updates;
mod wording;

pub use dialogue::{AcpDialogue, AcpStart};
pub(crate) use greeting::answers;
pub(crate) use listing::list_models;
pub(crate) use outcome::{of_exit, of_words};
pub use quirks::{
    AcpQuirks, AskQuirks, Beginning, ReloadQuirks, TextQuirks, ToolQuirks, TurnQuirks,
};
pub(crate) use turn::Turn;
pub(crate) use updates::RETRYING;
