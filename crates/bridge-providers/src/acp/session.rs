//! What an agent says it can do, and which models and modes its session offers.

use serde_json::{Value, json};

/// The parts of `agentCapabilities` that change what is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Capabilities {
    pub(crate) load: bool,
    pub(crate) resume: bool,
    pub(crate) extra_directories: bool,
}

impl Capabilities {
    /// From the result of `initialize`.
    pub(crate) fn read(result: &Value) -> Self {
        let on = |pointer: &str| {
            result
                .pointer(pointer)
                .is_some_and(|value| !value.is_null() && value.as_bool() != Some(false))
        };
        Self {
            load: result
                .pointer("/agentCapabilities/loadSession")
                .and_then(Value::as_bool)
                == Some(true),
            resume: on("/agentCapabilities/sessionCapabilities/resume"),
            extra_directories: on("/agentCapabilities/sessionCapabilities/additionalDirectories"),
        }
    }
}

/// The models and modes of a session. Agents offer them in two ways: as `models` and `modes`, or
/// as options of the session's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Offer {
    models: Choices,
    modes: Choices,
    model_option: Option<ConfigOption>,
    mode_option: Option<ConfigOption>,
    effort_option: Option<ConfigOption>,
    /// Efforts come as options only.
    no_efforts: Choices,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Choices {
    current: Option<String>,
    ids: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ConfigOption {
    id: String,
    choices: Choices,
}

/// What can be chosen in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Setting {
    Model,
    Mode,
    /// How much the model thinks.
    Effort,
}

impl Setting {
    pub(crate) const ALL: [Self; 3] = [Self::Model, Self::Mode, Self::Effort];

    /// What a person calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Mode => "mode",
            Self::Effort => "thinking effort",
        }
    }
}

impl Offer {
    /// From the result of `session/new`, `session/load` or `session/resume`.
    pub(crate) fn read(result: &Value) -> Self {
        let mut offer = Self {
            models: Choices {
                current: text(result.pointer("/models/currentModelId")),
                ids: ids(result.pointer("/models/availableModels"), "modelId"),
            },
            modes: Choices {
                current: text(result.pointer("/modes/currentModeId")),
                ids: ids(result.pointer("/modes/availableModes"), "id"),
            },
            ..Self::default()
        };
        offer.read_options(result);
        offer
    }

    /// From anything that carries the whole `configOptions`.
    pub(crate) fn read_options(&mut self, holder: &Value) {
        let Some(options) = holder.get("configOptions").and_then(Value::as_array) else {
            return;
        };
        let find = |names: &[&str]| {
            options.iter().find_map(|option| {
                let id = option.get("id")?.as_str()?;
                let category = option.get("category").and_then(Value::as_str);
                if !names.contains(&category.unwrap_or(id)) {
                    return None;
                }
                Some(ConfigOption {
                    id: id.to_owned(),
                    choices: Choices {
                        current: text(option.get("currentValue")),
                        ids: ids(option.get("options"), "value"),
                    },
                })
            })
        };
        self.model_option = find(&["model"]);
        self.mode_option = find(&["mode"]);
        self.effort_option = find(&["thought_level", "effort"]);
    }

    /// What is in force.
    pub(crate) fn current(&self, setting: Setting) -> Option<&str> {
        let (choices, option) = self.places(setting);
        choices
            .current
            .as_deref()
            .or_else(|| option?.choices.current.as_deref())
    }

    /// Notes what is in force now.
    pub(crate) fn set_current(&mut self, setting: Setting, value: &str) {
        match setting {
            Setting::Model => self.models.current = Some(value.to_owned()),
            Setting::Mode => self.modes.current = Some(value.to_owned()),
            Setting::Effort => {
                if let Some(option) = &mut self.effort_option {
                    option.choices.current = Some(value.to_owned());
                }
            }
        }
    }

    /// Every model offered, the current one first.
    pub(crate) fn models(&self) -> Vec<String> {
        let (choices, option) = self.places(Setting::Model);
        let ids = if choices.ids.is_empty() {
            option
                .map(|option| option.choices.ids.clone())
                .unwrap_or_default()
        } else {
            choices.ids.clone()
        };
        let current = self.current(Setting::Model).map(str::to_owned);
        let rest = ids.into_iter().filter(|id| Some(id) != current.as_ref());
        current.iter().cloned().chain(rest).collect()
    }

    /// What the session offers under this name: its id, or a mode whose id ends so behind a `#`.
    pub(crate) fn find(&self, setting: Setting, wanted: &str) -> Option<&str> {
        let (choices, option) = self.places(setting);
        let options = option.map(|option| option.choices.ids.iter());
        let all = || {
            choices
                .ids
                .iter()
                .chain(options.clone().into_iter().flatten())
        };
        all()
            .find(|id| *id == wanted)
            .or_else(|| all().find(|id| setting == Setting::Mode && short_name(id) == wanted))
            .map(String::as_str)
    }

