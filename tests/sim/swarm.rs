//! One run of one seed: chaos, then calm, then the end.

use polecat::server::metrics::Metrics;

use crate::breaker::Breaker;
use crate::client::{Client, Mood};
use crate::follower::Follower;
use crate::model::EVENTS;
use crate::options::Options;
use crate::others::{Echoer, Hostile};
use crate::publisher::Publisher;
use crate::streamer::Streamer;
use crate::subscriber::Subscriber;
use crate::world::World;

/// After this many turns chaos ends, however much time is left.
const CHAOS_TURNS_MAX: u32 = 1_500;

/// Within this many turns, everything that is due must have arrived.
const CALM_TURNS_MAX: u32 = 20_000;

/// After this many records, no client begins anything new.
const RECORDS_MAX: usize = 250;

/// The result of a run.
pub(crate) struct Report {
    /// The counters of every life of every server.
    pub(crate) metrics: Vec<Metrics>,
    pub(crate) trace: u64,
    pub(crate) socket_events: u64,
    pub(crate) crashes: u64,
    pub(crate) deploys: u64,
    pub(crate) returns: u64,
    pub(crate) resumes_across_terms: u64,
    pub(crate) gaps_of_terms: u64,
    pub(crate) records: u64,
}

/// Runs a seed from begin to end.
pub(crate) fn run(seed: u64) -> Report {
    let mut random = fastrand::Rng::with_seed(seed);
    let options = Options::draw(&mut random);
    let mut clients = population(&options, &mut random);
    let mut world = World::new(options, random.u64(..));
    chaos(&mut world, &mut clients);
    calm(&mut world, &mut clients);
    if world.options.ends_by_shutdown {
        shut_down(&mut world, &mut clients);
    } else {
        leave(&mut world, &mut clients);
    }
    world.ground.store.borrow().check(&world.ledger.borrow());
    let lives = world.nodes.iter().flat_map(|node| node.past.iter().chain([node.server.metrics()]));
    Report {
        metrics: lives.cloned().collect(),
        trace: world.trace.0,
        socket_events: world.shared.socket_events.get(),
        crashes: world.crashes,
        deploys: world.deploys,
        returns: world.returns,
        resumes_across_terms: world.ledger.borrow().resumes_across_terms,
        gaps_of_terms: world.ledger.borrow().gaps_of_terms,
        records: world.ledger.borrow().len() as u64,
    }
}

fn population(options: &Options, random: &mut fastrand::Rng) -> Vec<Client> {
    let habits = &options.habits;
    let channels: Vec<String> = (0..habits.channels).map(|channel| format!("c{channel}")).collect();
    let mut clients = Vec::new();
    for number in 0..habits.subscribers {
        let at_ms = random.u64(..=options.chaos_ms / 4);
        let is_events = random.u32(..3) == 0;
        let stream = if is_events { EVENTS } else { channels[random.usize(..channels.len())].as_str() };
        let subscriber = Subscriber::new(&format!("s{number}"), stream, !is_events);
        clients.push(Client::new(subscriber, at_ms));
    }
    for number in 0..habits.followers {
        let at_ms = random.u64(..=options.chaos_ms / 4);
        let is_events = random.u32(..3) == 0;
        let stream = if is_events { EVENTS } else { channels[random.usize(..channels.len())].as_str() };
        clients.push(Client::new(Follower::new(&format!("f{number}"), stream), at_ms));
    }
    for number in 0..habits.streamers {
        let at_ms = random.u64(..=options.chaos_ms / 4);
        clients.push(Client::new(Streamer::new(&format!("m{number}"), &channels, random), at_ms));
    }
    for _ in 0..habits.breakers {
        clients.push(Client::new(Breaker::new(), random.u64(..=options.chaos_ms / 4)));
    }
    for number in 0..habits.publishers {
        let at_ms = random.u64(..=options.chaos_ms / 4);
        clients.push(Client::new(Publisher::new(&format!("p{number}"), &channels), at_ms));
    }
    for number in 0..habits.echoers {
        clients.push(Client::new(Echoer::new(&format!("e{number}")), random.u64(..=options.chaos_ms / 4)));
    }
    for _ in 0..habits.hostile {
        clients.push(Client::new(Hostile, random.u64(..=options.chaos_ms / 4)));
    }
    clients
}

