//! `ctrlnode login` and `ctrlnode logout`: a token for this machine without copying one, and its
//! end here.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    time::{Duration, Instant},
};

use bridge_proto::{
    Secret,
    ctrlnode::device::{self, DeviceGrant, DeviceRequest, Polled},
};
use bridge_workspace::env_file;
use reqwest::{Method, StatusCode};
use url::Url;

use super::setup;
use crate::{
    args::LoginArgs,
    browser, daemon,
    device_login::{DeviceLogin, Heard, LoginError, Next},
    report::{Exit, Problem},
    settings::{Settings, places},
    shown_address::shown,
    side_channel::{Said, SideChannel, SideError},
};

/// Waits until a person has let this machine in, and writes the token to `~/.ctrlnode/.env`.
pub(crate) async fn run(args: LoginArgs) -> Result<Exit, Problem> {
    let settings = Settings::load(None)?;
    let plane = match &args.url {
        Some(url) => setup::plane_address(url, settings.allow_plain)?,
        None => settings.url_of_the_user(),
    };
    asked_over_http(&plane)?;
    let file = own_file()?;
    let plain = settings.allow_plain;
    let channel = SideChannel::new(&plane, plain, &settings.tls).map_err(|error| {
        let hint = match &error {
            SideError::Tls(_) => "mend the files that SSL_CERT_FILE and CTRLNODE_TLS_* name",
            SideError::Address { .. }
            | SideError::ClearText { .. }
            | SideError::Network(_)
            | SideError::TooLarge => {
                "use wss://, or set CTRLNODE_ALLOW_PLAIN=1 on a network you trust"
            }
        };
        let plane = shown(&plane);
        Problem::new(format!("{plane} cannot be asked for a login"))
            .hint(hint)
            .because(error)
            .exit(Exit::NotConfigured)
    })?;
    let grant = begin(&channel, &plane).await?;
    let address = page_of(&grant);
    let text = format!(
        "To let this machine in, open\n\n  {address}\n\nand check that the page shows this code: {}\n",
        grant.user_code
    );
    writeln!(io::stdout(), "{text}").map_err(Problem::output)?;
    if !args.no_browser && io::stdout().is_terminal() {
        browser::open(&address);
    }
    let token = wait(&channel, &grant).await?;
    setup::write(
        &file,
        &[("SAAS_URL", &plane), ("PAIRING_TOKEN", token.expose())],
    )?;
    let text = format!(
        "This machine is paired; the token is in {file}. Agents may work below {base}, and of file \
         contents {contents} may leave it: BASE_PATH and CTRLNODE_CONTENTS there change that. \
         Start the bridge with `ctrlnode`.",
        file = file.display(),
        base = settings.base.display(),
        contents = settings.contents,
    );
    writeln!(io::stdout(), "{text}").map_err(Problem::output)?;
    Ok(Exit::Done)
}

/// Takes the token out of this machine's own files.
pub(crate) fn log_out() -> Result<Exit, Problem> {
    let settings = Settings::load(None)?;
    let own = settings.discovery.files.iter();
    let own = own.filter(|file| file.origin.is_written_here());
    let mut taken = Vec::new();
    for file in own {
        let removed = env_file::remove(&file.path, &["PAIRING_TOKEN"]).map_err(|error| {
            Problem::new(format!("{} could not be written", file.path.display()))
                .hint("check that the file and its folder are yours")
                .because(error)
        })?;
        if removed {
            taken.push(file.path.display().to_string());
        }
    }
    let left = Settings::load(None)?.pairing;
    if left.token.is_some() {
        let place = left.file.map_or_else(
            || "the environment (PAIRING_TOKEN)".to_owned(),
            |file| file.display().to_string(),
        );
        return Err(Problem::new(format!("there is still a token in {place}"))
            .hint("take it away there; it is not a file of ctrlnode's own"));
    }
    let text = if taken.is_empty() {
        "This machine was not paired.".to_owned()
    } else {
        format!(
            "The token was removed from {}. The control plane still knows it: remove the machine \
             there too. A bridge that runs keeps its connection until it is stopped.",
            taken.join(" and ")
        )
    };
    writeln!(io::stdout(), "{text}").map_err(Problem::output)?;
    Ok(Exit::Done)
}

