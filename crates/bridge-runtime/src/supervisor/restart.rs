//! The two ends of the daemon's life: what a start finds of the last one, and what a stop must
//! not leave behind.

use std::time::Duration;

use bridge_proto::{
    ctrlnode::RunFacts,
    model::{Event, EventBody, Fault, Outcome},
};
use bridge_providers::process::strays;
use bridge_workspace::RunEntry;

use super::Daemon;
use crate::{clock::now, outgoing::Outgoing};

impl Daemon {
    /// Ends the stray processes of runs that a crash interrupted, then reports each run's end
    /// (decision 14).
    pub(super) async fn report_interrupted(&mut self, runs: Vec<RunEntry>) {
        if runs.is_empty() {
            return;
        }
        let markers: Vec<String> = runs.iter().map(|entry| entry.run.marker()).collect();
        let found = tokio::task::spawn_blocking(move || strays::find(&markers)).await;
        let ended = match found {
            Ok(found) => strays::end(found).await,
            Err(error) => {
                tracing::error!(%error, "looking for stray processes failed");
                0
            }
        };
        tracing::warn!(
            runs = runs.len(),
            strays = ended,
            "runs were interrupted by a crash"
        );
        for entry in runs {
            let outcome = match &entry.joined {
                Some(_) => Outcome::Completed,
                None => Outcome::Failed {
                    fault: Fault::Bridge,
                    reason:
                        "The bridge was stopped while this run was at work; its processes have \
                         been ended. Start it again, or send a follow-up."
                            .into(),
                },
            };
            let body = match entry.joined {
                Some(into) => EventBody::Joined { into },
                None => EventBody::Ended {
                    outcome: outcome.clone(),
                },
            };
            let facts = RunFacts {
                agent: entry.agent,
                provider: entry.provider,
                kind: entry.kind,
                origin: entry.origin,
                log_thinking: false,
            };
            let (n, at) = (entry.reserved + 1, now());
            let event = Event {
                run: entry.run.clone(),
                n,
                at,
                body: body.clone(),
            };
            self.push(Outgoing::event(event, facts.into())).await;
            if let Err(error) = self.scribe.close(entry.run.clone(), outcome, n, at).await {
                tracing::warn!(run = %entry.run, %error, "the end could not be journalled");
            }
            self.ends.insert(entry.run, body, n);
        }
    }

    /// Closes every conversation and waits for the processes; true when all ended in time.
    pub(super) async fn close_everything(&mut self) -> bool {
        let tasks: Vec<_> = self.runners.keys().cloned().collect();
        for task in tasks {
            self.close_runner(&task);
        }
        let all = async {
            while let Some(ended) = self.closing.join_next().await {
                if let Err(error) = ended
                    && error.is_panic()
                {
                    tracing::error!(%error, "a runner panicked");
                }
            }
        };
        let in_time = tokio::time::timeout(CLOSE_LIMIT, all).await.is_ok();
        if !in_time {
            self.closing.shutdown().await;
        }
        in_time
    }
}

/// A conversation that is closed has its own ladder of at most 10 s.
const CLOSE_LIMIT: Duration = Duration::from_secs(11);
