//! The hub through its doors: a bridge over a real WebSocket, viewers over real HTTP.

#![expect(clippy::unwrap_used, reason = "tests say by failing what is wrong")]

mod bridges;
mod commands;
mod delivery;
mod devices;
mod doors;
mod live;
mod lost;
mod packed;
#[path = "../paired/mod.rs"]
mod paired;
mod repository;
mod runs;
mod steering;
mod support;
