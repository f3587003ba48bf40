//! What one agent does differently from the rest.

use std::time::Duration;

use bridge_proto::model::ToolKind;

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
    /// What else is told of the client's abilities: names that are set in the `_meta` of its
    /// capabilities.
    pub client_meta: &'static [&'static str],
    /// What stands in the text of an answer and is none of it.
    pub text: TextQuirks,
    /// How a turn begins, is counted and ends.
    pub turn: TurnQuirks,
    /// How a conversation is continued by a new process.
    pub reload: ReloadQuirks,
    /// How tool calls are told.
    pub tools: ToolQuirks,
    /// How a person is asked.
    pub asks: AskQuirks,
}

/// What stands in the text of an answer and is none of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextQuirks {
    /// A chunk that begins so is a remark of the agent itself.
    pub remark: Option<&'static str>,
    /// A remark that ends so says that a failed model call is tried again.
    pub retrying: Option<&'static str>,
    /// A failed model call ends the turn as a good one does, with its error as the last words:
    /// they begin so, and the answer to the prompt has no `usage`.
    pub failed: &'static [Beginning],
    /// As `failed`, whether there is `usage` or not, when the words came in one piece and nothing
    /// of the answer stands right before them: earlier model calls of the turn may have gone well.
    pub failed_alone: &'static [Beginning],
}

/// How a text begins, white space aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// With these words.
    Words(&'static str),
    /// With these words and the status of an HTTP response.
    Status(&'static str),
}

/// How a turn begins, is counted and ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TurnQuirks {
    /// Prompts that begin with `/` are taken as commands to the agent; this, put before them,
    /// makes them reach the model.
    pub before_slash: Option<&'static str>,
    /// The `usage` of an answer is that of the whole conversation since the process began, not of
    /// the turn.
    pub usage_of_all: bool,
    /// An answer without `usage` means that no model call went well, whatever was said.
    pub usage_or_failed: bool,
    /// A cancel that is answered with an error leaves a session in which nothing runs any more:
    /// the process is ended, and the conversation goes on in a new one.
    pub wedged_by_cancel: bool,
}

/// How a conversation is continued by a new process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReloadQuirks {
    /// `session/resume` is offered and does not what it promises: `session/load` is used.
    pub by_load_only: bool,
    /// An answer to `session/load` that offers nothing means that there is no such conversation.
    pub empty_is_unknown: bool,
    /// How long the process must have been quiet after a reload before history is over.
    pub quiet: Duration,
}

/// How tool calls are told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolQuirks {
    /// Calls of these kinds get no word about their end: they are over when the agent goes on.
    pub silent: &'static [ToolKind],
    /// A call that is `completed` has failed all the same if its `rawOutput` has one of these.
    pub failed_by: &'static [&'static str],
    /// Both sides of a diff begin with a header line of a patch.
    pub patch_headers: bool,
    /// The to-do list is told as the `todos` a tool is called with.
    pub todos_in_input: bool,
}

/// How a person is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AskQuirks {
    /// How long the agent waits before it takes a permission as denied.
    pub lifetime: Option<Duration>,
    /// Permission requests name calls by ids of their own: each belongs to the oldest call of its
    /// kind that nobody was asked about.
    pub own_ids: bool,
    /// Requests in front of which this stands ask questions, show plans and tell to-do lists.
    pub extensions: Option<&'static str>,
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
            client_meta: &[],
            text: TextQuirks::default(),
            turn: TurnQuirks::default(),
            reload: ReloadQuirks::default(),
            tools: ToolQuirks::default(),
            asks: AskQuirks::default(),
        }
    }
}

impl Default for ReloadQuirks {
    fn default() -> Self {
        Self {
            by_load_only: false,
            empty_is_unknown: false,
            quiet: Duration::from_millis(200),
        }
    }
}

impl Beginning {
    /// Whether `text` begins so.
    pub fn fits(self, text: &str) -> bool {
        let text = text.trim_start();
        match self {
            Self::Words(words) => text.starts_with(words),
            Self::Status(words) => text.strip_prefix(words).is_some_and(|rest| {
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                digits
                    .parse()
                    .is_ok_and(|status| (100..600).contains(&status))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_a_number_of_http_and_not_any_word() {
        let http = Beginning::Status("HTTP ");
        for (text, fits) in [
            ("HTTP 401: no", true),
            ("\n\nHTTP 503", true),
            ("HTTP is a protocol", false),
            ("HTTP 4010", false),
            ("see HTTP 401", false),
        ] {
            assert_eq!(http.fits(text), fits, "{text}");
        }
        assert!(Beginning::Words("Error: ").fits("Error: x"));
    }
}
