//! Device login, both halves: a machine without a token shows a short code, a person allows it on a
//! page of the control plane, and the machine gets its token. Over HTTP, like the side channel.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{fields::shortened, frames::to_text};
use crate::secret::Secret;

/// `POST`: begins a login.
pub const CODE_PATH: &str = "/api/bridge/device/code";
/// `POST`: asks what became of it.
pub const TOKEN_PATH: &str = "/api/bridge/device/token";
/// The end of the address of the page where codes are entered.
pub const PAGE_PATH: &str = "/bridge/activate";

/// What a machine says of itself when it wants a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRequest {
    /// Host name.
    pub hostname: String,
    /// `linux`, `darwin` or `win32`.
    pub platform: String,
    /// With a leading `v`.
    pub bridge_version: String,
}

/// What a machine gets in return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceGrant {
    /// The machine's own half; whoever has it gets the token.
    pub device_code: Secret,
    /// What the person types, e.g. `BCDF-GHJK`.
    pub user_code: String,
    /// Where; `http` or `https`.
    pub verification_uri: String,
    /// How long both codes are good; at most an hour.
    pub expires: Duration,
    /// Between two questions; 1 s to a minute.
    pub interval: Duration,
}

/// The answer to "what became of it?".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Polled {
    /// The person allowed it.
    Token(Secret),
    /// Not yet.
    Pending,
    /// Not yet, and asked too often.
    SlowDown,
    /// The person said no.
    Denied,
    /// The codes are not good any more, or never were.
    Expired,
    /// Nothing of this protocol.
    Odd {
        /// The HTTP status.
        status: u16,
    },
}

impl DeviceRequest {
    /// The body a machine sends.
    pub fn write(&self) -> String {
        to_text(&json!({
            "hostname": self.hostname,
            "platform": self.platform,
            "bridgeVersion": self.bridge_version,
        }))
    }

    /// What a plane reads; texts are shortened to what a page can show.
    pub fn read(body: &[u8]) -> Option<Self> {
        let body: Map<String, Value> = serde_json::from_slice(body).ok()?;
        let text = |field: &str| {
            let text = body.get(field).and_then(Value::as_str);
            shortened(text.unwrap_or("unknown"))
        };
        Some(Self {
            hostname: text("hostname"),
            platform: text("platform"),
            bridge_version: text("bridgeVersion"),
        })
    }
}

impl DeviceGrant {
    /// The body a plane sends.
    pub fn write(&self) -> String {
        to_text(&json!({
            "deviceCode": self.device_code.expose(),
            "userCode": self.user_code,
            "verificationUri": self.verification_uri,
            "expiresInSeconds": self.expires.as_secs(),
            "pollIntervalSeconds": self.interval.as_secs(),
        }))
    }

    /// What a machine reads. Texts that could fool a terminal are no answer; times are brought into
    /// their bounds.
    pub fn read(body: &[u8]) -> Option<Self> {
        let body: Map<String, Value> = serde_json::from_slice(body).ok()?;
        let text = |field: &str| {
            let text = body.get(field)?.as_str()?;
            let good = !text.is_empty() && text.len() <= MAX_TEXT;
            (good && text.chars().all(|c| c.is_ascii_graphic())).then_some(text)
        };
        let seconds = |field: &str, usual: u64, low: u64, high: u64| {
            let value = body.get(field).and_then(Value::as_u64).unwrap_or(usual);
            Duration::from_secs(value.clamp(low, high))
        };
        let uri = text("verificationUri")?;
        if !uri.starts_with("https://") && !uri.starts_with("http://") {
            return None;
        }
        Some(Self {
            device_code: Secret::new(text("deviceCode")?),
            user_code: text("userCode")?.to_owned(),
            verification_uri: uri.to_owned(),
            expires: seconds("expiresInSeconds", 600, 1, 3600),
            interval: seconds("pollIntervalSeconds", 5, 1, 60),
        })
    }
}

/// The body of a question.
pub fn write_poll(device_code: &Secret) -> String {
    to_text(&json!({ "deviceCode": device_code.expose() }))
}

