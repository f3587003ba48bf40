//! The side channel: what a control plane says over HTTP of versions, models and providers. Asked
//! in the background, never waited for; an answer that is late, odd or too big is no answer.

use std::{fmt, path::Path, time::Duration};

use bridge_proto::{Timestamp, ctrlnode::side};
use bridge_runtime::{SideWord, manifest::KeptManifest};
use bridge_transport::TlsSettings;
use bridge_workspace::model_manifest;
use reqwest::{Method, StatusCode, redirect};
use rustls::ClientConfig;
use thiserror::Error;
use tokio::sync::mpsc;
use url::Url;

use crate::shown_address::shown;

/// A control plane's address for HTTP.
#[derive(Clone)]
pub(crate) struct SideChannel {
    base: Url,
    http: reqwest::Client,
}

impl fmt::Debug for SideChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SideChannel")
            .field("base", &self.base.as_str())
            .finish_non_exhaustive()
    }
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub(crate) enum SideError {
    /// The plane's address is not one of a WebSocket.
    #[error("{url} is not an address of a control plane")]
    Address {
        /// As it may be shown.
        url: String,
    },
    /// It would go over the network in the clear.
    #[error("{url} is in the clear")]
    ClearText {
        /// As it may be shown.
        url: String,
    },
    /// The settings of TLS cannot be used.
    #[error("the settings of TLS cannot be used")]
    Tls(#[from] bridge_transport::DialError),
    /// The network, or whoever is at the other end of it.
    #[error("no answer")]
    Network(#[from] reqwest::Error),
    /// More than any good answer has.
    #[error("the answer has more than {MAX_BODY} bytes")]
    TooLarge,
}

/// An answer whose body was read to its end.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
}

impl SideChannel {
    /// The side channel of the plane at this WebSocket address, held to the same settings of TLS.
    /// Asks nobody, but reads their files.
    pub(crate) fn new(
        plane: &str,
        allow_plain: bool,
        tls: &TlsSettings,
    ) -> Result<Self, SideError> {
        let base = base_of(plane)?;
        let here = match base.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        if base.scheme() == "http" && !here && !allow_plain {
            let url = shown(plane);
            return Err(SideError::ClearText { url });
        }
        let provider = rustls::crypto::ring::default_provider();
        if provider.install_default().is_err() {
            tracing::debug!("a crypto provider was already there");
        }
        // A redirect would take the questions, and what is answered, to somebody else.
        let mut http = reqwest::Client::builder().redirect(redirect::Policy::none());
        if here {
            http = http.no_proxy();
        }
        if base.scheme() == "https" {
            let tls = bridge_transport::tls::client_config(tls)?;
            http = http.tls_backend_preconfigured(ClientConfig::clone(&tls));
        }
        let http = http.build()?;
        Ok(Self { base, http })
    }

    /// One question; `limit` covers all of it, to the last byte of the answer.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
        limit: Duration,
    ) -> Result<Said, SideError> {
        let mut url = self.base.clone();
        url.set_path(path);
        let mut request = self.http.request(method, url).timeout(limit);
        if let Some(body) = body {
            request = request
                .header(http::header::CONTENT_TYPE, "application/json")
                .body(body);
        }
        let mut answer = request.send().await?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(SideError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Said { status, body })
    }

    /// A good answer to a plain question, if there is one.
    async fn get<T>(&self, path: &str, read: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        let answer = match self.ask(Method::GET, path, None, PATIENCE).await {
            Ok(Said { status, body }) if status == StatusCode::OK => read(&body),
            Ok(Said { status, .. }) => {
                tracing::debug!(path, %status, "the control plane does not know the question");
                return None;
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::debug!(path, %error, cause, "the control plane did not answer");
                return None;
            }
        };
        if answer.is_none() {
            tracing::debug!(path, "the control plane's answer cannot be read");
        }
        answer
    }

    /// Asks everything now and once a day, and tells what is heard, until nobody listens.
    pub(crate) async fn listen(self, root: std::path::PathBuf, words: mpsc::Sender<SideWord>) {
        loop {
            if let Some(version) = self.get(side::VERSION_PATH, side::read_version).await
                && side::is_newer(&version, env!("CARGO_PKG_VERSION"))
            {
                tracing::info!(version, "the control plane knows a newer bridge");
            }
            let types = self
                .get(side::AGENT_TYPES_PATH, side::read_agent_types)
                .await;
            let mut said: Vec<SideWord> = types.map(SideWord::Providers).into_iter().collect();
            if !is_fresh(&root).await {
                let models = self.get(side::MODELS_PATH, side::read_models).await;
                said.extend(models.map(SideWord::Models));
            }
            for word in said {
                if words.send(word).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = words.closed() => return,
            }
        }
    }
}

