//! Being let in: the challenge, who we say we are, and what each refusal means.
//!
//! With a key of its own the bridge is a paired device, which the gateway wants of clients that
//! are not its own; it then gets a token for later and shows that instead of the shared secret.
//! Without a key it can only be one of the gateway's own helpers on the same machine.

use std::{sync::Arc, time::Duration};

use bridge_proto::Secret;
use serde_json::{Value, json};

use super::{
    frames::{Failure, request},
    identity::{DeviceKey, Grant},
    refusal::Refusal,
};
use crate::plain::sentence;

/// What can be shown to the gateway.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// The secret from its configuration.
    pub shared: Option<Secret>,
    /// The key of this bridge.
    pub device: Option<Arc<DeviceKey>>,
    /// What the gateway gave that key earlier.
    pub grant: Option<Grant>,
}

/// One way in, over one or more connections.
#[derive(Debug)]
pub(super) struct Handshake {
    who: Credentials,
    /// What was shown on this connection.
    shown: Shown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Grant,
    Shared,
    Nothing,
}

/// What the gateway said of itself when it let us in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) version: Option<String>,
    /// Differs after each start of the gateway.
    pub(super) boot: Option<String>,
    pub(super) scopes: Vec<String>,
    /// How often it says something even if nothing happens.
    pub(super) tick: Duration,
    /// A new token for this device.
    pub(super) grant: Option<Grant>,
}

/// What the answer to `connect` means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Admission {
    In(Hello),
    /// What was shown is worthless; connect again and show something else.
    ShowOther,
    Refused(Refusal),
}

impl Handshake {
    pub(super) fn new(who: Credentials) -> Self {
        Self {
            who,
            shown: Shown::Nothing,
        }
    }

    /// The `connect` request that answers the challenge. It holds secrets.
    pub(super) fn answer(&mut self, challenge: &Value, scopes: &[&str]) -> Result<Secret, Refusal> {
        let nonce = challenge.get("nonce").and_then(Value::as_str);
        let ts = challenge.get("ts").and_then(Value::as_u64);
        let covered = |grant: &Grant| {
            let has = |scope: &str| grant.scopes.iter().any(|own| own == scope);
            scopes.iter().all(|scope| has(scope))
        };
        let grant = self.who.grant.as_ref().filter(|grant| covered(grant));
        let (auth, token) = match (&self.who.device, grant, &self.who.shared) {
            (Some(_), Some(grant), _) => {
                self.shown = Shown::Grant;
                let token = grant.token.expose();
                (json!({ "deviceToken": token }), token)
            }
            (_, _, Some(shared)) => {
                self.shown = Shown::Shared;
                (json!({ "token": shared.expose() }), shared.expose())
            }
            (_, _, None) => {
                self.shown = Shown::Nothing;
                (json!({}), "")
            }
        };
        let mode = if self.who.device.is_some() {
            "cli"
        } else {
            "backend"
        };
        let mut params = json!({
            "minProtocol": PROTOCOL,
            "maxProtocol": PROTOCOL,
            "client": {
                "id": CLIENT,
                "mode": mode,
                "version": env!("CARGO_PKG_VERSION"),
                "platform": std::env::consts::OS,
            },
            "role": ROLE,
            "scopes": scopes,
            "caps": ["tool-events", "approvals", "exec-approvals"],
            "auth": auth,
        });
        if let Some(key) = &self.who.device {
            let (Some(nonce), Some(ts)) = (nonce, ts) else {
                return Err(Refusal::Other("its challenge cannot be signed".into()));
            };
            let text = signed_text(&Signed {
                device: key.id(),
                client: CLIENT,
                mode,
                scopes,
                ts,
                token,
                nonce,
                platform: std::env::consts::OS,
            });
            params["device"] = json!({
                "id": key.id(),
                "publicKey": key.public(),
                "signature": key.sign(&text),
                "signedAt": ts,
                "nonce": nonce,
            });
        }
        Ok(Secret::new(&request(CONNECT, "connect", &params)))
    }

