//! Peers that vanish without a Close, and some that come back: PROTOCOL.md, "9. Heartbeats and liveness".

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::stalls::swarm::Swarm;
use crate::support::raw::{BINARY, frame, upgrade_with};
use crate::support::socket::message;
use crate::support::{Home, Http, Process, RawSocket, Socket, skip, wait_until};

use super::cable::{Cable, SERVER, within};

const INTERVAL: Duration = Duration::from_secs(2);
const CLIENTS: usize = 60;

/// A server at one end of a cable, and clients on its side.
struct Site {
    process: Process,
    http: Http,
    home: Home,
}

impl Site {
    fn build(cable: &Cable) -> Self {
        let home = Home::new();
        let before = ["ip", "netns", "exec", &cable.server];
        let flags = ["--heartbeat-interval", "2", "--log-level", "debug"];
        let process = Process::serve_by(&before, &format!("{SERVER}:0"), &home.database(), &flags);
        let addr = process.addr();
        let mut http = within(&cable.server, || Http::connect(addr));
        http.expect_open();
        Self { process, http, home }
    }
}

/// A base subscriber of events, one of a channel, and a `polecat.v1` one, in turn.
fn subscriber(addr: SocketAddr, number: usize) -> RawSocket {
    match number % 3 {
        0 => RawSocket::connect(addr, "/ws"),
        1 => RawSocket::connect(addr, "/api/ws/room"),
        _ => {
            let fields = "Host: a\r\nSec-WebSocket-Protocol: polecat.v1\r\n";
            let bytes = upgrade_with("/api/ws/room", fields);
            let mut client = RawSocket::connect_and_send(addr, &bytes);
            assert!(client.read_head().starts_with("HTTP/1.1 101 "));
            client
        }
    }
}

#[test]
fn who_vanished_is_closed_within_three_intervals_and_leaves_nothing() {
    let Some(cable) = Cable::lay() else {
        return skip("network namespaces cannot be made here");
    };
    let mut site = Site::build(&cable);
    let addr = site.process.addr();
    let files = site.process.open_files().expect("/proc");
    let before = site.process.memory().expect("/proc").resident;
    let part = frame(false, BINARY, &[7; 300 << 10]);
    let vanishing = within(&cable.clients, || {
        let unfinished = (0..CLIENTS).map(|_| {
            let mut client = RawSocket::connect(addr, "/api/ws");
            client.send(&part);
            client.send(&frame(true, 9, b"is it there?"));
            assert_eq!(client.next_frame().expect("a pong").payload, b"is it there?");
            client
        });
        let unfinished = unfinished.collect::<Vec<_>>();
        unfinished.into_iter().chain((0..CLIENTS).map(|number| subscriber(addr, number))).collect::<Vec<_>>()
    });
    cable.pull();
    let held = site.process.memory().expect("/proc").resident;
    assert!(held > before + (10 << 20), "what is unfinished is held: {before} and then {held} bytes");
    assert_eq!(site.process.open_files(), Some(files + vanishing.len()));
    // After three intervals, as `sim/patience.rs` checks. Messages that are published in the meantime save no
    // connection.
    let mut near = within(&cable.server, || Socket::connect(addr, "/ws"));
    wait_until("all are let go of", || {
        near.next_heartbeat();
        site.http.post("/api/messages", &message("room", "a", "c")).ok();
        site.process.open_files() == Some(files + 1)
    });
    drop(near);
    let after = site.process.memory().expect("/proc").resident;
    assert!(after < before + (held - before) / 4, "{before}, {held} and then {after} bytes");
    drop((cable, site.http));
    site.process.signal(Signal::TERM);
    let ended = site.process.wait();
    assert_eq!(ended.status.code(), Some(0));
    let counted = ended.stderr.iter().filter(|line| line.ends_with("closed: HeartbeatTimeout"));
    assert_eq!(counted.count(), vanishing.len(), "each is counted, once");
    drop(site.home);
}

#[test]
fn who_is_back_in_time_has_missed_nothing() {
    let Some(cable) = Cable::lay() else {
        return skip("network namespaces cannot be made here");
    };
    let mut site = Site::build(&cable);
    let addr = site.process.addr();
    let mut swarm = Swarm::default();
    for client in
        within(&cable.clients, || (0..30).map(|number| subscriber(addr, number)).collect::<Vec<_>>())
    {
        swarm.join(client);
    }
    swarm.run_until("a ping for each", |swarm| swarm.all(|client| client.pings > 0));
    cable.pull();
    let texts = swarm.texts();
    site.http.post("/api/messages", &message("room", "a", "c")).ok();
    site.http.post("/api/events", &json!({"type": "t"})).ok();
    swarm.run_for(INTERVAL / 2);
    assert_eq!(swarm.texts(), texts, "nothing goes through");
    cable.plug_in();
    swarm.run_until("what they missed", |swarm| swarm.all(|client| client.texts > texts[client.index]));
    let pings = swarm.pings();
    swarm.run_until("two more pings for each", |swarm| {
        swarm.all(|client| client.pings >= pings[client.index] + 2 || client.is_closed)
    });
    assert_eq!(swarm.closed(), Vec::<usize>::new(), "clients that answered every ping that they got");
    site.process.kill();
}
