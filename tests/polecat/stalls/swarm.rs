//! Many WebSocket clients on one thread that only answer Pings. PROTOCOL.md, "9. Heartbeats and liveness".

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::support::patience::let_pass;
use crate::support::raw::{self, PING, PONG, TEXT};
use crate::support::{Patience, RawSocket};

pub(crate) struct Swarm {
    poll: Poll,
    clients: Vec<Client>,
}

pub(crate) struct Client {
    pub(crate) index: usize,
    stream: TcpStream,
    received: Vec<u8>,
    pub(crate) pings: usize,
    pub(crate) texts: usize,
    pub(crate) is_closed: bool,
}

impl Default for Swarm {
    fn default() -> Self {
        Self { poll: Poll::new().expect("a poll"), clients: Vec::new() }
    }
}

impl Swarm {
    pub(crate) fn join(&mut self, socket: RawSocket) {
        let (stream, received) = socket.into_parts();
        stream.set_nonblocking(true).expect("a socket can be told not to wait");
        let mut stream = TcpStream::from_std(stream);
        let index = self.clients.len();
        self.poll.registry().register(&mut stream, Token(index), Interest::READABLE).expect("registered");
        self.clients.push(Client { index, stream, received, pings: 0, texts: 0, is_closed: false });
        self.clients[index].take_in();
        // The first ones must not be silent until the last one is there.
        self.turn(Duration::ZERO);
    }

    /// Answers pings for `time`.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let_pass(time, |left| self.turn(left));
    }

    /// Answers pings until `is_reached`.
    pub(crate) fn run_until(&mut self, what: &str, is_reached: impl Fn(&Self) -> bool) {
        let patience = Patience::new();
        while !is_reached(self) {
            patience.check_with(|| format!("{what}; closed: {:?}", self.closed()));
            self.turn(Duration::from_millis(100));
        }
    }

    pub(crate) fn all(&self, is_so: impl Fn(&Client) -> bool) -> bool {
        self.clients.iter().all(is_so)
    }

    pub(crate) fn closed(&self) -> Vec<usize> {
        self.clients.iter().filter(|client| client.is_closed).map(|client| client.index).collect()
    }

    pub(crate) fn pings(&self) -> Vec<usize> {
        self.clients.iter().map(|client| client.pings).collect()
    }

    pub(crate) fn texts(&self) -> Vec<usize> {
        self.clients.iter().map(|client| client.texts).collect()
    }

    fn turn(&mut self, timeout: Duration) {
        let mut events = Events::with_capacity(1024);
        self.poll.poll(&mut events, Some(timeout)).expect("polled");
        for event in &events {
            self.clients[event.token().0].take_in();
        }
    }
}

impl Client {
    fn take_in(&mut self) {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => break self.is_closed = true,
                Ok(read) => self.received.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => break self.is_closed = true,
            }
        }
        while let Some((frame, len)) = raw::parse(&self.received) {
            self.received.drain(..len);
            match frame.opcode {
                PING => {
                    self.pings += 1;
                    // A Pong is small: it is taken, or the connection has gone.
                    self.is_closed |= self.stream.write_all(&raw::frame(true, PONG, &frame.payload)).is_err();
                }
                TEXT => self.texts += 1,
                // A heartbeat that needs no answer.
                PONG => {}
                _ => self.is_closed = true,
            }
        }
    }
}
