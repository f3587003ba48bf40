//! A store that takes nothing for a while loses nothing and changes no order.

use bridge_proto::{
    AgentId, ProviderKey, TaskId, Timestamp,
    ctrlnode::plane::FromBridge,
    model::{EventBody, Hello, Reply, Tuning},
};
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::{
    hub::Hub,
    owner::{Line, Message, Outgoing},
    store::{BridgeRecord, SqliteStore, Store as _, TokenHash},
    view::{Mode, NewTask, TaskStatus},
};

/// An owner with one machine and a store the test can break.
struct World {
    _folder: tempfile::TempDir,
    store: Arc<SqliteStore>,
    hub: Hub,
    machine: BridgeId,
    conn: ConnId,
    lines: Vec<mpsc::Receiver<Outgoing>>,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let start = Timestamp::from_millis(0);
        let store = Arc::new(SqliteStore::open(folder.path(), start).unwrap());
        let record = BridgeRecord {
            id: BridgeId::parse("b").unwrap(),
            name: "box".into(),
            created: start,
            hostname: None,
            version: None,
            seen: None,
        };
        let token = TokenHash([0; 32]);
        store.add_bridge(record.clone(), token).await.unwrap();
        let (inbox, messages) = mpsc::channel(64);
        let (changed, changes) = watch::channel(0);
        let (storing, storable) = watch::channel(true);
        let day = Duration::from_secs(24 * 3600);
        let machine = record.id.clone();
        let owner = Owner::new(store.clone(), vec![record], day, day, changed, storing);
        tokio::spawn(owner.run(messages));
        let hub = Hub {
            owner: inbox,
            store: store.clone(),
            changes,
            storable,
            public: None,
        };
        let mut world = Self {
            _folder: folder,
            store,
            hub,
            machine,
            conn: ConnId(0),
            lines: Vec::new(),
        };
        world.connect().await;
        world
    }

    async fn connect(&mut self) {
        let (out, line) = mpsc::channel(64);
        let (listen, _) = watch::channel(None);
        let (reply, conn) = oneshot::channel();
        let opened = Message::Opened {
            bridge: self.machine.clone(),
            extended: true,
            line: Line { out, listen },
            reply,
        };
        self.hub.tell(opened).await.unwrap();
        self.conn = conn.await.unwrap();
        self.lines.push(line);
        self.say(FromBridge::Handshake(Hello {
            version: "v1".into(),
            providers: vec![ProviderKey::parse("demo").unwrap()],
            hostname: "box".into(),
            agents: Vec::new(),
            existing: Vec::new(),
        }))
        .await;
    }

    async fn say(&self, message: FromBridge) {
        let conn = self.conn;
        self.hub
            .tell(Message::Said {
                conn,
                message: Some(message),
                upto: None,
            })
            .await
            .unwrap();
    }

    async fn event(&self, run: &RunKey, n: u64, body: EventBody) {
        let event = Event {
            run: run.clone(),
            n,
            at: Timestamp::from_millis(0),
            body,
        };
        self.say(FromBridge::Event {
            agent: AgentId::parse("demo").unwrap(),
            provider: None,
            event,
        })
        .await;
    }

    async fn task(&self) -> RunKey {
        let order = NewTask {
            machine: self.machine.clone(),
            agent: AgentId::parse("demo").unwrap(),
            prompt: "x".into(),
            mode: Mode::Output,
            attachments: Vec::new(),
            tuning: Tuning::default(),
        };
        let task = self.hub.create(order).await.unwrap();
        let attempt = self.view(&task).await.runs[0].attempt.clone();
        RunKey { task, attempt }
    }

    async fn view(&self, task: &TaskId) -> crate::view::TaskView {
        self.hub.task(task).await.unwrap().unwrap()
    }

    async fn status(&self, task: &TaskId, wanted: TaskStatus) {
        let mut watch = self.hub.watch(task).await.unwrap();
        let changed = async {
            while self.view(task).await.summary.status != wanted {
                assert!(watch.changed().await);
            }
        };
        let patience = Duration::from_secs(20);
        tokio::time::timeout(patience, changed).await.unwrap();
    }

    async fn storable(&self, wanted: bool) {
        let mut storable = self.hub.storable.clone();
        storable.wait_for(|it| *it == wanted).await.unwrap();
    }
}

fn ended() -> EventBody {
    EventBody::Ended {
        outcome: Outcome::Completed,
    }
}

#[tokio::test]
async fn events_a_store_does_not_take_for_a_while_are_kept_in_their_order_and_stored_then() {
    let world = World::new().await;
    let [one, two] = [world.task().await, world.task().await];
    world.store.set_read_only(true).await;
    let started = || EventBody::Started { conversation: None };
    world.event(&one, 0, started()).await;
    world.storable(false).await;
    // Viewers are served, and what was already on its way waits as well.
    world.event(&one, 1, ended()).await;
    world.event(&two, 0, started()).await;
    assert!(world.hub.machines().await.unwrap()[0].online);
    assert_eq!(world.view(&one.task).await.last_seq, 0);
    world.store.set_read_only(false).await;
    world.storable(true).await;
    world.status(&one.task, TaskStatus::Completed).await;
    world.status(&two.task, TaskStatus::Running).await;
    assert_eq!(world.view(&one.task).await.last_seq, 2);
}

#[tokio::test]
async fn a_run_the_hub_ends_is_ended_when_the_store_takes_it_and_not_forgotten() {
    let mut world = World::new().await;
    let run = world.task().await;
    world
        .event(&run, 0, EventBody::Started { conversation: None })
        .await;
    world.status(&run.task, TaskStatus::Running).await;
    world.store.set_read_only(true).await;
    for _ in 0..2 {
        world.connect().await;
        let reply = Reply::RunChecked {
            run: run.clone(),
            known: false,
        };
        let request_id = "hub-1".into();
        world.say(FromBridge::Reply { request_id, reply }).await;
        world.storable(false).await;
    }
    assert_eq!(
        world.view(&run.task).await.summary.status,
        TaskStatus::Running
    );
    world.store.set_read_only(false).await;
    world.status(&run.task, TaskStatus::Failed).await;
    assert_eq!(world.view(&run.task).await.last_seq, 2);
}
