//! Who may come in, before any door looks at the request: the `Host` must be one of ours (against
//! DNS rebinding), the `Origin` of everything that changes something too (against forged requests),
//! and every response carries the headers that keep a browser strict.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::Response,
};
use bridge_proto::Secret;

use crate::{
    endpoint::failure::{refusal, response},
    error::HubError,
    hub::Hub,
    listener::Visitor,
    refusals::Refusal,
    server::StartError,
    store::GrantKind,
    web,
};

/// Which hosts and origins are ours.
#[derive(Debug)]
pub(crate) struct Guard {
    port: u16,
    /// `host[:port]`, lower case.
    hosts: Vec<String>,
    /// `scheme://host[:port]`, lower case.
    origins: Vec<String>,
    /// Whether any address of this machine may stand in `Host`.
    any_address: bool,
    public: Option<Arc<str>>,
}

/// How a request came in; put into its extensions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Visit {
    /// Through a proxy that speaks HTTPS.
    pub(crate) secure: bool,
    /// The browser says that one of our own pages made the request.
    own_page: bool,
}

impl Guard {
    pub(crate) fn new(address: SocketAddr, public: &[String]) -> Result<Self, StartError> {
        let port = address.port();
        let mut hosts = vec![
            format!("localhost:{port}"),
            format!("127.0.0.1:{port}"),
            format!("[::1]:{port}"),
        ];
        if !address.ip().is_unspecified() {
            hosts.push(address.to_string());
        }
        if port == 80 {
            hosts.extend([
                "localhost".to_owned(),
                "127.0.0.1".to_owned(),
                "[::1]".to_owned(),
            ]);
        }
        let mut origins: Vec<String> = hosts.iter().map(|host| format!("http://{host}")).collect();
        let mut first = None;
        for origin in public {
            let (origin, host) = public_origin(origin)?;
            hosts.push(host);
            first.get_or_insert_with(|| origin.as_str().into());
            origins.push(origin);
        }
        Ok(Self {
            port,
            hosts,
            origins,
            any_address: !address.ip().is_loopback(),
            public: first,
        })
    }

    /// The first of the public origins.
    pub(crate) fn public(&self) -> Option<Arc<str>> {
        self.public.clone()
    }

    fn knows_host(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        // A rebinding attack needs a name; an address in `Host` was typed by somebody.
        self.hosts.contains(&host) || self.any_address && self.is_address(&host)
    }

    fn is_address(&self, host: &str) -> bool {
        let with_port = host
            .parse::<SocketAddr>()
            .is_ok_and(|it| it.port() == self.port);
        with_port || self.port == 80 && host.parse::<IpAddr>().is_ok()
    }

    fn knows_origin(&self, origin: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        self.origins.contains(&origin)
            || self.any_address
                && origin
                    .strip_prefix("http://")
                    .is_some_and(|host| self.is_address(host))
    }

    fn visit(&self, method: &Method, headers: &HeaderMap, host: &str) -> Result<Visit, Refused> {
        if headers.contains_key(header::ORIGIN) && only(headers, &header::ORIGIN).is_none() {
            return Err(Refused::OtherOrigin);
        }
        let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        let site = text(HeaderName::from_static("sec-fetch-site"));
        let own_page = match text(header::ORIGIN) {
            // A form on a page with `no-referrer` sends `null`; only a browser can add the site.
            Some("null") if site == Some("same-origin") => true,
            Some(origin) if self.knows_origin(origin) => true,
            Some(_) => {
                // Reading without the right origin is harmless: responses carry no CORS headers.
                if !method.is_safe() || headers.contains_key(header::UPGRADE) {
                    return Err(Refused::OtherOrigin);
                }
                false
            }
            None => site == Some("same-origin"),
        };
        let https = format!("https://{}", host.to_ascii_lowercase());
        Ok(Visit {
            secure: self.origins.contains(&https),
            own_page,
        })
    }
}

