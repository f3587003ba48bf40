//! What a control plane says to a bridge, and what became of a run: for tests that look at the
//! wire, plain or extended.

use serde_json::{Value, json};

use crate::fake_plane::{FakePlane, Heard, frame};

/// How a run ended, as the plane was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// `completed`, `failed`, `blocked`, `cancelled` (extended wire only) or an error code.
    pub status: String,
    /// Why, where a reason was given.
    pub reason: String,
    /// How much the plane had seen when it knew.
    pub at: usize,
}

/// The list of agents of a provider: one agent that is called like it.
pub fn sync(provider: &str) -> Value {
    let agents = json!([{ "id": provider, "name": provider, "model": "", "workspace": "" }]);
    json!({
        "action": format!("sync_{provider}_agents"),
        "requestId": format!("sync-{provider}"),
        "agents": agents.to_string(),
    })
}

/// A task in output mode.
pub fn dispatch(task: &str, request: &str, agent: &str, prompt: &str) -> Value {
    json!({
        "action": "dispatch_task", "requestId": request, "agentId": agent, "taskId": task,
        "args": { "task": prompt, "taskMode": "output" },
    })
}

/// A task in work-directory mode.
pub fn dispatch_in(repo: &str, task: &str, request: &str, agent: &str, prompt: &str) -> Value {
    json!({
        "action": "dispatch_task", "requestId": request, "agentId": agent, "taskId": task,
        "args": { "task": prompt, "taskMode": "repo", "repoPath": repo },
    })
}

/// A further message to a task.
pub fn follow_up(task: &str, request: &str, agent: &str, message: &str) -> Value {
    json!({
        "action": "followup", "requestId": request, "agentId": agent, "taskId": task,
        "args": { "message": message },
    })
}

/// A further message to a task, for the turn at work.
pub fn follow_up_now(task: &str, request: &str, agent: &str, message: &str) -> Value {
    let mut frame = follow_up(task, request, agent, message);
    frame["args"]["when"] = json!("now");
    frame
}

/// Stops the turn of a task and keeps its conversation.
pub fn interrupt(task: &str) -> Value {
    json!({ "action": "interrupt_task", "taskId": task })
}

/// Stops a task.
pub fn cancel(task: &str, agent: &str) -> Value {
    json!({ "action": "cancel_task", "taskId": task, "agentId": agent })
}

/// Asks what became of a run, as our hub does; the question is called like the run.
pub fn check(task: &str, request: &str, agent: &str) -> Value {
    json!({
        "action": "check_run", "requestId": format!("check-{request}"), "agentId": agent,
        "taskId": task, "executionId": request,
    })
}

/// Answers the open question of a task.
pub fn answer(task: &str, text: &str) -> Value {
    json!({ "action": "input_response", "taskId": task, "text": text })
}

impl FakePlane {
    /// Makes one agent per provider known, and waits until the bridge has said so.
    ///
    /// # Panics
    /// When it does not within a minute.
    pub async fn sync(&self, providers: &[&str]) {
        for provider in providers {
            let before = self.seen();
            self.send(&sync(provider)).await;
            let ack = format!("sync_{provider}_agents_ack");
            let (_, ack) = self
                .heard_after(before, |frame| frame["action"] == ack)
                .await;
            assert_eq!(ack["success"], true, "{ack}");
        }
    }

    /// Waits for the end of a run by its request.
    ///
    /// # Panics
    /// When it does not come within a minute.
    pub async fn end_of(&self, task: &str, request: &str) -> Ended {
        let (at, last) = self.see_after(0, |heard| ends(heard, task, request)).await;
        let last = frame(&last).cloned().unwrap_or_default();
        let words = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if last["action"] == "bridge_event" {
            let outcome = &last["event"]["body"]["outcome"];
            let (status, reason) = match last["event"]["body"]["type"].as_str() {
                Some("ended") => (words(&outcome["status"]), words(&outcome["reason"])),
                _ => (words(&last["event"]["body"]["code"]), String::new()),
            };
            return Ended { status, reason, at };
        }
        let complete = self.log();
        let complete = complete
            .iter()
            .take(at)
            .rev()
            .filter_map(frame)
            .find(|frame| frame["action"] == "task_complete" && frame["taskId"] == task);
        match (complete, last["result"].as_str()) {
            (Some(complete), _) if last["error"].is_null() || last["result"].is_string() => Ended {
                status: words(&complete["status"]),
                reason: words(&complete["reason"]),
                at,
            },
            (Some(complete), None) if last["error"].as_str().is_some_and(is_internal) => Ended {
                status: words(&complete["status"]),
                reason: words(&complete["reason"]),
                at,
            },
            _ => Ended {
                status: words(&last["error"]),
                reason: String::new(),
                at,
            },
        }
    }

    /// Sends a task and waits for its end.
    ///
    /// # Panics
    /// When it does not end within a minute.
    pub async fn run(&self, task: &str, request: &str, agent: &str, prompt: &str) -> Ended {
        self.send(&dispatch(task, request, agent, prompt)).await;
        self.end_of(task, request).await
    }

    /// The answer text of a task so far.
    pub fn text_of(&self, task: &str) -> String {
        let frames = self.frames();
        let texts = frames.iter().filter_map(|frame| {
            let event = &frame["event"];
            let body = &event["body"]["event"];
            if frame["action"] == "agent_activity" && frame["taskId"] == task {
                frame["delta"].as_str()
            } else if event["run"]["task"] == task && body["kind"] == "text" {
                body["delta"].as_str()
            } else {
                None
            }
        });
        texts.collect()
    }

    /// Waits until the answer of a task holds this text; gives how much was seen by then.
    ///
    /// # Panics
    /// When it does not within a minute.
    pub async fn says(&self, task: &str, text: &str) -> usize {
        let holds = |_: &Heard| self.text_of(task).contains(text);
        self.see_after(0, holds).await.0
    }

    /// The terminal frames of a task, in order: `task_complete`, `intent_result`, or ended events.
    pub fn ends_of(&self, task: &str) -> Vec<Value> {
        let mut frames = self.frames();
        frames.retain(|frame| {
            let event = &frame["event"];
            let kind = event["body"]["type"].as_str();
            match frame["action"].as_str() {
                Some("task_complete") => frame["taskId"] == task,
                Some("intent_result") => frame["contextTaskId"] == task,
                Some("bridge_event") => {
                    event["run"]["task"] == task && matches!(kind, Some("ended" | "rejected"))
                }
                _ => false,
            }
        });
        frames
    }
}

fn is_internal(error: &str) -> bool {
    error.starts_with("BRIDGE_INTERNAL_ERROR")
}

fn ends(heard: &Heard, task: &str, request: &str) -> bool {
    let Some(frame) = frame(heard) else {
        return false;
    };
    let run = &frame["event"]["run"];
    let kind = frame["event"]["body"]["type"].as_str();
    match frame["action"].as_str() {
        Some("intent_result") => frame["requestId"] == request && frame["contextTaskId"] == task,
        Some("bridge_event") => {
            run["task"] == task
                && run["attempt"] == request
                && matches!(kind, Some("ended" | "rejected"))
        }
        _ => false,
    }
}
