//! Accepts connections and serves HTTP on them, within limits that hold before anybody is known:
//! how many, how long a head and a body may take, how long an answer may wait to be read. Streams
//! and WebSockets of those who showed a token live as long as they like.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    pin::pin,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, HeaderName, Request, Response},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot, watch},
    task::{AbortHandle, JoinError, JoinSet},
    time::sleep,
};
use tower_service::Service as _;

use crate::{
    access::Source,
    arriving::in_time,
    places::{Arrival, PlaceId, Places},
    refusals::{Refusal, Refusals},
    socket::Socket,
};

/// Serves until `closing`, then takes nobody in any more and waits for the connections there are.
/// Dropped, it ends them.
pub(crate) async fn serve(listener: TcpListener, router: Router, closing: oneshot::Receiver<()>) {
    let (news, mut heard) = mpsc::unbounded_channel();
    let (stopping, stop) = watch::channel(());
    let mut house = House {
        router,
        places: Places::default(),
        strangers: HashMap::new(),
        tasks: JoinSet::new(),
        news,
        stop,
        refusals: Refusals::default(),
    };
    let mut closing = pin!(async move {
        if closing.await.is_err() {
            // The running hub was dropped: serve on.
            std::future::pending::<()>().await;
        }
    });
    loop {
        tokio::select! {
            () = &mut closing => break,
            Some(news) = heard.recv() => house.on_news(&news),
            Some(ended) = house.tasks.join_next() => report(ended),
            accepted = listener.accept() => match accepted {
                Ok((socket, from)) => house.take_in(socket, from),
                Err(error) => {
                    tracing::warn!(%error, "no connection could be accepted");
                    sleep(AFTER_ERROR).await;
                }
            },
        }
    }
    drop(listener);
    drop(stopping);
    while let Some(ended) = house.tasks.join_next().await {
        report(ended);
    }
    // WebSockets have left their tasks, and say their last words.
    while !house.places.is_empty()
        && let Some(news) = heard.recv().await
    {
        house.on_news(&news);
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection panicked");
    }
}

struct House {
    router: Router,
    places: Places,
    /// Those that can be put out.
    strangers: HashMap<PlaceId, AbortHandle>,
    tasks: JoinSet<()>,
    news: mpsc::UnboundedSender<News>,
    stop: watch::Receiver<()>,
    refusals: Refusals,
}

#[derive(Debug)]
enum News {
    Known(PlaceId),
    Gone(PlaceId),
    Refused(Refusal),
}

impl House {
    fn take_in(&mut self, socket: TcpStream, from: SocketAddr) {
        let (place, put_out) = match self.places.arrive(from.ip()) {
            Arrival::Taken { place, put_out } => (place, put_out),
            Arrival::Full => return self.refusals.tell(&Refusal::NoPlace(from)),
        };
        if let Some(stranger) = put_out.and_then(|place| self.strangers.remove(&place)) {
            tracing::debug!("a connection that asked for nothing made room for another");
            stranger.abort();
        }
        let visitor = Visitor {
            place,
            from: from.ip(),
            news: self.news.clone(),
        };
        let socket = Socket::new(socket, Place(visitor.clone()));
        let serving = converse(socket, visitor, self.router.clone(), self.stop.clone());
        let task = self.tasks.spawn(serving);
        self.strangers.insert(place, task);
    }

    fn on_news(&mut self, news: &News) {
        let place = match news {
            News::Known(place) => {
                self.places.welcome(*place);
                place
            }
            News::Gone(place) => {
                self.places.leave(*place);
                place
            }
            News::Refused(why) => return self.refusals.tell(why),
        };
        self.strangers.remove(place);
    }
}

/// Who made a request; in its extensions.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    place: PlaceId,
    from: IpAddr,
    news: mpsc::UnboundedSender<News>,
}

impl Visitor {
    /// It has shown a token that is good.
    pub(crate) fn welcome(&self) {
        self.tell(News::Known(self.place));
    }

    /// It is refused something; the log may want to know.
    pub(crate) fn refused(&self, why: Refusal) {
        self.tell(News::Refused(why));
    }

    /// Where it comes from. What a proxy on this machine says of whom it speaks for is believed; of
    /// several, the last one is the proxy's own word.
    pub(crate) fn source(&self, headers: &HeaderMap) -> Source {
        let named = headers.get_all(FORWARDED).iter().next_back();
        let named = named
            .filter(|_| self.from.to_canonical().is_loopback())
            .and_then(|named| named.to_str().ok())
            .and_then(|named| named.rsplit(',').next()?.trim().parse().ok());
        Source::of(named.unwrap_or(self.from))
    }

