//! A gateway between bridge and hub that answers some requests itself, as those do that limit sizes
//! and rates.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    sync::{mpsc, watch},
    time::Instant,
};

/// What the gateway answers itself.
#[derive(Debug, Clone, Default)]
struct Orders {
    /// Bodies that are longer are refused, before they are read.
    most: Option<usize>,
    /// The next request with this method is to come again after so many seconds.
    busy: Option<(&'static str, u64)>,
}

/// A request that came by.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Its first line.
    pub(crate) line: String,
    /// How long its body is.
    pub(crate) bytes: usize,
    /// When its head was there.
    pub(crate) at: Instant,
    /// What the gateway answered; nothing where the hub does.
    pub(crate) refused: Option<u16>,
}

impl Asked {
    /// Whether it says something on a link.
    pub(crate) fn says(&self) -> bool {
        self.line.starts_with("POST /ws/bridge/link/")
    }

    /// Whether it reads from a link.
    pub(crate) fn reads(&self) -> bool {
        self.line.starts_with("GET /ws/bridge/link/")
    }
}

/// The gateway. Dropped, it lets nobody through any more.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    orders: watch::Sender<Orders>,
    seen: mpsc::UnboundedReceiver<Asked>,
}

impl Gateway {
    /// Leads to a hub that goes by this address.
    pub(crate) async fn to(hub: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let orders = watch::Sender::new(Orders::default());
        let (see, seen) = mpsc::unbounded_channel();
        let gate = Gate {
            address,
            hub,
            orders: orders.clone(),
            see,
        };
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let (near, _) = accepted.unwrap();
                        tokio::spawn(gate.clone().pass(near));
                    }
                    () = gate.see.closed() => return,
                }
            }
        });
        Self {
            address,
            orders,
            seen,
        }
    }

    /// Refuses bodies that are longer than this.
    pub(crate) fn narrow(&self, most: Option<usize>) {
        self.orders.send_modify(|orders| orders.most = most);
    }

    /// Asks the next request with this method to come again after so many seconds.
    pub(crate) fn busy(&self, method: &'static str, seconds: u64) {
        let busy = Some((method, seconds));
        self.orders.send_modify(|orders| orders.busy = busy);
    }

    /// The next request that fits; those before it are passed over.
    pub(crate) async fn saw(&mut self, fits: impl Fn(&Asked) -> bool) -> Asked {
        loop {
            let asked = self.seen.recv().await.unwrap();
            if fits(&asked) {
                return asked;
            }
        }
    }

    /// What came by so far and was not looked at.
    pub(crate) fn so_far(&mut self) -> Vec<Asked> {
        std::iter::from_fn(|| self.seen.try_recv().ok()).collect()
    }
}

#[derive(Clone)]
struct Gate {
    address: SocketAddr,
    hub: SocketAddr,
    orders: watch::Sender<Orders>,
    see: mpsc::UnboundedSender<Asked>,
}

impl Gate {
    async fn pass(self, near: TcpStream) {
        let Ok(far) = TcpStream::connect(self.hub).await else {
            return;
        };
        near.set_nodelay(true).unwrap();
        far.set_nodelay(true).unwrap();
        let (mut from_near, mut to_near) = near.into_split();
        let (mut from_far, mut to_far) = far.into_split();
        let up = async {
            while let Some(head) = head(&mut from_near).await {
                let bytes = length(&head);
                let answer = self.answer(&head, bytes);
                let asked = Asked {
                    line: head.lines().next().unwrap_or_default().to_owned(),
                    bytes,
                    at: Instant::now(),
                    refused: answer.as_ref().map(|(status, _)| *status),
                };
                if self.see.send(asked).is_err() || answer.is_some() {
                    return answer;
                }
                // The hub knows one address of its own.
                let head = head.replace(&self.address.to_string(), &self.hub.to_string());
                let upgrades = head.to_lowercase().contains("upgrade: websocket");
                let rest = if upgrades { u64::MAX } else { bytes as u64 };
                let mut body = (&mut from_near).take(rest);
                if to_far.write_all(head.as_bytes()).await.is_err()
                    || copy(&mut body, &mut to_far).await.is_err()
                {
                    return None;
                }
            }
            None
        };
        let answer = tokio::select! {
            answer = up => answer,
            _ = copy(&mut from_far, &mut to_near) => None,
            () = self.see.closed() => None,
        };
        let Some((status, more)) = answer else {
            return;
        };
        let answer = format!(
            "HTTP/1.1 {status} No\r\n{more}Connection: close\r\nContent-Length: 2\r\n\r\nno"
        );
        // Who is still writing has to see why it is of no use: nobody reads it, or cuts it off.
        if to_near.write_all(answer.as_bytes()).await.is_ok() {
            self.see.closed().await;
        }
    }

    /// What it answers itself: the status, and a header.
    fn answer(&self, head: &str, bytes: usize) -> Option<(u16, String)> {
        if self.orders.borrow().most.is_some_and(|most| bytes > most) {
            return Some((413, String::new()));
        }
        let mut wait = None;
        self.orders.send_if_modified(|orders| {
            wait = orders.busy.take_if(|(method, _)| head.starts_with(*method));
            wait.is_some()
        });
        wait.map(|(_, seconds)| (503, format!("Retry-After: {seconds}\r\n")))
    }
}

/// The head of the next request; nothing at the end of the connection.
async fn head(from: &mut OwnedReadHalf) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(from.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

fn length(head: &str) -> usize {
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then_some(value)
    });
    length.map_or(0, |value| value.parse().unwrap())
}
