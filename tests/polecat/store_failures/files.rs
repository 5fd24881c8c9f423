//! Files that are refused, and what is read from those that are not: PROTOCOL.md, "15. When the store fails".

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::process::{Ended, run};
use crate::support::socket::message;
use crate::support::{Home, Http, Process, Server, Socket, get, post, wait_until};

fn start(database: &Path) -> Ended {
    run(|command| {
        command.args(["serve", "--listen", "127.0.0.1:0", "--db"]).arg(database);
    })
}

/// The same in `folder`.
fn start_in(folder: &Path, database: &Path) -> Ended {
    run(|command| {
        command.current_dir(folder).args(["serve", "--listen", "127.0.0.1:0", "--db"]).arg(database);
    })
}

/// Checks that the start was refused with a line that has the file's name as it was given, and `reason`.
fn expect_refusal(ended: &Ended, name: &str, reason: &str) {
    let said = ended.stderr.join("\n");
    assert_eq!((ended.status.code(), ended.stderr.len()), (Some(1), 1), "{name}: {said}");
    assert!(said.contains(name) && said.contains(reason), "{name}: no {reason:?} in {said}");
}

/// Checks that the file is refused with a line that names it and says what to do, and that nothing is
/// touched.
pub(super) fn expect_refused(database: &Path, remedy: &str) {
    let before = std::fs::read(database).expect("the file");
    let ended = start(database);
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let said = ended.stderr.join("\n");
    assert_eq!(ended.stderr.len(), 1, "{said}");
    assert!(said.contains(&*database.to_string_lossy()) && said.contains(remedy), "{remedy:?}: {said}");
    assert_eq!(std::fs::read(database).expect("the file"), before, "it is not touched");
    let directory = database.parent().expect("a directory");
    let names =
        std::fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").file_name());
    let strange = names.filter(|name| {
        let name = name.to_string_lossy();
        name.ends_with("-wal") || name.ends_with("-shm") || name.ends_with("-journal")
    });
    assert_eq!(strange.collect::<Vec<_>>(), Vec::<std::ffi::OsString>::new(), "nothing is left beside it");
}

#[test]
fn a_path_that_is_too_long_is_named_as_that() {
    let home = Home::new();
    let folder = home.database().parent().expect("a folder").canonicalize().expect("a folder");
    // The whole path counts, however it is given.
    let with_len = |len: usize| {
        let mut path = folder.clone();
        while path.as_os_str().len() + 1 < len - 200 {
            path.push("d".repeat(100));
        }
        std::fs::create_dir_all(&path).expect("a folder");
        path.join("f".repeat(len - path.as_os_str().len() - 1))
    };
    let (longest, longer) = (with_len(504), with_len(505));
    for path in [&longer, &with_len(700)] {
        let relative = path.strip_prefix(&folder).expect("it is below");
        for (current, given) in [(Path::new("/"), path.as_path()), (&folder, relative)] {
            let ended = run(|command| {
                command.current_dir(current).args(["serve", "--listen", "127.0.0.1:0", "--db"]).arg(given);
            });
            assert_eq!((ended.status.code(), ended.stderr.len()), (Some(1), 1), "{ended:?}");
            let len = path.as_os_str().len();
            let reason = format!("its path has {len} bytes, and SQLite accepts at most 504");
            assert!(ended.stderr[0].contains(&reason), "{ended:?}");
        }
    }
    Process::serve(&longest, &[]).kill();
}

#[test]
fn a_folder_that_is_none_or_cannot_be_reached_is_told_apart() {
    let home = Home::new();
    std::fs::write(home.database(), "").expect("a file");
    let folder = home.database().with_file_name("missing");
    for (database, reason) in [
        (folder.join("polecat.db"), "its folder does not exist; create it"),
        (home.database().join("polecat.db"), "its folder is a file"),
        (
            folder.with_file_name("x".repeat(256)).join("db"),
            "its folder cannot be used (File name too long (os error 36))",
        ),
        (folder.with_file_name("x".repeat(256)), "it cannot be opened (File name too long (os error 36))"),
    ] {
        let ended = start(&database);
        assert_eq!((ended.status.code(), ended.stderr.len()), (Some(1), 1), "{ended:?}");
        assert!(ended.stderr[0].contains(reason), "{reason}: {ended:?}");
    }
}

