//! Commands with numbers: what one connection was sent, and has not acknowledged.
//!
//! A machine that says where to go on in the hub's own stream gets every command that must arrive
//! under a number. The number is written down in the transaction that decides on the command, and
//! the command stays in the store until it is acknowledged, over connections and restarts. Other
//! machines are sent the same frames as they are.

use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use bridge_proto::{BridgeId, RunKey, TaskId};
use bridge_transport::delivery::{Epoch, Position, Taken, Writer};

use crate::{
    error::HubError,
    owner::{Outgoing, Owner, clocks, report},
    state::{ConnId, Effect, HangUp, Input, Route},
    store::{Command, Commands, Outstanding, StoreError},
};

/// The numbers of one connection.
#[derive(Debug)]
pub(crate) struct Numbering {
    bridge: BridgeId,
    epoch: Epoch,
    /// The number the next command gets.
    next: u64,
    acked: u64,
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

#[derive(Debug)]
struct Waiting {
    seq: u64,
    bytes: usize,
    run: Option<RunKey>,
}

/// Frames on their way to a machine, with numbers where it takes them.
#[derive(Debug)]
pub(crate) struct Sending {
    conn: ConnId,
    frames: Vec<Arc<str>>,
    pub(crate) commands: Option<Commands>,
}

impl Numbering {
    fn new(bridge: BridgeId, epoch: Epoch, outstanding: &Outstanding) -> Self {
        let mut numbering = Self {
            bridge,
            epoch,
            next: outstanding.sent + 1,
            acked: outstanding.acked,
            waiting: VecDeque::new(),
            bytes: 0,
        };
        for (seq, command) in &outstanding.commands {
            numbering.wait(*seq, command);
        }
        numbering
    }

    fn wait(&mut self, seq: u64, command: &Command) {
        let bytes = command.frame.len();
        self.bytes += bytes;
        self.waiting.push_back(Waiting {
            seq,
            bytes,
            run: command.run.clone(),
        });
    }

    fn has_room(&self, frames: &[Arc<str>]) -> bool {
        let bytes: usize = frames.iter().map(|frame| frame.len()).sum();
        self.waiting.is_empty()
            || (self.waiting.len() + frames.len() <= MOST_WAITING
                && self.bytes + bytes <= MOST_BYTES)
    }

    /// Whether the number was given at all; `None` when it is no news.
    fn on_ack(&mut self, seq: u64) -> Option<bool> {
        if seq >= self.next {
            return Some(false);
        }
        if seq <= self.acked {
            return None;
        }
        self.acked = seq;
        while self.waiting.front().is_some_and(|it| it.seq <= seq)
            && let Some(waiting) = self.waiting.pop_front()
        {
            self.bytes -= waiting.bytes;
        }
        Some(true)
    }

    fn starts(&self, run: &RunKey) -> bool {
        self.waiting.iter().any(|it| it.run.as_ref() == Some(run))
    }
}

impl Owner {
    /// Prepares frames about a task for a machine; the last of them starts `run`, if one does.
    /// Where there are [commands](Sending::commands), they have to be kept before they
    /// [go](Self::go).
    pub(crate) fn sending(
        &self,
        route: &Route,
        task: &TaskId,
        run: Option<&RunKey>,
        frames: Vec<String>,
    ) -> Result<Sending, HubError> {
        let conn = route.conn;
        let frames: Vec<Arc<str>> = frames.into_iter().map(Arc::from).collect();
        let numbering = self.numberings.get(&conn).filter(|_| !frames.is_empty());
        let Some(numbering) = numbering else {
            return Ok(Sending {
                conn,
                frames,
                commands: None,
            });
        };
        if !numbering.has_room(&frames) {
            let name = route.name.clone();
            return Err(HubError::MachineBehind { name });
        }
        let last = frames.len().saturating_sub(1);
        let list = frames.iter().enumerate().map(|(index, frame)| Command {
            task: task.clone(),
            run: run.filter(|_| index == last).cloned(),
            frame: Arc::clone(frame),
        });
        let commands = Commands {
            bridge: numbering.bridge.clone(),
            epoch: numbering.epoch,
            first: numbering.next,
            list: list.collect(),
        };
        Ok(Sending {
            conn,
            frames,
            commands: Some(commands),
        })
    }

