//! Where the gateway is and what lets us in: the user's OpenClaw configuration and the variables
//! that override it. Files are read, nothing is connected to.

use std::path::{Path, PathBuf};

use bridge_proto::{
    Secret,
    model::{Health, HealthReason},
};
use serde_json::Value;
use url::Url;

use crate::{
    host::Host,
    program::{login_needed, missing, read_small},
};

/// What is known of the gateway before it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gateway {
    /// `ws` or `wss`, without path.
    pub(super) url: Url,
    /// What the gateway shares with those it lets in.
    pub(super) secret: Option<Secret>,
    /// It lets everybody in (`gateway.auth.mode: "none"`).
    pub(super) open: bool,
    /// Whether the HTTP endpoint for plain text is on; `None` if no file says so.
    pub(super) chat_completions: Option<bool>,
    /// Folders that agents of this gateway call their own.
    pub(super) workspaces: Vec<PathBuf>,
}

/// Why there is no gateway to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoGateway {
    /// No configuration and no address.
    NotInstalled,
    /// The configuration is there and cannot be read.
    Unreadable(PathBuf),
    /// The configuration points to a gateway on another machine.
    Elsewhere,
    /// The secret is kept where this bridge cannot look.
    SecretElsewhere,
    /// It lets in by a way a bridge has not got.
    AuthMode(String),
    /// The address is not one.
    Address(String),
    /// The secret would go over the network in the clear.
    ClearText,
}

impl Gateway {
    /// Looks for it: variables first, then the configuration file, then OpenClaw's defaults.
    pub(super) fn find(host: &Host) -> Result<Self, NoGateway> {
        let named = host.value("OPENCLAW_GATEWAY_URL");
        let file = file(host);
        let config = match &file {
            Some(file) if file.is_file() => {
                let read = read_small(file).and_then(|text| relaxed_json(&text));
                Some(read.ok_or_else(|| NoGateway::Unreadable(file.clone()))?)
            }
            Some(_) | None => None,
        };
        if config.is_none() && named.is_none() {
            return Err(NoGateway::NotInstalled);
        }
        let config = config.unwrap_or_default();
        let url = address(host, named, &config)?;
        let here = is_here(&url);
        if !here && url.scheme() == "ws" && !host.is_on("CTRLNODE_ALLOW_PLAIN") {
            return Err(NoGateway::ClearText);
        }
        // The secrets in the file are those of the gateway on this machine.
        let auth = if here { &config } else { &Value::Null };
        let mode = text(auth, "/gateway/auth/mode").unwrap_or("token");
        let secret = secret(host, auth, mode)?;
        if secret.is_none() && !matches!(mode, "token" | "password" | "none") {
            return Err(NoGateway::AuthMode(mode.to_owned()));
        }
        Ok(Self {
            url,
            secret,
            open: mode == "none",
            chat_completions: config
                .pointer("/gateway/http/endpoints/chatCompletions/enabled")
                .and_then(Value::as_bool),
            workspaces: workspaces(host, &config),
        })
    }

    /// The address for HTTP on the same port.
    pub(super) fn http(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        let scheme = if url.scheme() == "wss" {
            "https"
        } else {
            "http"
        };
        // Both pairs of schemes are special ones, between which a URL may change.
        if url.set_scheme(scheme).is_err() {
            tracing::debug!("the scheme of a gateway cannot be changed");
        }
        url.set_path(path);
        url
    }

    /// Whether it is this machine: then paths mean the same on both sides.
    pub(super) fn is_here(&self) -> bool {
        is_here(&self.url)
    }

    /// Whether one of its agents calls this folder its own.
    pub(super) fn owns(&self, directory: &Path) -> bool {
        self.workspaces.iter().any(|own| own == directory)
    }
}

