//! The store cannot be written: what is refused, what continues, and how it recovers by itself.
//!
//! A full file system and a limit of the process need a process of their own: such a test runs this program
//! again, for one part that is otherwise ignored.

#![expect(clippy::print_stdout, reason = "a process talks to its parent")]

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rusqlite::Connection;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

use super::*;
use crate::skip::skip;

/// The folder in which the part in its own process works.
const FOLDER: &str = "POLECAT_TEST_FOLDER";

fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("polecat.db");
    (folder, path)
}

fn folder_of_this_part() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

/// This program again, for one of its tests.
fn part(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--ignored", "--nocapture", "--test-threads=1"]).env(FOLDER, folder);
    command
}

fn assert_passed(command: &mut Command) {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Appends one message and returns whether it was stored; if not, the reason must be that of the health.
fn is_stored(engine: &mut dyn Engine, content: &str, now: Now) -> bool {
    engine.append(Record::Message(message("a", content)), None, Some(TICKET));
    match run_at(engine, now).as_slice() {
        [Answer::Committed { .. }] => {
            assert_eq!(engine.health(), &Health::Sound);
            true
        }
        [Answer::Refused { query_id: Some(TICKET), error, .. }] => {
            assert_eq!(engine.health(), &Health::Degraded(error.0.clone()));
            false
        }
        other => panic!("neither stored nor refused: {other:?}"),
    }
}

fn reason(engine: &dyn Engine) -> &str {
    match engine.health() {
        Health::Degraded(reason) => reason,
        Health::Sound => "none",
    }
}

#[test]
fn a_locked_store_is_degraded_and_recovers_by_itself() {
    let (_folder, path) = place();
    let mut engine = open(&path);
    assert!(is_stored(&mut engine, "1", NOW));
    let locker = Connection::open(&path).unwrap();
    locker.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(!is_stored(&mut engine, "lost", NOW));
    assert_eq!(reason(&engine), "another program holds the database locked");
    assert_eq!(engine.due_in_ms(NOW), Some(1_000));
    assert_eq!(page_ids(&mut engine, channel("a"), 0, 9), (vec![1], 1), "reading goes on");
    assert!(!is_stored(&mut engine, "lost", after_ms(400)), "appends are tried at once");
    assert_eq!(engine.due_in_ms(after_ms(400)), Some(1_000));
    run_at(&mut engine, after_ms(1_400));
    assert_ne!(engine.health(), &Health::Sound, "it is locked still");
    locker.execute_batch("ROLLBACK").unwrap();
    run_at(&mut engine, after_ms(2_399));
    assert_ne!(engine.health(), &Health::Sound, "the next try is a second after the last");
    run_at(&mut engine, after_ms(2_400));
    assert_eq!(engine.health(), &Health::Sound);
    assert!(is_stored(&mut engine, "2", after_ms(2_400)));
    assert_eq!(page_ids(&mut engine, channel("a"), 0, 9), (vec![1, 2], 2));
}

#[test]
fn any_commit_proves_that_the_store_is_sound() {
    let (_folder, path) = place();
    let mut engine = open(&path);
    let locker = Connection::open(&path).unwrap();
    locker.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(!is_stored(&mut engine, "lost", NOW));
    locker.execute_batch("ROLLBACK").unwrap();
    assert!(is_stored(&mut engine, "1", after_ms(1)));
    assert_eq!(engine.health(), &Health::Sound);
}

#[test]
fn ids_that_went_back_stay_a_fault_until_they_are_mended() {
    let (_folder, path) = place();
    let mut engine = open(&path);
    publish(&mut engine, "a", &["1", "2"]);
    let person = Connection::open(&path).unwrap();
    person.execute_batch("DELETE FROM messages; DELETE FROM sqlite_sequence").unwrap();
    assert!(!is_stored(&mut engine, "1 again", NOW));
    run_at(&mut engine, after_ms(1_000));
    assert!(reason(&engine).contains("ids went back"), "a probe could write, but that is not enough");
    person.execute_batch("INSERT INTO sqlite_sequence VALUES ('messages', 2)").unwrap();
    run_at(&mut engine, after_ms(2_000));
    assert_eq!(engine.health(), &Health::Sound);
    assert!(is_stored(&mut engine, "3", after_ms(2_000)));
}

#[test]
fn a_lock_of_another_process_is_waited_out() {
    let (folder, path) = place();
    let mut engine = open(&path);
    let mut locker = part("failures::part_that_holds_a_lock", folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(locker.stdout.take().unwrap()).lines();
    assert!(lines.by_ref().any(|line| line.unwrap().contains("locked")), "the process ended early");
    assert!(!is_stored(&mut engine, "lost", NOW));
    run_at(&mut engine, after_ms(1_000));
    assert_eq!(reason(&engine), "another program holds the database locked");
    drop(locker.stdin.take());
    assert!(locker.wait().unwrap().success());
    run_at(&mut engine, after_ms(2_000));
    assert_eq!(engine.health(), &Health::Sound);
    assert!(is_stored(&mut engine, "1", after_ms(2_000)));
    assert_eq!(engine.newest_message(), 1);
}

#[test]
#[ignore = "a part of another test"]
fn part_that_holds_a_lock() {
    let Some(folder) = folder_of_this_part() else { return };
    let locker = Connection::open(folder.join("polecat.db")).unwrap();
    locker.execute_batch("BEGIN IMMEDIATE").unwrap();
    println!("locked");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn a_full_disk_loses_nothing_and_is_recovered_from() {
    let folder = tempfile::tempdir().unwrap();
    let mount = "mount -t tmpfs -o size=2m tmpfs \"$0\"";
    let namespaces = [&["--mount"][..], &["--user", "--map-root-user", "--mount"]];
    let unshared = |flags: &[&str], script: &str| {
        let mut command = Command::new("unshare");
        command.args(flags).args(["sh", "-c", script]).arg(folder.path());
        command
    };
    let can_mount =
        |flags: &&&[&str]| unshared(flags, mount).output().is_ok_and(|output| output.status.success());
    let Some(flags) = namespaces.iter().find(can_mount) else {
        return skip("a small file system cannot be mounted here");
    };
    let part = part("failures::part_on_a_small_disk", folder.path());
    let mut command = unshared(flags, &format!("{mount} && exec \"$@\""));
    command.arg(part.get_program()).args(part.get_args()).env(FOLDER, folder.path());
    assert_passed(&mut command);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "it was another file system");
}

#[test]
#[ignore = "a part of another test"]
fn part_on_a_small_disk() {
    let Some(folder) = folder_of_this_part() else { return };
    let path = folder.join("polecat.db");
    let mut engine = open(&path);
    let mut stored = Vec::new();
    for number in 0..20 {
        stored.push(format!("before {number}"));
        assert!(is_stored(&mut engine, &stored[number], NOW));
    }
    let mut filler = File::create(folder.join("filler")).unwrap();
    while filler.write(&[1; 4096]).is_ok_and(|written| written > 0) {}

    // Until nothing more fits into the space that the log had reserved.
    let mut refused = 0;
    for number in 0..200 {
        let content = format!("meanwhile {number}: {}", "x".repeat(5_000));
        if is_stored(&mut engine, &content, NOW) {
            stored.push(content);
        } else {
            refused += 1;
        }
    }
    assert!(refused > 100, "the disk was not full");
    assert_eq!(reason(&engine), "the disk is full");
    // With room for something, but not for what is refused.
    filler.set_len(filler.metadata().unwrap().len() - (100 << 10)).unwrap();
    assert!(!is_stored(&mut engine, &"x".repeat(200 << 10), NOW));
    for second in 1..5 {
        run_at(&mut engine, after_ms(1_000 * second));
        assert_eq!(reason(&engine), "the disk is full", "the probe knows as well");
    }
    let texts = |engine: &mut dyn Engine| -> Vec<String> {
        newest(engine, None, 1_000, usize::MAX).into_iter().map(|(_, content)| content).collect()
    };
    assert_eq!(texts(&mut engine), stored, "reading goes on");
    assert_eq!(summary(&mut engine).total_messages, stored.len() as u64);

    drop(filler);
    fs::remove_file(folder.join("filler")).unwrap();
    run_at(&mut engine, after_ms(5_000));
    assert_eq!(engine.health(), &Health::Sound, "by itself");
    stored.push("afterwards".to_owned());
    assert!(is_stored(&mut engine, "afterwards", after_ms(5_000)));
    assert_eq!(engine.newest_message(), stored.len() as u64, "a refused message costs no id");
    drop(engine);
    assert_eq!(texts(&mut open(&path)), stored);
}

#[test]
fn a_write_that_fails_loses_nothing_and_is_recovered_from() {
    let folder = tempfile::tempdir().unwrap();
    assert_passed(&mut part("failures::part_with_a_limit_on_files", folder.path()));
}

#[test]
#[ignore = "a part of another test"]
fn part_with_a_limit_on_files() {
    let Some(folder) = folder_of_this_part() else { return };
    let path = folder.join("polecat.db");
    // Otherwise the signal would end the process.
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::new(AtomicBool::new(false))).unwrap();
    let mut engine = open(&path);
    assert!(is_stored(&mut engine, "before", NOW));
    let unlimited = getrlimit(Resource::Fsize);
    let length = fs::metadata(folder.join("polecat.db-wal")).unwrap().len();
    let limit = |bytes: u64| {
        setrlimit(Resource::Fsize, Rlimit { current: Some(bytes), maximum: unlimited.maximum }).unwrap();
    };
    // In the middle of a page of the log, then at the end of the file.
    for (bytes, ms) in [(length + 5_000, 0), (length, 10_000)] {
        limit(bytes);
        assert!(!is_stored(&mut engine, &"x".repeat(100_000), after_ms(ms)));
        assert!(reason(&engine).starts_with("the disk does not work"), "{}", reason(&engine));
        run_at(&mut engine, after_ms(ms + 1_000));
        assert_ne!(engine.health(), &Health::Sound);
        assert_eq!(newest(&mut engine, None, 9, usize::MAX).len(), 1, "reading goes on");
        setrlimit(Resource::Fsize, unlimited).unwrap();
        run_at(&mut engine, after_ms(ms + 2_000));
        assert_eq!(engine.health(), &Health::Sound);
    }
    assert!(is_stored(&mut engine, "afterwards", after_ms(20_000)));
    drop(engine);
    let stored = [(1, "before".to_owned()), (2, "afterwards".to_owned())];
    assert_eq!(newest(&mut open(&path), None, 9, usize::MAX), stored);
}

#[test]
fn a_start_on_a_full_disk_is_degraded_and_ids_keep_their_meaning() {
    let folder = tempfile::tempdir().unwrap();
    assert_passed(&mut part("failures::part_that_starts_on_a_full_disk", folder.path()));
}

#[test]
#[ignore = "a part of another test"]
fn part_that_starts_on_a_full_disk() {
    let Some(folder) = folder_of_this_part() else { return };
    let path = folder.join("polecat.db");
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::new(AtomicBool::new(false))).unwrap();
    let mut engine = open(&path);
    let sound = engine.terms().epoch().to_owned();
    publish(&mut engine, "a", &["1", "2", "3"]);
    store(&mut engine, [Record::Event(event("e"))]);
    // A reader elsewhere, so that the log can only grow.
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM messages").unwrap();
    drop(engine);
    let unlimited = getrlimit(Resource::Fsize);
    let length = fs::metadata(folder.join("polecat.db-wal")).unwrap().len();
    setrlimit(Resource::Fsize, Rlimit { current: Some(length), maximum: unlimited.maximum }).unwrap();

    let mut engine = open(&path);
    assert!(reason(&engine).starts_with("the disk does not work"), "{}", reason(&engine));
    let first = engine.terms().epoch().to_owned();
    assert_eq!(agreed(&engine, &first), Some((u64::MAX, u64::MAX)));
    assert_eq!(agreed(&engine, &sound), Some((3, 1)));
    assert_eq!(page_ids(&mut engine, channel("a"), 0, 9), (vec![1, 2, 3], 3), "what is there can be read");
    assert!(!is_stored(&mut engine, "lost", NOW));
    drop(engine);
    let mut engine = open(&path);
    assert_eq!(agreed(&engine, &first), Some((3, 1)), "a start that has given nothing is none to a client");

    setrlimit(Resource::Fsize, unlimited).unwrap();
    let second = engine.terms().epoch().to_owned();
    run_at(&mut engine, after_ms(1_000));
    assert_eq!(engine.health(), &Health::Sound, "by itself");
    assert!(is_stored(&mut engine, "4", after_ms(1_000)));
    assert_eq!(engine.terms().epoch(), second, "clients were told so, and nothing else");
    drop(engine);
    let engine = open(&path);
    assert_eq!(agreed(&engine, &second), Some((4, 1)), "it is stored with the first id");
    assert_eq!(agreed(&engine, &first), Some((3, 1)));
    assert_eq!(agreed(&engine, &sound), Some((3, 1)));
}
