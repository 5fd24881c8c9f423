#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::base::config::Limits;
use crate::wire::http::decoder::{RequestDecoder, RequestStep};

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
const VERSION: &str = "Sec-WebSocket-Version: 13";
const ASKS: &str = "Upgrade: websocket\r\nConnection: Upgrade";

fn with_request<T>(line: &str, fields: &[&str], body: &str, then: impl FnOnce(&Request<'_>) -> T) -> T {
    let mut input = format!("{line}\r\nHost: h\r\n{}\r\n\r\n{body}", fields.join("\r\n")).into_bytes();
    match RequestDecoder::default().decode(&mut input, &Limits::default()) {
        Ok(RequestStep::Request { request, .. }) => then(&request),
        other => panic!("{other:?}"),
    }
}

fn status(line: &str, fields: &[&str], body: &str) -> u16 {
    with_request(line, fields, body, |request| match parse(request) {
        Ok(_) => 101,
        Err(error) => {
            assert!(!error.detail().is_empty());
            error.status().code()
        }
    })
}

const GET: &str = "GET /ws HTTP/1.1";

/// Request line, fields, body, and the status of the answer.
const HANDSHAKES: &[(&str, &[&str], &str, u16)] = &[
    (GET, &[ASKS, VERSION, KEY], "", 101),
    (GET, &["upgrade: h2c, WebSocket", "connection: keep-alive, UPGRADE", VERSION, KEY], "", 101),
    (
        GET,
        &["Upgrade: h2c", "Upgrade: websocket", "Connection: x", "Connection: upgrade", VERSION, KEY],
        "",
        101,
    ),
    (GET, &[ASKS, "Sec-WebSocket-Version:13 ", KEY], "", 101),
    (GET, &[ASKS, VERSION, KEY, "Sec-WebSocket-Protocol: a, b,,c"], "", 101),
    (GET, &[ASKS, VERSION, KEY, "Sec-WebSocket-Extensions: permessage-deflate; x=\"y, z\""], "", 101),
    (GET, &[ASKS, VERSION, KEY, "Content-Length: 0"], "", 101),
    (GET, &[ASKS, VERSION, "Sec-WebSocket-Key: ++++///////////////////=="], "", 400),
    (GET, &[ASKS, VERSION, "Sec-WebSocket-Key: ++++++++++//////////AA=="], "", 101),
    (GET, &["X: y"], "", 426),
    (GET, &[VERSION, KEY], "", 426),
    (GET, &["Upgrade: websocket", VERSION, KEY], "", 426),
    (GET, &["Connection: Upgrade", VERSION, KEY], "", 426),
    (GET, &["Upgrade: h2c", "Connection: Upgrade", VERSION, KEY], "", 426),
    (GET, &["Upgrade: websockets", "Connection: Upgrade", VERSION, KEY], "", 426),
    (GET, &["Upgrade: websocket", "Connection: close", VERSION, KEY], "", 426),
    (GET, &[ASKS, KEY], "", 426),
    (GET, &[ASKS, "Sec-WebSocket-Version: 8", KEY], "", 426),
    (GET, &[ASKS, "Sec-WebSocket-Version: 013", KEY], "", 426),
    (GET, &[ASKS, "Sec-WebSocket-Version: 13, 8", KEY], "", 426),
    (GET, &[ASKS, "Sec-WebSocket-Version: ", KEY], "", 426),
    (GET, &[ASKS, VERSION, VERSION, KEY], "", 426),
    (GET, &[ASKS, VERSION], "", 400),
    (GET, &[ASKS, VERSION, KEY, KEY], "", 400),
    (GET, &[ASKS, VERSION, "Sec-WebSocket-Key: "], "", 400),
    (GET, &[ASKS, VERSION, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ"], "", 400),
    (GET, &[ASKS, VERSION, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ="], "", 400),
    (GET, &[ASKS, VERSION, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==="], "", 400),
    (GET, &[ASKS, VERSION, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ==="], "", 400),
    (GET, &[ASKS, VERSION, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTE="], "", 400),
    (GET, &[ASKS, VERSION, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j"], "", 400),
    (GET, &[ASKS, VERSION, "Sec-WebSocket-Key: dGhlIHNhbXBsZS_ub25jZQ=="], "", 400),
    (GET, &[ASKS, VERSION, "Sec-WebSocket-Key: dGhlIHNhbXBs\u{e9}Bub25jZQ=="], "", 400),
    (GET, &[ASKS, VERSION, KEY, "Sec-WebSocket-Protocol: a b"], "", 400),
    (GET, &[ASKS, VERSION, KEY, "Sec-WebSocket-Protocol: \"a\""], "", 400),
    (GET, &[ASKS, VERSION, KEY, "Content-Length: 1"], "x", 400),
    (GET, &[ASKS, VERSION, KEY, "Transfer-Encoding: chunked"], "1\r\nx\r\n0\r\n\r\n", 400),
    ("GET /ws HTTP/1.0", &[ASKS, VERSION, KEY], "", 400),
    ("GET /ws HTTP/1.0", &["X: y"], "", 426),
    ("POST /ws HTTP/1.1", &[ASKS, VERSION, KEY], "", 405),
    ("HEAD /ws HTTP/1.1", &[ASKS, VERSION, KEY], "", 405),
    ("POST /ws HTTP/1.1", &["X: y"], "", 426),
];

#[test]
fn handshakes() {
    for (line, fields, body, wanted) in HANDSHAKES {
        assert_eq!(status(line, fields, body), *wanted, "{line} {fields:?}");
    }
}

#[test]
fn an_answer_has_the_fields_of_its_status() {
    let plain = UpgradeError::NotAnUpgrade;
    assert_eq!(plain.fields(), UPGRADE_REQUIRED_FIELDS);
    let version = UpgradeError::refused(Status::UPGRADE_REQUIRED, "x");
    assert_eq!(version.fields(), UPGRADE_REQUIRED_FIELDS);
    let method = UpgradeError::refused(Status::METHOD_NOT_ALLOWED, "x");
    assert_eq!(method.fields(), [("Allow", "GET")]);
    assert!(UpgradeError::refused(Status::BAD_REQUEST, "x").fields().is_empty());
}

#[test]
fn the_answer_proves_that_the_key_was_read() {
    let fields = [ASKS, VERSION, KEY, "Sec-WebSocket-Protocol: x, polecat.v1", "sec-websocket-protocol: Y"];
    with_request("GET /ws HTTP/1.1", &fields, "", |request| {
        let upgrade = parse(request).unwrap();
        assert!(upgrade.offers("polecat.v1") && upgrade.offers("x") && upgrade.offers("Y"));
        assert!(!upgrade.offers("y") && !upgrade.offers("polecat") && !upgrade.offers(""));
        let mut out = Vec::new();
        let date = "Mon, 05 Jan 2026 09:30:00 GMT";
        upgrade.write_switching(&[("X-Correlation-ID", "abc")], Some("polecat.v1"), None, date, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "HTTP/1.1 101 Switching Protocols\r\nDate: Mon, 05 Jan 2026 09:30:00 GMT\r\n\
             Upgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
             Sec-WebSocket-Protocol: polecat.v1\r\nX-Correlation-ID: abc\r\n\r\n"
        );
        let mut out = Vec::new();
        upgrade.write_switching(&[], None, None, date, &mut out);
        assert!(!String::from_utf8(out).unwrap().contains("Protocol:"));
    });
}

#[test]
fn a_frame_may_follow_the_handshake_in_the_same_segment() {
    let mut input =
        format!("GET /ws HTTP/1.1\r\nHost: h\r\n{ASKS}\r\n{VERSION}\r\n{KEY}\r\n\r\n\u{1}\u{2}").into_bytes();
    let Ok(RequestStep::Request { request, consumed }) =
        RequestDecoder::default().decode(&mut input, &Limits::default())
    else {
        panic!("no request")
    };
    assert!(parse(&request).is_ok());
    assert_eq!(input[consumed..], [1, 2]);
}
