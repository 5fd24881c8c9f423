//! What clients send and receive, byte for byte, independent of the server's own code: WebSocket frames,
//! requests, and responses.

use std::borrow::Cow;
use std::io::Read;

use flate2::read::GzDecoder;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

/// The key of RFC 6455, section 1.3.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

pub(crate) const CONTINUE: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// The code with which clients leave.
pub(crate) const GOODBYE: u16 = 1000;

/// Appends one masked frame.
pub(crate) fn push_frame(opcode: u8, fin: bool, payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    out.push(if fin { 0x80 } else { 0 } | opcode);
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | u8::try_from(len).unwrap()),
        len @ 126..=0xFFFF => {
            out.push(0x80 | 126);
            out.extend_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// The payload of a Close frame.
pub(crate) fn close_payload(code: u16) -> [u8; 2] {
    code.to_be_bytes()
}

/// The code and the reason of a Close frame; 0 if it has none.
pub(crate) fn close_parts(payload: &[u8]) -> (u16, Cow<'_, str>) {
    let code = payload.first_chunk().map_or(0, |code| u16::from_be_bytes(*code));
    (code, String::from_utf8_lossy(&payload[2.min(payload.len())..]))
}

/// The bit of a frame's first byte that marks a compressed message (RFC 7692 section 6).
pub(crate) const RSV1: u8 = 0x40;

/// The end of the last block of a compressed message, which its frames leave out.
const DEFLATE_TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];

/// Takes one complete frame of the server off the front of `bytes`: its opcode and its payload, inflated if
/// it may be and is compressed. The server never fragments and never masks.
pub(crate) fn take_frame_of(bytes: &mut Vec<u8>, may_be_compressed: bool) -> Option<(u8, Vec<u8>)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    assert_eq!(first & 0xB0, 0x80, "a whole frame without extensions but one");
    let (head, len) = match second {
        0..=125 => (2, usize::from(second)),
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap()))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap())).unwrap()),
        _ => panic!("a server masks nothing"),
    };
    let mut payload = bytes.get(head..head + len)?.to_vec();
    bytes.drain(..head + len);
    let opcode = first & 0x0F;
    if first & RSV1 != 0 {
        assert!(may_be_compressed && opcode < CLOSE, "compression that was not agreed on");
        payload = inflate(&payload);
    }
    Some((opcode, payload))
}

/// The same, for a client without compression.
pub(crate) fn take_frame(bytes: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    take_frame_of(bytes, false)
}

fn inflate(payload: &[u8]) -> Vec<u8> {
    let whole = [payload, &DEFLATE_TAIL].concat();
    let (mut inflate, mut message) = (Decompress::new(false), Vec::with_capacity(1 << 20));
    inflate.decompress_vec(&whole, &mut message, FlushDecompress::Sync).expect("a compressed message");
    assert_eq!(inflate.total_in(), whole.len() as u64, "a compressed message is taken whole");
    message
}

/// The payload of a compressed message.
pub(crate) fn deflate(message: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(message.len() + message.len() / 8 + 64);
    let mut deflate = Compress::new(Compression::default(), false);
    deflate.compress_vec(message, &mut payload, FlushCompress::Sync).expect("room for all");
    assert_eq!(payload.split_off(payload.len() - DEFLATE_TAIL.len()), DEFLATE_TAIL);
    payload
}

/// Whether this is one of the server's own messages, by its `correlation_id`: events may have any type.
pub(crate) fn is_of_server(text: &str) -> bool {
    text.contains(",\"correlation_id\":null,\"timestamp\":")
}

/// A request for a WebSocket.
pub(crate) fn upgrade(target: &str, last_event_id: Option<&str>) -> Vec<u8> {
    upgrade_with(target, &last_event_id.map_or_else(String::new, |id| format!("Last-Event-ID: {id}\r\n")))
}

/// The same, offering `polecat.v1`.
pub(crate) fn upgrade_v1(target: &str) -> Vec<u8> {
    upgrade_with(target, "Sec-WebSocket-Protocol: other, polecat.v1\r\n")
}

fn upgrade_with(target: &str, fields: &str) -> Vec<u8> {
    format!(
        "GET {target} HTTP/1.1\r\nHost: polecat\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{fields}\r\n"
    )
    .into_bytes()
}

/// A request with a body, or without one.
pub(crate) fn request(method: &str, target: &str, correlation_id: &str, fields: &str, body: &str) -> Vec<u8> {
    let length = if method == "POST" { format!("Content-Length: {}\r\n", body.len()) } else { String::new() };
    format!(
        "{method} {target} HTTP/1.1\r\nHost: polecat\r\nX-Correlation-ID: {correlation_id}\r\n\
         {fields}{length}\r\n{body}"
    )
    .into_bytes()
}

/// A response of the server.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) correlation_id: String,
    pub(crate) closes: bool,
    /// Whether a 101 accepts compression.
    pub(crate) has_deflate: bool,
    pub(crate) body: String,
}

/// Takes one complete response off the front of `bytes`; a 100 stays there.
pub(crate) fn take_response(bytes: &mut Vec<u8>, head_only: bool) -> Option<Response> {
    let head_len = bytes.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..head_len]).expect("a head is text");
    let field = |name: &str| {
        head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    let status = head.get(9..12).and_then(|digits| digits.parse().ok()).expect("a status");
    if status == 100 {
        return None;
    }
    let (body, len) = if head_only || status == 101 {
        (Vec::new(), 0)
    } else if field("transfer-encoding").is_some() {
        assert_eq!((field("transfer-encoding"), field("content-length")), (Some("chunked"), None));
        take_chunks(&bytes[head_len..])?
    } else {
        let len = field("content-length").expect("a length").parse().expect("digits");
        (bytes.get(head_len..head_len + len)?.to_vec(), len)
    };
    let body = match field("content-encoding") {
        Some("gzip") if !head_only => {
            let mut plain = Vec::new();
            GzDecoder::new(&body[..]).read_to_end(&mut plain).expect("a body in gzip");
            plain
        }
        _ => body,
    };
    let response = Response {
        status,
        correlation_id: field("x-correlation-id").expect("a correlation id").to_owned(),
        closes: field("connection").is_some_and(|value| value == "close"),
        has_deflate: field("sec-websocket-extensions").is_some_and(|agreed| {
            assert!(agreed.starts_with("permessage-deflate; server_no_context_takeover;"), "{agreed}");
            true
        }),
        body: String::from_utf8(body).expect("a body is text"),
    };
    bytes.drain(..head_len + len);
    Some(response)
}

/// The chunked body at the front of `bytes`, and its length there; `None` if its last chunk is missing.
fn take_chunks(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let digits = bytes[at..].windows(2).position(|end| end == b"\r\n")?;
        let size = std::str::from_utf8(&bytes[at..at + digits]).expect("a size is text");
        let size = usize::from_str_radix(size, 16).expect("a size in hexadecimal digits");
        at += digits + 2;
        let chunk = bytes.get(at..at + size + 2)?;
        assert!(chunk.ends_with(b"\r\n"), "a chunk is as long as it says");
        body.extend_from_slice(&chunk[..size]);
        at += size + 2;
        if size == 0 {
            return Some((body, at));
        }
    }
}
