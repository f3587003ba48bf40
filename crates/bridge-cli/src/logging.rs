//! The log on standard error. Tokens are never given to it; prompts only at TRACE.

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, fmt};

use crate::args::{LogArgs, LogFormat};

/// Installs the subscriber. `default` is the level when nothing was asked for.
pub(crate) fn start(args: &LogArgs, default: &str) {
    let wanted = args.log.as_deref().unwrap_or(default);
    let parsed = EnvFilter::try_new(wanted);
    let unreadable = parsed.is_err();
    let filter = parsed.unwrap_or_else(|_| EnvFilter::new(default));
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours);
    let installed = match args.log_format {
        LogFormat::Text => lines.with_target(false).try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    if installed.is_err() {
        tracing::debug!("a log was already installed");
    }
    if unreadable {
        tracing::warn!(
            filter = wanted,
            "the log filter cannot be read; the default is used"
        );
    }
}
