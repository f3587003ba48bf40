//! What to connect to, and the limits and timings of the link, checked once.

use std::{fmt, path::PathBuf, time::Duration};

use http::{HeaderValue, Uri};
use tokio::sync::watch;

use crate::{
    address::{self, host_text},
    carrier::CarrierKind,
    delivery::Position,
    link::close::CloseRules,
    payload::Greeting,
    trust::{Fingerprint, Identity, TlsSettings},
};

/// Everything a link needs to know about its peer.
#[derive(Clone)]
pub struct Endpoint {
    /// Where to connect: `ws://` or `wss://`; `http://` or `https://` for the same address where
    /// any carrier will do; `tcp://` or `tls://` for lines.
    pub url: Uri,
    /// How frames travel, the best way first.
    pub carriers: Vec<CarrierKind>,
    /// The value of the `authorization` header, read at every dial; none is sent for `None`.
    /// A changed value is used at once while the link waits to dial again.
    pub authorization: watch::Receiver<Option<HeaderValue>>,
    /// What a TLS handshake is held to.
    pub tls: TlsSettings,
    /// Where proxies are looked up; never used for loopback addresses.
    pub proxy: ProxySource,
    /// Sizes that bound memory.
    pub limits: Limits,
    /// Every wait of the link.
    pub timings: Timings,
    /// What refusals and close codes mean.
    pub dialect: CloseRules,
    /// Whether to offer the extension with the header `x-bridge-extension: 1`.
    pub offer_extension: bool,
    /// Up to where the stream of the peer was kept in earlier lives; `None` when what the peer
    /// sends is not kept.
    pub heard: Option<Position>,
    /// When to offer compression together with the extension, with the feature `deflate`; where
    /// a network is between.
    pub compress: Compress,
    /// What goes first on every connection until [`Handle::greet`](crate::Handle::greet)
    /// replaces it.
    pub greeting: Greeting,
}

impl Endpoint {
    /// Describes a peer with every setting at its default.
    ///
    /// # Errors
    /// Fails for what is no URL, for one with another scheme, without a host or with a user name
    /// or password, for lines without a port, and for `ws`, `http` and `tcp` to another machine,
    /// where the credential would travel in clear text; see [`allow_plain`](Self::allow_plain).
    pub fn new(url: &str) -> Result<Self, EndpointError> {
        let endpoint = Self::allow_plain(url)?;
        if !address::is_secure(&endpoint.url) && !address::is_loopback(&endpoint.url) {
            return Err(EndpointError::ClearText {
                scheme: endpoint.url.scheme_str().unwrap_or_default().to_owned(),
                host: host_text(&endpoint.url),
            });
        }
        Ok(endpoint)
    }

    /// Like [`new`](Self::new), but allows clear text to another machine.
    ///
    /// Meant for networks that encrypt by themselves.
    ///
    /// # Errors
    /// Fails as [`new`](Self::new) does, except for clear text.
    pub fn allow_plain(url: &str) -> Result<Self, EndpointError> {
        let url = address::parse(url).map_err(|reason| EndpointError::Address { reason })?;
        let carriers = match url.scheme_str().unwrap_or_default() {
            "ws" | "wss" => vec![CarrierKind::WebSocket],
            "http" | "https" => CarrierKind::of_http(),
            "tcp" | "tls" => vec![CarrierKind::Lines],
            other => {
                return Err(EndpointError::Scheme {
                    scheme: other.to_owned(),
                });
            }
        };
        if address::bare_host(&url).is_empty() {
            return Err(EndpointError::NoHost);
        }
        if address::has_credentials(&url) {
            return Err(EndpointError::Credentials);
        }
        if address::port(&url).is_none() {
            return Err(EndpointError::NoPort);
        }
        let (_, authorization) = watch::channel(None);
        Ok(Self {
            url,
            carriers,
            authorization,
            tls: TlsSettings::default(),
            proxy: ProxySource::Environment,
            limits: Limits::default(),
            timings: Timings::default(),
            dialect: CloseRules::ctrlnode(),
            offer_extension: false,
            heard: None,
            compress: Compress::OverNetworks,
            greeting: Greeting::default(),
        })
    }

    /// Sets how frames travel. Of several carriers the first that gets through is used; those
    /// after a WebSocket are known to our hub alone.
    ///
    /// # Errors
    /// Fails for no carrier at all, and for one that cannot reach such an address: lines go to
    /// `tcp` and `tls`, everything else to the other schemes.
    pub fn carriers(
        mut self,
        carriers: impl IntoIterator<Item = CarrierKind>,
    ) -> Result<Self, EndpointError> {
        self.carriers = carriers.into_iter().collect();
        let scheme = self.url.scheme_str().unwrap_or_default();
        let to_lines = matches!(scheme, "tcp" | "tls");
        let fits = |kind: &CarrierKind| to_lines == (*kind == CarrierKind::Lines);
        if self.carriers.is_empty() || !self.carriers.iter().all(fits) {
            return Err(EndpointError::Carriers {
                scheme: scheme.to_owned(),
            });
        }
        Ok(self)
    }

