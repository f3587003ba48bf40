//! What links of HTTP requests promise beyond other carriers.

use std::{net::SocketAddr, time::Duration};

use bridge_hub::HubError;
use bridge_transport::{CarrierKind, Endpoint, Inbound, carrier::line::Batch};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::yield_now,
    time::{Instant, sleep},
};

use crate::support::{Bridge, World, soon};

pub(crate) const OF_HTTP: [CarrierKind; 3] =
    [CarrierKind::Hybrid, CarrierKind::Sse, CarrierKind::LongPoll];

/// A request by hand; gives status and body.
async fn ask(world: &World, line: &str, token: &str, body: &str) -> (u16, String) {
    ask_at(world.way.address, line, token, body).await
}

async fn ask_at(address: SocketAddr, line: &str, token: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "{line} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         X-Bridge-Extension: 1\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

/// Opens a link by hand; gives its path.
async fn opened(world: &World) -> String {
    let token = world.pairing.expose();
    let (status, body) = ask(world, "POST /ws/bridge/link", token, "").await;
    assert_eq!(status, 201, "{body}");
    let opened: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(opened["extended"], true);
    format!("/ws/bridge/link/{}", opened["link"].as_str().unwrap())
}

fn batch(first: u64, heard: u64, lines: &[&str]) -> String {
    Batch::encode(first, heard, lines.iter().copied())
}

fn lines(body: &str) -> Vec<&str> {
    body.lines().skip(1).collect()
}

#[tokio::test]
async fn a_link_outlives_its_connections() {
    for kind in OF_HTTP {
        let world = World::new(kind).await;
        let mut bridge = world.bridge().await;
        let run = world.task(&mut bridge).await;
        for round in 0..10_u32 {
            world.way.cut();
            bridge
                .push(&run.text(u64::from(round), &format!("{round} ")))
                .await;
            let prompt = format!("prompt {round}");
            world.create(&prompt).await;
            let dispatch = bridge.expect("dispatch_task").await;
            assert!(dispatch["args"].to_string().contains(&prompt), "{kind:?}");
            sleep(Duration::from_millis(10)).await;
        }
        let expected: Vec<String> = (0..10).map(|n| format!("{n} ")).collect();
        assert_eq!(world.texts(&run, 10).await, expected, "{kind:?}");
        assert_eq!(bridge.ends, [], "{kind:?}");
    }
}

#[tokio::test]
async fn a_request_or_an_answer_that_is_lost_loses_and_doubles_nothing() {
    for kind in OF_HTTP {
        let world = World::new(kind).await;
        let mut bridge = world.bridge().await;
        let run = world.task(&mut bridge).await;
        world.way.lossy(true);
        for round in 0..10_u32 {
            world.way.cut();
            let text = run.text(u64::from(round), &format!("{round} "));
            bridge.push(&text).await;
            let count = usize::try_from(round).unwrap() + 1;
            world.texts(&run, count).await;
        }
        let expected: Vec<String> = (0..10).map(|n| format!("{n} ")).collect();
        assert_eq!(world.texts(&run, 10).await, expected, "{kind:?}");
        world.way.lossy(false);
        world.create("after all").await;
        bridge.expect("dispatch_task").await;
        assert_eq!(bridge.ends, [], "{kind:?}");
    }
}

#[tokio::test]
async fn a_request_that_is_made_again_is_answered_as_before() {
    let world = World::new(CarrierKind::LongPoll).await;
    let token = world.pairing.expose();
    let link = opened(&world).await;
    let say = format!("POST {link}");
    let hello = [
        "{\"action\":\"handshake\",\"version\":\"v1.0.0\",\"agents\":[],\"providers\":[\"demo\"]}",
        "{\"carrier\":\"ping\",\"id\":7}",
    ];
    for _ in 0..3 {
        let answer = ask(&world, &say, token, &batch(1, 0, &hello)).await;
        assert_eq!(answer, (200, "{\"heard\":2}".to_owned()));
    }
    let poll = format!("GET {link}?after=0");
    let mut told = Vec::new();
    while told.len() < 3 {
        let (status, body) = ask(&world, &poll, token, "").await;
        assert_eq!(status, 200);
        told = lines(&body).iter().map(|&line| line.to_owned()).collect();
    }
    let pongs = told.iter().filter(|line| line.contains("\"pong\""));
    assert_eq!(
        pongs.collect::<Vec<_>>(),
        ["{\"carrier\":\"pong\",\"id\":7}"]
    );
    let (_, again) = ask(&world, &poll, token, "").await;
    assert_eq!(lines(&again)[..3], told);
    // From here on what is known is gone.
    world.create("something to tell").await;
    let (status, _) = ask(&world, &format!("GET {link}?after=3"), token, "").await;
    assert_eq!(status, 200);
    let (status, _) = ask(&world, &format!("GET {link}?after=2"), token, "").await;
    assert_eq!(status, 409);
}

#[tokio::test]
async fn a_hub_that_stops_says_so_to_who_asks_only_then() {
    let world = World::new(CarrierKind::LongPoll).await;
    let (hub, address) = (world.hub(), world.way.address);
    let token = world.pairing.clone();
    let link = opened(&world).await;
    let asking = async {
        while !matches!(hub.machines().await, Err(HubError::Stopping)) {
            yield_now().await;
        }
        let token = token.expose();
        let (refused, why) = ask_at(address, "POST /ws/bridge/link", token, "").await;
        assert_eq!(refused, 503, "{why}");
        ask_at(address, &format!("GET {link}?after=0"), token, "").await
    };
    let (_way, (status, body)) = tokio::join!(world.stop(), asking);
    assert_eq!(status, 200, "{body}");
    assert!(lines(&body).last().unwrap().contains("1001"), "{body}");
}

#[tokio::test]
async fn links_that_their_bridge_has_ended_take_no_room_from_others() {
    let world = World::new(CarrierKind::LongPoll).await;
    let token = world.pairing.expose();
    for _ in 0..12 {
        let link = opened(&world).await;
        let (status, _) = ask(&world, &format!("DELETE {link}"), token, "").await;
        assert_eq!(status, 204);
    }
    for _ in 0..8 {
        opened(&world).await;
    }
    let (status, _) = ask(&world, "POST /ws/bridge/link", token, "").await;
    assert_eq!(status, 503, "those that it left open do");
}

#[tokio::test]
async fn a_bridge_has_only_so_many_bodies_read_at_a_time_over_all_its_links() {
    let world = World::new(CarrierKind::LongPoll).await;
    let token = world.pairing.expose();
    let (one, two, three) = (
        opened(&world).await,
        opened(&world).await,
        opened(&world).await,
    );
    let mut held = Vec::new();
    for link in [&one, &one, &two, &two] {
        held.push(begun(&world, link, 1000, "").await);
    }
    let say = format!("POST {three}");
    // They get there some time.
    soon(async { while ask(&world, &say, token, &batch(1, 0, &[])).await.0 != 503 {} }).await;
    drop(held);
    soon(async { while ask(&world, &say, token, &batch(1, 0, &[])).await.0 == 503 {} }).await;
}

#[tokio::test]
async fn a_link_is_of_no_use_without_its_token_and_after_its_end() {
    let world = World::new(CarrierKind::LongPoll).await;
    let token = world.pairing.expose();
    let link = opened(&world).await;
    let other = world.hub().create_bridge_token("other").await.unwrap();
    for (line, token, expected) in [
        (format!("GET {link}?after=0"), "", 401),
        (format!("GET {link}?after=0"), "wrong", 410),
        (format!("GET {link}?after=0"), other.secret.expose(), 410),
        (format!("GET {link}x?after=0"), token, 410),
        (format!("DELETE {link}"), other.secret.expose(), 410),
        ("POST /ws/bridge/link".to_owned(), "wrong", 401),
        (format!("DELETE {link}?code=1000"), token, 204),
    ] {
        let (status, body) = ask(&world, &line, token, "").await;
        assert_eq!(status, expected, "{line} {body}");
    }
    world.online(false).await;
    let (status, _) = ask(&world, &format!("POST {link}"), token, &batch(1, 0, &[])).await;
    assert_eq!(status, 410);
}

#[tokio::test]
async fn hostile_batches_are_refused_and_the_link_goes_on() {
    let world = World::new(CarrierKind::LongPoll).await;
    let token = world.pairing.expose();
    let link = opened(&world).await;
    let say = format!("POST {link}");
    let half = "x".repeat(200_000);
    for (body, expected) in [
        (String::new(), 400),
        ("{}\n".to_owned(), 400),
        (batch(1, 0, &["{\"carrier\":\"shout\"}"]), 400),
        (
            batch(1, 0, &["x"]).replace("\"lines\":1", "\"lines\":2"),
            400,
        ),
        (batch(0, 0, &[]), 400),
        (batch(3, 0, &["x"]), 409),
        (batch(1, 99, &["x"]), 409),
        (batch(u64::MAX, 0, &["x"]), 400),
        (batch(1, 0, &["{"; 257]), 413),
        (batch(1, 0, &[half.as_str(); 2]), 413),
        (
            batch(1, 0, &vec!["{"; 1_000_000]).replace("\"lines\":1000000", "\"lines\":256"),
            413,
        ),
    ] {
        let (status, answer) = ask(&world, &say, token, &body).await;
        let begin: String = body.chars().take(100).collect();
        assert_eq!(status, expected, "{begin:?} {answer}");
    }
    let answer = ask(&world, &say, token, &batch(1, 0, &["{}"])).await;
    assert_eq!(answer, (200, "{\"heard\":1}".to_owned()));
}

/// Begins a request by hand: its head, and the beginning of its body.
async fn begun(world: &World, path: &str, announced: usize, body: &str) -> TcpStream {
    begun_with(world, path, announced, "", body).await
}

/// The same with more headers, each with its end.
async fn begun_with(
    world: &World,
    path: &str,
    announced: usize,
    headers: &str,
    body: &str,
) -> TcpStream {
    let address = world.way.address;
    let token = world.pairing.expose();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: {announced}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// The head of the answer to it.
async fn answered(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(stream.read_u8()).await.unwrap());
    }
    String::from_utf8(head).unwrap().to_lowercase()
}

