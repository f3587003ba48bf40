//! Ending a program with all it started: when to do what ([`Ladder`], pure), and doing it.

use std::time::{Duration, Instant};

use tokio::{sync::watch, task, time};

use super::platform::Tree;

/// Who is left of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Census {
    /// Processes that live, the leader included.
    pub(super) alive: usize,
    /// Whether the program itself lives.
    pub(super) leader: bool,
}

/// When the next harder means is due. From begin to end at most ten seconds.
///
/// ```text
///  begin ────▶ terminate_at ────▶ kill_at ────▶ kill_at + 1 s
///    let it end      SIGTERM        SIGKILL         give up
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ladder {
    terminate_at: Instant,
    kill_at: Instant,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rung {
    Wait,
    Terminate,
    Kill,
    GiveUp,
}

impl Ladder {
    /// SIGTERM now, SIGKILL after `grace`.
    pub(crate) fn terminate(now: Instant, grace: Duration) -> Self {
        Self {
            terminate_at: now,
            kill_at: now + grace.min(LONGEST),
        }
    }

    /// Lets the program end by itself within `patience`, then SIGTERM and the usual grace.
    pub(crate) fn patient(now: Instant, patience: Duration) -> Self {
        let terminate_at = now + patience.min(LONGEST.saturating_sub(GRACE));
        Self {
            terminate_at,
            kill_at: terminate_at + GRACE,
        }
    }

    /// SIGTERM now, SIGKILL after the usual grace.
    pub(crate) fn usual(now: Instant) -> Self {
        Self::terminate(now, GRACE)
    }

    /// SIGKILL at once.
    pub(crate) fn kill() -> Self {
        let now = time::Instant::now().into_std();
        Self {
            terminate_at: now,
            kill_at: now,
        }
    }

    /// Whatever of both comes first; a ladder is never climbed down.
    #[must_use]
    pub(crate) fn or_sooner(self, other: Self) -> Self {
        Self {
            terminate_at: self.terminate_at.min(other.terminate_at),
            kill_at: self.kill_at.min(other.kill_at),
        }
    }

    fn rung(&self, now: Instant) -> Rung {
        if now >= self.kill_at + LAST_WAIT {
            Rung::GiveUp
        } else if now >= self.kill_at {
            Rung::Kill
        } else if now >= self.terminate_at {
            Rung::Terminate
        } else {
            Rung::Wait
        }
    }

    /// When the rung after the present one is due.
    fn next_rung(&self, now: Instant) -> Instant {
        match self.rung(now) {
            Rung::Wait => self.terminate_at,
            Rung::Terminate => self.kill_at,
            Rung::Kill | Rung::GiveUp => self.kill_at + LAST_WAIT,
        }
    }
}

/// Climbs the ladder until nobody of the tree lives; returns how many would not die.
///
/// Descendants are collected anew before every signal. What a program that ended left running
/// is asked to end at once, without waiting for the first rung.
pub(super) async fn end_tree(mut tree: Tree, mut plan: watch::Receiver<Ladder>) -> usize {
    let mut leader_gone: Option<Instant> = None;
    let mut last = Rung::Wait;
    let mut pause = FIRST_PAUSE;
    loop {
        let now = time::Instant::now().into_std();
        let mut ladder = *plan.borrow_and_update();
        if let Some(at) = leader_gone {
            ladder = ladder.or_sooner(Ladder::usual(at));
        }
        let rung = ladder.rung(now);
        let Ok((back, census)) = task::spawn_blocking(move || climb(tree, rung)).await else {
            // The runtime shuts down; the drop of the tree has killed it.
            return 0;
        };
        tree = back;
        if census.alive == 0 || rung == Rung::GiveUp {
            tree.let_go();
            return census.alive;
        }
        if !census.leader && leader_gone.is_none() {
            leader_gone = Some(now);
            continue;
        }
        pause = if rung == last {
            (pause * 2).min(LONGEST_PAUSE)
        } else {
            FIRST_PAUSE
        };
        last = rung;
        let wake = ladder.next_rung(now).min(now + pause);
        tokio::select! {
            () = time::sleep_until(wake.into()) => {}
            () = changed(&mut plan) => {}
        }
    }
}

fn climb(mut tree: Tree, rung: Rung) -> (Tree, Census) {
    let census = match rung {
        Rung::Wait | Rung::GiveUp => tree.census(),
        Rung::Terminate => tree.terminate(),
        Rung::Kill => tree.kill(),
    };
    (tree, census)
}

async fn changed(plan: &mut watch::Receiver<Ladder>) {
    if plan.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The usual time between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// After SIGKILL only the kernel is waited for.
const LAST_WAIT: Duration = Duration::from_secs(1);
/// Ten seconds in all, decision 13.
const LONGEST: Duration = Duration::from_secs(9);
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(80);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rungs(ladder: Ladder, start: Instant, seconds: &[u32]) -> Vec<Rung> {
        seconds
            .iter()
            .map(|second| ladder.rung(start + SECOND * *second))
            .collect()
    }

    #[test]
    fn the_rungs_follow_each_other() {
        let start = Instant::now();
        let ladder = Ladder::patient(start, SECOND * 3);
        assert_eq!(
            rungs(ladder, start, &[0, 2, 3, 4, 5, 6]),
            [
                Rung::Wait,
                Rung::Wait,
                Rung::Terminate,
                Rung::Terminate,
                Rung::Kill,
                Rung::GiveUp
            ]
        );
    }

    #[test]
    fn no_ladder_takes_more_than_ten_seconds() {
        let start = Instant::now();
        for ladder in [
            Ladder::patient(start, SECOND * 3600),
            Ladder::terminate(start, SECOND * 3600),
            Ladder::patient(start, SECOND * 6)
                .or_sooner(Ladder::terminate(start + SECOND * 5, SECOND * 9)),
        ] {
            assert_eq!(ladder.rung(start + SECOND * 10), Rung::GiveUp);
        }
    }

    #[test]
    fn a_harder_wish_shortens_the_ladder_and_a_softer_one_changes_nothing() {
        let start = Instant::now();
        let hard = Ladder::terminate(start, SECOND);
        let soft = Ladder::patient(start, SECOND * 5);
        assert_eq!(soft.or_sooner(hard), hard);
        assert_eq!(hard.or_sooner(soft), hard);
    }
}
