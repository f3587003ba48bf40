//! The bridge's mouth for itself: a [`Notice`] becomes frames.

use super::{
    Profile,
    frames::{
        AgentStatusEntry, AgentSummary, AgentUpdate, AvailableModels, FileChanged, Handshake,
        Heartbeat, ProviderHealth, to_text,
    },
};
use crate::model::{AgentStatus, Health, Notice, ProviderReport};

/// The frames for one notice: one, or none when there is nothing to tell (a heartbeat while no
/// agent is known, no health entry, no model, for our hub a file that changed). The extended
/// profile adds `hostname` to the handshake and `version`, `hint`, `can` and `trouble` to health
/// entries.
pub fn encode_notice(notice: &Notice, profile: Profile) -> Vec<String> {
    let extended = match profile {
        Profile::Plain => false,
        Profile::Extended => true,
    };
    let frame = match notice {
        Notice::Hello(hello) => to_text(&Handshake {
            action: "handshake",
            version: &hello.version,
            agents: hello
                .agents
                .iter()
                .map(|agent| summary(agent, "", &hello.existing, &hello.hostname))
                .collect(),
            providers: &hello.providers,
            hostname: extended.then_some(&hello.hostname),
        }),
        Notice::Heartbeat(heartbeat) if heartbeat.agents.is_empty() => return Vec::new(),
        Notice::Heartbeat(heartbeat) => {
            let agents = heartbeat.agents.iter();
            let running = agents
                .clone()
                .any(|(_, status)| *status == AgentStatus::Running);
            to_text(&Heartbeat {
                action: "heartbeat",
                agents: agents.clone().map(|(id, _)| id).collect(),
                status: if running {
                    AgentStatus::Running
                } else {
                    AgentStatus::Idle
                },
                agent_statuses: agents
                    .map(|(id, status)| AgentStatusEntry {
                        id,
                        status: *status,
                    })
                    .collect(),
                timestamp: heartbeat.at,
            })
        }
        Notice::Agents {
            version,
            agents,
            default_workspace,
            existing,
            hostname,
        } => {
            let summary = |agent| summary(agent, default_workspace, existing, hostname);
            to_text(&AgentUpdate {
                action: "agent_update",
                version: version.as_deref(),
                agents: agents.iter().map(summary).collect(),
            })
        }
        Notice::ProviderHealth { health } if health.is_empty() => return Vec::new(),
        Notice::ProviderHealth { health } => {
            let entry = |report: &ProviderReport| {
                let health = &report.health;
                ProviderReport {
                    health: Health {
                        available: health.available,
                        reason: health.reason.filter(|_| !health.available),
                        version: health.version.clone().filter(|_| extended),
                        hint: health.hint.clone().filter(|_| extended),
                    },
                    can: report.can.filter(|_| extended),
                    trouble: report.trouble.clone().filter(|_| extended),
                }
            };
            to_text(&ProviderHealth {
                action: "provider_health",
                provider_health: health
                    .iter()
                    .map(|(key, report)| (key, entry(report)))
                    .collect(),
            })
        }
        Notice::AvailableModels { models } => {
            let offered = models.iter().filter(|(_, models)| !models.is_empty());
            let frame = AvailableModels {
                action: "available_models",
                models: offered
                    .map(|(key, models)| (key, models.as_slice()))
                    .collect(),
            };
            if frame.models.is_empty() {
                return Vec::new();
            }
            to_text(&frame)
        }
        // Our hub's page reads files when they are asked for.
        Notice::FileChanged { .. } if extended => return Vec::new(),
        Notice::FileChanged {
            agent,
            path,
            change,
            content,
        } => to_text(&FileChanged {
            action: "file_changed",
            agent_id: agent,
            path,
            event: *change,
            content: content.as_deref(),
        }),
    };
    vec![frame]
}

fn summary<'a>(
    agent: &'a crate::model::AgentProfile,
    default_workspace: &'a str,
    existing: &[crate::id::AgentId],
    hostname: &'a str,
) -> AgentSummary<'a> {
    let of_openclaw = agent.provider.as_str() == OPENCLAW;
    // An agent of OpenClaw's own configuration may lack these; others have them empty.
    let words = |text: &'a str| Some(text).filter(|text| !of_openclaw || !text.is_empty());
    // "No explicit model" is the provider's key on this wire, but not for an agent that was found.
    let no_model = if of_openclaw || agent.from_filesystem {
        "default"
    } else {
        agent.provider.as_str()
    };
    AgentSummary {
        id: &agent.id,
        workspace: agent.workspace.as_deref().unwrap_or(default_workspace),
        name: &agent.name,
        model: agent.model.as_deref().unwrap_or(no_model),
        role: words(&agent.role),
        emoji: words(&agent.emoji),
        description: words(&agent.description),
        provider: &agent.provider,
        from_filesystem: agent.from_filesystem,
        exists: existing.contains(&agent.id),
        hostname,
    }
}

/// The provider whose agents stand in a configuration of its own.
const OPENCLAW: &str = "openclaw";
