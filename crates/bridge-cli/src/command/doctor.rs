//! `ctrlnode doctor`: what is configured and where, whether the plane answers, which agents are
//! here and what to do about those that are not.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bridge_proto::Secret;
use bridge_providers::provider::Provider;
use bridge_transport::{CarrierKind, DialError, Phase, Text, carrier};
use bridge_workspace::{lock, status};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    advice::advice,
    args::HubAddress,
    client::Client,
    daemon::{self, Plane},
    link_note::{Connection, LinkNote},
    render::plain,
    report::{Exit, Problem},
    settings::{Settings, variable},
    state::StateFolder,
    tls_settings,
};

/// Looks at everything; changes nothing.
pub(crate) async fn run(as_json: bool) -> Result<Exit, Problem> {
    let settings = Settings::look()?;
    let providers = daemon::providers(&settings)?;
    let troubles = troubles(&settings)?;
    let (hub, agents) = tokio::join!(own_hub(), agents(&providers, &troubles));
    let plane = plane(&settings, hub.as_ref()).await;
    let workspace = settings.check_workspace().err();
    let files: Vec<Value> = settings
        .discovery
        .looked
        .iter()
        .map(|(path, found)| json!({ "path": path, "found": found }))
        .collect();
    let warnings = settings.discovery.warnings.iter().map(ToString::to_string);
    let warnings = warnings.chain(settings.unknown.clone());
    let warnings: Vec<String> = warnings
        .chain(tls_settings::not_there(&settings.tls))
        .collect();
    let broken: Vec<Value> = settings
        .broken
        .iter()
        .map(|problem| json!({ "what": problem.with_causes(), "todo": problem.what_to_do() }))
        .collect();
    let report = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "workspace": settings.base,
        "workspace_problem": workspace.as_ref().map(Problem::with_causes),
        "workspace_todo": workspace.as_ref().and_then(Problem::what_to_do),
        "contents": settings.contents,
        "rules": settings.rules_file.as_ref().map(|file| json!({
            "file": file, "count": settings.rules.0.len(),
        })),
        "files": files,
        "agents_file": {
            "path": settings.agents_file.path,
            "found": settings.agents_file.found,
            "agents": settings.agents_file.agents.len(),
        },
        "warnings": warnings,
        "broken": broken,
        "hub": hub.map(|hub| hub.address),
        "plane": plane.report(),
        "agents": agents,
    });
    let text = if as_json {
        serde_json::to_string_pretty(&report)
            .map_err(|error| Problem::new("the report cannot be written").because(error))?
    } else {
        readable(&report)
    };
    writeln!(io::stdout(), "{}", text.trim_end()).map_err(Problem::output)?;
    let good = workspace.is_none()
        && settings.broken.is_empty()
        && plane.verdict == Verdict::Reached
        && agents.iter().any(|agent| agent["available"] == true);
    Ok(if good {
        Exit::Done
    } else {
        Exit::NotConfigured
    })
}

/// A hub that runs on this machine.
struct OwnHub {
    address: String,
    /// Whether the bridge that `up` starts with it is connected.
    with_bridge: bool,
}

/// The hub that left its note here, if it answers.
async fn own_hub() -> Option<OwnHub> {
    let folder = variable("CTRLNODE_STATE").map(PathBuf::from);
    let state = StateFolder::locate(folder.as_deref()).ok()?;
    let address = state.note()?.address;
    let found = HubAddress {
        hub: None,
        state: folder,
    };
    let client = Client::find(&found).ok()?;
    let machines = tokio::time::timeout(HUB_LIMIT, client.machines());
    let machines = machines.await.ok()?.ok()?;
    let with_bridge = state.own_pairing().is_some_and(|own| {
        let mut online = machines.iter().filter(|machine| machine.online);
        online.any(|machine| machine.id.as_str() == own.id)
    });
    Some(OwnHub {
        address,
        with_bridge,
    })
}

/// What a look at the control plane found.
struct Look {
    url: String,
    /// Where the token came from, where there is one.
    token_from: Option<String>,
    paired: bool,
    verdict: Verdict,
    what: String,
    todo: Option<String>,
    /// Which carriers were tried, and how they fared.
    carriers: Vec<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Reached,
    NotReached,
    TokenRefused,
    NotKnown,
}

