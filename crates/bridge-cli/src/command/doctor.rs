//! `ctrlnode doctor`: what is configured and where, whether the plane answers, which agents are
//! here and what to do about those that are not.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bridge_providers::provider::Provider;
use bridge_transport::{Phase, Text};
use bridge_workspace::{lock, status};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    daemon::{self, Plane},
    render::plain,
    report::{Exit, Problem},
    settings::{Settings, variable},
    state::StateFolder,
};

/// Looks at everything; changes nothing.
pub(crate) async fn run(as_json: bool) -> Result<Exit, Problem> {
    let settings = Settings::load(None)?;
    let providers = daemon::providers(&settings)?;
    let troubles = troubles(&settings)?;
    let (plane, agents) = tokio::join!(plane(&settings), agents(&providers, &troubles));
    let files: Vec<Value> = settings
        .discovery
        .looked
        .iter()
        .map(|(path, found)| json!({ "path": path, "found": found }))
        .collect();
    let warnings: Vec<String> = settings
        .discovery
        .warnings
        .iter()
        .map(ToString::to_string)
        .collect();
    let report = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "workspace": settings.base,
        "contents": settings.contents(),
        "rules": settings.rules_file.as_ref().map(|file| json!({
            "file": file, "count": settings.rules.0.len(),
        })),
        "files": files,
        "warnings": warnings,
        "plane": plane,
        "agents": agents,
    });
    let text = if as_json {
        serde_json::to_string_pretty(&report)
            .map_err(|error| Problem::new("the report cannot be written").because(error))?
    } else {
        readable(&report)
    };
    writeln!(io::stdout(), "{}", text.trim_end()).map_err(Problem::output)?;
    let good = report["plane"]["reachable"] != false
        && agents.iter().any(|agent| agent["available"] == true);
    Ok(if good {
        Exit::Done
    } else {
        Exit::NotConfigured
    })
}

/// One real dial of the control plane, without greeting it as a bridge would.
async fn plane(settings: &Settings) -> Value {
    let url = settings.url().to_owned();
    let from = settings
        .pairing
        .file
        .as_ref()
        .map(|file| file.display().to_string());
    let Some(token) = settings.pairing.token.clone() else {
        return json!({
            "url": url, "token": false, "reachable": false,
            "what": "not paired", "todo": "run `ctrlnode setup`, or `ctrlnode up` to try it here",
        });
    };
    if let Some(holder) = lock::holder(&settings.base.join(".ctrlnode")) {
        // A plane keeps one connection for a token: a second one would take the bridge off it.
        return json!({
            "url": url, "token": true, "token_from": from, "reachable": null,
            "what": format!("not asked: the bridge runs (process {}), its log tells", holder.pid),
        });
    }
    let answer = |reachable: bool, what: String, todo: Option<&str>| {
        json!({
            "url": url, "token": true, "token_from": from,
            "reachable": reachable, "what": what, "todo": todo,
        })
    };
    let dial = Plane {
        url: url.clone(),
        token: watch::channel(token).1,
    };
    let endpoint = match daemon::endpoint(settings, dial) {
        Ok(endpoint) => endpoint,
        Err(problem) => return answer(false, problem.with_causes(), problem.what_to_do()),
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
    handle.shutdown(Duration::from_secs(1)).await;
    let Some(state) = settled else {
        return answer(
            false,
            "no answer in time".into(),
            Some("check network and proxy settings"),
        );
    };
    let error = state.last_error.unwrap_or_default();
    match state.phase {
        Phase::Online => answer(true, "connected".into(), None),
        Phase::AuthRequired => answer(
            false,
            error,
            Some("the token is not accepted; run `ctrlnode setup` again"),
        ),
        Phase::Dialing | Phase::Waiting | Phase::Draining | Phase::Stopped => answer(
            false,
            error,
            Some("check the address, the network and the proxy settings"),
        ),
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
        format!("contents   {}", text(&report["contents"])),
    ];
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
    for warning in report["warnings"].as_array().into_iter().flatten() {
        lines.push(format!("warning    {}", text(warning)));
    }
    let plane = &report["plane"];
    lines.push(String::new());
    lines.push(format!("plane      {}", text(&plane["url"])));
    let mark = if plane["reachable"] == false {
        "✗"
    } else {
        "✓"
    };
    lines.push(format!("         {mark} {}", text(&plane["what"])));
    lines.extend(todo(&plane["todo"]));
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

/// A version and a login state take a second; a cold start several.
const PROBE_LIMIT: Duration = Duration::from_secs(15);