#[test]
fn a_lack_of_descriptors_at_the_start_is_named_as_that() {
    for memory in [false, true] {
        // More than the program loader needs, and fewer than a server needs at each step of its start.
        for limit in 4..=if memory { 6 } else { 10 } {
            let home = Home::new();
            let database = home.database();
            let ended = run(|command| {
                let binary = std::mem::replace(command, Command::new("sh"));
                // Descriptors that this process was started with may be open too.
                let close = (3..10).map(|number| format!(" {number}>&-")).collect::<String>();
                let script = format!("exec{close}; ulimit -n {limit}; exec \"$0\" \"$@\"");
                command.args(["-c", &script]).arg(binary.get_program()).args([
                    "--listen",
                    "127.0.0.1:0",
                    "--db",
                ]);
                if memory {
                    command.arg("off")
                } else {
                    command.arg(&database)
                };
            });
            assert_eq!((ended.status.code(), ended.stderr.len()), (Some(1), 1), "{limit}: {ended:?}");
            let reason = "no descriptors are left; raise the limit";
            assert!(ended.stderr[0].contains(reason), "{limit}: {ended:?}");
            for misleading in ["folder", "choose", "--db"] {
                assert!(!ended.stderr[0].contains(misleading), "{limit}: {ended:?}");
            }
        }
    }
}

/// A database with messages, closed.
pub(super) fn filled(home: &Home) -> Vec<u8> {
    let server = home.serve();
    for number in 0..200 {
        post(server.addr(), "/api/messages", &message("room", "a", &number.to_string().repeat(200))).ok();
    }
    server.stop();
    std::fs::read(home.database()).expect("the file")
}

#[test]
fn what_is_no_file() {
    let home = Home::new();
    let socket = home.database().with_extension("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    for place in [Path::new("/dev/null"), &socket] {
        let ended = start(place);
        assert_eq!((ended.status.code(), ended.stderr.len()), (Some(1), 1), "{ended:?}");
        let said = &ended.stderr[0];
        assert!(said.contains("it is not a file; name another one with --db"), "{said}");
    }
}

#[test]
fn a_file_that_is_no_database() {
    let home = Home::new();
    for bytes in [&b"x"[..], b"no database at all", &[0xff; 10_000], b"SQLite format 3\0"] {
        std::fs::write(home.database(), bytes).expect("a file");
        expect_refused(&home.database(), "; name another file with --db");
    }
}

#[test]
fn a_file_that_this_user_may_not_write() {
    const NOBODY: u32 = 65_534;
    let home = Home::new();
    filled(&home);
    let folder = home.database().parent().expect("a folder").to_owned();
    let is_root = rustix::process::geteuid().is_root();
    // Permissions do not apply to root: another user runs a binary of its own.
    let binary = folder.join("polecat");
    if is_root {
        std::fs::copy(env!("CARGO_BIN_EXE_polecat"), &binary).expect("a copy");
        std::fs::set_permissions(&folder, Permissions::from_mode(0o777)).expect("a folder for all");
    }
    let refused = |what: &str| {
        let ended = run(|command| {
            if is_root {
                *command = Command::new(&binary);
                command.uid(NOBODY).gid(NOBODY);
            }
            command.args(["serve", "--listen", "127.0.0.1:0", "--db"]).arg(home.database());
        });
        assert_eq!((ended.status.code(), ended.stderr.len()), (Some(1), 1), "{ended:?}");
        let reason = format!("{what} cannot be written (Permission denied");
        assert!(ended.stderr[0].contains(&reason), "{reason}: {ended:?}");
    };
    let set_mode = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("it can be set");
    };
    let beside = || {
        let names =
            std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
        let mut names = names.map(|name| name.to_string_lossy().into_owned()).collect::<Vec<_>>();
        names.retain(|name| name.starts_with("polecat.db-"));
        names
    };
    set_mode(&home.database(), 0o444);
    refused("it");
    assert_eq!(beside(), [""; 0], "nothing is left beside it");
    set_mode(&home.database(), 0o666);
    let log = home.database().with_file_name("polecat.db-wal");
    std::fs::write(&log, "").expect("a log");
    set_mode(&log, 0o444);
    refused(&log.canonicalize().expect("a path").to_string_lossy());
    assert_eq!(beside(), ["polecat.db-wal"]);
}

