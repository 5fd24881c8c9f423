//! The REST side: PROTOCOL.md, "3. The HTTP API". The shapes of responses and errors, and CORS.

use serde_json::{Value, json};

use crate::support::socket::message;
use crate::support::{
    Http, Response, Server, Socket, assert_keys_in_order, assert_timestamp, get, http, post,
};

#[test]
fn health_is_ok() {
    let server = Server::start();
    let response = get(server.addr(), "/api/health");
    assert_eq!((response.status, response.text()), (200, "{\"status\":\"ok\"}"));
    assert_eq!(response.header("content-type"), Some("application/json"));
}

#[test]
fn a_posted_message_is_answered_as_it_was_stored() {
    let server = Server::start();
    let mut body = message("room", "ann", "hello");
    let response = post(server.addr(), "/api/messages", &body);
    let stored = response.ok();
    assert_keys_in_order(response.text(), &["success", "message"]);
    let keys = ["id", "channel_id", "author", "content", "timestamp", "lane", "provider", "token_count"];
    assert_keys_in_order(response.text(), &keys);
    assert_timestamp(stored["message"]["timestamp"].as_str().expect("a string"));
    let expected = json!({"success": true, "message": {"id": 1, "channel_id": "room", "author": "ann",
        "content": "hello", "timestamp": stored["message"]["timestamp"], "lane": null, "provider": null,
        "token_count": null}});
    assert_eq!(stored, expected);

    body["lane"] = json!("fast");
    body["provider"] = json!("");
    body["token_count"] = json!(-3);
    body["unknown"] = json!({"is": "ignored"});
    let second = post(server.addr(), "/api/messages", &body).ok()["message"].clone();
    assert_eq!((&second["id"], &second["lane"]), (&json!(2), &json!("fast")));
    assert_eq!((&second["provider"], &second["token_count"]), (&json!(""), &json!(-3)));
    assert_eq!(second.get("unknown"), None);
}

#[test]
fn messages_are_the_newest_200_oldest_first() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    assert_eq!(http.get("/api/messages").ok(), json!({"messages": []}));
    assert_eq!(http.get("/api/messages?channel_id=none").ok(), json!({"messages": []}));
    for number in 1..=205 {
        let body = message("long", "ann", &format!("m{number}")).to_string();
        http.send(http::request("POST", "/api/messages", &[], Some(&body)));
    }
    for _ in 1..=205 {
        http.response().ok();
    }
    http.post("/api/messages", &message("short", "bob", "one")).ok();

    let long = contents(&http.get("/api/messages?channel_id=long"));
    assert_eq!(long, (6..=205).map(|number| format!("m{number}")).collect::<Vec<_>>());
    assert_eq!(contents(&http.get("/api/messages?channel_id=short")), ["one"]);
    let all = contents(&http.get("/api/messages"));
    assert_eq!(all.len(), 200);
    assert_eq!((all[0].as_str(), all[198].as_str(), all[199].as_str()), ("m7", "m205", "one"));
    let newest = http.get("/api/messages?channel_id=short").ok()["messages"][0].clone();
    assert_eq!((&newest["id"], &newest["author"]), (&json!(206), &json!("bob")));
}

#[test]
fn channels_are_sorted_and_each_has_a_message() {
    let server = Server::start();
    let _listens = Socket::connect(server.addr(), "/api/ws/silent");
    assert_eq!(get(server.addr(), "/api/channels").text(), "{\"channels\":[]}");
    for channel in ["zoo", "Ärger", "alpha", "Beta", "zoo", "alpha/2"] {
        post(server.addr(), "/api/messages", &message(channel, "a", "c")).ok();
    }
    let expected = json!({"channels": ["Beta", "alpha", "alpha/2", "zoo", "Ärger"]});
    assert_eq!(get(server.addr(), "/api/channels").ok(), expected);
}

