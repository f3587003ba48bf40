//! How secrets of others look in a text: keys of well-known services, logins in addresses and
//! headers, private keys. Pure.

/// Replaces everything of such a shape.
pub(super) fn without_shapes(text: &str) -> String {
    let text = without_private_keys(&without_keys(text));
    without_headers(&without_queries(&without_logins(&text)))
}

/// Whether a field of this name holds a secret.
pub(super) fn names_a_secret(name: &str) -> bool {
    let name: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let name = name.strip_suffix('s').unwrap_or(&name);
    SECRET_NAMES.iter().any(|secret| name.ends_with(secret))
}

/// Replaces words that begin as the keys of well-known services do.
fn without_keys(text: &str) -> String {
    if !KEY_BEGINNINGS.iter().any(|begin| text.contains(begin)) {
        return text.to_owned();
    }
    let part_of_a_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(part_of_a_key) {
        let (before, from) = rest.split_at(start);
        let end = from.find(|c| !part_of_a_key(c)).unwrap_or(from.len());
        let (word, after) = from.split_at(end);
        out.push_str(before);
        let begins = KEY_BEGINNINGS.iter().any(|begin| word.starts_with(begin));
        out.push_str(if begins && word.len() >= SHORTEST_KEY {
            MASKED
        } else {
            word
        });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Replaces blocks of private keys, to the end of the text where they are cut off.
fn without_private_keys(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, from)) = split_before(rest, BEGIN) {
        let behind = from.get(BEGIN.len()..).unwrap_or_default();
        let label = behind.split("-----").next().unwrap_or_default();
        if !label.contains(PRIVATE) || label.len() > MAX_LABEL {
            out.push_str(before);
            out.push_str(BEGIN);
            rest = behind;
            continue;
        }
        out.push_str(before);
        out.push_str(MASKED);
        let end =
            split_before(behind, END).map(|(_, end)| end.get(END.len()..).unwrap_or_default());
        let after = end.and_then(|end| end.split_once("-----"));
        rest = after.map_or("", |(_, after)| after);
    }
    out.push_str(rest);
    out
}

/// Replaces what stands before the `@` of an address.
fn without_logins(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("://") {
        let ends = |c: char| ends_address(c) || matches!(c, '/' | '?' | '#');
        let end = behind.find(ends).unwrap_or(behind.len());
        let (authority, after) = behind.split_at(end);
        out.push_str(before);
        out.push_str("://");
        match authority.rsplit_once('@') {
            Some((_, host)) => out.extend([MASKED, "@", host]),
            None => out.push_str(authority),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Replaces the values of a query that are secrets by their names.
fn without_queries(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(sign) = rest.find(['?', '&', '#']) {
        let (before, from) = rest.split_at(sign + 1);
        out.push_str(before);
        let ends = |c: char| ends_address(c) || matches!(c, '?' | '&' | '#' | ';');
        let end = from.find(ends).unwrap_or(from.len());
        let (pair, after) = from.split_at(end);
        match pair.split_once('=') {
            Some((name, value)) if !value.is_empty() && is_secret_of_query(name) => {
                out.extend([name, "=", MASKED]);
            }
            Some(_) | None => out.push_str(pair),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

fn is_secret_of_query(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    names_a_secret(name) || QUERY_NAMES.iter().any(|known| lower.ends_with(known))
}

fn ends_address(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>' | '\\' | ')' | ']' | '}')
}

/// Replaces what stands behind `Bearer` and `Basic`.
fn without_headers(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let behind = |scheme: &'static str| {
        let found = lower.match_indices(scheme);
        found.map(|(at, scheme)| at + scheme.len())
    };
    let mut begins: Vec<usize> = SCHEMES.into_iter().flat_map(behind).collect();
    begins.sort_unstable();
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for begin in begins {
        let value = text.get(begin..).unwrap_or_default();
        let end = value.find(|c| !of_credential(c)).unwrap_or(value.len());
        let value = value.get(..end).unwrap_or_default();
        // A word of a sentence has no capital letter or digit inside.
        let odd = value.chars().skip(1).any(|c| !c.is_ascii_lowercase());
        if begin >= done && value.len() >= SHORTEST_CREDENTIAL && odd {
            out.push_str(text.get(done..begin).unwrap_or_default());
            out.push_str(MASKED);
            done = begin + end;
        }
    }
    out.push_str(text.get(done..).unwrap_or_default());
    out
}

fn of_credential(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '-' | '_' | '=' | '.' | '~')
}

fn split_before<'a>(text: &'a str, what: &str) -> Option<(&'a str, &'a str)> {
    text.find(what).map(|at| text.split_at(at))
}

