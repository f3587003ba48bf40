//! `/login` and `/logout`: a one-time code becomes a session, a session ends.

use axum::{
    Form,
    extract::{Extension, Query, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use bridge_proto::Secret;
use serde::Deserialize;

use super::failure;
use crate::{
    error::HubError,
    guard::{SESSION_COOKIE, Visit, session},
    hub::{Hub, SESSION_LIFE},
    web,
};

/// The code, in the address or the form.
#[derive(Deserialize)]
pub(crate) struct Code {
    code: Option<String>,
}

/// `GET /login?code=…`: logs in and goes to the start page; without a code, the form.
pub(crate) async fn with_address(
    State(hub): State<Hub>,
    Extension(visit): Extension<Visit>,
    method: Method,
    Query(Code { code }): Query<Code>,
) -> Response {
    match code {
        // A preview of the address must not use the code up.
        Some(code) if method == Method::GET => log_in(&hub, visit, &code).await,
        Some(_) | None => web::login_page(None),
    }
}

/// `POST /login`.
pub(crate) async fn with_form(
    State(hub): State<Hub>,
    Extension(visit): Extension<Visit>,
    Form(Code { code }): Form<Code>,
) -> Response {
    log_in(&hub, visit, &code.unwrap_or_default()).await
}

async fn log_in(hub: &Hub, visit: Visit, code: &str) -> Response {
    match hub.log_in(&Secret::new(code)).await {
        Ok(session) => {
            tracing::info!("a browser logged in");
            let life = SESSION_LIFE.as_secs();
            to_start(&cookie(session.secret.expose(), life, visit))
        }
        Err(error @ (HubError::LoginRefused | HubError::TooManyLogins { .. })) => {
            let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::UNAUTHORIZED);
            (status, web::login_page(Some(&error.to_string()))).into_response()
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
    to_start(&cookie("", 0, visit))
}

fn cookie(value: &str, life: u64, visit: Visit) -> String {
    let secure = if visit.secure { "; Secure" } else { "" };
    format!("{SESSION_COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={life}{secure}")
}

fn to_start(cookie: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, HeaderValue::from_static("/"));
    if let Ok(mut cookie) = HeaderValue::from_str(cookie) {
        cookie.set_sensitive(true);
        headers.insert(header::SET_COOKIE, cookie);
    }
    response
}
