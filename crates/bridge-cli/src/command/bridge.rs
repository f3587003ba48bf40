//! `ctrlnode` and `ctrlnode bridge start`: the daemon in the foreground.

use bridge_transport::{LinkState, Phase};
use tokio::sync::watch;

use crate::{
    args::StartArgs,
    daemon::{self, Bridge, Plane},
    link_note, recording,
    report::{Exit, Problem},
    settings::Settings,
    signals,
};

/// Runs until SIGINT or SIGTERM.
pub(crate) async fn start(args: StartArgs) -> Result<Exit, Problem> {
    let stop = signals::stop_asked();
    let mut settings = Settings::load(None)?;
    settings.watch_tasks |= args.watch_tasks;
    let token = settings.token()?;
    let (tokens, token) = watch::channel(token);
    let plane = Plane {
        url: settings.url().to_owned(),
        token,
    };
    let record = match &args.record {
        None => None,
        Some(path) => {
            tracing::warn!(file = %path.display(), "every frame is recorded, with prompts and answers");
            Some(recording::begin(path, settings.secrets())?)
        }
    };
    let bridge = daemon::assemble(&settings, None, plane, record)?;
    daemon::follow_token(tokens, bridge.state.clone());
    tracing::info!(
        workspace = %settings.base.display(),
        plane = settings.shown_url(),
        "bridge starting"
    );
    let Bridge {
        supervisor,
        state,
        root,
    } = bridge;
    tokio::spawn(log_state(state.clone()));
    let noting = tokio::spawn(link_note::keep(root.clone(), state));
    let stopped = supervisor.run(stop).await;
    noting.abort();
    // Nothing may be written after the note was taken away.
    drop(noting.await);
    link_note::remove(&root);
    let stopped =
        stopped.map_err(|error| Problem::new("the bridge could not run").because(error))?;
    tracing::info!(clean = stopped.clean, "bridge stopped");
    Ok(Exit::Done)
}

/// Says what a user would call an event of the connection.
pub(crate) async fn log_state(mut state: watch::Receiver<LinkState>) {
    let mut before = None;
    loop {
        let now = state.borrow_and_update().clone();
        if now.phase == Phase::Doubtful {
            tracing::debug!("the connection is open, and no ping was answered for a while");
        } else if before != Some(now.phase) {
            let error = now.last_error.as_deref().unwrap_or_default();
            match now.phase {
                Phase::Online => tracing::info!(extended = now.extended, "connected"),
                Phase::Waiting => tracing::warn!(error, attempt = now.attempt, "not connected"),
                Phase::AuthRequired => tracing::warn!(
                    error,
                    "the control plane does not accept the pairing token; run `ctrlnode setup` to pair again"
                ),
                Phase::Doubtful | Phase::Dialing | Phase::Draining | Phase::Stopped => {}
            }
            before = Some(now.phase);
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}
