//! Databases that go back to an earlier moment: PROTOCOL.md, "2. Ids" (2.7), and how clients are told:
//! PROTOCOL.md, "14. polecat.v1".

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::socket::message;
use crate::support::{Home, Http, Server, Socket};

/// Both sequences: the target of subscribers, the prefix of the ids, and the type of a record.
const STREAMS: [(&str, &str, &str); 2] = [("/ws", "event", "t"), ("/api/ws/room", "message", "message")];

/// Publishes one message and one event for each of `contents`.
fn publish(addr: SocketAddr, contents: impl IntoIterator<Item = String>) {
    let mut http = Http::connect(addr);
    for content in contents {
        http.post("/api/messages", &message("room", "a", &content)).ok();
        http.post("/api/events", &json!({"type": "t", "payload": {"content": content}})).ok();
    }
}

fn contents(word: &str, count: usize) -> impl Iterator<Item = String> {
    (1..=count).map(move |number| format!("{word} {number}"))
}

/// A copy while the server runs, as the documents describe it.
fn back_up(home: &Home) -> PathBuf {
    let copy = home.database().with_file_name("copy.db");
    let database = Connection::open(home.database()).expect("the file opens");
    database.execute("VACUUM INTO ?1", [copy.to_str().expect("a path")]).expect("a copy");
    copy
}

/// Restoring a copy, as the documents describe it.
fn restore(home: &Home, copy: &PathBuf) {
    for end in ["-wal", "-shm"] {
        let mut beside = home.database().into_os_string();
        beside.push(end);
        std::fs::remove_file(beside).ok();
    }
    std::fs::copy(copy, home.database()).expect("a copy");
}

/// A client of `polecat.v1` that remembers what PROTOCOL requires.
#[derive(Debug, Clone, Default)]
struct Follower {
    event_id: String,
    epoch: String,
    got: Vec<String>,
}

/// What a connection was told about the ids.
#[derive(Debug, PartialEq)]
enum Told {
    Nothing,
    Resumed,
    Gap { agreed: Value },
}

impl Follower {
    fn from_the_start(name: &str) -> Self {
        Self { event_id: format!("{name}-00000"), ..Self::default() }
    }

    fn target(&self, path: &str) -> String {
        format!("{path}?last_event_id={}&epoch={}", self.event_id, self.epoch)
    }

    /// Connects, and takes everything up to `last`.
    fn follow(&mut self, server: &Server, stream: (&str, &str, &str), last: &str) -> Told {
        let (path, _, kind) = stream;
        let mut socket = Socket::connect_v1(server.addr(), &self.target(path));
        let mut told = Told::Nothing;
        loop {
            let next = socket.next();
            self.event_id = next["event_id"].as_str().expect("an id").to_owned();
            let payload = &next["payload"];
            if next["type"] == "hello" {
                self.epoch = payload["epoch"].as_str().expect("a name").to_owned();
            } else if next["type"] == "resumed" {
                told = Told::Resumed;
            } else if next["type"] == "gap" {
                told = Told::Gap { agreed: payload["agreed"].clone() };
            } else if next["type"] == kind {
                let content = if kind == "t" { &payload["content"] } else { &next["data"]["content"] };
                self.got.push(content.as_str().expect("a string").to_owned());
                if content == last {
                    return told;
                }
            }
        }
    }
}

#[test]
fn a_restored_backup_is_a_gap_and_what_it_has_instead_follows() {
    let home = Home::new();
    let server = home.serve();
    publish(server.addr(), contents("first", 10));
    let copy = back_up(&home);
    publish(server.addr(), contents("lost", 5));
    let mut followers = STREAMS.map(|stream| (stream, Follower::from_the_start(stream.1)));
    for (stream, follower) in &mut followers {
        follower.follow(&server, *stream, "lost 5");
    }
    server.stop();
    restore(&home, &copy);
    let server = home.serve();
    publish(server.addr(), contents("second", 10));
    for (stream, follower) in &mut followers {
        let told = follower.follow(&server, *stream, "second 10");
        assert_eq!(told, Told::Gap { agreed: json!(format!("{}-00010", stream.1)) });
        let expected: Vec<String> =
            contents("first", 10).chain(contents("lost", 5)).chain(contents("second", 10)).collect();
        assert_eq!(follower.got, expected, "nothing is missing, and nothing comes twice");
    }
}

