//! A store that cannot be written for a while: PROTOCOL.md, "15. When the store fails".

mod damage;
mod files;
mod history;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::Connection;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, prlimit};
use serde_json::{Value, json};

use crate::support::socket::message;
use crate::support::{Home, Http, Process, Response, Socket, assert_timestamp, get, post, skip, wait_until};

#[test]
fn a_database_locked_by_another_program() {
    let home = Home::new();
    let process = Process::serve(&home.database(), &[]);
    let other = Connection::open(home.database()).expect("the database can be opened");
    let lock = || other.execute_batch("BEGIN IMMEDIATE").expect("the lock is to be had");
    let unlock = || other.execute_batch("COMMIT").expect("the lock can be let go");
    live_through(process, &home.database(), lock, unlock);
}

#[test]
fn a_file_that_may_not_grow() {
    let home = Home::new();
    // A process that exceeds the limit gets a signal, which kills it unless it ignores the signal.
    let process = Process::serve_after("trap '' XFSZ", &home.database(), &[]);
    let pid = process.pid();
    let log = home.database().with_extension("db-wal");
    let limit = |bytes: Option<u64>| {
        let maximum = getrlimit(Resource::Fsize).maximum;
        prlimit(Some(pid), Resource::Fsize, Rlimit { current: bytes, maximum }).expect("a limit can be set");
    };
    let stop = || limit(Some(std::fs::metadata(&log).expect("a log").len()));
    live_through(process, &home.database(), stop, || limit(None));
}

#[test]
fn a_limit_of_its_files_does_not_end_it() {
    let home = Home::new();
    // In blocks of 512 or 1024 bytes; the shell is not asked to ignore the signal.
    let process = Process::serve_after("ulimit -f 300", &home.database(), &[]);
    let mut http = Http::connect(process.addr());
    wait_until("the limit binds", || {
        http.post("/api/messages", &message("room", "a", &content("x"))).status != 200
    });
    expect_degraded(&mut http);
    process.kill();
}

#[test]
fn a_full_file_system() {
    let Some(disk) = Disk::mount(8 << 20) else {
        return skip("a small file system cannot be mounted here");
    };
    let database = disk.path.join("polecat.db");
    let process = Process::serve(&database, &[]);
    let filler = disk.path.join("filler");
    let fill = || {
        // As much as there is room for: the last write fails.
        let mut file = std::fs::File::create(&filler).expect("a file");
        while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
    };
    let free = || std::fs::remove_file(&filler).expect("the file can be removed");
    live_through(process, &database, fill, free);
}

#[test]
fn a_process_that_cannot_store_still_ends() {
    let home = Home::new();
    let process = Process::serve(&home.database(), &["--drain", "60"]);
    post(process.addr(), "/api/messages", &message("room", "a", "c")).ok();
    let mut client = Socket::connect_v1(process.addr(), "/ws");
    client.next_of_type("hello");
    client.next_of_type("live");
    let other = Connection::open(home.database()).expect("the database can be opened");
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock is to be had");
    assert_eq!(post(process.addr(), "/api/messages", &message("room", "a", "c")).status, 503);
    client.next_of_type("health_status");
    process.signal(Signal::TERM);
    client.next_of_type("reconnect");
    assert_eq!(client.expect_close().0, 1001);
    client.expect_end();
    assert_eq!(process.wait().status.code(), Some(0));
}

/// A small file system of its own; gone when it is dropped.
struct Disk {
    path: PathBuf,
    _home: Home,
}

impl Disk {
    fn mount(bytes: usize) -> Option<Self> {
        let home = Home::new();
        let path = home.database().with_file_name("disk");
        std::fs::create_dir(&path).expect("a directory");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]).arg(&path);
        let mounted = command.output().is_ok_and(|output| output.status.success());
        mounted.then_some(Self { path, _home: home })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.path).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "{:?} stays mounted", self.path);
    }
}

/// Large enough that there is soon no room for one more.
fn content(name: &str) -> String {
    format!("{name} {}", "x".repeat(100_000))
}

/// Everything that is promised after `fail` and before `mend`, and after that.
fn live_through(process: Process, database: &Path, fail: impl Fn(), mend: impl Fn()) {
    let mut story = Story::begin(process.addr());
    for _round in 0..2 {
        fail();
        story.expect_failure();
        story.expect_reading();
        mend();
        story.expect_recovery();
    }
    story.expect_end();
    process.kill();
    let process = Process::serve(database, &[]);
    assert_eq!(listed(process.addr()), story.stored, "after the process was killed, too");
    process.kill();
}

struct Story {
    addr: SocketAddr,
    http: Http,
    /// On `/ws`: a base client, and one of the subprotocol.
    watchers: [Socket; 2],
    /// On another channel than the stored messages: one of the subprotocol.
    publisher: Socket,
    base: Socket,
    /// The names of acknowledged messages.
    stored: Vec<String>,
}

impl Story {
    fn begin(addr: SocketAddr) -> Self {
        let mut http = Http::connect(addr);
        let stored = (0..5).map(|number| format!("before {number}")).collect::<Vec<_>>();
        for name in &stored {
            http.post("/api/messages", &message("room", "a", &content(name))).ok();
        }
        http.post("/api/events", &json!({"type": "scan_started"})).ok();
        let mut watcher = Socket::connect_v1(addr, "/ws");
        let mut publisher = Socket::connect_v1(addr, "/api/ws/hall");
        for client in [&mut watcher, &mut publisher] {
            client.next_of_type("hello");
            client.next_of_type("live");
        }
        let watchers = [Socket::connect(addr, "/ws"), watcher];
        Self { addr, http, watchers, publisher, base: Socket::connect(addr, "/api/ws/hall"), stored }
    }

