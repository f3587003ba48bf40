//! Files that stand for skills. A root is opened once; nothing below it that leads out of it is
//! followed, and only the beginning of regular files is read.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use cap_std::{ambient_authority, fs::Dir};

use super::{MAX_ENTRIES, MAX_HEADER, Skill, SkillScope, header, skill};

/// Skills as folders with a `SKILL.md`: `<root>/<below>/<name>/SKILL.md`, called by `sign` and name.
/// An empty `below` is the root itself.
pub(crate) fn skills_in(root: &Path, below: &str, sign: char, scope: SkillScope) -> Vec<Skill> {
    let Some(dir) = open(root, below) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for name in names(&dir) {
        if name.starts_with('.') {
            continue;
        }
        let Some(text) = beginning(&dir, &Path::new(&name).join("SKILL.md")) else {
            continue;
        };
        let said = header::of_markdown(&text, "name");
        let mut one = skill(said.as_deref().unwrap_or(&name), sign, scope);
        one.description = header::of_markdown(&text, "description");
        one.argument_hint = header::of_markdown(&text, "argument-hint");
        one.user_invocable =
            header::of_markdown(&text, "user-invocable").as_deref() != Some("false");
        found.push(one);
    }
    found
}

/// Commands as files of settings: `<root>/<below>/a/b.toml` is `/a:b`, at most three levels deep.
pub(crate) fn commands_in(root: &Path, below: &str, scope: SkillScope) -> Vec<Skill> {
    let mut found = Vec::new();
    if let Some(dir) = open(root, below) {
        walk(&dir, "", 0, scope, &mut found);
    }
    found
}

fn walk(dir: &Dir, before: &str, depth: usize, scope: SkillScope, found: &mut Vec<Skill>) {
    for name in names(dir) {
        if found.len() >= MAX_ENTRIES || name.starts_with('.') {
            continue;
        }
        if let Some(stem) = name.strip_suffix(".toml") {
            if let Some(text) = beginning(dir, Path::new(&name)) {
                let mut one = skill(&format!("{before}{stem}"), '/', scope);
                one.description = header::of_toml(&text, "description");
                found.push(one);
            }
        } else if depth < MAX_DEPTH
            && let Ok(below) = dir.open_dir(&name)
        {
            walk(&below, &format!("{before}{name}:"), depth + 1, scope, found);
        }
    }
}

/// The folders from `directory` up to the root of its repository, nearest first; it alone outside
/// of a repository.
pub(crate) fn project_folders(directory: &Path) -> Vec<PathBuf> {
    let above: Vec<&Path> = directory.ancestors().take(MAX_LEVELS).collect();
    let root = above.iter().position(|folder| folder.join(".git").exists());
    let count = root.map_or(1, |root| root + 1);
    above.into_iter().take(count).map(Path::to_owned).collect()
}

fn open(root: &Path, below: &str) -> Option<Dir> {
    let root = Dir::open_ambient_dir(root, ambient_authority()).ok()?;
    if below.is_empty() {
        return Some(root);
    }
    root.open_dir(below).ok()
}

/// What is in a folder, by name.
fn names(dir: &Dir) -> Vec<String> {
    let entries = dir.entries().into_iter().flatten().filter_map(Result::ok);
    let names = entries.take(MAX_ENTRIES).map(|entry| entry.file_name());
    let mut names: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
    names.sort();
    names
}

/// The beginning of a regular file; pipes and devices are never opened.
fn beginning(dir: &Dir, file: &Path) -> Option<String> {
    if !dir.metadata(file).ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    let file = dir.open(file).ok()?;
    file.take(MAX_HEADER).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Below the folder of commands.
const MAX_DEPTH: usize = 2;
/// Above a working directory.
const MAX_LEVELS: usize = 12;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn write(root: &Path, file: &str, text: &str) {
        let file = root.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    fn invocations(skills: &[Skill]) -> Vec<&str> {
        skills
            .iter()
            .map(|skill| skill.invocation.as_str())
            .collect()
    }

    #[test]
    fn folders_and_files_become_skills_by_name() {
        let root = tempfile::tempdir().unwrap();
        let header = "---\nname: review\ndescription: Looks.\n---\n";
        write(root.path(), "b/SKILL.md", header);
        write(root.path(), "a/SKILL.md", "no header");
        write(root.path(), "c/README.md", header);
        write(root.path(), ".system/SKILL.md", header);
        let skills = skills_in(root.path(), "", '$', SkillScope::User);
        assert_eq!(invocations(&skills), ["$a", "$review"]);
        assert_eq!(skills[1].description.as_deref(), Some("Looks."));
        let commands = tempfile::tempdir().unwrap();
        for file in [
            "x.toml",
            "git/commit.toml",
            "git/a/b.toml",
            "1/2/3/4.toml",
            "y.md",
        ] {
            write(commands.path(), file, "description = 'Does it.'");
        }
        let found = commands_in(commands.path(), "", SkillScope::Project);
        assert_eq!(invocations(&found), ["/git:a:b", "/git:commit", "/x"]);
    }

    #[cfg(unix)]
    #[test]
    fn nothing_that_leads_out_of_a_folder_is_followed_and_no_pipe_is_waited_for() {
        use std::os::unix::fs::symlink;

        let outside = tempfile::tempdir().unwrap();
        write(outside.path(), "s/SKILL.md", "---\nname: stolen\n---\n");
        write(outside.path(), "secret.toml", "description = 'stolen'");
        let root = tempfile::tempdir().unwrap();
        symlink(outside.path().join("s"), root.path().join("s")).unwrap();
        symlink(outside.path(), root.path().join("all")).unwrap();
        symlink(
            outside.path().join("secret.toml"),
            root.path().join("k.toml"),
        )
        .unwrap();
        fs::create_dir(root.path().join("linked")).unwrap();
        symlink(
            outside.path().join("s/SKILL.md"),
            root.path().join("linked/SKILL.md"),
        )
        .unwrap();
        fs::create_dir(root.path().join("pipe")).unwrap();
        let pipe = root.path().join("pipe/SKILL.md");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        assert_eq!(skills_in(root.path(), "", '$', SkillScope::User), []);
        assert_eq!(commands_in(root.path(), "", SkillScope::User), []);
        symlink(outside.path(), root.path().join(".agents")).unwrap();
        assert_eq!(
            skills_in(root.path(), ".agents", '$', SkillScope::Project),
            []
        );
    }

    #[test]
    fn a_project_ends_at_its_repository() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("repo/a/b");
        fs::create_dir_all(&deep).unwrap();
        let nowhere = Path::new("/no-such-folder/below");
        assert_eq!(project_folders(nowhere), [nowhere]);
        fs::create_dir(root.path().join("repo/.git")).unwrap();
        let repo = root.path().join("repo");
        assert_eq!(project_folders(&deep), [deep, repo.join("a"), repo]);
    }

    #[test]
    fn a_folder_with_thousands_of_entries_is_looked_at_in_part() {
        let root = tempfile::tempdir().unwrap();
        for n in 0..1500 {
            fs::write(root.path().join(format!("{n}.toml")), "").unwrap();
        }
        let found = commands_in(root.path(), "", SkillScope::User);
        assert_eq!(found.len(), MAX_ENTRIES);
    }
}
