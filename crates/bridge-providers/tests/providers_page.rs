//! `docs/providers.md` says what the code says. `UPDATE_SNAPSHOTS=1` writes what comes from the code
//! anew; the words around it are written by hand.

#![cfg(target_os = "linux")] // Elsewhere logins are in key stores, which look-ups do not see.
#![expect(
    clippy::unwrap_used,
    reason = "a test that meets something else shall fail"
)]

use std::{env, fmt::Write as _, fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use bridge_proto::{ProviderKey, model::HealthReason};
use bridge_providers::{
    chat::{BaseUrl, ChatProvider, ChatSettings},
    claude::ClaudeProvider,
    codex::CodexProvider,
    copilot::CopilotProvider,
    cursor::CursorProvider,
    custom::{CustomAgent, CustomProvider, PromptBy, Protocol},
    demo::DemoProvider,
    gemini::GeminiProvider,
    hermes::HermesProvider,
    host::Host,
    openclaw::OpenclawProvider,
    opencode::OpencodeProvider,
    provider::{Abilities, Choosing, Provider},
};
use tempfile::TempDir;

#[test]
fn the_page_says_what_the_code_says() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/providers.md");
    let kept = fs::read_to_string(&file).unwrap();
    let home = a_home_with_everything_but_logins();
    let agents = agents(&home);
    let mut page = with(&kept, "table", &table(&agents));
    for agent in agents.iter().filter(|agent| agent.has_section) {
        let key = agent.provider.key().as_str();
        assert!(page.contains(&format!("(`{key}`)")), "{key} has a section");
        page = with(&page, key, &facts(agent.provider.as_ref()));
    }
    if env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(&file, page).unwrap();
    } else {
        assert_eq!(kept, page, "`cargo xtask providers` writes the page anew");
    }
}

/// Asked where the program really is not here: a machine may have one in a folder of the system.
#[test]
fn the_page_says_what_to_do_where_an_agent_is_missing() {
    let page = include_str!("../../../docs/providers.md");
    let nowhere = TempDir::new().unwrap();
    for agent in agents(&nowhere) {
        let health = agent.provider.find().health;
        if agent.has_section && health.reason == Some(HealthReason::BinaryMissing) {
            let hint = health.hint.unwrap();
            assert!(page.contains(&hint), "{hint}");
        }
    }
}

#[test]
fn an_agent_was_run_in_the_version_that_is_installed_for_the_tests() {
    let pinned = include_str!("../../../xtask/src/agents.rs");
    let home = TempDir::new().unwrap();
    for agent in agents(&home) {
        if let Some(version) = agent.provider.abilities().ran_with {
            let version = format!("\"{version}\"");
            assert!(pinned.contains(&version), "{}: {version}", agent.name);
        }
    }
}

#[test]
fn both_keys_of_claude_code_are_the_same_agent() {
    let host = Host::default();
    let of = |key: &str| ClaudeProvider::new(ProviderKey::parse(key).unwrap(), host.clone());
    let (one, other) = (of("claude").abilities(), of("claude-sdk").abilities());
    assert_eq!(
        other,
        Abilities {
            plain_only: true,
            ..one
        }
    );
}

/// An agent, and what people call it.
struct Agent {
    name: &'static str,
    provider: Box<dyn Provider>,
    /// Agents of one's own share one.
    has_section: bool,
}

/// In the order of the page.
fn agents(home: &TempDir) -> Vec<Agent> {
    let folder = home.path();
    let variables = [("HOME".into(), folder.into())];
    let host = || Host::new(variables.clone());
    let key = |key: &str| ProviderKey::parse(key).unwrap();
    let this = || PathBuf::from("/ctrlnode");
    let built_in = |name, provider| Agent {
        name,
        provider,
        has_section: true,
    };
    let own = |name, protocol| Agent {
        name,
        provider: Box::new(
            CustomProvider::new(
                CustomAgent {
                    key: key("mine"),
                    program: "my-agent".into(),
                    args: Vec::new(),
                    env_allow: Vec::new(),
                },
                host(),
            )
            .with_protocol(protocol),
        ),
        has_section: false,
    };
    let base = BaseUrl::parse("https://models.example").unwrap();
    let chat = ChatSettings::new("mine", base);
    let endpoint = ChatProvider::named(key("mine"), chat, None, host(), this(), Vec::new());
    vec![
        built_in(
            "Claude Code",
            Box::new(ClaudeProvider::new(key("claude"), host())),
        ),
        built_in("GitHub Copilot CLI", Box::new(CopilotProvider::new(host()))),
        built_in("Gemini CLI", Box::new(GeminiProvider::new(host()))),
        built_in("OpenAI Codex", Box::new(CodexProvider::new(host()))),
        built_in("Cursor CLI", Box::new(CursorProvider::new(host()))),
        built_in("Hermes Agent", Box::new(HermesProvider::new(host()))),
        built_in("OpenClaw", Box::new(OpenclawProvider::new(host(), folder))),
        built_in("opencode", Box::new(OpencodeProvider::new(host()))),
        built_in(
            "Ollama",
            Box::new(ChatProvider::ollama(host(), this(), Vec::new())),
        ),
        built_in(
            "OpenRouter",
            Box::new(ChatProvider::openrouter(host(), this(), Vec::new())),
        ),
        own("Yours, Agent Client Protocol", Protocol::Acp),
        own("Yours, stream-json", Protocol::ClaudeStreamJson),
        own("Yours, a plain program", Protocol::Exec(PromptBy::Input)),
        Agent {
            name: "Yours, an endpoint",
            provider: Box::new(endpoint),
            has_section: false,
        },
        built_in(
            "Demo",
            Box::new(DemoProvider::new(host(), this(), Vec::new())),
        ),
    ]
}

