//! The end of a process that is asked to stop: PROTOCOL.md, "11. WebSocket rules".

use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::support::patience::Stopwatch;
use crate::support::socket::message;
use crate::support::{Home, Http, PATIENCE, Process, RawSocket, Server, Socket, get, raw, wait_until};

/// Asks the process to stop, and waits until it has begun to.
fn begin_to_stop(process: &Process, signal: Signal) {
    let mut witness = Socket::connect(process.addr(), "/ws");
    // The handshake may be answered before the client counts like all others.
    witness.expect_nothing_more();
    process.signal(signal);
    assert_eq!(witness.expect_close().0, 1001);
    witness.expect_end();
}

#[test]
fn what_has_begun_is_finished() {
    for signal in [Signal::TERM, Signal::INT] {
        let home = Home::new();
        let process = Process::serve(&home.database(), &["--drain", "60"]);
        let body = message("room", "a", "finished").to_string();
        let (first, second) = body.split_at(20);
        let mut posting = Http::connect(process.addr());
        let head =
            format!("POST /api/messages HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
        posting.send(head + first);
        let mut asking = Http::connect(process.addr());
        asking.expect_open();
        asking.send("GET /api/health HTTP/1.1\r\nHost:");
        let mut upgrading = Http::connect(process.addr());
        let upgrade = raw::upgrade("/ws");
        upgrading.send(&upgrade[..30]);
        let mut idle = Http::connect(process.addr());
        idle.expect_open();

        begin_to_stop(&process, signal);
        wait_until("it accepts no more", || {
            let refused = TcpStream::connect_timeout(&process.addr(), PATIENCE);
            refused.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
        });
        idle.expect_end();
        asking.send(" a\r\n\r\n");
        let health = asking.response();
        assert_eq!((health.status, health.json()), (503, json!({"status": "draining"})));
        assert_eq!(health.header("connection"), Some("close"));
        asking.expect_end();
        upgrading.send(&upgrade[30..]);
        let refused = upgrading.response();
        assert_eq!(refused.status, 503);
        assert!(refused.header("retry-after").is_some());
        upgrading.expect_end();
        posting.send(second);
        let posted = posting.response();
        assert_eq!(
            (posted.ok()["message"]["id"].clone(), posted.header("connection")),
            (json!(1), Some("close"))
        );
        posting.expect_end();
        // Long before the drain time is over.
        assert_eq!(process.wait().status.code(), Some(0));
        let server = home.serve();
        assert_eq!(get(server.addr(), "/api/messages").ok()["messages"][0]["content"], "finished");
    }
}

#[test]
fn who_does_not_go_is_left_behind_after_the_drain() {
    let home = Home::new();
    let process = Process::serve(&home.database(), &["--drain", "0.5"]);
    let mut silent = RawSocket::connect(process.addr(), "/api/ws/room");
    let mut half = Http::connect(process.addr());
    half.send("POST /api/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{");
    half.send("\"");
    let stopwatch = Stopwatch::start();
    begin_to_stop(&process, Signal::TERM);
    let close = silent.next_frame().expect("a Close");
    assert_eq!((close.opcode, &close.payload[..2]), (raw::CLOSE, &1001_u16.to_be_bytes()[..]));
    // It is not answered.
    let ended = process.wait();
    assert_eq!(ended.status.code(), Some(0), "{:?}", ended.stderr);
    stopwatch.expect_at_least(Duration::from_millis(490));
    assert_eq!(silent.next_frame(), None);
}

#[test]
fn all_that_was_acknowledged_is_stored() {
    let home = Home::new();
    let process = Process::serve(&home.database(), &[]);
    let mut client = Socket::connect_v1(process.addr(), "/api/ws/room");
    client.next_of_type("hello");
    client.next_of_type("live");
    for number in 0..500 {
        client.send_json(&json!({"type": "message", "content": number.to_string(), "id": number}));
    }
    process.signal(Signal::TERM);
    let (mut acknowledged, mut is_told) = (0, false);
    while let Ok(received) = client.try_read() {
        let tungstenite::Message::Text(text) = received else { continue };
        let next = serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
        match next["type"].as_str() {
            Some("ack") => acknowledged += 1,
            Some("reconnect") => is_told = true,
            _ => {}
        }
    }
    assert!(is_told);
    assert_eq!(process.wait().status.code(), Some(0));
    let server = home.serve();
    let stored = get(server.addr(), "/api/messages?limit=1000").ok();
    let stored = stored["messages"].as_array().expect("a list").len();
    assert!(stored >= acknowledged, "{acknowledged} acknowledged, {stored} stored");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for second in [Signal::TERM, Signal::INT] {
        let home = Home::new();
        let process = Process::serve(&home.database(), &["--drain", "3600"]);
        let _silent = RawSocket::connect(process.addr(), "/api/ws/room");
        begin_to_stop(&process, Signal::TERM);
        process.signal(second);
        assert_eq!(process.wait().status.code(), Some(1));
        drop(home.serve());
    }
}

#[test]
fn who_has_said_goodbye_and_keeps_its_connection_does_not_hold_up_the_end() {
    // Both are longer than the test waits.
    let server = Server::start_with(|options| {
        options.config.timeouts.close_ms = 3_600_000;
        options.config.timeouts.drain_ms = 3_600_000;
    });
    // As connection pools keep them: a connection that is not looked at before it is used again.
    let mut idle = Http::connect(server.addr());
    idle.expect_open();
    let mut clients =
        ["/ws", "/api/ws/room", "/api/ws"].map(|target| RawSocket::connect(server.addr(), target));
    let mut own = RawSocket::connect(server.addr(), "/api/ws");
    own.send_frame(true, raw::CLOSE, &1000_u16.to_be_bytes());
    assert_eq!(own.next_frame().expect("an answer").opcode, raw::CLOSE);
    let stopping = std::thread::spawn(|| server.stop());
    for client in &mut clients {
        let close = client.next_frame().expect("a Close");
        assert_eq!((close.opcode, &close.payload[..2]), (raw::CLOSE, &1001_u16.to_be_bytes()[..]));
        client.send_frame(true, raw::CLOSE, &1001_u16.to_be_bytes());
    }
    // No client has ended its half.
    stopping.join().expect("it ends");
    for client in &mut clients {
        assert_eq!(client.next_frame(), None, "the end comes after what was sent");
    }
    idle.expect_end();
}
