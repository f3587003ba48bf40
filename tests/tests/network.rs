//! The bridge on networks as they are: behind proxies of the environment, behind TLS of an own
//! authority, with batches packed.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use std::sync::Arc;

use bridge_testkit::{
    fake_plane::{FakePlane, Heard, Manners, What},
    home::{Finished, Home, Running, finish},
    raw_endpoint::{Part, RawEndpoint},
    wire,
};
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// Only a proxy leads there.
const ELSEWHERE: &str = "ws://plane.invalid/ws/bridge";

/// A proxy that wants `me:s3cret` and leads to one plane, whatever it is asked for.
struct Proxy {
    address: String,
    asked: mpsc::UnboundedReceiver<String>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    async fn start(plane: &FakePlane) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let plane = behind(&plane.url());
        let (ask, asked) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(tunnel(client, plane.clone(), ask.clone()));
            }
        });
        Self {
            address,
            asked,
            task,
        }
    }
}

async fn tunnel(mut client: TcpStream, plane: String, ask: mpsc::UnboundedSender<String>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if client.read_buf(&mut head).await.unwrap_or_default() == 0 {
            return;
        }
    }
    let head = String::from_utf8(head).unwrap();
    let welcome = head.contains("Basic bWU6czNjcmV0\r\n");
    ask.send(head).unwrap();
    let answer = if welcome {
        "HTTP/1.1 200 Ok\r\n\r\n"
    } else {
        "HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic\r\n\r\n"
    };
    client.write_all(answer.as_bytes()).await.unwrap();
    if welcome {
        let mut plane = TcpStream::connect(plane).await.unwrap();
        // How it ends is the bridge's to say.
        drop(copy_bidirectional(&mut client, &mut plane).await);
    }
}

/// Host and port of an address.
fn behind(url: &str) -> String {
    let rest = url.split_once("://").unwrap().1;
    rest.split('/').next().unwrap().to_owned()
}

/// A bridge with these variables.
fn bridge(home: &Home, url: &str, variables: &[(&str, &str)]) -> Running {
    let mut command = home.ctrlnode(&["bridge", "start", "--log", "debug"]);
    command
        .envs(settings(home, url))
        .envs(variables.iter().copied());
    Running::start(command)
}

async fn doctor(home: &Home, url: &str, variables: &[(&str, &str)]) -> Finished {
    let mut command = home.ctrlnode(&["doctor"]);
    command
        .envs(settings(home, url))
        .envs(variables.iter().copied());
    finish(command, "").await
}

fn settings(home: &Home, url: &str) -> Vec<(&'static str, String)> {
    vec![
        ("PAIRING_TOKEN", "test-token".to_owned()),
        ("SAAS_URL", url.to_owned()),
        ("CTRLNODE_SIDE_CHANNEL", "off".to_owned()),
        ("CTRLNODE_ALLOW_PLAIN", "1".to_owned()),
        ("BASE_PATH", home.workspace().display().to_string()),
        ("RECONNECT_MS", "100".to_owned()),
        ("CONNECTION_TIMEOUT_MS", "5000".to_owned()),
    ]
}

#[tokio::test]
async fn the_proxies_of_the_environment_are_used_with_their_password_and_not_for_loopback() {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::extended()).await);
    let mut proxy = Proxy::start(&plane).await;
    let with_password = format!("http://me:s3cret@{}", proxy.address);
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        let seen = plane.seen();
        let mut bridge = bridge(&home, ELSEWHERE, &[(name, &with_password)]);
        plane
            .heard_after(seen, |frame| frame["action"] == "handshake")
            .await;
        let asked = proxy.asked.recv().await.unwrap();
        assert!(asked.starts_with("CONNECT plane.invalid:80 "), "{asked}");
        assert!(!asked.contains("test-token"), "{asked}");
        assert_eq!(bridge.terminate().await, Some(0));
        assert!(!bridge.told().contains("s3cret"), "{}", bridge.told());
    }

    let variables = [("ALL_PROXY", with_password.as_str())];
    let found = doctor(&home, &plane.url(), &variables).await;
    assert!(found.stdout.contains("connected"), "{}", found.stdout);
    assert!(
        proxy.asked.try_recv().is_err(),
        "a proxy was asked for loopback"
    );
}

#[tokio::test]
async fn no_proxy_is_obeyed_and_a_proxy_that_refuses_is_told_with_what_to_do() {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::extended()).await);
    let mut proxy = Proxy::start(&plane).await;
    let with_password = format!("http://me:s3cret@{}", proxy.address);
    for exceptions in ["plane.invalid", ".invalid", "*"] {
        let variables = [
            ("HTTP_PROXY", with_password.as_str()),
            ("NO_PROXY", exceptions),
        ];
        let found = doctor(&home, ELSEWHERE, &variables).await.stdout;
        assert!(
            found.contains("plane.invalid:80 cannot be reached"),
            "{found}"
        );
        assert!(proxy.asked.try_recv().is_err(), "{exceptions}");
    }
    let wrong = format!("http://me:wr0ng@{}", proxy.address);
    let found = doctor(&home, ELSEWHERE, &[("HTTP_PROXY", &wrong)]).await;
    let said = found.stdout + &found.stderr;
    let expected = format!("proxy {} refused the way through", proxy.address);
    assert!(said.contains(&expected), "{said}");
    assert!(said.contains("user name and password"), "{said}");
    assert!(said.contains("NO_PROXY"), "{said}");
    assert!(
        !said.contains("wr0ng") && !said.contains("test-token"),
        "{said}"
    );
}