impl Look {
    fn report(&self) -> Value {
        let reachable = match self.verdict {
            Verdict::Reached => Some(true),
            Verdict::NotReached | Verdict::TokenRefused => Some(false),
            Verdict::NotKnown => None,
        };
        let mut report = json!({
            "url": self.url, "token": self.paired, "reachable": reachable,
            "what": self.what, "todo": self.todo, "carriers": self.carriers,
        });
        if self.paired {
            report["token_from"] = json!(self.token_from);
        }
        report
    }
}

/// One real dial of the control plane, without greeting it as a bridge would.
async fn plane(settings: &Settings, hub: Option<&OwnHub>) -> Look {
    let url = settings.url().to_owned();
    let Some(token) = settings.pairing.token.clone() else {
        return unpaired(settings.shown_url(), hub);
    };
    let root = settings.base.join(".ctrlnode");
    if let Some(holder) = lock::holder(&root) {
        // A plane keeps one connection for a token: a second one would take the bridge off it.
        let (verdict, what, todo) = told(LinkNote::of(&root, &holder));
        let what = format!("{what}, says the bridge that runs (process {})", holder.pid);
        return looked(settings, (verdict, what, todo));
    }
    let seen = dial(settings, &url, token.clone()).await;
    let carriers = match seen.0 {
        Verdict::Reached | Verdict::NotReached => carriers(settings, &url, token).await,
        Verdict::TokenRefused | Verdict::NotKnown => Vec::new(),
    };
    Look {
        carriers,
        ..looked(settings, seen)
    }
}

/// Which carriers get through to the plane, one after the other.
async fn carriers(settings: &Settings, url: &str, token: Secret) -> Vec<Value> {
    let dial = Plane {
        url: url.to_owned(),
        token: watch::channel(token).1,
    };
    let Ok(endpoint) = daemon::endpoint(settings, dial) else {
        return Vec::new();
    };
    let kinds = if endpoint.carriers == [CarrierKind::Lines] {
        vec![CarrierKind::Lines]
    } else {
        vec![
            CarrierKind::WebSocket,
            CarrierKind::Hybrid,
            CarrierKind::Sse,
            CarrierKind::LongPoll,
        ]
    };
    let mut fared = Vec::new();
    for kind in kinds {
        let found = carrier::probe(&endpoint, kind).await;
        let (millis, error) = match &found {
            Ok(took) => (u64::try_from(took.as_millis()).ok(), None),
            Err(error) => (None, Some(error.to_string())),
        };
        fared.push(json!({
            "carrier": kind.name(), "reaches": found.is_ok(), "millis": millis, "what": error,
        }));
        // Where nobody is, the others need not be tried.
        if matches!(found, Err(DialError::Unreachable { .. })) {
            break;
        }
    }
    fared
}

fn looked(settings: &Settings, (verdict, what, todo): Seen) -> Look {
    let from = settings.pairing.file.as_ref();
    Look {
        url: settings.shown_url(),
        token_from: from.map(|file| file.display().to_string()),
        paired: true,
        verdict,
        what,
        todo,
        carriers: Vec::new(),
    }
}

/// The verdict, what it is founded on, what to do.
type Seen = (Verdict, String, Option<String>);

async fn dial(settings: &Settings, url: &str, token: Secret) -> Seen {
    let dial = Plane {
        url: url.to_owned(),
        token: watch::channel(token).1,
    };
    let endpoint = match daemon::endpoint(settings, dial) {
        Ok(endpoint) => endpoint,
        Err(problem) => {
            let todo = problem.what_to_do().map(str::to_owned);
            return (Verdict::NotReached, problem.with_causes(), todo);
        }
    };
    let (handle, _inbox) = bridge_transport::connect::<Text>(endpoint);
    let mut state = handle.state();
    let settled = tokio::time::timeout(
        settings.dial + Duration::from_secs(2),
        state.wait_for(|state| state.phase != Phase::Dialing),
    );
    let settled = match settled.await {
        Ok(Ok(state)) => Some(state.clone()),
        Ok(Err(_)) | Err(_) => None,
    };
    let _nothing_was_pushed = handle.shutdown(Duration::from_secs(1)).await;
    let Some(state) = settled else {
        let todo = "check network and proxy settings".to_owned();
        return (Verdict::NotReached, "no answer in time".into(), Some(todo));
    };
    let error = state.last_error.unwrap_or_default();
    match state.phase {
        Phase::Online => (Verdict::Reached, "connected".into(), None),
        Phase::AuthRequired => (Verdict::TokenRefused, error, Some(NEW_TOKEN.into())),
        Phase::Doubtful | Phase::Dialing | Phase::Waiting | Phase::Draining | Phase::Stopped => {
            let advice = advice(&error).to_owned();
            (Verdict::NotReached, error, Some(advice))
        }
    }
}

