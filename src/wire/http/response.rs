//! Responses, as bytes.
//!
//! Data from a request cannot split or extend a response: fields whose name is not a token, or whose value
//! has a control character, are not written.

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

use super::field::{is_text, is_token};
use super::status::Status;

#[derive(Debug, Clone, Copy)]
pub struct Response<'a> {
    pub status: Status,
    /// The media type of the body; empty for none.
    pub content_type: &'a str,
    /// The body, even if `head_only` suppresses it.
    pub body: &'a [u8],
    /// More fields, by name and value; a `Connection` among them replaces `keep-alive`. A field whose value
    /// has control characters is left out.
    pub extra: &'a [(&'a str, &'a str)],
    pub keep_alive: bool,
    /// Whether this answers a HEAD: everything except the body is written.
    pub head_only: bool,
}

/// How the end of a body is marked (RFC 9112 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyEnd {
    /// By this number of bytes.
    Length(usize),
    /// By chunks, the last of which is empty: see [`write_chunk`].
    Chunked,
    /// By the end of the connection, which is then not kept.
    Close,
}

#[derive(Debug, Clone, Copy)]
pub struct ResponseHead<'a> {
    pub status: Status,
    /// The media type of the body; empty for none.
    pub content_type: &'a str,
    pub end: BodyEnd,
    pub extra: &'a [(&'a str, &'a str)],
    pub keep_alive: bool,
}

impl Response<'_> {
    /// Appends the response to `out`. `date` comes from [`http_date`].
    pub fn write(&self, date: &str, out: &mut Vec<u8>) {
        let &Self { status, content_type, body, extra, keep_alive, head_only } = self;
        let end = BodyEnd::Length(body.len());
        ResponseHead { status, content_type, end, extra, keep_alive }.write(date, body.len(), out);
        if !head_only && !status.is_bodiless() {
            out.extend_from_slice(body);
        }
    }
}

impl ResponseHead<'_> {
    /// Appends the head to `out`, with room for this many bytes behind it. `date` comes from [`http_date`].
    pub fn write(&self, date: &str, room: usize, out: &mut Vec<u8>) {
        let extra_len: usize = self.extra.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        out.reserve(192 + self.content_type.len() + extra_len + room);
        push_status(self.status, out);
        push_field("Date", date, out);
        // Written even if it is the default, since HTTP/1.0 would take its absence for `close`.
        if !self.keep_alive || self.end == BodyEnd::Close {
            out.extend_from_slice(b"Connection: close\r\n");
        } else if !self.extra.iter().any(|(name, _)| name.eq_ignore_ascii_case("connection")) {
            out.extend_from_slice(b"Connection: keep-alive\r\n");
        }
        if !self.status.is_bodiless() {
            if !self.content_type.is_empty() {
                push_field("Content-Type", self.content_type, out);
            }
            match self.end {
                BodyEnd::Length(len) => {
                    out.extend_from_slice(b"Content-Length: ");
                    push_decimal(len as u64, 1, out);
                    out.extend_from_slice(b"\r\n");
                }
                BodyEnd::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
                BodyEnd::Close => {}
            }
        }
        push_fields(self.extra, out);
        out.extend_from_slice(b"\r\n");
    }
}

