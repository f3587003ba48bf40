//! Repositories inside of a repository. Git enters them to see whether something differs there, and
//! then their own settings count.

use std::collections::BTreeSet;

use super::settings::SettingsError;

/// What is known of the repositories inside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Submodules {
    /// Their names in the settings; what is set for them there can make git enter them.
    pub names: BTreeSet<String>,
    /// Where they are, relative to the top.
    pub links: Vec<String>,
}

impl Submodules {
    /// Takes in keys of settings, each closed by NUL, of which some are about submodules.
    ///
    /// # Errors
    /// A name that is not UTF-8: what is set for it could not be switched off.
    pub fn note_names(&mut self, printed: &[u8]) -> Result<(), SettingsError> {
        let text = str::from_utf8(printed).map_err(|_| SettingsError)?;
        let names = text.split_terminator('\0').filter_map(|key| {
            let (name, _) = key.strip_prefix("submodule.")?.rsplit_once('.')?;
            Some(name.to_owned())
        });
        self.names.extend(names);
        Ok(())
    }

    /// Takes in what [`GitCommand::list_index`](super::GitCommand::list_index) printed.
    ///
    /// # Errors
    /// A repository inside whose place is not UTF-8: it could not be left out.
    pub fn note_links(&mut self, printed: &[u8]) -> Result<(), SettingsError> {
        for entry in printed.split(|byte| *byte == 0) {
            if !entry.starts_with(LINK_MODE.as_bytes()) {
                continue;
            }
            let entry = str::from_utf8(entry).map_err(|_| SettingsError)?;
            let (_, path) = entry.split_once('\t').ok_or(SettingsError)?;
            self.links.push(path.to_owned());
        }
        self.links.dedup();
        Ok(())
    }
}

/// How the index writes that an entry is a commit of another repository.
const LINK_MODE: &str = "160000 ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_places_are_taken_as_they_are() {
        let mut found = Submodules::default();
        found
            .note_names(b"submodule.a.b = c.ignore\0submodule.lib.path\0submodule.recurse\0x.y\0")
            .unwrap();
        found.note_links(
            b"100644 aa 0\ta\xff.txt\x00160000 bb 0\tlib \"x\"\x00160000 bb 1\tc\x00160000 bb 2\tc\0",
        )
        .unwrap();
        assert!(found.note_names(b"submodule.n\xff.ignore\0").is_err());
        assert!(found.note_links(b"160000 bb 0\ts\xff\0").is_err());
        let names: Vec<_> = found.names.iter().map(String::as_str).collect();
        assert_eq!(names, ["a.b = c", "lib"]);
        assert_eq!(found.links, ["lib \"x\"", "c"]);
    }
}
