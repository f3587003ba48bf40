//! The link over real sockets, against a control plane on loopback that misbehaves as told.

#![expect(
    clippy::unwrap_used,
    reason = "the lint exempts test functions, not their helpers"
)]

use std::{net::SocketAddr, time::Duration};

use bridge_transport::{
    CarrierKind, CloseReason, Endpoint, EndpointError, Flushed, FrameRefused, Greeting, Handle,
    Inbound, Inbox, Limits, Phase, Text, Timings, connect,
};
use futures_util::{SinkExt as _, StreamExt as _};
use http::HeaderValue;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{Request, Response},
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

type Socket = WebSocketStream<TcpStream>;

/// A control plane that does one thing at a time.
struct Plane(TcpListener);

impl Plane {
    async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    fn endpoint(&self) -> Endpoint {
        let timings = Timings::default().reconnect_within(Duration::from_millis(20));
        let greeting = Greeting {
            frames: vec!["hello".into()],
            ..Greeting::default()
        };
        Endpoint::new(&format!("ws://{}/ws", self.address()))
            .unwrap()
            .timings(timings)
            .greeting(greeting)
    }

    /// Accepts an upgrade; returns its request headers too.
    #[expect(clippy::result_large_err, reason = "the library's callback type")]
    async fn accept(&self) -> (Socket, http::HeaderMap) {
        let (stream, _) = self.0.accept().await.unwrap();
        let mut headers = http::HeaderMap::new();
        let socket = accept_hdr_async(stream, |request: &Request, mut response: Response| {
            headers = request.headers().clone();
            if let Some(offer) = request.headers().get("x-bridge-extension") {
                response
                    .headers_mut()
                    .insert("x-bridge-extension", offer.clone());
            }
            Ok(response)
        });
        let socket = socket.await.unwrap();
        (socket, headers)
    }

    /// Accepts and reads the greeting.
    async fn greeted(&self) -> Socket {
        let (mut socket, _) = self.accept().await;
        assert_eq!(read(&mut socket).await, "hello");
        socket
    }

    async fn refuse(&self, answer: &str) {
        let (mut stream, _) = self.0.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut request).await.unwrap();
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

/// Reads the next text; says what came instead otherwise.
async fn read(socket: &mut Socket) -> String {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return text.as_str().to_owned(),
            Some(Ok(Message::Close(frame))) => {
                let code = frame.map(|frame| u16::from(frame.code));
                return format!("close {}", code.unwrap_or_default());
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            other => return format!("{other:?}"),
        }
    }
}

async fn close(mut socket: Socket, code: u16) {
    let frame = CloseFrame {
        code: CloseCode::from(code),
        reason: "".into(),
    };
    socket.send(Message::Close(Some(frame))).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
}

async fn reaches(link: &Handle<Text>, phase: Phase) -> Option<String> {
    let mut states = link.state();
    let state = states.wait_for(|state| state.phase == phase).await.unwrap();
    state.last_error.clone()
}

async fn next_frame(inbox: &mut Inbox) -> String {
    loop {
        match inbox.recv().await.unwrap() {
            Inbound::Frame { text, .. } => return String::from_utf8(text.to_vec()).unwrap(),
            Inbound::Opened { .. } | Inbound::Closed { .. } => {}
            other @ (Inbound::Refused { .. } | Inbound::Gap { .. } | Inbound::Missed { .. }) => {
                panic!("{other:?}")
            }
        }
    }
}

fn text(text: &str) -> Text {
    Text(text.to_owned())
}

