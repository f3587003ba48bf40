//! Which plans are wanted, where their askers are, and what came of the last ones. Pure.
//!
//! An answer dies with the connection that asked (decision 7), and a plan takes minutes. So a
//! request that comes again, under its own number, is no second plan: it moves the one at work to
//! its connection, and one that is ready is told again.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use bridge_proto::Digest;
use bridge_transport::ConnId;
use tokio::sync::watch;

/// What a plan is known by, if its asker would know the answer again: its request, with all it says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PlanKey(pub(crate) Digest);

/// The plans at work and those that are ready.
#[derive(Debug, Default)]
pub(crate) struct Plans {
    at_work: HashMap<PlanKey, watch::Sender<ConnId>>,
    /// Oldest first.
    ready: VecDeque<Ready>,
}

#[derive(Debug)]
struct Ready {
    key: PlanKey,
    result: Result<String, String>,
    at: Instant,
}

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Wanted {
    /// A plan has to be made.
    New,
    /// It is being made, and its answer goes to this connection now.
    AtWork,
    /// It was made.
    Ready(Result<String, String>),
}

impl Plans {
    /// A plan is wanted on this connection.
    pub(crate) fn on_wanted(&mut self, now: Instant, key: &PlanKey, conn: ConnId) -> Wanted {
        self.ready.retain(|ready| now < ready.at + KEPT);
        // Of one that ended without a word nobody looks any more where its asker is.
        self.at_work.retain(|_, asker| !asker.is_closed());
        if let Some(asker) = self.at_work.get(key) {
            asker.send_replace(conn);
            return Wanted::AtWork;
        }
        let ready = self.ready.iter().find(|ready| ready.key == *key);
        ready.map_or(Wanted::New, |ready| Wanted::Ready(ready.result.clone()))
    }

    /// It is being made from now on. Gives where its asker is.
    pub(crate) fn begin(&mut self, key: PlanKey, conn: ConnId) -> watch::Receiver<ConnId> {
        let (asker, asked) = watch::channel(conn);
        self.at_work.insert(key, asker);
        asked
    }

    /// What came of it. Gives where its asker is now.
    pub(crate) fn on_made(
        &mut self,
        now: Instant,
        key: PlanKey,
        result: Result<String, String>,
    ) -> Option<ConnId> {
        let asker = self.at_work.remove(&key).map(|asker| *asker.borrow());
        self.ready.push_back(Ready {
            key,
            result,
            at: now,
        });
        while self.ready.len() > MOST_KEPT {
            self.ready.pop_front();
        }
        asker
    }
}

/// How long somebody who lost a connection is waited for.
const KEPT: Duration = Duration::from_secs(15 * 60);

/// Plans of some hundred kilobytes at most.
const MOST_KEPT: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> PlanKey {
        PlanKey(Digest::of(&[text]))
    }

    #[test]
    fn a_request_that_comes_again_moves_the_plan_to_its_connection() {
        let (mut plans, now) = (Plans::default(), Instant::now());
        assert!(matches!(
            plans.on_wanted(now, &key("a"), ConnId(1)),
            Wanted::New
        ));
        let asked = plans.begin(key("a"), ConnId(1));
        assert_eq!(*asked.borrow(), ConnId(1));
        assert!(matches!(
            plans.on_wanted(now, &key("a"), ConnId(2)),
            Wanted::AtWork
        ));
        assert_eq!(*asked.borrow(), ConnId(2));
        assert!(matches!(
            plans.on_wanted(now, &key("b"), ConnId(2)),
            Wanted::New
        ));
        let asker = plans.on_made(now, key("a"), Ok("plan".into()));
        assert_eq!(asker, Some(ConnId(2)));
    }

    #[test]
    fn a_plan_that_ended_without_a_word_is_made_anew() {
        let (mut plans, now) = (Plans::default(), Instant::now());
        drop(plans.begin(key("a"), ConnId(1)));
        assert!(matches!(
            plans.on_wanted(now, &key("a"), ConnId(1)),
            Wanted::New
        ));
    }

    #[test]
    fn a_plan_that_is_ready_is_told_again_for_a_while() {
        let (mut plans, now) = (Plans::default(), Instant::now());
        let _asked = plans.begin(key("a"), ConnId(1));
        plans.on_made(now, key("a"), Err("no".into()));
        let almost = now + KEPT / 10 * 9;
        for at in [now, almost] {
            let told = plans.on_wanted(at, &key("a"), ConnId(2));
            assert!(matches!(told, Wanted::Ready(Err(no)) if no == "no"));
        }
        assert!(matches!(
            plans.on_wanted(now + KEPT, &key("a"), ConnId(2)),
            Wanted::New
        ));
    }

    #[test]
    fn only_the_last_plans_are_kept() {
        let (mut plans, now) = (Plans::default(), Instant::now());
        for n in 0..100 {
            plans.on_made(now, key(&n.to_string()), Ok(String::new()));
        }
        assert_eq!(plans.ready.len(), MOST_KEPT);
        let oldest = plans.on_wanted(now, &key("0"), ConnId(1));
        let newest = plans.on_wanted(now, &key("99"), ConnId(1));
        assert!(matches!((oldest, newest), (Wanted::New, Wanted::Ready(_))));
    }
}
