//! Unix: every step of a walk is one `openat` that refuses to follow a link.

use std::{
    ffi::OsStr,
    fs::{File, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
};

use cap_std::fs::Dir;
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, flock, fstat, openat, statat};

use super::Access;

/// Opens a direct child folder.
pub(crate) fn open_dir(dir: &Dir, name: impl AsRef<OsStr>) -> io::Result<Dir> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(Dir::from_std_file(File::from(openat(
        dir,
        name.as_ref(),
        flags,
        Mode::empty(),
    )?)))
}

/// Which disk a folder lies on; `None` where that cannot be told.
pub(crate) fn disk_of(dir: &Dir) -> io::Result<Option<u64>> {
    Ok(Some(fstat(dir)?.st_dev))
}

/// Whether both are one folder, whatever its name.
pub(crate) fn is_same_dir(one: &Dir, other: &Dir) -> io::Result<bool> {
    let (one, other) = (fstat(one)?, fstat(other)?);
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

/// Whether a file has more names than the one it was opened by.
pub(crate) fn has_other_names(meta: &Metadata) -> bool {
    meta.nlink() > 1
}

/// Renames a direct child to a name that nothing has yet.
pub(crate) fn rename_new(from: &Dir, old: &str, to: &Dir, new: &str) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    match rustix::fs::renameat_with(from, old, to, new, rustix::fs::RenameFlags::NOREPLACE) {
        Ok(()) => return Ok(()),
        // This file system cannot promise it.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {}
        Err(other) => return Err(other.into()),
    }
    if to.symlink_metadata(new).is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    from.rename(old, to, new)
}

/// Opens a direct child file. A pipe or a device does not block here; the caller checks the type.
pub(crate) fn open_file(dir: &Dir, name: &str, access: Access) -> io::Result<File> {
    let how = match access {
        Access::Read => OFlags::RDONLY,
        Access::Append => OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE,
        Access::CreateNew => OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL,
    };
    let flags = how | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(File::from(openat(
        dir,
        name,
        flags,
        Mode::from_raw_mode(0o666),
    )?))
}

/// Whether a direct child is a symbolic link.
pub(crate) fn is_link(dir: &Dir, name: &str) -> bool {
    statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}

/// Makes names created in the folder survive a power cut.
pub(crate) fn sync_dir(dir: &Dir) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    File::from(openat(dir, ".", flags, Mode::empty())?).sync_all()
}

/// As [`sync_dir`], by path.
pub(crate) fn sync_path(folder: &std::path::Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Gives `to` the permissions of `from`.
pub(crate) fn copy_mode(from: &File, to: &File) -> io::Result<()> {
    to.set_permissions(from.metadata()?.permissions())
}

/// Whether anybody may execute a direct child file.
pub(crate) fn is_executable(dir: &Dir, name: &str) -> bool {
    let found = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
    found.is_ok_and(|found| found.st_mode & 0o111 != 0)
}

/// Creates the folder and its parents for this user only; folders that exist are left as they are.
pub(crate) fn create_private_dirs(path: &std::path::Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// Opens the lock file and tries to take it. `Ok(None)`: somebody else holds it.
/// An error of kind `Unsupported`: this file system cannot lock.
pub(crate) fn take_lock(path: &std::path::Path) -> io::Result<Option<File>> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(rustix::io::Errno::NOLCK | rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP) => {
            Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the file system has no locks",
            ))
        }
        Err(other) => Err(other.into()),
    }
}

/// Lets go of a lock for every process that shares the handle.
pub(crate) fn release_lock(file: &File) {
    if let Err(error) = flock(file, FlockOperation::Unlock) {
        tracing::debug!(%error, "the lock is left to the end of the process");
    }
}

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

/// Reads the owner and the permissions of an open file.
pub(crate) fn ownership(file: &File) -> io::Result<Ownership> {
    let meta = file.metadata()?;
    Ok(Ownership {
        mine: meta.uid() == rustix::process::geteuid().as_raw(),
        writable_by_others: meta.mode() & 0o022 != 0,
        readable_by_others: meta.mode() & 0o044 != 0,
    })
}
