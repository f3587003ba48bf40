//! What a plane may ask of OpenClaw past its runs, through a whole bridge: nothing unless the user
//! says so, and then each request in the words of the wire, whatever the gateway answers.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use bridge_proto::model::{CallPurpose, ToolCall};
use bridge_providers::{openclaw::OpenclawProvider, provider::Provider as _, remote::CallFault};
use bridge_runtime::{ActionKind, CommandRule, RemoteRule, Rule, RuleDecision, Rules};
use bridge_testkit::{
    bridge::{Bridge, Setup},
    fake_plane::{FakePlane, Manners, frame},
    home::{Home, Running},
    raw_endpoint::{Asked, Part, RawEndpoint},
};
use bridge_workspace::ContentsPolicy;
use serde_json::{Map, Value, json};

const TOKEN: &str = "gateway-token-hush";
const TASK: &str = "9f8e7d6c-1111-4222-8333-444455556666";

struct World {
    home: Home,
    plane: FakePlane,
    gateway: RawEndpoint,
    bridge: Bridge,
}

fn config(port: u16) -> Value {
    json!({
        "gateway": { "port": port, "auth": { "token": TOKEN } },
        "agents": { "list": [{ "id": "main" }, { "id": "Scout", "sandbox": { "mode": "all" } }] }
    })
}

/// A machine with OpenClaw, whose gateway answers a call of a tool like this.
async fn world(
    change: impl FnOnce(&mut Setup<'_>),
    answer: impl Fn(&Value) -> Vec<Part> + Send + Sync + 'static,
) -> World {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::plain()).await);
    let gateway = RawEndpoint::start(move |_, asked| match body(asked) {
        Some(call) => answer(&call),
        None => Part::response(404, &[], ""),
    });
    let gateway = gateway.await.unwrap();
    let port = gateway
        .address()
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    fs::create_dir_all(home.path().join(".openclaw/workspace")).unwrap();
    fs::write(config_of(&home), config(port).to_string()).unwrap();
    let mut setup = Setup::new(&home, plane.url());
    let openclaw = OpenclawProvider::new(home.host(&[]), &home.path().join("state"));
    setup.providers.push(Arc::new(openclaw));
    setup.policy.remote = RemoteRule::All;
    change(&mut setup);
    let bridge = setup.start();
    let agents = |frame: &Value| {
        let agents = frame["agents"].as_array().into_iter().flatten();
        frame["action"] == "agent_update" && agents.into_iter().any(|it| it["id"] == "scout")
    };
    plane.heard(agents).await;
    World {
        home,
        plane,
        gateway,
        bridge,
    }
}

fn config_of(home: &Home) -> PathBuf {
    home.path().join(".openclaw/openclaw.json")
}

/// The call of a tool that a request is.
fn body(asked: &Asked) -> Option<Value> {
    let is_call = asked.line.starts_with("POST /tools/invoke ");
    is_call.then(|| serde_json::from_str(&asked.body).unwrap())
}

fn said(text: &str) -> Vec<Part> {
    let body = json!({ "ok": true, "result": {
        "content": [{ "type": "text", "text": "{}" }],
        "details": { "status": "ok", "reply": text } } });
    Part::response(200, &["Content-Type: application/json"], &body.to_string())
}

fn send(more: &Value) -> Value {
    let mut frame = json!({ "action": "invoke_tool", "requestId": "q", "agentId": "Scout",
        "tool": "sessions_send", "args": { "message": "How far are you?" } });
    for (name, value) in more.as_object().unwrap() {
        frame[name] = value.clone();
    }
    frame
}

impl World {
    /// Every frame that answers a request, the last with its id.
    async fn ask(&self, request: &Value) -> Vec<Value> {
        let before = self.plane.seen();
        self.plane.send(request).await;
        let id = &request["requestId"];
        let last = |frame: &Value| frame["requestId"] == *id;
        let (seen, _) = self.plane.heard_after(before, last).await;
        let log = self.plane.log();
        let frames = log.iter().take(seen).skip(before).filter_map(frame);
        let beside = [
            "agent_update",
            "available_models",
            "heartbeat",
            "provider_health",
        ];
        frames
            .filter(|frame| !beside.iter().any(|action| frame["action"] == *action))
            .cloned()
            .collect()
    }

    fn calls(&self) -> Vec<Value> {
        let seen = self.gateway.seen();
        let seen = seen.borrow();
        seen.requests.iter().filter_map(body).collect()
    }

