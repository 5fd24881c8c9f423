//! Lists of messages and of events, and paging through them: PROTOCOL.md, "3.3 `GET /api/messages`" and "3.13
//! `GET /api/events`".

use std::io::Read as _;
use std::net::SocketAddr;

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::support::socket::message;
use crate::support::{Http, Response, Server, get, http, post};

/// Stores this many messages on each of two channels, in turn, and as many events of two types.
fn fill(addr: SocketAddr, count: usize, content: &str) {
    let mut http = Http::connect(addr);
    for number in 0..count {
        for channel in ["a b", "c"] {
            let text = format!("{number} {content}");
            http.post("/api/messages", &message(channel, "ann", &text)).ok();
        }
        for kind in ["odd", "even"] {
            let payload = json!({"number": number, "content": content});
            http.post("/api/events", &json!({"type": kind, "payload": payload})).ok();
        }
    }
}

/// The ids of a page.
fn ids(page: &Value) -> Vec<u64> {
    let number = |one: &Value| {
        let event_id = one["event_id"].as_str().and_then(|id| id.strip_prefix("event-")?.parse().ok());
        one["id"].as_u64().or(event_id).expect("an id")
    };
    let list = page.get("messages").or(page.get("events")).and_then(Value::as_array).expect("a list");
    list.iter().map(number).collect()
}

/// The target of a page's link.
fn link(path: &str, page: &Response, relation: &str) -> Option<String> {
    let links = page.header("link")?;
    let one = links.split(", ").find(|link| link.ends_with(&format!("; rel=\"{relation}\"")))?;
    let query = one.strip_prefix('<')?.split('>').next()?;
    Some(format!("{path}{query}"))
}

/// All ids on the way from `target` along the links.
fn walk(addr: SocketAddr, path: &str, query: &str, relation: &str) -> Vec<Vec<u64>> {
    let mut http = Http::connect(addr);
    let mut target = format!("{path}{query}");
    let mut pages = Vec::new();
    loop {
        let page = http.get(&target);
        pages.push(ids(&page.ok()));
        assert!(pages.len() < 100, "the links of {target} end");
        match link(path, &page, relation) {
            Some(next) => target = next,
            None => return pages,
        }
    }
}

#[test]
fn events_are_listed_as_messages_are() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    assert_eq!(http.get("/api/events").ok(), json!({"events": []}));
    assert_eq!(http.get("/api/events").header("link"), None);
    let posted = http.post("/api/events", &json!({"type": "t", "payload": {"n": 1}})).ok();
    assert_eq!(http.get("/api/events").ok(), json!({"events": [posted["event"]]}));
    for _ in 0..204 {
        http.post("/api/events", &json!({"type": "u"})).ok();
    }
    assert_eq!(ids(&http.get("/api/events").ok()), (6..=205).collect::<Vec<_>>(), "the newest 200");
    for (query, expected) in [
        ("?limit=2", vec![204, 205]),
        ("?after=0&limit=3", vec![1, 2, 3]),
        ("?after=203", vec![204, 205]),
        ("?before=3", vec![1, 2]),
        ("?before=100&limit=1", vec![99]),
        ("?after=7&before=10", vec![8, 9]),
        ("?after=event-00007&before=event-10", vec![8, 9]),
        ("?after=203&before=event-00205", vec![204]),
        ("?after=7&before=8", vec![]),
        ("?type=t", vec![1]),
        ("?type=", (6..=205).collect()),
        ("?type=never", vec![]),
        ("?type=u&before=4", vec![2, 3]),
    ] {
        assert_eq!(ids(&http.get(&format!("/api/events{query}")).ok()), expected, "{query}");
    }
    assert_eq!(http.request("HEAD", "/api/events", &[], None).status, 200);
}

