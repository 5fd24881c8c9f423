//! Resuming, and how clients are told: PROTOCOL.md, "14. polecat.v1"; epochs: PROTOCOL.md, "2. Ids".

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::socket::message;
use crate::support::{Home, Http, Server, Socket, get, post, wait_until};

fn publish(addr: SocketAddr, count: usize) {
    let mut http = Http::connect(addr);
    for _ in 0..count {
        http.send(request("POST", "/api/events", &[], Some("{\"type\":\"t\"}")));
        http.send(request("POST", "/api/messages", &[], Some(&message("room", "a", "c").to_string())));
    }
    for _ in 0..2 * count {
        http.response().ok();
    }
}

/// Reads hello, `kind`, the replay and live; returns the payload of the second and the replayed ids.
fn replay(client: &mut Socket, kind: &str) -> (Value, Vec<String>) {
    client.next_of_type("hello");
    let told = client.next_payload(kind);
    let mut ids = Vec::new();
    loop {
        let next = client.next();
        let id = next["event_id"].as_str().expect("a string").to_owned();
        if next["type"] == "live" {
            assert_eq!(ids.last().unwrap_or(&id), &id, "live says how far the client is");
            return (told, ids);
        }
        assert!(next["type"] == "t" || next["type"] == "message", "within a replay: {next}");
        ids.push(id);
    }
}

fn ids(name: &str, numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
    numbers.into_iter().map(|number| format!("{name}-{number:05}")).collect()
}

#[test]
fn a_resume_comes_before_live_and_is_counted() {
    let server = Server::start();
    publish(server.addr(), 5);
    for (path, name) in [("/ws", "event"), ("/api/ws/room", "message")] {
        let target = format!("{path}?last_event_id={name}-00002");
        let mut client = Socket::connect_v1(server.addr(), &target);
        let (resumed, replayed) = replay(&mut client, "resumed");
        assert_eq!(resumed, json!({"from": format!("{name}-00002"), "count": 3, "more": false}));
        assert_eq!(replayed, ids(name, 3..=5));
        client.expect_nothing_more();

        let headers = [("Sec-WebSocket-Protocol", "polecat.v1"), ("Last-Event-ID", &format!("{name}-00000"))];
        let mut client = Socket::connect_with(server.addr(), path, &headers);
        let hello = client.next_of_type("hello");
        assert_eq!(hello["event_id"], format!("{name}-00000"), "the cursor, not the newest");
        assert_eq!(client.next_payload("resumed")["from"], format!("{name}-00000"));

        let newest = Socket::connect_v1(server.addr(), path).next_payload("hello")["newest"].clone();
        let newest = newest.as_str().expect("a string");
        let mut client = Socket::connect_v1(server.addr(), &format!("{path}?last_event_id={newest}"));
        assert_eq!(
            replay(&mut client, "resumed"),
            (json!({"from": newest, "count": 0, "more": false}), vec![])
        );
    }
}

#[test]
fn of_a_long_history_only_the_beginning_is_counted() {
    let server = Server::start_with(|options| options.config.budgets.count_records = 3);
    publish(server.addr(), 5);
    for (path, name) in [("/ws", "event"), ("/api/ws/room", "message")] {
        for (after, count, more) in [(0, 3, true), (1, 3, true), (2, 3, false), (3, 2, false)] {
            let target = format!("{path}?last_event_id={name}-0000{after}");
            let mut client = Socket::connect_v1(server.addr(), &target);
            let (resumed, replayed) = replay(&mut client, "resumed");
            let from = format!("{name}-0000{after}");
            assert_eq!(resumed, json!({"from": from, "count": count, "more": more}));
            assert_eq!(replayed, ids(name, after + 1..=5), "all of it follows");
        }
    }
}

#[test]
fn nothing_is_lost_or_swapped_between_a_long_replay_and_live() {
    const BEFORE: usize = 2500;
    let server = Server::start();
    publish(server.addr(), BEFORE);
    let addr = server.addr();
    let publisher = std::thread::spawn(move || publish(addr, 500));
    let mut clients = (0..4)
        .map(|_| Socket::connect_v1(addr, "/api/ws/room?last_event_id=message-00000"))
        .collect::<Vec<_>>();
    publisher.join().expect("all is published");
    post(addr, "/api/messages", &message("room", "a", "last")).ok();
    for client in &mut clients {
        client.next_of_type("hello");
        let count = client.next_payload("resumed")["count"].as_u64().expect("a count");
        assert!(count >= BEFORE as u64);
        let (mut id, mut live_at) = (0, None);
        loop {
            let next = client.next();
            if next["type"] == "live" {
                assert_eq!(live_at, None, "live comes once");
                assert!(id >= count, "live comes when the replay is through: {id} of {count}");
                live_at = Some(id);
                continue;
            }
            id += 1;
            assert_eq!(next["event_id"], format!("message-{id:05}"));
            if next["data"]["content"] == "last" {
                break;
            }
        }
        if live_at.is_none() {
            client.next_of_type("live");
        }
        assert_eq!(id, BEFORE as u64 + 501);
    }
}

