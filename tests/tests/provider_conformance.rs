//! The same promises for every agent: the demo agent, any agent of the Agent Client Protocol, those
//! of them that have ways of their own, Claude Code and what speaks as it does, Codex, OpenClaw, a model behind
//! an endpoint, and, as far as they apply, a program without a protocol. What differs between them is
//! how each is told to do the same thing.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use std::sync::{Arc, OnceLock};

use bridge_proto::model::{Actor, Answer, Choosing, Fault, Outcome, RunEvent, ToolStatus, Tuning};
use bridge_providers::{
    custom::{PromptBy, Protocol},
    provider::{Heard, Injection, Provider, Steer},
};
use bridge_testkit::{
    bridge,
    fake_gateway::{FakeGateway, Manners},
    home::Home,
    mock_model::MockModel,
    talk::Talk,
};

/// One agent, and its words for what every agent can be told.
struct Agent {
    name: &'static str,
    provider: Arc<dyn Provider>,
    /// Answers in 40 pieces, of which the last is `word40` or `w40`.
    stream: &'static str,
    /// Calls a tool that works.
    tool: &'static str,
    /// Asks a permission and says what the answer was.
    ask: &'static str,
    allowed: &'static str,
    denied: &'static str,
    /// Works until it is stopped.
    long: &'static str,
    /// Waits for a message while it works, if it can hear one, and says it.
    listen: &'static str,
    /// Says what was written before.
    remember: &'static str,
    /// Ends in the middle of a turn; empty: cannot be told to, and is killed while it works.
    crash: &'static str,
    /// The turn fails and gives the last word of this as its reason.
    fail: &'static str,
    /// What works for it when that is no process of ours.
    _gateway: Option<FakeGateway>,
}

fn agents(home: &Home) -> Vec<Agent> {
    let fake = |name, provider| Agent {
        name,
        provider,
        stream: "@stream 40",
        tool: "@tool",
        ask: "@ask",
        allowed: "It was allowed.",
        denied: "It was denied.",
        long: "@say working\n@hang",
        listen: "@say working\n@listen",
        remember: "@remember",
        crash: "@say before\n@exit 3",
        fail: "@error boom-reason",
        _gateway: None,
    };
    let acp = fake("acp", bridge::fake(home, "fake", &["acp", "--modes"]));
    let claude = fake("claude", bridge::claude(home));
    let copilot = Agent {
        // A rejection ends its turn.
        denied: "",
        ..fake("copilot", bridge::copilot(home))
    };
    let hermes = fake("hermes", bridge::hermes(home));
    let cursor = fake("cursor", bridge::cursor(home));
    let codex = fake("codex", bridge::codex(home));
    let like_claude = fake(
        "like-claude",
        bridge::fake_in(home, "like-claude", &[], Protocol::ClaudeStreamJson),
    );
    let gateway = FakeGateway::start(Manners::default());
    let openclaw = fake("openclaw", bridge::openclaw(home, &gateway));
    let openclaw = Agent {
        _gateway: Some(gateway),
        ..openclaw
    };
    let demo = Agent {
        name: "demo",
        provider: bridge::demo(home),
        stream: "#demo long 40",
        tool: "#demo fast",
        ask: "#demo fast\n#demo ask command",
        allowed: "",
        denied: "You said no",
        long: "#demo slow 600",
        listen: "#demo slow 600",
        remember: "#demo remember",
        crash: "#demo crash",
        fail: "#demo fail boom-reason",
        _gateway: None,
    };
    std::fs::create_dir_all(home.workspace().join("chat")).unwrap();
    std::fs::write(home.workspace().join("chat/note.txt"), "a note\n").unwrap();
    let chat = Agent {
        name: "chat",
        provider: bridge::chat(home, "chat", model()),
        stream: "@mock text 40",
        tool: "@mock read note.txt",
        ask: "@mock write answer.md",
        allowed: "has been written",
        denied: "did not allow",
        long: "@mock slow",
        listen: "@mock slow",
        remember: "@mock recall",
        crash: "",
        fail: "@mock error 418",
        _gateway: None,
    };
    vec![
        demo,
        acp,
        claude,
        like_claude,
        codex,
        copilot,
        hermes,
        cursor,
        openclaw,
        chat,
    ]
}

