//! The command lines and the environment the program is started with. Pure: the machine comes as
//! an argument.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{config::Config, start::CodexStart};
use crate::{
    host::Host,
    process::{AllowList, Environment},
};

/// Whether the working directory's own settings may be in force.
///
/// A directory without a word about it would not only be trusted: the program would write that
/// into the user's settings, then start the directory's tool servers and obey its rules for
/// commands. So there is always a word about it, for this process alone.
#[derive(Debug, Clone)]
pub(super) struct Trust {
    /// The working directory by all its names, links resolved in one of them.
    pub(super) names: Vec<PathBuf>,
    pub(super) trusted: bool,
}

impl Trust {
    /// The setting. Without trust it covers everything above the directory as well: a repository
    /// around it that the user trusts elsewhere brings its settings too. With trust it covers what
    /// lies between the directory and the root of its repository.
    pub(super) fn setting(&self, is_repository: impl Fn(&Path) -> bool) -> String {
        let mut folders: Vec<&Path> = Vec::new();
        for name in &self.names {
            let above: Vec<&Path> = name.ancestors().collect();
            let root = above.iter().position(|folder| is_repository(folder));
            let depth = match (self.trusted, root) {
                (true, root) => root.unwrap_or(0) + 1,
                (false, _) => above.len(),
            };
            folders.extend(above.into_iter().take(depth));
        }
        let level = if self.trusted { "trusted" } else { "untrusted" };
        let mut entries: Vec<String> = Vec::new();
        for folder in folders.iter().filter_map(|folder| folder.to_str()) {
            let entry = format!("{}={{trust_level=\"{level}\"}}", quoted(folder));
            if !entries.contains(&entry) {
                entries.push(entry);
            }
        }
        format!("projects={{{}}}", entries.join(","))
    }
}

/// `codex app-server` with these settings on top of the user's.
pub(super) fn server(settings: &[String]) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec!["app-server".into()];
    args.extend(given(settings));
    args
}

/// `codex exec` for one turn, the prompt on standard input. It asks nobody; a continued
/// conversation would fall back to reading only.
pub(super) fn exec(start: &CodexStart, settings: &[String]) -> Vec<OsString> {
    let mut args: Vec<OsString> = ["exec", "--json", "--skip-git-repo-check"]
        .map(Into::into)
        .to_vec();
    args.extend(given(settings));
    let mut own = vec![
        format!("sandbox_mode={}", quoted(start.sandbox())),
        format!("approval_policy={}", quoted("never")),
    ];
    if !start.writable.is_empty() {
        let folders: Vec<String> = start.writable.iter().map(|folder| quoted(folder)).collect();
        let folders = folders.join(",");
        own.push(format!(
            "sandbox_workspace_write.writable_roots=[{folders}]"
        ));
    }
    if !start.instructions.is_empty() {
        own.push(format!(
            "developer_instructions={}",
            quoted(&start.instructions)
        ));
    }
    args.extend(given(&own));
    if let Some(model) = &start.model {
        args.push(format!("--model={model}").into());
    }
    if let Some(conversation) = &start.resume {
        args.extend(["resume", "--", conversation.as_str()].map(Into::into));
    }
    args.push("-".into());
    args
}

/// Settings that are always on top of the user's: retries that end. As a flag it would be refused
/// by versions that do not know it.
pub(super) fn always() -> Vec<String> {
    vec!["features.unbounded_connection_retries=false".to_owned()]
}

/// A provider of models like the built-in one that takes its key from a variable: the app-server
/// itself looks at stored logins only, and the built-in one cannot be changed.
pub(super) fn key_from_variable(host: &Host) -> Vec<String> {
    let base = host.value("OPENAI_BASE_URL").unwrap_or(OPENAI);
    vec![
        format!("model_provider={}", quoted(BY_KEY)),
        format!(
            "model_providers.{BY_KEY}={{name=\"OpenAI\",base_url={},env_key=\"{KEY_VARIABLE}\",\
             wire_api=\"responses\"}}",
            quoted(base)
        ),
    ]
}

/// What the program sees of the machine's variables: its own, and the keys of the providers its
/// configuration names.
pub(super) fn sees(config: &Config) -> AllowList {
    AllowList::base().with(OWN).with(&config.key_variables)
}

/// The variables the program is started with.
pub(super) fn environment(host: &Host, config: &Config) -> Environment {
    host.environment(&sees(config))
}

fn given(settings: &[String]) -> impl Iterator<Item = OsString> {
    settings
        .iter()
        .flat_map(|setting| ["-c".into(), OsString::from(setting)])
}

/// A string of TOML. The escapes of JSON are valid there; one more character needs one.
fn quoted(text: &str) -> String {
    Value::String(text.to_owned())
        .to_string()
        .replace('\u{7f}', "\\u007f")
}

