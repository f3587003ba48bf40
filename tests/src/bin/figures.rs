//! `cargo xtask figures`: what the daemon costs. Starts the release binary against a control plane
//! on loopback and reads its memory and its time to the handshake; says the sizes of the binary
//! and of the largest source file.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};

use bridge_testkit::{
    fake_plane::{FakePlane, Manners},
    program::{self, Running},
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match measure().await {
        Ok(lines) => {
            say(&lines.join("\n"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&format!("figures: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn measure() -> Result<Vec<String>, std::io::Error> {
    let binary = program::ctrlnode();
    let mut starts = Vec::new();
    let mut memory = 0;
    for _ in 0..STARTS {
        let plane = FakePlane::start(Manners::plain()).await;
        let home = tempfile::tempdir()?;
        let mut command = program::command(binary);
        command
            .args(["bridge", "start"])
            .env_clear()
            .env("HOME", home.path());
        command
            .env("PATH", "/usr/bin:/bin")
            .env("BASE_PATH", home.path());
        command
            .env("SAAS_URL", plane.url())
            .env("PAIRING_TOKEN", "figures");
        command.stdin(Stdio::null()).stderr(Stdio::null());
        let started = Instant::now();
        let mut bridge = Running::start(&mut command)?;
        plane.heard(|frame| frame["action"] == "handshake").await;
        starts.push(started.elapsed());
        tokio::time::sleep(SETTLE).await;
        memory = memory.max(resident_kib(bridge.id())?);
        bridge.end(Duration::from_secs(10))?;
    }
    starts.sort();
    let (lines, file) = largest_source(&workspace())?;
    Ok(vec![
        format!(
            "idle resident memory   {:.1} MiB",
            f64::from(memory) / 1024.0
        ),
        format!(
            "start to handshake     {:.1} ms (median of {STARTS})",
            millis(starts[STARTS / 2])
        ),
        format!("size of the binary     {:.1} MB", size(binary)?),
        format!("largest source file    {lines} lines, {}", file.display()),
    ])
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn size(file: &Path) -> Result<f64, std::io::Error> {
    Ok(fs::metadata(file)?.len() as f64 / 1e6)
}

/// `VmRSS` of a process.
fn resident_kib(pid: u32) -> Result<u32, std::io::Error> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| std::io::Error::other("the kernel does not tell the memory of a process"))
}

fn largest_source(folder: &Path) -> Result<(usize, PathBuf), std::io::Error> {
    let mut largest = (0, PathBuf::new());
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                open.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let lines = fs::read_to_string(&path)?.lines().count();
                if lines > largest.0 {
                    largest = (lines, path);
                }
            }
        }
    }
    let relative = largest.1.strip_prefix(workspace()).map(Path::to_owned);
    Ok((largest.0, relative.unwrap_or(largest.1)))
}

fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

#[expect(clippy::print_stdout, reason = "figures are this program's output")]
fn say(text: &str) {
    println!("{text}");
}

/// Starts measured; the median counts.
const STARTS: usize = 11;
/// After this the daemon is idle: greeted, looked around, probed.
const SETTLE: Duration = Duration::from_secs(2);
