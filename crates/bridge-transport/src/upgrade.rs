//! The upgrade from HTTP to WebSocket, done by hand so that a refusal can be read in full.

mod key;

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header, uri::PathAndQuery};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

use crate::dial::DialError;

/// A peer that agreed to speak WebSocket.
pub(crate) struct Upgraded {
    /// The headers it answered with.
    pub(crate) headers: HeaderMap,
    /// What it sent right behind them.
    pub(crate) leftover: Vec<u8>,
}

/// Asks for the upgrade and reads the answer.
pub(crate) async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    url: &Uri,
    headers: &[(HeaderName, HeaderValue)],
) -> Result<Upgraded, DialError> {
    let key = key::fresh();
    stream
        .write_all(&request(url, headers, &key))
        .await
        .map_err(DialError::Broken)?;
    stream.flush().await.map_err(DialError::Broken)?;
    let mut read = Vec::with_capacity(1024);
    let (head, head_len) = loop {
        if let Some(parsed) = parse_head(&read)? {
            break parsed;
        }
        if read.len() > HEAD_LIMIT {
            return Err(DialError::NotWebSocket {
                reason: "its answer has too long a head",
            });
        }
        if stream
            .read_buf(&mut read)
            .await
            .map_err(DialError::Broken)?
            == 0
        {
            return Err(DialError::Broken(std::io::ErrorKind::UnexpectedEof.into()));
        }
    };
    let leftover = read.split_off(head_len);
    if head.status != 101 {
        let body = read_body(stream, &head.headers, leftover).await;
        let retry_after = retry_after(&head.headers, SystemTime::now());
        return Err(DialError::Refused {
            status: head.status,
            retry_after,
            body,
        });
    }
    check(&head.headers, &key)?;
    Ok(Upgraded {
        headers: head.headers,
        leftover,
    })
}

fn request(url: &Uri, headers: &[(HeaderName, HeaderValue)], key: &str) -> Vec<u8> {
    let host = url.host().unwrap_or_default();
    let port = url
        .port()
        .map(|port| format!(":{port}"))
        .unwrap_or_default();
    let path = url.path_and_query().map_or("/", PathAndQuery::as_str);
    let mut request = format!(
        "GET {path} HTTP/1.1\r\nhost: {host}{port}\r\nconnection: Upgrade\r\n\
         upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n",
    )
    .into_bytes();
    for (name, value) in headers.iter().filter(|(name, _)| !is_ours(name)) {
        request.extend_from_slice(name.as_str().as_bytes());
        request.extend_from_slice(b": ");
        request.extend_from_slice(value.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    request
}

/// Headers that belong to the upgrade itself.
fn is_ours(name: &HeaderName) -> bool {
    [
        header::HOST,
        header::CONNECTION,
        header::UPGRADE,
        header::CONTENT_LENGTH,
    ]
    .contains(name)
        || name.as_str().starts_with("sec-websocket-")
}

struct Head {
    status: u16,
    headers: HeaderMap,
}

fn parse_head(read: &[u8]) -> Result<Option<(Head, usize)>, DialError> {
    let mut slots = [httparse::EMPTY_HEADER; 100];
    let mut response = httparse::Response::new(&mut slots);
    let not_http = |_| DialError::NotWebSocket {
        reason: "its answer is not HTTP",
    };
    let httparse::Status::Complete(len) = response.parse(read).map_err(not_http)? else {
        return Ok(None);
    };
    let mut headers = HeaderMap::new();
    for header in response.headers.iter() {
        if let (Ok(name), Ok(value)) = (
            header.name.parse::<HeaderName>(),
            HeaderValue::from_bytes(header.value),
        ) {
            headers.append(name, value);
        }
    }
    Ok(Some((
        Head {
            status: response.code.unwrap_or_default(),
            headers,
        },
        len,
    )))
}

fn check(headers: &HeaderMap, key: &str) -> Result<(), DialError> {
    let has = |name: HeaderName, word: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| {
                value
                    .split(',')
                    .any(|part| part.trim().eq_ignore_ascii_case(word))
            })
    };
    let accept = headers
        .get(header::SEC_WEBSOCKET_ACCEPT)
        .map(HeaderValue::as_bytes);
    let reason = if !has(header::UPGRADE, "websocket") {
        "its answer does not upgrade to websocket"
    } else if !has(header::CONNECTION, "upgrade") {
        "its answer does not upgrade the connection"
    } else if accept != Some(key::answer(key).as_bytes()) {
        "its answer has a wrong accept key"
    } else if headers.contains_key(header::SEC_WEBSOCKET_EXTENSIONS) {
        "it chose an extension nobody offered"
    } else if headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL) {
        "it chose a subprotocol nobody offered"
    } else {
        return Ok(());
    };
    Err(DialError::NotWebSocket { reason })
}

