//! A server, sockets that cost next to nothing, and a clock that is advanced by hand. A socket returns the
//! bytes that were put into it, and counts those that it takes.

use std::cell::Cell;
use std::io::{self, IoSlice, Read, Write};
use std::rc::Rc;

use polecat::base::config::Config;
use polecat::base::time::Now;
use polecat::server::connections::Source;
use polecat::server::server::Server;
use polecat::server::socket::{Readiness, Socket};
use polecat::store::memory::MemoryEngine;
use polecat::wire::websocket::codec::{self, OpCode};

/// 2026-01-05T09:30:00 UTC.
const START_UNIX_MICROS: i64 = 1_767_605_400_000_000;

/// The number of records that the engine keeps: small enough that a run reaches the state in which each new
/// record displaces an old one.
const RECORDS_MAX: usize = 100;

/// What a socket shares with its client.
#[derive(Debug, Default)]
pub(crate) struct Line {
    input: Cell<&'static [u8]>,
    ended: Cell<bool>,
    writes: Cell<u64>,
    bytes: Cell<u64>,
}

impl Line {
    fn take(&self, len: usize) {
        self.writes.set(self.writes.get() + 1);
        self.bytes.set(self.bytes.get() + len as u64);
    }
}

/// One socket.
#[derive(Debug)]
pub(crate) struct Wire(Rc<Line>);

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let input = self.0.input.take();
        if input.is_empty() && !self.0.ended.get() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // No input is longer than the read buffer.
        buffer[..input.len()].copy_from_slice(input);
        Ok(input.len())
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.take(bytes.len());
        Ok(bytes.len())
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let len = slices.iter().map(|slice| slice.len()).sum();
        self.0.take(len);
        Ok(len)
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

/// A client: the other end of its socket, and the server's index of that.
#[derive(Debug)]
pub(crate) struct Client {
    line: Rc<Line>,
    index: u32,
}

impl Client {
    /// How many writes the server has made to it.
    pub(crate) fn writes(&self) -> u64 {
        self.line.writes.get()
    }

    /// How many bytes the server has sent it.
    pub(crate) fn bytes(&self) -> u64 {
        self.line.bytes.get()
    }
}

/// The server and its time.
pub(crate) struct MockServer {
    pub(crate) server: Server<Wire>,
    now_ms: u64,
}

impl MockServer {
    pub(crate) fn new() -> Self {
        let engine = Box::new(MemoryEngine::starting_at(0, 0).with_records(RECORDS_MAX, RECORDS_MAX));
        let now = Now { monotonic_ms: 0, unix_micros: START_UNIX_MICROS };
        Self { server: Server::new(Config::default(), engine, 1, now), now_ms: 0 }
    }

    /// A client connects and sends `bytes`; all of this arrives in the next turn.
    pub(crate) fn connect(&mut self, bytes: &'static [u8]) -> Client {
        let line = Rc::new(Line::default());
        let index = self.server.accept(Wire(Rc::clone(&line)), Source(0));
        let client = Client { line, index };
        self.send(&client, bytes);
        client
    }

    /// A client sends `bytes`.
    pub(crate) fn send(&mut self, client: &Client, bytes: &'static [u8]) {
        client.line.input.set(bytes);
        self.server.ready(client.index, Readiness { readable: true, ..Readiness::default() });
    }

    /// A client ends its side.
    pub(crate) fn end(&mut self, client: &Client) {
        client.line.ended.set(true);
        let readiness = Readiness { readable: true, read_closed: true, writable: false };
        self.server.ready(client.index, readiness);
    }

    /// One turn. Returns for how long the server would sleep after it.
    pub(crate) fn turn(&mut self) -> Option<u64> {
        self.server.turn();
        self.server.poll_timeout_ms()
    }

    /// Runs turns, each a millisecond long, until the server would sleep.
    pub(crate) fn settle(&mut self) {
        loop {
            let timeout_ms = self.turn();
            self.pass(1);
            if timeout_ms != Some(0) {
                return;
            }
        }
    }

    /// Time passes before the next turn.
    pub(crate) fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        let micros = i64::try_from(self.now_ms * 1000).unwrap_or(i64::MAX);
        self.server.wake(Now { monotonic_ms: self.now_ms, unix_micros: START_UNIX_MICROS + micros });
    }
}

/// A handshake for `path`, with the additional headers of browsers.
pub(crate) fn upgrade(path: &str, extra: &str) -> &'static [u8] {
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost:8080\r\nConnection: Upgrade\r\nPragma: no-cache\r\n\
         Cache-Control: no-cache\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nUpgrade: websocket\r\n\
         Origin: http://localhost:8080\r\nSec-WebSocket-Version: 13\r\nAccept-Encoding: gzip, deflate\r\n\
         Accept-Language: en\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{extra}\r\n"
    );
    head.into_bytes().leak()
}

/// A POST of a message.
pub(crate) fn post() -> &'static [u8] {
    let body = r#"{"channel_id":"room","author":"Ann","content":"Hello, world","token_count":3}"#;
    let head = "POST /api/messages HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: instructions\r\n\
                Accept: */*\r\nContent-Type: application/json";
    format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes().leak()
}

/// A frame as a client sends it. The mask maps ASCII to ASCII.
pub(crate) fn masked(opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    codec::write_masked_frame(opcode, payload, [0x11, 0x22, 0x33, 0x44], &mut frame);
    frame
}

/// The bytes, repeated `times`.
pub(crate) fn repeated(bytes: &[u8], times: usize) -> &'static [u8] {
    bytes.repeat(times).leak()
}
