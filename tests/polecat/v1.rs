//! The subprotocol and its messages: PROTOCOL.md, "14. polecat.v1".

mod keys;
mod resume;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::socket::message;
use crate::support::{
    Home, Process, RawSocket, Server, Socket, assert_keys_in_order, assert_timestamp, get, post, raw,
};

#[test]
fn hello_tells_where_the_client_is_and_what_binds_it() {
    let server = Server::start_with(|options| {
        options.config.limits.message_bytes_max = 4321;
        options.config.timeouts.heartbeat_interval_ms = 12_345;
    });
    for number in 1..=3 {
        post(server.addr(), "/api/messages", &message("caf\u{e9}", "a", &number.to_string())).ok();
    }
    let mut client = Socket::connect_v1(server.addr(), "/api/ws/caf%C3%A9");
    let text = client.next_text();
    assert_keys_in_order(&text, &["type", "payload", "correlation_id", "timestamp", "event_id"]);
    let hello = serde_json::from_str::<Value>(&text).expect("JSON");
    assert_timestamp(hello["timestamp"].as_str().expect("a string"));
    let epoch = hello["payload"]["epoch"].clone();
    assert!(epoch.as_str().is_some_and(|epoch| !epoch.is_empty()), "{epoch}");
    let expected = json!({"server": concat!("polecat/", env!("CARGO_PKG_VERSION")), "epoch": epoch,
        "channel": "caf\u{e9}", "oldest": "message-00001", "newest": "message-00003",
        "heartbeat_interval_ms": 12_345, "message_bytes_max": 4321, "idempotency_window_ms": 300_000,
        "stored": true});
    assert_eq!(hello["payload"], expected);
    assert_eq!((&hello["type"], &hello["correlation_id"]), (&json!("hello"), &Value::Null));
    assert_eq!(hello["event_id"], "message-00003", "who did not ask for a replay has it all");
    let live = client.next_of_type("live");
    assert_eq!((&live["payload"], &live["event_id"]), (&json!({}), &json!("message-00003")));

    let mut events = Socket::connect_v1(server.addr(), "/ws");
    let hello = events.next_of_type("hello");
    assert_eq!((&hello["payload"]["channel"], &hello["payload"]["epoch"]), (&Value::Null, &epoch));
    assert_eq!(
        (&hello["payload"]["newest"], &hello["event_id"]),
        (&json!("event-00000"), &json!("event-00000"))
    );
    events.next_of_type("live");
    post(server.addr(), "/api/events", &json!({"type": "scan_started"})).ok();
    let event = events.next_of_type("scan_started");
    assert_eq!(event["event_id"], "event-00001");
    events.expect_nothing_more();
}

#[test]
fn an_epoch_names_one_start_of_one_database() {
    let home = Home::new();
    let epoch =
        |server: &Server| Socket::connect_v1(server.addr(), "/ws").next_payload("hello")["epoch"].clone();
    let server = home.serve();
    let first = epoch(&server);
    assert_eq!(epoch(&server), first, "it is the same for all");
    server.stop();
    assert_ne!(epoch(&home.serve()), first);
    assert_ne!(epoch(&Server::start()), first);
}

#[test]
fn it_is_selected_where_it_is_offered_and_nowhere_else() {
    let server = Server::start();
    let selected = |target: &str, offers: &[&str]| {
        let offers = offers.iter().map(|offer| format!("Sec-WebSocket-Protocol: {offer}\r\n"));
        let fields = offers.fold("Host: a\r\n".to_owned(), |fields, offer| fields + &offer);
        let mut client = RawSocket::connect_and_send(server.addr(), &raw::upgrade_with(target, &fields));
        let head = client.read_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{offers:?}: {head}", offers = fields);
        let chosen = head.lines().filter_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("sec-websocket-protocol").then(|| value.to_owned())
        });
        let chosen = chosen.collect::<Vec<_>>();
        // The subprotocol is used only if it was selected.
        client.send_frame(true, raw::PING, b"");
        let first = client.next_frame().expect("open");
        assert_eq!(first.opcode == raw::TEXT, !chosen.is_empty(), "{target} {fields}: {first:?}");
        chosen
    };
    for target in ["/ws", "/api/ws/room"] {
        assert_eq!(selected(target, &["polecat.v1"]), ["polecat.v1"]);
        assert_eq!(selected(target, &["chat, polecat.v1 ,\tother"]), ["polecat.v1"]);
        assert_eq!(selected(target, &["chat", "polecat.v1"]), ["polecat.v1"]);
        assert_eq!(selected(target, &[]), [""; 0]);
        assert_eq!(selected(target, &["chat"]), [""; 0]);
        assert_eq!(selected(target, &["polecat.v2, polecat.v10, polecat"]), [""; 0]);
    }
    assert_eq!(selected("/api/ws", &["polecat.v1"]), [""; 0], "the echo has no protocol");
}