#[test]
fn a_second_server_on_the_same_database() {
    let home = Home::new();
    let first = Process::serve(&home.database(), &[]);
    post(first.addr(), "/api/messages", &message("room", "a", "1")).ok();
    for _ in 0..2 {
        let second = start(&home.database());
        assert_eq!((second.status.code(), second.stderr.len()), (Some(1), 1), "{:?}", second.stderr);
        let database = home.database();
        for part in [&*database.to_string_lossy(), "stop that, or name another file with --db"] {
            assert!(second.stderr[0].contains(part), "{part}: {:?}", second.stderr);
        }
    }
    post(first.addr(), "/api/messages", &message("room", "a", "2")).ok();
    first.kill();
    // Whatever the end of the first one was.
    let third = Process::serve(&home.database(), &["--durability", "full"]);
    assert_eq!(post(third.addr(), "/api/messages", &message("room", "a", "3")).ok()["message"]["id"], 3);
    third.kill();
    let fourth = home.serve();
    assert_eq!(get(fourth.addr(), "/api/messages").ok()["messages"].as_array().map(Vec::len), Some(3));
}

#[test]
fn a_second_server_is_refused_however_the_file_is_spelled() {
    let home = Home::new();
    let database = home.database();
    let folder = database.parent().expect("a folder").to_owned();
    let file = folder.to_string_lossy().into_owned();
    std::fs::create_dir(folder.join("within")).expect("a folder");
    symlink("polecat.db", folder.join("link.db")).expect("a link");
    symlink("link.db", folder.join("link of a link.db")).expect("a link");
    symlink(&folder, folder.join("there")).expect("a link");
    let at = |name: &str| start_in(&folder, Path::new(name));
    let spellings = [
        "./polecat.db",
        ".//polecat.db",
        "within/../polecat.db",
        "there/polecat.db",
        "there/there/link.db",
        "link.db",
        "link of a link.db",
        &format!("{file}/polecat.db"),
        &format!("/{file}//polecat.db"),
    ];
    for first in ["polecat.db", "link of a link.db", "within/../there/polecat.db"] {
        let server = Process::start(|command| {
            command.current_dir(&folder).args(["serve", "--listen", "127.0.0.1:0", "--db", first]);
        });
        for spelling in spellings.into_iter().chain(["polecat.db"]) {
            expect_refusal(&at(spelling), spelling, "another polecat is using it");
        }
        // A slash at the end is for a folder, and there is none.
        for spelling in ["polecat.db/", "polecat.db//", "polecat.db/.", "link.db/"] {
            expect_refusal(&at(spelling), spelling, "Not a directory");
        }
        // It gets its other name now: a file that had it before its server started is refused below.
        std::fs::hard_link(&database, folder.join("second.db")).expect("a hard link");
        expect_refusal(&at("second.db"), "second.db", "another polecat is using it");
        std::fs::remove_file(folder.join("second.db")).expect("it is there");
        post(server.addr(), "/api/messages", &message("room", "a", first)).ok();
        server.signal(Signal::TERM);
        assert_eq!(server.wait().status.code(), Some(0));
    }
    let server = home.serve();
    assert_eq!(get(server.addr(), "/api/messages").ok()["messages"].as_array().map(Vec::len), Some(3));
}

