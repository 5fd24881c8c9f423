//! Time-outs, and the bounds of all connections together: PROTOCOL.md, "13.4 Times".

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::json;

use crate::support::http::{is_gone, request};
use crate::support::raw::{BINARY, frame};
use crate::support::socket::message;
use crate::support::{Home, Http, PATIENCE, Process, RawSocket, Server, Socket, wait_until};

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr, PATIENCE).expect("the server accepts a connection");
    stream.set_nodelay(true).expect("no delay");
    stream
}

/// Sends `bytes`, and then more bytes one by one until the server ends the connection. Returns the response.
fn dribble(mut stream: TcpStream, bytes: &[u8]) -> String {
    stream.write_all(bytes).expect("taken");
    stream.set_read_timeout(Some(Duration::from_millis(5))).expect("a time-out");
    let mut received = Vec::new();
    let mut buffer = [0; 512];
    wait_until("dribbling comes to an end", || match stream.read(&mut buffer) {
        Ok(0) => true,
        Ok(read) => {
            received.extend_from_slice(&buffer[..read]);
            false
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            stream.write_all(b"x").is_err()
        }
        Err(error) if is_gone(&error) => true,
        Err(error) => panic!("{error}"),
    });
    String::from_utf8(received).expect("ASCII")
}

#[test]
fn a_first_request_is_not_waited_for_longer_because_it_dribbles() {
    let home = Home::new();
    let process = Process::serve(&home.database(), &["--handshake-timeout", "2", "--idle-timeout", "3600"]);
    let addr = process.addr();
    let mut silent = Http::connect(addr);
    let upgrade = b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX: ";
    let post = b"POST /api/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n";
    let begun =
        [&b"G"[..], upgrade, post].map(|begin| std::thread::spawn(move || dribble(connect(addr), begin)));
    for thread in begun {
        let said = thread.join().expect("it comes to its end");
        assert!(said.starts_with("HTTP/1.1 408 "), "{said:?}");
    }
    // A client that has sent nothing gets no response.
    silent.expect_end();
    // A client that was in time has no further deadline.
    let mut client = Socket::connect(addr, "/api/ws");
    let mut kept = Http::connect(addr);
    kept.expect_open();
    Http::connect(addr).expect_end();
    kept.expect_open();
    client.send_text("still here");
    assert_eq!(client.next_text(), "still here");
}

#[test]
fn a_later_request_is_not_either() {
    let home = Home::new();
    let process =
        Process::serve(&home.database(), &["--request-timeout", "0.3", "--handshake-timeout", "3600"]);
    let mut stream = connect(process.addr());
    stream.write_all(&request("HEAD", "/api/health", &[], None)).expect("taken");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a response");
        head.push(byte[0]);
    }
    let said = dribble(stream, b"GET /api/health HTTP/1.1\r\nX: ");
    assert!(said.starts_with("HTTP/1.1 408 "), "{said:?}");
}

#[test]
fn between_requests_a_connection_is_kept_for_a_while() {
    let home = Home::new();
    let process = Process::serve(&home.database(), &["--idle-timeout", "2"]);
    let mut http = Http::connect(process.addr());
    for _ in 0..3 {
        http.expect_open();
    }
    http.expect_end();
}

#[test]
fn unfinished_messages_of_all_connections_together() {
    let server = Server::start_with(|options| options.config.limits.inboxes_bytes_max = 1 << 20);
    let mut whole = RawSocket::connect(server.addr(), "/api/ws");
    let mut clients = (0..8).map(|_| RawSocket::connect(server.addr(), "/api/ws")).collect::<Vec<_>>();
    let part = vec![7; 256 << 10];
    let mut ended = 0;
    for client in &mut clients {
        client.send_what_is_taken(&frame(false, BINARY, &part));
        client.send_what_is_taken(&frame(true, 9, b"here"));
        match client.next_frame() {
            Some(pong) if pong.opcode == 10 => {}
            Some(close) => {
                assert_eq!((close.opcode, &close.payload[..2]), (8, &1013_u16.to_be_bytes()[..]));
                ended += 1;
            }
            None => panic!("ended without a Close"),
        }
    }
    assert!((4..8).contains(&ended), "of 2 MiB about half is too much, not that of {ended} in 8");
    // A request gets a response, and may be repeated.
    let mut http = Http::connect(server.addr());
    http.send_what_is_taken("POST /api/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n");
    http.send_what_is_taken(&part);
    let refused = http.response();
    assert_eq!((refused.status, refused.json()), (503, json!({"detail": "too much is unfinished"})));
    assert_eq!((refused.header("retry-after"), refused.header("connection")), (Some("1"), Some("close")));
    http.expect_end();
    // A client with a small message is served.
    whole.send_frame(true, BINARY, b"small");
    assert_eq!(whole.next_message().payload, b"small");
    drop(clients);
    wait_until("what was let go of is free again", || {
        let mut client = RawSocket::connect(server.addr(), "/api/ws");
        client.send_what_is_taken(&frame(true, BINARY, &part));
        client.next_frame().is_some_and(|echo| echo.opcode == BINARY)
    });
}

#[test]
fn unread_responses_of_all_connections_together() {
    let server = Server::start_with(|options| options.config.limits.outboxes_bytes_max = 256 << 10);
    let mut http = Http::connect(server.addr());
    for number in 0..64 {
        let content = "x".repeat(60_000);
        http.post("/api/messages", &message("room", &number.to_string(), &content)).ok();
    }
    // Each requests 16 MB, more than any socket holds unread.
    const ASKED: usize = 4;
    let list = request("GET", "/api/messages", &[], None).repeat(ASKED);
    let greedy = (0..4)
        .map(|_| {
            let mut greedy = Http::connect(server.addr());
            greedy.send(&list);
            http.expect_open();
            greedy
        })
        .collect::<Vec<_>>();
    http.expect_open();
    http.post("/api/messages", &message("room", "a", "publishing goes on")).ok();
    // They all read at once, and get their complete responses.
    std::thread::scope(|scope| {
        for mut one in greedy {
            scope.spawn(move || {
                for _ in 0..ASKED {
                    // The later ones may have the message that was published in the meantime.
                    let count = one.response().ok()["messages"].as_array().map(Vec::len);
                    assert!(matches!(count, Some(64 | 65)), "{count:?}");
                }
            });
        }
    });
    let listed = http.get("/api/messages?limit=1").ok();
    assert_eq!(listed["messages"][0]["content"], json!("publishing goes on"));
}
