//! `ctrlnode hub …`: the hub by itself, its pairing tokens, a fresh login.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use bridge_hub::{HubConfig, TokenView};
use serde_json::{Value, json};

use super::up::{leave_note, login_address, take_note_away};
use crate::{
    args::{HubCommand, ServeArgs, TokenCommand},
    client::Client,
    invocation,
    reach::Reach,
    render::plain,
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
                TokenCommand::List { json } => list_tokens(&client, json).await?,
                TokenCommand::Revoke { token } => {
                    let known = client.pairing_tokens().await?;
                    client.revoke_pairing_token(named(&known, &token)?).await?;
                }
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
                "take another name, or revoke that token first: `{} token revoke {}{}`",
                invocation::again("hub"),
                known.id,
                invocation::same_hub(),
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

async fn list_tokens(client: &Client, json: bool) -> Result<(), Problem> {
    let tokens = client.pairing_tokens().await?;
    let machines = client.machines().await?;
    let online = |token: &TokenView| {
        let mut machines = machines.iter();
        machines.any(|machine| machine.online && machine.id.as_str() == token.id)
    };
    if json {
        let tokens: Vec<Value> = tokens
            .iter()
            .map(|token| {
                json!({
                    "id": token.id, "name": token.name, "created": token.created,
                    "used": token.used, "online": online(token),
                })
            })
            .collect();
        let text = serde_json::to_string_pretty(&tokens)
            .map_err(|error| Problem::new("the list cannot be written as JSON").because(error))?;
        return say(&text);
    }
    for token in &tokens {
        let seen = match token.used {
            _ if online(token) => "on line".to_owned(),
            Some(at) => format!("last seen {at}"),
            None => "never seen".to_owned(),
        };
        say(&format!("{}  {}  {seen}", token.id, plain(&token.name)))?;
    }
    Ok(())
}

/// The id of the one token that is meant: by its id or name, or by the first letters of its id.
fn named<'a>(known: &'a [TokenView], wanted: &'a str) -> Result<&'a str, Problem> {
    let exact = |token: &&TokenView| token.id == wanted || token.name == wanted;
    let begins = |token: &&TokenView| !wanted.is_empty() && token.id.starts_with(wanted);
    let mut fits: Vec<&TokenView> = known.iter().filter(exact).collect();
    if fits.is_empty() {
        fits = known.iter().filter(begins).collect();
    }
    match fits.as_slice() {
        [token] => Ok(&token.id),
        // The hub says what it thinks of an id it does not know.
        [] => Ok(wanted),
        several => {
            let ids: Vec<&str> = several.iter().map(|token| token.id.as_str()).collect();
            Err(Problem::new(format!("{wanted} is not one token"))
                .hint(format!("name one by its id: {}", ids.join(", "))))
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
        lines: args.lines,
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
    if let Some(lines) = running.lines_address() {
        say(&format!(
            "  Machines that speak lines pair with `ctrlnode setup --url tcp://{lines}`.\n"
        ))?;
    }
    limits(&reach)?;
    stop.await;
    running.shutdown().await;
    take_note_away(&hub, &state).await;
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

#[cfg(test)]
mod tests {
    use bridge_proto::Timestamp;

    use super::*;

    #[test]
    fn a_token_is_named_by_its_id_its_beginning_or_its_machine() {
        let token = |id: &str, name: &str| TokenView {
            id: id.into(),
            name: name.into(),
            created: Timestamp::from_millis(0),
            used: None,
        };
        let known = [
            token("ab1", "laptop"),
            token("ab2", "desk"),
            token("c", "desk"),
        ];
        for (wanted, id) in [
            ("ab1", "ab1"),
            ("laptop", "ab1"),
            ("ab2", "ab2"),
            ("no", "no"),
        ] {
            assert_eq!(named(&known, wanted).unwrap(), id);
        }
        assert_eq!(named(&known, "").unwrap(), "");
        for several in ["ab", "desk"] {
            assert!(named(&known, several).is_err(), "{several}");
        }
    }
}
