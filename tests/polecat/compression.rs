//! Compressed messages: PROTOCOL.md, "11. WebSocket rules", by RFC 7692. That an idle compressed
//! connection costs no more is in `resident.rs`.

use std::net::SocketAddr;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use serde_json::{Value, json};

use crate::support::raw::{BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame};
use crate::support::socket::message;
use crate::support::{Http, RawSocket, Server, Socket, post};

const OFFER: &str = "permessage-deflate";

/// The beginning of every answer.
const AGREED: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

#[test]
fn what_is_offered_is_agreed_on_or_passed_over_and_never_refused() {
    let server = Server::start();
    for (offer, answer) in [
        (OFFER, Some("")),
        ("permessage-deflate; client_max_window_bits", Some("")),
        (
            "permessage-deflate; client_max_window_bits=9; server_max_window_bits=15",
            Some("; server_max_window_bits=15; client_max_window_bits=9"),
        ),
        ("permessage-deflate; server_max_window_bits=8", Some("; server_max_window_bits=8")),
        ("permessage-deflate; server_max_window_bits=7, permessage-deflate", Some("")),
        ("permessage-deflate; server_max_window_bits=16", None),
        ("permessage-deflate; mystery", None),
        ("permessage-bzip2; server_no_context_takeover", None),
        ("permessage-deflate; client_no_context_takeover; client_no_context_takeover", None),
        ("=; \"", None),
        ("", None),
    ] {
        for target in ["/api/ws", "/ws", "/api/ws/room"] {
            let (_, agreed) = RawSocket::connect_offering(server.addr(), target, offer);
            assert_eq!(agreed, answer.map(|more| format!("{AGREED}{more}")), "{offer} at {target}");
        }
    }
    let off = Server::start_with(|options| options.config.compression.over = 0);
    let (mut client, agreed) = RawSocket::connect_offering(off.addr(), "/api/ws", OFFER);
    assert_eq!(agreed, None);
    let long = text(2000);
    client.send_frame(true, TEXT, &long);
    assert_eq!(client.next_message().payload, long);
    client.send(&compressed(true, TEXT, &deflated(&long)));
    assert_eq!(client.expect_close(), 1002);
}

#[test]
fn what_is_longer_than_the_threshold_and_gets_shorter_comes_compressed() {
    let server = Server::start_with(|options| options.config.compression.over = 300);
    let mut client = offering(server.addr(), "/api/ws");
    let random = std::iter::repeat_with(|| fastrand::u8(..)).take(5000).collect::<Vec<_>>();
    for (opcode, payload, is_compressed) in [
        (TEXT, text(300), false),
        (TEXT, text(301), true),
        (TEXT, text(1 << 20), true),
        (BINARY, vec![0xFF; 300], false),
        (BINARY, vec![0xFF; 70_000], true),
        (BINARY, random, false),
        (TEXT, Vec::new(), false),
    ] {
        for bytes in [frame(true, opcode, &payload), compressed(true, opcode, &deflated(&payload))] {
            client.send(&bytes);
            let echo = client.next_message();
            assert_eq!((echo.opcode, echo.last, echo.compressed), (opcode, true, is_compressed));
            assert!(!is_compressed || echo.payload.len() < payload.len());
            assert!(plain(&echo) == payload, "{} bytes", payload.len());
        }
    }
}

#[test]
fn compressed_messages_may_be_in_fragments_with_control_frames_between() {
    let server = Server::start();
    let mut client = offering(server.addr(), "/api/ws");
    let long = text(3000);
    let deflated = deflated(&long);
    for cut in [0, 1, deflated.len() / 2, deflated.len()] {
        client.send(&compressed(false, TEXT, &deflated[..cut]));
        client.send_frame(true, PING, b"between");
        client.send_frame(false, CONTINUATION, &[]);
        client.send_frame(true, CONTINUATION, &deflated[cut..]);
        let pong = client.next_frame().expect("an answer");
        assert_eq!((pong.opcode, pong.compressed, &pong.payload[..]), (PONG, false, &b"between"[..]));
        assert_eq!(plain(&client.next_message()), long, "cut at {cut}");
    }
    // Two blocks, the first of which says that it is the last (RFC 7692 section 7.2.3.4).
    client.send(&compressed(true, TEXT, &[0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00]));
    assert_eq!(client.next_message().payload, b"Hello");
}

#[test]
fn a_broadcast_is_compressed_once_for_all_who_take_it() {
    let server = Server::start();
    let mut compressed = [(); 5].map(|()| offering(server.addr(), "/api/ws/room"));
    let mut plain_one = Socket::connect(server.addr(), "/api/ws/room");
    let content = String::from_utf8(text(1000)).expect("text");
    post(server.addr(), "/api/messages", &message("room", "ann", &content)).ok();
    let broadcast = plain_one.next_text();
    for client in &mut compressed {
        let frame = client.next_message();
        assert!(frame.compressed && frame.payload.len() < broadcast.len() / 2);
        assert_eq!(plain(&frame), broadcast.as_bytes());
    }
    // With a compressed message of their own, which is broadcast to all.
    let own = json!({"type": "message", "author": "bob", "content": content}).to_string();
    compressed[0].send(&self::compressed(true, TEXT, &deflated(own.as_bytes())));
    let broadcast_2 = plain_one.next_text();
    for client in &mut compressed {
        assert_eq!(plain(&client.next_message()), broadcast_2.as_bytes());
    }
    let metrics = server.stop();
    assert_eq!(metrics.coded.deflate_in, (broadcast.len() + broadcast_2.len()) as u64);
    assert!(metrics.coded.deflate_out < metrics.coded.deflate_in / 2, "{metrics:?}");
    assert_eq!(metrics.coded.inflate_out, own.len() as u64);
    assert_eq!(metrics.coded.inflate_in, deflated(own.as_bytes()).len() as u64);
}

