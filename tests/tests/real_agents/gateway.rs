//! The gateway of OpenClaw, which is no program of the product: started for one test on a free
//! port, in a home of its own, and ended with everything it started.

use std::{
    fs::{self, File},
    io,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use bridge_testkit::{
    loopback,
    program::{self, Running},
};
use serde_json::json;

use crate::remains::{self, Process};

/// A running gateway. Dropping it ends it.
pub(crate) struct Gateway {
    home: PathBuf,
    running: Option<Running>,
}

impl Gateway {
    /// Where a gateway in this test's home keeps its configuration.
    pub(crate) fn state(home: &Path) -> PathBuf {
        home.join("gateway/state")
    }

    /// Starts the installed program with the model server at `model`, and waits until it is ready.
    pub(crate) async fn start(home: &Path, model: &str) -> Self {
        let port = free_port().unwrap();
        let own = home.join("gateway");
        let state = Self::state(home);
        fs::create_dir_all(own.join("workspace")).unwrap();
        fs::create_dir_all(&state).unwrap();
        let config = configuration(port, &own.join("workspace"), model);
        fs::write(state.join("openclaw.json"), config).unwrap();
        let log = File::create(home.join("gateway.log")).unwrap();
        let mut start = program::command(home.join("programs/openclaw"));
        start.arg("gateway").env_clear().current_dir(&own);
        start.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        start.env("HOME", &own).env("TMPDIR", home.join("tmp"));
        start.env("OPENCLAW_STATE_DIR", &state);
        for quiet in QUIET {
            start.env(quiet, "1");
        }
        start.stdin(Stdio::null());
        start.stdout(log.try_clone().unwrap()).stderr(log);
        let running = Running::start(&mut start).expect("the gateway can be started");
        let mut gateway = Self {
            home: own,
            running: Some(running),
        };
        gateway.wait(port, &home.join("gateway.log")).await;
        gateway
    }

    async fn wait(&mut self, port: u16, log: &Path) {
        let http = loopback::http_client();
        let url = format!("http://127.0.0.1:{port}/readyz");
        let until = Instant::now() + READY;
        let mut tick = tokio::time::interval(LOOK_AGAIN);
        loop {
            tick.tick().await;
            let answer = http.get(&url).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            let ended = self.running.as_mut().and_then(|r| r.ended().unwrap());
            let said = || fs::read_to_string(log).unwrap_or_default();
            assert!(ended.is_none(), "the gateway ended: {ended:?}\n{}", said());
            assert!(
                Instant::now() < until,
                "the gateway is not ready\n{}",
                said()
            );
        }
    }

    /// It and everything it started.
    pub(crate) fn processes(&self) -> Vec<Process> {
        remains::of_home(&self.home)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Asked politely it would wait minutes for a run at work.
        if let Some(running) = self.running.take() {
            remains::kill(running.id());
        }
        for process in remains::after(&self.home, Duration::ZERO) {
            remains::kill(process.pid);
        }
        let left = remains::after(&self.home, DYING);
        if !std::thread::panicking() {
            assert!(left.is_empty(), "left by the gateway: {left:#?}");
        }
    }
}

fn configuration(port: u16, workspace: &Path, model: &str) -> String {
    let free = json!({ "input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0 });
    let mock = json!({ "id": "mock-model", "name": "Mock", "reasoning": false, "input": ["text"],
        "cost": free, "contextWindow": 131_072, "maxTokens": 8192 });
    json!({
        "gateway": {
            "mode": "local",
            "bind": "loopback",
            "port": port,
            "auth": { "mode": "token", "token": "test-token" },
            "controlUi": { "enabled": false },
        },
        "telemetry": { "enabled": false },
        "update": { "checkOnStart": false },
        "discovery": { "mdns": { "mode": "off" } },
        "models": { "mode": "replace", "providers": { "mock": {
            "baseUrl": format!("{model}/v1"),
            "apiKey": "test-key",
            "api": "openai-completions",
            "models": [mock],
        } } },
        "agents": { "defaults": {
            "model": { "primary": "mock/mock-model" },
            "skipBootstrap": true,
            "workspace": workspace,
        } },
    })
    .to_string()
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Nothing is announced, fetched or restarted.
const QUIET: [&str; 5] = [
    "OPENCLAW_DISABLE_BONJOUR",
    "OPENCLAW_NO_RESPAWN",
    "OPENCLAW_SKIP_CHANNELS",
    "OPENCLAW_HIDE_BANNER",
    "NO_COLOR",
];
/// It takes 10 s where nothing else works, and a minute on a busy machine.
const READY: Duration = Duration::from_secs(150);
const LOOK_AGAIN: Duration = Duration::from_millis(200);
const DYING: Duration = Duration::from_secs(5);