impl NoGateway {
    /// What a person reads.
    pub(super) fn hint(&self) -> String {
        match self {
            Self::NotInstalled => INSTALL.into(),
            Self::Unreadable(file) => format!(
                "{} cannot be read; `openclaw config validate` tells what is wrong with it",
                file.display()
            ),
            Self::Elsewhere => "OpenClaw on this machine uses a gateway elsewhere; set \
                                OPENCLAW_GATEWAY_URL and OPENCLAW_GATEWAY_TOKEN if tasks may go \
                                there"
                .into(),
            Self::SecretElsewhere => "OpenClaw keeps its gateway token in a secret store; set \
                                      OPENCLAW_GATEWAY_TOKEN to it"
                .into(),
            Self::AuthMode(mode) => format!(
                "the gateway's auth mode {mode} lets no bridge in; set gateway.auth.mode to \
                 \"token\""
            ),
            Self::Address(what) => {
                format!("{what} is no address of a gateway; write it as ws://127.0.0.1:18789")
            }
            Self::ClearText => "the gateway's address is in the clear; use wss://, or set \
                                CTRLNODE_ALLOW_PLAIN=1 on a network you trust"
                .into(),
        }
    }

    /// What it means for the provider.
    pub(super) fn health(&self) -> Health {
        match self {
            Self::NotInstalled | Self::Unreadable(_) => missing(&self.hint()),
            Self::SecretElsewhere | Self::AuthMode(_) => login_needed(&self.hint()),
            Self::Elsewhere | Self::Address(_) | Self::ClearText => Health {
                available: false,
                reason: Some(HealthReason::ServiceUnreachable),
                version: None,
                hint: Some(self.hint()),
            },
        }
    }
}

fn is_here(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// OpenClaw's own folder, in which its configuration lies, whether it is there or not.
pub fn own_folder(host: &Host) -> Option<PathBuf> {
    Some(file(host)?.parent()?.to_owned())
}

/// The configuration file, whether it is there or not.
pub(super) fn file(host: &Host) -> Option<PathBuf> {
    if let Some(file) = host.value("OPENCLAW_CONFIG_PATH") {
        return Some(PathBuf::from(file));
    }
    let folder = match (
        host.value("OPENCLAW_STATE_DIR"),
        host.value("OPENCLAW_HOME"),
    ) {
        (Some(state), _) => PathBuf::from(state),
        (None, Some(home)) => Path::new(home).join(".openclaw"),
        (None, None) => host.home()?.join(".openclaw"),
    };
    Some(folder.join("openclaw.json"))
}

fn address(host: &Host, named: Option<&str>, config: &Value) -> Result<Url, NoGateway> {
    if let Some(named) = named {
        let wrong = || NoGateway::Address(shown(named));
        let mut url = Url::parse(named).map_err(|_| wrong())?;
        let scheme = match url.scheme() {
            "ws" | "http" => "ws",
            "wss" | "https" => "wss",
            _ => return Err(wrong()),
        };
        if url.set_scheme(scheme).is_err() || url.host().is_none() {
            return Err(wrong());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong());
        }
        url.set_query(None);
        url.set_fragment(None);
        return Ok(url);
    }
    if text(config, "/gateway/mode") == Some("remote") {
        return Err(NoGateway::Elsewhere);
    }
    let from_variable = host.value("OPENCLAW_GATEWAY_PORT");
    let port = match from_variable {
        Some(port) => port
            .parse::<u16>()
            .map_err(|_| NoGateway::Address(shown(port)))?,
        None => config
            .pointer("/gateway/port")
            .and_then(Value::as_u64)
            .and_then(|port| u16::try_from(port).ok())
            .unwrap_or(PORT),
    };
    let own_tls = config
        .pointer("/gateway/tls/enabled")
        .and_then(Value::as_bool);
    let scheme = if own_tls == Some(true) { "wss" } else { "ws" };
    let text = format!("{scheme}://127.0.0.1:{port}");
    Url::parse(&text).map_err(|_| NoGateway::Address(text))
}

