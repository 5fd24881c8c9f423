//! RFC 6455 as it is spoken: PROTOCOL.md, "11. WebSocket rules".

use crate::support::{RawSocket, Server, Socket, raw};

#[test]
fn a_ping_frame_is_answered_with_its_payload() {
    let server = Server::start();
    for target in ["/ws", "/api/ws/room", "/api/ws"] {
        let mut client = RawSocket::connect(server.addr(), target);
        for payload in [&b""[..], b"payload", &[255; 125]] {
            client.send_frame(true, raw::PING, payload);
            let pong = client.next_frame().expect("the connection is open");
            assert_eq!((pong.opcode, pong.payload.as_slice(), pong.last), (raw::PONG, payload, true));
        }
        client.send_frame(true, raw::PONG, b"nobody asked");
        client.send_frame(true, raw::PING, b"still here");
        assert_eq!(client.next_frame().expect("the connection is open").payload, b"still here");
    }
}

#[test]
fn a_message_may_come_in_fragments_with_control_frames_between() {
    let server = Server::start();
    let mut client = RawSocket::connect(server.addr(), "/api/ws");
    let text = "aé日\u{1F980}z".as_bytes();
    client.send_frame(false, raw::TEXT, &[]);
    for byte in text {
        // Characters are cut in the middle.
        client.send_frame(false, raw::CONTINUATION, &[*byte]);
        client.send_frame(true, raw::PING, &[*byte]);
        let pong = client.next_frame().expect("the connection is open");
        assert_eq!((pong.opcode, pong.payload), (raw::PONG, vec![*byte]));
    }
    client.send_frame(true, raw::CONTINUATION, &[]);
    let echo = client.next_message();
    assert_eq!((echo.opcode, echo.payload.as_slice()), (raw::TEXT, text));
}

#[test]
fn a_close_is_answered_with_its_code_and_the_connection_ends() {
    let server = Server::start();
    for target in ["/ws", "/api/ws/room", "/api/ws"] {
        for code in [1000_u16, 1001, 1011, 3000, 4999] {
            let mut client = RawSocket::connect(server.addr(), target);
            let mut payload = code.to_be_bytes().to_vec();
            payload.extend(b"good bye");
            client.send_frame(true, raw::CLOSE, &payload);
            let answer = client.next_frame().expect("an answer");
            assert_eq!(answer.opcode, raw::CLOSE);
            assert!(
                answer.payload.is_empty()
                    || answer.payload[..2] == code.to_be_bytes()
                    || code_is_1000(&answer)
            );
            assert_eq!(client.next_frame(), None, "the server ends the connection");
        }
        let mut client = RawSocket::connect(server.addr(), target);
        client.send_frame(true, raw::CLOSE, &[]);
        assert_eq!(client.next_frame().expect("an answer").opcode, raw::CLOSE);
        assert_eq!(client.next_frame(), None, "the server ends the connection");
    }
}

#[test]
fn what_breaks_the_protocol_is_closed_with_its_code() {
    let server = Server::start();
    let mut unmasked = vec![0x81, 2];
    unmasked.extend(b"hi");
    let mut reserved_bit = raw::frame(true, raw::TEXT, b"hi");
    reserved_bit[0] |= 0x40;
    let mut fragments = raw::frame(false, raw::TEXT, b"a");
    fragments.extend(raw::frame(true, raw::TEXT, b"b"));
    let mut bad_utf8 = raw::frame(false, raw::TEXT, b"ok");
    bad_utf8.extend(raw::frame(true, raw::CONTINUATION, &[0xff]));
    for (name, bytes, code) in [
        ("a frame without a mask", unmasked, 1002),
        ("a reserved bit", reserved_bit, 1002),
        ("a reserved opcode", raw::frame(true, 3, b""), 1002),
        ("a reserved control opcode", raw::frame(true, 11, b""), 1002),
        ("a fragmented Ping", raw::frame(false, raw::PING, b""), 1002),
        ("a long Ping", raw::frame(true, raw::PING, &[0; 126]), 1002),
        ("a continuation of nothing", raw::frame(true, raw::CONTINUATION, b"x"), 1002),
        ("a message within a message", fragments, 1002),
        ("a Close of one byte", raw::frame(true, raw::CLOSE, &[3]), 1002),
        ("a Close with a reserved code", raw::frame(true, raw::CLOSE, &1005_u16.to_be_bytes()), 1002),
        ("text that is no UTF-8", raw::frame(true, raw::TEXT, &[0xc3, 0x28]), 1007),
        ("text that ends within a character", raw::frame(true, raw::TEXT, &[0xc3]), 1007),
        ("fragments that are no UTF-8", bad_utf8, 1007),
    ] {
        for target in ["/ws", "/api/ws/room", "/api/ws"] {
            let mut client = RawSocket::connect(server.addr(), target);
            client.send(&bytes);
            assert_eq!(client.expect_close(), code, "{name} at {target}");
        }
    }
    Socket::connect(server.addr(), "/ws").expect_nothing_more();
}

#[test]
fn one_turn_of_the_loop_echoes_many_messages_in_order() {
    let server = Server::start();
    let mut client = RawSocket::connect(server.addr(), "/api/ws");
    let texts = (0..500).map(|number| format!("message {number}")).collect::<Vec<_>>();
    let bytes =
        texts.iter().flat_map(|text| raw::frame(true, raw::TEXT, text.as_bytes())).collect::<Vec<_>>();
    client.send(&bytes);
    for text in texts {
        assert_eq!(client.next_message().payload, text.as_bytes());
    }
}

fn code_is_1000(answer: &crate::support::Frame) -> bool {
    answer.payload[..2] == 1000_u16.to_be_bytes()
}
