//! Which connections are closed, and which are not: silence, dribbling, stalls, and the end.

use crate::options::Options;
use crate::peer::{CLOSE, PING, PONG, Peer, TEXT, post};
use crate::pipe::Manners;
use crate::wire::{close_payload, push_frame, request};
use crate::world::World;

const INTERVAL_MS: u64 = 25_000;

/// Within this time, a few WebSockets are closed.
const SPREAD_MS: u64 = 10;

const ENDPOINTS: [&str; 3] = ["/ws", "/api/ws", "/api/ws/c"];

#[test]
fn a_stall_of_three_intervals_closes_nobody() {
    for answers_are_read in [true, false] {
        let mut world = World::new(Options::default(), 1);
        let mut peers: Vec<_> = ENDPOINTS.iter().map(|target| Peer::open(target, &mut world)).collect();
        for _ in 0..6 {
            world.sleep_through(3 * INTERVAL_MS);
            for peer in &mut peers {
                // Pings are answered; the answers may be in the socket during the next stall.
                assert!(peer.texts().iter().all(|text| text.contains("heartbeat")));
            }
            if answers_are_read {
                world.rest();
            }
            assert_eq!(world.server().connections(), 3);
        }
        assert!(world.server().metrics().stalled_ms > 11 * INTERVAL_MS);
    }
}

#[test]
fn who_was_asked_just_before_a_stall_has_its_whole_interval_after_it() {
    for answers in [true, false] {
        let mut world = World::new(Options::default(), 1);
        let mut peers: Vec<_> = ENDPOINTS.iter().map(|target| Peer::open(target, &mut world)).collect();
        // It gets a Ping at the second heartbeat. The process is stopped 20 ms later, and the answers have
        // not arrived yet.
        world.pass(2 * INTERVAL_MS + 20);
        world.sleep_through(10 * INTERVAL_MS);
        world.rest();
        assert_eq!(world.server().connections(), 3, "cut off on waking");
        world.pass(INTERVAL_MS - 200);
        assert_eq!(world.server().connections(), 3, "cut off before the interval is over");
        if answers {
            for peer in &mut peers {
                assert!(peer.frames().iter().any(|(opcode, _)| *opcode == PING), "it is asked");
                peer.say_frame(PONG, b"");
            }
        }
        world.pass(200);
        assert_eq!(world.server().connections(), if answers { 3 } else { 0 });
    }
}

#[test]
fn a_peer_that_vanished_is_closed_an_interval_after_it_was_asked() {
    let mut world = World::new(Options::default(), 1);
    let mut peers: Vec<_> = ENDPOINTS.iter().map(|target| Peer::open(target, &mut world)).collect();
    world.pass(3 * INTERVAL_MS - 1);
    assert_eq!(world.server().connections(), 3);
    world.pass(1);
    assert_eq!(world.server().connections(), 0);
    for peer in &mut peers {
        let frames = peer.frames();
        assert_eq!(frames.iter().filter(|(opcode, _)| *opcode == PING).count(), 1);
        let (opcode, payload) = frames.last().expect("a Close");
        assert_eq!((*opcode, &payload[..2]), (CLOSE, &close_payload(1011)[..]));
        assert!(peer.is_over());
    }
    world.server().check_quiet();
}

#[test]
fn who_was_heard_is_not_asked_and_silence_is_counted_from_then() {
    // When something is sent after the first heartbeat; when the Ping comes, and the end.
    for (said_ms, asked, closed) in [(0, 3, 4), (12_500, 3, 4), (12_501, 4, 5), (24_999, 4, 5)] {
        let mut world = World::new(Options::default(), 1);
        let mut peer = Peer::open("/api/ws/c", &mut world);
        let opcodes = |peer: &mut Peer| peer.frames().iter().map(|(opcode, _)| *opcode).collect::<Vec<_>>();
        world.pass(INTERVAL_MS);
        assert_eq!(opcodes(&mut peer), [PONG]);
        world.pass(said_ms);
        peer.say_frame(PING, b"");
        world.pass(INTERVAL_MS - said_ms);
        assert_eq!(opcodes(&mut peer), [PONG, PONG], "an answer, and a heartbeat, {said_ms}");
        for beat in 3..closed {
            world.pass(INTERVAL_MS);
            assert_eq!(opcodes(&mut peer), [if beat == asked { PING } else { PONG }], "{said_ms}, {beat}");
        }
        world.pass(INTERVAL_MS - 1);
        assert_eq!(world.server().connections(), 1);
        world.pass(1);
        assert_eq!((world.server().connections(), opcodes(&mut peer)), (0, vec![CLOSE]));
    }
}

