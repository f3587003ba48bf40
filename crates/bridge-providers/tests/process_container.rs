//! Programs are started and ended in a container too, where the leader of the daemon's session is
//! outside and has no number. In a test binary of its own, because it starts itself again.

#![cfg(target_os = "linux")]

mod process_mute;

use std::process::{Command, Stdio};

use bridge_providers::{
    conversation::converse,
    process::{AllowList, Environment, Launch},
    provider::Heard,
};
use process_mute::Mute;

/// Namespaces of its own for users and processes, as an unprivileged container has.
const CONTAINER: [&str; 5] = ["-U", "-r", "--pid", "--fork", "--mount-proc"];

#[test]
#[expect(clippy::disallowed_methods, reason = "the container around the daemon")]
fn programs_run_where_the_session_leader_is_outside() {
    let able = Command::new("unshare")
        .args(CONTAINER)
        .arg("true")
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !able {
        eprintln!("not tested: this machine lets nobody make a process namespace");
        return;
    }
    let inside = Command::new("unshare")
        .args(CONTAINER)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "inside_a_container", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&inside.stdout);
    assert!(
        inside.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&inside.stderr)
    );
}

#[test]
#[ignore = "only a part of the test above"]
fn inside_a_container() {
    let launch = Launch {
        program: "/bin/sh".into(),
        // The command in a session of its own becomes an orphan, and is ended all the same.
        args: vec!["-c".into(), "setsid sleep 600 & echo started".into()],
        directory: "/".into(),
        env: Environment::from_host(std::env::vars_os(), &AllowList::base()),
        run: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let heard = runtime.block_on(async {
        let mut conversation = converse(launch, Box::new(Mute)).await.unwrap();
        let mut heard = Vec::new();
        while let Some(one) = conversation.heard.recv().await {
            heard.push(one);
        }
        heard
    });
    assert_eq!(heard, [Heard::Gone]);
}