    /// The request that chooses `wanted`, an id; `None` when the session does not offer it.
    pub(crate) fn choose(
        &self,
        setting: Setting,
        session: &str,
        wanted: &str,
    ) -> Option<(&'static str, Value)> {
        let (choices, option) = self.places(setting);
        let has = |choices: &Choices| choices.ids.iter().any(|id| id == wanted);
        if has(choices) {
            let (method, key) = match setting {
                Setting::Model => ("session/set_model", "modelId"),
                Setting::Mode => ("session/set_mode", "modeId"),
                Setting::Effort => return None,
            };
            return Some((method, json!({ "sessionId": session, key: wanted })));
        }
        let option = option.filter(|option| has(&option.choices))?;
        Some((
            "session/set_config_option",
            json!({ "sessionId": session, "configId": option.id, "value": wanted }),
        ))
    }

    fn places(&self, setting: Setting) -> (&Choices, Option<&ConfigOption>) {
        match setting {
            Setting::Model => (&self.models, self.model_option.as_ref()),
            Setting::Mode => (&self.modes, self.mode_option.as_ref()),
            Setting::Effort => (&self.no_efforts, self.effort_option.as_ref()),
        }
    }
}

/// What a person calls a mode: some agents use addresses as ids, with the name behind a `#`.
pub(crate) fn short_name(id: &str) -> &str {
    match id.rsplit_once('#') {
        Some((_, name)) if !name.is_empty() => name,
        Some(_) | None => id,
    }
}

fn text(value: Option<&Value>) -> Option<String> {
    value?.as_str().map(str::to_owned)
}

/// The ids of a list, which may be grouped one level deep.
fn ids(list: Option<&Value>, key: &str) -> Vec<String> {
    let Some(list) = list.and_then(Value::as_array) else {
        return Vec::new();
    };
    list.iter()
        .flat_map(
            |entry| match entry.get("options").and_then(Value::as_array) {
                Some(group) => group.iter().collect::<Vec<_>>(),
                None => vec![entry],
            },
        )
        .filter_map(|entry| text(entry.get(key)))
        .take(MAX_CHOICES)
        .collect()
}

/// More than any agent offers.
const MAX_CHOICES: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chooses_by_whatever_way_the_session_offers_and_not_what_it_does_not() {
        let gemini = Offer::read(&json!({"models": {"currentModelId": "auto",
            "availableModels": [{"modelId": "pro"}, {"modelId": "auto"}]}}));
        assert_eq!(gemini.models(), ["auto", "pro"]);
        assert_eq!(
            gemini
                .choose(Setting::Model, "s", "pro")
                .map(|(method, _)| method),
            Some("session/set_model")
        );
        assert_eq!(gemini.choose(Setting::Model, "s", "nonsense"), None);

        let opencode = Offer::read(&json!({"configOptions": [
            {"id": "m", "category": "model", "currentValue": "a/b",
             "options": [{"name": "group", "options": [{"value": "a/b"}, {"value": "a/c"}]}]},
            {"id": "mode", "currentValue": "build", "options": [{"value": "plan"}]}]}));
        assert_eq!(opencode.models(), ["a/b", "a/c"]);
        assert_eq!(
            opencode.choose(Setting::Model, "s", "a/c"),
            Some((
                "session/set_config_option",
                json!({"sessionId": "s", "configId": "m", "value": "a/c"})
            ))
        );
        assert_eq!(opencode.current(Setting::Mode), Some("build"));
    }

    #[test]
    fn ids_that_are_addresses_are_found_by_the_name_behind_their_sign() {
        let copilot = Offer::read(&json!({"modes": {"currentModeId": "https://x/modes#agent",
            "availableModes": [{"id": "https://x/modes#agent"}, {"id": "https://x/modes#plan"}]}}));
        let plan = copilot.find(Setting::Mode, "plan").unwrap();
        assert_eq!(plan, "https://x/modes#plan");
        assert_eq!(short_name(plan), "plan");
        assert_eq!(copilot.find(Setting::Mode, plan), Some(plan));
        assert_eq!(copilot.find(Setting::Mode, "yolo"), None);
        assert_eq!(short_name("a#"), "a#");
    }

    #[test]
    fn capabilities_count_only_when_they_are_really_there() {
        let read = Capabilities::read(&json!({"agentCapabilities": {"loadSession": "yes",
            "sessionCapabilities": {"resume": {}, "additionalDirectories": null}}}));
        assert_eq!(
            read,
            Capabilities {
                load: false,
                resume: true,
                extra_directories: false
            }
        );
    }
}
