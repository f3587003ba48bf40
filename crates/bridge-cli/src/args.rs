//! What can be typed.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Steer the AI coding agents of this machine from anywhere, without opening a port.
///
/// Without a command it runs the bridge in the foreground, as `ctrlnode bridge start` does.
#[derive(Debug, Parser)]
#[command(name = "ctrlnode", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// Pair this machine with a control plane, then exit (the same as `ctrlnode setup`)
    #[arg(long, exclusive = true)]
    pub(crate) setup: bool,

    /// Get a token for this machine, then exit (the same as `ctrlnode login`)
    #[arg(long, exclusive = true)]
    pub(crate) login: bool,

    #[command(flatten)]
    pub(crate) log: LogArgs,
}

const EXAMPLES: &str = "\
Examples:
  ctrlnode up                                 a hub and a bridge on this machine, with a web page
  ctrlnode task run --agent demo \"a haiku\"    give a task to an agent and watch it work
  ctrlnode setup                              pair this machine with a control plane
  ctrlnode login                              pair it by a code instead of a token
  ctrlnode                                    run the bridge
  ctrlnode doctor                             say what is configured, reachable and installed

Exit codes: 0 done, 1 failed, 2 wrong arguments, 3 the task failed, 4 the task is blocked,
5 the task was cancelled, 6 no hub reachable, 7 not configured, 130 interrupted.";

/// How much is told on standard error.
#[derive(Debug, Clone, Args)]
pub(crate) struct LogArgs {
    /// What to log: error, warn, info, debug, trace, or a filter such as `bridge_transport=debug`
    #[arg(long, global = true, value_name = "FILTER", env = "CTRLNODE_LOG")]
    pub(crate) log: Option<String>,

    /// How to write the log
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        env = "LOG_FORMAT",
        default_value = "text"
    )]
    pub(crate) log_format: LogFormat,
}

/// The shapes of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a hub on loopback and a paired bridge together, and print the address of the page
    Up(UpArgs),
    /// The bridge: the daemon that dials out and runs tasks
    Bridge {
        #[command(subcommand)]
        command: BridgeCommand,
    },
    /// Pair this machine with a control plane
    Setup(SetupArgs),
    /// Get a token for this machine: shows a code, and waits until you have allowed it on a page
    Login(LoginArgs),
    /// Remove this machine's token from its own settings
    Logout,
    /// Say whether this machine is paired and its bridge at work
    Status {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// A self-hosted control plane with a web page
    Hub {
        #[command(subcommand)]
        command: HubCommand,
    },
    /// Give tasks to agents through a hub, and follow them
    Task {
        #[command(subcommand)]
        command: TaskCommand,
        #[command(flatten)]
        hub: HubAddress,
    },
    /// Say what is configured, what is reachable and which agents are installed
    Doctor {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print a completion script for a shell
    Completions {
        /// For which shell
        shell: Shell,
    },
    /// The built-in demo agent: speaks the Agent Client Protocol on standard input and output
    #[command(hide = true)]
    DemoAgent,
    /// The built-in agent for models behind an endpoint; told by its environment which one
    #[command(hide = true)]
    ChatAgent {
        /// What to do
        #[arg(default_value = "serve")]
        job: ChatAgentJob,
    },
}

/// The jobs of the built-in agent for models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ChatAgentJob {
    /// Speak the Agent Client Protocol on standard input and output
    Serve,
    /// Look whether the endpoint answers
    Check,
    /// Print its models
    Models,
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Port of the page on 127.0.0.1 [default: 7433, or another one when that is in use]
    #[arg(long)]
    pub(crate) port: Option<u16>,

    /// Open the page in the browser
    #[arg(long)]
    pub(crate) open: bool,

    /// Folder for the hub's data and the tasks; your pairing is never touched
    #[arg(long, value_name = "DIR", env = "CTRLNODE_STATE")]
    pub(crate) state: Option<PathBuf>,

    /// Folder below which agents may be pointed at repositories [default: your home folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) workspace: Option<PathBuf>,

    /// Do the tasks that are dropped as folders into the bridge's folder of tasks, see
    /// CTRLNODE_WATCH_TASKS
    #[arg(long)]
    pub(crate) watch_tasks: bool,

    /// Further origin under which the page is reached, for example `https://hub.example.org`
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) public_origin: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BridgeCommand {
    /// Run the bridge in the foreground until it is told to stop
    Start(StartArgs),
}

#[derive(Debug, Default, Args)]
pub(crate) struct StartArgs {
    /// Write every frame of the connection to this new file, one JSON object a line, to compare
    /// bridges; tokens and keys are masked, prompts and answers are not
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,

    /// Do the tasks that are dropped as folders with an `input/TASK.md` below
    /// `.ctrlnode/tasks` of the workspace, and answer in their `output/`
    #[arg(long)]
    pub(crate) watch_tasks: bool,
}

#[derive(Debug, Default, Args)]
pub(crate) struct SetupArgs {
    /// Folder the agents may work in; asked for when it is left out
    #[arg(long, value_name = "DIR")]
    pub(crate) workspace: Option<PathBuf>,

    /// Address of the control plane (https://…, wss://…; tcp:// or tls:// with a port for lines)
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,

    /// Which file contents may leave this machine
    #[arg(long, value_name = "never|task-outputs|workspace")]
    pub(crate) contents: Option<String>,

    /// Read the pairing token from standard input and ask nothing
    #[arg(long)]
    pub(crate) token_stdin: bool,
}

#[derive(Debug, Default, Args)]
pub(crate) struct LoginArgs {
    /// Address of the control plane [default: the configured one]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,

