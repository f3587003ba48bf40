//! The same promises for every agent: the demo agent, any agent of the Agent Client Protocol, those
//! of them that have ways of their own, and Claude Code. What differs between them is how each is
//! told to do the same thing.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use std::{sync::Arc, time::Duration};

use bridge_proto::{
    RunKey, TaskId,
    model::{Actor, Answer, Ask, Fault, Outcome, RunEvent, ToolStatus},
};
use bridge_providers::provider::{Asking, Conversation, Heard, Provider, RunSpec, Steer, TurnEnd};
use bridge_testkit::{bridge, home::Home};
use tokio::time::timeout;

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
    /// Says what was written before.
    remember: &'static str,
    /// Ends in the middle of a turn.
    crash: &'static str,
    /// The turn fails and gives this reason.
    fail: &'static str,
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
        remember: "@remember",
        crash: "@say before\n@exit 3",
        fail: "@error boom-reason",
    };
    let acp = fake("acp", bridge::fake(home, "fake", &["acp"]));
    let claude = fake("claude", bridge::claude(home));
    let copilot = Agent {
        // A rejection ends its turn.
        denied: "",
        ..fake("copilot", bridge::copilot(home))
    };
    let hermes = fake("hermes", bridge::hermes(home));
    let cursor = fake("cursor", bridge::cursor(home));
    let demo = Agent {
        name: "demo",
        provider: bridge::demo(home),
        stream: "#demo long 40",
        tool: "#demo fast",
        ask: "#demo fast\n#demo ask command",
        allowed: "",
        denied: "You said no",
        long: "#demo slow 600",
        remember: "#demo remember",
        crash: "#demo crash",
        fail: "#demo fail boom-reason",
    };
    vec![demo, acp, claude, copilot, hermes, cursor]
}

struct Talk {
    name: &'static str,
    conversation: Conversation,
    seen: Vec<RunEvent>,
}

impl Talk {
    async fn open(home: &Home, agent: &Agent, task: &str) -> Self {
        let directory = home.workspace().join(agent.name);
        std::fs::create_dir_all(directory.join("output")).unwrap();
        let spec = RunSpec {
            run: RunKey {
                task: TaskId::parse(task).unwrap(),
                attempt: "1".into(),
            },
            directory,
            extra_directories: Vec::new(),
            model: None,
            asking: Asking::Answered,
            instructions: String::new(),
            resume: None,
            trusted: false,
            temp: None,
        };
        let conversation = agent.provider.open(spec).await.unwrap();
        Self {
            name: agent.name,
            conversation,
            seen: Vec::new(),
        }
    }

    async fn say(&mut self, prompt: &str) {
        self.conversation
            .steer
            .send(Steer::Prompt(prompt.into()))
            .await
            .unwrap();
    }

    async fn next(&mut self) -> Heard {
        let heard = timeout(Duration::from_secs(60), self.conversation.heard.recv()).await;
        let Ok(Some(heard)) = heard else {
            panic!("{}: nothing more after {:?}", self.name, self.seen);
        };
        heard
    }

    /// Reads until something fits.
    async fn until<T>(&mut self, mut fits: impl FnMut(&Heard) -> Option<T>) -> T {
        loop {
            let heard = self.next().await;
            let found = fits(&heard);
            match heard {
                Heard::Seen(seen) => self.seen.push(seen.event),
                Heard::TurnOver(end) if found.is_none() => {
                    panic!(
                        "{}: over too early: {end:?} after {:?}",
                        self.name, self.seen
                    )
                }
                Heard::Gone if found.is_none() => panic!("{}: gone too early", self.name),
                Heard::TurnOver(_)
                | Heard::Gone
                | Heard::Injected(_)
                | Heard::Resumable(_)
                | Heard::Applied(_) => {}
            }
            if let Some(found) = found {
                return found;
            }
        }
    }

    async fn over(&mut self) -> TurnEnd {
        self.until(|heard| match heard {
            Heard::TurnOver(end) => Some(end.clone()),
            Heard::Seen(_)
            | Heard::Resumable(_)
            | Heard::Applied(_)
            | Heard::Injected(_)
            | Heard::Gone => None,
        })
        .await
    }

    async fn ask(&mut self) -> Ask {
        self.until(|heard| {
            let Heard::Seen(seen) = heard else {
                return None;
            };
            if let RunEvent::Ask(ask) = &seen.event {
                Some(ask.clone())
            } else {
                None
            }
        })
        .await
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for event in &self.seen {
            if let RunEvent::Text { delta, .. } = event {
                text.push_str(delta);
            }
        }
        text
    }

    /// Closes the conversation; nothing of it may be left.
    async fn close(mut self, home: &Home, task: &str) {
        // A process that is gone already needs no closing.
        drop(self.conversation.steer.send(Steer::Close).await);
        while let Some(heard) = timeout(Duration::from_secs(60), self.conversation.heard.recv())
            .await
            .unwrap()
        {
            if heard == Heard::Gone {
                break;
            }
        }
        home.none_left_of(task, "1").await;
    }
}

/// Runs a promise for every agent, one after the other.
macro_rules! for_every_agent {
    ($(#[$doc:meta])* $promise:ident, |$agent:ident, $talk:ident| $body:expr) => {
        $(#[$doc])*
        #[tokio::test]
        async fn $promise() {
            let home = Home::new();
            for $agent in agents(&home) {
                let task = format!("{}-{}", stringify!($promise), $agent.name);
                let mut $talk = Talk::open(&home, &$agent, &task).await;
                $body;
                $talk.close(&home, &task).await;
            }
        }
    };
}

for_every_agent!(
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
        talk.until(|heard| {
            matches!(heard, Heard::Seen(seen) if matches!(seen.event, RunEvent::Text { .. }))
                .then_some(())
        })
        .await;
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

for_every_agent!(
    a_crash_is_a_failure_of_the_agent_with_a_reason,
    |agent, talk| {
        talk.say(agent.crash).await;
        let end = talk.over().await;
        let Outcome::Failed {
            fault: Fault::Agent,
            reason,
        } = end.outcome
        else {
            panic!("{}: {:?}", agent.name, end.outcome)
        };
        assert!(reason.contains('3'), "{}: {reason}", agent.name);
        assert_eq!(talk.next().await, Heard::Gone, "{}", agent.name);
    }
);

for_every_agent!(an_error_ends_the_turn_with_its_reason, |agent, talk| {
    talk.say(agent.fail).await;
    let end = talk.over().await;
    let Outcome::Failed { reason, .. } = end.outcome else {
        panic!("{}: {:?}", agent.name, end.outcome)
    };
    assert!(reason.contains("boom-reason"), "{}: {reason}", agent.name);
});

#[tokio::test]
async fn a_dropped_conversation_leaves_nothing() {
    let home = Home::new();
    for agent in agents(&home) {
        let task = format!("dropped-{}", agent.name);
        let mut talk = Talk::open(&home, &agent, &task).await;
        talk.say(agent.long).await;
        talk.until(|heard| matches!(heard, Heard::Seen(_)).then_some(()))
            .await;
        drop(talk);
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
    let mut talk = Talk::open(&home, &agent, "early").await;
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
