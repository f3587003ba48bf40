//! TLS over real sockets, with certificates made here: who is let in, and who is not.

#![expect(
    clippy::unwrap_used,
    reason = "the lint exempts test functions, not their helpers"
)]

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use bridge_transport::{
    Endpoint, Fingerprint, Handle, Identity, Inbox, LinkState, Phase, Text, Timings, connect,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair,
    PublicKeyData as _, date_time_ymd,
};
use rustls::{
    RootCertStore, ServerConfig,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::{
    accept_hdr_async,
    tungstenite::handshake::server::{Request, Response},
};

/// An authority of our own, and a folder for the files it signs.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

/// A certificate with its key.
struct Signed {
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl Authority {
    fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let file = self.folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file
    }

    fn roots(&self) -> PathBuf {
        self.file("ca.pem", &self.issuer.pem())
    }

    fn sign(&self, params: &CertificateParams, key: KeyPair) -> Signed {
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Signed {
            certificate: certificate.into(),
            key,
        }
    }

    /// For this machine under its usual name, good for a long time.
    fn good(&self) -> Signed {
        self.sign(&named("localhost"), KeyPair::generate().unwrap())
    }

    /// A client certificate in files.
    fn identity(&self) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = named("bridge").signed_by(&key, &self.issuer).unwrap();
        Identity {
            certificates: self.file("bridge.pem", &certificate.pem()),
            key: self.file("bridge.key", &key.serialize_pem()),
        }
    }

    fn verifies_clients(&self) -> Arc<dyn ClientCertVerifier> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .unwrap()
    }
}

fn anybody() -> Arc<dyn ClientCertVerifier> {
    WebPkiClientVerifier::no_client_auth()
}

fn named(name: &str) -> CertificateParams {
    CertificateParams::new([name.to_owned()]).unwrap()
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

impl Signed {
    fn fingerprint(&self) -> Fingerprint {
        let info = self.key.subject_public_key_info();
        let digest = ring::digest::digest(&ring::digest::SHA256, &info);
        Fingerprint(digest.as_ref().try_into().unwrap())
    }
}

/// A control plane behind TLS.
struct Plane {
    listener: TcpListener,
    tls: TlsAcceptor,
}

impl Plane {
    async fn start(signed: &Signed, clients: Arc<dyn ClientCertVerifier>) -> Self {
        let key = PrivatePkcs8KeyDer::from(signed.key.serialize_der());
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![signed.certificate.clone()], PrivateKeyDer::from(key))
            .unwrap();
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            tls: TlsAcceptor::from(Arc::new(config)),
        }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    fn endpoint(&self) -> Endpoint {
        endpoint(&format!("wss://localhost:{}/ws", self.address().port()))
    }

    /// One connection: what came through TLS before it ended, or that it stays open.
    async fn serve(&self) -> Served {
        let (stream, _) = self.listener.accept().await.unwrap();
        let mut stream = match self.tls.accept(stream).await {
            Ok(stream) => stream,
            Err(error) => return Served::Refused(error.to_string()),
        };
        let shown = stream.get_ref().1.peer_certificates().map(<[_]>::len);
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut request).await.unwrap_or_default() == 0 {
                return Served::Refused("closed".to_owned());
            }
        }
        let request = String::from_utf8(request).unwrap();
        assert!(request.contains("authorization: Bearer t0ken"), "{request}");
        stream
            .write_all(b"HTTP/1.1 503 Seen\r\ncontent-length: 0\r\nretry-after: 300\r\n\r\n")
            .await
            .unwrap();
        stream.shutdown().await.unwrap();
        Served::Asked {
            certificates: shown.unwrap_or_default(),
        }
    }
}

/// What became of a connection, as the plane saw it.
#[derive(Debug, PartialEq, Eq)]
enum Served {
    Refused(String),
    /// The upgrade was asked for, with the token and as many certificates of the client.
    Asked {
        certificates: usize,
    },
}

fn endpoint(url: &str) -> Endpoint {
    let timings = Timings::default().reconnect_within(Duration::from_secs(60));
    Endpoint::new(url)
        .unwrap()
        .timings(timings)
        .bearer("t0ken")
        .unwrap()
}

/// Dials once; tells what the plane saw and what the link says of it.
async fn dialled(plane: &Plane, endpoint: Endpoint) -> (Served, String) {
    let (link, _inbox): (Handle<Text>, Inbox) = connect(endpoint);
    let served = plane.serve().await;
    (served, failed(&link).await)
}

