//! The event service: PROTOCOL.md, "5. The event stream: `/ws`". The first seven tests are its
//! criteria, by their names.

use std::sync::mpsc;

use serde_json::{Value, json};
use tungstenite::Message;

use crate::support::{
    Http, RawSocket, Server, Socket, assert_keys_in_order, assert_timestamp, is_uuid_v4, post, raw,
};

#[test]
fn fr_001_a_client_shakes_hands_at_ws() {
    let server = Server::start();
    let mut raw = RawSocket::connect_and_send(server.addr(), &raw::upgrade("/ws"));
    let head = raw.read_head();
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    let head = head.to_ascii_lowercase();
    assert!(head.contains("\r\nupgrade: websocket\r\n"), "{head}");
    assert!(head.contains("\r\nconnection: upgrade\r\n"), "{head}");
    let accept = format!("\r\nsec-websocket-accept: {}\r\n", raw::ACCEPT.to_ascii_lowercase());
    assert!(head.contains(&accept), "{head}");
    Socket::connect(server.addr(), "/ws").expect_nothing_more();
}

#[test]
fn fr_002_an_event_is_broadcast_to_all_clients() {
    let server = Server::start();
    let mut clients = (0..5).map(|_| Socket::connect(server.addr(), "/ws")).collect::<Vec<_>>();
    let answer = publish(&server, &json!({"type": "scan_started", "payload": {"files": 3}}));
    for client in &mut clients {
        let text = client.next_text();
        assert_keys_in_order(&text, &["type", "payload", "correlation_id", "timestamp", "event_id"]);
        let event = serde_json::from_str::<Value>(&text).expect("JSON");
        assert_eq!(event, answer, "what is broadcast is what the publisher was answered");
        assert_eq!(event.as_object().map(serde_json::Map::len), Some(5), "{event}");
        assert_eq!(event["event_id"], "event-00001");
        assert_timestamp(event["timestamp"].as_str().expect("a string"));
    }
}

#[test]
fn fr_003_health_changes_reach_every_client() {
    let server = Server::start();
    let mut clients = [Socket::connect(server.addr(), "/ws"), Socket::connect(server.addr(), "/ws")];
    for status in ["degraded", "ok"] {
        publish(&server, &json!({"type": "health_status", "payload": {"status": status, "disk": 0.97}}));
        for client in &mut clients {
            let event = client.next_of_type("health_status");
            assert_eq!(event["payload"], json!({"status": status, "disk": 0.97}));
        }
    }
}

#[test]
fn fr_004_activity_events_reach_every_client_with_their_payload() {
    let server = Server::start();
    let mut client = Socket::connect(server.addr(), "/ws");
    let payloads = [
        ("scan_started", json!({"path": "/größe/日本", "deep": {"list": [1, 2.5, null, true, {"a": []}]}})),
        ("scan_completed", json!({"files": 9_007_199_254_740_993_u64})),
        ("project_created", json!({"name": "quote \" and \\ and \u{1F980}\n"})),
        ("job_progress", json!({"percent": 0})),
        ("preview.ready", json!({"url": "/p/1.png"})),
        ("render_completed", json!({})),
        ("a name nobody has seen", json!({"type": "inner"})),
    ];
    for (number, (kind, payload)) in payloads.iter().enumerate() {
        publish(&server, &json!({"type": kind, "payload": payload}));
        let event = client.next_of_type(kind);
        assert_eq!(event["payload"], *payload);
        assert_eq!(event["event_id"], format!("event-{:05}", number + 1), "the counter rises by one");
    }
    publish(&server, &json!({"type": "bare"}));
    assert_eq!(client.next_of_type("bare")["payload"], json!({}), "no payload is an empty one");
}

