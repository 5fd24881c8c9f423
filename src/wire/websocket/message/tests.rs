#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::collections::HashSet;

use super::super::codec;
use super::*;

mod compressed;

const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// The first byte of a frame that is the last of its message.
const FIN: u8 = 0x80;
const CONTINUE: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = FIN | 0x8;
const PING: u8 = FIN | 0x9;
const PONG: u8 = FIN | 0xA;

/// A masked frame as a client sends it, with any first byte.
fn frame(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::write_masked_frame(OpCode::Text, payload.as_ref(), MASK, &mut bytes);
    bytes[0] = first;
    bytes
}

/// An [`Item`] that outlives its input.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
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

#[derive(Debug, Clone, PartialEq, Eq)]
struct Outcome {
    said: Vec<Said>,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Idle,
    /// Within a frame, or between two of a message.
    Unfinished,
    Closed,
    Fault(Violation),
}

/// Feeds a decoder as a server does: the bytes that it leaves are kept, and passed in again with more behind
/// them.
struct Feeder {
    decoder: MessageDecoder,
    message_bytes_max: usize,
    /// If messages may be compressed.
    inflater: Option<Inflater>,
    kept: Vec<u8>,
    outcome: Outcome,
}

impl Feeder {
    fn new(message_bytes_max: usize) -> Self {
        Self {
            decoder: MessageDecoder::default(),
            message_bytes_max,
            inflater: None,
            kept: Vec::new(),
            outcome: Outcome { said: Vec::new(), end: End::Idle },
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.outcome.end, End::Closed | End::Fault(_))
    }

    fn feed(&mut self, piece: &[u8]) {
        self.kept.extend_from_slice(piece);
        let mut start = 0;
        while !self.is_over() {
            let input = &mut self.kept[start..];
            let before = input.to_vec();
            let step = match self.decoder.decode(input, self.message_bytes_max, self.inflater.as_mut()) {
                Ok(MessageStep { consumed, item }) => (consumed, item.map(Said::from)),
                Err(fault) => {
                    self.outcome.end = End::Fault(fault);
                    return;
                }
            };
            assert!(step.0 <= before.len());
            let bytes_max = payload_bytes_max(self.message_bytes_max, self.inflater.is_some());
            assert!(self.decoder.buffered_bytes() <= bytes_max);
            start += step.0;
            match step {
                (0, None) => {
                    assert!(before.len() <= 130, "{} bytes are left with the caller", before.len());
                    assert_eq!(self.kept[start..], before, "what is kept is changed");
                    break;
                }
                (consumed, item) => {
                    assert_ne!(consumed, 0, "an item out of nothing");
                    self.outcome.said.extend(item);
                }
            }
            if let Some(Said::Close(_)) = self.outcome.said.last() {
                self.outcome.end = End::Closed;
                return;
            }
        }
        self.kept.drain(..start);
        let idle = self.kept.is_empty() && self.decoder.is_idle();
        self.outcome.end = if idle { End::Idle } else { End::Unfinished };
    }
}

fn decode_cut(stream: &[u8], cuts: impl IntoIterator<Item = usize>, message_bytes_max: usize) -> Outcome {
    feed_cut(Feeder::new(message_bytes_max), stream, cuts)
}

/// The outcome of `stream`, split at the given rising offsets.
fn feed_cut(mut feeder: Feeder, stream: &[u8], cuts: impl IntoIterator<Item = usize>) -> Outcome {
    let mut start = 0;
    for cut in cuts.into_iter().chain([stream.len()]) {
        if !feeder.is_over() {
            feeder.feed(&stream[start..cut]);
        }
        start = cut;
    }
    feeder.outcome
}

fn random_cuts(random: &mut fastrand::Rng, len: usize) -> Vec<usize> {
    let mut cuts: Vec<usize> = (0..random.usize(1..8)).map(|_| random.usize(0..=len)).collect();
    cuts.sort_unstable();
    cuts
}

fn decode(stream: &[u8], message_bytes_max: usize) -> Outcome {
    decode_by(|| Feeder::new(message_bytes_max), stream)
}

