//! The link through proxies that are made here: which ways lead through, and what is said of those
//! that do not. `plane.invalid` is a name nobody can look up, so only a proxy leads there.

#![expect(
    clippy::unwrap_used,
    reason = "the lint exempts test functions, not their helpers"
)]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bridge_transport::{
    Endpoint, Fingerprint, Handle, Inbox, Limits, LinkState, Phase, ProxySource, Text, Timings,
    connect,
};
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::accept_async;

/// A control plane, and a proxy before it.
struct World {
    plane: TcpListener,
    proxy: TcpListener,
}

impl World {
    async fn new() -> Self {
        Self {
            plane: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            proxy: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        }
    }

    fn at(&self) -> SocketAddr {
        self.proxy.local_addr().unwrap()
    }

    /// A link to the plane through the proxy, which is told `user` before its address.
    fn link(&self, scheme: &str, user: &str) -> (Handle<Text>, Inbox) {
        self.link_to("ws://plane.invalid/ws", scheme, user)
    }

    fn link_to(&self, plane: &str, scheme: &str, user: &str) -> (Handle<Text>, Inbox) {
        let proxy = format!("{scheme}://{user}{}", self.at());
        connect(through(plane, &proxy))
    }

    /// Waits until a link that was let through has arrived.
    async fn arrives(&self, link: &Handle<Text>) {
        let (stream, _) = self.plane.accept().await.unwrap();
        let socket = accept_async(stream).await.unwrap();
        let mut states = link.state();
        let online = states.wait_for(|state| state.phase == Phase::Online).await;
        assert_eq!(online.unwrap().last_error, None);
        drop(socket);
    }

    /// The beginning of what the proxy is asked.
    async fn asked(&self) -> (TcpStream, String) {
        let (mut client, _) = self.proxy.accept().await.unwrap();
        let head = head(&mut client).await;
        (client, head)
    }

    async fn pass_on<S: AsyncRead + AsyncWrite + Unpin>(&self, mut client: S) {
        let mut plane = TcpStream::connect(self.plane.local_addr().unwrap())
            .await
            .unwrap();
        // How it ends is the link's to say.
        drop(copy_bidirectional(&mut client, &mut plane).await);
    }
}

fn through(plane: &str, proxy: &str) -> Endpoint {
    let timings = Timings::default().reconnect_within(Duration::from_secs(60));
    let source = ProxySource::Address(proxy.parse().unwrap());
    assert!(!format!("{source:?}").contains("s3cret"));
    Endpoint::allow_plain(plane)
        .unwrap()
        .timings(timings)
        .proxy(source)
        .bearer("t0ken")
        .unwrap()
}

async fn head<S: AsyncRead + Unpin>(client: &mut S) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        assert_ne!(client.read_buf(&mut request).await.unwrap(), 0, "cut off");
    }
    let request = String::from_utf8(request).unwrap();
    assert!(!request.contains("t0ken"), "{request}");
    request
}

/// What is said of a dial that failed; never a password, nor the token.
async fn failed(link: &Handle<Text>) -> String {
    let mut states = link.state();
    let waiting = |state: &LinkState| state.phase == Phase::Waiting;
    let state = states.wait_for(waiting).await.unwrap();
    let error = state.last_error.clone().unwrap();
    for secret in ["s3cret", "czNjcmV0", "t0ken"] {
        assert!(!error.contains(secret), "{error}");
    }
    error
}

const USER: &str = "me:s3cret@";
/// The same in base64.
const BASIC: &str = "Basic bWU6czNjcmV0";

