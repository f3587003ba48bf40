//! A control plane to play with, on loopback only: accepts bridges at `ws://127.0.0.1:9000`,
//! prints their frames and sends each line of standard input to all of them. To those that offer the
//! extension it speaks the delivery envelope: what is printed is acknowledged.
//!
//! `cargo run -p bridge-examples --bin control_plane -- [port] [token] [plain]`; with a token, others
//! are refused; with the word `plain`, the extension is not taken.

use std::{collections::HashMap, io, sync::Arc};

use bridge_transport::delivery::{Heard, Position, Reader};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, stdin, stdout},
    net::{TcpListener, TcpStream},
    sync::{broadcast, watch},
};
use tokio_tungstenite::tungstenite::{Message, handshake::server, http};

type Problem = Box<dyn std::error::Error + Send + Sync>;

/// How far each bridge has been printed, by its credential.
type Positions = watch::Sender<HashMap<String, Position>>;

#[tokio::main]
async fn main() -> io::Result<()> {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let plain = args.pop_if(|last| last == "plain").is_some();
    let port: Option<u16> = args.first().and_then(|port| port.parse().ok());
    let token = args.get(1).cloned();
    let listener = TcpListener::bind(("127.0.0.1", port.unwrap_or(9000))).await?;
    say(&format!("listening on ws://{}", listener.local_addr()?)).await?;
    let (lines_out, _) = broadcast::channel(64);
    let positions = Arc::new(Positions::default());
    let mut lines = BufReader::new(stdin()).lines();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, peer) = accepted?;
                let visit = Visit {
                    token: token.clone(),
                    plain,
                    lines: lines_out.subscribe(),
                    positions: Arc::clone(&positions),
                };
                tokio::spawn(async move {
                    let end = match visit.serve(stream).await {
                        Ok(()) => format!("{peer} left"),
                        Err(error) => format!("{peer} failed: {error}"),
                    };
                    say(&end).await
                });
            }
            line = lines.next_line() => match line? {
                Some(line) => say(&format!("sent to {}", lines_out.send(line).unwrap_or(0))).await?,
                None => return Ok(()),
            },
        }
    }
}

/// One connection of a bridge.
struct Visit {
    token: Option<String>,
    plain: bool,
    lines: broadcast::Receiver<String>,
    positions: Arc<Positions>,
}

impl Visit {
    async fn serve(mut self, stream: TcpStream) -> Result<(), Problem> {
        let mut bridge = String::new();
        let mut extended = false;
        #[expect(clippy::result_large_err, reason = "the library's callback type")]
        let admit = |request: &server::Request, mut response: server::Response| {
            let header = |name| request.headers().get(name)?.to_str().ok();
            header("authorization")
                .unwrap_or_default()
                .clone_into(&mut bridge);
            let token = self.token.as_ref();
            if token.is_some_and(|token| bridge != format!("Bearer {token}")) {
                let mut refusal =
                    server::ErrorResponse::new(Some("invalid pairing token".to_owned()));
                *refusal.status_mut() = http::StatusCode::UNAUTHORIZED;
                return Err(refusal);
            }
            if header(EXTENSION).is_some() && !self.plain {
                extended = true;
                let one = http::HeaderValue::from_static("1");
                response.headers_mut().insert(EXTENSION, one);
            }
            Ok(response)
        };
        let mut socket = tokio_tungstenite::accept_hdr_async(stream, admit).await?;
        let position = self.positions.borrow().get(&bridge).copied();
        let mut reader = extended.then(|| Reader::new(position.unwrap_or_default(), MOST_PARTS));
        if let Some(reader) = &reader {
            let resume = reader.position().resume();
            socket.send(Message::text(resume)).await?;
        }
        loop {
            let frame = tokio::select! {
                line = self.lines.recv() => {
                    socket.send(Message::text(line?)).await?;
                    continue;
                }
                frame = socket.next() => frame,
            };
            match (frame.transpose()?, &mut reader) {
                (Some(Message::Text(text)), None) => say(text.as_str()).await?,
                (Some(Message::Text(text)), Some(reader)) => {
                    if let Some(upto) = print(reader, text.as_str()).await? {
                        let keep = |positions: &mut HashMap<_, _>| {
                            positions.insert(bridge.clone(), upto);
                        };
                        self.positions.send_modify(keep);
                        socket.send(Message::text(upto.ack())).await?;
                    }
                }
                (Some(other), _) => say(&format!("{other:?}")).await?,
                (None, _) => return Ok(()),
            }
        }
    }
}

/// Prints what a frame of the envelope brings; gives what is to be acknowledged.
async fn print(reader: &mut Reader, text: &str) -> Result<Option<Position>, Problem> {
    match reader.hear(text)? {
        Heard::Message { texts, upto, .. } => {
            for text in texts {
                say(&text).await?;
            }
            Ok(upto)
        }
        Heard::Gap { gap, upto } => {
            say(&format!(
                "numbers {} to {} will never come",
                gap.from, gap.to
            ))
            .await?;
            Ok(Some(upto))
        }
        Heard::Nothing | Heard::Resume { .. } | Heard::Ack { .. } => Ok(None),
    }
}

async fn say(text: &str) -> io::Result<()> {
    stdout().write_all(format!("{text}\n").as_bytes()).await
}

const EXTENSION: &str = "x-bridge-extension";
/// What messages in parts may hold.
const MOST_PARTS: usize = 64 << 20;
