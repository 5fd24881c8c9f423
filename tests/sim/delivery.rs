//! Delivery: joins and leaves during sweeps, late engines, slow readers.

use crate::model::Run;
use crate::options::Options;
use crate::peer::{CLOSE, PING, PONG, Peer, post};
use crate::pipe::Manners;
use crate::wire::{close_payload, push_frame, request};
use crate::world::World;

/// A turn looks at one member, and the engine is three turns late.
fn slow_sweeps() -> Options {
    let mut options = Options::default();
    options.config.budgets.sweep_members = 1;
    options.engine.delay_settles = 3;
    options
}

fn check_all(run: &mut Run, peer: &mut Peer, world: &World) {
    for text in peer.texts() {
        run.take(&world.ledger.borrow(), &text);
    }
    assert!(run.is_through(&world.ledger.borrow()), "something is missing");
}

#[test]
fn a_join_within_a_sweep_misses_and_doubles_nothing() {
    for turns in 0..30 {
        let mut world = World::new(slow_sweeps(), 1);
        let mut members: Vec<_> = (0..5).map(|_| Peer::open("/api/ws/c", &mut world)).collect();
        let mut publisher = Peer::connect(&mut world);
        for number in 0..4 {
            publisher.post("c", &format!("k{number}"));
            world.turn();
        }
        for _ in 0..turns {
            world.turn();
        }
        publisher.post("c", "late");
        members.push(Peer::open("/api/ws/c", &mut world));
        publisher.post("c", "later");
        world.rest();
        for member in &mut members {
            let mut run = member.run("c", &world);
            check_all(&mut run, member, &world);
        }
        assert_eq!(world.ledger.borrow().len(), 6);
    }
}

#[test]
fn a_large_channel_does_not_keep_another_waiting() {
    let mut options = Options::default();
    options.config.budgets.sweep_members = 6;
    options.config.budgets.sweep_members_per_channel = 3;
    let mut world = World::new(options, 1);
    let mut open = |target: &str| (0..6).map(|_| Peer::open(target, &mut world)).collect::<Vec<_>>();
    let mut channels = [open("/api/ws/a"), open("/api/ws/b")];
    let mut publisher = Peer::connect(&mut world);
    publisher.say(&[post("a", "k0"), post("b", "k1")].concat());
    world.rest_until(|world| world.ledger.borrow().len() == 2);
    for members in &mut channels {
        let count = members.iter_mut().filter_map(|member| member.texts().pop()).count();
        assert_eq!(count, 3, "each channel has its slice of the turn");
    }
}

#[test]
fn a_sweep_ends_for_this_turn_with_the_write_that_reaches_the_budget() {
    let mut options = Options::default();
    options.config.budgets.write_bytes = 1_000;
    let mut world = World::new(options, 1);
    let mut members: Vec<_> = (0..9).map(|_| Peer::open("/api/ws/c", &mut world)).collect();
    let mut publisher = Peer::connect(&mut world);
    publisher.post("c", &format!("k0 {}", "x".repeat(500)));
    world.rest_until(|world| world.ledger.borrow().len() == 1);
    // Each turn sends at most two frames of a little over 500 bytes.
    let (mut told, mut turns) = (0, 0);
    while told < members.len() {
        let is_told = |member: &&Peer| member.wire.borrow().waiting() > 0;
        let before = std::mem::replace(&mut told, members.iter().filter(is_told).count());
        assert!(told <= before + 2, "{told} after {before}");
        turns += 1;
        world.turn();
    }
    assert!(turns <= 6, "{turns} turns");
    assert!(members.iter_mut().all(|member| member.texts().len() == 1));
}

#[test]
fn a_channel_of_large_frames_does_not_keep_another_waiting() {
    let mut options = Options::default();
    options.config.budgets.write_bytes = 1_000;
    let mut world = World::new(options, 1);
    let many: Vec<_> = (0..20).map(|_| Peer::open("/api/ws/a", &mut world)).collect();
    let mut other = Peer::open("/api/ws/b", &mut world);
    let mut publisher = Peer::connect(&mut world);
    publisher.say(&[post("a", &format!("k0 {}", "x".repeat(500))), post("b", "k1")].concat());
    world.rest_until(|world| world.ledger.borrow().len() == 2);
    // Each turn has the bytes for two of the many frames: all of them would take ten turns.
    for _ in 0..3 {
        world.turn();
    }
    assert_eq!(other.texts().len(), 1, "it waits for all of the other channel");
    assert!(many.iter().any(|member| member.wire.borrow().waiting() == 0), "the other channel is under way");
}

