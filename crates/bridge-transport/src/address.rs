//! What an address says: its parts, and whether it stays on this machine.

use std::net::IpAddr;

use http::Uri;

/// Reads an address, or says what is wrong with it. Scheme and host come back in small letters, so
/// that they can be compared; a fragment is left out.
pub(crate) fn parse(text: &str) -> Result<Uri, String> {
    let address = read(text).map_err(|error| error.to_string())?;
    let authority = address.authority().map_or("", |it| it.as_str());
    let behind_host = authority.rsplit([']', '@']).next().unwrap_or_default();
    match behind_host.rsplit_once(':') {
        // The type takes any digits, and then has no port.
        Some((_, port)) if !port.is_empty() && address.port_u16().is_none() => {
            Err(format!("{port} is no port"))
        }
        Some(_) | None => Ok(address),
    }
}

fn read(text: &str) -> Result<Uri, http::Error> {
    let mut parts = text.trim().parse::<Uri>()?.into_parts();
    if let Some(scheme) = &parts.scheme {
        parts.scheme = Some(scheme.as_str().to_ascii_lowercase().parse()?);
    }
    if let Some(authority) = &parts.authority {
        let authority = authority.as_str();
        let (user, host) = authority.rsplit_once('@').unzip();
        let host = host.unwrap_or(authority).to_ascii_lowercase();
        let authority = user.map_or_else(|| host.clone(), |user| format!("{user}@{host}"));
        parts.authority = Some(authority.parse()?);
    }
    Ok(Uri::from_parts(parts)?)
}

/// The same address with another scheme, or another path and query.
pub(crate) fn with(address: &Uri, scheme: Option<&str>, path: Option<&str>) -> Uri {
    let mut parts = address.clone().into_parts();
    if let Some(Ok(scheme)) = scheme.map(str::parse) {
        parts.scheme = Some(scheme);
    }
    if let Some(Ok(path)) = path.map(str::parse) {
        parts.path_and_query = Some(path);
    }
    Uri::from_parts(parts).unwrap_or_else(|_| address.clone())
}

/// Whether a user name or password stands in it.
pub(crate) fn has_credentials(address: &Uri) -> bool {
    let authority = address.authority();
    authority.is_some_and(|authority| authority.as_str().contains('@'))
}

/// Whether what is said there is encrypted.
pub(crate) fn is_secure(address: &Uri) -> bool {
    matches!(address.scheme_str(), Some("wss" | "https" | "tls"))
}

/// Tells whether an address stays on this machine.
pub(crate) fn is_loopback(address: &Uri) -> bool {
    let host = bare_host(address);
    let name = host.trim_end_matches('.');
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The host as it is looked up: an address of IPv6 without its brackets.
pub(crate) fn bare_host(address: &Uri) -> &str {
    let host = address.host().unwrap_or_default();
    host.trim_start_matches('[').trim_end_matches(']')
}

/// The port that is named, or the usual one of the scheme.
pub(crate) fn port(address: &Uri) -> Option<u16> {
    address.port_u16().or_else(|| match address.scheme_str() {
        Some("ws" | "http") => Some(80),
        Some("wss" | "https") => Some(443),
        Some(_) | None => None,
    })
}

/// Returns host and port, the part of an address that may be shown.
pub(crate) fn host_text(address: &Uri) -> String {
    let host = address.host().unwrap_or_default();
    port(address).map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scheme_and_host_are_made_comparable_and_the_rest_stays() {
        let whole = |text: &str| parse(text).map(|uri| uri.to_string()).ok();
        let same = |text: &str, other: &str| assert_eq!(whole(text).as_deref(), Some(other));
        same("WSS://Plane.EXAMPLE", "wss://plane.example/");
        same(
            " ws://Me:PassWord@[::A]:80/Path?Q=1#part\n",
            "ws://Me:PassWord@[::a]:80/Path?Q=1",
        );
        for wrong in [
            "",
            "wss://",
            "wss:///ws",
            "wss://a b",
            "wss://a:99999",
            "wss://ü",
        ] {
            assert_eq!(whole(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn loopback_is_told_from_everything_that_only_looks_like_it() {
        let here = |text| is_loopback(&parse(text).unwrap());
        for local in [
            "ws://localhost",
            "ws://LOCALHOST.:1",
            "ws://a.localhost/",
            "ws://127.0.0.1:1",
            "ws://127.9.9.9",
            "ws://[::1]:1/x",
        ] {
            assert!(here(local), "{local}");
        }
        for elsewhere in [
            "ws://localhost.example",
            "ws://xlocalhost",
            "ws://127.0.0.1.example",
            "ws://127.0.0.1@plane.example",
            "ws://10.0.0.1",
            "ws://[::2]",
            "ws://0.0.0.0",
            // Which addresses these are is up to the system.
            "ws://127.1",
            "ws://2130706433",
        ] {
            assert!(!here(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn what_is_shown_has_no_password() {
        let shown = |text| host_text(&parse(text).unwrap());
        assert_eq!(
            shown("wss://me:secret@plane.example/x?y"),
            "plane.example:443"
        );
        assert_eq!(shown("socks5://me:secret@[::1]:9"), "[::1]:9");
        assert_eq!(shown("socks5://proxy"), "proxy");
    }
}
