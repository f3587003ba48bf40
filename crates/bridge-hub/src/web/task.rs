//! One task: its page, the parts of it that changed, its result files.

use axum::{
    extract::{Path, Query, State},
    http::StatusCode,
    response::Response,
};
use bridge_proto::{
    TaskId,
    model::{Can, Choosing},
};
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    conversation::{Conversation, Prompt, fold},
    home::{path_segment, provider_name, status_badge},
    items,
    layout::{Icon, Page, Tone, badge, html_response, icon, time},
    message, outcome, results,
};
use crate::{
    Hub,
    error::HubError,
    view::{StoredEvent, TaskStatus, TaskView},
};

/// `GET /tasks/{id}`.
pub(crate) async fn page(State(hub): State<Hub>, Path(id): Path<String>) -> Response {
    let drawn = draw(&hub, &id, |drawn| {
        let title = &drawn.view.summary.title;
        Page {
            title,
            script: Some("task.js"),
            navigation: true,
            main: whole(drawn),
        }
        .respond(StatusCode::OK)
    });
    drawn.await.unwrap_or_else(|error| message::problem(&error))
}

/// `GET /tasks/{id}/fragment?after=N`: the head, and every item that changed after event `N`.
pub(crate) async fn fragment(
    State(hub): State<Hub>,
    Path(id): Path<String>,
    Query(since): Query<Since>,
) -> Response {
    let drawn = draw(&hub, &id, move |drawn| {
        html_response(StatusCode::OK, changed(drawn, since.after))
    });
    drawn.await.unwrap_or_else(|error| message::problem(&error))
}

/// `GET /tasks/{id}/files`: the result files, asked from the machine.
pub(crate) async fn files(State(hub): State<Hub>, Path(id): Path<String>) -> Response {
    let found = async {
        let id = parse(&id)?;
        let files = hub.files(&id).await?;
        let task = hub.task(&id).await?;
        let ended = task.is_some_and(|task| !task.summary.status.is_live());
        Ok::<_, HubError>((files, ended))
    };
    match found.await {
        Ok((files, ended)) => html_response(StatusCode::OK, results::list(&id, &files, ended)),
        Err(error) => html_response(
            StatusCode::OK,
            html! { div.results { p.hint { "Results cannot be listed now: " (error.to_string()) "." } } },
        ),
    }
}

/// The query of a fragment's address.
#[derive(Debug, Deserialize)]
pub(crate) struct Since {
    #[serde(default)]
    after: u64,
}

fn parse(id: &str) -> Result<TaskId, HubError> {
    TaskId::parse(id).map_err(|error| HubError::Malformed {
        what: "the task’s id",
        reason: error.to_string(),
    })
}

/// What a page is drawn from.
struct Drawn {
    view: TaskView,
    conversation: Conversation,
    /// What can be done while the agent works; `None` while its machine is off line.
    can: Option<Can>,
    /// The models the agent offers, as far as known.
    models: Vec<String>,
}

/// Draws a task, away from the async threads: what an agent wrote may take its time.
///
/// Events are read before the runs: whatever event there is, its prompt is there too.
async fn draw(
    hub: &Hub,
    id: &str,
    how: impl FnOnce(&Drawn) -> Response + Send + 'static,
) -> Result<Response, HubError> {
    let id = parse(id)?;
    let mut events: Vec<StoredEvent> = Vec::new();
    for _ in 0..MAX_PAGES {
        let after = events.last().map_or(0, |last| last.seq);
        let page = hub.events(&id, after, PAGE).await?;
        // A page with large events is short, so only an empty one is the end.
        if page.is_empty() || events.len() >= MAX_EVENTS {
            break;
        }
        events.extend(page);
    }
    let view = hub.task(&id).await?.ok_or(HubError::UnknownTask { id })?;
    let machines = hub.machines().await?;
    let drawing = tokio::task::spawn_blocking(move || {
        let mut conversation = fold(
            &prompts(&view),
            events.iter().map(|stored| (stored.seq, &stored.event)),
        );
        results::link(&mut conversation, &view);
        let summary = &view.summary;
        let machine = machines.iter().find(|one| one.id == summary.machine);
        let provider = &summary.provider;
        let report = machine.and_then(|machine| machine.providers.get(provider));
        let models = machine.and_then(|machine| machine.models.get(provider));
        how(&Drawn {
            can: report.and_then(|report| report.can),
            models: models.cloned().unwrap_or_default(),
            view,
            conversation,
        })
    });
    drawing.await.map_err(|error| {
        tracing::error!(%error, "a page could not be drawn");
        HubError::Stopping
    })
}