#[tokio::test]
async fn http_tunnels_are_asked_for_with_and_without_a_password() {
    for user in ["", USER] {
        let world = World::new().await;
        let (link, _inbox) = world.link("http", user);
        let (mut client, asked) = world.asked().await;
        assert!(
            asked.starts_with("CONNECT plane.invalid:80 HTTP/1.1\r\n"),
            "{asked}"
        );
        let shown = asked
            .lines()
            .find_map(|line| line.strip_prefix("Proxy-Authorization: "));
        assert_eq!(shown, (!user.is_empty()).then_some(BASIC));
        client
            .write_all(b"HTTP/1.1 200 Connection established\r\nVia: here\r\n\r\n")
            .await
            .unwrap();
        tokio::select! {
            () = world.pass_on(client) => panic!("the tunnel ended"),
            () = world.arrives(&link) => {}
        }
    }
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_with_its_reason() {
    for (answer, why) in [
        (
            "HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic\r\n\r\n",
            "it wants a user name and password, or others than those in its address",
        ),
        (
            "HTTP/1.1 403 Forbidden\r\n\r\n",
            "its answer to CONNECT is not 200",
        ),
        (
            "SSH-2.0-OpenSSH_9.6\r\n",
            "its answer to CONNECT is not 200",
        ),
        ("\u{5}\u{0}\r\n\r\n", "its answer to CONNECT is not 200"),
        ("", "unexpected end of file"),
    ] {
        for user in ["", USER] {
            let world = World::new().await;
            let (link, _inbox) = world.link("http", user);
            let (mut client, _) = world.asked().await;
            client.write_all(answer.as_bytes()).await.unwrap();
            client.shutdown().await.unwrap();
            let expected = format!("proxy {} refused the way through: {why}", world.at());
            assert_eq!(failed(&link).await, expected, "{answer}");
        }
    }
}

#[tokio::test]
async fn endless_answers_are_cut_off() {
    let world = World::new().await;
    let (link, _inbox) = world.link("http", "");
    let (mut client, _) = world.asked().await;
    let flood = tokio::spawn(async move {
        let line = format!("x: {}\r\n", "y".repeat(1000)).into_bytes();
        client.write_all(b"HTTP/1.1 200 Ok\r\n").await?;
        loop {
            client.write_all(&line).await?;
        }
        #[expect(unreachable_code, reason = "says what the errors are")]
        Ok::<(), std::io::Error>(())
    });
    let error = failed(&link).await;
    assert!(error.contains("too long"), "{error}");
    assert!(flood.await.unwrap().is_err(), "still read");
}

#[tokio::test]
async fn a_proxy_that_stalls_costs_the_limit_of_a_dial_and_no_more() {
    let limits = Limits {
        dial: Duration::from_millis(100),
        ..Limits::default()
    };
    for scheme in ["http", "socks4", "socks5", "https"] {
        let world = World::new().await;
        let proxy = format!("{scheme}://{}", world.at());
        // `socks4` looks names up itself.
        let plane = "ws://192.0.2.1/ws";
        let endpoint = through(plane, &proxy).limits(limits.clone());
        let (link, _inbox): (Handle<Text>, Inbox) = connect(endpoint);
        let (mut silent, _) = world.proxy.accept().await.unwrap();
        assert_eq!(failed(&link).await, "no answer within 100ms");
        // It is also let go of.
        let mut rest = Vec::new();
        silent.read_to_end(&mut rest).await.unwrap();
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_told_from_a_plane_that_is_not() {
    let world = World::new().await;
    let at = world.at();
    drop(world);
    for scheme in ["http", "https", "socks4a", "socks5h"] {
        let endpoint = through("ws://plane.invalid/ws", &format!("{scheme}://{USER}{at}"));
        let (link, _inbox): (Handle<Text>, Inbox) = connect(endpoint);
        let error = failed(&link).await;
        let beginning = format!("proxy {at} cannot be reached: ");
        assert!(error.starts_with(&beginning), "{error}");
    }
}

#[tokio::test]
async fn what_is_no_proxy_is_not_gone_around() {
    let endpoint = through("ws://192.0.2.1/ws", "ftp://proxy.invalid:21");
    let (link, _inbox): (Handle<Text>, Inbox) = connect(endpoint);
    assert_eq!(
        failed(&link).await,
        "proxy proxy.invalid:21 refused the way through: its address is none of a proxy"
    );
}

#[tokio::test]
async fn loopback_never_goes_through_a_proxy() {
    let world = World::new().await;
    let plane = world.plane.local_addr().unwrap().port();
    for host in ["127.0.0.1", "localhost"] {
        let plane = format!("ws://{host}:{plane}/ws");
        let (link, _inbox) = world.link_to(&plane, "http", USER);
        tokio::select! {
            _ = world.proxy.accept() => panic!("the proxy was asked"),
            () = world.arrives(&link) => {}
        }
    }
}

/// The server's half of SOCKS 5 (RFC 1928, 1929), as far as a test has use for it.
async fn socks5(
    mut client: TcpStream,
    wants: Option<&str>,
    ends: u8,
) -> Option<(TcpStream, String)> {
    let mut begins = [0; 2];
    client.read_exact(&mut begins).await.unwrap();
    assert_eq!(begins[0], 5, "the version");
    let mut methods = vec![0; begins[1].into()];
    client.read_exact(&mut methods).await.unwrap();
    let method = if wants.is_some() { 2 } else { 0 };
    if !methods.contains(&method) {
        client.write_all(&[5, 0xff]).await.unwrap();
        return None;
    }
    client.write_all(&[5, method]).await.unwrap();
    if let Some(wants) = wants {
        assert_eq!(client.read_u8().await.unwrap(), 1, "the version");
        let mut shown = Vec::new();
        for _ in 0..2 {
            let len = client.read_u8().await.unwrap();
            let mut part = vec![0; len.into()];
            client.read_exact(&mut part).await.unwrap();
            shown.push(String::from_utf8(part).unwrap());
        }
        let good = shown.join(":") == wants;
        client.write_all(&[1, u8::from(!good)]).await.unwrap();
        if !good {
            return None;
        }
    }
    let mut request = [0; 4];
    client.read_exact(&mut request).await.unwrap();
    assert_eq!(request, [5, 1, 0, 3], "a connection to a name");
    let len = client.read_u8().await.unwrap();
    let mut name = vec![0; len.into()];
    client.read_exact(&mut name).await.unwrap();
    let port = client.read_u16().await.unwrap();
    let target = format!("{}:{port}", String::from_utf8(name).unwrap());
    client
        .write_all(&[5, ends, 0, 1, 0, 0, 0, 0, 0, 0])
        .await
        .unwrap();
    Some((client, target))
}

#[tokio::test]
async fn socks5_leads_through_with_and_without_a_password_and_looks_the_name_up_there() {
    for (user, wants) in [("", None), (USER, Some("me:s3cret"))] {
        let world = World::new().await;
        let (link, _inbox) = world.link("socks5h", user);
        let (client, _) = world.proxy.accept().await.unwrap();
        let (client, target) = socks5(client, wants, 0).await.unwrap();
        assert_eq!(target, "plane.invalid:80");
        tokio::select! {
            () = world.pass_on(client) => panic!("the tunnel ended"),
            () = world.arrives(&link) => {}
        }
    }
}

#[tokio::test]
async fn socks5_that_refuses_is_named_with_its_reason() {
    for (user, wants, ends, why) in [
        (
            "me:wr0ng@",
            Some("me:s3cret"),
            0,
            "credentials not accepted",
        ),
        ("", Some("me:s3cret"), 0, ""),
        (USER, None, 0, ""),
        ("", None, 2, ""),
        ("", None, 4, ""),
    ] {
        let world = World::new().await;
        let (link, _inbox) = world.link("socks5h", user);
        let (client, _) = world.proxy.accept().await.unwrap();
        let _client = socks5(client, wants, ends).await;
        let error = failed(&link).await;
        let beginning = format!("proxy {} refused the way through: ", world.at());
        assert!(
            error.starts_with(&beginning) && error.contains(why),
            "{error}"
        );
        assert!(error.len() > beginning.len(), "{error}");
    }
}

#[tokio::test]
async fn socks5_that_answers_nonsense_is_left() {
    for answer in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        &[5],
        &[5, 9],
        &[0; 64],
        b"",
    ] {
        let world = World::new().await;
        let (link, _inbox) = world.link("socks5h", USER);
        let (mut client, _) = world.proxy.accept().await.unwrap();
        let mut begins = [0; 3];
        client.read_exact(&mut begins).await.unwrap();
        client.write_all(answer).await.unwrap();
        client.shutdown().await.unwrap();
        let error = failed(&link).await;
        assert!(
            error.starts_with(&format!("proxy {} ", world.at())),
            "{error}"
        );
    }
}

/// The way to the proxy is encrypted, and then the way to the plane within it.
#[tokio::test]
async fn a_proxy_behind_tls_is_held_to_the_authorities_and_not_to_the_pins_of_the_plane() {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("ca.pem");
    std::fs::write(&roots, certificate.pem()).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.into()], key)
        .unwrap();
    let tls = TlsAcceptor::from(Arc::new(config));

    let world = World::new().await;
    let proxy = format!("https://{USER}localhost:{}", world.at().port());
    let endpoint = through("ws://plane.invalid/ws", &proxy);
    let (stranger, _inbox): (Handle<Text>, Inbox) = connect(endpoint.clone());
    let (client, _) = world.proxy.accept().await.unwrap();
    assert!(tls.accept(client).await.is_err());
    let error = failed(&stranger).await;
    assert!(error.contains("UnknownIssuer"), "{error}");

    let endpoint = endpoint.roots(roots).pin(Fingerprint([7; 32]));
    let (link, _inbox): (Handle<Text>, Inbox) = connect(endpoint);
    let (client, _) = world.proxy.accept().await.unwrap();
    let mut client = tls.accept(client).await.unwrap();
    let asked = head(&mut client).await;
    assert!(asked.contains(BASIC), "{asked}");
    client.write_all(b"HTTP/1.1 200 Ok\r\n\r\n").await.unwrap();
    tokio::select! {
        () = world.pass_on(client) => panic!("the tunnel ended"),
        () = world.arrives(&link) => {}
    }
}
