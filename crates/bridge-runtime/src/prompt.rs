//! What is said to the agent around the person's own words (decision 15).

use std::path::Path;

use bridge_proto::model::AgentProfile;

/// The line by which agents and the plane recognise the task log block; never changed.
pub(crate) const TASK_LOG_HEADER: &str = "## Task log file (mandatory, outside repository)";

/// Standing instructions of an agent: its role and description, or nothing.
pub(crate) fn instructions(agent: &AgentProfile) -> String {
    let role = match agent.role.trim() {
        "" => String::new(),
        role => format!("You are a {role}."),
    };
    let parts = [role.as_str(), agent.description.trim()];
    parts
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("\n\n")
}

/// The first prompt of a conversation in output mode: where results go, then the task.
pub(crate) fn in_task_folder(prompt: &str, folder: &Path, root: &Path) -> String {
    format!(
        "You are working in the task folder `{folder}`. Save every file you are asked for in \
         `{folder}/output`. Paths in the task that begin with the name of a task folder are \
         relative to `{root}`.\n\n---\n\n{prompt}",
        folder = folder.display(),
        root = root.display(),
    )
}

/// The first prompt of a conversation in work-directory mode: where the summary goes, if the
/// plane wants one, then the task.
pub(crate) fn in_repository(prompt: &str, task_log: Option<&Path>) -> String {
    match task_log {
        Some(log) if !prompt.contains(TASK_LOG_HEADER) => format!(
            "{TASK_LOG_HEADER}\n\nWhen you are done, write a summary of what you did to `{}`. \
             Do not write this summary into the repository.\n\n---\n\n{prompt}",
            log.display()
        ),
        Some(_) | None => prompt.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use bridge_proto::{AgentId, ProviderKey};

    use super::*;

    #[test]
    fn the_task_log_block_stands_in_front_once() {
        let log = Path::new("/base/.ctrlnode/tasks/x/output/x-output.md");
        let once = in_repository("Fix it.", Some(log));
        assert!(once.starts_with(TASK_LOG_HEADER), "{once}");
        assert!(once.ends_with("\n\n---\n\nFix it."), "{once}");
        assert_eq!(in_repository(&once, Some(log)), once);
        assert_eq!(in_repository("Fix it.", None), "Fix it.");
    }

    #[test]
    fn the_output_folder_is_named_absolutely() {
        let text = in_task_folder("Write.", Path::new("/r/tasks/t"), Path::new("/r"));
        assert!(
            text.contains("`/r/tasks/t/output`") && text.ends_with("Write."),
            "{text}"
        );
    }

    #[test]
    fn instructions_are_role_then_description() {
        let agent = AgentProfile {
            id: AgentId::parse("a").unwrap(),
            name: "A".into(),
            provider: ProviderKey::parse("demo").unwrap(),
            model: None,
            workspace: None,
            role: "Editor".into(),
            description: " Be brief. ".into(),
            emoji: String::new(),
            from_filesystem: false,
        };
        assert_eq!(instructions(&agent), "You are a Editor.\n\nBe brief.");
    }
}
