//! `polecat status`: PROTOCOL.md, "3.1 `GET /api/health`", for people.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};

use rusqlite::Connection;
use serde_json::{Value, json};

use super::command::ask;
use crate::support::socket::message;
use crate::support::{Home, Process, Server, post};

#[test]
fn a_server_that_is_well_is_0_and_any_other_1() {
    let home = Home::new();
    let server = Process::serve(&home.database(), &[]);
    let addr = server.addr();
    let well = ask(addr, &["status"]);
    assert_eq!(well.status.code(), Some(0), "{well:?}");
    assert!(well.stdout.starts_with(&format!("ok  {addr}\n")), "{well:?}");
    let as_json = serde_json::from_str::<Value>(&ask(addr, &["status", "--json"]).stdout).expect("JSON");
    assert_eq!(as_json["status"], "ok");
    let other = Connection::open(home.database()).expect("the database can be opened");
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock is to be had");
    assert_eq!(post(addr, "/api/messages", &message("room", "a", "x")).status, 503);
    let degraded = ask(addr, &["status"]);
    assert_eq!(degraded.status.code(), Some(1), "{degraded:?}");
    let line = format!("degraded  {addr}  another program holds the database locked\n");
    assert!(degraded.stdout.starts_with(&line), "{degraded:?}");
    server.kill();
    let gone = ask(addr, &["status"]);
    assert_eq!((gone.status.code(), gone.stderr.len(), gone.stdout.as_str()), (Some(1), 1, ""), "{gone:?}");
    let watched = ask(addr, &["status", "--watch", "0.1", "-n", "2"]);
    assert_eq!(watched.status.code(), Some(1));
    assert_eq!(watched.stdout.matches("unreachable  nothing listens").count(), 2, "{watched:?}");
}

#[test]
fn it_is_asked_again_and_again() {
    let server = Server::start();
    let watched = ask(server.addr(), &["status", "--watch", "0.1", "-n", "3", "--json"]);
    let lines = watched.stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    assert_eq!(lines.filter(|line| line["status"] == "ok").count(), 3, "{watched:?}");
    assert_eq!(watched.status.code(), Some(0));
}

/// A server that answers everything with `body`.
fn answering(status: &str, body: &str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap_or_default();
            assert!(request[..read].starts_with(b"GET /api/health?verbose=1 HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).ok();
        }
    });
    addr
}

#[test]
fn all_that_a_server_says_is_shown_in_units() {
    let body = json!({
        "status": "ok", "version": "9.9.9", "uptime_ms": 3_723_000,
        "engine": { "kind": "sqlite", "newest_message": "message-00012", "records_waiting": 0 },
        "connections": { "open": 3, "max": 1000 }, "descriptors": null,
        "memory": { "resident_bytes": 5_800_000 }, "closed": { "client_close": 3, "reset": 0 },
        "novelty": { "a": [1, 2] },
    });
    let addr = answering("200 OK", &body.to_string());
    let ended = ask(addr, &["status"]);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let lines = ended.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    assert_eq!(
        lines.collect::<Vec<_>>(),
        [
            format!("ok {addr}").as_str(),
            "version 9.9.9",
            "uptime 1 h 2 min",
            "engine kind sqlite · newest message message-00012 · records waiting 0",
            "connections max 1000 · open 3",
            "memory resident 5.5 MiB",
            "closed client close 3",
            "novelty a [1,2]",
        ]
    );
    let watched = ask(addr, &["status", "--watch", "0.1", "-n", "2"]);
    assert_eq!(watched.stdout.matches("version").count(), 2);
}

#[test]
fn a_server_that_stops_is_1() {
    let addr = answering("503 Service Unavailable", "{\"status\":\"draining\"}");
    let ended = ask(addr, &["status"]);
    assert_eq!((ended.status.code(), ended.stdout), (Some(1), format!("draining  {addr}\n")));
}
