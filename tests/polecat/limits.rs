//! A test for each limit, with its response: PROTOCOL.md, "13.3 Limits". Counts and sizes.

mod counters;
mod resident;
mod retention;
mod times;

use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use serde_json::json;

use crate::support::raw::{BINARY, TEXT, frame, upgrade};
use crate::support::socket::message;
use crate::support::{
    Home, Http, PATIENCE, Process, RawSocket, Response, Server, Socket, eventually, get, http, post, skip,
};

/// The response to one connection too many.
fn expect_turned_away(http: &mut Http) {
    let refused = http.response();
    assert_eq!((refused.status, refused.json()), (503, json!({"detail": "too many connections"})));
    assert_eq!((refused.header("retry-after"), refused.header("connection")), (Some("5"), Some("close")));
    http.expect_end();
}

fn is_served(mut http: Http) -> Option<Http> {
    http.send_what_is_taken(http::request("GET", "/api/health", &[], None));
    (http.response().status == 200).then_some(http)
}

#[test]
fn connections() {
    let home = Home::new();
    let process = Process::serve(&home.database(), &["--max-connections", "3"]);
    let addr = process.addr();
    let mut socket = Socket::connect(addr, "/api/ws/room");
    let mut kept = Http::connect(addr);
    kept.expect_open();
    let _silent = Http::connect(addr);
    // Accepted in order; these are refused without a request.
    for _ in 0..20 {
        expect_turned_away(&mut Http::connect(addr));
    }
    kept.expect_open();
    socket.send_json(&json!({"type": "ping"}));
    socket.next_of_type("pong");
    socket.close();
    drop(eventually("the place of who has left", || is_served(Http::connect(addr))));
}

/// A connection from another address of loopback.
fn connect_from(host: u8, addr: SocketAddr) -> Http {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let source = SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0));
    socket.bind(&source.into()).expect("all of 127.0.0.0/8 is ours");
    socket.connect_timeout(&addr.into(), PATIENCE).expect("the server accepts a connection");
    Http::over(socket.into()).expect("a connection")
}

#[test]
#[cfg(target_os = "linux")]
fn connections_of_one_address() {
    let home = Home::new();
    let process = Process::serve(&home.database(), &["--max-connections-per-address", "2"]);
    let addr = process.addr();
    let mut first = connect_from(2, addr);
    first.expect_open();
    let mut second = connect_from(2, addr);
    second.expect_open();
    for _ in 0..20 {
        expect_turned_away(&mut connect_from(2, addr));
        connect_from(3, addr).expect_open();
    }
    first.expect_open();
    drop(second);
    drop(eventually("the place of who has left", || is_served(connect_from(2, addr))));
}

#[test]
#[cfg(target_os = "linux")]
fn who_is_turned_away_and_stays_takes_nobodys_place() {
    let home = Home::new();
    let flags = ["--max-connections", "8", "--max-connections-per-address", "2"];
    let process = Process::serve(&home.database(), &flags);
    let addr = process.addr();
    let mut stubborn = (0..100).map(|_| connect_from(2, addr)).collect::<Vec<_>>();
    for http in &mut stubborn[..2] {
        http.expect_open();
    }
    stubborn[2..].iter_mut().for_each(expect_turned_away);
    let mut others =
        (3..6).flat_map(|host| [host; 2]).map(|host| connect_from(host, addr)).collect::<Vec<_>>();
    for http in &mut others {
        http.expect_open();
    }
    expect_turned_away(&mut connect_from(6, addr));
}

#[test]
fn channels() {
    let home = Home::new();
    let process = Process::serve(&home.database(), &["--max-channels", "2"]);
    let addr = process.addr();
    let mut first = Socket::connect(addr, "/api/ws/one");
    let _second = Socket::connect(addr, "/api/ws/two");
    let refused = || {
        let mut http = Http::connect(addr);
        http.send(upgrade("/api/ws/three"));
        (http.response(), http)
    };
    let (response, mut http) = refused();
    assert_eq!(response.status, 503);
    assert!(response.header("retry-after").is_some() && response.json()["detail"].is_string());
    http.expect_open();
    // Only a new channel is refused.
    let mut again = Socket::connect(addr, "/api/ws/one");
    Socket::connect(addr, "/ws").expect_nothing_more();
    post(addr, "/api/messages", &message("three", "a", "c")).ok();
    post(addr, "/api/messages", &message("one", "a", "c")).ok();
    assert_eq!(
        (first.next_contents(1), again.next_contents(1)),
        (vec!["c".to_owned()], vec!["c".to_owned()])
    );
    first.close();
    again.close();
    eventually("the place of a channel without subscribers", || {
        Socket::try_connect(addr, "/api/ws/three", &[]).ok()
    });
}