/// What a look at the plane found, and whether it refused the token. A new token is tried by
/// itself: what a bridge that runs says is about the one it had so far.
pub(crate) async fn plane_in_words(settings: &Settings, new_token: bool) -> (String, bool) {
    let running = lock::holder(&settings.base.join(".ctrlnode")).is_some();
    let found = match &settings.pairing.token {
        Some(token) if new_token => {
            let token = token.clone();
            let seen = dial(settings, settings.url(), token).await;
            looked(settings, seen)
        }
        Some(_) | None => plane(settings, None).await,
    };
    let refused = found.verdict == Verdict::TokenRefused && (new_token || !running);
    (plane_lines(&found.report()).join("\n"), refused)
}

fn plane_lines(plane: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mark = match plane["reachable"].as_bool() {
        Some(true) => "✓",
        Some(false) => "✗",
        None => "?",
    };
    let mut lines = vec![
        format!("plane      {}", text(&plane["url"])),
        format!("         {mark} {}", text(&plane["what"])),
    ];
    lines.extend(todo(&plane["todo"]));
    lines.extend(carrier_line(&plane["carriers"]));
    lines
}

/// What gets through, where anything does.
fn carrier_line(carriers: &Value) -> Option<String> {
    let through = carriers.as_array()?.iter().filter_map(|one| {
        let name = one["carrier"].as_str()?;
        let millis = one["millis"].as_u64()?;
        Some(format!("{name} ({millis} ms)"))
    });
    let through: Vec<String> = through.collect();
    (!through.is_empty()).then(|| format!("           by {}", through.join(", ")))
}

/// A machine without a token, which a hub of its own may not need.
fn unpaired(url: String, hub: Option<&OwnHub>) -> Look {
    let (url, verdict, what, todo) = match hub {
        Some(hub) if hub.with_bridge => {
            let what = format!(
                "a hub of this machine runs at {}; `up` needs no pairing",
                hub.address
            );
            (hub.address.clone(), Verdict::Reached, what, None)
        }
        Some(hub) => {
            let what = format!(
                "not paired, though a hub of this machine runs at {}",
                hub.address
            );
            let todo =
                "make a token with `ctrlnode hub token create <name>`, then run `ctrlnode setup`";
            (url, Verdict::NotReached, what, Some(todo))
        }
        None => {
            let todo = "run `ctrlnode setup`, or `ctrlnode up` to try it here";
            (
                url,
                Verdict::NotReached,
                "not paired".to_owned(),
                Some(todo),
            )
        }
    };
    Look {
        url,
        token_from: None,
        paired: false,
        verdict,
        what,
        todo: todo.map(str::to_owned),
        carriers: Vec::new(),
    }
}

/// What the bridge that runs says of its own connection.
fn told(note: Option<LinkNote>) -> Seen {
    let Some(note) = note else {
        return (
            Verdict::NotKnown,
            "not known".into(),
            Some("see its log".into()),
        );
    };
    let failed = note.error.unwrap_or_else(|| "not connected".into());
    match note.connection {
        Connection::Online => (Verdict::Reached, "connected".into(), None),
        Connection::Doubtful => (
            Verdict::NotKnown,
            "open, but nothing was heard for a while".into(),
            None,
        ),
        Connection::Connecting => (Verdict::NotKnown, "connecting".into(), None),
        Connection::Failed => {
            let advice = advice(&failed).to_owned();
            (Verdict::NotReached, failed, Some(advice))
        }
        Connection::TokenRefused => (Verdict::TokenRefused, failed, Some(NEW_TOKEN.into())),
    }
}

/// How the last runs of agents went, from the bridges that run here, by the agent's key.
fn troubles(settings: &Settings) -> Result<BTreeMap<String, Value>, Problem> {
    let own = settings.base.join(".ctrlnode");
    let of_up = StateFolder::locate(variable("CTRLNODE_STATE").map(PathBuf::from).as_deref())?;
    let mut troubles = BTreeMap::new();
    for root in [of_up.bridge_root(), own] {
        let told = status::read(&root);
        let told = told.and_then(|told| serde_json::from_slice::<Value>(&told).ok());
        let providers = told.as_ref().and_then(|told| told["providers"].as_object());
        for (key, report) in providers.into_iter().flatten() {
            if report["trouble"].is_object() {
                troubles.insert(key.clone(), report["trouble"].clone());
            }
        }
    }
    Ok(troubles)
}

