//! When the person or the system says stop.

/// Comes back at the first SIGINT or SIGTERM (Ctrl-C elsewhere).
pub(crate) async fn stop_asked() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let both = (
            signal(SignalKind::interrupt()),
            signal(SignalKind::terminate()),
        );
        let (Ok(mut interrupt), Ok(mut terminate)) = both else {
            tracing::error!("signals cannot be heard; stop the process by other means");
            return std::future::pending().await;
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
    #[cfg(not(unix))]
    if let Err(error) = tokio::signal::ctrl_c().await {
        tracing::error!(%error, "signals cannot be heard; stop the process by other means");
        std::future::pending::<()>().await;
    }
}