#[test]
fn bytes_and_fields_of_a_head() {
    let home = Home::new();
    let flags = ["--max-header-bytes", "300", "--max-header-fields", "5", "--max-target-bytes", "50"];
    let process = Process::serve(&home.database(), &flags);
    let ask = |request: String| {
        let mut http = Http::connect(process.addr());
        http.send(request);
        let response = http.response();
        assert!(response.status == 200 || response.json()["detail"].is_string());
        if response.status >= 400 && response.status != 404 {
            assert_eq!(response.header("connection"), Some("close"));
            http.expect_end();
        } else {
            http.expect_open();
        }
        response.status
    };
    let head = |bytes: usize| {
        let request = "GET /api/health HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n";
        request.replace("X: ", &format!("X: {}", "x".repeat(bytes - request.len())))
    };
    assert_eq!([ask(head(300)), ask(head(301)), ask(head(3000))], [200, 431, 431]);
    let fields =
        |count: usize| format!("GET /api/health HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count - 1));
    assert_eq!([ask(fields(5)), ask(fields(6)), ask(fields(20))], [200, 431, 431]);
    let target = |bytes: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(bytes - 1));
    assert_eq!([ask(target(50)), ask(target(51)), ask(target(200))], [404, 414, 414]);
}

#[test]
fn heads_have_limits_by_default() {
    let server = Server::start();
    let ask = |target: &str, fields: &str| {
        let mut http = Http::connect(server.addr());
        http.send_what_is_taken(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        http.response().status
    };
    assert_eq!(ask("/api/health", &"X: y\r\n".repeat(63)), 200);
    assert_eq!(ask("/api/health", &"X: y\r\n".repeat(64)), 431);
    assert_eq!(ask("/api/health", &format!("X: {}\r\n", "x".repeat(16_000))), 200);
    assert_eq!(ask("/api/health", &format!("X: {}\r\n", "x".repeat(16_384))), 431);
    assert_eq!(ask(&format!("/{}", "x".repeat(8191)), ""), 404);
    assert_eq!(ask(&format!("/{}", "x".repeat(8192)), ""), 414);
}

#[test]
fn bytes_of_messages_bodies_and_names() {
    let home = Home::new();
    let flags = ["--max-message-bytes", "100", "--max-body-bytes", "200", "--max-channel-name-bytes", "10"];
    let process = Process::serve(&home.database(), &flags);
    let addr = process.addr();
    let mut client = RawSocket::connect(addr, "/api/ws");
    client.send_frame(true, TEXT, &[b'x'; 100]);
    assert_eq!(client.next_message().payload.len(), 100);
    client.send_frame(true, TEXT, &[b'x'; 101]);
    assert_eq!(client.expect_close(), 1009);

    let body = |bytes: usize| {
        let text = message("c", "a", "").to_string();
        message("c", "a", &"x".repeat(bytes - text.len())).to_string()
    };
    let mut http = Http::connect(addr);
    http.request("POST", "/api/messages", &[], Some(&body(200))).ok();
    assert_eq!(http.request("POST", "/api/messages", &[], Some(&body(201))).status, 413);
    http.expect_end();
    for (bytes, status) in [(200, 200), (201, 413)] {
        let mut http = Http::connect(addr);
        let head = "POST /api/messages HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunks = body(bytes).into_bytes();
        let chunks = chunks
            .chunks(50)
            .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), std::str::from_utf8(chunk).expect("ASCII")));
        http.send_what_is_taken(format!("{head}{}0\r\n\r\n", chunks.collect::<String>()));
        assert_eq!(http.response().status, status, "{bytes} bytes in chunks");
    }

    // Bytes of UTF-8, after decoding.
    for (name, encoded, is_legal) in [
        ("0123456789", "0123456789", true),
        ("0123456789a", "0123456789a", false),
        ("ééééé", "%C3%A9%C3%A9%C3%A9%C3%A9%C3%A9", true),
        ("éééééa", "%C3%A9%C3%A9%C3%A9%C3%A9%C3%A9a", false),
    ] {
        let mut http = Http::connect(addr);
        http.send(upgrade(&format!("/api/ws/{encoded}")));
        let status = http.status();
        assert_eq!(status, if is_legal { 101 } else { 400 }, "{name}");
        let posted = post(addr, "/api/messages", &message(name, "a", "c"));
        assert_eq!(posted.status, if is_legal { 200 } else { 422 }, "{name}");
    }
}

#[test]
fn a_body_is_as_long_as_a_message_where_nothing_else_is_said() {
    let home = Home::new();
    let process = Process::serve(&home.database(), &["--max-message-bytes", "100"]);
    let long = message("c", "a", &"x".repeat(100));
    assert_eq!(post(process.addr(), "/api/messages", &long).status, 413);
}

