//! One logical connection over many sockets, as a pure machine.
pub(crate) mod close;