    fn tell(&self, news: News) {
        if self.news.send(news).is_err() {
            tracing::trace!("the door is closed");
        }
    }
}

/// Goes with the socket, also when a WebSocket has taken it over.
#[derive(Debug)]
struct Place(Visitor);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.tell(News::Gone(self.0.place));
    }
}

async fn converse(
    socket: Socket<TcpStream, Place>,
    visitor: Visitor,
    router: Router,
    mut stop: watch::Receiver<()>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (head, body) = request.into_parts();
        let (body, unread) = in_time(body);
        let mut request = Request::from_parts(head, Body::new(body));
        request.extensions_mut().insert(visitor.clone());
        let answer = router.clone().call(request);
        async move {
            let mut answer = answer.await.unwrap_or_else(|no| match no {});
            unread.throw_away(&mut answer);
            Ok::<Response<Body>, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        Err(_) = stop.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = &error as &dyn std::error::Error, "connection ended");
    }
}

/// Proxies name in it whom they speak for.
const FORWARDED: HeaderName = HeaderName::from_static("x-forwarded-for");

/// From the first byte, or from the end of the answer before, to the end of the head.
const HEAD: Duration = Duration::from_secs(10);
/// All files may be in use; that passes.
const AFTER_ERROR: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use futures_util::stream;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        time::Instant,
    };

    use super::*;

    #[test]
    fn only_a_proxy_on_this_machine_is_believed_about_whom_it_speaks_for() {
        let (news, _heard) = mpsc::unbounded_channel();
        let source = |from: &str, named: &[&'static str]| {
            let Arrival::Taken { place, .. } = Places::default().arrive(from.parse().unwrap())
            else {
                panic!("there is room");
            };
            let visitor = Visitor {
                place,
                from: from.parse().unwrap(),
                news: news.clone(),
            };
            let mut headers = HeaderMap::new();
            for name in named {
                headers.append(FORWARDED, axum::http::HeaderValue::from_static(name));
            }
            visitor.source(&headers)
        };
        let of = |text: &str| Source::of(text.parse().unwrap());
        for (from, named, found) in [
            ("127.0.0.1", &[][..], "127.0.0.1"),
            ("127.0.0.1", &["192.0.2.1"], "192.0.2.1"),
            ("::1", &["192.0.2.1, 192.0.2.2"], "192.0.2.2"),
            ("127.0.0.1", &["192.0.2.1", "192.0.2.3"], "192.0.2.3"),
            ("127.0.0.1", &["unknown"], "127.0.0.1"),
            ("192.0.2.9", &["192.0.2.1"], "192.0.2.9"),
        ] {
            assert_eq!(source(from, named), of(found), "{from} {named:?}");
        }
    }

    /// Serves a page, and a stream that says something after an hour.
    async fn served() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let late = async || {
            Body::from_stream(stream::once(async {
                sleep(Duration::from_secs(3600)).await;
                Ok::<_, Infallible>("still here")
            }))
        };
        let router = Router::new()
            .route("/", get(async || "hello"))
            .route("/late", get(late));
        let (closing, closed) = oneshot::channel();
        tokio::spawn(async move {
            serve(listener, router, closed).await;
            drop(closing);
        });
        address
    }

    async fn said_to(address: SocketAddr, words: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(words.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_does_not_ask_in_time_is_sent_away() {
        let address = served().await;
        for words in ["", "GET / HTTP/1.1\r\nHost: x", "GET / HTTP/1.1\r\n\r\n"] {
            let start = Instant::now();
            let answer = said_to(address, words).await;
            assert_eq!(answer.ends_with("hello"), words.ends_with("\r\n\r\n"));
            assert!(start.elapsed() >= HEAD, "{words}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_lives_as_long_as_it_likes() {
        let address = served().await;
        let words = "GET /late HTTP/1.1\r\nConnection: close\r\n\r\n";
        let answer = said_to(address, words).await;
        assert!(answer.contains("still here"), "{answer}");
    }

    #[tokio::test]
    async fn strangers_who_ask_for_nothing_lock_nobody_out() {
        let address = served().await;
        let mut strangers = Vec::new();
        for _ in 0..300 {
            let mut stranger = TcpStream::connect(address).await.unwrap();
            stranger.write_all(b"GET / HTTP").await.unwrap();
            strangers.push(stranger);
        }
        let words = "GET / HTTP/1.1\r\nConnection: close\r\n\r\n";
        assert!(said_to(address, words).await.ends_with("hello"));
        // The oldest made room.
        let mut rest = Vec::new();
        strangers[0]
            .read_to_end(&mut rest)
            .await
            .unwrap_or_default();
        assert_eq!(rest, b"");
    }
}
