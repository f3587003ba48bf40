//! Opening an address in the user's browser, best effort.

use bridge_providers::{
    host::Host,
    process::{AllowList, Launch},
};

/// Opens it, or says that it could not; the address was printed anyway.
pub(crate) fn open(address: &str) {
    let host = Host::new(std::env::vars_os());
    let (names, before): (&[&str], &[&str]) = if cfg!(target_os = "macos") {
        (&["open"], &[])
    } else if cfg!(windows) {
        (&["explorer"], &[])
    } else {
        (&["xdg-open", "gio"], &[])
    };
    let Some(program) = host.find_program(names, &[]) else {
        tracing::warn!("no program to open the page with was found");
        return;
    };
    let display = [
        "DISPLAY",
        "WAYLAND_DISPLAY",
        "XAUTHORITY",
        "DBUS_SESSION_BUS_ADDRESS",
    ];
    let launch = Launch {
        program,
        args: before
            .iter()
            .map(Into::into)
            .chain([address.into()])
            .collect(),
        directory: std::env::temp_dir(),
        env: host.environment(&AllowList::base().with(display)),
        run: None,
    };
    tokio::spawn(async move {
        let limit = std::time::Duration::from_secs(20);
        if let Err(error) = bridge_providers::process::run_to_end(launch, limit, 4096).await {
            tracing::warn!(%error, "the page could not be opened in the browser");
        }
    });
}
