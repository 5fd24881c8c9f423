//! Messages from a client's frames: the same however the stream is split, and the same as those of
//! tungstenite's own `WebSocket` in a server's role.
//!
//! Input: a byte for the limit, three for the splits, and the stream.
//!
//! Polecat is stricter than tungstenite in some cases. It refuses lengths that are not minimal. It finds
//! every fault when its byte arrives, while tungstenite looks at complete frames. Of two faults in one frame
//! it reports the first, while tungstenite compares the length with the limit before anything else, and reads
//! the reason of a Close before its code. It reports an illegal close code as a fault, while tungstenite
//! returns a Close with 1002 instead. Polecat is more lenient in two cases: 1014 is a close code, since IANA
//! has registered it; and the limit of a message does not apply to control frames, while tungstenite's limit
//! of a frame does.

use std::io::{self, Cursor, Read, Write};

use polecat::wire::websocket::codec::{CONTROL_BYTES_MAX, CloseCode, Violation};
use polecat::wire::websocket::message::{Item, MessageDecoder, MessageStep};
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tungstenite::{Error, Message as TheirMessage};

use super::frames::Head;
use super::splits::{SEED_BYTES, Splits};

/// Bytes of a frame header or control frame that can be left with the caller.
const LEFT_BYTES_MAX: usize = 130;

/// Runs the check.
pub fn check(data: &[u8]) {
    let Some((&[which, seed @ ..], stream)) = data.split_first_chunk::<{ 1 + SEED_BYTES }>() else { return };
    let message_bytes_max = [0, 1, 16, 125, 126, 300, 4096, 70_000][usize::from(which % 8)];
    let whole = Outcome::of([stream], message_bytes_max);
    let cut = Outcome::of(Splits::new(seed).cut(stream), message_bytes_max);
    assert_eq!((&cut.said, cut.end), (&whole.said, whole.end), "it depends on how the stream was cut");
    let slow = Outcome::of(stream.chunks(1), message_bytes_max);
    assert_eq!((&slow.said, slow.end), (&whole.said, whole.end), "it depends on how the stream was cut");
    slow.check_promptness(stream);
    compare(&whole, stream, message_bytes_max);
}

/// An [`Item`] that outlives its input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

impl From<Item<'_>> for Said {
    fn from(item: Item<'_>) -> Self {
        match item {
            Item::Text(text) => Self::Text(text.to_owned()),
            Item::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Item::Ping(payload) => Self::Ping(payload.to_vec()),
            Item::Pong(payload) => Self::Pong(payload.to_vec()),
            Item::Close(close) => Self::Close(close.map(|(code, reason)| (code.into(), reason.to_owned()))),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Between two messages.
    Idle,
    /// Within a frame, or between two of a message.
    Unfinished,
    Closed,
    Fault(Violation),
}

/// The outcome of a stream.
pub struct Outcome {
    pub said: Vec<Said>,
    pub end: End,
    /// Bytes that had been fed when it ended.
    fed: usize,
}

impl Outcome {
    /// Feeds a decoder as a server does: the bytes that it leaves are kept, and passed in again with more
    /// behind them.
    pub fn of<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, message_bytes_max: usize) -> Self {
        let mut outcome = Self { said: Vec::new(), end: End::Idle, fed: 0 };
        let mut decoder = MessageDecoder::default();
        let mut kept = Vec::new();
        for piece in pieces {
            kept.extend_from_slice(piece);
            outcome.fed += piece.len();
            let mut start = 0;
            loop {
                let before = kept[start..].to_vec();
                let left = before.len();
                let step = match decoder.decode(&mut kept[start..], message_bytes_max, None) {
                    Ok(MessageStep { consumed, item }) => (consumed, item.map(Said::from)),
                    Err(fault) => {
                        outcome.end = End::Fault(fault);
                        return outcome;
                    }
                };
                assert!(step.0 <= left && (step.1.is_none() || step.0 > 0));
                assert!(decoder.buffered_bytes() <= message_bytes_max);
                if step.0 == 0 {
                    assert!(left <= LEFT_BYTES_MAX, "{left} bytes are left with the caller");
                    assert_eq!(kept[start..], before, "what is kept is changed");
                    break;
                }
                start += step.0;
                outcome.said.extend(step.1);
                if let Some(Said::Close(_)) = outcome.said.last() {
                    outcome.end = End::Closed;
                    return outcome;
                }
            }
            kept.drain(..start);
        }
        let idle = kept.is_empty() && decoder.is_idle();
        outcome.end = if idle { End::Idle } else { End::Unfinished };
        outcome
    }

    /// For a stream that was fed byte by byte: invalid UTF-8 was found at the byte that makes it invalid.
    fn check_promptness(&self, stream: &[u8]) {
        let End::Fault(Violation { code: CloseCode::Invalid, reason: "text is not UTF-8" }) = self.end else {
            return;
        };
        let (payload, ended) = unfinished_payload(&stream[..self.fed]);
        let is_wrong = |bytes: &[u8]| std::str::from_utf8(bytes).is_err_and(|e| e.error_len().is_some());
        let before = payload.len().saturating_sub(1);
        assert!(!is_wrong(&payload[..before]), "it was wrong a byte before");
        assert!(
            is_wrong(&payload) || (ended && std::str::from_utf8(&payload).is_err()),
            "it is not wrong yet"
        );
    }
}

