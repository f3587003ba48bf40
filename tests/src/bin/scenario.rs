//! Plays scenarios: `scenario <file or folder>…`. Exits with 1 when one fails.

use std::{
    env,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Instant,
};

use bridge_testkit::scenario;

#[tokio::main]
async fn main() -> io::Result<ExitCode> {
    let named: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let mut out = io::stdout();
    let files = scenario::files(&named)?;
    if files.is_empty() {
        writeln!(out, "no scenario was named")?;
        return Ok(ExitCode::from(2));
    }
    let mut failed = 0;
    for file in &files {
        let begun = Instant::now();
        match scenario::play(file).await {
            Ok(()) => {
                let took = begun.elapsed().as_secs_f32();
                writeln!(out, "ok      {} ({took:.1} s)", file.display())?;
            }
            Err(failure) => {
                failed += 1;
                writeln!(out, "FAILED  {failure}")?;
            }
        }
    }
    writeln!(out, "{} scenarios, {failed} failed", files.len())?;
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