#[tokio::test]
async fn frames_travel_both_ways_after_the_greeting() {
    let plane = Plane::start().await;
    let endpoint = plane.endpoint().bearer("t0ken").unwrap();
    let (link, mut inbox) = connect(endpoint);
    link.push(text("one")).await.unwrap();
    let (mut socket, headers) = plane.accept().await;
    assert_eq!(headers["authorization"], "Bearer t0ken");
    assert!(!headers.contains_key("x-bridge-extension"));
    assert_eq!(read(&mut socket).await, "hello");
    assert_eq!(read(&mut socket).await, "one");
    socket.send(Message::text("grüße")).await.unwrap();
    assert!(matches!(
        inbox.recv().await,
        Some(Inbound::Opened {
            extended: false,
            ..
        })
    ));
    assert_eq!(next_frame(&mut inbox).await, "grüße");
    let flushed = tokio::spawn(link.shutdown(Duration::from_secs(5)));
    assert_eq!(read(&mut socket).await, "close 1000");
    while let Some(Ok(_)) = socket.next().await {}
    assert_eq!(flushed.await.unwrap(), Flushed::Everything);
}

#[tokio::test]
async fn the_extension_is_used_when_offered_and_accepted() {
    let plane = Plane::start().await;
    let (_link, mut inbox) = connect::<Text>(plane.endpoint().offer_extension(true));
    let (_socket, headers) = plane.accept().await;
    assert_eq!(headers["x-bridge-extension"], "1");
    assert!(matches!(
        inbox.recv().await,
        Some(Inbound::Opened { extended: true, .. })
    ));
}

#[tokio::test]
async fn a_refused_token_waits_for_another() {
    let plane = Plane::start().await;
    let (token, authorization) = watch::channel(Some(HeaderValue::from_static("Bearer old")));
    let (link, _inbox) = connect(plane.endpoint().authorization(authorization));
    plane
        .refuse("HTTP/1.1 401 Unauthorized\r\ncontent-length: 27\r\n\r\n{\"error\":\"invalid token 1\"}")
        .await;
    let error = reaches(&link, Phase::AuthRequired).await;
    assert_eq!(
        error.as_deref(),
        Some("server refused the connection with status 401")
    );
    token.send_replace(Some(HeaderValue::from_static("Bearer new")));
    let (_socket, headers) = plane.accept().await;
    assert_eq!(headers["authorization"], "Bearer new");
    reaches(&link, Phase::Online).await;
}

#[tokio::test]
async fn a_refusal_by_something_else_does_not_blame_the_token() {
    let plane = Plane::start().await;
    let (link, _inbox) = connect::<Text>(plane.endpoint());
    let page = "<html>log in to get a token</html>";
    plane
        .refuse(&format!(
            "HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\n{page}"
        ))
        .await;
    plane
        .refuse("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n")
        .await;
    plane.greeted().await;
    assert_eq!(link.state().borrow().attempt, 3);
}

#[tokio::test]
async fn what_was_pushed_while_offline_arrives_in_order() {
    let plane = Plane::start().await;
    let (link, _inbox) = connect(plane.endpoint());
    let socket = plane.greeted().await;
    drop(socket);
    reaches(&link, Phase::Waiting).await;
    for number in 0..1000 {
        link.push(Text(number.to_string())).await.unwrap();
    }
    let mut socket = plane.greeted().await;
    for number in 0..1000 {
        assert_eq!(read(&mut socket).await, number.to_string());
    }
}

#[tokio::test]
async fn close_codes_decide_how_soon_to_come_back() {
    let plane = Plane::start().await;
    let (link, _inbox) = connect::<Text>(plane.endpoint());
    let mut socket = plane.greeted().await;
    socket.send(Message::text("{}")).await.unwrap();
    for code in [1002, 1011, 1012, 4001] {
        close(socket, code).await;
        socket = plane.greeted().await;
        socket.send(Message::text("{}")).await.unwrap();
    }
    close(socket, 1008).await;
    let error = reaches(&link, Phase::AuthRequired).await;
    assert_eq!(error.as_deref(), Some("closed by the peer with code 1008"));
}

