//! What the database keeps: over restarts, once, and of nobody else.

mod commands;

use bridge_proto::{
    BlockId, Digest,
    model::{Actor, AskEnd, AskKind, EventBody, Fault, Fix, Observed, Rejection, RunEvent},
};
use rusqlite::Connection;

use super::*;
use crate::{access, view::TaskStatus};

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
async fn a_message_that_was_read_in_another_run_never_makes_the_task_look_ended() {
    let world = World::new().await;
    world.take(vec![event(run("t1", "r1"), 0, started())]).await;
    for attempt in ["r2", "r3"] {
        let record = run_record(run("t1", attempt), RunKind::FollowUp, at(2));
        world.store.add_run(record, None).await.unwrap();
    }
    let joined = || EventBody::Joined { into: "r1".into() };
    let taken = vec![
        event(run("t1", "r2"), 0, joined()),
        event(run("t1", "r2"), 0, joined()),
        event(run("t1", "r2"), 1, started()),
    ];
    let committed = world.take(taken).await;
    assert_eq!((committed.old, committed.refused), (2, 0), "one end each");
    let statuses =
        |view: TaskView| -> Vec<TaskStatus> { view.runs.iter().map(|run| run.status).collect() };
    assert_eq!(
        statuses(world.view("t1").await),
        [TaskStatus::Running, TaskStatus::Joined, TaskStatus::Queued]
    );
    world.take(vec![event(run("t1", "r3"), 0, joined())]).await;
    let view = world.view("t1").await;
    assert_eq!(view.summary.status, TaskStatus::Running);
    world
        .take(vec![event(run("t1", "r1"), 1, ended(Outcome::Completed))])
        .await;
    let view = world.view("t1").await;
    assert_eq!(view.summary.status, TaskStatus::Completed);
    assert_eq!(
        statuses(view)[1..],
        [TaskStatus::Joined, TaskStatus::Joined]
    );
}

#[tokio::test]
async fn open_questions_of_all_tasks_are_listed_until_they_are_closed() {
    let world = World::new().await;
    world.create("t2", 1).await;
    let raised = |task: &str, n, id: &str, answered: Option<&str>| {
        let asked = RunEvent::Ask(Ask {
            answered: answered.map(str::to_owned),
            ..ask(id)
        });
        event(run(task, "r1"), n, seen(asked))
    };
    world
        .take(vec![
            raised("t1", 0, "a", None),
            raised("t2", 0, "a", None),
            raised("t1", 1, "b", None),
        ])
        .await;
    let listed = async || -> Vec<(String, String, Option<String>)> {
        let asks = world.store.asks(10).await.unwrap().into_iter();
        asks.map(|open| {
            let (task, id) = (open.task.to_string(), open.ask.id.to_string());
            (task, id, open.ask.answered)
        })
        .collect()
    };
    let open = |task: &str, id: &str, answered: Option<&str>| {
        (task.to_owned(), id.to_owned(), answered.map(str::to_owned))
    };
    assert_eq!(
        listed().await,
        [
            open("t1", "a", None),
            open("t2", "a", None),
            open("t1", "b", None)
        ]
    );
    let status = async |id: &str| world.view(id).await.summary.status;
    // A question that is answered waits for the agent and for nobody else.
    world.take(vec![raised("t1", 2, "a", Some("Yes"))]).await;
    assert_eq!(
        status("t1").await,
        TaskStatus::Waiting,
        "the other one is open"
    );
    world.take(vec![raised("t1", 3, "b", Some("No"))]).await;
    assert_eq!(status("t1").await, TaskStatus::Running);
    assert_eq!(listed().await[0], open("t1", "a", Some("Yes")));
    let closed = RunEvent::AskClosed {
        ask: ask("a").id,
        how: AskEnd::Expired,
    };
    world
        .take(vec![event(run("t1", "r1"), 4, seen(closed))])
        .await;
    world
        .take(vec![event(run("t2", "r1"), 1, ended(Outcome::Completed))])
        .await;
    assert_eq!(listed().await, [open("t1", "b", Some("No"))]);
}

