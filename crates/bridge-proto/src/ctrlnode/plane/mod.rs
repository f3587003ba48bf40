//! The control plane's half of the CTRL NODE wire: the hub writes commands with [`encode`], reads
//! what bridges say with [`decode`], and turns the messages of a plain bridge's runs into events
//! with a [`Translator`].

mod decode;
mod encode;
mod stream;
mod translate;

pub use decode::{FromBridge, PlainMessage, PlainRun, decode};
pub use encode::{EncodeError, encode};
pub use translate::Translator;
