//! What the transport costs those who embed it: how many crates come with it, and that each of its
//! features can be had alone.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::run::{Done, Failure, cargo, pass, read, say};

/// The crate whose weight is watched.
const CRATE: &str = "bridge-transport";

/// What the crates are counted with, and the most there may be: everything that is compiled for a
/// user of the library on this system, itself and procedural macros with what they stand on
/// included. Build scripts' own dependencies and those of tests are not.
const LIMITS: &[(&str, &[&str], usize)] = &[
    ("by default", &[], 65),
    ("with all features", &["--all-features"], 80),
];

/// Counts; fails above a limit.
pub(crate) fn budget() -> Done {
    let mut above = Vec::new();
    for (what, features, most) in LIMITS {
        let all = count(features, "normal")?;
        let at_run_time = count(features, "normal,no-proc-macro")?;
        let line = format!(
            "{CRATE} {what}: {all} crates of at most {most}, {at_run_time} without procedural macros"
        );
        say(&format!("budget: {line}"));
        if all > *most {
            above.push(line);
        }
    }
    if above.is_empty() {
        return Ok(());
    }
    Err(Failure(format!(
        "budget: {}\n  `cargo tree --package {CRATE} --edges normal` shows who brings what",
        above.join("\n  ")
    )))
}

fn count(features: &[&str], edges: &str) -> Result<usize, Failure> {
    let mut tree = cargo();
    tree.args(["tree", "--locked", "--package", CRATE, "--prefix", "none"]);
    tree.args(["--edges", edges]).args(features);
    Ok(crates(&read(&mut tree)?))
}

/// Each crate stands in the tree as often as it is depended on; what follows its version is not its
/// name.
fn crates(tree: &str) -> usize {
    let named = tree.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?, words.next()?))
    });
    named.collect::<BTreeSet<_>>().len()
}

/// Clippy and documentation of the library without features, and with each of them alone.
pub(crate) fn alone() -> Done {
    let mut metadata = cargo();
    metadata.args(["metadata", "--format-version", "1", "--locked", "--no-deps"]);
    let metadata: Value = serde_json::from_str(&read(&mut metadata)?)
        .map_err(|error| Failure(format!("cargo metadata: {error}")))?;
    let features = features(&metadata);
    for feature in std::iter::once("").chain(features.iter().map(String::as_str)) {
        let chosen = ["--no-default-features", "--features", feature];
        let library = ["--locked", "--quiet", "--package", CRATE];
        let mut clippy = cargo();
        clippy.arg("clippy").args(library).args(chosen);
        pass(clippy.args(["--", "-D", "warnings"]))?;
        let mut doc = cargo();
        doc.arg("doc").args(library).args(chosen).arg("--no-deps");
        pass(doc.env("RUSTDOCFLAGS", "-D warnings"))?;
    }
    Ok(())
}

/// By name: the order of a JSON object depends on the features of its reader.
fn features(metadata: &Value) -> Vec<String> {
    let packages = metadata["packages"].as_array();
    let package = packages
        .into_iter()
        .flatten()
        .find(|package| package["name"] == CRATE);
    let features = package.and_then(|package| package["features"].as_object());
    let names = features.into_iter().flatten().map(|(name, _)| name);
    let names: BTreeSet<_> = names.filter(|name| *name != "default").cloned().collect();
    names.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_crate_is_counted_once_and_two_versions_of_it_twice() {
        let tree = "a v1.0.0 (/here)\nb v1.0.0\nc v0.1.0 (proc-macro)\nb v1.0.0 (*)\nb v2.0.0\n\n";
        assert_eq!(crates(tree), 4);
    }

    #[test]
    fn every_feature_but_the_default_is_tried() {
        let metadata = json!({"packages": [
            {"name": "other", "features": {"x": []}},
            {"name": CRATE, "features": {"default": ["tls"], "tls": [], "spool": []}},
        ]});
        assert_eq!(features(&metadata), ["spool", "tls"]);
    }
}
