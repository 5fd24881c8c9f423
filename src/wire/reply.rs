//! HTTP/1.1 from the client's side: requests out, responses in. It has only what polecat's own clients need.

use std::borrow::Cow;
use std::fmt::Arguments;
use std::io::Write as _;

use tungstenite::handshake::derive_accept_key;

use super::http::field::elements;

/// The most header fields of a response.
const FIELDS_MAX: usize = 64;

/// A complete response. Its body is delimited by `Content-Length` or is chunked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply<'b> {
    pub status: u16,
    /// The body; empty in a 101.
    pub body: Cow<'b, [u8]>,
    /// `Sec-WebSocket-Accept`, if given.
    pub accept: &'b [u8],
    /// `Sec-WebSocket-Protocol`, if given.
    pub protocol: &'b [u8],
    /// `Sec-WebSocket-Extensions`, if given.
    pub extensions: &'b [u8],
    /// Whether `Upgrade` names `websocket`.
    is_websocket: bool,
    /// Whether `Connection` names `upgrade`.
    is_upgrade: bool,
    pub keep_alive: bool,
    /// Bytes that the response took, including interim ones (1xx) before it.
    pub consumed: usize,
}

#[derive(Debug, Clone, Copy)]
pub struct Offer<'a> {
    /// The value that the server must derive from the key: see [`accept_of`].
    pub accept: &'a str,
    /// The subprotocol that was offered; empty for none.
    pub protocol: &'a str,
    pub deflate: bool,
}

impl Reply<'_> {
    /// Checks that this 101 opens the WebSocket that was requested (RFC 6455 section 4.1).
    ///
    /// # Errors
    /// What is wrong with it. A server does not have to accept what was offered.
    pub fn check_switching(&self, offer: Offer<'_>) -> Result<(), &'static str> {
        let may_extend = offer.deflate && self.extensions.starts_with(b"permessage-deflate");
        if !self.is_websocket {
            Err("101 without Upgrade: websocket")
        } else if !self.is_upgrade {
            Err("101 without Connection: Upgrade")
        } else if self.accept != offer.accept.as_bytes() {
            Err("wrong Sec-WebSocket-Accept")
        } else if !self.protocol.is_empty() && self.protocol != offer.protocol.as_bytes() {
            Err("a subprotocol that was not offered")
        } else if !self.extensions.is_empty() && !may_extend {
            Err("an extension that was not offered")
        } else {
            Ok(())
        }
    }
}

/// The response at the front of `input`; `None` if it is incomplete.
///
/// # Errors
/// If it is not an HTTP/1.1 response, or its body is neither delimited by its length nor chunked.
pub fn parse(input: &[u8]) -> Result<Option<Reply<'_>>, &'static str> {
    let mut start = 0;
    loop {
        match parse_one(&input[start..])? {
            // An interim response (RFC 9110 section 15.2): the final one follows.
            Some(reply) if (100..200).contains(&reply.status) && reply.status != 101 => {
                start += reply.consumed;
            }
            Some(reply) => return Ok(Some(Reply { consumed: start + reply.consumed, ..reply })),
            None => return Ok(None),
        }
    }
}

fn parse_one(input: &[u8]) -> Result<Option<Reply<'_>>, &'static str> {
    let mut storage = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut storage);
    let head_len = match parsed.parse(input) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err("no HTTP response"),
    };
    let status = parsed.code.ok_or("no HTTP response")?;
    let fields = &*parsed.headers;
    let names = |name, token: &[u8]| {
        let mut values = values(fields, name).flat_map(elements);
        values.any(|option| option.eq_ignore_ascii_case(token))
    };
    let rest = &input[head_len..];
    let body = match values(fields, "transfer-encoding").next() {
        _ if status < 200 || status == 204 => Some((Cow::Borrowed(&rest[..0]), 0)),
        Some(coding) if coding.eq_ignore_ascii_case(b"chunked") => join_chunks(rest)?,
        Some(_) => return Err("a transfer coding other than chunked"),
        None => {
            let len = values(fields, "content-length").next().map(std::str::from_utf8);
            let Some(Ok(digits)) = len else { return Err("a response without Content-Length") };
            let len = digits.trim().parse().map_err(|_| "invalid Content-Length")?;
            rest.get(..len).map(|body| (Cow::Borrowed(body), len))
        }
    };
    let Some((body, body_len)) = body else { return Ok(None) };
    Ok(Some(Reply {
        status,
        body,
        accept: only(fields, "sec-websocket-accept").ok_or("Sec-WebSocket-Accept twice")?,
        protocol: only(fields, "sec-websocket-protocol").ok_or("Sec-WebSocket-Protocol twice")?,
        extensions: only(fields, "sec-websocket-extensions").ok_or("Sec-WebSocket-Extensions twice")?,
        is_websocket: names("upgrade", b"websocket"),
        is_upgrade: names("connection", b"upgrade"),
        keep_alive: !names("connection", b"close"),
        consumed: head_len + body_len,
    }))
}

/// A body, and the bytes that it took.
type Delimited<'b> = (Cow<'b, [u8]>, usize);

fn values<'f, 'b>(
    fields: &'f [httparse::Header<'b>],
    name: &'f str,
) -> impl Iterator<Item = &'b [u8]> + use<'f, 'b> {
    fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}

