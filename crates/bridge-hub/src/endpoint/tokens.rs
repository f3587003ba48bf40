//! Tokens over the API: made, listed, revoked. A text is shown once, in the answer that made it.

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::IntoResponse as _,
    routing::{delete, get, post},
};
use serde::Deserialize;
use serde_json::json;

use super::failure::{Answer, Body, id};
use crate::{hub::Hub, view::NewToken};

/// Below `/api/v1`.
pub(crate) fn routes() -> Router<Hub> {
    Router::new()
        .route("/bridge-tokens", get(list_bridge).post(make_bridge))
        .route("/bridge-tokens/{id}", delete(revoke_bridge))
        .route("/api-tokens", get(list_api).post(make_api))
        .route("/api-tokens/{id}", delete(revoke_api))
        .route("/login-codes", post(make_login))
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

async fn list_bridge(State(hub): State<Hub>) -> Answer {
    Ok(Json(json!({ "tokens": hub.bridge_tokens().await? })).into_response())
}

async fn make_bridge(State(hub): State<Hub>, Body(Named { name }): Body<Named>) -> Answer {
    Ok(made(&hub.create_bridge_token(&name).await?))
}

async fn revoke_bridge(State(hub): State<Hub>, Path(bridge): Path<String>) -> Answer {
    hub.revoke_bridge_token(&id("token id", &bridge)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn list_api(State(hub): State<Hub>) -> Answer {
    Ok(Json(json!({ "tokens": hub.api_tokens().await? })).into_response())
}

async fn make_api(State(hub): State<Hub>, Body(Named { name }): Body<Named>) -> Answer {
    Ok(made(&hub.create_api_token(&name).await?))
}

async fn revoke_api(State(hub): State<Hub>, Path(token): Path<String>) -> Answer {
    hub.revoke_api_token(&token).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn make_login(State(hub): State<Hub>) -> Answer {
    let code = hub.create_login_code().await?;
    let path = format!("/login?code={}", code.expose());
    Ok((
        StatusCode::CREATED,
        Json(json!({ "code": code.expose(), "path": path })),
    )
        .into_response())
}

fn made(token: &NewToken) -> axum::response::Response {
    let body = json!({ "id": token.id, "token": token.secret.expose() });
    (StatusCode::CREATED, Json(body)).into_response()
}
