//! What one agent does differently from the rest.

use std::time::Duration;

/// What a dialogue has to know of the agent it talks with. Everything not named here is treated
/// by the rules of the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcpQuirks {
    /// What a person reads, e.g. `Gemini CLI`.
    pub name: String,
    /// What to do when a login or key is missing.
    pub login_hint: String,
    /// Pieces of text on its standard output that mean it waits for a login: the start fails at
    /// once, and what we send next would otherwise be read as the answer.
    pub login_prompts: Vec<String>,
    /// Exit codes that mean that a login or key is missing.
    pub login_exit_codes: Vec<i32>,
    /// An answer chunk that is exactly this and one word tells the new mode and is no answer.
    pub mode_chunk: Option<String>,
    /// The wanted model was given on the command line: nothing is sent for it at the start.
    pub model_at_launch: bool,
    /// A wanted model that the session does not offer fails the start instead of being told: what
    /// the agent would use in its place may send the user's files somewhere nobody chose.
    pub model_or_nothing: bool,
    /// A session that begins on a model whose name starts so, without anybody having chosen it,
    /// fails the start for the same reason.
    pub refused_default: Option<String>,
    /// How long the process must have been quiet after a reload before history is over.
    pub replay_quiet: Duration,
}

impl AcpQuirks {
    /// An agent without known quirks.
    pub fn plain(name: &str, login_hint: &str) -> Self {
        Self {
            name: name.to_owned(),
            login_hint: login_hint.to_owned(),
            login_prompts: Vec::new(),
            login_exit_codes: Vec::new(),
            mode_chunk: None,
            model_at_launch: false,
            model_or_nothing: false,
            refused_default: None,
            replay_quiet: Duration::from_millis(200),
        }
    }
}
