//! Exact times: each time of PROTOCOL.md, "13.4 Times", and heartbeats, to the millisecond of simulated time.
//! Tests against a real server only wait until they have passed.

use crate::options::Options;
use crate::peer::{PING, PONG, Peer, TEXT, post};
use crate::wire::{request, upgrade};
use crate::world::World;

/// Different times, so that none can be mistaken for another.
fn options() -> Options {
    let mut options = Options::default();
    options.config.timeouts.handshake_ms = 7_000;
    options.config.timeouts.request_ms = 5_000;
    options.config.timeouts.keep_alive_ms = 9_000;
    options
}

/// Sends `bytes`, one per second. After `ms` milliseconds, and no sooner, the answer must be 408.
fn dribble(peer: &mut Peer, bytes: &[u8], ms: u64, world: &mut World) {
    let expect_open = |peer: &mut Peer| assert!(peer.responses().is_empty() && !peer.is_over(), "too early");
    for byte in &bytes[..usize::try_from(ms / 1_000).expect("a few")] {
        expect_open(peer);
        peer.say(&[*byte]);
        world.pass(999);
        expect_open(peer);
        world.pass(1);
    }
    assert_eq!(peer.responses().iter().map(|response| response.status).collect::<Vec<_>>(), [408]);
    assert!(peer.is_over());
}

#[test]
fn a_first_request_has_its_time_from_the_connect_on_however_it_dribbles() {
    for bytes in [post("c", "never"), upgrade("/ws", None), request("GET", "/api/health", "k", "", "")] {
        let mut world = World::new(options(), 1);
        let mut peer = Peer::connect(&mut world);
        world.rest();
        dribble(&mut peer, &bytes, 7_000, &mut world);
    }
    // A client that has sent nothing gets no response.
    let mut world = World::new(options(), 1);
    let mut silent = Peer::connect(&mut world);
    world.pass(6_999);
    assert!(!silent.is_over());
    world.pass(1);
    assert!(silent.is_over() && silent.responses().is_empty() && silent.is_clean());
}

#[test]
fn a_later_request_has_its_time_from_its_first_byte_on_and_between_them_there_is_another() {
    let mut world = World::new(options(), 1);
    let mut peer = Peer::connect(&mut world);
    // However late it is: the next time begins when everything is answered.
    for _ in 0..3 {
        peer.say(&request("GET", "/api/health", "k", "", ""));
        world.pass(8_999);
        assert_eq!(peer.responses().len(), 1);
        assert!(!peer.is_over());
    }
    let mut idle = Peer::connect(&mut world);
    idle.say(&request("GET", "/api/health", "k", "", ""));
    world.rest();
    dribble(&mut peer, &post("c", "never"), 5_000, &mut world);
    assert_eq!(idle.responses().len(), 1);
    world.pass(3_999);
    assert!(!idle.is_over());
    world.pass(1);
    assert!(idle.is_over() && idle.responses().is_empty(), "told nothing");
}

#[test]
fn each_client_has_heartbeats_at_the_interval_from_its_own_join_on() {
    const INTERVAL_MS: u64 = 25_000;
    let mut world = World::new(Options::default(), 1);
    let mut peers = Vec::new();
    for _ in 0..4 {
        peers.push(Peer::open("/ws", &mut world));
        world.pass(1_700);
    }
    // The second one is due 1.7 s after the first, and so on: each has its own time.
    let mut passed_ms = 4 * 1_700;
    for beat in 1..=3 {
        for (number, peer) in (0..).zip(&mut peers) {
            let due_ms = beat * INTERVAL_MS + number * 1_700;
            world.pass(due_ms - passed_ms - 1);
            assert_eq!(peer.texts(), [""; 0], "beat {beat} of {number} is early");
            world.pass(1);
            passed_ms = due_ms;
            let texts = peer.texts();
            assert!(texts.len() == 1 && texts[0].contains("\"heartbeat\""), "{texts:?}");
        }
    }
}

#[test]
fn every_second_heartbeat_asks_a_client_that_says_nothing() {
    for (target, told) in [("/ws", TEXT), ("/api/ws/c", PONG), ("/api/ws", PONG)] {
        let mut world = World::new(Options::default(), 1);
        let mut peer = Peer::open(target, &mut world);
        for _ in 0..3 {
            world.pass(25_000);
            let opcodes = |peer: &mut Peer| peer.frames().iter().map(|frame| frame.0).collect::<Vec<_>>();
            assert_eq!(opcodes(&mut peer), [told], "{target}");
            world.pass(25_000);
            // JSON heartbeats are only for /ws.
            let asked = if told == TEXT { &[PING, TEXT][..] } else { &[PING] };
            assert_eq!(opcodes(&mut peer), asked, "{target}");
            peer.say_frame(PONG, b"");
            world.rest();
        }
    }
}
