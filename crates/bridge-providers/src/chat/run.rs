//! What this binary does as a chat agent: serve a conversation, or answer one question about the
//! endpoint and end.

use std::{
    io::{self, BufRead, Write},
    time::Duration,
};

use bridge_proto::Secret;
use thiserror::Error;

use super::{
    agent,
    endpoint::{Endpoint, EndpointError},
    settings::ChatSettings,
    trouble::Trouble,
};

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChatJob {
    /// Speak the Agent Client Protocol until the input ends.
    Serve,
    /// Look whether the endpoint is there and lets us in; prints its version where it tells one.
    Check,
    /// Print the models that may be used, one a line.
    Models,
}

/// Why it was not done.
#[derive(Debug, Error)]
pub enum ChatError {
    /// The settings are missing or not ours.
    #[error("the variable {} cannot be read: {reason}", ChatSettings::VARIABLE)]
    Settings {
        /// What is wrong.
        reason: String,
    },
    /// Nobody answers there, or not as an endpoint.
    #[error("{0}")]
    Unreachable(String),
    /// The endpoint does not let us in.
    #[error("{0}")]
    Refused(String),
    /// Input or output failed.
    #[error("input or output failed")]
    Io(#[from] io::Error),
}

impl ChatError {
    /// The exit code that belongs to it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Io(_) => 1,
            Self::Settings { .. } => 2,
            Self::Unreachable(_) => UNREACHABLE,
            Self::Refused(_) => REFUSED,
        }
    }
}

/// Does the job. `settings` is the value of [`ChatSettings::VARIABLE`], `key` that of
/// [`ChatSettings::KEY_VARIABLE`]. Blocks; must not be called on a Tokio runtime.
pub fn run(
    job: ChatJob,
    settings: Option<&str>,
    key: Option<&Secret>,
    input: impl BufRead + Send + 'static,
    mut output: impl Write,
) -> Result<(), ChatError> {
    let wrong = |reason: &dyn std::fmt::Display| ChatError::Settings {
        reason: reason.to_string(),
    };
    let settings = settings.ok_or_else(|| wrong(&"it is not set"))?;
    let settings = ChatSettings::read(settings).map_err(|error| wrong(&error))?;
    let endpoint = Endpoint::new(&settings, key).map_err(|error| match error {
        EndpointError::Key => ChatError::Refused(error.to_string()),
        EndpointError::Client(_) => wrong(&error),
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(async {
        match job {
            ChatJob::Serve => agent::serve(input, output, settings, endpoint).await?,
            ChatJob::Check => {
                let version = endpoint.check(CHECK_LIMIT).await.map_err(failed)?;
                writeln!(output, "{}", version.unwrap_or_default())?;
            }
            ChatJob::Models => {
                let models = endpoint.models(CHECK_LIMIT).await.map_err(failed)?;
                for model in models.iter().filter(|model| settings.allows(model)) {
                    writeln!(output, "{model}")?;
                }
            }
        }
        Ok(())
    });
    // A name that is still being looked up is nothing to wait for.
    runtime.shutdown_background();
    done
}

fn failed(trouble: Trouble) -> ChatError {
    match trouble {
        Trouble::Refused {
            status: 401..=403,
            message,
            ..
        } => ChatError::Refused(message),
        other @ (Trouble::Refused { .. }
        | Trouble::Broken(_)
        | Trouble::Silent(_)
        | Trouble::Unfit(_)) => ChatError::Unreachable(other.to_string()),
    }
}

/// The exit code when nobody answers.
pub(super) const UNREACHABLE: u8 = 3;
/// The exit code when the key is not accepted.
pub(super) const REFUSED: u8 = 4;
/// A look at an endpoint.
const CHECK_LIMIT: Duration = Duration::from_secs(5);
