//! The side channel of the wire: what a bridge asks a control plane over HTTP, without a token,
//! both halves. Every address is below the plane's own.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::frames::to_text;
use crate::{id::ProviderKey, model::ModelManifest};

/// `GET`: the newest version of the bridge.
pub const VERSION_PATH: &str = "/api/bridge/version";
/// `GET`: the models of each provider.
pub const MODELS_PATH: &str = "/api/bridge/models";
/// `GET`: which providers the plane has agents for.
pub const AGENT_TYPES_PATH: &str = "/api/agent-types";

/// The newest version, in an answer to [`VERSION_PATH`]; without a leading `v`, digits and dots.
pub fn read_version(body: &[u8]) -> Option<String> {
    let body: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let version = body.get("version")?.as_str()?.trim();
    let version = version.strip_prefix('v').unwrap_or(version);
    let good = version.len() <= 40 && version.chars().all(|c| c.is_ascii_digit() || c == '.');
    (good && !version.is_empty()).then(|| version.to_owned())
}

/// Whether a version is newer than another, part by part; a part that is missing is 0.
pub fn is_newer(version: &str, than: &str) -> bool {
    let parts = |version: &str| -> Vec<u64> {
        let version = version.strip_prefix('v').unwrap_or(version);
        let parts = version.split('.').map(|part| part.parse().unwrap_or(0));
        let mut parts: Vec<u64> = parts.collect();
        while parts.last() == Some(&0) {
            parts.pop();
        }
        parts
    };
    parts(version) > parts(than)
}

/// The answer to [`VERSION_PATH`] of a plane that has no programs to download.
pub fn write_version(version: &str) -> String {
    to_text(&serde_json::json!({
        "version": format!("v{version}"), "releaseUrl": null, "downloadUrlTemplate": null,
    }))
}

/// The manifest in an answer to [`MODELS_PATH`].
pub fn read_models(body: &[u8]) -> Option<ModelManifest> {
    let body: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let version = body.get("version").and_then(Value::as_str);
    Some(ModelManifest::of(
        version,
        body.get("providers")?.as_object()?,
    ))
}

/// The answer to [`MODELS_PATH`].
pub fn write_models(manifest: &ModelManifest) -> String {
    to_text(manifest)
}

/// The providers in an answer to [`AGENT_TYPES_PATH`]; at most 64.
pub fn read_agent_types(body: &[u8]) -> Option<BTreeSet<ProviderKey>> {
    let body: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let types = body.get("providerKeyByAgentType")?.as_object()?.values();
    let keys = types.filter_map(|key| ProviderKey::parse(key.as_str()?).ok());
    Some(keys.take(MAX_TYPES).collect())
}

/// The answer to [`AGENT_TYPES_PATH`]: everything the published wire has a name for.
pub fn write_agent_types() -> String {
    let types: Map<String, Value> = AGENT_TYPES
        .into_iter()
        .map(|(name, key)| (name.to_owned(), key.into()))
        .collect();
    to_text(&serde_json::json!({ "providerKeyByAgentType": types }))
}

/// Names of agent types with the keys of their providers.
const AGENT_TYPES: [(&str, &str); 10] = [
    ("OpenClaw", "openclaw"),
    ("ClaudeCode", "claude"),
    ("ClaudeAgentSdk", "claude-sdk"),
    ("Copilot", "copilot"),
    ("Gemini", "gemini"),
    ("CodexSdk", "codex"),
    ("Cursor", "cursor"),
    ("Hermes", "hermes"),
    ("OpenRouter", "openrouter"),
    ("Ollama", "ollama"),
];
const MAX_TYPES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_halves_understand_each_other() {
        assert_eq!(
            read_version(write_version("0.1.0").as_bytes()).as_deref(),
            Some("0.1.0")
        );
        let keys = read_agent_types(write_agent_types().as_bytes()).unwrap();
        assert_eq!(keys.len(), AGENT_TYPES.len());
        let manifest = ModelManifest {
            version: Some("2026-03-10".into()),
            providers: [(ProviderKey::parse("gemini").unwrap(), vec!["m".to_owned()])].into(),
        };
        let read = read_models(write_models(&manifest).as_bytes());
        assert_eq!(read, Some(manifest));
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        for (newer, older) in [
            ("v2026.10.1", "2026.9.30"),
            ("1.0.1", "1.0"),
            ("1.10", "v1.9.9"),
        ] {
            assert!(
                is_newer(newer, older) && !is_newer(older, newer),
                "{newer} {older}"
            );
        }
        assert!(!is_newer("1.0.0", "1") && !is_newer("x", "0.0"));
    }

    #[test]
    fn garbage_is_no_answer() {
        for body in [
            "",
            "null",
            "[]",
            "{}",
            "<html>",
            r#"{"version":7}"#,
            r#"{"version":"1; rm -rf"}"#,
            r#"{"providers":[]}"#,
            r#"{"providerKeyByAgentType":[]}"#,
        ] {
            let body = body.as_bytes();
            let nothing = (
                read_version(body),
                read_models(body),
                read_agent_types(body),
            );
            assert_eq!(
                nothing,
                (None, None, None),
                "{}",
                String::from_utf8_lossy(body)
            );
        }
    }
}