/// The outcome of `stream`. It is the same at once, byte by byte, in two pieces split anywhere, and in random
/// pieces.
fn decode_by(feeder: impl Fn() -> Feeder, stream: &[u8]) -> Outcome {
    let whole = feed_cut(feeder(), stream, []);
    assert_eq!(feed_cut(feeder(), stream, 0..stream.len()), whole, "byte by byte: {stream:x?}");
    let mut random = fastrand::Rng::with_seed(stream.len() as u64);
    let random_cuts = (0..20).map(|_| random_cuts(&mut random, stream.len()));
    for cuts in (0..stream.len()).map(|cut| vec![cut]).chain(random_cuts) {
        assert_eq!(feed_cut(feeder(), stream, cuts.clone()), whole, "cut at {cuts:?}: {stream:x?}");
    }
    whole
}

fn text(text: &str) -> Said {
    Said::Text(text.to_owned())
}

#[test]
fn what_is_right_is_understood() {
    let long = "ä".repeat(100);
    let longer = vec![7; 300];
    let table: Vec<(Vec<Vec<u8>>, Vec<Said>)> = vec![
        (vec![], vec![]),
        (vec![frame(FIN | TEXT, "")], vec![text("")]),
        (vec![frame(FIN | BINARY, "")], vec![Said::Binary(vec![])]),
        (vec![frame(FIN | TEXT, "héllo")], vec![text("héllo")]),
        (vec![frame(FIN | TEXT, &long)], vec![text(&long)]),
        (vec![frame(FIN | BINARY, &longer)], vec![Said::Binary(longer.clone())]),
        (vec![frame(FIN | BINARY, [0xFF, 0xC0])], vec![Said::Binary(vec![0xFF, 0xC0])]),
        (vec![frame(FIN | TEXT, "a"), frame(FIN | TEXT, "b")], vec![text("a"), text("b")]),
        (vec![frame(TEXT, "a"), frame(CONTINUE, "b"), frame(FIN | CONTINUE, "c")], vec![text("abc")]),
        (vec![frame(TEXT, ""), frame(CONTINUE, ""), frame(FIN | CONTINUE, "")], vec![text("")]),
        (vec![frame(TEXT, "a"), frame(FIN | CONTINUE, "")], vec![text("a")]),
        (vec![frame(TEXT, [0xF0, 0x9F]), frame(FIN | CONTINUE, [0x98, 0xBE])], vec![text("\u{1F63E}")]),
        (
            vec![frame(BINARY, [0xC3]), frame(FIN | CONTINUE, [0xC3]), frame(FIN | TEXT, "a")],
            vec![Said::Binary(vec![0xC3, 0xC3]), text("a")],
        ),
        (vec![frame(PING, ""), frame(PONG, "p")], vec![Said::Ping(vec![]), Said::Pong(b"p".to_vec())]),
        (vec![frame(PING, [1; 125])], vec![Said::Ping(vec![1; 125])]),
        (
            vec![frame(TEXT, [0xC3]), frame(PING, "1"), frame(PONG, ""), frame(FIN | CONTINUE, [0xA4])],
            vec![Said::Ping(b"1".to_vec()), Said::Pong(vec![]), text("ä")],
        ),
        (vec![frame(CLOSE, "")], vec![Said::Close(None)]),
        (vec![frame(CLOSE, [0x03, 0xE8])], vec![Said::Close(Some((1000, String::new())))]),
        (
            vec![frame(CLOSE, b"\x0F\xA0\xC3\xA4"), frame(0xFF, "not looked at")],
            vec![Said::Close(Some((4000, "ä".into())))],
        ),
        (vec![frame(TEXT, "a"), frame(CLOSE, b"\x03\xE9")], vec![Said::Close(Some((1001, String::new())))]),
    ];
    for (frames, said) in table {
        let end = if let Some(Said::Close(_)) = said.last() { End::Closed } else { End::Idle };
        assert_eq!(decode(&frames.concat(), 1000), Outcome { said, end });
    }
}