#[test]
fn fr_005_every_message_bears_a_correlation_id() {
    let server = Server::beating_every(INTERVAL_MS);
    let mut client = Socket::connect(server.addr(), "/ws");
    let mut http = Http::connect(server.addr());
    let mut publish = |headers: &[(&str, &str)], body: Value| {
        let answer = http.request("POST", "/api/events", headers, Some(&body.to_string()));
        answer.ok();
        (client.next_of_type("e")["correlation_id"].clone(), answer)
    };

    let (id, _) =
        publish(&[("X-Correlation-ID", "header-1")], json!({"type": "e", "correlation_id": "body-1"}));
    assert_eq!(id, "body-1", "the body's wins");
    let (id, answer) = publish(&[("X-Correlation-ID", "header-2")], json!({"type": "e"}));
    assert_eq!(id, "header-2", "else the request's");
    assert_eq!(answer.header("x-correlation-id"), Some("header-2"));
    let (id, _) = publish(&[("x-correlation-id", "h3")], json!({"type": "e", "correlation_id": null}));
    assert_eq!(id, "h3", "null in the body is none");
    let (id, answer) = publish(&[("X-Correlation-ID", "h4")], json!({"type": "e", "correlation_id": ""}));
    assert_eq!(id, "h4", "and so is an empty one");
    assert_eq!(answer.json()["event"]["correlation_id"], "h4");
    let (id, answer) = publish(&[], json!({"type": "e"}));
    let id = id.as_str().expect("a string");
    assert!(is_uuid_v4(id), "one is made up: {id}");
    assert_eq!(answer.header("x-correlation-id"), Some(id), "and the publisher is told");

    let heartbeat = client.next_heartbeat();
    assert_eq!(heartbeat.get("correlation_id"), Some(&Value::Null), "a heartbeat was caused by nobody");
}

#[test]
fn fr_006_a_client_that_reset_is_removed_and_reconnects_without_a_restart() {
    let server = Server::start();
    let mut healthy = Socket::connect(server.addr(), "/ws");
    let mut broken = Socket::connect(server.addr(), "/ws");
    publish(&server, &json!({"type": "first"}));
    let seen = broken.next_of_type("first")["event_id"].as_str().expect("a string").to_owned();
    healthy.next_of_type("first");

    broken.reset();
    for kind in ["second", "third"] {
        publish(&server, &json!({"type": kind}));
        healthy.next_of_type(kind);
    }

    let mut back = Socket::connect_with(server.addr(), "/ws", &[("Last-Event-ID", &seen)]);
    publish(&server, &json!({"type": "fourth"}));
    for kind in ["second", "third", "fourth"] {
        back.next_of_type(kind);
    }
    healthy.next_of_type("fourth");
    back.expect_nothing_more();
}

/// Long enough for a client on a busy machine to answer in time. `sim/times.rs` and `sim/patience.rs` check
/// exactly when heartbeats come, and when clients that do not answer are closed.
const INTERVAL_MS: u32 = 1_500;

#[test]
fn fr_006_a_client_that_fell_silent_is_removed_and_one_that_answers_stays() {
    let server = Server::beating_every(INTERVAL_MS);
    let addr = server.addr();
    // It answers Pings by reading, all the time.
    let (connected_sender, connected) = mpsc::channel();
    let answering = std::thread::spawn(move || {
        let mut client = Socket::connect(addr, "/ws");
        connected_sender.send(()).expect("the test waits for it");
        client.next_of_type("after")
    });
    connected.recv().expect("the client connects");
    let mut silent = RawSocket::connect(server.addr(), "/ws");
    let mut pings = 0;
    while let Some(frame) = silent.next_frame() {
        match frame.opcode {
            raw::PING => pings += 1,
            raw::CLOSE => assert_eq!(frame.payload[..2], 1011_u16.to_be_bytes(), "heartbeat timeout"),
            _ => {}
        }
    }
    assert_eq!(pings, 1, "it was asked whether it lives");

    publish(&server, &json!({"type": "after"}));
    answering.join().expect("the client that answers is served on");
    Socket::connect(server.addr(), "/ws").expect_nothing_more();
}