    /// Sets where the credential comes from.
    #[must_use]
    pub fn authorization(mut self, source: watch::Receiver<Option<HeaderValue>>) -> Self {
        self.authorization = source;
        self
    }

    /// Sends `authorization: Bearer <token>`, a credential that never changes.
    ///
    /// # Errors
    /// Fails for a token that cannot stand in a header.
    pub fn bearer(mut self, token: &str) -> Result<Self, EndpointError> {
        let mut value =
            HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| EndpointError::Token)?;
        value.set_sensitive(true);
        self.authorization = watch::channel(Some(value)).1;
        Ok(self)
    }

    /// Trusts the certificate authorities of a PEM file as well.
    #[must_use]
    pub fn roots(mut self, file: PathBuf) -> Self {
        self.tls.roots = Some(file);
        self
    }

    /// Shows a client certificate to a peer that asks for one.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.tls.identity = Some(identity);
        self
    }

    /// Accepts only peers with this key, or another pinned one, whose certificate is good as well.
    #[must_use]
    pub fn pin(mut self, key: Fingerprint) -> Self {
        self.tls.pins.push(key);
        self
    }

    /// Trusts a pinned key whatever its certificate says, for a hub that signed its own: neither
    /// authority nor name nor dates count any more.
    #[must_use]
    pub fn trust_pins_alone(mut self) -> Self {
        self.tls.pins_alone = true;
        self
    }

    /// Sets everything that a TLS handshake is held to.
    #[must_use]
    pub fn tls(mut self, settings: TlsSettings) -> Self {
        self.tls = settings;
        self
    }

    /// Sets where proxies are looked up.
    #[must_use]
    pub fn proxy(mut self, proxy: ProxySource) -> Self {
        self.proxy = proxy;
        self
    }

    /// Sets the sizes that bound memory.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets every wait of the link.
    #[must_use]
    pub fn timings(mut self, timings: Timings) -> Self {
        self.timings = timings;
        self
    }

    /// Takes frames with numbers, behind those that were kept: a peer that can keeps each of its
    /// messages until it was [committed](crate::Handle::commit), and sends it again over
    /// connections and restarts of either side until then. Within one process a frame is delivered
    /// once. Needs the extension.
    ///
    /// An embedder that never commits gets everything again after its next start, and the peer
    /// holds back at most [`WINDOW`](crate::delivery::WINDOW) messages.
    #[must_use]
    pub fn heard(mut self, upto: Position) -> Self {
        self.heard = Some(upto);
        self
    }

    /// Sets what refusals and close codes mean.
    #[must_use]
    pub fn dialect(mut self, rules: CloseRules) -> Self {
        self.dialect = rules;
        self
    }

    /// Offers the extension.
    #[must_use]
    pub fn offer_extension(mut self, offer: bool) -> Self {
        self.offer_extension = offer;
        self
    }

    /// Sets when compression is offered together with the extension.
    #[must_use]
    pub fn compress(mut self, when: Compress) -> Self {
        self.compress = when;
        self
    }

    /// Sets what goes first on every connection.
    #[must_use]
    pub fn greeting(mut self, greeting: Greeting) -> Self {
        self.greeting = greeting;
        self
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("host", &host_text(&self.url))
            .field("carriers", &self.carriers)
            .field("tls", &self.tls)
            .field("proxy", &self.proxy)
            .field("limits", &self.limits)
            .field("timings", &self.timings)
            .field("offer_extension", &self.offer_extension)
            .field("compress", &self.compress)
            .finish_non_exhaustive()
    }
}

/// When compression is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compress {
    /// Never.
    Never,
    /// To other machines. On this one it would only cost time.
    OverNetworks,
    /// To this machine too.
    Always,
}

/// Where proxies are looked up.
#[derive(Clone, PartialEq, Eq)]
pub enum ProxySource {
    /// `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, in either case, read at every dial.
    Environment,
    /// No proxy.
    None,
    /// This proxy for every address: `http://`, `https://`, `socks4://`, `socks4a://`,
    /// `socks5://` or `socks5h://`, with a user name and password if it wants them.
    Address(Uri),
}

impl fmt::Debug for ProxySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str("Environment"),
            Self::None => f.write_str("None"),
            Self::Address(url) => f.debug_tuple("Address").field(&host_text(url)).finish(),
        }
    }
}

