//! The control plane's half of the CTRL NODE wire: the hub writes commands with [`encode`], reads
//! what bridges say with [`decode`], and turns the messages of a plain bridge's runs into events
//! with a [`Translator`].

mod commands;
mod file_request;
mod gateway;
mod git;
mod meaning;
mod messages;
mod pipeline;
mod plain_run;
mod stream;
mod translate;
mod tree;

pub use commands::{EncodeError, encode};
pub use messages::{FromBridge, PlainMessage, PlainRun, decode};
pub use translate::Translator;
