//! A process that was stopped for a while: PROTOCOL.md, "9. Heartbeats and liveness". No well-behaved client
//! is closed for it.

mod descriptors;
mod idle;
mod shutdown;
pub(crate) mod swarm;

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::support::{Home, Http, Process, RawSocket, post};

use swarm::Swarm;

const INTERVAL: Duration = Duration::from_secs(2);
const CLIENTS: usize = 500;

#[test]
fn nobody_who_kept_the_rules_is_closed_for_a_stall_of_three_intervals() {
    let home = Home::new();
    let flags = ["--heartbeat-interval", "2", "--handshake-timeout", "4", "--request-timeout", "4"];
    let process = Process::serve(&home.database(), &[&flags[..], &["--idle-timeout", "4"]].concat());
    let addr = process.addr();
    let mut swarm = Swarm::default();
    for number in 0..CLIENTS {
        match number % 3 {
            0 => swarm.join(RawSocket::connect(addr, "/ws")),
            1 => swarm.join(RawSocket::connect(addr, "/api/ws/room")),
            _ => {
                let fields = "Host: a\r\nSec-WebSocket-Protocol: polecat.v1\r\n";
                let bytes = crate::support::raw::upgrade_with("/ws", fields);
                let mut client = RawSocket::connect_and_send(addr, &bytes);
                assert!(client.read_head().starts_with("HTTP/1.1 101 "));
                swarm.join(client);
            }
        }
    }
    // All have got a Ping, and have answered.
    swarm.run_until("a ping for each", |swarm| swarm.all(|client| client.pings > 0));
    assert_eq!(swarm.closed(), Vec::<usize>::new(), "closed before anything has happened");
    let silent = RawSocket::connect(addr, "/api/ws");
    let mut idle = Http::connect(addr);
    idle.expect_open();
    let mut begun = Http::connect(addr);
    begun.expect_open();
    begun.send("GET /api/health HT");
    let mut first = Http::connect(addr);
    first.send("GET /api/hea");

    process.signal(Signal::STOP);
    swarm.run_for(3 * INTERVAL);
    // Bytes that are sent to a stopped process wait to be read.
    idle.send("GET /api/health HTTP/1.1\r\nHost: a\r\n\r\n");
    begun.send("TP/1.1\r\nHost: a\r\n\r\n");
    first.send("lth HTTP/1.1\r\nHost: a\r\n\r\n");
    process.signal(Signal::CONT);
    for http in [&mut idle, &mut begun, &mut first] {
        assert_eq!(http.response().status, 200);
    }

    let pings = swarm.pings();
    swarm.run_for(2 * INTERVAL);
    swarm.run_until("more pings for each", |swarm| {
        swarm.all(|client| client.pings >= pings[client.index] + 2 || client.is_closed)
    });
    assert_eq!(swarm.closed(), Vec::<usize>::new(), "clients that answered every ping");
    let texts = swarm.texts();
    post(addr, "/api/events", &json!({"type": "t"})).ok();
    post(addr, "/api/messages", &json!({"channel_id": "room", "author": "a", "content": "c"})).ok();
    swarm.run_until("a message for each", |swarm| swarm.all(|client| client.texts > texts[client.index]));

    // A client that is silent by its own fault is still detected.
    let mut silent = silent;
    loop {
        match silent.next_frame() {
            Some(frame) if frame.opcode == 8 => assert_eq!(frame.payload[..2], 1011_u16.to_be_bytes()),
            Some(_) => {}
            None => break,
        }
    }
    process.kill();
}

#[test]
fn a_stop_within_a_sleep_is_told_from_the_sleep() {
    let home = Home::new();
    // Nothing falls due for a minute, so it sleeps, and would have continued to sleep.
    let process = Process::serve(&home.database(), &["--heartbeat-interval", "60", "--idle-timeout", "60"]);
    let mut http = Http::connect(process.addr());
    let mut stalled =
        || http.get("/api/health?verbose=1").ok()["loop"]["stalled_ms"].as_u64().expect("a time");
    let before = stalled();
    // The swarm is empty: it only passes the time. Everything that falls due soon after a start is over then.
    Swarm::default().run_for(INTERVAL);
    process.signal(Signal::STOP);
    Swarm::default().run_for(2 * INTERVAL);
    process.signal(Signal::CONT);
    let told = stalled() - before;
    assert!(told >= 500, "{told} ms of four seconds in which it was stopped");
}
