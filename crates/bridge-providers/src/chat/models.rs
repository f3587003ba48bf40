//! Which models an endpoint offers, and whether the wanted one is among them. Pure.

use serde_json::Value;
use thiserror::Error;

use super::settings::{Api, ChatSettings};
use crate::plain::sentence;

/// The models of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    /// The one in use.
    pub(super) current: String,
    /// All that may be chosen, the current one among them.
    pub(super) models: Vec<String>,
}

/// Why no model can be used. The text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum NoModel {
    /// The user's own list has not got it.
    #[error("the model {model} is not among the allowed ones ({place}): {allowed}")]
    NotAllowed {
        model: String,
        place: String,
        allowed: String,
    },
    /// Ollama has not got it.
    #[error("the model {model} is not on this machine; run `ollama pull {model}`")]
    NotPulled { model: String },
    /// Nobody chose one and none is offered.
    #[error("no model is chosen and none is offered; {todo}")]
    None { todo: &'static str },
}

/// Reads a list in the shape of `/v1/models` or `/api/tags`; names beyond the first 2,000 and
/// odd ones are left out.
pub(super) fn read(document: &Value) -> Vec<String> {
    let list = document.get("data").or_else(|| document.get("models"));
    let list = list.unwrap_or(document).as_array();
    let name = |entry: &Value| {
        let name = ["id", "name", "model"]
            .iter()
            .find_map(|key| entry.get(key)?.as_str())
            .or_else(|| entry.as_str())?;
        let plain =
            !name.is_empty() && name.len() <= NAME_BYTES && !name.contains(char::is_control);
        plain.then(|| name.to_owned())
    };
    list.into_iter()
        .flatten()
        .filter_map(name)
        .take(MAX_MODELS)
        .collect()
}

/// What a session offers. `listed` is what the endpoint says; `None` where it says nothing, which
/// only Ollama may not do.
pub(super) fn offer(
    settings: &ChatSettings,
    listed: Option<Vec<String>>,
) -> Result<Offer, NoModel> {
    let listed = listed.unwrap_or_default();
    let mut models: Vec<String> = listed
        .iter()
        .filter(|model| settings.allows(model))
        .cloned()
        .collect();
    if models.is_empty() && settings.api == Api::OpenAi {
        models.clone_from(&settings.allowed);
    }
    let current = match &settings.model {
        Some(model) => wanted(settings, &listed, model)?,
        None => models.first().cloned().ok_or(NoModel::None {
            todo: match settings.api {
                Api::Ollama => "run `ollama pull <model>`",
                Api::OpenAi => "name a default model in the settings",
            },
        })?,
    };
    if !models.contains(&current) {
        models.insert(0, current.clone());
    }
    Ok(Offer { current, models })
}

fn wanted(settings: &ChatSettings, listed: &[String], model: &str) -> Result<String, NoModel> {
    if !settings.allows(model) {
        return Err(NoModel::NotAllowed {
            model: sentence(model, SHOWN_CHARS),
            place: settings.allowed_in.clone(),
            allowed: sentence(&settings.allowed.join(", "), 4 * SHOWN_CHARS),
        });
    }
    let found = listed.iter().find(|one| settings.is_same(one, model));
    match (found, settings.api) {
        (Some(found), _) => Ok(found.clone()),
        (None, Api::Ollama) => Err(NoModel::NotPulled {
            model: sentence(model, SHOWN_CHARS),
        }),
        // Gateways take more names than they list; a wrong one is refused by the first request.
        (None, Api::OpenAi) => Ok(model.to_owned()),
    }
}

const MAX_MODELS: usize = 2000;
const NAME_BYTES: usize = 200;
const SHOWN_CHARS: usize = 100;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::chat::settings::BaseUrl;

    fn settings(api: Api, model: Option<&str>, allowed: &[&str]) -> ChatSettings {
        ChatSettings {
            api,
            model: model.map(str::to_owned),
            allowed: allowed.iter().map(|one| (*one).to_owned()).collect(),
            ..ChatSettings::new("E", BaseUrl::parse("http://h").unwrap())
        }
    }

    fn list(models: &[&str]) -> Vec<String> {
        models.iter().map(|one| (*one).to_owned()).collect()
    }

    #[test]
    fn both_shapes_of_a_list_are_read_and_odd_entries_left_out() {
        assert_eq!(
            read(&json!({ "data": [{ "id": "a" }, { "id": 3 }, {}] })),
            ["a"]
        );
        assert_eq!(
            read(&json!({ "models": [{ "name": "b:7b", "model": "b:7b" }] })),
            ["b:7b"]
        );
        assert_eq!(read(&json!(["c", "d\n", ""])), ["c"]);
        assert_eq!(read(&json!({ "data": "x" })), [""; 0]);
        let many: Vec<Value> = (0..5000).map(|n| json!({ "id": n.to_string() })).collect();
        assert_eq!(read(&json!({ "data": many })).len(), MAX_MODELS);
    }

    #[test]
    fn a_model_outside_the_allow_list_is_refused_with_the_list() {
        let settings = settings(Api::OpenAi, Some("x"), &["a", "b"]);
        let error = offer(&settings, Some(list(&["a", "x"]))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the model x is not among the allowed ones (allowed_models): a, b"
        );
    }

    #[test]
    fn a_model_that_ollama_has_not_is_refused_with_what_to_do() {
        let error = offer(
            &settings(Api::Ollama, Some("q"), &[]),
            Some(list(&["p:latest"])),
        );
        assert!(error.unwrap_err().to_string().contains("`ollama pull q`"));
        let found = offer(
            &settings(Api::Ollama, Some("p"), &[]),
            Some(list(&["p:latest"])),
        );
        assert_eq!(found.unwrap().current, "p:latest");
    }

    #[test]
    fn a_gateway_may_know_more_models_than_it_lists() {
        let found = offer(
            &settings(Api::OpenAi, Some("m:free"), &[]),
            Some(list(&["m"])),
        )
        .unwrap();
        assert_eq!(found.models, ["m:free", "m"]);
        let silent = offer(&settings(Api::OpenAi, Some("m"), &["m", "n"]), None).unwrap();
        assert_eq!(silent.models, ["m", "n"]);
    }

    #[test]
    fn without_a_choice_the_first_allowed_one_is_used() {
        let found = offer(
            &settings(Api::OpenAi, None, &["b"]),
            Some(list(&["a", "b"])),
        )
        .unwrap();
        assert_eq!((found.current.as_str(), found.models.len()), ("b", 1));
        assert!(offer(&settings(Api::Ollama, None, &[]), Some(list(&[]))).is_err());
        assert!(offer(&settings(Api::OpenAi, None, &[]), None).is_err());
    }
}
