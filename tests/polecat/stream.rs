//! Many channels on one socket: PROTOCOL.md, "16. Many channels on one socket".

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::socket::message;
use crate::support::{Home, Http, Server, Socket, get, post};

const STREAM: &str = "/api/stream";

fn connect(addr: SocketAddr, query: &str) -> Socket {
    Socket::connect_v1(addr, &format!("{STREAM}?{query}"))
}

/// A connection whose first request to subscribe is done.
fn open(addr: SocketAddr, query: &str) -> Socket {
    let mut socket = connect(addr, query);
    for kind in ["hello", "subscribed", "live"] {
        socket.next_of_type(kind);
    }
    socket
}

fn publish(addr: SocketAddr, channel: &str, content: &str) {
    post(addr, "/api/messages", &message(channel, "ann", content)).ok();
}

fn subscribe(socket: &mut Socket, request: &Value) -> Value {
    let mut request = request.clone();
    request["type"] = json!("subscribe");
    socket.send_json(&request);
    socket.next_of_type("subscribed")["payload"].clone()
}

/// The channel and content of the next message.
fn next(socket: &mut Socket) -> (String, String) {
    let message = socket.next();
    assert_eq!(message["type"], "message", "{message}");
    let text = |key: &str| message["data"][key].as_str().unwrap_or_default().to_owned();
    (text("channel_id"), text("content"))
}

fn pair(channel: &str, content: &str) -> (String, String) {
    (channel.to_owned(), content.to_owned())
}

#[test]
fn one_socket_gets_the_messages_of_all_its_channels_and_of_no_other() {
    let server = Server::start();
    let addr = server.addr();
    let mut socket = connect(addr, "channel=a&channel=b&events=1");
    let hello = socket.next_of_type("hello");
    assert_eq!(hello["payload"]["channel"], Value::Null);
    assert_eq!(hello["payload"]["features"], json!(["subscribe", "unsubscribe", "cursor"]));
    assert_eq!(hello["cursor"].as_str().map(|cursor| cursor.starts_with("0.0.")), Some(true), "{hello}");
    let subscribed = socket.next_of_type("subscribed");
    assert_eq!(
        subscribed["payload"],
        json!({
            "id": null,
            "channels": [
                {"channel": "a", "from": "message-00000"},
                {"channel": "b", "from": "message-00000"},
            ],
            "events": {"from": "event-00000"},
            "refused": [],
            "more": false,
        })
    );
    let live = socket.next_of_type("live");
    assert_eq!(live["payload"], json!({"channels": ["a", "b"], "events": true}));
    for (channel, content) in [("a", "1"), ("c", "2"), ("b", "3"), ("a", "4")] {
        publish(addr, channel, content);
    }
    post(addr, "/api/events", &json!({"type": "x", "payload": {}})).ok();
    assert_eq!([next(&mut socket), next(&mut socket)], [pair("a", "1"), pair("b", "3")]);
    assert_eq!(next(&mut socket), pair("a", "4"));
    assert_eq!(socket.next_of_type("x")["event_id"], "event-00001");
    socket.expect_nothing_more();
}

