//! One connection of the fake plane: receives it as told, records what comes, obeys orders.

use std::{collections::BTreeMap, time::SystemTime};

use bridge_transport::{
    carrier::deflate,
    delivery::{Heard, Reader, Violation},
};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{mpsc, watch},
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async_with_config,
    tungstenite::{
        Error, Message,
        handshake::server::{ErrorResponse, Request, Response},
        http::{HeaderName, HeaderValue, StatusCode},
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::{Commands, Log, Manners, What, note, note_at};

/// What a connection shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Send this as a text frame.
    Text(String),
    /// Send these as text frames, in as few writes as they fit into.
    Texts(Vec<String>),
    /// Send what is to be sent of the commands with numbers.
    Commands,
    /// Send this as a binary frame.
    Binary(Vec<u8>),
    /// Write these bytes to the socket as they are.
    Raw(Vec<u8>),
    /// Read nothing any more, so that not even pings are answered, until [`Order::GoOn`].
    Stall,
    /// Read again.
    GoOn,
    /// Close with this code and reason.
    Close(u16, String),
    /// End the connection without a word.
    Drop,
}

#[expect(
    clippy::result_large_err,
    reason = "the library wants this signature of its callback"
)]
pub(super) async fn serve(
    mut stream: TcpStream,
    conn: u64,
    manners: Manners,
    log: watch::Sender<Log>,
) {
    match &manners {
        Manners::Silent => return silent(&mut stream).await,
        Manners::HangUp => return,
        Manners::Accept { .. } | Manners::Refuse { .. } => {}
    }
    let config = WebSocketConfig::default()
        .max_message_size(None)
        .max_frame_size(None);
    let mut headers = BTreeMap::new();
    let accepted = accept_hdr_async_with_config(
        stream,
        |request: &Request, response| answer(request, response, &manners, &mut headers),
        Some(config),
    )
    .await;
    let Ok(socket) = accepted else {
        note(&log, conn, What::Refused(headers));
        return;
    };
    let (orders, inbox) = mpsc::unbounded_channel();
    log.send_modify(|log| {
        log.open.insert(conn, orders);
    });
    let enveloped = matches!(manners, Manners::Accept { extended: true, .. })
        && headers.contains_key("x-bridge-extension");
    let packed = enveloped && headers.contains_key(deflate::HEADER);
    note(&log, conn, What::Opened(headers));
    let position = log.borrow().position;
    let reader = enveloped.then(|| Reader::new(position, PARTS));
    let code = talk(socket, conn, (reader, packed), inbox, &log).await;
    log.send_modify(|log| {
        log.open.remove(&conn);
    });
    note(&log, conn, What::Closed(code));
}

/// Takes what comes until the other side gives up.
async fn silent(stream: &mut TcpStream) {
    let mut sink = [0; 1024];
    while stream.read(&mut sink).await.is_ok_and(|read| read > 0) {}
}

