//! Room for unsent bytes: which connections wait for it, which are closed for it, and which need none.

use polecat::server::connections::CloseReason;

use crate::options::Options;
use crate::peer::{CLOSE, PING, PONG, Peer, TEXT, post};
use crate::pipe::Manners;
use crate::wire::request;
use crate::world::World;

const INTERVAL_MS: u64 = 25_000;

/// More than each connection may have unsent whatever the others do.
const LARGE: usize = 50_000;

/// There is room for one large response, in addition to what each connection may have.
fn small() -> Options {
    let mut options = Options::default();
    options.config.limits.outboxes_bytes_max = 40_000;
    options
}

/// A socket that holds next to nothing unread.
fn narrow() -> Manners {
    Manners { down_max: 1_000, ..Manners::default() }
}

fn open(target: &str, manners: Manners, world: &mut World) -> Peer {
    let mut peer = Peer::with_manners(manners, world);
    peer.shake_hands(target, None, world);
    peer
}

/// An echo that was sent much and has taken only the beginning of it.
fn holder(world: &mut World) -> Peer {
    let mut peer = open("/api/ws", narrow(), world);
    peer.say_frame(TEXT, &[b'h'; LARGE]);
    world.rest();
    peer
}

/// The lengths of the messages that it got.
fn lens(peer: &mut Peer) -> Vec<usize> {
    peer.texts().iter().map(String::len).collect()
}

fn closed_for(reason: CloseReason, world: &World) -> u64 {
    world.server().metrics().closed_for(reason)
}

#[test]
fn who_waits_for_room_is_neither_read_nor_taken_for_silent() {
    let mut options = small();
    options.config.timeouts.request_ms = 1_000_000;
    let mut world = World::new(options, 1);
    let mut holder = holder(&mut world);
    let mut echo = Peer::open("/api/ws", &mut world);
    echo.say_frame(TEXT, &[b'w'; LARGE]);
    let mut publisher = Peer::connect(&mut world);
    publisher.post("c", &format!("k0 {}", "x".repeat(LARGE)));
    for _ in 0..6 {
        world.pass(INTERVAL_MS);
        // It takes a little now and then, which is also a sign of life.
        assert_eq!(holder.sip(100), 100);
        // They are still open, although they answer nothing.
        assert!(echo.frames().iter().all(|(opcode, _)| matches!(*opcode, PING | PONG)));
        assert_eq!((publisher.responses().len(), world.server().connections()), (0, 3));
        assert!(world.server().holdings().inboxes_bytes < 2 * LARGE, "most of it lies in their sockets");
    }
    holder.wire.borrow_mut().relax();
    world.rest();
    assert_eq!(lens(&mut holder), [LARGE]);
    world.rest();
    assert_eq!((lens(&mut echo), publisher.responses().len()), (vec![LARGE], 1));
}

#[test]
fn small_answers_need_no_room() {
    let mut world = World::new(small(), 1);
    let _holder = holder(&mut world);
    let mut echo = Peer::open("/api/ws", &mut world);
    let mut v1 = Peer::open_v1("/api/ws/c", &mut world);
    let mut http = Peer::connect(&mut world);
    world.rest();
    v1.texts();
    for round in 0..50 {
        echo.say_frame(PING, b"are you there?");
        echo.say_frame(TEXT, &[b'e'; 10_000]);
        v1.say_frame(
            TEXT,
            format!("{{\"type\":\"message\",\"content\":\"k{round}\",\"id\":{round}}}").as_bytes(),
        );
        http.say(&request("GET", "/api/health", "health", "", ""));
        http.post("c", &format!("p{round} {}", "x".repeat(5_000)));
        world.rest();
        assert_eq!(echo.frames().len(), 2, "{round}");
        assert!(v1.texts().iter().any(|text| text.contains("\"ack\"")), "{round}");
        assert_eq!(http.responses().len(), 2, "{round}");
    }
}

#[test]
fn who_holds_room_and_takes_nothing_is_closed_once_others_wait() {
    let mut world = World::new(small(), 1);
    let mut holder = holder(&mut world);
    // Nobody waits: it may take its time.
    world.pass(2 * INTERVAL_MS);
    assert_eq!(world.server().connections(), 1);
    // So may one that takes something.
    let mut waiting = Peer::open("/api/ws", &mut world);
    waiting.say_frame(TEXT, &[b'w'; LARGE]);
    assert_eq!(holder.sip(100), 100);
    for _ in 0..5 {
        world.pass(4_000);
        assert_eq!((holder.sip(100), waiting.texts().len()), (100, 0));
    }
    world.pass(9_999);
    assert_eq!(closed_for(CloseReason::Unsent, &world), 0);
    world.pass(1);
    assert_eq!(closed_for(CloseReason::Unsent, &world), 1);
    // It gets the rest of a frame that it has a part of, and the reason.
    holder.wire.borrow_mut().relax();
    world.rest();
    let frames = holder.frames();
    assert_eq!(frames.len(), 2);
    assert_eq!((frames[0].0, frames[0].1.len()), (TEXT, LARGE));
    assert_eq!(frames[1], (CLOSE, [&1013_u16.to_be_bytes()[..], b"too much is unsent"].concat()));
    world.rest();
    assert_eq!(lens(&mut waiting), [LARGE]);
}

