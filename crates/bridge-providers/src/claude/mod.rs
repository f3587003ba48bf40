//! Claude Code over its own stream-json protocol: one process per conversation.
//!
//! Reading order: [`ClaudeProvider`] (finding and starting the program, with `command` and
//! `models` and `skills`), [`ClaudeDialogue`] (the life of a turn), `incoming` (what each line means), then its
//! parts: `stream` (every text is shown once), `tools` (tool calls), `asks` with `session_rules`
//! (permissions and questions), `outcome` (what a result means), `outgoing` (the lines that are
//! written), `plain` (text of the agent made fit for people).

mod asks;
mod command;
mod dialogue;
mod incoming;
mod models;
mod outcome;
mod outgoing;
mod provider;
mod session_rules;
mod skills;
mod stream;
mod tools;

pub(crate) use command::arguments;
pub use dialogue::ClaudeDialogue;
pub use provider::ClaudeProvider;
