//! Delivery: one logical connection to a server over as many sockets as it takes.
//!
//! An embedder gives an [`Endpoint`] and gets a [`Handle`] to push messages and an [`Inbox`] to
//! read frames. The link dials, keeps itself alive, backs off, greets, queues, merges and resumes
//! by itself; the embedder only sees that connections open and close.
//!
//! This crate owns *delivery* and never *meaning*: it knows streams, slots and bytes, and nothing
//! of tasks, agents or any message's content. It depends on no sibling crate.
//!
//! Reading order:
//! 1. [`Endpoint`] and its [`Limits`] and [`Timings`]: what to connect to, checked once;
//! 2. [`Payload`] and [`Class`]: what the embedder says about a message;
//! 3. [`connect`], [`Handle`], [`Inbox`], [`LinkState`]: the running link;
//! 4. [`delivery`] and [`spool`]: numbers, acknowledgements and gaps; messages on the disk;
//! 5. `link/`: every other decision, as a pure machine without socket or clock;
//! 6. `driver`, [`carrier`]: the thin parts that touch the world;
//! 6. `spool`: messages on disk until they are acknowledged.

pub mod carrier;
mod clock;
mod config;
pub mod delivery;
mod dial;
mod driver;
mod handle;
mod inbound;
mod jitter;
#[cfg(feature = "spool")]
mod kept;
#[cfg(not(feature = "spool"))]
#[path = "kept_off.rs"]
mod kept;
mod link;
mod outlet;
mod payload;
mod proxy;
mod socket;
mod spoken;
#[cfg(feature = "spool")]
pub mod spool;
mod state;
mod tls;
mod upgrade;

pub use carrier::{Carrier, websocket::WebSocket};
pub use config::{Endpoint, EndpointError, Limits, ProxySource, Rate, Timings};
pub use dial::{DialError, Disposition};
#[cfg(feature = "spool")]
pub use handle::connect_spooled;
pub use handle::{Closed, Flushed, Handle, connect, connect_over};
pub use inbound::{CloseReason, ConnId, FrameRefused, Inbound, Inbox};
#[cfg(feature = "spool")]
pub use kept::SyncPolicy;
pub use link::close::{CloseRule, CloseRules, Signal, Stage, Verdict};
#[cfg(feature = "simulation")]
#[doc(hidden)]
pub use link::script;
pub use payload::{Class, Greeting, Payload, Stored, Text, TextFrame};
pub use state::{LinkState, Phase};
