//! The hot paths. Each performs its operations and checks that they were done.

use std::hint::black_box;
use std::rc::Rc;

use polecat::base::config::Limits;
use polecat::wire::body::PostedEvent;
use polecat::wire::http::decoder::{RequestDecoder, RequestStep};
use polecat::wire::protocol::{Message, write_message};
use polecat::wire::websocket::codec::{self, OpCode};
use polecat::wire::websocket::message::{Item, MessageDecoder};

use crate::mirror::load_echo;
use crate::mock_server::{Client, MockServer, masked, post, repeated, upgrade};

/// One path.
pub(crate) struct Path {
    /// Its name in the table.
    pub(crate) name: &'static str,
    /// Performs it this many times.
    pub(crate) run: fn(u32),
    /// How many times to perform it for the count: enough to reach a steady state.
    pub(crate) times: u32,
    /// Operations of each time.
    pub(crate) operations: u32,
}

const DEPTH: u32 = 16;
const MEMBERS: u32 = 1000;
const IDLE: u32 = 10_000;

pub(crate) const PATHS: [Path; 16] = [
    Path { name: "frame-64-bytes", run: frame_64_bytes, times: 20_000, operations: 1 },
    Path { name: "frame-64-kib", run: frame_64_kib, times: 500, operations: 1 },
    Path { name: "fragmented-text-4-kib", run: fragmented_text, times: 2_000, operations: 1 },
    Path { name: "encode-broadcast", run: encode_broadcast, times: 10_000, operations: 1 },
    Path { name: "post-parse", run: post_parse, times: 5_000, operations: 1 },
    Path { name: "event-of-64-kib", run: event_of_small_values, times: 20, operations: 1 },
    Path { name: "echo", run: echo, times: 10_000, operations: 1 },
    Path { name: "echo-depth-16", run: echo_depth_16, times: 2_000, operations: DEPTH },
    Path { name: "handshake", run: handshake, times: 2_000, operations: 1 },
    Path { name: "handshake-v1", run: handshake_v1, times: 2_000, operations: 1 },
    Path { name: "post", run: post_one, times: 2_000, operations: 1 },
    Path { name: "post-depth-16", run: post_depth_16, times: 200, operations: DEPTH },
    Path { name: "v1-message-with-ack", run: v1_message, times: 2_000, operations: 1 },
    Path { name: "delivery-to-1000", run: fan_out, times: 100, operations: MEMBERS },
    Path { name: "heartbeat-of-10000", run: heartbeats, times: 3, operations: IDLE },
    Path { name: "load-echo-of-4-kib", run: load_echo_of_4_kib, times: 200, operations: DEPTH },
];

/// Decodes `frame` repeatedly, each time from a fresh copy, as a read would bring it.
fn decode(times: u32, frame: &[u8], wanted: usize) {
    let mut input = vec![0; frame.len()];
    for _ in 0..times {
        // Longer chunks are copied byte by byte, as valgrind counts.
        for (to, from) in input.chunks_mut(1024).zip(frame.chunks(1024)) {
            to.copy_from_slice(from);
        }
        let mut decoder = MessageDecoder::default();
        let mut rest = &mut input[..];
        let len = loop {
            let Ok(step) = decoder.decode(black_box(rest), 1 << 20, None) else { break 0 };
            match (step.item, step.consumed) {
                (Some(Item::Binary(bytes)), _) => break bytes.len(),
                (Some(Item::Text(text)), _) => break text.len(),
                (Some(_), _) | (None, 0) => break 0,
                (None, consumed) => rest = &mut rest[consumed..],
            }
        };
        assert_eq!(len, wanted, "the message is decoded");
    }
}

#[inline(never)]
fn frame_64_bytes(times: u32) {
    decode(times, &masked(OpCode::Binary, &[7; 64]), 64);
}

#[inline(never)]
fn frame_64_kib(times: u32) {
    decode(times, &masked(OpCode::Binary, &[7; 64 << 10]), 64 << 10);
}

/// Text with characters of one to four bytes, split within characters, with a Ping in between.
#[inline(never)]
fn fragmented_text(times: u32) {
    let text = "Grüße, 世界 🦨 and all the rest. ".repeat(105);
    let text = text.as_bytes();
    let mut frames = Vec::new();
    for (number, part) in text.chunks(1000).enumerate() {
        let opcode = if number == 0 { OpCode::Text } else { OpCode::Continue };
        let mut frame = masked(opcode, part);
        let is_last = (number + 1) * 1000 >= text.len();
        frame[0] = frame[0] & 0x7F | u8::from(is_last) << 7;
        frames.extend_from_slice(&frame);
    }
    decode(times, &frames, text.len());
}

#[inline(never)]
fn encode_broadcast(times: u32) {
    let message = Message {
        channel_id: Rc::from("general"),
        author: "Ann".to_owned(),
        content: "Hello, world".to_owned(),
        timestamp: Rc::from("2026-01-05T09:30:00.123456+00:00"),
        lane: None,
        provider: None,
        token_count: Some(3),
    };
    let mut scratch = Vec::new();
    for _ in 0..times {
        scratch.clear();
        write_message(black_box(42), &message, &mut scratch);
        let frame = codec::frame(OpCode::Text, &scratch);
        assert!(frame.len() > scratch.len(), "the frame has a head and the text");
    }
}

#[inline(never)]
fn post_parse(times: u32) {
    let limits = Limits::default();
    let mut request = post().to_vec();
    for _ in 0..times {
        let mut decoder = RequestDecoder::default();
        let step = decoder.decode(black_box(&mut request), &limits);
        assert!(matches!(step, Ok(RequestStep::Request { .. })), "the request is whole");
    }
}

