//! What can be said to a task from the terminal while its agent works: hub, bridge and agent as
//! real programs.

#![cfg(unix)]

use bridge_testkit::{
    home::{Finished, Home, Running},
    program::beside,
};

struct World {
    home: Home,
    up: Running,
}

/// Hub and bridge, with the fake agent as Claude Code.
async fn world() -> World {
    let home = Home::new();
    let work = home.workspace().display().to_string();
    let mut up = home.ctrlnode(&["up", "--port", "0", "--workspace", &work]);
    up.env("CLAUDE_SDK_EXECUTABLE", beside("fake_agent"))
        .env("ANTHROPIC_API_KEY", "none");
    let up = Running::start(up);
    up.line(|line| line.contains("/login?code=")).await;
    let world = World { home, up };
    // The page is there before the bridge has said hello.
    loop {
        let ready = ["task", "run", "--agent", "claude", "@say ready"];
        let ready = world.home.run(&ready, "").await;
        if ready.code == Some(0) {
            return world;
        }
        assert_ne!(ready.code, Some(3), "{ready:?}");
    }
}

impl World {
    async fn task(&self, args: &[&str]) -> Finished {
        let args: Vec<&str> = ["task"].iter().chain(args).copied().collect();
        self.home.run(&args, "").await
    }

    /// A task at work, followed until it has printed this.
    async fn at_work(&self, prompt: &str, until: &str) -> (String, Running) {
        let run = ["run", "--agent", "claude", "--detach", prompt];
        let id = self.task(&run).await.stdout.trim().to_owned();
        let logs = Running::start(self.home.ctrlnode(&["task", "logs", &id]));
        logs.line(|line| line.contains(until)).await;
        (id, logs)
    }

    async fn finish(mut self) {
        assert_eq!(self.up.terminate().await, Some(0), "{}", self.up.told());
        self.home.none_left().await;
    }
}

#[tokio::test]
async fn a_message_reaches_the_turn_at_work_and_its_answer_the_terminal() {
    let world = world().await;
    let (id, _logs) = world.at_work("@tool\n@listen", "✓").await;
    let tuned = world.task(&["tune", &id, "--model", "large"]).await;
    assert_eq!(tuned.code, Some(0), "{tuned:?}");
    assert!(tuned.stderr.contains("asked for"), "{tuned:?}");
    let said = world
        .task(&["follow-up", "--now", &id, "the red fox"])
        .await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.stdout.contains("Heard: the red fox"), "{said:?}");
    let later = world.task(&["tune", &id, "--effort", "low"]).await;
    assert!(later.stderr.contains("next run"), "{later:?}");
    let nothing = world.task(&["interrupt", &id]).await;
    assert_eq!(nothing.code, Some(1), "{nothing:?}");
    assert!(
        nothing.stderr.contains("no turn of the task is at work"),
        "{nothing:?}"
    );
    let more = world.task(&["follow-up", &id, "@say more"]).await;
    assert!(more.stderr.contains("thinking effort low"), "{more:?}");
    world.finish().await;
}

#[tokio::test]
async fn a_stopped_turn_leaves_the_conversation_to_the_next_message() {
    let world = world().await;
    let prompt = "@tool\n@hang\nthe blue whale";
    let (id, mut logs) = world.at_work(prompt, "✓").await;
    assert_eq!(world.task(&["interrupt", &id]).await.code, Some(0));
    assert_eq!(logs.ended().await, Some(5), "{}", logs.told());
    let more = world.task(&["follow-up", &id, "@remember"]).await;
    assert_eq!(more.code, Some(0), "{more:?}");
    assert!(more.stdout.contains("the blue whale"), "{more:?}");
    world.finish().await;
}

#[tokio::test]
async fn open_questions_are_listed_and_answered_until_the_agent_took_it() {
    let world = world().await;
    let (id, mut logs) = world.at_work("@ask", "waiting for your answer").await;
    let asks = world.task(&["asks"]).await.stdout;
    let short = id.get(..8).unwrap_or_default();
    assert!(asks.contains(short) && asks.contains("echo fake"), "{asks}");
    let how = format!("ctrlnode task answer {short} ");
    assert!(logs.told().contains(&how), "{}", logs.told());
    let words = world.task(&["answer", &id, "perhaps"]).await;
    assert_eq!(words.code, Some(1), "{words:?}");
    let answered = world.task(&["answer", &id, "yes"]).await;
    assert_eq!(answered.code, Some(0), "{answered:?}");
    assert!(
        answered.stderr.contains("sent, waiting for the agent")
            && answered.stderr.contains("the agent took it: Allow once"),
        "{answered:?}"
    );
    assert_eq!(logs.ended().await, Some(0), "{}", logs.told());
    assert!(
        logs.told().contains("answer sent: Allow once"),
        "{}",
        logs.told()
    );
    assert_eq!(world.task(&["asks"]).await.stdout, "");
    world.finish().await;
}
