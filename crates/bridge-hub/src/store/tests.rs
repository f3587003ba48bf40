//! What the database keeps: over restarts, once, and of nobody else.

mod access;
mod commands;
mod events;
mod tasks;

use bridge_proto::{
    BlockId, Digest,
    model::{Actor, AskEnd, AskKind, EventBody, Fault, Fix, Observed, Rejection, RunEvent},
};
use rusqlite::Connection;

use super::*;
use crate::view::TaskStatus;

const NOW: i64 = 1_773_480_413_589;

struct World {
    folder: tempfile::TempDir,
    store: SqliteStore,
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(NOW + 1000 * seconds)
}

fn bridge(id: &str) -> BridgeId {
    BridgeId::parse(id).unwrap()
}

fn task(id: &str) -> TaskId {
    TaskId::parse(id).unwrap()
}

fn run(id: &str, attempt: &str) -> RunKey {
    RunKey {
        task: task(id),
        attempt: attempt.into(),
    }
}

fn seen(event: RunEvent) -> EventBody {
    EventBody::Seen(Box::new(Observed::from(event)))
}

fn text(delta: &str) -> EventBody {
    seen(RunEvent::Text {
        block: BlockId::parse("b").unwrap(),
        delta: delta.into(),
    })
}

fn ended(outcome: Outcome) -> EventBody {
    EventBody::Ended { outcome }
}

fn started() -> EventBody {
    EventBody::Started { conversation: None }
}

fn ask(id: &str) -> Ask {
    Ask {
        id: AskId::parse(id).unwrap(),
        kind: AskKind::Command,
        summary: "run ls".into(),
        options: Vec::new(),
        digest: Digest::of(&["ls"]),
        tool: None,
        expires: None,
        answered: None,
        action: None,
    }
}

fn event(run: RunKey, n: u64, body: EventBody) -> Event {
    Event {
        run,
        n,
        at: at(0),
        body,
    }
}

fn run_record(key: RunKey, kind: RunKind, created: Timestamp) -> RunRecord {
    let attachments = vec!["a.txt".to_owned()];
    RunRecord {
        key,
        kind,
        prompt: "do it".into(),
        attachments,
        created,
    }
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path(), at(0)).unwrap();
        let world = Self { folder, store };
        for (id, token) in [("b1", 1), ("b2", 2)] {
            let record = BridgeRecord {
                id: bridge(id),
                name: id.to_uppercase(),
                created: at(0),
                hostname: None,
                version: None,
                seen: None,
            };
            world
                .store
                .add_bridge(record, TokenHash([token; 32]))
                .await
                .unwrap();
        }
        world.create("t1", 0).await;
        world
    }

    async fn create(&self, id: &str, seconds: i64) {
        let record = TaskRecord {
            id: task(id),
            bridge: bridge("b1"),
            agent: AgentId::parse("demo").unwrap(),
            provider: ProviderKey::parse("demo").unwrap(),
            title: "do it".into(),
            mode: Mode::Repository {
                path: "/code/web".into(),
            },
            folder: TaskFolder::parse("tasks/hub/x").unwrap(),
            tuning: Tuning {
                model: Some("m".into()),
                ..Tuning::default()
            },
        };
        let run = run_record(run(id, "r1"), RunKind::Dispatch, at(seconds));
        self.store.create_task(record, run, None).await.unwrap();
    }

    async fn take(&self, events: Vec<Event>) -> Committed {
        self.store
            .append(&bridge("b1"), events.into(), None, at(1))
            .await
            .unwrap()
    }

    async fn view(&self, id: &str) -> TaskView {
        self.store.task(&task(id)).await.unwrap().unwrap()
    }

    fn reopen(self) -> Self {
        let Self { folder, store } = self;
        drop(store);
        let store = SqliteStore::open(folder.path(), at(9)).unwrap();
        Self { folder, store }
    }
}

#[tokio::test]
async fn everything_survives_a_restart() {
    let world = World::new().await;
    let key = run("t1", "r1");
    let events = vec![
        event(key.clone(), 0, started()),
        event(key.clone(), 1, text("Hello")),
        event(key.clone(), 5, seen(RunEvent::Ask(ask("a1")))),
    ];
    let committed = world.take(events.clone()).await;
    assert_eq!(committed.tasks, [(task("t1"), 3)]);
    let before = world.view("t1").await;

    let world = world.reopen();
    assert_eq!(world.view("t1").await, before);
    assert_eq!(before.summary.status, TaskStatus::Waiting);
    assert_eq!(
        before.mode,
        Mode::Repository {
            path: "/code/web".into()
        }
    );
    assert_eq!(before.open_asks, [ask("a1")]);
    assert_eq!(before.runs[0].attachments, ["a.txt"]);
    let kept = world.store.since(&task("t1"), 0, 100).await.unwrap();
    let numbers: Vec<u64> = kept.iter().map(|stored| stored.seq).collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(
        kept.into_iter()
            .map(|stored| stored.event)
            .collect::<Vec<_>>(),
        events
    );
    let live = world.store.live_runs(&bridge("b1")).await.unwrap();
    assert_eq!(
        (live.len(), live[0].last_n, live[0].started),
        (1, Some(5), true)
    );
}

#[tokio::test]
async fn runs_that_a_revoked_machine_left_behind_can_be_ended_later() {
    let world = World::new().await;
    let other = Connection::open(world.folder.path().join("hub.db")).unwrap();
    other
        .execute("UPDATE bridges SET token = NULL WHERE id = 'b1'", [])
        .unwrap();
    assert_eq!(world.store.end_runs_of_revoked(at(3)).await.unwrap(), 1);
    assert_eq!(world.store.end_runs_of_revoked(at(4)).await.unwrap(), 0);
    assert_eq!(world.view("t1").await.summary.status, TaskStatus::Failed);
}

#[tokio::test]
async fn retention_removes_old_ended_tasks_and_never_a_live_one() {
    let world = World::new().await;
    world.create("old", 0).await;
    world
        .take(vec![event(run("old", "r1"), 0, ended(Outcome::Completed))])
        .await;
    assert_eq!(world.store.forget_before(at(1)).await.unwrap(), 0);
    assert_eq!(world.store.forget_before(at(100)).await.unwrap(), 1);
    assert_eq!(world.store.task(&task("old")).await.unwrap(), None);
    assert_eq!(world.store.since(&task("old"), 0, 10).await.unwrap(), []);
    assert!(world.store.task(&task("t1")).await.unwrap().is_some());
}
