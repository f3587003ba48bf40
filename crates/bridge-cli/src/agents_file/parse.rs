//! What stands in the file of the user's own agents, checked field by field.

use std::ops::Range;

use bridge_proto::ProviderKey;
use bridge_providers::{
    chat::{BaseUrl, BaseUrlError},
    custom::{PromptBy, Protocol},
};
use serde::Deserialize;
use thiserror::Error;
use toml::Spanned;

/// One agent of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedAgent {
    pub(crate) key: ProviderKey,
    /// Where it begins in the file, counted from 1.
    pub(crate) line: usize,
    pub(crate) kind: AgentKind,
    pub(crate) login_hint: Option<String>,
}

/// What is started, or asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AgentKind {
    Command {
        program: String,
        args: Vec<String>,
        variables: Vec<String>,
        protocol: Protocol,
        model: Option<String>,
    },
    Chat {
        base: BaseUrl,
        key_variable: Option<String>,
        model: Option<String>,
        allowed: Vec<String>,
        max_turns: Option<u32>,
    },
}

/// What is wrong with an agent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum WrongAgent {
    /// The file is not TOML, or has a field nobody knows.
    #[error("{0}")]
    Syntax(String),
    /// More than anybody has.
    #[error("there are more than {MAX_AGENTS} agents")]
    TooMany,
    /// The name has other letters.
    #[error("the name {0:?} may have small letters, digits and `-` only, and at most 40 of them")]
    Name(String),
    /// The name is taken by an agent of ours.
    #[error("an agent named {0} is built in; choose another name")]
    BuiltIn(String),
    /// Two of this name.
    #[error("there is a second agent named {0}")]
    Twice(String),
    /// A field that has to be there.
    #[error("protocol = {protocol:?} needs `{field}`")]
    Needs {
        protocol: &'static str,
        field: &'static str,
    },
    /// A field that means nothing here.
    #[error("`{field}` means nothing with protocol = {protocol:?}")]
    Meaningless {
        protocol: &'static str,
        field: &'static str,
    },
    /// Not the name of a variable that may be passed on.
    #[error("{0:?} is not the name of a variable; write names only, never values")]
    Variable(String),
    /// A variable no agent gets.
    #[error("the variable {0} belongs to the bridge and is passed to no agent")]
    OwnVariable(String),
    /// The address of an endpoint cannot be used.
    #[error("base_url cannot be used: {0}")]
    BaseUrl(BaseUrlError),
    /// A number out of its range.
    #[error("max_turns must be 1 to {MAX_TURNS}")]
    MaxTurns,
    /// A text that is none.
    #[error("`{0}` is empty")]
    Empty(&'static str),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    agent: Vec<Spanned<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    protocol: Word,
    command: Option<String>,
    args: Option<Vec<String>>,
    env: Option<Vec<String>>,
    prompt: Option<Prompt>,
    model: Option<String>,
    login_hint: Option<String>,
    base_url: Option<String>,
    key_env: Option<String>,
    default_model: Option<String>,
    allowed_models: Option<Vec<String>>,
    max_turns: Option<u32>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Word {
    Acp,
    ClaudeStreamJson,
    Exec,
    Chat,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Prompt {
    Stdin,
    Argument,
}

impl Word {
    fn as_str(self) -> &'static str {
        match self {
            Self::Acp => "acp",
            Self::ClaudeStreamJson => "claude-stream-json",
            Self::Exec => "exec",
            Self::Chat => "chat",
        }
    }
}

/// The agents of a text; an error comes with its line.
pub(super) fn parse(text: &str, built_in: &[&str]) -> Result<Vec<NamedAgent>, (usize, WrongAgent)> {
    let document: Document = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(text, &span));
        (line, WrongAgent::Syntax(error.message().to_owned()))
    })?;
    let mut agents: Vec<NamedAgent> = Vec::new();
    for entry in document.agent {
        let line = line_of(text, &entry.span());
        let wrong = |what| (line, what);
        if agents.len() == MAX_AGENTS {
            return Err(wrong(WrongAgent::TooMany));
        }
        let agent = entry.into_inner().check(line).map_err(wrong)?;
        let name = agent.key.as_str();
        if built_in.contains(&name) {
            return Err(wrong(WrongAgent::BuiltIn(name.to_owned())));
        }
        if agents.iter().any(|other| other.key == agent.key) {
            return Err(wrong(WrongAgent::Twice(name.to_owned())));
        }
        agents.push(agent);
    }
    Ok(agents)
}

