//! `polecat backup`: docs/operating.md, "The database file".

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;
use rustix::process::Signal;

use super::command::{Running, on_a_terminal};
use crate::support::process::{Ended, run};
use crate::support::socket::message;
use crate::support::{Home, Http, Process, get, old_database, post, skip, wait_until};

fn backup(database: &Path, file: &Path, more: &[&str]) -> Ended {
    run(|command| {
        command.args(["backup", "--db"]).arg(database).arg(file).args(more);
    })
}

/// A database with this many messages that no server has used.
fn database_of(home: &Home, count: u64) {
    let mut connection = old_database::create(&home.database(), old_database::SCHEMA);
    old_database::fill(&mut connection, "room", count);
}

fn names_beside(file: &Path) -> Vec<String> {
    let entries = fs::read_dir(file.parent().expect("a folder")).expect("it can be listed");
    let mut names = entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect::<Vec<_>>();
    names.sort();
    names
}

fn totals(addr: std::net::SocketAddr) -> u64 {
    get(addr, "/api/summary").ok()["summary"]["total_messages"].as_u64().expect("a count")
}

#[test]
fn a_copy_of_a_server_that_goes_on_storing_is_whole_and_of_one_moment() {
    let (home, other) = (Home::new(), Home::new());
    database_of(&home, 20_000);
    let process = Process::serve(&home.database(), &[]);
    let addr = process.addr();
    let is_over = AtomicBool::new(false);
    let copy = other.database();
    let (ended, published) = std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let mut http = Http::connect(addr);
            let mut newest = 0;
            while newest == 0 || !is_over.load(Ordering::Relaxed) {
                let stored = http.post("/api/messages", &message("room", "ann", "x")).ok();
                newest = stored["message"]["id"].as_u64().expect("an id");
            }
            newest
        });
        let ended = backup(&home.database(), &copy, &[]);
        is_over.store(true, Ordering::Relaxed);
        (ended, publisher.join().expect("it publishes"))
    });
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!((names_beside(&copy).len(), totals(addr)), (1, published), "nothing but the copy");
    process.kill();
    let process = Process::serve(&copy, &[]);
    let kept = totals(process.addr());
    assert!((20_000..=published).contains(&kept), "{kept} of {published}");
    assert!(ended.stdout.contains(&format!(": up to message {kept} and event 0\n")), "{ended:?}");
    let mut http = Http::connect(process.addr());
    let next = http.post("/api/messages", &message("room", "ann", "x")).ok();
    assert_eq!(next["message"]["id"], kept + 1, "and no message of it is missing");
    process.kill();
}

#[test]
fn a_copy_by_a_link_has_what_is_in_the_log_alone() {
    let (home, other) = (Home::new(), Home::new());
    let real = home.database().with_file_name("real.db");
    symlink("real.db", home.database()).expect("a link");
    let process = Process::serve(&home.database(), &[]);
    for content in ["1", "2", "3"] {
        post(process.addr(), "/api/messages", &message("room", "ann", content)).ok();
    }
    let copy = other.database();
    let ended = backup(&home.database(), &copy, &[]);
    assert!(ended.status.success() && ended.stdout.contains(": up to message 3 and"), "{ended:?}");
    fs::remove_file(&copy).expect("it is there");
    // It could not be found by another name of the file.
    fs::hard_link(&real, home.database().with_file_name("other.db")).expect("a hard link");
    let ended = backup(&home.database().with_file_name("other.db"), &copy, &[]);
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stderr.join("\n").contains("it has 2 names"), "{ended:?}");
    assert!(!copy.exists(), "no copy");
    process.kill();
}

#[test]
fn a_copy_of_what_nobody_uses_leaves_nothing_beside_it() {
    let (home, other) = (Home::new(), Home::new());
    database_of(&home, 100);
    fs::set_permissions(home.database(), fs::Permissions::from_mode(0o600)).expect("they can be set");
    let before = fs::read(home.database()).expect("a file");
    let ended = backup(&home.database(), &other.database(), &["--quiet"]);
    assert!(ended.status.success() && ended.stdout.is_empty() && ended.stderr.is_empty(), "{ended:?}");
    assert_eq!((names_beside(&home.database()).len(), names_beside(&other.database()).len()), (1, 1));
    assert_eq!(fs::read(home.database()).expect("a file"), before);
    let mode = fs::metadata(other.database()).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "who may not read the one may not read the other");
    let copy = Connection::open(other.database()).expect("a database");
    let count = copy.query_row("SELECT count(*) FROM messages", (), |row| row.get::<_, i64>(0));
    assert_eq!(count.expect("a count"), 100);
    let mode = copy.query_row("PRAGMA auto_vacuum", (), |row| row.get::<_, i64>(0));
    assert_eq!(mode.expect("a mode"), 2, "a copy of an old file gives its free pages back");
}

