#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use super::*;

const OPCODES: [(u8, OpCode); 6] = [
    (0x0, OpCode::Continue),
    (0x1, OpCode::Text),
    (0x2, OpCode::Binary),
    (0x8, OpCode::Close),
    (0x9, OpCode::Ping),
    (0xA, OpCode::Pong),
];

/// The length byte and the extended length of RFC 6455 section 5.2.
fn length_bytes(len: u64) -> Vec<u8> {
    match len {
        0..=125 => vec![u8::try_from(len).unwrap()],
        126..=65_535 => [&[126][..], &len.to_be_bytes()[6..]].concat(),
        _ => [&[127][..], &len.to_be_bytes()].concat(),
    }
}

#[test]
fn a_head_is_parsed_with_its_last_byte_and_not_before() {
    const MASK: [u8; 4] = [1, 2, 3, 4];
    let lengths = [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 40, (1 << 63) - 1];
    for (bits, opcode) in OPCODES {
        for payload_bytes in lengths {
            for fin in [false, true] {
                if opcode.is_control() && (payload_bytes > 125 || !fin) {
                    continue;
                }
                let mut bytes = vec![bits | if fin { 0x80 } else { 0 }];
                bytes.extend(length_bytes(payload_bytes));
                bytes[1] |= 0x80;
                bytes.extend(MASK);
                let head_bytes = bytes.len();
                for end in 0..head_bytes {
                    assert_eq!(
                        parse_head(&bytes[..end], Sender::Client, false),
                        Ok(None),
                        "{bytes:x?} up to {end}"
                    );
                }
                let head =
                    FrameHead { fin, is_compressed: false, opcode, mask: MASK, payload_bytes, head_bytes };
                assert_eq!(parse_head(&bytes, Sender::Client, false), Ok(Some(head)));
                bytes.extend([0xFF; 20]);
                assert_eq!(parse_head(&bytes, Sender::Client, false), Ok(Some(head)));
            }
        }
    }
}

#[test]
fn a_fault_is_found_with_the_byte_that_makes_it() {
    const RESERVED: &str = "reserved bit is set";
    const OPCODE: &str = "reserved opcode";
    const FRAGMENTED: &str = "control frame is fragmented";
    const LONG: &str = "control frame has an extended length";
    const BARE: &str = "frame is not masked";
    const NOT_MINIMAL: &str = "length is not minimally encoded";
    const TOP_BIT: &str = "length has its top bit set";
    // The bytes up to and including the one at fault.
    let table: [(&[u8], &str); 26] = [
        (&[0xC1], RESERVED),
        (&[0xA1], RESERVED),
        (&[0x91], RESERVED),
        (&[0xF3], RESERVED),
        (&[0x83], OPCODE),
        (&[0x07], OPCODE),
        (&[0x8B], OPCODE),
        (&[0x0F], OPCODE),
        (&[0x08], FRAGMENTED),
        (&[0x09], FRAGMENTED),
        (&[0x0A], FRAGMENTED),
        (&[0x81, 0x00], BARE),
        (&[0x82, 0x7E], BARE),
        (&[0x89, 0x7F], BARE),
        (&[0x88, 0xFE], LONG),
        (&[0x89, 0xFE], LONG),
        (&[0x8A, 0xFF], LONG),
        (&[0x81, 0xFE, 0, 0], NOT_MINIMAL),
        (&[0x81, 0xFE, 0, 125], NOT_MINIMAL),
        (&[0x02, 0xFF, 0, 0, 0, 0, 0, 0], NOT_MINIMAL),
        (&[0x81, 0xFF, 0x80], TOP_BIT),
        (&[0x81, 0xFF, 0xFF], TOP_BIT),
        (&[0x01, 0xFE, 0, 1], NOT_MINIMAL),
        (&[0x00, 0xFE, 0, 99], NOT_MINIMAL),
        (&[0x70], RESERVED),
        (&[0x80, 0x01], BARE),
    ];
    for (bytes, reason) in table {
        let fault = Err(Violation { code: CloseCode::Protocol, reason });
        for end in 0..bytes.len() {
            assert_eq!(parse_head(&bytes[..end], Sender::Client, false), Ok(None), "{bytes:x?} up to {end}");
        }
        for tail in 0..16 {
            let longer = [bytes, &[0xA5; 16][..tail]].concat();
            assert_eq!(parse_head(&longer, Sender::Client, false), fault, "{longer:x?}");
        }
    }
    assert_eq!(UNMASKED.to_string(), "frame is not masked (1002)");
}