/// The shared secret, if there is one.
fn secret(host: &Host, config: &Value, mode: &str) -> Result<Option<Secret>, NoGateway> {
    let (variable, place) = if mode == "password" {
        ("OPENCLAW_GATEWAY_PASSWORD", "/gateway/auth/password")
    } else {
        ("OPENCLAW_GATEWAY_TOKEN", "/gateway/auth/token")
    };
    let explicit = host
        .value(variable)
        .or_else(|| host.value("OPENCLAW_GATEWAY_TOKEN"));
    if let Some(explicit) = explicit {
        return Ok(Some(Secret::new(explicit)));
    }
    match config.pointer(place) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => {
            let text = match variable_in(text) {
                Some(name) => host.value(name).ok_or(NoGateway::SecretElsewhere)?,
                None => text,
            };
            Ok(Some(Secret::new(text)).filter(|secret| !secret.is_empty()))
        }
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            Err(NoGateway::SecretElsewhere)
        }
    }
}

/// `${NAME}`: the configuration lets the environment fill it in.
fn variable_in(text: &str) -> Option<&str> {
    text.trim().strip_prefix("${")?.strip_suffix('}')
}

fn workspaces(host: &Host, config: &Value) -> Vec<PathBuf> {
    let entries = config
        .pointer("/agents/entries")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(_, entry)| entry);
    let listed = config
        .pointer("/agents/list")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let named = config.pointer("/agents/defaults/workspace");
    let own = entries
        .chain(listed)
        .filter_map(|entry| entry.get("workspace"));
    let mut all: Vec<PathBuf> = named
        .into_iter()
        .chain(own)
        .filter_map(Value::as_str)
        .take(MAX_WORKSPACES)
        .filter_map(|path| match path.strip_prefix("~/") {
            Some(rest) => Some(host.home()?.join(rest)),
            None => Some(PathBuf::from(path)),
        })
        .collect();
    all.extend(host.home().map(|home| home.join(".openclaw/workspace")));
    all
}

fn text<'a>(config: &'a Value, place: &str) -> Option<&'a str> {
    config.pointer(place).and_then(Value::as_str)
}

/// JSON with comments, trailing commas and bare names. The parser follows nesting with the stack,
/// so what is nested too deep is not given to it.
pub(super) fn relaxed_json(text: &str) -> Option<Value> {
    let mut depth = 0_usize;
    for character in text.chars() {
        match character {
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return None;
        }
    }
    json5::from_str::<Value>(text).ok().filter(Value::is_object)
}

/// An address without what could be a password in it.
fn shown(address: &str) -> String {
    let after = address.rsplit('@').next().unwrap_or_default();
    crate::plain::one_line(after, 200)
}

/// OpenClaw's own default.
const PORT: u16 = 18789;
const MAX_DEPTH: usize = 128;
const MAX_WORKSPACES: usize = 200;
const INSTALL: &str = "install OpenClaw (`npm install -g openclaw`) and run `openclaw onboard`, or \
                       set OPENCLAW_GATEWAY_URL and OPENCLAW_GATEWAY_TOKEN";

#[cfg(test)]
mod tests {
    use super::*;

    fn host(vars: &[(&str, &str)]) -> Host {
        Host::new(vars.iter().map(|(name, value)| (name.into(), value.into())))
    }

