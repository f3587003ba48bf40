//! What look-ups on disk say of the agents of the Agent Client Protocol.

#![cfg(unix)]
#![expect(
    clippy::unwrap_used,
    reason = "a test that meets something else shall fail"
)]

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use bridge_proto::{ProviderKey, model::HealthReason};
use bridge_providers::{
    copilot::CopilotProvider,
    cursor::CursorProvider,
    custom::{CustomAgent, CustomProvider},
    gemini::GeminiProvider,
    hermes::HermesProvider,
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
            home.program(&format!(".local/bin/{program}"));
        }
        home
    }

    fn program(&self, name: &str) -> std::path::PathBuf {
        let file = self.put(name, "#!/bin/sh\n");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        file
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
fn copilot_is_logged_in_by_its_own_token_its_settings_gh_or_models_of_the_users_own() {
    let home = Home::with(&["copilot"]);
    let with = |vars: &[(&str, &str)]| reason(&CopilotProvider::new(home.host(vars)));
    assert_eq!(with(&[]), LOGIN);
    assert_eq!(
        with(&[("GITHUB_TOKEN", "x"), ("GH_TOKEN", "x")]),
        LOGIN,
        "they are kept from it"
    );
    assert_eq!(with(&[("COPILOT_GITHUB_TOKEN", "gho_x")]), None);
    assert_eq!(
        with(&[("COPILOT_GITHUB_TOKEN", "ghp_x")]),
        LOGIN,
        "it refuses classic tokens"
    );
    let url = ("COPILOT_PROVIDER_BASE_URL", "http://127.0.0.1/v1");
    assert_eq!(with(&[url]), LOGIN, "it wants a model too");
    assert_eq!(with(&[url, ("COPILOT_MODEL", "m")]), None);

    home.put(
        ".copilot/config.json",
        "// managed automatically\n{\"loggedInUsers\": []}",
    );
    assert_eq!(with(&[]), LOGIN);
    home.put(
        ".copilot/config.json",
        "// managed automatically\n{\"loggedInUsers\": [{\"login\": \"me\"}]}",
    );
    assert_eq!(with(&[]), None);
    let elsewhere = Home::with(&[]);
    let moved = elsewhere.path().to_str().unwrap();
    assert_eq!(with(&[("COPILOT_HOME", moved)]), LOGIN);
    home.put(".config/gh/hosts.yml", "github.com:\n    user: me\n");
    assert_eq!(with(&[("COPILOT_HOME", moved)]), None);
}

#[test]
fn copilots_own_program_is_preferred_to_the_loader_npm_puts_in_front_of_it() {
    let home = Home::with(&[]);
    let scope = "lib/node_modules/@github";
    let loader = home.program(&format!("{scope}/copilot/npm-loader.js"));
    fs::create_dir_all(home.path().join("bin")).unwrap();
    let link = home.path().join("bin/copilot");
    std::os::unix::fs::symlink(&loader, &link).unwrap();
    let found = || CopilotProvider::new(home.host(&[])).find().program.unwrap();
    assert_eq!(found(), link, "better than nothing");
    let arch = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "x64"
    };
    let system = if cfg!(target_os = "macos") {
        "darwin"
    } else {
        "linux"
    };
    let native = home.program(&format!("{scope}/copilot-{system}-{arch}/copilot"));
    assert_eq!(found(), native.canonicalize().unwrap());
}

#[test]
fn hermes_is_ready_once_a_provider_of_models_is_configured() {
    let home = Home::with(&["hermes"]);
    let with = |vars: &[(&str, &str)]| reason(&HermesProvider::new(home.host(vars)));
    assert_eq!(with(&[]), LOGIN);
    assert_eq!(
        with(&[("OPENROUTER_API_KEY", "k")]),
        LOGIN,
        "another's key is kept from it"
    );
    home.put(".hermes/.env", "OPENROUTER_API_KEY=\n");
    assert_eq!(with(&[]), LOGIN);
    home.put(".hermes/.env", "OPENROUTER_API_KEY=k\n");
    assert_eq!(with(&[]), None);
    let elsewhere = Home::with(&[]);
    let moved = elsewhere.path().to_str().unwrap();
    assert_eq!(with(&[("HERMES_HOME", moved)]), LOGIN);
    elsewhere.put("config.yaml", "model:\n  provider: custom\n");
    assert_eq!(with(&[("HERMES_HOME", moved)]), None);
}

#[test]
fn hermes_in_its_own_folder_is_found_without_a_search_path() {
    let home = Home::with(&[]);
    let program = home.program(".hermes/hermes-agent/venv/bin/hermes");
    let found = HermesProvider::new(home.host(&[])).find();
    assert_eq!(found.program, Some(program));
}

#[test]
fn cursor_is_logged_in_by_a_key_or_a_stored_login_and_found_by_its_own_name_only() {
    let home = Home::with(&["agent"]);
    let with = |vars: &[(&str, &str)]| reason(&CursorProvider::new(home.host(vars)));
    assert_eq!(
        with(&[]),
        Some(HealthReason::BinaryMissing),
        "others call their program so too"
    );
    home.program(".local/bin/cursor-agent");
    assert_eq!(with(&[]), LOGIN);
    assert_eq!(with(&[("CURSOR_API_KEY", "k")]), None);
    assert_eq!(with(&[("CURSOR_AUTH_TOKEN", "t")]), None);
    home.put(".config/cursor/auth.json", "{}");
    assert_eq!(with(&[]), None);
}

#[test]
fn programs_that_are_not_here_are_missing_with_a_word_how_to_get_them() {
    let home = Home::with(&[]);
    let providers: [&dyn Provider; 5] = [
        &CopilotProvider::new(home.host(&[])),
        &CursorProvider::new(home.host(&[])),
        &GeminiProvider::new(home.host(&[])),
        &HermesProvider::new(home.host(&[])),
        &OpencodeProvider::new(home.host(&[])),
    ];
    for provider in providers {
        let health = provider.find().health;
        assert_eq!(health.reason, Some(HealthReason::BinaryMissing));
        assert!(health.hint.unwrap().contains("install"));
    }
}
