//! Frame headers: decided as soon as the bytes decide them, never differently afterwards, and in agreement
//! with a second reader and tungstenite's `FrameSocket`. Frames that are written can be read back.
//!
//! Input: a stream of frames.

use std::io::Cursor;

use polecat::wire::websocket::codec::{
    CONTROL_BYTES_MAX, CloseCode, FrameHead, OpCode, Sender, frame, may_be_in_close, parse_head, unmask,
    write_close, write_frame,
};
use tungstenite::protocol::frame::FrameSocket;

/// The longest header of a frame from a client.
const HEAD_BYTES_MAX: usize = 14;

/// Runs the check.
pub fn check(data: &[u8]) {
    let mut rest = data;
    while let Some(head) = check_head(rest) {
        let mut bytes = rest[head.head_bytes..].to_vec();
        let len = usize::try_from(head.payload_bytes).unwrap_or(usize::MAX).min(bytes.len());
        bytes.truncate(len);
        check_unmask(&bytes, head.mask);
        unmask(&mut bytes, head.mask, 0);
        let is_whole = len as u64 == head.payload_bytes;
        if is_whole {
            check_theirs(&rest[..head.head_bytes + len], &head, &bytes);
        }
        if is_whole || !head.opcode.is_control() {
            check_written(head.opcode, &bytes);
        }
        rest = &rest[head.head_bytes + len..];
    }
    check_close(data);
}

/// A frame header as RFC 6455 section 5.2 lays it out, whether or not it is legal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Whether the frame is the last of its message.
    pub fin: bool,
    /// The three reserved bits.
    pub reserved: u8,
    /// The four bits of the opcode.
    pub opcode: u8,
    /// The mask, if there is one.
    pub mask: Option<[u8; 4]>,
    /// The declared length.
    pub payload_bytes: u64,
    /// Whether the length could have been written in fewer bytes.
    pub is_long: bool,
    /// Bytes of the header.
    pub head_bytes: usize,
}

impl Head {
    /// Reads a header; `None` if it is incomplete.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (&[first, second], rest) = bytes.split_first_chunk()?;
        let (payload_bytes, least, extended) = match second & 0x7F {
            126 => (u64::from(u16::from_be_bytes(*rest.first_chunk()?)), 126, 2),
            127 => (u64::from_be_bytes(*rest.first_chunk()?), 0x1_0000, 8),
            len => (u64::from(len), 0, 0),
        };
        let is_masked = second & 0x80 != 0;
        let mask = if is_masked { Some(*rest.get(extended..)?.first_chunk()?) } else { None };
        Some(Self {
            fin: first & 0x80 != 0,
            reserved: first & 0x70,
            opcode: first & 0x0F,
            mask,
            payload_bytes,
            is_long: payload_bytes < least,
            head_bytes: 2 + extended + if is_masked { 4 } else { 0 },
        })
    }

    /// Whether a client may send it.
    fn is_legal(&self) -> bool {
        let is_control = self.opcode >= 8;
        self.reserved == 0
            && matches!(self.opcode, 0..=2 | 8..=10)
            && self.mask.is_some()
            && !self.is_long
            && self.payload_bytes >> 63 == 0
            && (!is_control || (self.fin && self.payload_bytes <= CONTROL_BYTES_MAX as u64))
    }
}

/// Parses a header from its first byte on, adding one byte at a time.
fn check_head(bytes: &[u8]) -> Option<FrameHead> {
    let mut decided = None;
    for len in 0..=bytes.len().min(HEAD_BYTES_MAX) {
        let now = parse_head(&bytes[..len], Sender::Client, false);
        match decided {
            Some(decided) => assert_eq!(now, decided, "it was something else a byte before"),
            None if now != Ok(None) => decided = Some(now),
            None => {}
        }
    }
    let whole = parse_head(bytes, Sender::Client, false);
    assert_eq!(whole, decided.unwrap_or(Ok(None)));
    let head = match (whole, Head::read(bytes)) {
        (Ok(Some(head)), Some(model)) => {
            assert!(model.is_legal(), "{head:?} is not legal");
            let opcode = match head.opcode {
                OpCode::Continue => 0,
                OpCode::Text => 1,
                OpCode::Binary => 2,
                OpCode::Close => 8,
                OpCode::Ping => 9,
                OpCode::Pong => 10,
            };
            assert_eq!(
                (head.fin, opcode, Some(head.mask), head.payload_bytes, head.head_bytes),
                (model.fin, model.opcode, model.mask, model.payload_bytes, model.head_bytes)
            );
            head
        }
        (Ok(None), None) => return None,
        (Err(_), model) => {
            assert!(model.is_none_or(|model| !model.is_legal()), "{model:?} is legal");
            return None;
        }
        (ours, model) => panic!("{ours:?} but {model:?}"),
    };
    Some(head)
}

/// Unmasking in two parts has the same result as in one.
fn check_unmask(payload: &[u8], mask: [u8; 4]) {
    let model: Vec<u8> = payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    for cut in [0, payload.len() / 3, payload.len() / 2, payload.len()] {
        let mut bytes = payload.to_vec();
        let (front, back) = bytes.split_at_mut(cut);
        unmask(front, mask, 0);
        unmask(back, mask, cut);
        assert_eq!(bytes, model);
    }
}

/// tungstenite finds the same frame in the same bytes.
fn check_theirs(sent: &[u8], head: &FrameHead, payload: &[u8]) {
    let mut socket = FrameSocket::new(Cursor::new(sent));
    let Ok(Some(theirs)) = socket.read(None) else { panic!("tungstenite finds no frame in {head:?}") };
    assert_eq!(theirs.header().is_final, head.fin);
    assert_eq!(theirs.header().mask, Some(head.mask));
    let mut bytes = theirs.payload().to_vec();
    unmask(&mut bytes, head.mask, 0);
    assert_eq!(bytes, payload);
    assert!(matches!(socket.read(None), Ok(None)), "the frame ends where ours does");
}

/// A frame of ours is complete, unmasked, and has the right payload.
fn check_written(opcode: OpCode, payload: &[u8]) {
    let mut out = vec![0xAA];
    write_frame(opcode, payload, &mut out);
    assert_eq!(out[1..], frame(opcode, payload)[..], "a shared frame is the same");
    let head = Head::read(&out[1..]).unwrap_or_else(|| panic!("a whole head"));
    assert!(head.fin && head.reserved == 0 && !head.is_long && head.mask.is_none());
    assert_eq!(out[1 + head.head_bytes..], *payload);
}

/// A Close is short, and its reason is text, whatever the input is.
fn check_close(data: &[u8]) {
    let Some((&code, reason)) = data.split_first_chunk() else { return };
    let code = u16::from_be_bytes(code);
    if !may_be_in_close(code) {
        return;
    }
    let reason = String::from_utf8_lossy(reason);
    let mut out = Vec::new();
    write_close(Some(CloseCode::from(code)), &reason, &mut out);
    assert!(out.len() <= 2 + CONTROL_BYTES_MAX);
    assert_eq!(out[2..4], code.to_be_bytes());
    let written = std::str::from_utf8(&out[4..]);
    assert!(written.is_ok_and(|written| reason.starts_with(written)));
}
