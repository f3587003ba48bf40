//! A conversation with one agent, at the level of its provider: what is said to it and what is
//! heard of it.

use std::time::Duration;

use bridge_proto::{
    AskId, RunKey, TaskId,
    model::{Answer, Ask, Outcome, RunEvent},
};
use bridge_providers::provider::{
    Asking, Conversation, Heard, Injection, Provider, RunSpec, StartError, Steer, TurnEnd,
};
use tokio::time::timeout;

use crate::home::Home;

/// An open conversation, and everything seen in it so far.
#[derive(Debug)]
pub struct Talk {
    /// Whom with, for the report of a failed test.
    pub name: &'static str,
    /// The conversation.
    pub conversation: Conversation,
    /// What was seen, oldest first.
    pub seen: Vec<RunEvent>,
}

impl Talk {
    /// Opens a conversation for a task, in a folder of the agent's name.
    ///
    /// # Panics
    /// When it cannot be opened.
    pub async fn open(
        home: &Home,
        name: &'static str,
        provider: &dyn Provider,
        task: &str,
    ) -> Self {
        match Self::try_open(home, name, provider, task, None).await {
            Ok(talk) => talk,
            Err(error) => panic!("{name}: {error}"),
        }
    }

    /// As [`Talk::open`], with this model.
    ///
    /// # Panics
    /// When the folder cannot be made.
    pub async fn try_open(
        home: &Home,
        name: &'static str,
        provider: &dyn Provider,
        task: &str,
        model: Option<&str>,
    ) -> Result<Self, StartError> {
        let directory = home.workspace().join(name);
        std::fs::create_dir_all(directory.join("output")).expect("a fresh folder can be written");
        let spec = RunSpec {
            agent: None,
            run: RunKey {
                task: TaskId::parse(task).expect("a task id"),
                attempt: "1".into(),
            },
            directory,
            extra_directories: Vec::new(),
            model: model.map(str::to_owned),
            asking: Asking::Answered,
            instructions: String::new(),
            resume: None,
            trusted: false,
            temp: None,
        };
        Ok(Self {
            name,
            conversation: provider.open(spec).await?,
            seen: Vec::new(),
        })
    }

    /// Tells the conversation something.
    ///
    /// # Panics
    /// When it is over.
    pub async fn steer(&self, steer: Steer) {
        let sent = self.conversation.steer.send(steer).await;
        assert!(sent.is_ok(), "{}: over after {:?}", self.name, self.seen);
    }

    /// Gives it a prompt.
    ///
    /// # Panics
    /// When it is over.
    pub async fn say(&self, prompt: &str) {
        self.steer(Steer::Prompt(prompt.into())).await;
    }

    /// The next thing heard.
    ///
    /// # Panics
    /// When nothing comes within a minute.
    pub async fn next(&mut self) -> Heard {
        let heard = timeout(DEADLINE, self.conversation.heard.recv()).await;
        let Ok(Some(heard)) = heard else {
            panic!("{}: nothing more after {:?}", self.name, self.seen);
        };
        heard
    }

