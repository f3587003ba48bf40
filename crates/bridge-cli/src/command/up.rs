//! `ctrlnode up`: a hub on loopback and a paired bridge in one process, over a real WebSocket,
//! with a state folder of their own.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::Path,
};

use bridge_hub::{Hub, HubConfig, RunningHub, StartError};
use bridge_proto::Secret;
use tokio::sync::watch;

use crate::{
    args::UpArgs,
    browser,
    command::bridge::log_state,
    daemon::{self, Bridge, Plane},
    invocation,
    reach::Reach,
    report::{Exit, Problem},
    settings::Settings,
    signals,
    state::{Note, OwnPairing, StateFolder},
};

/// Runs until SIGINT or SIGTERM.
pub(crate) async fn run(args: UpArgs) -> Result<Exit, Problem> {
    let stop = signals::stop_asked();
    let mut settings = Settings::of_own_hub(args.workspace.clone())?;
    settings.watch_tasks |= args.watch_tasks;
    settings.check_workspace()?;
    let state = StateFolder::locate(args.state.as_deref())?;
    let _lock = state.lock()?;
    let running = start_hub(&args, &state).await?;
    let hub = running.hub();
    let token = own_token(&hub, &state).await?;
    let plane = Plane {
        url: format!("ws://{}/ws/bridge", running.address()),
        token: watch::channel(token).1,
    };
    let bridge = match daemon::assemble(&settings, Some(&state), plane, None) {
        Ok(bridge) => bridge,
        Err(problem) => {
            running.shutdown().await;
            return Err(problem);
        }
    };
    let reach = Reach::of(running.address(), &args.public_origin);
    leave_note(&hub, &state, &reach).await?;
    print_welcome(&login_address(&hub, &reach).await?, args.state.as_deref())?;
    if settings.watch_tasks {
        let tasks = bridge.root.join("tasks");
        writeln!(
            io::stdout(),
            "  Folders with an input/TASK.md that are dropped into {} are done as tasks.\n",
            tasks.display()
        )
        .map_err(Problem::output)?;
    }
    if args.open {
        let here = Reach::of(running.address(), &[]);
        browser::open(&login_address(&hub, &here).await?);
    }
    let Bridge {
        supervisor,
        state: link,
        root: _,
    } = bridge;
    tokio::spawn(log_state(link));
    let stopped = supervisor.run(stop).await;
    running.shutdown().await;
    take_note_away(&hub, &state).await;
    let stopped =
        stopped.map_err(|error| Problem::new("the bridge could not run").because(error))?;
    tracing::info!(clean = stopped.clean, "stopped");
    Ok(Exit::Done)
}

async fn start_hub(args: &UpArgs, state: &StateFolder) -> Result<RunningHub, Problem> {
    let config = |port| HubConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], port)),
        public_origins: args.public_origin.clone(),
        ..HubConfig::new(state.hub_data())
    };
    let port = args.port.unwrap_or(USUAL_PORT);
    match bridge_hub::start(config(port)).await {
        Err(StartError::Bind { .. }) if args.port.is_none() => {
            let running = bridge_hub::start(config(0)).await?;
            let taken = running.address().port();
            writeln!(
                io::stderr(),
                "port {port} is in use, the page is at {taken} instead; choose one with --port"
            )
            .map_err(Problem::output)?;
            Ok(running)
        }
        started => Ok(started?),
    }
}

/// The pairing of this machine with its own hub: kept, and made anew when the hub forgot it.
async fn own_token(hub: &Hub, state: &StateFolder) -> Result<Secret, Problem> {
    let known = hub.bridge_tokens().await.map_err(hub_problem)?;
    if let Some(pairing) = state.own_pairing()
        && known.iter().any(|token| token.id == pairing.id)
    {
        return Ok(pairing.token());
    }
    let made = hub
        .create_bridge_token("this machine")
        .await
        .map_err(hub_problem)?;
    state.write_own_pairing(&OwnPairing::new(made.id, &made.secret))?;
    Ok(made.secret)
}

/// Leaves the address and a fresh token for `ctrlnode task …`; the one before becomes invalid.
pub(crate) async fn leave_note(
    hub: &Hub,
    state: &StateFolder,
    reach: &Reach,
) -> Result<(), Problem> {
    if let Some(old) = state.note()
        && let Err(error) = hub.revoke_api_token(&old.token_id).await
    {
        tracing::debug!(%error, "the token of the last start was already gone");
    }
    let made = hub
        .create_api_token("command line")
        .await
        .map_err(hub_problem)?;
    state.write_note(&Note::new(reach, made.id, &made.secret))
}

/// Nobody shall look for a hub that has ended, and its token shall let nobody in at the next one.
/// Until then it is told that the hub stops rather than that its token is wrong.
pub(crate) async fn take_note_away(hub: &Hub, state: &StateFolder) {
    if let Some(note) = state.note()
        && let Err(error) = hub.revoke_api_token(&note.token_id).await
    {
        tracing::warn!(%error, "the token of the command line could not be revoked");
    }
    state.remove_note();
}

/// The page's address with a one-time login.
pub(crate) async fn login_address(hub: &Hub, reach: &Reach) -> Result<String, Problem> {
    let code = hub.create_login_code().await.map_err(hub_problem)?;
    Ok(reach.page(&format!("/login?code={}", code.expose())))
}

pub(crate) fn hub_problem(error: bridge_hub::HubError) -> Problem {
    Problem::new("the hub could not be set up").because(error)
}

fn print_welcome(address: &str, state: Option<&Path>) -> Result<(), Problem> {
    let mut out = io::stdout();
    let text = format!(
        "\n  ctrlnode is up. Open this address (the login in it works once):\n\n    {address}\n\n  \
         Or from another terminal:\n\n    {}{} run --agent demo \"write a haiku\"\n\n  \
         Ctrl-C stops everything.\n\n",
        invocation::again("task"),
        invocation::with_state(state),
    );
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(Problem::output)
}

/// Of the page, where none was named.
const USUAL_PORT: u16 = 7433;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_token_of_the_command_line_ends_with_the_hub_or_at_its_next_start() {
        let home = tempfile::tempdir().unwrap();
        let state = StateFolder::locate(Some(home.path())).unwrap();
        let config = HubConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            ..HubConfig::new(state.hub_data())
        };
        let running = bridge_hub::start(config).await.unwrap();
        let hub = running.hub();
        let reach = Reach::of(running.address(), &[]);
        leave_note(&hub, &state, &reach).await.unwrap();
        let killed = state.note().unwrap().token_id;
        leave_note(&hub, &state, &reach).await.unwrap();
        let known = hub.api_tokens().await.unwrap();
        assert_eq!(known.len(), 1);
        assert_ne!(known[0].id, killed);
        running.shutdown().await;
        take_note_away(&hub, &state).await;
        assert!(hub.api_tokens().await.unwrap().is_empty());
        assert!(state.note().is_none());
    }
}
