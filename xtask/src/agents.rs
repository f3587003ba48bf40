//! The real agents of the end-to-end tests: pinned, from the registries of npm and Python, in the
//! user's cache. Each has a folder of its own, named for it and its version, so that another agent
//! or another version downloads nothing but itself; so has the Node they run on.

use std::{
    collections::BTreeMap,
    env::consts::{ARCH, OS},
    fs,
    path::{Path, PathBuf},
};

use crate::run::{Done, Failure, command, pass, read, say};

/// One program that is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pinned {
    /// What it is called here and in the tests.
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) source: Source,
}

/// Where a program comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// A package of npm; `scripts`: whether it may run what it brings to be installed.
    Npm {
        package: &'static str,
        scripts: bool,
    },
    /// A package of Python, with its extras in brackets.
    Python {
        package: &'static str,
        extras: &'static str,
    },
}

/// The agents that can be installed.
pub(crate) const AGENTS: &[Pinned] = &[
    npm("claude", "@anthropic-ai/claude-code", "2.1.328"),
    npm("gemini", "@google/gemini-cli", "0.61.0"),
    npm("opencode", "opencode-ai", "1.18.33"),
    npm("codex", "@openai/codex", "0.169.0"),
    npm("copilot", "@github/copilot", "1.0.102"),
    Pinned {
        name: "openclaw",
        version: "2026.9.6",
        source: Source::Npm {
            package: "openclaw",
            scripts: false,
        },
    },
    Pinned {
        name: "hermes",
        version: "0.19.0",
        source: Source::Python {
            package: "hermes-agent",
            extras: "[acp]",
        },
    },
];

/// The agents that are installed and run where none is named.
pub(crate) const DEFAULT: [&str; 4] = ["claude", "gemini", "opencode", "codex"];

/// Some agents want a newer Node than machines have; this one comes as a package.
pub(crate) const NODE: &str = "24.21.0";

const fn npm(name: &'static str, package: &'static str, version: &'static str) -> Pinned {
    Pinned {
        name,
        version,
        source: Source::Npm {
            package,
            scripts: true,
        },
    }
}

/// The agents of these names, in the order of the table; all of them for `all` alone, the
/// [`DEFAULT`] ones for no name.
pub(crate) fn named(names: &[String]) -> Done<Vec<Pinned>> {
    let known = |name: &str| AGENTS.iter().any(|agent| agent.name == name);
    if let Some(unknown) = names.iter().find(|name| *name != "all" && !known(name)) {
        let known: Vec<&str> = AGENTS.iter().map(|agent| agent.name).collect();
        return Err(Failure(format!(
            "there is no agent {unknown}; there are {}",
            known.join(", ")
        )));
    }
    let wanted = |agent: &Pinned| {
        if names.is_empty() {
            DEFAULT.contains(&agent.name)
        } else {
            names.iter().any(|name| name == "all" || name == agent.name)
        }
    };
    Ok(AGENTS
        .iter()
        .copied()
        .filter(|agent| wanted(agent))
        .collect())
}

/// Makes sure that these agents and Node are there; gives the folder that holds theirs.
pub(crate) fn install(agents: &[Pinned]) -> Done<PathBuf> {
    let cache = cache()?;
    let mut downloaded = 0;
    for one in std::iter::once(node()?).chain(agents.iter().map(plan)) {
        let folder = cache.join(&one.folder);
        if folder.join(COMPLETE).is_file() {
            continue;
        }
        say(&format!("agents: installing {}", one.folder));
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        download(&one, &folder)?;
        fs::write(folder.join(COMPLETE), "")?;
        downloaded += 1;
    }
    note_current(&cache)?;
    if downloaded == 0 {
        say(&format!(
            "agents: all there, nothing downloaded: {}",
            cache.display()
        ));
    }
    for agent in agents {
        let version = version_of(agent, &cache)?;
        let first = version.lines().next().unwrap_or_default();
        say(&format!("agents: {} {}", agent.name, first.trim()));
    }
    Ok(cache)
}

/// What goes into one folder of the cache.
struct Installation {
    folder: String,
    package: String,
    kind: Kind,
}

enum Kind {
    Npm { scripts: bool },
    Python,
}

fn plan(agent: &Pinned) -> Installation {
    let folder = format!("{}-{}", agent.name, agent.version);
    match agent.source {
        Source::Npm { package, scripts } => Installation {
            folder,
            package: format!("{package}@{}", agent.version),
            kind: Kind::Npm { scripts },
        },
        Source::Python { package, extras } => Installation {
            folder,
            package: format!("{package}{extras}=={}", agent.version),
            kind: Kind::Python,
        },
    }
}

fn node() -> Done<Installation> {
    Ok(Installation {
        folder: node_folder(),
        package: format!("{}@{NODE}", node_package()?),
        kind: Kind::Npm { scripts: true },
    })
}

fn download(one: &Installation, folder: &Path) -> Done {
    match one.kind {
        Kind::Npm { scripts } => {
            fs::write(folder.join("package.json"), "{\"private\":true}\n")?;
            let mut npm = npm_command();
            npm.current_dir(folder).args([
                "install",
                "--no-audit",
                "--no-fund",
                "--no-save",
                "--loglevel=error",
            ]);
            if !scripts {
                npm.arg("--ignore-scripts");
            }
            pass(npm.arg(&one.package)).map_err(|error| {
                Failure(format!(
                    "{error}\n{} comes from npm; is it installed and reachable?",
                    one.package
                ))
            })
        }
        Kind::Python => {
            let venv = folder.join("venv");
            let python = python()?;
            pass(command(&python).args(["-m", "venv"]).arg(&venv))?;
            let mut pip = command(venv.join(VENV_PROGRAMS).join("python"));
            pip.args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ]);
            pass(pip.arg(&one.package)).map_err(|error| {
                Failure(format!(
                    "{error}\n{} comes from the index of Python; is it reachable?",
                    one.package
                ))
            })
        }
    }
}