#[test]
fn every_violation_has_its_code() {
    let bytes = |bytes: &[u8]| bytes.to_vec();
    let table: Vec<(Vec<Vec<u8>>, u16, &str)> = vec![
        (vec![bytes(&[0x81, 0x01, b'a'])], 1002, "frame is not masked"),
        (vec![frame(0xC1, "a")], 1002, "reserved bit is set"),
        (vec![frame(0x9A, "a")], 1002, "reserved bit is set"),
        (vec![frame(0x83, "a")], 1002, "reserved opcode"),
        (vec![frame(0x8F, "a")], 1002, "reserved opcode"),
        (vec![frame(0x09, "a")], 1002, "control frame is fragmented"),
        (vec![frame(PING, [0; 126])], 1002, "control frame has an extended length"),
        (vec![frame(CLOSE, [0; 70_000])[..200].to_vec()], 1002, "control frame has an extended length"),
        (vec![bytes(&[0x81, 0xFE, 0, 1, 0, 0, 0, 0, b'a'])], 1002, "length is not minimally encoded"),
        (
            vec![bytes(&[0x81, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0, 0, 0])],
            1002,
            "length is not minimally encoded",
        ),
        (
            vec![bytes(&[0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])],
            1002,
            "length has its top bit set",
        ),
        (vec![frame(CONTINUE, "a")], 1002, "there is nothing to continue"),
        (vec![frame(FIN | CONTINUE, "")], 1002, "there is nothing to continue"),
        (
            vec![frame(TEXT, "a"), frame(FIN | CONTINUE, "b"), frame(CONTINUE, "c")],
            1002,
            "there is nothing to continue",
        ),
        (vec![frame(TEXT, "a"), frame(TEXT, "b")], 1002, "the message before this one is unfinished"),
        (vec![frame(TEXT, ""), frame(FIN | BINARY, "")], 1002, "the message before this one is unfinished"),
        (
            vec![frame(BINARY, ""), frame(PING, ""), frame(FIN | TEXT, "")],
            1002,
            "the message before this one is unfinished",
        ),
        (vec![frame(CLOSE, [3])], 1002, "close payload is a single byte"),
        (vec![frame(CLOSE, [0, 0])], 1002, "close code is not legal"),
        (vec![frame(CLOSE, 999_u16.to_be_bytes())], 1002, "close code is not legal"),
        (vec![frame(CLOSE, 1004_u16.to_be_bytes())], 1002, "close code is not legal"),
        (vec![frame(CLOSE, 1005_u16.to_be_bytes())], 1002, "close code is not legal"),
        (vec![frame(CLOSE, 1006_u16.to_be_bytes())], 1002, "close code is not legal"),
        (vec![frame(CLOSE, 1015_u16.to_be_bytes())], 1002, "close code is not legal"),
        (vec![frame(CLOSE, 2999_u16.to_be_bytes())], 1002, "close code is not legal"),
        (vec![frame(CLOSE, b"\xFF\xFF\xFF")], 1002, "close code is not legal"),
        (vec![frame(CLOSE, b"\x03\xE8\xC3")], 1007, "close reason is not UTF-8"),
        (vec![frame(FIN | TEXT, [0xC3])], 1007, "text is not UTF-8"),
        (vec![frame(FIN | TEXT, [b'a'; 90]), frame(FIN | TEXT, b"\xED\xA0\x80")], 1007, "text is not UTF-8"),
        (vec![frame(TEXT, b"ab\xFF")], 1007, "text is not UTF-8"),
        (vec![frame(TEXT, [0xE2]), frame(CONTINUE, [0x28])], 1007, "text is not UTF-8"),
        (vec![frame(TEXT, [0xE2]), frame(FIN | CONTINUE, "")], 1007, "text is not UTF-8"),
        (vec![frame(FIN | TEXT, [b'a'; 1001])], 1009, "message is too long"),
        (vec![frame(FIN | BINARY, [0xFF; 1001])], 1009, "message is too long"),
        (
            vec![frame(BINARY, [0; 1000]), frame(CONTINUE, ""), frame(CONTINUE, "a")],
            1009,
            "message is too long",
        ),
        (vec![frame(TEXT, [b'a'; 600]), frame(FIN | CONTINUE, [b'a'; 401])], 1009, "message is too long"),
    ];
    for (frames, code, reason) in table {
        let fault = End::Fault(Violation { code: code.into(), reason });
        let stream = frames.concat();
        assert_eq!(decode(&stream, 1000).end, fault);
        // Messages before it are not lost, and bytes after it do not matter.
        let before = [frame(FIN | TEXT, "ok"), stream, frame(CLOSE, "")].concat();
        let outcome = decode(&before, 1000);
        assert_eq!((&outcome.said[0], outcome.end), (&text("ok"), fault));
        assert!(reason.is_ascii() && reason.len() <= 123);
    }
}

