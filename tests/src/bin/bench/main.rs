//! `cargo xtask bench`: what a whole bridge does in which time and memory. The release binary with
//! the fake agent against a control plane on loopback, on the wire of our own hub. Fails when a
//! figure is missed. Linux only.
//!
//! Times are also given as a multiple of the same way without a bridge: the agent's pipe, read
//! line by line, each line sent over a WebSocket on loopback. On a machine that is slow at that,
//! the limits grow with it. The spool is measured beside plain files instead.

mod cancel;
mod files;
mod link;
mod memory;
mod spool;
mod text;
mod world;

use std::{env, process::ExitCode};

use bridge_testkit::program;

/// One thing that was measured.
struct Figure {
    what: &'static str,
    value: f64,
    unit: &'static str,
    /// It must not be above this.
    limit: Option<f64>,
    /// What the same took without a bridge.
    raw: Option<f64>,
}

impl Figure {
    /// A figure that is told and not judged.
    fn plain(what: &'static str, value: f64, unit: &'static str) -> Self {
        Self {
            what,
            value,
            unit,
            limit: None,
            raw: None,
        }
    }

    fn at_most(mut self, limit: f64) -> Self {
        self.limit = Some(limit);
        self
    }

    fn against(mut self, raw: f64) -> Self {
        self.raw = Some(raw);
        self
    }

    /// As [`at_most`](Self::at_most), and as much more as the raw way is late on this machine.
    fn beside(mut self, raw: f64) -> Self {
        self.limit = self.limit.map(|limit| limit + raw * RAW_ALLOWANCE);
        self
    }

    fn is_met(&self) -> bool {
        let slow = self.raw.map_or(0.0, |raw| raw * RAW_ALLOWANCE);
        self.limit.is_none_or(|limit| self.value <= limit.max(slow))
    }

    fn told(&self) -> String {
        let limit = self
            .limit
            .map_or_else(String::new, |limit| format!(" at most {limit:.1}"));
        let raw = self.raw.map_or_else(String::new, |raw| {
            format!(", {:.1} times the raw way ({raw:.2})", self.value / raw)
        });
        let missed = if self.is_met() { "" } else { "  MISSED" };
        format!(
            "{:<52}{:>10.2} {:<5}{limit}{raw}{missed}",
            self.what, self.value, self.unit
        )
    }
}

fn main() -> ExitCode {
    let filters: Vec<String> = env::args().skip(1).collect();
    if let Some((first, words)) = filters.split_first()
        && first == "link"
    {
        return link::run(words);
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().build().expect("a runtime can be made");
    runtime.block_on(of_the_bridge(&filters))
}

async fn of_the_bridge(filters: &[String]) -> ExitCode {
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|f| name.contains(f));
    if OF_THE_BRIDGE.iter().any(|name| wanted(name)) {
        program::ctrlnode();
    }
    let mut figures = Vec::new();
    let mut take = |more: Vec<Figure>| {
        for figure in more {
            say(&figure.told());
            figures.push(figure);
        }
    };
    if wanted("quiet") {
        take(text::after_quiet().await);
    }
    if wanted("flood") {
        take(text::under_flood().await);
    }
    if wanted("exact") {
        take(text::to_the_last_byte().await);
    }
    if wanted("memory") {
        take(memory::of_twenty_tasks().await);
    }
    if wanted("cancel") {
        take(cancel::obeyed_and_ignored().await);
    }
    if wanted("files one after the other") {
        take(files::one_after_the_other().await);
    }
    if wanted("files pipelined") {
        take(files::pipelined().await);
    }
    if wanted("files in a burst") {
        take(files::in_a_burst().await);
    }
    if wanted("spool") {
        take(spool::all());
    }
    let missed = figures.iter().filter(|figure| !figure.is_met()).count();
    say(&format!("{} figures, {missed} missed", figures.len()));
    if missed == 0 && !figures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[expect(clippy::print_stdout, reason = "figures are this program's output")]
fn say(text: &str) {
    println!("{text}");
}

/// What is measured of a whole bridge.
const OF_THE_BRIDGE: [&str; 6] = ["quiet", "flood", "exact", "memory", "cancel", "files"];

/// How many times the raw way a figure may take where that is above its limit.
const RAW_ALLOWANCE: f64 = 4.0;
