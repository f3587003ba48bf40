//! `cargo xtask …`: what a change must pass, and the tools around it. Uses none of the crates.

mod agents;
mod checks;
mod layers;
mod run;

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
    /// Licences, sources and third-party layers by cargo-deny, where it is installed.
    Deny,
    /// Documentation with private items, warnings denied.
    Doc,
    /// Runs scripted integration tests: files of `tests/scenarios`, or those named.
    Scenario {
        /// Which files; all of `tests/scenarios` when none is named.
        files: Vec<String>,
    },
    /// What the release build of the daemon costs: memory, start, sizes (Linux).
    Figures,
    /// The real agents for end-to-end tests.
    Agents {
        #[command(subcommand)]
        task: AgentsTask,
    },
    /// Runs the bridge with the real agents against a model server on loopback.
    E2e {
        /// Only tests whose name contains this.
        filter: Option<String>,
    },
}

#[derive(Subcommand)]
enum AgentsTask {
    /// Installs the pinned agents and their Node once into the user's cache; prints the folder.
    Install,
}

fn main() -> ExitCode {
    let done = match Args::parse().task {
        Task::Ci { no_agents } => checks::ci(no_agents),
        Task::Fmt { check } => checks::fmt(check),
        Task::Lint => checks::lint(),
        Task::Layers => layers::check(),
        Task::Deny => checks::deny(),
        Task::Doc => checks::doc(),
        Task::Figures => checks::figures(),
        Task::Scenario { files } => checks::scenario(&files),
        Task::Agents {
            task: AgentsTask::Install,
        } => agents::install().map(|folder| {
            run::say(&folder.display().to_string());
        }),
        Task::E2e { filter } => checks::e2e(filter.as_deref()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            run::say(&format!("xtask: {error}"));
            ExitCode::FAILURE
        }
    }
}
