//! WebSocket messages from a peer's frames (RFC 6455 sections 5.4 to 5.6, 8.1): fragments, control frames
//! between them, UTF-8.
//!
//! Bytes are decoded in place. A message that is one frame and has arrived completely is unmasked, checked
//! and returned in place. Otherwise its payload is copied as it arrives, in pieces of any size. That buffer
//! is all that a decoder ever holds: headers and control frames stay with the caller until they are complete.
//! Every byte is looked at once when it arrives, and text once more as a whole. A fault in text is found at
//! the byte that causes it.
//!
//! A compressed message (RFC 7692 section 6.2) is inflated when it is complete, by an inflater that the
//! caller lends, so a decoder holds no more for it. Its faults are found then.

use super::codec::{CloseCode, FrameHead, OpCode, Sender, Violation, may_be_in_close, parse_head, unmask};
use crate::wire::deflate::{Fault, Inflater};

/// One item of a peer's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
    /// To be answered by a Pong with these bytes, at most 125.
    Ping(&'a [u8]),
    /// An answer, or a sign of life.
    Pong(&'a [u8]),
    /// The peer's Close: the code and the reason, if it gave any. Nothing after it may be decoded.
    Close(Option<(CloseCode, &'a str)>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageStep<'a> {
    /// Bytes of the input that are finished with. If it is 0 and there is no item, more input is needed.
    pub consumed: usize,
    /// The item that they completed. Bytes may be consumed without an item: then decode the rest of the input
    /// next.
    pub item: Option<Item<'a>>,
}

impl MessageStep<'_> {
    const NEED_MORE: Self = Self { consumed: 0, item: None };
}

/// Decodes what one peer sends after the handshake; by default, a client.
///
/// It owns memory only for a message that is not returned in place: from the message's first byte until the
/// call after the one that completed it.
#[derive(Debug, Default)]
pub struct MessageDecoder {
    state: State,
    /// What has arrived of the unfinished message; empty while idle.
    message: Message,
}

const _: () = assert!(size_of::<MessageDecoder>() <= 64);

#[derive(Debug, Clone, Copy, Default)]
enum State {
    #[default]
    Idle,
    BetweenFragments,
    InPayload(Rest),
    /// The message was completed and is lent out from the buffer, which the next call frees.
    HandedOut,
}

/// The missing part of a data frame.
#[derive(Debug, Clone, Copy)]
struct Rest {
    /// Bytes of payload still to come. Together with the message's bytes, they are within the limit.
    left: usize,
    /// Bytes of payload that have arrived: the phase of the mask.
    taken: usize,
    mask: [u8; 4],
    fin: bool,
}

impl MessageDecoder {
    pub fn of(sender: Sender) -> Self {
        Self { message: Message { sender, ..Message::default() }, ..Self::default() }
    }

    /// Decodes the next item at the front of `input`, which continues after the bytes consumed so far and is
    /// unmasked in place. `message_bytes_max` bounds the payload of one message over all its fragments,
    /// inflated or not. With an `inflater`, messages may be compressed.
    ///
    /// Nothing is consumed of a frame header or control frame that is incomplete: at most 130 bytes are left
    /// with the caller, who passes them in again, unchanged, with more behind them.
    ///
    /// # Errors
    /// The peer's mistake. 1002 for frames and Close payloads that RFC 6455 forbids, and for data that cannot
    /// be inflated. 1007 for text that is not UTF-8, at the byte that makes it so. 1009 for a message over
    /// the limit, at the header that declares it. After that, the decoder and the rest of the input are of no
    /// use.
    pub fn decode<'a>(
        &'a mut self,
        input: &'a mut [u8],
        message_bytes_max: usize,
        inflater: Option<&'a mut Inflater>,
    ) -> Result<MessageStep<'a>, Violation> {
        match self.state {
            State::InPayload(rest) => return self.take_payload(rest, 0, input, message_bytes_max, inflater),
            State::HandedOut => *self = Self::of(self.message.sender),
            State::Idle | State::BetweenFragments => {}
        }
        match parse_head(input, self.message.sender, inflater.is_some())? {
            None => Ok(MessageStep::NEED_MORE),
            Some(head) if head.opcode.is_control() => decode_control(&head, input),
            Some(head) => self.decode_data(&head, input, message_bytes_max, inflater),
        }
    }

    /// Whether no message and no frame is in progress, so that a new decoder could replace this one. That
    /// includes the state after a message was returned from its buffer.
    pub const fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle | State::HandedOut)
    }

    /// Bytes of memory held for the unfinished message: at most the limit, and at most about twice the bytes
    /// that have arrived.
    pub const fn buffered_bytes(&self) -> usize {
        self.message.bytes.capacity()
    }

    fn decode_data<'a>(
        &'a mut self,
        head: &FrameHead,
        input: &'a mut [u8],
        message_bytes_max: usize,
        inflater: Option<&'a mut Inflater>,
    ) -> Result<MessageStep<'a>, Violation> {
        let begun = matches!(self.state, State::BetweenFragments);
        let kind = match (head.opcode, begun) {
            (OpCode::Continue, true) => self.message.kind,
            (OpCode::Continue, false) => return Err(Violation::protocol("there is nothing to continue")),
            (_, true) => return Err(Violation::protocol("the message before this one is unfinished")),
            (OpCode::Text, false) => DataKind::Text,
            (_, false) => DataKind::Binary,
        };
        let is_compressed = if begun { self.message.is_compressed } else { head.is_compressed };
        let payload_bytes_max = payload_bytes_max(message_bytes_max, is_compressed);
        let left = usize::try_from(head.payload_bytes)
            .ok()
            .filter(|&left| left <= payload_bytes_max.saturating_sub(self.message.bytes.len()))
            .ok_or(TOO_LONG)?;
        if head.fin && !begun && left <= input.len() - head.head_bytes {
            let consumed = head.head_bytes + left;
            let payload = &mut input[head.head_bytes..consumed];
            unmask(payload, head.mask, 0);
            let payload = inflated(payload, is_compressed, message_bytes_max, inflater)?;
            return Ok(MessageStep { consumed, item: Some(kind.item(payload)?) });
        }
        self.message.kind = kind;
        self.message.is_compressed = is_compressed;
        let rest = Rest { left, taken: 0, mask: head.mask, fin: head.fin };
        self.take_payload(rest, head.head_bytes, input, message_bytes_max, inflater)
    }

    /// Takes over the available payload of a data frame, `start` bytes into the input. Returns the message if
    /// that completes it.
    fn take_payload<'a>(
        &'a mut self,
        rest: Rest,
        start: usize,
        input: &mut [u8],
        message_bytes_max: usize,
        inflater: Option<&'a mut Inflater>,
    ) -> Result<MessageStep<'a>, Violation> {
        let consumed = start + rest.left.min(input.len() - start);
        let payload = &mut input[start..consumed];
        unmask(payload, rest.mask, rest.taken);
        let left = rest.left - payload.len();
        let len_max = match rest.fin {
            true => self.message.bytes.len() + rest.left,
            false => payload_bytes_max(message_bytes_max, self.message.is_compressed),
        };
        self.message.push(payload, len_max)?;
        self.state = match (left, rest.fin) {
            (0, true) => State::HandedOut,
            (0, false) => State::BetweenFragments,
            _ => State::InPayload(Rest { left, taken: rest.taken + payload.len(), ..rest }),
        };
        if !matches!(self.state, State::HandedOut) {
            return Ok(MessageStep { consumed, item: None });
        }
        let Message { kind, is_compressed, ref bytes, .. } = self.message;
        let payload = inflated(bytes, is_compressed, message_bytes_max, inflater)?;
        Ok(MessageStep { consumed, item: Some(kind.item(payload)?) })
    }
}

