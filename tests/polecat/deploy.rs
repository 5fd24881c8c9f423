//! Many clients that live through restarts: PROTOCOL.md, "11. WebSocket rules" and "14. polecat.v1".

mod clients;

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::support::{Home, Process, Socket, get, skip};
use clients::Clients;

const CLIENTS: usize = 2_000;
const RESTARTS: usize = 10;
/// Descriptors for everything else in this process at that time.
const OTHERS: u64 = 16_000;

const DRAIN: &str = "2";
/// Half of that time.
const SPREAD_MS: u64 = 1_000;

/// At least this much is published before the next restart.
const PUBLISHED_MIN: u64 = 20;
/// This many messages are sent before the first acknowledgement is awaited.
const WINDOW: u64 = 4;

fn listener() -> (TcpListener, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    // All of them connect while no process accepts.
    socket.listen(4096).expect("it listens");
    let listener = TcpListener::from(socket);
    let addr = listener.local_addr().expect("an address");
    (listener, addr)
}

fn serve(listener: &TcpListener, home: &Home) -> Process {
    Process::serve_on(listener, None, |command| {
        // On a slow machine, a slow reader is not silent.
        command.args(["--heartbeat-interval", "3600", "--drain", DRAIN, "--db"]).arg(home.database());
    })
}

/// Publishes numbers, as fast as they are acknowledged, until `goes_on` is cleared; returns how many.
/// Unacknowledged ones are sent again, with their keys.
fn publish(addr: SocketAddr, acknowledged: &AtomicU64, goes_on: &AtomicBool) -> u64 {
    let mut next = 0;
    loop {
        let mut socket = Socket::connect_v1(addr, "/api/ws/room");
        let mut sent = acknowledged.load(Ordering::Relaxed);
        loop {
            let done = acknowledged.load(Ordering::Relaxed);
            if goes_on.load(Ordering::Relaxed) {
                next = next.max(done + WINDOW);
            } else if done == next {
                return next;
            }
            let fresh = (sent..next).map(|number| {
                json!({"type": "message", "id": number, "content": number.to_string(),
                    "idempotency_key": number.to_string()})
            });
            // If it cannot be sent, nothing more can be read either.
            let is_sent = fresh.into_iter().all(|message| socket.try_send_json(&message).is_ok());
            sent = next;
            let Some(message) = next_json(&mut socket).filter(|_| is_sent) else { break };
            assert_ne!(message["type"], "error", "{message}");
            if message["type"] == "ack" {
                assert_eq!(message["payload"]["id"], done, "in their order");
                acknowledged.store(done + 1, Ordering::Relaxed);
            }
        }
    }
}

/// The next text message; `None` if the connection has ended.
fn next_json(socket: &mut Socket) -> Option<Value> {
    loop {
        match socket.try_read() {
            Ok(tungstenite::Message::Text(text)) => return Some(serde_json::from_str(&text).expect("JSON")),
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}

/// Whether this process may open as many descriptors as it needs.
fn may_open() -> bool {
    let limit = getrlimit(Resource::Nofile);
    let is_enough = limit.maximum.is_none_or(|maximum| maximum >= CLIENTS as u64 + OTHERS);
    is_enough && setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).is_ok()
}

/// The clients were asked to return one by one. How evenly, and over which time, is checked in
/// `sim/drain.rs`.
fn check_spread(clients: &Clients) {
    let told = clients.asked_to_come_after();
    assert!(told.iter().all(|after_ms| (500..=500 + 2 * SPREAD_MS).contains(after_ms)), "{told:?}");
}

#[test]
fn two_thousand_clients_and_a_publisher_notice_nothing_of_ten_restarts() {
    if !may_open() {
        return skip(&format!("{CLIENTS} connections are more descriptors than the system allows"));
    }
    let home = Home::new();
    let (listener, addr) = listener();
    let process = serve(&listener, &home);
    let (acknowledged, goes_on) = (AtomicU64::new(0), AtomicBool::new(true));
    let mut clients = Clients::connect(addr, CLIENTS);
    clients.run_until("all are live", Clients::are_live);
    let process = std::thread::scope(|scope| {
        let mut process = process;
        let publisher = scope.spawn(|| publish(addr, &acknowledged, &goes_on));
        for round in 1..=RESTARTS {
            let enough = acknowledged.load(Ordering::Relaxed) + PUBLISHED_MIN;
            clients.run_until("a round", |clients| {
                clients.are_live() && acknowledged.load(Ordering::Relaxed) >= enough
            });
            clients.begin_round();
            process.signal(Signal::TERM);
            clients.run_until("all are sent away", |clients| clients.were_sent_away(round));
            let ended = process.wait();
            assert_eq!(ended.status.code(), Some(0), "{:?}", ended.stderr);
            check_spread(&clients);
            process = serve(&listener, &home);
        }
        clients.run_until("all are live again", Clients::are_live);
        goes_on.store(false, Ordering::Relaxed);
        let published = publisher.join().expect("the publisher comes to its end");
        clients.run_until("all have got everything", |clients| clients.have_got(published));
        assert!(published >= RESTARTS as u64 * PUBLISHED_MIN);
        assert_eq!(get(addr, "/api/summary").ok()["summary"]["total_messages"], published);
        process
    });
    process.kill();
}
