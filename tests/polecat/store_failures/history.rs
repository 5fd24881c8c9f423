//! History that cannot be read: PROTOCOL.md, "7. Resume" (7.7). Another program removes the tables under a
//! running server, and restores them.

use rusqlite::Connection;
use serde_json::json;

use crate::support::http::request;
use crate::support::raw::{CLOSE, TEXT, upgrade};
use crate::support::{Home, Http, Process, RawSocket, Socket, get, old_database, post};

const MESSAGES: u64 = 20_000;

fn take_away(database: &Connection) {
    let sql = "ALTER TABLE messages RENAME TO away; ALTER TABLE events RENAME TO away_events";
    database.execute_batch(sql).expect("the tables can be renamed");
}

fn bring_back(database: &Connection) {
    let sql = "ALTER TABLE away RENAME TO messages; ALTER TABLE away_events RENAME TO events";
    database.execute_batch(sql).expect("the tables can be renamed");
}

/// Messages of earlier servers: none is in memory.
fn filled(home: &Home) {
    let mut old = old_database::create(&home.database(), old_database::SCHEMA);
    old_database::fill(&mut old, "room", MESSAGES);
    drop(old);
    let server = home.serve();
    for _ in 0..3 {
        post(server.addr(), "/api/events", &json!({"type": "t"})).ok();
    }
}

#[test]
fn a_resume_without_history_is_closed_with_1013_and_goes_on_later() {
    let home = Home::new();
    filled(&home);
    let process = Process::serve(&home.database(), &[]);
    let addr = process.addr();
    let mut live = Socket::connect(addr, "/api/ws/room");
    live.send_json(&json!({"type": "ping"}));
    live.next_of_type("pong");
    let database = Connection::open(home.database()).expect("the file opens");
    take_away(&database);
    let targets = ["/api/ws/room?last_event_id=message-19990", "/ws?last_event_id=event-00001"];
    for target in targets {
        for fields in [&[][..], &[("Sec-WebSocket-Protocol", "polecat.v1")]] {
            let mut client = Socket::connect_with(addr, target, fields);
            assert_eq!(client.expect_close(), (1013, "history cannot be read now".to_owned()), "{target}");
            client.expect_end();
        }
    }
    // So does a list. A client that asks for nothing that is gone stays.
    let listed = get(addr, "/api/messages");
    assert_eq!((listed.status, listed.header("retry-after")), (503, Some("1")));
    assert!(
        listed.json()["detail"].as_str().is_some_and(|text| text.starts_with("the store is not available"))
    );
    live.send_json(&json!({"type": "ping"}));
    live.next_of_type("pong");
    bring_back(&database);
    let mut resumed = Socket::connect(addr, targets[0]);
    for id in MESSAGES - 9..=MESSAGES {
        assert_eq!(resumed.next_data()["id"], id);
    }
    resumed.expect_nothing_more();
    live.next_of_type("message");
    assert_eq!(Socket::connect(addr, targets[1]).next()["event_id"], "event-00002");
    process.kill();
}

#[test]
fn a_replay_that_breaks_off_has_left_nothing_out() {
    let home = Home::new();
    filled(&home);
    let process = Process::serve(&home.database(), &[]);
    let addr = process.addr();
    let mut client = RawSocket::connect_and_send(addr, &upgrade("/api/ws/room?last_event_id=message-00000"));
    assert!(client.read_head().starts_with("HTTP/1.1 101 "));
    let mut seen = 0;
    let mut read = |client: &mut RawSocket, until: u64| {
        while seen < until {
            let frame = client.next_frame().expect("a message, or a Close");
            if frame.opcode == CLOSE {
                assert_eq!(
                    frame.payload,
                    [&1013_u16.to_be_bytes()[..], b"history cannot be read now"].concat()
                );
                assert_eq!(client.next_frame(), None);
                return (seen, true);
            }
            let message = serde_json::from_slice::<serde_json::Value>(&frame.payload).expect("JSON");
            seen += 1;
            assert_eq!((frame.opcode, &message["data"]["id"]), (TEXT, &json!(seen)));
        }
        (seen, false)
    };
    read(&mut client, 10);
    let database = Connection::open(home.database()).expect("the file opens");
    take_away(&database);
    // Messages that were read before are sent completely.
    let (seen, is_closed) = read(&mut client, MESSAGES);
    assert!(is_closed, "all of {seen} messages were under way already");
    bring_back(&database);
    let mut again = Socket::connect(addr, &format!("/api/ws/room?last_event_id=message-{seen:05}"));
    for id in seen + 1..=MESSAGES {
        assert_eq!(again.next_data()["id"], id);
    }
    let mut http = Http::connect(addr);
    http.send(request("POST", "/api/events", &[], Some("{\"type\":\"t\"}")));
    http.response().ok();
    process.kill();
}
