//! The command line and the environment the program is started with. Pure: the machine comes as
//! an argument.

use std::ffi::OsString;

use bridge_proto::RunKey;

use super::outgoing::uuid_of;
use crate::{
    host::Host,
    plain::head,
    process::{AllowList, Environment},
    provider::{Asking, RunSpec},
};

/// The arguments of one conversation. Prompts never stand here: arguments are seen by everybody
/// who lists processes, and one that begins with `-` would be read as an option.
pub(crate) fn arguments(spec: &RunSpec) -> Vec<OsString> {
    let mut args: Vec<OsString> = DUPLEX.into_iter().map(OsString::from).collect();
    args.extend(
        [
            "--include-partial-messages",
            "--permission-prompt-tool",
            "stdio",
        ]
        .map(Into::into),
    );
    args.extend(["--permission-mode", "default"].map(Into::into));
    let only_looks = spec.asking == Asking::ReadOnly;
    if only_looks {
        args.push(LOOKING.into());
    }
    if !spec.trusted || only_looks {
        args.extend(UNTRUSTED.map(Into::into));
    }
    if let Some(model) = spec.model.as_deref().filter(|model| !model.is_empty()) {
        args.push(format!("--model={model}").into());
    }
    for folder in &spec.extra_directories {
        args.push("--add-dir".into());
        args.push(folder.into());
    }
    let instructions = head(spec.instructions.trim(), MAX_INSTRUCTIONS);
    if !instructions.is_empty() {
        args.push(format!("--append-system-prompt={instructions}").into());
    }
    match &spec.resume {
        Some(conversation) => args.push(format!("--resume={conversation}").into()),
        None => args.push(format!("--session-id={}", session_id(&spec.run)).into()),
    }
    args
}

/// The arguments that list models: no conversation, nothing of the folder's own settings.
pub(super) fn listing_arguments() -> Vec<OsString> {
    DUPLEX
        .into_iter()
        .chain(UNTRUSTED)
        .map(OsString::from)
        .collect()
}

/// The conversation id of a new run: follows from the run, so that a conversation whose process
/// was lost before it said a word can still be resumed.
pub(super) fn session_id(run: &RunKey) -> String {
    uuid_of(&["session", run.task.as_str(), &run.attempt])
}

/// What the program sees of the machine's variables: its own, those of the cloud it is told to
/// use, and nothing of another agent. Variables of a Claude Code session around the bridge
/// (`CLAUDECODE`, `CLAUDE_CODE_ENTRYPOINT`, …) do not pass either.
pub(super) fn sees(host: &Host) -> AllowList {
    let mut allow = AllowList::base().with(OWN).with_prefixes(OWN_PREFIXES);
    if host.is_on("CLAUDE_CODE_USE_BEDROCK") {
        allow = allow.with(BEDROCK).with_prefixes(["AWS_"]);
    }
    if host.is_on("CLAUDE_CODE_USE_VERTEX") {
        allow = allow.with(VERTEX).with_prefixes(["GOOGLE_", "VERTEX_"]);
    }
    allow
}

/// The variables the program is started with.
pub(super) fn environment(host: &Host) -> Environment {
    host.environment(&sees(host))
        .set("DISABLE_AUTOUPDATER", "1")
        .set("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
        .set("CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS", "1")
}

/// Stream-json both ways; `--verbose` is required with it.
const DUPLEX: [&str; 6] = [
    "-p",
    "--input-format",
    "stream-json",
    "--output-format",
    "stream-json",
    "--verbose",
];
/// Keeps a folder's own settings out: its hooks are commands.
const UNTRUSTED: [&str; 3] = ["--setting-sources", "user", "--strict-mcp-config"];
/// The tools of a conversation that must change nothing: with others, rules of the user could let
/// them act without a question.
const LOOKING: &str = "--tools=Read,Glob,Grep";
/// Longest instructions in bytes: one argument may have 128 KiB on Linux, a whole command line
/// 32 KiB on Windows.
const MAX_INSTRUCTIONS: usize = if cfg!(windows) { 20_000 } else { 100_000 };
/// Whole names, also credentials.
const OWN: [&str; 19] = [
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CONFIG_DIR",
    "CLAUDE_ENV_FILE",
    "CLAUDE_CODE_API_KEY_HELPER_TTL_MS",
    "CLAUDE_CODE_CLIENT_CERT",
    "CLAUDE_CODE_CLIENT_KEY",
    "CLAUDE_CODE_CLIENT_KEY_PASSPHRASE",
    "CLAUDE_CODE_EFFORT_LEVEL",
    "CLAUDE_CODE_GIT_BASH_PATH",
    "CLAUDE_CODE_MAX_OUTPUT_TOKENS",
    "CLAUDE_CODE_SUBAGENT_MODEL",
    "API_TIMEOUT_MS",
    "BASH_DEFAULT_TIMEOUT_MS",
    "BASH_MAX_TIMEOUT_MS",
    "IS_SANDBOX",
    "MAX_THINKING_TOKENS",
    "USE_BUILTIN_RIPGREP",
];
const OWN_PREFIXES: [&str; 6] = [
    "ANTHROPIC_",
    "CLAUDE_CODE_DISABLE_",
    "CLAUDE_CODE_ENABLE_",
    "CLAUDE_CODE_MAX_",
    "CLAUDE_CODE_SKIP_",
    "CLAUDE_CODE_USE_",
];
const BEDROCK: [&str; 5] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_BEARER_TOKEN_BEDROCK",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
];
const VERTEX: [&str; 3] = [
    "GOOGLE_APPLICATION_CREDENTIALS",
    "CLOUD_ML_REGION",
    "GCLOUD_PROJECT",
];

