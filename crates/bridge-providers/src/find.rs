//! Where a program is: look-ups of files only, nothing is started.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

/// The first program called one of `names`, in order of names: first in the folders of `path`
/// (the value of `PATH`), then in `extra`.
///
/// A name that is an absolute path is looked at itself; relative names with a separator and
/// relative folders of `path` never match, because they would depend on the working directory.
/// Only regular files that may be executed count; on Windows the endings of `PATHEXT` are tried.
pub fn find_program<S: AsRef<str>>(
    names: &[S],
    extra: &[PathBuf],
    path: Option<&OsStr>,
) -> Option<PathBuf> {
    let folders: Vec<PathBuf> = path
        .map(std::env::split_paths)
        .into_iter()
        .flatten()
        .chain(extra.iter().cloned())
        .filter(|folder| folder.is_absolute())
        .collect();
    names
        .iter()
        .map(|name| Path::new(name.as_ref()))
        .find_map(|name| {
            if name.is_absolute() {
                return executable(name);
            }
            let plain = name.file_name() == Some(name.as_os_str());
            folders
                .iter()
                .filter(|_| plain)
                .find_map(|folder| executable(&folder.join(name)))
        })
}

#[cfg(unix)]
fn executable(file: &Path) -> Option<PathBuf> {
    use rustix::fs::{Access, access};

    let regular = std::fs::metadata(file).is_ok_and(|found| found.is_file());
    (regular && access(file, Access::EXEC_OK).is_ok()).then(|| file.to_owned())
}

#[cfg(windows)]
fn executable(file: &Path) -> Option<PathBuf> {
    let regular = |file: &Path| std::fs::metadata(file).is_ok_and(|found| found.is_file());
    let endings = std::env::var("PATHEXT").unwrap_or_else(|_| ".COM;.EXE;.BAT;.CMD".into());
    let has_ending = |ending: &str| {
        file.extension().and_then(OsStr::to_str).is_some_and(|own| {
            ending
                .strip_prefix('.')
                .is_some_and(|ending| ending.eq_ignore_ascii_case(own))
        })
    };
    if endings.split(';').any(has_ending) && regular(file) {
        return Some(file.to_owned());
    }
    endings
        .split(';')
        .filter(|ending| !ending.is_empty())
        .find_map(|ending| {
            let mut name = file.as_os_str().to_owned();
            name.push(ending);
            let candidate = PathBuf::from(name);
            regular(&candidate).then_some(candidate)
        })
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn folder(&self, name: &str) -> PathBuf {
            let folder = self.0.path().join(name);
            fs::create_dir_all(&folder).unwrap();
            folder
        }

        fn file(&self, folder: &str, name: &str, mode: u32) -> PathBuf {
            let file = self.folder(folder).join(name);
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            file
        }
    }

    #[test]
    fn the_search_path_comes_before_the_extra_folders() {
        let machine = Machine::new();
        let extra = machine.file("extra", "agent", 0o755);
        let folders = [machine.folder("extra")];
        let path = std::env::join_paths([machine.folder("empty"), machine.folder("bin")]).unwrap();
        assert_eq!(find_program(&["agent"], &folders, Some(&path)), Some(extra));
        let first = machine.file("bin", "agent", 0o755);
        assert_eq!(find_program(&["agent"], &folders, Some(&path)), Some(first));
    }

    #[test]
    fn an_earlier_name_wins_wherever_it_lies() {
        let machine = Machine::new();
        machine.file("bin", "second", 0o755);
        let wanted = machine.file("extra", "first", 0o755);
        let folders = [machine.folder("bin"), machine.folder("extra")];
        assert_eq!(
            find_program(&["first", "second"], &folders, None),
            Some(wanted)
        );
    }

    #[test]
    fn folders_and_files_that_may_not_be_executed_do_not_count() {
        let machine = Machine::new();
        machine.file("bin", "plain", 0o644);
        machine.folder("bin/folder");
        let folders = [machine.folder("bin")];
        assert_eq!(
            find_program(&["plain", "folder", "absent"], &folders, None),
            None
        );
    }

    #[test]
    fn nothing_depends_on_the_working_directory() {
        let machine = Machine::new();
        let tool = machine.file("bin/deep", "tool", 0o755);
        let folders = [machine.folder("bin"), PathBuf::from(".")];
        assert_eq!(
            find_program(&["deep/tool", "../bin/deep/tool"], &folders, None),
            None
        );
        assert_eq!(
            find_program(&["Cargo.toml"], &folders, Some(OsStr::new(":."))),
            None
        );
        assert_eq!(
            find_program(&[tool.to_str().unwrap()], &[], None),
            Some(tool.clone())
        );
    }
}
