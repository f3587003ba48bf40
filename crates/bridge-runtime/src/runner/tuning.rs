//! Which settings a conversation has to be told, and what cannot be changed now.

use bridge_proto::model::{Choosing, Tuning};
use bridge_providers::provider::Abilities;

/// What follows from the settings somebody wants.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// To be told to the conversation as it is.
    pub(super) now: Tuning,
    /// Names of settings that this agent takes only when a conversation begins.
    pub(super) at_start: Vec<&'static str>,
    /// Names of settings that this agent does not let anybody choose.
    pub(super) never: Vec<&'static str>,
}

impl Changes {
    /// What has to change in a conversation that was asked for `asked` before; `begun` when it
    /// already had a prompt.
    pub(super) fn between(
        asked: &Tuning,
        wanted: &Tuning,
        abilities: Abilities,
        begun: bool,
    ) -> Self {
        let mut changes = Self::default();
        let mut sort = |name, asked: &Option<String>, wanted: &Option<String>, choosing| {
            let fresh = wanted.clone().filter(|_| wanted != asked)?;
            match choosing {
                Choosing::AnyTime => return Some(fresh),
                Choosing::AtStart if !begun => return Some(fresh),
                Choosing::AtStart => changes.at_start.push(name),
                Choosing::Never => changes.never.push(name),
            }
            None
        };
        let now = Tuning {
            model: sort("model", &asked.model, &wanted.model, abilities.model),
            mode: sort("mode", &asked.mode, &wanted.mode, abilities.mode),
            effort: sort(
                "thinking effort",
                &asked.effort,
                &wanted.effort,
                abilities.effort,
            ),
        };
        Self { now, ..changes }
    }

    /// What a person has to know about it.
    pub(super) fn words(&self) -> Option<String> {
        let never = (!self.never.is_empty()).then(|| {
            let names = self.never.join(", ");
            format!("This agent offers no choice of {names}; its own stays in force.")
        });
        let later = (!self.at_start.is_empty()).then(|| {
            let names = self.at_start.join(", ");
            format!("The {names} cannot be changed while this conversation goes on.")
        });
        let all: Vec<String> = never.into_iter().chain(later).collect();
        (!all.is_empty()).then(|| all.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuning(model: Option<&str>, mode: Option<&str>, effort: Option<&str>) -> Tuning {
        Tuning {
            model: model.map(str::to_owned),
            mode: mode.map(str::to_owned),
            effort: effort.map(str::to_owned),
        }
    }

    fn agent() -> Abilities {
        Abilities {
            model: Choosing::AnyTime,
            mode: Choosing::AtStart,
            effort: Choosing::Never,
            ..Abilities::default()
        }
    }

    #[test]
    fn only_what_differs_is_told_and_each_setting_when_its_agent_takes_it() {
        let wanted = tuning(Some("large"), Some("plan"), Some("high"));
        let none = Tuning::default();
        let first = Changes::between(&none, &wanted, agent(), false);
        assert_eq!(first.now, tuning(Some("large"), Some("plan"), None));
        assert_eq!(
            (first.at_start.len(), &first.never[..]),
            (0, &["thinking effort"][..])
        );
        let later = Changes::between(&none, &wanted, agent(), true);
        assert_eq!(later.now, tuning(Some("large"), None, None));
        assert_eq!(later.at_start, ["mode"]);
        let again = Changes::between(&wanted, &wanted, agent(), true);
        assert_eq!((&again, again.words()), (&Changes::default(), None));
        let untouched = Changes::between(&wanted, &none, agent(), true);
        assert_eq!(
            untouched,
            Changes::default(),
            "what is absent is not touched"
        );
    }

    #[test]
    fn what_could_not_be_changed_is_said() {
        let wanted = tuning(None, Some("plan"), Some("high"));
        let changes = Changes::between(&Tuning::default(), &wanted, agent(), true);
        assert_eq!(
            changes.words().unwrap(),
            "This agent offers no choice of thinking effort; its own stays in force. The mode \
             cannot be changed while this conversation goes on."
        );
    }
}