#[test]
fn an_id_that_says_nothing_is_a_gap() {
    let server = Server::start();
    publish(server.addr(), 4);
    for (path, name, other) in [("/ws", "event", "message"), ("/api/ws/room", "message", "event")] {
        let epoch = Socket::connect_v1(server.addr(), path).next_payload("hello")["epoch"].clone();
        let epoch = epoch.as_str().expect("a string");
        for (requested, query) in [
            ("garbage".to_owned(), String::new()),
            (format!("{name}-"), String::new()),
            (format!("{name}-00005"), String::new()),
            (format!("{name}-99999999999999999999"), String::new()),
            (format!("{other}-00002"), String::new()),
            (format!("{name}-00002"), "&epoch=another".to_owned()),
            (format!("{name}-00004"), format!("&epoch={epoch}0")),
        ] {
            let target = format!("{path}?last_event_id={requested}{query}");
            let mut client = Socket::connect_v1(server.addr(), &target);
            let (gap, replayed) = replay(&mut client, "gap");
            let [none, oldest, newest] = [0, 1, 4].map(|number| format!("{name}-{number:05}"));
            let expected =
                json!({"requested": requested, "agreed": none, "oldest": oldest, "newest": newest});
            assert_eq!(gap, expected, "{target}");
            assert_eq!(replayed, ids(name, 1..=4), "{target}");
        }
        let target = format!("{path}?last_event_id={name}-00002&epoch={epoch}");
        replay(&mut Socket::connect_v1(server.addr(), &target), "resumed");
        // An epoch alone requests nothing.
        let mut client = Socket::connect_v1(server.addr(), &format!("{path}?epoch=another"));
        client.next_of_type("hello");
        client.next_of_type("live");
    }
}

#[test]
fn an_id_whose_successors_are_no_longer_kept_is_a_gap() {
    let server = Server::start_with(|options| {
        options.store.retain_events = Some(10);
        options.store.retain_messages = Some(10);
    });
    publish(server.addr(), 50);
    for (path, name) in [("/ws", "event"), ("/api/ws/room", "message")] {
        wait_until("what is too old is pruned", || {
            // That is done between turns, a little after each.
            get(server.addr(), "/api/health").ok();
            let hello = Socket::connect_v1(server.addr(), path).next_payload("hello");
            hello["oldest"] == format!("{name}-00041")
        });
        for requested in [1, 39] {
            let target = format!("{path}?last_event_id={name}-{requested:05}");
            let (gap, replayed) = replay(&mut Socket::connect_v1(server.addr(), &target), "gap");
            assert_eq!(gap["oldest"], format!("{name}-00041"));
            assert_eq!(gap["agreed"], gap["requested"], "what came after it is gone, and not the id");
            assert_eq!(replayed, ids(name, 41..=50));
        }
        for (from, left) in [(40, 41..=50), (45, 46..=50)] {
            let target = format!("{path}?last_event_id={name}-{from:05}");
            let (_, replayed) = replay(&mut Socket::connect_v1(server.addr(), &target), "resumed");
            assert_eq!(replayed, ids(name, left));
        }
        let mut base = Socket::connect(server.addr(), &format!("{path}?last_event_id={name}-00001"));
        assert_eq!(base.next()["event_id"], format!("{name}-00041"));
    }
    let listed = get(server.addr(), "/api/messages").ok();
    assert_eq!(listed["messages"].as_array().map(Vec::len), Some(10));
}

#[test]
fn a_resume_goes_on_over_a_restart_with_its_epoch() {
    let home = Home::new();
    let server = home.serve();
    publish(server.addr(), 3);
    let epoch = Socket::connect_v1(server.addr(), "/ws").next_payload("hello")["epoch"].clone();
    let epoch = epoch.as_str().expect("a string").to_owned();
    server.stop();
    let server = home.serve();
    publish(server.addr(), 1);
    for (path, name) in [("/ws", "event"), ("/api/ws/room", "message")] {
        let target = format!("{path}?last_event_id={name}-00002&epoch={epoch}");
        let (_, replayed) = replay(&mut Socket::connect_v1(server.addr(), &target), "resumed");
        assert_eq!(replayed, ids(name, 3..=4));
        // Another database, with ids of its own.
        let other = Server::start();
        publish(other.addr(), 3);
        let (gap, replayed) = replay(&mut Socket::connect_v1(other.addr(), &target), "gap");
        assert_eq!(gap["requested"], format!("{name}-00002"));
        assert_eq!(replayed, ids(name, 1..=3));
    }
}