/// Agents and programs without a protocol: these take one prompt, call no tools and ask nothing.
fn programs(home: &Home) -> Vec<Agent> {
    let exec = |name, by| {
        let acp = agents(home).into_iter().find(|agent| agent.name == "acp");
        Agent {
            name,
            provider: bridge::fake_in(home, name, &["exec"], Protocol::Exec(by)),
            ..acp.unwrap()
        }
    };
    let mut all = agents(home);
    all.push(exec("exec-input", PromptBy::Input));
    all.push(exec("exec-argument", PromptBy::Argument));
    all
}

/// The address of a model server that lives as long as the tests.
fn model() -> &'static str {
    static ADDRESS: OnceLock<String> = OnceLock::new();
    ADDRESS.get_or_init(|| {
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let server = MockModel::start().await.unwrap();
                tell.send(server.address()).unwrap();
                std::future::pending::<()>().await;
            });
        });
        told.recv().unwrap()
    })
}

/// Runs a promise for every agent, one after the other.
macro_rules! for_every_agent {
    ($($promise:tt)*) => { for_every!(agents, $($promise)*); };
}

/// Runs a promise for every agent and every program without a protocol.
macro_rules! for_every_program {
    ($($promise:tt)*) => { for_every!(programs, $($promise)*); };
}