#[tokio::test]
async fn the_address_of_a_page_leads_to_the_plane_and_who_answers_otherwise_is_told_apart() {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::extended()).await);
    let page = format!("http://{}", behind(&plane.url()));
    let found = doctor(&home, &page, &[]).await.stdout;
    let door = format!("ws://{}/ws/bridge", behind(&plane.url()));
    assert!(found.contains(&door), "{found}");
    assert!(found.contains("connected"), "{found}");

    for (status, todo) in [
        (401, "not said that the token is wrong"),
        (404, "no door for machines at this path"),
        (302, "leads to another one"),
    ] {
        let answer = Part::response(status, &["Location: /elsewhere"], "<html>");
        let server = RawEndpoint::start(move |_, _| answer.clone())
            .await
            .unwrap();
        let found = doctor(&home, &server.address(), &[]).await.stdout;
        assert!(found.contains(&format!("with status {status}")), "{found}");
        assert!(found.contains(todo), "{found}");
        let asked = server.seen().borrow().requests.clone();
        assert!(
            asked.iter().all(|it| it.line.contains(" /ws/bridge")),
            "{asked:?}"
        );
    }
}

/// A plane that signed its own certificate, before a fake one.
#[tokio::test]
async fn a_plane_with_a_certificate_of_its_own_is_told_by_its_key_and_reached_with_that_pinned() {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::extended()).await);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["hub.example".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let roots = home.path().join("ca.pem");
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
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "wss://localhost:{}/ws/bridge",
        listener.local_addr().unwrap().port()
    );
    let inner = behind(&plane.url());
    let front = tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let (tls, inner) = (tls.clone(), inner.clone());
            tokio::spawn(async move {
                if let Ok(mut client) = tls.accept(client).await {
                    let mut plane = TcpStream::connect(inner).await.unwrap();
                    drop(copy_bidirectional(&mut client, &mut plane).await);
                }
            });
        }
    });

    let found = doctor(&home, &url, &[]).await.stdout;
    assert!(found.contains("SSL_CERT_FILE"), "{found}");
    let roots = roots.display().to_string();
    let found = doctor(&home, &url, &[("SSL_CERT_FILE", &roots)])
        .await
        .stdout;
    assert!(found.contains("write the address with a name"), "{found}");

    let other = "sha256:".to_owned() + &"07".repeat(32);
    let alone = ("CTRLNODE_TLS_PIN_ALONE", "1");
    let found = doctor(&home, &url, &[("CTRLNODE_TLS_PIN", &other), alone])
        .await
        .stdout;
    let shown = found.split_once("its key is ").unwrap().1;
    let shown = shown.split(',').next().unwrap();
    assert!(found.contains("pin it: CTRLNODE_TLS_PIN"), "{found}");
    let found = doctor(&home, &url, &[("CTRLNODE_TLS_PIN", shown), alone])
        .await
        .stdout;
    assert!(found.contains("connected"), "{found}");
    // Beside a certificate that is not good a pin is not enough.
    let found = doctor(&home, &url, &[("CTRLNODE_TLS_PIN", shown)])
        .await
        .stdout;
    assert!(found.contains("no secure connection"), "{found}");

    let found = doctor(&home, &url, &[alone]).await;
    assert_eq!(found.code, Some(7), "{}", found.stderr);
    assert!(
        found.stderr.contains("no key is pinned"),
        "{}",
        found.stderr
    );
    front.abort();
}

#[tokio::test]
async fn what_waited_goes_packed_to_a_plane_that_knows_how() {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::extended()).await);
    let mut bridge = bridge(&home, &plane.url(), &[("CTRLNODE_COMPRESS", "always")]);
    let opened = plane.opened(1).await;
    assert_eq!(opened["x-bridge-deflate"], "1");
    plane.heard(|frame| frame["action"] == "handshake").await;
    plane.sync(&["demo"]).await;
    plane
        .send(&wire::dispatch("t", "r", "demo", "#demo slow 20"))
        .await;
    plane.says("t", "Step 1").await;
    let at = plane.seen();
    plane.set_manners(Manners::refuse(503, ""));
    plane.cut();
    // The run goes on meanwhile, to its end.
    home.logged("t", "completed").await;
    plane.set_manners(Manners::extended());
    let packed = |heard: &Heard| matches!(heard.what, What::Packed(frames) if frames > 1);
    plane.see_after(at, packed).await;
    plane.says("t", "Step 20").await;
    assert_eq!(bridge.terminate().await, Some(0));
}
