//! The address of a control plane as people write it, and what it means.

use url::Url;

/// The address of a page, `https://host` and no more, leads to its door for machines. Any other
/// address is what was written: a control plane may have its door anywhere.
pub(crate) fn understood(written: &str) -> String {
    let written = written.trim();
    completed(written).map_or_else(|| written.to_owned(), Into::into)
}

fn completed(written: &str) -> Option<Url> {
    let mut url = Url::parse(written).ok()?;
    let scheme = match url.scheme() {
        "https" => "wss",
        "http" => "ws",
        _ => return None,
    };
    if !leads_nowhere(&url) {
        return None;
    }
    url.set_scheme(scheme).ok()?;
    url.set_path(DOOR);
    Some(url)
}

/// Whether it names a host and no place there.
pub(crate) fn leads_nowhere(url: &Url) -> bool {
    matches!(url.path(), "" | "/")
}

/// Where a hub of ours lets machines in.
pub(crate) const DOOR: &str = "/ws/bridge";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_page_is_completed_and_any_other_is_left_as_it_is() {
        for (written, meant) in [
            ("https://hub.example.org", "wss://hub.example.org/ws/bridge"),
            (
                " HTTPS://hub.example.org:8443/ ",
                "wss://hub.example.org:8443/ws/bridge",
            ),
            ("http://127.0.0.1:7433", "ws://127.0.0.1:7433/ws/bridge"),
            ("http://[::1]:80/?x=1", "ws://[::1]/ws/bridge?x=1"),
        ] {
            assert_eq!(understood(written), meant);
        }
        for written in [
            "https://hub.example.org/door",
            "http://127.0.0.1:7433/ws/bridge",
            "wss://hub.example.org",
            "ws://127.0.0.1:9000",
            "tcp://127.0.0.1:7434",
            "hub.example.org",
            "http://",
            "",
        ] {
            assert_eq!(understood(written), written);
        }
    }
}