#[test]
fn the_summary_counts_messages_tokens_providers_and_lanes() {
    let server = Server::start();
    let empty =
        json!({"summary": {"total_messages": 0, "total_tokens": 0, "by_provider": {}, "by_lane": {}}});
    assert_eq!(get(server.addr(), "/api/summary").ok(), empty);
    let rows = [
        (json!("acme"), json!("fast"), json!(10)),
        (json!("acme"), json!("slow"), json!(5)),
        (json!("other"), json!(""), json!(null)),
        (json!(null), json!(null), json!(0)),
        (json!(""), json!("fast"), json!(100)),
    ];
    for (provider, lane, tokens) in rows {
        let mut body = message("room", "a", "c");
        body["provider"] = provider;
        body["lane"] = lane;
        body["token_count"] = tokens;
        post(server.addr(), "/api/messages", &body).ok();
    }
    let mut client = Socket::connect(server.addr(), "/api/ws/room");
    client.send_json(&json!({"type": "message", "provider": "acme", "token_count": 1}));
    client.next_data();
    let expected = json!({"summary": {"total_messages": 6, "total_tokens": 116,
        "by_provider": {"acme": 3, "other": 1}, "by_lane": {"fast": 2, "slow": 1}}});
    assert_eq!(get(server.addr(), "/api/summary").ok(), expected, "null and empty names are not counted");
}

#[test]
fn a_path_that_is_none_is_404() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    for target in ["//", "/api", "/api/nothing", "/api/health/", "/API/health", "/wss", "/api/healthy"] {
        let response = http.get(target);
        assert_eq!((response.status, response.text()), (404, "{\"detail\":\"Not Found\"}"), "{target}");
    }
    http.expect_open();
}

#[test]
fn a_method_that_a_path_has_not_is_405_and_told_which_it_has() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    for (method, target, allowed) in [
        ("DELETE", "/api/messages", "GET, HEAD, POST, OPTIONS"),
        ("PUT", "/api/health", "GET, HEAD, OPTIONS"),
        ("POST", "/api/channels", "GET, HEAD, OPTIONS"),
        ("POST", "/api/summary", "GET, HEAD, OPTIONS"),
        ("PUT", "/api/events", "GET, HEAD, POST, OPTIONS"),
    ] {
        let response = http.request(method, target, &[], None);
        assert_eq!(response.status, 405, "{method} {target}");
        assert_eq!(response.json(), json!({"detail": "Method Not Allowed"}));
        assert_eq!(response.header("allow"), Some(allowed), "{method} {target}");
    }
    http.expect_open();
}

#[test]
fn a_method_that_nobody_knows_is_501_wherever_it_is_asked() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    for target in ["/api/messages", "/api/health", "/ws", "/api/ws/room", "/", "/polecat.js", "/nothing"] {
        for method in ["BREW", "get", "TRACE", "PROPFIND"] {
            let response = http.request(method, target, &[], None);
            assert_eq!(response.status, 501, "{method} {target}");
            assert_eq!(response.json(), json!({"detail": "Not Implemented"}));
        }
    }
    http.expect_open();
}

#[test]
fn options_is_answered_with_the_methods_of_a_path() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    for (target, allowed) in [
        ("/api/messages", "GET, HEAD, POST, OPTIONS"),
        ("/api/health", "GET, HEAD, OPTIONS"),
        ("/polecat.js", "GET, HEAD, OPTIONS"),
        ("/", "GET, HEAD, OPTIONS"),
        ("*", "GET, HEAD, POST, OPTIONS"),
    ] {
        // A foreign page learns nothing from it that it could not know.
        for headers in [&[][..], &[("Origin", "http://foreign.example")]] {
            let response = http.request("OPTIONS", target, headers, None);
            assert_eq!((response.status, response.text()), (200, ""), "{target}");
            assert_eq!(response.header("allow"), Some(allowed), "{target}");
            assert_eq!(response.header("content-type"), None);
            assert_eq!(response.header("access-control-allow-origin"), None);
        }
    }
    for (target, status) in [("/nothing", 404), ("/api/ws", 426), ("/ws", 426)] {
        assert_eq!(http.request("OPTIONS", target, &[], None).status, status, "{target}");
    }
    http.expect_open();
}