#[test]
fn what_comes_behind_the_frame_under_way_is_given_back_at_once() {
    let mut options = small();
    options.config.limits.outbox_bytes_max = 1 << 20;
    let mut world = World::new(options, 1);
    let mut holder = open("/api/ws", narrow(), &mut world);
    (0..60).for_each(|_| holder.say_frame(TEXT, &[b'h'; 900]));
    world.rest();
    let mut waiting = Peer::open("/api/ws", &mut world);
    waiting.say_frame(TEXT, &[b'w'; LARGE]);
    world.pass(10_000);
    assert_eq!(closed_for(CloseReason::Unsent, &world), 1);
    assert_eq!(lens(&mut waiting), [LARGE], "there is room");
    holder.wire.borrow_mut().relax();
    world.rest();
    let frames = holder.frames();
    assert!(
        frames.len() < 5 && frames.last().is_some_and(|(opcode, _)| *opcode == CLOSE),
        "{}",
        frames.len()
    );
}

#[test]
fn nobody_waits_for_long_behind_a_crowd_that_takes_nothing() {
    const CROWD: usize = 60;
    let mut world = World::new(small(), 1);
    let mut crowd: Vec<_> = (0..CROWD).map(|_| holder(&mut world)).collect();
    let mut reader = Peer::open("/api/ws", &mut world);
    for _ in 0..3 {
        reader.say_frame(TEXT, &[b'r'; LARGE]);
        // Alone, each of them would have its 10 seconds.
        world.pass(CROWD as u64 * 1_000 + 30_000);
        assert_eq!(lens(&mut reader), [LARGE]);
        crowd.extend((0..CROWD).map(|_| holder(&mut world)));
    }
}

#[test]
fn history_waits_for_room_and_is_complete_in_the_end() {
    let mut options = small();
    options.config.limits.log_frames_max = 1;
    options.config.limits.outboxes_bytes_max = 100_000;
    let mut world = World::new(options, 1);
    let mut publisher = Peer::connect(&mut world);
    for number in 0..6 {
        publisher.post("c", &format!("k{number} {}", "x".repeat(20_000)));
    }
    world.rest();
    let mut subscribers: Vec<_> = (0..6)
        .map(|number| {
            let mut peer = Peer::with_manners(narrow(), &mut world);
            peer.shake_hands("/api/ws/c", Some(&format!("message-{number:05}")), &mut world);
            peer
        })
        .collect();
    world.rest();
    // Two of the messages are more than a quarter of what may be unsent.
    let held = world.server().holdings();
    assert!(held.unsent_bytes < 50_000, "{} bytes", held.unsent_bytes);
    assert!(world.server().metrics().limits.of(polecat::base::limit::Limit::UnsentBytes) > 0);
    let mut received = vec![0; subscribers.len()];
    for _ in 0..2_000 {
        for (subscriber, received) in subscribers.iter_mut().zip(&mut received) {
            *received += subscriber.texts().len();
        }
        world.rest();
        world.pass(10);
    }
    assert_eq!(received, [6, 5, 4, 3, 2, 1]);
    assert_eq!(closed_for(CloseReason::Unsent, &world), 0);
}

#[test]
fn broadcasts_wait_for_nobody_and_who_is_stuck_longest_goes() {
    let mut options = small();
    options.config.limits.log_frames_max = 1;
    options.config.limits.outboxes_bytes_max = 160_000;
    options.config.limits.message_bytes_max = 25_000;
    options.config.limits.body_bytes_max = 25_000;
    let mut world = World::new(options, 1);
    let mut reader = Peer::open("/api/ws/c", &mut world);
    let mut publisher = Peer::connect(&mut world);
    let mut stuck = Vec::new();
    for number in 0..8_u64 {
        stuck.push(open("/api/ws/c", narrow(), &mut world));
        publisher.post("c", &format!("k{number} {}", "x".repeat(20_000)));
        world.pass(100);
        assert_eq!((reader.texts().len(), publisher.responses().len()), (1, 1));
        // Rests of three messages are allowed.
        assert_eq!(closed_for(CloseReason::Unsent, &world), (number + 1).saturating_sub(3), "{number}");
    }
    let over: Vec<_> = stuck.iter().map(|peer| peer.wire.borrow().dropped).collect();
    assert_eq!(over, [true, true, true, true, true, false, false, false]);
}

#[test]
fn the_server_says_how_it_is_however_much_is_unsent() {
    let mut world = World::new(small(), 1);
    let _holder = holder(&mut world);
    // Each asks for everything and takes nothing; later ones wait for earlier ones.
    let targets =
        ["/metrics", "/api/connections", "/api/channels?detail=1", "/api/health?verbose=1", "/api/messages"];
    let mut publisher = Peer::connect(&mut world);
    publisher.post("c", "k0 short");
    world.rest();
    let mut crowd: Vec<_> = targets
        .iter()
        .map(|_| (0..3).map(|_| Peer::with_manners(narrow(), &mut world)).collect::<Vec<_>>())
        .collect();
    for (target, peers) in targets.iter().zip(&mut crowd) {
        peers.iter_mut().for_each(|peer| peer.say(&request("GET", target, "silent", "", "")));
    }
    world.rest();
    for target in targets.iter().chain(&["/api/schema", "/polecat.js"]) {
        let mut peer = Peer::connect(&mut world);
        peer.say(&request("GET", target, "mine", "", ""));
        world.pass(40_000);
        let responses = peer.responses();
        assert_eq!(responses.iter().map(|one| one.status).collect::<Vec<_>>(), [200], "{target}");
    }
}

#[test]
fn a_post_is_not_held_up_by_one_before_it() {
    let mut world = World::new(small(), 1);
    let _holder = holder(&mut world);
    let mut publisher = Peer::connect(&mut world);
    let many: Vec<u8> =
        (0..200).flat_map(|number| post("c", &format!("k{number} {}", "x".repeat(500)))).collect();
    publisher.say(&many);
    world.rest();
    assert_eq!(publisher.responses().len(), 200);
}
