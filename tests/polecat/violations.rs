//! Violations of RFC 6455, and closing: PROTOCOL.md, "11. WebSocket rules". Each violation is split at every
//! byte.

use std::io::{Read, Write};

use crate::support::http::is_gone;
use crate::support::raw::{BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame};
use crate::support::{Frame, Http, RawSocket, Server, wait_until};

const MESSAGE_BYTES_MAX: usize = 1000;

#[test]
fn a_violation_is_closed_with_its_code_however_it_is_cut() {
    let server = Server::start_with(|options| options.config.limits.message_bytes_max = MESSAGE_BYTES_MAX);
    let mut barrier = Http::connect(server.addr());
    let all = [framing(), lengths(), texts(), closes()].concat();
    for (name, bytes, code) in &all {
        for target in ["/ws", "/api/ws/room"] {
            let mut client = RawSocket::connect(server.addr(), target);
            client.send(bytes);
            assert_eq!(client.expect_close(), *code, "{name} at {target}");
        }
        let mut clients =
            (0..bytes.len()).map(|_| RawSocket::connect(server.addr(), "/api/ws")).collect::<Vec<_>>();
        for (cut, client) in clients.iter_mut().enumerate() {
            client.send(&bytes[..cut]);
        }
        // When this is answered, the server has read all first parts.
        barrier.get("/api/health").ok();
        for (cut, client) in clients.iter_mut().enumerate() {
            client.send_what_is_taken(&bytes[cut..]);
            assert_eq!(client.expect_close(), *code, "{name}, cut at {cut}");
        }
    }
}

type Violation = (String, Vec<u8>, u16);

fn framing() -> Vec<Violation> {
    let mut unmasked = vec![0x81, 2];
    unmasked.extend(b"hi");
    let within = |opcode: u8| [frame(false, TEXT, b"a"), frame(true, opcode, b"b")].concat();
    let mut violations = vec![
        ("a frame without a mask".to_owned(), unmasked, 1002),
        ("a control frame without a mask".to_owned(), vec![0x80 | PING, 0], 1002),
        ("a continuation of nothing".to_owned(), frame(true, CONTINUATION, b"x"), 1002),
        ("an unfinished continuation of nothing".to_owned(), frame(false, CONTINUATION, b"x"), 1002),
        ("text within a message".to_owned(), within(TEXT), 1002),
        ("binary within a message".to_owned(), within(BINARY), 1002),
        (
            "a continuation of what is finished".to_owned(),
            [frame(false, TEXT, b"a"), frame(true, CONTINUATION, b"b"), frame(true, CONTINUATION, b"c")]
                .concat(),
            1002,
        ),
    ];
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        violations.push((format!("opcode {opcode}"), frame(true, opcode, b""), 1002));
    }
    for (bit, opcode) in [(0x40, TEXT), (0x20, BINARY), (0x10, TEXT), (0x40, PING), (0x40, CLOSE)] {
        let mut bytes = frame(true, opcode, b"hi");
        bytes[0] |= bit;
        violations.push((format!("a reserved bit {bit:#x} in opcode {opcode}"), bytes, 1002));
    }
    let mut continued = frame(true, CONTINUATION, b"b");
    continued[0] |= 0x40;
    let bytes = [frame(false, TEXT, b"a"), continued].concat();
    violations.push(("a reserved bit in a continuation".to_owned(), bytes, 1002));
    for opcode in [PING, PONG, CLOSE] {
        violations.push((format!("opcode {opcode} in fragments"), frame(false, opcode, b""), 1002));
        violations.push((format!("opcode {opcode} of 126 bytes"), frame(true, opcode, &[0; 126]), 1002));
    }
    violations
}