#[test]
fn what_is_answered_is_not_kept_and_not_guessed_at() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    let body = message("room", "a", &"c".repeat(200_000)).to_string();
    let origin = [("Origin", "http://polecat.test"), ("Access-Control-Request-Method", "POST")];
    for (method, target, fields, body, status) in [
        ("POST", "/api/messages", &[][..], Some(body.as_str()), 200),
        ("POST", "/api/events", &[], Some("{}"), 422),
        ("GET", "/api/health", &[], None, 200),
        ("HEAD", "/api/summary", &[], None, 200),
        ("GET", "/api/channels", &[], None, 200),
        // One response, and one in slices.
        ("GET", "/api/messages?channel_id=none", &[], None, 200),
        ("GET", "/api/messages", &[], None, 200),
        ("GET", "/api/connections", &[], None, 200),
        ("GET", "/api/schema", &[], None, 200),
        ("GET", "/metrics", &[], None, 200),
        ("GET", "/ws", &[], None, 426),
        ("PUT", "/api/events", &[], None, 405),
        ("GET", "/nothing", &[], None, 404),
        ("OPTIONS", "/api/messages", &origin, None, 200),
    ] {
        let response = http.request(method, target, fields, body);
        assert_eq!(response.status, status, "{method} {target}");
        for (name, value) in [("cache-control", "no-store"), ("x-content-type-options", "nosniff")] {
            let values = response.headers.iter().filter(|(field, _)| field == name);
            let values = values.map(|(_, value)| value.as_str()).collect::<Vec<_>>();
            assert_eq!(values, [value], "{method} {target}: {name}");
        }
    }
    http.send("nonsense\r\n\r\n");
    let refused = http.response();
    assert_eq!((refused.status, refused.header("cache-control")), (400, Some("no-store")));
}

