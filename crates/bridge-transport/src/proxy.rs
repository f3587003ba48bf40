//! The way to a host: directly, through an HTTP(S) proxy's tunnel or through SOCKS.

use std::{
    io,
    pin::Pin,
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
use tower_service::Service;

pub(crate) use crate::tcp::Stream;
use crate::{
    address::{bare_host, host_text, is_loopback, is_secure},
    config::ProxySource,
    dial::DialError,
    tcp,
    tls::Client,
    trust::TlsSettings,
};

/// Opens a byte stream to an address, through a proxy where one is meant for it; loopback never
/// leaves the machine.
pub(crate) async fn reach(
    url: &Uri,
    source: &ProxySource,
    tls: &TlsSettings,
) -> Result<Box<dyn Stream>, DialError> {
    match proxy_for(url, source)? {
        Some(proxy) => through(&proxy, url, tls).await,
        None => Ok(Box::new(tcp::connect(url).await?)),
    }
}

fn proxy_for(url: &Uri, source: &ProxySource) -> Result<Option<Intercept>, DialError> {
    if is_loopback(url) {
        return Ok(None);
    }
    let target = destination(url)?;
    match source {
        ProxySource::Environment => Ok(Matcher::from_env().intercept(&target)),
        ProxySource::None => Ok(None),
        ProxySource::Address(proxy) => {
            let matcher = Matcher::builder().all(proxy.to_string()).build();
            // One that cannot be used must not be gone around.
            let unknown = || DialError::Proxy {
                proxy: host_text(proxy),
                reason: "its address is none of a proxy".to_owned(),
            };
            matcher.intercept(&target).map(Some).ok_or_else(unknown)
        }
    }
}

async fn through(
    proxy: &Intercept,
    url: &Uri,
    tls: &TlsSettings,
) -> Result<Box<dyn Stream>, DialError> {
    let target = destination(url)?;
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let name = proxy
        .uri()
        .authority()
        .map(ToString::to_string)
        .unwrap_or_default();
    let refused = |error: &dyn std::error::Error| DialError::Proxy {
        proxy: name.clone(),
        reason: in_words(error),
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
            // What the peer is held to is not asked of a proxy, nor is it shown who we are.
            let tls = TlsSettings {
                roots: tls.roots.clone(),
                ..TlsSettings::default()
            };
            let mut tunnel = Tunnel::new(with_port(uri, 443), TlsToProxy { tcp, tls });
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
    tls: TlsSettings,
}

impl Service<Uri> for TlsToProxy {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp.poll_ready(cx).map_err(io::Error::other)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.tcp.call(uri.clone());
        let tls = self.tls.clone();
        Box::pin(async move {
            let client = Client::new(tls).await.map_err(io::Error::other)?;
            let stream = connecting.await.map_err(io::Error::other)?;
            let stream: Box<dyn Stream> =
                Box::new(client.connect(bare_host(&uri), stream.into_inner()).await?);
            Ok(TokioIo::new(stream))
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
fn in_words(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    let text = last.to_string();
    match text.strip_prefix("tunnel error: ") {
        Some("proxy authorization required") => {
            "it wants a user name and password, or others than those in its address".to_owned()
        }
        Some("unsuccessful") => "its answer to CONNECT is not 200".to_owned(),
        Some(other) => other.to_owned(),
        None => text,
    }
}
