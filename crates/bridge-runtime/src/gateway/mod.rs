//! What a plane asks of OpenClaw past its runs: one call of a tool at a time, away from the
//! decisions. Every request has one answer, whatever becomes of it.
//!
//! Reading order: [`verdict`] (whether a call may be made, pure), [`telling`] (what is said of it,
//! pure), then this file, which makes it.

mod telling;
mod verdict;

use std::{path::PathBuf, sync::Arc};

use bridge_proto::model::{GatewayReply, Origin, ToolCall};
use bridge_providers::{
    provider::Provider,
    remote::{CallFault, DirectAnswer, DirectCall},
};
use bridge_transport::ConnId;
use bridge_workspace::ContentsPolicy;
use tokio::sync::watch;

pub(crate) use self::telling::NotCalled;
use self::telling::{Called, replies};
use crate::{
    policy::Policy,
    rules::{Doer, Rules},
};

/// What is to be said of a request, when it is known.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) origin: Origin,
    pub(crate) conn: ConnId,
    /// In their order; `None`: OpenClaw is not here.
    pub(crate) replies: Option<Vec<GatewayReply>>,
    /// The action that asked for it.
    pub(crate) action: &'static str,
}

/// A call to be made, with all that decides about it.
pub(crate) struct Calling {
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) call: ToolCall,
    pub(crate) directory: PathBuf,
    pub(crate) policy: Policy,
    pub(crate) rules: Rules,
    pub(crate) contents: ContentsPolicy,
    pub(crate) stopping: watch::Receiver<bool>,
}

impl Calling {
    /// Makes the call, if it may be made; `None` when OpenClaw is not here.
    pub(crate) async fn run(self) -> Option<Vec<GatewayReply>> {
        let (provider, call) = (Arc::clone(&self.provider), self.call.clone());
        let planned = tokio::task::spawn_blocking(move || provider.tool_calls(&call)).await;
        let called = match planned {
            Ok(Ok(planned)) => self.make(planned).await,
            Ok(Err(CallFault::NotHere)) => return None,
            Ok(Err(CallFault::NoTool)) => Called::not(NotCalled::MissingTool),
            Ok(Err(fault @ (CallFault::Refused { .. } | CallFault::Broken(_)))) => {
                Called::not(NotCalled::Refused(fault.to_string()))
            }
            Err(error) => {
                tracing::error!(%error, "planning a call failed");
                Called::not(NotCalled::Refused(String::new()))
            }
        };
        Some(replies(&self.call, called))
    }

    async fn make(&self, planned: Vec<DirectCall>) -> Called {
        let mut last = Called::not(NotCalled::MissingTool);
        for call in planned {
            if let Err(why) = self.judged(&call) {
                tracing::debug!(tool = call.tool, why, "a call of a tool is not made");
                // What was tried before and did not work says more.
                return if last.was_made() {
                    last
                } else {
                    Called::refused(call.tool, why)
                };
            }
            tracing::info!(
                tool = call.tool,
                "a tool of OpenClaw is called for the plane"
            );
            let outcome = self.outcome(&call).await;
            let again = matches!(outcome, Err(CallFault::Refused { unseen: true, .. }));
            last = Called::made(call.tool, outcome);
            if !again {
                break;
            }
        }
        last
    }

    fn judged(&self, call: &DirectCall) -> Result<(), String> {
        let agent = self.call.agent.as_ref();
        let doer = Doer {
            agent: agent.map_or("", |agent| agent.as_str()),
            provider: self.provider.key().as_str(),
            directory: &self.directory,
        };
        verdict::judge(call, doer, &self.policy, &self.rules, self.contents)
    }

    async fn outcome(&self, call: &DirectCall) -> Result<DirectAnswer, CallFault> {
        let mut stopping = self.stopping.clone();
        tokio::select! {
            outcome = self.provider.call_tool(call) => outcome,
            _ = stopping.wait_for(|stops| *stops) => {
                Err(CallFault::Broken("the bridge is being stopped".to_owned()))
            }
        }
    }
}

/// The answers to a call that is not made.
pub(crate) fn not_called(call: &ToolCall, why: NotCalled) -> Vec<GatewayReply> {
    replies(call, Called::not(why))
}
