//! A dialogue for tests that are about the process alone.
#![expect(unreachable_pub, reason = "no library")]

use std::time::Instant;

use bridge_providers::{
    dialogue::{Dialogue, Exit, Step},
    provider::Steer,
};

/// Says nothing and understands nothing.
pub struct Mute;

impl Dialogue for Mute {
    fn on_start(&mut self, _: Instant) {}
    fn on_line(&mut self, _: Instant, _: &[u8]) {}
    fn on_oversized(&mut self, _: Instant, _: u64) {}
    fn on_steer(&mut self, _: Instant, _: Steer) {}
    fn on_end(&mut self, _: Instant, _: Exit) {}
    fn on_timeout(&mut self, _: Instant) {}
    fn next_step(&mut self) -> Option<Step> {
        None
    }
    fn deadline(&self) -> Option<Instant> {
        None
    }
}
