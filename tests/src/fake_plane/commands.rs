//! The plane's commands with numbers: kept over its connections until the bridge has acknowledged
//! them.

use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use bridge_transport::delivery::{Epoch, Violation, Writer, write_list};
use serde_json::Value;

#[derive(Debug)]
pub(super) struct Commands {
    writer: Writer<String>,
    /// Everything that was ever commanded.
    all: Vec<Value>,
    /// The connection whose bridge resumed last; the others are superseded.
    conn: u64,
    /// Its bridge has said who it is.
    greeted: bool,
    /// What goes before the commands on every connection: agents are not kept over a restart.
    agents: Vec<String>,
    first: VecDeque<String>,
}

impl Default for Commands {
    fn default() -> Self {
        Self {
            writer: Writer::new(Epoch::fresh()),
            all: Vec::new(),
            conn: 0,
            greeted: false,
            agents: Vec::new(),
            first: VecDeque::new(),
        }
    }
}

impl Commands {
    /// Numbers a command. Those of one task keep their order.
    pub(super) fn add(&mut self, frame: &Value) {
        self.all.push(frame.clone());
        self.keep(frame);
    }

    /// As a plane that was set back: everything comes again under another numbering, from the next
    /// connection on.
    pub(super) fn start_over(&mut self) {
        self.writer = Writer::new(Epoch::fresh());
        for frame in self.all.clone() {
            self.keep(&frame);
        }
    }

    pub(super) fn on_resume(
        &mut self,
        conn: u64,
        epoch: Option<Epoch>,
        last: u64,
    ) -> Result<(), Violation> {
        (self.conn, self.greeted) = (conn, false);
        self.writer.on_opened();
        self.writer.on_resume(epoch, last).map(drop)
    }

    pub(super) fn on_ack(&mut self, conn: u64, seq: u64) -> Result<(), Violation> {
        if conn == self.conn {
            self.writer.on_ack(seq)?;
        }
        Ok(())
    }

    pub(super) fn set_agents(&mut self, frames: Vec<String>) {
        self.agents = frames;
    }

    /// The bridge of a connection has said who it is.
    pub(super) fn on_handshake(&mut self, conn: u64) {
        if conn == self.conn && !self.greeted {
            self.greeted = true;
            self.first = self.agents.clone().into();
        }
    }

    /// The next frame for a connection.
    pub(super) fn next(&mut self, conn: u64) -> Option<String> {
        if conn != self.conn || !self.greeted {
            return None;
        }
        if let Some(frame) = self.first.pop_front() {
            return Some(frame);
        }
        let frame = self
            .writer
            .next_frame(|text, list| write_list(list, [text.as_str()]));
        frame.or_else(|| self.writer.next_part())
    }

    pub(super) fn waiting(&self) -> usize {
        self.writer.len()
    }

    fn keep(&mut self, frame: &Value) {
        let mut hasher = DefaultHasher::new();
        frame["taskId"].as_str().hash(&mut hasher);
        let text = frame.to_string();
        let size = text.len();
        self.writer.keep(text, hasher.finish(), size);
    }
}
