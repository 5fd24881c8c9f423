//! WebSocket frames (RFC 6455 section 5): headers, unmasking, and the frames that a server sends.
//!
//! Headers of the shortest form, which most frames have, are read and written here; tungstenite handles the
//! others. Anything that it accepts against the RFC is refused here first, in the order of the bytes. So a
//! fault is found at the byte that causes it, and is the same fault however the bytes were split.

use std::fmt;
use std::io::Cursor;
use std::iter::repeat_n;
use std::rc::Rc;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode as WireOpCode};

pub use tungstenite::protocol::frame::coding::CloseCode;

use crate::base::frame::Frame;

/// The longest payload of a control frame, in bytes (RFC 6455 section 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// The longest reason of a Close, in bytes: a control frame less the code.
pub const CLOSE_REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;

/// The kind of a frame (RFC 6455 section 5.2). Reserved opcodes are refused before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpCode {
    /// A further part of a message; its first frame has the kind.
    Continue,
    Text,
    Binary,
    /// The last frame that its sender sends.
    Close,
    /// To be answered by a Pong with the same payload.
    Ping,
    /// The answer to a Ping, or an unsolicited sign of life.
    Pong,
}

impl OpCode {
    /// Whether frames of this kind are short, whole, and allowed between the fragments of a message.
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continue,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }

    const fn wire(self) -> WireOpCode {
        match self {
            Self::Continue => WireOpCode::Data(Data::Continue),
            Self::Text => WireOpCode::Data(Data::Text),
            Self::Binary => WireOpCode::Data(Data::Binary),
            Self::Close => WireOpCode::Control(Control::Close),
            Self::Ping => WireOpCode::Control(Control::Ping),
            Self::Pong => WireOpCode::Control(Control::Pong),
        }
    }
}

/// The peer's mistake, and the code to close the connection with. Nothing that follows on the connection can
/// be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation {
    /// 1002, 1007 or 1009 (RFC 6455 section 7.4.1).
    pub code: CloseCode,
    /// One short sentence in ASCII that fits into the Close frame.
    pub reason: &'static str,
}

impl Violation {
    pub(crate) const fn protocol(reason: &'static str) -> Self {
        Self { code: CloseCode::Protocol, reason }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.reason, self.code)
    }
}

/// The sender of the frames that are decoded: a client masks each frame, a server none (RFC 6455 section
/// 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sender {
    /// What a server reads.
    #[default]
    Client,
    /// What a client reads.
    Server,
}

/// The header of a frame with a legal shape and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHead {
    /// Whether the message ends with this frame; always true for a control frame.
    pub fin: bool,
    /// Whether the message that begins with this frame is compressed (RFC 7692 section 6).
    pub is_compressed: bool,
    pub opcode: OpCode,
    /// The mask of the payload; zeros, which change nothing, from a server.
    pub mask: [u8; 4],
    /// Bytes of payload after the header: below 2^63, and at most [`CONTROL_BYTES_MAX`] in a control frame.
    /// The length is only declared: no memory may be reserved for it.
    pub payload_bytes: u64,
    /// Bytes of the header itself: 2 to 10, and 4 for the mask.
    pub head_bytes: usize,
}

/// The frame header at the front of `input` (RFC 6455 section 5.2), sent by `sender`; `None` if more bytes
/// are needed. `may_compress` says whether compression was negotiated.
///
/// # Errors
/// 1002 for reserved bits and opcodes, a compression bit on a frame that begins no message, control frames
/// that are fragmented or too long, a mask that is missing or must not be there, and lengths that are not
/// minimal or have the top bit set. Each is reported as soon as the bytes decide it.
pub fn parse_head(input: &[u8], sender: Sender, may_compress: bool) -> Result<Option<FrameHead>, Violation> {
    let Some(&first) = input.first() else { return Ok(None) };
    let opcode = check_first(first, may_compress)?;
    let is_compressed = first & COMPRESSED != 0;
    if let Some(&second) = input.get(1) {
        check_second(opcode, second, sender)?;
        let length = second & 0x7F;
        // The header of nearly all frames from clients, recognised at once.
        if length <= SHORT_BYTES_MAX
            && sender == Sender::Client
            && let Some(&[.., a, b, c, d]) = input.first_chunk::<6>()
        {
            let (fin, mask, payload_bytes) = (first & 0x80 != 0, [a, b, c, d], length.into());
            return Ok(Some(FrameHead { fin, is_compressed, opcode, mask, payload_bytes, head_bytes: 6 }));
        }
        check_length(length, &input[2..])?;
    }
    match FrameHeader::parse(&mut Cursor::new(input)) {
        Ok(None) => Ok(None),
        Ok(Some((header, payload_bytes))) => Ok(Some(FrameHead {
            fin: header.is_final,
            is_compressed,
            opcode,
            mask: header.mask.unwrap_or_default(),
            payload_bytes,
            head_bytes: header.len(payload_bytes),
        })),
        Err(_) => Err(RESERVED_OPCODE),
    }
}

