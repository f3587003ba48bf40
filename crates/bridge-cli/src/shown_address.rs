//! The address of a control plane as people and logs are shown it.

/// Leaves out what may be secret in an address: its query, and a user name and password.
pub(crate) fn shown(address: &str) -> String {
    let address = address.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = match address.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), address),
    };
    let (authority, path) = match rest.split_once('/') {
        Some((authority, path)) => (authority, format!("/{path}")),
        None => (rest, String::new()),
    };
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_what_may_be_secret() {
        for (address, expected) in [
            ("wss://a.example/ws/bridge", "wss://a.example/ws/bridge"),
            ("ws://127.0.0.1:1/ws?token=SECRET", "ws://127.0.0.1:1/ws"),
            ("wss://a.example?token=SECRET/x", "wss://a.example"),
            ("wss://me:SECRET@a.example/@x#SECRET", "wss://a.example/@x"),
            ("tcp://[::1]:7434", "tcp://[::1]:7434"),
            ("me:SECRET@hub", "hub"),
            ("", ""),
        ] {
            assert_eq!(shown(address), expected);
        }
    }
}
