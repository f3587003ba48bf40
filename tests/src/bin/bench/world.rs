//! A bridge as a process of its own, with the fake agent, and the plane it dials.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use bridge_testkit::{
    fake_plane::{FakePlane, Manners, frame},
    home::{Home, Running},
    program::beside,
};

/// A running bridge and what is around it.
pub(crate) struct World {
    pub(crate) home: Home,
    pub(crate) plane: FakePlane,
    pub(crate) bridge: Running,
}

impl World {
    /// Starts it; it knows the agents `fake` and `stubborn`, and takes that many tasks at once.
    pub(crate) async fn start(parallel: u32) -> Self {
        let home = Home::new();
        let plane = FakePlane::start(Manners::extended()).await;
        let fake = beside("fake_agent");
        let stubborn = home.path().join("stubborn");
        deaf_to_signals(&stubborn, &fake);
        let mut command = home.ctrlnode(&["bridge", "start"]);
        command
            .env("PAIRING_TOKEN", "bench")
            .env("SAAS_URL", plane.url())
            .env("BASE_PATH", home.workspace())
            .env("CTRLNODE_PARALLEL", parallel.to_string())
            .env("CTRLNODE_AGENT_FAKE", format!("{} acp", fake.display()))
            .env(
                "CTRLNODE_AGENT_STUBBORN",
                format!("{} acp", stubborn.display()),
            );
        let bridge = Running::start(command);
        plane.sync(&["fake", "stubborn"]).await;
        Self {
            home,
            plane,
            bridge,
        }
    }

    /// Ends it and waits for its end.
    pub(crate) async fn stop(mut self) {
        self.bridge.terminate().await;
        self.home.none_left().await;
    }

    /// The messages with answer text of a task: when each came, in nanoseconds since 1970, and
    /// its text.
    pub(crate) fn texts(&self, task: &str) -> Vec<(u128, String)> {
        let log = self.plane.log();
        let texts = log.iter().filter_map(|heard| {
            let event = &frame(heard)?["event"];
            let body = &event["body"]["event"];
            let of_task = event["run"]["task"] == task && body["kind"] == "text";
            let text = body["delta"].as_str().filter(|_| of_task)?;
            Some((nanoseconds(heard.at), text.to_owned()))
        });
        texts.collect()
    }

    /// A figure of the bridge's memory as the kernel tells it, in MiB: `VmRSS` or `VmHWM`.
    pub(crate) fn memory(&self, which: &str) -> f64 {
        let file = format!("/proc/{}/status", self.bridge.pid());
        let status = fs::read_to_string(file).expect("the kernel tells of a living process");
        let line = status.lines().find_map(|line| line.strip_prefix(which));
        let number = line.and_then(|line| line.trim_start_matches(':').split_whitespace().next());
        let kib: f64 = number
            .and_then(|number| number.parse().ok())
            .expect("the kernel tells memory in KiB");
        kib / 1024.0
    }

    /// The processor time the bridge has had, in seconds.
    pub(crate) fn processor(&self) -> f64 {
        let file = format!("/proc/{}/stat", self.bridge.pid());
        let stat = fs::read_to_string(file).expect("the kernel tells of a living process");
        // Behind the name, which may hold anything: state, then twelve numbers, then these two.
        let numbers = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace();
        let ticks = numbers
            .skip(11)
            .take(2)
            .filter_map(|number| number.parse::<f64>().ok());
        ticks.sum::<f64>() / TICKS_PER_SECOND
    }
}

/// In which the kernel tells processor time, on every machine this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

pub(crate) fn nanoseconds(at: std::time::SystemTime) -> u128 {
    let since = at.duration_since(std::time::UNIX_EPOCH);
    since.expect("a clock after 1970").as_nanos()
}

pub(crate) fn millis(nanoseconds: u128) -> f64 {
    let micros = u32::try_from(nanoseconds / 1000).unwrap_or(u32::MAX);
    f64::from(micros) / 1000.0
}

pub(crate) fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

/// The value below which so many per cent lie.
pub(crate) fn percentile(sorted: &[f64], per_cent: usize) -> f64 {
    let at = (sorted.len() * per_cent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

/// Writes a program that starts another one which no signal but the last ends.
fn deaf_to_signals(program: &Path, starts: &Path) {
    let text = format!(
        "#!/bin/sh\ntrap '' TERM INT HUP QUIT\nexec '{}' \"$@\"\n",
        starts.display()
    );
    fs::write(program, text).expect("a fresh folder can be written");
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(program, executable).expect("our own file");
}
