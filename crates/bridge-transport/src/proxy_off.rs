//! Without the feature `proxy` every way is direct.

use http::Uri;

pub(crate) use crate::tcp::Stream;
use crate::{
    address::is_loopback,
    config::ProxySource,
    dial::{BuiltWithout, DialError},
    tcp,
    trust::TlsSettings,
};

/// Opens a byte stream to an address. A proxy that was named is not gone around.
pub(crate) async fn reach(
    url: &Uri,
    source: &ProxySource,
    _: &TlsSettings,
) -> Result<Box<dyn Stream>, DialError> {
    match source {
        ProxySource::Address(_) if !is_loopback(url) => {
            Err(DialError::BuiltWithout(BuiltWithout::Proxy))
        }
        ProxySource::Address(_) | ProxySource::Environment | ProxySource::None => {
            Ok(Box::new(tcp::connect(url).await?))
        }
    }
}
