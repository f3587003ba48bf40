//! `/api/v1`: what programs and the page's scripts use. JSON in and out; `docs/api.md` describes it.
//!
//! | | |
//! |---|---|
//! | `GET bridges`, `GET agents` | machines, and their agents in one list |
//! | `GET asks` | open questions of all tasks |
//! | `GET tasks?limit=&before=`, `POST tasks` | one page, newest first; make one |
//! | `GET tasks/{id}` | one task with its runs and open questions |
//! | `POST tasks/{id}/followups`, `…/answer` | go on, answer |
//! | `POST tasks/{id}/interrupt`, `…/cancel`, `…/tune` | stop the turn, stop it all, change settings |
//! | `GET tasks/{id}/events?after=` | server-sent events, resumed by `Last-Event-ID` |
//! | `GET tasks/{id}/events/page?after=&limit=` | the same as one page of JSON |
//! | `GET tasks/{id}/files`, `GET` and `DELETE tasks/{id}/files/{path}` | result files |
//! | `GET tasks/{id}/git`, `GET tasks/{id}/git/diff?file=&untracked=` | the repository it works in |
//! | `GET changes` | server-sent marks that lists may look different |
//! | `bridge-tokens`, `api-tokens`, `login-codes` | who may come in |

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Path, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bridge_proto::{
    AgentId, AskId, BridgeId, Digest, TaskId,
    model::{self, Tuning, When},
};
use serde::Deserialize;
use serde_json::json;

use super::{
    choice::only_machine_with,
    failure::{Answer, Asked, Body, Failure, id, malformed, refusal},
    files, git, live, tokens,
};
use crate::{
    error::HubError,
    hub::Hub,
    view::{Attachment, Mode, NewTask},
};

/// Everything below `/api/v1`.
pub(crate) fn routes() -> Router<Hub> {
    let with_files = Router::new()
        .route("/tasks", get(list_tasks).post(create))
        .route("/tasks/{id}/followups", post(follow_up))
        .layer(DefaultBodyLimit::max(BODY_WITH_FILES));
    let others = Router::new()
        .route("/bridges", get(bridges))
        .route("/agents", get(agents))
        .route("/asks", get(asks))
        .route("/tasks/{id}", get(show))
        .route("/tasks/{id}/cancel", post(cancel))
        .route("/tasks/{id}/interrupt", post(interrupt))
        .route("/tasks/{id}/tune", post(tune))
        .route("/tasks/{id}/answer", post(answer))
        .route("/tasks/{id}/events", get(live::events))
        .route("/tasks/{id}/events/page", get(page))
        .route("/tasks/{id}/files", get(files::list))
        .route(
            "/tasks/{id}/files/{*path}",
            get(files::read).delete(files::delete),
        )
        .route("/tasks/{id}/git", get(git::status))
        .route("/tasks/{id}/git/diff", get(git::diff))
        .route("/changes", get(live::changes))
        .merge(tokens::routes())
        .layer(DefaultBodyLimit::max(BODY));
    with_files.merge(others).fallback(unknown)
}

async fn unknown() -> Response {
    refusal(
        StatusCode::NOT_FOUND,
        "unknown_address",
        "there is nothing at this address",
        None,
    )
}

async fn bridges(State(hub): State<Hub>) -> Answer {
    Ok(Json(json!({ "bridges": hub.machines().await? })).into_response())
}

async fn agents(State(hub): State<Hub>) -> Answer {
    let machines = hub.machines().await?;
    let agents: Vec<_> = machines
        .iter()
        .flat_map(|machine| {
            machine.agents.iter().map(|agent| {
                json!({
                    "machine": machine.id,
                    "machine_name": machine.name,
                    "profile": agent.profile,
                    "status": agent.status,
                    "health": agent.health,
                    "can": agent.can,
                    "trouble": agent.trouble,
                })
            })
        })
        .collect();
    Ok(Json(json!({ "agents": agents })).into_response())
}

async fn asks(State(hub): State<Hub>) -> Answer {
    Ok(Json(json!({ "asks": hub.asks().await? })).into_response())
}

#[derive(Deserialize)]
struct TaskPage {
    limit: Option<usize>,
    before: Option<String>,
}

async fn list_tasks(State(hub): State<Hub>, Asked(page): Asked<TaskPage>) -> Answer {
    let before = page
        .before
        .map(|before| id("task id", &before))
        .transpose()?;
    let tasks = hub.tasks(page.limit.unwrap_or(50), before).await?;
    Ok(Json(json!({ "tasks": tasks })).into_response())
}

