//! What is said of a call: the words of the agent, the result, and whether its task has ended.

use bridge_proto::model::{CallEnd, GatewayReply, ToolCall};
use bridge_providers::remote::{CallFault, DirectAnswer};

/// What became of a call.
#[derive(Debug)]
pub(super) struct Called {
    tool: Option<String>,
    outcome: Result<DirectAnswer, Fault>,
}

/// Why there is no answer.
#[derive(Debug)]
enum Fault {
    /// Nothing was sent.
    Not(NotCalled),
    /// It was sent.
    Made(CallFault),
}

/// Why a call was not made.
#[derive(Debug)]
pub(crate) enum NotCalled {
    /// The agent is none of OpenClaw's here.
    AgentNotFound,
    /// No tool was named.
    MissingTool,
    /// This machine does not want it; in words, which may be none.
    Refused(String),
}

impl Called {
    pub(super) fn not(why: NotCalled) -> Self {
        Self {
            tool: None,
            outcome: Err(Fault::Not(why)),
        }
    }

    pub(super) fn refused(tool: String, why: String) -> Self {
        Self {
            tool: Some(tool),
            ..Self::not(NotCalled::Refused(why))
        }
    }

    pub(super) fn made(tool: String, outcome: Result<DirectAnswer, CallFault>) -> Self {
        Self {
            tool: Some(tool),
            outcome: outcome.map_err(Fault::Made),
        }
    }

    pub(super) fn was_made(&self) -> bool {
        match &self.outcome {
            Ok(_) | Err(Fault::Made(_)) => true,
            Err(Fault::Not(_)) => false,
        }
    }
}

/// Everything to say, in its order. The end of a task is told of calls that were made alone: what
/// is refused here has one answer.
pub(super) fn replies(call: &ToolCall, called: Called) -> Vec<GatewayReply> {
    let mut replies = Vec::new();
    let over = |end| {
        let task = call.task.clone()?;
        Some(GatewayReply::Over { task, end })
    };
    let result = match called.outcome {
        Ok(answer) => {
            if let Some(message) = answer.message {
                if says_completed(&message) {
                    replies.extend(over(CallEnd::Completed));
                }
                replies.push(GatewayReply::Said {
                    task: call.task.clone(),
                    message,
                });
            }
            Ok(answer.raw)
        }
        Err(Fault::Not(why)) => Err(match why {
            NotCalled::AgentNotFound => "AGENT_NOT_FOUND".to_owned(),
            NotCalled::MissingTool => "MISSING_TOOL".to_owned(),
            NotCalled::Refused(why) => in_words(why),
        }),
        Err(Fault::Made(fault)) => {
            let (end, reason) = ended(fault);
            replies.extend(over(end));
            Err(reason)
        }
    };
    replies.push(GatewayReply::Called {
        purpose: call.purpose,
        tool: called.tool,
        task: call.task.clone(),
        result,
    });
    replies
}

fn ended(fault: CallFault) -> (CallEnd, String) {
    let reason = match fault {
        CallFault::Refused { status, text, .. } => {
            let unauthorized = text.to_ascii_lowercase().contains("unauthorized");
            let reason = format!("HTTP_{status}: {text}");
            let end = CallEnd::Refused {
                blocked: status == 401 || unauthorized,
                reason: reason.clone(),
            };
            return (end, reason);
        }
        CallFault::Broken(why) => in_words(why),
        CallFault::NotHere | CallFault::NoTool => fault.to_string(),
    };
    let end = CallEnd::Broken {
        reason: reason.clone(),
    };
    (end, reason)
}

fn in_words(why: String) -> String {
    if why.trim().is_empty() {
        INVOKE_ERROR.to_owned()
    } else {
        why
    }
}

/// Whether `task` and `completed` stand within 30 characters of each other, and no word between or
/// right before them turns that round.
fn says_completed(text: &str) -> bool {
    let text = text.to_lowercase();
    let words: Vec<(usize, &str)> = words(&text).collect();
    let at = |wanted: &'static str| {
        let words = words.iter().enumerate();
        words.filter(move |(_, (_, word))| *word == wanted)
    };
    at("task").any(|(task, (task_at, _))| {
        at("completed").any(|(completed, (completed_at, _))| {
            let (first, last) = (task.min(completed), task.max(completed));
            let around = first.saturating_sub(2)..=last;
            let turned = around
                .filter_map(|index| words.get(index))
                .any(|(_, word)| NEGATIONS.contains(word) || word.ends_with("n't"));
            task_at.abs_diff(*completed_at) <= WITHIN + LONGER_WORD && !turned
        })
    })
}