    /// Reads the answer to `connect`.
    pub(super) fn read(&mut self, result: Result<Value, Failure>) -> Admission {
        match result {
            Ok(hello) => self.hello(&hello),
            Err(failure) => match Refusal::read(&failure) {
                Refusal::Secret | Refusal::Scopes
                    if self.shown == Shown::Grant && self.who.shared.is_some() =>
                {
                    self.who.grant = None;
                    Admission::ShowOther
                }
                refused @ (Refusal::Secret
                | Refusal::Pairing(_)
                | Refusal::Scopes
                | Refusal::Proof(_)
                | Refusal::Protocol(_)
                | Refusal::Starting(_)
                | Refusal::Other(_)) => Admission::Refused(refused),
            },
        }
    }

    fn hello(&mut self, hello: &Value) -> Admission {
        let protocol = hello.get("protocol").and_then(Value::as_u64);
        if protocol != Some(PROTOCOL) {
            return Admission::Refused(Refusal::Protocol(protocol));
        }
        let text = |place: &str| {
            let text = hello.pointer(place).and_then(Value::as_str);
            text.map(|text| sentence(text, 200))
        };
        let scopes: Vec<String> = hello
            .pointer("/auth/scopes")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .take(MAX_SCOPES)
            .map(str::to_owned)
            .collect();
        let given = hello.pointer("/auth/deviceToken").and_then(Value::as_str);
        let known = self.who.grant.as_ref();
        let grant = given
            .filter(|_| self.who.device.is_some())
            .filter(|given| known.is_none_or(|known| known.token.expose() != *given))
            .map(|given| Grant {
                token: Secret::new(given),
                scopes: scopes.clone(),
            });
        if grant.is_some() {
            self.who.grant.clone_from(&grant);
        }
        let tick = hello
            .pointer("/policy/tickIntervalMs")
            .and_then(Value::as_u64)
            .map_or(TICK, Duration::from_millis);
        Admission::In(Hello {
            version: text("/server/version"),
            boot: text("/server/bootId"),
            scopes,
            tick: tick.clamp(Duration::from_secs(1), MAX_TICK),
            grant,
        })
    }
}

/// What a device signs.
struct Signed<'a> {
    device: &'a str,
    client: &'a str,
    mode: &'a str,
    scopes: &'a [&'a str],
    ts: u64,
    token: &'a str,
    nonce: &'a str,
    platform: &'a str,
}

/// The text under the signature, version 3. The last part is the family of the device, which a
/// bridge has not got.
fn signed_text(signed: &Signed<'_>) -> String {
    let Signed {
        device,
        client,
        mode,
        scopes,
        ts,
        token,
        nonce,
        platform,
    } = signed;
    let scopes = scopes.join(",");
    let platform = platform.to_lowercase();
    format!("v3|{device}|{client}|{mode}|{ROLE}|{scopes}|{ts}|{token}|{nonce}|{platform}|")
}