/// The outermost layer.
pub(crate) async fn at_the_gate(
    State(guard): State<Arc<Guard>>,
    mut request: Request,
    next: Next,
) -> Response {
    // Of two it is not known which one a proxy in front looked at.
    let host = only(request.headers(), &header::HOST).and_then(|host| host.to_str().ok());
    let host = host.unwrap_or_default().to_owned();
    let same = request
        .uri()
        .authority()
        .is_none_or(|named| named.as_str() == host);
    let answer = if !same || !guard.knows_host(&host) {
        refused(&request, Refusal::OtherHost(host));
        Refused::OtherHost.response()
    } else {
        match guard.visit(request.method(), request.headers(), &host) {
            Ok(visit) => {
                request.extensions_mut().insert(visit);
                next.run(request).await
            }
            Err(why) => {
                let origin = request.headers().get(header::ORIGIN);
                let origin = origin.and_then(|origin| origin.to_str().ok());
                let origin = origin.unwrap_or_default().to_owned();
                refused(&request, Refusal::OtherOrigin(origin));
                why.response()
            }
        }
    };
    strict(answer)
}

fn refused(request: &Request, why: Refusal) {
    if let Some(visitor) = visitor(request) {
        visitor.refused(why);
    }
}

/// Every response of the hub, also refusals.
fn strict(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in STRICT {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    response
}

/// The layer around the API: a program's token, or a browser's session.
pub(crate) async fn for_programs(State(hub): State<Hub>, request: Request, next: Next) -> Response {
    match is_let_in(&hub, shown(&request), visitor(&request)).await {
        Ok(true) => next.run(request).await,
        Ok(false) => {
            let mut response = refusal(
                StatusCode::UNAUTHORIZED,
                "not_logged_in",
                "a token or a login is needed",
                Some("send `Authorization: Bearer <token>`, or log in with a code"),
            );
            let challenge = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
            response
        }
        Err(refused) => refused.response(),
    }
}

/// The layer around the pages: a browser's session, or the login page. Styles, scripts and pictures
/// are for everybody, because the login page needs them.
pub(crate) async fn for_people(State(hub): State<Hub>, request: Request, next: Next) -> Response {
    if request.uri().path().starts_with("/assets/") {
        return next.run(request).await;
    }
    match is_let_in(&hub, shown(&request), visitor(&request)).await {
        Ok(true) => next.run(request).await,
        Ok(false) => {
            let wanted = request.uri().path_and_query();
            let wanted = wanted.filter(|_| request.method() == Method::GET);
            web::login_page(None, wanted.map_or("/", |wanted| wanted.as_str()))
        }
        Err(refused) => refused.response(),
    }
}

/// What a request shows to come in: a program's token, or else a browser's session.
fn shown(request: &Request) -> Result<Option<(GrantKind, Secret)>, Refused> {
    let headers = request.headers();
    if let Some(token) = bearer(headers) {
        return Ok(Some((GrantKind::ApiToken, token)));
    }
    let Some(session) = session(headers) else {
        return Ok(None);
    };
    let own_page = request
        .extensions()
        .get::<Visit>()
        .is_some_and(|visit| visit.own_page);
    if request.method().is_safe() || own_page {
        return Ok(Some((GrantKind::Session, session)));
    }
    Err(Refused::NoOrigin)
}

fn visitor(request: &Request) -> Option<Visitor> {
    request.extensions().get().cloned()
}

async fn is_let_in(
    hub: &Hub,
    shown: Result<Option<(GrantKind, Secret)>, Refused>,
    visitor: Option<Visitor>,
) -> Result<bool, Refused> {
    let Some((kind, secret)) = shown? else {
        return Ok(false);
    };
    let granted = hub.is_granted(kind, &secret).await;
    let granted = granted.map_err(Refused::Unknown)?;
    if let Some(visitor) = visitor.filter(|_| granted) {
        visitor.welcome();
    }
    Ok(granted)
}

/// Why a request does not come in.
#[derive(Debug)]
enum Refused {
    OtherHost,
    OtherOrigin,
    NoOrigin,
    Unknown(HubError),
}

impl Refused {
    fn response(self) -> Response {
        let add = Some("add its origin to the public origins of the hub if it is yours");
        match self {
            Self::OtherHost => refusal(
                StatusCode::MISDIRECTED_REQUEST,
                "host_not_allowed",
                "this host name is not one of the hub's",
                add,
            ),
            Self::OtherOrigin => refusal(
                StatusCode::FORBIDDEN,
                "origin_not_allowed",
                "requests from this origin are not accepted",
                add,
            ),
            Self::NoOrigin => refusal(
                StatusCode::FORBIDDEN,
                "origin_missing",
                "with a login, changes are accepted from the hub's own pages only",
                Some("programs use `Authorization: Bearer <token>`"),
            ),
            Self::Unknown(error) => response(&error),
        }
    }
}

/// A header that stands there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut all = headers.get_all(name).iter();
    all.next().filter(|_| all.next().is_none())
}

