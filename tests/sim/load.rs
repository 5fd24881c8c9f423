//! `polecat load` against the server in simulated time: its counts are exact here, and do not depend on a
//! machine. docs/load.md, "Load tests".

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use polecat::load::driver::{Driver, Stage};
use polecat::load::order::Faults;
use polecat::load::plan::{Endpoint, Plan, Publishing, Workload};
use polecat::server::socket::{Readiness, Socket};

use crate::options::Options;
use crate::pipe::{Manners, SharedWire};
use crate::wire::KEY;
use crate::world::World;

/// The client's end of a connection.
struct End(SharedWire);

impl Read for End {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        let bytes = wire.receive(buffer.len());
        if bytes.is_empty() && !wire.is_over() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        buffer[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }
}

impl Write for End {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.borrow_mut().send(&mut VecDeque::from(bytes.to_vec()), bytes.len());
        if sent == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(sent) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket for End {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.borrow_mut().end();
        Ok(())
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.0.borrow_mut().close();
    }
}

fn plan(workload: Workload, target: &str, connections: u32, run_ms: u64) -> Plan {
    let endpoint = |target: &str| Endpoint { host: "a".to_owned(), target: target.to_owned() };
    Plan {
        workload,
        endpoint: endpoint(target),
        channel_json: "\"room\"".to_owned(),
        connections,
        publishers: 1,
        publishing: Publishing::Post(endpoint("/api/messages")),
        depth: 1,
        payload_bytes: 64,
        rate: None,
        messages_max: None,
        connect_rate: None,
        slow: 0,
        half_open: 0,
        dribblers: 0,
        rounds: 0,
        status_only: false,
        compresses: false,
        warm_up_us: 0,
        run_us: run_ms * 1_000,
        patience_us: 20_000_000,
        key: KEY.to_owned(),
    }
}

/// Runs the plan to its end, a millisecond at a time. The server is stalled during the milliseconds of
/// `stall`.
fn run(options: Options, plan: Plan, stall: std::ops::Range<u64>) -> Driver<End> {
    let peers = plan.peers();
    let mut world = World::new(options, 1);
    let mut driver = Driver::new(plan, 1);
    let mut wires: Vec<Option<SharedWire>> = vec![None; peers as usize];
    while driver.stage() != Stage::Done {
        let now_us = world.now_ms * 1_000;
        while let Some(index) = driver.next_to_open(now_us) {
            let wire = world.connect(Manners::default());
            driver.opened(index, End(wire.clone()), now_us);
            wires[index as usize] = Some(wire);
        }
        for (index, wire) in (0..).zip(&wires) {
            let Some(wire) = wire else { continue };
            let wire = wire.borrow();
            let read_closed = wire.has_server_ended() || wire.dropped || wire.is_over();
            drop(wire);
            driver.ready(index, Readiness { readable: true, read_closed, writable: true });
        }
        driver.turn(now_us);
        if stall.contains(&world.now_ms) {
            world.skip(1);
        } else {
            world.pass(1);
        }
    }
    driver
}

/// Checks that everything arrived, and that no well-behaved connection was closed.
fn expect_good(driver: &Driver<End>) {
    let tally = driver.tally();
    assert_eq!((driver.order().faults, tally.wrong), (Faults::default(), 0));
    assert!(tally.ended.is_empty(), "{:?}", tally.ended);
}

#[test]
fn who_is_idle_answers_every_second_heartbeat_and_stays() {
    let mut options = Options::default();
    options.config.timeouts.heartbeat_interval_ms = 300;
    let mut plan = plan(Workload::Idle, "/ws", 50, 1_300);
    plan.publishers = 0;
    let driver = run(options, plan, 0..0);
    expect_good(&driver);
    let tally = driver.tally();
    // Four intervals have passed: each client has got four heartbeats, and a Ping with the second and the
    // fourth.
    assert_eq!((driver.alive(), tally.handshakes, tally.pings, tally.other_texts), (50, 50, 100, 200));
    assert_eq!((tally.pongs, tally.operations), (0, 300));
}

#[test]
fn who_publishes_after_a_time_of_idling_comes_only_then() {
    let mut plan = plan(Workload::Idle, "/api/ws/room", 20, 1_000);
    (plan.depth, plan.messages_max) = (u32::MAX, Some(1));
    let mut options = Options::default();
    // A client that is silent for so long is closed.
    options.config.timeouts.handshake_ms = 500;
    let driver = run(options, plan, 0..0);
    expect_good(&driver);
    let latency = driver.tally().latencies.summary().expect("all got it");
    assert_eq!((driver.tally().published, driver.alive()), (1, 20));
    assert!(latency.max <= 10_000, "{latency:?}");
}

#[test]
fn what_is_due_by_the_rate_is_sent_and_counts_from_when_it_was_due() {
    let due = |stall: std::ops::Range<u64>| {
        let mut plan = plan(Workload::Fanout, "/api/ws/room", 10, 800);
        (plan.rate, plan.warm_up_us) = (Some(200.0), 100_000);
        let driver = run(Options::default(), plan, stall);
        expect_good(&driver);
        // Every five milliseconds, from the first of the warm-up to the last of the measured time.
        assert_eq!(driver.tally().published, 181);
        driver.tally().latencies.summary().expect("deliveries")
    };
    let latency = due(0..0);
    assert!(latency.max <= 5_000, "{latency:?}");
    // A stall of half a second is seen by the hundred of 160 that were due in the meantime; a closed loop
    // would see one.
    let latency = due(200..700);
    assert!((490_000..=505_000).contains(&latency.max), "{latency:?}");
    assert!((390_000..=430_000).contains(&latency.p90), "{latency:?}");
    assert!((90_000..=130_000).contains(&latency.p50), "{latency:?}");
}

#[test]
fn a_storm_leaves_and_resumes_as_often_as_it_is_told() {
    for (target, post) in [("/api/ws/room", "/api/messages"), ("/ws", "/api/events")] {
        let mut plan = plan(Workload::Storm, target, 20, 900);
        let endpoint = Endpoint { host: "a".to_owned(), target: post.to_owned() };
        if target == "/ws" {
            plan.publishing = Publishing::PostEvent(endpoint);
        }
        (plan.rate, plan.rounds) = (Some(200.0), 2);
        let driver = run(Options::default(), plan, 0..0);
        expect_good(&driver);
        let tally = driver.tally();
        assert_eq!((tally.handshakes, driver.alive(), tally.published), (60, 21, 181), "{target}");
    }
}

#[test]
fn who_breaks_the_rules_is_ended_and_the_others_stay() {
    let mut options = Options::default();
    options.config.timeouts.heartbeat_interval_ms = 500;
    options.config.timeouts.handshake_ms = 500;
    options.config.timeouts.close_ms = 500;
    let mut plan = plan(Workload::Fanout, "/api/ws/room", 20, 3_000);
    (plan.rate, plan.slow, plan.half_open, plan.dribblers) = (Some(50.0), 4, 2, 2);
    let driver = run(options, plan, 0..0);
    expect_good(&driver);
    assert_eq!(driver.alive(), 21);
    let ended = &driver.tally().ended_rightly;
    assert_eq!(ended.get("handshake answered 408"), Some(&2), "{ended:?}");
    assert_eq!(ended.values().sum::<u64>(), 4, "{ended:?}");
}
