//! What is looked at in the user's `config.toml`: which provider of models is chosen, and which
//! variables hold its key. Nothing else of it is kept, and it is never written.
//!
//! Lines are enough for that: a file this does not understand is one that names nothing.

/// What the file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Config {
    /// The chosen provider of models, if one is.
    pub(super) provider: Option<String>,
    /// Names of variables that hold keys of providers.
    pub(super) key_variables: Vec<String>,
    /// Logins are kept in the system's key store, where they are not looked for.
    pub(super) key_store: bool,
}

impl Config {
    /// Reads the text of the file.
    pub(super) fn read(text: &str) -> Self {
        let mut config = Self::default();
        for line in text.lines().map(str::trim_start) {
            if line.starts_with('#') {
                continue;
            }
            if let Some(name) = value_of(line, "model_provider") {
                config.provider.get_or_insert(name);
            }
            if let Some(store) = value_of(line, "cli_auth_credentials_store") {
                config.key_store = store != "file";
            }
            let mut rest = line;
            while let Some((_, behind)) = rest.split_once(KEY) {
                rest = behind;
                if let Some(name) = quoted(behind).filter(|name| is_variable(name))
                    && config.key_variables.len() < MAX_VARIABLES
                {
                    config.key_variables.push(name);
                }
            }
        }
        config
    }

    /// Whether prompts go to somebody else than the vendor, who has a login of his own.
    pub(super) fn has_own_provider(&self) -> bool {
        self.provider
            .as_deref()
            .is_some_and(|name| name != "openai")
    }
}

/// The text that `line` gives to `name`.
fn value_of(line: &str, name: &str) -> Option<String> {
    quoted(line.strip_prefix(name)?)
}

/// The text behind an equals sign.
fn quoted(behind: &str) -> Option<String> {
    let value = behind.trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let text = value.strip_prefix(quote)?.split_once(quote)?.0;
    (!text.is_empty()).then(|| text.to_owned())
}

fn is_variable(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.len() <= 128 && name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// The setting of a provider that names the variable of its key.
const KEY: &str = "env_key";
const MAX_VARIABLES: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chosen_provider_and_the_variables_of_keys_are_found() {
        let config = Config::read(
            "# model_provider = \"no\"\nmodel = \"m\"\nmodel_provider = 'mock'\n\
             [model_providers.mock]\nname = \"Mock\"\nenv_key = \"MOCK_KEY\"\n\
             [model_providers]\nother = { name = \"x\", env_key=\"OTHER_KEY\" }\n\
             [profiles.p]\nmodel_provider = \"second\"\n",
        );
        assert_eq!(config.provider.as_deref(), Some("mock"));
        assert_eq!(config.key_variables, ["MOCK_KEY", "OTHER_KEY"]);
        assert!(config.has_own_provider() && !config.key_store);
    }

    #[test]
    fn what_is_no_name_of_a_variable_is_not_one() {
        let config = Config::read(
            "env_key_instructions = \"Set X\"\nenv_key = \"A B\"\nenv_key = \"1A\"\nenv_key = [\n\
             model_provider_of = 3\nmodel_provider =\ncli_auth_credentials_store = \"keyring\"",
        );
        assert_eq!((config.provider, config.key_variables.len()), (None, 0));
        assert!(config.key_store);
        assert!(!Config::read("model_provider = \"openai\"").has_own_provider());
    }
}