#[test]
fn channels_come_and_go_and_what_is_refused_does_not_cost_the_others() {
    let server = Server::start_with(|options| {
        options.config.limits.channels_per_connection_max = 3;
        options.config.limits.subscriptions_max = 4;
    });
    let addr = server.addr();
    publish(addr, "a", "before");
    let mut socket = connect(addr, "");
    socket.next_of_type("hello");
    let names = json!(["a", "", "b", "a", "c", "d"]);
    let subscribed = subscribe(&mut socket, &json!({"id": "s", "channels": names}));
    assert_eq!(subscribed["id"], "s");
    let accepted = |channel: &str| json!({"channel": channel, "from": "message-00001"});
    assert_eq!(subscribed["channels"], json!([accepted("a"), accepted("b"), accepted("c")]));
    let refused = |channel: &str, code: &str| json!({"channel": channel, "code": code});
    assert_eq!(
        subscribed["refused"],
        json!([
            refused("", "invalid_name"),
            refused("a", "already_subscribed"),
            refused("d", "too_many_on_connection"),
        ])
    );
    assert_eq!(socket.next_payload("live"), json!({"channels": ["a", "b", "c"], "events": false}));
    socket.send_json(&json!({"type": "unsubscribe", "id": 7, "channels": ["b", "x"], "events": true}));
    assert_eq!(
        socket.next_payload("unsubscribed"),
        json!({
            "id": 7,
            "channels": ["b"],
            "events": false,
            "refused": [refused("x", "not_subscribed"), json!({"channel": null, "code": "not_subscribed"})],
        })
    );
    publish(addr, "b", "unheard");
    publish(addr, "c", "heard");
    assert_eq!(next(&mut socket), pair("c", "heard"));
    // Of all connections together there may be four.
    let mut other = connect(addr, "");
    other.next_of_type("hello");
    let subscribed = subscribe(&mut other, &json!({"channels": ["a", "b", "c"]}));
    assert_eq!(subscribed["channels"].as_array().map(Vec::len), Some(2));
    assert_eq!(subscribed["refused"], json!([refused("c", "too_many_subscriptions")]));
    other.next_of_type("live");
    socket.close();
    let listed = || get(addr, "/api/connections").ok()["connections"].as_array().map_or(0, Vec::len);
    crate::support::wait_until("it is gone", || listed() == 2);
    let subscribed = subscribe(&mut other, &json!({"channels": ["c"]}));
    assert_eq!(
        subscribed["channels"].as_array().map(Vec::len),
        Some(1),
        "its subscriptions have ended with it"
    );
    drop(other);
    let metrics = server.stop();
    let limits = metrics.limits.iter().map(|(limit, count)| (limit.name(), count)).collect::<Vec<_>>();
    assert_eq!(limits, [("channels_per_connection", 1), ("subscriptions", 1)]);
}

#[test]
fn one_cursor_resumes_all_channels_over_a_restart() {
    let home = Home::new();
    let server = home.serve();
    let mut socket = open(server.addr(), "channel=a&channel=b&channel=quiet");
    publish(server.addr(), "a", "1");
    publish(server.addr(), "b", "2");
    assert_eq!([next(&mut socket), next(&mut socket)], [pair("a", "1"), pair("b", "2")]);
    // What it has got is told with what it subscribes to next.
    socket.send_json(&json!({"type": "subscribe", "channels": ["more"]}));
    let cursor = socket.next_of_type("subscribed")["cursor"].as_str().expect("a cursor").to_owned();
    assert!(cursor.starts_with("2.0."), "{cursor}");
    for (channel, content) in [("a", "3"), ("c", "4"), ("b", "5"), ("a", "6")] {
        publish(server.addr(), channel, content);
    }
    drop(socket);
    server.stop();
    let server = home.serve();
    let mut socket = connect(server.addr(), &format!("channel=a&channel=b&channel=quiet&cursor={cursor}"));
    let hello = socket.next_of_type("hello");
    let epoch = hello["payload"]["epoch"].as_str().expect("an epoch");
    assert_eq!(hello["cursor"].as_str(), Some(&*format!("2.0.{epoch}")), "nothing beyond was sent");
    let subscribed = socket.next_of_type("subscribed");
    assert_eq!(subscribed["payload"]["channels"][2], json!({"channel": "quiet", "from": "message-00002"}));
    let mut got = Vec::new();
    let mut live = Vec::new();
    while live.len() < 3 {
        let message = socket.next();
        match message["type"].as_str() {
            Some("message") => {
                let channel = message["data"]["channel_id"].as_str().unwrap_or_default();
                assert!(!live.contains(&channel.to_owned()), "the replay comes before `live`");
                got.push(pair(channel, message["data"]["content"].as_str().unwrap_or_default()));
            }
            Some("live") => {
                let channels = message["payload"]["channels"].as_array().expect("a list");
                live.extend(channels.iter().map(|name| name.as_str().unwrap_or_default().to_owned()));
            }
            _ => panic!("{message}"),
        }
    }
    got.sort();
    assert_eq!(got, [pair("a", "3"), pair("a", "6"), pair("b", "5")]);
    // A cursor that is taken over mid-way loses nothing, and the newest is told at the end.
    socket.send_json(&json!({"type": "subscribe", "channels": ["later"]}));
    assert_eq!(socket.next_of_type("subscribed")["cursor"], json!(format!("6.0.{epoch}")));
}