/// The end of a chunked body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Appends one chunk of a body; nothing if it is empty, since an empty chunk would be the last.
pub fn write_chunk(bytes: &[u8], out: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    out.reserve(bytes.len() + 20);
    out.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Appends the interim response that asks for the body (RFC 9110 section 15.2.1).
pub fn write_continue(out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
}

/// The time in the format of the `Date` field, IMF-fixdate (RFC 9110 section 5.6.7). `unix_micros` counts
/// from 1970 in UTC; a time that has no such date becomes 1970.
pub fn http_date(unix_micros: i64) -> String {
    Timestamp::from_microsecond(unix_micros)
        .and_then(|time| DateTimePrinter::new().timestamp_to_rfc9110_string(&time))
        .unwrap_or_else(|_| "Thu, 01 Jan 1970 00:00:00 GMT".to_owned())
}

pub(crate) fn push_status(status: Status, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    push_decimal(u64::from(status.code()), 3, out);
    out.push(b' ');
    out.extend_from_slice(status.reason().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends the legal ones of the fields; the caller must pass only legal ones.
pub(crate) fn push_fields(fields: &[(&str, &str)], out: &mut Vec<u8>) {
    for (name, value) in fields {
        let written = push_field(name, value, out);
        debug_assert!(written, "field {name:?} can't have the value {value:?}");
    }
}

/// Appends a field if it is legal; returns whether it is.
pub(crate) fn push_field(name: &str, value: &str, out: &mut Vec<u8>) -> bool {
    let legal = is_token(name.as_bytes()) && is_text(value.as_bytes());
    if legal {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    legal
}

/// Appends a number in decimal digits, `digits_min` or more.
pub(crate) fn push_decimal(mut number: u64, digits_min: usize, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 10] = b"0123456789";
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    while number > 0 {
        at -= 1;
        digits[at] = DIGITS[(number % 10) as usize];
        number /= 10;
    }
    out.extend_from_slice(&digits[at.min(digits.len() - digits_min)..]);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const DATE: &str = "Mon, 05 Jan 2026 09:30:00 GMT";

    fn response(status: Status) -> Response<'static> {
        Response {
            status,
            content_type: "application/json",
            body: b"{\"status\":\"ok\"}",
            extra: &[("X-Correlation-ID", "abc")],
            keep_alive: true,
            head_only: false,
        }
    }

    fn written(response: &Response<'_>) -> String {
        let mut out = Vec::new();
        response.write(DATE, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_response_says_how_long_it_is() {
        assert_eq!(
            written(&response(Status::OK)),
            "HTTP/1.1 200 OK\r\nDate: Mon, 05 Jan 2026 09:30:00 GMT\r\nConnection: keep-alive\r\n\
             Content-Type: application/json\r\nContent-Length: 15\r\nX-Correlation-ID: abc\r\n\r\n\
             {\"status\":\"ok\"}"
        );
    }

    #[test]
    fn head_gets_the_length_that_get_would_have() {
        let head = written(&Response { head_only: true, keep_alive: false, ..response(Status::NOT_FOUND) });
        assert!(head.starts_with("HTTP/1.1 404 Not Found\r\n"));
        assert!(head.contains("\r\nContent-Length: 15\r\n"));
        assert!(head.contains("\r\nConnection: close\r\n"));
        assert!(head.ends_with("\r\n\r\n"));
    }

    #[test]
    fn an_informational_response_has_neither_body_nor_length() {
        let text = written(&response(Status::SWITCHING_PROTOCOLS));
        assert!(!text.contains("Content-") && text.ends_with("abc\r\n\r\n"), "{text}");
    }

    #[test]
    fn a_body_whose_length_is_not_known_is_chunked_or_ends_with_the_connection() {
        let written = |end| {
            let head =
                ResponseHead { status: Status::OK, content_type: "", end, extra: &[], keep_alive: true };
            let mut out = Vec::new();
            head.write(DATE, 0, &mut out);
            String::from_utf8(out).unwrap().split_once("GMT\r\n").unwrap().1.to_owned()
        };
        assert_eq!(written(BodyEnd::Chunked), "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(written(BodyEnd::Close), "Connection: close\r\n\r\n");
        let mut out = Vec::new();
        write_chunk(b"", &mut out);
        write_chunk(&[b'x'; 26], &mut out);
        out.extend_from_slice(LAST_CHUNK);
        assert_eq!(out, format!("1a\r\n{}\r\n0\r\n\r\n", "x".repeat(26)).into_bytes());
    }

    #[test]
    fn an_empty_body_has_length_zero_and_no_type() {
        let text = written(&Response { body: b"", content_type: "", ..response(Status::OK) });
        assert!(text.contains("\r\nContent-Length: 0\r\n") && !text.contains("Content-Type"), "{text}");
    }

    #[test]
    fn a_field_can_not_split_a_response() {
        let mut out = Vec::new();
        for (name, value) in [
            ("A", "x\r\nSet-Cookie: y"),
            ("A", "x\n"),
            ("A", "\rx"),
            ("A", "x\0"),
            ("A", "\x7f"),
            ("A\r\nB", "x"),
            ("A ", "x"),
            ("", "x"),
        ] {
            assert!(!push_field(name, value, &mut out), "{name:?} {value:?}");
        }
        assert!(out.is_empty());
        assert!(push_field("A", "x\tÿ", &mut out));
    }

    #[test]
    fn dates() {
        assert_eq!(http_date(1_767_605_400_123_456), DATE);
        assert_eq!(http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(http_date(784_111_777_000_000), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(http_date(i64::MAX), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(http_date(i64::MIN), "Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn decimals() {
        for number in [0, 9, 10, 1_048_576, u64::MAX] {
            let mut out = Vec::new();
            push_decimal(number, 1, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }
}
