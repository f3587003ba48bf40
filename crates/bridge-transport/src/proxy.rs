//! The way to a host: directly, through an HTTP(S) proxy's tunnel or through SOCKS.

use std::{
    env, error,
    future::{Ready, ready},
    io,
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
        ProxySource::Environment => {
            let variable =
                |names: [&str; 2]| names.into_iter().find_map(|name| env::var(name).ok());
            let of_scheme = if is_secure(url) {
                ["HTTPS_PROXY", "https_proxy"]
            } else {
                ["HTTP_PROXY", "http_proxy"]
            };
            let named = [of_scheme, ["ALL_PROXY", "all_proxy"]].map(variable);
            let named = named.into_iter().flatten().find(|proxy| !proxy.is_empty());
            let but = variable(["NO_PROXY", "no_proxy"]).unwrap_or_default();
            match named {
                Some(proxy) if !is_usable(&proxy, &but, &target) => {
                    let host = proxy.parse().map(|proxy| host_text(&proxy));
                    Err(no_proxy(
                        host.unwrap_or_else(|_| "of the environment".to_owned()),
                    ))
                }
                Some(_) | None => Ok(Matcher::from_env().intercept(&target)),
            }
        }
        ProxySource::None => Ok(None),
        ProxySource::Address(proxy) => {
            let matcher = Matcher::builder().all(proxy.to_string()).build();
            let unknown = || no_proxy(host_text(proxy));
            matcher.intercept(&target).map(Some).ok_or_else(unknown)
        }
    }
}

/// Tells whether what is named as the proxy leads to the target, or the target needs none.
fn is_usable(proxy: &str, but: &str, target: &Uri) -> bool {
    let leads = |proxy: &str| {
        let matcher = Matcher::builder().all(proxy.to_owned()).no(but.to_owned());
        matcher.build().intercept(target).is_some()
    };
    leads(proxy) || !leads("http://proxy.invalid")
}

/// One that cannot be used must not be gone around.
fn no_proxy(proxy: String) -> DialError {
    DialError::Proxy {
        proxy,
        reason: "its address is none of a proxy".to_owned(),
    }
}

async fn through(
    proxy: &Intercept,
    url: &Uri,
    tls: &TlsSettings,
) -> Result<Box<dyn Stream>, DialError> {
    let target = destination(url)?;
    let name = proxy
        .uri()
        .authority()
        .map(ToString::to_string)
        .unwrap_or_default();
    let refused = |error: &dyn error::Error| DialError::Proxy {
        proxy: name.clone(),
        reason: in_words(error),
    };
    let scheme = proxy.uri().scheme_str();
    let uri = with_port(
        proxy.uri().clone(),
        match scheme {
            Some("socks4" | "socks4a" | "socks5" | "socks5h") => 1080,
            Some("https") => 443,
            Some(_) | None => 80,
        },
    );
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let stream = tcp.call(uri.clone()).await;
    let stream = stream.map_err(|error| DialError::Unreachable {
        host: format!("proxy {name}"),
        reason: in_words(&error),
    })?;
    let mut stream: Box<dyn Stream> = Box::new(stream.into_inner());
    if scheme == Some("https") {
        // What the peer is held to is not asked of a proxy, nor is it shown who we are.
        let tls = TlsSettings {
            roots: tls.roots.clone(),
            ..TlsSettings::default()
        };
        let client = Client::new(tls).await.map_err(|error| refused(&error))?;
        let secured = client.connect(bare_host(&uri), stream).await;
        stream = Box::new(secured.map_err(|error| refused(&error))?);
    }
    let opened = Opened(Some(TokioIo::new(stream)));
    let stream = match scheme {
        Some("socks4" | "socks4a") => {
            let local = scheme == Some("socks4");
            let mut socks = SocksV4::new(uri, opened).local_dns(local);
            socks.call(target).await.map_err(|error| refused(&error))?
        }
        Some("socks5" | "socks5h") => {
            let local = scheme == Some("socks5");
            let mut socks = SocksV5::new(uri, opened).local_dns(local);
            if let Some((user, password)) = proxy.raw_auth() {
                socks = socks.with_auth(user.to_owned(), password.to_owned());
            }
            socks.call(target).await.map_err(|error| refused(&error))?
        }
        Some(_) | None => {
            let mut tunnel = Tunnel::new(uri, opened);
            if let Some(auth) = proxy.basic_auth() {
                tunnel = tunnel.with_auth(auth.clone());
            }
            tunnel.call(target).await.map_err(|error| refused(&error))?
        }
    };
    Ok(stream.into_inner())
}

/// A stream to the proxy, for those who ask it for a way through.
struct Opened(Option<TokioIo<Box<dyn Stream>>>);

impl Service<Uri> for Opened {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let stream = self.0.take();
        ready(stream.ok_or_else(|| io::Error::other("the proxy was asked twice")))
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
fn in_words(error: &dyn error::Error) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_that_cannot_be_used_is_none_unless_the_target_needs_none() {
        let target: Uri = "https://plane.example/".parse().unwrap();
        for good in ["http://box:1", "box:1", "socks5h://box:1"] {
            assert!(is_usable(good, "", &target), "{good}");
        }
        for wrong in ["ftp://box:1", "socks6://box:1", "http//box"] {
            assert!(!is_usable(wrong, "other.example", &target), "{wrong}");
            assert!(is_usable(wrong, "plane.example", &target), "{wrong}");
        }
    }
}