#[test]
fn a_message_names_its_channel_and_is_acknowledged() {
    let server = Server::start();
    let mut socket = open(server.addr(), "channel=a&events=1");
    for (request, code) in [
        (json!({"type": "message", "id": 1, "author": "x", "content": "c"}), "wrong_type"),
        (json!({"type": "message", "id": 1, "channel_id": "..", "content": "c"}), "wrong_type"),
        (json!({"type": "subscribe", "id": 1}), "wrong_type"),
        (json!({"type": "subscribe", "id": 1, "channels": ["b"], "cursor": "x"}), "invalid_cursor"),
        (json!({"type": "other", "id": 1}), "unknown_type"),
        (json!({"type": "unsubscribe", "id": 1, "channels": vec!["x"; 1001]}), "too_long"),
    ] {
        socket.send_json(&request);
        let error = socket.next_of_type("error");
        assert_eq!(
            (&error["payload"]["code"], &error["payload"]["id"]),
            (&json!(code), &json!(1)),
            "{request}"
        );
        assert!(error.get("event_id").is_none() && error.get("cursor").is_none(), "{error}");
    }
    for channel in ["elsewhere", "a"] {
        socket.send_json(
            &json!({"type": "message", "id": channel, "channel_id": channel, "author": "x", "content": "hi"}),
        );
        assert_eq!(socket.next_payload("ack")["id"], channel);
    }
    assert_eq!(next(&mut socket), pair("a", "hi"));
    socket.send_json(&json!({"type": "ping"}));
    socket.next_of_type("pong");
    socket.expect_nothing_more();
}

#[test]
fn a_gap_names_its_channel() {
    let server = Server::start();
    let addr = server.addr();
    publish(addr, "a", "1");
    let mut socket = connect(addr, "channel=a&events=1&cursor=5.7.unknown");
    for kind in ["hello", "subscribed"] {
        socket.next_of_type(kind);
    }
    let first = socket.next_payload("gap");
    assert_eq!(
        first,
        json!({"channel": null, "requested": "event-00007", "agreed": "event-00000", "oldest": "event-00001", "newest": "event-00000"})
    );
    let second = socket.next_payload("gap");
    assert_eq!((&second["channel"], &second["agreed"]), (&json!("a"), &json!("message-00000")));
    // All that is kept follows.
    assert_eq!(socket.next_payload("live"), json!({"channels": [], "events": true}));
    assert_eq!(next(&mut socket), pair("a", "1"));
    assert_eq!(socket.next_payload("live"), json!({"channels": ["a"], "events": false}));
}

#[test]
fn a_thousand_channels_are_subscribed_to_in_slices() {
    let server = Server::start();
    let addr = server.addr();
    publish(addr, "channel 0999", "missed");
    let mut socket = connect(addr, "");
    let hello = socket.next_of_type("hello");
    let epoch = hello["payload"]["epoch"].as_str().expect("an epoch").to_owned();
    let names = (0..1000).map(|number| format!("channel {number:04}")).collect::<Vec<_>>();
    socket.send_json(
        &json!({"type": "subscribe", "id": 1, "channels": names, "cursor": format!("0.0.{epoch}")}),
    );
    let (mut taken, mut slices, mut live, mut missed) = (Vec::new(), 0, 0, 0);
    while live < 1000 {
        let message = socket.next();
        match message["type"].as_str() {
            Some("subscribed") => {
                slices += 1;
                let channels = message["payload"]["channels"].as_array().expect("a list");
                taken.extend(
                    channels.iter().map(|one| one["channel"].as_str().unwrap_or_default().to_owned()),
                );
                assert_eq!(message["payload"]["more"], json!(taken.len() < 1000));
                assert!(
                    message["cursor"].as_str().is_some_and(|cursor| cursor.starts_with("0.0.")),
                    "{message}"
                );
            }
            Some("live") => live += message["payload"]["channels"].as_array().map_or(0, Vec::len),
            Some("message") => missed += 1,
            _ => panic!("{message}"),
        }
    }
    assert_eq!((taken, missed), (names, 1));
    assert!(slices >= 8, "{slices}");
}

#[test]
fn a_stream_needs_the_subprotocol_and_a_cursor_that_was_given() {
    let server = Server::start();
    let upgrade = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let without = Http::connect(server.addr()).request("GET", "/api/stream?channel=a", &upgrade, None);
    assert_eq!((without.status, without.json()["detail"].as_str().is_some()), (400, true));
    let fields = [&upgrade[..], &[("Sec-WebSocket-Protocol", "polecat.v1")]].concat();
    let wrong = Http::connect(server.addr()).request("GET", "/api/stream?channel=a&cursor=7", &fields, None);
    assert_eq!(wrong.status, 400);
    let plain = Http::connect(server.addr()).get("/api/stream");
    assert_eq!(plain.status, 426);
}
