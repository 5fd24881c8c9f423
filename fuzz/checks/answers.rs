//! Reads everything that a server has sent on one connection: responses, and frames after a 101. It is an
//! independent reader that knows nothing of how they were written.

use polecat::wire::protocol::Sequence;
use serde_json::Value;

use super::frames::Head;

/// Checks the bytes that were sent; `is_whole` says that the server ended the connection by itself.
pub fn check(sent: &[u8], is_whole: bool) {
    let mut rest = sent;
    while !rest.is_empty() {
        let mut storage = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Response::new(&mut storage);
        let head_bytes = match head.parse(rest) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) => return assert!(!is_whole, "a response ends within its head"),
            Err(error) => panic!("{error}: {}", String::from_utf8_lossy(rest)),
        };
        rest = &rest[head_bytes..];
        let values = |name: &str| -> Vec<&str> {
            let named = head.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
            named.map(|field| std::str::from_utf8(field.value).unwrap_or("?")).collect()
        };
        match head.code {
            Some(100) => continue,
            Some(101) => {
                assert_eq!(values("sec-websocket-accept").len(), 1);
                return check_frames(rest, is_whole, values("sec-websocket-protocol") == ["polecat.v1"]);
            }
            Some(200..=599) => {}
            other => panic!("a response with the status {other:?}"),
        }
        assert_eq!(values("date").len(), 1);
        let is_chunked = match (&values("transfer-encoding")[..], &values("content-length")[..]) {
            (["chunked"], []) => true,
            ([], _) => false,
            other => panic!("how long is the body? {other:?}"),
        };
        if is_chunked {
            rest = after_chunks(rest, is_whole);
            continue;
        }
        let length = match values("content-length")[..] {
            [] => 0,
            [length] => length.parse::<usize>().unwrap_or(usize::MAX),
            _ => panic!("two lengths"),
        };
        rest = match values("connection")[..] {
            ["close"] => {
                let is_bodiless = rest.is_empty();
                let is_right = is_bodiless || rest.len() == length || (rest.len() < length && !is_whole);
                assert!(is_right, "{length} bytes last, but: {}", String::from_utf8_lossy(sent));
                return;
            }
            ["keep-alive"] | ["Upgrade"] => after_body(rest, length, is_whole),
            ref other => panic!("connection: {other:?}"),
        };
    }
}

/// The bytes after a chunked body, which is JSON, or is left out in a response to HEAD.
fn after_chunks(sent: &[u8], is_whole: bool) -> &[u8] {
    if sent.starts_with(b"HTTP/1.1 ") {
        return sent;
    }
    let (mut rest, mut body) = (sent, Vec::new());
    loop {
        let line = rest.windows(2).position(|end| end == b"\r\n").map(|len| rest.split_at(len));
        let chunk = line.and_then(|(digits, behind)| {
            let digits = std::str::from_utf8(digits).unwrap_or("?");
            let len = usize::from_str_radix(digits, 16).unwrap_or_else(|error| panic!("{digits:?}: {error}"));
            Some((behind[2..].split_at_checked(len)?, len))
        });
        let Some(((data, behind), len)) = chunk.filter(|((_, behind), _)| behind.len() >= 2) else {
            assert!(!is_whole || sent.is_empty(), "a body in chunks is cut off");
            return &[];
        };
        assert!(behind.starts_with(b"\r\n"), "a chunk is not as long as it says");
        body.extend_from_slice(data);
        rest = &behind[2..];
        if len == 0 {
            let is_json = serde_json::from_slice::<Value>(&body).is_ok();
            assert!(is_json, "no JSON: {}", String::from_utf8_lossy(&body));
            return rest;
        }
    }
}

/// The bytes after a body, which is JSON, or is left out in a response to HEAD.
fn after_body(rest: &[u8], length: usize, is_whole: bool) -> &[u8] {
    if rest.starts_with(b"HTTP/1.1 ") {
        return rest;
    }
    let Some((body, behind)) = rest.split_at_checked(length) else {
        assert!(!is_whole || rest.is_empty(), "a body is cut off");
        return &[];
    };
    let is_json = serde_json::from_slice::<Value>(body).is_ok();
    assert!(is_json || body.is_empty() || body == b"OK", "no JSON: {}", String::from_utf8_lossy(body));
    behind
}

fn check_frames(mut rest: &[u8], is_whole: bool, is_v1: bool) {
    let mut newest = None;
    while !rest.is_empty() {
        let Some(head) = Head::read(rest) else { return assert!(!is_whole, "a head is cut off") };
        assert!(head.fin && head.reserved == 0 && head.mask.is_none() && !head.is_long, "{head:?}");
        let len = usize::try_from(head.payload_bytes).unwrap_or(usize::MAX);
        let Some((payload, behind)) = rest[head.head_bytes..].split_at_checked(len) else {
            return assert!(!is_whole, "a frame is cut off");
        };
        rest = behind;
        match head.opcode {
            1 => check_text(payload, &mut newest, is_v1),
            2 => {}
            8 => {
                assert!(len != 1 && len <= 125);
                assert!(rest.is_empty(), "something follows a Close");
            }
            9 | 10 => assert!(len <= 125),
            other => panic!("opcode {other}"),
        }
    }
}

/// Messages come in the order of their ids, each once.
fn check_text(payload: &[u8], newest: &mut Option<u64>, is_v1: bool) {
    let text = std::str::from_utf8(payload).unwrap_or_else(|error| panic!("{error}"));
    // An echo is whatever the client sent, and may look like a message.
    let Some(text) = text.strip_prefix("{\"type\":\"message\",\"data\":{\"id\":") else {
        assert!(!is_v1 || text.starts_with("{\"type\":"), "an envelope: {text}");
        return;
    };
    let id = text.split(',').next().and_then(|id| id.parse::<u64>().ok());
    let said = text.rsplit('"').nth(1).and_then(|id| Sequence::Messages.parse(id));
    assert_eq!(id, said);
    assert!(id > *newest, "{id:?} comes after {newest:?}");
    *newest = id;
}