fn line_of(text: &str, span: &Range<usize>) -> usize {
    let before = text.as_bytes().get(..span.start).unwrap_or_default();
    before.split(|byte| *byte == b'\n').count()
}

impl Entry {
    fn check(self, line: usize) -> Result<NamedAgent, WrongAgent> {
        let key = key_of(&self.name)?;
        self.check_fields()?;
        let protocol = match (self.protocol, self.prompt) {
            (Word::Acp, _) => Protocol::Acp,
            (Word::ClaudeStreamJson, _) => Protocol::ClaudeStreamJson,
            (Word::Exec, Some(Prompt::Argument)) => Protocol::Exec(PromptBy::Argument),
            (Word::Exec, Some(Prompt::Stdin) | None) => Protocol::Exec(PromptBy::Input),
            (Word::Chat, _) => {
                let address = self.needed("base_url", self.base_url.as_deref())?;
                let kind = AgentKind::Chat {
                    base: BaseUrl::parse(address).map_err(WrongAgent::BaseUrl)?,
                    key_variable: self.key_env,
                    model: self.default_model,
                    allowed: self.allowed_models.unwrap_or_default(),
                    max_turns: self.max_turns,
                };
                return Ok(NamedAgent {
                    key,
                    line,
                    kind,
                    login_hint: self.login_hint,
                });
            }
        };
        let kind = AgentKind::Command {
            program: self.needed("command", self.command.as_deref())?.to_owned(),
            args: self.args.unwrap_or_default(),
            variables: self.env.unwrap_or_default(),
            protocol,
            model: self.model,
        };
        Ok(NamedAgent {
            key,
            line,
            kind,
            login_hint: self.login_hint,
        })
    }

    /// Every field means something with its protocol, and says something.
    fn check_fields(&self) -> Result<(), WrongAgent> {
        use Word::{Acp, Chat, ClaudeStreamJson, Exec};

        let commands: &[Word] = &[Acp, ClaudeStreamJson, Exec];
        let texts: [(&'static str, Option<&str>, &[Word]); 6] = [
            ("command", self.command.as_deref(), commands),
            ("model", self.model.as_deref(), &[Acp, ClaudeStreamJson]),
            ("login_hint", self.login_hint.as_deref(), &[Acp, Chat]),
            ("base_url", self.base_url.as_deref(), &[Chat]),
            ("key_env", self.key_env.as_deref(), &[Chat]),
            ("default_model", self.default_model.as_deref(), &[Chat]),
        ];
        for (field, text, allowed) in texts {
            self.means(field, text.is_some(), allowed)?;
            if text.is_some_and(|text| text.trim().is_empty()) {
                return Err(WrongAgent::Empty(field));
            }
        }
        self.means("args", self.args.is_some(), commands)?;
        self.means("env", self.env.is_some(), commands)?;
        self.means("prompt", self.prompt.is_some(), &[Exec])?;
        self.means("allowed_models", self.allowed_models.is_some(), &[Chat])?;
        self.means("max_turns", self.max_turns.is_some(), &[Chat])?;
        if self
            .max_turns
            .is_some_and(|turns| !(1..=MAX_TURNS).contains(&turns))
        {
            return Err(WrongAgent::MaxTurns);
        }
        let variables = self.env.iter().flatten().chain(&self.key_env);
        for variable in variables {
            check_variable(variable)?;
        }
        Ok(())
    }

    fn means(&self, field: &'static str, there: bool, allowed: &[Word]) -> Result<(), WrongAgent> {
        let protocol = self.protocol.as_str();
        if there && !allowed.iter().any(|word| word.as_str() == protocol) {
            return Err(WrongAgent::Meaningless { protocol, field });
        }
        Ok(())
    }

    fn needed<'a>(
        &self,
        field: &'static str,
        value: Option<&'a str>,
    ) -> Result<&'a str, WrongAgent> {
        value.ok_or(WrongAgent::Needs {
            protocol: self.protocol.as_str(),
            field,
        })
    }
}

