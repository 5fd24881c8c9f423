//! The processes that hold locks on a file, according to the kernel.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) pid: u32,
    /// The name of its program, if that can be seen.
    pub(super) name: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LockKind {
    /// A lock of the whole file, as a polecat holds it while it runs.
    Whole,
    /// A write lock of a part of the file, as SQLite holds it for a transaction.
    Writing,
}

#[derive(Debug, PartialEq, Eq)]
struct Lock {
    pid: u32,
    inode: u64,
}

/// How often the kernel's table is read. The kernel returns it in pieces, and while other processes lock and
/// unlock, a lock between two pieces can be missed.
const READINGS: usize = 5;

/// The processes that hold such a lock of the file at `path`; `None` if the system does not tell.
pub(super) fn holders(path: &Path, kind: LockKind) -> Option<Vec<Holder>> {
    let read = |_| fs::read_to_string("/proc/locks").ok();
    let table = (0..READINGS).map(read).collect::<Option<String>>()?;
    let Ok(file) = fs::metadata(path) else { return Some(Vec::new()) };
    let locks = table.lines().filter_map(|line| parse(line, kind));
    let mut pids = locks.filter(|lock| lock.inode == file.ino()).map(|lock| lock.pid).collect::<Vec<_>>();
    pids.sort_unstable();
    pids.dedup();
    // A file on another file system may have the same number.
    pids.retain(|pid| has_open(*pid, &file).unwrap_or(true));
    let name = |pid: u32| Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned());
    Some(pids.into_iter().map(|pid| Holder { pid, name: name(pid) }).collect())
}

/// `1: POSIX  ADVISORY  WRITE 4295 fe:00:5361378 0 EOF`; a process that waits has an arrow in its line.
fn parse(line: &str, wanted: LockKind) -> Option<Lock> {
    let fields = line.split_whitespace().collect::<Vec<_>>();
    let &[_, kind, _, access, pid, file, ..] = fields.as_slice() else { return None };
    let is_wanted = match wanted {
        LockKind::Whole => kind == "FLOCK",
        LockKind::Writing => matches!(kind, "POSIX" | "OFDLCK") && access == "WRITE",
    };
    let inode = file.rsplit(':').next()?.parse().ok()?;
    is_wanted.then_some(Lock { pid: pid.parse().ok()?, inode })
}

/// Whether the process has this very file open; `None` if that cannot be seen.
fn has_open(pid: u32, file: &fs::Metadata) -> Option<bool> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let mut files = descriptors.flatten().filter_map(|entry| fs::metadata(entry.path()).ok());
    Some(files.any(|open| (open.dev(), open.ino()) == (file.dev(), file.ino())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_table_tells_who_holds_what() {
        let whole = "1: FLOCK  ADVISORY  WRITE 4295 fe:00:5361378 0 EOF";
        let writing = "4: POSIX  ADVISORY  WRITE 6074 08:01:17 120 120";
        assert_eq!(parse(whole, LockKind::Whole), Some(Lock { pid: 4295, inode: 5_361_378 }));
        assert_eq!(parse(whole, LockKind::Writing), None);
        assert_eq!(parse(writing, LockKind::Writing), Some(Lock { pid: 6074, inode: 17 }));
        for other in
            ["", "1: -> FLOCK ADVISORY WRITE 5 fe:00:1 0 EOF", "4: POSIX ADVISORY READ 6 08:01:17 1 1"]
        {
            assert_eq!(
                (parse(other, LockKind::Whole), parse(other, LockKind::Writing)),
                (None, None),
                "{other}"
            );
        }
    }
}