/// The part of the last data message that `stream` has, and whether that is all of it.
fn unfinished_payload(stream: &[u8]) -> (Vec<u8>, bool) {
    let mut payload = Vec::new();
    let mut ended = false;
    let mut rest = stream;
    while let Some(head) = Head::read(rest) {
        let len = usize::try_from(head.payload_bytes).unwrap_or(usize::MAX);
        let (bytes, behind) = rest[head.head_bytes..].split_at(len.min(rest.len() - head.head_bytes));
        rest = behind;
        if head.opcode >= 8 {
            continue;
        }
        if head.opcode != 0 {
            payload.clear();
        }
        let mask = head.mask.unwrap_or_default();
        payload.extend(bytes.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
        ended = head.fin && bytes.len() == len;
    }
    (payload, ended)
}

struct Wire(Cursor<Vec<u8>>);

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// tungstenite's outcome of a stream, and the code that it would close with.
pub fn their_outcome(stream: &[u8], message_bytes_max: usize) -> (Vec<Said>, Option<u16>) {
    let config = WebSocketConfig::default()
        .read_buffer_size(4096)
        .max_message_size(Some(message_bytes_max))
        .max_frame_size(Some(message_bytes_max))
        .accept_unmasked_frames(false);
    let wire = Wire(Cursor::new(stream.to_vec()));
    let mut socket = WebSocket::from_raw_socket(wire, Role::Server, Some(config));
    let mut said = Vec::new();
    loop {
        said.push(match socket.read() {
            Ok(TheirMessage::Text(text)) => Said::Text(text.as_str().to_owned()),
            Ok(TheirMessage::Binary(bytes)) => Said::Binary(bytes.to_vec()),
            Ok(TheirMessage::Ping(payload)) => Said::Ping(payload.to_vec()),
            Ok(TheirMessage::Pong(payload)) => Said::Pong(payload.to_vec()),
            Ok(TheirMessage::Close(close)) => match close {
                Some(close) if close.reason.as_str() == "Protocol violation" => return (said, Some(1002)),
                close => {
                    said.push(Said::Close(close.map(|close| (close.code.into(), close.reason.to_string()))));
                    return (said, None);
                }
            },
            Ok(TheirMessage::Frame(_)) => unreachable!("frames are not read"),
            Err(Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)) => {
                return (said, None);
            }
            Err(Error::Protocol(_)) => return (said, Some(1002)),
            Err(Error::Utf8(_)) => return (said, Some(1007)),
            Err(Error::Capacity(_)) => return (said, Some(1009)),
            Err(error) => panic!("{error}"),
        });
    }
}

/// Checks that both agree, or that they differ in a known way.
fn compare(ours: &Outcome, stream: &[u8], message_bytes_max: usize) {
    let (their_said, their_code) = their_outcome(stream, message_bytes_max);
    let is_below_control = message_bytes_max < CONTROL_BYTES_MAX;
    if let Some(Said::Close(Some((1014, _)))) = ours.said.last() {
        assert!(their_code == Some(1002) || (their_code == Some(1009) && is_below_control));
        return;
    }
    let End::Fault(fault) = ours.end else {
        // Its limit of a frame applies to control frames too.
        let is_over = |said: &Said| match said {
            Said::Ping(payload) | Said::Pong(payload) => payload.len() > message_bytes_max,
            Said::Close(Some((_, reason))) => 2 + reason.len() > message_bytes_max,
            _ => false,
        };
        if their_code == Some(1009) && is_below_control {
            assert!(ours.said.iter().any(is_over) || ours.end == End::Unfinished);
            assert!(ours.said.starts_with(&their_said));
            return;
        }
        assert_eq!((&their_said, their_code), (&ours.said, None));
        return;
    };
    let code = u16::from(fault.code);
    if ["length is not minimally encoded", "control frame has an extended length"].contains(&fault.reason) {
        assert!(their_said.starts_with(&ours.said) || is_below_control);
        return;
    }
    if their_code == Some(1009) && is_below_control {
        assert!(ours.said.starts_with(&their_said));
        return;
    }
    assert_eq!(their_said, ours.said, "{fault}");
    match their_code {
        // The stream ended before the frame did.
        None => {}
        // Our fault comes before the length, or before the reason of a Close.
        Some(1009) if code == 1002 => {}
        Some(1007) if fault.reason == "close code is not legal" => {}
        Some(their_code) => assert_eq!(their_code, code, "{fault}"),
    }
}