/// Reads an event whose payload is nothing but small values, which cost the most per byte.
#[inline(never)]
fn event_of_small_values(times: u32) {
    let value = r#"{"a":[0,1.5,null,true,"b"]},"#;
    let values = value.repeat((64 << 10) / value.len());
    let body = format!(r#"{{"type":"t","payload":{{"values":[{}]}}}}"#, values.trim_end_matches(','));
    for _ in 0..times {
        let event = PostedEvent::parse(black_box(body.as_bytes()), &Limits::default());
        assert!(event.is_ok_and(|event| event.payload.len() > 60_000), "the payload is kept");
    }
}

#[inline(never)]
fn echo(times: u32) {
    echo_of_depth(times, 1);
}

#[inline(never)]
fn echo_depth_16(times: u32) {
    echo_of_depth(times, DEPTH);
}

fn echo_of_depth(times: u32, depth: u32) {
    let mut mock = MockServer::new();
    let client = mock.connect(upgrade("/api/ws", ""));
    mock.settle();
    let before = client.bytes();
    let frames = repeated(&masked(OpCode::Text, &[b'a'; 64]), depth as usize);
    for _ in 0..times {
        mock.send(&client, frames);
        mock.settle();
    }
    assert_eq!(client.bytes() - before, u64::from(times * depth) * (2 + 64), "everything comes back");
}

#[inline(never)]
fn handshake(times: u32) {
    handshakes(times, "");
}

#[inline(never)]
fn handshake_v1(times: u32) {
    handshakes(times, "Sec-WebSocket-Protocol: polecat.v1\r\n");
}

/// Clients join a channel that has members, and leave again.
fn handshakes(times: u32, extra: &str) {
    let mut mock = MockServer::new();
    let request = upgrade("/api/ws/room", extra);
    mock.connect(request);
    for _ in 0..times {
        let client = mock.connect(request);
        mock.settle();
        assert!(client.writes() > 0, "it is answered");
        mock.end(&client);
        mock.settle();
    }
    assert_eq!(mock.server.metrics().upgrades, 1 + u64::from(times), "all are WebSockets");
    assert_eq!(mock.server.connections(), 1, "all are gone");
}

#[inline(never)]
fn post_one(times: u32) {
    post_of_depth(times, 1);
}

#[inline(never)]
fn post_depth_16(times: u32) {
    post_of_depth(times, DEPTH);
}

fn post_of_depth(times: u32, depth: u32) {
    let mut mock = MockServer::new();
    let member = mock.connect(upgrade("/api/ws/room", ""));
    let requests = repeated(post(), depth as usize);
    let publisher = mock.connect(requests);
    mock.settle();
    let answer = publisher.bytes();
    for _ in 0..times {
        mock.send(&publisher, requests);
        mock.settle();
    }
    let answers = mock.server.metrics().committed;
    assert_eq!(answers, u64::from((times + 1) * depth), "all are stored");
    assert!(publisher.bytes() >= answer * u64::from(times), "all are answered");
    assert_eq!(member.writes(), 2 + u64::from(times), "each turn's go out at once");
}

#[inline(never)]
fn v1_message(times: u32) {
    let mut mock = MockServer::new();
    let client = mock.connect(upgrade("/api/ws/room", "Sec-WebSocket-Protocol: polecat.v1\r\n"));
    mock.settle();
    let before = client.writes();
    let text = r#"{"type":"message","id":"m-17","author":"Ann","content":"Hello, world"}"#;
    let frame = masked(OpCode::Text, text.as_bytes()).leak();
    for _ in 0..times {
        mock.send(&client, frame);
        mock.settle();
    }
    assert_eq!(client.writes() - before, 2 * u64::from(times), "an ack and the message itself");
}

fn members(mock: &mut MockServer, count: u32) -> Vec<Client> {
    let request = upgrade("/api/ws/room", "");
    let mut members = Vec::new();
    for _ in 0..count / 1000 {
        members.extend((0..1000).map(|_| mock.connect(request)));
        mock.settle();
    }
    members
}

#[inline(never)]
fn fan_out(times: u32) {
    let mut mock = MockServer::new();
    let members = members(&mut mock, MEMBERS);
    let text = r#"{"type":"message","author":"Ann","content":"Hello, world"}"#;
    let frame = masked(OpCode::Text, text.as_bytes()).leak();
    for _ in 0..times {
        mock.send(&members[0], frame);
        mock.settle();
    }
    let wanted = 1 + u64::from(times);
    assert!(members.iter().all(|member| member.writes() == wanted), "everyone gets each message");
}

/// The work of our own load generator per message, with a server that unmasks it and sends it back.
#[inline(never)]
fn load_echo_of_4_kib(times: u32) {
    load_echo(times, DEPTH, 4 << 10);
}

/// Heartbeat intervals: every client gets a heartbeat, and answers each one that asks for it, which is every
/// second one.
#[inline(never)]
fn heartbeats(times: u32) {
    let mut mock = MockServer::new();
    let members = members(&mut mock, IDLE);
    let pong = masked(OpCode::Pong, b"").leak();
    for interval in 1..=u64::from(times) {
        loop {
            let timeout_ms = mock.turn();
            if members.iter().all(|member| member.writes() > interval) {
                break;
            }
            mock.pass(timeout_ms.unwrap_or(1));
        }
        for batch in members.chunks(1000).filter(|_| interval.is_multiple_of(2)) {
            mock.pass(1);
            batch.iter().for_each(|member| mock.send(member, pong));
            mock.turn();
        }
    }
    let wanted = 1 + u64::from(times);
    assert!(members.iter().all(|member| member.writes() == wanted), "everyone gets one an interval");
    assert_eq!(mock.server.connections(), members.len(), "everyone is there");
}
