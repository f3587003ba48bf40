use bridge_proto::{
    Timestamp,
    ctrlnode::plane::{PlainMessage, PlainRun},
    model::{
        AgentStatus, Event, EventBody, Health, HealthReason, Heartbeat, Hello, Notice, Outcome,
        RunEvent,
    },
};

use super::*;
use crate::store::LiveRun;

struct World {
    state: HubState,
    start: Instant,
    last_conn: u64,
}

fn bridge() -> BridgeId {
    BridgeId::parse("b1").unwrap()
}

fn run(task: &str, attempt: &str) -> RunKey {
    RunKey {
        task: TaskId::parse(task).unwrap(),
        attempt: attempt.into(),
    }
}

fn live(task: &str, agent: &str, started: bool) -> LiveRun {
    let agent = AgentId::parse(agent).unwrap();
    LiveRun {
        key: run(task, "r1"),
        agent,
        started,
        last_n: started.then_some(4),
    }
}

fn key(text: &str) -> ProviderKey {
    ProviderKey::parse(text).unwrap()
}

fn handshake(providers: &[&str]) -> FromBridge {
    FromBridge::Handshake(Hello {
        version: "v1.0.0".into(),
        providers: providers.iter().map(|text| key(text)).collect(),
        hostname: "box".into(),
    })
}

fn beat(agents: &[(&str, AgentStatus)]) -> FromBridge {
    let agents = agents
        .iter()
        .map(|(id, status)| (AgentId::parse(id).unwrap(), *status))
        .collect();
    FromBridge::Notice(Notice::Heartbeat(Heartbeat {
        agents,
        at: Timestamp::from_millis(0),
    }))
}

fn event(task: &str, n: u64) -> Event {
    let body = EventBody::Started { conversation: None };
    Event {
        run: run(task, "r1"),
        n,
        at: Timestamp::from_millis(7),
        body,
    }
}

fn said(event: Event) -> FromBridge {
    FromBridge::Event {
        agent: AgentId::parse("demo").unwrap(),
        provider: None,
        event,
    }
}

impl World {
    fn new() -> Self {
        let record = BridgeRecord {
            id: bridge(),
            name: "Box".into(),
            created: Timestamp::from_millis(1),
            hostname: None,
            version: None,
            seen: None,
        };
        let state = HubState::new(Duration::from_secs(60), vec![record]);
        Self {
            state,
            start: Instant::now(),
            last_conn: 0,
        }
    }

    fn at(&self, seconds: u64) -> Now {
        Now {
            instant: self.start + Duration::from_secs(seconds),
            wall: Timestamp::from_millis(1000 * i64::try_from(seconds).unwrap()),
        }
    }

    fn open(&mut self, at: u64, extended: bool) -> (ConnId, Vec<Effect>) {
        self.last_conn += 1;
        let conn = ConnId(self.last_conn);
        let now = self.at(at);
        let effects = self.state.handle(
            now,
            Input::Opened {
                conn,
                bridge: bridge(),
                extended,
            },
        );
        (conn, effects)
    }

    fn say(&mut self, at: u64, conn: ConnId, message: FromBridge) -> Vec<Effect> {
        let now = self.at(at);
        self.state.handle(now, Input::Said { conn, message })
    }

    fn runs(&mut self, at: u64, conn: ConnId, runs: Vec<LiveRun>) {
        let now = self.at(at);
        let effects = self.state.handle(now, Input::Runs { conn, runs });
        let resent = |effect: &Effect| matches!(effect, Effect::Resend { .. });
        assert!(effects.iter().all(resent), "{effects:?}");
    }

    fn timeout(&mut self, at: u64) -> Vec<Effect> {
        let now = self.at(at);
        self.state.handle(now, Input::Timeout)
    }

    fn greeted(&mut self, extended: bool) -> ConnId {
        let (conn, _) = self.open(0, extended);
        self.say(0, conn, handshake(&["demo"]));
        conn
    }

    fn deadline(&self) -> Option<u64> {
        self.state
            .deadline()
            .map(|(at, _)| at.duration_since(self.start).as_secs())
    }
}

fn text_of(event: &Event) -> Option<&str> {
    if let EventBody::Seen(seen) = &event.body
        && let RunEvent::Text { delta, .. } = &seen.event
    {
        return Some(delta);
    }
    None
}

