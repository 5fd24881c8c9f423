//! Which history is read and counted, and for which clients.

use crate::options::Options;
use crate::peer::Peer;
use crate::world::World;

/// Queries that the engine has at once.
const READS: usize = 2;

/// A world with 20 messages on a channel, whose engine answers after a second.
fn world() -> World {
    let mut options = Options::default();
    options.config.budgets.engine_reads = READS;
    options.config.limits.log_frames_max = 1;
    (options.engine.late_ms_min, options.engine.late_ms_max) = (1_000, 1_000);
    let mut world = World::new(options, 1);
    let mut publisher = Peer::connect(&mut world);
    for number in 0..20 {
        publisher.post("c", &format!("k{number}"));
    }
    world.pass(1_000);
    world
}

fn target(after: usize) -> String {
    format!("/api/ws/c?last_event_id=message-{after:05}")
}

#[test]
fn nothing_is_counted_or_read_for_those_who_have_gone() {
    for is_v1 in [true, false] {
        let mut world = world();
        let before = world.questions();
        let open = if is_v1 { Peer::open_v1 } else { Peer::open };
        let peers: Vec<_> = (0..20).map(|after| open(&target(after), &mut world)).collect();
        world.rest();
        for peer in &peers {
            peer.wire.borrow_mut().abort();
        }
        world.pass(30_000);
        let asked = world.questions() - before;
        assert!(asked <= READS as u64, "{asked} questions of 20 who have gone, v1: {is_v1}");
        assert_eq!(world.server().connections(), 1, "the publisher is left");
    }
}

#[test]
fn those_who_stay_are_answered_in_their_turn() {
    let mut world = world();
    let mut peers: Vec<_> = (0..20).map(|after| Peer::open_v1(&target(after), &mut world)).collect();
    world.rest();
    for peer in peers.iter().step_by(2) {
        peer.wire.borrow_mut().abort();
    }
    // First counts and then pages, two per second.
    world.pass(10_000 * 2);
    for (after, peer) in peers.iter_mut().enumerate().skip(1).step_by(2) {
        let count = format!("\"count\":{}", 20 - after);
        let texts = peer.texts();
        assert!(texts[1].contains("resumed") && texts[1].contains(&count), "{}", texts[1]);
        let messages = texts.iter().filter(|text| text.contains("\"type\":\"message\"")).count();
        assert_eq!(messages, 20 - after);
        assert!(texts.last().is_some_and(|text| text.contains("\"live\"")), "{texts:?}");
    }
}
