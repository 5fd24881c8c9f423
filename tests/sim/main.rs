//! The simulator. It runs servers turn by turn, over simulated sockets, on one store, in virtual time, with
//! modelled clients, all from one seed, and judges them by a model of its own.
//!
//! `POLECAT_SEEDS=n` runs n seeds, and `POLECAT_SIM_SECONDS=n` as many as there is time for; `POLECAT_SEED=s`
//! repeats one. Each prints `SEED=` before it begins, and the failed ones are listed at the end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod breaker;
mod client;
mod delivery;
mod drain;
mod engine;
mod follower;
mod streamer;
mod health;
mod history;
mod host;
mod lifetime;
mod load;
mod model;
mod node;
mod options;
mod others;
mod outflow;
mod patience;
mod peer;
mod pipe;
mod position;
mod publisher;
mod retention;
mod room;
mod store;
mod subscriber;
mod swarm;
mod times;
mod total;
mod wire;
mod world;

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use total::Total;

/// Seeds of an ordinary run.
const SEEDS_DEFAULT: u64 = 100;

/// From this number of seeds on, a run must have covered everything.
const SEEDS_WHOLE: u64 = 2_000;

/// The least number of socket events of such a run.
const SOCKET_EVENTS_MIN: u64 = 10_000_000;

const THREADS: usize = 2;

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is a number, not {value}")))
}

/// Runs seeds from `first` on while `goes_on` returns true. Each is a world of its own, so nothing depends on
/// which thread runs it.
fn run_all(first: u64, goes_on: impl Fn(u64) -> bool + Sync) -> Total {
    let (next, failed) = (AtomicU64::new(first), AtomicBool::new(false));
    let (total, failures) = (Mutex::new(Total::default()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if !goes_on(seed) {
                        return;
                    }
                    println!("SEED={seed}");
                    match catch_unwind(AssertUnwindSafe(|| swarm::run(seed))) {
                        Ok(report) => total.lock().unwrap().add(&report),
                        Err(_) => {
                            failed.store(true, Ordering::Relaxed);
                            failures.lock().unwrap().push(seed);
                        }
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort_unstable();
    assert!(failures.is_empty(), "failed: {failures:?}; run one again with POLECAT_SEED={}", failures[0]);
    total.into_inner().unwrap()
}

#[test]
fn whatever_happens_everyone_gets_what_is_due_once_and_in_order() {
    if let Some(seed) = variable("POLECAT_SEED") {
        println!("{}", run_all(seed, |next| next == seed));
        return;
    }
    let total = if let Some(seconds) = variable("POLECAT_SIM_SECONDS") {
        let began = Instant::now();
        run_all(0, |_| began.elapsed() < Duration::from_secs(seconds))
    } else {
        let seeds = variable("POLECAT_SEEDS").unwrap_or(SEEDS_DEFAULT);
        run_all(0, |seed| seed < seeds)
    };
    println!("{total}");
    if total.runs >= SEEDS_WHOLE {
        total.check_coverage();
        assert!(total.socket_events >= SOCKET_EVENTS_MIN, "only {} socket events", total.socket_events);
        return;
    }
    // Not with `eprintln`, which is shown only for failures.
    let why =
        format!("{} seeds are fewer than {SEEDS_WHOLE}: that all was visited is not checked", total.runs);
    writeln!(std::io::stderr(), "{why}").unwrap();
    let is_whole = variable("POLECAT_SEEDS").is_some() && std::env::var_os("POLECAT_NO_SKIP").is_some();
    assert!(!is_whole, "{why}, and nothing may be skipped");
}

#[test]
fn the_same_seed_does_the_same() {
    for seed in [1, 2, 3, 4, 5] {
        println!("SEED={seed}");
        assert_eq!(swarm::run(seed).trace, swarm::run(seed).trace);
    }
}