fn frames(effects: &[Effect]) -> Vec<&str> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Send { frame, .. } => Some(frame.as_str()),
            Effect::HangUp { .. }
            | Effect::Append { .. }
            | Effect::LoadRuns { .. }
            | Effect::Resend { .. }
            | Effect::Fail { .. }
            | Effect::Remember(_)
            | Effect::Settle { .. }
            | Effect::Changed => None,
        })
        .collect()
}

#[test]
fn a_machine_is_on_line_from_its_handshake_on_and_gets_one_agent_for_each_provider() {
    let mut world = World::new();
    let (conn, _) = world.open(0, true);
    assert!(!world.state.machines()[0].online);
    assert!(matches!(
        world.state.route(&bridge()),
        Err(HubError::MachineOffline { name }) if name == "Box"
    ));
    let effects = world.say(
        1,
        conn,
        handshake(&["claude", "claude-sdk", "demo", "demo"]),
    );
    let sent = frames(&effects);
    assert_eq!(sent.len(), 2, "{sent:?}");
    assert!(sent[0].contains("\"sync_claude_agents\"") && sent[0].contains("Claude Code"));
    assert!(sent[1].contains("\"sync_demo_agents\""));
    let machine = &world.state.machines()[0];
    assert!(machine.online && machine.extended);
    assert_eq!(machine.since, Timestamp::from_millis(1000));
    let ids: Vec<_> = machine
        .agents
        .iter()
        .map(|agent| agent.profile.id.as_str())
        .collect();
    assert_eq!(ids, ["claude", "demo"]);
    let agent = world
        .state
        .agent(&bridge(), &AgentId::parse("demo").unwrap())
        .unwrap();
    assert_eq!((agent.route.conn, agent.provider), (conn, key("demo")));
    assert!(matches!(
        world
            .state
            .agent(&bridge(), &AgentId::parse("other").unwrap()),
        Err(HubError::UnknownAgent { .. })
    ));
}

#[test]
fn nothing_is_taken_before_the_handshake_and_without_one_the_connection_ends() {
    let mut world = World::new();
    let (conn, _) = world.open(0, true);
    assert_eq!(world.say(1, conn, said(event("t1", 1))), []);
    assert_eq!(
        world.say(1, conn, beat(&[("demo", AgentStatus::Running)])),
        []
    );
    assert_eq!(world.deadline(), Some(30));
    let effects = world.timeout(30);
    assert!(effects.contains(&Effect::HangUp {
        conn,
        why: HangUp::NoHandshake
    }));
    assert_eq!(world.deadline(), None);
}

#[test]
fn a_second_connection_takes_over_and_the_first_is_not_heard_any_more() {
    let mut world = World::new();
    let first = world.greeted(true);
    let now = world.at(1);
    let request = world.state.on_request(now, first, Duration::from_secs(10));
    let (second, effects) = world.open(2, true);
    assert_eq!(
        effects,
        [
            Effect::HangUp {
                conn: first,
                why: HangUp::Superseded
            },
            Effect::Settle {
                request,
                answer: Err(Unanswered::Disconnected)
            },
            Effect::Changed,
        ]
    );
    world.say(2, second, handshake(&["demo"]));
    assert_eq!(world.say(3, first, said(event("t1", 1))), []);
    let now = world.at(3);
    assert_eq!(world.state.handle(now, Input::Closed { conn: first }), []);
    assert_eq!(world.state.route(&bridge()).unwrap().conn, second);
}

#[test]
fn whole_events_pass_unchanged_and_only_with_the_extension() {
    let mut world = World::new();
    let conn = world.greeted(true);
    let append = Effect::Append {
        bridge: bridge(),
        events: vec![event("t1", 3)],
    };
    assert_eq!(world.say(1, conn, said(event("t1", 3))), [append]);
    let plain = world.greeted(false);
    assert_eq!(world.say(1, plain, said(event("t1", 4))), []);
}

