//! Where the objects of a repository lie: its own folder, and others it borrows from. Whoever made
//! the repository chose them, and what is in them is shown.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

/// Whether each folder that objects are read from, and each link in it, passes `allowed`, which is
/// given real paths. What cannot be followed to its end does not.
pub(super) fn all_allowed(objects: &Path, allowed: &dyn Fn(&Path) -> bool) -> bool {
    let mut seen: Vec<PathBuf> = Vec::new();
    let mut waiting = vec![objects.to_owned()];
    while let Some(folder) = waiting.pop() {
        let real = match folder.canonicalize() {
            Ok(real) => real,
            // git does without it as well.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(_) => return false,
        };
        if seen.contains(&real) {
            continue;
        }
        if seen.len() >= MOST_FOLDERS || !allowed(&real) {
            return false;
        }
        let links = [real.clone(), real.join("pack"), real.join("info")];
        if !links.iter().all(|folder| links_allowed(folder, allowed)) {
            return false;
        }
        match borrowed(&real) {
            Some(more) => waiting.extend(more),
            None => return false,
        }
        seen.push(real);
    }
    true
}

fn links_allowed(folder: &Path, allowed: &dyn Fn(&Path) -> bool) -> bool {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return error.kind() == io::ErrorKind::NotFound,
    };
    entries.enumerate().all(|(count, entry)| {
        let Ok(entry) = entry else { return false };
        let is_link = entry.file_type().map_or(true, |kind| kind.is_symlink());
        let real = || entry.path().canonicalize();
        count < MOST_ENTRIES && (!is_link || real().is_ok_and(|real| allowed(&real)))
    })
}

/// The folders named in `info/alternates`; `None` for a file that is not understood.
fn borrowed(objects: &Path) -> Option<Vec<PathBuf>> {
    let file = match File::open(objects.join("info/alternates")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(Vec::new()),
        Err(_) => return None,
    };
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    file.take(MOST_BYTES + 1).read_to_string(&mut text).ok()?;
    if text.len() as u64 > MOST_BYTES {
        return None;
    }
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    // A name in quotes has escapes; nobody but a trap needs one.
    lines
        .map(|line| (!line.starts_with('"')).then(|| objects.join(line)))
        .collect()
}

/// git itself follows five, one from the other.
const MOST_FOLDERS: usize = 32;
const MOST_BYTES: u64 = 64 * 1024;
/// Packs of a repository that nobody tidied up for years.
const MOST_ENTRIES: usize = 20_000;

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Stage {
        folder: tempfile::TempDir,
    }

    impl Stage {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a place for temporary files");
            let stage = Self { folder };
            for name in ["in/a/info", "in/b/info", "in/b/pack", "out/objects"] {
                fs::create_dir_all(stage.path(name)).expect("a fresh folder");
            }
            stage
        }

        fn path(&self, name: &str) -> PathBuf {
            let real = self.folder.path().canonicalize();
            real.expect("a folder that was just made").join(name)
        }

        fn alternates(&self, of: &str, text: &str) {
            let file = self.path(of).join("info/alternates");
            fs::write(file, text).expect("a fresh folder");
        }

        fn allowed(&self) -> bool {
            let inside = self.path("in");
            all_allowed(&self.path("in/a"), &|path| path.starts_with(&inside))
        }
    }

    #[test]
    fn objects_are_borrowed_inside_and_never_outside() {
        for (text, allowed) in [
            ("", true),
            ("# none\n\n../b\n", true),
            ("../b\n../a\n", true),
            ("../gone\n", true),
            ("../../out/objects\n", false),
            ("../b\n../../out/objects", false),
            ("\"../b\"\n", false),
            ("/nowhere/at/all\n", true),
            (&format!("#{}", "x".repeat(70_000)), false),
        ] {
            let stage = Stage::new();
            stage.alternates("in/a", text);
            assert_eq!(stage.allowed(), allowed, "{text:.40}");
        }
        let stage = Stage::new();
        stage.alternates(
            "in/a",
            &format!("{}\n", stage.path("out/objects").display()),
        );
        assert!(!stage.allowed(), "absolute");
        stage.alternates("in/a", "../b\n");
        stage.alternates("in/b", "../../out/objects\n");
        assert!(!stage.allowed(), "borrowed by whom is borrowed from");
    }

    #[test]
    fn no_link_among_objects_leads_outside() {
        for link in ["in/a/pack", "in/a/ab", "in/b/pack/pack-1.pack", "in/b/ab"] {
            let stage = Stage::new();
            stage.alternates("in/a", "../b\n");
            assert!(stage.allowed());
            symlink(stage.path("out/objects"), stage.path(link)).unwrap();
            assert!(!stage.allowed(), "{link}");
        }
        let stage = Stage::new();
        symlink(stage.path("in/b/pack"), stage.path("in/a/pack")).unwrap();
        assert!(stage.allowed(), "a link inside");
    }
}
