//! The models a control plane names for each provider.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::id::ProviderKey;

/// What providers offer by the word of a control plane, for those that cannot say it themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelManifest {
    /// Opaque; usually a date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// By provider; at most 64 of them, 500 models each, 200 characters a name.
    pub providers: BTreeMap<ProviderKey, Vec<String>>,
}

impl ModelManifest {
    /// Takes what can be used of a map of lists, and leaves the rest: an odd entry is no reason to
    /// know nothing.
    pub fn of(version: Option<&str>, providers: &Map<String, Value>) -> Self {
        let named = |name: &Value| {
            let name = name.as_str()?.trim();
            let good = !name.is_empty() && !name.chars().any(char::is_control);
            (good && name.chars().count() <= MAX_NAME).then(|| name.to_owned())
        };
        let lists = providers.iter().filter_map(|(key, list)| {
            let key = ProviderKey::parse(key).ok()?;
            let list = list.as_array()?.iter();
            Some((key, list.filter_map(named).take(MAX_MODELS).collect()))
        });
        let version = version.filter(|version| {
            !version.is_empty() && version.len() <= MAX_NAME && !version.contains(char::is_control)
        });
        Self {
            version: version.map(str::to_owned),
            providers: lists.take(MAX_PROVIDERS).collect(),
        }
    }
}

const MAX_PROVIDERS: usize = 64;
const MAX_MODELS: usize = 500;
/// Characters of a model's name.
const MAX_NAME: usize = 200;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_can_be_used_is_taken_and_everything_is_bounded() {
        let long = "x".repeat(201);
        let odd =
            json!({ "gemini": ["a", "", 7, "b\u{7}", long, " c "], "codex": "none", "": ["d"] });
        let read = |value: &Value| ModelManifest::of(Some("v"), value.as_object().unwrap());
        let manifest = read(&odd);
        let gemini = ProviderKey::parse("gemini").unwrap();
        let models = vec!["a".to_owned(), "c".to_owned()];
        assert_eq!(manifest.providers, BTreeMap::from([(gemini, models)]));
        let many: Map<String, Value> = (0..500)
            .map(|n| (format!("p{n}"), json!(vec!["m"; 1000])))
            .collect();
        let manifest = read(&Value::Object(many));
        assert_eq!(manifest.providers.len(), MAX_PROVIDERS);
        assert!(
            manifest
                .providers
                .values()
                .all(|list| list.len() == MAX_MODELS)
        );
    }
}