/// The words with where each begins, in characters.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_part = |c: char| c.is_alphanumeric() || c == '\'';
    let mut at = 0;
    text.split_inclusive(move |c| !is_part(c))
        .map(move |piece| {
            let begins = at;
            at += piece.chars().count();
            (begins, piece.trim_end_matches(|c| !is_part(c)))
        })
}

const INVOKE_ERROR: &str = "INVOKE_ERROR";
/// Characters between the two words.
const WITHIN: usize = 30;
/// Of the word that comes first, which is `completed` at most.
const LONGER_WORD: usize = 9;
const NEGATIONS: [&str; 7] = ["not", "no", "never", "cannot", "nothing", "if", "unless"];

#[cfg(test)]
mod tests {
    use bridge_proto::{AgentId, TaskId, model::CallPurpose};
    use serde_json::Map;

    use super::*;

    fn call(task: bool) -> ToolCall {
        ToolCall {
            purpose: CallPurpose::Tool,
            agent: Some(AgentId::parse("scout").unwrap()),
            tool: "sessions_send".into(),
            args: Map::new(),
            content: None,
            task: task.then(|| TaskId::parse("t").unwrap()),
        }
    }

    fn made(outcome: Result<&str, CallFault>) -> Called {
        let answer = |message: &str| DirectAnswer {
            raw: "{}".into(),
            message: Some(message.into()).filter(|text: &String| !text.is_empty()),
        };
        Called::made("sessions_send".into(), outcome.map(answer))
    }

    /// The sorts of what is said, in order.
    fn sorts(replies: &[GatewayReply]) -> Vec<String> {
        let sort = |reply: &GatewayReply| match reply {
            GatewayReply::Over { end, .. } => format!("{end:?}"),
            GatewayReply::Said { message, .. } => format!("said {message}"),
            GatewayReply::Called { tool, result, .. } => format!("{tool:?} {result:?}"),
            GatewayReply::Configured { .. } => "configured".into(),
        };
        replies.iter().map(sort).collect()
    }

    #[test]
    fn the_end_comes_before_the_words_and_the_result_last() {
        let said = replies(&call(true), made(Ok("The task is completed.")));
        assert_eq!(
            sorts(&said),
            [
                "Completed",
                "said The task is completed.",
                r#"Some("sessions_send") Ok("{}")"#
            ]
        );
        let without_task = replies(&call(false), made(Ok("The task is completed.")));
        assert_eq!(without_task.len(), 2);
        assert_eq!(replies(&call(true), made(Ok(""))).len(), 1);
    }

    #[test]
    fn a_call_that_fails_ends_its_task_and_one_that_was_not_made_does_not() {
        let refused = |status, text: &str| CallFault::Refused {
            status,
            text: text.into(),
            unseen: false,
        };
        for (fault, end, error) in [
            (
                refused(401, "x"),
                r#"Refused { blocked: true, reason: "HTTP_401: x" }"#,
                "HTTP_401: x",
            ),
            (
                refused(500, "Unauthorized"),
                r#"Refused { blocked: true, reason: "HTTP_500: Unauthorized" }"#,
                "HTTP_500: Unauthorized",
            ),
            (
                refused(500, "x"),
                r#"Refused { blocked: false, reason: "HTTP_500: x" }"#,
                "HTTP_500: x",
            ),
            (
                CallFault::Broken(" ".into()),
                r#"Broken { reason: "INVOKE_ERROR" }"#,
                "INVOKE_ERROR",
            ),
            (
                CallFault::Broken("no route".into()),
                r#"Broken { reason: "no route" }"#,
                "no route",
            ),
        ] {
            let said = replies(&call(true), made(Err(fault)));
            let result = format!(r#"Some("sessions_send") Err("{error}")"#);
            assert_eq!(sorts(&said), [end.to_owned(), result]);
        }
        for (why, error) in [
            (NotCalled::AgentNotFound, "AGENT_NOT_FOUND"),
            (NotCalled::MissingTool, "MISSING_TOOL"),
            (NotCalled::Refused("a rule".into()), "a rule"),
        ] {
            let said = replies(&call(true), Called::not(why));
            assert_eq!(sorts(&said), [format!(r#"None Err("{error}")"#)]);
        }
    }

    #[test]
    fn words_of_an_end_stand_together_and_are_not_turned_round() {
        let far = format!("task {} completed", "x".repeat(60));
        for (text, expected) in [
            ("Task completed", true),
            ("I have COMPLETED the task.", true),
            ("the task — every part of it — is completed", true),
            ("täsk completed", false),
            ("The task is not completed.", false),
            ("Not a task I completed", false),
            ("the task isn't completed", false),
            ("If the task is completed, tell me", false),
            ("multitasking is uncompleted", false),
            (&far, false),
            ("", false),
        ] {
            assert_eq!(says_completed(text), expected, "{text}");
        }
    }
}
