//! The two halves of one connection, as the driver holds them.

use std::{collections::VecDeque, future::pending, pin::Pin};

use crate::{
    carrier::{Connection, FrameSink, FrameSource, Received, Traffic, TrafficMeter},
    inbound::ConnId,
    payload::TextFrame,
};

/// One connection: its source, and its sink or what the sink is busy with.
pub(crate) struct Socket {
    pub(crate) conn: ConnId,
    source: Box<dyn FrameSource>,
    sink: Option<Box<dyn FrameSink>>,
    busy: Option<Busy>,
    /// At most one write and one ping.
    queue: VecDeque<Op>,
    traffic: TrafficMeter,
}

type Busy = Pin<Box<dyn Future<Output = (Box<dyn FrameSink>, Written)> + Send>>;

/// What a sink is asked to do.
pub(crate) enum Op {
    Frames(Vec<TextFrame>),
    Ping(u64),
}

/// What a sink did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    Frames,
    Ping,
    /// The connection is gone; the source tells why.
    Failed,
}

/// What happened on a connection.
pub(crate) enum Moved {
    Written(Written),
    Received(Received),
}

impl Socket {
    pub(crate) fn new(conn: ConnId, connection: Connection) -> Self {
        let Connection {
            sink,
            source,
            extended: _,
            traffic,
        } = connection;
        Self {
            conn,
            source,
            sink: Some(sink),
            busy: None,
            queue: VecDeque::new(),
            traffic,
        }
    }

    pub(crate) fn traffic(&self) -> Traffic {
        self.traffic.read()
    }

    /// Begins an operation, now or when the sink is free. A ping that waits stands for the next.
    pub(crate) fn start(&mut self, op: Op) {
        let Some(mut sink) = self.sink.take() else {
            let is_ping = |op: &Op| matches!(op, Op::Ping(_));
            if !(is_ping(&op) && self.queue.iter().any(is_ping)) {
                self.queue.push_back(op);
            }
            return;
        };
        self.busy = Some(Box::pin(async move {
            let (result, written) = match op {
                Op::Frames(frames) => (sink.send(frames).await, Written::Frames),
                Op::Ping(id) => (sink.ping(id).await, Written::Ping),
            };
            let written = result.map_or(Written::Failed, |()| written);
            (sink, written)
        }));
    }

    /// Waits for the end of a write or, if `read`, for something received.
    ///
    /// Cancel safe.
    pub(crate) async fn moved(&mut self, read: bool) -> Moved {
        let Self { source, busy, .. } = self;
        let writing = async {
            match busy {
                Some(busy) => busy.await,
                None => pending().await,
            }
        };
        let (sink, written) = tokio::select! {
            done = writing => done,
            received = source.next(), if read => return Moved::Received(received),
        };
        self.busy = None;
        if written == Written::Failed {
            self.queue.clear();
        } else {
            self.sink = Some(sink);
            if let Some(op) = self.queue.pop_front() {
                self.start(op);
            }
        }
        Moved::Written(written)
    }

    /// Says good-bye once the sink is free.
    pub(crate) async fn close(mut self, code: u16) {
        let sink = match self.busy.take() {
            Some(busy) => Some(busy.await.0),
            None => self.sink.take(),
        };
        if let Some(mut sink) = sink {
            sink.close(code).await;
        }
    }
}
