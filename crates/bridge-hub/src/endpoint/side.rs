//! What a bridge asks over HTTP before it has shown a token. The hub knows no list of models and no
//! newer bridge, and says so in the words of the wire; nothing about its machines.

use axum::{
    Router,
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use bridge_proto::{ctrlnode::side, model::ModelManifest};

use crate::hub::Hub;

/// Outside of every login.
pub(crate) fn routes() -> Router<Hub> {
    Router::new()
        .route(side::VERSION_PATH, get(version))
        .route(side::MODELS_PATH, get(models))
        .route(side::AGENT_TYPES_PATH, get(agent_types))
}

async fn version() -> Response {
    json(side::write_version(env!("CARGO_PKG_VERSION")))
}

async fn models() -> Response {
    json(side::write_models(&ModelManifest {
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        ..ModelManifest::default()
    }))
}

async fn agent_types() -> Response {
    json(side::write_agent_types())
}

/// A body that is JSON already.
pub(super) fn json(body: String) -> Response {
    let mut response = body.into_response();
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