    fn config(&self) -> String {
        fs::read_to_string(config_of(&self.home)).unwrap()
    }

    async fn finish(self) {
        assert!(self.bridge.stop().await.clean);
        let frames = self.plane.frames();
        assert!(
            frames
                .iter()
                .all(|frame| !frame.to_string().contains(TOKEN)),
            "the secret of the gateway never leaves"
        );
    }
}

fn not_supported(action: &str) -> Value {
    json!({ "action": "tool_result", "requestId": "q", "action_requested": action,
        "error": "NOT_SUPPORTED_BY_PROVIDER" })
}

#[tokio::test]
async fn nothing_is_asked_of_openclaw_unless_the_user_says_so() {
    for (remote, tools, configured) in [
        (RemoteRule::Off, false, false),
        (RemoteRule::Tools, true, false),
        (RemoteRule::Config, false, true),
    ] {
        let world = world(|setup| setup.policy.remote = remote, |_| said("Hi.")).await;
        let before = world.config();
        let ping = json!({ "action": "init_ping", "requestId": "q", "agentId": "scout" });
        let sync = json!({ "action": "sync_config", "requestId": "q", "configContent": "{" });
        for (request, wanted) in [(send(&json!({})), tools), (ping, tools), (sync, configured)] {
            let action = request["action"].as_str().unwrap().to_owned();
            let answers = world.ask(&request).await;
            let refused = answers == [not_supported(&action)];
            assert_eq!(refused, !wanted, "{remote:?}: {answers:?}");
        }
        assert_eq!(world.config(), before);
        assert_eq!(world.calls().is_empty(), !tools, "{remote:?}");
        world.finish().await;
    }
}

#[tokio::test]
async fn without_openclaw_the_three_are_answered_as_by_a_bridge_without_it() {
    let (home, plane) = (Home::new(), FakePlane::start(Manners::plain()).await);
    let mut setup = Setup::new(&home, plane.url());
    setup.policy.remote = RemoteRule::All;
    let openclaw = OpenclawProvider::new(home.host(&[]), &home.path().join("state"));
    setup.providers.push(Arc::new(openclaw));
    let bridge = setup.start();
    let list = json!([{ "id": "scout" }]).to_string();
    let sync = json!({ "action": "sync_openclaw_agents", "requestId": "s", "agents": list });
    plane.send(&sync).await;
    for request in [
        send(&json!({})),
        json!({ "action": "init_ping", "requestId": "q", "agentId": "scout" }),
        json!({ "action": "sync_config", "requestId": "q", "configContent": "{}" }),
    ] {
        let before = plane.seen();
        plane.send(&request).await;
        let answer = |frame: &Value| frame["requestId"] == "q";
        let (_, answer) = plane.heard_after(before, answer).await;
        assert_eq!(answer, not_supported(request["action"].as_str().unwrap()));
    }
    assert!(!home.path().join(".openclaw").exists(), "nothing is made");
    assert!(bridge.stop().await.clean);
}

#[tokio::test]
async fn a_tool_answers_with_the_agents_words_then_the_result() {
    let world = world(|_| {}, |_| said("Half way.")).await;
    let answers = world
        .ask(&send(
            &json!({ "contextTaskId": TASK, "executionId": "e7" }),
        ))
        .await;
    let raw = answers.last().unwrap()["result"]
        .as_str()
        .unwrap()
        .to_owned();
    let preview: String = raw.chars().take(200).collect();
    assert_eq!(
        answers,
        [
            json!({ "action": "agent_message", "agentId": "scout", "taskId": TASK,
                "message": "Half way." }),
            json!({ "action": "tool_result", "requestId": "q", "agentId": "scout",
                "tool": "sessions_send", "providerMethod": "gateway_http", "executionId": "e7",
                "contextTaskId": TASK, "result": raw, "resultPreview": preview }),
        ]
    );
    assert_eq!(
        world.calls(),
        [json!({ "tool": "sessions_send", "agentId": "Scout",
            "args": { "sessionKey": "main", "message": "How far are you?" } })]
    );
    let seen = world.gateway.seen().borrow().requests.clone();
    let bearer = format!("authorization: Bearer {TOKEN}");
    let shown = |asked: &Asked| {
        asked
            .headers
            .iter()
            .any(|line| line.eq_ignore_ascii_case(&bearer))
    };
    assert!(seen.iter().any(shown), "{seen:?}");
    world.finish().await;
}

