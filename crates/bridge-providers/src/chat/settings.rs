//! What a chat agent is told by whoever starts it, in one variable of its environment; the key
//! comes in another one, and neither stands in arguments.

use std::{fmt, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::{Host as UrlHost, Url};

/// An endpoint, and how it is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChatSettings {
    /// What a person reads, e.g. `Ollama`.
    pub name: String,
    /// Which interface it has beside chat completions.
    pub api: Api,
    /// Where it is.
    pub base: BaseUrl,
    /// The model to use; `None`: the first one that is offered.
    pub model: Option<String>,
    /// The only models that may be used; empty: all.
    pub allowed: Vec<String>,
    /// Where the user wrote the list of allowed models, for messages.
    pub allowed_in: String,
    /// Calls of the model in one turn, at least 1.
    pub max_turns: u32,
    /// Tokens of one answer; `None`: the endpoint's own limit.
    pub max_tokens: Option<u32>,
    /// Tokens the model reads; `None`: unknown, and large.
    pub context_tokens: Option<u32>,
    /// How long one turn may take, without the time people take to answer.
    pub turn_limit: Duration,
    /// How long the endpoint may be silent.
    pub quiet_limit: Duration,
    /// Folder where conversations are remembered; `None`: they end with the process.
    pub state: Option<PathBuf>,
}

/// What an endpoint is beside being OpenAI-compatible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Api {
    /// Nothing: `/v1/chat/completions` and `/v1/models`.
    OpenAi,
    /// Ollama: `/api/tags` lists the models that were pulled, `/api/version` tells the version.
    Ollama,
}

impl ChatSettings {
    /// The variable with these settings, as JSON.
    pub const VARIABLE: &str = "CTRLNODE_CHAT";
    /// The variable with the key of the endpoint, if it wants one.
    pub const KEY_VARIABLE: &str = "CTRLNODE_CHAT_KEY";

    /// Settings for an endpoint with nothing else chosen.
    pub fn new(name: &str, base: BaseUrl) -> Self {
        Self {
            name: name.to_owned(),
            api: Api::OpenAi,
            model: None,
            allowed: Vec::new(),
            allowed_in: "allowed_models".to_owned(),
            max_turns: MAX_TURNS,
            max_tokens: None,
            context_tokens: None,
            turn_limit: TURN_LIMIT,
            // On this machine a large model is loaded, and a long prompt read, without a word.
            quiet_limit: if base.is_loopback() {
                TURN_LIMIT
            } else {
                QUIET_LIMIT
            },
            state: None,
            base,
        }
    }

    /// Reads the value of [`ChatSettings::VARIABLE`].
    pub fn read(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// The value of [`ChatSettings::VARIABLE`].
    pub fn written(&self) -> String {
        serde_json::to_string(self).expect("texts, numbers and lists can be written")
    }

    /// Whether a model may be used here.
    pub(super) fn allows(&self, model: &str) -> bool {
        self.allowed.is_empty() || self.allowed.iter().any(|one| self.is_same(one, model))
    }

    /// Whether two names mean the same model.
    pub(super) fn is_same(&self, one: &str, other: &str) -> bool {
        match self.api {
            Api::OpenAi => one == other,
            // Without a tag `latest` is meant.
            Api::Ollama => {
                let tagged = |name: &str| {
                    let last = name.rsplit('/').next().unwrap_or(name);
                    if last.contains(':') {
                        name.to_owned()
                    } else {
                        format!("{name}:latest")
                    }
                };
                tagged(one) == tagged(other)
            }
        }
    }
}

/// The address of an endpoint without `/v1`: `http` or `https`, no credentials, no query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BaseUrl(Url);

/// Why a text is no [`BaseUrl`]. It is never quoted: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BaseUrlError {
    /// It cannot be read.
    #[error("it is not an address such as https://host/api")]
    NoUrl,
    /// Neither `http` nor `https`.
    #[error("it does not begin with http:// or https://")]
    Scheme,
    /// A user or password stands in it.
    #[error("it has a user or password in it; name the key's variable instead")]
    Credentials,
    /// It has a query or a fragment.
    #[error("it has a query or a fragment, which no request could keep")]
    Query,
}

