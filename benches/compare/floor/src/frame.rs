//! The parts of RFC 6455 frames that the floor needs.

use std::ops::Range;

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// A ping without a payload.
pub(crate) const PING_FRAME: [u8; 2] = [0x80 | PING, 0];

/// A complete frame of a client.
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    /// The range of its unmasked payload.
    pub(crate) payload: Range<usize>,
}

/// The frame that begins at `start`, with its payload unmasked in place; nothing if it is incomplete.
pub(crate) fn take(bytes: &mut [u8], start: usize) -> Option<Frame> {
    let head = bytes.get(start..start + 6)?;
    let opcode = head[0] & 0x0f;
    let (len, mask_at) = match head[1] & 0x7f {
        126 => (usize::from(u16::from_be_bytes([head[2], head[3]])), start + 4),
        127 => {
            let len = bytes.get(start + 2..start + 10)?.first_chunk::<8>()?;
            (usize::try_from(u64::from_be_bytes(*len)).ok()?, start + 10)
        }
        len => (usize::from(len), start + 2),
    };
    let mask = *bytes.get(mask_at..mask_at + 4)?.first_chunk::<4>()?;
    let payload = mask_at + 4..(mask_at + 4).checked_add(len)?;
    unmask(bytes.get_mut(payload.clone())?, mask);
    Some(Frame { opcode, payload })
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut chunks = payload.chunks_exact_mut(8);
    for chunk in &mut chunks {
        if let Some(chunk) = chunk.first_chunk_mut::<8>() {
            *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
        }
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= mask;
    }
}

/// The header of a frame from a server, and its length.
pub(crate) fn head(opcode: u8, len: usize) -> ([u8; 10], usize) {
    let mut head = [0; 10];
    head[0] = 0x80 | opcode;
    if let (Ok(short), true) = (u8::try_from(len), len < 126) {
        head[1] = short;
        return (head, 2);
    }
    if let Ok(len) = u16::try_from(len) {
        head[1] = 126;
        head[2..4].copy_from_slice(&len.to_be_bytes());
        return (head, 4);
    }
    head[1] = 127;
    head[2..].copy_from_slice(&(len as u64).to_be_bytes());
    (head, 10)
}
