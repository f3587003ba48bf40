//! A control plane to play with, on loopback only: accepts bridges at `ws://127.0.0.1:9000`,
//! prints their frames and sends each line of standard input to all of them.
//!
//! `cargo run -p bridge-examples --bin control_plane -- [port] [token]`; with a token, others are refused.

use std::io;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, stdin, stdout},
    net::{TcpListener, TcpStream},
    sync::broadcast,
};
use tokio_tungstenite::tungstenite::{Message, handshake::server, http};

#[tokio::main]
async fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let port: Option<u16> = args.next().and_then(|port| port.parse().ok());
    let token = args.next();
    let listener = TcpListener::bind(("127.0.0.1", port.unwrap_or(9000))).await?;
    say(&format!("listening on ws://{}", listener.local_addr()?)).await?;
    let (lines_out, _) = broadcast::channel(64);
    let mut lines = BufReader::new(stdin()).lines();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, peer) = accepted?;
                let (token, lines) = (token.clone(), lines_out.subscribe());
                tokio::spawn(async move {
                    let end = match serve(stream, token, lines).await {
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

async fn serve(
    stream: TcpStream,
    token: Option<String>,
    mut lines: broadcast::Receiver<String>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    #[expect(clippy::result_large_err, reason = "the library's callback type")]
    let admit = |request: &server::Request, response: server::Response| {
        let sent = request
            .headers()
            .get("authorization")
            .and_then(|value| value.to_str().ok());
        if token.is_none_or(|token| sent == Some(&format!("Bearer {token}"))) {
            return Ok(response);
        }
        let mut refusal = server::ErrorResponse::new(Some("invalid pairing token".to_owned()));
        *refusal.status_mut() = http::StatusCode::UNAUTHORIZED;
        Err(refusal)
    };
    let mut socket = tokio_tungstenite::accept_hdr_async(stream, admit).await?;
    loop {
        tokio::select! {
            line = lines.recv() => socket.send(Message::text(line?)).await?,
            frame = socket.next() => match frame {
                Some(Ok(Message::Text(text))) => say(text.as_str()).await?,
                Some(other) => say(&format!("{:?}", other?)).await?,
                None => return Ok(()),
            },
        }
    }
}

async fn say(text: &str) -> io::Result<()> {
    stdout().write_all(format!("{text}\n").as_bytes()).await
}
