//! The real agents of the end-to-end tests: pinned, from the npm registry, with a Node of their
//! own, in the user's cache under a name that holds every version, so that a second run finds
//! them and downloads nothing.

use std::{
    env::consts::{ARCH, OS},
    fs,
    path::{Path, PathBuf},
};

use crate::run::{Done, Failure, command, pass, read, say};

/// What is installed: package and version.
const PINNED: &[(&str, &str)] = &[
    ("@anthropic-ai/claude-code", "2.1.328"),
    ("@google/gemini-cli", "0.61.0"),
    ("@openai/codex", "0.169.0"),
    ("opencode-ai", "1.18.33"),
];

/// Some agents want a newer Node than machines have; this one comes as a package.
const NODE: &str = "24.21.0";

/// Makes sure that the agents are there; gives the folder that holds `node_modules`.
pub(crate) fn install() -> Done<PathBuf> {
    let folder = folder()?;
    if folder.join(COMPLETE).is_file() {
        say(&format!("agents: {}", folder.display()));
        return Ok(folder);
    }
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("package.json"), "{\"private\":true}\n")?;
    let mut npm = command(if cfg!(windows) { "npm.cmd" } else { "npm" });
    npm.current_dir(&folder);
    npm.args([
        "install",
        "--no-audit",
        "--no-fund",
        "--no-save",
        "--loglevel=error",
    ]);
    npm.arg(format!("{}@{NODE}", node_package()?));
    npm.args(
        PINNED
            .iter()
            .map(|(package, version)| format!("{package}@{version}")),
    );
    pass(&mut npm).map_err(|error| {
        Failure(format!(
            "{error}\nthe real agents come from npm; is it installed and reachable?"
        ))
    })?;
    for (program, args) in programs(&folder)? {
        let version = read(command(&program).args(&args))?;
        say(&format!("agents: {} {}", program.display(), version.trim()));
    }
    fs::write(folder.join(COMPLETE), "")?;
    Ok(folder)
}

/// Written last; without it an installation was cut short and is done again.
const COMPLETE: &str = "complete";

fn folder() -> Done<PathBuf> {
    let project = directories::ProjectDirs::from("", "", "ctrlnode")
        .ok_or_else(|| Failure("there is no home directory to cache the agents in".into()))?;
    let versions: Vec<&str> = PINNED.iter().map(|(_, version)| *version).collect();
    let name = format!("{}-node{NODE}", versions.join("-"));
    Ok(project.cache_dir().join("e2e-agents").join(name))
}

fn node_package() -> Done<String> {
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

/// What is started to see that it works.
fn programs(folder: &Path) -> Done<Vec<(PathBuf, Vec<String>)>> {
    let modules = folder.join("node_modules");
    let node = modules.join(node_package()?).join("bin/node");
    let version = || vec!["--version".to_owned()];
    let gemini = modules
        .join("@google/gemini-cli/bundle/gemini.js")
        .display()
        .to_string();
    Ok(vec![
        (node, vec![gemini, "--version".into()]),
        (modules.join(".bin/claude"), version()),
        (modules.join(".bin/codex"), version()),
        (modules.join(".bin/opencode"), version()),
    ])
}