#[test]
fn nobody_is_given_up_who_was_not_asked_though_heartbeats_are_late() {
    let mut world = World::new(Options::default(), 1);
    let mut peers: Vec<_> = ENDPOINTS.iter().map(|target| Peer::open(target, &mut world)).collect();
    world.pass(INTERVAL_MS / 2 + 1);
    peers.iter_mut().for_each(|peer| peer.say_frame(TEXT, b"{}"));
    // The next heartbeat but one finds them silent for a little less than one and a half intervals.
    world.pass(INTERVAL_MS / 2 - 1 + INTERVAL_MS);
    assert!(peers.iter_mut().all(|peer| peer.frames().iter().all(|(opcode, _)| *opcode != PING)));
    // This one is late: now it is two and a half intervals, and they get their first Ping.
    world.sleep_through(INTERVAL_MS + 50);
    world.rest();
    assert_eq!(world.server().metrics().stalled_ms, 0);
    for peer in &mut peers {
        assert!(peer.frames().iter().any(|(opcode, _)| *opcode == PING), "it is asked");
        peer.say_frame(PONG, b"");
    }
    world.rest();
    assert_eq!(world.server().connections(), 3);
}

#[test]
fn a_request_that_dribbles_is_closed_at_the_time_out() {
    let mut world = World::new(Options::default(), 1);
    let mut peer = Peer::connect(&mut world);
    let request = post("c", "never");
    for (second, byte) in request.iter().enumerate().take(10) {
        assert!(!peer.is_over(), "closed after {second} seconds");
        assert!(peer.responses().is_empty());
        peer.say(&[*byte]);
        world.pass(1_000);
    }
    let responses = peer.responses();
    assert_eq!(responses.iter().map(|response| response.status).collect::<Vec<_>>(), [408]);
    assert!(responses[0].closes && peer.is_over());
    world.pass(5_000);
    world.server().check_quiet();
}

#[test]
fn who_is_not_read_because_the_engine_is_late_is_not_closed() {
    let mut options = Options::default();
    options.config.limits.engine_backlog_bytes_max = 1;
    options.engine.late_ms_min = 4 * INTERVAL_MS;
    options.engine.late_ms_max = 4 * INTERVAL_MS;
    let mut world = World::new(options, 1);
    let mut member = Peer::open("/api/ws/c", &mut world);
    let mut publisher = Peer::connect(&mut world);
    publisher.post("c", "k0");
    world.rest();
    let mut other = Peer::connect(&mut world);
    other.post("c", "k1");
    member.publish("k2");
    world.pass(4 * INTERVAL_MS - 1);
    assert_eq!(world.server().connections(), 3);
    assert!(publisher.responses().is_empty() && other.responses().is_empty());
    // Its Pings are answered only now.
    assert!(member.texts().is_empty());
    for _ in 0..12 {
        world.pass(INTERVAL_MS);
        member.texts();
    }
    for peer in [&mut publisher, &mut other] {
        let statuses: Vec<_> = peer.responses().iter().map(|response| response.status).collect();
        assert_eq!(statuses, [200]);
    }
    assert_eq!(world.ledger.borrow().len(), 3);
}

/// Seed 2073: a flush queue that takes longer than a request or a Close may.
#[test]
fn who_waits_for_us_to_write_is_not_late() {
    const CROWD: usize = 30;
    for connection in ["keep-alive", "close"] {
        let mut options = Options::default();
        options.config.timeouts.request_ms = 1_000;
        options.config.timeouts.close_ms = 1_000;
        // One of them per turn, each of which takes a tenth of a second.
        options.config.budgets.flushes = 1;
        options.config.budgets.write_bytes_per_connection = 2_000;
        options.config.limits.outboxes_bytes_max = 1 << 30;
        let mut world = World::new(options, 1);
        Peer::connect(&mut world).post("c", &format!("k0 {}", "x".repeat(5_000)));
        world.rest();
        let manners = Manners { down_max: 100, ..Manners::default() };
        let mut crowd: Vec<_> = (0..CROWD).map(|_| Peer::with_manners(manners.clone(), &mut world)).collect();
        let fields = format!("Connection: {connection}\r\n");
        crowd.iter_mut().for_each(|peer| peer.say(&request("GET", "/api/messages", "list", &fields, "")));
        world.rest();
        for peer in &mut crowd {
            peer.wire.borrow_mut().set_room(64 << 10);
            assert!(peer.sip(100) > 0, "it has begun, and is full");
        }
        for _ in 0..CROWD * 3 {
            world.sleep_through(100);
        }
        for peer in &mut crowd {
            let responses = peer.responses();
            assert_eq!(responses.iter().map(|response| response.status).collect::<Vec<_>>(), [200]);
        }
    }
}

