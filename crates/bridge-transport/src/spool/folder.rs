//! The real disk: a folder that one process has at a time.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use super::disk::{Disk, Name};

/// Why a folder cannot be used for a spool.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another spool has it open, in this process or in another one.
    #[error("the spool {path} is in use")]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// A symbolic link stands where the folder is to be. Whoever put it there would decide where
    /// messages are kept, and whose rights are changed.
    #[error("the spool {path} is a symbolic link")]
    Link {
        /// The link.
        path: PathBuf,
    },
    /// The folder or its lock cannot be made or opened.
    #[error("the spool {path} cannot be opened")]
    Io {
        /// The folder or the lock.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A folder of the file system, locked until dropped or until the process ends.
///
/// On Unix the folder is made for its owner alone (0700), and so are its files (0600). Symbolic
/// links in the place of the folder or of files are refused, and so is everything that is no
/// ordinary file. Links on the way to the folder are followed: what is above it is the caller's.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// The file that was written last, open at its end.
    writing: Option<(Name, File)>,
    /// The file that was read last.
    reading: Option<(Name, File)>,
    boot: Option<[u8; 16]>,
    _lock: Lock,
}

impl Folder {
    /// Makes the folder if it is not there, and locks it. The folder above must exist.
    ///
    /// # Errors
    /// Fails when somebody has it open, when it is a link, and when it cannot be used.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, FolderError> {
        // A separator at its end would have a link followed.
        let path: PathBuf = path.into().components().collect();
        if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_symlink()) {
            return Err(FolderError::Link { path });
        }
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| FolderError::Io { path, source }
        };
        own_folder(&path).map_err(failed(&path))?;
        let lock = path.join(LOCK);
        let Some(lock) = take_lock(&lock).map_err(failed(&lock))? else {
            return Err(FolderError::Locked { path });
        };
        Ok(Self {
            path,
            writing: None,
            reading: None,
            boot: this_boot(),
            _lock: lock,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn file(&self, name: Name) -> PathBuf {
        self.path.join(name.to_string())
    }

    fn writable(&mut self, name: Name) -> io::Result<&mut File> {
        let file = match self.writing.take() {
            Some((open, file)) if open == name => file,
            Some(_) | None => open_file(&self.file(name), OpenOptions::new().append(true))?,
        };
        Ok(&mut self.writing.insert((name, file)).1)
    }

    fn readable(&mut self, name: Name) -> io::Result<&File> {
        let file = match self.reading.take() {
            Some((open, file)) if open == name => file,
            Some(_) | None => open_file(&self.file(name), OpenOptions::new().read(true))?,
        };
        Ok(&self.reading.insert((name, file)).1)
    }

    fn forget(&mut self, name: Name) {
        self.writing.take_if(|(open, _)| *open == name);
        self.reading.take_if(|(open, _)| *open == name);
    }
}

impl Disk for Folder {
    fn list(&mut self) -> io::Result<Vec<(Name, u64)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if let Some(name) = entry.file_name().to_str().and_then(Name::parse) {
                let meta = entry.metadata()?;
                ordinary(&entry.path(), &meta)?;
                files.push((name, meta.len()));
            }
        }
        Ok(files)
    }

    fn create(&mut self, name: Name) -> io::Result<()> {
        self.forget(name);
        let path = self.file(name);
        // Windows does not empty a file that was opened to append.
        let mut options = OpenOptions::new();
        open_file(&path, options.write(true).create(true).truncate(true)).map(drop)
    }

    fn append(&mut self, name: Name, bytes: &[u8]) -> io::Result<usize> {
        self.writable(name)?.write(bytes)
    }

    fn read_at(&mut self, name: Name, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        read_at(self.readable(name)?, offset, into)
    }

    fn truncate(&mut self, name: Name, len: u64) -> io::Result<()> {
        let file = open_file(&self.file(name), OpenOptions::new().write(true))?;
        file.set_len(len)
    }

    fn sync(&mut self, name: Name) -> io::Result<()> {
        match &self.writing {
            Some((open, file)) if *open == name => file.sync_data(),
            Some(_) | None => {
                open_file(&self.file(name), OpenOptions::new().append(true))?.sync_data()
            }
        }
    }

    fn rename(&mut self, from: Name, to: Name) -> io::Result<()> {
        self.forget(from);
        self.forget(to);
        fs::rename(self.file(from), self.file(to))
    }

    fn remove(&mut self, name: Name) -> io::Result<()> {
        self.forget(name);
        fs::remove_file(self.file(name))
    }

    #[cfg(unix)]
    fn sync_folder(&mut self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// The file system keeps its names by itself.
    #[cfg(not(unix))]
    fn sync_folder(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn boot(&self) -> Option<[u8; 16]> {
        self.boot
    }
}

/// Opens a file that is no link and nothing but a file.
fn open_file(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    careful(path, options)?;
    let file = options.open(path)?;
    ordinary(path, &file.metadata()?)?;
    Ok(file)
}

fn ordinary(path: &Path, meta: &Metadata) -> io::Result<()> {
    if meta.is_file() {
        return Ok(());
    }
    let told = format!("{} is not an ordinary file", path.display());
    Err(io::Error::new(io::ErrorKind::InvalidInput, told))
}

#[cfg(unix)]
#[expect(
    clippy::unnecessary_wraps,
    reason = "elsewhere it is a look that can fail"
)]
fn careful(_path: &Path, options: &mut OpenOptions) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;

    use rustix::fs::OFlags;

    // A pipe or a device must not block here either.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    options.mode(0o600).custom_flags(flags.bits().cast_signed());
    Ok(())
}