#[tokio::test]
async fn a_greeting_goes_to_the_main_session_and_is_answered_as_an_intent() {
    let world = world(|_| {}, |_| said("Hello.")).await;
    let ping = json!({ "action": "init_ping", "requestId": "q", "agentId": "scout",
        "content": "Hi" });
    let answers = world.ask(&ping).await;
    let [message, result] = answers.as_slice() else {
        panic!("{answers:?}");
    };
    assert_eq!(message["message"], "Hello.");
    assert_eq!(
        [
            &result["action"],
            &result["intentType"],
            &result["providerMethod"],
            &result["tool"]
        ],
        [
            "intent_result",
            "init_ping",
            "sessions.send",
            "sessions_send"
        ]
    );
    assert_eq!(
        world.calls()[0]["args"],
        json!({ "sessionKey": "main", "message": "Hi" })
    );
    world.finish().await;
}

#[tokio::test]
async fn a_session_that_cannot_be_seen_is_reached_by_a_new_one() {
    let world = world(
        |_| {},
        |call| {
            if call["tool"] == "sessions_send" {
                return Part::response(403, &[], "session visibility is restricted");
            }
            said("The task was completed.")
        },
    )
    .await;
    let args = json!({ "sessionKey": "agent:scout:web", "message": "Go" });
    let answers = world
        .ask(&send(&json!({ "args": args.to_string(), "taskId": TASK })))
        .await;
    let over = json!({ "action": "task_complete", "agentId": "scout", "taskId": TASK,
        "source": "keyword_detection" });
    assert_eq!(answers[0], over);
    assert_eq!(answers[1]["action"], "agent_message");
    assert_eq!(answers[2]["tool"], "sessions_spawn");
    let spawned = json!({ "tool": "sessions_spawn", "agentId": "Scout",
        "args": { "task": "Go", "message": "Go", "key": "web" },
        "sessionKey": "agent:Scout:main" });
    assert_eq!(world.calls()[1..], [spawned]);
    world.finish().await;
}

#[tokio::test]
async fn what_cannot_be_called_is_answered_with_its_code_and_reaches_nobody() {
    let world = world(|_| {}, |_| said("Hi.")).await;
    world.plane.sync(&["fake"]).await;
    let of_scout = |tool: &str, error: &str| {
        json!({ "action": "tool_result", "requestId": "q", "agentId": "scout", "tool": tool,
            "providerMethod": "gateway_http", "error": error })
    };
    let bare = |agent: &str, error: &str| {
        json!({ "action": "tool_result", "requestId": "q", "agentId": agent,
            "providerMethod": "gateway_http", "error": error })
    };
    let withheld = "the answer of read may hold contents of files, which the contents policy \
                    task-outputs keeps";
    for (request, answer) in [
        (
            send(&json!({ "agentId": "nobody" })),
            bare("nobody", "AGENT_NOT_FOUND"),
        ),
        (
            send(&json!({ "agentId": null })),
            bare("", "AGENT_NOT_FOUND"),
        ),
        (
            send(&json!({ "agentId": "fake" })),
            bare("fake", "AGENT_NOT_FOUND"),
        ),
        (send(&json!({ "tool": " ", "taskId": "t" })), {
            let mut missing = bare("scout", "MISSING_TOOL");
            missing["contextTaskId"] = json!("t");
            missing
        }),
        (
            send(&json!({ "args": { "sessionKey": "agent:admin:main", "message": "x" } })),
            bare("scout", "the session belongs to another agent"),
        ),
        (
            send(&json!({ "tool": "read", "args": { "path": "secrets.md" } })),
            of_scout("read", withheld),
        ),
        (send(&json!({ "args": 7 })), bare("scout", "INVOKE_ERROR")),
    ] {
        assert_eq!(world.ask(&request).await, [answer], "{request}");
    }
    assert_eq!(world.calls(), Vec::<Value>::new());
    world.finish().await;
}

