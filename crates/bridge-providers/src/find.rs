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
