//! Agents in frames of a control plane: the list of a sync, the changes of an update.

use serde_json::Value;

use super::{
    DecodeError,
    fields::{Fields, with_slashes},
};
use crate::{
    id::{AgentId, ProviderKey},
    model::{AgentPatch, AgentProfile},
};

/// The list, or the error text of the ack. The list is JSON inside a text.
pub(super) fn synced(
    fields: Fields<'_>,
    provider: &ProviderKey,
) -> Result<Vec<AgentProfile>, String> {
    let text = match fields.value("agents") {
        None => return Err("MISSING_AGENTS".into()),
        Some(Value::String(text)) if text.is_empty() => return Err("MISSING_AGENTS".into()),
        Some(Value::String(text)) => text,
        Some(_) => return Err("agents is not a JSON text".into()),
    };
    let list: Value =
        serde_json::from_str(text).map_err(|error| format!("agents is not valid JSON: {error}"))?;
    let items = list.as_array().ok_or("agents is not a list")?;
    let mut agents: Vec<AgentProfile> = Vec::with_capacity(items.len().min(MAX_AGENTS));
    for item in items {
        let map = item
            .as_object()
            .ok_or("agents holds something that is not an object")?;
        let entry = fields.within(map);
        let Some(agent) = synced_entry(entry, provider).map_err(|error| spelled_out(&error))?
        else {
            continue;
        };
        agents.retain(|known| known.id != agent.id);
        if agents.len() == MAX_AGENTS {
            return Err(format!("more than {MAX_AGENTS} agents"));
        }
        agents.push(agent);
    }
    Ok(agents)
}

/// `None` for an entry without an id.
fn synced_entry(
    entry: Fields<'_>,
    provider: &ProviderKey,
) -> Result<Option<AgentProfile>, DecodeError> {
    let Some(id) = entry.id::<AgentId>("id")? else {
        return Ok(None);
    };
    let model = entry
        .words("model")?
        .filter(|model| *model != provider.as_str());
    Ok(Some(AgentProfile {
        name: entry.text("name")?.unwrap_or(id.as_str()).to_owned(),
        provider: provider.clone(),
        model: model.map(str::to_owned),
        workspace: entry.path("workspace")?,
        role: entry.text("role")?.unwrap_or_default().to_owned(),
        description: entry.text("description")?.unwrap_or_default().to_owned(),
        emoji: entry.text("emoji")?.unwrap_or_default().to_owned(),
        from_filesystem: false,
        id,
    }))
}

fn spelled_out(error: &DecodeError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// What an update of one agent changes. A blank name is no name.
pub(super) fn patch(fields: Fields<'_>) -> Result<AgentPatch, DecodeError> {
    let owned = |field| Ok(fields.text(field)?.map(str::to_owned));
    Ok(AgentPatch {
        name: fields.words("name")?.map(str::to_owned),
        model: owned("model")?,
        workspace: fields.text("workspace")?.map(with_slashes),
        role: owned("role")?,
        description: owned("description")?,
    })
}

/// More agents than any plane has; a longer list is a mistake or an attack.
const MAX_AGENTS: usize = 1000;
