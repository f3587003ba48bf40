//! What look-ups on disk say of Gemini CLI, opencode and a command of the user's own.

#![cfg(unix)]
#![expect(
    clippy::unwrap_used,
    reason = "a test that meets something else shall fail"
)]

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use bridge_proto::{ProviderKey, model::HealthReason};
use bridge_providers::{
    custom::{CustomAgent, CustomProvider},
    gemini::GeminiProvider,
    host::Host,
    opencode::OpencodeProvider,
    provider::Provider,
};
use tempfile::TempDir;

/// A home folder with programs in `.local/bin`.
struct Home(TempDir);

impl Home {
    fn with(programs: &[&str]) -> Self {
        let home = Self(TempDir::new().unwrap());
        for program in programs {
            let file = home.put(&format!(".local/bin/{program}"), "#!/bin/sh\n");
            fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        home
    }

    fn put(&self, name: &str, text: &str) -> std::path::PathBuf {
        let file = self.0.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        file
    }

    fn host(&self, vars: &[(&str, &str)]) -> Host {
        let home = ("HOME", self.path().to_str().unwrap());
        Host::new(
            [home]
                .iter()
                .chain(vars)
                .map(|(name, value)| (name.into(), value.into())),
        )
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

fn reason(provider: &dyn Provider) -> Option<HealthReason> {
    let found = provider.find();
    assert_eq!(found.health.available, found.health.reason.is_none());
    assert_eq!(found.health.available, found.health.hint.is_none());
    found.health.reason
}

const LOGIN: Option<HealthReason> = Some(HealthReason::AuthRequired);

#[test]
fn a_program_in_a_usual_place_is_found_without_a_search_path() {
    let home = Home::with(&["my-agent"]);
    let agent = |program: &str| {
        let key = ProviderKey::parse("mine").unwrap();
        let (args, env_allow) = (vec!["--acp".into()], Vec::new());
        CustomProvider::new(
            CustomAgent {
                key,
                program: program.into(),
                args,
                env_allow,
            },
            home.host(&[]),
        )
    };
    let found = agent("my-agent").find();
    assert_eq!(found.program, Some(home.path().join(".local/bin/my-agent")));
    assert_eq!(reason(&agent("my-agent")), None);
    assert_eq!(
        reason(&agent("no-such-agent")),
        Some(HealthReason::BinaryMissing)
    );
}

#[test]
fn gemini_is_logged_in_by_a_key_and_not_without_anything() {
    let home = Home::with(&["gemini"]);
    let with = |vars: &[(&str, &str)]| reason(&GeminiProvider::new(home.host(vars)));
    assert_eq!(with(&[]), LOGIN);
    assert_eq!(with(&[("GEMINI_API_KEY", "k")]), None);
    assert_eq!(with(&[("GOOGLE_GENAI_USE_VERTEXAI", "true")]), LOGIN);
    assert_eq!(
        with(&[
            ("GOOGLE_GENAI_USE_VERTEXAI", "true"),
            ("GOOGLE_CLOUD_PROJECT", "p")
        ]),
        None
    );
    home.put(".gemini/.env", "# mine\nexport GEMINI_API_KEY=k\n");
    assert_eq!(with(&[]), None);
}

#[test]
fn gemini_with_google_login_chosen_needs_its_credentials_even_if_there_is_a_key() {
    let home = Home::with(&["gemini"]);
    let chosen =
        "{ // my settings\n \"security\": {\"auth\": {\"selectedType\" : \"oauth-personal\"}}}";
    home.put(".gemini/settings.json", chosen);
    let with = |vars: &[(&str, &str)]| reason(&GeminiProvider::new(home.host(vars)));
    assert_eq!(
        with(&[("GEMINI_API_KEY", "k")]),
        LOGIN,
        "it would ask on standard output"
    );
    home.put(".gemini/oauth_creds.json", "{}");
    assert_eq!(with(&[]), None);
    let elsewhere = Home::with(&[]);
    assert_eq!(
        with(&[("GEMINI_CLI_HOME", elsewhere.path().to_str().unwrap())]),
        LOGIN
    );
}

#[test]
fn opencode_is_refused_until_somebody_chose_where_prompts_go() {
    let home = Home::with(&["opencode"]);
    let with = |vars: &[(&str, &str)]| reason(&OpencodeProvider::new(home.host(vars)));
    assert_eq!(with(&[]), LOGIN);
    assert_eq!(
        with(&[("ANTHROPIC_API_KEY", "k")]),
        LOGIN,
        "not a choice, and another's key"
    );
    assert_eq!(
        with(&[("OPENCODE_CONFIG_CONTENT", "{\"model\":\"mine/a\"}")]),
        None
    );
    let own = OpencodeProvider::new(home.host(&[])).with_model("mine/a".into());
    assert_eq!(reason(&own), None);

    home.put(
        ".config/opencode/opencode.jsonc",
        "{\n // none yet\n \"theme\": \"dark\"\n}",
    );
    assert_eq!(with(&[]), LOGIN);
    home.put(
        ".config/opencode/opencode.jsonc",
        "{\n // mine\n \"model\": \"mine/a\"\n}",
    );
    assert_eq!(with(&[]), None);
}

#[test]
fn opencode_with_a_login_is_ready() {
    let home = Home::with(&["opencode"]);
    home.put(".local/share/opencode/auth.json", "{}");
    assert_eq!(reason(&OpencodeProvider::new(home.host(&[]))), LOGIN);
    home.put(
        ".local/share/opencode/auth.json",
        "{\"anthropic\":{\"type\":\"api\",\"key\":\"hush\"}}",
    );
    assert_eq!(reason(&OpencodeProvider::new(home.host(&[]))), None);
}

#[test]
fn programs_that_are_not_here_are_missing_with_a_word_how_to_get_them() {
    let home = Home::with(&[]);
    let providers: [&dyn Provider; 2] = [
        &GeminiProvider::new(home.host(&[])),
        &OpencodeProvider::new(home.host(&[])),
    ];
    for provider in providers {
        let health = provider.find().health;
        assert_eq!(health.reason, Some(HealthReason::BinaryMissing));
        assert!(health.hint.unwrap().contains("npm install"));
    }
}
