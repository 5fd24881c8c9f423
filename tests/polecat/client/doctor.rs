//! `polecat doctor`: docs/command-line.md, "The command line".

use std::os::unix::fs::symlink;
use std::path::Path;

use rusqlite::Connection;
use serde_json::Value;

use crate::support::process::{Ended, run};
use crate::support::socket::message;
use crate::support::{Home, Process, old_database, post, skip};

fn doctor(database: &Path, more: &[&str]) -> Ended {
    run(|command| {
        command.args(["doctor", "--db"]).arg(database).args(more);
    })
}

/// The finding about one thing: the level, the text and the command.
fn said_of(database: &Path, name: &str) -> (String, String, String) {
    let ended = doctor(database, &["--json"]);
    let report =
        serde_json::from_str::<Value>(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    let checks = report["checks"].as_array().expect("a list");
    let levels = checks.iter().filter_map(|check| check["level"].as_str()).collect::<Vec<_>>();
    let is_bad = levels.contains(&"bad");
    assert_eq!(
        (ended.status.code(), report["worst"] == "bad"),
        (Some(i32::from(is_bad)), is_bad),
        "{report}"
    );
    let check = checks.iter().find(|check| check["name"] == name);
    let check = check.unwrap_or_else(|| panic!("no {name} in {report}"));
    let text = |key: &str| check[key].as_str().unwrap_or_default().to_owned();
    (text("level"), text("text"), text("command"))
}

fn files_beside(database: &Path) -> usize {
    std::fs::read_dir(database.parent().expect("a folder")).expect("it can be listed").count()
}

#[test]
fn a_broken_database_is_bad_and_left_as_it_was() {
    let home = Home::new();
    let database = home.database();
    let damaged = {
        let mut connection = old_database::create(&database, old_database::SCHEMA);
        old_database::fill(&mut connection, "room", 500);
        drop(connection);
        let mut bytes = std::fs::read(&database).expect("a file");
        let len = bytes.len();
        bytes[4096..len].fill(0x55);
        bytes
    };
    let stranger = {
        std::fs::remove_file(&database).expect("it is there");
        let connection = old_database::create(&database, "CREATE TABLE messages (id TEXT, what BLOB)");
        drop(connection);
        std::fs::read(&database).expect("a file")
    };
    for (contents, text) in [
        (
            b"this is no database, but long enough to be looked at as one; ".repeat(20),
            "not an SQLite database",
        ),
        (damaged, "damaged"),
        (stranger, "its table `messages` is not one of polecat's"),
    ] {
        std::fs::write(&database, &contents).expect("it can be written");
        let (level, said, command) = said_of(&database, "contents");
        assert!(level == "bad" && said.contains(text) && !command.is_empty(), "{level} {said} {command}");
        assert_eq!(std::fs::read(&database).expect("a file"), contents, "{text}");
        assert_eq!(files_beside(&database), 1, "{text}");
        // The table has the same, and what to do.
        let ended = doctor(&database, &[]);
        assert_eq!(ended.status.code(), Some(1));
        assert!(ended.stdout.contains("\nbad ") && ended.stdout.contains("→ "), "{}", ended.stdout);
    }
}

#[test]
fn who_uses_the_database_and_who_locks_it_is_told() {
    let home = Home::new();
    assert_eq!(said_of(&home.database(), "database").0, "ok");
    let server = Process::serve(&home.database(), &[]);
    let (level, text, _) = said_of(&home.database(), "contents");
    assert!(level == "ok" && text.starts_with("sound: up to message 0 and event 0"), "{text}");
    let (level, text, _) = said_of(&home.database(), "used by");
    if level == "unknown" {
        return skip("the system does not say who has a file locked");
    }
    let process = format!("polecat (process {})", server.pid().as_raw_nonzero());
    assert!(level == "ok" && text.starts_with(&process), "{level} {text}");
    let other = Connection::open(home.database()).expect("the database can be opened");
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock is to be had");
    let (level, text, _) = said_of(&home.database(), "used by");
    assert!(level == "warn" && text.contains(&format!("(process {})", std::process::id())), "{level} {text}");
    // The doctor is not kept out by the lock, and does not keep the server out.
    assert_eq!(said_of(&home.database(), "contents").0, "ok");
    other.execute_batch("COMMIT").expect("the lock can be let go");
    server.kill();
    let (level, text, _) = said_of(&home.database(), "used by");
    assert!(level == "ok" && text.starts_with("no server"), "{level} {text}");
    let _server = Process::serve(&home.database(), &[]);
}

#[test]
fn pages_that_are_not_given_back_are_told() {
    let home = Home::new();
    let connection = old_database::create(&home.database(), old_database::SCHEMA);
    let fill = "INSERT INTO messages (channel_id, author, content, timestamp) VALUES ('a', 'b', zeroblob(20000000), 'c')";
    connection.execute_batch(&format!("{fill}; DELETE FROM messages")).expect("it is filled and emptied");
    drop(connection);
    let (level, text, command) = said_of(&home.database(), "free pages");
    assert!(level == "warn" && text.starts_with("19.1 MiB of 19.1 MiB"), "{level} {text}");
    let sql = command.split('\'').nth(1).expect("it is quoted");
    Connection::open(home.database()).expect("a database").execute_batch(sql).expect("it does what it says");
    assert!(std::fs::metadata(home.database()).expect("a file").len() < 100_000);
    let ended = doctor(&home.database(), &[]);
    assert!(!ended.stdout.contains("free pages"), "{}", ended.stdout);
}

#[test]
fn a_log_that_a_reader_keeps_is_told() {
    let home = Home::new();
    drop(old_database::create(&home.database(), old_database::SCHEMA));
    assert_eq!(said_of(&home.database(), "database").0, "ok");
    let log = std::fs::File::create(home.database().with_file_name("polecat.db-wal")).expect("a file");
    log.set_len((64 << 20) + 1).expect("it can be so long");
    let (level, text, command) = said_of(&home.database(), "database");
    assert!(level == "warn" && text.contains("64.0 MiB of log beside it"), "{level} {text}");
    assert!(command.starts_with("end the program that reads the database"), "{command}");
}

#[test]
fn a_folder_that_is_not_there_is_bad_and_no_database_is_fine() {
    let home = Home::new();
    let (level, _, command) = said_of(&home.database().with_file_name("a folder").join("x.db"), "database");
    assert!(level == "bad" && command.starts_with("mkdir -p '"), "{command}");
    assert_eq!(said_of(Path::new("off"), "database").0, "ok");
    assert_eq!(said_of(home.database().parent().expect("a folder"), "database").0, "bad");
}

#[test]
fn the_file_that_a_name_leads_to_is_looked_at() {
    let home = Home::new();
    let (database, folder) = (home.database(), home.database().with_file_name("data"));
    std::fs::create_dir(&folder).expect("a folder");
    symlink("data/real.db", &database).expect("a link");
    let server = Process::serve(&database, &[]);
    post(server.addr(), "/api/messages", &message("room", "a", "1")).ok();
    // A killed server leaves its log beside the file.
    server.kill();
    let (level, text, _) = said_of(&database, "database");
    assert!(level == "ok" && text.contains("data/real.db: ") && text.contains("of log beside it"), "{text}");
    let (level, text, _) = said_of(&database, "contents");
    assert!(level == "ok" && text.starts_with("sound: up to message 1"), "{text}");
    // An additional slash does not turn the folder into a host.
    let (level, text, _) = said_of(Path::new(&format!("/{}", database.display())), "contents");
    assert!(level == "ok" && text.starts_with("sound: up to message 1"), "{text}");
    let named = |end: &str| format!("{}{end}", database.display());
    for (name, reason) in [(named("/"), "Not a directory"), (named("-none/"), "name is that of a folder")] {
        let (level, text, command) = said_of(Path::new(&name), "database");
        assert!(level == "bad" && text.contains(reason) && !command.is_empty(), "{level} {text} {command}");
    }
    std::fs::hard_link(folder.join("real.db"), folder.join("other.db")).expect("a hard link");
    let (level, text, command) = said_of(&database, "database");
    assert!(
        level == "bad" && text.contains("it has 2 names") && command.starts_with("copy it"),
        "{text} {command}"
    );
}

#[test]
fn the_limits_of_the_system_are_looked_at() {
    let home = Home::new();
    for name in [
        "descriptors",
        "open files",
        "backlog",
        "port range",
        "socket memory",
        "memory",
        "clock",
        "free space",
        "file system",
    ] {
        let (level, text, _) = said_of(&home.database(), name);
        assert!(
            ["ok", "warn", "bad", "unknown"].contains(&level.as_str()) && !text.is_empty(),
            "{name}: {level} {text}"
        );
    }
    let ended = doctor(&home.database(), &["--connections", "99999999", "--json"]);
    let report = serde_json::from_str::<Value>(&ended.stdout).expect("JSON");
    let check = &report["checks"][0];
    assert_eq!((&check["name"], &check["level"]), (&"descriptors".into(), &"warn".into()), "{check}");
    assert!(
        check["command"].as_str().is_some_and(|command| command.contains("LimitNOFILE=100000031")),
        "{check}"
    );
}
