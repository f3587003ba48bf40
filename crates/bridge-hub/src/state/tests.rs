//! Who is on line, what a machine is sent, and what becomes of its runs, in virtual time.

use bridge_proto::{
    Timestamp,
    ctrlnode::plane::{PlainMessage, PlainRun},
    model::{
        Actor, AgentStatus, Event, EventBody, Fault, Health, HealthReason, Heartbeat, Hello,
        Notice, Outcome, RunEvent,
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
        cancel: false,
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
        agents: Vec::new(),
        existing: Vec::new(),
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

    /// Gives what the machine is told about its runs.
    fn runs(&mut self, at: u64, conn: ConnId, runs: Vec<LiveRun>) -> Vec<String> {
        let now = self.at(at);
        told(&self.state.handle(now, Input::Runs { conn, runs }))
    }

    fn checked(&mut self, at: u64, conn: ConnId, task: &str, known: bool) -> Vec<Effect> {
        let run = run(task, "r1");
        let reply = Reply::RunChecked { run, known };
        let request_id = "whatever".into();
        self.say(at, conn, FromBridge::Reply { request_id, reply })
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
            | Effect::Listen { .. }
            | Effect::Append { .. }
            | Effect::GoOn { .. }
            | Effect::LoadRuns { .. }
            | Effect::End { .. }
            | Effect::Resend { .. }
            | Effect::Remember(_)
            | Effect::Settle { .. }
            | Effect::Changed => None,
        })
        .collect()
}

/// What was sent, as `action task`.
fn told(effects: &[Effect]) -> Vec<String> {
    let name = |frame: &str| {
        let frame: serde_json::Value = serde_json::from_str(frame).unwrap();
        let words = ["action", "taskId"].map(|key| frame[key].as_str().unwrap().to_owned());
        words.join(" ")
    };
    frames(effects).into_iter().map(name).collect()
}

fn lost(task: &str) -> Effect {
    Effect::End {
        run: run(task, "r1"),
        outcome: Outcome::Failed {
            fault: Fault::Bridge,
            reason: "the bridge came back without this run".into(),
        },
    }
}

fn cancelled(task: &str) -> Effect {
    let outcome = Outcome::Cancelled { by: Actor::Person };
    let run = run(task, "r1");
    Effect::End { run, outcome }
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
fn a_second_connection_takes_over_and_is_heard_when_the_first_has_had_its_last_words() {
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
                request: request.clone(),
                answer: Err(Unanswered::Disconnected)
            },
            Effect::Changed,
        ]
    );
    // Events count by their number; lists, greetings and answers have been overtaken.
    let append = Effect::Append {
        bridge: bridge(),
        events: vec![event("t1", 1)],
    };
    assert_eq!(world.say(3, first, said(event("t1", 1))), [append]);
    let reply = Reply::Unknown { kind: "x".into() };
    let reply = FromBridge::Reply {
        request_id: request,
        reply,
    };
    for overtaken in [handshake(&["demo"]), beat(&[]), reply] {
        assert_eq!(world.say(3, first, overtaken), []);
    }
    let now = world.at(3);
    assert_eq!(
        world.state.handle(now, Input::Closed { conn: first }),
        [Effect::Listen { conn: second }]
    );
    assert_eq!(world.deadline(), Some(33), "now it has to greet");
    assert_eq!(world.say(3, first, said(event("t1", 2))), []);
    world.say(3, second, handshake(&["demo"]));
    assert_eq!(world.state.route(&bridge()).unwrap().conn, second);
}

#[test]
fn a_connection_that_has_nothing_before_it_is_heard_at_once() {
    let mut world = World::new();
    let listens = |conn| move |effects: &[Effect]| effects.contains(&Effect::Listen { conn });
    let (first, effects) = world.open(0, true);
    assert!(listens(first)(&effects), "the only one");
    let (second, effects) = world.open(0, true);
    assert!(listens(second)(&effects), "the other had not greeted");
    let plain = world.greeted(false);
    let (fourth, effects) = world.open(0, true);
    assert!(listens(fourth)(&effects), "nothing of a plain one is kept");
    assert_eq!(world.say(0, plain, said(event("t1", 1))), []);
}

