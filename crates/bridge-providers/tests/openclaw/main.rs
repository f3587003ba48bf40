//! The dialogue with the gateway of OpenClaw, without a gateway: recorded conversations, and the
//! rules of the protocol one by one.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "in a test a panic is the failure, and other events do not matter"
)]

mod play;
mod recordings;
mod replay;
mod rules;
mod session_log;