const TOO_LONG: Violation = Violation { code: CloseCode::Size, reason: "message is too long" };
const NOT_DEFLATE: Violation = Violation::protocol("message cannot be inflated");
const NOT_UTF8: Violation = Violation { code: CloseCode::Invalid, reason: "text is not UTF-8" };

/// The most bytes of a payload before it is inflated. If nothing can be gained, a compressor needs a little
/// more than its input: an eighth if it never gives up, and some bytes for each block.
const fn payload_bytes_max(message_bytes_max: usize, is_compressed: bool) -> usize {
    if is_compressed {
        message_bytes_max.saturating_add(message_bytes_max / 8 + 64)
    } else {
        message_bytes_max
    }
}

/// The message that `payload` was made from.
fn inflated<'a>(
    payload: &'a [u8],
    is_compressed: bool,
    message_bytes_max: usize,
    inflater: Option<&'a mut Inflater>,
) -> Result<&'a [u8], Violation> {
    match inflater {
        Some(inflater) if is_compressed => {
            inflater.inflate(payload, message_bytes_max).map_err(|fault| match fault {
                Fault::TooLong => TOO_LONG,
                Fault::NotDeflate => NOT_DEFLATE,
            })
        }
        _ => Ok(payload),
    }
}

/// What a message's first frame says of all of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum DataKind {
    Text,
    #[default]
    Binary,
}

