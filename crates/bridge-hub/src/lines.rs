//! The door for machines that speak lines over TCP: off unless an address is named for it. The first
//! line shows the token, as the headers of an upgrade do; from then on it is a connection as any
//! other. Not encrypted: what leaves the machine belongs into a tunnel.

use std::{
    collections::HashMap, future::pending, net::SocketAddr, pin::pin, sync::Arc, time::Duration,
};

use axum::{
    body::{Bytes, to_bytes},
    extract::ws::{CloseFrame, Message as Frame, Utf8Bytes},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
};
use bridge_proto::ctrlnode::MAX_FRAME_BYTES;
use bridge_transport::carrier::{
    line::Line,
    tcp_lines::{Hello, Lines, Welcome},
};
use futures_util::{Stream, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, split},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, oneshot},
    task::{AbortHandle, JoinError, JoinSet},
    time::{sleep, timeout},
};

use crate::{
    endpoint::{
        bridge::{EXTENSION, let_in},
        connection::talk,
    },
    guard::bearer,
    hub::Hub,
    links::sink_of,
    places::{Arrival, PlaceId, Places},
    refusals::{Refusal, Refusals},
    socket::Socket,
};

/// Serves until `closing`, then takes nobody in any more and waits for the connections there are.
/// Dropped, it ends them.
pub(crate) async fn serve(listener: TcpListener, hub: Hub, closing: oneshot::Receiver<()>) {
    let mut closing = pin!(async move {
        if closing.await.is_err() {
            // The running hub was dropped: serve on.
            pending::<()>().await;
        }
    });
    let (news, mut heard) = mpsc::unbounded_channel();
    let mut house = House {
        hub,
        guests: Arc::new(Semaphore::new(GUESTS)),
        places: Places::default(),
        strangers: HashMap::new(),
        tasks: JoinSet::new(),
        news,
        refusals: Refusals::default(),
    };
    loop {
        tokio::select! {
            // Who is no stranger any more does not have to make room.
            biased;
            () = &mut closing => break,
            Some(news) = heard.recv() => house.on_news(&news),
            Some(ended) = house.tasks.join_next() => report(ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => house.take_in(stream, from),
                Err(error) => {
                    tracing::warn!(%error, "no connection could be accepted");
                    sleep(AFTER_ERROR).await;
                }
            },
        }
    }
    drop(listener);
    while let Some(ended) = house.tasks.join_next().await {
        report(ended);
    }
}

struct House {
    hub: Hub,
    /// One for each connection that has shown a token.
    guests: Arc<Semaphore>,
    /// Of strangers alone: who has shown a token has left them.
    places: Places,
    /// Those that can be put out.
    strangers: HashMap<PlaceId, AbortHandle>,
    tasks: JoinSet<()>,
    news: mpsc::UnboundedSender<News>,
    refusals: Refusals,
}

#[derive(Debug)]
enum News {
    /// It has shown a token, or is gone.
    NoStranger(PlaceId),
    Refused(Refusal),
}

impl House {
    fn take_in(&mut self, stream: TcpStream, from: SocketAddr) {
        let (place, put_out) = match self.places.arrive(from.ip()) {
            Arrival::Taken { place, put_out } => (place, put_out),
            Arrival::Full => return self.refusals.tell(&Refusal::NoPlace(from)),
        };
        if let Some(stranger) = put_out.and_then(|place| self.strangers.remove(&place)) {
            tracing::debug!("a connection that said nothing made room for another");
            stranger.abort();
        }
        let stranger = Stranger {
            place,
            news: self.news.clone(),
        };
        let guests = Arc::clone(&self.guests);
        let conversing = converse(stream, from, self.hub.clone(), stranger, guests);
        let task = self.tasks.spawn(conversing);
        self.strangers.insert(place, task);
    }

    fn on_news(&mut self, news: &News) {
        match news {
            News::NoStranger(place) => {
                self.places.leave(*place);
                self.strangers.remove(place);
            }
            News::Refused(why) => self.refusals.tell(why),
        }
    }
}

/// Goes with a connection until it has shown a token.
#[derive(Debug)]
struct Stranger {
    place: PlaceId,
    news: mpsc::UnboundedSender<News>,
}

impl Stranger {
    fn tell(&self, news: News) {
        if self.news.send(news).is_err() {
            tracing::trace!("the door is closed");
        }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.tell(News::NoStranger(self.place));
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection panicked");
    }
}