pub(crate) fn npm_command() -> std::process::Command {
    command(if cfg!(windows) { "npm.cmd" } else { "npm" })
}

/// A Python of this machine that is new enough for the agents.
pub(crate) fn python() -> Done<String> {
    let new_enough = "import sys; sys.exit(sys.version_info < (3, 11))";
    let candidates = [
        "python3",
        "python3.13",
        "python3.12",
        "python3.11",
        "python",
    ];
    let fits = |name: &&&str| {
        let tried = command(**name).args(["-c", new_enough]).output();
        tried.is_ok_and(|output| output.status.success())
    };
    let python = candidates.iter().find(fits);
    python.map(|name| (*name).to_owned()).ok_or_else(|| {
        Failure("hermes is a program of Python and wants 3.11 or newer; there is none".into())
    })
}

/// Asks an agent for its version, to see that it starts.
fn version_of(agent: &Pinned, cache: &Path) -> Done<String> {
    let folder = cache.join(plan(agent).folder);
    let node = cache
        .join(node_folder())
        .join("node_modules")
        .join(node_package()?)
        .join(if cfg!(windows) {
            "node.exe"
        } else {
            "bin/node"
        });
    match agent.source {
        Source::Npm { package, .. } => {
            let (entry, script) = entry(&folder.join("node_modules").join(package))?;
            let mut program = if script {
                command(node)
            } else {
                command(&entry)
            };
            if script {
                program.arg(&entry);
            }
            read(program.arg("--version"))
        }
        Source::Python { .. } => {
            let program = folder.join("venv").join(VENV_PROGRAMS).join(agent.name);
            read(command(program).arg("--version"))
        }
    }
}

/// The program a package names as its first, and whether it is a script for Node.
fn entry(package: &Path) -> Done<(PathBuf, bool)> {
    let manifest = fs::read_to_string(package.join("package.json"))?;
    let manifest: serde_json::Value = serde_json::from_str(&manifest)
        .map_err(|error| Failure(format!("{}: {error}", package.display())))?;
    let bin = &manifest["bin"];
    let named = bin.as_object().and_then(|all| all.values().next());
    let file = bin
        .as_str()
        .or_else(|| named.and_then(serde_json::Value::as_str));
    let file = file.ok_or_else(|| Failure(format!("{} brings no program", package.display())))?;
    let file = package.join(file);
    let head: Vec<u8> = fs::read(&file)?.into_iter().take(64).collect();
    let script = head.starts_with(b"#!") && head.windows(4).any(|word| word == b"node");
    Ok((file, script))
}

/// Tells the tests which folder holds which program: older versions stay in the cache.
fn note_current(cache: &Path) -> Done {
    let mut current: BTreeMap<&str, String> = BTreeMap::new();
    current.insert("node", node_folder());
    for agent in AGENTS {
        current.insert(agent.name, plan(agent).folder);
    }
    current.retain(|_, folder| cache.join(folder.as_str()).join(COMPLETE).is_file());
    let text = serde_json::to_string_pretty(&current)
        .map_err(|error| Failure(format!("the list of agents: {error}")))?;
    Ok(fs::write(cache.join(CURRENT), text + "\n")?)
}

fn cache() -> Done<PathBuf> {
    let project = directories::ProjectDirs::from("", "", "ctrlnode")
        .ok_or_else(|| Failure("there is no home directory to cache the agents in".into()))?;
    Ok(project.cache_dir().join("e2e-agents"))
}

fn node_folder() -> String {
    format!("node-{NODE}")
}

/// The package of Node for this machine.
pub(crate) fn node_package() -> Done<String> {
    let os = match OS {
        "linux" => "linux",
        "macos" => "darwin",
        "windows" => "win",
        other => return Err(Failure(format!("no packaged Node for {other}"))),
    };
    let arch = match ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => return Err(Failure(format!("no packaged Node for {other}"))),
    };
    Ok(format!("node-{os}-{arch}"))
}

/// Written last; without it an installation was cut short and is done again.
const COMPLETE: &str = "complete";
/// Which folder is of the versions pinned here: a name and a folder each.
const CURRENT: &str = "current.json";
/// Where an environment of Python keeps its programs.
const VENV_PROGRAMS: &str = if cfg!(windows) { "Scripts" } else { "bin" };

#[cfg(test)]
mod tests {
    use super::*;

    fn names(of: &[&str]) -> Vec<&'static str> {
        let of: Vec<String> = of.iter().map(|name| (*name).to_owned()).collect();
        let agents = named(&of).unwrap();
        agents.iter().map(|agent| agent.name).collect()
    }

    #[test]
    fn no_name_means_the_default_ones_and_all_means_all() {
        assert_eq!(names(&[]), DEFAULT);
        assert_eq!(names(&["all"]).len(), AGENTS.len());
        assert_eq!(names(&["hermes", "claude"]), ["claude", "hermes"]);
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        let Failure(why) = named(&["cursor".to_owned()]).unwrap_err();
        assert!(
            why.contains("no agent cursor") && why.contains("openclaw"),
            "{why}"
        );
    }

    #[test]
    fn every_agent_has_a_folder_of_its_own() {
        let mut folders: Vec<String> = AGENTS.iter().map(|agent| plan(agent).folder).collect();
        folders.push(node_folder());
        folders.sort();
        folders.dedup();
        assert_eq!(folders.len(), AGENTS.len() + 1);
    }
}
