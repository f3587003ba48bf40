//! The repository of a task over the API. Names and diffs are whatever somebody put there, so they
//! are data in JSON and nothing else.

use axum::{
    Json,
    extract::{Path, State},
    response::IntoResponse as _,
};
use serde::Deserialize;
use serde_json::json;

use super::failure::{Answer, Asked, id};
use crate::hub::Hub;

/// `GET /api/v1/tasks/{id}/git`.
pub(crate) async fn status(State(hub): State<Hub>, Path(task): Path<String>) -> Answer {
    let status = hub.git_status(&id("task id", &task)?).await?;
    Ok(Json(json!({ "repository": status })).into_response())
}

#[derive(Deserialize)]
pub(crate) struct File {
    file: String,
    #[serde(default)]
    untracked: bool,
}

/// `GET /api/v1/tasks/{id}/git/diff?file=&untracked=`.
pub(crate) async fn diff(
    State(hub): State<Hub>,
    Path(task): Path<String>,
    Asked(asked): Asked<File>,
) -> Answer {
    let task = id("task id", &task)?;
    let diff = hub.git_diff(&task, &asked.file, asked.untracked).await?;
    Ok(Json(json!({ "file": asked.file, "diff": diff })).into_response())
}