/// Headers without the payload that they announce: enough to be refused.
fn lengths() -> Vec<Violation> {
    let short = |bytes: u16| [vec![0x81, 0x80 | 126], bytes.to_be_bytes().to_vec()].concat();
    let long = |bytes: u64| [vec![0x82, 0x80 | 127], bytes.to_be_bytes().to_vec()].concat();
    let masked = |head: Vec<u8>| [head, vec![1, 2, 3, 4]].concat();
    let over_in_two = [frame(false, BINARY, &[7; 600]), masked(vec![0x80, 0x80 | 126, 1, 145])].concat();
    vec![
        ("16 bits for 0 bytes".to_owned(), masked(short(0)), 1002),
        ("16 bits for 125 bytes".to_owned(), masked(short(125)), 1002),
        ("64 bits for 0 bytes".to_owned(), masked(long(0)), 1002),
        ("64 bits for 125 bytes".to_owned(), masked(long(125)), 1002),
        ("64 bits for 65535 bytes".to_owned(), masked(long(0xffff)), 1002),
        ("64 bits with the top bit".to_owned(), masked(long(1 << 63 | 70_000)), 1002),
        ("64 bits all set".to_owned(), masked(long(u64::MAX)), 1002),
        ("a Ping with 16 bits".to_owned(), masked(vec![0x80 | PING, 0x80 | 126, 0, 5]), 1002),
        ("a Ping with 64 bits".to_owned(), masked([vec![0x80 | PING, 0xff], vec![0; 8]].concat()), 1002),
        ("one byte too many".to_owned(), masked(short(1001)), 1009),
        ("64 KiB too many".to_owned(), masked(long(0x1_0000)), 1009),
        ("as many bytes as there can be".to_owned(), masked(long(u64::MAX >> 1)), 1009),
        ("one byte too many in fragments".to_owned(), over_in_two, 1009),
    ]
}

/// A text of `declared` bytes, with these at its beginning.
fn begun(declared: u8, there: &[u8]) -> Vec<u8> {
    let mut bytes = frame(true, TEXT, there);
    bytes[1] = 0x80 | declared;
    bytes
}

fn texts() -> Vec<Violation> {
    let mut violations = vec![
        ("text that ends within a character".to_owned(), frame(true, TEXT, "é".as_bytes()[..1].into()), 1007),
        ("a wrong byte in a frame that is still coming".to_owned(), begun(100, b"ok \xff"), 1007),
        ("a wrong second byte, still coming".to_owned(), begun(100, b"ok \xc3("), 1007),
        (
            "a wrong byte in a fragment".to_owned(),
            [frame(false, TEXT, b"ok"), frame(false, CONTINUATION, b"\xff")].concat(),
            1007,
        ),
        (
            "a character cut by fragments and not finished".to_owned(),
            [frame(false, TEXT, b"\xe2\x82"), frame(true, CONTINUATION, b"x")].concat(),
            1007,
        ),
        (
            "fragments that end within a character".to_owned(),
            [frame(false, TEXT, b"\xf0\x9f"), frame(true, CONTINUATION, b"\xa6")].concat(),
            1007,
        ),
    ];
    let wrong = [
        &b"\x80"[..],
        b"\xbf",
        b"\xc0\x80",
        b"\xc1\xbf",
        b"\xe0\x80\x80",
        b"\xe0\x9f\xbf",
        b"\xed\xa0\x80",
        b"\xed\xbf\xbf",
        b"\xf0\x80\x80\x80",
        b"\xf0\x8f\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"\xfe",
        b"\xff",
        b"\xe2\x28\xa1",
        b"\xe2\x82\x28",
    ];
    for bytes in wrong {
        let text = [b"a", bytes].concat();
        violations.push((format!("the text {bytes:x?}"), frame(true, TEXT, &text), 1007));
        // As soon as it can be known, not when the frame ends.
        violations.push((format!("the text {bytes:x?}, still coming"), begun(125, &text), 1007));
    }
    violations
}

