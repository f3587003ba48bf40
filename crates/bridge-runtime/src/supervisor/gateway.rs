//! Requests for OpenClaw itself: whether the user allows them, whose they are, and what is said of
//! them when.

use std::{path::PathBuf, sync::Arc};

use bridge_proto::model::{CallPurpose, GatewayReply, GatewayRequest, Origin, Reply, ToolCall};
use bridge_providers::{provider::Provider, remote::ConfigFault};
use bridge_transport::ConnId;

use super::{Daemon, Scan, commands::with_causes};
use crate::gateway::{Calling, Finished, NotCalled, not_called};

impl Daemon {
    pub(super) async fn on_gateway(
        &mut self,
        request: GatewayRequest,
        origin: Origin,
        conn: ConnId,
    ) {
        let action = request.action();
        let remote = self.settings.policy.remote;
        let wanted = match request {
            GatewayRequest::Configure { .. } => remote.config(),
            GatewayRequest::Call(_) => remote.tools(),
        };
        let provider = self.providers.get(OPENCLAW).cloned();
        let (true, Some(provider)) = (wanted, provider) else {
            if !wanted && let Some(refused) = self.unwanted.count() {
                tracing::info!(
                    action,
                    refused,
                    "refused: OPENCLAW_REMOTE says what a plane may ask of OpenClaw past its runs"
                );
            }
            self.not_supported(action, &origin, conn).await;
            return;
        };
        match request {
            GatewayRequest::Configure { content } => {
                let content = content.unwrap_or_default();
                self.on_configure(provider, content, &origin, conn).await;
            }
            GatewayRequest::Call(call) => self.on_call(provider, *call, origin, conn).await,
        }
    }

    /// As a bridge without OpenClaw answers.
    async fn not_supported(&mut self, action: &str, origin: &Origin, conn: ConnId) {
        let kind = action.to_owned();
        self.answer(Reply::Unknown { kind }, origin, conn).await;
    }

    async fn on_configure(
        &mut self,
        provider: Arc<dyn Provider>,
        content: String,
        origin: &Origin,
        conn: ConnId,
    ) {
        let asked = Arc::clone(&provider);
        let replaced = tokio::task::spawn_blocking(move || asked.replace_config(&content)).await;
        let error = match replaced {
            Ok(Ok(changed)) => {
                if changed {
                    tracing::info!("the configuration of OpenClaw was replaced by the plane");
                    self.look_at_agents().await;
                }
                None
            }
            Ok(Err(ConfigFault::NotHere)) => {
                self.not_supported("sync_config", origin, conn).await;
                return;
            }
            Ok(Err(ConfigFault::Missing)) => Some("MISSING_CONFIG_CONTENT".to_owned()),
            Ok(Err(
                fault @ (ConfigFault::Unusable(_)
                | ConfigFault::Unreadable(_)
                | ConfigFault::Kept(_)
                | ConfigFault::Write(_)),
            )) => {
                let why = with_causes(&fault);
                tracing::warn!(why, "the configuration of OpenClaw stays as it is");
                Some(why)
            }
            Err(error) => {
                tracing::error!(%error, "replacing a configuration failed");
                Some("BRIDGE_INTERNAL_ERROR".to_owned())
            }
        };
        let reply = GatewayReply::Configured { error };
        self.answer(Reply::Gateway { reply }, origin, conn).await;
    }

    /// Looks at once who lives here, so that the plane hears of it before its answer.
    async fn look_at_agents(&mut self) {
        let providers: Vec<_> = self.providers.values().cloned().collect();
        match tokio::task::spawn_blocking(move || Scan::of_agents(&providers)).await {
            Ok(scan) => self.on_scan(scan).await,
            Err(error) => tracing::error!(%error, "looking for agents failed"),
        }
    }

    async fn on_call(
        &mut self,
        provider: Arc<dyn Provider>,
        call: ToolCall,
        origin: Origin,
        conn: ConnId,
    ) {
        let agent = call.agent.as_ref().and_then(|id| self.agents.find(id));
        let agent = agent.filter(|agent| agent.provider == *provider.key());
        let refused = match agent {
            None => Some(NotCalled::AgentNotFound),
            Some(_) if call.purpose == CallPurpose::Tool && call.tool.is_empty() => {
                Some(NotCalled::MissingTool)
            }
            Some(_) => None,
        };
        let place = Arc::clone(&self.calls).try_acquire_owned();
        let (None, Ok(place)) = (&refused, place) else {
            let busy = || NotCalled::Refused("too many calls wait for OpenClaw".to_owned());
            let why = refused.unwrap_or_else(busy);
            let replies = not_called(&call, why);
            let replies = replies.into_iter().map(|reply| Reply::Gateway { reply });
            self.answer_all(replies.collect(), &origin, conn).await;
            return;
        };
        let folder = agent.and_then(|agent| agent.workspace.as_deref());
        let action = GatewayRequest::Call(Box::new(call.clone())).action();
        let calling = Calling {
            directory: folder.map_or_else(|| self.workspace.root().to_owned(), PathBuf::from),
            provider,
            call,
            policy: self.settings.policy,
            rules: self.settings.rules.clone(),
            contents: self.workspace.policy(),
            stopping: self.stopping.subscribe(),
        };
        let done = self.called.clone();
        self.closing.spawn(async move {
            let finished = Finished {
                replies: calling.run().await,
                origin,
                conn,
                action,
            };
            drop(place);
            if done.send(finished).await.is_err() {
                tracing::debug!("nobody takes the result of a call any more");
            }
        });
    }

    /// Says what became of a call. A task that has a run here ends with that and not before.
    pub(super) async fn on_called(&mut self, finished: Finished) {
        let Finished {
            origin,
            conn,
            replies,
            action,
        } = finished;
        let Some(replies) = replies else {
            self.not_supported(action, &origin, conn).await;
            return;
        };
        let is_news = |reply: &GatewayReply| match reply {
            GatewayReply::Over { task, .. } => !self.tickets.keys().any(|run| run.task == *task),
            GatewayReply::Said { .. }
            | GatewayReply::Called { .. }
            | GatewayReply::Configured { .. } => true,
        };
        let replies = replies.into_iter().filter(is_news);
        let replies = replies.map(|reply| Reply::Gateway { reply }).collect();
        self.answer_all(replies, &origin, conn).await;
    }
}

const OPENCLAW: &str = "openclaw";
