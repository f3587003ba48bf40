//! How a conversation begins: what is asked of the program for it, whatever its settings say.

use bridge_proto::ResumeId;
use serde_json::{Map, Value, json};

use crate::{
    plain::head,
    provider::{Asking, RunSpec},
};

/// What a conversation is begun or continued with.
#[derive(Debug, Clone, Default)]
pub struct CodexStart {
    /// The working directory, absolute.
    pub directory: String,
    /// Further folders that may be written to.
    pub writable: Vec<String>,
    /// `None`: the user's default, or that of the conversation that is continued.
    pub model: Option<String>,
    /// Decides what is asked before it is done.
    pub asking: Asking,
    /// Standing instructions, or empty.
    pub instructions: String,
    /// The conversation to continue.
    pub resume: Option<ResumeId>,
}

impl CodexStart {
    /// What the run wants.
    pub fn of(spec: &RunSpec) -> Self {
        let folders = spec.extra_directories.iter();
        Self {
            directory: spec.directory.to_string_lossy().into_owned(),
            writable: folders
                .map(|folder| folder.to_string_lossy().into_owned())
                .collect(),
            model: spec.model.clone().filter(|model| !model.is_empty()),
            asking: spec.asking,
            instructions: head(spec.instructions.trim(), MAX_INSTRUCTIONS).to_owned(),
            resume: spec.resume.clone(),
        }
    }

    /// The method and its parameters. Sandbox and approval policy are always given: a continued
    /// conversation would keep its own, full access included. Questions go to a person even where
    /// the user's settings let a model answer them.
    pub(super) fn request(&self) -> (&'static str, Value) {
        let mut params = Map::new();
        let mut set = |name: &str, value: Value| params.insert(name.to_owned(), value);
        set("cwd", self.directory.clone().into());
        set("sandbox", self.sandbox().into());
        set("approvalPolicy", self.policy().into());
        set("approvalsReviewer", "user".into());
        if let Some(model) = &self.model {
            set("model", model.clone().into());
        }
        if !self.writable.is_empty() {
            let roots = json!({ "sandbox_workspace_write": { "writable_roots": self.writable } });
            set("config", roots);
        }
        if !self.instructions.is_empty() {
            set("developerInstructions", self.instructions.clone().into());
        }
        let method = if let Some(conversation) = &self.resume {
            set("threadId", conversation.as_str().into());
            set("excludeTurns", true.into());
            "thread/resume"
        } else {
            set("experimentalRawEvents", true.into());
            "thread/start"
        };
        (method, Value::Object(params))
    }

    pub(super) fn sandbox(&self) -> &'static str {
        match self.asking {
            Asking::ReadOnly => "read-only",
            Asking::Answered | Asking::Unanswered | Asking::Unneeded => SANDBOX,
        }
    }

    fn policy(&self) -> &'static str {
        match self.asking {
            Asking::Answered | Asking::ReadOnly => "untrusted",
            Asking::Unanswered => "never",
            Asking::Unneeded => "on-request",
        }
    }
}

/// Commands write below the working directory and to temporary folders, and have no network.
pub(super) const SANDBOX: &str = "workspace-write";
/// Longest instructions in bytes.
pub(super) const MAX_INSTRUCTIONS: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn start(asking: Asking) -> CodexStart {
        CodexStart {
            directory: "/work".into(),
            asking,
            ..CodexStart::default()
        }
    }

    #[test]
    fn who_answers_decides_what_is_asked_and_full_access_is_never_wanted() {
        for (asking, policy) in [
            (Asking::Answered, "untrusted"),
            (Asking::Unanswered, "never"),
            (Asking::Unneeded, "on-request"),
        ] {
            let (method, params) = start(asking).request();
            assert_eq!(method, "thread/start");
            assert_eq!(params["approvalPolicy"], policy);
            assert_eq!(params["sandbox"], "workspace-write");
            assert_eq!(params["approvalsReviewer"], "user");
        }
        let (_, params) = start(Asking::ReadOnly).request();
        assert_eq!(params["sandbox"], "read-only");
    }

    #[test]
    fn resume_keeps_full_access_unless_sandbox_and_policy_are_given_anew() {
        let resume = ResumeId::parse("01a1f746-c914-7340-990b-c1c0f5321f07").ok();
        let start = CodexStart {
            resume,
            writable: vec!["/tasks/1".into()],
            model: Some("gpt-5.5".into()),
            ..start(Asking::Unanswered)
        };
        let (method, params) = start.request();
        assert_eq!(method, "thread/resume");
        assert_eq!(
            params,
            json!({
                "cwd": "/work",
                "sandbox": "workspace-write",
                "approvalPolicy": "never",
                "approvalsReviewer": "user",
                "model": "gpt-5.5",
                "config": { "sandbox_workspace_write": { "writable_roots": ["/tasks/1"] } },
                "threadId": "01a1f746-c914-7340-990b-c1c0f5321f07",
                "excludeTurns": true,
            })
        );
    }
}
