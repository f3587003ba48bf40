//! Delivery: one logical connection to a server over as many sockets as it takes.
//!
//! An embedder gives an [`Endpoint`] and gets a [`Handle`] to push messages and an [`Inbox`] to
//! read frames. The link dials, keeps itself alive, backs off, greets, queues, merges and resumes
//! by itself; the embedder only sees that connections open and close.
//!
//! This crate owns *delivery* and never *meaning*: it knows streams, slots and bytes, and nothing
//! of tasks, agents or any message's content. It depends on no sibling crate, and sets up nothing
//! for the whole process: no logger, no crypto provider, no runtime.
//!
//! To a far end with the [envelope](delivery) a message of a stream arrives, in the order of its
//! stream, and is taken once; what it sends under numbers of its own is delivered once, and
//! acknowledged when it was [committed](Handle::commit). To any other a [durable](Class::Durable)
//! message arrives at least once: it is kept until a ping behind it was answered. Over a spool
//! (`connect_spooled`) that holds over the end of the process, and what waits takes the disk rather
//! than memory. Who pushes waits rather than anything being dropped. What is promised under which
//! condition, and what is not, stands in the table of `README.md`, with the test or bench that shows
//! it.
//!
//! Frames travel by a [`Carrier`]: a WebSocket, lines over TCP or TLS, or to our own hub HTTP
//! requests; of several the first that gets through.
//!
//! Reading order:
//! 1. [`Endpoint`] and its [`Limits`] and [`Timings`]: what to connect to, checked once; and
//!    [`TlsSettings`], what a handshake is held to;
//! 2. [`Payload`] and [`Class`]: what the embedder says about a message;
//! 3. [`connect`], [`Handle`], [`Inbox`], [`LinkState`]: the running link;
//! 4. [`delivery`] and `spool`: numbers, acknowledgements and gaps; messages on the disk;
//! 5. `link/`: every other decision, as a pure machine without socket or clock;
//! 6. `driver`, [`carrier`]: the thin parts that touch the world.
//!
//! Features, each of which can be had alone:
//!
//! | Feature | On by default | Gives | Without it |
//! |---|---|---|---|
//! | `tls` | yes | `wss://`: the platform's authorities and those of a file, pinned keys, client certificates | an encrypted address is refused with [`BuiltWithout::Tls`] |
//! | `spool` | yes | messages on disk | they wait in memory alone |
//! | `proxy` | no | HTTP(S) and SOCKS proxies, those of the environment too | the environment's are not looked at; one that was named is refused with [`BuiltWithout::Proxy`] |
//! | `deflate` | no | batches compressed where the peer knows how | nothing is offered |
//! | `http` | no | the carriers `Hybrid` and `LongPoll`, which write by HTTP requests | an `http://` or `https://` address stands for the WebSocket alone |
//! | `sse` | no | `http`, and the carrier `Sse`, which reads server-sent events | that one is not among those tried |
//! | `simulation` | no | `spool`, and a disk in memory that crashes and fails on demand, for tests of what stands on it | |
//!
//! By default that is at most 65 crates, with everything at most 80; `cargo xtask budget` counts.

mod address;
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
#[cfg(feature = "proxy")]
mod proxy;
#[cfg(not(feature = "proxy"))]
#[path = "proxy_off.rs"]
mod proxy;
mod rarely;
mod socket;
mod spoken;
#[cfg(feature = "spool")]
pub mod spool;
mod state;
mod tcp;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(not(feature = "tls"))]
#[path = "tls_off.rs"]
mod tls;
mod trust;
mod upgrade;

pub use bytes::Bytes;
pub use carrier::{Carrier, CarrierKind, websocket::WebSocket};
pub use config::{Compress, Endpoint, EndpointError, Limits, ProxySource, Rate, Timings};
pub use dial::{BuiltWithout, DialError, Disposition};
#[cfg(feature = "spool")]
pub use handle::connect_spooled;
pub use handle::{Closed, Flushed, Handle, connect, connect_over};
pub use inbound::{CloseReason, ConnId, FrameRefused, Inbound, Inbox, Receipt};
#[cfg(feature = "spool")]
pub use kept::SyncPolicy;
pub use link::close::{CloseRule, CloseRules, Signal, Stage, Verdict};
#[cfg(feature = "simulation")]
#[doc(hidden)]
pub use link::script;
pub use payload::{Class, Frames, Greeting, Payload, Stored, Text, TextFrame};
pub use rarely::Rarely;
pub use state::{LinkState, Phase};
pub use trust::{Fingerprint, Identity, NotAFingerprint, TlsSettings};

/// The examples of the README that stand for themselves are compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
