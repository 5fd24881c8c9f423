//! Connections between two requests while the process is stopped: PROTOCOL.md, "9. Heartbeats and liveness".

use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use super::swarm::Swarm;
use crate::support::patience::Alarm;
use crate::support::{Home, Http, Process, RawSocket, skip};

/// More than one poll reports, and more than one turn reads.
const CLIENTS: usize = 2500;

/// How long a connection may be idle. The next value is tried if a machine is too slow to prepare the test in
/// half of the time.
const IDLE: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(20), Duration::from_secs(80)];

/// Clients that have got their responses, with most of their idle time left.
fn set_scene(home: &Home, idle: Duration) -> Option<(Process, Vec<Http>)> {
    let seconds = idle.as_secs().to_string();
    // Nothing else is due: the server would sleep until the first of them has been idle for too long.
    let flags = ["--idle-timeout", &seconds, "--handshake-timeout", "600", "--heartbeat-interval", "600"];
    let process = Process::serve(&home.database(), &flags);
    let mut clients = (0..CLIENTS).map(|_| Http::connect(process.addr())).collect::<Vec<_>>();
    let too_late = Alarm::after(idle / 2);
    for http in &mut clients {
        http.send("GET /api/health HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    for http in &mut clients {
        if too_late.has_gone_off() {
            return None;
        }
        assert_eq!(http.response().status, 200);
    }
    Some((process, clients))
}

#[test]
fn who_has_asked_while_it_was_stopped_is_answered_before_anyone_is_too_late() {
    let limit = getrlimit(Resource::Nofile);
    let is_enough = limit.maximum.is_none_or(|maximum| maximum >= 2 * CLIENTS as u64);
    if !is_enough || setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).is_err() {
        return skip(&format!("{CLIENTS} connections are more descriptors than the system allows"));
    }
    let home = Home::new();
    let scene = IDLE.into_iter().find_map(|idle| Some((idle, set_scene(&home, idle)?)));
    let (idle, (process, mut clients)) = scene.expect("the clients are answered");
    let mut swarm = Swarm::default();
    swarm.join(RawSocket::connect(process.addr(), "/ws"));
    process.signal(Signal::STOP);
    for http in &mut clients {
        http.send("GET /api/health HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    swarm.run_for(idle + Duration::from_secs(1));
    process.signal(Signal::CONT);
    for http in &mut clients {
        assert_eq!(http.response().status, 200);
    }
    assert_eq!(swarm.closed(), Vec::<usize>::new());
    process.kill();
}