fn chaos(world: &mut World, clients: &mut [Client]) {
    for _ in 0..CHAOS_TURNS_MAX {
        if world.now_ms >= world.options.chaos_ms || world.ledger.borrow().len() > RECORDS_MAX {
            break;
        }
        assert!(world.step(clients), "the clients have more to do");
        if world.random.u32(..1000) < world.options.loop_stall_chance {
            let interval_ms = u64::from(world.options.config.timeouts.heartbeat_interval_ms);
            let stall_ms = world.random.u64(..interval_ms * 4);
            world.stall(stall_ms, clients);
        }
        if world.random.u32(..1000) < world.options.crash_chance {
            let number = world.random.usize(..world.nodes.len());
            world.crash(number);
        }
        // At most twice, to the same moment or to two.
        if world.options.return_chance > 0 && world.random.u32(..100) == 0 {
            world.remember();
        }
        if world.returns < 2 && world.random.u32(..1000) < world.options.return_chance {
            world.go_back();
        }
        if world.random.u32(..1000) < world.options.deploy_chance {
            let number = world.random.usize(..world.nodes.len());
            world.deploy(number);
        }
        if world.random.u32(..1000) < world.options.clock_chance {
            let hours = world.random.i64(-5..=5);
            world.set_wall_clock(hours * 3_600_000);
        }
    }
}

/// Nothing fails any more: everything that is due arrives.
fn calm(world: &mut World, clients: &mut [Client]) {
    world.calm(clients);
    for _ in 0..CALM_TURNS_MAX {
        if clients.iter().all(|client| client.behaviour.is_content(&world.ledger.borrow())) {
            return;
        }
        assert!(world.step(clients), "nothing happens any more, and something is missing");
    }
    let ledger = world.ledger.borrow();
    let waiting: Vec<_> = clients
        .iter()
        .filter(|client| !client.behaviour.is_content(&ledger))
        .map(|client| client.behaviour.name())
        .collect();
    panic!("they wait in vain: {waiting:#?}");
}

/// All clients leave, and nothing is left.
fn leave(world: &mut World, clients: &mut [Client]) {
    world.mood = Mood::Leaving;
    let timeouts = world.options.config.timeouts.clone();
    let longest_ms = timeouts.heartbeat_interval_ms * 4
        + timeouts.handshake_ms
        + timeouts.request_ms
        + timeouts.keep_alive_ms
        + timeouts.close_ms;
    let until_ms = world.now_ms + u64::from(longest_ms) + 10_000;
    for client in clients.iter_mut() {
        client.next_ms = world.now_ms;
    }
    while world.connections() > 0 || clients.iter().any(|client| client.link.is_some()) {
        let goes_on = world.step(clients);
        let is_empty = world.connections() == 0 && clients.iter().all(|client| client.link.is_none());
        assert!(goes_on || is_empty, "connections are left for which nothing is due");
        assert!(world.now_ms < until_ms, "{} connections outlive their deadlines", world.connections());
    }
    world.settle_down(clients);
    world.nodes.iter().for_each(|node| node.server.check_quiet());
}

/// The server is asked to shut down.
fn shut_down(world: &mut World, clients: &mut [Client]) {
    let begin_ms = world.now_ms;
    world.shut_down();
    while !world.nodes.iter().all(|node| node.server.is_finished()) {
        assert!(world.step(clients), "a shutdown ends");
        let drain_ms = u64::from(world.options.config.timeouts.drain_ms);
        assert!(world.now_ms <= begin_ms + drain_ms + 1_000, "a shutdown ends in time");
    }
}