#[cfg(not(unix))]
fn careful(path: &Path, _options: &mut OpenOptions) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) => ordinary(path, &meta),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(unix)]
fn own_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};

    use rustix::fs::OFlags;

    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
            let mut options = OpenOptions::new();
            options.read(true).custom_flags(flags.bits().cast_signed());
            let folder = options.open(path)?;
            if folder.metadata()?.permissions().mode() & 0o077 != 0 {
                folder.set_permissions(fs::Permissions::from_mode(0o700))?;
            }
            Ok(())
        }
        Err(error) => Err(error),
    }
}

#[cfg(not(unix))]
fn own_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// A lock file that is held.
#[derive(Debug)]
struct Lock(#[cfg_attr(not(unix), expect(dead_code, reason = "it is held"))] File);

/// Said aloud, because a program that a process is just starting holds all that is open there until it
/// is itself.
#[cfg(unix)]
impl Drop for Lock {
    fn drop(&mut self) {
        use rustix::fs::{FlockOperation, flock};

        if let Err(error) = flock(&self.0, FlockOperation::Unlock) {
            tracing::debug!(%error, "the lock of a spool ends with its file");
        }
    }
}

/// `None` when somebody has it.
#[cfg(unix)]
fn take_lock(path: &Path) -> io::Result<Option<Lock>> {
    use rustix::{
        fs::{FlockOperation, flock},
        io::Errno,
    };

    let mut options = OpenOptions::new();
    let file = open_file(path, options.read(true).append(true).create(true))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Lock(file))),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(other) => Err(other.into()),
    }
}

/// Nobody else can open the file while it is open here.
#[cfg(windows)]
fn take_lock(path: &Path) -> io::Result<Option<Lock>> {
    use std::os::windows::fs::OpenOptionsExt as _;

    let mut options = OpenOptions::new();
    match open_file(path, options.append(true).create(true).share_mode(0)) {
        Ok(file) => Ok(Some(Lock(file))),
        Err(error) if error.raw_os_error() == Some(SHARING_VIOLATION) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(not(any(unix, windows)))]
fn take_lock(path: &Path) -> io::Result<Option<Lock>> {
    open_file(path, OpenOptions::new().append(true).create(true)).map(|file| Some(Lock(file)))
}

#[cfg(unix)]
fn read_at(file: &File, offset: u64, into: &mut [u8]) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, into, offset)
}

#[cfg(windows)]
fn read_at(file: &File, offset: u64, into: &mut [u8]) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, into, offset)
}

#[cfg(not(any(unix, windows)))]
fn read_at(mut file: &File, offset: u64, into: &mut [u8]) -> io::Result<usize> {
    use std::io::{Read as _, Seek as _};

    file.seek(io::SeekFrom::Start(offset))?;
    file.read(into)
}

/// What the kernel calls the time since it was started.
#[cfg(target_os = "linux")]
fn this_boot() -> Option<[u8; 16]> {
    use std::io::Read as _;

    let mut text = String::new();
    let file = File::open("/proc/sys/kernel/random/boot_id").ok()?;
    file.take(64).read_to_string(&mut text).ok()?;
    let id = u128::from_str_radix(&text.trim().replace('-', ""), 16).ok()?;
    Some(id.to_be_bytes())
}

/// It is not told in a form that holds: a crash of the process then counts as one of the machine.
#[cfg(not(target_os = "linux"))]
fn this_boot() -> Option<[u8; 16]> {
    None
}

const LOCK: &str = "lock";

/// Windows: somebody has the file open.
#[cfg(windows)]
const SHARING_VIOLATION: i32 = 32;
