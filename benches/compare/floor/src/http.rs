//! The parts of requests that the floor needs, and two responses.

use std::ops::Range;

use memchr::memmem;
use sha1::{Digest as _, Sha1};

/// As long as polecat's response to a message of 128 bytes.
pub(crate) const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nDate: Wed, 01 Jan 2025 00:00:00 GMT\r\n\
    Connection: keep-alive\r\nContent-Type: application/json\r\nContent-Length: 312\r\n\
    X-Correlation-ID: 00000000-0000-4000-8000-000000000000\r\n\r\n\
    {\"success\":true,\"message\":{\"id\":100000,\"channel_id\":\"bench\",\"author\":\"load\",\"content\":\"\
    0000000000000000000000000000000000000000000000000000000000000000\
    0000000000000000000000000000000000000000000000000000000000000000\
    \",\"timestamp\":\"2025-01-01T00:00:00.000000+00:00\",\"lane\":null,\"provider\":null,\"token_count\":null}}";

const ACCEPTED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ";

const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A complete request.
pub(crate) enum Request {
    /// A handshake, with its key, for the channel or for echoes.
    Upgrade { key: [u8; 24], joins: bool },
    /// Anything else, with its body.
    Plain { body: Range<usize> },
}

/// The request that begins at `start`, and its end; nothing if it is incomplete.
pub(crate) fn take(bytes: &[u8], start: usize) -> Option<(Request, usize)> {
    let rest = bytes.get(start..)?;
    let head_len = memmem::find(rest, b"\r\n\r\n")? + 4;
    let head = &rest[..head_len];
    if head.starts_with(b"GET") {
        let key = field(head, b"ec-websocket-key:")?;
        let key = *key.first_chunk::<24>()?;
        return Some((Request::Upgrade { key, joins: head.starts_with(b"GET /api/ws/") }, start + head_len));
    }
    let len = field(head, b"ontent-length:").map_or(0, |value| {
        value
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .fold(0, |len, byte| len * 10 + usize::from(byte - b'0'))
    });
    let end = start + head_len + len;
    (end <= bytes.len()).then_some((Request::Plain { body: start + head_len..end }, end))
}

/// The value of a field. The name is given in lower case and without its first letter.
fn field<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    for place in memchr::memchr_iter(b'\n', head) {
        let Some(line) = head.get(place + 2..) else { continue };
        if line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name) {
            return Some(line[name.len()..].trim_ascii_start());
        }
    }
    None
}

/// Writes the response to a handshake.
pub(crate) fn accept(key: &[u8; 24], out: &mut Vec<u8>) {
    let digest = Sha1::new().chain_update(key).chain_update(MAGIC).finalize();
    out.extend_from_slice(ACCEPTED);
    base64(&digest, out);
    out.extend_from_slice(b"\r\n\r\n");
}

fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let at = |place: usize| u32::from(chunk.get(place).copied().unwrap_or_default());
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place) & 63) as usize];
            out.push(if place > chunk.len() { b'=' } else { letter });
        }
    }
}
