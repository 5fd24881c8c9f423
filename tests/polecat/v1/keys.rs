//! Idempotency keys: PROTOCOL.md, "14. polecat.v1", and "publishing twice" of PROTOCOL.md, "8. Guarantees".

use std::net::SocketAddr;

use polecat::shell::options::Options;
use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::socket::message;
use crate::support::{Home, Http, Response, Server, Socket, eventually, get};

fn post_with(addr: SocketAddr, target: &str, key: &str, body: &Value) -> Response {
    Http::connect(addr).request("POST", target, &[("Idempotency-Key", key)], Some(&body.to_string()))
}

fn is_replayed(response: &Response) -> bool {
    response.header("idempotency-replayed") == Some("true")
}

fn stored(addr: SocketAddr) -> usize {
    get(addr, "/api/messages").ok()["messages"].as_array().expect("a list").len()
}

#[test]
fn a_repeated_post_is_stored_once_and_answered_as_the_first() {
    let server = Server::start();
    let addr = server.addr();
    let mut listener = Socket::connect(addr, "/api/ws/room");
    let first = post_with(addr, "/api/messages", "k1", &message("room", "ann", "one"));
    assert!(!is_replayed(&first));
    for content in ["one", "another"] {
        let again = post_with(addr, "/api/messages", "k1", &message("room", "bob", content));
        assert!(is_replayed(&again));
        assert_eq!(again.ok(), first.ok(), "answered as the first");
    }
    let other = post_with(addr, "/api/messages", "k2", &message("room", "ann", "one"));
    assert_eq!((other.ok()["message"]["id"].clone(), is_replayed(&other)), (json!(2), false));
    let elsewhere = post_with(addr, "/api/messages", "k1", &message("hall", "ann", "one"));
    assert_eq!((elsewhere.ok()["message"]["id"].clone(), is_replayed(&elsewhere)), (json!(3), false));
    assert_eq!(stored(addr), 3);
    assert_eq!(
        [listener.next_data()["id"].clone(), listener.next_data()["id"].clone()],
        [json!(1), json!(2)]
    );
    listener.expect_nothing_more();
}

#[test]
fn events_have_keys_too() {
    let server = Server::start();
    let addr = server.addr();
    let mut listener = Socket::connect(addr, "/ws");
    let first = post_with(addr, "/api/events", "k", &json!({"type": "a", "payload": {"x": 1}}));
    let again = post_with(addr, "/api/events", "k", &json!({"type": "b"}));
    assert_eq!((again.ok(), is_replayed(&again)), (first.ok(), true), "one namespace for all events");
    let message = post_with(addr, "/api/messages", "k", &message("room", "a", "c"));
    assert!(!is_replayed(&message));
    listener.next_of_type("a");
    listener.expect_nothing_more();
}

#[test]
fn requests_in_one_segment_are_stored_once() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    let body = message("room", "a", "c").to_string();
    let one = request("POST", "/api/messages", &[("Idempotency-Key", "k")], Some(&body));
    http.send(one.repeat(10));
    let answers = (0..10).map(|_| http.response()).collect::<Vec<_>>();
    assert!(answers.iter().all(|answer| answer.ok() == answers[0].ok()));
    assert_eq!(answers.iter().filter(|answer| is_replayed(answer)).count(), 9);
    assert_eq!(stored(server.addr()), 1);
}

#[test]
fn a_repeated_message_is_acknowledged_as_the_first_and_not_broadcast_again() {
    let server = Server::start();
    let addr = server.addr();
    let mut client = Socket::connect_v1(addr, "/api/ws/room");
    client.next_of_type("hello");
    client.next_of_type("live");
    let mut listener = Socket::connect(addr, "/api/ws/room");
    let say = |client: &mut Socket, id: u64, key: &str| {
        client.send_json(
            &json!({"type": "message", "content": id.to_string(), "id": id, "idempotency_key": key}),
        );
        loop {
            let next = client.next();
            if next["type"] == "ack" {
                assert_eq!(next["payload"]["id"], id);
                return next["payload"]["event_id"].clone();
            }
        }
    };
    assert_eq!(say(&mut client, 1, "k"), "message-00001");
    assert_eq!(say(&mut client, 2, "k"), "message-00001");
    assert_eq!(say(&mut client, 3, "other"), "message-00002");
    // The same keys by POST, and vice versa.
    let posted = post_with(addr, "/api/messages", "k", &message("room", "a", "c"));
    assert_eq!((posted.ok()["message"]["id"].clone(), is_replayed(&posted)), (json!(1), true));
    post_with(addr, "/api/messages", "posted", &message("room", "a", "posted")).ok();
    assert_eq!(say(&mut client, 4, "posted"), "message-00003");
    assert_eq!(listener.next_contents(3), ["1", "3", "posted"]);
    listener.expect_nothing_more();
    // A client without the subprotocol has no keys.
    for _ in 0..2 {
        listener.send_json(&json!({"type": "message", "content": "base", "idempotency_key": "k"}));
        assert_eq!(listener.next_contents(1), ["base"]);
    }
}