/// For every sequence of one and two bytes, and some of three and four: an unfinished text that ends with it
/// is refused exactly if no character begins like that.
#[test]
fn text_is_refused_with_the_byte_that_spoils_it() {
    // Each 64 characters from a multiple of 64 on have all bytes except the last in common.
    let mut beginnings = HashSet::from([Vec::new()]);
    for character in (0..=u32::from(char::MAX)).step_by(64).filter_map(char::from_u32) {
        let encoded = character.to_string().into_bytes();
        beginnings.extend((1..encoded.len()).map(|end| encoded[..end].to_vec()));
    }
    // Whether the bytes are whole characters followed by the beginning of one.
    let is_beginning = |bytes: &[u8]| {
        (0..=bytes.len()).any(|middle| {
            std::str::from_utf8(&bytes[..middle]).is_ok() && beginnings.contains(&bytes[middle..])
        })
    };
    let check = |sequence: &[u8], before: usize| {
        let stream = frame(TEXT, [&b"a".repeat(before), sequence].concat());
        let outcome = decode_cut(&stream, [], 1000);
        let good = is_beginning(sequence);
        assert_eq!(
            outcome.end,
            if good { End::Unfinished } else { End::Fault(NOT_UTF8) },
            "{sequence:x?} after {before} letters"
        );
        let last = stream.len() - 1;
        assert_eq!(decode_cut(&stream, [last], 1000), outcome, "{sequence:x?} after {before} letters");
    };
    let borders = [0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF];
    for first in 0x78..=u8::MAX {
        check(&[first], 0);
        for second in 0..=u8::MAX {
            check(&[first, second], 0);
        }
        for second in borders {
            check(&[first, second], 150);
            for third in borders {
                check(&[first, second, third], 0);
                check(&[first, second, third, 0x80], 61);
            }
        }
    }
}

#[test]
fn a_declared_length_reserves_nothing() {
    let mut stream = vec![FIN | BINARY, 0xFF];
    stream.extend((1_u64 << 30).to_be_bytes());
    stream.extend(MASK);
    stream.extend([0x55; 10]);
    let refused =
        MessageDecoder::default().decode(&mut stream.clone(), 1 << 20, None).map(|step| step.consumed);
    assert_eq!(refused, Err(TOO_LONG));

    let mut decoder = MessageDecoder::default();
    let step = decoder.decode(&mut stream, 2 << 30, None).unwrap();
    assert_eq!(step, MessageStep { consumed: 24, item: None });
    assert!(!decoder.is_idle());
    assert!(decoder.buffered_bytes() <= 64, "{} bytes", decoder.buffered_bytes());

    let mut largest = [FIN | TEXT, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0];
    assert_eq!(MessageDecoder::default().decode(&mut largest, 1 << 20, None), Err(TOO_LONG));
}