#[test]
fn nobody_waits_for_ever_for_the_last_words_of_an_older_connection() {
    let mut world = World::new();
    let first = world.greeted(true);
    let (second, _) = world.open(1, true);
    let (third, effects) = world.open(2, true);
    assert!(
        !effects.contains(&Effect::Listen { conn: third }),
        "{effects:?}"
    );
    let now = world.at(3);
    assert_eq!(world.state.handle(now, Input::Closed { conn: second }), []);
    assert_eq!(world.deadline(), Some(12));
    assert_eq!(world.timeout(12), [Effect::Listen { conn: third }]);
    world.say(12, third, handshake(&["demo"]));
    assert_eq!(world.say(13, first, said(event("t1", 1))).len(), 1);
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
                | Effect::Listen { .. }
                | Effect::GoOn { .. }
                | Effect::LoadRuns { .. }
                | Effect::End { .. }
                | Effect::Resend { .. }
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
fn a_machine_that_comes_back_is_asked_about_every_run_and_given_time_to_answer() {
    let mut world = World::new();
    let conn = world.greeted(true);
    let runs = vec![live("t1", "demo", true), live("t2", "demo", false)];
    assert_eq!(world.runs(0, conn, runs), ["check_run t1", "check_run t2"]);
    world.say(10, conn, said(event("t2", 5)));
    assert_eq!(world.timeout(59), []);
    assert_eq!(world.deadline(), Some(60));
    assert_eq!(world.timeout(60), [lost("t1")]);
    assert_eq!(world.deadline(), None);
}

#[test]
fn a_run_is_given_up_on_the_word_of_its_machine_and_a_known_one_never() {
    let mut world = World::new();
    let conn = world.greeted(true);
    let runs = vec![live("t1", "demo", true), live("t2", "demo", true)];
    world.runs(0, conn, runs);
    assert_eq!(world.checked(1, conn, "t1", true), []);
    assert_eq!(world.checked(1, conn, "t2", false), [lost("t2")]);
    assert_eq!(world.deadline(), None);
    // Nothing was asked any more.
    assert_eq!(world.checked(2, conn, "t1", false), []);
    assert_eq!(world.checked(2, conn, "t2", false), []);
}

#[test]
fn an_end_that_comes_instead_of_an_answer_settles_its_run() {
    let mut world = World::new();
    let conn = world.greeted(true);
    world.runs(0, conn, vec![live("t1", "demo", true)]);
    let end = Event {
        body: EventBody::Ended {
            outcome: Outcome::Completed,
        },
        ..event("t1", 9)
    };
    let append = Effect::Append {
        bridge: bridge(),
        events: vec![end.clone()],
    };
    assert_eq!(world.say(1, conn, said(end)), [append]);
    assert_eq!(world.deadline(), None);
}

#[test]
fn a_run_that_never_reached_its_machine_is_sent_again_or_stopped_if_somebody_wanted_that() {
    let mut world = World::new();
    let conn = world.greeted(true);
    let stopped = LiveRun {
        cancel: true,
        ..live("t2", "demo", false)
    };
    let runs = vec![
        live("t1", "demo", false),
        stopped,
        live("t3", "demo", false),
    ];
    assert_eq!(
        world.runs(0, conn, runs),
        [
            "check_run t1",
            "cancel_task t2",
            "check_run t2",
            "check_run t3"
        ]
    );
    let resend = Effect::Resend {
        conn,
        run: run("t1", "r1"),
    };
    assert_eq!(world.checked(1, conn, "t1", false), [resend]);
    assert_eq!(world.checked(1, conn, "t2", false), [cancelled("t2")]);
    // Cancelled while the question was on its way.
    let task = TaskId::parse("t3").unwrap();
    world.state.on_cancel_sent(&bridge(), &task);
    assert_eq!(world.checked(1, conn, "t3", false), [cancelled("t3")]);
}

#[test]
fn a_cancel_is_said_again_on_every_connection_until_its_run_has_ended() {
    let wanted = || {
        vec![LiveRun {
            cancel: true,
            ..live("t1", "demo", true)
        }]
    };
    let mut world = World::new();
    for at in [0, 100] {
        let conn = world.greeted(true);
        let told = world.runs(at, conn, wanted());
        assert_eq!(told, ["cancel_task t1", "check_run t1"]);
        assert_eq!(world.checked(at, conn, "t1", true), []);
        let now = world.at(at);
        world.state.handle(now, Input::Closed { conn });
    }
    // A plain bridge is told as well. It does not say when it knows nothing of the task.
    let plain = world.greeted(false);
    assert_eq!(world.runs(200, plain, wanted()), ["cancel_task t1"]);
    world.say(200, plain, beat(&[("demo", AgentStatus::Running)]));
    assert_eq!(world.timeout(260), [cancelled("t1")]);
}

#[test]
fn a_cancel_is_not_repeated_when_its_machine_knows_a_run_asked_for_after_it() {
    let attempt = |attempt: &str, cancel, heard: bool| LiveRun {
        key: run("t1", attempt),
        cancel,
        last_n: heard.then_some(0),
        ..live("t1", "demo", false)
    };
    let mut world = World::new();
    let conn = world.greeted(true);
    let runs = vec![attempt("r1", true, true), attempt("r2", false, true)];
    assert_eq!(world.runs(0, conn, runs), ["check_run t1", "check_run t1"]);
    // A follow-up that was lost with the cancel is sent again after it.
    let conn = world.greeted(true);
    let runs = vec![attempt("r1", true, true), attempt("r2", false, false)];
    assert_eq!(
        world.runs(1, conn, runs),
        ["cancel_task t1", "check_run t1", "check_run t1"]
    );
}

#[test]
fn questions_about_a_thousand_runs_go_out_as_answers_come_in() {
    let mut world = World::new();
    let conn = world.greeted(true);
    let name = |n: usize| format!("t{n}");
    let runs = (0..1000).map(|n| live(&name(n), "demo", true)).collect();
    let mut asked = world.runs(0, conn, runs);
    let mut answered = 0;
    while answered < asked.len() {
        assert!(asked.len() - answered <= 32);
        asked.extend(told(&world.checked(1, conn, &name(answered), true)));
        answered += 1;
    }
    assert_eq!(asked.len(), 1000);
    assert_eq!(world.deadline(), None);
}

#[test]
fn no_run_is_lost_before_it_was_asked_about() {
    let mut world = World::new();
    let conn = world.greeted(true);
    let runs = (0..40)
        .map(|n| live(&format!("t{n}"), "demo", true))
        .collect();
    assert_eq!(world.runs(0, conn, runs).len(), 32);
    let effects = world.timeout(60);
    let ends = effects.iter().filter(|it| matches!(it, Effect::End { .. }));
    assert_eq!((ends.count(), told(&effects).len()), (32, 8));
    assert_eq!(world.timeout(119), []);
    assert_eq!(world.timeout(120).len(), 8);
}

#[test]
fn a_bridge_that_knows_no_questions_may_be_silent_about_the_run_of_an_agent_that_works() {
    for extended in [true, false] {
        let mut world = World::new();
        let conn = world.greeted(extended);
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
        let asked_again: &[&str] = if extended {
            &["check_run t1", "check_run t2"]
        } else {
            &[]
        };
        assert_eq!(told(&world.timeout(60)), asked_again);
        assert_eq!(world.deadline(), Some(120));
        world.say(
            110,
            conn,
            beat(&[("demo", AgentStatus::Idle), ("other", AgentStatus::Idle)]),
        );
        assert_eq!(world.timeout(120), [lost("t1"), lost("t2")]);
    }
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