#[derive(Deserialize)]
struct NewTaskBody {
    machine: Option<BridgeId>,
    agent: AgentId,
    prompt: String,
    #[serde(default)]
    mode: Mode,
    /// The same as `tuning.model`, which wins.
    model: Option<String>,
    #[serde(default)]
    tuning: Tuning,
    #[serde(default)]
    attachments: Vec<FileBody>,
}

#[derive(Deserialize)]
struct FileBody {
    name: String,
    /// Base64.
    content: String,
}

async fn create(State(hub): State<Hub>, Body(task): Body<NewTaskBody>) -> Answer {
    let machine = match task.machine {
        Some(machine) => machine,
        None => only_machine_with(&hub.machines().await?, &task.agent)?,
    };
    let mut tuning = Tuning {
        model: task.model,
        ..Tuning::default()
    };
    tuning.update(task.tuning);
    let new = NewTask {
        machine,
        agent: task.agent,
        prompt: task.prompt,
        mode: task.mode,
        attachments: decoded(task.attachments)?,
        tuning,
    };
    let made = hub.create(new).await?;
    Ok((StatusCode::CREATED, Json(json!({ "id": made }))).into_response())
}

fn decoded(files: Vec<FileBody>) -> Result<Vec<Attachment>, HubError> {
    let decode = |file: FileBody| {
        let bytes = STANDARD
            .decode(file.content)
            .map_err(|_| malformed("attachment", "its content is not base64"))?;
        Ok(Attachment {
            name: file.name,
            bytes,
        })
    };
    files.into_iter().map(decode).collect()
}

async fn show(State(hub): State<Hub>, Path(task): Path<String>) -> Answer {
    let task: TaskId = id("task id", &task)?;
    let view = hub
        .task(&task)
        .await?
        .ok_or(HubError::UnknownTask { id: task })?;
    Ok(Json(view).into_response())
}

#[derive(Deserialize)]
struct FollowUpBody {
    text: String,
    #[serde(default)]
    attachments: Vec<FileBody>,
    #[serde(default)]
    when: When,
}

async fn follow_up(
    State(hub): State<Hub>,
    Path(task): Path<String>,
    Body(follow_up): Body<FollowUpBody>,
) -> Answer {
    let files = decoded(follow_up.attachments)?;
    let task = id("task id", &task)?;
    let run = hub
        .follow_up(&task, &follow_up.text, files, follow_up.when)
        .await?;
    let answer = Json(json!({ "accepted": true, "attempt": run }));
    Ok((StatusCode::ACCEPTED, answer).into_response())
}

async fn cancel(State(hub): State<Hub>, Path(task): Path<String>) -> Answer {
    let told = hub.cancel(&id("task id", &task)?).await?;
    let answer = Json(json!({ "accepted": true, "told": told }));
    Ok((StatusCode::ACCEPTED, answer).into_response())
}

async fn interrupt(State(hub): State<Hub>, Path(task): Path<String>) -> Answer {
    hub.interrupt(&id("task id", &task)?).await?;
    Ok(accepted())
}

async fn tune(
    State(hub): State<Hub>,
    Path(task): Path<String>,
    Body(tuning): Body<Tuning>,
) -> Answer {
    let applies = hub.tune(&id("task id", &task)?, tuning).await?;
    let answer = Json(json!({ "accepted": true, "applies": applies }));
    Ok((StatusCode::ACCEPTED, answer).into_response())
}

#[derive(Deserialize)]
struct AnswerBody {
    ask: AskId,
    digest: Digest,
    answer: model::Answer,
}

async fn answer(
    State(hub): State<Hub>,
    Path(task): Path<String>,
    Body(given): Body<AnswerBody>,
) -> Answer {
    hub.answer(
        &id("task id", &task)?,
        given.ask,
        &given.digest,
        given.answer,
    )
    .await?;
    Ok(accepted())
}

#[derive(Deserialize)]
struct EventPage {
    after: Option<u64>,
    limit: Option<usize>,
}

async fn page(
    State(hub): State<Hub>,
    Path(task): Path<String>,
    Asked(page): Asked<EventPage>,
) -> Answer {
    let task: TaskId = id("task id", &task)?;
    let events = hub
        .events(&task, page.after.unwrap_or(0), page.limit.unwrap_or(200))
        .await?;
    if events.is_empty() && hub.task(&task).await?.is_none() {
        return Err(Failure::from(HubError::UnknownTask { id: task }));
    }
    Ok(Json(json!({ "events": events })).into_response())
}

fn accepted() -> Response {
    (StatusCode::ACCEPTED, Json(json!({ "accepted": true }))).into_response()
}

/// 20 MiB of attachments are 27 MB of base64; the prompt comes on top.
const BODY_WITH_FILES: usize = 32 * 1024 * 1024;
/// An answer may be as long as a prompt.
const BODY: usize = 2 * 1024 * 1024;
