//! Very many simulated clients that cost next to nothing: a socket is a number, the bytes that it was sent
//! are a count, and a Ping is answered by a Pong when it is the clients' turn.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::time::Duration;

use polecat::base::config::Config;
use polecat::base::time::Now;
use polecat::server::connections::Source;
use polecat::server::server::Server;
use polecat::server::socket::{Readiness, Socket};
use polecat::store::memory::MemoryEngine;
use rustix::time::{ClockId, clock_gettime};

/// 2026-01-05T09:30:00 UTC.
const START_UNIX_MICROS: i64 = 1_767_605_400_000_000;

const PING: u8 = 0x89;
/// The first byte of a heartbeat that needs no answer.
const UNASKED: u8 = 0x8a;

/// A masked Pong without a payload.
const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];

/// The state that the sockets share. Only those with something to read have more than a count.
#[derive(Default)]
struct Wires {
    /// How many writes each socket took, without heartbeats, by its number.
    written: Vec<u16>,
    input: HashMap<u32, Vec<u8>>,
    ended: Vec<bool>,
    pinged: VecDeque<u32>,
    heartbeats: u64,
    /// The client whose writes are watched, and the time of the last of them.
    watched: Option<(u32, Option<Duration>)>,
    /// For how long a write keeps the processor busy, as a real one does.
    write_cost: Duration,
}

thread_local! {
    static WIRES: RefCell<Wires> = RefCell::default();
}