async fn agents(providers: &[Arc<dyn Provider>], troubles: &BTreeMap<String, Value>) -> Vec<Value> {
    let mut agents = Vec::new();
    for provider in providers
        .iter()
        .filter(|provider| !provider.abilities().plain_only)
    {
        let found = provider.find();
        let health = if found.health.available {
            provider.probe(PROBE_LIMIT).await
        } else {
            found.health
        };
        agents.push(json!({
            "agent": provider.key(),
            "program": found.program,
            "available": health.available,
            "version": health.version,
            "reason": health.reason,
            "todo": health.hint,
            "trouble": troubles.get(provider.key().as_str()),
        }));
    }
    agents
}

fn readable(report: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut lines = vec![
        format!("ctrlnode {}", text(&report["version"])),
        String::new(),
        format!("workspace  {}", text(&report["workspace"])),
    ];
    if let Some(problem) = report["workspace_problem"].as_str() {
        lines.push(format!("         ✗ {problem}"));
        lines.extend(todo(&report["workspace_todo"]));
    }
    lines.push(format!("contents   {}", text(&report["contents"])));
    if let Some(count) = report["rules"]["count"].as_u64() {
        let file = text(&report["rules"]["file"]);
        lines.push(format!("rules      {count} in {file}"));
    }
    for file in report["files"].as_array().into_iter().flatten() {
        let found = if file["found"] == true {
            "found"
        } else {
            "not there"
        };
        lines.push(format!("settings   {} ({found})", text(&file["path"])));
    }
    let own = &report["agents_file"];
    if own["path"].is_string() {
        let found = match (own["found"] == true, own["agents"].as_u64()) {
            (false, _) | (true, None) => "not there".to_owned(),
            (true, Some(1)) => "1 agent".to_owned(),
            (true, Some(many)) => format!("{many} agents"),
        };
        lines.push(format!("own agents {} ({found})", text(&own["path"])));
    }
    for warning in report["warnings"].as_array().into_iter().flatten() {
        lines.push(format!("warning    {}", text(warning)));
    }
    for broken in report["broken"].as_array().into_iter().flatten() {
        lines.push(format!("         ✗ {}", plain(&text(&broken["what"]))));
        lines.extend(todo(&broken["todo"]));
    }
    lines.push(String::new());
    lines.extend(plane_lines(&report["plane"]));
    lines.push(String::new());
    for agent in report["agents"].as_array().into_iter().flatten() {
        let mark = if agent["available"] == true {
            "✓"
        } else {
            "✗"
        };
        let what = match (agent["version"].as_str(), agent["reason"].as_str()) {
            (Some(version), None) => version.to_owned(),
            (_, Some(reason)) => reason.replace('_', " "),
            (None, None) => String::new(),
        };
        let program = text(&agent["program"]);
        let line = format!("{mark} {:<12} {what:<20} {program}", text(&agent["agent"]));
        lines.push(line.trim_end().to_owned());
        if agent["available"] != true {
            lines.extend(todo(&agent["todo"]));
        }
        if let Some(reason) = agent["trouble"]["reason"].as_str() {
            let reason: String = plain(reason).chars().take(200).collect();
            lines.push(format!("           last run: {reason}"));
            lines.extend(todo(&agent["trouble"]["todo"]));
        }
    }
    lines.join("\n")
}

fn todo(value: &Value) -> Option<String> {
    value.as_str().map(|todo| format!("           → {todo}"))
}

/// What to do when the plane answered and does not know the token.
const NEW_TOKEN: &str = "the token is not accepted; run `ctrlnode setup` again";

/// A hub of this machine answers at once, or not at all.
const HUB_LIMIT: Duration = Duration::from_secs(2);

/// A version and a login state take a second; a cold start several.
const PROBE_LIMIT: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carriers_that_get_through_are_named_in_one_line() {
        let carriers = json!([
            { "carrier": "websocket", "reaches": false, "millis": null, "what": "no" },
            { "carrier": "sse", "reaches": true, "millis": 12, "what": null },
            { "carrier": "poll", "reaches": true, "millis": 7, "what": null },
        ]);
        let line = carrier_line(&carriers).unwrap();
        assert_eq!(line.trim(), "by sse (12 ms), poll (7 ms)");
        assert_eq!(carrier_line(&json!([])), None);
        assert_eq!(carrier_line(&json!(null)), None);
    }
}