fn prompts(view: &TaskView) -> Vec<Prompt> {
    view.runs
        .iter()
        .map(|run| Prompt {
            attempt: run.attempt.clone(),
            text: run.prompt.clone(),
            at: run.created,
            attachments: run.attachments.clone(),
        })
        .collect()
}

fn whole(drawn: &Drawn) -> Markup {
    let conversation = &drawn.conversation;
    let summary = &drawn.view.summary;
    html! {
        div.task #task data-task=(summary.id) data-seq=(conversation.seq) data-status=(summary.status.as_str()) {
            header.task-head {
                a.back href="/" { (icon(Icon::Back)) "All tasks" }
                h1 { (summary.title) }
                div #head data-slot="head" { (head(drawn)) }
                (settings(drawn))
            }
            noscript { p.alert.attention { "Without JavaScript this page shows the task as it was when it was loaded. Reload to see more." } }
            section role="log" aria-live="polite" aria-label="Conversation" #log {
                ol.stream #stream { @for one in &conversation.items { (items::item(one)) } }
            }
            p.working #working hidden[summary.status != TaskStatus::Running] {
                span.pulse aria-hidden="true" { i {} i {} i {} } span { "Working" }
            }
            div #files data-slot="files" {}
            div.dock {
                span.badge.link #connection role="status" hidden { span.dot aria-hidden="true" {} span { "Reconnecting…" } }
                button.button.round.jump #jump type="button" hidden aria-label="Jump to the latest" { (icon(Icon::Down)) }
                form.composer #composer {
                    ul.chips #chosen aria-label="Chosen files" {}
                    div.composer-row {
                        label.button.ghost.round for="files-input" title="Attach files" { (icon(Icon::Clip)) span.sr { "Attach files" } }
                        input.sr #files-input type="file" multiple tabindex="-1";
                        label.sr for="followup" { "Follow-up" }
                        textarea #followup name="text" rows="1" placeholder="Follow up…" enterkeyhint="enter" {}
                        button.button.round.danger.cancel #stop type="button" title="Cancel the task" hidden[!summary.status.is_live()] { (icon(Icon::Stop)) span.sr { "Cancel the task" } }
                        @if drawn.can.is_some_and(|can| can.inject) {
                            button.button.small #now type="submit" name="when" value="now" hidden[!works(summary.status)]
                                title="The agent reads it while it works" { "Send now" }
                        }
                        button.button.primary.round #send type="submit" name="when" value="after" title=(send_title(summary.status)) { (icon(Icon::Send)) span.sr { (send_title(summary.status)) } }
                    }
                }
            }
        }
    }
}

/// Whether a turn is at work that a message can be put into.
fn works(status: TaskStatus) -> bool {
    matches!(status, TaskStatus::Running | TaskStatus::Waiting)
}

fn send_title(status: TaskStatus) -> &'static str {
    if status.is_live() {
        "Queue (Ctrl+Enter)"
    } else {
        "Send (Ctrl+Enter)"
    }
}

/// What the conversation can be set to; outside of what is drawn anew, so that nobody's choice is
/// overwritten while it is made.
fn settings(drawn: &Drawn) -> Markup {
    let Some(can) = drawn.can else {
        return html! {};
    };
    let chosen = |choosing: Choosing| choosing != Choosing::Never;
    let wanted = &drawn.view.tuning;
    let present = &drawn.conversation;
    html! {
        @if chosen(can.model) || chosen(can.mode) || chosen(can.effort) {
            details.fold.more #tune-fold {
                summary { "Settings of this conversation" }
                form.tune.inside #tune {
                    @if chosen(can.model) {
                        label { "Model"
                            @if drawn.models.is_empty() {
                                input name="model" type="text" placeholder=(wanted.model.as_deref().unwrap_or("The agent’s own")) spellcheck="false" autocapitalize="off" autocomplete="off";
                            } @else {
                                select name="model" {
                                    option value="" { "As it is" }
                                    @for model in drawn.models.iter().take(MAX_MODELS) { option value=(model) { (model) } }
                                }
                            }
                        }
                    }
                    @if chosen(can.mode) {
                        label { "Mode"
                            input name="mode" type="text" placeholder=(present.mode.as_deref().or(wanted.mode.as_deref()).unwrap_or("The agent’s own")) spellcheck="false" autocapitalize="off" autocomplete="off";
                        }
                    }
                    @if chosen(can.effort) {
                        label { "Thinking"
                            input name="effort" type="text" placeholder=(present.effort.as_deref().or(wanted.effort.as_deref()).unwrap_or("The agent’s own")) spellcheck="false" autocapitalize="off" autocomplete="off" list="efforts";
                            datalist #efforts { @for effort in EFFORTS { option value=(effort) {} } }
                        }
                    }
                    button.button.small type="submit" { "Change" }
                }
            }
        }
    }
}

