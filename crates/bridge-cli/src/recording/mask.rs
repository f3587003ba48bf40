//! Takes secrets out of a frame before it is written to a file. Pure.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bridge_proto::Secret;
use serde_json::{Map, Value};

use super::shapes::{MASKED, names_a_secret, without_shapes};

/// Knows this machine's secrets, and how secrets of others look.
#[derive(Debug)]
pub(crate) struct Mask {
    secrets: Vec<Secret>,
}

impl Mask {
    /// Masks these wherever they stand, and what looks like a secret besides.
    pub(crate) fn new(secrets: Vec<Secret>) -> Self {
        let long = |secret: &Secret| secret.expose().len() >= SHORTEST;
        Self {
            secrets: secrets.into_iter().filter(long).collect(),
        }
    }

    /// Masks a frame; what is no JSON is masked as text.
    pub(crate) fn frame(&self, text: &str) -> Value {
        match serde_json::from_str(text) {
            Ok(mut value) => {
                self.value(&mut value, 0);
                value
            }
            Err(_) => Value::String(self.text(text)),
        }
    }

    /// Masks something that is not a frame.
    pub(crate) fn masked(&self, mut value: Value) -> Value {
        self.value(&mut value, 0);
        value
    }

    fn value(&self, value: &mut Value, depth: usize) {
        match value {
            Value::String(text) => self.string(text, depth),
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item, depth)),
            Value::Object(fields) => self.object(fields, depth),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn object(&self, fields: &mut Map<String, Value>, depth: usize) {
        let before = std::mem::take(fields);
        for (name, mut value) in before {
            if names_a_secret(&name) {
                hide(&mut value);
            } else {
                self.value(&mut value, depth);
            }
            fields.insert(self.text(&name), value);
        }
    }

    /// A text may be JSON itself, as the lists of agents and configurations are on this wire.
    fn string(&self, text: &mut String, depth: usize) {
        let opens = text.trim_start().starts_with(['{', '[']);
        if opens
            && depth < MAX_NESTED
            && let Ok(inner) = serde_json::from_str::<Value>(text)
        {
            let mut masked = inner.clone();
            self.value(&mut masked, depth + 1);
            if masked != inner {
                *text = masked.to_string();
            }
            return;
        }
        *text = self.text(text);
    }

    fn text(&self, text: &str) -> String {
        self.without_encoded(&self.plain(text))
    }

    /// Replaces base64 in which a secret is hidden.
    fn without_encoded(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find(of_base64) {
            let (before, from) = rest.split_at(start);
            let end = from.find(|c| !of_base64(c)).unwrap_or(from.len());
            let (run, after) = from.split_at(end);
            out.push_str(before);
            out.push_str(if self.hides_a_secret(run) {
                MASKED
            } else {
                run
            });
            rest = after;
        }
        out.push_str(rest);
        out
    }

    fn hides_a_secret(&self, run: &str) -> bool {
        if run.len() < SHORTEST_RUN {
            return false;
        }
        // Other letters may stand right before it; of a whole file they do not.
        let offsets = if run.len() > LONGEST_SHIFTED { 1 } else { 4 };
        let run = run
            .trim_end_matches('=')
            .replace('-', "+")
            .replace('_', "/");
        (0..offsets).any(|offset| {
            let shifted = run.get(offset..).unwrap_or_default();
            // A single letter at the end holds no byte.
            let whole = shifted.len() - usize::from(shifted.len() % 4 == 1);
            let bytes = BASE64.decode(shifted.get(..whole).unwrap_or_default());
            bytes.is_ok_and(|bytes| {
                let said = String::from_utf8_lossy(&bytes);
                self.plain(&said) != said
            })
        })
    }

    fn plain(&self, text: &str) -> String {
        let mut masked = text.to_owned();
        for secret in &self.secrets {
            if masked.contains(secret.expose()) {
                masked = masked.replace(secret.expose(), MASKED);
            }
        }
        without_shapes(&masked)
    }
}

fn of_base64(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '-' | '_' | '=')
}

