//! Server-sent events: what happens in a task, from any point, without loss or doubles; and marks
//! that lists may have changed.
//!
//! A stream subscribes before it reads, reads the store in pages, and waits only when a page was
//! empty. A slow reader holds one page; nobody waits for it. Streams never end by themselves.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::{
    extract::{Path, State},
    http::HeaderMap,
    response::{
        IntoResponse as _,
        sse::{Event, KeepAlive, Sse},
    },
};
use bridge_proto::TaskId;
use futures_util::stream::{self, Stream};
use serde::Deserialize;

use super::failure::{Answer, Asked, id, malformed};
use crate::{
    error::HubError,
    hub::{Hub, Watch},
    view::StoredEvent,
};

/// Where to begin.
#[derive(Deserialize)]
pub(crate) struct From {
    after: Option<u64>,
}

/// `GET /api/v1/tasks/{id}/events`.
pub(crate) async fn events(
    State(hub): State<Hub>,
    Path(task): Path<String>,
    Asked(from): Asked<From>,
    headers: HeaderMap,
) -> Answer {
    let task: TaskId = id("task id", &task)?;
    let after = match headers.get("last-event-id") {
        // What the browser has seen since wins over where the page began.
        Some(last) => last
            .to_str()
            .ok()
            .and_then(|last| last.trim().parse().ok())
            .ok_or_else(|| malformed("Last-Event-ID", "it is not a number"))?,
        None => from.after.unwrap_or(0),
    };
    if hub.task(&task).await?.is_none() {
        return Err(HubError::UnknownTask { id: task }.into());
    }
    let watch = hub.watch(&task).await?;
    let reader = Reader {
        hub,
        task,
        after,
        watch,
        page: VecDeque::new(),
    };
    Ok(sse(reader.into_stream()).into_response())
}

/// `GET /api/v1/changes`.
pub(crate) async fn changes(State(hub): State<Hub>) -> Answer {
    let marks = stream::unfold(hub.watch_all(), |mut watch| async move {
        if !watch.changed().await {
            return None;
        }
        Some((
            Ok::<_, Infallible>(Event::default().event("changed").data("{}")),
            watch,
        ))
    });
    Ok(sse(marks).into_response())
}

fn sse<S>(events: S) -> Sse<impl Stream<Item = Result<Event, Infallible>>>
where
    S: Stream<Item = Result<Event, Infallible>> + Send + 'static,
{
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("keep-alive"))
}

struct Reader {
    hub: Hub,
    task: TaskId,
    after: u64,
    watch: Watch,
    page: VecDeque<StoredEvent>,
}

impl Reader {
    fn into_stream(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut reader| async move {
            let stored = reader.next().await?;
            reader.after = stored.seq;
            let event = match Event::default()
                .id(stored.seq.to_string())
                .json_data(&stored)
            {
                Ok(event) => event,
                Err(error) => {
                    tracing::error!(%error, "an event cannot be written as JSON");
                    return None;
                }
            };
            Some((Ok(event), reader))
        })
    }

    async fn next(&mut self) -> Option<StoredEvent> {
        loop {
            if let Some(stored) = self.page.pop_front() {
                return Some(stored);
            }
            match self.hub.events(&self.task, self.after, PAGE).await {
                Ok(page) if page.is_empty() => {
                    if !self.watch.changed().await {
                        return None;
                    }
                }
                Ok(page) => self.page = page.into(),
                Err(error) => {
                    // The client comes back with its last number.
                    tracing::error!(error = &error as &dyn std::error::Error, "stream ended");
                    return None;
                }
            }
        }
    }
}

/// Events read at once.
const PAGE: usize = 256;
/// Below the idle limit of common proxies.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
