//! HTTP/1.1 as it is spoken: PROTOCOL.md, "12. HTTP rules".

use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::socket::message;
use crate::support::{Http, RawSocket, Server, Socket, raw};

#[test]
fn a_connection_is_kept_for_many_requests() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    for _ in 0..3 {
        http.get("/api/health").ok();
        assert_eq!(http.get("/nothing").status, 404);
        assert_eq!(http.request("PATCH", "/api/health", &[], None).status, 405);
        assert_eq!(http.post("/api/messages", &json!({})).status, 422);
        http.post("/api/messages", &message("room", "a", "c")).ok();
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_and_see_what_came_before() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    let mut bytes = Vec::new();
    for number in 1..=20 {
        let body = message("room", "a", &number.to_string()).to_string();
        bytes.extend(request("POST", "/api/messages", &[], Some(&body)));
        bytes.extend(request("GET", "/api/messages?channel_id=room", &[], None));
        bytes.extend(request("GET", "/nothing", &[], None));
        bytes.extend(request("GET", "/api/summary", &[], None));
        bytes.extend(request("HEAD", "/api/health", &[], None));
        bytes.extend(request("GET", "/api/channels", &[], None));
    }
    http.send(&bytes);
    for number in 1..=20 {
        assert_eq!(http.response().ok()["message"]["id"], number);
        let seen = http.response().ok()["messages"].as_array().map(Vec::len);
        assert_eq!(seen, Some(number), "a GET sees the POST before it");
        assert_eq!(http.response().status, 404);
        assert_eq!(http.response().ok()["summary"]["total_messages"], number);
        assert_eq!(http.response_to_head().status, 200);
        assert_eq!(http.response().ok(), json!({"channels": ["room"]}));
    }
}

#[test]
fn head_is_get_without_the_body() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    for target in ["/api/health", "/api/messages", "/api/channels", "/api/summary", "/nothing"] {
        let get = http.get(target);
        let head = http.request("HEAD", target, &[], None);
        assert_eq!(head.status, get.status, "{target}");
        assert_eq!(head.header("content-length"), get.header("content-length"), "{target}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{target}");
        // A body would garble the next response.
        http.expect_open();
    }
}

#[test]
fn who_expects_100_continue_gets_it_before_the_body_is_sent() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    let body = message("room", "a", "after 100").to_string();
    let head = request("POST", "/api/messages", &[("Expect", "100-continue")], None);
    let head = String::from_utf8(head).expect("ASCII");
    let head = head.replace("\r\n\r\n", &format!("\r\nContent-Length: {}\r\n\r\n", body.len()));
    for _ in 0..2 {
        http.send(&head);
        assert_eq!(http.response().status, 100);
        http.send(&body);
        assert_eq!(http.response().ok()["message"]["content"], "after 100");
    }
    http.send(head.replace(&format!("Content-Length: {}", body.len()), "Content-Length: 1000000000"));
    assert_eq!(http.response().status, 413, "what is refused anyway is not asked for");
}

#[test]
fn a_request_split_at_any_byte_means_the_same() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    let mut beat = Http::connect(server.addr());
    let body = message("room", "ann", "split é").to_string();
    let whole = request("POST", "/api/messages", &[("X-Correlation-ID", "c-1")], Some(&body));
    for place in 1..whole.len() {
        http.send(&whole[..place]);
        // One response elsewhere, and the first part has certainly been read.
        beat.expect_open();
        http.send(&whole[place..]);
        let answer = http.response();
        assert_eq!(answer.header("x-correlation-id"), Some("c-1"), "split at {place}");
        assert_eq!(answer.ok()["message"]["content"], "split é", "split at {place}");
    }
    for byte in &whole {
        http.send([*byte]);
        beat.expect_open();
    }
    assert_eq!(http.response().ok()["message"]["id"], whole.len());
}

#[test]
fn a_handshake_and_frames_split_at_any_byte_mean_the_same() {
    let server = Server::start();
    let mut beat = Http::connect(server.addr());
    let mut whole = raw::upgrade("/api/ws");
    whole.extend(raw::frame(true, raw::TEXT, "é".as_bytes()));
    whole.extend(raw::frame(false, raw::BINARY, &[1]));
    whole.extend(raw::frame(true, raw::PING, b"p"));
    whole.extend(raw::frame(true, raw::CONTINUATION, &[2; 130]));
    for place in (1..whole.len()).step_by(3) {
        let mut client = RawSocket::connect_and_send(server.addr(), &whole[..place]);
        beat.expect_open();
        client.send(&whole[place..]);
        assert!(client.read_head().starts_with("HTTP/1.1 101 "), "split at {place}");
        assert_eq!(client.next_message().payload, "é".as_bytes(), "split at {place}");
        let pong = client.next_frame().expect("open");
        assert_eq!((pong.opcode, pong.payload.as_slice()), (raw::PONG, &b"p"[..]));
        let binary = client.next_message().payload;
        assert_eq!((binary.len(), binary[0], binary[130]), (131, 1, 2));
    }
}

