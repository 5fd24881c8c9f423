//! Retention, as set by the flags: PROTOCOL.md, "8. Guarantees" (8.11).

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::socket::message;
use crate::support::{Home, Http, Process, Socket, get, post, wait_until};

fn publish(addr: SocketAddr, count: u64) {
    let mut http = Http::connect(addr);
    for number in 0..count {
        let channel = if number < count / 2 { "old" } else { "new" };
        http.post("/api/messages", &message(channel, "a", "c")).ok();
        http.post("/api/events", &json!({"type": "t"})).ok();
    }
}

fn ids(addr: SocketAddr, query: &str) -> Vec<u64> {
    let listed = get(addr, &format!("/api/messages?{query}")).ok();
    let messages = listed["messages"].as_array().expect("a list").iter();
    messages.map(|message| message["id"].as_u64().expect("an id")).collect()
}

/// Waits until `hello` on `target` names `oldest`.
fn wait_for_oldest(addr: SocketAddr, target: &str, oldest: &str) {
    wait_until(&format!("{oldest} is the oldest of {target}"), || {
        Socket::connect_v1(addr, target).next_payload("hello")["oldest"] == oldest
    });
}

/// The answer to a client of `polecat.v1` that resumes from `id`, and how many messages follow.
fn resume(addr: SocketAddr, target: &str, id: &str) -> (Value, usize) {
    let mut client = Socket::connect_v1(addr, &format!("{target}?last_event_id={id}"));
    client.next_of_type("hello");
    let told = client.next();
    let mut count = 0;
    while client.next()["type"] != "live" {
        count += 1;
    }
    (told, count)
}

#[test]
fn so_many_messages_and_so_many_events() {
    let home = Home::new();
    let flags = ["--retain-messages", "10", "--retain-events", "5"];
    let process = Process::serve(&home.database(), &flags);
    let addr = process.addr();
    publish(addr, 40);
    wait_for_oldest(addr, "/api/ws/new", "message-00031");
    wait_for_oldest(addr, "/ws", "event-00036");
    // Over all channels together; deleted messages are gone everywhere.
    assert_eq!(ids(addr, ""), (31..=40).collect::<Vec<_>>());
    assert_eq!(ids(addr, "channel_id=old"), [0; 0]);
    assert_eq!(get(addr, "/api/channels").ok(), json!({"channels": ["new"]}));
    assert_eq!(get(addr, "/api/summary").ok()["summary"]["total_messages"], 10);
    for (target, name, oldest, kept) in [("/api/ws/new", "message", 31, 10), ("/ws", "event", 36, 5)] {
        let (gap, count) = resume(addr, target, &format!("{name}-{:05}", oldest - 2));
        assert_eq!((&gap["type"], count), (&json!("gap"), kept), "{gap}");
        assert_eq!(gap["payload"]["oldest"], format!("{name}-{oldest:05}"));
        let (resumed, count) = resume(addr, target, &format!("{name}-{:05}", oldest - 1));
        assert_eq!((&resumed["type"], count), (&json!("resumed"), kept), "{resumed}");
        let mut base = Socket::connect(addr, &format!("{target}?last_event_id={name}-00001"));
        assert_eq!(base.next()["event_id"], format!("{name}-{oldest:05}"), "a base client is not told");
    }
    assert_eq!(resume(addr, "/api/ws/old", "message-00001").1, 0);
    process.kill();
    let process = Process::serve(&home.database(), &flags);
    let next = post(process.addr(), "/api/messages", &message("old", "a", "c")).ok();
    assert_eq!(next["message"]["id"], 41, "what was deleted keeps its id");
    process.kill();
}

#[test]
fn as_long_as_so_many_days() {
    let home = Home::new();
    let process = Process::serve(&home.database(), &[]);
    publish(process.addr(), 10);
    process.kill();
    // A little less than a second, and then a day.
    let process = Process::serve(&home.database(), &["--retain-days", "0.00001"]);
    wait_for_oldest(process.addr(), "/api/ws/new", "message-00011");
    wait_for_oldest(process.addr(), "/ws", "event-00011");
    assert_eq!(ids(process.addr(), ""), [0; 0]);
    process.kill();
    let process = Process::serve(&home.database(), &["--retain-days", "1"]);
    let addr = process.addr();
    publish(addr, 4);
    for (target, name) in [("/api/ws/new", "message"), ("/ws", "event")] {
        let (gap, count) = resume(addr, target, &format!("{name}-00009"));
        assert_eq!(
            (&gap["type"], &gap["payload"]["oldest"]),
            (&json!("gap"), &json!(format!("{name}-00011")))
        );
        assert_eq!(count, if name == "event" { 4 } else { 2 }, "those of today");
    }
    assert_eq!(ids(addr, ""), [11, 12, 13, 14]);
    process.kill();
}
