//! Claude Code over its own stream-json protocol: one process per conversation.
//!
//! Reading order: [`ClaudeProvider`] (finding and starting the program, with `command` and `models`), [`ClaudeDialogue`] (the
//! life of a turn) with `incoming` (what each line means), then its parts: `stream` (text that is shown once),
//! `tools` (tool calls), `asks` (permissions and questions), `outcome` (what a result means),
//! `answer` (the text of a turn), `outgoing` (the lines we write).

mod answer;
mod asks;
mod command;
mod dialogue;
mod incoming;
mod models;
mod outcome;
mod outgoing;
mod plain;
mod provider;
mod session_rules;
mod stream;
mod tools;

pub use dialogue::ClaudeDialogue;
pub use provider::ClaudeProvider;
