//! `cargo xtask …`: what a change must pass, and the tools around it. Uses none of the crates.

mod agents;
mod checks;
mod e2e;
mod features;
mod layers;
mod outdated;
mod run;
mod table;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's chores.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Everything a change must pass before it lands, stopping at the first failure.
    Ci {
        /// Leave out the run with the real agents (needs npm and about 1.5 GB once).
        #[arg(long)]
        no_agents: bool,
    },
    /// Formats every crate, with imports grouped.
    Fmt {
        /// Fail on a difference instead of mending it.
        #[arg(long)]
        check: bool,
    },
    /// Clippy over all targets, warnings denied.
    Lint,
    /// Checks the dependency graph: layers of our crates, purity of the words.
    Layers,
    /// Counts the crates that come with the transport; fails above the limits.
    Budget,
    /// The transport without features and with each of them alone: clippy and documentation.
    Features,
    /// Licences, sources and third-party layers by cargo-deny, where it is installed.
    Deny,
    /// Documentation with private items, warnings denied.
    Doc,
    /// Writes what `docs/providers.md` takes from the code (Linux).
    Providers {
        /// Fail on a difference instead of mending it.
        #[arg(long)]
        check: bool,
    },
    /// Runs scripted integration tests: files of `tests/scenarios`, or those named.
    Scenario {
        /// Which files; all of `tests/scenarios` when none is named.
        files: Vec<String>,
    },
    /// Tells one history of the simulated link, and whether it keeps its promises.
    Sim {
        /// Which; a history that fails prints its seed.
        #[arg(long)]
        seed: u64,
    },
    /// What the release build of the daemon costs: memory, start, sizes (Linux).
    Figures,
    /// The real agents for end-to-end tests.
    Agents {
        #[command(subcommand)]
        task: AgentsTask,
    },
    /// What a whole bridge with a fake agent does in which time (Linux); fails when a figure is
    /// missed. `bench link` measures the delivery layer alone.
    Bench {
        /// Only figures whose name contains this; behind `link` one of its sections.
        filter: Vec<String>,
    },
    /// Inputs that nobody would write, for what reads the bytes of others: frames, the spool.
    Fuzz {
        /// What to pass on: `--seconds`, `--seed`, `--target decoder`, `spool` or `link`, `--input`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        wishes: Vec<String>,
    },
    /// A folder with a million files: listed within its limits, and deleted.
    Million,
    /// Runs the bridge with the real agents against a model server on loopback.
    E2e {
        /// Which agents: names with commas between, or `all`, which adds the slow tests; the
        /// three default ones when none is named.
        #[arg(long, value_delimiter = ',')]
        agents: Vec<String>,
        /// Only tests whose name contains this.
        filter: Option<String>,
    },
}

#[derive(Subcommand)]
enum AgentsTask {
    /// Installs pinned agents and their Node once into the user's cache; prints the folder.
    Install {
        /// All of them instead of the three default ones.
        #[arg(long, conflicts_with = "names")]
        all: bool,
        /// Which; the three default ones when none is named.
        names: Vec<String>,
    },
    /// Asks npm and Python's index for newer versions than the pinned ones.
    Outdated,
}

fn main() -> ExitCode {
    let done = match Args::parse().task {
        Task::Ci { no_agents } => checks::ci(no_agents),
        Task::Fmt { check } => checks::fmt(check),
        Task::Lint => checks::lint(),
        Task::Layers => layers::check(),
        Task::Budget => features::budget(),
        Task::Features => features::alone(),
        Task::Deny => checks::deny(),
        Task::Doc => checks::doc(),
        Task::Providers { check } => checks::providers(check),
        Task::Sim { seed } => checks::sim(seed),
        Task::Figures => checks::figures(),
        Task::Scenario { files } => checks::scenario(&files),
        Task::Bench { filter } => checks::measure("bench", &filter),
        Task::Fuzz { wishes } => checks::fuzz(&wishes),
        Task::Million => checks::million(),
        Task::Agents {
            task: AgentsTask::Install { all, names },
        } => install(all, names),
        Task::Agents {
            task: AgentsTask::Outdated,
        } => outdated::outdated(),
        Task::E2e { agents, filter } => e2e::run(&agents, filter.as_deref()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            run::say(&format!("xtask: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn install(all: bool, mut names: Vec<String>) -> run::Done {
    if all {
        names = vec!["all".to_owned()];
    }
    let folder = agents::install(&agents::named(&names)?)?;
    run::say(&folder.display().to_string());
    Ok(())
}
