//! Resume: PROTOCOL.md, "7. Resume". Everything after an id, in order, without a gap, an overlap or
//! reordering where the replay meets live messages.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use crate::support::raw::upgrade_with;
use crate::support::socket::message;
use crate::support::{Home, Http, RawSocket, Server, Socket, get, http, old_database, post};

#[test]
fn events_after_the_last_id_come_before_anything_live() {
    let server = Server::start();
    publish_events(&server, 1..=5);
    let mut resumed = Socket::connect_with(server.addr(), "/ws", &[("Last-Event-ID", "event-00002")]);
    let mut fresh = Socket::connect(server.addr(), "/ws");
    publish_events(&server, 6..=6);
    assert_eq!(numbers(&mut resumed, 4), [3, 4, 5, 6]);
    assert_eq!(numbers(&mut fresh, 1), [6], "no id, no replay");
    resumed.expect_nothing_more();
}

#[test]
fn messages_after_the_last_id_come_before_anything_live() {
    let server = Server::start();
    for number in 1..=6 {
        // All channels share one sequence of ids.
        let channel = if number % 2 == 0 { "even" } else { "odd" };
        post(server.addr(), "/api/messages", &message(channel, "a", &number.to_string())).ok();
    }
    let mut resumed =
        Socket::connect_with(server.addr(), "/api/ws/odd", &[("Last-Event-ID", "message-00001")]);
    let mut between = Socket::connect(server.addr(), "/api/ws/odd?last_event_id=message-00002");
    post(server.addr(), "/api/messages", &message("odd", "a", "7")).ok();
    for client in [&mut resumed, &mut between] {
        for expected in [3, 5, 7] {
            let broadcast = client.next();
            assert_eq!(broadcast["data"]["id"], expected);
            assert_eq!(broadcast["event_id"], format!("message-{expected:05}"));
            assert_eq!(broadcast["data"]["content"], expected.to_string());
        }
    }
    resumed.expect_nothing_more();
}

#[test]
fn the_query_parameter_serves_browsers_and_the_header_wins() {
    let server = Server::start();
    publish_events(&server, 1..=4);
    let mut by_query = Socket::connect(server.addr(), "/ws?last_event_id=event-00003");
    assert_eq!(numbers(&mut by_query, 1), [4]);
    let mut encoded = Socket::connect(server.addr(), "/ws?other=1&last_event_id=event%2D00002&x");
    assert_eq!(numbers(&mut encoded, 2), [3, 4]);
    let header = [("Last-Event-ID", "event-00003")];
    let mut both = Socket::connect_with(server.addr(), "/ws?last_event_id=event-00001", &header);
    assert_eq!(numbers(&mut both, 1), [4]);
    let mut empty = Socket::connect_with(server.addr(), "/ws", &[("Last-Event-ID", "")]);
    empty.expect_nothing_more();
    let mut empty = Socket::connect(server.addr(), "/ws?last_event_id=");
    empty.expect_nothing_more();
}

#[test]
fn an_unknown_id_gets_everything_that_is_kept() {
    let server = Server::start();
    publish_events(&server, 1..=3);
    for number in 1..=3 {
        post(server.addr(), "/api/messages", &message("room", "a", &number.to_string())).ok();
    }
    let strange =
        ["garbage", "event-", "event--1", "event-00004", "event-99999999999999999999", "message-00002"];
    for id in strange {
        let mut client = Socket::connect_with(server.addr(), "/ws", &[("Last-Event-ID", id)]);
        assert_eq!(numbers(&mut client, 3), [1, 2, 3], "{id}");
    }
    for id in ["garbage", "2", "event-00002", "message-00004", "message-99999999999999999999"] {
        let mut client = Socket::connect_with(server.addr(), "/api/ws/room", &[("Last-Event-ID", id)]);
        assert_eq!(client.next_contents(3), ["1", "2", "3"], "{id}");
    }
    let mut no_text = upgrade_with("/ws", "Host: a\r\nLast-Event-ID: event-?\r\n");
    no_text.iter_mut().filter(|byte| **byte == b'?').for_each(|byte| *byte = 0xff);
    let mut client = RawSocket::connect_and_send(server.addr(), &no_text);
    client.read_head();
    for number in 1..=3 {
        let event = client.next_message().payload;
        assert!(String::from_utf8_lossy(&event).contains(&format!("event-0000{number}")), "{event:?}");
    }
    let mut newest = Socket::connect_with(server.addr(), "/ws", &[("Last-Event-ID", "event-00003")]);
    newest.expect_nothing_more();
    let mut elsewhere = Socket::connect_with(server.addr(), "/api/ws/empty", &[("Last-Event-ID", "garbage")]);
    elsewhere.expect_nothing_more();
}