#[tokio::test]
async fn settings_are_taken_over_one_by_one() {
    let world = World::new().await;
    let tune = |mode: Option<&str>, effort: Option<&str>| Tuning {
        model: None,
        mode: mode.map(str::to_owned),
        effort: effort.map(str::to_owned),
    };
    for tuning in [tune(Some("plan"), None), tune(None, Some("high"))] {
        world.store.tune(&task("t1"), tuning, None).await.unwrap();
    }
    let expected = Tuning {
        model: Some("m".into()),
        ..tune(Some("plan"), Some("high"))
    };
    assert_eq!(world.view("t1").await.tuning, expected);
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
async fn a_wish_to_cancel_is_kept_for_the_runs_there_were_and_no_later_one() {
    let world = World::new().await;
    world.store.want_cancel(&task("t1"), None).await.unwrap();
    let follow_up = run_record(run("t1", "r2"), RunKind::FollowUp, at(2));
    world.store.add_run(follow_up, None).await.unwrap();
    let world = world.reopen();
    let live = world.store.live_runs(&bridge("b1")).await.unwrap();
    let wishes: Vec<_> = live
        .iter()
        .map(|run| (run.key.attempt.as_str(), run.cancel))
        .collect();
    assert_eq!(wishes, [("r1", true), ("r2", false)]);
}

#[tokio::test]
async fn an_event_that_comes_twice_is_kept_once() {
    let world = World::new().await;
    let key = run("t1", "r1");
    let twice = vec![
        event(key.clone(), 0, started()),
        event(key.clone(), 1, text("a")),
    ];
    world.take(twice.clone()).await;
    let again = world.take(twice).await;
    assert_eq!(
        again,
        Committed {
            old: 2,
            ..Committed::default()
        }
    );
    let mixed = vec![event(key.clone(), 1, text("a")), event(key, 2, text("b"))];
    let committed = world.take(mixed).await;
    assert_eq!((committed.tasks, committed.old), (vec![(task("t1"), 3)], 1));
}

#[tokio::test]
async fn an_event_that_counts_beyond_all_measure_leaves_room_for_the_end() {
    let world = World::new().await;
    let run = run("t1", "r1");
    let event = |n| Event {
        run: run.clone(),
        n,
        at: at(1),
        body: EventBody::Started { conversation: None },
    };
    for n in [u64::MAX, i64::MAX as u64, (1 << 62) + 1] {
        assert_eq!(world.take(vec![event(n)]).await.old, 1, "{n}");
    }
    assert_eq!(world.take(vec![event(1 << 62)]).await.old, 0);
    let outcome = Outcome::Completed;
    let ended = world.store.end_run(&run, outcome, at(2)).await.unwrap();
    assert!(ended.is_some());
}

#[tokio::test]
async fn after_the_end_of_a_run_nothing_more_is_taken_for_it() {
    let world = World::new().await;
    let key = run("t1", "r1");
    world
        .take(vec![event(key.clone(), 0, ended(Outcome::Completed))])
        .await;
    let failed = Outcome::Failed {
        fault: Fault::Agent,
        reason: "late".into(),
    };
    let late = vec![
        event(key.clone(), 1, text("x")),
        event(key.clone(), 2, ended(failed.clone())),
    ];
    assert_eq!(world.take(late).await.old, 2);
    assert_eq!(
        world.store.end_run(&key, failed, at(2)).await.unwrap(),
        None
    );
    let view = world.view("t1").await;
    assert_eq!(
        (view.summary.status, view.last_seq),
        (TaskStatus::Completed, 1)
    );
}

#[tokio::test]
async fn events_of_other_machines_tasks_and_of_unknown_runs_are_refused() {
    let world = World::new().await;
    let theirs = vec![event(run("t1", "r1"), 0, text("forged"))];
    let committed = world
        .store
        .append(&bridge("b2"), theirs.into(), None, at(1))
        .await
        .unwrap();
    assert_eq!(
        committed,
        Committed {
            refused: 1,
            ..Committed::default()
        }
    );
    let unknown = vec![
        event(run("t1", "other"), 0, text("x")),
        event(run("none", "r1"), 0, text("x")),
        event(run("t1", "r1"), u64::MAX, text("x")),
    ];
    let committed = world.take(unknown).await;
    assert_eq!((committed.refused, committed.old), (2, 1));
    assert_eq!(world.view("t1").await.last_seq, 0);
}

#[tokio::test]
async fn a_machine_cannot_tell_the_end_of_another_machines_task() {
    let world = World::new().await;
    let status = world.view("t1").await.summary.status;
    for (n, position) in [(0, None), (1_000_000, Some(Position::default()))] {
        let end = vec![event(run("t1", "r1"), n, ended(Outcome::Completed))];
        let committed = world
            .store
            .append(&bridge("b2"), end.into(), position, at(1))
            .await
            .unwrap();
        assert_eq!((committed.refused, committed.tasks.len()), (1, 0));
        assert!(!committed.listed, "nobody hears of it");
    }
    assert_eq!(world.view("t1").await.summary.status, status);
    // The run is still open, from its first event on.
    let own = vec![
        event(run("t1", "r1"), 0, text("on it")),
        event(run("t1", "r1"), 1, ended(Outcome::Completed)),
    ];
    let committed = world.take(own).await;
    assert_eq!((committed.old, committed.tasks.len()), (0, 1));
    assert_eq!(world.view("t1").await.summary.status, TaskStatus::Completed);
}

#[tokio::test]
async fn every_end_is_told_with_its_reason() {
    let world = World::new().await;
    let reason = || "no credit".to_owned();
    let cases = [
        (ended(Outcome::Completed), TaskStatus::Completed, None),
        (
            ended(Outcome::Failed {
                fault: Fault::Task,
                reason: reason(),
            }),
            TaskStatus::Failed,
            Some("no credit"),
        ),
        (
            ended(Outcome::Blocked {
                fix: Fix::Credit,
                reason: reason(),
            }),
            TaskStatus::Blocked,
            Some("no credit"),
        ),
        (
            ended(Outcome::Cancelled { by: Actor::Person }),
            TaskStatus::Cancelled,
            Some("cancelled by a person"),
        ),
        (
            EventBody::Rejected(Rejection::AgentNotFound),
            TaskStatus::Rejected,
            Some("the machine has no such agent"),
        ),
    ];
    for (index, (body, status, reason)) in cases.into_iter().enumerate() {
        let id = format!("end-{index}");
        world.create(&id, 0).await;
        world.take(vec![event(run(&id, "r1"), 0, body)]).await;
        let summary = world.view(&id).await.summary;
        assert_eq!(
            (summary.status, summary.reason.as_deref()),
            (status, reason)
        );
    }
}

#[tokio::test]
async fn a_question_makes_the_task_wait_until_it_is_closed() {
    let world = World::new().await;
    let key = run("t1", "r1");
    let closed = |id: &str| {
        let ask = AskId::parse(id).unwrap();
        seen(RunEvent::AskClosed {
            ask,
            how: AskEnd::Withdrawn,
        })
    };
    world
        .take(vec![
            event(key.clone(), 0, seen(RunEvent::Ask(ask("a1")))),
            event(key.clone(), 1, seen(RunEvent::Ask(ask("a2")))),
            event(key.clone(), 2, closed("a1")),
        ])
        .await;
    assert_eq!(world.view("t1").await.summary.status, TaskStatus::Waiting);
    let open = world
        .store
        .open_ask(&task("t1"), &ask("a1").id)
        .await
        .unwrap();
    assert_eq!(open, None);
    world.take(vec![event(key.clone(), 3, closed("a2"))]).await;
    assert_eq!(world.view("t1").await.summary.status, TaskStatus::Running);
    world
        .take(vec![
            event(key.clone(), 4, seen(RunEvent::Ask(ask("a3")))),
            event(key, 5, ended(Outcome::Completed)),
        ])
        .await;
    assert_eq!(world.view("t1").await.open_asks, []);
}

#[tokio::test]
async fn a_follow_up_makes_the_task_live_again_and_counts_on() {
    let world = World::new().await;
    world
        .take(vec![event(run("t1", "r1"), 0, ended(Outcome::Completed))])
        .await;
    let second = run_record(run("t1", "r2"), RunKind::FollowUp, at(5));
    world.store.add_run(second, None).await.unwrap();
    assert_eq!(world.view("t1").await.summary.status, TaskStatus::Queued);
    world.take(vec![event(run("t1", "r2"), 0, started())]).await;
    assert_eq!(world.view("t1").await.summary.status, TaskStatus::Running);
    let lost = Outcome::Failed {
        fault: Fault::Bridge,
        reason: "lost".into(),
    };
    assert_eq!(
        world
            .store
            .end_run(&run("t1", "r2"), lost, at(6))
            .await
            .unwrap(),
        Some(3)
    );
    let view = world.view("t1").await;
    assert_eq!(view.summary.status, TaskStatus::Failed);
    assert_eq!(view.runs.len(), 2);
    assert_eq!(view.runs[0].status, TaskStatus::Completed);
}

#[tokio::test]
async fn pages_of_tasks_go_back_in_time_without_gaps() {
    let world = World::new().await;
    for id in ["t2", "t3", "t4"] {
        world.create(id, 1).await;
    }
    let ids = |tasks: Vec<TaskSummary>| {
        tasks
            .into_iter()
            .map(|task| task.id.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        ids(world.store.tasks(3, None).await.unwrap()),
        ["t4", "t3", "t2"]
    );
    assert_eq!(
        ids(world.store.tasks(3, Some(task("t2"))).await.unwrap()),
        ["t1"]
    );
    assert_eq!(
        ids(world.store.tasks(3, Some(task("none"))).await.unwrap()),
        [""; 0]
    );
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

#[tokio::test]
async fn secrets_are_nowhere_in_the_files() {
    let world = World::new().await;
    let secret = access::new_secret("ctrla_").unwrap();
    let grant = GrantRecord {
        id: "g".into(),
        kind: GrantKind::ApiToken,
        name: "phone".into(),
        created: at(0),
        expires: None,
    };
    world
        .store
        .grant(grant, access::hash(&secret))
        .await
        .unwrap();
    let found = world
        .store
        .granted(GrantKind::ApiToken, access::hash(&secret), at(1))
        .await;
    assert_eq!(found.unwrap().as_deref(), Some("g"));
    let wrong = world
        .store
        .granted(GrantKind::Session, access::hash(&secret), at(1))
        .await;
    assert_eq!(wrong.unwrap(), None);
    for entry in std::fs::read_dir(world.folder.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let needle = secret.expose().as_bytes();
        assert!(!bytes.windows(needle.len()).any(|window| window == needle));
    }
    assert!(world.store.ungrant(GrantKind::ApiToken, "g").await.unwrap());
    let gone = world
        .store
        .granted(GrantKind::ApiToken, access::hash(&secret), at(1))
        .await;
    assert_eq!(gone.unwrap(), None);
}

#[tokio::test]
async fn a_login_code_is_good_once_and_for_its_time_only() {
    let world = World::new().await;
    let code = |id: &str, expires| GrantRecord {
        id: id.into(),
        kind: GrantKind::LoginCode,
        name: "login".into(),
        created: at(0),
        expires: Some(at(expires)),
    };
    world
        .store
        .grant(code("one", 600), TokenHash([7; 32]))
        .await
        .unwrap();
    world
        .store
        .grant(code("two", 600), TokenHash([8; 32]))
        .await
        .unwrap();
    assert!(
        world
            .store
            .take_login(TokenHash([7; 32]), at(1))
            .await
            .unwrap()
    );
    assert!(
        !world
            .store
            .take_login(TokenHash([7; 32]), at(1))
            .await
            .unwrap()
    );
    assert!(
        !world
            .store
            .take_login(TokenHash([8; 32]), at(600))
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn a_revoked_machine_cannot_come_back() {
    let world = World::new().await;
    let token = TokenHash([1; 32]);
    assert_eq!(
        world
            .store
            .bridge_by_token(token)
            .await
            .unwrap()
            .unwrap()
            .id,
        bridge("b1")
    );
    let b1 = bridge("b1");
    let revoke = || world.store.revoke_bridge(&b1, at(3));
    assert_eq!(revoke().await.unwrap(), Some(vec![task("t1")]));
    assert_eq!(revoke().await.unwrap(), None);
    let view = world.view("t1").await;
    assert_eq!(view.summary.status, TaskStatus::Failed);
    assert_eq!(
        view.summary.reason.as_deref(),
        Some("the machine was removed from the hub")
    );
    assert_eq!(world.store.bridge_by_token(token).await.unwrap(), None);
    assert_eq!(world.store.bridges().await.unwrap().len(), 1);
    assert_eq!(world.view("t1").await.summary.machine_name, "B1");
}
