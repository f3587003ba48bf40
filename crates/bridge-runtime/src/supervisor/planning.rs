//! Plans of pipelines: beside the runs, a few at a time, each answered whatever happens.

use std::{
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use bridge_proto::{
    Digest, RunKey, TaskId, ctrlnode,
    model::{AgentProfile, GraphPhase, Health, HealthReason, Origin, PlanGraph, PlanReply, Reply},
};
use bridge_providers::provider::{Asking, Provider, RunSpec};
use bridge_transport::ConnId;

use super::{Daemon, Scan};
use crate::{
    blueprint::{Planning, stopped},
    clock::now,
    intake::send_reply,
    plans::{PlanKey, Wanted},
    prompt,
};

/// A plan whose asker has been told, on the connection it was seen on last.
pub(super) struct Planned {
    key: PlanKey,
    result: Result<String, String>,
    reply: Reply,
    origin: Origin,
    told: ConnId,
}

impl Daemon {
    pub(super) async fn on_plan(&mut self, plan: PlanGraph, origin: Origin, conn: ConnId) {
        let agent = self.agents.find(&plan.agent).cloned();
        let Some(agent) = agent else {
            self.no_plan("AGENT_NOT_FOUND".into(), &plan, &origin, conn)
                .await;
            return;
        };
        let phase = GraphPhase::Accepted;
        self.progress(phase, "The request is accepted.", &origin, conn)
            .await;
        if plan.prompt.trim().is_empty() {
            self.no_plan("MISSING_INTENT_PAYLOAD".into(), &plan, &origin, conn)
                .await;
            return;
        }
        let Some(provider) = self.providers.get(&agent.provider).cloned() else {
            let error = format!("PROVIDER_NOT_ACTIVE:{}", agent.provider);
            self.no_plan(error, &plan, &origin, conn).await;
            return;
        };
        let key = key(&plan, &origin);
        if let Some(key) = &key {
            match self.plans.on_wanted(Instant::now(), key, conn) {
                Wanted::New => {}
                Wanted::AtWork => return,
                Wanted::Ready(result) => {
                    let task = plan.task;
                    let reply = Reply::Plan(PlanReply::Result { task, result });
                    self.answer(reply, &origin, conn).await;
                    return;
                }
            }
        }
        let work = self.work(&agent, &plan, provider);
        let (link, planners, scans) = (
            self.link.clone(),
            Arc::clone(&self.planners),
            self.scans.clone(),
        );
        let provider = agent.provider;
        let Ok(wanted) = Arc::clone(&self.places).try_acquire_owned() else {
            let error = "GRAPH_GENERATION_PROVIDER_ERROR: too many plans wait".into();
            self.no_plan(error, &plan, &origin, conn).await;
            return;
        };
        let asked = key.map(|key| (key.clone(), self.plans.begin(key, conn)));
        let mut stopping = self.stopping.subscribe();
        self.closing.spawn(async move {
            let waited = tokio::select! {
                place = planners.acquire_owned() => place.ok(),
                () = stopped(&mut stopping) => None,
            };
            let Some(place) = waited else {
                return;
            };
            let tell = |phase, message: &str| {
                Reply::Plan(PlanReply::Progress {
                    phase,
                    message: message.to_owned(),
                    at: now(),
                })
            };
            let planning = tell(GraphPhase::Planning, "The agent is planning.");
            let asker = || asked.as_ref().map_or(conn, |(_, asker)| *asker.borrow());
            send_reply(&link, &planning, &origin, asker()).await;
            let result = work.run().await;
            drop((place, wanted));
            let (phase, message) = match &result {
                Ok(_) => (GraphPhase::Completed, "The plan is ready."),
                Err(_) => (GraphPhase::Failed, "There is no plan."),
            };
            if let Err(failure) = &result {
                tracing::info!(%provider, error = failure.error, "no plan");
                if failure.login {
                    let health = Health {
                        available: false,
                        reason: Some(HealthReason::AuthRequired),
                        version: None,
                        hint: None,
                    };
                    if scans.send(Scan::Probed(provider, health)).await.is_err() {
                        tracing::debug!("nobody takes the result of a look");
                    }
                }
            }
            let result = result.map_err(|failure| failure.error);
            let reply = Reply::Plan(PlanReply::Result {
                task: plan.task,
                result: result.clone(),
            });
            let conn = asker();
            send_reply(&link, &tell(phase, message), &origin, conn).await;
            send_reply(&link, &reply, &origin, conn).await;
            if let Some((key, _)) = asked {
                let planned = Planned {
                    key,
                    result,
                    reply,
                    origin,
                    told: conn,
                };
                if scans.send(Scan::Planned(Box::new(planned))).await.is_err() {
                    tracing::debug!("nobody keeps a plan");
                }
            }
        });
    }

    /// Whoever was not there to hear it may ask again.
    pub(super) async fn on_planned(&mut self, planned: Planned) {
        let Planned {
            key,
            result,
            reply,
            origin,
            told,
        } = planned;
        let asker = self.plans.on_made(Instant::now(), key, result);
        let asker = asker.unwrap_or(told);
        if asker != told {
            self.answer(reply, &origin, asker).await;
        }
        let online = self.link.state().borrow().phase.is_open();
        if !online || self.current != Some(asker) {
            tracing::warn!(
                "a plan is ready, and the connection that asked is gone; asked again, it is told"
            );
        }
    }

    fn work(
        &self,
        agent: &AgentProfile,
        plan: &PlanGraph,
        provider: Arc<dyn Provider>,
    ) -> Planning {
        // The agent's own folder if it lies where runs may work, or else that of the tasks.
        let own = agent.workspace.as_deref();
        let own = own.and_then(|path| self.workspace.repository(path).ok());
        let directory = own.map_or_else(
            || self.workspace.root().to_owned(),
            |folder| folder.path().to_owned(),
        );
        Planning {
            provider,
            spec: RunSpec {
                run: planner(plan),
                agent: Some(agent.id.clone()),
                directory,
                extra_directories: Vec::new(),
                model: agent.model.clone(),
                asking: Asking::ReadOnly,
                instructions: prompt::instructions(agent),
                resume: None,
                trusted: false,
                temp: None,
            },
            prompt: plan.prompt.clone(),
            limit: self.settings.planning,
            stopping: self.stopping.subscribe(),
        }
    }

    async fn progress(&mut self, phase: GraphPhase, message: &str, origin: &Origin, conn: ConnId) {
        let message = message.to_owned();
        let at = now();
        let reply = Reply::Plan(PlanReply::Progress { phase, message, at });
        self.answer(reply, origin, conn).await;
    }

    async fn no_plan(&mut self, error: String, plan: &PlanGraph, origin: &Origin, conn: ConnId) {
        let task = plan.task.clone();
        let result = Err(error);
        self.answer(
            Reply::Plan(PlanReply::Result { task, result }),
            origin,
            conn,
        )
        .await;
    }
}

/// `None` for a request without a number: its asker could not tell answers apart.
fn key(plan: &PlanGraph, origin: &Origin) -> Option<PlanKey> {
    let parts = [&*origin.reply.0, plan.agent.as_str(), &*plan.prompt];
    ctrlnode::is_numbered(origin).then(|| PlanKey(Digest::of(&parts)))
}

/// Plans are no runs; the name only marks their processes.
fn planner(plan: &PlanGraph) -> RunKey {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let plain = TaskId::parse("plan").expect("a constant that is an id");
    RunKey {
        task: plan.task.clone().unwrap_or(plain),
        attempt: format!("plan-{}", since.unwrap_or_default().as_nanos()),
    }
}