/// Stands for what was taken out.
pub(super) const MASKED: &str = "[masked]";

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const PRIVATE: &str = "PRIVATE KEY";
const MAX_LABEL: usize = 64;

const SCHEMES: [&str; 2] = ["bearer ", "basic "];
/// Of a value behind one of them.
const SHORTEST_CREDENTIAL: usize = 8;

/// Ends of names in queries, besides those of fields.
const QUERY_NAMES: [&str; 7] = ["key", "sig", "signature", "auth", "pwd", "pass", "jwt"];

/// Of a word that begins like a key.
const SHORTEST_KEY: usize = 16;

/// Ends of field names, in lower case without separators.
const SECRET_NAMES: [&str; 9] = [
    "cookie",
    "token",
    "apikey",
    "password",
    "passphrase",
    "secret",
    "authorization",
    "privatekey",
    "credential",
];

/// Of keys of this product and of services that agents use.
const KEY_BEGINNINGS: [&str; 21] = [
    "ctrld_",
    "hf_",
    "npm_",
    "ghu_",
    "ASIA",
    "xoxp-",
    "gsk_",
    "eyJ0eXAi",
    "ctrlb_",
    "ctrla_",
    "sk-",
    "sk_live_",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "AKIA",
    "AIza",
    "eyJhbGciOi",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_in_addresses_are_masked_and_addresses_stay() {
        for (text, masked) in [
            (
                "git clone https://user:pass@example.org/x.git now",
                "git clone https://[masked]@example.org/x.git now",
            ),
            (
                "https://ghtoken@example.org",
                "https://[masked]@example.org",
            ),
            (
                "see https://example.org/a@b?x=1#y",
                "see https://example.org/a@b?x=1#y",
            ),
            (
                "\"https://h/p?a=1&access_token=t&b=2\"",
                "\"https://h/p?a=1&access_token=[masked]&b=2\"",
            ),
            ("ws://h/?token=abc#x", "ws://h/?token=[masked]#x"),
            (
                "https://h/#access_token=abc",
                "https://h/#access_token=[masked]",
            ),
            (
                "https://h/?X-Amz-Signature=ab&n=1",
                "https://h/?X-Amz-Signature=[masked]&n=1",
            ),
            (
                "https://h/?monkeys=3&empty_token=",
                "https://h/?monkeys=3&empty_token=",
            ),
            (
                "https://h/?to=https://c:d@e f",
                "https://h/?to=https://[masked]@e f",
            ),
        ] {
            assert_eq!(without_shapes(text), masked, "{text}");
        }
    }

    #[test]
    fn private_keys_are_masked_as_a_whole_and_certificates_stay() {
        let key =
            "a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc=\n-----END RSA PRIVATE KEY-----\nb";
        assert_eq!(without_shapes(key), "a\n[masked]\nb");
        let cut = "x -----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl";
        assert_eq!(without_shapes(cut), "x [masked]");
        let two = format!("{key}{key}");
        assert!(!without_shapes(&two).contains("MIIE"));
        let certificate = "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----";
        assert_eq!(without_shapes(certificate), certificate);
    }

    #[test]
    fn credentials_of_headers_are_masked_and_words_are_not() {
        for (text, masked) in [
            (
                "Authorization: Bearer abc123def456",
                "Authorization: Bearer [masked]",
            ),
            (
                "-H 'authorization: basic dXNlcjpwYXNz'",
                "-H 'authorization: basic [masked]'",
            ),
            (
                "a basic understanding of bearer bonds",
                "a basic understanding of bearer bonds",
            ),
            ("Basic x1", "Basic x1"),
        ] {
            assert_eq!(without_shapes(text), masked, "{text}");
        }
    }

    #[test]
    fn odd_texts_do_not_confuse_it() {
        for text in [
            "",
            "://",
            "://@",
            "-----BEGIN ",
            "Bearer ",
            "é://ü:ö@ä",
            "?token",
        ] {
            without_shapes(text);
        }
    }
}
