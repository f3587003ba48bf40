//! A workspace in a temporary folder.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set its scene has failed"
)]
#![expect(
    dead_code,
    unreachable_pub,
    reason = "every test file uses a part of it, none is a library"
)]

use std::path::{Path, PathBuf};

use bridge_proto::{
    AgentId, ProviderKey, RunKey, TaskFolder, TaskId, Timestamp,
    model::{Origin, ReplyToken, RunKind, Source},
};
use bridge_workspace::{RunEntry, Workspace};

pub struct Scene {
    pub workspace: Workspace,
    pub outer: tempfile::TempDir,
}

impl Scene {
    pub fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap())
    }

    /// In memory where the system has a place for that: thousands of flushes cost nothing there.
    pub fn in_memory() -> Self {
        let memory = Path::new("/dev/shm");
        Self::open(tempfile::tempdir_in(memory).unwrap_or_else(|_| tempfile::tempdir().unwrap()))
    }

    fn open(outer: tempfile::TempDir) -> Self {
        let base = outer.path().join("base");
        Self {
            workspace: Workspace::open(&base, None).unwrap(),
            outer,
        }
    }

    /// The folder around `BASE_PATH`; nothing in it may ever be reached.
    pub fn outside(&self) -> PathBuf {
        self.outer.path().canonicalize().unwrap()
    }

    pub fn base(&self) -> &Path {
        self.workspace.base()
    }

    pub fn root(&self) -> &Path {
        self.workspace.root()
    }
}

pub fn put(path: &Path, content: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

pub fn task(id: &str) -> TaskId {
    TaskId::parse(id).unwrap()
}

pub fn folder(name: &str) -> TaskFolder {
    TaskFolder::parse(name).unwrap()
}

pub fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

pub fn run(id: &str) -> RunKey {
    RunKey {
        task: task(id),
        attempt: "r1".into(),
    }
}

pub fn entry(id: &str) -> RunEntry {
    RunEntry {
        run: run(id),
        agent: AgentId::parse("dev").unwrap(),
        provider: ProviderKey::parse("demo").unwrap(),
        kind: RunKind::Dispatch,
        origin: Origin {
            source: Source::Plane,
            reply: ReplyToken(r#"{"requestId":"d1"}"#.into()),
        },
        started: at(1_773_480_413_589),
        pid: None,
        marker: run(id).marker(),
        folder: Some("tasks/web/03-14/x".into()),
        repository: None,
        reserved: 1000,
        joined: None,
    }
}
