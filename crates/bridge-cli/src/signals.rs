//! When the person or the system says stop.

/// Resolves at the first SIGINT or SIGTERM (Ctrl-C elsewhere). Both are listened for from this
/// call on, not only once the future is polled: a stop during the start is not lost.
pub(crate) fn stop_asked() -> impl Future<Output = ()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let both = (
            signal(SignalKind::interrupt()),
            signal(SignalKind::terminate()),
        );
        async {
            let (Ok(mut interrupt), Ok(mut terminate)) = both else {
                tracing::error!("signals cannot be heard; stop the process by other means");
                return std::future::pending().await;
            };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
    }
    #[cfg(not(unix))]
    async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::error!(%error, "signals cannot be heard; stop the process by other means");
            std::future::pending::<()>().await;
        }
    }
}