/// The value of a field that must not be repeated; empty if it is absent, `None` if it is repeated.
fn only<'b>(fields: &[httparse::Header<'b>], name: &str) -> Option<&'b [u8]> {
    let mut values = values(fields, name);
    let value = values.next().unwrap_or_default();
    values.next().is_none().then_some(value)
}

/// The data of all chunks at the front of `bytes` (RFC 9112 section 7.1); `None` if the last chunk is
/// missing. A declared size reserves no memory.
fn join_chunks(bytes: &[u8]) -> Result<Option<Delimited<'_>>, &'static str> {
    const WRONG: &str = "invalid chunks";
    let mut parts = Vec::new();
    let mut at = 0;
    loop {
        let rest = &bytes[at..];
        let (line_len, size) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete(line)) => line,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(WRONG),
        };
        at += line_len;
        if size == 0 {
            break;
        }
        let size = usize::try_from(size).map_err(|_| WRONG)?;
        let end = at.checked_add(size).ok_or(WRONG)?;
        let Some(data) = bytes.get(at..end) else { return Ok(None) };
        match &bytes[end..] {
            [b'\r', b'\n', ..] => {}
            [] | [b'\r'] => return Ok(None),
            _ => return Err(WRONG),
        }
        parts.push(data);
        at = end + 2;
    }
    match httparse::parse_headers(&bytes[at..], &mut [httparse::EMPTY_HEADER; FIELDS_MAX]) {
        Ok(httparse::Status::Complete((trailers_len, _))) => at += trailers_len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(WRONG),
    }
    let body = match *parts {
        [only] => Cow::Borrowed(only),
        _ => Cow::Owned(parts.concat()),
    };
    Ok(Some((body, at)))
}

/// Appends a request to open a WebSocket at `target`, with `extra` lines of fields.
pub fn write_upgrade(host: &str, target: &str, key: &str, extra: &str, out: &mut Vec<u8>) {
    push(
        out,
        format_args!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        ),
    );
    push(out, format_args!("Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{extra}\r\n"));
}

/// Appends a GET. The connection is not used again after its response.
pub fn write_get(host: &str, target: &str, out: &mut Vec<u8>) {
    push(out, format_args!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
}

/// Appends a POST of `body`, which is JSON, with `extra` lines of fields.
pub fn write_post(host: &str, target: &str, extra: &str, body: &[u8], out: &mut Vec<u8>) {
    let len = body.len();
    push(out, format_args!("POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"));
    push(out, format_args!("Content-Length: {len}\r\n{extra}\r\n"));
    out.extend_from_slice(body);
}

fn push(out: &mut Vec<u8>, text: Arguments<'_>) {
    // A vector takes every write.
    let _ = out.write_fmt(text);
}

/// What a server must answer to `key` (RFC 6455 section 4.2.2).
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
            (reply.status, &*reply.body, reply.keep_alive, reply.consumed),
            (200, &b"abc"[..], false, len)
        );
    }

    #[test]
    fn a_body_in_chunks_is_joined_when_its_last_is_there() {
        for (body, joined) in [
            ("3\r\nabc\r\n0\r\n\r\n", "abc"),
            ("1\r\na\r\n2;x=y\r\nbc\r\n000\r\nA: b\r\n\r\n", "abc"),
            ("0\r\n\r\n", ""),
        ] {
            let head = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n";
            let whole = format!("{head}{body}");
            let bytes = format!("{whole}HTTP/1.1").into_bytes();
            for end in 0..whole.len() {
                assert_eq!(parse(&bytes[..end]), Ok(None), "{body:?} {end}");
            }
            let reply = parse(&bytes).unwrap().unwrap();
            assert_eq!((reply.status, &*reply.body, reply.consumed), (200, joined.as_bytes(), whole.len()));
        }
        for body in
            ["x\r\n", "1\r\nabc", "fffffffffffffffff\r\n", "ffffffffffffffff\r\nab", "0\r\n b\r\n\r\n"]
        {
            let bytes = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
            assert_eq!(parse(bytes.as_bytes()), Err("invalid chunks"), "{body:?}");
        }
    }

    #[test]
    fn what_has_no_length_is_refused() {
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n").is_err());
        assert!(parse(b"SSH-2.0-x\r\n\r\n").is_err());
        let switching = parse(b"HTTP/1.1 101 Yes\r\nSec-WebSocket-Accept: x\r\n\r\n").unwrap().unwrap();
        assert_eq!((switching.status, switching.accept, &*switching.body), (101, &b"x"[..], &b""[..]));
    }

    #[test]
    fn what_is_said_of_the_front_holds_for_the_whole() {
        let texts = [
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a\r\nab\r\n0\r\nX: y\r\n\r\n",
            "HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n",
            "HTTP/1.1 404 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nabHTTP/1.1",
        ];
        for seed in 0..3_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut bytes = random.choice(texts).unwrap_or_default().as_bytes().to_vec();
            for _ in 0..random.usize(..4) {
                let place = random.usize(..bytes.len());
                bytes[place] = *random.choice(b"\r\n0f; :,x\0\xff").unwrap_or(&0);
            }
            let whole = parse(&bytes);
            for end in 0..bytes.len() {
                let front = parse(&bytes[..end]);
                assert!(
                    front == Ok(None) || front == whole,
                    "seed {seed}, {end} bytes: {front:?}, {whole:?}"
                );
            }
        }
    }

    #[test]
    fn the_accept_key_is_that_of_the_rfc() {
        assert_eq!(accept_of("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
