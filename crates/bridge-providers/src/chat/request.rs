//! What is sent to a model: the limits of a conversation, and the body of a request. Pure.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};

use super::{
    history::{History, Tongue},
    settings::{Api, ChatSettings},
    tools,
};

/// The limits of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rules {
    api: Api,
    pub(super) max_turns: u32,
    max_tokens: Option<u32>,
    pub(super) context_tokens: Option<u32>,
    pub(super) turn_limit: Duration,
    pub(super) quiet_limit: Duration,
}

/// Everything a request is made of.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) rules: &'a Rules,
    pub(super) model: &'a str,
    pub(super) tongue: Tongue,
    pub(super) directory: &'a Path,
    pub(super) history: &'a History,
}

impl Rules {
    /// From the settings of an endpoint.
    pub(super) fn of(settings: &ChatSettings) -> Self {
        Self {
            api: settings.api,
            max_turns: settings.max_turns.max(1),
            max_tokens: settings.max_tokens,
            context_tokens: settings.context_tokens,
            turn_limit: settings.turn_limit,
            quiet_limit: settings.quiet_limit,
        }
    }

    /// Bytes of the history that are sent: three a token, and a quarter is left for the answer.
    fn budget(&self) -> usize {
        let bytes = self.context_tokens.map_or(LARGE_CONTEXT, |tokens| {
            let tokens = usize::try_from(tokens).unwrap_or(usize::MAX);
            (tokens / 4 * 3).saturating_mul(3)
        });
        bytes.clamp(SMALL_CONTEXT, LARGE_CONTEXT)
    }
}

impl Request<'_> {
    /// The body of `POST /v1/chat/completions`.
    pub(super) fn body(&self) -> Value {
        let system = json!({ "role": "system", "content": self.system() });
        let history = self.history.for_model(self.tongue, self.rules.budget());
        let messages: Vec<Value> = std::iter::once(system).chain(history).collect();
        let mut body = json!({
            "model": self.model,
            "messages": messages,
            "stream": true,
            "stream_options": { "include_usage": true },
        });
        if self.tongue == Tongue::Tools {
            body["tools"] = tools::offer();
        }
        if let Some(tokens) = self.rules.max_tokens {
            body["max_tokens"] = json!(tokens);
        }
        if let (Api::Ollama, Some(tokens)) = (self.rules.api, self.rules.context_tokens) {
            body["options"] = json!({ "num_ctx": tokens });
        }
        body
    }

    fn system(&self) -> String {
        let mut text = format!(
            "You do tasks with the files of one folder, by the tools you are given. When the task \
             is done, say shortly what you did.\nWorking directory: {}\n",
            self.directory.display()
        );
        if self.tongue == Tongue::Text {
            text.push('\n');
            text.push_str(&tools::described());
        }
        text
    }
}

/// What is sent to a model whose limit is not known.
const LARGE_CONTEXT: usize = 600_000;
const SMALL_CONTEXT: usize = 4000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{history::Message, settings::BaseUrl};

    fn body(settings: &ChatSettings, tongue: Tongue, prompt: &str) -> Value {
        let mut history = History::default();
        history.push(Message::User {
            text: prompt.into(),
        });
        let request = Request {
            rules: &Rules::of(settings),
            model: "m",
            tongue,
            directory: Path::new("/work"),
            history: &history,
        };
        request.body()
    }

    fn settings() -> ChatSettings {
        ChatSettings::new("E", BaseUrl::parse("http://h").unwrap())
    }

    #[test]
    fn a_request_streams_and_offers_the_tools() {
        let body = body(&settings(), Tongue::Tools, "hello");
        assert_eq!(
            (&body["model"], &body["stream"]),
            (&json!("m"), &json!(true))
        );
        assert_eq!(body["tools"].as_array().unwrap().len(), 5);
        assert_eq!(body["messages"][1]["content"], "hello");
        let system = body["messages"][0]["content"].as_str().unwrap();
        assert!(system.contains("Working directory: /work\n"), "{system}");
        for absent in ["max_tokens", "options"] {
            assert_eq!(body.get(absent), None, "{absent}");
        }
    }

    #[test]
    fn a_model_without_tools_is_told_of_them() {
        let body = body(&settings(), Tongue::Text, "hello");
        assert_eq!(body.get("tools"), None);
        let system = body["messages"][0]["content"].as_str().unwrap();
        assert!(
            system.contains("```json") && system.contains("edit_file"),
            "{system}"
        );
    }

    #[test]
    fn limits_of_the_settings_are_sent_and_kept() {
        let settings = ChatSettings {
            api: Api::Ollama,
            max_tokens: Some(7),
            context_tokens: Some(4096),
            ..settings()
        };
        let body = body(&settings, Tongue::Tools, &"x".repeat(100_000));
        assert_eq!(body["max_tokens"], 7);
        assert_eq!(body["options"]["num_ctx"], 4096);
        let sent = body["messages"][1]["content"].as_str().unwrap().len();
        assert!(sent < 4096 * 3, "{sent}");
    }
}