    /// Reads until something fits.
    ///
    /// # Panics
    /// When the turn or the conversation is over before that.
    pub async fn until<T>(&mut self, mut fits: impl FnMut(&Heard) -> Option<T>) -> T {
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
                | Heard::Prompted
                | Heard::Resumable(_)
                | Heard::Applied(_) => {}
            }
            if let Some(found) = found {
                return found;
            }
        }
    }

    /// Reads until the turn is over.
    pub async fn over(&mut self) -> TurnEnd {
        self.until(|heard| match heard {
            Heard::TurnOver(end) => Some(end.clone()),
            Heard::Prompted
            | Heard::Seen(_)
            | Heard::Resumable(_)
            | Heard::Applied(_)
            | Heard::Injected(_)
            | Heard::Gone => None,
        })
        .await
    }

    /// Reads until the turn is over, and allows whatever is asked until then; gives how often.
    pub async fn over_allowing(&mut self) -> (TurnEnd, usize) {
        let mut asked = 0;
        loop {
            let next = self.until(|heard| match heard {
                Heard::TurnOver(end) => Some(Ok(end.clone())),
                Heard::Seen(_) => asked_in(heard).map(Err),
                Heard::Prompted
                | Heard::Resumable(_)
                | Heard::Applied(_)
                | Heard::Injected(_)
                | Heard::Gone => None,
            });
            match next.await {
                Ok(end) => return (end, asked),
                Err(ask) => {
                    asked += 1;
                    self.choose_first(&ask).await;
                }
            }
        }
    }

    /// Reads until a question.
    pub async fn ask(&mut self) -> Ask {
        self.until(asked_in).await
    }

    /// Answers a question with its first option.
    ///
    /// # Panics
    /// When it has none.
    pub async fn choose_first(&self, ask: &Ask) {
        let option = ask.options.first().expect("a question has options");
        let option = option.id.clone();
        let answer = Answer::Choose { option };
        self.steer(Steer::Answer(ask.id.clone(), answer)).await;
    }

    /// Reads until an answer was taken.
    pub async fn applied(&mut self, ask: &AskId) {
        self.until(|heard| (*heard == Heard::Applied(ask.clone())).then_some(()))
            .await;
    }

    /// The answer text so far.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for event in &self.seen {
            if let RunEvent::Text { delta, .. } = event {
                text.push_str(delta);
            }
        }
        text
    }

    /// The agent still does what it is told, in the same process.
    ///
    /// # Panics
    /// When it does not.
    pub async fn still_works(&mut self, prompt: &str) {
        let pid = self.conversation.pid;
        self.say(prompt).await;
        let end = self.over().await;
        assert_eq!(end.outcome, Outcome::Completed, "{}: {end:?}", self.name);
        assert_eq!(self.conversation.pid, pid, "{}", self.name);
    }

    /// Waits for the first text of the turn.
    ///
    /// # Panics
    /// When the turn is over without any.
    pub async fn begins(&mut self) {
        self.until(|heard| {
            let text =
                matches!(heard, Heard::Seen(seen) if matches!(seen.event, RunEvent::Text { .. }));
            text.then_some(())
        })
        .await;
    }

    /// What became of a message for the turn at work.
    ///
    /// # Panics
    /// When that is not said.
    pub async fn injected(&mut self) -> Injection {
        self.until(|heard| match heard {
            Heard::Injected(injection) => Some(*injection),
            Heard::Prompted
            | Heard::Seen(_)
            | Heard::Resumable(_)
            | Heard::Applied(_)
            | Heard::TurnOver(_)
            | Heard::Gone => None,
        })
        .await
    }

    /// Kills its process once it has said something.
    ///
    /// # Panics
    /// When it says nothing, or has no process.
    pub async fn kill(&mut self) {
        self.begins().await;
        let pid = self.conversation.pid.expect("it has a process");
        let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("it is a process");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)
            .expect("it can be killed");
    }

    /// Closes the conversation; nothing of it may be left.
    ///
    /// # Panics
    /// When it does not end within a minute, or leaves somebody behind.
    pub async fn close(mut self, home: &Home, task: &str) {
        // A process that is gone already needs no closing.
        drop(self.conversation.steer.send(Steer::Close).await);
        while let Ok(Some(heard)) = timeout(DEADLINE, self.conversation.heard.recv()).await {
            if heard == Heard::Gone {
                break;
            }
        }
        home.none_left_of(task, "1").await;
    }
}

fn asked_in(heard: &Heard) -> Option<Ask> {
    let Heard::Seen(seen) = heard else {
        return None;
    };
    if let RunEvent::Ask(ask) = &seen.event {
        Some(ask.clone())
    } else {
        None
    }
}

/// Generous: a busy machine is no failure.
const DEADLINE: Duration = Duration::from_secs(60);
