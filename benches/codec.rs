//! Micro-benchmarks of the code that every byte goes through: `cargo bench --bench codec`.

use std::rc::Rc;

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use polecat::base::config::Limits;
use polecat::wire::http::decoder::{RequestDecoder, RequestStep, Response, Status};
use polecat::wire::protocol::{ClientMessage, InvalidMessage, Message, write_message};
use polecat::wire::websocket::codec::{self, OpCode};
use polecat::wire::websocket::message::MessageDecoder;

fn main() {
    divan::main();
}

const SIZES: [usize; 3] = [64, 1 << 10, 64 << 10];

/// A masked text frame with a payload of `len` bytes.
fn masked_frame(len: usize) -> Vec<u8> {
    let mask = [0x11, 0x22, 0x33, 0x44];
    let mut frame = Vec::new();
    codec::write_frame(OpCode::Text, &vec![b'a'; len], &mut frame);
    let head_len = frame.len() - len;
    frame[1] |= 0x80;
    codec::unmask(&mut frame[head_len..], mask, 0);
    frame.splice(head_len..head_len, mask);
    frame
}

#[divan::bench(args = SIZES)]
fn decode_a_message(bencher: Bencher<'_, '_>, len: usize) {
    let frame = masked_frame(len);
    bencher.counter(BytesCount::new(len)).with_inputs(|| frame.clone()).bench_local_refs(|frame| {
        let mut decoder = MessageDecoder::default();
        let step = decoder.decode(frame, 1 << 20, None);
        assert!(step.is_ok_and(|step| step.item.is_some()));
    });
}

#[divan::bench(args = SIZES)]
fn encode_a_frame(bencher: Bencher<'_, '_>, len: usize) {
    let payload = vec![b'a'; len];
    bencher.counter(BytesCount::new(len)).bench_local(|| codec::frame(OpCode::Text, black_box(&payload)));
}

#[divan::bench]
fn decode_a_post(bencher: Bencher<'_, '_>) {
    let body = r#"{"channel_id":"general","author":"Ann","content":"Hello, world"}"#;
    let request = format!(
        "POST /api/messages HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let limits = Limits::default();
    bencher.with_inputs(|| request.clone().into_bytes()).bench_local_refs(|request| {
        let mut decoder = RequestDecoder::default();
        assert!(matches!(decoder.decode(request, &limits), Ok(RequestStep::Request { .. })));
    });
}

#[divan::bench]
fn write_a_response(bencher: Bencher<'_, '_>) {
    let mut out = Vec::with_capacity(1024);
    bencher.bench_local(|| {
        out.clear();
        Response {
            status: Status::OK,
            content_type: "application/json",
            body: b"{\"status\":\"ok\"}",
            extra: &[("X-Correlation-ID", "808277d9-2a67-4cce-bbd8-b5c97b575af0")],
            keep_alive: true,
            head_only: false,
        }
        .write("Mon, 05 Jan 2026 09:30:00 GMT", &mut out);
        black_box(out.len())
    });
}

#[divan::bench]
fn parse_a_publish() -> Result<ClientMessage, InvalidMessage> {
    let text = r#"{"type":"message","author":"Ann","content":"Hello, world","token_count":3}"#;
    ClientMessage::parse(black_box(text))
}

#[divan::bench]
fn write_a_broadcast(bencher: Bencher<'_, '_>) {
    let message = Message {
        channel_id: Rc::from("general"),
        author: "Ann".to_owned(),
        content: "Hello, world".to_owned(),
        timestamp: Rc::from("2026-01-05T09:30:00.123456+00:00"),
        lane: None,
        provider: None,
        token_count: Some(3),
    };
    let mut out = Vec::with_capacity(1024);
    bencher.bench_local(|| {
        out.clear();
        write_message(black_box(42), &message, &mut out);
        black_box(out.len())
    });
}