#[test]
fn a_body_of_the_wrong_shape_is_422_and_told_where() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    let long = "x".repeat(201);
    let long = message(&long, "a", "c").to_string();
    let missing = "Field required";
    let no_string = "Input should be a valid string";
    let no_object = "Input should be a valid dictionary or object to extract fields from";
    let too_short = "String should have at least 1 character";
    let cases = [
        (r#"{"channel_id":"c","author":"a"}"#, "missing", json!(["body", "content"]), missing),
        (r#"{"channel_id":"c","content":"c"}"#, "missing", json!(["body", "author"]), missing),
        (r#"{"author":"a","content":"c"}"#, "missing", json!(["body", "channel_id"]), missing),
        (
            r#"{"channel_id":"c","author":"a","content":7}"#,
            "string_type",
            json!(["body", "content"]),
            no_string,
        ),
        (
            r#"{"channel_id":"c","author":null,"content":""}"#,
            "string_type",
            json!(["body", "author"]),
            no_string,
        ),
        (
            r#"{"channel_id":"","author":"a","content":"c"}"#,
            "string_too_short",
            json!(["body", "channel_id"]),
            too_short,
        ),
        (r"[1]", "model_attributes_type", json!(["body"]), no_object),
        (r#""text""#, "model_attributes_type", json!(["body"]), no_object),
    ];
    for (body, kind, place, text) in cases {
        let response = http.request("POST", "/api/messages", &[], Some(body));
        let fault = fault_of(&response);
        assert_eq!(fault, json!({"type": kind, "loc": place, "msg": text}), "{body}");
    }
    for (field, value, kind) in [("lane", json!(1), "string_type"), ("token_count", json!("one"), "int_type")]
    {
        let mut body = message("c", "a", "c");
        body[field] = value;
        let fault = fault_of(&http.post("/api/messages", &body));
        assert_eq!((&fault["type"], &fault["loc"]), (&json!(kind), &json!(["body", field])));
    }
    assert_eq!(fault_of(&http.request("POST", "/api/messages", &[], Some(&long)))["type"], "string_too_long");
    let control = message("bell\u{7}", "a", "c");
    assert_eq!(fault_of(&http.post("/api/messages", &control))["type"], "value_error");
    for dots in [".", ".."] {
        let fault = fault_of(&http.post("/api/messages", &message(dots, "a", "c")));
        let text = "Value error, a channel name must not be . or ..";
        assert_eq!((&fault["type"], &fault["msg"]), (&json!("value_error"), &json!(text)), "{dots}");
    }
    http.expect_open();
    assert_eq!(http.get("/api/messages").ok(), json!({"messages": []}), "nothing of it was stored");
}

#[test]
fn a_body_that_is_no_json_is_422_and_told_where_it_broke() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    for body in ["{\"channel_id\": ", "", "{} {}", "nonsense"] {
        let response = http.request("POST", "/api/messages", &[], Some(body));
        let fault = fault_of(&response);
        if body.is_empty() {
            // A body that is absent may also be called missing.
            assert_eq!(fault["loc"][0], "body");
            continue;
        }
        assert_eq!((&fault["type"], &fault["msg"]), (&json!("json_invalid"), &json!("JSON decode error")));
        assert_eq!(fault["loc"][0], "body");
        assert!(fault["loc"][1].is_u64(), "a position: {fault}");
        let cause = &response.json()["detail"][0]["ctx"]["error"];
        assert!(cause.is_string(), "{cause}");
    }
    http.expect_open();
}

#[test]
fn what_cannot_be_stored_is_422_and_what_is_ignored_is_not_looked_into() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    let deep = |levels: usize| ["[".repeat(levels), "]".repeat(levels)].concat().into_bytes();
    let message = |more: &[u8]| [br#"{"channel_id":"c","author":"a","content":"c""#, more, b"}"].concat();
    let event = |more: &[u8]| [br#"{"type":"t""#, more, b"}"].concat();
    let under = |key: &str, value: &[u8]| [b",\"", key.as_bytes(), b"\":", value].concat();
    let payload = |value: &[u8]| under("payload", &[b"{\"a\":", value, b"}"].concat());
    let mut cases = Vec::new();
    // Ignored values only have to be JSON in UTF-8.
    for (value, status) in [
        (b"\"\\ud800\"".to_vec(), 200),
        (b"[1e400]".to_vec(), 200),
        (deep(10_000), 200),
        (b"\"\xff\"".to_vec(), 422),
        (b"{\"\xc3\":1}".to_vec(), 422),
        (b"[1,]".to_vec(), 422),
    ] {
        cases.push(("/api/messages", message(&under("more", &value)), status));
        cases.push(("/api/events", event(&under("more", &value)), status));
        // In values that are kept, all of this is wrong.
        cases.push(("/api/messages", message(&under("lane", &value)), 422));
        cases.push(("/api/events", event(&payload(&value)), 422));
    }
    // The object is one level, its payload another, and "a" is the third.
    cases.push(("/api/events", event(&payload(&deep(125))), 200));
    cases.push(("/api/events", event(&payload(&deep(126))), 422));
    cases.push(("/api/messages", [b"\xef\xbb\xbf", &*message(b"")].concat(), 422));
    cases.push(("/api/events", [b"\xef\xbb\xbf", &*event(b"")].concat(), 422));
    for (target, body, status) in cases {
        http.send(format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()));
        http.send(&body);
        let response = http.response();
        let text = String::from_utf8_lossy(&body);
        assert_eq!(response.status, status, "{target} {text:.90}: {}", response.text());
        if status == 422 && !text.contains("lane") {
            let fault = response.json()["detail"][0].clone();
            assert_eq!(fault["type"], "json_invalid", "{target} {text:.90}");
            assert!(fault["loc"][1].as_u64().is_some_and(|place| place <= body.len() as u64), "{fault}");
        }
    }
}

#[test]
fn an_event_of_the_wrong_shape_is_422() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    for (body, kind, field) in [
        (json!({"payload": {}}), "missing", "type"),
        (json!({"type": 7}), "string_type", "type"),
        (json!({"type": ""}), "string_too_short", "type"),
        (json!({"type": "x".repeat(201)}), "string_too_long", "type"),
        (json!({"type": "t", "payload": []}), "dict_type", "payload"),
        (json!({"type": "t", "correlation_id": 7}), "string_type", "correlation_id"),
    ] {
        let fault = fault_of(&http.post("/api/events", &body));
        assert_eq!((&fault["type"], &fault["loc"]), (&json!(kind), &json!(["body", field])), "{body}");
    }
    let first = http.post("/api/events", &json!({"type": "t"})).ok();
    assert_eq!(first["event"]["event_id"], "event-00001", "nothing of it was stored");
}

#[test]
fn a_body_is_json_where_nothing_else_is_said() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    let body = message("room", "a", "c").to_string();
    for content_type in ["application/json", "application/json; charset=utf-8", "application/problem+json"] {
        http.request("POST", "/api/messages", &[("Content-Type", content_type)], Some(&body)).ok();
    }
    http.request("POST", "/api/messages", &[], Some(&body)).ok();
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"] {
        let response = http.request("POST", "/api/messages", &[("Content-Type", content_type)], Some(&body));
        assert_eq!(response.status, 415, "{content_type}");
        assert!(response.json()["detail"].is_string());
    }
    http.expect_open();
}