/// What is said of the dial that failed.
async fn failed(link: &Handle<Text>) -> String {
    let mut states = link.state();
    let waiting = |state: &LinkState| state.phase == Phase::Waiting;
    let state = states.wait_for(waiting).await.unwrap();
    state.last_error.clone().unwrap_or_default()
}

/// The error of a dial that gets as far as the upgrade.
const SEEN: &str = "server refused the connection with status 503";

async fn refused(plane: &Plane, endpoint: Endpoint, why: &str) {
    let (served, error) = dialled(plane, endpoint).await;
    assert!(matches!(served, Served::Refused(_)), "{served:?}");
    let port = plane.address().port();
    let beginning = format!("no secure connection to localhost:{port}: ");
    assert!(error.starts_with(&beginning), "{error}");
    assert!(error.contains(why), "{error}");
}

async fn let_in(plane: &Plane, endpoint: Endpoint, certificates: usize) {
    let (served, error) = dialled(plane, endpoint).await;
    assert_eq!(served, Served::Asked { certificates }, "{error}");
    assert_eq!(error, SEEN);
}

#[tokio::test]
async fn an_authority_is_trusted_once_its_file_is_named_and_not_before() {
    let authority = Authority::named("ours");
    let plane = Plane::start(&authority.good(), anybody()).await;
    refused(&plane, plane.endpoint(), "UnknownIssuer").await;
    let other = Authority::named("other");
    refused(
        &plane,
        plane.endpoint().roots(other.roots()),
        "UnknownIssuer",
    )
    .await;
    let_in(&plane, plane.endpoint().roots(authority.roots()), 0).await;
}

#[tokio::test]
async fn a_link_runs_over_tls() {
    let authority = Authority::named("ours");
    let plane = Plane::start(&authority.good(), anybody()).await;
    let (link, _inbox): (Handle<Text>, Inbox) = connect(plane.endpoint().roots(authority.roots()));
    let (stream, _) = plane.listener.accept().await.unwrap();
    let stream = plane.tls.accept(stream).await.unwrap();
    let _socket = accept_hdr_async(stream, plainly).await.unwrap();
    let mut states = link.state();
    let online = states.wait_for(|state| state.phase == Phase::Online).await;
    assert_eq!(online.unwrap().last_error, None);
}

#[expect(
    clippy::result_large_err,
    clippy::unnecessary_wraps,
    reason = "the library's callback type"
)]
fn plainly(
    _: &Request,
    response: Response,
) -> Result<Response, tokio_tungstenite::tungstenite::handshake::server::ErrorResponse> {
    Ok(response)
}

