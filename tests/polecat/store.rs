//! The store: ARCHITECTURE.md, "The store". Files of service A, and the contents after a kill: PROTOCOL.md,
//! "8. Guarantees".

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::http::is_gone;
use crate::support::socket::message;
use crate::support::{Home, Http, Process, Socket, get, old_database, post};

#[test]
fn a_database_of_service_a_opens_as_it_is() {
    let home = Home::new();
    let old = old_database::create(&home.database(), old_database::SCHEMA);
    let insert = "INSERT INTO messages (channel_id, author, content, timestamp, lane, provider, token_count)
        VALUES ('room', 'ann', 'old', ?1, 'fast', 'acme', 7), ('café', 'bob', '', ?1, NULL, '', NULL)";
    old.execute(insert, [old_database::TIMESTAMP]).expect("the rows are stored");
    drop(old);

    let server = home.serve();
    let messages = get(server.addr(), "/api/messages").ok();
    let expected = json!({"messages": [
        {"id": 1, "channel_id": "room", "author": "ann", "content": "old", "timestamp": old_database::TIMESTAMP,
            "lane": "fast", "provider": "acme", "token_count": 7},
        {"id": 2, "channel_id": "café", "author": "bob", "content": "", "timestamp": old_database::TIMESTAMP,
            "lane": null, "provider": "", "token_count": null}]});
    assert_eq!(messages, expected);
    let summary = json!({"summary": {"total_messages": 2, "total_tokens": 7, "by_provider": {"acme": 1},
        "by_lane": {"fast": 1}}});
    assert_eq!(get(server.addr(), "/api/summary").ok(), summary, "old messages count");
    assert_eq!(get(server.addr(), "/api/channels").ok(), json!({"channels": ["café", "room"]}));
    let mut client = Socket::connect(server.addr(), "/api/ws/room?last_event_id=message-00000");
    assert_eq!(client.next_data()["content"], "old");
    let new = post(server.addr(), "/api/messages", &message("room", "ann", "new")).ok();
    assert_eq!(new["message"]["id"], 3);
    assert_eq!(client.next_data()["content"], "new");
}

#[test]
fn an_event_that_was_stored_without_a_correlation_id_is_sent_with_its_own_id() {
    let home = Home::new();
    home.serve().stop();
    let old = Connection::open(home.database()).expect("the file opens");
    let insert = "INSERT INTO events (type, payload, correlation_id, timestamp)
        VALUES ('hello', '{}', NULL, ?1), ('reconnect', '{}', '', ?1), ('gap', '{}', 'r-1', ?1), ('live', '{}', x'', ?1)";
    old.execute(insert, [old_database::TIMESTAMP]).expect("the rows are stored");
    drop(old);
    let server = home.serve();
    let expected = ["event-00001", "event-00002", "r-1", "event-00004"];
    let listed = get(server.addr(), "/api/events").ok()["events"].clone();
    let listed = listed.as_array().expect("a list").iter();
    assert!(listed.map(|event| &event["correlation_id"]).eq(expected.iter()), "in a list");
    for round in 0..2 {
        // From the store, and once more from memory.
        for _ in 0..2 {
            let mut client = Socket::connect(server.addr(), "/ws?last_event_id=event-00000");
            for (kind, id) in ["hello", "reconnect", "gap", "live"].into_iter().zip(expected) {
                assert_eq!(client.next_of_type(kind)["correlation_id"], id, "{round}");
            }
        }
        post(server.addr(), "/api/events", &json!({"type": "new"})).ok();
    }
}

#[test]
fn a_database_without_the_later_columns_gets_them() {
    let home = Home::new();
    let mut old = old_database::create(&home.database(), old_database::SCHEMA_WITHOUT_LATER_COLUMNS);
    old_database::fill(&mut old, "room", 3);
    drop(old);
    let server = home.serve();
    let mut body = message("room", "ann", "new");
    body["provider"] = json!("acme");
    body["token_count"] = json!(5);
    post(server.addr(), "/api/messages", &body).ok();
    let messages = get(server.addr(), "/api/messages").ok();
    assert_eq!(messages["messages"].as_array().map(Vec::len), Some(4));
    assert_eq!(messages["messages"][0]["content"], "message 1");
    assert_eq!(messages["messages"][0]["provider"], Value::Null);
    assert_eq!(messages["messages"][3]["token_count"], 5);
    let summary = get(server.addr(), "/api/summary").ok();
    assert_eq!(summary["summary"]["total_messages"], 4);
    assert_eq!(summary["summary"]["by_provider"], json!({"acme": 1}));
}

#[test]
fn service_a_can_open_the_database_again_and_polecat_after_it() {
    let home = Home::new();
    let server = home.serve();
    post(server.addr(), "/api/messages", &message("room", "ann", "by polecat")).ok();
    post(server.addr(), "/api/events", &json!({"type": "e"})).ok();
    server.stop();

    // How service A uses a file: its own columns, and no others.
    let service = Connection::open(home.database()).expect("the file opens");
    let columns = texts(&service, "SELECT name FROM pragma_table_info('messages')");
    let expected = ["id", "channel_id", "author", "content", "timestamp", "lane", "provider", "token_count"];
    assert_eq!(columns, expected);
    // It creates what is missing; polecat has no use for the times.
    let schema =
        old_database::SCHEMA.replace("TABLE", "TABLE IF NOT EXISTS").replace("INDEX", "INDEX IF NOT EXISTS");
    service.execute_batch(&schema).expect("nothing is in the way");
    let insert = "INSERT INTO messages (channel_id, author, content, timestamp, lane, provider, token_count)
        VALUES ('room', 'a', 'by service A', ?1, NULL, 'acme', 11)";
    service.execute(insert, [old_database::TIMESTAMP]).expect("service A can write");
    let contents = texts(&service, "SELECT content FROM messages WHERE channel_id = 'room' ORDER BY id");
    assert_eq!(contents, ["by polecat", "by service A"]);
    drop(service);

    let server = home.serve();
    let summary = get(server.addr(), "/api/summary").ok();
    let expected = json!({"summary": {"total_messages": 2, "total_tokens": 11, "by_provider": {"acme": 1},
        "by_lane": {}}});
    assert_eq!(summary, expected, "what service A wrote counts");
    let mut client = Socket::connect(server.addr(), "/api/ws/room?last_event_id=x");
    assert_eq!(client.next_contents(2), ["by polecat", "by service A"]);
}

