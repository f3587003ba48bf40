//! `ctrlnode setup`: which folder, which control plane, which token, what may leave the machine.
//! Asks in a terminal; with `--token-stdin` it asks nothing.

use std::{
    io::{self, BufRead, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    str::FromStr as _,
};

use bridge_proto::Secret;
use bridge_transport::Endpoint;
use bridge_workspace::{ContentsPolicy, env_file};
use url::Url;

use crate::{
    args::SetupArgs,
    command::doctor,
    daemon,
    plane_address::{DOOR, leads_nowhere},
    report::{Exit, Problem},
    settings::{DEFAULT_URL, Settings, named_folder, places},
    shown_address::shown,
};

struct Answers {
    workspace: PathBuf,
    url: String,
    token: Option<Secret>,
    contents: ContentsPolicy,
}

/// Writes `~/.ctrlnode/.env`, keeping every other line of it.
/// Tells whether the token is another one than before.
pub(crate) fn run(args: &SetupArgs) -> Result<bool, Problem> {
    let known = Settings::load(args.workspace.clone())?;
    let answers = if args.token_stdin {
        unasked(args, &known)?
    } else if io::stdin().is_terminal() {
        asked(args, &known)?
    } else {
        return Err(Problem::new("setup asks questions, and there is no terminal to ask in")
            .hint("give the token on standard input: ctrlnode setup --token-stdin --workspace DIR < token"));
    };
    let workspace = answers.workspace.canonicalize().map_err(|error| {
        Problem::new(format!(
            "{} cannot be the workspace",
            answers.workspace.display()
        ))
        .hint("name an existing folder of yours")
        .because(error)
    })?;
    let url = plane_address(&answers.url, known.allow_plain)?;
    let home = places(None).home.ok_or_else(|| {
        Problem::new("there is no home folder to write the settings to").exit(Exit::NotConfigured)
    })?;
    let file = home.join(".ctrlnode").join(".env");
    let workspace = workspace.display().to_string();
    let token = answers.token.as_ref().map(Secret::expose);
    let mut values = vec![
        ("BASE_PATH", workspace.as_str()),
        ("SAAS_URL", url.as_str()),
        ("CTRLNODE_CONTENTS", answers.contents.as_str()),
    ];
    values.extend(token.map(|token| ("PAIRING_TOKEN", token)));
    write(&file, &values)?;
    let text = format!(
        "Saved to {}. Start the bridge with `ctrlnode`.",
        file.display()
    );
    writeln!(io::stdout(), "{text}").map_err(Problem::output)?;
    Ok(answers.token.is_some() && answers.token != known.pairing.token)
}

/// One try with what was just saved. Says what came of it; the settings stay either way. A plane
/// that refuses the token is a failure, one that cannot be reached now is none.
pub(crate) async fn try_out(new_token: bool) -> Result<Exit, Problem> {
    let settings = Settings::load(None)?;
    let (found, refused) = doctor::plane_in_words(&settings, new_token).await;
    writeln!(io::stderr(), "{found}").map_err(Problem::output)?;
    Ok(if refused { Exit::Failed } else { Exit::Done })
}

pub(super) fn write(file: &Path, values: &[(&str, &str)]) -> Result<(), Problem> {
    env_file::set(file, values).map_err(|error| {
        Problem::new(format!("{} could not be written", file.display()))
            .hint("check that the file and its folder are yours")
            .because(error)
    })
}

fn unasked(args: &SetupArgs, known: &Settings) -> Result<Answers, Problem> {
    let line = first_line(io::stdin().lock())
        .map_err(|error| Problem::new("standard input cannot be read").because(error))?;
    let token = checked_token(&line)?.ok_or_else(|| {
        Problem::new("there was no token on standard input").hint("pipe the pairing token into it")
    })?;
    Ok(Answers {
        workspace: known.base.clone(),
        url: args.url.clone().unwrap_or_else(|| known.url_of_the_user()),
        token: Some(token),
        contents: contents(args.contents.as_deref(), known)?,
    })
}

fn asked(args: &SetupArgs, known: &Settings) -> Result<Answers, Problem> {
    let gone = |error: io::Error| {
        Problem::new("setup was not finished; nothing was changed")
            .exit(Exit::Interrupted)
            .because(error)
    };
    cliclack::intro("Pair this machine with a control plane").map_err(gone)?;
    let workspace = if args.workspace.is_some() {
        known.base.clone()
    } else {
        let before = known.base.display().to_string();
        let text: String = cliclack::input("Which folder may the agents work in?")
            .default_input(&before)
            .validate(|text: &String| {
                if named_folder(text.into()).is_dir() {
                    Ok(())
                } else {
                    Err("there is no such folder")
                }
            })
            .interact()
            .map_err(gone)?;
        named_folder(text.into())
    };
    let plain = known.allow_plain;
    let url = match &args.url {
        Some(url) => url.clone(),
        None => cliclack::input("Where is the control plane?")
            .default_input(known.pairing.url.as_deref().unwrap_or(DEFAULT_URL))
            .validate(move |text: &String| match plane_address(text, plain) {
                Ok(_) => Ok(()),
                Err(problem) => Err(problem.to_string()),
            })
            .interact()
            .map_err(gone)?,
    };
    let paired = known.pairing.token.is_some();
    let question = if paired {
        "Pairing token (empty keeps the one you have)"
    } else {
        "Pairing token (from the settings page, or `ctrlnode hub token create` on your own hub)"
    };
    let mut password = cliclack::password(question).mask('•');
    if paired {
        password = password.allow_empty();
    }
    let token = checked_token(&password.interact().map_err(gone)?)?;
    let contents = match &args.contents {
        Some(_) => contents(args.contents.as_deref(), known)?,
        None => cliclack::select("Which file contents may leave this machine?")
            .initial_value(known.contents)
            .item(
                ContentsPolicy::TaskOutputs,
                "those of the task folders",
                "recommended",
            )
            .item(
                ContentsPolicy::Workspace,
                "everything in the workspace",
                "the web app's file browser and diffs need this",
            )
            .item(ContentsPolicy::Never, "none", "streamed answers only")
            .interact()
            .map_err(gone)?,
    };
    cliclack::outro("Done.").map_err(gone)?;
    Ok(Answers {
        workspace,
        url,
        token,
        contents,
    })
}

fn contents(wanted: Option<&str>, known: &Settings) -> Result<ContentsPolicy, Problem> {
    let Some(wanted) = wanted else {
        return Ok(known.contents);
    };
    ContentsPolicy::from_str(wanted)
        .map_err(|error| Problem::new("--contents cannot be used").because(error))
}

/// The address of a plane in what was typed: the address of a page leads to its door for machines.
pub(super) fn plane_address(text: &str, allow_plain: bool) -> Result<String, Problem> {
    let known = [
        ("wss", "wss"),
        ("https", "wss"),
        ("ws", "ws"),
        ("http", "ws"),
        ("tls", "tls"),
        ("tcp", "tcp"),
    ];
    let (scheme, rest) = text.trim().split_once("://").unwrap_or_default();
    let scheme = known
        .iter()
        .find(|(typed, _)| scheme.eq_ignore_ascii_case(typed));
    let url = scheme.and_then(|(_, scheme)| Url::parse(&format!("{scheme}://{rest}")).ok());
    let Some(mut url) = url else {
        return Err(
            Problem::new(format!("{} is no address of a control plane", shown(text)))
                .hint("for example https://hub.example.org or wss://hub.example.org/ws/bridge; tcp:// or tls:// with a port for lines"),
        );
    };
    if leads_nowhere(&url) && !matches!(url.scheme(), "tcp" | "tls") {
        url.set_path(DOOR);
    }
    let checked = if allow_plain {
        Endpoint::allow_plain(url.as_str())
    } else {
        Endpoint::new(url.as_str())
    };
    match checked {
        Ok(_) => Ok(url.into()),
        Err(error) => Err(
            Problem::new(format!("{} cannot be used: {error}", shown(text)))
                .hint(daemon::how_to_write(&error)),
        ),
    }
}

/// The first line with something on it, or nothing; what stands below it is not the token.
fn first_line(input: impl BufRead) -> io::Result<String> {
    for line in input.take(MAX_TOKEN).lines() {
        let line = line?;
        if !line.trim().is_empty() {
            return Ok(line);
        }
    }
    Ok(String::new())
}

/// A token is one visible word; anything else was pasted wrongly.
fn checked_token(text: &str) -> Result<Option<Secret>, Problem> {
    let token = Secret::new(text);
    if token.is_empty() {
        return Ok(None);
    }
    if token.expose().chars().all(|c| c.is_ascii_graphic()) {
        return Ok(Some(token));
    }
    Err(
        Problem::new("the token has spaces or characters that no token has")
            .hint("paste the token alone, without quotes or line breaks"),
    )
}

/// Far more than any token.
const MAX_TOKEN: u64 = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pasted_token_is_one_visible_word() {
        assert_eq!(
            checked_token(" tok_1\n").unwrap(),
            Some(Secret::new("tok_1"))
        );
        assert_eq!(checked_token("\n").unwrap(), None);
        assert!(checked_token("tok 1").is_err());
    }

    #[test]
    fn the_first_line_with_something_on_it_is_the_token() {
        let read = |text: &str| first_line(text.as_bytes()).unwrap();
        assert_eq!(read("\n  \ntok_1\n\n  a note\n"), "tok_1");
        assert_eq!(read("\n"), "");
        assert_eq!(read(&"x".repeat(20_000)).len(), 16 * 1024);
    }

    #[test]
    fn the_address_of_a_page_leads_to_its_door_for_machines() {
        let door = |text| plane_address(text, false).unwrap();
        for text in [
            "wss://hub.example.org/ws/bridge",
            "https://hub.example.org",
            " HTTPS://hub.example.org/ ",
        ] {
            assert_eq!(door(text), "wss://hub.example.org/ws/bridge");
        }
        assert_eq!(door("http://127.0.0.1:1"), "ws://127.0.0.1:1/ws/bridge");
        assert_eq!(door("wss://a.example/door"), "wss://a.example/door");
        assert!(plane_address("ftp://hub.example.org", false).is_err());
        assert!(plane_address("hub", false).is_err());
    }

    #[test]
    fn a_token_is_not_set_up_to_travel_in_clear_text() {
        let refused = plane_address("http://box:7433", false).unwrap_err();
        assert!(refused.report().contains("CTRLNODE_ALLOW_PLAIN"));
        assert!(plane_address("http://box:7433", true).is_ok());
    }

    #[test]
    fn an_address_that_cannot_be_used_is_told_how_to_be_one_and_not_its_secrets() {
        let told = |text| plane_address(text, false).unwrap_err().report();
        let without_port = told("tcp://127.0.0.1");
        assert!(
            without_port.contains("tcp://127.0.0.1:7434"),
            "{without_port}"
        );
        assert!(!without_port.contains("ALLOW_PLAIN"), "{without_port}");
        let unknown = told("ftp://hub.example.org/?token=SECRET");
        for known in ["https://", "wss://", "tcp://", "tls://"] {
            assert!(unknown.contains(known), "{unknown}");
        }
        for text in [&unknown, &told("http://me:SECRET@box?token=SECRET")] {
            assert!(!text.contains("SECRET"), "{text}");
        }
    }
}
