//! Conversations with Codex: recorded ones replayed and damaged, one test per trap that was seen
//! in the real program, the rules that recordings do not show, and the provider with a made-up
//! program.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "in a test a panic is the failure, and other events do not matter"
)]

mod damaged;
mod provider;
mod recording;
mod replay;
mod rules;
mod snapshots;
mod talk;
mod told;
mod traps;