/// Programs where they are looked for first, and a gateway without a secret.
fn a_home_with_everything_but_logins() -> TempDir {
    let home = TempDir::new().unwrap();
    let bin = home.path().join(".local/bin");
    fs::create_dir_all(&bin).unwrap();
    for name in [
        "claude",
        "codex",
        "copilot",
        "cursor-agent",
        "gemini",
        "hermes",
        "ollama",
        "openclaw",
        "opencode",
    ] {
        let program = bin.join(name);
        fs::write(&program, "").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::create_dir(home.path().join(".openclaw")).unwrap();
    fs::write(home.path().join(".openclaw/openclaw.json"), "{}").unwrap();
    home
}

fn table(agents: &[Agent]) -> String {
    let mut table = String::from(
        "| Agent | Resume | Follow-up | While it works | Permissions | Questions | Model | Mode \
         | Thinking | Usage | Cost | Images | Offered to | Run with |\n",
    );
    table.push_str(&"|---".repeat(14));
    table.push_str("|\n");
    for Agent { name, provider, .. } in agents {
        let Abilities {
            resume,
            follow_up,
            inject,
            permissions,
            questions,
            model,
            mode,
            effort,
            usage,
            cost,
            images,
            ran_with,
            hub_only,
            plain_only,
        } = provider.abilities();
        assert!(!plain_only, "it has the same row under its other key");
        let cells: [&str; 14] = [
            name,
            yes(resume),
            yes(follow_up),
            yes(inject),
            yes(permissions),
            yes(questions),
            when(model),
            when(mode),
            when(effort),
            yes(usage),
            yes(cost),
            yes(images),
            if hub_only { "hub" } else { "everybody" },
            ran_with.unwrap_or(NO),
        ];
        writeln!(table, "| {} |", cells.join(" | ")).unwrap();
    }
    table
}

/// What the code knows of one agent: what to do when it is not logged in, and what it sees.
fn facts(provider: &dyn Provider) -> String {
    let key = provider.key();
    let health = provider.find().health;
    let mut facts = String::new();
    if health.reason == Some(HealthReason::AuthRequired) {
        writeln!(facts, "- Login: {}.", health.hint.unwrap()).unwrap();
    } else {
        assert!(health.available, "{key}: {health:?}");
    }
    let sees = provider.sees().beyond_base();
    if !sees.is_empty() {
        let names: Vec<String> = sees.iter().map(|name| format!("`{name}`")).collect();
        writeln!(facts, "- Its own variables: {}.", names.join(", ")).unwrap();
    }
    facts
}

fn yes(can: bool) -> &'static str {
    if can { "yes" } else { NO }
}

fn when(choosing: Choosing) -> &'static str {
    match choosing {
        Choosing::Never => NO,
        Choosing::AtStart => "at the start",
        Choosing::AnyTime => "any time",
    }
}

/// The page with this text between the marks of this name.
fn with(page: &str, name: &str, text: &str) -> String {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->\n"));
    let (before, rest) = page
        .split_once(&begin)
        .unwrap_or_else(|| panic!("the page has no {begin}"));
    let (_, after) = rest
        .split_once(&end)
        .unwrap_or_else(|| panic!("the page has no {end}"));
    // Without an empty line Markdown takes the text for part of the comment.
    let text = if text.is_empty() {
        String::new()
    } else {
        format!("\n{text}\n")
    };
    format!("{before}{begin}{text}{end}{after}")
}

const NO: &str = "–";
