//! The loop.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::frame;
use crate::http::{self, Request};

const LISTENER: Token = Token(usize::MAX);
const BACKLOG: i32 = 4096;
const BUFFER_BYTES: usize = 64 << 10;

/// When this many bytes of all connections wait for full sockets, nothing more is read.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// The envelope around a client's message, so that a delivery is as long as polecat's.
const ENVELOPE: [&[u8]; 2] = [
    b"{\"type\":\"message\",\"data\":",
    b",\"id\":10000000,\"channel_id\":\"bench\",\"timestamp\":\"2025-01-01T00:00:00.000000+00:00\",\
      \"lane\":null,\"provider\":null,\"event_id\":\"message-100000\"}",
];

#[derive(Default)]
pub(crate) struct Options {
    /// How often each connection gets a Ping.
    pub(crate) heartbeat: Option<Duration>,
    /// Whether open connections are no longer polled: heartbeats are then bare writes, and Pongs stay unread.
    pub(crate) is_deaf: bool,
    /// Whether each message is written separately, even if several arrived together.
    pub(crate) writes_each: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Http,
    Echo,
    Channel,
}

struct Connection {
    stream: TcpStream,
    phase: Phase,
    /// Its slot among the members of the channel.
    slot: u32,
    /// Distinguishes it from earlier connections with its index.
    serial: u32,
}

pub(crate) struct Server {
    options: Options,
    poll: Poll,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    members: Vec<usize>,
    /// The bytes for all members at the end of the turn.
    news: Vec<u8>,
    /// Unfinished requests and frames.
    unfinished: HashMap<usize, Vec<u8>>,
    /// Bytes that full sockets did not take.
    waiting: HashMap<usize, Vec<u8>>,
    waiting_bytes: usize,
    /// Connections that may have something to read.
    ready: Vec<usize>,
    heartbeats: VecDeque<(Instant, usize, u32)>,
    serial: u32,
    scratch: Vec<u8>,
    buffer: Vec<u8>,
    /// Whether the connection being read is to be dropped.
    is_over: bool,
}