#[test]
fn a_page_for_many_does_not_keep_another_waiting() {
    let mut options = Options::default();
    options.config.budgets.write_bytes = 1_000;
    // All have asked before the first one is answered.
    (options.engine.late_ms_min, options.engine.late_ms_max) = (1_000, 1_000);
    let mut world = World::new(options, 1);
    let mut publisher = Peer::connect(&mut world);
    publisher.say(&[post("a", &format!("k0 {}", "x".repeat(500))), post("b", "k1")].concat());
    world.pass(1_000);
    let mut resume = |target: &str| {
        let mut peer = Peer::connect(&mut world);
        peer.shake_hands(target, Some("message-00000"), &mut world);
        peer
    };
    let many: Vec<_> = (0..20).map(|_| resume("/api/ws/a")).collect();
    let other = resume("/api/ws/b");
    let is_told = |peer: &Peer| peer.wire.borrow().waiting() > 0;
    world.rest();
    assert!(!many.iter().any(is_told) && !is_told(&other), "the pages are not there yet");
    world.sleep_through(1_000);
    for _ in 0..3 {
        world.turn();
    }
    assert!(is_told(&other), "it waits for all who have asked for the other page");
    assert!(!many.iter().all(is_told), "they are under way");
}

#[test]
fn a_leave_within_a_sweep_costs_nobody_anything() {
    // A second message would hide a mistake in the sweep of the first one.
    for (leaver, is_last) in (0..5).flat_map(|leaver| [(leaver, true), (leaver, false)]) {
        for turns in 0..14 {
            let mut world = World::new(slow_sweeps(), 1);
            let mut members: Vec<_> = (0..5).map(|_| Peer::open("/api/ws/c", &mut world)).collect();
            let mut publisher = Peer::connect(&mut world);
            publisher.post("c", "k0");
            for _ in 0..turns {
                world.turn();
            }
            members.remove(leaver).wire.borrow_mut().close();
            if !is_last {
                publisher.post("c", "k1");
            }
            world.rest();
            for member in &mut members {
                let mut run = member.run("c", &world);
                check_all(&mut run, member, &world);
            }
        }
    }
}

#[test]
fn a_leave_while_the_health_is_told_tells_nobody_twice() {
    for (leaver, turns) in (0..5).flat_map(|leaver| (0..14).map(move |turns| (leaver, turns))) {
        let mut options = slow_sweeps();
        options.engine.refuses_percent = 100;
        let mut world = World::new(options, 1);
        let mut members: Vec<_> = (0..5).map(|_| Peer::open("/ws", &mut world)).collect();
        let mut publisher = Peer::connect(&mut world);
        publisher.post("c", "k0");
        for _ in 0..turns {
            world.turn();
        }
        members.remove(leaver).wire.borrow_mut().close();
        world.rest();
        for member in &mut members {
            let texts = member.texts();
            let is_told = |text: &String| text.contains("\"status\":\"degraded\"");
            assert!(texts.len() == 1 && is_told(&texts[0]), "{leaver} left in turn {turns}: {texts:?}");
        }
    }
}

/// Two POSTs, then a request that needs no store, then one that reads it.
fn pipelined() -> Vec<u8> {
    let mut bytes = post("c", "first");
    bytes.extend(post("c", "second"));
    bytes.extend(request("GET", "/api/health", "third", "", ""));
    bytes.extend(request("GET", "/api/messages", "fourth", "", ""));
    bytes
}

#[test]
fn a_late_engine_keeps_answers_in_order_however_requests_are_cut() {
    let bytes = pipelined();
    for cut in 0..=bytes.len() {
        for delay_settles in [0, 3] {
            let mut options = Options::default();
            options.engine.delay_settles = delay_settles;
            let mut world = World::new(options, 1);
            let mut peer = Peer::connect(&mut world);
            peer.say(&bytes[..cut]);
            world.turn();
            world.turn();
            peer.say(&bytes[cut..]);
            world.rest();
            let responses = peer.responses();
            let ids: Vec<_> = responses.iter().map(|response| &*response.correlation_id).collect();
            assert_eq!(ids, ["first", "second", "third", "fourth"], "cut at {cut}");
            assert!(responses.iter().all(|response| response.status == 200 && !response.closes));
            assert!(responses[3].body.contains("\"content\":\"second\""), "{}", responses[3].body);
            assert!(peer.is_clean());
        }
    }
}