/// The first reserved bit, RSV1: the message is compressed (RFC 7692 section 6).
const COMPRESSED: u8 = 0x40;

/// The longest payload whose length fits into the second byte of a header.
const SHORT_BYTES_MAX: u8 = 125;

const UNMASKED: Violation = Violation::protocol("frame is not masked");
const RESERVED_OPCODE: Violation = Violation::protocol("reserved opcode");

fn check_first(first: u8, may_compress: bool) -> Result<OpCode, Violation> {
    let allowed = if may_compress { COMPRESSED } else { 0 };
    if first & 0x70 & !allowed != 0 {
        return Err(Violation::protocol("reserved bit is set"));
    }
    let opcode = OpCode::from_bits(first & 0x0F).ok_or(RESERVED_OPCODE)?;
    if first & COMPRESSED != 0 && !matches!(opcode, OpCode::Text | OpCode::Binary) {
        return Err(Violation::protocol("compressed frame does not begin a message"));
    }
    if opcode.is_control() && first & 0x80 == 0 {
        return Err(Violation::protocol("control frame is fragmented"));
    }
    Ok(opcode)
}

fn check_second(opcode: OpCode, second: u8, sender: Sender) -> Result<(), Violation> {
    match (sender, second & 0x80 != 0) {
        (Sender::Client, false) => return Err(UNMASKED),
        (Sender::Server, true) => return Err(Violation::protocol("frame of a server is masked")),
        (Sender::Client, true) | (Sender::Server, false) => {}
    }
    if opcode.is_control() && usize::from(second & 0x7F) > CONTROL_BYTES_MAX {
        return Err(Violation::protocol("control frame has an extended length"));
    }
    Ok(())
}

/// Checks the extended length, as far as it has arrived, behind a length byte that may announce one.
fn check_length(length: u8, extended: &[u8]) -> Result<(), Violation> {
    const NOT_MINIMAL: Violation = Violation::protocol("length is not minimally encoded");
    match (length, extended) {
        (126, &[high, low, ..]) if u16::from_be_bytes([high, low]) < 126 => Err(NOT_MINIMAL),
        (127, &[top, ..]) if top & 0x80 != 0 => Err(Violation::protocol("length has its top bit set")),
        (127, [0, 0, 0, 0, 0, 0, ..]) => Err(NOT_MINIMAL),
        _ => Ok(()),
    }
}

/// Masks or unmasks `payload`, whose first byte is byte `phase` of the frame's
/// payload; only `phase` modulo 4 counts (RFC 6455 section 5.3).
#[expect(clippy::cast_possible_truncation, reason = "only the lowest two bits count")]
pub fn unmask(payload: &mut [u8], mask: [u8; 4], phase: usize) {
    if mask == [0; 4] {
        return;
    }
    let key = u64::from(u32::from_le_bytes(mask).rotate_right(phase as u32 % 4 * 8)) * 0x1_0000_0001;
    // Words of a fixed size, with only the exclusive or in the loop: the compiler vectorises this.
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_le_bytes(*word) ^ key).to_le_bytes();
    }
    for (byte, key_byte) in rest.iter_mut().zip(key.to_le_bytes()) {
        *byte ^= key_byte;
    }
}

