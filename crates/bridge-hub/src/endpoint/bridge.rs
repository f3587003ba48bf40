//! `/ws/bridge`: the door for machines.
//!
//! A bridge shows its pairing token as `Authorization: Bearer`. A token that is not accepted is
//! answered with 401 and a body that says so. `x-bridge-extension: 1` is accepted by answering with
//! the same header, and only with it `x-bridge-deflate: 1`. What is said from then on is heard in
//! [`connection`](super::connection). A machine that knocks anywhere else is told so.

use axum::{
    Extension, Json,
    extract::{
        Request, State,
        ws::{WebSocket, WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use bridge_proto::{BridgeId, ctrlnode::MAX_FRAME_BYTES};
use bridge_transport::carrier::deflate;
use futures_util::StreamExt as _;
use serde_json::json;

use super::{connection::talk, failure};
use crate::{
    access, error::HubError, guard::bearer, hub::Hub, listener::Visitor, packed::Packed,
    refusals::Refusal, store::TokenHash,
};

/// `GET /ws/bridge`.
pub(crate) async fn connect(
    State(hub): State<Hub>,
    visitor: Option<Extension<Visitor>>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let (bridge, _) = match let_in(&hub, visitor.map(|Extension(it)| it), &headers).await {
        Ok(found) => found,
        Err(refused) => return refused,
    };
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return rejection.into_response(),
    };
    let extended = headers.get(EXTENSION).is_some_and(|offer| offer == "1");
    let packed = extended && headers.get(PACKED).is_some_and(|offer| offer == "1");
    let mut response = upgrade
        .max_frame_size(MAX_FRAME_BYTES)
        .max_message_size(MAX_FRAME_BYTES)
        .on_upgrade(move |socket| {
            serve(
                hub,
                bridge,
                extended,
                Packed::new(socket, packed, MAX_FRAME_BYTES),
            )
        });
    if packed {
        response
            .headers_mut()
            .insert(PACKED, HeaderValue::from_static("1"));
    }
    if extended {
        response
            .headers_mut()
            .insert(EXTENSION, HeaderValue::from_static("1"));
    }
    response
}

/// The layer around everything that is no door for machines: who wants in as one is told where the
/// door is. The login page or a missing API token would send them to look at their pairing token.
pub(crate) async fn no_door(request: Request, next: Next) -> Response {
    if !knocks(&request) {
        return next.run(request).await;
    }
    failure::refusal(
        StatusCode::NOT_FOUND,
        "no_door",
        "there is no door for machines at this path",
        Some("it is at /ws/bridge"),
    )
}

/// Whether a machine asks to be let in: by an upgrade, or by opening a link. Other upgrades, such
/// as `h2c`, are offers of clients that want something else.
fn knocks(request: &Request) -> bool {
    let upgrade = request.headers().get(header::UPGRADE);
    upgrade.is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
        || request.method() == Method::POST && request.uri().path().ends_with("/link")
}

/// The bridge that shows its token, and what is kept of the token; or the refusal.
pub(crate) async fn let_in(
    hub: &Hub,
    visitor: Option<Visitor>,
    headers: &HeaderMap,
) -> Result<(BridgeId, TokenHash), Response> {
    let Some(token) = bearer(headers) else {
        return Err(not_accepted("no pairing token was sent"));
    };
    if hub.owner.is_closed() {
        return Err(failure::response(&HubError::Stopping));
    }
    let token = access::hash(&token);
    let bridge = match hub.store.bridge_by_token(token).await {
        Ok(Some(bridge)) => bridge.id,
        Ok(None) => {
            if let Some(visitor) = visitor {
                visitor.refused(Refusal::UnknownToken);
            }
            return Err(not_accepted("it is wrong or was revoked"));
        }
        Err(error) => return Err(failure::response(&error.into())),
    };
    if let Some(visitor) = visitor {
        visitor.welcome();
    }
    Ok((bridge, token))
}

pub(crate) fn not_accepted(why: &str) -> Response {
    let body = json!({
        "error": format!("pairing token not accepted: {why}"),
        "hint": "make a new pairing token on the hub and set it up on this machine",
    });
    (StatusCode::UNAUTHORIZED, Json(body)).into_response()
}

async fn serve(hub: Hub, bridge: BridgeId, extended: bool, socket: Packed<WebSocket>) {
    let (sink, stream) = socket.split();
    talk(&hub, bridge, extended, sink, stream).await;
}

pub(crate) const EXTENSION: HeaderName = HeaderName::from_static("x-bridge-extension");
const PACKED: HeaderName = HeaderName::from_static(deflate::HEADER);
