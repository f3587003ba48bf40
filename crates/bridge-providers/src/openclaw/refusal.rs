//! Why the gateway does not let us in, and what each reason means for a run and for the provider.

use std::time::Duration;

use bridge_proto::model::{Fault, Fix, Health, HealthReason, Outcome};
use serde_json::Value;

use super::{frames::Failure, handshake::PROTOCOL};
use crate::plain::sentence;

/// Why the gateway does not let us in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The secret is wrong, or there is none.
    Secret,
    /// A person has to approve this device; the request they approve.
    Pairing(Option<String>),
    /// It knows us, but not with these rights.
    Scopes,
    /// It does not believe the proof of our key.
    Proof(String),
    /// It speaks another protocol.
    Protocol(Option<u64>),
    /// It is not ready yet, and says when to come again.
    Starting(Duration),
    /// It does not like what we say.
    Other(String),
}

impl Refusal {
    /// What a refused `connect` means.
    ///
    /// | `details.code`, else `code` | becomes |
    /// |---|---|
    /// | `AUTH_TOKEN_*`, `AUTH_PASSWORD_*`, `AUTH_DEVICE_TOKEN_*`, `DEVICE_IDENTITY_REQUIRED` | secret |
    /// | `PAIRING_REQUIRED`, `NOT_PAIRED` | pairing |
    /// | `AUTH_SCOPE_MISMATCH`, `MISSING_SCOPE` | scopes |
    /// | `DEVICE_AUTH_*` | proof |
    /// | `PROTOCOL_MISMATCH` | protocol |
    /// | `UNAVAILABLE` | starting |
    /// | anything else | other |
    pub(super) fn read(failure: &Failure) -> Self {
        let said = || sentence(&failure.message, 300);
        let detail = failure.detail();
        if detail == "PROTOCOL_MISMATCH" {
            let expected = failure.details.get("expectedProtocol");
            return Self::Protocol(expected.and_then(Value::as_u64));
        }
        if detail == "PAIRING_REQUIRED" {
            let request = failure.detail_text("requestId");
            return Self::Pairing(request.map(|id| sentence(id, 100)));
        }
        if detail.starts_with("DEVICE_AUTH_") {
            return Self::Proof(said());
        }
        if matches!(detail, "AUTH_SCOPE_MISMATCH" | "MISSING_SCOPE") {
            return Self::Scopes;
        }
        if detail.starts_with("AUTH_") || detail == "DEVICE_IDENTITY_REQUIRED" {
            return Self::Secret;
        }
        match failure.code.as_str() {
            "NOT_PAIRED" => Self::Pairing(None),
            "UNAVAILABLE" => {
                let wait = failure.details.get("retryAfterMs").and_then(Value::as_u64);
                let wait = wait.map_or(STARTING, Duration::from_millis);
                Self::Starting(wait.clamp(STARTING, MAX_STARTING))
            }
            _ => Self::Other(said()),
        }
    }

    /// What a person has to know.
    pub(super) fn reason(&self, url: &str) -> String {
        match self {
            Self::Secret => format!(
                "the OpenClaw gateway at {url} refuses the token; set OPENCLAW_GATEWAY_TOKEN to \
                 its gateway.auth.token"
            ),
            Self::Pairing(request) => {
                let request = request.as_deref().unwrap_or("<request id>");
                format!(
                    "the OpenClaw gateway at {url} wants this bridge to be approved; run \
                     `openclaw devices list` and `openclaw devices approve {request}` there"
                )
            }
            Self::Scopes => format!(
                "the OpenClaw gateway at {url} does not give this bridge the rights it needs; \
                 run `openclaw devices list` there and approve its request"
            ),
            Self::Proof(said) => {
                format!("the OpenClaw gateway at {url} does not accept this bridge's key: {said}")
            }
            Self::Protocol(expected) => {
                let theirs = expected.map_or_else(|| "another".into(), |n| n.to_string());
                format!(
                    "the OpenClaw gateway at {url} speaks protocol {theirs} and this bridge \
                     {PROTOCOL}; update the older one of them"
                )
            }
            Self::Starting(_) => {
                format!("the OpenClaw gateway at {url} is still starting; try again in a minute")
            }
            Self::Other(said) => {
                format!("the OpenClaw gateway at {url} refused the connection: {said}")
            }
        }
    }

