//! A peer that sends and never reads, and a server with many such peers.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use serde_json::{Value, json};
use socket2::{Domain, Socket as RawStream, Type};

use crate::support::http::is_gone;
use crate::support::socket::message;
use crate::support::{Home, Http, PATIENCE, Patience, Process, Socket, skip};

/// What all may hold together, as a flag.
pub(super) const UNSENT_BYTES: u64 = 4 << 20;

/// What a server may use in addition: buffers, pages of the database, data of the current turn.
const SLACK_BYTES: u64 = 24 << 20;

/// What may remain when all have gone.
const LEFT_BYTES: u64 = 16 << 20;

/// Rounds without a byte after which the clients count as stopped.
const STILL_ROUNDS: usize = 30;

/// Sends its bytes, as far as they are taken, and reads nothing.
pub(super) struct Hog {
    stream: TcpStream,
    bytes: Vec<u8>,
    sent: usize,
}

impl Hog {
    /// Connects, with so little receive buffer that nearly everything stays with the server.
    pub(super) fn connect(addr: SocketAddr, bytes: Vec<u8>) -> Self {
        let socket = RawStream::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(2048).expect("a small buffer");
        socket.connect_timeout(&addr.into(), PATIENCE).expect("the server accepts a connection");
        let stream = TcpStream::from(socket);
        stream.set_nonblocking(true).expect("it can be told not to wait");
        Self { stream, bytes, sent: 0 }
    }

    /// Continues to send; returns whether anything was taken.
    pub(super) fn push(&mut self) -> bool {
        let before = self.sent;
        while self.sent < self.bytes.len() {
            match self.stream.write(&self.bytes[self.sent..]) {
                Ok(sent) => self.sent += sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if is_gone(&error) => self.sent = self.bytes.len(),
                Err(error) => panic!("{error}"),
            }
        }
        self.sent > before
    }

    pub(super) fn into_stream(self) -> TcpStream {
        self.stream.set_nonblocking(false).expect("it can be told to wait");
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        self.stream
    }
}

/// A server with small limits.
pub(super) struct Site {
    pub(super) process: Process,
    /// What all may hold together.
    unsent_bytes: u64,
    start_bytes: Option<u64>,
    pub(super) witness: Http,
    pub(super) hogs: Vec<Hog>,
    _home: Home,
}

impl Site {
    /// A server whose database has what `fill` has published.
    pub(super) fn filled(flags: &[&str], fill: impl FnOnce(&mut Http)) -> Self {
        let home = Home::new();
        let process = Process::serve(&home.database(), &[]);
        fill(&mut Http::connect(process.addr()));
        process.kill();
        Self::start(home, UNSENT_BYTES, flags)
    }

    /// One with an empty database, where all may hold this much together.
    pub(super) fn with_room(unsent_bytes: u64, flags: &[&str]) -> Self {
        Self::start(Home::new(), unsent_bytes, flags)
    }

    /// The same, but `fill` writes to the file itself.
    pub(super) fn with_rows(flags: &[&str], fill: impl FnOnce(&Path)) -> Self {
        let home = Home::new();
        Process::serve(&home.database(), &[]).kill();
        fill(&home.database());
        Self::start(home, UNSENT_BYTES, flags)
    }

    fn start(home: Home, unsent_bytes: u64, flags: &[&str]) -> Self {
        let unsent = unsent_bytes.to_string();
        let flags = [&["--max-unsent-bytes", &unsent, "--log-level", "off"], flags].concat();
        let process = Process::serve(&home.database(), &flags);
        let witness = Http::connect(process.addr());
        let mut site =
            Self { witness, process, unsent_bytes, start_bytes: None, hogs: Vec::new(), _home: home };
        site.check_that_others_are_served();
        site.start_bytes = site.process.memory().map(|memory| memory.resident);
        if site.start_bytes.is_none() {
            skip("memory is not measured, since there is no /proc");
        }
        site
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.process.addr()
    }

    /// Lets the clients send until none makes progress, and checks how much the server holds.
    pub(super) fn press(&mut self, count: usize, bytes: impl Fn(usize) -> Vec<u8>) {
        let addr = self.addr();
        self.hogs.extend((0..count).map(|number| Hog::connect(addr, bytes(number))));
        let mut still = 0;
        while still < STILL_ROUNDS {
            still = if self.push_all() { 0 } else { still + 1 };
        }
        self.check_memory();
    }

    /// Lets each continue to send, and the server read; returns whether anything was taken.
    pub(super) fn push_all(&mut self) -> bool {
        let moved = self.hogs.iter_mut().filter_map(|hog| hog.push().then_some(())).count();
        self.witness.expect_open();
        moved > 0
    }

    /// The memory in use, beyond that at the start, stays within the bound at any time.
    pub(super) fn check_memory(&self) {
        if let (Some(start), Some(memory)) = (self.start_bytes, self.process.memory()) {
            let grown = memory.resident_peak.saturating_sub(start);
            let most = self.unsent_bytes + SLACK_BYTES;
            assert!(grown <= most, "{grown} bytes more than at the start, of {most}");
        }
    }

    /// Everything that others need continues to work.
    pub(super) fn check_that_others_are_served(&mut self) {
        let addr = self.addr();
        let mut subscriber = Socket::connect(addr, "/api/ws/witness");
        let mut echo = Socket::connect(addr, "/api/ws");
        echo.send_text("still here");
        assert_eq!(echo.next_text(), "still here");
        let posted = self.witness.post("/api/messages", &message("witness", "a", "publishing goes on")).ok();
        assert_eq!(subscriber.next_contents(1), ["publishing goes on"]);
        assert_eq!(posted["success"], true);
    }

    /// All leave, and the memory that they held is given back.
    pub(super) fn leave(mut self) {
        self.check_memory();
        self.hogs.clear();
        let patience = Patience::new();
        loop {
            let health = self.health();
            let held = &health["memory"]["outboxes_bytes"];
            let left = health["memory"]["resident_bytes"].as_u64().zip(self.start_bytes);
            let left = left.map_or(0, |(now, start)| now.saturating_sub(start));
            if *held == json!(0) && left <= LEFT_BYTES {
                return;
            }
            patience.check_with(|| format!("{held} are unsent, and {left} bytes are left"));
        }
    }

    pub(super) fn health(&mut self) -> Value {
        self.witness.get("/api/health?verbose=1").ok()
    }
}