    /// Prepares a frame about a task for a machine that is away. Where there is a command, it is sent
    /// when the machine comes back once it is kept; none is needed where the same is the last it will
    /// be told of the task anyway, or where it takes no numbers.
    pub(crate) async fn for_later(
        &self,
        bridge: &BridgeId,
        task: &TaskId,
        frame: String,
    ) -> Result<Option<Commands>, StoreError> {
        let outstanding = self.store.outstanding(bridge).await?;
        let waiting = outstanding.commands.iter().map(|(_, command)| command);
        let last = waiting.rev().find(|command| command.task == *task);
        let told = last.is_some_and(|command| *command.frame == *frame);
        let Some(epoch) = outstanding.epoch.filter(|_| !told) else {
            return Ok(None);
        };
        Ok(Some(Commands {
            bridge: bridge.clone(),
            epoch,
            first: outstanding.sent + 1,
            list: vec![Command {
                task: task.clone(),
                run: None,
                frame: frame.into(),
            }],
        }))
    }

    /// Sends what is kept, or need not be.
    pub(crate) fn go(&mut self, sending: Sending) {
        let Sending {
            conn,
            frames,
            commands,
        } = sending;
        let Some(commands) = commands else {
            for frame in frames {
                self.send(conn, (*frame).to_owned());
            }
            return;
        };
        for (seq, command) in (commands.first..).zip(commands.list) {
            if let Some(numbering) = self.numberings.get_mut(&conn) {
                numbering.wait(seq, &command);
                numbering.next = seq + 1;
            }
            let stream = stream(&command.task);
            let frame = command.frame;
            self.hand_over(conn, Outgoing::Numbered { stream, frame });
        }
    }

    /// Sends without numbers what could not be kept.
    pub(crate) fn go_unkept(&mut self, sending: Sending) {
        let commands = None;
        self.go(Sending {
            commands,
            ..sending
        });
    }

    /// Keeps what is to be kept, then sends it.
    pub(crate) async fn keep_and_go(&mut self, sending: Sending) -> Result<(), StoreError> {
        if let Some(commands) = sending.commands.clone() {
            self.store.keep_commands(commands).await?;
        }
        self.go(sending);
        Ok(())
    }

    /// The connection is gone; where it ended because the way is `narrow`, the next one gets shorter
    /// parts.
    pub(crate) fn forget_numbers(&mut self, conn: ConnId, narrow: bool) {
        let numbering = self.numberings.remove(&conn);
        if let Some(numbering) = numbering.filter(|_| narrow) {
            let times = self.narrowed.entry(numbering.bridge).or_default();
            *times = MOST_NARROWED.min(*times + 1);
        }
    }

    /// Whether the command that starts a run is still on its way.
    pub(crate) fn is_on_its_way(&self, conn: ConnId, run: &RunKey) -> bool {
        let numbering = self.numberings.get(&conn);
        numbering.is_some_and(|numbering| numbering.starts(run))
    }

    /// Goes on with the hub's stream where the machine wants it.
    pub(crate) async fn go_on(
        &mut self,
        conn: ConnId,
        bridge: BridgeId,
        from: Position,
    ) -> Vec<Effect> {
        let (writer, numbering) = match self.resumed(&bridge, from).await {
            Ok(resumed) => resumed,
            Err(error) => {
                report("read what a machine was sent", &error);
                self.hang_up(conn, HangUp::NotKept);
                return Vec::new();
            }
        };
        let known = from.epoch == Some(numbering.epoch);
        let (epoch, acked) = (numbering.epoch, numbering.acked);
        self.numberings.insert(conn, numbering);
        self.hand_over(conn, Outgoing::Resumed(Box::new(writer)));
        if known {
            self.let_go(&bridge, epoch, acked).await;
        }
        self.state.handle(clocks(), Input::Resumed { conn, known })
    }