#[test]
fn a_name_is_the_name_of_a_file_and_nothing_else() {
    let home = Home::new();
    let folder = home.database().parent().expect("a folder").to_owned();
    let names = ["polecat.db", "file:polecat.db", "file:polecat.db?mode=memory", "a%20b", "?", "#x", " "];
    for (number, name) in names.into_iter().enumerate() {
        let server = Process::start(|command| {
            command.current_dir(&folder).args(["serve", "--listen", "127.0.0.1:0", "--db", name]);
        });
        let posted = post(server.addr(), "/api/messages", &message("room", "a", name)).ok();
        assert_eq!(posted["message"]["id"], 1, "{name} is a database of its own");
        expect_refusal(&start_in(&folder, Path::new(name)), name, "another polecat is using it");
        server.signal(Signal::TERM);
        assert_eq!(server.wait().status.code(), Some(0));
        assert!(folder.join(name).is_file(), "{name}");
        assert_eq!(std::fs::read_dir(&folder).expect("a folder").count(), number + 1, "{name}");
    }
    for (name, reason) in [
        (":memory:", "--db off"),
        ("new.db/", "its name is that of a folder"),
        ("./", "it is a folder"),
        ("/dev/null", "it is not a file"),
        ("none/polecat.db", "its folder does not exist"),
        ("polecat.db/x.db", "its folder is a file"),
    ] {
        expect_refusal(&start_in(&folder, Path::new(name)), name, reason);
    }
    assert_eq!(std::fs::read_dir(&folder).expect("a folder").count(), names.len(), "nothing was made");
}

#[test]
fn a_file_with_two_names_is_refused_since_its_log_lies_beside_one_of_them() {
    let home = Home::new();
    filled(&home);
    let second = home.database().with_file_name("second.db");
    std::fs::hard_link(home.database(), &second).expect("a hard link");
    for database in [&home.database(), &second] {
        expect_refused(database, "copy it, or remove the other names");
    }
    std::fs::remove_file(&second).expect("it is there");
    let server = home.serve();
    assert_eq!(get(server.addr(), "/api/messages?limit=1").ok()["messages"][0]["id"], 200);
}

#[test]
fn a_link_is_stored_behind_and_its_log_lies_there_too() {
    let home = Home::new();
    let folder = home.database().parent().expect("a folder").to_owned();
    std::fs::create_dir(folder.join("data")).expect("a folder");
    symlink("data/real.db", home.database()).expect("a link");
    let server = Process::serve(&home.database(), &[]);
    post(server.addr(), "/api/messages", &message("room", "a", "1")).ok();
    server.kill();
    let log = folder.join("data/real.db-wal");
    assert!(std::fs::metadata(&log).is_ok_and(|log| log.len() > 0), "a crash leaves the log");
    let files = || ["real.db", "real.db-wal"].map(|name| std::fs::read(folder.join("data").join(name)).ok());
    // A file that is refused through the link is not written to either.
    let other = Connection::open(folder.join("data/real.db")).expect("the database can be opened");
    other.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).expect("it can be set");
    let sql = "ALTER TABLE messages RENAME TO kept; CREATE TABLE messages (id TEXT)";
    other.execute_batch(sql).expect("it can be changed");
    drop(other);
    let before = files();
    expect_refusal(&start(&home.database()), "polecat.db", "its table `messages`");
    assert!(files() == before, "it is not touched");
    let other = Connection::open(folder.join("data/real.db")).expect("the database can be opened");
    other
        .execute_batch("DROP TABLE messages; ALTER TABLE kept RENAME TO messages")
        .expect("it can be mended");
    drop(other);
    let server = home.serve();
    assert_eq!(get(server.addr(), "/api/messages").ok()["messages"][0]["content"], "1");
}

#[test]
fn what_is_too_old_goes_and_its_id_is_not_given_out_again() {
    let home = Home::new();
    // A little less than a second.
    let process = Process::serve(&home.database(), &["--retain-days", "0.00001"]);
    let mut http = Http::connect(process.addr());
    for _ in 0..5 {
        http.post("/api/messages", &message("room", "a", "c")).ok();
        http.post("/api/events", &json!({"type": "t"})).ok();
    }
    wait_until("all messages are gone", || http.get("/api/messages").ok() == json!({"messages": []}));
    assert_eq!(http.get("/api/summary").ok()["summary"]["total_messages"], 0);
    assert_eq!(http.get("/api/channels").ok(), json!({"channels": []}));
    process.kill();
    let server = home.serve();
    for (path, name) in [("/ws", "event"), ("/api/ws/room", "message")] {
        let mut client = Socket::connect_v1(server.addr(), &format!("{path}?last_event_id={name}-00002"));
        client.next_of_type("hello");
        assert_eq!(client.next_payload("gap")["newest"], format!("{name}-00005"));
        client.next_of_type("live");
        let mut client = Socket::connect_v1(server.addr(), &format!("{path}?last_event_id={name}-00005"));
        client.next_of_type("hello");
        assert_eq!(client.next_payload("resumed")["count"], 0, "it has missed nothing");
    }
    assert_eq!(post(server.addr(), "/api/messages", &message("room", "a", "c")).ok()["message"]["id"], 6);
}