#[tokio::test]
async fn a_batch_with_too_much_in_it_is_refused_before_it_is_there() {
    let world = World::new(CarrierKind::LongPoll).await;
    let link = opened(&world).await;
    let head = |lines: &[&str]| {
        let batch = batch(1, 0, lines);
        let (head, _) = batch.split_once('\n').unwrap();
        format!("{head}\n")
    };
    for (announced, body) in [
        (40 << 20, String::new()),
        (300_000, head(&["x"; 2])),
        (300_000, head(&["x"; 257])),
    ] {
        let mut waiting = begun(&world, &link, announced, &body).await;
        let answer = answered(&mut waiting).await;
        assert!(answer.starts_with("http/1.1 413 "), "{body:?} {answer}");
        assert!(answer.contains("connection: close"), "{body:?} {answer}");
    }
    // Who asks before it writes is not told to go on.
    let asks = "Expect: 100-continue\r\n";
    let mut asking = begun_with(&world, &link, 40 << 20, asks, "").await;
    let answer = answered(&mut asking).await;
    assert!(answer.starts_with("http/1.1 413 "), "{answer}");
    // A single line may be as long.
    let mut taken = begun(&world, &link, 300_000, &head(&["x"])).await;
    let rest = "x".repeat(300_000 - head(&["x"]).len() - 1) + "\n";
    taken.write_all(rest.as_bytes()).await.unwrap();
    let answer = answered(&mut taken).await;
    assert!(answer.starts_with("http/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn who_writes_a_request_to_its_end_before_reading_still_gets_to_see_why_it_is_refused() {
    let world = World::new(CarrierKind::LongPoll).await;
    let link = opened(&world).await;
    for (path, bytes, status) in [
        (link.as_str(), 40 << 20, 413),
        ("/ws/bridge/link/none", 20 << 20, 410),
    ] {
        let mut writing = begun(&world, path, bytes, "").await;
        let body = vec![b'x'; bytes];
        writing.write_all(&body).await.unwrap();
        let answer = answered(&mut writing).await;
        let expected = format!("http/1.1 {status} ");
        assert!(answer.starts_with(&expected), "{answer}");
    }
}

#[tokio::test]
async fn strangers_who_say_nothing_keep_no_bridge_out() {
    let world = World::new(CarrierKind::Lines).await;
    let mut strangers = Vec::new();
    for _ in 0..300 {
        strangers.push(TcpStream::connect(world.lines()).await.unwrap());
    }
    let begun = Instant::now();
    world.bridge().await;
    // The oldest made room, and did not just run out of time.
    let mut rest = Vec::new();
    soon(strangers[0].read_to_end(&mut rest))
        .await
        .unwrap_or_default();
    assert_eq!(rest, b"");
    assert!(begun.elapsed() < Duration::from_secs(8));
}

/// A hub that opens links and tells each poll the same batch.
async fn telling(batch: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let opened =
        "{\"link\":\"link\",\"extended\":true,\"limits\":{\"lines\":256,\"bytes\":262144}}";
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let (status, body) = if head.starts_with(b"GET ") {
                (200, batch.as_str())
            } else if head.starts_with(b"POST /ws/bridge/link ") {
                (201, opened)
            } else {
                (503, "")
            };
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn an_answer_with_more_lines_than_a_hub_tells_ends_the_link_and_none_is_taken() {
    let hub = telling(batch(1, 0, &vec!["{}"; 100_000])).await;
    let endpoint = Endpoint::new(&format!("ws://{hub}/ws/bridge"))
        .unwrap()
        .carriers([CarrierKind::LongPoll])
        .unwrap()
        .offer_extension(true);
    let mut bridge = Bridge::start(endpoint);
    loop {
        match bridge.next().await {
            Inbound::Closed { reason, .. } => {
                let reason = format!("{reason:?}");
                assert!(reason.contains("too much"), "{reason}");
                return;
            }
            Inbound::Frame { .. } => panic!("a line was taken"),
            Inbound::Opened { .. }
            | Inbound::Gap { .. }
            | Inbound::Missed { .. }
            | Inbound::Refused { .. } => {}
        }
    }
}
