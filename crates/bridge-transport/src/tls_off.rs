//! Without the feature `tls` nothing can be encrypted, and nothing that should be is sent.

use std::{convert::Infallible, io};

use http::Uri;

use crate::{
    dial::{BuiltWithout, DialError},
    tcp::Stream,
    trust::TlsSettings,
};

/// No handshake can be made.
pub(crate) struct Client(Infallible);

#[expect(
    clippy::unused_async,
    reason = "with the feature there is something to wait for"
)]
impl Client {
    pub(crate) async fn new(_: TlsSettings) -> Result<Self, DialError> {
        Err(DialError::BuiltWithout(BuiltWithout::Tls))
    }

    pub(crate) async fn connect<S: Stream>(self, _: &str, _: S) -> io::Result<S> {
        match self.0 {}
    }
}

pub(crate) fn failed(url: &Uri, source: io::Error) -> DialError {
    let host = crate::address::host_text(url);
    DialError::Tls { host, source }
}

pub(crate) fn blamed(_: &Uri, error: DialError) -> DialError {
    error
}