#[expect(clippy::result_large_err, reason = "the library wants this signature")]
fn answer(
    request: &Request,
    mut response: Response,
    manners: &Manners,
    seen: &mut BTreeMap<String, String>,
) -> Result<Response, ErrorResponse> {
    for (name, value) in request.headers() {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        seen.insert(name.as_str().to_owned(), value);
    }
    match manners {
        Manners::Accept { extended, token } => {
            let wanted = token.as_ref().map(|token| format!("Bearer {token}"));
            if wanted.is_some() && wanted.as_ref() != seen.get("authorization") {
                return Err(refusal(401, r#"{"error":"Invalid pairing token"}"#, &[]));
            }
            if *extended && seen.contains_key("x-bridge-extension") {
                let one = HeaderValue::from_static("1");
                if seen.contains_key(deflate::HEADER) {
                    response.headers_mut().insert(deflate::HEADER, one.clone());
                }
                response.headers_mut().insert("x-bridge-extension", one);
            }
            Ok(response)
        }
        Manners::Refuse {
            status,
            body,
            headers,
        } => Err(refusal(*status, body, headers)),
        Manners::Silent | Manners::HangUp => Err(refusal(500, "", &[])),
    }
}

fn refusal(status: u16, body: &str, headers: &[(String, String)]) -> ErrorResponse {
    let mut response = ErrorResponse::new(Some(body.to_owned()));
    *response.status_mut() = StatusCode::from_u16(status).expect("a status of three digits");
    let length = HeaderValue::from(body.len());
    response.headers_mut().insert("content-length", length);
    for (name, value) in headers {
        let name: HeaderName = name.parse().expect("the name of a header");
        let value = value.parse().expect("the value of a header");
        response.headers_mut().insert(name, value);
    }
    response
}

/// Sends them behind each other, as a peer does that does not wait for answers.
async fn together(
    socket: &mut WebSocketStream<TcpStream>,
    texts: Vec<String>,
) -> Result<(), Error> {
    for text in texts {
        socket.feed(Message::text(text)).await?;
    }
    socket.flush().await
}

/// Talks until one side ends it; the close code of the peer, if it sent one.
async fn talk(
    mut socket: WebSocketStream<TcpStream>,
    conn: u64,
    (mut reader, packed): (Option<Reader>, bool),
    mut orders: mpsc::UnboundedReceiver<Order>,
    log: &watch::Sender<Log>,
) -> Option<u16> {
    let mut reads = true;
    let mut code = None;
    if let Some(reader) = &reader {
        let resume = Message::text(reader.position().resume());
        if socket.send(resume).await.is_err() {
            return code;
        }
    }
    loop {
        tokio::select! {
            order = orders.recv() => {
                let done = match order {
                    Some(Order::Text(text)) => socket.send(Message::text(text)).await.is_ok(),
                    Some(Order::Texts(texts)) => together(&mut socket, texts).await.is_ok(),
                    Some(Order::Commands) => commands(&mut socket, conn, log).await.is_ok(),
                    Some(Order::Binary(bytes)) => {
                        socket.send(Message::binary(bytes)).await.is_ok()
                    }
                    Some(Order::Raw(bytes)) => socket.get_mut().write_all(&bytes).await.is_ok(),
                    Some(Order::Stall) => { reads = false; true }
                    Some(Order::GoOn) => { reads = true; true }
                    Some(Order::Close(code, reason)) => {
                        let close = CloseFrame {
                            code: CloseCode::from(code),
                            reason: reason.into(),
                        };
                        socket.close(Some(close)).await.is_ok()
                    }
                    Some(Order::Drop) | None => false,
                };
                if !done {
                    return code;
                }
            }
            message = socket.next(), if reads => match message {
                Some(Ok(Message::Text(text))) => {
                    let at = SystemTime::now();
                    let Some(reader) = &mut reader else {
                        note_text(log, at, conn, &text);
                        continue;
                    };
                    let ack = hear(log, at, conn, reader, &text).map(Message::text);
                    if let Some(ack) = ack && socket.send(ack).await.is_err() {
                        return code;
                    }
                    if commands(&mut socket, conn, log).await.is_err() {
                        return code;
                    }
                }
                Some(Ok(Message::Binary(bytes))) => {
                    let frames = deflate::unpack(&bytes, PARTS);
                    let (Some(reader), true, Ok(frames)) = (&mut reader, packed, frames) else {
                        note(log, conn, What::Odd(format!("{} binary bytes", bytes.len())));
                        continue;
                    };
                    let at = SystemTime::now();
                    note_at(log, at, conn, What::Packed(frames.len()));
                    let acks = frames.iter().filter_map(|it| hear(log, at, conn, reader, it.as_str()));
                    if let Some(ack) = acks.last() && socket.send(Message::text(ack)).await.is_err() {
                        return code;
                    }
                    if commands(&mut socket, conn, log).await.is_err() {
                        return code;
                    }
                }
                Some(Ok(Message::Ping(_))) => note(log, conn, What::Ping),
                Some(Ok(Message::Close(close))) => {
                    code = code.or_else(|| close.map(|close| close.code.into()));
                }
                Some(Ok(Message::Pong(_) | Message::Frame(_))) => {}
                Some(Err(_)) | None => return code,
            },
        }
    }
}

/// Takes a frame of the envelope; gives what acknowledges it.
fn hear(
    log: &watch::Sender<Log>,
    at: SystemTime,
    conn: u64,
    reader: &mut Reader,
    text: &str,
) -> Option<String> {
    let upto = match reader.hear(text) {
        Ok(Heard::Message { texts, upto, .. }) => {
            for text in texts {
                note_text(log, at, conn, &text);
                if text.contains("\"handshake\"") {
                    log.send_modify(|log| log.commands.on_handshake(conn));
                }
            }
            upto
        }
        Ok(Heard::Gap { upto, gap }) => {
            note_at(log, at, conn, What::Odd(format!("{gap:?}")));
            Some(upto)
        }
        Ok(Heard::Nothing) => None,
        Ok(Heard::Resume { epoch, last }) => {
            told(log, at, conn, text, |it| it.on_resume(conn, epoch, last))
        }
        Ok(Heard::Ack { seq }) => told(log, at, conn, text, |it| it.on_ack(conn, seq)),
        Err(_) => {
            note_at(log, at, conn, What::Odd(text.to_owned()));
            None
        }
    };
    let upto = upto?;
    log.send_modify(|log| log.position = upto);
    Some(upto.ack())
}

/// What a bridge says of the commands; against the rules it is odd.
fn told<T>(
    log: &watch::Sender<Log>,
    at: SystemTime,
    conn: u64,
    text: &str,
    tell: impl FnOnce(&mut Commands) -> Result<(), Violation>,
) -> Option<T> {
    let mut result = Ok(());
    log.send_modify(|log| result = tell(&mut log.commands));
    if result.is_err() {
        note_at(log, at, conn, What::Odd(text.to_owned()));
    }
    None
}

/// Sends what may go of the commands with numbers.
async fn commands(
    socket: &mut WebSocketStream<TcpStream>,
    conn: u64,
    log: &watch::Sender<Log>,
) -> Result<(), Error> {
    loop {
        let mut next = None;
        log.send_if_modified(|log| {
            next = log.commands.next(conn);
            false
        });
        let Some(frame) = next else { return Ok(()) };
        socket.send(Message::text(frame)).await?;
    }
}

fn note_text(log: &watch::Sender<Log>, at: SystemTime, conn: u64, text: &str) {
    let what = match serde_json::from_str(text) {
        Ok(frame) => What::Frame(frame),
        Err(_) => What::Odd(text.to_owned()),
    };
    note_at(log, at, conn, what);
}

/// What messages in parts may hold.
const PARTS: usize = 64 << 20;