/// Replaces every text in it, however deep.
fn hide(value: &mut Value) {
    match value {
        Value::String(text) if !text.is_empty() => MASKED.clone_into(text),
        Value::Array(items) => items.iter_mut().for_each(hide),
        Value::Object(fields) => fields.values_mut().for_each(hide),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Shorter values of variables are words of a language rather than secrets.
const SHORTEST: usize = 8;
/// Of base64 that could hold a secret.
const SHORTEST_RUN: usize = 11;
/// Longer runs are files, and looked through from their beginning alone.
const LONGEST_SHIFTED: usize = 64 * 1024;

/// With or without padding, and with whatever bits are left over at the end.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// How often a text in a text in a text is looked into.
const MAX_NESTED: usize = 3;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mask(value: &Value) -> Value {
        let secrets = vec![Secret::new("hunter2hunter2"), Secret::new("abc")];
        Mask::new(secrets).frame(&value.to_string())
    }

    #[test]
    fn known_secrets_are_masked_wherever_they_stand() {
        let frame = json!({ "a": ["x hunter2hunter2 y"], "b": { "c": "abc hunter2hunter2" } });
        let masked = json!({ "a": ["x [masked] y"], "b": { "c": "abc [masked]" } });
        assert_eq!(mask(&frame), masked);
    }

    #[test]
    fn fields_that_are_named_like_secrets_are_masked_also_in_texts_that_are_json() {
        let inner = json!({ "gateway": { "auth": { "token": "t" } }, "port": 1 });
        let frame = json!({
            "configContent": inner.to_string(), "pairingToken": "x", "api_key": "y",
            "tokens": 5, "tokenCount": "7", "cookies": ["a=b"], "auth_token": { "value": "z" },
            "hunter2hunter2": 1,
        });
        let masked = mask(&frame);
        assert_eq!(masked["pairingToken"], "[masked]");
        assert_eq!(masked["api_key"], "[masked]");
        assert_eq!(masked["tokens"], 5);
        assert_eq!(masked["cookies"][0], "[masked]");
        assert_eq!(masked["auth_token"]["value"], "[masked]");
        assert_eq!(masked["[masked]"], 1, "a name may be a secret too");
        assert_eq!(masked["tokenCount"], "7");
        let inner: Value = serde_json::from_str(masked["configContent"].as_str().unwrap()).unwrap();
        assert_eq!(inner["gateway"]["auth"]["token"], "[masked]");
    }

    #[test]
    fn what_looks_like_a_key_is_masked_and_other_words_are_not() {
        let key = format!("sk-{}", "a1".repeat(20));
        let frame = json!({ "text": format!("export K='{key}'; task-sk-1 sk-short AKIA") });
        let expected = json!({ "text": "export K='[masked]'; task-sk-1 sk-short AKIA" });
        assert_eq!(mask(&frame), expected);
    }

    #[test]
    fn base64_that_hides_a_secret_is_masked() {
        let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        let secret = encode(b"hunter2hunter2");
        for (text, masked) in [
            (secret.clone(), "[masked]".to_owned()),
            (
                format!("a {} b", encode(b"user:hunter2hunter2")),
                "a [masked] b".into(),
            ),
            (format!("xyz{secret}"), "[masked]".into()),
            (
                secret.trim_end_matches('=').replace('+', "-"),
                "[masked]".into(),
            ),
            (
                encode(format!("key sk-{}", "a1".repeat(20)).as_bytes()),
                "[masked]".into(),
            ),
            (
                encode(b"-----BEGIN PRIVATE KEY-----\nMII"),
                "[masked]".into(),
            ),
        ] {
            assert_eq!(mask(&json!({ "t": text }))["t"], masked, "{text}");
        }
        let harmless = encode(b"nothing in this text is a secret of anybody at all");
        assert_eq!(mask(&json!({ "t": harmless }))["t"], harmless);
    }

    #[test]
    fn an_untouched_text_stays_as_it_is_to_the_byte() {
        let agents = "[ {\"id\" : \"a\"} ]";
        assert_eq!(mask(&json!({ "agents": agents }))["agents"], agents);
        assert_eq!(
            Mask::new(vec![Secret::new("hunter2hunter2")]).frame("no json hunter2hunter2"),
            json!("no json [masked]")
        );
    }
}
