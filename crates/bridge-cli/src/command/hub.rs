//! `ctrlnode hub …`: the hub by itself, its pairing tokens, a fresh login.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use bridge_hub::HubConfig;

use super::up::{leave_note, login_address};
use crate::{
    args::{HubCommand, ServeArgs, TokenCommand},
    client::Client,
    report::{Exit, Problem},
    signals,
    state::StateFolder,
};

/// Does what was asked of the hub.
pub(crate) async fn run(command: HubCommand) -> Result<Exit, Problem> {
    match command {
        HubCommand::Serve(args) => serve(args).await,
        HubCommand::Token { command, hub } => {
            let client = Client::find(&hub)?;
            match command {
                TokenCommand::Create { name } => {
                    let made = client.make_pairing_token(&name).await?;
                    say(&format!(
                        "{}\n\n  Pairing token of {name} (id {}), shown this once. On that machine:\n  \
                         ctrlnode setup --url {} --token-stdin\n",
                        made.token,
                        made.id,
                        websocket(client.base()),
                    ))?;
                }
                TokenCommand::List => {
                    for token in client.pairing_tokens().await? {
                        let used = token
                            .used
                            .map_or_else(|| "never".into(), |at| at.to_string());
                        say(&format!("{}  {}  last seen {used}", token.id, token.name))?;
                    }
                }
                TokenCommand::Revoke { id } => client.revoke_pairing_token(&id).await?,
            }
            Ok(Exit::Done)
        }
        HubCommand::Login { hub } => {
            let address = Client::find(&hub)?.login_address().await?;
            say(address.as_str())?;
            Ok(Exit::Done)
        }
    }
}

async fn serve(args: ServeArgs) -> Result<Exit, Problem> {
    let stop = signals::stop_asked();
    let state = StateFolder::locate(args.state.as_deref())?;
    let _lock = state.lock()?;
    let config = HubConfig {
        listen: args.listen,
        expose: args.expose,
        public_origins: args.public_origin,
        retention: Duration::from_secs(u64::from(args.retention) * 24 * 3600),
        ..HubConfig::new(state.hub_data())
    };
    let running = bridge_hub::start(config).await?;
    let hub = running.hub();
    leave_note(&hub, &state, running.address()).await?;
    let address = login_address(&hub, running.address()).await?;
    say(&format!(
        "\n  The hub is up. Open this address (the login in it works once):\n\n    {address}\n\n  \
         Pair a machine with `ctrlnode hub token create <name>`. Ctrl-C stops the hub.\n"
    ))?;
    stop.await;
    state.remove_note();
    running.shutdown().await;
    Ok(Exit::Done)
}

fn websocket(base: &url::Url) -> String {
    let scheme = if base.scheme() == "https" {
        "wss"
    } else {
        "ws"
    };
    let port = base
        .port()
        .map(|port| format!(":{port}"))
        .unwrap_or_default();
    format!(
        "{scheme}://{}{port}/ws/bridge",
        base.host_str().unwrap_or_default()
    )
}

fn say(line: &str) -> Result<(), Problem> {
    writeln!(io::stdout(), "{line}").map_err(Problem::output)
}
