//! A proxy between bridge and hub that does not let everything through.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// What becomes of a request for an upgrade.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Upgrades {
    /// Answered by the proxy.
    Status(u16),
    /// The connection is closed.
    HungUp,
    /// Never answered.
    Ignored,
}

/// What the proxy does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meddling {
    pub(crate) upgrades: Upgrades,
    /// Answers that do not end are kept back.
    pub(crate) keeps_events: bool,
}

/// Leads from a listener to the hub; tells the first line of every request.
pub(crate) fn meddle(
    listener: TcpListener,
    hub: SocketAddr,
    meddling: Meddling,
) -> mpsc::UnboundedReceiver<String> {
    let (seen, lines) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while !seen.is_closed() {
            let (near, _) = listener.accept().await.unwrap();
            tokio::spawn(pass(near, hub, meddling, seen.clone()));
        }
    });
    lines
}

async fn pass(
    near: TcpStream,
    hub: SocketAddr,
    meddling: Meddling,
    seen: mpsc::UnboundedSender<String>,
) {
    let far = TcpStream::connect(hub).await.unwrap();
    let (mut from_near, mut to_near) = near.into_split();
    let (mut from_far, mut to_far) = far.into_split();
    // The connection that reads carries nothing else, so what is kept back is all of it.
    let (keep, mut kept) = mpsc::channel::<()>(1);
    let up = async {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = from_near.read(&mut buffer).await.unwrap_or(0);
            if count == 0 {
                return None;
            }
            let text = String::from_utf8_lossy(&buffer[..count]);
            let first = text.lines().next().unwrap_or_default().to_owned();
            if first.ends_with("HTTP/1.1") && seen.send(first.clone()).is_err() {
                return None;
            }
            if text.to_lowercase().contains("upgrade: websocket") {
                return Some(meddling.upgrades);
            }
            if meddling.keeps_events && first.contains("/events") {
                keep.send(()).await.unwrap();
            }
            if to_far.write_all(&buffer[..count]).await.is_err() {
                return None;
            }
        }
    };
    let down = async {
        tokio::select! {
            _ = copy(&mut from_far, &mut to_near) => {}
            _ = kept.recv() => std::future::pending().await,
        }
    };
    let refused = tokio::select! {
        refused = up => refused,
        () = down => None,
    };
    match refused {
        Some(Upgrades::Status(status)) => {
            let answer = format!("HTTP/1.1 {status} No\r\ncontent-length: 2\r\n\r\nno");
            to_near
                .write_all(answer.as_bytes())
                .await
                .unwrap_or_default();
        }
        Some(Upgrades::Ignored) => {
            let mut rest = Vec::new();
            from_near.read_to_end(&mut rest).await.unwrap_or_default();
        }
        Some(Upgrades::HungUp) | None => {}
    }
}
