//! Records that are deleted while clients are connected, and which clients are told that they miss something
//! (PROTOCOL 10.1, 14.3).

use crate::options::Options;
use crate::peer::{Peer, post};
use crate::world::World;

/// Five records are kept, and the newest message of each channel is in memory.
fn short_memory(late_ms: u64) -> World {
    let mut options = Options::default();
    options.engine.records_max = 5;
    options.config.limits.log_frames_max = 1;
    (options.engine.late_ms_min, options.engine.late_ms_max) = (late_ms, late_ms);
    World::new(options, 1)
}

/// The types of the messages that a client is sent, and the content of stored ones.
fn said(peer: &mut Peer) -> Vec<String> {
    let part = |text: &str, before: &str| text.split(before).nth(1)?.split('"').next().map(str::to_owned);
    let texts = peer.texts();
    texts
        .iter()
        .filter_map(|text| part(text, "\"content\":\"").or_else(|| part(text, "\"type\":\"")))
        .collect()
}

/// Publishes enough elsewhere that no earlier record is kept.
fn fill(publisher: &mut Peer, world: &mut World, round: usize) {
    for number in 0..6 {
        publisher.post("busy", &format!("busy-{round}-{number}"));
    }
    world.rest();
}

#[test]
fn a_client_that_has_it_all_is_told_of_no_gap_however_much_is_deleted() {
    let mut world = short_memory(0);
    let mut publisher = Peer::connect(&mut world);
    let mut client = Peer::open_v1("/api/ws/quiet", &mut world);
    let mut base = Peer::open("/api/ws/quiet", &mut world);
    world.rest();
    assert_eq!(said(&mut client), ["hello", "live"]);
    for round in 0..3 {
        fill(&mut publisher, &mut world, round);
        // In one turn, so that the first is only in the store.
        let contents = [format!("first-{round}"), format!("second-{round}")];
        publisher.say(&contents.each_ref().map(|content| post("quiet", content)).concat());
        world.rest();
        assert_eq!(said(&mut client), contents);
        assert_eq!(said(&mut base), contents);
    }
}

#[test]
fn a_client_that_misses_something_is_told_though_its_channel_is_quiet() {
    let mut world = short_memory(0);
    let mut publisher = Peer::connect(&mut world);
    let mut client = Peer::open_v1("/api/ws/quiet", &mut world);
    world.rest();
    fill(&mut publisher, &mut world, 0);
    said(&mut client);
    // The first of them is deleted in the turn in which it is stored.
    let posts: Vec<_> = (1..=6).map(|number| post("quiet", &format!("quiet-{number}"))).collect();
    publisher.say(&posts.concat());
    world.rest();
    let rest = (2..=6).map(|number| format!("quiet-{number}"));
    assert_eq!(said(&mut client), ["gap".to_owned()].into_iter().chain(rest).collect::<Vec<_>>());
}

#[test]
fn what_was_read_before_it_was_deleted_is_sent() {
    let mut world = short_memory(1_000);
    let mut publisher = Peer::connect(&mut world);
    let mut client = Peer::open_v1("/api/ws/quiet", &mut world);
    publisher.say(&[post("quiet", "first"), post("quiet", "second")].concat());
    // They are stored, and a second later the server knows. It queries the first one, which is read at once.
    world.pass(1_000);
    world.rest();
    fill(&mut publisher, &mut world, 0);
    world.pass(2_000);
    assert_eq!(said(&mut client), ["hello", "live", "first", "second"]);
}

#[test]
fn a_resume_that_has_missed_nothing_is_no_gap_however_much_is_deleted_meanwhile() {
    let mut world = short_memory(1_000);
    let mut publisher = Peer::connect(&mut world);
    publisher.post("quiet", "first");
    publisher.post("busy", "second");
    world.pass(1_000);
    let mut client = Peer::open_v1("/api/ws/quiet?last_event_id=message-00001", &mut world);
    world.rest();
    fill(&mut publisher, &mut world, 0);
    world.pass(3_000);
    assert_eq!(said(&mut client), ["hello", "resumed", "live"]);
    publisher.say(&[post("quiet", "third"), post("quiet", "fourth")].concat());
    world.pass(3_000);
    assert_eq!(said(&mut client), ["third", "fourth"]);
}

/// Publishes on the quiet channel, in a turn of its own.
fn publish(publisher: &mut Peer, world: &mut World, content: &str) {
    publisher.post("quiet", content);
    world.rest();
}

#[test]
fn a_slow_client_is_told_of_no_gap_if_nothing_was_deleted_on_its_channel() {
    let mut world = short_memory(0);
    let mut publisher = Peer::connect(&mut world);
    let mut client = Peer::open_v1("/api/ws/quiet", &mut world);
    world.rest();
    assert_eq!(said(&mut client), ["hello", "live"]);
    for round in 0..2 {
        // It has been sent a part of the newest message when the others publish.
        client.wire.borrow_mut().set_room(10);
        publish(&mut publisher, &mut world, &format!("first-{round}"));
        fill(&mut publisher, &mut world, round);
        // The first of them is only in the store once the second is in memory.
        publish(&mut publisher, &mut world, &format!("second-{round}"));
        publish(&mut publisher, &mut world, &format!("third-{round}"));
        client.wire.borrow_mut().set_room(1 << 20);
        client.sip(1);
        world.rest();
        assert_eq!(said(&mut client), ["first", "second", "third"].map(|word| format!("{word}-{round}")));
    }
}

#[test]
fn a_slow_client_within_a_page_is_told_of_no_gap_if_nothing_was_deleted_that_it_has_yet_to_get() {
    for room in (1..900).step_by(7) {
        let mut world = short_memory(1_000);
        let mut publisher = Peer::connect(&mut world);
        for (channel, content) in [("quiet", "first"), ("busy", "a"), ("busy", "b"), ("quiet", "second")] {
            publisher.post(channel, content);
        }
        world.pass(1_000);
        let mut client = Peer::open_v1("/api/ws/quiet?last_event_id=message-00000", &mut world);
        assert_eq!(said(&mut client), ["hello"]);
        client.wire.borrow_mut().set_room(room);
        world.pass(3_000);
        // The messages between the two are deleted.
        for content in ["c", "d", "e"] {
            publisher.post("busy", content);
        }
        world.pass(3_000);
        client.wire.borrow_mut().set_room(1 << 20);
        client.sip(1);
        world.pass(5_000);
        let said = said(&mut client);
        assert!(["resumed", "gap"].contains(&said[0].as_str()), "{said:?}");
        let had_the_first = said.iter().any(|what| what == "first");
        let later_gaps = said.iter().skip(1).filter(|what| *what == "gap").count();
        assert_eq!(later_gaps, usize::from(!had_the_first && said[0] == "resumed"), "{room} {said:?}");
        assert_eq!(said[said.len() - 2..], ["second", "live"], "{room} {said:?}");
    }
}