    /// Checks that publishers and everyone else are told.
    fn expect_failure(&mut self) {
        let refused = loop {
            let name = format!("full {}", self.stored.len());
            let answer = self.http.post("/api/messages", &message("room", "a", &content(&name)));
            if answer.status != 200 {
                break answer;
            }
            self.stored.push(name);
            assert!(self.stored.len() < 1000, "the store does not fail");
        };
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
        assert!(refused.json()["detail"].is_string());
        expect_degraded(&mut self.http);
        for watcher in &mut self.watchers {
            let status = watcher.next_of_type("health_status");
            assert_eq!(status["payload"]["status"], "degraded");
            assert!(status["payload"]["reason"].as_str().is_some_and(|reason| !reason.is_empty()));
            assert_eq!(status["event_id"], "event-00001", "it is not stored, so it bears what is");
            assert_timestamp(status["timestamp"].as_str().expect("a string"));
        }
        let mut lost = json!({"type": "message", "content": content("lost"), "id": "mine"});
        self.publisher.send_json(&lost);
        let error = self.publisher.next_payload("error");
        assert_eq!((&error["code"], &error["id"]), (&json!("store_unavailable"), &json!("mine")));
        lost["id"].take();
        self.base.send_json(&lost);
        self.base.send_json(&json!({"type": "ping"}));
        self.base.next_of_type("pong");
        let event = json!({"type": "t", "payload": {"x": content("lost")}});
        let refused = self.http.post("/api/events", &event);
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
        assert_eq!(self.post_with_key().status, 503);
        expect_degraded(&mut self.http);
    }

    /// A POST with another key in each round.
    fn post_with_key(&mut self) -> Response {
        let key = format!("key {}", self.stored.iter().filter(|name| name.starts_with("after")).count());
        let body = message("yard", "a", &content("keyed")).to_string();
        self.http.request("POST", "/api/messages", &[("Idempotency-Key", &key)], Some(&body))
    }

    /// Checks that reading continues: from the store, and of the newest messages from memory.
    fn expect_reading(&mut self) {
        assert_eq!(listed(self.addr), self.stored);
        let kept = self.stored.len() - 2;
        let listed = get(self.addr, "/api/messages?channel_id=room&limit=3").ok();
        let target = format!(
            "/api/ws/room?last_event_id=message-{:05}",
            listed["messages"][0]["id"].as_u64().expect("an id")
        );
        let mut resumed = Socket::connect(self.addr, &target);
        for name in &self.stored[kept..] {
            assert_eq!(resumed.next_data()["content"], content(name));
        }
    }

    fn expect_recovery(&mut self) {
        let mut listener = Socket::connect(self.addr, "/api/ws/room");
        wait_until("it recovers by itself", || self.http.get("/api/health").status == 200);
        assert_eq!(self.http.get("/api/health").json(), json!({"status": "ok"}));
        for watcher in &mut self.watchers {
            let status = loop {
                let status = watcher.next_of_type("health_status");
                if status["payload"]["status"] != "degraded" {
                    break status;
                }
            };
            assert_eq!(status["payload"], json!({"status": "ok"}));
            assert_eq!(status["event_id"], "event-00001");
        }
        // A refused request has not used its key.
        for is_replayed in [false, true] {
            let keyed = self.post_with_key();
            keyed.ok();
            assert_eq!(keyed.header("idempotency-replayed").is_some(), is_replayed);
        }
        let name = format!("after {}", self.stored.len());
        self.http.post("/api/messages", &message("room", "a", &content(&name))).ok();
        assert_eq!(listener.next_data()["content"], content(&name));
        self.stored.push(name);
        assert_eq!(listed(self.addr), self.stored, "all that was acknowledged, and nothing else");
    }

    fn expect_end(&mut self) {
        self.publisher.send_json(&json!({"type": "message", "content": "stored", "id": "mine"}));
        assert_eq!(self.base.next_data()["content"], "stored", "what was not stored was not broadcast");
        loop {
            let next = self.publisher.next();
            if next["type"] == "ack" {
                break;
            }
            assert_eq!(next["data"]["content"], "stored");
        }
        // The health is not an event of the past.
        post(self.addr, "/api/events", &json!({"type": "scan_completed"})).ok();
        let mut replayed = Socket::connect(self.addr, "/ws?last_event_id=event-00000");
        assert_eq!(replayed.next()["type"], "scan_started");
        assert_eq!(replayed.next()["type"], "scan_completed");
    }
}

fn expect_degraded(http: &mut Http) {
    let health = http.get("/api/health");
    let body = health.json();
    assert_eq!((health.status, &body["status"]), (503, &json!("degraded")));
    assert!(body["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{body}");
}

/// The names of all messages of the room, page by page.
fn listed(addr: SocketAddr) -> Vec<String> {
    let mut names = Vec::new();
    let mut after = 0;
    loop {
        let page = get(addr, &format!("/api/messages?channel_id=room&limit=10&after={after}")).ok();
        let page = page["messages"].as_array().expect("a list").clone();
        let Some(last) = page.last() else { return names };
        after = last["id"].as_u64().expect("an id");
        names.extend(page.iter().map(name_of));
    }
}

fn name_of(message: &Value) -> String {
    let content = message["content"].as_str().expect("a string");
    content.rsplit_once(' ').expect("a name before the filler").0.to_owned()
}
