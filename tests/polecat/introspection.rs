//! Introspection: PROTOCOL.md, "3. The HTTP API", its sections 3.8 to 3.12.

mod connections;
mod numbers;
mod schema;

use serde_json::{Value, json};

use crate::support::schema::{document, expect_component};
use crate::support::socket::message;
use crate::support::{Home, Http, Process, Server, Socket, assert_keys_in_order, get, post, wait_until};

#[test]
fn verbose_health_tells_all_that_is_known() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    let _events = Socket::connect(server.addr(), "/ws");
    let _room = Socket::connect(server.addr(), "/api/ws/room");
    let _echo = Socket::connect(server.addr(), "/api/ws");
    http.post("/api/messages", &message("room", "a", "x")).ok();
    http.post("/api/events", &json!({"type": "t"})).ok();
    let response = http.get("/api/health?verbose=1");
    let health = response.ok();
    expect_component(&health, "VerboseHealth");
    let keys = ["status", "version", "uptime_ms", "engine", "connections", "descriptors", "memory", "loop"];
    assert_keys_in_order(response.text(), &keys);
    assert_keys_in_order(response.text(), &["loop", "counters", "closed", "limits"]);
    assert_eq!(health["status"], "ok");
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
    let engine = &health["engine"];
    assert_eq!((&engine["kind"], &engine["records_waiting"]), (&json!("sqlite"), &json!(0)));
    assert_eq!(
        (&engine["newest_message"], &engine["newest_event"]),
        (&json!("message-00001"), &json!("event-00001"))
    );
    let expected = json!({"open": 4, "max": null, "http": 1, "events": 1, "channel": 1, "stream": 0, "echo": 1,
        "closing": 0, "lagging": 0});
    assert_eq!(health["connections"], expected);
    let counters = &health["counters"];
    assert_eq!((&counters["accepted"], &counters["upgrades"]), (&json!(4), &json!(3)));
    assert_eq!((&counters["committed"], &counters["requests"]), (&json!(2), &json!(6)));
    assert!(counters["bytes_received"].as_u64() > Some(100), "{counters}");
    assert_eq!((&health["closed"]["client_close"], &health["limits"]["connections"]), (&json!(0), &json!(0)));
    assert!(health["loop"]["turns"].as_u64() >= Some(4), "{health}");
    if cfg!(target_os = "linux") {
        assert!(health["memory"]["resident_bytes"].as_u64() > Some(1 << 20), "{health}");
        assert!(health["descriptors"]["used"].as_u64() > Some(8), "{health}");
        assert!(health["descriptors"]["max"].as_u64() > health["descriptors"]["used"].as_u64(), "{health}");
    }
    // Any other value has no effect.
    for target in ["/api/health?verbose=0", "/api/health?verbose", "/api/health?verbose=yes"] {
        assert_eq!(http.get(target).ok(), json!({"status": "ok"}), "{target}");
    }
    // HEAD has the length, and the connection stays open.
    let head = http.request("HEAD", "/api/health?verbose=1", &[], None);
    assert!(head.status == 200 && head.header("content-length") > Some("1000"), "{head:?}");
    http.expect_open();
}

#[test]
fn verbose_health_of_an_engine_in_memory_says_so() {
    let server = Server::start_with(|options| {
        options.database = None;
        options.config.limits.connections_max = 20;
    });
    let health = get(server.addr(), "/api/health?verbose=1").ok();
    assert_eq!((&health["engine"]["kind"], &health["connections"]["max"]), (&json!("memory"), &json!(20)));
}

#[test]
fn verbose_health_is_503_with_the_reason_where_nothing_can_be_stored() {
    let home = Home::new();
    let process = Process::serve(&home.database(), &[]);
    let other = rusqlite::Connection::open(home.database()).expect("the database can be opened");
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock is to be had");
    let mut http = Http::connect(process.addr());
    assert_eq!(http.post("/api/messages", &message("room", "a", "x")).status, 503);
    let response = http.get("/api/health?verbose=1");
    let health = response.json();
    assert_eq!((response.status, &health["status"]), (503, &json!("degraded")));
    assert_eq!(health["reason"], "another program holds the database locked");
    assert_eq!((&health["counters"]["refused"], &health["engine"]["kind"]), (&json!(1), &json!("sqlite")));
    let store_up =
        |text: &str| text.lines().find(|line| line.starts_with("polecat_store_up")).map(str::to_owned);
    assert_eq!(store_up(http.get("/metrics").text()).as_deref(), Some("polecat_store_up 0"));
    other.execute_batch("COMMIT").expect("the lock can be let go");
    http.post("/api/messages", &message("room", "a", "x")).ok();
    assert_eq!(store_up(http.get("/metrics").text()).as_deref(), Some("polecat_store_up 1"));
}