#[tokio::test]
async fn a_binary_frame_is_refused_and_the_connection_goes_on() {
    let plane = Plane::start().await;
    let (_link, mut inbox) = connect::<Text>(plane.endpoint());
    let mut socket = plane.greeted().await;
    socket.send(Message::binary(vec![0; 5])).await.unwrap();
    socket.send(Message::text("still here")).await.unwrap();
    inbox.recv().await;
    let reason = FrameRefused::Binary { bytes: 5 };
    assert!(matches!(inbox.recv().await, Some(Inbound::Refused { reason: r, .. }) if r == reason));
    assert_eq!(next_frame(&mut inbox).await, "still here");
}

#[tokio::test]
async fn a_frame_over_the_limit_is_refused_and_the_link_comes_back() {
    let plane = Plane::start().await;
    let limits = Limits {
        frame: 1000,
        ..Limits::default()
    };
    let (link, mut inbox) = connect::<Text>(plane.endpoint().limits(limits));
    let mut socket = plane.greeted().await;
    socket.send(Message::text("x".repeat(1001))).await.unwrap();
    inbox.recv().await;
    let reason = FrameRefused::TooLarge { bytes: 1001 };
    assert!(matches!(inbox.recv().await, Some(Inbound::Refused { reason: r, .. }) if r == reason));
    let closed = inbox.recv().await;
    let transient = matches!(
        closed,
        Some(Inbound::Closed {
            reason: CloseReason::Protocol(_),
            ..
        })
    );
    assert!(transient, "{closed:?}");
    assert_eq!(read(&mut socket).await, "close 1009");
    plane.greeted().await;
    assert!(reaches(&link, Phase::Online).await.is_some());
}

#[tokio::test]
async fn text_that_is_not_utf8_is_refused_and_the_link_comes_back() {
    let plane = Plane::start().await;
    let (_link, mut inbox) = connect::<Text>(plane.endpoint());
    let mut socket = plane.greeted().await;
    socket
        .get_mut()
        .write_all(&[0x81, 2, 0xff, 0xfe])
        .await
        .unwrap();
    inbox.recv().await;
    let refused = inbox.recv().await;
    let expected = matches!(
        refused,
        Some(Inbound::Refused {
            reason: FrameRefused::NotUtf8,
            ..
        })
    );
    assert!(expected, "{refused:?}");
    assert_eq!(read(&mut socket).await, "close 1007");
    plane.greeted().await;
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let plane = Plane::start().await;
    let limits = Limits {
        dial: Duration::from_millis(100),
        ..Limits::default()
    };
    let (link, _inbox) = connect::<Text>(plane.endpoint().limits(limits));
    let _silent = plane.0.accept().await.unwrap();
    let error = reaches(&link, Phase::Waiting).await;
    assert_eq!(error.as_deref(), Some("no answer within 100ms"));
}

#[tokio::test]
async fn a_server_that_never_reads_is_left_and_nothing_is_lost() {
    let plane = Plane::start().await;
    let mut endpoint = plane.endpoint();
    endpoint.timings.silence = Duration::from_millis(300);
    let (link, _inbox) = connect(endpoint);
    let stalled = plane.greeted().await;
    // More than the buffers of both sides take.
    let large = "x".repeat(16 << 20);
    link.push(Text(large.clone())).await.unwrap();
    let mut socket = plane.greeted().await;
    assert_eq!(read(&mut socket).await.len(), large.len());
    drop(stalled);
}

#[tokio::test]
async fn what_does_not_speak_http_is_a_typed_error() {
    let plane = Plane::start().await;
    let (plain, _inbox) = connect::<Text>(plane.endpoint());
    plane.refuse("220 mail server ready\r\n").await;
    let error = reaches(&plain, Phase::Waiting).await.unwrap();
    assert_eq!(
        error,
        "server does not speak WebSocket: its answer is not HTTP"
    );
}

