//! How a host is reached and a WebSocket opened; every way a dial can fail, whatever the carrier.

use std::{io, path::PathBuf, time::Duration};

use http::{HeaderMap, Uri};

use crate::{
    address,
    carrier::{
        Target,
        traffic::{Metered, TrafficMeter},
    },
    config::ProxySource,
    link::close::{CloseRules, Verdict},
    proxy::{self, Stream},
    tls,
    trust::TlsSettings,
    upgrade::upgrade,
};

/// Why a dial failed.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name was not found or nothing answered there.
    #[error("{host} cannot be reached: {reason}")]
    Unreachable {
        /// Host and port that were dialled; those of a proxy have `proxy` before them.
        host: String,
        /// What the system said.
        reason: String,
    },
    /// The proxy answered, but gave no way through.
    #[error("proxy {proxy} refused the way through: {reason}")]
    Proxy {
        /// Host and port of the proxy.
        proxy: String,
        /// What it said.
        reason: String,
    },
    /// The extra certificate file or the platform's store cannot be used.
    #[error("certificate authorities cannot be loaded{}", in_file(file.as_ref()))]
    Roots {
        /// The extra file, if it is to blame.
        file: Option<PathBuf>,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The client certificate or its key cannot be used.
    #[error("client certificate cannot be used, from {}", file.display())]
    Identity {
        /// The file to blame.
        file: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The peer wants a client certificate, or another one than it was shown.
    #[error("{host} does not accept the client certificate it was shown, if any")]
    IdentityRefused {
        /// Host and port of the peer.
        host: String,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The TLS handshake failed.
    #[error("no secure connection to {host}")]
    Tls {
        /// Host and port of the peer.
        host: String,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The server answered the upgrade with another status.
    #[error("server refused the connection with status {status}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
        /// The beginning of what it said, at most 4 KiB.
        body: String,
    },
    /// What answered does not speak the protocol.
    #[error("server does not speak WebSocket: {reason}")]
    NotWebSocket {
        /// What was wrong.
        reason: &'static str,
    },
    /// What answered is no hub of ours, or none that knows this carrier.
    #[error("server does not carry frames over HTTP: {reason}")]
    NotOurs {
        /// What was wrong.
        reason: &'static str,
    },
    /// The connection broke before the server had answered.
    #[error("connection broke before the server had answered")]
    Broken(#[source] io::Error),
    /// The address or the settings want what this crate was built without.
    #[error(transparent)]
    BuiltWithout(BuiltWithout),
    /// The dial took too long.
    #[error("no answer within {after:?}")]
    TimedOut {
        /// The limit.
        after: Duration,
    },
}

impl DialError {
    /// Tells what the failure means for the next dial, by the rules of a dialect.
    pub fn disposition(&self, rules: &CloseRules) -> Disposition {
        match self {
            Self::Refused {
                status: 401 | 403,
                body,
                ..
            } => match rules.of_refusal(body) {
                Verdict::Transient => Disposition::Retry,
                Verdict::TransientFor(doubt) => Disposition::RetryFor(doubt),
                Verdict::CredentialRefused => Disposition::NeedsNewToken,
                Verdict::RetryAfter(wait) => Disposition::RetryAfter(wait),
            },
            Self::Refused {
                retry_after: Some(wait),
                ..
            } => Disposition::RetryAfter(*wait),
            Self::Refused { .. }
            | Self::Unreachable { .. }
            | Self::Proxy { .. }
            | Self::Roots { .. }
            | Self::Identity { .. }
            | Self::IdentityRefused { .. }
            | Self::Tls { .. }
            | Self::NotWebSocket { .. }
            | Self::NotOurs { .. }
            | Self::Broken(_)
            | Self::BuiltWithout(_)
            | Self::TimedOut { .. } => Disposition::Retry,
        }
    }
}

/// A feature of this crate that was left out and is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BuiltWithout {
    /// For `wss://` and proxies with `https://`.
    #[error("encrypted connections need bridge-transport's feature `tls`")]
    Tls,
    /// For a proxy that was named.
    #[error("proxies need bridge-transport's feature `proxy`")]
    Proxy,
}

/// What a failed dial means for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Dial again soon.
    Retry,
    /// Dial again soon, unless it goes on longer than this: then slowly.
    RetryFor(Duration),
    /// Dial again when the server said.
    RetryAfter(Duration),
    /// Dial slowly, or at once when the credential changes.
    NeedsNewToken,
}

/// A stream that speaks WebSocket from here on.
pub(crate) struct Dialled {
    pub(crate) stream: Box<dyn Stream>,
    pub(crate) leftover: Vec<u8>,
    pub(crate) extended: bool,
    /// The headers of the answer.
    pub(crate) headers: HeaderMap,
}

/// Goes all the way from a name to an upgraded stream.
pub(crate) async fn dial(
    target: &Target,
    proxy: &ProxySource,
    tls: &TlsSettings,
    traffic: &TrafficMeter,
) -> Result<Dialled, DialError> {
    let url = &target.url;
    let mut stream = stream(url, proxy, tls, traffic).await?;
    let upgraded = upgrade(&mut stream, url, &target.headers)
        .await
        .map_err(|error| tls::blamed(url, error))?;
    let accepted = upgraded
        .headers
        .get("x-bridge-extension")
        .is_some_and(|value| value == "1");
    Ok(Dialled {
        stream,
        leftover: upgraded.leftover,
        extended: target.offer_extension && accepted,
        headers: upgraded.headers,
    })
}

/// Opens a byte stream to a peer, encrypted where its address wants that.
pub(crate) async fn stream(
    url: &Uri,
    proxy: &ProxySource,
    tls: &TlsSettings,
    traffic: &TrafficMeter,
) -> Result<Box<dyn Stream>, DialError> {
    // Files that cannot be used are told before anybody is called.
    let client = if address::is_secure(url) {
        Some(tls::Client::new(tls.clone()).await?)
    } else {
        None
    };
    let stream = proxy::reach(url, proxy, tls).await?;
    let stream = Metered::new(stream, traffic.clone());
    let Some(client) = client else {
        return Ok(Box::new(stream));
    };
    let encrypted = client.connect(address::bare_host(url), stream).await;
    Ok(Box::new(
        encrypted.map_err(|error| tls::failed(url, error))?,
    ))
}

fn in_file(file: Option<&PathBuf>) -> String {
    file.map(|file| format!(" from {}", file.display()))
        .unwrap_or_default()
}
