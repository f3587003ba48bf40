//! The binary `ctrlnode`: parse, run, report, exit code.

mod advice;
mod agents_file;
mod args;
mod browser;
mod client;
mod command;
mod daemon;
mod device_login;
mod invocation;
mod keys;
mod link_note;
mod logging;
mod machine;
mod plane_address;
mod protected;
mod reach;
mod recording;
mod render;
mod report;
mod rules_file;
mod settings;
mod shown_address;
mod side_channel;
mod signals;
mod state;
mod tls_settings;
mod typed;

use std::{
    io::{self, BufReader, Write as _},
    process::ExitCode,
};

use args::{BridgeCommand, ChatAgentJob, Cli, Command, LoginArgs, SetupArgs, StartArgs};
use bridge_proto::Secret;
use bridge_providers::{
    chat::{self, ChatJob, ChatSettings},
    demo::{self, DemoSettings},
};
use clap::{CommandFactory as _, Parser as _};
use report::{Exit, Problem};

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(Command::DemoAgent) = cli.command {
        return demo_agent();
    }
    if let Some(Command::ChatAgent { job }) = cli.command {
        return chat_agent(job);
    }
    match run(cli) {
        Ok(exit) => exit.into(),
        Err(problem) => {
            if problem.code() != Exit::Done
                && writeln!(io::stderr(), "{}", problem.report()).is_err()
            {
                return ExitCode::FAILURE;
            }
            problem.code().into()
        }
    }
}

fn run(cli: Cli) -> Result<Exit, Problem> {
    let daemon = matches!(
        cli.command,
        None | Some(
            Command::Bridge { .. }
                | Command::Hub {
                    command: args::HubCommand::Serve(_)
                }
        )
    );
    logging::start(&cli.log, if daemon { "info" } else { "warn" });
    if cli.setup {
        return set_up(&SetupArgs::default());
    }
    if cli.login {
        return on_runtime(command::login::run(LoginArgs::default()));
    }
    let Some(command) = cli.command else {
        return on_runtime(command::bridge::start(StartArgs::default()));
    };
    match command {
        Command::Up(args) => on_runtime(command::up::run(args)),
        Command::Bridge {
            command: BridgeCommand::Start(args),
        } => on_runtime(command::bridge::start(args)),
        Command::Setup(args) => set_up(&args),
        Command::Login(args) => on_runtime(command::login::run(args)),
        Command::Logout => command::login::log_out(),
        Command::Status { json } => command::status::run(json),
        Command::Hub { command } => on_runtime(command::hub::run(command)),
        Command::Task { command, hub } => on_runtime(command::task::run(command, &hub)),
        Command::Doctor { json } => on_runtime(command::doctor::run(json)),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "ctrlnode", &mut script);
            io::stdout().write_all(&script).map_err(Problem::output)?;
            Ok(Exit::Done)
        }
        Command::DemoAgent | Command::ChatAgent { .. } => Ok(Exit::Done),
    }
}

/// Saves the settings, then tries them out.
fn set_up(args: &SetupArgs) -> Result<Exit, Problem> {
    let new_token = command::setup::run(args)?;
    on_runtime(command::setup::try_out(new_token))
}

/// Two workers are plenty: the work is done by the agents.
fn on_runtime(work: impl Future<Output = Result<Exit, Problem>>) -> Result<Exit, Problem> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Problem::new("the runtime could not be started").because(error))?;
    runtime.block_on(work)
}

/// This binary as the agent at the other end of a pipe.
fn demo_agent() -> ExitCode {
    let settings = DemoSettings {
        state: std::env::var_os("CTRLNODE_DEMO_STATE").map(Into::into),
    };
    match demo::run(BufReader::new(io::stdin()), io::stdout(), &settings) {
        Ok(end) => end.exit_code().into(),
        Err(error) => {
            if writeln!(io::stderr(), "demo agent: {error}").is_err() {
                return ExitCode::FAILURE;
            }
            ExitCode::FAILURE
        }
    }
}

/// This binary as the agent for a model; its environment says which one, and holds the key.
fn chat_agent(job: ChatAgentJob) -> ExitCode {
    let job = match job {
        ChatAgentJob::Serve => ChatJob::Serve,
        ChatAgentJob::Check => ChatJob::Check,
        ChatAgentJob::Models => ChatJob::Models,
    };
    let settings = settings::variable(ChatSettings::VARIABLE);
    let key = settings::variable(ChatSettings::KEY_VARIABLE).map(|key| Secret::new(&key));
    let input = BufReader::new(io::stdin());
    let done = chat::run(job, settings.as_deref(), key.as_ref(), input, io::stdout());
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if writeln!(io::stderr(), "{error}").is_err() {
                return ExitCode::FAILURE;
            }
            error.exit_code().into()
        }
    }
}