#[test]
fn metrics_tell_how_far_compression_gets_and_who_takes_it() {
    let server = Server::start();
    let mut client = offering(server.addr(), "/ws");
    let mut small = small_window(server.addr(), "/ws", 10);
    let _plain = Socket::connect(server.addr(), "/ws");
    let event = json!({"type": "t", "payload": {"text": String::from_utf8(text(900)).expect("text")}});
    post(server.addr(), "/api/events", &event).ok();
    let bytes = plain(&client.next_message()).len() + plain(&small.next_message()).len();
    let response = Http::connect(server.addr()).get("/metrics");
    for line in [
        "polecat_subscribers{encoding=\"plain\"} 1".to_owned(),
        "polecat_subscribers{encoding=\"deflate\"} 1".to_owned(),
        "polecat_subscribers{encoding=\"deflate_small\"} 1".to_owned(),
        format!("polecat_deflate_in_bytes_total {bytes}"),
        "polecat_inflate_in_bytes_total 0".to_owned(),
    ] {
        assert!(response.text().lines().any(|one| one == line), "{line}: {}", response.text());
    }
}

#[test]
fn whoever_asks_for_a_small_window_gets_nothing_that_looks_back_further() {
    let server = Server::start();
    for bits in [8, 9, 12, 15] {
        let mut client = small_window(server.addr(), "/api/ws", bits);
        // Repeated at once, and after more than the window.
        let words = (0..4000).map(|number| format!("{} ", number % 60)).collect::<String>();
        client.send_frame(true, TEXT, words.as_bytes());
        let echo = client.next_message();
        assert!(echo.compressed && echo.payload.len() < words.len() / 2, "{bits}: {}", echo.payload.len());
        assert_eq!(plain_within(&echo.payload, bits.max(9)), words.as_bytes(), "{bits}");
    }
}

#[test]
fn history_comes_compressed_too() {
    // Only the newest message is in memory, and pages are small.
    let server = Server::start_with(|options| {
        options.config.limits.log_frames_max = 2;
        options.config.budgets.page_records = 3;
    });
    let mut live = offering(server.addr(), "/api/ws/room");
    let contents = (0..20).map(|number| format!("{number} {}", String::from_utf8_lossy(&text(400))));
    let contents = contents.collect::<Vec<_>>();
    for content in &contents {
        post(server.addr(), "/api/messages", &message("room", "ann", content)).ok();
    }
    let mut resumed = offering(server.addr(), "/api/ws/room?last_event_id=message-00000");
    let mut small = small_window(server.addr(), "/api/ws/room?last_event_id=message-00000", 9);
    for content in &contents {
        for client in [&mut live, &mut resumed, &mut small] {
            let frame = client.next_message();
            let message: Value = serde_json::from_slice(&plain(&frame)).expect("JSON");
            assert!(frame.compressed);
            assert_eq!(message["data"]["content"], *content);
        }
    }
}

#[test]
fn what_the_server_says_of_its_own_is_compressed_like_the_rest() {
    let server = Server::start_with(|options| {
        options.config.compression.over = 100;
        options.config.timeouts.heartbeat_interval_ms = 50;
    });
    let offer = format!("{OFFER}\r\nSec-WebSocket-Protocol: polecat.v1");
    let (mut client, agreed) = RawSocket::connect_offering(server.addr(), "/api/ws/room", &offer);
    assert!(agreed.is_some());
    let mut types = Vec::new();
    while types.last().is_none_or(|kind| kind != "heartbeat") {
        let frame = client.next_message();
        let bytes = plain(&frame);
        assert_eq!(frame.compressed, bytes.len() > 100 && frame.payload.len() < bytes.len());
        let message: Value = serde_json::from_slice(&bytes).expect("JSON");
        types.push(message["type"].as_str().expect("a type").to_owned());
    }
    assert_eq!(types[..2], ["hello", "live"]);
}

