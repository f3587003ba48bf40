//! A daemon that is killed takes its agents with it. In a test binary of its own, because here
//! the orphan must not come back to a process that ends orphans itself.

#![cfg(target_os = "linux")]

mod process_mute;

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use bridge_providers::{
    conversation::converse,
    process::{Environment, Launch},
};
use process_mute::Mute;
use rustix::{
    fs::{CWD, Mode, mkfifoat},
    process::{Pid, Signal, kill_process},
};

const PIPE: &str = "TEST_PIPE";

#[test]
#[expect(clippy::disallowed_methods, reason = "the daemon to be killed")]
fn an_agent_is_asked_to_end_when_its_daemon_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    for name in [&pipe, &folder.path().join("pipe.never")] {
        mkfifoat(CWD, name, Mode::RUSR | Mode::WUSR).unwrap();
    }
    let mut daemon = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "daemon_that_is_killed",
            "--ignored",
            "--nocapture",
        ])
        .env(PIPE, &pipe)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut pipe = std::io::BufReader::new(fs::File::open(pipe).unwrap());
    let mut text = String::new();
    std::io::BufRead::read_line(&mut pipe, &mut text).unwrap();
    assert_eq!(text, "ready\n");
    let pid = Pid::from_raw(daemon.id().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    daemon.wait().unwrap();
    std::io::Read::read_to_string(&mut pipe, &mut text).unwrap();
    assert_eq!(text, "ready\nasked to end\n");
}

#[test]
#[ignore = "only a part of the test above"]
fn daemon_that_is_killed() {
    let pipe = std::env::var_os(PIPE).expect("started by the test above");
    // The second pipe is held open for both directions: reading from it never ends. The system may
    // ask once for each thread of the daemon that dies.
    let script = "
        exec 9>$PIPE 8<>$PIPE.never
        trap 'trap : TERM; echo asked to end >&9; exit' TERM
        echo ready >&9
        read -r never <&8
    ";
    let launch = Launch {
        program: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        directory: "/".into(),
        env: Environment::from_host(
            std::env::vars_os(),
            &bridge_providers::process::AllowList::base(),
        )
        .set("PIPE", pipe),
        run: None,
    };
    // The runtime has other threads than the one that spawns, and they come and go.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_keep_alive(Duration::from_millis(1))
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut conversation = converse(launch, Box::new(Mute)).await.unwrap();
        while conversation.heard.recv().await.is_some() {}
    });
}
