//! Notifications to a supervisor: docs/operating.md, "As a service".

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::patience::{Stopwatch, let_pass};
use crate::support::{Home, Http, PATIENCE, Process, Socket, get};

/// The socket of a supervisor.
struct Supervisor(UnixDatagram);

impl Supervisor {
    fn new(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        Self(socket)
    }

    /// The next notification, line by line.
    fn next(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let len = self.0.recv(&mut buffer).expect("a notice");
        String::from_utf8_lossy(&buffer[..len]).lines().map(str::to_owned).collect()
    }
}

/// Fills the queue of the socket at `place` until not even a new sender can add to it; returns how many
/// notifications it took.
fn fill(place: &Path) -> usize {
    let mut filled = 0;
    loop {
        let sender = UnixDatagram::unbound().expect("a socket");
        sender.set_nonblocking(true).expect("it need not block");
        let before = filled;
        while sender.send_to(b"FILLING=1", place).is_ok() {
            filled += 1;
        }
        if filled == before {
            return filled;
        }
    }
}

fn serve(home: &Home, variables: &[(&str, &str)]) -> Process {
    Process::start(|command| {
        command.args(["serve", "--listen", "127.0.0.1:0", "--drain", "60", "--db"]).arg(home.database());
        command.envs(variables.iter().copied());
    })
}

#[test]
fn without_a_watchdog_it_says_when_it_serves_and_when_it_stops_and_no_more() {
    let home = Home::new();
    let path = home.database().with_file_name("notify");
    let by_path = Supervisor::new(UnixDatagram::bind(&path).expect("a socket"));
    let name = format!("polecat-test-{}", std::process::id());
    let addr = SocketAddr::from_abstract_name(&name).expect("a name");
    let by_name = Supervisor::new(UnixDatagram::bind_addr(&addr).expect("a socket"));
    let path = path.to_str().expect("a path of UTF-8").to_owned();
    for (supervisor, place) in [(&by_path, path), (&by_name, format!("@{name}"))] {
        // A watchdog for another process does not count.
        let other = [("NOTIFY_SOCKET", &*place), ("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "1")];
        for variables in [&other[..1], &other] {
            let process = serve(&home, variables);
            assert_eq!(supervisor.next(), ["READY=1", "STATUS=serving"]);
            // The notification is true.
            Http::connect(process.addr()).expect_open();
            let _client = Socket::connect(process.addr(), "/ws");
            process.signal(Signal::TERM);
            let told = supervisor.next();
            assert_eq!(told[0], "STOPPING=1");
            assert!(told[1].starts_with("STATUS=stopping; 1 connections, "), "{told:?}");
            process.kill();
        }
    }
}

#[test]
fn with_a_watchdog_it_gives_a_sign_of_life_in_each_half_of_the_time() {
    const HALF: Duration = Duration::from_millis(50);
    let home = Home::new();
    let path = home.database().with_file_name("notify");
    let supervisor = Supervisor::new(UnixDatagram::bind(&path).expect("a socket"));
    let whole = (HALF * 2).as_micros().to_string();
    let stopwatch = Stopwatch::start();
    let place = path.to_str().expect("a path of UTF-8");
    let process = serve(&home, &[("NOTIFY_SOCKET", place), ("WATCHDOG_USEC", &whole)]);
    assert_eq!(supervisor.next()[0], "READY=1");
    // There are no clients: it wakes up by itself.
    for count in 1..=5 {
        let told = supervisor.next();
        assert_eq!(told[0], "WATCHDOG=1");
        assert_eq!(told[1], "STATUS=0 connections, 0 records stored");
        stopwatch.expect_at_least(HALF * count);
    }
    // During the shutdown too: a client that does not answer holds it up.
    let _silent = crate::support::RawSocket::connect(process.addr(), "/api/ws");
    process.signal(Signal::TERM);
    while supervisor.next()[0] != "STOPPING=1" {}
    for _ in 0..2 {
        assert_eq!(supervisor.next()[0], "WATCHDOG=1");
    }
    process.kill();
}

/// The log line about a supervisor that cannot be reached.
const UNREACHABLE: &str = " WARN  the supervisor does not accept notifications";

#[test]
fn a_notice_that_finds_no_room_is_sent_when_there_is_room() {
    let home = Home::new();
    let path = home.database().with_file_name("notify");
    let supervisor = Supervisor::new(UnixDatagram::bind(&path).expect("a socket"));
    let filled = fill(&path);
    let place = path.to_str().expect("a path of UTF-8");
    let mut process = serve(&home, &[("NOTIFY_SOCKET", place)]);
    process.next_logged(UNREACHABLE);
    let _silent = crate::support::RawSocket::connect(process.addr(), "/api/ws");
    process.signal(Signal::TERM);
    process.next_logged(" INFO  stopping; ");
    for _ in 0..filled {
        assert_eq!(supervisor.next(), ["FILLING=1"]);
    }
    // Each of them, in the original order.
    assert_eq!(supervisor.next(), ["READY=1", "STATUS=serving"]);
    assert_eq!(supervisor.next()[0], "STOPPING=1");
    process.next_logged(" INFO  the supervisor accepts notifications again");
    process.kill();
}

#[test]
fn a_supervisor_that_cannot_be_reached_is_reported_once() {
    const HALF: Duration = Duration::from_millis(20);
    let home = Home::new();
    let path = home.database().with_file_name("notify");
    let place = path.to_str().expect("a path of UTF-8").to_owned();
    let whole = (HALF * 2).as_micros().to_string();
    let mut process = serve(&home, &[("NOTIFY_SOCKET", &place), ("WATCHDOG_USEC", &whole)]);
    for first in ["READY=1", "WATCHDOG=1"] {
        process.next_logged(UNREACHABLE);
        // It continues to serve in the meantime, while many notifications are due.
        let_pass(HALF * 25, |_| assert_eq!(get(process.addr(), "/api/health").status, 200));
        let supervisor = Supervisor::new(UnixDatagram::bind(&path).expect("a socket"));
        assert_eq!(supervisor.next()[0], first);
        process.next_logged(" INFO  the supervisor accepts notifications again");
        std::fs::remove_file(&path).expect("it is there");
    }
    process.next_logged(UNREACHABLE);
    process.signal(Signal::TERM);
    let ended = process.wait();
    let warnings = ended.stderr.iter().filter(|line| line.contains(UNREACHABLE)).collect::<Vec<_>>();
    assert_eq!(warnings.len(), 3, "{warnings:?}");
}
