//! The daemon's loop: what is heard becomes inputs of the pure machines, and their effects are
//! carried out before anything else is heard.

use std::time::Instant;

use bridge_proto::AgentId;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep_until},
};

use super::{Daemon, Scan};
use crate::{
    dispatch::Effect,
    gateway::Finished,
    intake::Taken,
    manifest::SideWord,
    runner::{FromRunner, Turn},
};

/// Where everything comes from that the loop acts on.
pub(super) struct Inputs {
    pub(super) commands: mpsc::Receiver<Taken>,
    pub(super) reports: mpsc::Receiver<FromRunner>,
    pub(super) scans: mpsc::Receiver<Scan>,
    pub(super) called: mpsc::Receiver<Finished>,
    /// Whose files say that it works.
    pub(super) stirred: mpsc::Receiver<AgentId>,
    pub(super) side: Option<mpsc::Receiver<SideWord>>,
}

impl Daemon {
    /// Until the last run has ended after a stop.
    pub(super) async fn drive(&mut self, inputs: Inputs, stop: impl Future<Output = ()>) {
        let Inputs {
            mut commands,
            mut reports,
            mut scans,
            mut called,
            mut stirred,
            mut side,
        } = inputs;
        let mut heartbeat = interval(self.settings.heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rescan = interval(self.settings.rescan);
        rescan.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stop = std::pin::pin!(stop);
        let mut stopping = false;
        loop {
            let deadline = [
                self.dispatch.deadline(),
                self.approvals.deadline(),
                self.stirring.deadline(),
            ];
            let deadline = deadline.into_iter().flatten().min();
            let due = async {
                match deadline {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let heard = async {
                match &mut side {
                    Some(words) => words.recv().await,
                    None => std::future::pending().await,
                }
            };
            let effects = tokio::select! {
                biased;
                () = &mut stop, if !stopping => {
                    stopping = true;
                    self.stopping.send_replace(true);
                    self.dispatch.drain(Instant::now())
                }
                Some(report) = reports.recv() => self.on_report(report),
                Some(taken) = commands.recv() => self.on_taken(taken).await,
                Some(scan) = scans.recv() => { self.on_scan(scan).await; Vec::new() }
                Some(finished) = called.recv() => {
                    self.on_called(finished).await;
                    Vec::new()
                }
                Some(word) = heard => { self.on_side_word(word).await; Vec::new() }
                Some(agent) = stirred.recv() => {
                    if self.agents.find(&agent).is_some()
                        && self.stirring.stirred(Instant::now(), agent)
                    {
                        self.heartbeat().await;
                    }
                    Vec::new()
                }
                () = due => {
                    if self.stirring.expire(Instant::now()) {
                        self.heartbeat().await;
                    }
                    self.on_due()
                }
                _ = heartbeat.tick() => { self.heartbeat().await; Vec::new() }
                _ = rescan.tick() => {
                    self.look_around();
                    self.announce_agents(true).await;
                    self.settle_journal().await;
                    Vec::new()
                }
                Some(ended) = self.closing.join_next(), if !self.closing.is_empty() => match ended {
                    Err(error) if error.is_panic() => self.on_panic(&error),
                    Ok(()) | Err(_) => Vec::new(),
                },
            };
            if self.carry_out(effects).await {
                return;
            }
        }
    }

    async fn on_taken(&mut self, taken: Taken) -> Vec<Effect<Box<Turn>>> {
        match taken {
            Taken::Opened { conn, extended } => {
                self.current = Some(conn);
                self.viewer = Some(extended);
                self.announce_agents(false).await;
                self.announce_health().await;
                self.announce_models().await;
                Vec::new()
            }
            Taken::Run { asked, site, id } => {
                let effects = self.on_asked(*asked, site, id).await;
                // Also when it came to no run, or to one that is known.
                self.scribe.done(id).await;
                effects
            }
            Taken::Cancel { task } => self.dispatch.cancel(Instant::now(), &task),
            Taken::Command { command, conn, id } => {
                let effects = self.on_command(command, conn).await;
                self.scribe.done(id).await;
                effects
            }
        }
    }
}