#[tokio::test]
async fn a_wrong_name_and_dates_that_are_over_or_to_come_are_refused() {
    let authority = Authority::named("ours");
    let dated = |from, to| {
        let mut params = named("localhost");
        (params.not_before, params.not_after) =
            (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        params
    };
    for (params, why) in [
        (
            named("plane.example"),
            "certificate not valid for name \"localhost\"",
        ),
        (dated(2001, 2002), "certificate expired"),
        (dated(4000, 4001), "certificate not valid yet"),
    ] {
        let signed = authority.sign(&params, KeyPair::generate().unwrap());
        let plane = Plane::start(&signed, anybody()).await;
        refused(&plane, plane.endpoint().roots(authority.roots()), why).await;
        // A pinned key mends nothing of that.
        let pinned = plane.endpoint().roots(authority.roots());
        refused(&plane, pinned.pin(signed.fingerprint()), why).await;
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_who_asks_for_it() {
    let authority = Authority::named("ours");
    let good = authority.good();
    let wants = Plane::start(&good, authority.verifies_clients()).await;
    let trusting = || wants.endpoint().roots(authority.roots());
    let_in(&wants, trusting().identity(authority.identity()), 1).await;

    let stranger = Authority::named("stranger");
    for endpoint in [trusting(), trusting().identity(stranger.identity())] {
        let (served, error) = dialled(&wants, endpoint).await;
        assert!(matches!(served, Served::Refused(_)), "{served:?}");
        let port = wants.address().port();
        let beginning =
            format!("localhost:{port} does not accept the client certificate it was shown, if any");
        assert!(error.starts_with(&beginning), "{error}");
    }

    let does_not_ask = Plane::start(&good, anybody()).await;
    let endpoint = does_not_ask.endpoint().roots(authority.roots());
    let_in(&does_not_ask, endpoint.identity(authority.identity()), 0).await;
}

#[tokio::test]
async fn a_client_certificate_that_cannot_be_used_is_named() {
    let authority = Authority::named("ours");
    let good = authority.identity();
    let other_key = KeyPair::generate().unwrap().serialize_pem();
    let encrypted = other_key.replace("PRIVATE", "ENCRYPTED PRIVATE");
    let of_file = |name: &str, text: &str| Identity {
        key: authority.file(name, text),
        certificates: good.certificates.clone(),
    };
    for (identity, file, why) in [
        (
            of_file("other.key", &other_key),
            "other.key",
            "keys may not be consistent",
        ),
        (
            of_file("locked.key", &encrypted),
            "locked.key",
            "no private key in the file that is not encrypted",
        ),
        (
            of_file("empty.key", ""),
            "empty.key",
            "no private key in the file",
        ),
        (
            Identity {
                certificates: "no/such.pem".into(),
                key: good.key.clone(),
            },
            "no/such.pem",
            "",
        ),
    ] {
        // Nobody is listening: the files are looked at before anything is sent.
        let endpoint = endpoint("wss://localhost:1/ws").identity(identity);
        let (link, _inbox): (Handle<Text>, Inbox) = connect(endpoint);
        let error = failed(&link).await;
        assert!(
            error.starts_with("client certificate cannot be used, from "),
            "{error}"
        );
        assert!(error.contains(file) && error.contains(why), "{error}");
    }
}

#[tokio::test]
async fn a_pinned_key_is_wanted_besides_a_good_certificate() {
    let authority = Authority::named("ours");
    let good = authority.good();
    let plane = Plane::start(&good, anybody()).await;
    let trusting = || plane.endpoint().roots(authority.roots());
    let other = Fingerprint([7; 32]);
    let_in(&plane, trusting().pin(good.fingerprint()), 0).await;
    let_in(&plane, trusting().pin(other).pin(good.fingerprint()), 0).await;
    let why = format!("its key is {}, which is not pinned", good.fingerprint());
    refused(&plane, trusting().pin(other), &why).await;
    refused(
        &plane,
        plane.endpoint().pin(good.fingerprint()),
        "UnknownIssuer",
    )
    .await;
    // The key stays the same when the certificate is renewed.
    let key = KeyPair::from_pem(&good.key.serialize_pem()).unwrap();
    let renewed = authority.sign(&named("localhost"), key);
    assert_ne!(renewed.certificate, good.certificate);
    let plane = Plane::start(&renewed, anybody()).await;
    let endpoint = plane.endpoint().roots(authority.roots());
    let_in(&plane, endpoint.pin(good.fingerprint()), 0).await;
}

#[tokio::test]
async fn a_pinned_key_alone_is_enough_only_where_that_was_said() {
    let key = KeyPair::generate().unwrap();
    let mut params = named("another.example");
    params.not_after = date_time_ymd(2002, 1, 1);
    let certificate = params.self_signed(&key).unwrap().into();
    let signed = Signed { certificate, key };
    let plane = Plane::start(&signed, anybody()).await;
    let pinned = plane.endpoint().pin(signed.fingerprint());
    let (served, _) = dialled(&plane, pinned.clone()).await;
    assert!(matches!(served, Served::Refused(_)), "{served:?}");
    let_in(&plane, pinned.trust_pins_alone(), 0).await;
    let other = plane.endpoint().pin(Fingerprint([7; 32]));
    refused(&plane, other.trust_pins_alone(), "which is not pinned").await;

    let (link, _inbox): (Handle<Text>, Inbox) = connect(plane.endpoint().trust_pins_alone());
    assert!(failed(&link).await.contains("no key is pinned"));
}

/// Has a pinned certificate, which is no secret, and not its key.
#[tokio::test]
async fn who_has_the_certificate_but_not_its_key_is_refused() {
    let authority = Authority::named("ours");
    let good = authority.good();
    let thief = Signed {
        certificate: good.certificate.clone(),
        key: KeyPair::generate().unwrap(),
    };
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(thief.key.serialize_der()));
    let signer = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
    let shown = rustls::sign::CertifiedKey::new(vec![thief.certificate.clone()], signer);
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(shown)));
    let plane = Plane {
        listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        tls: TlsAcceptor::from(Arc::new(config)),
    };
    let pinned = plane.endpoint().pin(good.fingerprint()).trust_pins_alone();
    refused(&plane, pinned, "BadSignature").await;
}