    /// Do not open the page in the browser
    #[arg(long)]
    pub(crate) no_browser: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum HubCommand {
    /// Run the hub in the foreground
    Serve(ServeArgs),
    /// Pairing tokens of machines
    Token {
        #[command(subcommand)]
        command: TokenCommand,
        #[command(flatten)]
        hub: HubAddress,
    },
    /// Print a fresh one-time login address of the running hub
    Login {
        #[command(flatten)]
        hub: HubAddress,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7433")]
    pub(crate) listen: SocketAddr,

    /// Allow a listening address other machines can reach (put TLS in front of it)
    #[arg(long)]
    pub(crate) expose: bool,

    /// Also hear machines that speak lines over bare TCP, on this address; not encrypted
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) lines: Option<SocketAddr>,

    /// Folder for the hub's data
    #[arg(long, value_name = "DIR", env = "CTRLNODE_STATE")]
    pub(crate) state: Option<PathBuf>,

    /// Further origin under which the page is reached, for example `https://hub.example.org`
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) public_origin: Vec<String>,

    /// Days an ended task is kept
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    pub(crate) retention: u32,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a pairing token for a machine; it is shown once
    Create {
        /// What to call the machine
        name: String,
    },
    /// List the machines that have a token
    List {
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Make a token invalid and end its connection
    Revoke {
        /// Its id from `list`, the first letters of it, or the machine's name
        token: String,
    },
}

/// Where the hub is.
#[derive(Debug, Clone, Args)]
pub(crate) struct HubAddress {
    /// Address of the hub [default: the one `ctrlnode up` left on this machine]
    #[arg(long, global = true, value_name = "URL", env = "CTRLNODE_HUB")]
    pub(crate) hub: Option<String>,

    /// Folder of the hub's data, when it is not the usual one
    #[arg(
        long = "hub-state",
        visible_alias = "state",
        global = true,
        value_name = "DIR",
        env = "CTRLNODE_STATE"
    )]
    pub(crate) state: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TaskCommand {
    /// Give a task to an agent and stream what it does; exits as the task ends
    #[command(after_help = "Examples:
  ctrlnode task run --agent demo \"write a haiku\"
  ctrlnode task run --agent claude --repo . \"fix the failing test\"
  git diff | ctrlnode task run --agent gemini -")]
    Run(RunArgs),
    /// Send a further message to a task and stream the answer
    FollowUp {
        /// The task's id, or its first letters
        task: String,
        /// The message; `-` reads it from standard input
        message: String,
        /// Let the agent read it in the turn at work, where it can; else it waits for the end of it
        #[arg(long)]
        now: bool,
        /// One JSON object a line instead of text
        #[arg(long)]
        json: bool,
    },
    /// List the latest tasks
    List {
        /// How many at most
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
        limit: u32,
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Show one task: state, open questions, result files
    Show {
        /// The task's id, or its first letters
        task: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print what a task did so far, and go on while it runs
    Logs {
        /// The task's id, or its first letters
        task: String,
        /// Stop at what is there now
        #[arg(long)]
        no_follow: bool,
        /// One JSON object a line instead of text
        #[arg(long)]
        json: bool,
    },
    /// List the open questions of all tasks
    Asks {
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Answer an open question of a task, and wait until the agent has taken the answer
    Answer {
        /// The task's id, or its first letters
        task: String,
        /// An option by number or name, `yes`, `no`, or words
        answer: String,
        /// Which question, when several are open
        #[arg(long)]
        ask: Option<String>,
    },
    /// Stop what the agent does now and keep its conversation for the next message
    Interrupt {
        /// The task's id, or its first letters
        task: String,
    },
    /// Stop a task: what works and what waits
    Cancel {
        /// The task's id, or its first letters
        task: String,
    },
    /// Change model, mode or thinking effort of a task, now or for its next run
    Tune {
        /// The task's id, or its first letters
        task: String,
        #[command(flatten)]
        tuning: TuningArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// What to do; `-` reads it from standard input
    pub(crate) prompt: String,

    /// Which agent
    #[arg(long, short)]
    pub(crate) agent: String,

    /// Work in this repository instead of a folder of the task's own
    #[arg(long, value_name = "DIR")]
    pub(crate) repo: Option<PathBuf>,

    /// Which machine, by name or id, when several are connected
    #[arg(long)]
    pub(crate) machine: Option<String>,

    #[command(flatten)]
    pub(crate) tuning: TuningArgs,

    /// A file to hand over; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) attach: Vec<PathBuf>,

    /// Print the task's id and return at once
    #[arg(long)]
    pub(crate) detach: bool,

    /// One JSON object a line instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// Settings of a conversation.
#[derive(Debug, Args)]
pub(crate) struct TuningArgs {
    /// Which model, when the agent offers several
    #[arg(long)]
    pub(crate) model: Option<String>,

    /// Which of the agent's modes, by its own name for it
    #[arg(long)]
    pub(crate) mode: Option<String>,

    /// How much the agent thinks, by its own name for it, for example low or high
    #[arg(long)]
    pub(crate) effort: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_state_folder_has_one_name_with_every_command_of_a_hub() {
        for command in [
            &["up"][..],
            &["hub", "serve"],
            &["hub", "login"],
            &["hub", "token", "create", "laptop"],
            &["task", "list"],
        ] {
            let args = ["ctrlnode"].iter().chain(command);
            let args = args.chain(&["--state", "/s"]);
            assert!(Cli::try_parse_from(args).is_ok(), "{command:?}");
        }
    }
}
