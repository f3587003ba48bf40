//! Programs are started, talked with and ended: the promises of `process` and `conversation`,
//! with `/bin/sh` in the part of the agent.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    reason = "a stage that does not stand is a failed test"
)]

mod ending;
mod programs;
mod support;
mod talking;