#[test]
fn a_wrong_range_is_said_in_all_its_parts() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    for path in ["/api/messages", "/api/events"] {
        for (query, expected) in [
            ("after=x", vec![("after", "int_parsing")]),
            ("before=-1", vec![("before", "int_parsing")]),
            ("after=%2B1", vec![("after", "int_parsing")]),
            ("after=event-", vec![("after", "int_parsing")]),
            ("before=message-x", vec![("before", "int_parsing")]),
            ("after=", vec![("after", "int_parsing")]),
            ("limit=0", vec![("limit", "greater_than_equal")]),
            ("limit=1001", vec![("limit", "less_than_equal")]),
            ("limit=1.5", vec![("limit", "int_parsing")]),
            ("after=x&before=y", vec![("after", "int_parsing"), ("before", "int_parsing")]),
        ] {
            let response = http.get(&format!("{path}?{query}"));
            assert_eq!(response.status, 422, "{query}");
            let detail = response.json()["detail"].clone();
            let mistakes = detail.as_array().expect("a list").iter();
            let mistakes = mistakes.map(|one| (one["loc"].clone(), one["type"].clone())).collect::<Vec<_>>();
            let expected = expected.iter().map(|(name, kind)| (json!(["query", name]), json!(kind)));
            assert_eq!(mistakes, expected.collect::<Vec<_>>(), "{query}");
        }
    }
    // An id belongs to one sequence, and a connection's id to none.
    for (target, status) in [
        ("/api/messages?after=message-00001", 200),
        ("/api/messages?after=event-00001", 422),
        ("/api/events?before=event-00001", 200),
        ("/api/events?before=message-00001", 422),
        ("/api/connections?after=message-00001", 422),
        // No id is this high, but the request is valid.
        ("/api/messages?after=18446744073709551615", 200),
        ("/api/messages?after=18446744073709551616", 422),
    ] {
        assert_eq!(http.get(target).status, status, "{target}");
    }
}

#[test]
fn links_lead_to_everything_once_in_both_directions() {
    let server = Server::start();
    fill(server.addr(), 10, "x");
    for (path, query, all) in [
        ("/api/messages", "", (1..=20).collect::<Vec<u64>>()),
        ("/api/messages", "&channel_id=a+b", (1..=20).step_by(2).collect()),
        ("/api/messages", "&channel_id=c", (2..=20).step_by(2).collect()),
        ("/api/events", "", (1..=20).collect()),
        ("/api/events", "&type=odd", (1..=20).step_by(2).collect()),
    ] {
        for limit in [1, 3, 10, 20, 100] {
            let onward = walk(server.addr(), path, &format!("?limit={limit}&after=0{query}"), "next");
            assert_eq!(onward.concat(), all, "{path} {query} {limit}");
            assert!(onward.iter().rev().skip(1).all(|page| page.len() == limit), "all but the last are full");
            let mut back = walk(server.addr(), path, &format!("?limit={limit}{query}"), "prev");
            // With a type, it is not known whether there are older ones.
            back.reverse();
            assert_eq!(back.concat(), all, "{path} {query} {limit}");
        }
    }
    let window = walk(server.addr(), "/api/messages", "?limit=4&after=3&before=14", "next");
    assert_eq!(window, [vec![4, 5, 6, 7], vec![8, 9, 10, 11], vec![12, 13]], "a window is not left");
    let first = get(server.addr(), "/api/messages?limit=2&after=0");
    assert_eq!(first.header("link"), Some("<?limit=2&after=2>; rel=\"next\""));
    let newest = get(server.addr(), "/api/messages?limit=2&channel_id=a+b");
    assert_eq!(newest.header("link"), Some("<?limit=2&channel_id=a%20b&before=17>; rel=\"prev\""));
    let middle = get(server.addr(), "/api/events?limit=2&before=10");
    let expected = "<?limit=2&after=9>; rel=\"next\", <?limit=2&before=8>; rel=\"prev\"";
    assert_eq!(middle.header("link"), Some(expected));
    assert_eq!(get(server.addr(), "/api/messages").header("link"), None, "all are on one page");
}

/// The contents of a gzip body.
fn unzipped(response: &Response) -> String {
    assert_eq!(response.header("content-encoding"), Some("gzip"));
    let mut text = String::new();
    GzDecoder::new(&response.body[..]).read_to_string(&mut text).expect("a whole body in gzip");
    text
}