#[test]
fn frames_may_follow_the_handshake_in_the_same_segment() {
    let server = Server::start();
    let mut bytes = raw::upgrade("/api/ws/room");
    bytes.extend(raw::frame(true, raw::TEXT, b"{\"type\":\"message\",\"content\":\"at once\"}"));
    let mut client = RawSocket::connect_and_send(server.addr(), &bytes);
    assert!(client.read_head().starts_with("HTTP/1.1 101 "));
    let broadcast = serde_json::from_slice::<Value>(&client.next_message().payload).expect("JSON");
    assert_eq!(broadcast["data"]["content"], "at once");
}

#[test]
fn a_connection_may_be_upgraded_after_other_requests() {
    let server = Server::start();
    let mut bytes = request("POST", "/api/messages", &[], Some(&message("room", "a", "c").to_string()));
    bytes.extend(raw::upgrade("/api/ws/room?last_event_id=message-00000"));
    let mut client = RawSocket::connect_and_send(server.addr(), &bytes);
    assert!(client.read_head().starts_with("HTTP/1.1 200 "));
    // The rest of the first response's body precedes the next head.
    let head = client.read_head();
    assert!(head.contains("HTTP/1.1 101 "), "{head}");
    let broadcast = serde_json::from_slice::<Value>(&client.next_message().payload).expect("JSON");
    assert_eq!(broadcast["data"]["content"], "c", "what it published before is part of the replay");
}

#[test]
fn a_body_longer_than_the_limit_is_413_and_not_read() {
    let server = Server::start_with(|options| options.config.limits.body_bytes_max = 100_000);
    let mut http = Http::connect(server.addr());
    let envelope = message("room", "a", "").to_string().len();
    let longest = message("room", "a", &"x".repeat(100_000 - envelope));
    http.post("/api/messages", &longest).ok();

    http.send("POST /api/messages HTTP/1.1\r\nHost: polecat.test\r\nContent-Length: 100001\r\n\r\n");
    let refused = http.response();
    assert_eq!(refused.status, 413, "the length alone is enough");
    assert!(refused.json()["detail"].is_string());
    http.expect_end();

    let mut http = Http::connect(server.addr());
    http.send("POST /api/messages HTTP/1.1\r\nHost: polecat.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
    for _ in 0..7 {
        http.send_what_is_taken(&chunk);
    }
    assert_eq!(http.response().status, 413);
}

#[test]
fn a_body_may_come_in_chunks() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    let body = message("room", "a", "in chunks").to_string();
    for size in [1, 7, 1000] {
        let mut bytes =
            b"POST /api/messages HTTP/1.1\r\nHost: polecat.test\r\nTransfer-Encoding: chunked\r\n\r\n"
                .to_vec();
        for chunk in body.as_bytes().chunks(size) {
            bytes.extend(format!("{:x};name=value\r\n", chunk.len()).bytes());
            bytes.extend(chunk);
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"0\r\nX-Trailer: ignored\r\n\r\n");
        bytes.extend(request("GET", "/api/health", &[], None));
        http.send(&bytes);
        assert_eq!(http.response().ok()["message"]["content"], "in chunks");
        assert_eq!(http.response().ok()["status"], "ok");
    }
}

#[test]
fn what_is_no_http_is_refused_and_the_connection_closed() {
    let server = Server::start();
    let host = "Host: polecat.test\r\n";
    let both = "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n";
    for (bytes, status) in [
        ("nonsense\r\n\r\n".to_owned(), 400),
        ("GET /api/health\r\n\r\n".to_owned(), 400),
        ("GET /api/health HTTP/1.1\r\n\r\n".to_owned(), 400),
        (format!("GET /api/health HTTP/1.1\r\n{host}{host}\r\n"), 400),
        (format!("GET /api/health HTTP/1.1\r\n{host}no colon\r\n\r\n"), 400),
        (format!("GET /api/health HTTP/1.1\r\n{host}X : y\r\n\r\n"), 400),
        (format!("GET /api/health HTTP/3.7\r\n{host}\r\n"), 505),
        (format!("POST /api/messages HTTP/1.1\r\n{host}{both}\r\n{{}}"), 400),
        (format!("POST /api/messages HTTP/1.1\r\n{host}Content-Length: two\r\n\r\n{{}}"), 400),
        (
            format!(
                "POST /api/messages HTTP/1.1\r\n{host}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}}"
            ),
            400,
        ),
        (format!("POST /api/messages HTTP/1.1\r\n{host}Transfer-Encoding: gzip\r\n\r\n"), 501),
        (format!("POST /api/messages HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\nxyz\r\n"), 400),
    ] {
        let mut http = Http::connect(server.addr());
        http.send(&bytes);
        let response = http.response();
        assert_eq!(response.status, status, "{bytes:?}");
        assert!(response.json()["detail"].is_string(), "{bytes:?}");
        assert_eq!(response.header("connection"), Some("close"), "{bytes:?}");
        http.expect_end();
    }
    Http::connect(server.addr()).expect_open();
}

