//! `cargo xtask fuzz`: inputs that nobody would write, for what reads the bytes of others. Each input
//! follows from the seed and its number, so a failure can be repeated; a failing input is also kept.
//!
//! It has no eyes for what the code does with an input: it begins with what is valid and changes
//! that, which is enough to get deep.

mod decoder;
mod link;
mod mutation;
mod spool;

use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::mpsc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use mutation::Random;

/// Something that reads bytes.
trait Target {
    /// What to call it.
    fn name(&self) -> &'static str;
    /// Valid inputs to begin with.
    fn corpus(&self) -> Vec<Vec<u8>>;
    /// Words that mean something to it.
    fn words(&self) -> &'static [&'static [u8]];
    /// Reads an input; panics when a promise is broken.
    fn read(&self, input: &[u8]);
}

fn main() -> ExitCode {
    let wishes = match Wishes::read(env::args().skip(1)) {
        Ok(wishes) => wishes,
        Err(wrong) => {
            say(&format!("fuzz: {wrong}"));
            return ExitCode::FAILURE;
        }
    };
    let targets: [Box<dyn Target>; 3] = [
        Box::new(decoder::Decoder),
        Box::new(spool::Recovery),
        Box::new(link::Script),
    ];
    let targets = targets
        .iter()
        .filter(|target| wishes.target.as_ref().is_none_or(|it| it == target.name()));
    let targets: Vec<_> = targets.collect();
    let share = wishes.time / u32::try_from(targets.len().max(1)).unwrap_or(1);
    let mut failed = false;
    for target in targets {
        failed |= !Run::new(&**target, wishes.seed, share).go(wishes.input);
    }
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// What was asked for.
struct Wishes {
    time: Duration,
    seed: u64,
    target: Option<String>,
    /// This input alone.
    input: Option<u64>,
}

impl Wishes {
    fn read(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let mut wishes = Self {
            time: Duration::from_secs(30),
            seed: now.map_or(0, |now| now.as_secs()),
            target: None,
            input: None,
        };
        while let Some(arg) = args.next() {
            let value = args.next().ok_or_else(|| format!("{arg} wants a value"))?;
            let number = || {
                value
                    .parse()
                    .map_err(|_| format!("{arg} wants a number, not {value}"))
            };
            match arg.as_str() {
                "--seconds" => wishes.time = Duration::from_secs(number()?),
                "--seed" => wishes.seed = number()?,
                "--input" => wishes.input = Some(number()?),
                "--target" => wishes.target = Some(value),
                other => return Err(format!("{other} is not known")),
            }
        }
        Ok(wishes)
    }
}

struct Run<'a> {
    target: &'a dyn Target,
    corpus: Vec<Vec<u8>>,
    seed: u64,
    time: Duration,
}

impl<'a> Run<'a> {
    fn new(target: &'a dyn Target, seed: u64, time: Duration) -> Self {
        Self {
            target,
            corpus: target.corpus(),
            seed,
            time,
        }
    }

    /// Whether every input was read as promised.
    fn go(&self, only: Option<u64>) -> bool {
        let name = self.target.name();
        if let Some(number) = only {
            let input = self.input(number);
            say(&format!(
                "{name}: {} bytes, {}",
                input.len(),
                keep(name, self.seed, number, &input)
            ));
            self.target.read(&input);
            return true;
        }
        for valid in &self.corpus {
            self.target.read(valid);
        }
        let (watched, watch) = mpsc::channel();
        let seed = self.seed;
        thread::spawn(move || guard(name, seed, &watch));
        let begun = Instant::now();
        let mut number = 0;
        let mut met = true;
        while begun.elapsed() < self.time && met {
            let input = self.input(number);
            // The guard ends with this run.
            if watched.send(number).is_err() {
                return false;
            }
            if catch_unwind(AssertUnwindSafe(|| self.target.read(&input))).is_err() {
                let kept = keep(name, seed, number, &input);
                say(&format!(
                    "{name}: input {number} of seed {seed} broke a promise; {kept}; again with\n  \
                     cargo xtask fuzz --target {name} --seed {seed} --input {number}"
                ));
                met = false;
            }
            number += 1;
        }
        say(&format!("{name}: {number} inputs of seed {seed}"));
        met
    }

    fn input(&self, number: u64) -> Vec<u8> {
        let mut random = Random::new(self.seed, number);
        mutation::invent(&mut random, &self.corpus, self.target.words())
    }
}

/// Ends the program when an input takes too long, and says which one.
fn guard(name: &str, seed: u64, watch: &mpsc::Receiver<u64>) {
    let mut number = 0;
    loop {
        match watch.recv_timeout(PATIENCE) {
            Ok(next) => number = next,
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
            Err(mpsc::RecvTimeoutError::Timeout) => break,
        }
    }
    say(&format!(
        "{name}: input {number} of seed {seed} takes more than {} s",
        PATIENCE.as_secs()
    ));
    std::process::abort();
}

/// Keeps an input; where.
fn keep(name: &str, seed: u64, number: u64, input: &[u8]) -> String {
    let folder = folder();
    let file = folder.join(format!("{name}-{seed}-{number}"));
    match fs::create_dir_all(&folder).and_then(|()| fs::write(&file, input)) {
        Ok(()) => format!("kept in {}", file.display()),
        Err(error) => format!("not kept: {error}"),
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/fuzz")
}

#[expect(
    clippy::print_stdout,
    reason = "what was found is this program's output"
)]
fn say(text: &str) {
    println!("{text}");
}

/// No input takes nearly as long.
const PATIENCE: Duration = Duration::from_secs(10);