#[test]
fn lists_wait_their_turn_for_what_may_be_unsent() {
    let mut options = Options::default();
    options.config.limits.outboxes_bytes_max = 1;
    options.engine.delay_settles = 3;
    let mut world = World::new(options, 1);
    // A smaller one would need no room.
    Peer::connect(&mut world).post("c", &format!("k0 {}", "x".repeat(20_000)));
    world.rest();
    let mut peers: Vec<_> = (0..3).map(|_| Peer::connect(&mut world)).collect();
    for _ in 0..2 {
        let list = request("GET", "/api/messages", "list", "", "");
        peers.iter_mut().for_each(|peer| peer.say(&list));
        let mut statuses = Vec::new();
        let mut turns = 0;
        while statuses.len() < peers.len() {
            world.turn();
            turns += 1;
            assert!(turns < 1_000, "answered: {statuses:?}");
            let answers: Vec<_> = peers.iter_mut().flat_map(Peer::responses).collect();
            assert!(answers.len() <= 1, "one slice at a time is all that there is room for");
            statuses.extend(answers.iter().map(|answer| answer.status));
        }
        assert_eq!(statuses, [200, 200, 200]);
        world.rest();
    }
}

#[test]
fn who_waits_to_be_told_to_continue_is_told_after_the_answers_before() {
    let mut options = Options::default();
    options.engine.delay_settles = 3;
    let mut world = World::new(options, 1);
    let mut peer = Peer::connect(&mut world);
    let body = "{\"channel_id\":\"c\",\"author\":\"a\",\"content\":\"second\"}";
    let whole = request("POST", "/api/messages", "second", "Expect: 100-continue\r\n", body);
    let head_bytes = whole.len() - body.len();
    peer.post("c", "first");
    peer.say(&whole[..head_bytes]);
    world.rest();
    assert_eq!(peer.responses().len(), 1);
    assert_eq!(peer.rest(), b"HTTP/1.1 100 Continue\r\n\r\n");
    peer.say(&whole[head_bytes..]);
    world.rest();
    let responses = peer.responses();
    assert_eq!((responses[0].status, &*responses[0].correlation_id), (200, "second"));
}

#[test]
fn a_slow_reader_costs_one_frame_and_one_heartbeat_and_gets_everything() {
    const CONTENT_BYTES: usize = 10_000;
    let mut world = World::new(Options::default(), 1);
    let manners = Manners { down_max: 4_000, ..Manners::default() };
    let mut slow = Peer::with_manners(manners, &mut world);
    slow.shake_hands("/api/ws/c", None, &mut world);
    let mut fast = Peer::open("/api/ws/c", &mut world);
    let (mut slow_run, mut fast_run) = (slow.run("c", &world), fast.run("c", &world));
    let mut publisher = Peer::connect(&mut world);
    let padding = "x".repeat(CONTENT_BYTES);
    for number in 0..1_000 {
        publisher.post("c", &format!("k{number} {padding}"));
        world.pass(45);
        assert_eq!(publisher.responses().len(), 1);
        check_all(&mut fast_run, &mut fast, &world);
        let held = world.server().holdings();
        assert!(held.outbox_bytes_max < CONTENT_BYTES + 500, "{} bytes", held.outbox_bytes_max);
        assert!(held.logs_bytes <= world.options.config.limits.log_bytes_max);
    }
    while !slow_run.is_through(&world.ledger.borrow()) {
        for text in slow.texts() {
            slow_run.take(&world.ledger.borrow(), &text);
        }
        world.rest();
    }
    assert!(world.server().metrics().pages > 10, "most of it was read from the store");
}

#[test]
fn a_page_that_meets_a_full_socket_is_not_read_again_until_there_is_room() {
    let mut options = Options::default();
    options.config.limits.log_frames_max = 1;
    options.config.budgets.page_records = 1;
    let mut world = World::new(options, 1);
    let mut publisher = Peer::connect(&mut world);
    for number in 0..10 {
        publisher.post("c", &format!("k{number}"));
    }
    world.rest();
    // A socket that holds exactly the handshake and one frame.
    let mut sizing = Peer::connect(&mut world);
    sizing.shake_hands("/api/ws/c", Some("message-00000"), &mut world);
    world.rest();
    let frame_bytes = sizing.texts()[0].len() + 4;
    let handshake_room = 1_000;
    let mut peer = Peer::with_manners(Manners { down_max: handshake_room, ..Manners::default() }, &mut world);
    peer.shake_hands("/api/ws/c", Some("message-00000"), &mut world);
    peer.wire.borrow_mut().set_room(frame_bytes);
    let mut texts = peer.texts();
    for _ in 0..30 {
        let pages = world.server().metrics().pages;
        world.rest();
        assert!(world.server().metrics().pages <= pages + 3, "pages are read in vain");
        texts.extend(peer.texts());
    }
    assert_eq!(texts.len(), 10);
}