    async fn resumed(
        &self,
        bridge: &BridgeId,
        from: Position,
    ) -> Result<(Writer<Arc<str>>, Numbering), StoreError> {
        let mut outstanding = self.store.outstanding(bridge).await?;
        let known = outstanding.epoch.is_some_and(|it| from.epoch == Some(it));
        if known && from.last > outstanding.sent {
            tracing::warn!(
                machine = %bridge,
                has = from.last,
                sent = outstanding.sent,
                "a machine has commands this hub never sent: its database was set back; counted anew"
            );
            outstanding = self.store.renumber(bridge, Epoch::fresh()).await?;
        }
        let epoch = outstanding.epoch.unwrap_or_else(Epoch::fresh);
        let taken = outstanding.commands.iter().map(|(seq, command)| Taken {
            seq: *seq,
            payload: Arc::clone(&command.frame),
            stream: stream(&command.task),
            size: command.frame.len(),
        });
        let mut writer =
            Writer::restored(epoch, outstanding.acked + 1, outstanding.sent + 1, taken);
        // As often as parts get shorter for it.
        for _ in 0..self.narrowed.get(bridge).copied().unwrap_or_default() {
            writer.narrow();
        }
        writer.on_opened();
        match writer.on_resume(from.epoch, from.last) {
            Ok(None) => {}
            Ok(Some(gap)) => tracing::warn!(
                machine = %bridge,
                from = gap.from,
                to = gap.to,
                "a machine does not know any more what it was sent"
            ),
            Err(error) => tracing::error!(%error, "a stream cannot go on"),
        }
        let mut numbering = Numbering::new(bridge.clone(), epoch, &outstanding);
        if from.epoch == Some(epoch) {
            numbering.on_ack(from.last);
        }
        Ok((writer, numbering))
    }

    /// The machine has everything up to this number.
    pub(crate) async fn on_ack(&mut self, conn: ConnId, seq: u64) {
        let Some(numbering) = self.numberings.get_mut(&conn) else {
            return; // of a connection that was superseded
        };
        match numbering.on_ack(seq) {
            None => {}
            Some(false) => {
                tracing::warn!(seq, "a machine acknowledged what it was never sent");
                self.hang_up(conn, HangUp::OutOfTurn);
            }
            Some(true) => {
                let (bridge, epoch) = (numbering.bridge.clone(), numbering.epoch);
                self.hand_over(conn, Outgoing::Acknowledged { seq });
                self.let_go(&bridge, epoch, seq).await;
            }
        }
    }

    /// What is not forgotten now is when the machine comes back.
    async fn let_go(&self, bridge: &BridgeId, epoch: Epoch, upto: u64) {
        if let Err(error) = self.store.acknowledged(bridge, epoch, upto).await {
            report("forget commands that have arrived", &error);
        }
    }
}

fn stream(task: &TaskId) -> u64 {
    let mut hasher = DefaultHasher::new();
    task.hash(&mut hasher);
    hasher.finish()
}

/// More does not make parts shorter.
const MOST_NARROWED: u32 = 5;
/// What a machine may leave unacknowledged until it is sent no more. One that does not keep up
/// takes files of two prompts and the words to a thousand tasks.
const MOST_WAITING: usize = 1000;
const MOST_BYTES: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn numbering() -> Numbering {
        let outstanding = Outstanding {
            epoch: None,
            acked: 4,
            sent: 4,
            commands: Vec::new(),
        };
        Numbering::new(BridgeId::parse("b").unwrap(), Epoch(7), &outstanding)
    }

    fn command(bytes: usize) -> Command {
        Command {
            task: TaskId::parse("t").unwrap(),
            run: None,
            frame: "x".repeat(bytes).into(),
        }
    }

    fn sent(numbering: &mut Numbering, bytes: usize) {
        numbering.wait(numbering.next, &command(bytes));
        numbering.next += 1;
    }

    fn fits(numbering: &Numbering, bytes: usize) -> bool {
        numbering.has_room(&[command(bytes).frame])
    }

    #[test]
    fn a_machine_that_acknowledges_nothing_is_sent_only_so_much() {
        let mut many = numbering();
        for _ in 0..MOST_WAITING {
            assert!(fits(&many, 1));
            sent(&mut many, 1);
        }
        assert!(!fits(&many, 1));
        assert_eq!(many.on_ack(5), Some(true));
        assert!(fits(&many, 1));
        let mut large = numbering();
        assert!(fits(&large, MOST_BYTES + 1), "the only one");
        sent(&mut large, MOST_BYTES);
        assert!(!fits(&large, 1));
        assert_eq!(large.on_ack(5), Some(true));
        assert!(fits(&large, MOST_BYTES));
    }

    #[test]
    fn an_acknowledgement_counts_once_and_only_of_what_was_sent() {
        let mut numbering = numbering();
        sent(&mut numbering, 1);
        assert_eq!(numbering.on_ack(4), None);
        assert_eq!(numbering.on_ack(6), Some(false));
        assert_eq!(numbering.on_ack(5), Some(true));
        assert_eq!(numbering.on_ack(5), None);
    }
}