#[test]
fn lists_are_compressed_for_who_takes_that() {
    let server = Server::start();
    let small = get(server.addr(), "/api/messages");
    assert_eq!(small.header("vary"), Some("Origin, Accept-Encoding"));
    fill(server.addr(), 30, "some words that come again");
    let mut http = Http::connect(server.addr());
    for path in ["/api/messages", "/api/events"] {
        let plain = http.get(path);
        assert_eq!(plain.header("content-encoding"), None);
        for (accepted, is_compressed) in [
            ("gzip", true),
            ("deflate, gzip;q=0.5", true),
            ("*", true),
            ("identity", false),
            ("gzip;q=0", false),
            ("gzip;q=0.5, identity;q=0.8", false),
        ] {
            let fields = [("Accept-Encoding", accepted)];
            http.send(http::request("GET", path, &fields, None));
            let response = http.response();
            assert_eq!(response.header("vary"), Some("Origin, Accept-Encoding"));
            if is_compressed {
                assert_eq!(unzipped(&response), plain.text(), "{accepted}");
                assert!(response.body.len() * 3 < plain.body.len(), "{}", response.body.len());
                let head = http.request("HEAD", path, &fields, None);
                let length = response.body.len().to_string();
                assert_eq!(head.header("content-length"), Some(length.as_str()), "HEAD says what GET does");
                assert_eq!(head.header("content-encoding"), Some("gzip"));
            } else {
                assert_eq!(response.header("content-encoding"), None, "{accepted}");
                assert_eq!(response.text(), plain.text());
            }
        }
    }
    http.send(http::request("GET", "/api/messages?limit=1", &[("Accept-Encoding", "gzip")], None));
    assert_eq!(http.response().header("content-encoding"), None, "it is not worth it");
}

#[test]
fn a_large_list_is_sent_in_chunks_or_ends_with_the_connection() {
    let server = Server::start();
    let content = "0123456789".repeat(3_000);
    let mut http = Http::connect(server.addr());
    for number in 1..=50 {
        http.post("/api/messages", &message("room", "ann", &format!("{number} {content}"))).ok();
    }
    let list = http.get("/api/messages?limit=40");
    assert_eq!((list.status, list.header("transfer-encoding")), (200, Some("chunked")));
    assert_eq!(list.header("content-length"), None);
    assert_eq!(ids(&list.ok()), (11..=50).collect::<Vec<_>>());
    assert_eq!(list.header("link"), Some("<?limit=40&before=11>; rel=\"prev\""));
    http.expect_open();

    http.send(http::request("GET", "/api/messages?limit=40", &[("Accept-Encoding", "gzip")], None));
    let compressed = http.response();
    assert_eq!(compressed.header("transfer-encoding"), Some("chunked"));
    assert_eq!(unzipped(&compressed), list.text());

    let head = http.request("HEAD", "/api/messages?limit=40", &[], None);
    assert_eq!((head.status, head.header("transfer-encoding")), (200, Some("chunked")));
    http.expect_open();

    // Requests behind it are answered behind it.
    let asked = ["/api/messages?limit=40", "/api/health", "/api/messages?limit=30", "/api/events"];
    asked.iter().for_each(|target| http.send(http::request("GET", target, &[], None)));
    assert_eq!(http.response().text(), list.text());
    assert_eq!(http.response().text(), "{\"status\":\"ok\"}");
    assert_eq!(ids(&http.response().ok()), (21..=50).collect::<Vec<_>>());
    assert_eq!(http.response().text(), "{\"events\":[]}");

    for fields in ["", "Connection: keep-alive\r\n"] {
        let mut old = Http::connect(server.addr());
        old.send(format!("GET /api/messages?limit=40 HTTP/1.0\r\n{fields}\r\n"));
        let response = old.response_to_the_end();
        assert_eq!(response.header("connection"), Some("close"));
        assert_eq!((response.header("transfer-encoding"), response.header("content-length")), (None, None));
        assert_eq!(response.text(), list.text());
    }
}

#[test]
fn one_list_after_the_other_is_no_reason_to_keep_others_waiting() {
    let server = Server::start();
    let content = "0123456789".repeat(60_000);
    let mut http = Http::connect(server.addr());
    for number in 1..=6 {
        http.post("/api/messages", &message("room", "ann", &format!("{number} {content}"))).ok();
    }
    // None of these is read before all others had their responses.
    let mut readers = (0..6).map(|_| Http::connect(server.addr())).collect::<Vec<_>>();
    readers
        .iter_mut()
        .for_each(|one| one.send(http::request("GET", "/api/messages?channel_id=room", &[], None)));
    for _ in 0..20 {
        post(server.addr(), "/api/messages", &message("other", "bob", "hi")).ok();
        assert_eq!(ids(&http.get("/api/messages?channel_id=other&limit=1").ok()).len(), 1);
    }
    for reader in &mut readers {
        assert_eq!(ids(&reader.response().ok()), (1..=6).collect::<Vec<_>>());
        reader.expect_open();
    }
}
