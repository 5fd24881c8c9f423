//! HTTP/1.1 as a client speaks it: requests out, responses in. What polecat's own
//! clients need, and no more.

use tungstenite::handshake::derive_accept_key;

use super::field::elements;

/// Header fields of a response that are looked at.
const FIELDS_MAX: usize = 64;

/// A whole response, its body delimited by `Content-Length`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply<'b> {
    /// The status code.
    pub status: u16,
    /// The body; empty in a 101.
    pub body: &'b [u8],
    /// `Sec-WebSocket-Accept`, where it is given.
    pub accept: &'b [u8],
    /// `Sec-WebSocket-Protocol`, where it is given.
    pub protocol: &'b [u8],
    /// `Sec-WebSocket-Extensions`, where it is given.
    pub extensions: &'b [u8],
    /// Whether the connection stays open.
    pub keep_alive: bool,
    /// Bytes that the response took.
    pub consumed: usize,
}

/// The response at the front of `input`; `None` where it is not all there.
///
/// # Errors
/// What is no HTTP/1.1 response, or delimits its body in another way than by its length.
pub fn parse(input: &[u8]) -> Result<Option<Reply<'_>>, &'static str> {
    let mut storage = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut storage);
    let head_len = match parsed.parse(input) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err("no HTTP response"),
    };
    let status = parsed.code.ok_or("no HTTP response")?;
    let value = |name: &str| {
        let field = parsed.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        field.map(|field| field.value)
    };
    let is_bodiless = status < 200 || status == 204;
    let len = match value("content-length").map(std::str::from_utf8) {
        _ if is_bodiless => 0,
        Some(Ok(digits)) => digits.trim().parse().map_err(|_| "invalid Content-Length")?,
        _ => return Err("a response without Content-Length"),
    };
    let closes = |value| elements(value).any(|option| option.eq_ignore_ascii_case(b"close"));
    let Some(body) = input[head_len..].get(..len) else { return Ok(None) };
    Ok(Some(Reply {
        status,
        body,
        accept: value("sec-websocket-accept").unwrap_or_default(),
        protocol: value("sec-websocket-protocol").unwrap_or_default(),
        extensions: value("sec-websocket-extensions").unwrap_or_default(),
        keep_alive: !value("connection").is_some_and(closes),
        consumed: head_len + len,
    }))
}

/// Appends a request to open a WebSocket at `target`, with `extra` lines of fields.
pub fn write_upgrade(host: &str, target: &str, key: &str, extra: &str, out: &mut Vec<u8>) {
    for part in [
        "GET ",
        target,
        " HTTP/1.1\r\nHost: ",
        host,
        "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ",
        key,
        "\r\n",
        extra,
        "\r\n",
    ] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// Appends a GET, after whose answer the connection is not used.
pub fn write_get(host: &str, target: &str, out: &mut Vec<u8>) {
    for part in ["GET ", target, " HTTP/1.1\r\nHost: ", host, "\r\nConnection: close\r\n\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// Appends a POST of `body`, which is JSON, with `extra` lines of fields.
pub fn write_post(host: &str, target: &str, extra: &str, body: &[u8], out: &mut Vec<u8>) {
    for part in [
        "POST ",
        target,
        " HTTP/1.1\r\nHost: ",
        host,
        "\r\nContent-Type: application/json\r\nContent-Length: ",
        &body.len().to_string(),
        "\r\n",
        extra,
        "\r\n",
    ] {
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(body);
}

/// What a server must answer to `key` (RFC 6455 section 4.2.2).
#[must_use]
pub fn accept_of(key: &str) -> String {
    derive_accept_key(key.as_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_response_is_read_when_it_is_whole() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: Close\r\n\r\nabcHTTP/1.1";
        let len = bytes.len() - "HTTP/1.1".len();
        for end in 0..len {
            assert_eq!(parse(&bytes[..end]), Ok(None), "{end}");
        }
        let reply = parse(bytes).unwrap().unwrap();
        assert_eq!(
            (reply.status, reply.body, reply.keep_alive, reply.consumed),
            (200, &b"abc"[..], false, len)
        );
    }

    #[test]
    fn what_has_no_length_is_refused() {
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(parse(b"SSH-2.0-x\r\n\r\n").is_err());
        let switching = parse(b"HTTP/1.1 101 Yes\r\nSec-WebSocket-Accept: x\r\n\r\n").unwrap().unwrap();
        assert_eq!((switching.status, switching.accept, switching.body), (101, &b"x"[..], &b""[..]));
    }

    #[test]
    fn the_accept_key_is_that_of_the_rfc() {
        assert_eq!(accept_of("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
