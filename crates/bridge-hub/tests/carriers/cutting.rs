//! A way between bridge and hub that can be cut, or stand still.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// What the way does with connections.
#[derive(Debug, Clone, Copy, Default)]
struct Orders {
    /// Connections from before this are cut.
    generation: u64,
    /// Bytes to the hub stand still.
    held: bool,
    /// Of every second connection the first request or the first answer is lost, in turns, and with
    /// it the connection.
    lossy: bool,
    /// A connection is cut once so many bytes have come from the hub on it.
    cut_after: Option<usize>,
}

/// What is lost of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    Request,
    Answer,
}

/// The way. Dropped, it cuts everything.
pub(crate) struct Way {
    pub(crate) address: SocketAddr,
    listener: Option<TcpListener>,
    orders: watch::Sender<Orders>,
}

impl Way {
    /// Binds an address, so that the hub can be told of it before it starts.
    pub(crate) async fn bound() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self {
            address: listener.local_addr().unwrap(),
            listener: Some(listener),
            orders: watch::Sender::new(Orders::default()),
        }
    }

    /// Leads to the hub from now on.
    pub(crate) fn lead_to(&mut self, hub: SocketAddr) {
        let listener = self.listener.take().unwrap();
        let orders = self.orders.subscribe();
        tokio::spawn(async move {
            let mut over = orders.clone();
            let mut accepted_so_far = 0;
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let (near, _) = accepted.unwrap();
                        accepted_so_far += 1;
                        let lost = match accepted_so_far % 4 {
                            1 => Some(Lost::Request),
                            3 => Some(Lost::Answer),
                            _ => None,
                        };
                        let lost = lost.filter(|_| orders.borrow().lossy);
                        tokio::spawn(pass(near, hub, orders.clone(), lost));
                    }
                    gone = over.changed() => if gone.is_err() { return },
                }
            }
        });
    }

    /// Cuts every connection there is.
    pub(crate) fn cut(&self) {
        self.orders.send_modify(|orders| orders.generation += 1);
    }

    pub(crate) fn hold(&self, held: bool) {
        self.orders.send_modify(|orders| orders.held = held);
    }

    pub(crate) fn lossy(&self, lossy: bool) {
        self.orders.send_modify(|orders| orders.lossy = lossy);
    }

    pub(crate) fn cut_after(&self, bytes: Option<usize>) {
        self.orders.send_modify(|orders| orders.cut_after = bytes);
    }
}

async fn pass(
    near: TcpStream,
    hub: SocketAddr,
    mut orders: watch::Receiver<Orders>,
    lost: Option<Lost>,
) {
    let generation = orders.borrow().generation;
    let Ok(far) = TcpStream::connect(hub).await else {
        return;
    };
    let (from_near, to_near) = near.into_split();
    let (from_far, to_far) = far.into_split();
    let held = orders.clone();
    let budget = orders.clone();
    tokio::select! {
        () = up(from_near, to_far, held, lost == Some(Lost::Request)) => {}
        () = down(from_far, to_near, budget, lost == Some(Lost::Answer)) => {}
        cut = orders.wait_for(|orders| orders.generation != generation) => drop(cut),
    }
}

async fn up(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut orders: watch::Receiver<Orders>,
    lost: bool,
) {
    let mut buffer = vec![0; 4096];
    loop {
        if orders.wait_for(|orders| !orders.held).await.is_err() {
            return;
        }
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) if lost => return,
            Ok(count) => {
                if to.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn down(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    orders: watch::Receiver<Orders>,
    lost: bool,
) {
    let mut buffer = vec![0; 4096];
    let mut passed = 0;
    loop {
        let Ok(count) = from.read(&mut buffer).await else {
            return;
        };
        passed += count;
        // The last bytes are lost with the connection.
        let cut = orders.borrow().cut_after.is_some_and(|most| passed > most);
        if count == 0 || lost || cut || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
