//! What a repository brings along for an agent: settings that start programs or allow what would
//! be asked for. Looked for where they cannot be switched off.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The first of these files, or files in these folders, that would be in force for work in a
/// directory: in it, or above it up to the root of its repository.
pub(crate) fn brought(directory: &Path, names: &[&str]) -> Option<PathBuf> {
    for folder in directory.ancestors() {
        let found = names.iter().find_map(|name| file_of(&folder.join(name)));
        if found.is_some() || folder.join(".git").exists() {
            return found;
        }
    }
    None
}

/// The file itself, or one of a folder.
fn file_of(path: &Path) -> Option<PathBuf> {
    match fs::read_dir(path) {
        Ok(mut entries) => Some(entries.next()?.ok()?.path()),
        Err(_) => path.is_file().then(|| path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_up_to_the_root_of_the_repository_and_no_further() {
        let home = tempfile::TempDir::new().unwrap();
        let inner = home.path().join("repository/deep/inside");
        fs::create_dir_all(&inner).unwrap();
        fs::create_dir_all(home.path().join("repository/.git")).unwrap();
        fs::create_dir_all(home.path().join("repository/.hooks")).unwrap();
        let put = |name: &str| {
            let file = home.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, "{}").unwrap();
            file
        };
        let find = || brought(&inner, &[".hooks", "settings.json"]);
        put("settings.json");
        assert_eq!(find(), None, "another repository's; and an empty folder");
        let hook = put("repository/.hooks/a.json");
        assert_eq!(find(), Some(hook));
        let settings = put("repository/deep/settings.json");
        assert_eq!(find(), Some(settings), "the nearest");
    }
}