macro_rules! for_every {
    ($list:ident, $(#[$doc:meta])* $promise:ident, |$agent:ident, $talk:ident| $body:expr) => {
        $(#[$doc])*
        #[tokio::test]
        async fn $promise() {
            let home = Home::new();
            for $agent in $list(&home) {
                let task = format!("{}-{}", stringify!($promise), $agent.name);
                let mut $talk = Talk::open(&home, $agent.name, $agent.provider.as_ref(), &task).await;
                $body;
                $talk.close(&home, &task).await;
            }
        }
    };
}

for_every_program!(
    text_comes_in_pieces_and_the_answer_is_their_sum,
    |agent, talk| {
        talk.say(agent.stream).await;
        let end = talk.over().await;
        assert_eq!(end.outcome, Outcome::Completed, "{}", agent.name);
        assert_eq!(talk.text(), end.answer, "{}", agent.name);
        assert!(
            end.answer.trim_end().ends_with("40"),
            "{}: {}",
            agent.name,
            end.answer
        );
        let pieces = talk
            .seen
            .iter()
            .filter(|event| matches!(event, RunEvent::Text { .. }))
            .count();
        assert!(pieces >= 40, "{}: {pieces} pieces", agent.name);
    }
);

for_every_program!(
    /// From then on its model is waited for, and not while the agent starts.
    an_agent_has_its_prompt_once_and_before_it_answers,
    |agent, talk| {
        talk.say(agent.stream).await;
        let mut order = Vec::new();
        loop {
            match talk.next().await {
                Heard::Prompted => order.push("prompted"),
                Heard::Seen(seen) => {
                    let text = matches!(seen.event, RunEvent::Text { .. });
                    if text && order.last() != Some(&"text") {
                        order.push("text");
                    }
                }
                Heard::TurnOver(_) => break,
                Heard::Resumable(_)
                | Heard::Applied(_)
                | Heard::Injected(_)
                | Heard::Gone => {}
            }
        }
        assert_eq!(order, ["prompted", "text"], "{}", agent.name);
    }
);

for_every_agent!(
    a_tool_call_is_seen_from_its_beginning_to_its_end,
    |agent, talk| {
        talk.say(agent.tool).await;
        assert_eq!(
            talk.over().await.outcome,
            Outcome::Completed,
            "{}",
            agent.name
        );
        let mut tools = talk.seen.iter().filter_map(|event| {
            let RunEvent::Tool(tool) = event else {
                return None;
            };
            Some(tool)
        });
        let first = tools
            .next()
            .unwrap_or_else(|| panic!("{}: no tool call", agent.name));
        assert!(!first.title.is_empty(), "{}", agent.name);
        assert_ne!(first.status, ToolStatus::Completed, "{}", agent.name);
        let last = tools.rfind(|tool| tool.id == first.id).unwrap();
        assert_eq!(last.status, ToolStatus::Completed, "{}", agent.name);
    }
);

for_every_agent!(an_allowed_question_goes_on, |agent, talk| {
    talk.say(agent.ask).await;
    let ask = talk.ask().await;
    let option = ask.options.first().unwrap().id.clone();
    let steer = &talk.conversation.steer;
    steer
        .send(Steer::Answer(ask.id.clone(), Answer::Choose { option }))
        .await
        .unwrap();
    talk.until(|heard| (*heard == Heard::Applied(ask.id.clone())).then_some(()))
        .await;
    let end = talk.over().await;
    assert_eq!(end.outcome, Outcome::Completed, "{}", agent.name);
    assert!(
        end.answer.contains(agent.allowed),
        "{}: {}",
        agent.name,
        end.answer
    );
    assert!(
        agent.denied.is_empty() || !end.answer.contains(agent.denied),
        "{}: {}",
        agent.name,
        end.answer
    );
});

for_every_agent!(a_denied_question_goes_on_without_it, |agent, talk| {
    talk.say(agent.ask).await;
    let ask = talk.ask().await;
    let answer = Answer::Deny {
        reason: "not today".into(),
    };
    talk.conversation
        .steer
        .send(Steer::Answer(ask.id.clone(), answer))
        .await
        .unwrap();
    talk.until(|heard| (*heard == Heard::Applied(ask.id.clone())).then_some(()))
        .await;
    let end = talk.over().await;
    assert_eq!(end.outcome, Outcome::Completed, "{}", agent.name);
    assert!(
        end.answer.contains(agent.denied),
        "{}: {}",
        agent.name,
        end.answer
    );
});

for_every_agent!(
    a_cancel_ends_the_turn_and_leaves_the_conversation,
    |agent, talk| {
        talk.say(agent.long).await;
        talk.begins().await;
        talk.conversation
            .steer
            .send(Steer::Interrupt)
            .await
            .unwrap();
        let end = talk.over().await;
        assert_eq!(
            end.outcome,
            Outcome::Cancelled { by: Actor::Person },
            "{}",
            agent.name
        );
        talk.say(agent.stream).await;
        assert_eq!(
            talk.over().await.outcome,
            Outcome::Completed,
            "{}",
            agent.name
        );
    }
);

for_every_agent!(
    a_message_for_a_turn_at_work_is_read_in_it_or_not_said_at_all,
    |agent, talk| {
        let can = agent.provider.abilities().inject;
        let steer = talk.conversation.steer.clone();
        let inject = || Steer::Inject("the red fox".into());
        talk.say(agent.listen).await;
        talk.begins().await;
        steer.send(inject()).await.unwrap();
        let injection = talk.injected().await;
        if can {
            assert_eq!(injection, Injection::Taken, "{}", agent.name);
        } else {
            assert_eq!(injection, Injection::Refused, "{}", agent.name);
            steer.send(Steer::Interrupt).await.unwrap();
        }
        let end = talk.over().await;
        assert_eq!(
            end.answer.contains("the red fox"),
            can,
            "{}: {}",
            agent.name,
            end.answer
        );
        // Without a turn there is nothing to put it into.
        steer.send(inject()).await.unwrap();
        assert_eq!(talk.injected().await, Injection::Refused, "{}", agent.name);
        talk.say(agent.remember).await;
        let end = talk.over().await;
        assert!(
            !end.answer.contains("red fox"),
            "{}: {}",
            agent.name,
            end.answer
        );
    }
);

for_every_agent!(
    what_a_conversation_is_set_to_is_told_and_what_it_cannot_be_is_not,
    |agent, talk| {
        let abilities = agent.provider.abilities();
        talk.say(agent.stream).await;
        talk.over().await;
        let wanted = Tuning {
            model: Some("no-such-model".into()),
            mode: Some("plan".into()),
            effort: Some("high".into()),
        };
        talk.conversation
            .steer
            .send(Steer::Tune(wanted))
            .await
            .unwrap();
        talk.say(agent.stream).await;
        talk.over().await;
        let mut told = [false; 3];
        let mut refused = [false; 3];
        for event in &talk.seen {
            if let RunEvent::Model { model } = event {
                told[0] |= model.ends_with("no-such-model");
            } else if let RunEvent::Mode { mode } = event {
                told[1] |= mode == "plan";
            } else if let RunEvent::Effort { effort } = event {
                told[2] |= effort == "high";
            } else if let RunEvent::Status { text } = event {
                for (refused, wanted) in refused.iter_mut().zip(["no-such-model", "plan", "high"]) {
                    *refused |= text.contains(wanted);
                }
            }
        }
        let can = [abilities.model, abilities.mode, abilities.effort];
        for ((told, refused), can) in told.into_iter().zip(refused).zip(can) {
            assert!(!(told && refused), "{}: {:?}", agent.name, talk.seen);
            if can != Choosing::Never {
                assert!(told || refused, "{}: {:?}", agent.name, talk.seen);
            }
        }
        if agent.name == "acp" {
            assert_eq!(told, [false, true, false], "its session offers modes alone");
        }
    }
);

for_every_agent!(a_follow_up_in_the_same_process_remembers, |agent, talk| {
    talk.say(&format!("{}\nthe blue whale", agent.stream)).await;
    talk.over().await;
    let pid = talk.conversation.pid;
    talk.say(agent.remember).await;
    let end = talk.over().await;
    assert!(
        end.answer.contains("the blue whale"),
        "{}: {}",
        agent.name,
        end.answer
    );
    assert_eq!(talk.conversation.pid, pid, "{}", agent.name);
});

for_every_program!(
    a_crash_is_a_failure_of_the_agent_with_a_reason,
    |agent, talk| {
        if agent.crash.is_empty() {
            talk.say(agent.long).await;
            talk.kill().await;
        } else {
            talk.say(agent.crash).await;
        }
        let end = talk.over().await;
        let Outcome::Failed {
            fault: Fault::Agent,
            reason,
        } = end.outcome
        else {
            panic!("{}: {:?}", agent.name, end.outcome)
        };
        let why = if agent.crash.is_empty() {
            "signal 9"
        } else {
            "3"
        };
        assert!(reason.contains(why), "{}: {reason}", agent.name);
        assert_eq!(talk.next().await, Heard::Gone, "{}", agent.name);
    }
);

for_every_program!(an_error_ends_the_turn_with_its_reason, |agent, talk| {
    talk.say(agent.fail).await;
    let end = talk.over().await;
    let Outcome::Failed { reason, .. } = end.outcome else {
        panic!("{}: {:?}", agent.name, end.outcome)
    };
    let why = agent.fail.rsplit(' ').next().unwrap();
    assert!(reason.contains(why), "{}: {reason}", agent.name);
});

#[tokio::test]
async fn a_dropped_conversation_leaves_nothing() {
    let home = Home::new();
    for agent in programs(&home) {
        let task = format!("dropped-{}", agent.name);
        let mut talk = Talk::open(&home, agent.name, agent.provider.as_ref(), &task).await;
        talk.say(agent.long).await;
        talk.until(|heard| matches!(heard, Heard::Seen(_)).then_some(()))
            .await;
        drop(talk);
        home.none_left_of(&task, "1").await;
    }
}

#[tokio::test]
async fn a_cancel_ends_a_program_that_knows_no_other_way() {
    let home = Home::new();
    let bare = |agent: &Agent| agent.name.starts_with("exec");
    for agent in programs(&home).into_iter().filter(bare) {
        let task = format!("cancelled-{}", agent.name);
        let mut talk = Talk::open(&home, agent.name, agent.provider.as_ref(), &task).await;
        talk.say(agent.long).await;
        talk.until(|heard| matches!(heard, Heard::Seen(_)).then_some(()))
            .await;
        let steer = &talk.conversation.steer;
        steer.send(Steer::Interrupt).await.unwrap();
        let end = talk.over().await;
        let cancelled = Outcome::Cancelled { by: Actor::Person };
        assert_eq!(end.outcome, cancelled, "{}", agent.name);
        assert_eq!(end.answer, "working\n", "{}", agent.name);
        assert_eq!(talk.next().await, Heard::Gone, "{}", agent.name);
        home.none_left_of(&task, "1").await;
    }
}

#[tokio::test]
async fn an_agent_that_is_gone_before_its_first_prompt_still_says_why() {
    let home = Home::new();
    let provider = bridge::fake(&home, "quits", &["acp", "--exit", "9"]);
    let agent = Agent {
        name: "quits",
        provider,
        ..agents(&home).into_iter().next().unwrap()
    };
    let mut talk = Talk::open(&home, agent.name, agent.provider.as_ref(), "early").await;
    // Its end is seen in the process table before the prompt goes out.
    home.none_left_of("early", "1").await;
    talk.say("hello").await;
    let end = talk.over().await;
    let Outcome::Failed { reason, .. } = end.outcome else {
        panic!("{:?}", end.outcome)
    };
    assert!(reason.contains("exit code 9"), "{reason}");
    assert_eq!(talk.next().await, Heard::Gone);
}
