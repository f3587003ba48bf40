//! The direct way to a host: all of its addresses, each tried a little after the one before, so that
//! one family that leads nowhere does not use up the time of the dial.

use std::{collections::VecDeque, io, net::SocketAddr, time::Duration};

use http::Uri;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    task::JoinSet,
    time::sleep,
};

use crate::{
    address::{bare_host, host_text, port},
    dial::DialError,
};

/// A byte stream of whatever kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects to the host of an address.
pub(crate) async fn connect(url: &Uri) -> Result<TcpStream, DialError> {
    let unreachable = |reason: String| DialError::Unreachable {
        host: host_text(url),
        reason,
    };
    let port = port(url).ok_or_else(|| unreachable("no port was named".to_owned()))?;
    let found = lookup_host((bare_host(url), port)).await;
    let found = found.map_err(|error| unreachable(error.to_string()))?;
    let stream = first_of(alternating(found), Duration::from_millis(300)).await;
    let stream = stream.map_err(|error| unreachable(error.to_string()))?;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "small packets may be held back");
    }
    Ok(stream)
}

/// The families take turns, beginning with the one the system prefers.
fn alternating(found: impl Iterator<Item = SocketAddr>) -> VecDeque<SocketAddr> {
    let found: Vec<SocketAddr> = found.collect();
    let first = found.first().is_some_and(SocketAddr::is_ipv4);
    let (mut these, mut those): (VecDeque<_>, VecDeque<_>) = found
        .into_iter()
        .partition(|address| address.is_ipv4() == first);
    let mut turns = VecDeque::new();
    while !(these.is_empty() && those.is_empty()) {
        turns.extend(these.pop_front());
        turns.extend(those.pop_front());
    }
    turns
}

/// The first that answers; the next is tried when one fails, and beside one that does not answer.
async fn first_of(mut left: VecDeque<SocketAddr>, head_start: Duration) -> io::Result<TcpStream> {
    let mut trying = JoinSet::new();
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        if let Some(address) = left.pop_front() {
            trying.spawn(TcpStream::connect(address));
        }
        loop {
            let next = tokio::select! {
                ended = trying.join_next() => ended,
                () = sleep(head_start), if !left.is_empty() => break,
            };
            match next {
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(Ok(Err(error))) => failed = error,
                Some(Err(error)) => failed = error.into(),
                None => return Err(failed),
            }
            if !left.is_empty() {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn families_take_turns() {
        let all = ["1.1.1.1:1", "2.2.2.2:1", "3.3.3.3:1", "[::1]:1"];
        let turns = alternating(all.iter().map(|text| text.parse().unwrap()));
        let turns: Vec<String> = turns.iter().map(ToString::to_string).collect();
        assert_eq!(turns, ["1.1.1.1:1", "[::1]:1", "2.2.2.2:1", "3.3.3.3:1"]);
    }

    #[tokio::test]
    async fn one_that_refuses_and_one_that_does_not_answer_keep_nobody_from_the_next() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let refuses = closed.local_addr().unwrap();
        drop(closed);
        // Its queue is full: the system answers nobody more.
        let full = tokio::net::TcpSocket::new_v4().unwrap();
        full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let full = full.listen(0).unwrap();
        let stalls = full.local_addr().unwrap();
        let mut waiting = JoinSet::new();
        for _ in 0..8 {
            waiting.spawn(TcpStream::connect(stalls));
        }
        let answers = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let answers_at = answers.local_addr().unwrap();
        let all = VecDeque::from([refuses, stalls, answers_at]);
        let stream = first_of(all, Duration::from_millis(20)).await.unwrap();
        assert!([answers_at, stalls].contains(&stream.peer_addr().unwrap()));
        let nobody = first_of([refuses].into(), Duration::ZERO)
            .await
            .unwrap_err();
        assert_eq!(nobody.kind(), io::ErrorKind::ConnectionRefused);
        let none = first_of(VecDeque::new(), Duration::ZERO).await.unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::NotFound);
    }
}