#[test]
fn messages_of_a_plain_bridge_become_numbered_events_that_go_on_after_a_restart_of_the_hub() {
    let mut world = World::new();
    let conn = world.greeted(false);
    world.runs(0, conn, vec![live("t1", "demo", true)]);
    let message = |message| {
        FromBridge::Run(PlainRun {
            task: TaskId::parse("t1").unwrap(),
            agent: None,
            message,
        })
    };
    let mut events = Vec::new();
    let activity = PlainMessage::Activity {
        delta: "Hello".into(),
    };
    let complete = PlainMessage::Complete {
        status: Some("completed".into()),
        reason: None,
        own_fault: false,
    };
    for one in [activity, complete.clone(), complete] {
        for effect in world.say(1, conn, message(one)) {
            match effect {
                Effect::Append {
                    bridge: from,
                    events: more,
                } => {
                    assert_eq!(from, bridge());
                    events.extend(more);
                }
                other @ (Effect::Send { .. }
                | Effect::HangUp { .. }
                | Effect::LoadRuns { .. }
                | Effect::Resend { .. }
                | Effect::Fail { .. }
                | Effect::Remember(_)
                | Effect::Settle { .. }
                | Effect::Changed) => panic!("{other:?}"),
            }
        }
    }
    let numbers: Vec<u64> = events.iter().map(|event| event.n).collect();
    assert_eq!(numbers, (5..5 + events.len() as u64).collect::<Vec<_>>());
    let texts: Vec<_> = events.iter().filter_map(text_of).collect();
    assert_eq!(texts, ["Hello"]);
    assert_eq!(
        events.last().unwrap().body,
        EventBody::Ended {
            outcome: Outcome::Completed
        }
    );
    assert_eq!(
        events
            .iter()
            .filter(|event| event.body.is_terminal())
            .count(),
        1
    );
}

#[test]
fn a_run_the_machine_came_back_without_is_failed_after_the_limit() {
    let mut world = World::new();
    let conn = world.greeted(true);
    world.runs(
        0,
        conn,
        vec![live("t1", "demo", true), live("t2", "demo", false)],
    );
    world.say(10, conn, said(event("t2", 5)));
    assert_eq!(world.timeout(59), []);
    assert_eq!(world.deadline(), Some(60));
    let effects = world.timeout(60);
    assert!(
        matches!(&effects[..], [Effect::Fail { run, .. }] if run.task.as_str() == "t1"),
        "{effects:?}"
    );
    assert_eq!(world.deadline(), None);
}

#[test]
fn a_silent_run_of_a_working_agent_is_not_given_up() {
    let mut world = World::new();
    let conn = world.greeted(true);
    world.runs(
        0,
        conn,
        vec![live("t1", "demo", true), live("t2", "other", false)],
    );
    world.say(
        5,
        conn,
        beat(&[("demo", AgentStatus::Running), ("other", AgentStatus::Idle)]),
    );
    assert_eq!(world.timeout(60), []);
    assert_eq!(world.deadline(), Some(120));
    world.say(
        110,
        conn,
        beat(&[("demo", AgentStatus::Idle), ("other", AgentStatus::Idle)]),
    );
    assert_eq!(world.timeout(120).len(), 2);
}

#[test]
fn runs_are_not_given_up_while_their_machine_is_away() {
    let mut world = World::new();
    let conn = world.greeted(true);
    world.runs(0, conn, vec![live("t1", "demo", true)]);
    let now = world.at(10);
    world.state.handle(now, Input::Closed { conn });
    assert_eq!(world.deadline(), None);
    assert_eq!(world.timeout(1000), []);
}

#[test]
fn a_request_is_settled_once_by_its_own_connection_or_by_time() {
    let mut world = World::new();
    let conn = world.greeted(true);
    let now = world.at(0);
    let one = world.state.on_request(now, conn, Duration::from_secs(10));
    let two = world.state.on_request(now, conn, Duration::from_secs(20));
    let reply = || Reply::Unknown { kind: "x".into() };
    let answered = FromBridge::Reply {
        request_id: one.clone(),
        reply: reply(),
    };
    let settled = Effect::Settle {
        request: one,
        answer: Ok(reply()),
    };
    assert_eq!(world.say(1, conn, answered.clone()), [settled]);
    assert_eq!(world.say(1, conn, answered), []);
    assert_eq!(world.deadline(), Some(20));
    let late = Effect::Settle {
        request: two,
        answer: Err(Unanswered::TimedOut),
    };
    assert_eq!(world.timeout(20), [late]);
}