#[test]
fn of_all_first_two_bytes_only_the_legal_ones_pass() {
    let is_compressed = |first, second| matches!(first & 0x7F, 0x41 | 0x42) && second & 0x80 != 0;
    for first in 0..=u8::MAX {
        for second in 0..=u8::MAX {
            let control = first & 0x08 != 0;
            let legal = first & 0x70 == 0
                && OPCODES.iter().any(|&(bits, _)| bits == first & 0x0F)
                && second & 0x80 != 0
                && (!control || (first & 0x80 != 0 && second & 0x7F <= 125));
            let is_taken =
                |first, may_compress| parse_head(&[first, second], Sender::Client, may_compress).is_ok();
            assert_eq!(is_taken(first, false), legal, "{first:#x} {second:#x}");
            assert_eq!(
                is_taken(first, true),
                legal || is_compressed(first, second),
                "{first:#x} {second:#x}"
            );
        }
    }
}

#[test]
fn unmasking_is_the_naive_loop_in_every_phase_and_length() {
    let seed = 0x6455;
    eprintln!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for len in 0..70 {
        for phase in 0..9 {
            for start in 0..4 {
                let mask: [u8; 4] = std::array::from_fn(|_| random.u8(..));
                let masked: Vec<u8> = (0..start + len).map(|_| random.u8(..)).collect();
                let mut naive = masked.clone();
                for (index, byte) in naive[start..].iter_mut().enumerate() {
                    *byte ^= mask[(phase + index) % 4];
                }
                let mut fast = masked;
                unmask(&mut fast[start..], mask, phase);
                assert_eq!(fast, naive, "len {len} phase {phase} start {start}");
            }
        }
    }
}

#[test]
fn frames_are_final_bare_and_minimal_and_the_same_written_or_shared() {
    for (bits, opcode) in OPCODES {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            if opcode.is_control() && len > CONTROL_BYTES_MAX {
                continue;
            }
            let payload = vec![0x5A; len];
            let expected = [&[0x80 | bits][..], &length_bytes(len as u64), &payload].concat();
            let mut out = b"before".to_vec();
            write_frame(opcode, &payload, &mut out);
            assert_eq!(out, [&b"before"[..], &expected].concat());
            assert_eq!(*frame(opcode, &payload), *expected);
        }
    }
}

#[test]
fn a_close_bears_its_code_and_whole_characters_of_its_reason() {
    let close = |code: Option<u16>, reason: &str| {
        let mut out = Vec::new();
        write_close(code.map(CloseCode::from), reason, &mut out);
        out
    };
    assert_eq!(close(None, "unsaid"), [0x88, 0]);
    assert_eq!(close(Some(1000), ""), [0x88, 2, 0x03, 0xE8]);
    assert_eq!(close(Some(4400), "no"), [0x88, 4, 0x11, 0x30, b'n', b'o']);
    for (reason, kept) in [
        ("x".repeat(123), 123),
        ("x".repeat(124), 123),
        ("é".repeat(62), 122),
        ("x".to_owned() + &"é".repeat(62), 123),
        ("\u{1F63E}".repeat(40), 120),
        ("xxx".to_owned() + &"\u{1F63E}".repeat(40), 123),
    ] {
        let out = close(Some(1001), &reason);
        assert_eq!(out[..4], [0x88, u8::try_from(kept + 2).unwrap(), 0x03, 0xE9]);
        assert_eq!(out[4..], reason.as_bytes()[..kept]);
        assert!(std::str::from_utf8(&out[4..]).is_ok());
    }
}

#[test]
fn codes_on_the_wire_are_the_registered_and_the_private_ones() {
    let registered = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014];
    for code in 0..=u16::MAX {
        let legal = registered.contains(&code) || (3000..5000).contains(&code);
        assert_eq!(may_be_in_close(code), legal, "{code}");
        assert_eq!(u16::from(CloseCode::from(code)), code);
    }
}

#[test]
fn a_server_masks_nothing() {
    let head = FrameHead {
        fin: true,
        is_compressed: false,
        opcode: OpCode::Text,
        mask: [0; 4],
        payload_bytes: 3,
        head_bytes: 2,
    };
    assert_eq!(parse_head(&[0x81, 3], Sender::Server, false), Ok(Some(head)));
    assert_eq!(parse_head(&[0x81], Sender::Server, false), Ok(None));
    let fault = parse_head(&[0x81, 0x83], Sender::Server, false).map_err(|violation| violation.reason);
    assert_eq!(fault, Err("frame of a server is masked"));
}
