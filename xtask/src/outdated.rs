//! `cargo xtask agents outdated`: which pinned agents have a newer version in their registry.

use crate::{
    agents::{AGENTS, NODE, Source, node_package, npm_command, python},
    run::{Done, Failure, command, read, say},
    table,
};

/// Asks the registries and prints a table; fails when one cannot be asked.
pub(crate) fn outdated() -> Done {
    let mut rows = vec![
        ["agent", "pinned", "newest", ""]
            .map(str::to_owned)
            .to_vec(),
    ];
    for agent in AGENTS {
        let newest = match agent.source {
            Source::Npm { package, .. } => npm_newest(package)?,
            Source::Python { package, .. } => pip_newest(package)?,
        };
        rows.push(row(agent.name, agent.version, newest));
    }
    rows.push(row("node", NODE, npm_newest(&node_package()?)?));
    for line in table::lines(&rows) {
        say(&line);
    }
    Ok(())
}

fn row(name: &str, pinned: &str, newest: String) -> Vec<String> {
    let word = if newest == pinned { "" } else { "newer" };
    vec![name.to_owned(), pinned.to_owned(), newest, word.to_owned()]
}

fn npm_newest(package: &str) -> Done<String> {
    let newest = read(npm_command().args(["view", package, "version", "--fetch-retries=1"]))
        .map_err(|error| unreachable("npm", &error))?;
    version(&newest, package)
}

fn pip_newest(package: &str) -> Done<String> {
    let python = python()?;
    let args = [
        "-m",
        "pip",
        "--disable-pip-version-check",
        "index",
        "versions",
    ];
    let known = read(command(python).args(args).arg(package))
        .map_err(|error| unreachable("pip", &error))?;
    version(newest_of_index(&known), package)
}

/// The beginning of what a client of a registry complains: the rest is its own affair.
fn unreachable(client: &str, Failure(error): &Failure) -> Failure {
    let why: Vec<&str> = error.lines().take(3).collect();
    Failure(format!(
        "{client} does not say what is new: {}",
        why.join("; ")
    ))
}

/// The newest version in what `pip index versions` prints: `name (version)` and lines of others.
fn newest_of_index(text: &str) -> &str {
    let first = text.lines().next().unwrap_or_default();
    let inside = first.split_once('(').map_or("", |(_, rest)| rest);
    inside.split(')').next().unwrap_or_default()
}

fn version(text: &str, package: &str) -> Done<String> {
    let text = text.trim();
    if text.is_empty() || !text.starts_with(|first: char| first.is_ascii_digit()) {
        return Err(Failure(format!(
            "the registry gives no version of {package}: {text:?}"
        )));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_stands_in_brackets() {
        let text = "hermes-agent (0.20.1)\nAvailable versions: 0.20.1, 0.19.0\n";
        assert_eq!(newest_of_index(text), "0.20.1");
    }

    #[test]
    fn what_is_no_version_is_refused() {
        assert_eq!(version(" 1.2.3\n", "x").unwrap(), "1.2.3");
        for text in ["", "\n", "not found"] {
            assert!(version(text, "x").is_err(), "{text:?}");
        }
    }
}