fn head(drawn: &Drawn) -> Markup {
    let (view, conversation) = (&drawn.view, &drawn.conversation);
    let summary = &view.summary;
    let model = conversation.model.as_ref().or(view.tuning.model.as_ref());
    html! {
        div.head-row {
            (status_badge(summary.status))
            @if view.is_stopping() { (badge(Tone::Attention, "Asked to stop")) }
            @if works(summary.status) && drawn.can.is_some() {
                button.button.small.interrupt type="button" title="Stop what it does now and keep the conversation" { (icon(Icon::Stop)) "Stop" }
            }
            @if summary.status == TaskStatus::Rejected {
                a.button.small href={ "/new?like=" (path_segment(summary.id.as_str())) } { "New task like this" }
            }
            @if summary.status.is_live() {
                button.button.small.danger.cancel type="button" title="End what works and what waits" { (icon(Icon::Cross)) "Cancel" }
            }
        }
        dl.facts {
            div { dt { "Agent" } dd { (summary.agent) @if summary.agent.as_str() != summary.provider.as_str() { " (" (provider_name(summary.provider.as_str())) ")" } } }
            div { dt { "Machine" } dd { (summary.machine_name) } }
            @if let Some(path) = view.repo_path() { div { dt { "Repository" } dd.path { (path) } } }
            @if let Some(model) = model { div { dt { "Model" } dd { (model) } } }
            @if let Some(mode) = &conversation.mode { div { dt { "Mode" } dd { (mode) } } }
            @if let Some(effort) = &conversation.effort { div { dt { "Thinking" } dd { (effort) } } }
            @if let Some(usage) = outcome::usage(conversation.usage) { div { dt { "Tokens" } dd { (usage) } } }
            div { dt { "Started" } dd { (time(summary.created)) } }
        }
    }
}

fn changed(drawn: &Drawn, after: u64) -> Markup {
    let (view, conversation) = (&drawn.view, &drawn.conversation);
    html! {
        div #fragment data-seq=(conversation.seq) data-status=(view.summary.status.as_str()) {
            div data-slot="head" { (head(drawn)) }
            ol {
                @for one in conversation.items.iter().filter(|one| one.rev > after) { (items::item(one)) }
            }
        }
    }
}

/// Events asked from the store at a time.
const PAGE: usize = 1000;
/// Events one page is made of; some hours of an agent's work.
const MAX_EVENTS: usize = 100_000;
/// Pages of [`PAGE`] events, or of few large ones: what is shown of a task stays below 1 GiB.
const MAX_PAGES: usize = 200;
/// Of one provider; a list of thousands is no help.
const MAX_MODELS: usize = 200;
/// Words that most agents know for how much they think.
const EFFORTS: [&str; 3] = ["low", "medium", "high"];

#[cfg(test)]
pub(crate) mod tests {
    use bridge_proto::{
        TaskFolder,
        model::{EventBody, Outcome, RunEvent, RunKind, ToolStatus, Tuning},
    };

    use super::*;
    use crate::{
        view::{Mode, RunView},
        web::{
            conversation::tests::{event, seen, text, tool},
            tests::{assert_nothing_inline, summary},
        },
    };

    pub(crate) fn view(prompt: &str) -> TaskView {
        let mut summary = summary(TaskStatus::Running);
        summary.title = prompt.into();
        TaskView {
            mode: Mode::Output,
            folder: TaskFolder::parse("tasks/t1").unwrap(),
            tuning: Tuning::default(),
            runs: vec![RunView {
                attempt: "a".into(),
                kind: RunKind::Dispatch,
                prompt: prompt.into(),
                attachments: vec!["notes.txt".into()],
                status: TaskStatus::Running,
                reason: None,
                created: summary.created,
                ended: None,
                stopping: false,
            }],
            open_asks: Vec::new(),
            last_seq: 0,
            summary,
        }
    }