#[test]
fn ids_and_replay_continue_over_a_restart() {
    let home = Home::new();
    let server = home.serve();
    publish_events(&server, 1..=3);
    post(server.addr(), "/api/messages", &message("room", "a", "1")).ok();
    server.stop();

    let server = home.serve();
    let mut events = Socket::connect_with(server.addr(), "/ws", &[("Last-Event-ID", "event-00001")]);
    let mut channel =
        Socket::connect_with(server.addr(), "/api/ws/room", &[("Last-Event-ID", "message-00000")]);
    publish_events(&server, 4..=4);
    post(server.addr(), "/api/messages", &message("room", "a", "2")).ok();
    assert_eq!(numbers(&mut events, 3), [2, 3, 4]);
    assert_eq!(channel.next()["event_id"], "message-00001");
    assert_eq!(channel.next()["event_id"], "message-00002", "the counter goes on");
    let first = get(server.addr(), "/api/messages").ok()["messages"][0].clone();
    assert_eq!(first["id"], 1);
    drop((events, channel));
    server.stop();

    let server = home.serve();
    let mut events = Socket::connect_with(server.addr(), "/ws", &[("Last-Event-ID", "event-00000")]);
    assert_eq!(numbers(&mut events, 4), [1, 2, 3, 4]);
}

#[test]
fn a_heartbeat_names_what_its_own_connection_has_been_sent() {
    let home = Home::new();
    let server = home.serve();
    publish_events(&server, 1..=2);
    server.stop();
    let server = home.serve_with(|options| options.config.timeouts.heartbeat_interval_ms = 1_500);
    let mut client = Socket::connect(server.addr(), "/ws");
    assert_eq!(client.next_heartbeat()["event_id"], "event-00002", "what was there when it came");
    publish_events(&server, 3..=3);
    client.next_of_type("e");
    assert_eq!(client.next_heartbeat()["event_id"], "event-00003");
}

#[test]
fn a_heartbeat_never_names_an_event_that_was_not_sent_yet() {
    let home = Home::new();
    let server = home.serve();
    publish_events(&server, 1..=3000);
    server.stop();
    let server = home.serve_with(|options| options.config.timeouts.heartbeat_interval_ms = 1_500);
    let addr = server.addr();
    let publisher = Publisher::start(addr, "/api/events", json!({"type": "e", "payload": {"live": true}}));
    let mut client = Socket::connect(addr, "/ws?last_event_id=event-00000");
    let mut sent = 0;
    let mut heartbeats = 0;
    while sent < 3000 || heartbeats < 3 {
        let message = client.next_json();
        let id = number(&message["event_id"]);
        if message["type"] == "heartbeat" {
            heartbeats += 1;
            assert_eq!(id, sent, "the heartbeat stands where the connection does");
        } else {
            sent += 1;
            assert_eq!(id, sent);
        }
    }
    publisher.stop();
}

