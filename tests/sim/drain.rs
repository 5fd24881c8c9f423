//! How a crowd is disconnected at a shutdown, and how it returns.

use serde_json::Value;

use crate::options::Options;
use crate::peer::{CLOSE, Peer, TEXT};
use crate::pipe::Manners;
use crate::wire::{close_payload, request};
use crate::world::World;

const CROWD: usize = 200;

/// A world with a crowd on its channels, and this much time to shut down.
fn crowded(drain_ms: u32) -> (World, Vec<Peer>) {
    let mut options = Options::default();
    options.config.timeouts.drain_ms = drain_ms;
    let mut world = World::new(options, 1);
    let targets = ["/ws", "/api/ws", "/api/ws/c"];
    let peers = (0..CROWD).map(|number| Peer::open(targets[number % 3], &mut world)).collect();
    (world, peers)
}

/// Passes this many milliseconds; returns which clients were closed in each of them. Each answers its Close
/// and leaves.
fn closed_in(milliseconds: usize, world: &mut World, peers: &mut [Peer]) -> Vec<Vec<usize>> {
    let mut closed = Vec::new();
    for _ in 0..milliseconds {
        world.pass(1);
        let mut now = Vec::new();
        for (number, peer) in peers.iter_mut().enumerate() {
            if peer.frames().iter().any(|(opcode, _)| *opcode == CLOSE) {
                peer.say_frame(CLOSE, &close_payload(1001));
                peer.wire.borrow_mut().end();
                now.push(number);
            }
        }
        closed.push(now);
    }
    closed
}

#[test]
fn a_crowd_goes_one_by_one_at_an_even_rate() {
    let (mut world, mut peers) = crowded(60_000);
    world.shut_down();
    let closed = closed_in(CROWD, &mut world, &mut peers);
    // An index may be free, and two milliseconds may fall together.
    for quarter in closed.chunks(CROWD / 4) {
        let gone = quarter.iter().map(Vec::len).sum::<usize>();
        assert!((CROWD / 8..CROWD * 3 / 8).contains(&gone), "{closed:?}");
    }
    assert_eq!(closed.concat().len(), CROWD, "each once");
    world.rest();
    assert!(world.server().is_finished(), "nobody is waited for any more");
    world.server().check_quiet();
}

#[test]
fn where_there_is_little_time_a_crowd_goes_in_half_of_it() {
    let (mut world, mut peers) = crowded(40);
    world.shut_down();
    let closed = closed_in(20, &mut world, &mut peers);
    assert!(closed[..10].concat().len() < CROWD * 3 / 4, "{closed:?}");
    assert_eq!(closed.concat().len(), CROWD);
    world.rest();
    assert!(world.server().is_finished());
}

#[test]
fn who_is_still_there_is_served() {
    let (mut world, mut peers) = crowded(60_000);
    let mut posting = Peer::connect(&mut world);
    let post = crate::peer::post("c", "k0");
    posting.say(&post[..30]);
    world.rest();
    world.shut_down();
    world.pass(1);
    posting.say(&post[30..]);
    // One of those on the channel.
    peers[2].publish("k1");
    world.rest();
    let mut told = 0;
    for peer in peers.iter_mut().skip(2).step_by(3) {
        let frames = peer.frames();
        let texts = frames.iter().filter(|(opcode, _)| *opcode == TEXT).count();
        assert!(texts == 2 || frames.iter().any(|(opcode, _)| *opcode == CLOSE), "{frames:?}");
        told += usize::from(texts == 2);
    }
    assert!(told > 50, "{told} were told");
    assert_eq!(posting.responses()[0].status, 200);
    assert!(posting.is_over());
}

#[test]
fn who_is_told_when_comes_when_all_are_gone_and_not_all_at_once() {
    let mut options = Options::default();
    options.config.timeouts.drain_ms = 100;
    let mut world = World::new(options, 1);
    let mut peers = (0..CROWD).map(|_| Peer::open_v1("/api/ws/c", &mut world)).collect::<Vec<_>>();
    world.rest();
    peers.iter_mut().for_each(|peer| assert_eq!(peer.texts().len(), 2, "hello and live"));
    world.shut_down();
    let (spread_ms, start_ms) = (50_u64, world.now_ms);
    let mut comes_at = Vec::new();
    for _ in 0..=spread_ms {
        world.rest();
        for peer in &mut peers {
            let frames = peer.frames();
            let Some((_, told)) = frames.first() else { continue };
            let told: Value = serde_json::from_slice(told).expect("JSON");
            assert_eq!(told["type"], "reconnect");
            assert_eq!((frames.len(), frames[1].0), (2, CLOSE), "the Close is what follows");
            let after_ms = told["payload"]["after_ms"].as_u64().expect("a number");
            assert!((500..=600).contains(&after_ms), "half a second, and up to --drain: {after_ms}");
            comes_at.push(world.now_ms - start_ms + after_ms);
        }
        world.pass(1);
    }
    assert_eq!(comes_at.len(), CROWD);
    // From half a second after the last one has left, within the time that leaving took.
    assert!(comes_at.iter().all(|at| (550..=600).contains(at)), "{comes_at:?}");
    for tenth in 0..10 {
        let within = 550_u64 + tenth * 5..555 + tenth * 5;
        let come = comes_at.iter().filter(|at| within.contains(*at)).count();
        assert!((CROWD / 30..CROWD / 4).contains(&come), "{come} in {within:?}");
    }
}

/// Seed 15374: a connection that was closed while it was queued was queued a second time, to read its end.
#[test]
fn who_is_sent_away_while_it_is_queued_is_read_once_in_a_turn() {
    let mut options = Options::default();
    options.config.limits.outbox_bytes_max = 1;
    options.config.budgets.read_bytes_per_connection = 1;
    let mut world = World::new(options, 1);
    // It takes its response in parts, so that its next bytes are not read before it has all of it.
    let mut peer = Peer::with_manners(Manners { down_max: 100, ..Manners::default() }, &mut world);
    peer.say(&request("GET", "/api/health", "first", "", ""));
    world.rest();
    peer.say(&request("GET", "/api/health", "second", "", ""));
    world.shut_down();
    while !peer.is_over() {
        assert!(peer.sip(100) > 0, "the response goes on");
        // Every turn is checked: what it reads of a connection is within the budget.
        world.rest();
    }
    assert_eq!(peer.responses().iter().map(|response| response.status).collect::<Vec<_>>(), [200]);
}
