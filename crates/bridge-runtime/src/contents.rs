//! Which parts of an observation are file contents, and whether they may leave this machine
//! (decision 20). Streamed answer text is not file content; diffs, tool inputs, tool results and
//! the agents' raw messages are.

use std::path::{Component, PathBuf};

use bridge_proto::model::{FileDiff, Observed, RunEvent, ToolState};
use bridge_workspace::ContentsPolicy;
use serde_json::Value;

/// Where a run works, as far as this question goes.
#[derive(Debug, Clone)]
pub(crate) struct Border {
    /// The setting.
    pub(crate) policy: ContentsPolicy,
    /// The folder of the task.
    pub(crate) task_folder: PathBuf,
    /// The working directory.
    pub(crate) directory: PathBuf,
}

impl Border {
    /// Whether every path lies inside the place of the run, by components and without `..`;
    /// relative paths are relative to the working directory. False when there is none to judge.
    pub(crate) fn holds<'a>(&self, paths: impl IntoIterator<Item = &'a str>) -> bool {
        let mut any = false;
        for path in paths {
            any = true;
            let path = self.directory.join(path);
            let climbs = path.components().any(|part| part == Component::ParentDir);
            let inside = path.starts_with(&self.directory) || path.starts_with(&self.task_folder);
            if climbs || !inside {
                return false;
            }
        }
        any
    }

    /// Takes file contents out of what must not leave the machine.
    pub(crate) fn filter(&self, mut seen: Observed) -> Observed {
        let RunEvent::Tool(tool) = &mut seen.event else {
            if !self.may_leave(&[]) {
                seen.raw = None;
            }
            return seen;
        };
        let paths = touched(tool);
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        if !self.may_leave(&paths) {
            seen.raw = None;
            withhold(tool);
        }
        seen
    }

    fn may_leave(&self, paths: &[&str]) -> bool {
        match self.policy {
            ContentsPolicy::Never => false,
            ContentsPolicy::Workspace => true,
            ContentsPolicy::TaskOutputs => {
                self.directory.starts_with(&self.task_folder)
                    && (paths.is_empty() || self.holds(paths.iter().copied()))
            }
        }
    }
}

/// Every path a tool call names.
pub(crate) fn touched(tool: &ToolState) -> Vec<String> {
    let named = tool.locations.iter().map(|location| location.path.clone());
    named
        .chain(tool.diffs.iter().map(|diff| diff.path.clone()))
        .collect()
}

fn withhold(tool: &mut ToolState) {
    tool.output = None;
    for diff in &mut tool.diffs {
        *diff = FileDiff {
            path: std::mem::take(&mut diff.path),
            old: None,
            new: String::new(),
        };
    }
    // What a command is and which file is meant stays visible; what is in the file does not.
    if let Some(Value::Object(input)) = &mut tool.input {
        input.retain(|key, value| {
            value.as_str().is_some_and(|text| text.len() <= NAME_LIMIT)
                && [
                    "command",
                    "path",
                    "file_path",
                    "pattern",
                    "description",
                    "url",
                ]
                .contains(&key.as_str())
        });
    } else {
        tool.input = None;
    }
}

/// Longer than any path or command a person reads.
const NAME_LIMIT: usize = 4096;

#[cfg(test)]
mod tests {
    use bridge_proto::{
        ToolCallId,
        model::{Location, ToolKind, ToolStatus},
    };
    use serde_json::json;

    use super::*;

    fn border(policy: ContentsPolicy, directory: &str) -> Border {
        Border {
            policy,
            task_folder: "/b/.ctrlnode/tasks/t".into(),
            directory: directory.into(),
        }
    }

    fn edit(path: &str) -> Observed {
        Observed {
            event: RunEvent::Tool(ToolState {
                id: ToolCallId::parse("c").unwrap(),
                title: "Edit".into(),
                kind: ToolKind::Edit,
                status: ToolStatus::Completed,
                input: Some(json!({"file_path": path, "content": "secret"})),
                output: Some("secret".into()),
                locations: vec![Location {
                    path: path.into(),
                    line: None,
                }],
                diffs: vec![FileDiff {
                    path: path.into(),
                    old: Some("secret".into()),
                    new: "secret".into(),
                }],
            }),
            raw: Some(json!({"content": "secret"})),
        }
    }

    #[test]
    fn a_repository_keeps_its_contents_unless_the_workspace_may_leave() {
        let kept = border(ContentsPolicy::TaskOutputs, "/b/repo").filter(edit("/b/repo/a.rs"));
        let text = serde_json::to_string(&kept).unwrap();
        assert!(
            !text.contains("secret") && text.contains("/b/repo/a.rs"),
            "{text}"
        );
        let open = border(ContentsPolicy::Workspace, "/b/repo").filter(edit("/b/repo/a.rs"));
        assert_eq!(open, edit("/b/repo/a.rs"));
    }

    #[test]
    fn task_outputs_leave_but_files_beside_the_task_folder_do_not() {
        let folder = "/b/.ctrlnode/tasks/t";
        let border = border(ContentsPolicy::TaskOutputs, folder);
        assert_eq!(border.filter(edit("output/a.md")), edit("output/a.md"));
        let beside = serde_json::to_string(&border.filter(edit("/home/u/.ssh/id"))).unwrap();
        assert!(!beside.contains("secret"), "{beside}");
        let climbing = serde_json::to_string(&border.filter(edit("../../x"))).unwrap();
        assert!(!climbing.contains("secret"), "{climbing}");
    }

    #[test]
    fn with_never_not_even_raw_messages_leave() {
        let folder = "/b/.ctrlnode/tasks/t";
        let kept = border(ContentsPolicy::Never, folder).filter(edit("output/a.md"));
        assert!(!serde_json::to_string(&kept).unwrap().contains("secret"));
    }

    #[test]
    fn without_any_path_nothing_is_known_to_be_inside() {
        assert!(!border(ContentsPolicy::Never, "/b/repo").holds([]));
    }
}
