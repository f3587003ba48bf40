//! Pages, styles and scripts.
//!
//! The server wraps [`routes`] in the login check: everything but `/assets/…` and `/login` needs a
//! session, and answers with [`login_page`] without one. `/login` and `/logout` are served by
//! `endpoint::login`: `GET /login?code=…` logs in, `POST /login` (form field `code`) too.

use axum::{
    Router,
    response::{Html, IntoResponse as _, Response},
};

use crate::Hub;

/// All pages.
pub(crate) fn routes() -> Router<Hub> {
    Router::new()
}

/// What a visitor without a session sees; `problem` says why the last try failed.
pub(crate) fn login_page(problem: Option<&str>) -> Response {
    Html(problem.unwrap_or("log in").to_owned()).into_response()
}
