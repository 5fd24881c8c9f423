//! The database file: whether a server could use it, which programs use it, and its file system.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, statvfs};

use super::super::status::bytes;
use super::finding::Finding;
use super::locks::{Holder, LockKind, holders};
use crate::store::sqlite::{Examined, beside, examine, folder_of, locate, other_names};

/// With less free space than this, publishing may soon fail.
const FREE_BYTES_WARN: u64 = 256 << 20;
const FREE_BYTES_BAD: u64 = 16 << 20;

/// Free pages of this size are worth mentioning.
const PAGES_BYTES_WARN: u64 = 16 << 20;

/// A log of this size cannot be copied back for some reason. Normally it has at most a quarter of that.
const LOG_BYTES_WARN: u64 = 64 << 20;

/// Network file systems: they lack the shared memory between machines that a write-ahead log needs, and their
/// locks are unreliable.
const NETWORKED: [&str; 14] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "afs",
    "ceph",
    "fuse.sshfs",
    "fuse.s3fs",
    "fuse.glusterfs",
    "glusterfs",
    "lustre",
    "davfs",
];

/// File systems whose contents are lost when the machine loses power.
const IN_MEMORY: [&str; 2] = ["tmpfs", "ramfs"];

pub(super) fn findings(path: &Path) -> Vec<Finding> {
    if path.as_os_str() == "off" {
        return vec![Finding::ok("database", "off: nothing is stored")];
    }
    let folder = folder_of(path);
    if !folder.is_dir() {
        let text = format!("{}: its folder does not exist", path.display());
        return vec![Finding::bad("database", text, format!("mkdir -p {}", quoted(folder)))];
    }
    // The target of a link: the log is beside that.
    let located = match locate(path) {
        Ok(located) => located,
        Err(reason) => return vec![unusable(path, &reason)],
    };
    let path = located.as_deref().unwrap_or(path);
    let folder = folder_of(path);
    let mut findings = vec![file(path, folder)];
    if path.is_file() && access(path, Access::READ_OK).is_ok() {
        let users = holders(path, LockKind::Whole);
        let is_in_use = users.as_ref().is_some_and(|users| !users.is_empty());
        findings.push(locks(path, users));
        if fs::metadata(path).is_ok_and(|file| file.len() > 0) {
            findings.extend(contents(path, is_in_use));
        }
    }
    findings.push(space(folder));
    findings.push(file_system(folder));
    findings
}

/// A file that no server could use; the part of the reason behind the semicolon says what to do.
fn unusable(path: &Path, reason: &str) -> Finding {
    let (what, command) = reason.split_once("; ").unwrap_or((reason, "name another file with --db"));
    Finding::bad("database", format!("{}: {what}", path.display()), command)
}

fn file(path: &Path, folder: &Path) -> Finding {
    const NAME: &str = "database";
    let shown = path.display();
    if access(folder, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let text = format!("{shown}: this user cannot write to its folder, where the log must be");
        return Finding::bad(NAME, text, format!("sudo chown \"$USER\" {}", quoted(folder)));
    }
    let Ok(metadata) = fs::metadata(path) else {
        return Finding::ok(NAME, format!("{shown} does not exist yet; the first start creates it"));
    };
    if let Some(reason) = other_names(&metadata) {
        return unusable(path, &reason);
    }
    let beside = ["-wal", "-shm"].map(|end| beside(path, end));
    let files = std::iter::once(path).chain(beside.iter().map(PathBuf::as_path)).filter(|path| path.exists());
    for path in files {
        if access(path, Access::READ_OK | Access::WRITE_OK).is_err() {
            let text = format!("this user cannot read and write {}", path.display());
            return Finding::bad(NAME, text, format!("sudo chown \"$USER\" {}*", quoted(path)));
        }
    }
    let log_bytes = fs::metadata(&beside[0]).map_or(0, |log| log.len());
    let log =
        if log_bytes > 0 { format!(", and {} of log beside it", bytes(log_bytes)) } else { String::new() };
    let text = format!("{shown}: {}{log}; readable and writable", bytes(metadata.len()));
    if log_bytes > LOG_BYTES_WARN {
        let command = "end the program that reads the database and so prevents the log from being copied back: fuser -v FILE";
        return Finding::warn(NAME, text, command.replace("FILE", &quoted(path)));
    }
    Finding::ok(NAME, text)
}

fn locks(path: &Path, users: Option<Vec<Holder>>) -> Finding {
    const NAME: &str = "used by";
    let writing = [path, &beside(path, "-shm")].map(|path| holders(path, LockKind::Writing));
    let [Some(of_file), Some(of_log)] = writing else {
        return Finding::unknown(NAME, "the system does not tell who has it locked");
    };
    let users = users.unwrap_or_default();
    let mut writers = of_file;
    writers.extend(of_log);
    writers.retain(|writer| !users.iter().any(|user| user.pid == writer.pid));
    if !writers.is_empty() {
        let text = format!(
            "{}: it holds the database locked, and nothing can be stored until it unlocks it",
            list(&writers)
        );
        return Finding::warn(NAME, text, "end its transaction, or that program");
    }
    if users.is_empty() {
        return Finding::ok(NAME, "no server, and no program has it locked");
    }
    Finding::ok(NAME, format!("{}; a second server would be refused", list(&users)))
}