fn own_file() -> Result<PathBuf, Problem> {
    let home = places(None).home.ok_or_else(|| {
        Problem::new("there is no home folder to write the token to").exit(Exit::NotConfigured)
    })?;
    Ok(home.join(".ctrlnode").join(".env"))
}

/// The address of a plane for lines leads to nobody who could be asked.
fn asked_over_http(plane: &str) -> Result<(), Problem> {
    let scheme = plane.split_once("://").map(|(scheme, _)| scheme);
    if !matches!(scheme, Some("tcp" | "tls")) {
        return Ok(());
    }
    Err(Problem::new(format!(
        "a login is asked over HTTP, and {} is for lines",
        shown(plane)
    ))
    .hint(
        "name the hub's page: ctrlnode login --url https://…; or pair with a token: ctrlnode setup",
    )
    .exit(Exit::NotConfigured))
}

async fn begin(channel: &SideChannel, plane: &str) -> Result<DeviceGrant, Problem> {
    let request = DeviceRequest {
        hostname: daemon::hostname(),
        platform: platform().to_owned(),
        bridge_version: format!("v{}", env!("CARGO_PKG_VERSION")),
    };
    let plane = shown(plane);
    let refused = || Problem::new(format!("{plane} gave no code for a login"));
    let body = Some(request.write());
    let Said { status, body } = channel
        .ask(Method::POST, device::CODE_PATH, body, PATIENCE)
        .await
        .map_err(|error| refused().because(error))?;
    let grant = (status == StatusCode::OK).then(|| DeviceGrant::read(&body));
    grant.flatten().ok_or_else(|| {
        refused()
            .because(format!("status {}", status.as_u16()))
            .hint("check the address; a control plane that knows no device login needs a token: `ctrlnode setup`")
    })
}

async fn wait(channel: &SideChannel, grant: &DeviceGrant) -> Result<Secret, Problem> {
    let mut login = DeviceLogin::new(Instant::now(), grant);
    let mut after = login.wait();
    loop {
        tokio::time::sleep(after).await;
        let body = Some(device::write_poll(&grant.device_code));
        let said = channel
            .ask(Method::POST, device::TOKEN_PATH, body, PATIENCE)
            .await;
        let heard = match said {
            Ok(Said { status, body }) => Heard::Said(Polled::read(status.as_u16(), &body)),
            Err(error) => Heard::Lost(Problem::new("no answer").because(error).with_causes()),
        };
        match login.on_answer(Instant::now(), heard) {
            Next::Done(token) => return Ok(token),
            Next::Ask { after: next, note } => {
                after = next;
                if let Some(note) = note {
                    tracing::warn!(note, "the control plane cannot be asked now; still waiting");
                }
            }
            Next::Failed(error) => {
                let hint = match &error {
                    LoginError::Denied => "whoever opened the page said no",
                    LoginError::Expired => "run `ctrlnode login` again",
                    LoginError::Odd { .. } => "check the address of the control plane",
                };
                return Err(Problem::new("this machine was not let in")
                    .because(error)
                    .hint(hint));
            }
        }
    }
}

/// The page with the code filled in.
fn page_of(grant: &DeviceGrant) -> String {
    match Url::parse(&grant.verification_uri) {
        Ok(mut url) => {
            url.query_pairs_mut().append_pair("code", &grant.user_code);
            url.into()
        }
        Err(_) => grant.verification_uri.clone(),
    }
}

/// As the wire calls it.
fn platform() -> &'static str {
    match std::env::consts::OS {
        "macos" => "darwin",
        "windows" => "win32",
        other => other,
    }
}

/// For one of the questions.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_at_an_address_for_lines_says_to_name_the_page() {
        for plane in ["tcp://127.0.0.1:7434", "tls://hub.example.org:7434"] {
            let report = asked_over_http(plane).unwrap_err().report();
            assert!(report.contains("--url https://"), "{report}");
        }
        assert!(asked_over_http("wss://hub.example.org/ws/bridge").is_ok());
    }
}