/// Reads the beginning of a refusal, as far as it comes soon.
async fn read_body<S: AsyncRead + Unpin>(
    stream: &mut S,
    headers: &HeaderMap,
    mut body: Vec<u8>,
) -> String {
    let text_of = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let chunked = text_of(header::TRANSFER_ENCODING)
        .is_some_and(|value| value.to_ascii_lowercase().contains("chunked"));
    let announced: usize = text_of(header::CONTENT_LENGTH)
        .and_then(|value| value.trim().parse().ok())
        .unwrap_or(BODY_LIMIT);
    let wanted = announced.min(BODY_LIMIT);
    let reading = async {
        while body.len() < wanted && !(chunked && body.ends_with(b"0\r\n\r\n")) {
            match stream.read_buf(&mut body).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
    };
    // What has come by then is enough to judge.
    if timeout(BODY_PATIENCE, reading).await.is_err() {
        tracing::debug!("the body of a refusal did not come to its end");
    }
    if chunked {
        body = dechunk(&body);
    }
    body.truncate(wanted);
    String::from_utf8_lossy(&body).into_owned()
}

fn dechunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(httparse::Status::Complete((start, len))) = httparse::parse_chunk_size(rest) {
        let data = rest.get(start..).unwrap_or_default();
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(data.len());
        if len == 0 {
            break;
        }
        body.extend_from_slice(data.get(..len).unwrap_or_default());
        rest = data.get(len + 2..).unwrap_or_default();
    }
    body
}

pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    httpdate::parse_http_date(value)
        .ok()?
        .duration_since(now)
        .ok()
}

const HEAD_LIMIT: usize = 16 << 10;
const BODY_LIMIT: usize = 4 << 10;
const BODY_PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    /// Answers the upgrade with `answer`, in which `ACCEPT` becomes the right key.
    async fn answered(answer: &str) -> Result<Upgraded, DialError> {
        let (mut client, mut server) = duplex(64 << 10);
        let answer = answer.to_owned();
        let serve = async move {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                server.read_buf(&mut request).await.unwrap();
            }
            let request = String::from_utf8(request).unwrap();
            let key = request
                .lines()
                .find_map(|line| line.strip_prefix("sec-websocket-key: "));
            let accept = key::answer(key.unwrap());
            server
                .write_all(answer.replace("ACCEPT", &accept).as_bytes())
                .await
                .unwrap();
            request
        };
        let url = Uri::from_static("ws://localhost:1/ws?a=b");
        let headers = [(header::AUTHORIZATION, HeaderValue::from_static("Bearer x"))];
        let (request, result) = tokio::join!(serve, upgrade(&mut client, &url, &headers));
        assert!(
            request.starts_with("GET /ws?a=b HTTP/1.1\r\nhost: localhost:1\r\n"),
            "{request}"
        );
        assert!(
            request.contains("\r\nauthorization: Bearer x\r\n"),
            "{request}"
        );
        result
    }

    const GOOD: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\n\
        Connection: keep-alive, Upgrade\r\nSec-WebSocket-Accept: ACCEPT\r\n";

    #[tokio::test]
    async fn keeps_what_came_right_behind_the_answer() {
        let upgraded = answered(&format!("{GOOD}X-Bridge-Extension: 1\r\n\r\n\u{1}ab"))
            .await
            .unwrap();
        assert_eq!(upgraded.leftover, b"\x01ab");
        assert_eq!(upgraded.headers["x-bridge-extension"], "1");
    }

    #[tokio::test]
    async fn refuses_answers_that_are_no_upgrade() {
        for answer in [
            format!("{}\r\n", GOOD.replace("ACCEPT", "bm9wZQ==")),
            format!("{}\r\n", GOOD.replace("WebSocket\r\n", "h2c\r\n")),
            format!("{}\r\n", GOOD.replace("keep-alive, Upgrade", "close")),
            format!("{GOOD}Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
            "SSH-2.0-OpenSSH_9.6\r\n\r\n".to_owned(),
            format!("HTTP/1.1 101 Ok\r\nx: {}", "y".repeat(20 << 10)),
        ] {
            let result = answered(&answer).await;
            assert!(
                matches!(result, Err(DialError::NotWebSocket { .. })),
                "{answer}"
            );
        }
    }

    #[tokio::test]
    async fn reads_the_body_and_the_hint_of_a_refusal() {
        for answer in [
            "HTTP/1.1 401 Unauthorized\r\ncontent-length: 9\r\nretry-after: 7\r\n\r\nbad token",
            "HTTP/1.1 401 No\r\nRetry-After: 7\r\nTransfer-Encoding: chunked\r\n\r\n\
             4\r\nbad \r\n5\r\ntoken\r\n0\r\n\r\n",
        ] {
            let Err(DialError::Refused {
                status: 401,
                retry_after,
                body,
            }) = answered(answer).await
            else {
                panic!("not a refusal: {answer}");
            };
            assert_eq!(
                (retry_after, body.as_str()),
                (Some(Duration::from_secs(7)), "bad token")
            );
        }
    }

    #[tokio::test]
    async fn reads_no_more_than_4_kib_of_a_refusal() {
        let answer = format!("HTTP/1.1 500 Oh\r\n\r\n{}", "x".repeat(32 << 10));
        let Err(DialError::Refused { body, .. }) = answered(&answer).await else {
            panic!("not a refusal");
        };
        assert_eq!(body.len(), BODY_LIMIT);
    }

    #[test]
    fn understands_both_kinds_of_retry_after() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_700);
        let parse = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(value));
            retry_after(&headers, now)
        };
        assert_eq!(parse("120"), Some(Duration::from_secs(120)));
        assert_eq!(
            parse("Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(Duration::from_secs(77))
        );
        assert_eq!(parse("Sun, 06 Nov 1984 08:49:37 GMT"), None);
        assert_eq!(parse("soon"), None);
    }
}
