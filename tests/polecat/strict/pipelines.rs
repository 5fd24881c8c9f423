//! Pipelined requests: RFC 9112, sections 9.3 and 11.2. Bytes after a request are a request if its end is
//! certain, and ignored if it is not. PROTOCOL.md, "12. HTTP rules".

use super::After::{Closed, Open, Upgraded};
use super::Case;

pub(crate) const CASES: &[Case] = &[
    ("two", b"GET /api/health HTTP/1.1|Host: a||GET /nothing HTTP/1.1|Host: a||", &[200, 404], Open),
    ("two with an empty line between", b"GET /api/health HTTP/1.1|Host: a|||GET /nothing HTTP/1.1|Host: a||", &[200, 404], Open),
    ("HEAD and GET", b"HEAD /api/channels HTTP/1.1|Host: a||GET /nothing HTTP/1.1|Host: a||", &[200, 404], Open),
    ("one that waits and one that does not", b"GET /api/summary HTTP/1.1|Host: a||GET /nothing HTTP/1.1|Host: a||", &[200, 404], Open),
    ("a body and another", b"POST /api/messages HTTP/1.1|Host: a|Content-Length: 2||{}GET /nothing HTTP/1.1|Host: a||", &[422, 404], Open),
    ("chunks and another", b"POST /api/messages HTTP/1.1|Host: a|Transfer-Encoding: chunked||2|{}|0|X: y||GET /nothing HTTP/1.1|Host: a||", &[422, 404], Open),
    ("a body of GET and another", b"GET /api/health HTTP/1.1|Host: a|Content-Length: 3||GETGET /nothing HTTP/1.1|Host: a||", &[200, 404], Open),
    ("a request within a body", b"POST /nothing HTTP/1.1|Host: a|Content-Length: 28||GET /b HTTP/1.1|Host: a||PUT /api/health HTTP/1.1|Host: a||", &[404, 405], Open),
    ("stored and refused", b"POST /api/messages HTTP/1.1|Host: a|Content-Length: 45||{\"channel_id\":\"c\",\"author\":\"a\",\"content\":\"x\"}nonsense||", &[200, 400], Closed),
    ("stored twice", b"POST /api/events HTTP/1.1|Host: a|Content-Length: 12||{\"type\":\"t\"}POST /api/events HTTP/1.1|Host: a|Content-Length: 12||{\"type\":\"t\"}", &[200, 200], Open),
    ("good and bad", b"GET /api/health HTTP/1.1|Host: a||GET /api/health HTTP/1.1||", &[200, 400], Closed),
    ("bad and good", b"GET /api/health HTTP/1.1||GET /api/health HTTP/1.1|Host: a||", &[400], Closed),
    ("a folded field and good", b"GET /api/health HTTP/1.1|Host: a|X: y| z||GET /api/health HTTP/1.1|Host: a||", &[400], Closed),
    ("both lengths and what would follow", b"POST /api/messages HTTP/1.1|Host: a|Content-Length: 4|Transfer-Encoding: chunked||0||GET /api/health HTTP/1.1|Host: a||", &[400], Closed),
    ("a bad chunk and what would follow", b"POST /api/messages HTTP/1.1|Host: a|Transfer-Encoding: chunked||1|xx|0||GET /api/health HTTP/1.1|Host: a||", &[400], Closed),
    ("close and another", b"GET /api/health HTTP/1.1|Host: a|Connection: close||GET /api/health HTTP/1.1|Host: a||", &[200], Closed),
    ("HTTP/1.0 and another", b"GET /api/health HTTP/1.0||GET /api/health HTTP/1.1|Host: a||", &[200], Closed),
    ("another and close", b"GET /nothing HTTP/1.1|Host: a||GET /api/health HTTP/1.1|Host: a|Connection: close||", &[404, 200], Closed),
    ("a request and a handshake", b"GET /api/health HTTP/1.1|Host: a||GET /ws HTTP/1.1|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||", &[200, 101], Upgraded),
    ("a handshake refused and one not", b"GET /ws HTTP/1.1|Host: a||GET /ws HTTP/1.1|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||", &[426, 101], Upgraded),
];