/// The token of `Authorization: Bearer`.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<Secret> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = Secret::new(token);
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The session of the cookie.
pub(crate) fn session(headers: &HeaderMap) -> Option<Secret> {
    let cookies = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut pairs = cookies
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.split_once('='));
    pairs
        .find(|(name, _)| name.trim() == SESSION_COOKIE)
        .map(|(_, value)| Secret::new(value))
        .filter(|secret| !secret.is_empty())
}

/// Of the browser's session.
pub(crate) const SESSION_COOKIE: &str = "ctrlnode_session";

/// `scheme://host[:port]` and its host, normalised.
fn public_origin(text: &str) -> Result<(String, String), StartError> {
    let bad = || StartError::BadOrigin {
        origin: text.to_owned(),
    };
    let origin = text.trim().trim_end_matches('/').to_ascii_lowercase();
    let uri: axum::http::Uri = origin.parse().map_err(|_| bad())?;
    let scheme = uri
        .scheme_str()
        .filter(|scheme| matches!(*scheme, "http" | "https"));
    let (Some(scheme), Some(authority)) = (scheme, uri.authority()) else {
        return Err(bad());
    };
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() || authority.as_str().contains('@')
    {
        return Err(bad());
    }
    let host = authority.as_str();
    let usual = if scheme == "https" { ":443" } else { ":80" };
    let host = host.strip_suffix(usual).unwrap_or(host).to_owned();
    Ok((format!("{scheme}://{host}"), host))
}

const STRICT: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
         font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::CACHE_CONTROL, "no-store"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(listen: &str, public: &[&str]) -> Guard {
        let public: Vec<String> = public.iter().map(ToString::to_string).collect();
        Guard::new(listen.parse().unwrap(), &public).unwrap()
    }

    #[test]
    fn only_our_own_hosts_are_known() {
        let guard = guard(
            "127.0.0.1:7700",
            &["https://hub.example.org", "http://box:8080/"],
        );
        for host in [
            "127.0.0.1:7700",
            "LOCALHOST:7700",
            "[::1]:7700",
            "hub.example.org",
            "box:8080",
        ] {
            assert!(guard.knows_host(host), "{host}");
        }
        for host in [
            "",
            "localhost",
            "localhost:7701",
            "evil.example",
            "hub.example.org:7700",
            "192.168.1.2:7700",
            "127.0.0.1.evil.example:7700",
            "box",
        ] {
            assert!(!guard.knows_host(host), "{host}");
        }
    }

    #[test]
    fn an_exposed_hub_takes_any_address_but_no_unknown_name() {
        let guard = guard("0.0.0.0:7700", &[]);
        assert!(
            guard.knows_host("192.168.1.2:7700") && guard.knows_origin("http://192.168.1.2:7700")
        );
        assert!(!guard.knows_host("evil.example:7700") && !guard.knows_host("192.168.1.2:80"));
    }

    #[test]
    fn origins_need_the_right_scheme_host_and_port() {
        let guard = guard("127.0.0.1:7700", &["https://hub.example.org:443"]);
        assert!(guard.knows_origin("https://hub.example.org"));
        assert!(guard.knows_origin("http://127.0.0.1:7700"));
        for origin in [
            "null",
            "http://hub.example.org",
            "https://127.0.0.1:7700",
            "http://evil",
        ] {
            assert!(!guard.knows_origin(origin), "{origin}");
        }
    }

    #[test]
    fn origins_with_paths_or_other_schemes_are_refused_at_the_start() {
        for origin in [
            "",
            "hub.example.org",
            "ftp://x",
            "https://x/path",
            "https://u@x",
            "https://x?y",
        ] {
            assert!(
                matches!(public_origin(origin), Err(StartError::BadOrigin { .. })),
                "{origin}"
            );
        }
    }

    #[test]
    fn the_session_is_found_among_other_cookies() {
        let mut headers = HeaderMap::new();
        headers.append(
            header::COOKIE,
            HeaderValue::from_static("a=b; ctrlnode_session=abc; c=d"),
        );
        assert_eq!(session(&headers).unwrap().expose(), "abc");
        headers.insert(
            header::COOKIE,
            HeaderValue::from_static("xctrlnode_session=abc"),
        );
        assert!(session(&headers).is_none());
    }
}
