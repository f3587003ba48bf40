//! What the control plane says of models and providers, beside what the programs say themselves.
//! Pure bookkeeping: the file and the network are others' affair.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bridge_proto::{ProviderKey, Timestamp, model::ModelManifest};
use serde::{Deserialize, Serialize};

/// What was heard over the side channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SideWord {
    /// The plane's list of models.
    Models(ModelManifest),
    /// The providers the plane has agents for.
    Providers(BTreeSet<ProviderKey>),
}

/// A manifest with the time it was heard, as the file keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptManifest {
    /// The plane's, or the day it came.
    pub version: String,
    /// When it came.
    pub fetched_at: Timestamp,
    /// By provider.
    pub providers: BTreeMap<ProviderKey, Vec<String>>,
}

impl KeptManifest {
    /// What came now.
    pub fn new(manifest: ModelManifest, now: Timestamp) -> Self {
        let day = || now.to_string().chars().take(10).collect();
        Self {
            version: manifest.version.unwrap_or_else(day),
            fetched_at: now,
            providers: manifest.providers,
        }
    }

    /// What the file says; `None` if it cannot be read.
    pub fn parse(content: &[u8]) -> Option<Self> {
        serde_json::from_slice(content).ok()
    }

    /// Whether it need not be asked for again: it is not a day old, and not from the future.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        let age = now.as_millis().checked_sub(self.fetched_at.as_millis());
        let age = age.and_then(|age| u64::try_from(age).ok());
        age.is_some_and(|age| Duration::from_millis(age) < FRESH)
    }
}

/// What the plane said, as far as it is known.
#[derive(Debug, Default)]
pub struct PlaneWords {
    manifest: BTreeMap<ProviderKey, Vec<String>>,
    providers: BTreeSet<ProviderKey>,
}

impl PlaneWords {
    /// Takes a list of models in place of the one before; whether it differs.
    pub fn on_manifest(&mut self, manifest: BTreeMap<ProviderKey, Vec<String>>) -> bool {
        let differs = self.manifest != manifest;
        self.manifest = manifest;
        differs
    }

    /// Takes the providers the plane has agents for; whether they differ. None means all.
    pub fn on_providers(&mut self, providers: BTreeSet<ProviderKey>) -> bool {
        let differs = self.providers != providers;
        self.providers = providers;
        differs
    }

    /// The models of a provider that did not name its own.
    pub fn models(&self, key: &ProviderKey) -> Option<&Vec<String>> {
        // Both keys of Claude stand for one program.
        let twin = if key.as_str() == "claude-sdk" {
            "claude"
        } else {
            key.as_str()
        };
        self.manifest.get(key).or_else(|| self.manifest.get(twin))
    }

    /// Of providers that could be shown, those the plane has agents for. If that would be none of
    /// them, all: a plane that has them renamed is better served with too many.
    pub fn narrowed<T>(&self, shown: Vec<T>, key: impl Fn(&T) -> &ProviderKey) -> Vec<T> {
        let wanted = |one: &T| self.providers.contains(key(one));
        if !shown.iter().any(wanted) {
            return shown;
        }
        shown.into_iter().filter(wanted).collect()
    }
}

const FRESH: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> ProviderKey {
        ProviderKey::parse(text).unwrap()
    }

    #[test]
    fn a_manifest_is_fresh_for_a_day_by_this_machines_clock() {
        let at = |hours: i64| Timestamp::from_millis(hours * 3_600_000);
        let kept = KeptManifest::new(ModelManifest::default(), at(100));
        assert_eq!(kept.version, "1970-01-05");
        assert!(kept.is_fresh(at(100)) && kept.is_fresh(at(123)));
        assert!(!kept.is_fresh(at(124)) && !kept.is_fresh(at(99)));
        let text = serde_json::to_vec(&kept).unwrap();
        assert_eq!(KeptManifest::parse(&text), Some(kept));
        assert_eq!(KeptManifest::parse(b"{\"version\":"), None);
    }

    #[test]
    fn providers_are_narrowed_but_never_to_nothing() {
        let mut words = PlaneWords::default();
        let narrowed = |words: &PlaneWords, all: &[&str]| -> Vec<String> {
            let all = all.iter().map(|text| key(text)).collect();
            let left = words.narrowed(all, |key| key);
            left.iter().map(ToString::to_string).collect()
        };
        assert_eq!(narrowed(&words, &["codex", "gemini"]), ["codex", "gemini"]);
        words.on_providers([key("gemini"), key("hermes")].into());
        assert_eq!(narrowed(&words, &["codex", "gemini"]), ["gemini"]);
        assert_eq!(narrowed(&words, &["codex", "cursor"]), ["codex", "cursor"]);
    }

    #[test]
    fn both_keys_of_claude_have_its_models() {
        let mut words = PlaneWords::default();
        let manifest = BTreeMap::from([(key("claude"), vec!["m".to_owned()])]);
        assert!(words.on_manifest(manifest.clone()));
        assert!(!words.on_manifest(manifest));
        assert_eq!(words.models(&key("claude-sdk")).unwrap(), &["m"]);
        assert_eq!(words.models(&key("gemini")), None);
    }
}