#[test]
fn a_run_the_machine_never_mentioned_is_sent_again_where_that_cannot_start_it_twice() {
    for extended in [true, false] {
        let mut world = World::new();
        let conn = world.greeted(extended);
        let runs = vec![live("t1", "demo", true), live("t2", "demo", false)];
        let now = world.at(1);
        let effects = world.state.handle(now, Input::Runs { conn, runs });
        let again = Effect::Resend {
            conn,
            run: run("t2", "r1"),
        };
        let expected = extended.then_some(again);
        assert_eq!(effects, expected.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn what_can_be_done_with_an_agent_is_known_while_its_machine_is_there() {
    let mut world = World::new();
    let conn = world.greeted(true);
    let provider = key("demo");
    assert_eq!(world.state.can(&bridge(), &provider), None);
    let can = Can {
        inject: true,
        ..Can::default()
    };
    let mut report = world.state.machines()[0].providers[&provider].clone();
    report.can = Some(can);
    let health = BTreeMap::from([(provider.clone(), report)]);
    let notice = FromBridge::Notice(Notice::ProviderHealth { health });
    world.say(1, conn, notice);
    assert_eq!(world.state.can(&bridge(), &provider), Some(can));
    assert_eq!(world.state.machines()[0].agents[0].can, Some(can));
    let now = world.at(2);
    world.state.handle(now, Input::Closed { conn });
    assert_eq!(world.state.can(&bridge(), &provider), None);
}

#[test]
fn an_agent_whose_program_is_installed_later_is_synced_without_a_new_connection() {
    let mut world = World::new();
    let conn = world.greeted(true);
    let ready = Health {
        available: true,
        reason: None,
        version: None,
        hint: None,
    };
    let health = BTreeMap::from([(key("gemini"), ready.into())]);
    let notice = FromBridge::Notice(Notice::ProviderHealth { health });
    let effects = world.say(1, conn, notice.clone());
    let synced = effects.iter().any(|effect| {
        matches!(effect, Effect::Send { frame, .. } if frame.contains("sync_gemini_agents"))
    });
    assert!(synced, "{effects:?}");
    assert_eq!(world.say(2, conn, notice), [Effect::Changed], "only once");
}

#[test]
fn what_a_machine_announces_wins_and_its_health_is_shown() {
    let mut world = World::new();
    let conn = world.greeted(true);
    let mut profile = world.state.machines()[0].agents[0].profile.clone();
    profile.workspace = Some("/home/dev/.ctrlnode".into());
    let notice = Notice::Agents {
        version: None,
        agents: vec![profile],
        default_workspace: String::new(),
        existing: Vec::new(),
        hostname: "box".into(),
    };
    assert_eq!(
        world.say(1, conn, FromBridge::Notice(notice.clone())),
        [Effect::Changed]
    );
    assert_eq!(world.say(1, conn, FromBridge::Notice(notice)), []);
    let sick = Health {
        available: false,
        reason: Some(HealthReason::AuthRequired),
        version: None,
        hint: None,
    };
    let health = BTreeMap::from([(key("demo"), sick.clone().into())]);
    world.say(
        2,
        conn,
        FromBridge::Notice(Notice::ProviderHealth { health }),
    );
    let agent = &world.state.machines()[0].agents[0];
    assert_eq!(agent.health, sick);
    let root = world
        .state
        .agent(&bridge(), &agent.profile.id)
        .unwrap()
        .root;
    assert_eq!(root.as_deref(), Some("/home/dev/.ctrlnode"));
}

#[test]
fn a_revoked_machine_is_hung_up_on_and_forgotten() {
    let mut world = World::new();
    let conn = world.greeted(true);
    let now = world.at(1);
    let effects = world.state.handle(now, Input::Unpaired(bridge()));
    assert_eq!(
        effects,
        [
            Effect::HangUp {
                conn,
                why: HangUp::Revoked
            },
            Effect::Changed
        ]
    );
    assert_eq!(world.state.machines(), []);
    assert!(matches!(
        world.state.route(&bridge()),
        Err(HubError::UnknownMachine { .. })
    ));
    let (late, effects) = world.open(2, true);
    assert_eq!(
        effects,
        [Effect::HangUp {
            conn: late,
            why: HangUp::Revoked
        }]
    );
}
