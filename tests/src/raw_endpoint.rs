//! An HTTP server on loopback that answers with exactly the bytes a test wants, however wrong they
//! are, and says what it was asked and who hung up.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// A running server. Dropping it ends it with all its connections.
#[derive(Debug)]
pub struct RawEndpoint {
    address: SocketAddr,
    seen: watch::Receiver<Seen>,
    server: JoinHandle<()>,
}

/// What happened so far.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The requests, oldest first.
    pub requests: Vec<Asked>,
    /// How many clients hung up while an answer was still to come.
    pub hung_up: usize,
}

/// One request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// Its first line, e.g. `GET /v1/models HTTP/1.1`.
    pub line: String,
    /// Its other header lines, as they came.
    pub headers: Vec<String>,
    /// Its body.
    pub body: String,
}

/// A part of an answer.
#[derive(Debug, Clone)]
pub enum Part {
    /// These bytes.
    Bytes(Vec<u8>),
    /// These bytes, so many times.
    Repeat(Vec<u8>, usize),
    /// Nothing more until the client hangs up.
    Wait,
}

impl Part {
    /// A whole response with this status, these further header lines and this body.
    pub fn response(status: u16, headers: &[&str], body: &str) -> Vec<Self> {
        let more: Vec<String> = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let head = format!(
            "HTTP/1.1 {status} Whatever\r\nConnection: close\r\n{}Content-Length: {}\r\n\r\n",
            more.concat(),
            body.len()
        );
        vec![Self::Bytes((head + body).into_bytes())]
    }

    /// The head of a stream of events, which ends with the connection.
    pub fn stream_head() -> Self {
        let head =
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/event-stream\r\n\r\n";
        Self::Bytes(head.into())
    }

    /// One event with this payload.
    pub fn event(payload: &str) -> Self {
        Self::Bytes(format!("data: {payload}\n\n").into_bytes())
    }
}

impl RawEndpoint {
    /// Starts it on a free port; `answer` is asked for every request what to do, with the number
    /// of requests before it. Must be called on a tokio runtime.
    pub async fn start(
        answer: impl Fn(usize, &Asked) -> Vec<Part> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (note, seen) = watch::channel(Seen::default());
        let answer: Arc<Answer> = Arc::new(answer);
        let server = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.spawn(serve(socket, Arc::clone(&answer), note.clone()));
            }
        });
        Ok(Self {
            address,
            seen,
            server,
        })
    }

    /// Its address without a path: `http://127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What happened so far, and word of what happens further.
    pub fn seen(&self) -> watch::Receiver<Seen> {
        self.seen.clone()
    }
}

impl Drop for RawEndpoint {
    fn drop(&mut self) {
        self.server.abort();
    }
}

type Answer = dyn Fn(usize, &Asked) -> Vec<Part> + Send + Sync;

async fn serve(mut socket: TcpStream, answer: Arc<Answer>, note: watch::Sender<Seen>) {
    let Some(asked) = read(&mut socket).await else {
        return;
    };
    let mut before = 0;
    note.send_modify(|seen| {
        before = seen.requests.len();
        seen.requests.push(asked.clone());
    });
    if play(&mut socket, answer(before, &asked)).await.is_err() {
        note.send_modify(|seen| seen.hung_up += 1);
    }
}

/// An error means that the client hung up.
async fn play(socket: &mut TcpStream, parts: Vec<Part>) -> io::Result<()> {
    for part in parts {
        match part {
            Part::Bytes(bytes) => socket.write_all(&bytes).await?,
            Part::Repeat(bytes, times) => {
                for _ in 0..times {
                    socket.write_all(&bytes).await?;
                }
            }
            Part::Wait => {
                let mut rest = [0; 64];
                while socket.read(&mut rest).await? > 0 {}
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
    }
    socket.shutdown().await
}

async fn read(socket: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(at) = find(&bytes, b"\r\n\r\n") {
            break at;
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8_lossy(bytes.get(..head)?).into_owned();
    let mut lines = text.lines().map(str::to_owned);
    let line = lines.next()?;
    let headers: Vec<String> = lines.collect();
    let length: usize = headers
        .iter()
        .find_map(|header| {
            let (name, value) = header.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse().ok())?
        })
        .unwrap_or(0);
    while bytes.len() < head + 4 + length {
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let body = String::from_utf8_lossy(bytes.get(head + 4..)?).into_owned();
    Some(Asked {
        line,
        headers,
        body,
    })
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
