//! A task is followed to the end of its run, over restarts of the hub.

use std::time::Duration;

use bridge_hub::Told;
use bridge_proto::AskId;
use futures_util::StreamExt as _;
use tokio::time::{Instant, interval, sleep};

use super::task::{note, send_answer};
use crate::{
    args::HubAddress,
    client::Client,
    invocation,
    render::Renderer,
    report::{Exit, Problem},
    typed::Typed,
};

/// Streams until the run ends. The first Ctrl-C cancels the task, the second stops waiting
/// for that. A hub that goes away is waited for; what it sent before is not shown twice.
pub(super) async fn follow(
    client: &Client,
    hub: &HubAddress,
    id: &str,
    mut after: u64,
    mut renderer: Renderer,
) -> Result<Exit, Problem> {
    let mut client = client.clone();
    let mut cancelling = false;
    let mut away = None;
    let mut typed = Typed::listen();
    renderer.answered_by(id, typed.is_open());
    let mut ticks = interval(TICK);
    loop {
        match client.events(id, after).await {
            Ok(events) => {
                away = None;
                let mut events = Box::pin(events);
                loop {
                    let event = tokio::select! {
                        event = events.next() => event,
                        _ = ticks.tick() => {
                            renderer.tick().map_err(Problem::output)?;
                            continue;
                        }
                        line = typed.line() => {
                            let shown = renderer.is_asking().then(|| renderer.only_ask().cloned());
                            if let Some(ask) = shown
                                && let Err(problem) = typed_answer(&client, id, &line, ask).await
                            {
                                note(&problem.report())?;
                            }
                            continue;
                        }
                        signal = tokio::signal::ctrl_c() => {
                            if signal.is_err() || on_ctrl_c(&client, id, &mut cancelling).await? {
                                return Ok(Exit::Interrupted);
                            }
                            continue;
                        }
                    };
                    match event {
                        Some(Ok(stored)) => {
                            after = stored.seq;
                            if let Some(exit) = renderer.event(&stored).map_err(Problem::output)? {
                                return Ok(exit);
                            }
                        }
                        Some(Err(problem)) => {
                            tracing::debug!(%problem, "the stream broke");
                            break;
                        }
                        None => break,
                    }
                }
            }
            Err(problem) => {
                if away.is_none() {
                    note("the hub does not answer; the task goes on, waiting for the hub")?;
                }
                let since = *away.get_or_insert_with(Instant::now);
                if since.elapsed() >= PATIENCE {
                    return Err(gone(id).because(problem));
                }
            }
        }
        tokio::select! {
            () = sleep(RECONNECT) => {}
            signal = tokio::signal::ctrl_c() => {
                if signal.is_err() || on_ctrl_c(&client, id, &mut cancelling).await? {
                    return Ok(Exit::Interrupted);
                }
            }
        }
        // It may come back at another address, and with another token for us.
        if away.is_some()
            && let Ok(found) = Client::find(hub)
        {
            client = found;
        }
    }
}

/// Answers the question that was shown, and never another one that is open by now; what the agent
/// makes of it comes with the events.
async fn typed_answer(
    client: &Client,
    id: &str,
    line: &str,
    shown: Option<AskId>,
) -> Result<(), Problem> {
    let task = client.task(id).await?;
    let shown = shown.as_ref().map(AskId::as_str);
    send_answer(client, &task, line, shown).await.map(drop)
}

/// Whether the task is to be left alone.
async fn on_ctrl_c(client: &Client, id: &str, cancelling: &mut bool) -> Result<bool, Problem> {
    if std::mem::replace(cancelling, true) {
        return Ok(true);
    }
    note("cancelling; Ctrl-C again stops waiting for the end")?;
    match client.cancel(id).await {
        Ok(Told::Now) => Ok(false),
        Ok(Told::OnReturn) => {
            note(LATER)?;
            Ok(false)
        }
        Err(problem) if problem.code() == Exit::NoHub => Err(gone(id).because(problem)),
        Err(problem) => Err(problem),
    }
}