    /// How a turn ends that could not even begin.
    pub(super) fn outcome(&self, url: &str) -> Outcome {
        let reason = self.reason(url);
        match self {
            Self::Secret | Self::Pairing(_) => Outcome::Blocked {
                fix: Fix::Login,
                reason,
            },
            Self::Scopes | Self::Protocol(_) | Self::Starting(_) => Outcome::Blocked {
                fix: Fix::Setup,
                reason,
            },
            Self::Proof(_) | Self::Other(_) => Outcome::Failed {
                fault: Fault::Agent,
                reason,
            },
        }
    }

    /// What it means for the provider.
    pub(super) fn health(&self, url: &str) -> Health {
        let reason = match self {
            Self::Secret | Self::Pairing(_) | Self::Scopes | Self::Proof(_) => {
                HealthReason::AuthRequired
            }
            Self::Protocol(_) | Self::Starting(_) | Self::Other(_) => {
                HealthReason::ServiceUnreachable
            }
        };
        Health {
            available: false,
            reason: Some(reason),
            version: None,
            hint: Some(self.reason(url)),
        }
    }
}

const STARTING: Duration = Duration::from_millis(500);
const MAX_STARTING: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn failure(code: &str, detail: &str) -> Failure {
        Failure {
            code: code.into(),
            message: "no".into(),
            details: json!({ "code": detail }),
        }
    }

    /// Every code that was seen, what it becomes for a run and for the list of agents.
    #[test]
    fn every_refusal_says_what_to_do() {
        let url = "ws://127.0.0.1:18789";
        let cases = [
            (
                "INVALID_REQUEST",
                "AUTH_TOKEN_MISMATCH",
                "blocked login",
                "OPENCLAW_GATEWAY_TOKEN",
            ),
            (
                "INVALID_REQUEST",
                "AUTH_TOKEN_MISSING",
                "blocked login",
                "OPENCLAW_GATEWAY_TOKEN",
            ),
            (
                "NOT_PAIRED",
                "DEVICE_IDENTITY_REQUIRED",
                "blocked login",
                "OPENCLAW_GATEWAY_TOKEN",
            ),
            (
                "NOT_PAIRED",
                "PAIRING_REQUIRED",
                "blocked login",
                "openclaw devices approve",
            ),
            (
                "INVALID_REQUEST",
                "AUTH_SCOPE_MISMATCH",
                "blocked setup",
                "approve",
            ),
            (
                "INVALID_REQUEST",
                "DEVICE_AUTH_SIGNATURE_INVALID",
                "failed agent",
                "key",
            ),
            (
                "INVALID_REQUEST",
                "PROTOCOL_MISMATCH",
                "blocked setup",
                "update",
            ),
            (
                "UNAVAILABLE",
                "startup-sidecars",
                "blocked setup",
                "still starting",
            ),
            ("INVALID_REQUEST", "", "failed agent", "no"),
        ];
        for (code, detail, becomes, says) in cases {
            let refused = Refusal::read(&failure(code, detail));
            let what = match refused.outcome(url) {
                Outcome::Blocked { fix, .. } => format!("blocked {fix:?}"),
                Outcome::Failed { fault, .. } => format!("failed {fault:?}"),
                other @ (Outcome::Completed | Outcome::Cancelled { .. }) => format!("{other:?}"),
            };
            assert_eq!(what.to_lowercase(), becomes, "{detail}");
            assert!(
                refused.reason(url).contains(says),
                "{}",
                refused.reason(url)
            );
            assert!(!refused.health(url).available);
        }
        let pairing = Failure {
            details: json!({ "code": "PAIRING_REQUIRED", "requestId": "req-7" }),
            ..failure("NOT_PAIRED", "")
        };
        assert!(
            Refusal::read(&pairing)
                .reason(url)
                .ends_with("approve req-7` there")
        );
    }
}