impl DataKind {
    /// The message whose whole payload is `payload`.
    fn item(self, payload: &[u8]) -> Result<Item<'_>, Violation> {
        match self {
            Self::Text => simdutf8::basic::from_utf8(payload).map(Item::Text).map_err(|_| NOT_UTF8),
            Self::Binary => Ok(Item::Binary(payload)),
        }
    }
}

/// The beginning of a message that is not returned in place.
#[derive(Debug, Default)]
struct Message {
    sender: Sender,
    kind: DataKind,
    is_compressed: bool,
    /// The payload so far, unmasked.
    bytes: Vec<u8>,
    /// How many of the bytes are whole characters, in a text. The bytes behind them, at most 3, may still
    /// become one.
    whole_bytes: usize,
}

impl Message {
    /// Appends payload to a message that will not grow beyond `len_max`.
    fn push(&mut self, payload: &[u8], len_max: usize) -> Result<(), Violation> {
        let len = self.bytes.len() + payload.len();
        if len > self.bytes.capacity() {
            // Capacity doubles, as a vector does by itself, but never exceeds what can come.
            let capacity = self.bytes.capacity().saturating_mul(2).min(len_max).max(len);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(payload);
        if self.kind == DataKind::Text && !self.is_compressed {
            self.whole_bytes += match simdutf8::compat::from_utf8(&self.bytes[self.whole_bytes..]) {
                Ok(text) => text.len(),
                Err(error) if error.error_len().is_none() => error.valid_up_to(),
                Err(_) => return Err(NOT_UTF8),
            };
        }
        Ok(())
    }
}

fn decode_control<'a>(head: &FrameHead, input: &'a mut [u8]) -> Result<MessageStep<'a>, Violation> {
    let whole = usize::try_from(head.payload_bytes)
        .ok()
        .map(|payload_bytes| head.head_bytes + payload_bytes)
        .filter(|&consumed| consumed <= input.len());
    let Some(consumed) = whole else { return Ok(MessageStep::NEED_MORE) };
    let payload = &mut input[head.head_bytes..consumed];
    unmask(payload, head.mask, 0);
    let item = match head.opcode {
        OpCode::Ping => Item::Ping(payload),
        OpCode::Pong => Item::Pong(payload),
        _ => Item::Close(parse_close(payload)?),
    };
    Ok(MessageStep { consumed, item: Some(item) })
}

/// The payload of a Close (RFC 6455 sections 5.5.1 and 7.4).
fn parse_close(payload: &[u8]) -> Result<Option<(CloseCode, &str)>, Violation> {
    let (code, reason) = match *payload {
        [] => return Ok(None),
        [_] => return Err(Violation::protocol("close payload is a single byte")),
        [high, low, ref reason @ ..] => (u16::from_be_bytes([high, low]), reason),
    };
    if !may_be_in_close(code) {
        return Err(Violation::protocol("close code is not legal"));
    }
    let reason = std::str::from_utf8(reason)
        .map_err(|_| Violation { code: CloseCode::Invalid, reason: "close reason is not UTF-8" })?;
    Ok(Some((CloseCode::from(code), reason)))
}

#[cfg(test)]
mod tests;
