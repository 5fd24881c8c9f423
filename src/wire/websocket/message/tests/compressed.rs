//! Compressed messages, if compression was negotiated (RFC 7692 section 6).

use super::*;
use crate::wire::deflate::{Deflater, Window};

/// The bit in the first frame of a compressed message.
const RSV1: u8 = 0x40;

fn feeder() -> Feeder {
    Feeder { inflater: Some(Inflater::default()), ..Feeder::new(1000) }
}

fn decode(frames: &[Vec<u8>]) -> Outcome {
    decode_by(feeder, &frames.concat())
}

fn deflated(payload: &[u8]) -> Vec<u8> {
    Deflater::default().deflate(Window::Full, payload).expect("it gets shorter").to_vec()
}

/// `Hello`, as RFC 7692 section 7.2.3.1 compresses it.
const HELLO: &[u8] = &[0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00];

#[test]
fn compressed_messages_are_understood_beside_others() {
    let long = "ä".repeat(500);
    let deflated = deflated(long.as_bytes());
    let table: Vec<(Vec<Vec<u8>>, Vec<Said>)> = vec![
        (vec![frame(FIN | RSV1 | TEXT, HELLO)], vec![text("Hello")]),
        (vec![frame(FIN | RSV1 | BINARY, HELLO)], vec![Said::Binary(b"Hello".to_vec())]),
        (vec![frame(FIN | RSV1 | TEXT, &deflated), frame(FIN | TEXT, "b")], vec![text(&long), text("b")]),
        (vec![frame(FIN | TEXT, "b"), frame(FIN | RSV1 | TEXT, &deflated)], vec![text("b"), text(&long)]),
        // As the RFC has it in its section 7.2.3.6, and as some peers send it.
        (vec![frame(FIN | RSV1 | TEXT, [0])], vec![text("")]),
        (vec![frame(FIN | RSV1 | TEXT, [])], vec![text("")]),
        (vec![frame(RSV1 | TEXT, []), frame(CONTINUE, []), frame(FIN | CONTINUE, [0])], vec![text("")]),
        (vec![frame(RSV1 | TEXT, &HELLO[..3]), frame(FIN | CONTINUE, &HELLO[3..])], vec![text("Hello")]),
        (
            vec![
                frame(RSV1 | TEXT, &HELLO[..1]),
                frame(PING, "1"),
                frame(CONTINUE, &HELLO[1..6]),
                frame(PONG, ""),
                frame(FIN | CONTINUE, &HELLO[6..]),
                frame(TEXT, "p"),
                frame(FIN | CONTINUE, "lain"),
            ],
            vec![Said::Ping(b"1".to_vec()), Said::Pong(vec![]), text("Hello"), text("plain")],
        ),
    ];
    for (frames, said) in table {
        assert_eq!(decode(&frames), Outcome { said, end: End::Idle });
    }
}

#[test]
fn every_violation_has_its_code() {
    let bomb = deflated(&[b'a'; 1001]);
    let table: Vec<(Vec<Vec<u8>>, u16, &str)> = vec![
        (vec![frame(FIN | 0x20 | TEXT, HELLO)], 1002, "reserved bit is set"),
        (vec![frame(FIN | RSV1 | 0x10 | TEXT, HELLO)], 1002, "reserved bit is set"),
        (vec![frame(RSV1 | PING, "")], 1002, "compressed frame does not begin a message"),
        (vec![frame(RSV1 | CLOSE, "")], 1002, "compressed frame does not begin a message"),
        (vec![frame(FIN | RSV1 | CONTINUE, "")], 1002, "compressed frame does not begin a message"),
        (
            vec![frame(RSV1 | TEXT, &HELLO[..3]), frame(FIN | RSV1 | CONTINUE, &HELLO[3..])],
            1002,
            "compressed frame does not begin a message",
        ),
        (vec![frame(FIN | RSV1 | 0x3, "")], 1002, "reserved opcode"),
        (vec![frame(FIN | RSV1 | TEXT, "no deflate data")], 1002, "message cannot be inflated"),
        (vec![frame(FIN | RSV1 | TEXT, &HELLO[..5])], 1002, "message cannot be inflated"),
        (
            vec![frame(RSV1 | TEXT, &HELLO[..3]), frame(FIN | CONTINUE, "else")],
            1002,
            "message cannot be inflated",
        ),
        (vec![frame(FIN | RSV1 | TEXT, deflated(&[0xC3; 300]))], 1007, "text is not UTF-8"),
        (vec![frame(FIN | RSV1 | TEXT, &bomb)], 1009, "message is too long"),
        (
            vec![frame(RSV1 | TEXT, &bomb[..4]), frame(FIN | CONTINUE, &bomb[4..])],
            1009,
            "message is too long",
        ),
        (vec![frame(FIN | RSV1 | TEXT, [0; 1190])], 1009, "message is too long"),
    ];
    for (frames, code, reason) in table {
        let fault = End::Fault(Violation { code: code.into(), reason });
        assert_eq!(decode(&frames).end, fault, "{frames:x?}");
        let plain = [frame(FIN | TEXT, "ok"), frames.concat()].concat();
        assert!(matches!(feed_cut(Feeder::new(1000), &plain, []).end, End::Fault(_)), "{frames:x?}");
    }
}

#[test]
fn what_cannot_be_compressed_may_be_a_little_longer_on_its_way() {
    let mut random = fastrand::Rng::with_seed(9);
    let payload = std::iter::repeat_with(|| random.u8(128..)).take(1000).collect::<Vec<_>>();
    // One stored block, as written by a compressor that gives up.
    let mut stored = vec![0x00, 0xE8, 0x03, 0x17, 0xFC];
    stored.extend_from_slice(&payload);
    stored.push(0x00);
    let outcome = decode(&[frame(FIN | RSV1 | BINARY, stored)]);
    assert_eq!(outcome, Outcome { said: vec![Said::Binary(payload)], end: End::Idle });
}

#[test]
fn without_an_agreement_nothing_is_compressed() {
    let outcome = decode_cut(&frame(FIN | RSV1 | TEXT, HELLO), [], 1000);
    assert_eq!(outcome.end, End::Fault(Violation { code: 1002.into(), reason: "reserved bit is set" }));
}
