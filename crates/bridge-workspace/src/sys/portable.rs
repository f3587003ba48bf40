//! Elsewhere: cap-std keeps every step beneath its folder; links are refused by a look beforehand.

#![expect(clippy::unnecessary_wraps, reason = "the same signatures as on Unix")]

use std::{
    ffi::OsStr,
    fs::{File, Metadata},
    io,
};

use cap_std::fs::{Dir, OpenOptions};

use super::Access;

/// Opens a direct child folder.
pub(crate) fn open_dir(dir: &Dir, name: impl AsRef<OsStr>) -> io::Result<Dir> {
    refuse_link(dir, name.as_ref())?;
    dir.open_dir(name.as_ref())
}

/// It cannot be told here.
pub(crate) fn disk_of(_dir: &Dir) -> io::Result<Option<u64>> {
    Ok(None)
}

/// A folder that is open keeps its name here, so that the same name is the same folder.
pub(crate) fn is_same_dir(_one: &Dir, _other: &Dir) -> io::Result<bool> {
    Ok(true)
}

/// It cannot be told here.
pub(crate) fn has_other_names(_meta: &Metadata) -> bool {
    false
}

/// Renames a direct child to a name that nothing had a moment ago.
pub(crate) fn rename_new(from: &Dir, old: &str, to: &Dir, new: &str) -> io::Result<()> {
    if to.symlink_metadata(new).is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    from.rename(old, to, new)
}

/// Opens a direct child file.
pub(crate) fn open_file(dir: &Dir, name: &str, access: Access) -> io::Result<File> {
    refuse_link(dir, name.as_ref())?;
    let mut options = OpenOptions::new();
    match access {
        Access::Read => options.read(true),
        Access::Append => options.append(true).create(true),
        Access::CreateNew => options.write(true).create_new(true),
    };
    Ok(dir.open_with(name, &options)?.into_std())
}

/// Whether a direct child is a symbolic link.
pub(crate) fn is_link(dir: &Dir, name: impl AsRef<OsStr>) -> bool {
    dir.symlink_metadata(name.as_ref())
        .is_ok_and(|meta| meta.is_symlink())
}

fn refuse_link(dir: &Dir, name: &OsStr) -> io::Result<()> {
    if is_link(dir, name) {
        return Err(io::Error::new(
            io::ErrorKind::NotADirectory,
            "a symbolic link",
        ));
    }
    Ok(())
}

/// Nothing to do: names are durable with their file here.
pub(crate) fn sync_dir(_dir: &Dir) -> io::Result<()> {
    Ok(())
}

/// Nothing to do, as above.
pub(crate) fn sync_path(_folder: &std::path::Path) -> io::Result<()> {
    Ok(())
}

/// Nothing to do: a new file inherits its rights from the folder.
pub(crate) fn copy_mode(_from: &File, _to: &File) -> io::Result<()> {
    Ok(())
}

/// Whether a direct child file is one that the system executes: here its name tells.
pub(crate) fn is_executable(dir: &Dir, name: &str) -> bool {
    let extension = name.rsplit_once('.').map(|(_, last)| last);
    let executed = ["bat", "cmd", "com", "exe", "ps1"];
    let known = |extension: &str| executed.iter().any(|e| e.eq_ignore_ascii_case(extension));
    extension.is_some_and(known) && dir.symlink_metadata(name).is_ok()
}

/// Creates the folder and its parents; the profile folder of the user is private already.
pub(crate) fn create_private_dirs(path: &std::path::Path) -> io::Result<()> {
    std::fs::create_dir_all(path)
}

/// Opens the lock file so that nobody else can open it for writing. `Ok(None)`: somebody has.
#[cfg(windows)]
pub(crate) fn take_lock(path: &std::path::Path) -> io::Result<Option<File>> {
    use std::os::windows::fs::OpenOptionsExt as _;
    const FILE_SHARE_READ: u32 = 1;
    const ERROR_SHARING_VIOLATION: i32 = 32;
    let opened = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .share_mode(FILE_SHARE_READ)
        .open(path);
    match opened {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.raw_os_error() == Some(ERROR_SHARING_VIOLATION) => Ok(None),
        Err(error) => Err(error),
    }
}

/// There are no locks here.
#[cfg(not(windows))]
pub(crate) fn take_lock(_path: &std::path::Path) -> io::Result<Option<File>> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "the system has no locks",
    ))
}

/// Nothing to do: handles are not shared, closing releases it.
pub(crate) fn release_lock(_file: &File) {}

/// Who may touch a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ownership {
    /// It belongs to the user of this process.
    pub(crate) mine: bool,
    /// Group or others may write it.
    pub(crate) writable_by_others: bool,
    /// Group or others may read it.
    pub(crate) readable_by_others: bool,
}

/// Rights are lists here and are inherited from the folder; taken as the user's own.
pub(crate) fn ownership(_file: &File) -> io::Result<Ownership> {
    Ok(Ownership {
        mine: true,
        writable_by_others: false,
        readable_by_others: false,
    })
}
