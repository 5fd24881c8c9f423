//! The server, turn by turn: simulated sockets, time that is handed in, clients
//! that are modelled, all from one seed, and a model of its own that decides.
//!
//! `POLECAT_SEEDS=n` runs n seeds; `POLECAT_SEED=s` runs one again. Each run
//! prints `SEED=` before it begins, so the last one printed is the one that failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod client;
mod delivery;
mod engine;
mod model;
mod options;
mod others;
mod patience;
mod peer;
mod pipe;
mod publisher;
mod subscriber;
mod swarm;
mod wire;
mod world;

use polecat::server::metrics::{CloseReason, Metrics};

/// Seeds of an ordinary run.
const SEEDS_DEFAULT: u64 = 200;

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is a number, not {value}")))
}

#[test]
fn whatever_happens_everyone_gets_what_is_due_once_and_in_order() {
    let seeds = match variable("POLECAT_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..variable("POLECAT_SEEDS").unwrap_or(SEEDS_DEFAULT),
    };
    let is_whole = seeds.end - seeds.start >= SEEDS_DEFAULT;
    let mut total = Metrics::default();
    for seed in seeds {
        println!("SEED={seed}");
        let report = swarm::run(seed);
        add(&mut total, &report.metrics);
    }
    println!("{total:#?}");
    if is_whole {
        check_coverage(&total);
    }
}

#[test]
fn the_same_seed_does_the_same() {
    for seed in [1, 2, 3] {
        println!("SEED={seed}");
        assert_eq!(swarm::run(seed).trace, swarm::run(seed).trace);
    }
}

fn add(total: &mut Metrics, one: &Metrics) {
    for (total, one) in total.closed.iter_mut().zip(one.closed) {
        *total += one;
    }
    for (total, one) in [
        (&mut total.accepted, one.accepted),
        (&mut total.upgrades, one.upgrades),
        (&mut total.requests, one.requests),
        (&mut total.messages_received, one.messages_received),
        (&mut total.rubbish, one.rubbish),
        (&mut total.committed, one.committed),
        (&mut total.refused, one.refused),
        (&mut total.deliveries, one.deliveries),
        (&mut total.pages, one.pages),
        (&mut total.heartbeats, one.heartbeats),
        (&mut total.stalled_ms, one.stalled_ms),
        (&mut total.turns, one.turns),
    ] {
        *total += one;
    }
}

/// A simulation that never gets somewhere proves nothing about it.
fn check_coverage(total: &Metrics) {
    // Who is not let in, is too slow with its first request, or says too much has broken
    // a rule that these clients keep: black-box tests see to those.
    let of_other_tests = [
        CloseReason::HandshakeTimeout,
        CloseReason::NotAdmitted,
        CloseReason::Unfinished,
        CloseReason::MessageRate,
    ];
    for reason in CloseReason::ALL.into_iter().filter(|reason| !of_other_tests.contains(reason)) {
        assert!(total.closed_for(reason) > 0, "no connection was ever closed for {reason:?}");
    }
    for (what, count) in [
        ("rubbish", total.rubbish),
        ("refused", total.refused),
        ("pages", total.pages),
        ("heartbeats", total.heartbeats),
        ("stalls", total.stalled_ms),
    ] {
        assert!(count > 0, "{what} never came up");
    }
}
