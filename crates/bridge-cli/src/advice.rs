//! What to do about a control plane that was not reached, by what is said of it.

/// The advice for an error of a dial.
pub(crate) fn advice(error: &str) -> &'static str {
    let error = error.to_lowercase();
    let known = ADVICE.iter().find(|(sign, _)| error.contains(sign));
    known.map_or(CHECK, |(_, advice)| advice)
}

/// What to do about what an error has in it, in lower case; the first that fits.
const ADVICE: &[(&str, &str)] = &[
    (
        "which is not pinned",
        "if this is the key of your control plane, pin it: CTRLNODE_TLS_PIN=<what stands before>; if not, somebody is between",
    ),
    (
        "does not accept the client certificate",
        "the control plane wants a client certificate of its own authority: CTRLNODE_TLS_CERT_FILE, and CTRLNODE_TLS_KEY_FILE if the key is in another file",
    ),
    (
        "client certificate cannot be used",
        "mend the file; CTRLNODE_TLS_CERT_FILE and CTRLNODE_TLS_KEY_FILE name PEM files, the key not encrypted",
    ),
    (
        "certificate expired",
        "if the clock of this machine is right, the control plane needs a new certificate",
    ),
    (
        "certificate not valid for name",
        "write the address with a name that its certificate has",
    ),
    (
        "certificate",
        "if the certificate is from an authority of your own, name that: SSL_CERT_FILE=/path/ca.pem",
    ),
    (
        "proxy ",
        "check the proxy settings: HTTPS_PROXY or ALL_PROXY, with user name and password in its address if it wants them; NO_PROXY to go without",
    ),
    // What rustls says of a first record that is none.
    (
        "invalidcontenttype",
        "what answers there does not speak TLS: write ws:// or http:// (tcp:// instead of tls://), or put HTTPS in front of it",
    ),
    ("status 401", REFUSED_BY_ANOTHER),
    ("status 403", REFUSED_BY_ANOTHER),
    (
        "status 404",
        "there is no door for machines at this path: our own hub has it at wss://host/ws/bridge, and https://host leads there too; of another control plane ask for its path",
    ),
    (
        "status 30",
        "the address leads to another one, which is not followed: write that one, often https:// or wss:// instead of http:// or ws://",
    ),
    (
        "status 400",
        "if the control plane wants an encrypted connection, write https:// or wss://",
    ),
    (
        "status 421",
        "the hub does not go by this name: start it with --public-origin and the name of this address, and let a proxy pass `Host` on",
    ),
    (
        "does not speak websocket",
        "what answers there is no control plane: check host, port and path of the address",
    ),
    (
        "status 503",
        "a hub says so when it has no room for another connection of this machine; try again in ten seconds",
    ),
    (
        "status 5",
        "the control plane, or a proxy before it, has trouble of its own; the bridge goes on trying",
    ),
];

/// Only a refusal that names the token is one of the token.
const REFUSED_BY_ANOTHER: &str = "it was not said that the token is wrong: a proxy, the login page of a network or another server may refuse; check the address, and then the token";

/// What to do when the plane was not reached.
const CHECK: &str = "check the address, the network and the proxy settings";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_of_an_unknown_authority_has_its_own_advice() {
        assert!(advice("invalid peer certificate: UnknownIssuer").contains("SSL_CERT_FILE"));
        let pin = "no secure connection to a:1: its key is sha256:00, which is not pinned";
        assert!(advice(pin).contains("CTRLNODE_TLS_PIN"));
        let wanted = "a:1 does not accept the client certificate it was shown, if any: received fatal alert: CertificateRequired";
        assert!(advice(wanted).contains("CTRLNODE_TLS_CERT_FILE"));
        let clear =
            "no secure connection to a:1: received corrupt message of type InvalidContentType";
        assert!(advice(clear).contains("does not speak TLS"));
        assert_eq!(advice("connection refused"), CHECK);
    }

    #[test]
    fn who_answers_and_is_no_plane_is_told_from_a_plane_that_is_not_reached() {
        let refused = |status: u16| {
            advice(&format!(
                "server refused the connection with status {status}"
            ))
        };
        for status in [401, 403] {
            assert!(refused(status).contains("not said that the token"));
        }
        for status in [301, 302, 303, 307, 308] {
            assert!(refused(status).contains("leads to another one"));
        }
        assert!(refused(404).contains("wss://host/ws/bridge"));
        assert!(refused(421).contains("--public-origin"));
        assert!(refused(503).contains("no room"));
        for status in [500, 502, 504] {
            assert!(refused(status).contains("trouble of its own"));
        }
        assert_eq!(refused(418), CHECK);
    }
}