#[test]
fn replay_meets_the_live_messages_without_a_hole_an_overlap_or_a_swap() {
    let server = Server::start();
    let addr = server.addr();
    let publishers = [
        Publisher::start(addr, "/api/messages", message("room", "first", "live")),
        Publisher::start(addr, "/api/messages", message("room", "second", "live")),
    ];
    let mut seen = 0;
    let mut first = Socket::connect(addr, "/api/ws/room?last_event_id=message-00000");
    while seen < 200 {
        seen += 1;
        assert_eq!(first.next_data()["id"], seen);
    }
    drop(first);
    // It loses its connection repeatedly while both continue to publish.
    for _ in 0..30 {
        let id = format!("message-{seen:05}");
        let mut again = Socket::connect_with(addr, "/api/ws/room", &[("Last-Event-ID", &id)]);
        for _ in 0..20 {
            seen += 1;
            assert_eq!(again.next_data()["id"], seen);
        }
        again.reset();
    }
    for publisher in publishers {
        publisher.stop();
    }
}

#[test]
fn a_client_resumes_a_hundred_thousand_messages_back_while_others_publish() {
    const BACK: u64 = 100_000;
    let home = Home::new();
    let mut old = old_database::create(&home.database(), old_database::SCHEMA);
    old_database::fill(&mut old, "room", BACK + 1);
    drop(old);
    let server = home.serve();
    let addr = server.addr();
    let mut live = Socket::connect(addr, "/api/ws/room");
    let publisher = Publisher::start(addr, "/api/messages", message("room", "live", "live"));
    let mut resumed = Socket::connect_with(addr, "/api/ws/room", &[("Last-Event-ID", "message-00001")]);

    // The others do not wait for the replay.
    assert_eq!(live.next_data()["id"], BACK + 2);
    let mut expected = 1;
    let mut met = 0;
    while met < 50 {
        expected += 1;
        let data = resumed.next_data();
        assert_eq!(data["id"], expected);
        if data["author"] == "live" {
            met += 1;
        } else {
            assert_eq!(data["content"], format!("message {expected}"));
        }
    }
    assert_eq!(expected, BACK + 51, "the live ones follow the last that is old");
    publisher.stop();
    assert_eq!(live.next_data()["id"], BACK + 3);
}

/// A client that publishes messages one by one until it is stopped.
struct Publisher {
    goes_on: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Publisher {
    fn start(addr: SocketAddr, target: &'static str, body: Value) -> Self {
        let goes_on = Arc::new(AtomicBool::new(true));
        let asked = Arc::clone(&goes_on);
        let thread = std::thread::spawn(move || {
            let mut http = Http::connect(addr);
            while asked.load(Ordering::Relaxed) {
                http.post(target, &body).ok();
            }
        });
        Self { goes_on, thread }
    }

    fn stop(self) {
        self.goes_on.store(false, Ordering::Relaxed);
        self.thread.join().expect("the publisher was served to the end");
    }
}

/// Publishes events with their numbers, many in a segment.
fn publish_events(server: &Server, numbers: std::ops::RangeInclusive<u64>) {
    let mut client = Http::connect(server.addr());
    let numbers = numbers.collect::<Vec<_>>();
    for some in numbers.chunks(100) {
        for number in some {
            let body = json!({"type": "e", "payload": {"number": number}}).to_string();
            client.send(http::request("POST", "/api/events", &[], Some(&body)));
        }
        for _ in some {
            client.response().ok();
        }
    }
}

/// The numbers of the next `count` events, which agree with their ids.
fn numbers(client: &mut Socket, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    for _ in 0..count {
        let event = client.next_of_type("e");
        let number = number(&event["event_id"]);
        assert_eq!(event["payload"]["number"], number, "{event}");
        numbers.push(number);
    }
    numbers
}

/// The number after the hyphen of an id.
fn number(event_id: &Value) -> u64 {
    let id = event_id.as_str().expect("a string");
    let digits = id.split_once('-').expect("a dash").1;
    assert!(digits.len() >= 5, "{id}");
    digits.parse().expect("a number")
}