#[test]
fn messages_per_second() {
    let home = Home::new();
    let process = Process::serve(&home.database(), &["--max-messages-per-second", "5"]);
    let addr = process.addr();
    let say = json!({"type": "message", "content": "c"});
    let flood = frame(true, TEXT, say.to_string().as_bytes()).repeat(6);
    for target in ["/api/ws/room", "/ws", "/api/ws"] {
        let mut client = RawSocket::connect(addr, target);
        client.send(&flood);
        assert_eq!(client.expect_close(), 1008, "{target}");
    }
    let mut client = RawSocket::connect(addr, "/api/ws");
    // Pings are not messages, and five are not too many.
    client.send(&frame(true, 9, b"ping").repeat(100));
    client.send(&frame(true, BINARY, b"b").repeat(5));
    for _ in 0..5 {
        assert_eq!(client.next_message().payload, b"b");
    }

    let mut http = Http::connect(addr);
    let body = message("room", "a", "c").to_string();
    http.send(http::request("POST", "/api/messages", &[], Some(&body)).repeat(6));
    let answers = (0..6).map(|_| http.response()).collect::<Vec<_>>();
    assert_eq!(
        answers.iter().map(|answer| answer.status).collect::<Vec<_>>(),
        [200, 200, 200, 200, 200, 429]
    );
    assert_eq!(answers[5].header("retry-after"), Some("1"));
    assert!(answers[5].json()["detail"].is_string());
    // Receiving is not limited, and neither is any other client.
    for _ in 0..20 {
        http.expect_open();
    }
    post(addr, "/api/messages", &message("room", "a", "c")).ok();
    let post_again =
        |http: &mut Http| -> Response { http.request("POST", "/api/messages", &[], Some(&body)) };
    eventually("the next second", || (post_again(&mut http).status == 200).then_some(()));
    let stored = get(addr, "/api/messages").ok()["messages"].as_array().map(Vec::len);
    // Five from the flood of the first client, and five, one and one from the posts.
    assert_eq!(stored, Some(12), "what is beyond the limit is not stored");
}

#[test]
fn unread_replies_of_one_connection() {
    const PAYLOAD: usize = 1000;
    let home = Home::new();
    let process = Process::serve(&home.database(), &["--max-outbox-bytes", "4096"]);
    let mut other = Http::connect(process.addr());
    other.expect_open();
    let before = process.memory();
    let mut client = RawSocket::connect(process.addr(), "/api/ws");
    let one = frame(true, BINARY, &[7; PAYLOAD]);
    let (sent, rest) = {
        let mut stream: &TcpStream = client.stream();
        stream.set_nonblocking(true).expect("a socket can be told not to wait");
        let (mut sent, mut refused) = (0_usize, 0);
        // It counts as full once the server has had many turns to read.
        while refused < 200 {
            match stream.write(&one[sent % one.len()..]) {
                Ok(written) => (sent, refused) = (sent + written, 0),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    refused += 1;
                    other.expect_open();
                }
                Err(error) => panic!("{error}"),
            }
            assert!(sent < 256 << 20, "all is read from a client that reads nothing");
        }
        stream.set_nonblocking(false).expect("a socket can be told to wait");
        (sent, one.len() - sent % one.len())
    };
    match (before, process.memory()) {
        (Some(before), Some(after)) => {
            assert!(after.resident < before.resident + (4 << 20), "{before:?} {after:?}");
        }
        _ => skip("this system does not say what a process uses of memory"),
    }
    // When it reads again, nothing is lost.
    let whole = (sent + rest) / one.len();
    let mut writer = client.stream().try_clone().expect("a second handle");
    let tail = one[one.len() - rest..].to_vec();
    let finisher = std::thread::spawn(move || writer.write_all(&tail).expect("taken, once there is room"));
    for _ in 0..whole {
        assert_eq!(client.next_message().payload.len(), PAYLOAD);
    }
    finisher.join().expect("the rest is sent");
}

#[test]
fn messages_kept_in_memory() {
    let home = Home::new();
    let flags = ["--max-log-bytes", "1", "--max-logs-bytes", "1"];
    let process = Process::serve(&home.database(), &flags);
    let addr = process.addr();
    let mut live = Socket::connect(addr, "/api/ws/room");
    let mut http = Http::connect(addr);
    for number in 0..300 {
        http.send(http::request(
            "POST",
            "/api/messages",
            &[],
            Some(&message("room", "a", &number.to_string()).to_string()),
        ));
    }
    for _ in 0..300 {
        http.response().ok();
    }
    let expected = (0..300).map(|number| number.to_string()).collect::<Vec<_>>();
    assert_eq!(live.next_contents(300), expected, "what memory does not keep comes from the store");
    let mut resumed = Socket::connect(addr, "/api/ws/room?last_event_id=message-00000");
    assert_eq!(resumed.next_contents(300), expected);
}
