//! How bytes get to a peer: the proxies and the TLS of an endpoint.

use http::Uri;

use super::traffic::TrafficMeter;
use crate::{
    config::{Endpoint, ProxySource},
    dial::{self, DialError},
    tcp::Stream,
    trust::TlsSettings,
};

/// A way that may be gone again and again.
#[derive(Debug, Clone)]
pub(super) struct Way {
    proxy: ProxySource,
    tls: TlsSettings,
}

impl Way {
    pub(super) fn new(endpoint: &Endpoint) -> Self {
        Self {
            proxy: endpoint.proxy.clone(),
            tls: endpoint.tls.clone(),
        }
    }

    /// Opens a stream of bytes to a `ws` or `wss` address.
    pub(super) async fn stream(
        &self,
        url: &Uri,
        traffic: &TrafficMeter,
    ) -> Result<Box<dyn Stream>, DialError> {
        dial::stream(url, &self.proxy, &self.tls, traffic).await
    }
}