#[test]
fn broadcasts_are_the_same_for_all_and_base_clients_get_nothing_else() {
    let server = Server::beating_every(1_500);
    let mut v1 = Socket::connect_v1(server.addr(), "/api/ws/room");
    v1.next_of_type("hello");
    v1.next_of_type("live");
    for _ in 0..2 {
        assert_eq!(v1.next_heartbeat()["event_id"], "message-00000", "channels have heartbeats, too");
    }
    let mut base = Socket::connect(server.addr(), "/api/ws/room");
    v1.send_json(&json!({"type": "message", "author": "ann", "content": "one", "id": 1}));
    base.send_json(&json!({"type": "message", "author": "bob", "content": "two", "id": 2}));
    base.send_text("{");
    let base_texts = [base.next_text(), base.next_text()];
    let mut v1_texts = Vec::new();
    while v1_texts.len() < 2 {
        let text = v1.next_text();
        if text.starts_with("{\"type\":\"message\"") {
            v1_texts.push(text);
        }
    }
    assert_eq!(base_texts.as_slice(), v1_texts);
    base.expect_nothing_more();
    while v1.next_heartbeat()["event_id"] != "message-00003" {}

    let mut base = Socket::connect(server.addr(), "/ws?last_event_id=garbage&epoch=other");
    base.next_heartbeat();
    base.expect_nothing_more();
}