#[test]
fn heads_and_targets_have_a_limit() {
    let server = Server::start();
    let many = (0..100).map(|number| format!("X-{number}: x\r\n")).collect::<String>();
    let long = format!("X: {}\r\n", "x".repeat(20_000));
    let target = format!("/{}", "x".repeat(9_000));
    for (target, headers, status) in
        [("/api/health", many.as_str(), 431), ("/api/health", &long, 431), (&target, "", 414)]
    {
        let mut http = Http::connect(server.addr());
        http.send_what_is_taken(format!("GET {target} HTTP/1.1\r\nHost: polecat.test\r\n{headers}\r\n"));
        assert_eq!(http.response().status, status);
    }
}

#[test]
fn who_asks_to_close_is_answered_and_closed() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    let response = http.request("GET", "/api/health", &[("Connection", "close")], None);
    assert_eq!((response.status, response.header("connection")), (200, Some("close")));
    http.expect_end();

    let mut http = Http::connect(server.addr());
    http.send("GET /api/health HTTP/1.0\r\n\r\n");
    http.response().ok();
    http.expect_end();
}

#[test]
fn a_slow_head_does_not_hold_up_anyone() {
    let server = Server::start();
    let mut slow = Http::connect(server.addr());
    slow.send("GET /api/health HT");
    for _ in 0..20 {
        Http::connect(server.addr()).expect_open();
    }
    slow.send("TP/1.1\r\nHost: polecat.test\r\n\r\n");
    slow.response().ok();
}

#[test]
fn a_request_that_does_not_end_is_408() {
    let server = Server::start_with(|options| options.config.timeouts.request_ms = 300);
    let mut http = Http::connect(server.addr());
    http.send("GET /api/health HTTP/1.1\r\nHost: pole");
    assert_eq!(http.response().status, 408);
    http.expect_end();
}

#[test]
fn a_connection_without_requests_is_closed_after_a_while() {
    let server = Server::start_with(|options| options.config.timeouts.keep_alive_ms = 300);
    let mut http = Http::connect(server.addr());
    http.get("/api/health").ok();
    http.expect_end();
}

#[test]
fn mistakes_of_an_upgrade_are_told() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    for target in ["/ws", "/api/ws", "/api/ws/room"] {
        let response = http.get(target);
        assert_eq!(response.status, 426, "{target}");
        assert_eq!(response.header("upgrade").map(str::to_ascii_lowercase).as_deref(), Some("websocket"));
        let connection = response.header("connection").unwrap_or_default().to_ascii_lowercase();
        assert!(connection.contains("upgrade"), "{connection}");
        assert_eq!(response.header("sec-websocket-version"), Some("13"));
    }
    http.expect_open();

    let good = String::from_utf8(raw::upgrade("/ws")).expect("ASCII");
    for (wrong, status) in [
        (good.replace("Version: 13", "Version: 8"), 426),
        (good.replace("Sec-WebSocket-Version: 13\r\n", ""), 426),
        (good.replace(raw::KEY, "too short"), 400),
        (good.replace(&format!("Sec-WebSocket-Key: {}\r\n", raw::KEY), ""), 400),
        (good.replace("GET /ws", "GET /nothing"), 404),
        (good.replace("GET /ws", "GET /api/ws/"), 404),
        (good.replace("GET /ws", "GET /api/ws/%FF"), 400),
        (good.replace("GET /ws", "GET /api/ws/%07"), 400),
        (good.replace("GET /ws", &format!("GET /api/ws/{}", "x".repeat(201))), 400),
    ] {
        let mut http = Http::connect(server.addr());
        http.send(&wrong);
        let response = http.response();
        assert_eq!(response.status, status, "{wrong}");
        assert!(response.json().get("detail").is_some(), "{wrong}");
    }
    let longest = "x".repeat(200);
    Socket::connect(server.addr(), &format!("/api/ws/{longest}")).expect_nothing_more();
}

#[test]
fn an_upgrade_is_recognised_however_it_is_written() {
    let server = Server::start();
    let good = String::from_utf8(raw::upgrade("/ws")).expect("ASCII");
    for spelled in [
        good.replace("Upgrade: websocket", "upgrade: WebSocket"),
        good.replace("Connection: Upgrade", "Connection: keep-alive, uPGRADE"),
        good.replace("Upgrade: websocket", "Upgrade: h2c, websocket"),
        good.replace("Sec-WebSocket-Version", "SEC-WEBSOCKET-VERSION"),
        good.replace("Connection: Upgrade", "Connection: keep-alive\r\nConnection: Upgrade"),
    ] {
        let mut client = RawSocket::connect_and_send(server.addr(), spelled.as_bytes());
        let head = client.read_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{spelled} was answered {head}");
    }
}