/// Seed 819: a 503 response came after the Close.
#[test]
fn who_was_sent_a_close_is_sent_nothing_behind_it() {
    let mut options = Options::default();
    options.config.limits.inboxes_bytes_max = 6_000;
    options.config.timeouts.drain_ms = 60_000;
    let mut world = World::new(options, 1);
    let mut peers: Vec<_> = ENDPOINTS.iter().map(|target| Peer::open(target, &mut world)).collect();
    world.shut_down();
    world.pass(SPREAD_MS);
    let mut frame = Vec::new();
    push_frame(TEXT, true, &[b'x'; 10_000], [9, 8, 7, 6], &mut frame);
    for peer in &mut peers {
        assert_eq!(peer.frames().last().map(|(opcode, _)| *opcode), Some(CLOSE));
        assert!(!peer.is_over(), "its Close is waited for");
        // More than may be unfinished, and not all of it.
        peer.say(&frame[..9_000]);
    }
    world.rest();
    for peer in &mut peers {
        assert_eq!(peer.frames(), []);
        assert!(peer.is_clean() && peer.is_over());
    }
}

#[test]
fn who_talks_on_after_a_close_gains_no_time_by_it() {
    let mut options = Options::default();
    options.config.timeouts.drain_ms = 600_000;
    let mut world = World::new(options, 1);
    let mut peers: Vec<_> = ENDPOINTS.iter().map(|target| Peer::open(target, &mut world)).collect();
    world.shut_down();
    world.pass(SPREAD_MS);
    for _ in 0..4 {
        world.pass(1_000);
        peers.iter_mut().for_each(|peer| peer.say_frame(TEXT, b"{\"type\":\"ping\"}"));
        assert_eq!(world.server().connections(), 3);
    }
    world.pass(1_000);
    assert_eq!(world.server().connections(), 0);
    // Nothing is answered any more.
    let is_close = |(opcode, _): &(u8, Vec<u8>)| *opcode == CLOSE;
    assert!(peers.iter_mut().all(|peer| peer.frames().last().is_some_and(is_close)));
}

#[test]
fn a_last_response_is_sent_whole_to_who_reads_it_slowly() {
    let mut world = World::new(Options::default(), 1);
    let mut publisher = Peer::connect(&mut world);
    for number in 0..20 {
        publisher.post("c", &format!("k{number} {}", "x".repeat(2_000)));
    }
    world.rest();
    let mut slow = Peer::with_manners(Manners { down_max: 1_000, ..Manners::default() }, &mut world);
    slow.say(&request("GET", "/api/messages", "slow", "Connection: close\r\n", ""));
    let mut received = 0;
    while !slow.is_over() {
        world.pass(1_000);
        received += slow.sip(500);
    }
    assert!(received > 40_000, "only {received} bytes came");
    let responses = slow.responses();
    assert_eq!((responses.len(), responses[0].status), (1, 200));
}

#[test]
fn a_close_is_sent_to_who_slowly_reads_what_comes_before_it() {
    let mut options = Options::default();
    options.config.timeouts.drain_ms = 600_000;
    let mut world = World::new(options, 1);
    let mut slow = Peer::with_manners(Manners { down_max: 500, ..Manners::default() }, &mut world);
    slow.shake_hands("/api/ws/c", None, &mut world);
    slow.publish(&format!("k0 {}", "x".repeat(5_000)));
    world.rest();
    world.shut_down();
    let (mut frames, mut seconds) = (Vec::new(), 0);
    while !frames.iter().any(|(opcode, _)| *opcode == CLOSE) {
        world.pass(1_000);
        seconds += 1;
        frames.extend(slow.frames());
    }
    assert!(seconds > 10, "it took {seconds} seconds");
    assert_eq!(frames.iter().map(|(opcode, _)| *opcode).collect::<Vec<_>>(), [TEXT, CLOSE]);
    // From then on its own Close is awaited, as long as usual: one second has passed.
    world.pass(3_999);
    assert_eq!(world.server().connections(), 1);
    world.pass(1);
    assert_eq!(world.server().connections(), 0);
}