fn key_of(name: &str) -> Result<ProviderKey, WrongAgent> {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let good = name.bytes().all(plain) && name.len() <= MAX_NAME && !name.starts_with('-');
    let wrong = || WrongAgent::Name(name.chars().take(MAX_NAME).collect());
    if !good {
        return Err(wrong());
    }
    ProviderKey::parse(name).map_err(|_| wrong())
}

fn check_variable(name: &str) -> Result<(), WrongAgent> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    let digit = name.bytes().next().is_none_or(|c| c.is_ascii_digit());
    if digit || !name.bytes().all(plain) || name.len() > MAX_VARIABLE {
        // What stands behind a `=` may be a secret.
        let shown = name.split('=').next().unwrap_or_default();
        return Err(WrongAgent::Variable(shown.chars().take(MAX_NAME).collect()));
    }
    let upper = name.to_ascii_uppercase();
    let ours = matches!(upper.as_str(), "PAIRING_TOKEN" | "SAAS_URL")
        || upper.starts_with("CTRLNODE_")
        || upper.starts_with("BRIDGE_");
    if ours {
        return Err(WrongAgent::OwnVariable(name.to_owned()));
    }
    Ok(())
}

const MAX_AGENTS: usize = 64;
const MAX_NAME: usize = 40;
const MAX_VARIABLE: usize = 200;
const MAX_TURNS: u32 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    const BUILT_IN: &[&str] = &["claude", "demo"];

    fn wrong(text: &str) -> (usize, String) {
        let (line, what) = parse(text, BUILT_IN).unwrap_err();
        (line, what.to_string())
    }

    fn one(fields: &str) -> String {
        format!("\n[[agent]]\nname = \"mine\"\n{fields}\n")
    }

    #[test]
    fn the_example_is_a_file_with_an_agent_of_each_protocol() {
        let text = include_str!("../../../../examples/agents.toml");
        let agents = parse(text, &crate::daemon::BUILT_IN).unwrap();
        let kinds: Vec<&str> = agents
            .iter()
            .map(|agent| match &agent.kind {
                AgentKind::Command { protocol, .. } => match protocol {
                    Protocol::Acp => "acp",
                    Protocol::ClaudeStreamJson => "claude-stream-json",
                    Protocol::Exec(_) => "exec",
                },
                AgentKind::Chat { .. } => "chat",
            })
            .collect();
        for kind in ["acp", "claude-stream-json", "exec", "chat"] {
            assert!(kinds.contains(&kind), "{kind}");
        }
    }

    #[test]
    fn everything_that_is_said_of_an_agent_is_kept() {
        let text = one(
            "protocol = \"acp\"\ncommand = \"tool\"\nargs = [\"--acp\"]\n\
                        env = [\"TOOL_KEY\"]\nmodel = \"m\"\nlogin_hint = \"log in\"",
        );
        let agents = parse(&text, BUILT_IN).unwrap();
        let wanted = NamedAgent {
            key: ProviderKey::parse("mine").unwrap(),
            line: 2,
            kind: AgentKind::Command {
                program: "tool".into(),
                args: vec!["--acp".into()],
                variables: vec!["TOOL_KEY".into()],
                protocol: Protocol::Acp,
                model: Some("m".into()),
            },
            login_hint: Some("log in".into()),
        };
        assert_eq!(agents, [wanted]);
        let text = one(
            "protocol = \"chat\"\nbase_url = \"http://localhost:8000/v1\"\n\
                        key_env = \"K\"\ndefault_model = \"m\"\nallowed_models = [\"m\", \"n\"]\n\
                        max_turns = 7",
        );
        let agents = parse(&text, BUILT_IN).unwrap();
        let wanted = AgentKind::Chat {
            base: BaseUrl::parse("http://localhost:8000").unwrap(),
            key_variable: Some("K".into()),
            model: Some("m".into()),
            allowed: vec!["m".into(), "n".into()],
            max_turns: Some(7),
        };
        assert_eq!(agents[0].kind, wanted);
        let text = one("protocol = \"exec\"\ncommand = \"t\"\nprompt = \"argument\"");
        let agents = parse(&text, BUILT_IN).unwrap();
        let AgentKind::Command { protocol, .. } = &agents[0].kind else {
            panic!("{agents:?}")
        };
        assert_eq!(*protocol, Protocol::Exec(PromptBy::Argument));
        assert_eq!(parse("", BUILT_IN), Ok(Vec::new()));
    }

    #[test]
    fn each_mistake_is_named_with_its_line() {
        for (text, line, said) in [
            ("[[agent]]\nname = \"a\n", 2, "string"),
            (
                "# x\n[[agents]]\nname = \"a\"\n",
                2,
                "unknown field `agents`",
            ),
            (
                &one("protocol = \"acp\"\ncomand = \"x\""),
                5,
                "unknown field `comand`",
            ),
            (&one("protocol = \"telnet\""), 4, "unknown variant `telnet`"),
            (&one(""), 2, "missing field `protocol`"),
            (&one("protocol = \"acp\""), 2, "needs `command`"),
            (&one("protocol = \"chat\""), 2, "needs `base_url`"),
            (
                &one("protocol = \"acp\"\ncommand = \" \""),
                2,
                "`command` is empty",
            ),
            (
                &one("protocol = \"exec\"\ncommand = \"x\"\nmodel = \"m\""),
                2,
                "`model` means nothing with protocol = \"exec\"",
            ),
            (
                &one("protocol = \"acp\"\ncommand = \"x\"\nbase_url = \"http://h\""),
                2,
                "`base_url` means nothing",
            ),
            (
                &one("protocol = \"chat\"\nbase_url = \"http://h\"\nprompt = \"stdin\""),
                2,
                "`prompt` means nothing",
            ),
            (
                &one("protocol = \"chat\"\nbase_url = \"h:1\""),
                2,
                "base_url cannot be used",
            ),
            (
                &one("protocol = \"chat\"\nbase_url = \"http://h\"\nmax_turns = 0"),
                2,
                "max_turns must be 1 to",
            ),
            (
                &one("protocol = \"acp\"\ncommand = \"x\"\nenv = [\"A B\"]"),
                2,
                "is not the name of a variable",
            ),
            (
                &one("protocol = \"acp\"\ncommand = \"x\"\nenv = [\"pairing_token\"]"),
                2,
                "belongs to the bridge",
            ),
        ] {
            let (found, what) = wrong(text);
            assert!(what.contains(said), "{text}: {what}");
            assert_eq!(found, line, "{text}: {what}");
        }
    }

    #[test]
    fn names_are_plain_new_and_not_ours() {
        let agent = |name: &str| {
            format!("[[agent]]\nname = \"{name}\"\nprotocol = \"acp\"\ncommand = \"x\"\n")
        };
        for name in ["", "Mine", "a b", "-a", "a_b", "a/b", &"x".repeat(41)] {
            assert!(wrong(&agent(name)).1.contains("small letters"), "{name}");
        }
        assert!(wrong(&agent("claude")).1.contains("built in"));
        let twice = agent("a") + &agent("a");
        assert_eq!(wrong(&twice), (5, "there is a second agent named a".into()));
        let many: String = (0..65)
            .map(|n| agent(&format!("a{n}")))
            .collect::<Vec<_>>()
            .concat();
        assert!(wrong(&many).1.contains("more than 64"));
    }

    #[test]
    fn a_value_written_for_a_name_is_not_repeated() {
        let text = one("protocol = \"acp\"\ncommand = \"x\"\nenv = [\"KEY=hush\"]");
        let (_, what) = wrong(&text);
        assert!(what.contains("\"KEY\"") && !what.contains("hush"), "{what}");
    }
}