    fn folder(text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("openclaw.json"), text).unwrap();
        folder
    }

    fn configured(text: &str, more: &[(&str, &str)]) -> Result<Gateway, NoGateway> {
        let folder = folder(text);
        let state = folder.path().display().to_string();
        let mut vars = vec![("OPENCLAW_STATE_DIR", state.as_str()), ("HOME", "/home/u")];
        vars.extend(more);
        Gateway::find(&host(&vars))
    }

    const USUAL: &str = r#"{
        // a comment, a bare name and a trailing comma
        gateway: { port: 18800, auth: { mode: "token", token: "hush" }, },
        "agents": { "entries": { "main": { "workspace": "~/oc" } } },
    }"#;

    #[test]
    fn comments_bare_names_and_trailing_commas_are_read() {
        let found = configured(USUAL, &[]).unwrap();
        assert_eq!(found.url.as_str(), "ws://127.0.0.1:18800/");
        assert_eq!(found.secret, Some(Secret::new("hush")));
        assert!(found.is_here() && found.owns(Path::new("/home/u/oc")));
        assert!(!format!("{found:?}").contains("hush"));
    }

    #[test]
    fn variables_win_over_the_file() {
        let more = [
            ("OPENCLAW_GATEWAY_PORT", "19000"),
            ("OPENCLAW_GATEWAY_TOKEN", "other"),
        ];
        let found = configured(USUAL, &more).unwrap();
        assert_eq!(found.url.port(), Some(19000));
        assert_eq!(found.secret, Some(Secret::new("other")));
        let named = [("OPENCLAW_GATEWAY_URL", "http://localhost:18789")];
        let found = configured(USUAL, &named).unwrap();
        assert_eq!(found.url.as_str(), "ws://localhost:18789/");
        assert_eq!(
            found.http("/readyz").as_str(),
            "http://localhost:18789/readyz"
        );
        let alone = [("OPENCLAW_GATEWAY_URL", "wss://box.example/")];
        let found = Gateway::find(&host(&alone)).unwrap();
        assert!(!found.is_here() && found.secret.is_none());
        assert_eq!(
            found.http("/healthz").as_str(),
            "https://box.example/healthz"
        );
    }

    #[test]
    fn a_secret_reference_asks_for_an_explicit_token() {
        let reference = r#"{"gateway":{"auth":{"token":{"source":"file","id":"x"}}}}"#;
        assert_eq!(configured(reference, &[]), Err(NoGateway::SecretElsewhere));
        let explicit = [("OPENCLAW_GATEWAY_TOKEN", "t")];
        assert!(configured(reference, &explicit).is_ok());
        let filled_in = r#"{"gateway":{"auth":{"token":"${MY_TOKEN}"}}}"#;
        assert_eq!(configured(filled_in, &[]), Err(NoGateway::SecretElsewhere));
        let found = configured(filled_in, &[("MY_TOKEN", "t")]).unwrap();
        assert_eq!(found.secret, Some(Secret::new("t")));
    }

    #[test]
    fn a_gateway_elsewhere_is_not_used_without_being_told_to() {
        let remote =
            r#"{"gateway":{"mode":"remote","remote":{"url":"wss://elsewhere","token":"t"}}}"#;
        assert_eq!(configured(remote, &[]), Err(NoGateway::Elsewhere));
        let told = [("OPENCLAW_GATEWAY_URL", "wss://elsewhere")];
        assert_eq!(configured(remote, &told).unwrap().secret, None);
    }

    #[test]
    fn the_secret_of_this_machine_is_not_shown_elsewhere_and_none_in_the_clear() {
        let elsewhere = [("OPENCLAW_GATEWAY_URL", "wss://box.example")];
        assert_eq!(configured(USUAL, &elsewhere).unwrap().secret, None);
        let mut clear = vec![("OPENCLAW_GATEWAY_URL", "ws://box.example")];
        assert_eq!(configured(USUAL, &clear), Err(NoGateway::ClearText));
        clear.push(("CTRLNODE_ALLOW_PLAIN", "1"));
        assert!(configured(USUAL, &clear).is_ok());
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        assert_eq!(
            Gateway::find(&host(&[("HOME", "/nowhere")])),
            Err(NoGateway::NotInstalled)
        );
        assert!(matches!(
            configured("{ nonsense", &[]),
            Err(NoGateway::Unreadable(_))
        ));
        let deep = "[".repeat(100_000);
        assert!(matches!(
            configured(&deep, &[]),
            Err(NoGateway::Unreadable(_))
        ));
        for address in ["ftp://x", "nonsense", "ws://user:secret@box"] {
            let named = [("OPENCLAW_GATEWAY_URL", address)];
            let wrong = Gateway::find(&host(&named)).unwrap_err();
            assert!(matches!(wrong, NoGateway::Address(_)), "{wrong:?}");
            assert!(!wrong.hint().contains("secret"), "{}", wrong.hint());
        }
        let proxied = r#"{"gateway":{"auth":{"mode":"trusted-proxy"}}}"#;
        assert_eq!(
            configured(proxied, &[]),
            Err(NoGateway::AuthMode("trusted-proxy".into()))
        );
    }
}