impl Server {
    pub(crate) fn start(port: u16, options: Options) -> io::Result<Self> {
        let mut listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        rustix::net::sockopt::set_tcp_nodelay(&listener, true)?;
        rustix::net::listen(&listener, BACKLOG)?;
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            options,
            poll,
            listener,
            connections: Vec::new(),
            free: Vec::new(),
            members: Vec::new(),
            news: Vec::new(),
            unfinished: HashMap::new(),
            waiting: HashMap::new(),
            waiting_bytes: 0,
            ready: Vec::new(),
            heartbeats: VecDeque::new(),
            serial: 0,
            scratch: Vec::new(),
            buffer: vec![0; BUFFER_BYTES],
            is_over: false,
        })
    }

    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            let timeout = if self.may_read() && !self.ready.is_empty() {
                Some(Duration::ZERO)
            } else {
                self.heartbeats.front().map(|(due, ..)| due.saturating_duration_since(Instant::now()))
            };
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            }
            let mut accepts = false;
            for event in &events {
                match event.token() {
                    LISTENER => accepts = true,
                    Token(index) => {
                        if event.is_readable() || event.is_error() {
                            self.ready.push(index);
                        }
                        // The first read may get bytes; the end comes after them.
                        if event.is_read_closed() {
                            self.ready.push(index);
                        }
                        if event.is_writable() && self.waiting.contains_key(&index) {
                            self.write(index, &[]);
                        }
                    }
                }
            }
            if accepts {
                self.accept()?;
            }
            for index in std::mem::take(&mut self.ready) {
                if self.may_read() {
                    self.read(index);
                } else {
                    self.ready.push(index);
                }
            }
            self.tell_members();
            self.beat();
        }
    }

    fn may_read(&self) -> bool {
        self.waiting_bytes < WAITING_BYTES_MAX
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let index = self.free.pop().unwrap_or(self.connections.len());
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, Token(index), interest)?;
            let connection = Some(Connection { stream, phase: Phase::Http, slot: 0, serial: self.serial });
            self.serial = self.serial.wrapping_add(1);
            match self.connections.get_mut(index) {
                Some(place) => *place = connection,
                None => self.connections.push(connection),
            }
        }
    }

    /// Reads once. If the buffer was filled there may be more, which the next turn reads.
    fn read(&mut self, index: usize) {
        let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) else { return };
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut start = 0;
        if let Some(rest) = self.unfinished.remove(&index) {
            start = rest.len();
            if buffer.len() < start + BUFFER_BYTES {
                buffer.resize(start + BUFFER_BYTES, 0);
            }
            buffer[..start].copy_from_slice(&rest);
        }
        match connection.stream.read(&mut buffer[start..]) {
            Ok(0) => self.is_over = true,
            Ok(len) => {
                let end = start + len;
                if end == buffer.len() {
                    self.ready.push(index);
                }
                let done = match connection.phase {
                    Phase::Http => self.requests(index, &buffer[..end]),
                    Phase::Echo => self.echoes(index, &mut buffer[..end]),
                    Phase::Channel => self.publishes(index, &mut buffer[..end]),
                };
                if done < end {
                    self.unfinished.insert(index, buffer[done..end].to_vec());
                }
            }
            Err(error) => self.is_over = error.kind() != ErrorKind::WouldBlock,
        }
        self.buffer = buffer;
        if std::mem::take(&mut self.is_over) {
            self.drop(index);
        }
    }

    /// Answers all requests with one write, and returns the beginning of the unfinished one.
    fn requests(&mut self, index: usize, bytes: &[u8]) -> usize {
        let mut answer = std::mem::take(&mut self.scratch);
        let mut done = 0;
        while let Some((request, end)) = http::take(bytes, done) {
            done = end;
            match request {
                Request::Plain { body } => {
                    if !self.members.is_empty() {
                        self.publish(&bytes[body]);
                    }
                    answer.extend_from_slice(http::ANSWER);
                }
                Request::Upgrade { key, joins } => {
                    http::accept(&key, &mut answer);
                    self.open(index, joins);
                    break;
                }
            }
        }
        if !answer.is_empty() {
            self.write(index, &answer);
        }
        answer.clear();
        self.scratch = answer;
        done
    }

    fn open(&mut self, index: usize, joins: bool) {
        let Some(connection) = self.connections[index].as_mut() else { return };
        connection.phase = if joins { Phase::Channel } else { Phase::Echo };
        if joins {
            connection.slot = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
            self.members.push(index);
        }
        if let Some(interval) = self.options.heartbeat {
            self.heartbeats.push_back((Instant::now() + interval, index, connection.serial));
        }
        if self.options.is_deaf {
            self.is_over = self.poll.registry().deregister(&mut connection.stream).is_err();
        }
    }

    /// Sends all messages back with one write. The frames are made in place: a server's frame is shorter than
    /// a client's.
    fn echoes(&mut self, index: usize, bytes: &mut [u8]) -> usize {
        let (mut done, mut out) = (0, 0);
        while let Some(frame) = frame::take(bytes, done) {
            done = frame.payload.end;
            let opcode = match frame.opcode {
                frame::PING => frame::PONG,
                frame::PONG => continue,
                opcode => opcode,
            };
            self.is_over |= opcode == frame::CLOSE;
            let (head, head_len) = frame::head(opcode, frame.payload.len());
            bytes[out..out + head_len].copy_from_slice(&head[..head_len]);
            out += head_len;
            let len = frame.payload.len();
            bytes.copy_within(frame.payload, out);
            out += len;
        }
        if out > 0 {
            self.write(index, &bytes[..out]);
        }
        done
    }

    fn publishes(&mut self, index: usize, bytes: &mut [u8]) -> usize {
        let mut done = 0;
        while let Some(frame) = frame::take(bytes, done) {
            done = frame.payload.end;
            match frame.opcode {
                frame::TEXT | frame::BINARY => self.publish(&bytes[frame.payload]),
                frame::PING | frame::CLOSE => {
                    let opcode = if frame.opcode == frame::PING { frame::PONG } else { frame::CLOSE };
                    let (head, head_len) = frame::head(opcode, frame.payload.len());
                    self.write(index, &[&head[..head_len], &bytes[frame.payload]].concat());
                    self.is_over |= opcode == frame::CLOSE;
                }
                _ => {}
            }
        }
        done
    }

    fn publish(&mut self, content: &[u8]) {
        let [before, after] = ENVELOPE;
        let (head, head_len) = frame::head(frame::TEXT, before.len() + content.len() + after.len());
        for part in [&head[..head_len], before, content, after] {
            self.news.extend_from_slice(part);
        }
        if self.options.writes_each {
            self.tell_members();
        }
    }

    /// One write to each member, of everything that has arrived in this turn.
    fn tell_members(&mut self) {
        if self.news.is_empty() {
            return;
        }
        let mut news = std::mem::take(&mut self.news);
        for slot in (0..self.members.len()).rev() {
            self.write(self.members[slot], &news);
        }
        news.clear();
        self.news = news;
    }

    /// Writes the waiting bytes, and `bytes` after them; the bytes that the socket does not take wait.
    fn write(&mut self, index: usize, bytes: &[u8]) {
        let Some(Some(connection)) = self.connections.get_mut(index) else { return };
        let joined;
        let mut bytes = bytes;
        if self.waiting_bytes > 0
            && let Some(mut waiting) = self.waiting.remove(&index)
        {
            self.waiting_bytes -= waiting.len();
            waiting.extend_from_slice(bytes);
            joined = waiting;
            bytes = &joined;
        }
        let mut sent = 0;
        while sent < bytes.len() {
            match connection.stream.write(&bytes[sent..]) {
                Ok(len) => sent += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.waiting_bytes += bytes.len() - sent;
                    self.waiting.insert(index, bytes[sent..].to_vec());
                    return;
                }
                // The next read will report the error.
                Err(_) => return,
            }
        }
    }

    /// A Ping for each connection whose time has come.
    fn beat(&mut self) {
        let Some(interval) = self.options.heartbeat else { return };
        if self.heartbeats.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(&(due, index, serial)) = self.heartbeats.front() {
            if due > now {
                return;
            }
            self.heartbeats.pop_front();
            if self.connections[index].as_ref().is_some_and(|connection| connection.serial == serial) {
                self.write(index, &frame::PING_FRAME);
                self.heartbeats.push_back((now + interval, index, serial));
            }
        }
    }

    fn drop(&mut self, index: usize) {
        let Some(connection) = self.connections[index].take() else { return };
        self.unfinished.remove(&index);
        self.waiting_bytes -= self.waiting.remove(&index).map_or(0, |waiting| waiting.len());
        if connection.phase == Phase::Channel {
            let slot = connection.slot as usize;
            self.members.swap_remove(slot);
            let moved = self.members.get(slot).copied();
            if let Some(Some(moved)) = moved.map(|moved| self.connections[moved].as_mut()) {
                moved.slot = connection.slot;
            }
        }
        self.free.push(index);
    }
}