#[test]
fn memory_follows_what_arrived_and_is_let_go_with_the_message() {
    const LEN: usize = 100_000;
    const MESSAGE_BYTES_MAX: usize = 4 * LEN;
    let mut stream = frame(FIN | TEXT, vec![b'x'; LEN]);
    let mut decoder = MessageDecoder::default();
    assert_eq!(
        decoder.decode(&mut stream[..14], MESSAGE_BYTES_MAX, None),
        Ok(MessageStep { consumed: 14, item: None })
    );
    assert_eq!(decoder.buffered_bytes(), 0);
    let (mut arrived, mut growths) = (0, 0);
    for piece in stream[14..].chunks_mut(77) {
        let before = decoder.buffered_bytes();
        let step = decoder.decode(piece, MESSAGE_BYTES_MAX, None).unwrap();
        arrived += step.consumed;
        assert_eq!(step.item.is_some(), arrived == LEN);
        growths += usize::from(decoder.buffered_bytes() != before);
        assert!((arrived..=LEN.min(2 * arrived)).contains(&decoder.buffered_bytes()));
        assert_eq!(decoder.is_idle(), arrived == LEN);
    }
    assert!((8..=12).contains(&growths), "{growths}");
    assert_eq!(decoder.buffered_bytes(), LEN);
    assert_eq!(decoder.decode(&mut [], MESSAGE_BYTES_MAX, None), Ok(MessageStep::NEED_MORE));
    assert!(decoder.is_idle());
    assert_eq!(decoder.buffered_bytes(), 0);
}

#[test]
fn what_lies_whole_in_the_input_is_not_copied() {
    let mut decoder = MessageDecoder::default();
    for (first, payload) in [(FIN | TEXT, "text"), (FIN | BINARY, "binary"), (PING, "ping"), (CLOSE, "")] {
        let mut stream = [frame(first, payload), frame(PONG, "rest")].concat();
        let end = stream.len() - frame(PONG, "rest").len();
        let step = decoder.decode(&mut stream, 100, None).unwrap();
        assert_eq!(step.consumed, end);
        assert!(step.item.is_some());
        assert!(decoder.is_idle());
        assert_eq!(decoder.buffered_bytes(), 0);
        assert_eq!(stream[end - payload.len()..end], *payload.as_bytes());
    }
}

#[test]
fn a_message_may_have_any_number_of_fragments_at_little_cost_for_each() {
    const FRAGMENTS: usize = 65_536;
    let piece = "ein Stück Text, dessen Länge vierundsechzig Oktette beträgt";
    let piece = format!("{piece:.<61}");
    assert_eq!(piece.len(), 64);
    let mut decoder = MessageDecoder::default();
    let mut growths = 0;
    for index in 0..FRAGMENTS {
        let opcode = if index == 0 { TEXT } else { CONTINUE };
        let fin = if index == FRAGMENTS - 1 { FIN } else { 0 };
        let before = decoder.buffered_bytes();
        let mut bytes = frame(fin | opcode, &piece);
        let step = decoder.decode(&mut bytes, FRAGMENTS * 64, None).unwrap();
        assert_eq!(step.consumed, 70);
        if fin == FIN {
            assert_eq!(step.item, Some(Item::Text(&piece.repeat(FRAGMENTS))));
        } else {
            assert_eq!(step.item, None);
        }
        // Neither copying nor checking starts over: growth is rare, and all but the last characters are
        // finished with.
        growths += usize::from(decoder.buffered_bytes() != before);
        assert_eq!(decoder.message.whole_bytes, (index + 1) * 64);
    }
    assert_eq!(growths, 17);
}

#[test]
fn a_client_decodes_what_a_server_sends_however_it_is_cut() {
    let mut bytes = Vec::new();
    codec::write_frame(OpCode::Text, "grüße".as_bytes(), &mut bytes);
    codec::write_frame(OpCode::Ping, b"p", &mut bytes);
    codec::write_frame(OpCode::Binary, &[7; 300], &mut bytes);
    let expected = [Said::Text("grüße".into()), Said::Ping(b"p".to_vec()), Said::Binary(vec![7; 300])];
    for cut in 0..=bytes.len() {
        let feeder = Feeder { decoder: MessageDecoder::of(Sender::Server), ..Feeder::new(1000) };
        let outcome = feed_cut(feeder, &bytes, [cut]);
        assert_eq!((&outcome.said[..], outcome.end), (&expected[..], End::Idle), "cut at {cut}");
    }
}
