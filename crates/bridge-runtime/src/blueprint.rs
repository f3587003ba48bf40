//! A plan for a pipeline, asked of an agent: one turn in which nothing may be changed, whose answer
//! has to be a document of the known shape.

use std::{sync::Arc, time::Duration};

use bridge_proto::{
    ctrlnode::blueprint,
    model::{Actor, Answer, Fault, Fix, Outcome, RunEvent},
};
use bridge_providers::provider::{Conversation, Heard, Provider, RunSpec, Steer};
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};

use crate::runner::refused;

/// One plan that is wanted.
pub(crate) struct Planning {
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) spec: RunSpec,
    pub(crate) prompt: String,
    /// How long it may take from the start of the program to the answer.
    pub(crate) limit: Duration,
    /// Becomes true when the daemon stops.
    pub(crate) stopping: watch::Receiver<bool>,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The code of the wire, with what the provider said behind it.
    pub(crate) error: String,
    /// The agent has to be logged in first.
    pub(crate) login: bool,
}

impl Failure {
    fn of(error: impl Into<String>) -> Self {
        Self {
            error: error.into(),
            login: false,
        }
    }
}

impl Planning {
    /// Asks for the plan; leaves no process behind.
    pub(crate) async fn run(mut self) -> Result<String, Failure> {
        if !self.provider.abilities().permissions {
            // It would act without asking, and nothing here could hold it back.
            return Err(Failure::of("GRAPH_GENERATION_UNSUPPORTED_PROVIDER"));
        }
        let until = Instant::now() + self.limit;
        let late = || Failure::of("GRAPH_GENERATION_TIMEOUT");
        let opened = timeout_at(until, self.provider.open(self.spec.clone())).await;
        let opened = opened.map_err(|_| late())?;
        let mut conversation = opened.map_err(|error| of_outcome(&refused(&error)))?;
        let prompt = format!("{}\n\n{}", self.prompt.trim(), blueprint::INSTRUCTIONS);
        say(&conversation, Steer::Prompt(prompt)).await;
        let heard = timeout_at(until, self.listen(&mut conversation)).await;
        if heard.is_err() {
            say(&conversation, Steer::Interrupt).await;
        }
        // How its process ends does not change what it said.
        say(&conversation, Steer::Close).await;
        let ended = async { while conversation.heard.recv().await.is_some() {} };
        if timeout(CLOSE_LIMIT, ended).await.is_err() {
            tracing::debug!("a planner did not end by itself");
        }
        let (outcome, answer) = heard.map_err(|_| late())?;
        if outcome != Outcome::Completed {
            return Err(of_outcome(&outcome));
        }
        if answer.trim().is_empty() {
            return Err(Failure::of("GRAPH_GENERATION_EMPTY_RESPONSE"));
        }
        blueprint::extract(&answer)
            .map_err(|wrong| Failure::of(format!("GRAPH_GENERATION_PROVIDER_ERROR: {wrong}")))
    }

    /// Follows the turn to its end, and answers every question with no.
    async fn listen(&mut self, conversation: &mut Conversation) -> (Outcome, String) {
        loop {
            let heard = tokio::select! {
                heard = conversation.heard.recv() => heard,
                () = stopped(&mut self.stopping) => {
                    say(conversation, Steer::Interrupt).await;
                    let by = Actor::Shutdown;
                    return (Outcome::Cancelled { by }, String::new());
                }
            };
            match heard {
                Some(Heard::Seen(seen)) => {
                    if let RunEvent::Ask(ask) = seen.event {
                        let reason = "Only a plan is wanted: nothing may be changed or run.".into();
                        say(conversation, Steer::Answer(ask.id, Answer::Deny { reason })).await;
                    }
                }
                Some(Heard::TurnOver(end)) => return (end.outcome, end.answer),
                Some(
                    Heard::Prompted | Heard::Resumable(_) | Heard::Applied(_) | Heard::Injected(_),
                ) => {}
                Some(Heard::Gone) | None => {
                    let fault = Fault::Agent;
                    let reason = "the agent ended without a result".into();
                    return (Outcome::Failed { fault, reason }, String::new());
                }
            }
        }
    }
}

pub(crate) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // Whoever could tell it is gone with the daemon.
    drop(stopping.wait_for(|stopping| *stopping).await);
}

async fn say(conversation: &Conversation, steer: Steer) {
    if conversation.steer.send(steer).await.is_err() {
        tracing::debug!("a planner has ended early");
    }
}

fn of_outcome(outcome: &Outcome) -> Failure {
    let (reason, login) = match outcome {
        Outcome::Completed => ("", false),
        Outcome::Failed { reason, .. } => (reason.as_str(), false),
        Outcome::Blocked { reason, fix } => (reason.as_str(), *fix == Fix::Login),
        Outcome::Cancelled { .. } => ("the bridge was stopped", false),
    };
    let mut error = "GRAPH_GENERATION_PROVIDER_ERROR".to_owned();
    if !reason.is_empty() {
        error = format!("{error}: {reason}");
    }
    Failure { error, login }
}

/// A conversation that is closed has its own ladder of at most 10 s.
const CLOSE_LIMIT: Duration = Duration::from_secs(11);