/// Sizes that bound memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The longest frame accepted or sent, in bytes; 32 MiB.
    pub frame: usize,
    /// How many bytes wait in the outbox before producers wait too; 8 MiB. One message larger
    /// than this is admitted when the outbox is empty.
    pub outbox: usize,
    /// How many bytes wait in the inbox before the socket is no longer read; 64 MiB.
    pub inbox: usize,
    /// How long a dial may take, from the name look-up to the answer of the upgrade; 10 s.
    pub dial: Duration,
    /// How many frames are taken; 2,000 a second, 20,000 at once. Beyond that the socket is read
    /// more slowly.
    pub frames: Rate,
    /// How many useless frames are taken: refused ones, those that are the same as the one before,
    /// and those that [turned out](crate::Handle::useless) to be; 100 a second, 2,000 at once.
    /// Beyond that the connection is closed and dialled again.
    pub useless: Rate,
}

/// How much of something is taken from a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many for any length of time; at least 1.
    pub each_second: u32,
    /// How many at once, after a pause; at least 1.
    pub burst: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame: 32 << 20,
            outbox: 8 << 20,
            inbox: 64 << 20,
            dial: Duration::from_secs(10),
            frames: Rate {
                each_second: 2000,
                burst: 20_000,
            },
            useless: Rate {
                each_second: 100,
                burst: 2000,
            },
        }
    }
}

/// Every wait of the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timings {
    /// The first retry of an outage is uniform below this; 1 s.
    pub first_retry: Duration,
    /// Later retries are uniform below `base`·2ⁿ; 0.5 s.
    pub base: Duration,
    /// The longest of these bounds during the first minute of an outage; 4 s.
    pub early_cap: Duration,
    /// The longest of these bounds after the first minute; 30 s.
    pub late_cap: Duration,
    /// How long a connection must live to count as healthy, which ends an outage; 30 s.
    pub healthy_after: Duration,
    /// The first retry after a refused credential; 30 s.
    pub slow_first: Duration,
    /// The longest retry after a refused credential; 10 min.
    pub slow_cap: Duration,
    /// The longest hint of a server that is followed (`Retry-After`, for example); 5 min.
    pub hint_cap: Duration,
    /// How often a ping is sent, give or take a fifth; 15 s.
    pub ping: Duration,
    /// How long nothing may be heard, or a write may stand still; 25 s.
    pub silence: Duration,
    /// How often the clocks are compared to notice that the machine slept; 5 s.
    pub clock_check: Duration,
    /// By how much they must differ to count as sleep; 10 s.
    pub sleep_jump: Duration,
    /// The least time between two messages of class [`Class::Paced`](crate::Class::Paced) of one
    /// stream; 30 ms.
    pub pace: Duration,
}

impl Timings {
    /// Bounds the retries of the first minute of an outage, as `RECONNECT_MS` does.
    #[must_use]
    pub fn reconnect_within(mut self, bound: Duration) -> Self {
        self.early_cap = bound;
        self.first_retry = self.first_retry.min(bound);
        self
    }
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            first_retry: Duration::from_secs(1),
            base: Duration::from_millis(500),
            early_cap: Duration::from_secs(4),
            late_cap: Duration::from_secs(30),
            healthy_after: Duration::from_secs(30),
            slow_first: Duration::from_secs(30),
            slow_cap: Duration::from_secs(600),
            hint_cap: Duration::from_secs(300),
            ping: Duration::from_secs(15),
            silence: Duration::from_secs(25),
            clock_check: Duration::from_secs(5),
            sleep_jump: Duration::from_secs(10),
            pace: Duration::from_millis(30),
        }
    }
}

/// Why an endpoint cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// The URL cannot be read.
    #[error("address cannot be read: {reason}")]
    Address {
        /// What is wrong with it.
        reason: String,
    },
    /// The URL has a scheme that no carrier knows.
    #[error(
        "address starts with {scheme}:// instead of wss://, ws://, https://, http://, tls:// or tcp://"
    )]
    Scheme {
        /// What it starts with.
        scheme: String,
    },
    /// The URL names no host.
    #[error("address has no host")]
    NoHost,
    /// The URL of lines names no port.
    #[error("address has no port")]
    NoPort,
    /// The carriers cannot reach such an address.
    #[error("no such carriers go to an address that starts with {scheme}://")]
    Carriers {
        /// What it starts with.
        scheme: String,
    },
    /// The URL carries a user name or password, which would end up in logs.
    #[error("address carries a user name or password")]
    Credentials,
    /// The credential would travel in clear text to another machine.
    #[error("{scheme}:// to {host} would send the token in clear text")]
    ClearText {
        /// `ws`, `http` or `tcp`.
        scheme: String,
        /// The other machine.
        host: String,
    },
    /// The token has characters that cannot stand in a header.
    #[error("token has characters that cannot stand in a header")]
    Token,
}