/// The code in the body of a question.
pub fn read_poll(body: &[u8]) -> Option<Secret> {
    let body: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let code = body.get("deviceCode")?.as_str()?;
    (!code.is_empty() && code.len() <= MAX_TEXT).then(|| Secret::new(code))
}

impl Polled {
    /// HTTP status and body a plane answers with.
    pub fn write(&self) -> (u16, String) {
        match self {
            Self::Token(token) => (200, to_text(&json!({ "pairingToken": token.expose() }))),
            Self::Pending => (202, to_text(&json!({ "status": "pending" }))),
            Self::SlowDown => (429, to_text(&json!({ "error": "slow_down" }))),
            Self::Denied => (400, to_text(&json!({ "error": "access_denied" }))),
            Self::Expired => (400, to_text(&json!({ "error": "expired_token" }))),
            Self::Odd { status } => (*status, "{}".to_owned()),
        }
    }

    /// What a machine makes of status and body.
    pub fn read(status: u16, body: &[u8]) -> Self {
        let body: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
        let text = |field: &str| body.get(field).and_then(Value::as_str);
        match status {
            200 => {
                let token = text("pairingToken").filter(|token| {
                    token.len() <= MAX_TEXT && token.chars().all(|c| c.is_ascii_graphic())
                });
                match token.map(Secret::new) {
                    Some(token) if !token.is_empty() => Self::Token(token),
                    Some(_) | None => Self::Odd { status },
                }
            }
            202 => Self::Pending,
            429 => Self::SlowDown,
            400 if text("error") == Some("access_denied") => Self::Denied,
            400 => Self::Expired,
            _ => Self::Odd { status },
        }
    }
}

/// Bytes of a code, an address or a token.
const MAX_TEXT: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_halves_understand_each_other() {
        let request = DeviceRequest {
            hostname: "box".into(),
            platform: "linux".into(),
            bridge_version: "v1".into(),
        };
        assert_eq!(
            DeviceRequest::read(request.write().as_bytes()),
            Some(request)
        );
        let grant = DeviceGrant {
            device_code: Secret::new("d"),
            user_code: "BCDF-GHJK".into(),
            verification_uri: "https://a.example/bridge/activate".into(),
            expires: Duration::from_secs(600),
            interval: Duration::from_secs(5),
        };
        assert_eq!(DeviceGrant::read(grant.write().as_bytes()), Some(grant));
        let code = Secret::new("d");
        assert_eq!(read_poll(write_poll(&code).as_bytes()), Some(code));
        for polled in [
            Polled::Token(Secret::new("t")),
            Polled::Pending,
            Polled::SlowDown,
            Polled::Denied,
            Polled::Expired,
        ] {
            let (status, body) = polled.write();
            assert_eq!(Polled::read(status, body.as_bytes()), polled);
        }
    }

    #[test]
    fn odd_answers_neither_fool_a_terminal_nor_make_a_machine_ask_without_end() {
        let grant = |user: &str, uri: &str, seconds: i64| {
            let body = json!({ "deviceCode": "d", "userCode": user, "verificationUri": uri,
                "expiresInSeconds": seconds, "pollIntervalSeconds": seconds });
            DeviceGrant::read(body.to_string().as_bytes())
        };
        let uri = "https://a.example/";
        assert_eq!(grant("\u{1b}[2J", uri, 5), None);
        assert_eq!(grant("A B", uri, 5), None);
        assert_eq!(grant("A", "file:///etc/passwd", 5), None);
        let odd = grant("A", uri, 0).unwrap();
        assert_eq!((odd.expires.as_secs(), odd.interval.as_secs()), (1, 1));
        let odd = grant("A", uri, i64::MAX).unwrap();
        assert_eq!((odd.expires.as_secs(), odd.interval.as_secs()), (3600, 60));
        for (status, body) in [
            (200, "{}"),
            (200, "<html>"),
            (200, r#"{"pairingToken":"a b"}"#),
            (302, ""),
            (500, ""),
        ] {
            assert_eq!(
                Polled::read(status, body.as_bytes()),
                Polled::Odd { status },
                "{body}"
            );
        }
    }
}