/// Whether the list of models on the disk is young enough.
async fn is_fresh(root: &Path) -> bool {
    let root = root.to_owned();
    let kept =
        tokio::task::spawn_blocking(move || KeptManifest::parse(&model_manifest::read(&root)?));
    let kept = kept.await.ok().flatten();
    kept.is_some_and(|kept| kept.is_fresh(now()))
}

fn now() -> Timestamp {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    Timestamp::from_millis(since.as_millis().try_into().unwrap_or(i64::MAX))
}

/// `wss://host/ws/bridge` is `https://host` here.
fn base_of(plane: &str) -> Result<Url, SideError> {
    let wrong = || SideError::Address { url: shown(plane) };
    let mut url = Url::parse(plane).map_err(|_| wrong())?;
    let scheme = match url.scheme() {
        "wss" | "https" => "https",
        "ws" | "http" => "http",
        _ => return Err(wrong()),
    };
    let secret = !url.username().is_empty() || url.password().is_some();
    if secret || url.host().is_none() || url.set_scheme(scheme).is_err() {
        return Err(wrong());
    }
    url.set_path("/");
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

/// For one of the plain questions.
const PATIENCE: Duration = Duration::from_secs(8);

/// Between two rounds of them.
const EVERY: Duration = Duration::from_secs(24 * 3600 + 60);

/// A list of models has a few KiB.
const MAX_BODY: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use bridge_proto::ProviderKey;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };
    use wiremock::{
        Mock, MockServer, ResponseTemplate,
        matchers::{any, method, path},
    };

    use super::*;

    fn channel(http: &str) -> SideChannel {
        let plane = format!("{}/ws/bridge", http.replacen("http", "ws", 1));
        SideChannel::new(&plane, false, &TlsSettings::default()).unwrap()
    }

    async fn models(channel: &SideChannel) -> Option<bridge_proto::model::ModelManifest> {
        channel.get(side::MODELS_PATH, side::read_models).await
    }

    #[test]
    fn the_address_is_the_planes_own_and_never_in_the_clear() {
        let base = |url: &str| base_of(url).map(|url| url.to_string()).ok();
        assert_eq!(
            base("wss://a.example:8443/ws/bridge?x=1#y").as_deref(),
            Some("https://a.example:8443/")
        );
        assert_eq!(
            base("ws://[::1]:7/ws/bridge").as_deref(),
            Some("http://[::1]:7/")
        );
        assert_eq!(
            base("https://a.example/ws/bridge").as_deref(),
            Some("https://a.example/")
        );
        for wrong in ["tls://a.example:7", "wss://u:p@a.example/", "nonsense", ""] {
            assert_eq!(base(wrong), None, "{wrong}");
        }
        let plain = SideChannel::new("ws://a.example/ws/bridge", false, &TlsSettings::default());
        assert!(matches!(plain, Err(SideError::ClearText { .. })));
        assert!(
            SideChannel::new("ws://a.example/ws/bridge", true, &TlsSettings::default()).is_ok()
        );
    }

    #[tokio::test]
    async fn what_a_plane_says_is_told_and_a_young_list_is_not_asked_for_again() {
        let server = MockServer::start().await;
        let body = r#"{"version":"v","providers":{"gemini":["m"]}}"#;
        let models = Mock::given(method("GET")).and(path(side::MODELS_PATH));
        models
            .respond_with(ResponseTemplate::new(200).set_body_string(body))
            .expect(1)
            .mount(&server)
            .await;
        let types = r#"{"providerKeyByAgentType":{"Gemini":"gemini"}}"#;
        Mock::given(path(side::AGENT_TYPES_PATH))
            .respond_with(ResponseTemplate::new(200).set_body_string(types))
            .mount(&server)
            .await;
        let folder = tempfile::tempdir().unwrap();
        let gemini = ProviderKey::parse("gemini").unwrap();
        let (words, mut heard) = mpsc::channel(4);
        let root = folder.path().to_owned();
        let listening = tokio::spawn(channel(&server.uri()).listen(root.clone(), words));
        assert_eq!(
            heard.recv().await,
            Some(SideWord::Providers([gemini].into()))
        );
        let Some(SideWord::Models(manifest)) = heard.recv().await else {
            panic!("no models");
        };
        drop(heard);
        listening.await.unwrap();
        let kept = serde_json::to_vec(&KeptManifest::new(manifest, now())).unwrap();
        std::fs::write(root.join("model-manifest.json"), kept).unwrap();
        let (words, mut heard) = mpsc::channel(4);
        let listening = tokio::spawn(channel(&server.uri()).listen(root, words));
        heard.recv().await.unwrap();
        drop(heard);
        listening.await.unwrap();
    }

    #[tokio::test]
    async fn garbage_refusals_and_redirects_to_elsewhere_are_no_answer() {
        let elsewhere = MockServer::start().await;
        Mock::given(any())
            .respond_with(
                ResponseTemplate::new(200).set_body_string(r#"{"providers":{"x":["y"]}}"#),
            )
            .expect(0)
            .mount(&elsewhere)
            .await;
        for answer in [
            ResponseTemplate::new(200).set_body_string("<html>log in to the hotel</html>"),
            ResponseTemplate::new(200).set_body_bytes(vec![0xff; 100]),
            ResponseTemplate::new(200).set_body_string("[".repeat(100_000)),
            ResponseTemplate::new(500),
            ResponseTemplate::new(302).insert_header("location", elsewhere.uri()),
            ResponseTemplate::new(307).insert_header("location", elsewhere.uri()),
        ] {
            let server = MockServer::start().await;
            Mock::given(any()).respond_with(answer).mount(&server).await;
            assert_eq!(models(&channel(&server.uri())).await, None);
        }
    }

    /// Answers with a head and then as much as the reader takes, one chunk at a time.
    async fn endless(pause: Duration) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut asked = [0; 1024];
            if socket.read(&mut asked).await.is_err() {
                return;
            }
            let head = "HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n";
            let mut next = head.as_bytes().to_vec();
            while socket.write_all(&next).await.is_ok() {
                tokio::time::sleep(pause).await;
                next = vec![b' '; if pause.is_zero() { 1 << 16 } else { 1 }];
            }
        });
        format!("http://{address}")
    }

    #[tokio::test]
    async fn a_hundred_megabytes_are_cut_off_and_drops_end_in_time() {
        let ask = |channel: SideChannel, limit| async move {
            channel
                .ask(Method::GET, side::MODELS_PATH, None, limit)
                .await
                .unwrap_err()
        };
        let flood = channel(&endless(Duration::ZERO).await);
        let error = ask(flood, Duration::from_secs(30)).await;
        assert!(matches!(error, SideError::TooLarge), "{error}");
        let slow = channel(&endless(Duration::from_millis(20)).await);
        let error = ask(slow, Duration::from_millis(300)).await;
        assert!(
            matches!(&error, SideError::Network(error) if error.is_timeout()),
            "{error}"
        );
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = channel(&format!("http://{}", silent.local_addr().unwrap()));
        let error = ask(silent, Duration::from_millis(300)).await;
        assert!(matches!(error, SideError::Network(_)), "{error}");
    }
}