#[tokio::test]
async fn files_are_read_anew_at_every_dial() {
    let authority = Authority::named("ours");
    let plane = Plane::start(&authority.good(), anybody()).await;
    let roots = authority.file("ca.pem", &Authority::named("ours").issuer.pem());
    let timings = Timings::default().reconnect_within(Duration::from_millis(20));
    let (_link, _inbox): (Handle<Text>, Inbox) =
        connect(plane.endpoint().timings(timings).roots(roots));
    assert!(matches!(plane.serve().await, Served::Refused(_)));
    authority.roots();
    loop {
        // A dial may have been under way.
        if let Served::Asked { .. } = plane.serve().await {
            break;
        }
    }
}

#[tokio::test]
async fn nothing_of_the_token_leaves_before_tls_is_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (_link, _inbox): (Handle<Text>, Inbox) =
        connect(endpoint(&format!("wss://localhost:{port}/secret-path")));
    let (mut stream, _): (TcpStream, _) = listener.accept().await.unwrap();
    let mut sent = vec![0; 1];
    stream.read_exact(&mut sent).await.unwrap();
    assert_eq!(sent, [22], "a handshake record comes first");
    // The greeting of TLS is answered by nonsense, and all that is said to that is read too.
    stream
        .write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    stream.read_to_end(&mut sent).await.unwrap();
    let has = |text: &[u8]| sent.windows(text.len()).any(|window| window == text);
    assert!(has(b"localhost"), "the name it is for is in it");
    assert!(!has(b"t0ken") && !has(b"secret-path") && !has(b"GET "));
}

#[tokio::test]
async fn what_does_not_speak_tls_is_a_typed_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (link, _inbox): (Handle<Text>, Inbox) = connect(endpoint(&format!("wss://{address}/")));
    let (mut stream, _) = listener.accept().await.unwrap();
    stream
        .write_all(b"220 mail server ready\r\n")
        .await
        .unwrap();
    let error = failed(&link).await;
    let beginning = format!("no secure connection to {address}: ");
    assert!(error.starts_with(&beginning), "{error}");
}

#[tokio::test]
async fn a_missing_certificate_file_is_named() {
    let endpoint = endpoint("wss://localhost:1/").roots("no/such/authority.pem".into());
    let (link, _inbox): (Handle<Text>, Inbox) = connect(endpoint);
    let error = failed(&link).await;
    assert!(
        error.contains("certificate authorities cannot be loaded from no/such"),
        "{error}"
    );
}

#[tokio::test]
async fn lines_travel_over_tls_to_a_pinned_key_alone() {
    let ours = Authority::named("ours");
    let signed = ours.sign(&named("localhost"), KeyPair::generate().unwrap());
    let plane = Plane::start(&signed, anybody()).await;
    let url = format!("tls://localhost:{}", plane.address().port());
    let pinned = |signed: &Signed| endpoint(&url).pin(signed.fingerprint()).trust_pins_alone();

    let (link, _inbox) = connect::<Text>(pinned(&signed));
    let (stream, _) = plane.listener.accept().await.unwrap();
    let mut stream = BufReader::new(plane.tls.accept(stream).await.unwrap());
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    assert!(
        line.contains("[\"authorization\",\"Bearer t0ken\"]"),
        "{line}"
    );
    let welcome = b"{\"carrier\":\"welcome\",\"extended\":false}\n";
    stream.write_all(welcome).await.unwrap();
    link.push(Text("{\"action\":\"x\"}".to_owned()))
        .await
        .unwrap();
    // The first ping of a connection may go before it.
    loop {
        line.clear();
        stream.read_line(&mut line).await.unwrap();
        if !line.starts_with("{\"carrier\":\"ping\"") {
            break;
        }
    }
    assert_eq!(line, "{\"action\":\"x\"}\n");
    drop((link, stream));

    let other = ours.sign(&named("localhost"), KeyPair::generate().unwrap());
    let (link, _inbox) = connect::<Text>(pinned(&other));
    let (stream, _) = plane.listener.accept().await.unwrap();
    plane.tls.accept(stream).await.unwrap_err();
    assert!(failed(&link).await.contains("not pinned"));
}
