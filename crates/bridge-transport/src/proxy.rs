//! The way to a host: directly, through an HTTP(S) proxy's tunnel or through SOCKS.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Uri;
use hyper_util::{
    client::{
        legacy::connect::{
            HttpConnector,
            proxy::{SocksV4, SocksV5, Tunnel},
        },
        proxy::matcher::{Intercept, Matcher},
    },
    rt::TokioIo,
};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower_service::Service;

use crate::{
    address::{host_text, is_loopback, is_secure},
    config::ProxySource,
    dial::DialError,
};

/// A byte stream of whatever kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Finds the proxy for an address; loopback never leaves the machine.
pub(crate) fn proxy_for(url: &Uri, source: &ProxySource) -> Result<Option<Intercept>, DialError> {
    if is_loopback(url) {
        return Ok(None);
    }
    let matcher = match source {
        ProxySource::Environment => Matcher::from_env(),
        ProxySource::None => return Ok(None),
        ProxySource::Address(proxy) => Matcher::builder().all(proxy.to_string()).build(),
    };
    Ok(matcher.intercept(&destination(url)?))
}

/// Tells whether the way to the proxy itself is encrypted.
pub(crate) fn wants_tls(proxy: &Intercept) -> bool {
    proxy.uri().scheme_str() == Some("https")
}

/// Opens a byte stream to an address. `tls` must be given for a proxy that
/// [wants it](wants_tls).
pub(crate) async fn reach(
    url: &Uri,
    proxy: Option<&Intercept>,
    tls: Option<Arc<ClientConfig>>,
) -> Result<Box<dyn Stream>, DialError> {
    let target = destination(url)?;
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let Some(proxy) = proxy else {
        let unreachable = |error: &dyn std::error::Error| DialError::Unreachable {
            host: host_text(url),
            reason: innermost(error),
        };
        let stream = tcp
            .call(target)
            .await
            .map_err(|error| unreachable(&error))?;
        return Ok(Box::new(stream.into_inner()));
    };
    let name = proxy
        .uri()
        .authority()
        .map(ToString::to_string)
        .unwrap_or_default();
    let refused = |error: &dyn std::error::Error| DialError::Proxy {
        proxy: name.clone(),
        reason: innermost(error),
    };
    let uri = proxy.uri().clone();
    let stream: Box<dyn Stream> = match proxy.uri().scheme_str() {
        Some("socks4" | "socks4a") => {
            let local = proxy.uri().scheme_str() == Some("socks4");
            let mut socks = SocksV4::new(with_port(uri, 1080), tcp).local_dns(local);
            let stream = socks.call(target).await.map_err(|error| refused(&error))?;
            Box::new(stream.into_inner())
        }
        Some("socks5" | "socks5h") => {
            let local = proxy.uri().scheme_str() == Some("socks5");
            let mut socks = SocksV5::new(with_port(uri, 1080), tcp).local_dns(local);
            if let Some((user, password)) = proxy.raw_auth() {
                socks = socks.with_auth(user.to_owned(), password.to_owned());
            }
            let stream = socks.call(target).await.map_err(|error| refused(&error))?;
            Box::new(stream.into_inner())
        }
        Some("https") => {
            let config = tls.ok_or_else(|| refused(&io::Error::other("no TLS settings")))?;
            let mut tunnel = Tunnel::new(with_port(uri, 443), TlsToProxy { tcp, config });
            if let Some(auth) = proxy.basic_auth() {
                tunnel = tunnel.with_auth(auth.clone());
            }
            let stream = tunnel.call(target).await.map_err(|error| refused(&error))?;
            Box::new(stream.into_inner())
        }
        Some(_) | None => {
            let mut tunnel = Tunnel::new(with_port(uri, 80), tcp);
            if let Some(auth) = proxy.basic_auth() {
                tunnel = tunnel.with_auth(auth.clone());
            }
            let stream = tunnel.call(target).await.map_err(|error| refused(&error))?;
            Box::new(stream.into_inner())
        }
    };
    Ok(stream)
}

/// Speaks TLS to the proxy before asking it for a tunnel.
#[derive(Clone)]
struct TlsToProxy {
    tcp: HttpConnector,
    config: Arc<ClientConfig>,
}

impl Service<Uri> for TlsToProxy {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp.poll_ready(cx).map_err(io::Error::other)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let host = uri
            .host()
            .unwrap_or_default()
            .trim_matches(['[', ']'])
            .to_owned();
        let connecting = self.tcp.call(uri);
        let tls = TlsConnector::from(Arc::clone(&self.config));
        Box::pin(async move {
            let name = ServerName::try_from(host).map_err(io::Error::other)?;
            let stream = connecting.await.map_err(io::Error::other)?;
            tls.connect(name, stream.into_inner())
                .await
                .map(TokioIo::new)
        })
    }
}

/// Says scheme, host and port in the words the connectors know.
fn destination(url: &Uri) -> Result<Uri, DialError> {
    let scheme = if is_secure(url) { "https" } else { "http" };
    format!("{scheme}://{}/", host_text(url))
        .parse()
        .map_err(|_| DialError::Unreachable {
            host: host_text(url),
            reason: "not a valid address".to_owned(),
        })
}

/// Adds the port a proxy address left out.
fn with_port(uri: Uri, default: u16) -> Uri {
    if uri.port().is_some() {
        return uri;
    }
    let host = uri.host().unwrap_or_default();
    let scheme = uri.scheme_str().unwrap_or("http");
    format!("{scheme}://{host}:{default}/")
        .parse()
        .unwrap_or(uri)
}

/// The connectors wrap what matters in several layers of "error trying to connect".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