    fn told(view: &TaskView, events: &[bridge_proto::model::Event]) -> Drawn {
        Drawn {
            view: view.clone(),
            conversation: fold(&prompts(view), (1..).zip(events)),
            can: None,
            models: Vec::new(),
        }
    }

    #[test]
    fn a_hostile_title_and_prompt_come_out_escaped_and_nothing_is_inline() {
        let view = view("<script>alert(1)</script>\"><img onerror=alert(1)>");
        let html = whole(&told(&view, &[])).into_string();
        assert_nothing_inline(&html);
        assert!(
            !html.contains("<img") && !html.contains("<script"),
            "{html}"
        );
        assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&gt;&lt;img onerror"));
    }

    #[test]
    fn a_fragment_holds_exactly_what_changed_and_looks_like_the_page() {
        let view = view("go");
        let mut events = vec![
            text("a", 1, "b1", "one"),
            seen(
                "a",
                2,
                RunEvent::Tool(tool("x", "Write", ToolStatus::InProgress)),
            ),
        ];
        let before = told(&view, &events);
        events.push(seen(
            "a",
            3,
            RunEvent::Tool(tool("x", "Write", ToolStatus::Completed)),
        ));
        events.push(event(
            "a",
            4,
            EventBody::Ended {
                outcome: Outcome::Completed,
            },
        ));
        let after = told(&view, &events);
        let page = whole(&after).into_string();
        let fragment = changed(&after, before.conversation.seq).into_string();
        assert!(fragment.contains("data-seq=\"4\""));
        for one in &after.conversation.items {
            let html = items::item(one).into_string();
            assert!(page.contains(&html));
            assert_eq!(fragment.contains(&html), one.rev > 2, "{html}");
        }
    }

    #[test]
    fn only_what_the_agent_can_is_offered_and_only_while_it_works() {
        let view = view("go");
        let mut drawn = told(&view, &[]);
        let page = |drawn: &Drawn| whole(drawn).into_string();
        let offered =
            |html: &str| ["id=\"now\"", "interrupt", "id=\"tune\""].map(|part| html.contains(part));
        assert_eq!(
            offered(&page(&drawn)),
            [false; 3],
            "its machine says nothing"
        );
        drawn.can = Some(Can::default());
        assert_eq!(offered(&page(&drawn)), [false, true, false]);
        drawn.can = Some(Can {
            inject: true,
            model: Choosing::AnyTime,
            ..Can::default()
        });
        drawn.models = vec!["<large>".into()];
        let html = page(&drawn);
        assert_nothing_inline(&html);
        assert_eq!(offered(&html), [true; 3]);
        assert!(
            html.contains("&lt;large&gt;") && !html.contains("name=\"mode\""),
            "{html}"
        );
        assert!(html.contains("Queue (Ctrl+Enter)") && !html.contains("Asked to stop"));
        drawn.view.runs[0].stopping = true;
        assert!(page(&drawn).contains("Asked to stop"));
        drawn.view.summary.status = TaskStatus::Completed;
        let html = page(&drawn);
        assert!(
            !html.contains("interrupt") && html.contains("Send (Ctrl+Enter)"),
            "{html}"
        );
        assert!(html.contains("value=\"now\" hidden"), "{html}");
    }

    #[test]
    fn a_message_that_was_read_at_once_is_shown_where_it_was_read() {
        let mut view = view("go");
        let mut second = view.runs[0].clone();
        second.attempt = "b".into();
        second.prompt = "in English".into();
        view.runs.push(second);
        let injected = RunEvent::Injected {
            text: "in English".into(),
        };
        let events = [
            text("a", 1, "b1", "un"),
            seen("a", 2, injected),
            event("b", 1, EventBody::Joined { into: "a".into() }),
        ];
        let waiting = whole(&told(&view, &events[..1])).into_string();
        assert_eq!(waiting.matches("in English").count(), 1, "as a run to come");
        let read = whole(&told(&view, &events)).into_string();
        assert_eq!(read.matches("in English").count(), 1, "{read}");
        let fragment = changed(&told(&view, &events), 2).into_string();
        assert!(
            fragment.contains("class=\"item prompt\"") && fragment.contains(" hidden></li>"),
            "{fragment}"
        );
    }
}