#[test]
fn what_breaks_the_rules_is_closed_with_its_code() {
    const MESSAGE_BYTES_MAX: usize = 10_000;
    let server = Server::start_with(|options| options.config.limits.message_bytes_max = MESSAGE_BYTES_MAX);
    let fine = deflated(&text(500));
    let damaged = {
        let mut bytes = fine.clone();
        bytes.truncate(bytes.len() / 2);
        bytes
    };
    let within = [compressed(false, TEXT, &fine[..9]), compressed(true, CONTINUATION, &fine[9..])].concat();
    let mut reserved = frame(true, TEXT, &fine);
    reserved[0] |= 0x20;
    let bomb = deflated(&vec![b'a'; 8 << 20]);
    assert!(bomb.len() < 2 * MESSAGE_BYTES_MAX && bomb.len() > 5000);
    let small_bomb = deflated(&vec![b'a'; MESSAGE_BYTES_MAX + 1]);
    for (name, bytes, code) in [
        ("a compressed continuation", within, 1002),
        ("a compressed Ping", compressed(true, PING, b""), 1002),
        ("a compressed Close", compressed(true, CLOSE, &[3, 0xE8]), 1002),
        ("another reserved bit", reserved, 1002),
        ("no deflate data", compressed(true, TEXT, b"no deflate data"), 1002),
        ("half of a message", compressed(true, TEXT, &damaged), 1002),
        ("text that is no UTF-8", compressed(true, TEXT, &deflated(&[0xFF; 300])), 1007),
        ("one byte too many", compressed(true, TEXT, &small_bomb), 1009),
        ("8 MiB of nothing", compressed(true, BINARY, &bomb), 1009),
    ] {
        for target in ["/api/ws", "/ws", "/api/ws/room"] {
            let mut client = offering(server.addr(), target);
            client.send_what_is_taken(&bytes);
            assert_eq!(client.expect_close(), code, "{name} at {target}");
        }
    }
    let mut client = offering(server.addr(), "/api/ws");
    let longest = vec![b'a'; MESSAGE_BYTES_MAX];
    client.send(&compressed(true, BINARY, &deflated(&longest)));
    assert!(plain(&client.next_message()) == longest);
    let metrics = server.stop();
    let bombs_max = 6 * (MESSAGE_BYTES_MAX as u64 + 1);
    assert!(metrics.coded.inflate_out < bombs_max + 20_000, "{:?}", metrics.coded);
}

#[test]
fn many_bombs_in_one_segment_do_not_hold_the_loop() {
    const BOMBS: usize = 40;
    let server = Server::start_with(|options| {
        options.config.limits.message_bytes_max = 1 << 20;
        options.config.budgets.coded_bytes = 1 << 20;
    });
    // A publisher of invalid messages: nothing comes back.
    let mut client = offering(server.addr(), "/ws");
    let bomb = compressed(true, BINARY, &deflated(&vec![0; 1 << 20]));
    client.send(&bomb.repeat(BOMBS));
    client.send_frame(true, PING, b"last");
    while client.next_frame().is_some_and(|frame| frame.payload != b"last") {}
    let metrics = server.stop();
    assert_eq!(metrics.messages_received, BOMBS as u64);
    assert!(metrics.turns >= BOMBS as u64, "{} turns", metrics.turns);
}

/// A client that has negotiated compression.
fn offering(addr: SocketAddr, target: &str) -> RawSocket {
    let (socket, agreed) = RawSocket::connect_offering(addr, target, OFFER);
    assert_eq!(agreed.as_deref(), Some(AGREED));
    socket
}

fn small_window(addr: SocketAddr, target: &str, bits: u8) -> RawSocket {
    let offer = format!("{OFFER}; server_max_window_bits={bits}");
    let (socket, agreed) = RawSocket::connect_offering(addr, target, &offer);
    assert_eq!(agreed, Some(format!("{AGREED}; server_max_window_bits={bits}")));
    socket
}

/// Text of this many bytes with repetitions.
fn text(len: usize) -> Vec<u8> {
    (0..).flat_map(|number: u32| format!("item {number}, ").into_bytes()).take(len).collect()
}

/// A masked frame that begins a compressed message.
fn compressed(last: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = frame(last, opcode, payload);
    bytes[0] |= 0x40;
    bytes
}

/// The payload as compressed by a client that compresses even if nothing is gained.
fn deflated(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 1000);
    let status =
        Compress::new(Compression::default(), false).compress_vec(payload, &mut out, FlushCompress::Sync);
    status.expect("a message is compressed");
    out.truncate(out.len() - 4);
    out
}

/// The payload of a message, inflated if needed.
fn plain(frame: &crate::support::Frame) -> Vec<u8> {
    if frame.compressed { plain_within(&frame.payload, 15) } else { frame.payload.clone() }
}

/// Inflates with a window of this many bits and no more.
fn plain_within(payload: &[u8], bits: u8) -> Vec<u8> {
    let whole = [payload, &[0, 0, 0xFF, 0xFF]].concat();
    let mut inflate = Decompress::new_with_window_bits(false, bits);
    let mut out = Vec::new();
    loop {
        let taken = usize::try_from(inflate.total_in()).expect("a length");
        // In small pieces, so that only the window can be referred to.
        let mut piece = [0; 64];
        let before = inflate.total_out();
        let status = inflate.decompress(&whole[taken..], &mut piece, FlushDecompress::None);
        status.expect("what the server sends can be inflated");
        let made = usize::try_from(inflate.total_out() - before).expect("a length");
        out.extend_from_slice(&piece[..made]);
        if made == 0 {
            return out;
        }
    }
}