#[test]
fn a_shutdown_says_goodbye_to_all_and_ends() {
    let mut world = World::new(Options::default(), 1);
    let mut peers: Vec<_> = ENDPOINTS.iter().map(|target| Peer::open(target, &mut world)).collect();
    let mut idle = Peer::connect(&mut world);
    idle.post("c", "k0 before");
    let mut fresh = Peer::connect(&mut world);
    let manners = Manners { down_max: 500, ..Manners::default() };
    let mut full = Peer::with_manners(manners, &mut world);
    full.shake_hands("/api/ws/c", None, &mut world);
    peers[2].publish(&format!("k1 {}", "x".repeat(2_000)));
    world.rest();
    let mut busy = Peer::connect(&mut world);
    world.turn();
    busy.post("c", "k2 last");
    world.shut_down();
    world.pass(SPREAD_MS);
    assert!(!world.server().is_finished());
    for peer in &mut peers {
        let frames = peer.frames();
        let (opcode, payload) = frames.last().expect("a Close");
        assert_eq!((*opcode, &payload[..2]), (CLOSE, &close_payload(1001)[..]));
        peer.say_frame(CLOSE, &close_payload(1001));
    }
    let mut frames = Vec::new();
    while !frames.iter().any(|(opcode, _)| *opcode == CLOSE) {
        frames.extend(full.frames());
        world.rest();
    }
    let is_begun = |(_, payload): &(u8, Vec<u8>)| String::from_utf8_lossy(payload).contains("k1 x");
    assert!(frames.iter().any(is_begun), "what was begun is sent whole");
    full.say_frame(CLOSE, &close_payload(1001));
    world.rest();
    assert_eq!(idle.responses().len(), 1);
    assert_eq!(busy.responses()[0].status, 200, "what was asked before is answered");
    for peer in peers.iter().chain([&idle, &fresh, &full, &busy]) {
        assert!(peer.is_over());
        peer.wire.borrow_mut().close();
    }
    assert!(fresh.responses().is_empty());
    world.rest();
    assert!(world.server().is_finished());
}

#[test]
fn a_shutdown_does_not_wait_for_who_does_not_answer() {
    let mut world = World::new(Options::default(), 1);
    let mut peers: Vec<_> = ENDPOINTS.iter().map(|target| Peer::open(target, &mut world)).collect();
    world.shut_down();
    world.pass(4_999);
    assert!(!world.server().is_finished());
    world.pass(1);
    assert!(world.server().is_finished());
    for peer in &mut peers {
        assert_eq!(peer.frames().last().map(|(opcode, _)| *opcode), Some(CLOSE));
    }
}

#[test]
fn a_shutdown_does_not_wait_for_the_end_of_who_has_said_goodbye() {
    let mut world = World::new(Options::default(), 1);
    let mut peers: Vec<_> = ENDPOINTS.iter().map(|target| Peer::open(target, &mut world)).collect();
    let mut idle = Peer::connect(&mut world);
    idle.post("c", "k0 before");
    world.rest();
    world.shut_down();
    world.pass(SPREAD_MS);
    assert!(!world.server().is_finished(), "their Closes are waited for");
    for peer in &mut peers {
        assert!(peer.frames().iter().any(|(opcode, _)| *opcode == CLOSE));
        peer.say_frame(CLOSE, &close_payload(1001));
    }
    world.rest();
    assert_eq!(idle.responses().len(), 1);
    assert!(world.server().is_finished() && world.server().connections() == 4);
}

#[test]
fn a_shutdown_waits_for_who_was_cut_short() {
    let mut world = World::new(Options::default(), 1);
    let mut refused = Peer::connect(&mut world);
    refused.say(b"POST /api/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n");
    let mut wrong = Peer::open("/ws", &mut world);
    wrong.say_frame(3, b"no such opcode");
    world.rest();
    assert_eq!(refused.responses()[0].status, 413);
    world.shut_down();
    world.pass(1_000);
    // A reset would destroy the bytes that they have yet to read.
    assert!(!world.server().is_finished());
    assert!(wrong.frames().iter().any(|(opcode, _)| *opcode == CLOSE));
    for peer in [&refused, &wrong] {
        assert!(peer.is_over());
        peer.wire.borrow_mut().close();
    }
    world.rest();
    assert!(world.server().is_finished());
}