async fn converse(
    stream: TcpStream,
    from: SocketAddr,
    hub: Hub,
    stranger: Stranger,
    guests: Arc<Semaphore>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "small lines may wait");
    }
    let (mut reading, mut writing) = split(Socket::new(stream, ()));
    let mut lines = Lines::new(HEAD);
    let headers = match timeout(HELLO, lines.next(&mut reading)).await {
        Ok(Ok(Some(Ok(line)))) => headers(&line),
        // It says nothing, or nothing of use.
        Ok(Ok(Some(Err(_)) | None) | Err(_)) | Err(_) => return,
    };
    let Some(headers) = headers else {
        let refused = refused(StatusCode::BAD_REQUEST, "the first line is no greeting");
        return greet(&mut writing, &refused).await;
    };
    let bridge = match let_in(&hub, None, &headers).await {
        Ok((bridge, _)) => bridge,
        Err(response) => {
            let status = response.status();
            if status == StatusCode::UNAUTHORIZED && bearer(&headers).is_some() {
                stranger.tell(News::Refused(Refusal::UnknownToken));
            }
            let body = to_bytes(response.into_body(), HEAD).await;
            let body = body.unwrap_or_default();
            let refused = refused(status, &String::from_utf8_lossy(&body));
            return greet(&mut writing, &refused).await;
        }
    };
    let Ok(_guest) = guests.try_acquire_owned() else {
        stranger.tell(News::Refused(Refusal::NoPlace(from)));
        let refused = refused(StatusCode::SERVICE_UNAVAILABLE, "too many connections");
        return greet(&mut writing, &refused).await;
    };
    drop(stranger);
    let extended = headers.get(EXTENSION).is_some_and(|offer| offer == "1");
    greet(&mut writing, &Welcome::Welcome { extended }).await;
    lines.set_limit(LINE);
    let (out, outgoing) = mpsc::channel(WIRE);
    let said = read(reading, lines, out.clone());
    let talking = talk(&hub, bridge, extended, sink_of(out), said);
    let ((), written) = tokio::join!(talking, write(writing, outgoing));
    if let Err(error) = written {
        tracing::debug!(%error, "a connection of lines broke");
    }
}

/// What an upgrade would have as its headers.
fn headers(hello: &[u8]) -> Option<HeaderMap> {
    let hello: Hello = serde_json::from_slice(hello).ok()?;
    let mut headers = HeaderMap::new();
    for (name, value) in hello.headers {
        let name: HeaderName = name.parse().ok()?;
        headers
            .try_append(name, HeaderValue::try_from(value).ok()?)
            .ok()?;
    }
    Some(headers)
}

fn refused(status: StatusCode, body: &str) -> Welcome {
    let busy = status == StatusCode::SERVICE_UNAVAILABLE;
    Welcome::Refused {
        status: status.as_u16(),
        retry_after: busy.then_some(1),
        body: body.to_owned(),
    }
}

/// Answers the first line. A peer that is gone is found when it is read.
async fn greet(stream: &mut (impl AsyncWrite + Unpin), welcome: &Welcome) {
    let line = serde_json::to_string(welcome).map(|line| line + "\n");
    let line = line.expect("texts and numbers are always JSON");
    let sent = timeout(HELLO, stream.write_all(line.as_bytes())).await;
    if !matches!(sent, Ok(Ok(()))) {
        tracing::debug!("a first line was not answered");
    }
}

/// The lines of a bridge, as a connection reads them. Pings are answered at once.
fn read(
    reading: impl AsyncRead + Unpin,
    lines: Lines,
    pongs: mpsc::Sender<Frame>,
) -> impl Stream<Item = Result<Frame, axum::Error>> + Unpin {
    Box::pin(stream::unfold(
        (reading, lines, pongs),
        |(mut reading, mut lines, pongs)| async {
            let line = match lines.next(&mut reading).await {
                Ok(Some(Ok(line))) => Line::decode(&line).map_err(axum::Error::new),
                Ok(Some(Err(_))) => Err(axum::Error::new("a line is too long")),
                Ok(None) => return None,
                Err(error) => Err(axum::Error::new(error)),
            };
            let frame = line.map(|line| match line {
                Line::Text(frame) => {
                    let text = Utf8Bytes::try_from(Bytes::from(frame));
                    Frame::Text(text.expect("a text frame is UTF-8"))
                }
                Line::Ping { id } => {
                    let pong = Frame::Pong(Bytes::copy_from_slice(&id.to_be_bytes()));
                    // Who reads nothing does not wait for an answer.
                    if pongs.try_send(pong).is_err() {
                        tracing::debug!("a ping was not answered");
                    }
                    Frame::Ping(Bytes::new())
                }
                Line::Pong { .. } => Frame::Pong(Bytes::new()),
                Line::Close { code, reason } => Frame::Close(Some(CloseFrame {
                    code,
                    reason: reason.into(),
                })),
            });
            Some((frame, (reading, lines, pongs)))
        },
    ))
}

async fn write(
    mut stream: impl AsyncWrite + Unpin,
    mut frames: mpsc::Receiver<Frame>,
) -> std::io::Result<()> {
    while let Some(frame) = frames.recv().await {
        let line = match frame {
            Frame::Text(text) => Line::Text(text.as_str().into()),
            Frame::Ping(_) => Line::Ping { id: 0 },
            Frame::Pong(id) => Line::Pong {
                id: <[u8; 8]>::try_from(id.as_ref()).map_or(0, u64::from_be_bytes),
            },
            Frame::Close(frame) => {
                let (code, reason) = frame.map_or((NO_CODE, String::new()), |frame| {
                    (frame.code, frame.reason.as_str().to_owned())
                });
                Line::Close { code, reason }
            }
            Frame::Binary(_) => continue,
        };
        let line = line.encode() + "\n";
        stream.write_all(line.as_bytes()).await?;
        stream.flush().await?;
    }
    stream.shutdown().await
}

/// Connections that have shown a token.
const GUESTS: usize = 512;
/// How long the first line may be, and take.
const HEAD: usize = 16 << 10;
const HELLO: Duration = Duration::from_secs(10);
/// The longest frame, and what stands around it where it does not go as it is.
const LINE: usize = MAX_FRAME_BYTES + (1 << 20);
/// Frames between the connection and its socket.
const WIRE: usize = 8;
/// All files may be in use; that passes.
const AFTER_ERROR: Duration = Duration::from_millis(500);
/// Stands for a close frame without a code.
const NO_CODE: u16 = 1005;
