//! OpenAI Codex over `codex app-server`: JSON lines on standard input and output, one process per
//! conversation.
//!
//! ```text
//! start ── initialize ─► greeted ── thread/start | thread/resume ─► open ── turn/start ─► turn
//! ```
//!
//! Reading order: [`CodexProvider`] (finding and starting the program; with `command`, `config` and
//! `survey`), [`CodexDialogue`] with [`CodexStart`] (the life of a conversation and its turns; with
//! `cancel` and `steer`), `incoming` (what each line means), then its parts: `messages` (every text
//! is shown once), `tools` with `items`, `commands`, `patch` and `raw_calls` (tool calls), `asks`
//! with `wording` (permissions and questions), `outcome` (what an error means), `usage`, `outgoing`
//! (the lines that are written). [`ExecDialogue`] is the fallback for versions without an
//! app-server; it asks nobody, so it wants the user's word.

mod asks;
mod cancel;
mod command;
mod commands;
mod config;
mod dialogue;
mod exec;
mod incoming;
mod items;
mod messages;
mod outcome;
mod outgoing;
mod patch;
mod provider;
mod raw_calls;
mod start;
mod steer;
mod survey;
mod tools;
mod usage;
mod wording;

pub use dialogue::CodexDialogue;
pub use exec::ExecDialogue;
pub use provider::CodexProvider;
pub use start::CodexStart;