#[test]
fn cors_lets_an_allowed_origin_in() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    // A page that the server itself could have served; `origins.rs` has the others.
    let origin = ("Origin", "http://polecat.test");
    let refused = message("", "", "").to_string();
    for (method, target, body) in [
        ("GET", "/api/health", None),
        ("GET", "/nothing", None),
        ("PUT", "/api/health", None),
        ("POST", "/api/messages", Some(refused.as_str())),
    ] {
        let response = http.request(method, target, &[origin], body);
        assert_eq!(response.header("access-control-allow-origin"), Some(origin.1), "{method} {target}");
        assert_eq!(response.header("access-control-allow-credentials"), Some("true"));
        assert!(response.header("vary").is_some_and(|value| value.contains("Origin")));
    }
    assert_eq!(http.get("/api/health").header("access-control-allow-origin"), None, "no browser, no CORS");
    let foreign = http.request("GET", "/api/health", &[("Origin", "http://other.test")], None);
    assert_eq!((foreign.status, foreign.header("access-control-allow-origin")), (200, None));
}

#[test]
fn a_cors_preflight_is_answered() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    let headers = [
        ("Origin", "http://polecat.test"),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "content-type,x-correlation-id"),
    ];
    let response = http.request("OPTIONS", "/api/messages", &headers, None);
    assert_eq!((response.status, response.text()), (200, "OK"));
    assert_eq!(response.header("access-control-allow-origin"), Some("http://polecat.test"));
    assert_eq!(response.header("access-control-allow-credentials"), Some("true"));
    let allowed = response.header("access-control-allow-headers");
    assert_eq!(allowed, Some("content-type,x-correlation-id"));
    assert_eq!(response.header("access-control-max-age"), Some("600"));
    let methods = response.header("access-control-allow-methods").expect("methods");
    for method in ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"] {
        assert!(methods.split(", ").any(|name| name == method), "{methods}");
    }
    http.expect_open();
}

fn contents(response: &Response) -> Vec<String> {
    let messages = response.ok();
    let messages = messages["messages"].as_array().expect("a list").iter();
    messages.map(|message| message["content"].as_str().expect("a string").to_owned()).collect()
}

/// The first fault of a 422, without additional keys.
fn fault_of(response: &Response) -> Value {
    assert_eq!(response.status, 422, "{}", response.text());
    let fault = response.json()["detail"][0].clone();
    json!({"type": fault["type"], "loc": fault["loc"], "msg": fault["msg"]})
}
