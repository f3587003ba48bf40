//! How a run ended and what it cost, in words.

use bridge_proto::model::{Actor, Fault, Fix, Outcome, Rejection, Usage};
use maud::{Markup, html};

use super::{
    conversation::End,
    layout::{Icon, Tone, duration, icon, with_code},
};

/// The last line of a run.
pub(crate) fn end(end: &End, took_millis: Option<i64>) -> Markup {
    let (tone, sign, head, reason, advice) = match end {
        End::Ran(Outcome::Completed) => (Tone::Good, Icon::Check, "Completed", None, None),
        End::Ran(Outcome::Failed { fault, reason }) => (
            Tone::Bad,
            Icon::Cross,
            "Failed",
            Some(reason.as_str()),
            Some(fault_advice(*fault)),
        ),
        End::Ran(Outcome::Blocked { fix, reason }) => {
            let advice = Some(fix_advice(*fix));
            (
                Tone::Attention,
                Icon::Shield,
                "Blocked",
                Some(reason.as_str()),
                advice,
            )
        }
        End::Ran(Outcome::Cancelled { by: Actor::Person }) => {
            (Tone::Quiet, Icon::Stop, "Cancelled", None, None)
        }
        End::Ran(Outcome::Cancelled {
            by: Actor::Shutdown,
        }) => {
            let reason = Some("The bridge on the machine was stopped.");
            (Tone::Quiet, Icon::Stop, "Cancelled", reason, None)
        }
        End::Rejected(why) => return rejected(why),
    };
    html! {
        div class={ "ending " (tone.class()) } {
            p.head { (icon(sign)) strong { (head) }
                @if let Some(millis) = took_millis { span.hint { (duration(millis)) } } }
            @if let Some(reason) = reason { p.reason { (reason) } }
            @if let Some(advice) = advice { p.hint { (advice) } }
        }
    }
}

fn rejected(why: &Rejection) -> Markup {
    html! {
        div.ending.bad {
            p.head { (icon(Icon::Cross)) strong { "Not accepted" } }
            @match why {
                Rejection::AgentNotFound => p.reason { "The machine does not know this agent." },
                Rejection::MissingIntentPayload => p.reason { "There was nothing to do: the prompt is empty." },
                Rejection::ProviderNotActive { provider } => {
                    p.reason { "“" (provider) "” cannot run on the machine at the moment." }
                    p.hint { "Run " code { "ctrlnode doctor" } " there to see why." }
                }
                Rejection::PlaceRefused { reason } => p.reason { (with_code(reason)) },
            }
        }
    }
}

fn fault_advice(fault: Fault) -> &'static str {
    match fault {
        Fault::Bridge => "Something on the machine went wrong, not the agent.",
        Fault::Agent => "The agent program went wrong.",
        Fault::Model => "The model or its service went wrong; trying again later often helps.",
        Fault::Task => "The task cannot be done as it stands.",
    }
}

fn fix_advice(fix: Fix) -> &'static str {
    match fix {
        Fix::Login => "Log the agent in on the machine, then send a follow-up.",
        Fix::Credit => "Credit or a limit is used up; mend that or wait, then send a follow-up.",
        Fix::Setup => "Something must be installed or set up on the machine first.",
        Fix::Limit => "The run took too long or too many turns; a follow-up goes on from here.",
        Fix::Agent => "The agent says it cannot go on by itself; tell it more in a follow-up.",
    }
}

/// `1.2k in · 340 out · $0.02`, as far as known.
pub(crate) fn usage(usage: Usage) -> Option<String> {
    let parts: Vec<String> = [
        usage
            .input_tokens
            .map(|tokens| format!("{} in", count(tokens))),
        usage
            .output_tokens
            .map(|tokens| format!("{} out", count(tokens))),
        usage
            .cost_usd
            .filter(|cost| *cost > 0.0)
            .map(|cost| format!("${cost:.2}")),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!parts.is_empty()).then(|| parts.join(" · "))
}

fn count(tokens: u64) -> String {
    match tokens {
        0..1000 => tokens.to_string(),
        1000..1_000_000 => format!("{}.{}k", tokens / 1000, tokens % 1000 / 100),
        1_000_000.. => format!("{}.{}M", tokens / 1_000_000, tokens % 1_000_000 / 100_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_says_only_what_is_known() {
        let known = Usage {
            input_tokens: Some(1234),
            output_tokens: Some(340),
            cost_usd: None,
        };
        assert_eq!(usage(known).as_deref(), Some("1.2k in · 340 out"));
        assert_eq!(usage(Usage::default()), None);
    }

    #[test]
    fn a_blocked_run_says_why_and_what_to_do() {
        let blocked = Outcome::Blocked {
            fix: Fix::Login,
            reason: "token expired".into(),
        };
        let html = end(&End::Ran(blocked), None).into_string();
        assert!(html.contains("token expired") && html.contains("Log the agent in"));
    }

    #[test]
    fn a_rejection_names_the_provider() {
        let why = Rejection::ProviderNotActive {
            provider: "<b>claude</b>".into(),
        };
        let html = end(&End::Rejected(why), None).into_string();
        assert!(html.contains("&lt;b&gt;claude&lt;/b&gt;"));
    }
}
