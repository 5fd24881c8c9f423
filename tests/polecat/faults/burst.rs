//! Many clients that connect at once: PROTOCOL.md, "13.3 Limits".

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use crate::support::raw::{TEXT, parse, upgrade};
use crate::support::socket::message;
use crate::support::{Home, Http, Patience, Process, post, skip, wait_until};

const CLIENTS: usize = 10_000;
/// Each address has its own ports.
const CLIENTS_OF_ADDRESS: usize = 1_000;
/// Descriptors for everything else in this process at that time.
const OTHERS: u64 = 4_000;

/// The most that a slab of this many connections, and the allocator, may keep.
const KEPT_BYTES_MAX: u64 = 6 << 20;

struct Clients {
    poll: Poll,
    clients: Vec<Client>,
}

struct Client {
    stream: TcpStream,
    has_asked: bool,
    is_open: bool,
    received: Vec<u8>,
    texts: usize,
}

impl Clients {
    /// All connects are in progress before the first one is looked at.
    fn connect(addr: SocketAddr) -> Self {
        let poll = Poll::new().expect("a poll");
        let connect = |number: usize| {
            let mut stream = begin_to_connect(number, addr);
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut stream, Token(number), interest).expect("registered");
            Client { stream, has_asked: false, is_open: false, received: Vec::new(), texts: 0 }
        };
        let clients = (0..CLIENTS).map(connect).collect();
        Self { poll, clients }
    }

    fn run_until(&mut self, what: &str, is_reached: impl Fn(&Client) -> bool) {
        let mut patience = Patience::new();
        let mut left = usize::MAX;
        let mut events = Events::with_capacity(4096);
        loop {
            let now_left = self.clients.iter().filter(|client| !is_reached(client)).count();
            if now_left == 0 {
                return;
            }
            if now_left != left {
                left = now_left;
                patience.renew();
            }
            patience.check_with(|| format!("{what}: {left} still wait"));
            self.poll.poll(&mut events, Some(Duration::from_millis(100))).expect("polled");
            for event in &events {
                self.clients[event.token().0].go_on();
            }
        }
    }
}

impl Client {
    fn go_on(&mut self) {
        if let Some(error) = self.stream.take_error().expect("a socket tells its error") {
            panic!("refused: {error}");
        }
        if !self.has_asked {
            match self.stream.write(&upgrade("/ws")) {
                Ok(written) => assert_eq!(written, upgrade("/ws").len(), "an empty socket takes it whole"),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    return;
                }
                Err(error) => panic!("refused: {error}"),
            }
            self.has_asked = true;
        }
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => panic!("closed after {:?}", String::from_utf8_lossy(&self.received)),
                Ok(read) => self.received.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("closed: {error}"),
            }
        }
        if !self.is_open
            && let Some(end) = self.received.windows(4).position(|window| window == b"\r\n\r\n")
        {
            assert!(
                self.received.starts_with(b"HTTP/1.1 101 "),
                "{:?}",
                String::from_utf8_lossy(&self.received)
            );
            self.received.drain(..end + 4);
            self.is_open = true;
        }
        while self.is_open
            && let Some((frame, len)) = parse(&self.received)
        {
            self.received.drain(..len);
            self.texts += usize::from(frame.opcode == TEXT);
        }
    }
}

/// Begins to connect from a loopback address that is not shared with too many others.
pub(crate) fn begin_to_connect(number: usize, addr: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let host = u8::try_from(2 + number / CLIENTS_OF_ADDRESS).expect("a few addresses");
    let source = SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0));
    socket.bind(&source.into()).expect("all of 127.0.0.0/8 is ours");
    socket.set_nonblocking(true).expect("a socket can be told not to wait");
    match socket.connect(&addr.into()) {
        Ok(()) => {}
        // EINPROGRESS has no name of its own in the standard library.
        Err(error) => assert_eq!(error.raw_os_error(), Some(115), "{error}"),
    }
    TcpStream::from_std(socket.into())
}

/// Whether this process may open as many descriptors as it needs.
fn may_open() -> bool {
    let limit = getrlimit(Resource::Nofile);
    let is_enough = limit.maximum.is_none_or(|maximum| maximum >= CLIENTS as u64 + OTHERS);
    is_enough && setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).is_ok()
}

#[test]
fn ten_thousand_who_connect_at_once_are_all_served() {
    if !may_open() {
        return skip(&format!("{CLIENTS} connections are more descriptors than the system allows"));
    }
    let home = Home::new();
    let flags = ["--handshake-timeout", "600", "--heartbeat-interval", "600"];
    let process = Process::serve(&home.database(), &flags);
    let addr = process.addr();
    let (goes_on, answered) = (AtomicBool::new(true), AtomicUsize::new(0));
    let mut control = Http::connect(addr);
    control.expect_open();
    let files = process.open_files().expect("/proc");
    let before = process.memory().expect("/proc").resident;
    let mut after = Vec::new();
    for _ in 0..2 {
        goes_on.store(true, Ordering::Relaxed);
        let clients = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut other = Http::connect(addr);
                while goes_on.load(Ordering::Relaxed) {
                    other.post("/api/messages", &message("room", "a", "c")).ok();
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
            let mut clients = Clients::connect(addr);
            clients.run_until("a handshake", |client| client.is_open);
            let count = answered.load(Ordering::Relaxed);
            wait_until("others are answered", || {
                std::thread::yield_now();
                answered.load(Ordering::Relaxed) > count
            });
            goes_on.store(false, Ordering::Relaxed);
            clients
        });
        let mut clients = clients;
        assert!(process.open_files().is_some_and(|open| open >= files + CLIENTS));
        post(addr, "/api/events", &json!({"type": "t"})).ok();
        clients.run_until("an event", |client| client.texts == 1);
        drop(clients);
        wait_until("what they held is let go of", || {
            control.expect_open();
            process.open_files() == Some(files)
        });
        after.push(process.memory().expect("/proc").resident);
    }
    assert!(after[0] < before + KEPT_BYTES_MAX, "{before} bytes before, {after:?} after");
    assert!(after[1] < after[0] + KEPT_BYTES_MAX / 4, "{before} bytes before, {after:?} after");
    process.kill();
}