fn closes() -> Vec<Violation> {
    let mut violations = vec![
        ("a Close of one byte".to_owned(), frame(true, CLOSE, &[3]), 1002),
        ("a Close whose reason is no UTF-8".to_owned(), frame(true, CLOSE, b"\x03\xe8\xff"), 1007),
        (
            "a Close whose reason ends within a character".to_owned(),
            frame(true, CLOSE, b"\x03\xe8\xc3"),
            1007,
        ),
    ];
    for code in [0_u16, 1, 999, 1004, 1005, 1006, 1015, 1016, 1999, 2000, 2999, 5000, 65_535] {
        violations.push((format!("Close {code}"), frame(true, CLOSE, &code.to_be_bytes()), 1002));
    }
    violations
}

#[test]
fn the_longest_message_is_taken_whole_and_in_fragments() {
    let server = Server::start_with(|options| options.config.limits.message_bytes_max = MESSAGE_BYTES_MAX);
    let mut client = RawSocket::connect(server.addr(), "/api/ws");
    let longest = vec![b'x'; MESSAGE_BYTES_MAX];
    client.send_frame(true, TEXT, &longest);
    assert_eq!(client.next_message().payload, longest);
    client.send_frame(false, BINARY, &longest[..100]);
    for part in longest[100..].chunks(100) {
        client.send_frame(false, CONTINUATION, part);
    }
    client.send_frame(true, CONTINUATION, b"");
    assert_eq!(
        client.next_message(),
        Frame { last: true, opcode: BINARY, compressed: false, payload: longest }
    );
}

#[test]
fn a_close_is_answered_with_its_code_also_within_a_message() {
    let server = Server::start();
    let codes =
        [1000_u16, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999];
    for target in ["/ws", "/api/ws/room", "/api/ws"] {
        for code in codes {
            let mut client = RawSocket::connect(server.addr(), target);
            client.send_frame(false, TEXT, b"unfinished");
            client.send_frame(true, CLOSE, &[&code.to_be_bytes()[..], "véil".as_bytes()].concat());
            // Bytes after a Close are not read.
            client.send_what_is_taken(&frame(true, CONTINUATION, b"\xff"));
            assert_eq!(client.expect_close(), code, "{target}");
        }
        let mut client = RawSocket::connect(server.addr(), target);
        client.send_frame(false, TEXT, b"unfinished");
        client.send_frame(true, CLOSE, b"");
        let answer = client.next_frame().expect("an answer");
        assert_eq!((answer.opcode, answer.payload), (CLOSE, vec![]), "a Close without a code");
        assert_eq!(client.next_frame(), None);
    }
}

#[test]
fn the_answer_to_a_close_has_a_time_out() {
    let server = Server::start_with(|options| options.config.timeouts.close_ms = 200);
    let mut client = RawSocket::connect(server.addr(), "/ws?subscribe_token=wrong");
    let close = client.next_frame().expect("a Close");
    assert_eq!((close.opcode, &close.payload[..2]), (CLOSE, &4400_u16.to_be_bytes()[..]));
    // Not an answer, and no reason to wait any longer.
    client.send_what_is_taken(&frame(true, TEXT, b"hello?"));
    assert_eq!(client.next_frame(), None, "dropped without the answer");

    let patient = Server::start_with(|options| options.config.timeouts.close_ms = 3_600_000);
    let mut client = RawSocket::connect(patient.addr(), "/ws?subscribe_token=wrong");
    assert_eq!(client.expect_close(), 4400, "the answer ends it at once");
}

#[test]
fn who_closes_and_then_stays_is_dropped() {
    let server = Server::start_with(|options| options.config.timeouts.close_ms = 200);
    let mut client = RawSocket::connect(server.addr(), "/api/ws");
    client.send_frame(true, CLOSE, &1000_u16.to_be_bytes());
    assert_eq!(client.next_frame().expect("an answer").opcode, CLOSE);
    assert_eq!(client.next_frame(), None, "the server ends its half");
    // Our half is still open. What is sent is thrown away, until nobody takes it.
    let mut stream = client.stream();
    stream.set_nonblocking(true).expect("a socket can be told not to wait");
    wait_until("the connection is dropped", || {
        std::thread::yield_now();
        stream.write(b"x").and_then(|_| stream.read(&mut [0])).is_err_and(|error| is_gone(&error))
    });
}
