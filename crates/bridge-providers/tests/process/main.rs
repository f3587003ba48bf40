//! Programs are started, talked with and ended: the promises of `process` and `conversation`,
//! with `/bin/sh` in the part of the agent.

#![cfg(target_os = "linux")]

mod ending;
mod programs;
mod support;
mod talking;