#[test]
fn messages_are_read_by_id() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    for number in 1..=20 {
        let channel = if number % 2 == 0 { "even" } else { "odd" };
        http.post("/api/messages", &message(channel, "a", &number.to_string())).ok();
    }
    let mut ids = |query: &str| {
        let listed = http.get(&format!("/api/messages{query}")).ok();
        let messages = listed["messages"].as_array().expect("a list").iter();
        messages.map(|message| message["id"].as_u64().expect("an id")).collect::<Vec<_>>()
    };
    assert_eq!(ids("?limit=3"), [18, 19, 20], "the newest, oldest first");
    assert_eq!(ids("?limit=1000").len(), 20);
    assert_eq!(ids("?after=17"), [18, 19, 20]);
    assert_eq!(ids("?after=5&limit=3"), [6, 7, 8], "forward from there");
    assert_eq!(ids("?before=6&limit=3"), [3, 4, 5], "back from there");
    assert_eq!(ids("?before=4"), [1, 2, 3]);
    assert_eq!(ids("?after=5&before=9"), [6, 7, 8]);
    assert_eq!(ids("?after=5&before=9&limit=2"), [6, 7]);
    assert_eq!(ids("?after=8&before=9"), [0; 0]);
    assert_eq!(ids("?after=20"), [0; 0]);
    assert_eq!(ids("?before=1"), [0; 0]);
    assert_eq!(ids("?after=18446744073709551615"), [0; 0]);
    assert_eq!(ids("?before=18446744073709551615&limit=1"), [20]);
    assert_eq!(ids("?channel_id=even&after=4&limit=2"), [6, 8]);
    assert_eq!(ids("?channel_id=odd&before=8&limit=2"), [5, 7]);
    for (query, name) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("limit=1.5", "limit"),
        ("after=x", "after"),
        ("after=-1", "after"),
        ("before=event-00005", "before"),
        ("before=18446744073709551616", "before"),
    ] {
        let response = http.get(&format!("/api/messages?{query}"));
        assert_eq!(response.status, 422, "{query}");
        let fault: Value = response.json()["detail"][0].clone();
        assert_eq!(fault["loc"], json!(["query", name]), "{query}");
        assert!(fault["msg"].is_string() && fault["type"].is_string(), "{fault}");
    }
    http.expect_open();
}

#[test]
fn a_list_of_messages_ends_at_its_limit_of_bytes() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    for number in 0..10 {
        let content = format!("{number}{}", "x".repeat(900_000));
        http.post("/api/messages", &message("room", "a", &content)).ok();
    }
    let list = |http: &mut Http, query: &str| {
        let response = http.get(&format!("/api/messages{query}"));
        let listed = response.ok();
        let messages = listed["messages"].as_array().expect("a list").iter();
        let ids = messages.map(|message| message["id"].as_u64().expect("an id")).collect::<Vec<_>>();
        assert!(!ids.is_empty() && response.body.len() < 6 << 20, "{} bytes", response.body.len());
        ids
    };
    let newest = list(&mut http, "");
    assert_eq!(newest.last(), Some(&10), "the newest are listed");
    assert!(newest.len() < 10);
    let first = list(&mut http, "?after=0");
    assert_eq!(first.first(), Some(&1), "the first after it are listed");
    // Page by page, all of them.
    let (mut seen, mut after) = (Vec::new(), 0);
    while seen.len() < 10 {
        let page = list(&mut http, &format!("?after={after}"));
        after = page[page.len() - 1];
        seen.extend(page);
    }
    assert_eq!(seen, (1..=10).collect::<Vec<_>>());
}