#[tokio::test]
async fn a_rule_that_denies_holds_for_a_single_tool_and_for_the_second_try() {
    let deny = |kind, tool: &str| Rule {
        agent: None,
        kind,
        tool: Some(tool.to_owned()),
        matches: None,
        decision: RuleDecision::Deny,
    };
    let rules = Rules(vec![
        deny(None, "sessions_spawn"),
        deny(Some(ActionKind::Command), "exec"),
    ]);
    let world = world(
        |setup| {
            setup.rules = rules;
            setup.policy.commands = CommandRule::Allow;
            setup.contents = ContentsPolicy::Workspace;
        },
        |call| match call["tool"].as_str() {
            Some("sessions_send") => Part::response(403, &[], "not visible"),
            _ => said("ran"),
        },
    )
    .await;
    let exec = |tool: &str| json!({ "tool": tool, "args": { "command": "id" } });
    let denied = world.ask(&send(&exec("exec"))).await;
    let error = denied[0]["error"].as_str().unwrap();
    assert!(error.contains("rule 2"), "{error}");
    let spawn = world.ask(&send(&json!({ "tool": "sessions_spawn" }))).await;
    assert!(spawn[0]["error"].as_str().unwrap().contains("rule 1"));
    let tried = world.ask(&send(&json!({}))).await;
    assert_eq!(tried[0]["error"], "HTTP_403: not visible");
    let allowed = world.ask(&send(&exec("bash"))).await;
    assert_eq!(allowed.last().unwrap()["tool"], "bash");
    let tools: Vec<Value> = world
        .calls()
        .iter()
        .map(|call| call["tool"].clone())
        .collect();
    assert_eq!(tools, ["sessions_send", "bash"]);
    world.finish().await;
}