#[test]
fn fr_007_heartbeats_come_at_the_configured_interval() {
    let server = Server::beating_every(INTERVAL_MS);
    let addr = server.addr();
    let clients = (0..4).map(|_| {
        std::thread::spawn(move || {
            let mut client = Socket::connect(addr, "/ws");
            for _ in 0..3 {
                assert_is_first_heartbeat(&client.next_text());
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.join().expect("each client gets its heartbeats");
    }
}

#[test]
fn a_subscribe_token_of_the_wrong_form_is_accepted_and_closed() {
    let server = Server::start();
    let good = "0123456789abcdef0123456789abcdef";
    Socket::connect(server.addr(), &format!("/ws?subscribe_token={good}")).expect_nothing_more();
    let long = format!("{good}0");
    for bad in ["x", &good[1..], &long, &good.to_ascii_uppercase(), "g123456789abcdef0123456789abcdef"] {
        let mut client = Socket::connect(server.addr(), &format!("/ws?subscribe_token={bad}"));
        assert_eq!(client.expect_close(), (4400, "Invalid subscribe_token format".to_owned()), "{bad}");
    }
}

#[test]
fn what_clients_of_ws_send_is_read_and_ignored() {
    let server = Server::start();
    let mut client = Socket::connect(server.addr(), "/ws");
    for text in ["{\"type\":\"ping\"}", "{\"type\":\"message\",\"content\":\"x\"}", "{not json", ""] {
        client.send_text(text);
    }
    client.send(Message::binary(vec![0, 159, 146, 150]));
    client.expect_nothing_more();
    let mut other = Socket::connect(server.addr(), "/ws");
    client.expect_nothing_more();
    other.next_of_type("marker");
}

#[test]
fn events_and_messages_do_not_mix() {
    let server = Server::start();
    let mut events = Socket::connect(server.addr(), "/ws");
    let mut channel = Socket::connect(server.addr(), "/api/ws/room");
    publish(&server, &json!({"type": "message", "payload": {"content": "an event"}}));
    post(server.addr(), "/api/messages", &json!({"channel_id": "room", "author": "a", "content": "c"})).ok();
    assert_eq!(events.next()["payload"]["content"], "an event");
    assert_eq!(channel.next_data()["content"], "c");
    events.expect_nothing_more();
    channel.expect_nothing_more();
}

#[test]
fn every_response_repeats_the_correlation_id_or_makes_one_up() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    let longest = "x".repeat(128);
    for target in ["/api/health", "/nowhere"] {
        for id in ["abc-123", "~!@#$%", &longest] {
            let response = http.request("GET", target, &[("X-Correlation-ID", id)], None);
            assert_eq!(response.header("x-correlation-id"), Some(id));
        }
        let too_long = "x".repeat(129);
        for id in ["", "two words", "ümlaut", &too_long] {
            let response = http.request("GET", target, &[("X-Correlation-ID", id)], None);
            let made_up = response.header("x-correlation-id").expect("one is made up");
            assert!(is_uuid_v4(made_up), "{made_up} for {id:?}");
        }
    }
    let first = http.get("/api/health").header("x-correlation-id").map(str::to_owned);
    let second = http.get("/api/health").header("x-correlation-id").map(str::to_owned);
    assert_ne!(first, second, "each request has its own");

    let named = Socket::connect_with(server.addr(), "/ws", &[("X-Correlation-ID", "mine")]);
    assert_eq!(named.header("x-correlation-id"), Some("mine"));
    let unnamed = Socket::connect(server.addr(), "/api/ws/room");
    assert!(unnamed.header("x-correlation-id").is_some_and(is_uuid_v4));
}

/// A complete heartbeat of a connection that was sent no event.
fn assert_is_first_heartbeat(text: &str) {
    assert_keys_in_order(text, &["type", "payload", "correlation_id", "timestamp", "event_id"]);
    let heartbeat = serde_json::from_str::<Value>(text).expect("JSON");
    assert_timestamp(heartbeat["timestamp"].as_str().expect("a string"));
    let expected = json!({"type": "heartbeat", "payload": {}, "correlation_id": null,
        "timestamp": heartbeat["timestamp"], "event_id": "event-00000"});
    assert_eq!(heartbeat, expected);
}

/// Publishes `event` and returns the envelope that the answer holds.
fn publish(server: &Server, event: &Value) -> Value {
    let answer = post(server.addr(), "/api/events", event).ok();
    assert_eq!(answer["success"], true, "{answer}");
    answer["event"].clone()
}
