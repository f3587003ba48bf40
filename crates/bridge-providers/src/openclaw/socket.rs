//! One WebSocket to the gateway: dialling, and its two halves. Loopback in the clear is the usual
//! case; `wss` trusts what the platform trusts, and `SSL_CERT_FILE`.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _, stream::SplitStream};
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use rustls_platform_verifier::Verifier;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::mpsc,
    task::AbortHandle,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Error, Message, protocol::WebSocketConfig},
};
use url::Url;

use super::dialogue::Lost;

/// What a WebSocket runs over.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// An open connection. Dropping it hangs up.
pub(super) struct Socket {
    /// The writer has a task of its own: a message is never half written because something else
    /// happened in between.
    out: mpsc::Sender<Message>,
    source: SplitStream<WebSocketStream<Box<dyn Stream>>>,
    writer: AbortHandle,
}

/// Where to connect.
#[derive(Debug, Clone)]
pub(super) struct Address {
    pub(super) url: Url,
    /// Certificate authorities beside those of the platform.
    pub(super) roots: Option<PathBuf>,
}

impl Socket {
    /// Connects, with everything that belongs to it, within ten seconds.
    pub(super) async fn dial(address: Address) -> Result<Self, Lost> {
        let dialled = timeout(CONNECT, Self::upgraded(address)).await;
        dialled.unwrap_or_else(|_| {
            let what = format!("no answer within {CONNECT:?}");
            Err(Lost::Unreachable(what))
        })
    }

    async fn upgraded(address: Address) -> Result<Self, Lost> {
        let url = &address.url;
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err(Lost::Unreachable("the address has no host".into()));
        };
        let host = host.trim_matches(['[', ']']).to_owned();
        let stream = TcpStream::connect((host.as_str(), port))
            .await
            .map_err(|error| unreachable(&error))?;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a socket keeps small messages back");
        }
        let stream: Box<dyn Stream> = if url.scheme() == "wss" {
            let failed = |error: io::Error| Lost::Unreachable(format!("no secure way: {error}"));
            let roots = address.roots.clone();
            let config = tokio::task::spawn_blocking(move || tls(roots))
                .await
                .unwrap_or_else(|error| Err(io::Error::other(error)))
                .map_err(failed)?;
            let name =
                ServerName::try_from(host).map_err(|error| failed(io::Error::other(error)))?;
            let stream = TlsConnector::from(config).connect(name, stream).await;
            Box::new(stream.map_err(failed)?)
        } else {
            Box::new(stream)
        };
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let (socket, _) = client_async_with_config(url.as_str(), stream, Some(config))
            .await
            .map_err(|error| lost(&error))?;
        let (mut sink, source) = socket.split();
        let (out, mut messages) = mpsc::channel(OUT_ROOM);
        let writing = tokio::spawn(async move {
            while let Some(message) = messages.recv().await {
                if sink.send(message).await.is_err() {
                    // The reader tells why.
                    return;
                }
            }
        });
        Ok(Self {
            out,
            source,
            writer: writing.abort_handle(),
        })
    }

    /// Sends a text. A gateway that does not read is as good as gone.
    pub(super) fn send(&self, text: String) -> Result<(), Lost> {
        self.out
            .try_send(Message::text(text))
            .map_err(|_| Lost::Broken("it does not read what it is sent".into()))
    }

    /// The next text. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<String, Lost> {
        loop {
            match self.source.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text.as_str().to_owned()),
                Some(Ok(Message::Close(frame))) => {
                    let (code, reason) = frame.map_or((NO_CODE, String::new()), |frame| {
                        (frame.code.into(), frame.reason.as_str().to_owned())
                    });
                    return Err(Lost::Closed { code, reason });
                }
                Some(Ok(
                    Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_),
                )) => {}
                Some(Err(error)) => return Err(lost(&error)),
                None => return Err(Lost::Broken("the connection ended".into())),
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.writer.abort();
    }
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Socket")
    }
}

fn unreachable(error: &io::Error) -> Lost {
    if error.kind() == io::ErrorKind::ConnectionRefused {
        Lost::Refused(error.to_string())
    } else {
        Lost::Unreachable(error.to_string())
    }
}

/// Errors name neither what was sent nor with which headers.
fn lost(error: &Error) -> Lost {
    match error {
        Error::Io(error) => Lost::Broken(error.to_string()),
        Error::Http(answer) => {
            let what = format!("it answers with HTTP status {}", answer.status().as_u16());
            Lost::Unreachable(what)
        }
        Error::Capacity(_) => Lost::Broken(format!("a message had more than {MAX_MESSAGE} bytes")),
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Tls(_)
        | Error::Protocol(_)
        | Error::WriteBufferFull(_)
        | Error::Utf8(_)
        | Error::AttackAttempt
        | Error::Url(_)
        | Error::HttpFormat(_) => Lost::Broken(error.to_string()),
    }
}

/// Whom to trust; reads files.
pub(super) fn tls(extra: Option<PathBuf>) -> io::Result<Arc<ClientConfig>> {
    let roots = match extra {
        Some(file) => CertificateDer::pem_file_iter(&file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| io::Error::other(format!("{}: {error}", file.display())))?,
        None => Vec::new(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier::new_with_extra_roots(roots, Arc::clone(&provider));
    let verifier = verifier.map_err(io::Error::other)?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

const CONNECT: Duration = Duration::from_secs(10);
/// The gateway's own limit for one message.
const MAX_MESSAGE: usize = 25 << 20;
const READ_BUFFER: usize = 16 << 10;
/// Messages that may wait to be written.
const OUT_ROOM: usize = 256;
/// What a close without a code counts as.
const NO_CODE: u16 = 1005;