/// What every conversation needs.
pub(super) const SCOPES: [&str; 3] = ["operator.read", "operator.write", "operator.approvals"];
/// What it needs to work in a folder that is not the agent's own.
pub(super) const ADMIN: &str = "operator.admin";
/// The id of the `connect` request.
pub(super) const CONNECT: &str = "connect";
/// The protocol this bridge speaks.
pub(super) const PROTOCOL: u64 = 4;
const ROLE: &str = "operator";
/// The gateway takes names from a list of its own only.
const CLIENT: &str = "gateway-client";
const TICK: Duration = Duration::from_secs(30);
const MAX_TICK: Duration = Duration::from_secs(300);
const MAX_SCOPES: usize = 100;

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use ring::signature::{ED25519, UnparsedPublicKey};

    use super::*;

    fn key() -> Arc<DeviceKey> {
        Arc::new(DeviceKey::from_seed(&[7; 32]).unwrap())
    }

    fn grant(scopes: &[&str]) -> Grant {
        Grant {
            token: Secret::new("given"),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        }
    }

    fn with(device: bool, granted: Option<&[&str]>) -> Handshake {
        Handshake::new(Credentials {
            shared: Some(Secret::new("shared")),
            device: device.then(key),
            grant: granted.map(grant),
        })
    }

    fn params(handshake: &mut Handshake, scopes: &[&str]) -> Value {
        let challenge = json!({ "nonce": "n", "ts": 5 });
        let line = handshake.answer(&challenge, scopes).unwrap();
        let frame: Value = serde_json::from_str(line.expose()).unwrap();
        frame["params"].clone()
    }

    fn failure(code: &str, detail: &str) -> Failure {
        Failure {
            code: code.into(),
            message: "no".into(),
            details: json!({ "code": detail }),
        }
    }

    /// The signatures of a recording hold over the text that is signed here.
    #[test]
    fn the_signed_text_is_the_one_the_gateway_checks() {
        let file = "../../tests/fixtures/openclaw/ws-handshake-device-pair.jsonl";
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let mut checked = 0;
        for line in fs::read_to_string(file).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let params = &line["msg"]["params"];
            let Some(device) = params.get("device") else {
                continue;
            };
            let scopes = params["scopes"].as_array().unwrap();
            let scopes: Vec<&str> = scopes.iter().filter_map(Value::as_str).collect();
            let auth = &params["auth"];
            let token = auth["token"].as_str();
            let token = token.or_else(|| auth["deviceToken"].as_str());
            let text = signed_text(&Signed {
                device: device["id"].as_str().unwrap(),
                client: params["client"]["id"].as_str().unwrap(),
                mode: params["client"]["mode"].as_str().unwrap(),
                scopes: &scopes,
                ts: device["signedAt"].as_u64().unwrap(),
                token: token.unwrap(),
                nonce: device["nonce"].as_str().unwrap(),
                platform: params["client"]["platform"].as_str().unwrap(),
            });
            let decode = |name: &str| URL_SAFE_NO_PAD.decode(device[name].as_str().unwrap());
            let public = decode("publicKey").unwrap();
            UnparsedPublicKey::new(&ED25519, &public)
                .verify(text.as_bytes(), &decode("signature").unwrap())
                .unwrap();
            checked += 1;
        }
        assert_eq!(checked, 3);
    }

    #[test]
    fn a_device_shows_what_it_was_given_and_else_the_shared_secret() {
        let mut known = with(true, Some(&SCOPES));
        let shown = params(&mut known, &SCOPES);
        assert_eq!(shown["auth"], json!({ "deviceToken": "given" }));
        assert_eq!(shown["device"]["id"], json!(key().id()));
        assert_eq!(shown["client"]["mode"], "cli");
        let more = [&SCOPES[..], &[ADMIN]].concat();
        let shown = params(&mut known, &more);
        assert_eq!(
            shown["auth"],
            json!({ "token": "shared" }),
            "asked for more"
        );
        let shown = params(&mut with(false, None), &SCOPES);
        assert_eq!(
            (&shown["client"]["mode"], shown.get("device")),
            (&json!("backend"), None)
        );
    }

    #[test]
    fn without_tool_events_in_the_capabilities_no_tool_would_be_seen() {
        let shown = params(&mut with(true, None), &SCOPES);
        assert_eq!(
            shown["caps"],
            json!(["tool-events", "approvals", "exec-approvals"])
        );
    }

    #[test]
    fn a_worthless_grant_is_followed_by_the_shared_secret_once() {
        for detail in ["AUTH_DEVICE_TOKEN_MISMATCH", "AUTH_SCOPE_MISMATCH"] {
            let mut known = with(true, Some(&SCOPES));
            params(&mut known, &SCOPES);
            let answer = known.read(Err(failure("INVALID_REQUEST", detail)));
            assert_eq!(answer, Admission::ShowOther, "{detail}");
            let shown = params(&mut known, &SCOPES);
            assert_eq!(shown["auth"], json!({ "token": "shared" }));
            let answer = known.read(Err(failure("INVALID_REQUEST", detail)));
            assert!(matches!(answer, Admission::Refused(_)), "{answer:?}");
        }
    }

    #[test]
    fn a_new_token_is_kept_and_a_known_one_is_not_news() {
        let hello = |token: &str| {
            json!({ "protocol": 4, "server": { "version": "2026.9.6", "bootId": "b" },
                "policy": { "tickIntervalMs": 30_000 },
                "auth": { "deviceToken": token, "scopes": SCOPES } })
        };
        let mut handshake = with(true, None);
        let Admission::In(first) = handshake.read(Ok(hello("given"))) else {
            panic!("not in")
        };
        assert_eq!(first.grant, Some(grant(&SCOPES)));
        assert_eq!(first.version.as_deref(), Some("2026.9.6"));
        let Admission::In(again) = handshake.read(Ok(hello("given"))) else {
            panic!("not in")
        };
        assert_eq!(again.grant, None);
    }
}