#[cfg(test)]
mod tests {
    use bridge_proto::{ResumeId, TaskId};

    use super::*;

    fn spec() -> RunSpec {
        RunSpec {
            agent: None,
            run: RunKey {
                task: TaskId::parse("t").unwrap(),
                attempt: "1".into(),
            },
            directory: "/work".into(),
            extra_directories: vec!["/extra".into()],
            model: Some("--odd".into()),
            asking: Asking::Answered,
            instructions: "- be brief".into(),
            resume: None,
            trusted: false,
            temp: None,
        }
    }

    fn texts(spec: &RunSpec) -> Vec<String> {
        arguments(spec)
            .into_iter()
            .map(|arg| arg.into_string().unwrap())
            .collect()
    }

    #[test]
    fn values_cannot_be_read_as_options() {
        let args = texts(&spec());
        assert!(args.contains(&"--model=--odd".to_owned()));
        assert!(args.contains(&"--append-system-prompt=- be brief".to_owned()));
        assert!(args.windows(2).any(|pair| pair == ["--add-dir", "/extra"]));
    }

    #[test]
    fn a_folder_that_is_not_trusted_brings_no_settings() {
        let untrusted = texts(&spec());
        assert!(untrusted.windows(3).any(|three| three == UNTRUSTED));
        let trusted = texts(&RunSpec {
            trusted: true,
            ..spec()
        });
        assert!(!trusted.contains(&"--strict-mcp-config".to_owned()));
    }

    #[test]
    fn who_only_plans_has_no_tool_that_acts_and_no_servers() {
        let asking = Asking::ReadOnly;
        let planner = texts(&RunSpec {
            asking,
            trusted: true,
            ..spec()
        });
        assert!(planner.contains(&"--tools=Read,Glob,Grep".to_owned()));
        assert!(planner.contains(&"--strict-mcp-config".to_owned()));
        let worker = texts(&spec());
        assert!(!worker.iter().any(|arg| arg.starts_with("--tools")));
    }

    #[test]
    fn a_run_has_one_conversation_id_for_ever() {
        let id = session_id(&spec().run);
        assert!(texts(&spec()).contains(&format!("--session-id={id}")));
        let resume = Some(ResumeId::parse("c1").unwrap());
        let resumed = texts(&RunSpec { resume, ..spec() });
        assert_eq!(resumed.last().unwrap(), "--resume=c1");
        assert!(!resumed.iter().any(|arg| arg.starts_with("--session-id")));
    }

    #[test]
    fn only_its_own_variables_pass() {
        let vars = [
            "ANTHROPIC_API_KEY",
            "ANTHROPIC_BASE_URL",
            "CLAUDE_CONFIG_DIR",
            "CLAUDECODE",
            "CLAUDE_CODE_ENTRYPOINT",
            "CLAUDE_CODE_SSE_PORT",
            "GEMINI_API_KEY",
            "PAIRING_TOKEN",
            "AWS_REGION",
            "AWS_SECRET_ACCESS_KEY",
        ];
        let host = |more: &[&str]| {
            Host::new(
                vars.iter()
                    .chain(more)
                    .map(|name| ((*name).into(), "1".into())),
            )
        };
        let names = |host: &Host| -> Vec<String> {
            let passed = environment(host);
            vars.iter()
                .filter(|name| passed.value(name).is_some())
                .map(|name| (*name).to_owned())
                .collect()
        };
        let own = [
            "ANTHROPIC_API_KEY",
            "ANTHROPIC_BASE_URL",
            "CLAUDE_CONFIG_DIR",
        ];
        assert_eq!(names(&host(&[])), own);
        let with_aws = [&own[..], &["AWS_REGION", "AWS_SECRET_ACCESS_KEY"]].concat();
        assert_eq!(names(&host(&["CLAUDE_CODE_USE_BEDROCK"])), with_aws);
    }
}