/// One socket.
#[derive(Debug)]
pub(crate) struct Wire(u32);

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        WIRES.with_borrow_mut(|wires| match wires.input.remove(&self.0) {
            Some(bytes) => {
                // No input is longer than the read buffer.
                buffer[..bytes.len()].copy_from_slice(&bytes);
                Ok(bytes.len())
            }
            None if wires.ended[self.0 as usize] => Ok(0),
            None => Err(io::ErrorKind::WouldBlock.into()),
        })
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        WIRES.with_borrow_mut(|wires| {
            match bytes.first() {
                Some(&PING) => {
                    wires.heartbeats += 1;
                    wires.pinged.push_back(self.0);
                }
                Some(&UNASKED) => wires.heartbeats += 1,
                _ => wires.written[self.0 as usize] += 1,
            }
            if let Some((watched, at)) = &mut wires.watched
                && *watched == self.0
            {
                *at = Some(processor_time());
            }
            if !wires.write_cost.is_zero() {
                let until = processor_time() + wires.write_cost;
                while processor_time() < until {
                    std::hint::spin_loop();
                }
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket for Wire {
    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A server, its clients and its time. A client's number is that of its socket. The first clients also have
/// it as their index.
pub(crate) struct MockServer {
    pub(crate) server: Server<Wire>,
    /// The server's index of each socket.
    indices: Vec<u32>,
    now_ms: u64,
    timeout_ms: Option<u64>,
    to_read: Vec<u32>,
}

impl MockServer {
    /// A server without clients, of which there will be `clients`: the memory that they need themselves is
    /// allocated now.
    pub(crate) fn new(config: Config, clients: usize) -> Self {
        WIRES.with_borrow_mut(|wires| {
            *wires = Wires {
                written: Vec::with_capacity(clients),
                ended: Vec::with_capacity(clients),
                input: HashMap::with_capacity(8192),
                pinged: VecDeque::with_capacity(8192),
                ..Wires::default()
            };
        });
        let now = Now { monotonic_ms: 0, unix_micros: START_UNIX_MICROS };
        Self {
            server: Server::new(config, Box::new(MemoryEngine::starting_at(0, 0)), 1, now),
            indices: Vec::with_capacity(clients),
            now_ms: 0,
            timeout_ms: Some(0),
            to_read: Vec::with_capacity(8192),
        }
    }

    /// A client connects and sends `bytes`; all of this arrives in the next turn.
    pub(crate) fn connect(&mut self, bytes: &[u8]) -> u32 {
        let number = WIRES.with_borrow_mut(|wires| {
            wires.written.push(0);
            wires.ended.push(false);
            u32::try_from(wires.written.len() - 1).unwrap_or(u32::MAX)
        });
        let index = self.server.accept(Wire(number), Source(0));
        self.indices.push(index);
        self.send(number, bytes);
        number
    }

    /// A client asks to become a WebSocket at `path`.
    pub(crate) fn join(&mut self, path: &str) -> u32 {
        self.connect(upgrade(path).as_bytes())
    }

    /// The same with `polecat.v1`.
    pub(crate) fn join_v1(&mut self, path: &str) -> u32 {
        let offer = "\r\nSec-WebSocket-Protocol: polecat.v1\r\n\r\n";
        self.connect(upgrade(path).replace("\r\n\r\n", offer).as_bytes())
    }

    /// A client sends `bytes`.
    pub(crate) fn send(&mut self, client: u32, bytes: &[u8]) {
        WIRES.with_borrow_mut(|wires| wires.input.entry(client).or_default().extend_from_slice(bytes));
        self.to_read.push(client);
    }

    /// A client POSTs a message on `channel`.
    pub(crate) fn publish(&mut self, client: u32, channel: &str, content: &str) {
        let body = format!(r#"{{"channel_id":"{channel}","author":"bench","content":"{content}"}}"#);
        let head = "POST /api/messages HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json";
        self.send(client, format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
    }

    /// A client ends its side.
    pub(crate) fn end(&mut self, client: u32) {
        WIRES.with_borrow_mut(|wires| wires.ended[client as usize] = true);
        let index = self.indices[client as usize];
        self.server.ready(index, Readiness { readable: true, read_closed: true, writable: false });
    }

    /// Time advances by `step_ms`, or to the time at which the server wanted to be woken; then it has a turn.
    /// Returns how long that took.
    pub(crate) fn turn(&mut self, step_ms: u64) -> Duration {
        let begun = processor_time();
        self.now_ms += self.timeout_ms.unwrap_or(u64::MAX).min(step_ms);
        let micros = i64::try_from(self.now_ms * 1000).unwrap_or(i64::MAX);
        self.server.wake(Now { monotonic_ms: self.now_ms, unix_micros: START_UNIX_MICROS + micros });
        for client in self.to_read.drain(..) {
            let index = self.indices[client as usize];
            self.server.ready(index, Readiness { readable: true, ..Readiness::default() });
        }
        self.server.turn();
        self.timeout_ms = self.server.poll_timeout_ms();
        processor_time().saturating_sub(begun)
    }

    /// Runs turns until the server would sleep.
    pub(crate) fn settle(&mut self) {
        loop {
            self.turn(0);
            if self.timeout_ms != Some(0) && self.to_read.is_empty() {
                return;
            }
        }
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.timeout_ms == Some(0)
    }

    pub(crate) const fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Up to `most` of the clients that got a Ping answer.
    pub(crate) fn pong(&mut self, most: usize) {
        for _ in 0..most {
            let Some(client) = WIRES.with_borrow_mut(|wires| wires.pinged.pop_front()) else { return };
            self.send(client, &PONG);
        }
    }

    /// When the watched client was last written to; forgets that.
    pub(crate) fn take_written_at(&self) -> Option<Duration> {
        WIRES.with_borrow_mut(|wires| wires.watched.as_mut().and_then(|(_, at)| at.take()))
    }

    pub(crate) fn watch(&self, client: u32) {
        WIRES.with_borrow_mut(|wires| wires.watched = Some((client, None)));
    }

    pub(crate) fn set_write_cost(&self, cost: Duration) {
        WIRES.with_borrow_mut(|wires| wires.write_cost = cost);
    }

    /// How many writes a client took.
    pub(crate) fn written(&self, client: u32) -> u16 {
        WIRES.with_borrow(|wires| wires.written[client as usize])
    }

    pub(crate) fn heartbeats(&self) -> u64 {
        WIRES.with_borrow(|wires| wires.heartbeats)
    }
}

/// For how long this thread has been on a processor so far.
pub(crate) fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// A masked text frame of a short text, with a mask of zeros.
pub(crate) fn text_frame(text: &str) -> Vec<u8> {
    let len = u8::try_from(text.len()).unwrap_or(125).min(125);
    let mut frame = vec![0x81, 0x80 | len, 0, 0, 0, 0];
    frame.extend_from_slice(&text.as_bytes()[..usize::from(len)]);
    frame
}

fn upgrade(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}