#[test]
fn each_message_with_an_id_is_acknowledged_once_it_is_stored() {
    let home = Home::new();
    let server = home.serve();
    let mut client = Socket::connect_v1(server.addr(), "/api/ws/room");
    client.next_of_type("hello");
    client.next_of_type("live");
    let reader = rusqlite::Connection::open(home.database()).expect("the database can be read");
    // As it was written, whatever it is.
    let ids = ["1", "\"1\"", "-0.50", "1e3", "12345678901234567890123", "\"a\\u0062\\n\"", "\"\"", "1"];
    for (number, id) in ids.iter().enumerate() {
        let number = number + 1;
        client.send_text(&format!("{{\"type\":\"message\",\"content\":\"{number}\",\"id\":{id}}}"));
        let (mut ack, mut broadcast) = (None, None);
        while ack.is_none() || broadcast.is_none() {
            let text = client.next_text();
            let json = serde_json::from_str::<Value>(&text).expect("JSON");
            if json["type"] == "ack" { ack = Some((text, json)) } else { broadcast = Some(json) }
        }
        let (text, ack) = ack.expect("an ack");
        let event_id = format!("message-{number:05}");
        assert!(text.contains(&format!(r#""payload":{{"id":{id},"event_id":"{event_id}"}}"#)), "{text}");
        assert_keys_in_order(&text, &["type", "payload", "correlation_id", "timestamp", "event_id"]);
        assert!(ack["event_id"].is_string());
        assert_eq!(broadcast.expect("a broadcast")["event_id"], event_id);
        let stored = reader.query_row("SELECT count(*) FROM messages", (), |row| row.get::<_, i64>(0));
        assert_eq!(
            stored.expect("a count"),
            i64::try_from(number).expect("it fits"),
            "stored before it is acknowledged"
        );
    }
    // Many at once: in their order. Without an id: none.
    for number in 0..200 {
        client.send_json(&json!({"type": "message", "content": "silent"}));
        client.send_json(&json!({"type": "message", "content": "said", "id": number}));
    }
    for number in 0..200 {
        let ack = loop {
            let next = client.next();
            if next["type"] == "ack" {
                break next;
            }
        };
        let event_id = format!("message-{:05}", ids.len() + 2 * (number + 1));
        assert_eq!(ack["payload"], json!({"id": number, "event_id": event_id}));
    }
    let first = get(server.addr(), "/api/messages?channel_id=room&limit=1").ok();
    assert_eq!(first["messages"][0]["id"], ids.len() + 400);
}

#[test]
fn what_cannot_be_stored_is_told_as_what_it_is() {
    let server = Server::start();
    let mut channel = Socket::connect_v1(server.addr(), "/api/ws/room");
    channel.next_of_type("hello");
    channel.next_of_type("live");
    for (more, code, cause) in [
        (r#""content":"\ud800""#, "malformed_json", "hex escape"),
        (r#""idempotency_key":"\udc00""#, "malformed_json", "idempotency_key: "),
        (r#""token_count":1e400"#, "malformed_json", "out of range"),
        (r#""lane":5"#, "wrong_type", "expected a string"),
        (r#""content":"a","content":"b""#, "wrong_type", "duplicate field `content`"),
    ] {
        channel.send_text(&format!(r#"{{"id":7,"type":"message",{more}}}"#));
        let error = channel.next_payload("error");
        assert_eq!((&error["code"], &error["id"]), (&json!(code), &json!(7)), "{more}");
        let message = error["message"].as_str().unwrap_or_default();
        assert!(message.contains(cause), "{more}: {message}");
        assert_eq!(message.contains("wrong type"), code == "wrong_type", "{more}: {message}");
    }
    // In keys that are ignored, the same does not matter.
    channel.send_text(r#"{"id":8,"type":"message","more":["\ud800",1e400]}"#);
    assert_eq!(channel.next_of_type("ack")["payload"]["id"], 8);
}

#[test]
fn what_is_wrong_is_told_and_the_connection_goes_on() {
    let server = Server::start();
    let mut channel = Socket::connect_v1(server.addr(), "/api/ws/room");
    let mut events = Socket::connect_v1(server.addr(), "/ws");
    for client in [&mut channel, &mut events] {
        client.next_of_type("hello");
        client.next_of_type("live");
        for (text, code, id) in [
            ("", "malformed_json", Value::Null),
            ("{", "malformed_json", Value::Null),
            ("nonsense", "malformed_json", Value::Null),
            ("{} {}", "malformed_json", Value::Null),
            ("[]", "wrong_type", Value::Null),
            ("\"text\"", "wrong_type", Value::Null),
            ("null", "wrong_type", Value::Null),
            (r#"{"id":1}"#, "wrong_type", json!(1)),
            (r#"{"id":"a","type":7}"#, "wrong_type", json!("a")),
            (r#"{"id":{},"type":"ping"}"#, "wrong_type", Value::Null),
            (r#"{"id":false,"type":"ping"}"#, "wrong_type", Value::Null),
            (r#"{"id":2,"type":"dance"}"#, "unknown_type", json!(2)),
        ] {
            client.send_text(text);
            let error = client.next_payload("error");
            assert_eq!((&error["code"], &error["id"]), (&json!(code), &id), "{text}");
            assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()));
        }
        client.send(tungstenite::Message::binary(vec![1, 2, 3]));
        assert_eq!(client.next_payload("error")["code"], "wrong_type");
        client.send_json(&json!({"type": "dance"}));
        client.send_json(&json!({"type": "ping"}));
        client.next_of_type("pong");
    }
    for (text, id) in [
        (r#"{"id":1,"type":"message","content":5}"#, json!(1)),
        (r#"{"id":1,"type":"message","author":[]}"#, json!(1)),
        (r#"{"id":1,"type":"message","token_count":"five"}"#, json!(1)),
        (r#"{"id":1,"type":"message","idempotency_key":""}"#, json!(1)),
        (r#"{"id":1,"type":"message","idempotency_key":5}"#, json!(1)),
        (r#"{"type":"message","content":5}"#, Value::Null),
        (&format!(r#"{{"id":"{}","type":"message"}}"#, "x".repeat(256)), Value::Null),
        (&format!(r#"{{"id":1,"type":"message","idempotency_key":"{}"}}"#, "x".repeat(256)), json!(1)),
    ] {
        channel.send_text(text);
        let error = channel.next();
        assert_eq!(error["type"], "error", "{text}");
        let error = error["payload"].clone();
        assert_eq!((&error["code"], &error["id"]), (&json!("wrong_type"), &id), "{text}");
    }
    assert_eq!(get(server.addr(), "/api/messages").ok(), json!({"messages": []}), "nothing of it was stored");
    events.send_json(&json!({"type": "message", "content": "events are posted", "id": "x"}));
    let error = events.next_payload("error");
    assert_eq!((&error["code"], &error["id"]), (&json!("unknown_type"), &json!("x")));
    channel.expect_nothing_more();
    events.expect_nothing_more();
}

#[test]
fn who_is_sent_away_is_told_when_to_come_again() {
    let home = Home::new();
    let process = Process::serve(&home.database(), &["--drain", "3"]);
    post(process.addr(), "/api/messages", &message("room", "a", "1")).ok();
    let mut base = Socket::connect(process.addr(), "/api/ws/room");
    let mut clients = (0..30)
        .map(|number| {
            let target = if number % 2 == 0 { "/ws" } else { "/api/ws/room" };
            let mut client = Socket::connect_v1(process.addr(), target);
            client.next_of_type("hello");
            client.next_of_type("live");
            client
        })
        .collect::<Vec<_>>();
    process.signal(Signal::TERM);
    let mut delays = Vec::new();
    for client in &mut clients {
        let reconnect = client.next_of_type("reconnect");
        let event_id = reconnect["event_id"].as_str().expect("a string");
        assert!(["event-00000", "message-00001"].contains(&event_id), "{event_id}");
        delays.push(reconnect["payload"]["after_ms"].as_u64().expect("a number"));
        assert_eq!(client.expect_close().0, 1001);
        client.expect_end();
    }
    match base.read() {
        tungstenite::Message::Close(Some(frame)) => assert_eq!(u16::from(frame.code), 1001),
        other => panic!("a base client is only closed, not told {other:?}"),
    }
    base.expect_end();
    assert!(delays.iter().all(|delay| (500..=3500).contains(delay)), "{delays:?}");
    delays.sort_unstable();
    delays.dedup();
    assert!(delays.len() > 5, "not all at once: {delays:?}");
    assert!(process.wait().status.success());
}
