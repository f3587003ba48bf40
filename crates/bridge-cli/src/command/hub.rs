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
    invocation,
    reach::Reach,
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
                TokenCommand::Create { name } => create_token(&client, &name).await?,
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
            let client = Client::find(&hub)?;
            let address = client.login_address().await?;
            say(&address)?;
            limits(client.reach())?;
            Ok(Exit::Done)
        }
    }
}

/// The token alone on standard output, so that it can be piped; what to do with it beside.
async fn create_token(client: &Client, name: &str) -> Result<(), Problem> {
    let mut known = client.pairing_tokens().await?.into_iter();
    if let Some(known) = known.find(|token| token.name == name) {
        return Err(
            Problem::new(format!("a machine called {name} has a token already")).hint(format!(
                "take another name, or revoke that token first: `{} token revoke {}`",
                invocation::again("hub"),
                known.id
            )),
        );
    }
    let made = client.make_pairing_token(name).await?;
    say(&made.token)?;
    tell(&format!(
        "\n  The line above is the pairing token of {name} (id {}), shown this once. Give it to\n  \
         this command on that machine:\n\n    ctrlnode setup --url {} --token-stdin\n",
        made.id,
        client.reach().door(),
    ))?;
    limits(client.reach())
}

async fn serve(args: ServeArgs) -> Result<Exit, Problem> {
    let stop = signals::stop_asked();
    let state = StateFolder::locate(args.state.as_deref())?;
    let _lock = state.lock()?;
    let config = HubConfig {
        listen: args.listen,
        expose: args.expose,
        public_origins: args.public_origin.clone(),
        retention: Duration::from_secs(u64::from(args.retention) * 24 * 3600),
        ..HubConfig::new(state.hub_data())
    };
    let running = bridge_hub::start(config).await?;
    let hub = running.hub();
    let reach = Reach::of(running.address(), &args.public_origin);
    leave_note(&hub, &state, &reach).await?;
    let address = login_address(&hub, &reach).await?;
    say(&format!(
        "\n  The hub is up. Open this address (the login in it works once):\n\n    {address}\n\n  \
         Pair a machine with `{} token create <name>{}`. Ctrl-C stops the hub.\n",
        invocation::again("hub"),
        invocation::with_state(args.state.as_deref()),
    ))?;
    limits(&reach)?;
    stop.await;
    state.remove_note();
    running.shutdown().await;
    Ok(Exit::Done)
}

/// Says what an address that was just printed cannot do.
fn limits(reach: &Reach) -> Result<(), Problem> {
    match reach.limits() {
        Some(limits) => tell(&format!("  {limits}\n")),
        None => Ok(()),
    }
}

fn say(line: &str) -> Result<(), Problem> {
    writeln!(io::stdout(), "{line}").map_err(Problem::output)
}

fn tell(line: &str) -> Result<(), Problem> {
    writeln!(io::stderr(), "{line}").map_err(Problem::output)
}
