//! Why a file cannot be opened. SQLite only says that it cannot, so the system is asked for the reason.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::descriptors::{are_lacking, explain, look_for_enough};

/// The longest path that SQLite opens, in bytes: of its 512, eight are for the names of the files beside it.
const PATH_BYTES_MAX: usize = 504;

/// The shortest possible database, in bytes: one page.
const DATABASE_BYTES_MIN: u64 = 512;

/// Why `path` cannot be a database, whatever its contents are.
pub(super) fn complaint_of_kind(path: &Path) -> Option<&'static str> {
    match fs::metadata(path).ok()?.file_type() {
        kind if kind.is_dir() => Some("it is a folder; name a file with --db"),
        kind if !kind.is_file() => Some("it is not a file; name another one with --db"),
        _ => None,
    }
}

/// Why the file at `path`, which has this many bytes, cannot be a database. SQLite finds that out by itself,
/// except that it takes a file of a single byte for a new one.
pub(super) fn complaint_of_size(path: &Path, bytes: u64) -> Option<String> {
    let has_log = || fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0);
    let is_too_short = (1..DATABASE_BYTES_MIN).contains(&bytes) && !has_log();
    is_too_short.then(|| "it is not an SQLite database; name another file with --db".to_owned())
}

/// Why this process cannot write to the file at `path`, or to those beside it. SQLite would find out only
/// after it has created some of these, and would leave them there.
pub(super) fn complaint_of_permissions(path: &Path) -> Option<String> {
    let beside = ["-wal", "-shm"].map(|end| beside(path, end));
    let files = std::iter::once(path).chain(beside.iter().map(PathBuf::as_path));
    for file in files.filter(|file| file.exists()) {
        if let Err(error) = access(file, Access::READ_OK | Access::WRITE_OK) {
            let what = if file == path { "it".to_owned() } else { file.display().to_string() };
            return Some(format!("{what} cannot be written ({error}); change its permissions"));
        }
    }
    None
}

/// The file beside a database whose name has this ending.
pub(crate) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// What is wrong with the folder of `path`, if anything.
pub(super) fn complaint_of_folder(path: &Path) -> Option<String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty())?;
    match fs::metadata(folder) {
        Ok(found) if found.is_dir() => None,
        Ok(_) => Some("its folder is a file; name another file with --db".to_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Some("its folder does not exist; create it, or name another file with --db".to_owned())
        }
        Err(error) => Some(format!("its folder cannot be used ({error}); name another file with --db")),
    }
}

/// Why SQLite could not open the file at `path`.
pub(super) fn explanation(path: &Path) -> String {
    if let Err(error) = look_for_enough() {
        return explain(&error);
    }
    let refused = OpenOptions::new().read(true).write(true).open(path).err();
    complaint_of_length(path).unwrap_or_else(|| match refused {
        Some(error) if error.kind() != ErrorKind::NotFound => unopened(&error),
        _ => "it cannot be opened; it and its folder must be readable and writable".to_owned(),
    })
}

/// Why the system did not open it.
pub(super) fn unopened(error: &io::Error) -> String {
    if are_lacking(error) {
        return explain(error);
    }
    format!("it cannot be opened ({error}); it and its folder must be readable and writable")
}

/// What is wrong with the length of `path`, if anything.
pub(super) fn complaint_of_length(path: &Path) -> Option<String> {
    let len = whole(path).as_os_str().len();
    (len > PATH_BYTES_MAX).then(|| {
        format!(
            "its path has {len} bytes, and SQLite accepts at most {PATH_BYTES_MAX}; name another file with --db"
        )
    })
}

/// The path as SQLite sees it: from the root, without symbolic links.
fn whole(path: &Path) -> PathBuf {
    let from_root = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let (Some(folder), Some(name)) = (from_root.parent(), from_root.file_name()) else { return from_root };
    fs::canonicalize(folder).map_or_else(|_| from_root.clone(), |folder| folder.join(name))
}
