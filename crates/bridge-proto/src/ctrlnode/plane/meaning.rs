//! What the words of plain messages mean: statuses, reasons, codes, numbered options.

use crate::{
    ctrlnode::CANCELLED_REASON,
    model::{Actor, Choice, ChoiceKind, Fault, Fix, Outcome, Rejection},
};

/// How a run ended, from the status and reason of its last messages.
pub(super) fn outcome(status: Option<&str>, reason: Option<String>, own_fault: bool) -> Outcome {
    let reason = reason.unwrap_or_default();
    match status {
        None | Some("completed" | "done") => Outcome::Completed,
        Some("blocked") => Outcome::Blocked {
            fix: fix(&reason),
            reason,
        },
        Some("failed") if reason == CANCELLED_REASON => Outcome::Cancelled { by: Actor::Person },
        Some("failed") => {
            let fault = if own_fault {
                Fault::Bridge
            } else {
                Fault::Agent
            };
            Outcome::Failed { fault, reason }
        }
        Some(other) => {
            let other: String = other.chars().take(64).collect();
            Outcome::Failed {
                fault: Fault::Bridge,
                reason: format!("unknown status: {other}"),
            }
        }
    }
}

/// The plain wire gives only words for what a person has to mend.
fn fix(reason: &str) -> Fix {
    const SIGNS: [(Fix, &[&str]); 4] = [
        (Fix::Agent, &["agent reported"]),
        (
            Fix::Limit,
            &["timed out", "time-out", "max_turns", "max turns"],
        ),
        (
            Fix::Credit,
            &["credit", "quota", "billing", "usage limit", "402"],
        ),
        (
            Fix::Login,
            &[
                "401",
                "unauthorized",
                "auth",
                "log in",
                "login",
                "api_key",
                "api key",
            ],
        ),
    ];
    let reason = reason.to_lowercase();
    let found = SIGNS
        .iter()
        .find(|(_, signs)| signs.iter().any(|sign| reason.contains(sign)));
    found.map_or(Fix::Setup, |(fix, _)| *fix)
}

/// The rejection that an error code of `intent_result` stands for.
pub(super) fn rejection(error: &str) -> Option<Rejection> {
    match error {
        "AGENT_NOT_FOUND" => Some(Rejection::AgentNotFound),
        "MISSING_INTENT_PAYLOAD" => Some(Rejection::MissingIntentPayload),
        _ => error
            .strip_prefix("PROVIDER_NOT_ACTIVE:")
            .map(|provider| Rejection::ProviderNotActive {
                provider: provider.to_owned(),
            })
            .or_else(|| {
                error
                    .strip_prefix("INVALID_PATH: ")
                    .map(|reason| Rejection::PlaceRefused {
                        reason: reason.to_owned(),
                    })
            }),
    }
}

/// Takes the numbered options off the end of a prompt; their numbers are their ids, because a
/// number is what `input_response` may answer.
pub(super) fn question(prompt: &str) -> (String, Vec<Choice>) {
    let lines: Vec<&str> = prompt.lines().collect();
    for (start, line) in lines.iter().enumerate().skip(1) {
        if !line.starts_with("1. ") {
            continue;
        }
        let numbered = lines.iter().skip(start).enumerate().map(|(index, line)| {
            let id = (index + 1).to_string();
            let label = line.strip_prefix(&id)?.strip_prefix(". ")?.to_owned();
            Some(Choice {
                id,
                label,
                kind: ChoiceKind::Plain,
            })
        });
        if let Some(options) = numbered.collect::<Option<Vec<_>>>() {
            let summary: Vec<&str> = lines.iter().take(start).copied().collect();
            return (summary.join("\n"), options);
        }
    }
    (prompt.to_owned(), Vec::new())
}