/// Appends one final, unmasked frame to `out`. A control frame's payload is at
/// most [`CONTROL_BYTES_MAX`] bytes.
pub fn write_frame(opcode: OpCode, payload: &[u8], out: &mut Vec<u8>) {
    let (header, payload_bytes) = head_for(opcode, payload);
    if let Ok(length) = u8::try_from(payload.len())
        && length <= SHORT_BYTES_MAX
    {
        out.reserve(2 + payload.len());
        out.extend_from_slice(&[0x80 | u8::from(header.opcode), length]);
        return out.extend_from_slice(payload);
    }
    out.reserve(header.len(payload_bytes) + payload.len());
    let written = header.format(payload_bytes, out);
    debug_assert!(written.is_ok(), "a vector takes every write");
    out.extend_from_slice(payload);
}

/// Appends a frame whose payload is compressed (RFC 7692 section 6).
pub fn write_compressed_frame(opcode: OpCode, payload: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    write_frame(opcode, payload, out);
    out[start] |= COMPRESSED;
}

/// The frame of [`write_frame`] as a client sends it, masked.
pub fn write_masked_frame(opcode: OpCode, payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    let (mut header, payload_bytes) = head_for(opcode, payload);
    header.mask = Some(mask);
    out.reserve(header.len(payload_bytes) + payload.len());
    let written = header.format(payload_bytes, out);
    debug_assert!(written.is_ok(), "a vector takes every write");
    let start = out.len();
    out.extend_from_slice(payload);
    unmask(&mut out[start..], mask, 0);
}

/// [`write_frame`] as shared bytes, in one allocation.
pub fn frame(opcode: OpCode, payload: &[u8]) -> Frame {
    let (header, payload_bytes) = head_for(opcode, payload);
    let len = header.len(payload_bytes) + payload.len();
    // An iterator of known length is collected in its final place. Filling that with zeros first costs less
    // than a second allocation, and far less than chaining the parts byte by byte.
    let mut frame: Frame = repeat_n(0, len).collect();
    if let Some(mut rest) = Rc::get_mut(&mut frame) {
        let written = header.format(payload_bytes, &mut rest);
        debug_assert!(written.is_ok(), "there is room for the head");
        rest.copy_from_slice(payload);
    }
    frame
}

/// A [`frame`] whose payload is compressed (RFC 7692 section 6).
pub fn compressed_frame(opcode: OpCode, payload: &[u8]) -> Frame {
    let mut frame = frame(opcode, payload);
    if let Some(bytes) = Rc::get_mut(&mut frame) {
        bytes[0] |= COMPRESSED;
    }
    frame
}

/// The payload of one whole frame that a server sends.
pub fn payload(frame: &[u8]) -> &[u8] {
    let head_bytes = match frame.get(1) {
        Some(126) => 4,
        Some(127) => 10,
        _ => 2,
    };
    frame.get(head_bytes..).unwrap_or_default()
}

fn head_for(opcode: OpCode, payload: &[u8]) -> (FrameHeader, u64) {
    debug_assert!(!opcode.is_control() || payload.len() <= CONTROL_BYTES_MAX);
    (FrameHeader { opcode: opcode.wire(), ..FrameHeader::default() }, payload.len() as u64)
}

/// Appends a Close frame to `out` (RFC 6455 section 5.5.1). It is empty if there is no `code`; else it has
/// the code, and as many whole characters of `reason` as [`CLOSE_REASON_BYTES_MAX`] bytes hold. The code must
/// be one that [`may_be_in_close`].
pub fn write_close(code: Option<CloseCode>, reason: &str, out: &mut Vec<u8>) {
    let Some(code) = code.map(u16::from) else {
        return write_frame(OpCode::Close, &[], out);
    };
    debug_assert!(may_be_in_close(code), "{code} is not for the wire");
    let mut end = reason.len().min(CLOSE_REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let mut payload = [0; CONTROL_BYTES_MAX];
    payload[..2].copy_from_slice(&code.to_be_bytes());
    payload[2..2 + end].copy_from_slice(&reason.as_bytes()[..end]);
    write_frame(OpCode::Close, &payload[..2 + end], out);
}

/// Whether a Close frame may have `code`: those of RFC 6455 section 7.4.1, those that IANA has registered
/// since (1012 to 1014), and the ranges for libraries and applications.
pub const fn may_be_in_close(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests;