#[test]
fn who_catches_up_is_read_meanwhile() {
    let mut options = Options::default();
    options.config.limits.outbox_bytes_max = 1;
    options.config.limits.log_frames_max = 1;
    options.config.budgets.page_records = 1;
    options.engine.delay_settles = 1;
    let mut world = World::new(options, 1);
    let mut publisher = Peer::connect(&mut world);
    for number in 0..10 {
        publisher.post("c", &format!("k{number}"));
    }
    world.rest();
    let mut peer = Peer::connect(&mut world);
    peer.shake_hands("/api/ws/c", Some("message-00000"), &mut world);
    // Its outbox is over the limit when it sends.
    peer.wire.borrow_mut().set_room(10);
    world.rest();
    peer.say_frame(PING, b"");
    world.rest();
    peer.wire.borrow_mut().set_room(100_000);
    let mut frames = peer.frames();
    world.rest();
    frames.extend(peer.frames());
    let pong_at = frames.iter().position(|(opcode, _)| *opcode == PONG).expect("an answer");
    assert!(frames.len() == 11 && pong_at < 5, "the answer is number {pong_at} of {}", frames.len());
}

#[test]
fn nothing_follows_a_close_though_a_page_was_on_its_way() {
    let mut options = Options::default();
    options.engine.delay_settles = 3;
    options.config.limits.log_frames_max = 1;
    let mut world = World::new(options, 1);
    let mut publisher = Peer::connect(&mut world);
    publisher.post("c", "k0");
    publisher.post("c", "k1");
    world.rest();
    let mut peer = Peer::connect(&mut world);
    peer.shake_hands("/api/ws/c", Some("message-00000"), &mut world);
    peer.say_frame(CLOSE, &close_payload(1000));
    world.rest();
    assert_eq!(peer.frames(), [(CLOSE, close_payload(1000).to_vec())]);
    assert!(peer.is_over());
}

#[test]
fn a_message_larger_than_the_log_is_delivered() {
    let mut options = Options::default();
    options.config.limits.log_bytes_max = 100;
    options.config.limits.logs_bytes_max = 100;
    let mut world = World::new(options, 1);
    let mut members: Vec<_> = (0..3).map(|_| Peer::open("/api/ws/c", &mut world)).collect();
    for number in 0..3 {
        members[0].publish(&format!("k{number} {}", "x".repeat(50_000)));
    }
    world.rest();
    for member in &mut members {
        let mut run = member.run("c", &world);
        check_all(&mut run, member, &world);
    }
    assert_eq!(world.ledger.borrow().len(), 3);
    assert_eq!(world.server().metrics().pages, 1, "who stands together shares a page");
}

#[test]
fn the_echo_endpoint_does_not_read_who_does_not_read() {
    let mut options = Options::default();
    options.config.limits.outbox_bytes_max = 1_000;
    options.manners = Manners { arrived_max: 5_000, down_max: 1_000, ..Manners::default() };
    let mut world = World::new(options, 1);
    let mut peer = Peer::open("/api/ws", &mut world);
    let mut bytes = Vec::new();
    for number in 0..10_000_u32 {
        push_frame(2, true, &number.to_be_bytes().repeat(25), number.to_le_bytes(), &mut bytes);
    }
    let mut sent = 0;
    for _ in 0..200 {
        sent += peer.offer(&bytes[sent..]);
        world.rest();
    }
    assert!(sent < 20_000, "{sent} bytes were taken from a client that reads nothing");
    let held = world.server().holdings();
    assert!(held.outbox_bytes_max < 1_200, "{} bytes wait", held.outbox_bytes_max);
    let mut echoed = 0;
    while echoed < 10_000 {
        for (opcode, payload) in peer.frames() {
            assert_eq!((opcode, payload), (2, u32::to_be_bytes(echoed).repeat(25)));
            echoed += 1;
        }
        sent += peer.offer(&bytes[sent..]);
        world.rest();
    }
}

#[test]
fn idle_connections_hold_nothing() {
    let mut world = World::new(Options::default(), 1);
    let mut peers: Vec<_> =
        ["/ws", "/api/ws", "/api/ws/c"].iter().map(|target| Peer::open(target, &mut world)).collect();
    let mut publisher = Peer::connect(&mut world);
    publisher.post("c", "k0");
    peers[2].publish("k1");
    peers[1].say_frame(2, b"back");
    // In two parts: the bytes that are kept between them are freed too.
    let half = post("c", "k2 in two parts");
    publisher.say(&half[..30]);
    world.rest();
    assert_eq!(world.server().holdings().inboxes, 1);
    publisher.say(&half[30..]);
    world.pass(60_000);
    let held = world.server().holdings();
    assert_eq!((held.inboxes, held.outboxes, held.outbox_bytes_max, held.logs_bytes), (0, 0, 0, 0));
    assert!(peers[0].frames().iter().any(|(opcode, _)| *opcode == PING));
}
