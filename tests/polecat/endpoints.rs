//! The paths that exist, and others: PROTOCOL.md, "1. Endpoints".

use serde_json::json;

use crate::support::raw::upgrade;
use crate::support::socket::message;
use crate::support::{Http, Server, Socket};

/// The rows of the table that are not WebSockets.
const REQUESTS: [(&str, &str); 10] = [
    ("GET", "/api/health"),
    ("POST", "/api/messages"),
    ("GET", "/api/messages"),
    ("GET", "/api/channels"),
    ("GET", "/api/summary"),
    ("POST", "/api/events"),
    ("GET", "/api/events"),
    ("GET", "/api/connections"),
    ("GET", "/api/schema"),
    ("GET", "/metrics"),
];
const SOCKETS: [&str; 3] = ["/api/ws/room", "/ws", "/api/ws"];

fn body_for(target: &str) -> String {
    match target {
        "/api/messages" => message("room", "a", "c").to_string(),
        _ => json!({"type": "t"}).to_string(),
    }
}

#[test]
fn every_endpoint_is_there_by_its_method() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    for (method, target) in REQUESTS {
        let body = (method == "POST").then(|| body_for(target));
        assert_eq!(http.request(method, target, &[], body.as_deref()).status, 200, "{method} {target}");
    }
    for target in SOCKETS {
        Socket::connect(server.addr(), target).close();
    }
    // Each behaves as in its section: a channel sends and receives, `/ws` receives, the echo answers.
    let mut channel = Socket::connect(server.addr(), "/api/ws/room");
    let mut events = Socket::connect(server.addr(), "/ws");
    let mut echo = Socket::connect(server.addr(), "/api/ws");
    for client in [&mut channel, &mut events, &mut echo] {
        client.send_text("{\"type\":\"message\",\"content\":\"hi\"}");
    }
    assert_eq!(channel.next_data()["content"], "hi");
    assert_eq!(echo.next_text(), "{\"type\":\"message\",\"content\":\"hi\"}");
    events.expect_nothing_more();
    channel.expect_nothing_more();
}

#[test]
fn head_works_where_get_does_and_nowhere_else() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    for (method, target) in REQUESTS.iter().filter(|(method, _)| *method == "GET") {
        assert_eq!(http.request("HEAD", target, &[], None).status, 200, "{method} {target}");
    }
    for target in SOCKETS {
        assert_eq!(http.request("HEAD", target, &[], None).status, 426, "{target}");
    }
    http.expect_open();
}

#[test]
fn paths_are_compared_byte_for_byte() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    for (method, target) in REQUESTS {
        let body = (method == "POST").then(|| body_for(target));
        let encoded = target.replace("api", "%61pi");
        let slash = target.replace("/api/", "/api%2F");
        for other in [
            format!("{target}/"),
            format!("/{target}"),
            target.to_ascii_uppercase(),
            encoded,
            slash,
            target.replace("/api/", "/api/./"),
            target.replace("/api/", "/x/../api/"),
            target.replace("/api/", "/api//"),
            format!("{target};a"),
        ] {
            // Some targets do not have the part that is spelt differently here.
            if other == target {
                continue;
            }
            let response = http.request(method, &other, &[], body.as_deref());
            assert_eq!((response.status, response.json()), (404, json!({"detail": "Not Found"})), "{other}");
        }
        // The part after a question mark does not belong to the path.
        let response = http.request(method, &format!("{target}?a=b"), &[], body.as_deref());
        assert_eq!(response.status, 200, "{target}");
    }
    for target in ["/ws/", "/%77s", "/WS", "/api/ws/", "/api/%77s", "/api/ws/room/", "/api/ws/a/b", "//ws"] {
        http.send(upgrade(target));
        assert_eq!(http.response().status, 404, "{target}");
    }
    // The name of a channel is the exception.
    let mut encoded = Socket::connect(server.addr(), "/api/ws/%72oom");
    let mut plain = Socket::connect(server.addr(), "/api/ws/room");
    plain.send_json(&json!({"type": "message", "content": "for both"}));
    assert_eq!(
        (encoded.next_contents(1), plain.next_contents(1)),
        (vec!["for both".into()], vec!["for both".into()])
    );
}

#[test]
fn whoever_reaches_the_port_may_read_and_publish() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    // There is no authentication, and credentials are ignored.
    for fields in [&[][..], &[("Authorization", "Basic bm9ib2R5Om5vdGhpbmc="), ("Cookie", "session=none")]] {
        for (method, target) in REQUESTS {
            let body = (method == "POST").then(|| body_for(target));
            let response = http.request(method, target, fields, body.as_deref());
            assert_eq!((response.status, response.header("www-authenticate")), (200, None), "{target}");
        }
        for target in SOCKETS {
            Socket::connect_with(server.addr(), target, fields).close();
        }
    }
}
