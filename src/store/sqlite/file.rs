//! Which file a name means, and the lock that keeps other polecats away from it.
//!
//! SQLite interprets names in ways that the system does not: `file:` begins a URI, `:memory:` is not a file,
//! and a slash at the end is dropped. So the system opens the file first, and SQLite is given the path that
//! this leads to, without links. The lock, the database and the log then belong to one file, however it was
//! named.

use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::opening::{
    complaint_of_folder, complaint_of_kind, complaint_of_length, complaint_of_permissions, complaint_of_size,
    unopened,
};

/// The permissions of a new file, before the process's mask: the same as SQLite uses.
const MODE: u32 = 0o644;

/// Why a database file cannot be used: one line that names the file and says what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenError(String);

impl fmt::Display for OpenError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl OpenError {
    pub(super) fn refusal(name: &Path, reason: &str) -> Self {
        Self(format!("cannot use {} as the database: {reason}", name.display()))
    }
}

/// A file that no other polecat uses while this process does: each of two would tell its clients about only
/// half of the messages. Other programs may still read and write the file.
///
/// It must be dropped after the connection: closing any descriptor of a file releases SQLite's own locks on
/// it.
#[derive(Debug)]
pub(super) struct DatabaseFile {
    /// The name that was given, for people.
    pub(super) name: PathBuf,
    /// Its absolute path, without links.
    pub(super) path: PathBuf,
    /// Holds the lock.
    file: File,
}

impl DatabaseFile {
    /// Opens the file that is called `name`, creates it if it does not exist, and locks it.
    ///
    /// # Errors
    /// If it is not a file, cannot be opened or locked, or is used by another polecat.
    pub(super) fn lock(name: &Path) -> Result<Self, OpenError> {
        Self::lock_or_say(name).map_err(|reason| OpenError::refusal(name, &reason))
    }

    fn lock_or_say(name: &Path) -> Result<Self, String> {
        // It is not opened for writing: over a network, a lock of the whole file could conflict with SQLite's
        // own.
        let file = match locate(name)? {
            Some(path) => File::open(path),
            None => make(name).and_then(|()| File::open(name)),
        };
        let file = file.map_err(|error| unopened(&error))?;
        if !is_locked(file.try_lock())? {
            let shown = name.display();
            log::warn!(
                "{shown} cannot be locked: its file system has no locks; make sure that no other polecat uses it"
            );
        }
        let found = file.metadata().map_err(|error| unopened(&error))?;
        if let Some(reason) = other_names(&found) {
            return Err(reason);
        }
        let path = fs::canonicalize(name).map_err(|error| unopened(&error))?;
        if let Some(reason) = complaint_of_permissions(&path) {
            return Err(reason);
        }
        Ok(Self { name: name.to_owned(), path, file })
    }

    /// Whether nothing was ever stored in it.
    pub(super) fn is_new(&self) -> bool {
        self.file.metadata().is_ok_and(|file| file.len() == 0)
    }

    /// Waits until it is on the disk.
    pub(super) fn sync(&self) -> Result<(), OpenError> {
        self.file.sync_all().map_err(|error| {
            let reason = format!("it cannot be synced to the disk ({error}); name another file with --db");
            OpenError::refusal(&self.name, &reason)
        })
    }
}

impl Drop for DatabaseFile {
    /// Gives up the lock by itself: a child that is just being started has the file open, too.
    fn drop(&mut self) {
        // If that fails, the file is closed all the same.
        let _ = self.file.unlock();
    }
}

/// Whether another polecat is using the file. This process must not have it open.
pub(crate) fn is_taken(name: &Path) -> bool {
    let Ok(Some(path)) = locate(name) else { return false };
    File::open(path).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// The path, without links, of the file that is called `name`; `None` if it does not exist yet.
pub(crate) fn locate(name: &Path) -> Result<Option<PathBuf>, String> {
    if name == Path::new(":memory:") {
        return Err("it is not a file; store nothing with --db off, or name a file with --db".to_owned());
    }
    // Opening a pipe would wait for its other end.
    if let Some(reason) = complaint_of_kind(name) {
        return Err(reason.to_owned());
    }
    match fs::metadata(name) {
        Ok(found) => {
            let path = fs::canonicalize(name).map_err(|error| unopened(&error))?;
            let complaint = complaint_of_length(&path).or_else(|| complaint_of_size(&path, found.len()));
            complaint.map_or(Ok(Some(path)), Err)
        }
        Err(error) => match complaint_of_folder(name).or_else(|| complaint_of_length(name)) {
            Some(reason) => Err(reason),
            None if error.kind() != ErrorKind::NotFound => Err(unopened(&error)),
            None if name.as_os_str().as_encoded_bytes().ends_with(b"/") => {
                Err("its name is that of a folder; name a file with --db".to_owned())
            }
            None => Ok(None),
        },
    }
}

/// The folder of a file with this name.
pub(crate) fn folder_of(name: &Path) -> &Path {
    name.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Why a file with several names cannot be used: two servers could store in it one after the other, and the
/// second would not see the log that a crash of the first has left.
pub(crate) fn other_names(found: &Metadata) -> Option<String> {
    let names = found.nlink();
    (names > 1).then(|| {
        format!(
            "it has {names} names (hard links), and its log is beside only one of them; copy it, or remove \
             the other names"
        )
    })
}

fn make(name: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(MODE).open(name).map(drop)
}

/// Whether a file is locked now; it is not if its file system has no locks.
fn is_locked(locked: Result<(), TryLockError>) -> Result<bool, String> {
    match locked {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => {
            Err("another polecat is using it; stop that, or name another file with --db".to_owned())
        }
        Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => Ok(false),
        Err(TryLockError::Error(error)) => {
            Err(format!("it cannot be locked ({error}); name a file on a local disk with --db"))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_file_is_free_once_it_is_closed_though_a_child_still_has_its_descriptor() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("polecat.db");
        let file = DatabaseFile::lock(&path).unwrap();
        // As a child that was forked, and has not executed its program yet.
        let _inherited = file.file.try_clone().unwrap();
        assert!(DatabaseFile::lock(&path).is_err());
        drop(file);
        assert!(DatabaseFile::lock(&path).is_ok());
    }

    #[test]
    fn a_lock_that_cannot_be_taken_is_a_refusal_unless_there_are_none() {
        let failed = |errno: Errno| is_locked(Err(TryLockError::Error(errno.into())));
        assert_eq!(is_locked(Ok(())), Ok(true));
        assert!(
            is_locked(Err(TryLockError::WouldBlock)).is_err_and(|reason| reason.contains("another polecat"))
        );
        for errno in [Errno::NOSYS, Errno::OPNOTSUPP] {
            assert_eq!(failed(errno), Ok(false), "{errno}: the file system has no locks");
        }
        for errno in [Errno::BADF, Errno::NOLCK, Errno::IO, Errno::INVAL, Errno::ACCESS, Errno::STALE] {
            assert!(failed(errno).is_err_and(|reason| reason.contains("cannot be locked")), "{errno}");
        }
    }
}
