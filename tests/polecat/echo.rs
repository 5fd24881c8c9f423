//! The echo: PROTOCOL.md, "6. Echo: `/api/ws`". `service_a.rs` tests that it stores nothing and serves each
//! client separately; `slow_reader.rs` tests that it does not read from a client that does not read.

use serde_json::json;

use crate::support::raw::{BINARY, CONTINUATION, TEXT, upgrade_with};
use crate::support::{RawSocket, Server, Socket, get};

#[test]
fn every_message_comes_back_as_one_frame_in_order() {
    let server = Server::start();
    let mut client = RawSocket::connect(server.addr(), "/api/ws");
    // Around the lengths at which a frame's header grows, up to the limit of a message.
    let lengths = [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 20];
    let messages = lengths.iter().flat_map(|length| {
        [(TEXT, vec![b'x'; *length]), (BINARY, (0..=250).cycle().take(*length).collect())]
    });
    let messages = messages.collect::<Vec<(u8, Vec<u8>)>>();
    for (opcode, payload) in &messages {
        client.send_frame(true, *opcode, payload);
        let echo = client.next_message();
        assert!(
            (echo.opcode, echo.last, &echo.payload) == (*opcode, true, payload),
            "{} bytes",
            payload.len()
        );
    }
    // In fragments, and in succession without waiting.
    let some = &messages[..12];
    for (opcode, payload) in some {
        let (first, second) = payload.split_at(payload.len() / 3);
        client.send_frame(false, *opcode, first);
        client.send_frame(false, CONTINUATION, &[]);
        client.send_frame(true, CONTINUATION, second);
    }
    for (opcode, payload) in some {
        let echo = client.next_message();
        assert!(
            (echo.opcode, echo.last, &echo.payload) == (*opcode, true, payload),
            "{} bytes",
            payload.len()
        );
    }
}

#[test]
fn no_message_means_anything_to_it() {
    let server = Server::start();
    let fields = "Host: a\r\nSec-WebSocket-Protocol: polecat.v1\r\nLast-Event-ID: message-00000\r\n";
    let bytes = upgrade_with("/api/ws?last_event_id=event-00000", fields);
    let mut client = RawSocket::connect_and_send(server.addr(), &bytes);
    let head = client.read_head();
    assert!(head.starts_with("HTTP/1.1 101 ") && !head.contains("polecat.v1"), "{head}");
    let mut listener = Socket::connect(server.addr(), "/ws");
    for message in [
        json!({"type": "ping"}),
        json!({"type": "message", "author": "a", "content": "c", "id": 1}),
        json!({"type": "heartbeat"}),
    ] {
        client.send_frame(true, TEXT, message.to_string().as_bytes());
        assert_eq!(client.next_message().payload, message.to_string().as_bytes());
    }
    listener.expect_nothing_more();
    assert_eq!(get(server.addr(), "/api/channels").ok(), json!({"channels": []}));
}
