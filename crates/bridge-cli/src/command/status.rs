//! `ctrlnode status`: whether this machine is paired and its bridge at work, in a moment; starts
//! nothing and asks nobody. `doctor` looks closer.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use bridge_workspace::lock;
use serde_json::json;

use crate::{
    link_note::{Connection, LinkNote},
    render::plain,
    report::{Exit, Problem},
    settings::{Settings, variable},
    state::StateFolder,
};

/// Says it; exits as not configured when there is no token or a file is broken.
pub(crate) fn run(as_json: bool) -> Result<Exit, Problem> {
    let settings = Settings::look()?;
    let paired = settings.pairing.token.is_some();
    let file = settings.pairing.file.as_ref();
    let token_from = match (paired, file) {
        (false, _) => None,
        (true, Some(file)) => Some(file.display().to_string()),
        (true, None) => Some("the environment".to_owned()),
    };
    let root = settings.base.join(".ctrlnode");
    let holder = lock::holder(&root);
    let note = holder
        .as_ref()
        .and_then(|holder| LinkNote::of(&root, holder));
    let connection = note.as_ref().map(|note| match note.connection {
        Connection::Online => "connected",
        Connection::Doubtful => "open, but nothing was heard for a while",
        Connection::Connecting => "connecting",
        Connection::Failed => "not connected",
        Connection::TokenRefused => "token refused",
    });
    let error = note.and_then(|note| note.error);
    let up = of_up()?;
    let broken: Vec<String> = settings.broken.iter().map(Problem::with_causes).collect();
    let report = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "plane": settings.shown_url(),
        "paired": paired,
        "token_from": token_from,
        "workspace": settings.base,
        "bridge": holder.as_ref().map(|holder| json!({
            "pid": holder.pid, "connection": connection, "error": error,
        })),
        "up": up.as_ref().map(|up| json!({ "pid": up.pid, "page": up.page })),
        "broken": broken,
    });
    let text = if as_json {
        serde_json::to_string_pretty(&report)
            .map_err(|error| Problem::new("the report cannot be written").because(error))?
    } else {
        let pairing = token_from.map_or_else(
            || "not paired; run `ctrlnode login` or `ctrlnode setup`".to_owned(),
            |from| format!("paired, by the token in {from}"),
        );
        let bridge = match (&holder, connection, &error) {
            (None, _, _) => "not running".to_owned(),
            (Some(holder), connection, error) => {
                let connection = connection.unwrap_or("its connection is not known");
                let error = error.as_ref().map(|error| format!(": {error}"));
                let error = error.unwrap_or_default();
                format!("running (process {}), {connection}{error}", holder.pid)
            }
        };
        let up = match &up {
            None => "not running".to_owned(),
            Some(RunningUp { pid, page: None }) => format!("running (process {pid})"),
            Some(RunningUp {
                pid,
                page: Some(page),
            }) => format!("running (process {pid}), its page is at {page}"),
        };
        let mut lines = vec![
            ("plane", settings.shown_url()),
            ("pairing", pairing),
            ("bridge", bridge),
            ("up", up),
            ("workspace", settings.base.display().to_string()),
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ];
        let line = |(name, text): (&str, String)| format!("{name:<11}{}", plain(&text));
        lines.extend(broken.into_iter().map(|what| ("broken", what)));
        let lines: Vec<String> = lines.into_iter().map(line).collect();
        lines.join("\n")
    };
    writeln!(io::stdout(), "{text}").map_err(Problem::output)?;
    Ok(if paired && settings.broken.is_empty() {
        Exit::Done
    } else {
        Exit::NotConfigured
    })
}

/// `ctrlnode up` at work on this machine, with a bridge of its own.
struct RunningUp {
    pid: u32,
    page: Option<String>,
}

fn of_up() -> Result<Option<RunningUp>, Problem> {
    let named = variable("CTRLNODE_STATE").map(PathBuf::from);
    let state = StateFolder::locate(named.as_deref())?;
    Ok(lock::holder(&state.bridge_root()).map(|holder| RunningUp {
        pid: holder.pid,
        page: state.note().map(|note| note.address),
    }))
}
