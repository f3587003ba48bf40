//! Device login for machines: a code for one that has no token, and what became of it.

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Extension, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::post,
};
use bridge_proto::ctrlnode::device::{self, DeviceRequest, Polled};

use super::{failure, side::json};
use crate::{error::HubError, guard::Visit, hub::Hub, listener::Visitor};

/// Outside of every login: a machine has none yet.
pub(crate) fn routes() -> Router<Hub> {
    Router::new()
        .route(device::CODE_PATH, post(begin))
        .route(device::TOKEN_PATH, post(poll))
        .layer(DefaultBodyLimit::max(MAX_BODY))
}

async fn begin(
    State(hub): State<Hub>,
    Extension(visit): Extension<Visit>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(request) = DeviceRequest::read(&body) else {
        return malformed();
    };
    let page = format!("{}{}", origin(&hub, visit, &headers), device::PAGE_PATH);
    match hub
        .begin_device(visitor.source(&headers), request, page)
        .await
    {
        Ok(grant) => json(grant.write()),
        Err(error) => failure::response(&error),
    }
}

async fn poll(State(hub): State<Hub>, body: Bytes) -> Response {
    let Some(code) = device::read_poll(&body) else {
        return malformed();
    };
    match hub.poll_device(&code).await {
        Ok(polled) => said(&polled),
        Err(error) => failure::response(&error),
    }
}

fn said(polled: &Polled) -> Response {
    let (status, body) = polled.write();
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, json(body)).into_response()
}

fn malformed() -> Response {
    failure::response(&HubError::Malformed {
        what: "the body",
        reason: "it is no JSON object of a device login".to_owned(),
    })
}

/// Where the page is: the public origin, or the address the machine itself came by.
fn origin(hub: &Hub, visit: Visit, headers: &HeaderMap) -> String {
    if let Some(public) = hub.public.as_deref() {
        return public.to_owned();
    }
    let host = headers.get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    let scheme = if visit.secure { "https" } else { "http" };
    format!("{scheme}://{host}")
}

/// Far more than a machine says of itself.
const MAX_BODY: usize = 16 * 1024;