/// The variable that holds a key for the vendor's API.
pub(super) const KEY_VARIABLE: &str = "CODEX_API_KEY";
const BY_KEY: &str = "openai-by-key";
const OPENAI: &str = "https://api.openai.com/v1";
const OWN: [&str; 8] = [
    KEY_VARIABLE,
    "CODEX_CA_CERTIFICATE",
    "CODEX_HOME",
    "CODEX_SQLITE_HOME",
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "OPENAI_ORGANIZATION",
    "OPENAI_PROJECT",
];

#[cfg(test)]
mod tests {
    use bridge_proto::ResumeId;

    use super::*;
    use crate::provider::Asking;

    fn trust(names: &[&str], trusted: bool) -> Trust {
        Trust {
            names: names.iter().map(PathBuf::from).collect(),
            trusted,
        }
    }

    fn texts(args: Vec<OsString>) -> Vec<String> {
        args.into_iter()
            .map(|arg| arg.into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_folder_that_is_not_trusted_brings_no_settings_nor_does_what_is_around_it() {
        let setting = trust(&["/a/b", "/c"], false).setting(|_| false);
        let entry = |path: &str| format!("\"{path}\"={{trust_level=\"untrusted\"}}");
        let all = ["/a/b", "/a", "/", "/c"].map(entry).join(",");
        assert_eq!(setting, format!("projects={{{all}}}"));
    }

    #[test]
    fn trust_reaches_to_the_root_of_the_repository_and_no_further() {
        let setting = trust(&["/r/a/b"], true).setting(|folder| folder == Path::new("/r/a"));
        let entry = |path: &str| format!("\"{path}\"={{trust_level=\"trusted\"}}");
        let both = ["/r/a/b", "/r/a"].map(entry).join(",");
        assert_eq!(setting, format!("projects={{{both}}}"));
        let alone = trust(&["/r/a"], true).setting(|_| false);
        assert_eq!(alone, format!("projects={{{}}}", entry("/r/a")));
    }

    #[test]
    fn no_path_breaks_out_of_its_quotes() {
        let setting = trust(&["/a\"}\n\u{7f}é"], true).setting(|_| false);
        let wanted = r#"projects={"/a\"}\n\u007fé"={trust_level="trusted"}}"#;
        assert_eq!(setting, wanted);
    }

    #[test]
    fn values_cannot_be_read_as_options() {
        let start = CodexStart {
            model: Some("--odd".into()),
            instructions: "- be \"brief\"".into(),
            writable: vec!["/t".into()],
            resume: ResumeId::parse("--last").ok(),
            ..CodexStart::default()
        };
        let args = texts(exec(&start, &always()));
        assert!(args.contains(&"--model=--odd".to_owned()));
        assert!(args.contains(&r#"developer_instructions="- be \"brief\"""#.to_owned()));
        assert!(args.contains(&r#"sandbox_workspace_write.writable_roots=["/t"]"#.to_owned()));
        let end = ["resume", "--", "--last", "-"];
        assert_eq!(args.last_chunk(), Some(&end.map(str::to_owned)));
    }

    #[test]
    fn who_only_plans_works_in_a_sandbox_that_only_reads() {
        for (asking, sandbox) in [
            (Asking::ReadOnly, "read-only"),
            (Asking::Unneeded, "workspace-write"),
        ] {
            let start = CodexStart {
                asking,
                ..CodexStart::default()
            };
            let args = texts(exec(&start, &always()));
            assert!(
                args.contains(&format!("sandbox_mode=\"{sandbox}\"")),
                "{args:?}"
            );
        }
    }

    #[test]
    fn it_sees_its_own_keys_and_those_its_configuration_names() {
        let vars = [
            "CODEX_API_KEY",
            "MOCK_KEY",
            "ANTHROPIC_API_KEY",
            "PAIRING_TOKEN",
            "CODEX_SANDBOX",
        ];
        let host = Host::new(vars.map(|name| (name.into(), "1".into())));
        let config = Config::read("env_key = \"MOCK_KEY\"\nenv_key = \"PAIRING_TOKEN\"");
        let env = environment(&host, &config);
        let seen: Vec<&str> = vars
            .into_iter()
            .filter(|name| env.value(name).is_some())
            .collect();
        assert_eq!(seen, ["CODEX_API_KEY", "MOCK_KEY"]);
    }

    #[test]
    fn a_key_in_a_variable_stays_out_of_the_command_line() {
        let host = Host::new([("CODEX_API_KEY".into(), "hush".into())]);
        let settings = key_from_variable(&host).join(" ");
        assert!(!settings.contains("hush") && settings.contains("env_key=\"CODEX_API_KEY\""));
    }
}
