//! Whether a turn that was interrupted left something at work behind.
//!
//! Agents run commands as processes of their own, and an interrupt does not reach those that were
//! put into the background. The rule can be checked whatever the agent says: whoever the program
//! started during the turn has to be gone a second after it, or the conversation is ended with all
//! of them. Helpers of the program itself (a launcher's child, tool servers) are there before it
//! does anything, so they do not count: in the first turn of a program whoever is there at its
//! first word, in later turns whoever is there before the prompt. (A program that ran a command
//! within the milliseconds around its very first word would get away with it; what it left is ended
//! with the conversation then.) Where the system does not tell who started whom, nothing is known
//! to be gone.

use std::time::Duration;

use bridge_proto::model::RunEvent;
use bridge_providers::process::Kin;

/// Who worked for a program when a turn began.
#[derive(Debug)]
pub(super) struct Baseline {
    pid: Option<u32>,
    kin: Option<Kin>,
    /// The program was started for this turn, so its helpers may still be on their way.
    settling: bool,
}

impl Baseline {
    /// Looks before the prompt goes out.
    pub(super) async fn look(pid: Option<u32>, begun: bool) -> Self {
        Self {
            pid,
            kin: kin(pid).await,
            settling: !begun,
        }
    }

    /// The agent said or did something. The first word of a new program that is no deed shows that
    /// it is ready, and whoever is there by then belongs to it.
    pub(super) async fn seen(&mut self, event: &RunEvent) {
        if !std::mem::take(&mut self.settling) {
            return;
        }
        let deed = matches!(
            event,
            RunEvent::Tool(_) | RunEvent::Ask(_) | RunEvent::FileWritten { .. }
        );
        if !deed {
            self.kin = kin(self.pid).await;
        }
    }

    /// Whether everybody who was started since is gone, a moment after the turn.
    pub(super) async fn is_restored(&self) -> bool {
        let Some(before) = &self.kin else {
            return false;
        };
        for _ in 0..LOOKS {
            match kin(self.pid).await {
                Some(now) if now.came_after(before) == 0 => return true,
                Some(_) => tokio::time::sleep(BETWEEN).await,
                None => return false,
            }
        }
        false
    }
}

async fn kin(pid: Option<u32>) -> Option<Kin> {
    let pid = pid?;
    let looked = tokio::task::spawn_blocking(move || Kin::of(pid));
    looked.await.ok().flatten()
}

/// A command that was told to stop is given a second for it.
const LOOKS: u32 = 20;
const BETWEEN: Duration = Duration::from_millis(50);