#[test]
fn what_a_crash_has_left_in_the_log_is_in_the_copy() {
    let (home, other) = (Home::new(), Home::new());
    let process = Process::serve(&home.database(), &[]);
    let mut http = Http::connect(process.addr());
    http.post("/api/messages", &message("room", "ann", "x")).ok();
    process.kill();
    let ended = backup(&home.database(), &other.database(), &[]);
    assert!(ended.stdout.contains("up to message 1 and event 0"), "{ended:?}");
}

#[test]
fn what_is_there_is_not_written_over() {
    let (home, other) = (Home::new(), Home::new());
    database_of(&home, 100);
    let copy = other.database();
    let part = copy.with_file_name("polecat.db.part");
    assert_eq!(copy.file_name().and_then(|name| name.to_str()), Some("polecat.db"));
    let folder = copy.with_file_name("missing").join("copy.db");
    let refused = |database: &Path, file: &Path, why: &str| {
        let ended = backup(database, file, &[]);
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        let [line] = ended.stderr.as_slice() else { panic!("one line: {ended:?}") };
        assert!(line.starts_with("polecat: ") && line.contains(why), "{line}");
    };
    fs::write(&copy, "mine").expect("it can be written");
    refused(&home.database(), &copy, "exists already; name another file");
    refused(&home.database(), &home.database(), "exists already");
    assert_eq!(fs::read(&copy).expect("a file"), b"mine");
    fs::rename(&copy, &part).expect("it can be renamed");
    refused(&home.database(), &copy, "another backup is writing it, or was cut short");
    assert_eq!(fs::read(&part).expect("a file"), b"mine");
    fs::remove_file(&part).expect("it can be deleted");
    refused(&home.database(), &folder, "its folder does not exist");
    refused(&folder, &copy, "it is not there; name the database with --db");
    refused(Path::new("off"), &copy, "nothing is stored with --db off");
    assert_eq!(names_beside(&copy).len(), 0);
}

#[test]
fn what_is_damaged_is_told_and_no_copy_is_left() {
    let (home, other) = (Home::new(), Home::new());
    database_of(&home, 1_000);
    let sound = fs::read(home.database()).expect("a file");
    let mut garbled = sound.clone();
    garbled[4096..].fill(0x55);
    // One letter of one entry of the index by channel: the row is found by its id, but no longer by its
    // channel.
    let mut misled = sound;
    let entry = misled.windows(7).rposition(|bytes| bytes.starts_with(b"room") && &bytes[4..] != b"old");
    misled[entry.expect("an entry of the index")] = b'R';
    let other_text = b"this is no database, but as long as the head of one is, and more. ".repeat(9);
    for (contents, remedy) in [
        (garbled, "restore a copy of it, or save what is left"),
        (misled, "rebuild its indexes with `sqlite3 FILE REINDEX`"),
        (other_text, "it is not an SQLite database"),
    ] {
        fs::write(home.database(), &contents).expect("it can be written");
        let ended = backup(&home.database(), &other.database(), &[]);
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        let [line] = ended.stderr.as_slice() else { panic!("one line: {ended:?}") };
        assert!(line.contains(remedy), "{remedy}: {line}");
        assert_eq!(names_beside(&other.database()).len(), 0, "{line}");
    }
}

#[test]
fn a_backup_that_is_stopped_leaves_no_file() {
    let (home, other) = (Home::new(), Home::new());
    database_of(&home, 20_000);
    let copy = other.database();
    let locker = Connection::open(home.database()).expect("a database");
    locker.execute_batch("BEGIN EXCLUSIVE").expect("it can be locked");
    let (from, to) = (home.database(), copy.display().to_string());
    let mut running = Running::start_interruptible(
        ([127, 0, 0, 1], 0).into(),
        &["backup", "--db", &from.display().to_string(), &to],
    );
    wait_until("it has begun, and waits for the lock", || {
        assert!(!running.has_ended(), "it does not begin");
        std::thread::yield_now();
        copy.with_file_name("polecat.db.part").exists()
    });
    running.signal(Signal::INT);
    locker.execute_batch("ROLLBACK").expect("it can be unlocked");
    let (status, lines, told) = running.wait();
    assert_eq!((status.code(), lines.len()), (Some(1), 0), "{told:?}");
    assert!(told.iter().any(|line| line.ends_with(": it was stopped")), "{told:?}");
    assert_eq!(names_beside(&copy).len(), 0);
}

#[test]
fn on_a_terminal_it_says_how_far_it_is() {
    let (home, other) = (Home::new(), Home::new());
    database_of(&home, 20_000);
    let args = format!("backup --db {} {}", home.database().display(), other.database().display());
    let Some(shown) = on_a_terminal(([127, 0, 0, 1], 0).into(), &args, &[]) else {
        return skip("there is no script(1) to make a terminal");
    };
    assert!(shown.contains("copying"), "{shown:?}");
}
