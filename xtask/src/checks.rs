//! The checks, one function each, and the list of those a change must pass.

use crate::{
    e2e, features, layers,
    run::{Done, cargo, pass, root, say},
};

/// Everything a change must pass.
pub(crate) fn ci(no_agents: bool) -> Done {
    fmt(true)?;
    layers::check()?;
    features::budget()?;
    deny()?;
    lint()?;
    features::alone()?;
    pass(cargo().args(["test", "--workspace", "--locked"]))?;
    doc()?;
    if no_agents {
        Ok(())
    } else {
        e2e::run(&[], None)
    }
}

pub(crate) fn fmt(check: bool) -> Done {
    let mut fmt = cargo();
    fmt.args(["fmt", "--all", "--"]);
    // Refused in rustfmt.toml on a stable toolchain, accepted here.
    fmt.args([
        "--config",
        "imports_granularity=Crate,group_imports=StdExternalCrate",
    ]);
    if check {
        fmt.arg("--check");
    }
    pass(&mut fmt)
}

pub(crate) fn lint() -> Done {
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ];
    pass(cargo().args(clippy))
}

pub(crate) fn deny() -> Done {
    if cargo()
        .args(["deny", "--version"])
        .output()
        .is_ok_and(|output| output.status.success())
    {
        return pass(cargo().args(["deny", "--locked", "check", "bans", "licenses", "sources"]));
    }
    say("cargo-deny is not installed; install it with `cargo install cargo-deny --locked`");
    Ok(())
}

pub(crate) fn doc() -> Done {
    let mut doc = cargo();
    doc.args([
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
        "--locked",
    ]);
    pass(doc.env("RUSTDOCFLAGS", "-D warnings"))
}

/// The page of the providers. Only their own crate knows them, so one of its tests writes it.
pub(crate) fn providers(check: bool) -> Done {
    let mut test = cargo();
    test.args([
        "test",
        "--locked",
        "--quiet",
        "--package",
        "bridge-providers",
    ]);
    test.args(["--test", "providers_page"]);
    if check {
        test.env_remove("UPDATE_SNAPSHOTS");
    } else {
        test.env("UPDATE_SNAPSHOTS", "1");
    }
    pass(&mut test)
}

pub(crate) fn scenario(files: &[String]) -> Done {
    pass(cargo().args(["build", "--locked", "--package", "bridge-cli"]))?;
    let mut scenario = cargo();
    scenario.args(["run", "--locked", "--quiet", "--package", "bridge-testkit"]);
    scenario.args(["--bin", "scenario", "--"]).args(files);
    if files.is_empty() {
        scenario.arg(root().join("tests/scenarios"));
    }
    pass(&mut scenario)
}

pub(crate) fn figures() -> Done {
    measure("figures", &[])
}

/// Runs a program of the test kit that measures the release build.
pub(crate) fn measure(program: &str, args: &[String]) -> Done {
    // What it starts lies beside it.
    let build = ["build", "--locked", "--quiet", "--release"];
    pass(
        cargo()
            .args(build)
            .args(["--package", "bridge-testkit", "--bins"]),
    )?;
    let mut run = cargo();
    run.args(["run", "--locked", "--quiet", "--release"]);
    run.args(["--package", "bridge-testkit", "--bin", program, "--"]);
    pass(run.args(args))
}

/// Bad inputs for a while; built with the checks of debug builds.
pub(crate) fn fuzz(wishes: &[String]) -> Done {
    let mut fuzz = cargo();
    fuzz.args(["run", "--locked", "--quiet", "--package", "bridge-testkit"]);
    pass(fuzz.args(["--bin", "fuzz", "--"]).args(wishes))
}

/// A folder with a million files, listed and deleted.
pub(crate) fn million() -> Done {
    let mut test = cargo();
    test.args([
        "test",
        "--locked",
        "--release",
        "--package",
        "bridge-workspace",
    ]);
    test.args(["--test", "bad_files", "--", "--ignored", "--nocapture"]);
    pass(test.arg("a_million_entries"))
}
