//! The result files of a task: listed with what the agent made first, and linked from the lines
//! that tell of a written file.

use bridge_proto::model::FileEntry;
use maud::{Markup, html};

use super::{
    conversation::{Body, Conversation},
    home::path_segment,
    layout::{Icon, icon, size},
};
use crate::view::{Files, TaskView};

/// The listing. What the bridge itself keeps of a run is folded. A run that has ended left its log
/// at least, so a machine that shows nothing then keeps it.
pub(crate) fn list(id: &str, files: &Files, ended: bool) -> Markup {
    let (kept, made): (Vec<_>, Vec<_>) = files
        .entries
        .iter()
        .filter(|entry| !entry.is_dir)
        .partition(|entry| is_bookkeeping(&entry.path));
    html! {
        @if !made.is_empty() {
            section.results aria-labelledby="results-h" {
                h2 #results-h { "Results" }
                (lines(id, &made))
            }
        }
        @if made.is_empty() && kept.is_empty() && ended {
            div.results { p.hint { "The result files are kept on the machine by its contents policy." } }
        }
        @if files.truncated {
            p.hint { "There are more files than the machine lists." }
        }
        @if !kept.is_empty() {
            details.fold.more.results #kept {
                summary { "Log and text of the answer" }
                div.inside { (lines(id, &kept)) }
            }
        }
    }
}

fn lines(id: &str, entries: &[&FileEntry]) -> Markup {
    html! {
        ul.list {
            @for entry in entries.iter().take(MAX_FILES) {
                li {
                    a.file download=(entry.name) href=(address(id, &entry.path)) {
                        (icon(Icon::File))
                        span.title { (entry.path) }
                        @if let Some(bytes) = entry.size { span.meta { (size(bytes)) } }
                        (icon(Icon::Down))
                    }
                }
            }
        }
        @if entries.len() > MAX_FILES { p.hint { "And " (entries.len() - MAX_FILES) " more." } }
    }
}

/// The log of a run, or the copy of what the page shows as the answer.
fn is_bookkeeping(path: &str) -> bool {
    let log = path
        .strip_prefix("agent_log")
        .is_some_and(|rest| rest == ".md" || rest.starts_with(".followup-"));
    !path.contains('/') && (log || path.ends_with("-output.md"))
}

/// Turns files written into the task's `output/` folder into links: a person far away can open
/// those, and nobody reads the path of the folder.
pub(crate) fn link(conversation: &mut Conversation, view: &TaskView) {
    let below = format!("/{}/output/", view.folder);
    for item in &mut conversation.items {
        let Body::Files { files } = &mut item.body else {
            continue;
        };
        for file in files {
            let plain = file.path.replace('\\', "/");
            let Some((_, path)) = plain.split_once(&below) else {
                continue;
            };
            file.address = Some(address(view.summary.id.as_str(), path));
            file.path = format!("output/{path}");
        }
    }
}

fn address(id: &str, path: &str) -> String {
    let path: Vec<String> = path.split('/').map(path_segment).collect();
    format!(
        "/api/v1/tasks/{}/files/{}",
        path_segment(id),
        path.join("/")
    )
}

/// A longer list is of no use on a page.
const MAX_FILES: usize = 200;

#[cfg(test)]
mod tests {
    use bridge_proto::model::RunEvent;

    use super::*;
    use crate::web::{
        conversation::{fold, tests::seen},
        items,
        task::tests::view,
    };

    #[test]
    fn result_files_have_a_size_and_an_address_that_cannot_leave_the_task() {
        let entry = |path: &str, is_dir| FileEntry {
            name: path.rsplit('/').next().unwrap().into(),
            path: path.into(),
            is_dir,
            size: Some(1500),
        };
        let files = Files {
            entries: vec![entry("sub", true), entry("sub/a?b #é\".txt", false)],
            truncated: false,
        };
        let html = list("t1", &files, true).into_string();
        assert!(html.contains("href=\"/api/v1/tasks/t1/files/sub/a%3Fb%20%23%C3%A9%22.txt\""));
        assert!(html.contains("1.5 kB") && html.matches("<li>").count() == 1);
        let folder = Files {
            entries: vec![entry("sub", true)],
            truncated: false,
        };
        assert_eq!(list("t1", &folder, false).into_string(), "");
        let nothing = list("t1", &folder, true).into_string();
        assert!(nothing.contains("by its contents policy"), "{nothing}");
    }

    #[test]
    fn what_the_agent_made_stands_before_what_the_bridge_keeps() {
        let entry = |path: &str| FileEntry {
            name: path.into(),
            path: path.into(),
            is_dir: false,
            size: None,
        };
        let entries = [
            "agent_log.md",
            "answer.md",
            "haiku-output.md",
            "sub/agent_log.md",
        ];
        let files = Files {
            entries: entries.map(entry).to_vec(),
            truncated: true,
        };
        let html = list("t1", &files, true).into_string();
        let (made, kept) = html.split_once("<details").unwrap();
        assert!(made.contains("answer.md") && made.contains("sub/agent_log.md"));
        assert!(html.contains("more files than the machine lists"));
        assert!(kept.contains("agent_log.md") && kept.contains("haiku-output.md"));
    }

    #[test]
    fn a_written_result_is_a_download_and_another_file_is_not() {
        let view = view("go");
        let written = |path: &str| RunEvent::FileWritten { path: path.into() };
        let events = [
            seen("a", 1, written("/home/me/.ctrlnode/tasks/t1/output/a b.md")),
            seen("a", 2, written("/home/me/web/main.rs")),
        ];
        let mut told = fold(&[], (1..).zip(&events));
        link(&mut told, &view);
        let html = items::item(&told.items[0]).into_string();
        assert!(
            html.contains("href=\"/api/v1/tasks/t1/files/a%20b.md\""),
            "{html}"
        );
        assert!(html.contains("output/a b.md") && !html.contains(".ctrlnode"));
        assert!(html.contains("/home/me/web/main.rs") && html.matches("<a ").count() == 1);
    }
}