#[test]
fn every_acknowledged_message_survives_sigkill_once_and_in_order() {
    let home = Home::new();
    let process = Process::serve(&home.database(), &[]);
    let addr = process.addr();
    let (acknowledged_sender, acknowledged) = mpsc::channel();
    let mut publishers = Vec::new();
    for number in 0..3 {
        publishers.push(publish_by_rest(addr, format!("rest {number}"), acknowledged_sender.clone()));
        publishers.push(publish_by_socket(addr, format!("socket {number}"), acknowledged_sender.clone()));
    }
    drop(acknowledged_sender);
    let mut promised = BTreeMap::new();
    let mut note = |(id, author, content): Acknowledged| {
        let earlier = promised.insert(id, (author, content));
        assert_eq!(earlier, None, "the id {id} was given twice");
    };
    // While all of them publish.
    for _ in 0..1200 {
        note(acknowledged.recv().expect("the publishers go on"));
    }
    process.kill();
    for publisher in publishers {
        publisher.join().expect("a publisher ends well");
    }
    acknowledged.iter().for_each(&mut note);

    let process = Process::serve(&home.database(), &[]);
    let mut client = Socket::connect(process.addr(), "/api/ws/room?last_event_id=message-00000");
    let end =
        post(process.addr(), "/api/messages", &message("room", "end", "")).ok()["message"]["id"].clone();
    let mut last = 0;
    let mut next_of_author = BTreeMap::<String, u64>::new();
    loop {
        let data = client.next_data();
        let id = data["id"].as_u64().expect("an id");
        assert!(id > last, "{id} came after {last}");
        last = id;
        if data["id"] == end {
            break;
        }
        let author = data["author"].as_str().expect("a string").to_owned();
        let content = data["content"].as_str().expect("a string").to_owned();
        let next = next_of_author.entry(author.clone()).or_default();
        assert_eq!(content, next.to_string(), "each publisher's messages, once and in its order");
        *next += 1;
        if let Some(promise) = promised.remove(&id) {
            assert_eq!(promise, (author, content), "the id {id} is another message");
        }
    }
    assert!(promised.is_empty(), "acknowledged, but gone: {promised:?}");
}

#[test]
fn a_message_is_in_the_file_before_it_is_answered() {
    let home = Home::new();
    let server = home.serve();
    let reader = Connection::open(home.database()).expect("the file opens");
    let mut client = Socket::connect(server.addr(), "/api/ws/room");
    for number in 1..=20_i64 {
        if number % 2 == 0 {
            post(server.addr(), "/api/messages", &message("room", "a", "c")).ok();
        } else {
            client.send_json(&json!({"type": "message"}));
        }
        client.next_data();
        let stored = "SELECT count(*) FROM messages";
        let stored = reader.query_row(stored, [], |row| row.get::<_, i64>(0)).expect("a count");
        assert_eq!(stored, number);
    }
}

/// The texts that a query of one column finds.
fn texts(connection: &Connection, query: &str) -> Vec<String> {
    let mut statement = connection.prepare(query).expect("the query is valid");
    let rows = statement.query_map([], |row| row.get::<_, String>(0)).expect("rows");
    rows.collect::<Result<_, _>>().expect("texts")
}

/// The id, the author and the content of a message that was acknowledged.
type Acknowledged = (u64, String, String);

/// Publishes 0, 1, 2 … until the server has gone. A 200 is an acknowledgement.
fn publish_by_rest(addr: SocketAddr, author: String, acknowledged: Sender<Acknowledged>) -> JoinHandle<()> {
    let mut http = Http::connect(addr);
    std::thread::spawn(move || {
        for number in 0_u64.. {
            let body = message("room", &author, &number.to_string());
            let response = match http.try_post("/api/messages", &body) {
                Ok(response) => response,
                Err(error) => {
                    assert!(is_gone(&error), "{author} was to be answered: {error}");
                    return;
                }
            };
            let id = response.ok()["message"]["id"].as_u64().expect("an id");
            acknowledged.send((id, author.clone(), number.to_string())).expect("the test counts");
        }
    })
}

/// The same over a WebSocket, where the client's own broadcast is the acknowledgement.
fn publish_by_socket(addr: SocketAddr, author: String, acknowledged: Sender<Acknowledged>) -> JoinHandle<()> {
    let mut socket = Socket::connect(addr, "/api/ws/room");
    std::thread::spawn(move || {
        for number in 0_u64.. {
            let body = json!({"type": "message", "author": author, "content": number.to_string()});
            if socket.try_send_json(&body).is_err() {
                return;
            }
            loop {
                let Ok(received) = socket.try_read() else { return };
                let Ok(text) = received.to_text() else { continue };
                let Ok(broadcast) = serde_json::from_str::<Value>(text) else { continue };
                let data = &broadcast["data"];
                if data["author"] == author.as_str() {
                    let id = data["id"].as_u64().expect("an id");
                    assert_eq!(data["content"], number.to_string());
                    acknowledged.send((id, author.clone(), number.to_string())).expect("the test counts");
                    break;
                }
            }
        }
    })
}