fn contents(path: &Path, is_in_use: bool) -> Vec<Finding> {
    const NAME: &str = "contents";
    match examine(path, is_in_use) {
        Ok(found) => {
            let (messages, events) = (found.newest_message, found.newest_event);
            let how = if found.is_whole {
                "all of it was checked".to_owned()
            } else {
                format!(
                    "only the schema and the ends of the tables of so large a file were checked; sqlite3 {} 'PRAGMA quick_check' checks everything",
                    quoted(path)
                )
            };
            let sound = format!("sound: up to message {messages} and event {events}; {how}");
            std::iter::once(Finding::ok(NAME, sound)).chain(free_pages(path, found)).collect()
        }
        Err(reason) => {
            let (what, command) = reason.split_once("; ").unwrap_or((&reason, "name another file with --db"));
            vec![Finding::bad(
                NAME,
                what.trim_start_matches("it is "),
                command.replace("FILE", &quoted(path)),
            )]
        }
    }
}

/// The free pages of the file, if they are many.
fn free_pages(path: &Path, found: Examined) -> Option<Finding> {
    const NAME: &str = "free pages";
    if found.free_bytes < PAGES_BYTES_WARN || found.free_bytes < found.bytes / 4 {
        return None;
    }
    let text = format!(
        "{} of {} are free pages, left by deleted records",
        bytes(found.free_bytes),
        bytes(found.bytes)
    );
    if found.can_shrink {
        return Some(Finding::ok(
            NAME,
            format!("{text}; a server gives them back to the file system, a few at a time"),
        ));
    }
    let text = format!("{text}; they are used again for new records, but not given back to the file system");
    let command = "stop the server, and: sqlite3 FILE 'PRAGMA auto_vacuum = INCREMENTAL; VACUUM'";
    Some(Finding::warn(NAME, text, command.replace("FILE", &quoted(path))))
}

fn space(folder: &Path) -> Finding {
    const NAME: &str = "free space";
    let Ok(found) = statvfs(folder) else {
        return Finding::unknown(NAME, "the system does not tell how much there is");
    };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let text = format!("{} of {}", bytes(free), bytes(found.f_blocks.saturating_mul(found.f_frsize)));
    let command = "make room, or keep less with --retain-messages or --retain-days";
    if free < FREE_BYTES_BAD {
        Finding::bad(NAME, text, command)
    } else if free < FREE_BYTES_WARN {
        Finding::warn(NAME, text, command)
    } else {
        Finding::ok(NAME, text)
    }
}

fn file_system(folder: &Path) -> Finding {
    const NAME: &str = "file system";
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok();
    let folder = fs::canonicalize(folder).ok();
    let kind = mounts.zip(folder).and_then(|(mounts, folder)| kind_at(&mounts, &folder));
    judge(kind.as_deref()).unwrap_or_else(|| Finding::unknown(NAME, "the system does not tell which"))
}

fn judge(kind: Option<&str>) -> Option<Finding> {
    const NAME: &str = "file system";
    let kind = kind?;
    Some(if NETWORKED.contains(&kind) {
        let text = format!("{kind}, over a network: a write-ahead log and its locks do not work there");
        Finding::bad(NAME, text, "name a file on a local disk with --db")
    } else if IN_MEMORY.contains(&kind) {
        let text = format!("{kind}, in memory: everything is lost when the machine stops");
        Finding::warn(NAME, text, "name a file on a disk with --db")
    } else if kind.starts_with("fuse") {
        let text = format!("{kind}: polecat cannot tell whether it has shared memory and locks");
        Finding::warn(NAME, text, "name a file on a local disk with --db")
    } else {
        Finding::ok(NAME, kind)
    })
}

/// The kind of the file system of `folder`, from the kernel's list of mounts.
fn kind_at(mounts: &str, folder: &Path) -> Option<String> {
    let mounted = mounts.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        // White space in the path is written in octal.
        let place = before.split(' ').nth(4)?.replace("\\040", " ").replace("\\011", "\t");
        let kind = after.split(' ').next()?;
        folder.starts_with(&place).then(|| (Path::new(&place).components().count(), kind.to_owned()))
    });
    // The deepest mount point; if several are mounted there, the last one.
    mounted.max_by_key(|(depth, _)| *depth).map(|(_, kind)| kind)
}

fn list(holders: &[Holder]) -> String {
    let names = holders.iter().map(|holder| match &holder.name {
        Some(name) => format!("{name} (process {})", holder.pid),
        None => format!("process {}", holder.pid),
    });
    names.collect::<Vec<_>>().join(", ")
}

/// A path, quoted for a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte);
    if text.bytes().all(is_plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn the_deepest_mount_counts_and_of_two_the_later() {
        let mounts = "22 1 254:0 / / rw - ext4 /dev/a rw\n\
                      23 22 0:5 / /srv rw,relatime shared:1 - nfs4 host:/x rw\n\
                      24 22 0:6 / /srv/my\\040disk rw - xfs /dev/b rw\n\
                      25 22 0:7 / /srv rw - cifs //host/x rw\n\
                      nonsense\n";
        for (folder, kind) in [
            ("/var", "ext4"),
            ("/srv/a", "cifs"),
            ("/srv/my disk/a", "xfs"),
            ("/srvx", "ext4"),
            ("/", "ext4"),
        ] {
            assert_eq!(kind_at(mounts, Path::new(folder)).as_deref(), Some(kind), "{folder}");
        }
        assert_eq!(kind_at("", Path::new("/")), None);
    }

    #[test]
    fn file_systems_are_judged() {
        for (kind, level) in [
            ("ext4", Level::Ok),
            ("btrfs", Level::Ok),
            ("overlay", Level::Ok),
            ("nfs4", Level::Bad),
            ("fuse.sshfs", Level::Bad),
            ("fuse.other", Level::Warn),
            ("tmpfs", Level::Warn),
        ] {
            assert_eq!(judge(Some(kind)).map(|finding| finding.level), Some(level), "{kind}");
        }
    }

    #[test]
    fn paths_are_quoted_for_the_shell() {
        assert_eq!(quoted(Path::new("/var/lib/a.db")), "/var/lib/a.db");
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
