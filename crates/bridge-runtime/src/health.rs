//! Which providers can run here: look-ups every minute, the programs themselves only when a
//! look-up changed, and services that did not answer every time. Pure bookkeeping; the supervisor does the looking.

use std::collections::{BTreeMap, BTreeSet};

use bridge_proto::{
    ProviderKey,
    model::{Health, HealthReason},
};

/// What is known of every provider.
#[derive(Debug, Default)]
pub struct HealthBoard {
    found: BTreeMap<ProviderKey, Health>,
    probed: BTreeMap<ProviderKey, Health>,
}

impl HealthBoard {
    /// Takes what the look-ups say; gives the providers that have to be probed, because they are
    /// new or changed, or because a service did not answer the last time: no look-up shows that
    /// it was started.
    pub fn on_scan(&mut self, found: BTreeMap<ProviderKey, Health>) -> BTreeSet<ProviderKey> {
        let changed: BTreeSet<ProviderKey> = found
            .iter()
            .filter(|(key, health)| self.found.get(*key) != Some(*health))
            .map(|(key, _)| key.clone())
            .collect();
        self.probed
            .retain(|key, _| !changed.contains(key) && found.contains_key(key));
        self.found = found;
        let silent = self
            .probed
            .iter()
            .filter(|(_, health)| health.reason == Some(HealthReason::ServiceUnreachable))
            .map(|(key, _)| key.clone());
        changed
            .into_iter()
            .chain(silent)
            .filter(|key| self.found[key].available)
            .collect()
    }

    /// Takes what a program said of itself; wins over the look-ups until they change.
    pub fn on_probe(&mut self, key: ProviderKey, health: Health) {
        if self.found.contains_key(&key) {
            self.probed.insert(key, health);
        }
    }

    /// The whole map as it is reported.
    pub fn report(&self) -> BTreeMap<ProviderKey, Health> {
        let best = |key: &ProviderKey, found: &Health| {
            let health = self.probed.get(key).unwrap_or(found);
            (key.clone(), health.clone())
        };
        self.found
            .iter()
            .map(|(key, found)| best(key, found))
            .collect()
    }

    /// Whether a task could be started with this provider, as far as is known.
    pub fn is_available(&self, key: &ProviderKey) -> bool {
        let known = self.probed.get(key).or_else(|| self.found.get(key));
        known.is_some_and(|health| health.available)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> ProviderKey {
        ProviderKey::parse(text).unwrap()
    }

    fn health(available: bool, version: Option<&str>) -> Health {
        Health {
            available,
            reason: (!available).then_some(HealthReason::BinaryMissing),
            version: version.map(Into::into),
            hint: None,
        }
    }

    #[test]
    fn a_service_that_did_not_answer_is_asked_again_until_it_does() {
        let mut board = HealthBoard::default();
        let here = || BTreeMap::from([(key("ollama"), health(true, None))]);
        let silent = || Health {
            reason: Some(HealthReason::ServiceUnreachable),
            ..health(false, None)
        };
        let again = BTreeSet::from([key("ollama")]);
        assert_eq!(board.on_scan(here()), again);
        board.on_probe(key("ollama"), silent());
        assert_eq!(board.on_scan(here()), again);
        assert!(!board.is_available(&key("ollama")), "not before it answers");
        board.on_probe(key("ollama"), health(true, Some("0.9")));
        assert!(board.is_available(&key("ollama")));
        assert_eq!(board.on_scan(here()), BTreeSet::new());
    }

    #[test]
    fn a_program_is_probed_when_its_look_up_changes_and_not_before() {
        let mut board = HealthBoard::default();
        let here = || {
            BTreeMap::from([
                (key("claude"), health(true, None)),
                (key("x"), health(false, None)),
            ])
        };
        assert_eq!(board.on_scan(here()), BTreeSet::from([key("claude")]));
        board.on_probe(key("claude"), health(true, Some("2.1")));
        assert_eq!(board.on_scan(here()), BTreeSet::new());
        assert_eq!(
            board.report()[&key("claude")].version.as_deref(),
            Some("2.1")
        );
        board.on_scan(BTreeMap::from([(key("claude"), health(false, None))]));
        assert!(
            !board.is_available(&key("claude")),
            "an old probe does not outlive a change"
        );
        assert!(
            !board.is_available(&key("x")),
            "nor does a provider that is gone"
        );
    }

    #[test]
    fn a_service_that_did_not_answer_is_asked_again_and_nobody_else() {
        let mut board = HealthBoard::default();
        let here = || {
            BTreeMap::from([
                (key("gateway"), health(true, None)),
                (key("program"), health(true, None)),
            ])
        };
        board.on_scan(here());
        let failed = |reason| Health {
            reason: Some(reason),
            ..health(false, None)
        };
        board.on_probe(key("gateway"), failed(HealthReason::ServiceUnreachable));
        board.on_probe(key("program"), failed(HealthReason::BinaryMissing));
        assert_eq!(board.on_scan(here()), BTreeSet::from([key("gateway")]));
        assert!(!board.is_available(&key("gateway")), "until it answers");
        board.on_probe(key("gateway"), health(true, None));
        assert_eq!(board.on_scan(here()), BTreeSet::new());
    }
}