#[tokio::test]
async fn whatever_the_gateway_answers_the_plane_hears_a_short_and_true_word() {
    let world = world(
        |_| {},
        |call| match call["args"]["message"].as_str().unwrap_or_default() {
            "401" => Part::response(401, &[], r#"{"error":"Unauthorized"}"#),
            "500" => Part::response(500, &[], &format!("{TOKEN} {}", "x".repeat(100_000))),
            "redirect" => Part::response(302, &["Location: http://127.0.0.1:1/steal"], ""),
            "not ok" => Part::response(200, &[], r#"{"ok":false,"error":{"message":"no"}}"#),
            "not ok at all" => Part::response(200, &[], r#"{"ok":false}"#),
            "endless" => vec![
                Part::stream_head(),
                Part::Repeat(vec![b'x'; 64 * 1024], 1 << 16),
            ],
            "garbage" => vec![Part::Bytes(b"\0\xff\xfenot http".to_vec())],
            "cut" => vec![Part::Bytes(
                b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{".to_vec(),
            )],
            "secret" => said(&format!("It is {TOKEN}.")),
            "bytes" => vec![Part::Bytes(
                b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n\xff\xfe".to_vec(),
            )],
            _ => Vec::new(),
        },
    )
    .await;
    for (message, source, error) in [
        (
            "401",
            "intent_response_error",
            r#"HTTP_401: {"error":"Unauthorized"}"#,
        ),
        ("500", "intent_response_error", "HTTP_500: *** x"),
        ("redirect", "intent_response_error", "HTTP_302: "),
        ("not ok", "intent_exception", "no"),
        ("not ok at all", "intent_exception", "INVOKE_ERROR"),
        (
            "endless",
            "intent_exception",
            "the answer of the gateway has more than 1 MiB",
        ),
        ("garbage", "intent_exception", ""),
        ("cut", "intent_exception", ""),
        ("closed", "intent_exception", ""),
    ] {
        let request = send(&json!({ "args": { "message": message }, "taskId": TASK }));
        let answers = world.ask(&request).await;
        let [over, result] = answers.as_slice() else {
            panic!("{message}: {answers:?}");
        };
        let told = result["error"].as_str().unwrap();
        assert!(
            told.starts_with(error) && !told.is_empty(),
            "{message}: {told}"
        );
        assert!(told.chars().count() <= 530, "{message}");
        let status = if message == "401" {
            "blocked"
        } else {
            "failed"
        };
        let expected = json!({ "action": "task_complete", "agentId": "scout", "taskId": TASK,
            "status": status, "reason": told, "source": source });
        assert_eq!(*over, expected);
    }
    for (message, shown) in [("secret", "It is ***."), ("bytes", "\u{fffd}\u{fffd}")] {
        let answers = world
            .ask(&send(&json!({ "args": { "message": message } })))
            .await;
        assert_eq!(answers[0]["message"], shown);
    }
    world.finish().await;
}

#[tokio::test]
async fn a_gateway_that_never_answers_holds_up_neither_others_nor_a_stop() {
    let world = world(
        |_| {},
        |call| match call["args"]["message"].as_str() {
            Some("hang") => vec![Part::Wait],
            _ => said("Hi."),
        },
    )
    .await;
    for n in 0..3 {
        let hang = json!({ "requestId": format!("h{n}"), "args": { "message": "hang" } });
        world.plane.send(&send(&hang)).await;
    }
    let answers = world.ask(&send(&json!({}))).await;
    assert_eq!(answers.len(), 2, "{answers:?}");
    world.finish().await;
}

#[tokio::test]
async fn a_call_is_waited_for_as_long_as_it_says_and_no_longer() {
    let home = Home::new();
    let gateway = RawEndpoint::start(|_, _| vec![Part::Wait]).await.unwrap();
    let address = gateway.address();
    let variables = [("OPENCLAW_GATEWAY_URL", address.as_str())];
    let openclaw = OpenclawProvider::new(home.host(&variables), &home.path().join("state"));
    let asked = ToolCall {
        purpose: CallPurpose::Greeting,
        agent: None,
        tool: String::new(),
        args: Map::new(),
        content: None,
        task: None,
    };
    let mut planned = openclaw.tool_calls(&asked).unwrap();
    let mut call = planned.remove(0);
    call.limit = Duration::from_secs(1);
    let broken = CallFault::Broken("no answer within 1 s".into());
    assert_eq!(openclaw.call_tool(&call).await, Err(broken));
    let mut seen = gateway.seen();
    // Whoever is not waited for any longer is not left at work.
    seen.wait_for(|seen| seen.hung_up == 1).await.unwrap();
}

#[tokio::test]
async fn the_end_of_a_run_is_told_by_the_run_alone() {
    let world = world(|_| {}, |_| said("Task completed.")).await;
    world.plane.sync(&["fake"]).await;
    let dispatch = json!({ "action": "dispatch_task", "requestId": "d", "agentId": "fake",
        "taskId": TASK, "args": { "task": "@hang" } });
    world.plane.send(&dispatch).await;
    let works = |frame: &Value| frame["action"] == "heartbeat" && frame["status"] == "running";
    world.plane.heard(works).await;
    let answers = world.ask(&send(&json!({ "taskId": TASK }))).await;
    assert!(
        answers
            .iter()
            .all(|frame| frame["action"] != "task_complete"),
        "{answers:?}"
    );
    let cancel = json!({ "action": "cancel_task", "taskId": TASK });
    world.plane.send(&cancel).await;
    let over = |frame: &Value| frame["action"] == "task_complete";
    assert_eq!(world.plane.heard(over).await["status"], "failed");
    world.finish().await;
}

fn sync_config(content: &Value) -> Value {
    json!({ "action": "sync_config", "requestId": "q", "configContent": content.to_string() })
}

fn ack(error: Option<&str>) -> Value {
    json!({ "action": "sync_config_ack", "requestId": "q", "success": error.is_none(),
        "error": error })
}

#[tokio::test]
async fn a_new_configuration_is_in_force_before_it_is_acknowledged_and_the_old_one_is_kept() {
    let world = world(|_| {}, |_| said("Hi.")).await;
    let old = world.config();
    let mut new: Value = serde_json::from_str(&old).unwrap();
    let writer = json!({ "id": "Writer", "name": "Writer", "workspace": "writer" });
    new["agents"]["list"].as_array_mut().unwrap().push(writer);
    let before = world.plane.seen();
    let answers = world.ask(&sync_config(&new)).await;
    assert_eq!(*answers.last().unwrap(), ack(None));
    let frames = world.plane.log();
    let frames: Vec<&Value> = frames.iter().skip(before).filter_map(frame).collect();
    let at = |fits: &dyn Fn(&Value) -> bool| frames.iter().position(|frame| fits(frame)).unwrap();
    let update = at(&|frame| {
        let agents = frame["agents"].as_array().into_iter().flatten();
        frame["action"] == "agent_update" && agents.into_iter().any(|it| it["id"] == "writer")
    });
    let beat = at(&|frame| {
        let agents = frame["agents"].as_array().into_iter().flatten();
        frame["action"] == "heartbeat" && agents.into_iter().any(|it| it == "writer")
    });
    let told = at(&|frame| frame["action"] == "sync_config_ack");
    assert!(update < beat && beat < told, "{frames:?}");
    assert_eq!(world.config(), new.to_string());
    let kept = config_of(&world.home).with_file_name("openclaw.json.ctrlnode-bak");
    assert_eq!(fs::read_to_string(kept).unwrap(), old);
    let again = world.ask(&sync_config(&new)).await;
    assert_eq!(again, [ack(None)], "nothing has changed");
    world.finish().await;
}

#[tokio::test]
async fn a_configuration_that_reaches_for_the_machine_changes_nothing() {
    let world = world(|_| {}, |_| said("Hi.")).await;
    let old = world.config();
    let with = |pointer: &str, value: Value| {
        let mut new: Value = serde_json::from_str(&old).unwrap();
        let (above, name) = pointer.rsplit_once('/').unwrap();
        new.pointer_mut(above).unwrap()[name] = value;
        sync_config(&new)
    };
    let kept = |place: &str| format!("{place} is for the user of this machine to change");
    for (request, error) in [
        (with("/gateway/bind", json!("lan")), kept("gateway")),
        (
            with("/mcp", json!({ "servers": { "x": { "command": "sh" } } })),
            kept("mcp"),
        ),
        (with("/hooks", json!({ "enabled": true })), kept("hooks")),
        (sync_config(&json!({})), kept("gateway")),
        (
            json!({ "action": "sync_config", "requestId": "q" }),
            "MISSING_CONFIG_CONTENT".to_owned(),
        ),
        (
            json!({ "action": "sync_config", "requestId": "q", "configContent": 7 }),
            "MISSING_CONFIG_CONTENT".to_owned(),
        ),
        (
            json!({ "action": "sync_config", "requestId": "q", "configContent": "[]" }),
            "the new configuration cannot be used: it is no object, or nested too deep".to_owned(),
        ),
    ] {
        assert_eq!(world.ask(&request).await, [ack(Some(&error))], "{request}");
    }
    assert_eq!(world.config(), old);
    let folder = fs::read_dir(world.home.path().join(".openclaw")).unwrap();
    assert_eq!(folder.count(), 2, "the file and the workspace");
    world.finish().await;
}

/// The daemon itself on a machine with OpenClaw, and the setting.
fn daemon(home: &Home, plane: &FakePlane, remote: Option<&str>) -> Running {
    fs::create_dir_all(home.path().join(".openclaw/workspace")).unwrap();
    fs::write(config_of(home), config(1).to_string()).unwrap();
    let mut command = home.ctrlnode(&["bridge", "start", "--log", "info"]);
    command
        .env("PAIRING_TOKEN", "test-token")
        .env("SAAS_URL", plane.url())
        .env("CTRLNODE_SIDE_CHANNEL", "off")
        .env("BASE_PATH", home.workspace());
    if let Some(remote) = remote {
        command.env("OPENCLAW_REMOTE", remote);
    }
    Running::start(command)
}

#[tokio::test]
async fn the_setting_is_read_and_a_refusal_names_it() {
    let answer = |frame: &Value| frame["requestId"] == "q";
    let (home, plane) = (Home::new(), FakePlane::start(Manners::plain()).await);
    let mut off = daemon(&home, &plane, None);
    plane.send(&send(&json!({}))).await;
    assert_eq!(plane.heard(answer).await, not_supported("invoke_tool"));
    off.line(|line| line.contains("OPENCLAW_REMOTE") && line.contains("invoke_tool"))
        .await;
    assert_eq!(off.terminate().await, Some(0));

    let (home, plane) = (Home::new(), FakePlane::start(Manners::plain()).await);
    let mut on = daemon(&home, &plane, Some("Tools"));
    plane.send(&send(&json!({ "agentId": "nobody" }))).await;
    assert_eq!(plane.heard(answer).await["error"], "AGENT_NOT_FOUND");
    // What changes there is told by the daemon as it is started, too.
    let changed = home.path().join(".openclaw/workspace/notes.md");
    loop {
        fs::write(&changed, "x").unwrap();
        let told = plane.try_see_after(0, Duration::from_secs(3), |heard| {
            frame(heard).is_some_and(|frame| frame["action"] == "file_changed")
        });
        if told.await.is_some() {
            break;
        }
    }
    assert_eq!(on.terminate().await, Some(0));

    let wrong = daemon(&home, &plane, Some("maybe"));
    wrong
        .line(|line| line.contains("OPENCLAW_REMOTE is none of off, tools, config, all: maybe"))
        .await;
}
