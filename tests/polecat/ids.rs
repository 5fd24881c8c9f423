//! Ids: PROTOCOL.md, "2. Ids". `faults/kills.rs` tests that they continue over crashes, and `v1/resume.rs`
//! tests epochs.

use std::net::SocketAddr;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::socket::message;
use crate::support::{Home, Http, Process, Server, Socket, get, post};

fn message_id(addr: SocketAddr, channel: &str) -> u64 {
    let answer = post(addr, "/api/messages", &message(channel, "a", "c")).ok();
    answer["message"]["id"].as_u64().expect("a positive integer")
}

fn event_id(addr: SocketAddr) -> String {
    let answer = post(addr, "/api/events", &json!({"type": "t"})).ok();
    answer["event"]["event_id"].as_str().expect("text").to_owned()
}

#[test]
fn two_sequences_begin_at_1_and_neither_counts_for_the_other() {
    let server = Server::start();
    let addr = server.addr();
    let mut ids = Vec::new();
    for channel in ["a", "b", "a", "b", "b", "a"] {
        ids.push((message_id(addr, channel), event_id(addr)));
    }
    let expected = (1..=6).map(|number| (number, format!("event-{number:05}"))).collect::<Vec<_>>();
    assert_eq!(ids, expected);
    // On one channel they rise, with gaps.
    let mut client = Socket::connect(addr, "/api/ws/a?last_event_id=message-00000");
    for (id, event_id) in [(1, "message-00001"), (3, "message-00003"), (6, "message-00006")] {
        let broadcast = client.next();
        assert_eq!((&broadcast["data"]["id"], &broadcast["event_id"]), (&json!(id), &json!(event_id)));
    }
}

#[test]
fn what_is_not_stored_takes_no_id_of_an_event() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    let key = [("Idempotency-Key", "once")];
    let event = json!({"type": "t"}).to_string();
    let id = |answer: &Value| answer["event"]["event_id"].clone();
    for number in 1..=20 {
        assert_eq!(http.request("POST", "/api/events", &[], Some("{\"type\":5}")).status, 422);
        let answer = http.request("POST", "/api/events", &[], Some(&event)).ok();
        assert_eq!(id(&answer), format!("event-{:05}", number + u64::from(number > 1)));
        let repeated = http.request("POST", "/api/events", &key, Some(&event)).ok();
        assert_eq!(id(&repeated), "event-00002", "stored once");
    }
}

#[test]
fn as_text_they_have_at_least_five_digits() {
    let home = Home::new();
    let server = home.serve();
    message_id(server.addr(), "room");
    event_id(server.addr());
    server.stop();
    // As if this many had been published.
    let skip = |count: u64| {
        let database = Connection::open(home.database()).expect("the file opens");
        let changed = database.execute(
            "UPDATE sqlite_sequence SET seq = ?1 WHERE name IN ('messages', 'events')",
            [i64::try_from(count).expect("it fits")],
        );
        assert_eq!(changed, Ok(2));
    };
    for id in [9, 98, 99_999, 123_456, 1_234_567, 4_000_000_000_u64] {
        skip(id - 1);
        let server = home.serve();
        let mut channel = Socket::connect(server.addr(), "/api/ws/room");
        let mut events = Socket::connect(server.addr(), "/ws");
        assert_eq!(message_id(server.addr(), "room"), id);
        assert_eq!(channel.next()["event_id"], format!("message-{id:05}"));
        assert_eq!(event_id(server.addr()), format!("event-{id:05}"));
        assert_eq!(events.next()["event_id"], format!("event-{id:05}"));
        // With or without leading zeros, the number counts.
        message_id(server.addr(), "room");
        for text in [format!("message-{id}"), format!("message-{id:012}")] {
            let mut resumed = Socket::connect(server.addr(), &format!("/api/ws/room?last_event_id={text}"));
            assert_eq!(resumed.next_data()["id"], id + 1, "{text}");
        }
    }
}

#[test]
fn an_id_is_not_given_again_where_its_message_was_deleted() {
    let home = Home::new();
    for round in 0..3 {
        let process = Process::serve(&home.database(), &[]);
        for number in 1..=5 {
            assert_eq!(message_id(process.addr(), "room"), 5 * round + number);
            assert_eq!(event_id(process.addr()), format!("event-{:05}", 5 * round + number));
        }
        // By another program, while the server runs; then the server is killed.
        let database = Connection::open(home.database()).expect("the file opens");
        database.execute_batch("DELETE FROM messages; DELETE FROM events").expect("the rows can be deleted");
        process.kill();
    }
    let server = home.serve();
    assert_eq!(get(server.addr(), "/api/messages").ok(), json!({"messages": []}));
    let hello = Socket::connect_v1(server.addr(), "/ws").next_payload("hello");
    assert_eq!((&hello["oldest"], &hello["newest"]), (&json!("event-00016"), &json!("event-00015")));
}

#[test]
fn zero_stands_for_before_the_first() {
    let server = Server::beating_every(200);
    let mut base = Socket::connect(server.addr(), "/ws");
    assert_eq!(base.next_heartbeat()["event_id"], "event-00000");
    for (target, id) in [("/ws", "event-00000"), ("/api/ws/room", "message-00000")] {
        let mut client = Socket::connect_v1(server.addr(), target);
        let hello = client.next_of_type("hello");
        assert_eq!((&hello["event_id"], &hello["payload"]["newest"]), (&json!(id), &json!(id)));
        assert_eq!(client.next_of_type("live")["event_id"], id);
        assert_eq!(client.next_heartbeat()["event_id"], id);
        // The id can be sent back, and asks for everything, which is nothing.
        let mut again = Socket::connect_v1(server.addr(), &format!("{target}?last_event_id={id}"));
        again.next_of_type("hello");
        assert_eq!(again.next_payload("resumed"), json!({"from": id, "count": 0, "more": false}));
    }
}