impl BaseUrl {
    /// Parses an address. A `/v1` or the path of chat completions at its end is taken off.
    pub fn parse(text: &str) -> Result<Self, BaseUrlError> {
        let mut url = Url::parse(text.trim()).map_err(|_| BaseUrlError::NoUrl)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(BaseUrlError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BaseUrlError::Credentials);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(BaseUrlError::Query);
        }
        let path = url.path().trim_end_matches('/');
        let path = path.strip_suffix("/chat/completions").unwrap_or(path);
        let path = path.strip_suffix("/v1").unwrap_or(path).to_owned();
        url.set_path(path.trim_end_matches('/'));
        Ok(Self(url))
    }

    /// Parses what `OLLAMA_HOST` holds: a host, a host and port, or an address. `0.0.0.0` is where
    /// a server listens and nobody can be reached; it becomes `localhost`. Without a port it is
    /// 11434, except behind `https://`.
    pub fn parse_ollama_host(text: &str) -> Result<Self, BaseUrlError> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let authority = match authority.parse::<std::net::Ipv6Addr>() {
            Ok(address) => format!("[{address}]"),
            Err(_) if authority.starts_with(':') => format!("localhost{authority}"),
            Err(_) => authority.to_owned(),
        };
        let behind_host = authority.rsplit(']').next().unwrap_or_default();
        let port = if behind_host.contains(':') || scheme.eq_ignore_ascii_case("https") {
            String::new()
        } else {
            format!(":{OLLAMA_PORT}")
        };
        let Self(mut url) = Self::parse(&format!("{scheme}://{authority}{port}/{path}"))?;
        let anybody = match url.host() {
            Some(UrlHost::Ipv4(address)) => address.is_unspecified(),
            Some(UrlHost::Ipv6(address)) => address.is_unspecified(),
            Some(UrlHost::Domain(_)) | None => false,
        };
        if anybody {
            url.set_host(Some("localhost"))
                .map_err(|_| BaseUrlError::NoUrl)?;
        }
        Ok(Self(url))
    }

    /// The address of a path of the endpoint, which begins with `/`.
    pub(super) fn at(&self, path: &str) -> Url {
        let mut url = self.0.clone();
        url.set_path(&format!("{}{path}", self.0.path().trim_end_matches('/')));
        url
    }

    /// Whether it is this machine.
    pub fn is_loopback(&self) -> bool {
        match self.0.host() {
            Some(UrlHost::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(UrlHost::Ipv4(address)) => address.is_loopback(),
            Some(UrlHost::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    }

    /// Whether what is sent there can be read on the way.
    pub fn is_clear_text(&self) -> bool {
        self.0.scheme() == "http" && !self.is_loopback()
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl TryFrom<String> for BaseUrl {
    type Error = BaseUrlError;

    fn try_from(text: String) -> Result<Self, BaseUrlError> {
        Self::parse(&text)
    }
}

impl From<BaseUrl> for String {
    fn from(base: BaseUrl) -> Self {
        base.to_string()
    }
}

const OLLAMA_PORT: u16 = 11434;
/// As many as the existing bridge makes.
pub(super) const MAX_TURNS: u32 = 20;
const TURN_LIMIT: Duration = Duration::from_secs(30 * 60);
const QUIET_LIMIT: Duration = Duration::from_secs(5 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    fn base(text: &str) -> String {
        BaseUrl::parse(text).unwrap().to_string()
    }

    fn ollama(text: &str) -> String {
        BaseUrl::parse_ollama_host(text).unwrap().to_string()
    }

    #[test]
    fn addresses_lose_what_every_request_adds_itself() {
        for (text, wanted) in [
            ("https://openrouter.ai/api", "https://openrouter.ai/api"),
            ("https://openrouter.ai/api/v1/", "https://openrouter.ai/api"),
            ("http://localhost:8000/v1", "http://localhost:8000"),
            (" http://h/x/v1/chat/completions ", "http://h/x"),
        ] {
            assert_eq!(base(text), wanted);
        }
        let at = BaseUrl::parse("https://h/api").unwrap();
        let at = at.at("/v1/chat/completions");
        assert_eq!(at.as_str(), "https://h/api/v1/chat/completions");
    }

    #[test]
    fn the_host_of_ollama_is_completed() {
        for (text, wanted) in [
            ("127.0.0.1", "http://127.0.0.1:11434"),
            ("0.0.0.0", "http://localhost:11434"),
            ("0.0.0.0:8080", "http://localhost:8080"),
            ("http://0.0.0.0:11434/", "http://localhost:11434"),
            ("gpu-box", "http://gpu-box:11434"),
            ("http://gpu-box:80", "http://gpu-box"),
            (":1234", "http://localhost:1234"),
            ("::1", "http://[::1]:11434"),
            ("[::]:99", "http://localhost:99"),
            (
                "https://ollama.example.org/x",
                "https://ollama.example.org/x",
            ),
            (
                "https://ollama.example.org:11434",
                "https://ollama.example.org:11434",
            ),
        ] {
            assert_eq!(ollama(text), wanted, "{text}");
        }
    }

    #[test]
    fn addresses_that_cannot_be_used_say_why_and_are_not_quoted() {
        for (text, wanted) in [
            ("", BaseUrlError::NoUrl),
            ("http://ho st", BaseUrlError::NoUrl),
            ("ftp://h", BaseUrlError::Scheme),
            ("file:///etc/passwd", BaseUrlError::Scheme),
            ("https://user:secret@h", BaseUrlError::Credentials),
            ("https://h?key=secret", BaseUrlError::Query),
        ] {
            let error = BaseUrl::parse(text).unwrap_err();
            assert_eq!(error, wanted, "{text}");
            assert!(!error.to_string().contains("secret"));
        }
        assert!(BaseUrl::parse_ollama_host("ho st").is_err());
    }

    #[test]
    fn only_the_way_to_this_machine_may_be_clear_text() {
        let clear = |text| BaseUrl::parse(text).unwrap().is_clear_text();
        for text in [
            "http://localhost:1",
            "http://127.9.9.9",
            "http://[::1]",
            "https://h",
        ] {
            assert!(!clear(text), "{text}");
        }
        assert!(clear("http://192.168.0.2:8000") && clear("http://localhost.example.org"));
    }

    #[test]
    fn settings_pass_through_a_variable_unchanged() {
        let mut settings = ChatSettings::new("Ollama", BaseUrl::parse("http://h:1").unwrap());
        settings.allowed.push("a".into());
        settings.state = Some("/tmp/x".into());
        assert_eq!(ChatSettings::read(&settings.written()).unwrap(), settings);
        assert!(ChatSettings::read("{}").is_err());
    }

    #[test]
    fn a_model_of_ollama_without_a_tag_is_the_latest() {
        let mut settings = ChatSettings::new("Ollama", BaseUrl::parse("http://h").unwrap());
        settings.allowed = vec!["qwen".into(), "hub.example.org:5000/x/llama".into()];
        assert!(settings.allows("qwen") && !settings.allows("qwen:latest"));
        settings.api = Api::Ollama;
        assert!(settings.allows("qwen:latest") && !settings.allows("qwen:7b"));
        assert!(settings.allows("hub.example.org:5000/x/llama:latest"));
    }
}
