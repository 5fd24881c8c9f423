//! Requests that are too large, with low limits: RFC 9110, sections 15.5.14 and 15.5.15; RFC 6585, section 5.
//! PROTOCOL.md, "13.3 Limits".

use polecat::base::config::Limits;

use super::After::{Closed, Open};
use super::Case;

/// The low limits.
pub(crate) fn allow_little(limits: &mut Limits) {
    limits.target_bytes_max = 20;
    limits.head_bytes_max = 100;
    limits.head_fields_max = 3;
    limits.body_bytes_max = 10;
    limits.chunk_extra_bytes_max = 10;
}

pub(crate) const CASES: &[Case] = &[
    // Targets.
    ("a target of 20 bytes", b"GET /1234567890123456789 HTTP/1.1|Host: a||", &[404], Open),
    ("a target of 21 bytes", b"GET /12345678901234567890 HTTP/1.1|Host: a||", &[414], Closed),
    ("a query of too many bytes", b"GET /api/health?123456789 HTTP/1.1|Host: a||", &[414], Closed),
    ("a query that just fits", b"GET /api/health?1234 HTTP/1.1|Host: a||", &[200], Open),
    ("an absolute target that is too long", b"GET http://a/123456789012 HTTP/1.1|Host: a||", &[414], Closed),
    ("a long target that does not end", b"GET /1234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890", &[414], Closed),
    // Fields.
    ("three fields", b"GET /api/health HTTP/1.1|Host: a|X: b|X: c||", &[200], Open),
    ("four fields", b"GET /api/health HTTP/1.1|Host: a|X: b|X: c|X: d||", &[431], Closed),
    (
        "100 bytes of head",
        b"GET /api/health HTTP/1.1|Host: a|X: 1234567890123456789012345678901234567890123456789012345678||",
        &[200],
        Open,
    ),
    (
        "101 bytes of head",
        b"GET /api/health HTTP/1.1|Host: a|X: 12345678901234567890123456789012345678901234567890123456789||",
        &[431],
        Closed,
    ),
    (
        "a long field that does not end",
        b"GET /api/health HTTP/1.1|Host: a|X: 123456789012345678901234567890123456789012345678901234567890123",
        &[431],
        Closed,
    ),
    // Bodies.
    (
        "trailers that are too long",
        b"GET /api/health HTTP/1.1|Host: a|Transfer-Encoding: chunked||0|X: 90123456789||",
        &[431],
        Closed,
    ),
    ("a body of 10 bytes", b"GET /api/health HTTP/1.1|Host: a|Content-Length: 10||1234567890", &[200], Open),
    ("a body of 11 bytes", b"GET /api/health HTTP/1.1|Host: a|Content-Length: 11||", &[413], Closed),
];