#[cfg(not(feature = "tls"))]
#[tokio::test]
async fn without_tls_nothing_that_should_be_encrypted_is_sent() {
    let plane = Plane::start().await;
    let endpoint = Endpoint::new(&format!("wss://{}/", plane.address())).unwrap();
    let (link, _inbox) = connect::<Text>(endpoint.bearer("t0ken").unwrap());
    let error = reaches(&link, Phase::Waiting).await.unwrap();
    assert_eq!(
        error,
        "encrypted connections need bridge-transport's feature `tls`"
    );
}

#[cfg(not(feature = "proxy"))]
#[tokio::test]
async fn without_proxies_one_that_was_named_is_not_gone_around() {
    let proxy = bridge_transport::ProxySource::Address(http::Uri::from_static("http://proxy:1"));
    let endpoint = Endpoint::allow_plain("ws://plane.invalid/ws").unwrap();
    let (link, _inbox) = connect::<Text>(endpoint.proxy(proxy.clone()));
    let error = reaches(&link, Phase::Waiting).await.unwrap();
    assert_eq!(error, "proxies need bridge-transport's feature `proxy`");

    let plane = Plane::start().await;
    let (_direct, _inbox) = connect::<Text>(plane.endpoint().proxy(proxy));
    plane.greeted().await;
}

#[test]
fn carriers_that_cannot_reach_an_address_are_refused() {
    let refused = |url: &str, kinds: &[CarrierKind]| {
        let endpoint = Endpoint::new(url).unwrap();
        endpoint.carriers(kinds.iter().copied()).err()
    };
    let wrong = |scheme: &str| {
        Some(EndpointError::Carriers {
            scheme: scheme.to_owned(),
        })
    };
    let (socket, lines) = (CarrierKind::WebSocket, CarrierKind::Lines);
    assert_eq!(refused("wss://plane.example", &[lines]), wrong("wss"));
    assert_eq!(refused("tls://plane.example:1", &[socket]), wrong("tls"));
    assert_eq!(refused("https://plane.example", &[]), wrong("https"));
    assert_eq!(
        refused("https://plane.example", &CarrierKind::of_http()),
        None
    );
    assert_eq!(refused("tcp://127.0.0.1:1", &[lines]), None);
}

#[test]
fn addresses_that_would_leak_the_token_are_refused() {
    let refused = |url: &str| Endpoint::new(url).err();
    let clear = |scheme: &str, host: &str| {
        Some(EndpointError::ClearText {
            scheme: scheme.to_owned(),
            host: host.to_owned(),
        })
    };
    assert_eq!(
        refused("ws://plane.example/ws"),
        clear("ws", "plane.example:80")
    );
    for scheme in ["ws", "http", "tcp"] {
        let host = "10.0.0.1:8080";
        assert_eq!(refused(&format!("{scheme}://{host}")), clear(scheme, host));
    }
    assert_eq!(
        refused("wss://user:pass@plane.example"),
        Some(EndpointError::Credentials)
    );
    let scheme = EndpointError::Scheme {
        scheme: "ftp".to_owned(),
    };
    assert_eq!(refused("ftp://plane.example"), Some(scheme));
    assert_eq!(refused("tls://plane.example"), Some(EndpointError::NoPort));
    let unreadable = refused("wss://plane.example:99999");
    assert!(matches!(unreadable, Some(EndpointError::Address { .. })));
    for good in [
        "wss://plane.example",
        "WSS://Plane.Example/ws",
        "ws://localhost:1",
        "ws://127.0.0.1:1",
        "ws://[::1]:1",
        "https://plane.example",
        "http://localhost:1",
        "tls://plane.example:1",
        "tcp://127.0.0.1:1",
        "tcp://[::1]:1",
    ] {
        assert_eq!(refused(good), None, "{good}");
    }
    assert!(Endpoint::allow_plain("ws://plane.example").is_ok());
    let endpoint = Endpoint::new("wss://plane.example").unwrap();
    assert!(!format!("{:?}", endpoint.bearer("s3cret").unwrap()).contains("s3cret"));
}