#[test]
fn channels_are_told_with_subscribers_and_what_is_kept() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    for channel in ["b", "a", "é", "a"] {
        http.post("/api/messages", &message(channel, "a", "x")).ok();
    }
    let _two = [Socket::connect(server.addr(), "/api/ws/b"), Socket::connect(server.addr(), "/api/ws/b")];
    let _new = Socket::connect(server.addr(), "/api/ws/a%20new");
    let _events = Socket::connect(server.addr(), "/ws");
    let channel = |name: &str, subscribers: u32, newest: u32, kept: u32| json!({"channel_id": name, "subscribers": subscribers, "newest": format!("message-{newest:05}"), "kept": kept});
    let all =
        [channel("a", 0, 4, 2), channel("a new", 1, 0, 0), channel("b", 2, 1, 1), channel("é", 0, 3, 1)];
    assert_eq!(http.get("/api/channels?detail=1").ok(), json!({"channels": all, "next": null}));
    // Messages that were counted are not counted again; newer ones are.
    http.post("/api/messages", &message("é", "a", "x")).ok();
    let one = http.get("/api/channels?detail=1&after=b").ok();
    assert_eq!(one, json!({"channels": [channel("é", 0, 5, 2)], "next": null}));
    // In pages of any size, each channel once.
    for limit in 1..=5 {
        let (mut names, mut after) = (Vec::new(), String::new());
        loop {
            let page = http.get(&format!("/api/channels?detail=1&limit={limit}&after={after}")).ok();
            let channels = page["channels"].as_array().expect("a list");
            assert!(channels.len() <= limit, "{page}");
            names.extend(channels.iter().map(|one| one["channel_id"].as_str().expect("a name").to_owned()));
            let Some(next) = page["next"].as_str() else { break };
            after =
                percent_encoding::utf8_percent_encode(next, percent_encoding::NON_ALPHANUMERIC).to_string();
        }
        assert_eq!(names, ["a", "a new", "b", "é"], "{limit}");
    }
    assert_eq!(http.get("/api/channels").ok(), json!({"channels": ["a", "b", "é"]}));
    for (query, kind) in
        [("limit=0", "greater_than_equal"), ("limit=1001", "less_than_equal"), ("limit=", "int_parsing")]
    {
        let wrong = http.get(&format!("/api/channels?detail=1&{query}"));
        assert_eq!((wrong.status, &wrong.json()["detail"][0]["type"]), (422, &json!(kind)), "{query}");
    }
}

#[test]
fn what_retention_deletes_is_not_kept() {
    for is_stored in [true, false] {
        let server = Server::start_with(|options| {
            options.store.retain_messages = Some(5);
            options.database = options.database.take().filter(|_| is_stored);
        });
        let mut http = Http::connect(server.addr());
        let mut kept = |count: usize| {
            let details = || get(server.addr(), "/api/channels?detail=1").ok();
            let sum = |details: &Value| {
                let channels = details["channels"].as_array().expect("a list").iter();
                channels.map(|channel| channel["kept"].as_u64().expect("a number")).sum::<u64>()
            };
            for number in 0..count {
                http.post("/api/messages", &message(["a", "b"][number % 2], "a", "x")).ok();
            }
            // Requested during deletion: the counts agree with the list in the end.
            wait_until("five are kept", || sum(&details()) == 5);
            let list = get(server.addr(), "/api/messages").ok();
            assert_eq!(list["messages"].as_array().map(Vec::len), Some(5), "{list}");
        };
        kept(20);
        kept(9);
    }
}

#[test]
fn the_schema_describes_this_server() {
    let server = Server::start();
    let response = get(server.addr(), "/api/schema");
    assert_eq!(&response.ok(), document());
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(document()["info"]["version"], env!("CARGO_PKG_VERSION"));
    // Its paths are those of the table in PROTOCOL.md, and each method there is one of theirs.
    let protocol = include_str!("../../PROTOCOL.md");
    let (_, table) = protocol.split_once("\n## 1. Endpoints\n").expect("a section");
    let rows =
        table.lines().skip_while(|line| !line.starts_with("| `")).take_while(|line| line.starts_with('|'));
    let mut listed = rows
        .map(|row| {
            let cells = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect::<Vec<_>>();
            let method = if cells[1] == "WebSocket" { "get" } else { &cells[1].to_ascii_lowercase() };
            (cells[2].to_owned(), method.to_owned())
        })
        .collect::<Vec<_>>();
    listed.sort();
    let paths = document()["paths"].as_object().expect("paths").iter();
    let described = paths.flat_map(|(path, methods)| {
        methods.as_object().expect("methods").keys().map(move |method| (path.clone(), method.clone()))
    });
    let mut described = described.collect::<Vec<_>>();
    described.sort();
    // Pages are for people, not an interface for programs.
    listed.retain(|(path, _)| path.starts_with("/api") || ["/ws", "/metrics"].contains(&path.as_str()));
    assert_eq!(described, listed);
}

#[test]
fn messages_of_polecat_v1_on_events_are_as_the_schema_says() {
    let server = Server::beating_every(100);
    post(server.addr(), "/api/events", &json!({"type": "t"})).ok();
    let mut socket = Socket::connect_v1(server.addr(), "/ws?last_event_id=event-00000");
    for (kind, component) in [("hello", "Hello"), ("resumed", "Resumed"), ("t", "Event"), ("live", "Live")] {
        let message = socket.next();
        assert_eq!(message["type"], kind, "{message}");
        expect_component(&message, component);
    }
    expect_component(&socket.next_heartbeat(), "Heartbeat");
    let mut gap = Socket::connect_v1(server.addr(), "/ws?last_event_id=nonsense");
    expect_component(&gap.next(), "Hello");
    expect_component(&gap.next(), "Gap");
}

#[test]
fn questions_about_the_server_are_answered_in_their_turn() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    let targets =
        ["/api/health?verbose=1", "/api/summary", "/api/connections?limit=1", "/api/health", "/metrics"];
    for target in targets {
        http.send(crate::support::http::request("GET", target, &[], None));
    }
    let body = message("room", "a", "x").to_string();
    http.send(crate::support::http::request("POST", "/api/messages", &[], Some(&body)));
    for part in [
        "\"uptime_ms\"",
        "total_messages",
        "\"connections\":[",
        "{\"status\":\"ok\"}",
        "# HELP",
        "\"success\"",
    ] {
        let response = http.response();
        assert!(response.status == 200 && response.text().contains(part), "{part}: {}", response.text());
    }
}
