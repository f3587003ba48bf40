//! The layers of our own crates, read from `cargo metadata`: who may depend on whom, and what the
//! words must never reach.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::run::{Done, Failure, cargo, read, say};

/// Every crate of the workspace with the crates of ours it may depend on, at most.
const ALLOWED: &[(&str, &[&str])] = &[
    ("bridge-proto", &[]),
    ("bridge-transport", &[]),
    ("bridge-providers", &["bridge-proto"]),
    ("bridge-workspace", &["bridge-proto"]),
    ("bridge-hub", &["bridge-proto", "bridge-transport"]),
    (
        "bridge-runtime",
        &[
            "bridge-proto",
            "bridge-transport",
            "bridge-providers",
            "bridge-workspace",
        ],
    ),
    (
        "bridge-cli",
        &[
            "bridge-proto",
            "bridge-transport",
            "bridge-providers",
            "bridge-workspace",
            "bridge-runtime",
            "bridge-hub",
        ],
    ),
    (
        "bridge-testkit",
        &[
            "bridge-proto",
            "bridge-transport",
            "bridge-providers",
            "bridge-workspace",
            "bridge-runtime",
            "bridge-hub",
            "bridge-cli",
        ],
    ),
    ("bridge-examples", &["bridge-transport"]),
    ("xtask", &[]),
];

/// What the words must not reach by any way: no runtime, no sockets, no randomness.
const PURE: (&str, &[&str]) = (
    "bridge-proto",
    &["tokio", "mio", "socket2", "getrandom", "rand"],
);

/// What lives in one crate only: the dependency and who may name it. The gateway of OpenClaw is
/// an agent that is reached by WebSocket, so the providers may open one as well.
const OWNED: &[(&str, &[&str])] = &[
    (
        "tokio-tungstenite",
        &[
            "bridge-transport",
            "bridge-providers",
            "bridge-testkit",
            "bridge-examples",
        ],
    ),
    ("rusqlite", &["bridge-hub"]),
    ("axum", &["bridge-hub", "bridge-testkit"]),
    ("clap", &["bridge-cli", "xtask"]),
    ("cap-std", &["bridge-workspace", "bridge-providers"]),
    ("notify", &["bridge-workspace"]),
    ("notify-debouncer-full", &["bridge-workspace"]),
];

/// Checks the graph; names every wrong edge.
pub(crate) fn check() -> Done {
    let mut metadata = cargo();
    metadata.args(["metadata", "--format-version", "1", "--locked"]);
    let metadata: Value = serde_json::from_str(&read(&mut metadata)?)
        .map_err(|error| Failure(format!("cargo metadata: {error}")))?;
    let wrong = violations(&metadata);
    if wrong.is_empty() {
        say(&format!("layers: {} crates, no wrong edge", ALLOWED.len()));
        return Ok(());
    }
    Err(Failure(format!("layers:\n  {}", wrong.join("\n  "))))
}

fn violations(metadata: &Value) -> Vec<String> {
    let members: BTreeSet<&str> = strings(&metadata["workspace_members"]).collect();
    let packages = metadata["packages"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let names: BTreeMap<&str, &str> = packages
        .iter()
        .filter_map(|package| Some((package["id"].as_str()?, package["name"].as_str()?)))
        .collect();
    let mut wrong = Vec::new();
    for package in packages {
        let (Some(id), Some(name)) = (package["id"].as_str(), package["name"].as_str()) else {
            continue;
        };
        if !members.contains(id) {
            continue;
        }
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
            wrong.push(format!("{name} has no place in the layers; give it one"));
            continue;
        };
        let dependencies = package["dependencies"].as_array().map(Vec::as_slice);
        for dependency in dependencies.unwrap_or_default() {
            let Some(on) = dependency["name"].as_str() else {
                continue;
            };
            let in_tests = dependency["kind"].as_str() == Some("dev");
            let ours = ALLOWED.iter().any(|(known, _)| *known == on);
            if ours && !allowed.contains(&on) {
                wrong.push(format!("{name} must not depend on {on}"));
            }
            let owners = OWNED
                .iter()
                .find(|(owned, _)| *owned == on)
                .map(|(_, owners)| owners);
            if owners.is_some_and(|owners| !in_tests && !owners.contains(&name)) {
                wrong.push(format!("{name} must not name {on}, which lives elsewhere"));
            }
        }
    }
    wrong.extend(impure(metadata, &names));
    wrong
}

/// What the pure crate reaches over normal dependencies.
fn impure(metadata: &Value, names: &BTreeMap<&str, &str>) -> Vec<String> {
    let nodes = metadata["resolve"]["nodes"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let reaches: BTreeMap<&str, Vec<&str>> = nodes
        .iter()
        .filter_map(|node| {
            let normal = |dep: &&Value| {
                let kinds = dep["dep_kinds"]
                    .as_array()
                    .map(Vec::as_slice)
                    .unwrap_or_default();
                kinds.iter().any(|kind| kind["kind"].is_null())
            };
            let deps = node["deps"].as_array()?.iter().filter(normal);
            Some((
                node["id"].as_str()?,
                deps.filter_map(|dep| dep["pkg"].as_str()).collect(),
            ))
        })
        .collect();
    let (crate_name, banned) = PURE;
    let mut open: Vec<&str> = names
        .iter()
        .filter(|(_, name)| **name == crate_name)
        .map(|(id, _)| *id)
        .collect();
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        if let Some(name) = names.get(id).filter(|name| banned.contains(name)) {
            wrong.push(format!("{crate_name} reaches {name}"));
        }
        open.extend(reaches.get(id).into_iter().flatten());
    }
    wrong
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn graph(from: &str, on: &str) -> Value {
        json!({
            "workspace_members": ["a"],
            "packages": [
                {"id": "a", "name": from, "dependencies": [{"name": on, "kind": null}]},
                {"id": "b", "name": on, "dependencies": []},
            ],
            "resolve": {"nodes": [
                {"id": "a", "deps": [{"pkg": "b", "dep_kinds": [{"kind": null}]}]},
                {"id": "b", "deps": []},
            ]},
        })
    }

    #[test]
    fn a_sibling_import_fails() {
        assert_eq!(
            violations(&graph("bridge-hub", "bridge-workspace")),
            ["bridge-hub must not depend on bridge-workspace"]
        );
        assert_eq!(violations(&graph("bridge-hub", "bridge-proto")), [""; 0]);
    }

    #[test]
    fn a_runtime_below_the_words_fails() {
        assert_eq!(
            violations(&graph("bridge-proto", "tokio")),
            ["bridge-proto reaches tokio"]
        );
    }

    #[test]
    fn a_stray_socket_library_and_a_crate_without_a_place_fail() {
        assert_eq!(
            violations(&graph("bridge-runtime", "tokio-tungstenite")),
            ["bridge-runtime must not name tokio-tungstenite, which lives elsewhere"]
        );
        assert_eq!(
            violations(&graph("bridge-extra", "serde")),
            ["bridge-extra has no place in the layers; give it one"]
        );
    }
}
