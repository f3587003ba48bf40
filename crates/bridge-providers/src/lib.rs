//! Agents: finding the programs on this machine, starting them, talking with them in their own
//! protocol, and ending them with everything they started.
//!
//! Reading order: [`provider`] (what every agent can be asked), [`dialogue`] (one pure state
//! machine per agent protocol), `process` (the only place that starts programs).
//! Knows nothing of wires, task folders or the journal.

pub mod acp;
mod answer;
pub mod chat;
pub mod claude;
pub mod codex;
pub mod conversation;
pub mod copilot;
pub mod cursor;
pub mod custom;
pub mod demo;
pub mod dialogue;
pub mod find;
pub mod gemini;
pub mod hermes;
pub mod host;
pub mod kept;
pub mod openclaw;
pub mod opencode;
mod plain;
pub mod process;
mod program;
pub mod provider;
pub mod remote;
pub mod skills;
mod trust;
