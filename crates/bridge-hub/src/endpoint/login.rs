//! `/login` and `/logout`: a one-time code becomes a session, a session ends.

use axum::{
    Form,
    extract::{Extension, Query, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse as _, Redirect, Response},
};
use bridge_proto::Secret;
use serde::Deserialize;

use super::failure;
use crate::{
    access::Source,
    error::HubError,
    guard::{SESSION_COOKIE, Visit, session},
    hub::{Hub, SESSION_LIFE},
    listener::Visitor,
    store::GrantKind,
    web,
};

/// The code, in the address or the form, and the page that was wanted.
#[derive(Deserialize)]
pub(crate) struct Code {
    code: Option<String>,
    next: Option<String>,
}

/// `GET /login?code=…`: logs in and goes to the page that was wanted; without a code, the form.
/// Who is logged in already goes there at once, and the code stays good.
pub(crate) async fn with_address(
    State(hub): State<Hub>,
    Extension(visit): Extension<Visit>,
    Extension(visitor): Extension<Visitor>,
    method: Method,
    headers: HeaderMap,
    Query(Code { code, next }): Query<Code>,
) -> Response {
    let next = own_page(next.as_deref());
    if let Some(session) = session(&headers) {
        match hub.is_granted(GrantKind::Session, &session).await {
            Ok(true) => return Redirect::to(next).into_response(),
            Ok(false) => {}
            Err(error) => return failure::response(&error),
        }
    }
    match code {
        // A preview of the address must not use the code up.
        Some(code) if method == Method::GET => {
            log_in(&hub, visit, visitor.source(&headers), &code, next).await
        }
        Some(_) | None => web::login_page(None, next),
    }
}

/// `POST /login`.
pub(crate) async fn with_form(
    State(hub): State<Hub>,
    Extension(visit): Extension<Visit>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    Form(Code { code, next }): Form<Code>,
) -> Response {
    let typed = code.unwrap_or_default();
    let from = visitor.source(&headers);
    log_in(
        &hub,
        visit,
        from,
        code_in(&typed),
        own_page(next.as_deref()),
    )
    .await
}

/// The code in what was typed: itself, or the whole address that was printed.
fn code_in(typed: &str) -> &str {
    let code = typed
        .split_once("code=")
        .map_or(typed, |(_, behind)| behind);
    code.split(['&', '#']).next().unwrap_or(code).trim()
}

/// The page that was wanted, if it is one of ours: a path, never another place.
fn own_page(next: Option<&str>) -> &str {
    next.filter(|next| {
        let mut letters = next.chars();
        letters.next() == Some('/')
            && !matches!(letters.next(), Some('/' | '\\'))
            && !next.starts_with("/login")
            && next.chars().all(|c| c.is_ascii_graphic())
    })
    .unwrap_or("/")
}

async fn log_in(hub: &Hub, visit: Visit, from: Source, code: &str, next: &str) -> Response {
    match hub.log_in(from, &Secret::new(code)).await {
        Ok(session) => {
            tracing::info!("a browser logged in");
            let life = SESSION_LIFE.as_secs();
            go_to(next, &cookie(session.secret.expose(), life, visit))
        }
        Err(error @ (HubError::LoginRefused | HubError::TooManyLogins { .. })) => {
            let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::UNAUTHORIZED);
            let page = web::login_page(Some(&error.to_string()), next);
            failure::with_wait((status, page).into_response(), &error)
        }
        Err(error) => failure::response(&error),
    }
}

/// `POST /logout`.
pub(crate) async fn log_out(
    State(hub): State<Hub>,
    Extension(visit): Extension<Visit>,
    headers: HeaderMap,
) -> Response {
    if let Some(session) = session(&headers)
        && let Err(error) = hub.log_out(&session).await
    {
        return failure::response(&error);
    }
    go_to("/", &cookie("", 0, visit))
}

fn cookie(value: &str, life: u64, visit: Visit) -> String {
    let secure = if visit.secure { "; Secure" } else { "" };
    format!("{SESSION_COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={life}{secure}")
}

fn go_to(page: &str, cookie: &str) -> Response {
    let mut response = Redirect::to(page).into_response();
    let headers = response.headers_mut();
    if let Ok(mut cookie) = HeaderValue::from_str(cookie) {
        cookie.set_sensitive(true);
        headers.insert(header::SET_COOKIE, cookie);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_address_holds_its_code() {
        for typed in [
            "abc",
            " abc\n",
            "http://127.0.0.1:7433/login?code=abc",
            "https://hub.example.org/login?code=abc&next=/new#x",
        ] {
            assert_eq!(code_in(typed), "abc", "{typed}");
        }
    }

    #[test]
    fn a_login_leads_to_pages_of_the_hub_only() {
        for own in ["/", "/tasks/t1", "/new?like=t1"] {
            assert_eq!(own_page(Some(own)), own);
        }
        for other in [
            "",
            "tasks/t1",
            "/login?code=x",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "/a\r\nSet-Cookie: x",
        ] {
            assert_eq!(own_page(Some(other)), "/", "{other}");
        }
    }
}