#[test]
fn a_backup_that_is_restored_twice_keeps_its_futures_apart() {
    let home = Home::new();
    let server = home.serve();
    publish(server.addr(), contents("first", 10));
    let copy = back_up(&home);
    server.stop();
    // Three futures of one past, each with a restart.
    let mut followers = Vec::new();
    for future in 1..=3 {
        restore(&home, &copy);
        for half in ["a", "b"] {
            let server = home.serve();
            let word = format!("{half}{future}");
            publish(server.addr(), contents(&word, 4));
            for stream in STREAMS {
                let mut follower = Follower::from_the_start(stream.1);
                follower.follow(&server, stream, &format!("{word} 4"));
                followers.push((future, half, stream, follower));
            }
        }
    }
    let server = home.serve();
    publish(server.addr(), contents("end", 1));
    for (future, half, stream, mut follower) in followers {
        let got = follower.got.len();
        let told = follower.follow(&server, stream, "end 1");
        if future == 3 {
            assert_eq!(told, Told::Resumed, "{half}{future}");
            assert_eq!(follower.got.len(), 19, "{half}{future}: each once");
            continue;
        }
        let Told::Gap { agreed } = told else { panic!("{half}{future}: {told:?}") };
        // The name of a future that has been undone is unknown here.
        assert_eq!(agreed, format!("{}-00000", stream.1), "{half}{future}");
        let rest = &follower.got[got..];
        let end: Vec<_> = contents("a3", 4).chain(contents("b3", 4)).chain(contents("end", 1)).collect();
        assert_eq!(rest[rest.len() - 9..], end, "{half}{future}");
    }
}

#[test]
fn a_restart_that_has_lost_nothing_is_none_to_a_client() {
    let home = Home::new();
    let mut followers: Vec<((&str, &str, &str), Follower)> = Vec::new();
    let mut epochs = BTreeSet::new();
    for start in 1..=4 {
        let server = home.serve();
        let word = format!("start {start}");
        for (stream, follower) in &mut followers {
            // From any earlier start, whether or not the client was there for all of it.
            let mut socket = Socket::connect_v1(server.addr(), &follower.target(stream.0));
            let hello = socket.next_payload("hello");
            assert_ne!(hello["epoch"], follower.epoch, "each start has a name of its own");
            socket.next_payload("resumed");
        }
        publish(server.addr(), contents(&word, 3));
        for stream in STREAMS {
            let mut follower = Follower::from_the_start(stream.1);
            follower.follow(&server, stream, &format!("{word} 3"));
            epochs.insert(follower.epoch.clone());
            followers.push((stream, follower));
        }
        server.stop();
    }
    assert_eq!(epochs.len(), 4);
    let server = home.serve();
    publish(server.addr(), contents("end", 1));
    for (stream, follower) in &mut followers {
        assert_eq!(follower.follow(&server, *stream, "end 1"), Told::Resumed);
        assert_eq!(follower.got.len(), 13, "each once");
    }
}

#[test]
fn an_id_without_an_epoch_is_believed_as_ever() {
    let home = Home::new();
    let server = home.serve();
    publish(server.addr(), contents("first", 10));
    let copy = back_up(&home);
    server.stop();
    restore(&home, &copy);
    let server = home.serve();
    publish(server.addr(), contents("second", 10));
    for (path, name, _) in STREAMS {
        for query in ["", "&epoch="] {
            let target = format!("{path}?last_event_id={name}-00015{query}");
            let mut socket = Socket::connect_v1(server.addr(), &target);
            socket.next_of_type("hello");
            assert_eq!(socket.next_payload("resumed")["count"], 5);
        }
        let target = format!("{path}?last_event_id={name}-00099");
        let mut socket = Socket::connect_v1(server.addr(), &target);
        socket.next_of_type("hello");
        assert_eq!(socket.next_payload("gap")["agreed"], format!("{name}-00000"));
    }
}

#[test]
fn number_0_is_before_the_first_id_of_every_term() {
    let server = Server::start();
    publish(server.addr(), contents("first", 3));
    for (path, name, _) in STREAMS {
        let target = |id: &str| format!("{path}?last_event_id={name}-{id}&epoch=of-another-database");
        let mut socket = Socket::connect_v1(server.addr(), &target("00000"));
        socket.next_of_type("hello");
        assert_eq!(socket.next_payload("resumed")["count"], 3);
        let mut socket = Socket::connect_v1(server.addr(), &target("00001"));
        socket.next_of_type("hello");
        assert_eq!(socket.next_payload("gap")["agreed"], format!("{name}-00000"));
    }
}