fn gone(id: &str) -> Problem {
    Problem::new("the hub does not answer; the task goes on without it")
        .hint(format!(
            "see how it ended with `{} logs {id}` when the hub is back",
            invocation::task()
        ))
        .exit(Exit::NoHub)
}

/// What there is to say of a cancel that the machine has not heard yet.
pub(super) const LATER: &str =
    "the machine is not connected; it is told to stop when it comes back";
/// How often the progress line is brought up to date.
const TICK: Duration = Duration::from_secs(1);

/// Between two tries to go on with a broken stream.
const RECONNECT: Duration = Duration::from_millis(500);

/// How long a hub that went away is waited for: a restart, not an outage.
const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use bridge_proto::Secret;
    use serde_json::json;
    use wiremock::{
        Mock, MockServer, ResponseTemplate,
        matchers::{header, path},
    };

    use super::*;
    use crate::{
        reach::Reach,
        state::{Note, StateFolder},
    };

    fn noted(state: &std::path::Path, address: &str, token: &str) -> HubAddress {
        let folder = StateFolder::locate(Some(state)).unwrap();
        let reach = Reach::new(address, None);
        let note = Note::new(&reach, "id".into(), &Secret::new(token));
        folder.write_note(&note).unwrap();
        HubAddress {
            hub: None,
            state: Some(state.to_owned()),
        }
    }

    fn stream(seq: u64, body: &serde_json::Value) -> ResponseTemplate {
        let run = json!({ "task": "t", "attempt": "r" });
        let at = "2026-03-14T09:26:53.589Z";
        let event = json!({ "run": run, "n": seq, "at": at, "body": body });
        let stored = json!({ "seq": seq, "event": event });
        let text = format!("id: {seq}\ndata: {stored}\n\n");
        ResponseTemplate::new(200).set_body_raw(text, "text/event-stream")
    }

    fn events(last: u64, token: &str) -> wiremock::MockBuilder {
        Mock::given(path("/api/v1/tasks/t/events"))
            .and(header("last-event-id", last))
            .and(header("authorization", format!("Bearer {token}")))
    }

    #[tokio::test]
    async fn a_hub_that_comes_back_elsewhere_is_asked_for_the_rest() {
        let home = tempfile::tempdir().unwrap();
        let first = MockServer::start().await;
        let hub = noted(home.path(), &first.uri(), "one");
        let started = json!({ "type": "started", "conversation": null });
        events(0, "one")
            .respond_with(stream(1, &started))
            .expect(1)
            .mount(&first)
            .await;
        // Its next start has not let us in yet.
        events(1, "one")
            .respond_with(ResponseTemplate::new(401))
            .mount(&first)
            .await;
        let second = MockServer::start().await;
        let ended = json!({ "type": "ended", "outcome": { "status": "completed" } });
        events(1, "two")
            .respond_with(stream(2, &ended))
            .expect(1)
            .mount(&second)
            .await;
        let client = Client::find(&hub).unwrap();
        let moved = async {
            while first.received_requests().await.unwrap().len() < 2 {
                sleep(Duration::from_millis(20)).await;
            }
            noted(home.path(), &second.uri(), "two");
        };
        let renderer = Renderer::new(true);
        let (exit, ()) = tokio::join!(follow(&client, &hub, "t", 0, renderer), moved);
        assert_eq!(exit.unwrap(), Exit::Done);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hub_that_stays_away_is_not_waited_for_long_and_the_way_on_is_told() {
        let home = tempfile::tempdir().unwrap();
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", taken.local_addr().unwrap());
        drop(taken);
        let hub = noted(home.path(), &address, "one");
        let client = Client::find(&hub).unwrap();
        let start = Instant::now();
        let problem = follow(&client, &hub, "t", 0, Renderer::new(true)).await;
        let problem = problem.unwrap_err();
        assert!(start.elapsed() >= PATIENCE);
        assert_eq!(problem.code(), Exit::NoHub);
        assert!(problem.report().contains(" task logs t`"));
    }
}
