//! What a supervisor is told: README.md, "Running it for real".

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Home, Http, PATIENCE, Process, Socket};

/// Who starts services listens here.
struct Supervisor(UnixDatagram);

impl Supervisor {
    fn new(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        Self(socket)
    }

    /// The next notice, line by line.
    fn next(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let len = self.0.recv(&mut buffer).expect("a notice");
        String::from_utf8_lossy(&buffer[..len]).lines().map(str::to_owned).collect()
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
        // A watchdog for another process is none.
        let other = [("NOTIFY_SOCKET", &*place), ("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "1")];
        for variables in [&other[..1], &other] {
            let process = serve(&home, variables);
            assert_eq!(supervisor.next(), ["READY=1", "STATUS=serving"]);
            // It is told when it is true.
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
    let begun = Instant::now();
    let place = path.to_str().expect("a path of UTF-8");
    let process = serve(&home, &[("NOTIFY_SOCKET", place), ("WATCHDOG_USEC", &whole)]);
    assert_eq!(supervisor.next()[0], "READY=1");
    // Nobody is there: it wakes up by itself.
    for count in 1..=5 {
        let told = supervisor.next();
        assert_eq!(told[0], "WATCHDOG=1");
        assert_eq!(told[1], "STATUS=0 connections, 0 records stored");
        assert!(begun.elapsed() >= HALF * count, "too early: {:?}", begun.elapsed());
    }
    // While it stops, too: a client that does not answer holds it up.
    let _silent = crate::support::RawSocket::connect(process.addr(), "/api/ws");
    process.signal(Signal::TERM);
    while supervisor.next()[0] != "STOPPING=1" {}
    for _ in 0..2 {
        assert_eq!(supervisor.next()[0], "WATCHDOG=1");
    }
    process.kill();
}
