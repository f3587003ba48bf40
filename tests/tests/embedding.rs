//! The transport in another program: the example that embeds it, against the example of a plane.

#![expect(
    clippy::unwrap_used,
    reason = "the lint exempts test functions, not their helpers"
)]

use std::{
    net::TcpListener,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use bridge_testkit::program;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

struct Example {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Example {
    fn start(program: &Path, args: &[&str]) -> Self {
        let mut command = Command::from(program::command(program));
        command.args(args).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self {
            child,
            stdin,
            lines,
        }
    }

    async fn told(&mut self, line: &str) {
        let line = format!("{line}\n");
        self.stdin.write_all(line.as_bytes()).await.unwrap();
    }

    /// The next line that begins with this; others are passed over.
    async fn says(&mut self, beginning: &str) -> String {
        let found = timeout(PATIENCE, async {
            loop {
                let line = self.lines.next_line().await.unwrap();
                let line = line.unwrap_or_else(|| panic!("it ended before it said {beginning:?}"));
                if line.starts_with(beginning) {
                    return line;
                }
            }
        });
        let found = found.await;
        found.unwrap_or_else(|_| panic!("it did not say {beginning:?}"))
    }

    /// Closes its input, with which it has to end well.
    async fn ends(self) {
        let ended = self.ended().await;
        assert!(ended.success(), "{ended}");
    }

    async fn ended(mut self) -> ExitStatus {
        drop(self.stdin);
        timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn what_the_example_sends_while_the_plane_is_away_arrives_when_it_is_back() {
    for words in [&[][..], &["plain"]] {
        let mut plane = Example::start(program::control_plane(), &["0"]);
        let address = plane.says("listening on ").await;
        let url = address.strip_prefix("listening on ").unwrap().to_owned();
        let (_, port) = url.rsplit_once(':').unwrap();
        let mut embedder = Example::start(program::embed_transport(), &[&url]);
        embedder.told("first").await;
        plane.says("first").await;
        plane.told("and back").await;
        embedder.says("and back").await;
        plane.ends().await;
        embedder.told("second").await;
        let args = [&[port], words].concat();
        let mut plane = Example::start(program::control_plane(), &args);
        plane.says("second").await;
        embedder.told("third").await;
        plane.says("third").await;
        embedder.ends().await;
        plane.ends().await;
    }
}

#[tokio::test]
async fn an_example_that_could_not_deliver_everything_does_not_end_well() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let mut embedder = Example::start(program::embed_transport(), &[&format!("ws://{address}")]);
    embedder.told("lost?").await;
    assert!(!embedder.ended().await.success());
}

#[test]
fn the_readme_shows_the_example_as_it_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let read = |file: &str| std::fs::read_to_string(root.join(file)).unwrap();
    let example = read("examples/src/bin/embed_transport.rs");
    assert!(example.lines().count() <= 25);
    assert!(read("crates/bridge-transport/README.md").contains(&example));
}

const PATIENCE: Duration = Duration::from_secs(60);