#[test]
fn a_key_has_a_length() {
    let server = Server::start();
    let addr = server.addr();
    let body = message("room", "a", "c");
    let longest = "x".repeat(255);
    post_with(addr, "/api/messages", &longest, &body).ok();
    assert!(is_replayed(&post_with(addr, "/api/messages", &longest, &body)));
    for target in ["/api/messages", "/api/events"] {
        let body = if target == "/api/events" { json!({"type": "t"}) } else { body.clone() };
        let refused = post_with(addr, target, &"x".repeat(256), &body);
        assert_eq!(refused.status, 400, "{target}");
        assert!(refused.json()["detail"].is_string());
    }
    for _ in 0..2 {
        assert!(!is_replayed(&post_with(addr, "/api/messages", "", &body)), "an empty key is none");
    }
    assert_eq!(stored(addr), 3);
}

#[test]
fn what_was_refused_has_not_used_its_key() {
    let server = Server::start();
    let addr = server.addr();
    assert_eq!(post_with(addr, "/api/messages", "k", &json!({"channel_id": "room"})).status, 422);
    let stored = post_with(addr, "/api/messages", "k", &message("room", "a", "c"));
    assert!(!is_replayed(&stored));
    stored.ok();
}

#[test]
fn a_key_is_remembered_over_a_restart() {
    let home = Home::new();
    let server = home.serve();
    let first = post_with(server.addr(), "/api/messages", "k", &message("room", "a", "c")).ok();
    let event = post_with(server.addr(), "/api/events", "k", &json!({"type": "t"})).ok();
    server.stop();
    let server = home.serve();
    let again = post_with(server.addr(), "/api/messages", "k", &message("room", "b", "d"));
    assert_eq!((again.ok(), is_replayed(&again)), (first, true));
    let again = post_with(server.addr(), "/api/events", "k", &json!({"type": "other"}));
    assert_eq!((again.ok(), is_replayed(&again)), (event, true));
    let mut client = Socket::connect_v1(server.addr(), "/api/ws/room");
    client.next_of_type("hello");
    client.next_of_type("live");
    client.send_json(&json!({"type": "message", "id": 1, "idempotency_key": "k"}));
    assert_eq!(client.next_payload("ack")["event_id"], "message-00001");
}

#[test]
fn the_window_is_told_to_everyone_who_could_send_again() {
    let memory = |options: &mut Options| options.database = None;
    let file = |_: &mut Options| {};
    for (ms, seconds) in [(300_000, "300"), (10, "0.01"), (86_400_000, "86400"), (1_500, "1.5")] {
        for tweak in [memory as fn(&mut Options), file] {
            let server = Server::start_with(|options| {
                options.store.idempotency_window_ms = ms;
                tweak(options);
            });
            let addr = server.addr();
            for target in ["/api/ws/room", "/ws"] {
                let hello = Socket::connect_v1(addr, target).next_payload("hello");
                assert_eq!(hello["idempotency_window_ms"], ms, "{target}");
            }
            for (target, body) in
                [("/api/messages", message("room", "a", "c")), ("/api/events", json!({"type": "t"}))]
            {
                // First, repeated, and without a key.
                for key in ["k", "k", ""] {
                    let answer = post_with(addr, target, key, &body);
                    answer.ok();
                    assert_eq!(answer.header("idempotency-window"), Some(seconds), "{target}");
                }
            }
            let health = get(addr, "/api/health?verbose=1").ok();
            assert_eq!(health["engine"]["idempotency_window_ms"], ms);
        }
    }
}

#[test]
fn a_key_is_forgotten_after_its_window() {
    let server = Server::start_with(|options| options.store.idempotency_window_ms = 300);
    let first = post_with(server.addr(), "/api/messages", "k", &message("room", "a", "c")).ok();
    let mut http = Http::connect(server.addr());
    let body = message("room", "a", "c").to_string();
    let again = eventually("the key is forgotten", || {
        let again = http.request("POST", "/api/messages", &[("Idempotency-Key", "k")], Some(&body));
        Some(again).filter(|again| again.ok() != first)
    });
    assert!(!is_replayed(&again));
    assert_eq!(again.ok()["message"]["id"], 2);
}
