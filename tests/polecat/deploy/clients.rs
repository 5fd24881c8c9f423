//! Very many clients of `polecat.v1` on one poll loop. Each counts what it gets, and comes again when it was asked to.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::faults::burst::begin_to_connect;
use crate::support::Patience;
use crate::support::patience::Alarm;
use crate::support::raw::{CLOSE, PING, PONG, TEXT, frame, parse, upgrade_with};

pub(crate) struct Clients {
    addr: SocketAddr,
    poll: Poll,
    clients: Vec<Client>,
    told: Told,
}

/// What clients were told, one or all of them.
#[derive(Default)]
struct Told {
    /// After how many milliseconds they are to come, of those who were asked in this round.
    after_ms: Vec<u64>,
    /// Each message, as the first who got it got it. The others compare it with that: it is read once, not 2,000 times.
    messages: Vec<Message>,
}

struct Message {
    text: String,
    event_id: String,
}

struct Client {
    number: usize,
    stream: Option<TcpStream>,
    stage: Stage,
    received: Vec<u8>,
    /// The number of the message that it has to get next.
    next: usize,
    last_event_id: Option<String>,
    /// When it comes again.
    comes_at: Option<Alarm>,
    /// How often it was sent away.
    goodbyes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Away,
    Connecting,
    Handshake,
    Open,
    Live,
    Closed,
}

impl Clients {
    pub(crate) fn connect(addr: SocketAddr, count: usize) -> Self {
        let client = |number| Client {
            number,
            stream: None,
            stage: Stage::Away,
            received: Vec::new(),
            next: 0,
            last_event_id: None,
            comes_at: Some(Alarm::after(Duration::ZERO)),
            goodbyes: 0,
        };
        let poll = Poll::new().expect("a poll");
        Self { addr, poll, clients: (0..count).map(client).collect(), told: Told::default() }
    }

    /// Everything that was asked of this round's clients is forgotten.
    pub(crate) fn begin_round(&mut self) {
        self.told.after_ms.clear();
    }

    pub(crate) fn asked_to_come_after(&self) -> &[u64] {
        &self.told.after_ms
    }

    pub(crate) fn are_live(&self) -> bool {
        self.clients.iter().all(|client| client.stage == Stage::Live)
    }

    pub(crate) fn were_sent_away(&self, times: usize) -> bool {
        self.clients.iter().all(|client| client.goodbyes == times)
    }

    pub(crate) fn have_got(&self, count: u64) -> bool {
        self.clients.iter().all(|client| client.next as u64 == count)
    }

    /// Goes on until `is_reached`, with patience for as long as anything moves.
    pub(crate) fn run_until(&mut self, what: &str, is_reached: impl Fn(&Self) -> bool) {
        let mut events = Events::with_capacity(4096);
        let (mut patience, mut before) = (Patience::new(), Vec::new());
        while !is_reached(self) {
            let now = self.clients.iter().map(|client| (client.stage, client.goodbyes)).collect::<Vec<_>>();
            if now != before {
                before = now;
                patience.renew();
            }
            patience.check_with(|| format!("{what}: {}", self.describe()));
            self.come_again();
            self.poll.poll(&mut events, Some(Duration::from_millis(20))).expect("polled");
            for event in &events {
                self.clients[event.token().0].go_on(&mut self.told);
            }
        }
    }

    fn come_again(&mut self) {
        for client in &mut self.clients {
            if client.stage == Stage::Away && client.comes_at.is_some_and(Alarm::has_gone_off) {
                client.connect(self.addr, &self.poll);
            }
        }
    }

    fn describe(&self) -> String {
        let count = |stage| self.clients.iter().filter(|client| client.stage == stage).count();
        let stages =
            [Stage::Away, Stage::Connecting, Stage::Handshake, Stage::Open, Stage::Live, Stage::Closed];
        stages.map(|stage| format!("{stage:?} {}", count(stage))).join(", ")
    }
}

impl Client {
    fn connect(&mut self, addr: SocketAddr, poll: &Poll) {
        let mut stream = begin_to_connect(self.number, addr);
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, Token(self.number), interest).expect("registered");
        self.stream = Some(stream);
        self.stage = Stage::Connecting;
        self.received.clear();
        self.comes_at = None;
    }

    /// Does what its connection is ready for.
    fn go_on(&mut self, told: &mut Told) {
        let Some(stream) = &mut self.stream else { return };
        if let Some(error) = stream.take_error().expect("a socket tells its error") {
            assert!(self.stage != Stage::Connecting, "{} is refused: {error}", self.number);
        }
        if self.stage == Stage::Connecting && !self.ask() {
            return;
        }
        let is_over = self.read();
        if self.stage == Stage::Handshake {
            self.take_head();
        }
        if matches!(self.stage, Stage::Open | Stage::Live) {
            self.take_frames(told);
        }
        if is_over {
            self.leave();
        }
    }

    /// Returns whether the request is sent.
    fn ask(&mut self) -> bool {
        let Some(stream) = &mut self.stream else { return false };
        let mut fields = "Host: a\r\nSec-WebSocket-Protocol: polecat.v1\r\n".to_owned();
        if let Some(id) = &self.last_event_id {
            fields += &format!("Last-Event-ID: {id}\r\n");
        }
        let request = upgrade_with("/api/ws/room", &fields);
        match stream.write(&request) {
            Ok(written) => assert_eq!(written, request.len(), "an empty socket takes it whole"),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                return false;
            }
            Err(error) => panic!("{} is refused: {error}", self.number),
        }
        self.stage = Stage::Handshake;
        true
    }

    /// Reads all that there is. Returns whether the connection has ended.
    fn read(&mut self) -> bool {
        let Some(stream) = &mut self.stream else { return false };
        let mut buffer = [0; 16 << 10];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return true,
                Ok(len) => self.received.extend_from_slice(&buffer[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(_) => return true,
            }
        }
    }

    fn take_head(&mut self) {
        let Some(end) = self.received.windows(4).position(|window| window == b"\r\n\r\n") else { return };
        let head = String::from_utf8_lossy(&self.received[..end]).into_owned();
        assert!(head.starts_with("HTTP/1.1 101 "), "{} is refused: {head}", self.number);
        self.received.drain(..end + 4);
        self.stage = Stage::Open;
    }

    fn take_frames(&mut self, told: &mut Told) {
        let mut at = 0;
        while let Some((one, len)) = parse(&self.received[at..]) {
            at += len;
            let answer = match one.opcode {
                TEXT => {
                    self.take_text(std::str::from_utf8(&one.payload).expect("text is UTF-8"), told);
                    continue;
                }
                PING => frame(true, PONG, &one.payload),
                CLOSE => {
                    assert_eq!(one.payload[..2], 1001_u16.to_be_bytes(), "{}", self.number);
                    assert!(self.comes_at.is_some(), "{} was not told when to come", self.number);
                    self.stage = Stage::Closed;
                    frame(true, CLOSE, &one.payload[..2])
                }
                other => panic!("{}: opcode {other}", self.number),
            };
            if let Some(stream) = &mut self.stream {
                // It is small: it is taken, or the connection is gone, which the next read tells.
                stream.write_all(&answer).ok();
            }
        }
        self.received.drain(..at);
    }

    fn take_text(&mut self, text: &str, told: &mut Told) {
        if text.starts_with("{\"type\":\"message\",") {
            return self.take_message(text, &mut told.messages);
        }
        let kind = between(text, "{\"type\":\"", "\"").expect("a type comes first");
        match kind {
            "hello" | "resumed" | "heartbeat" => {}
            "live" => self.stage = Stage::Live,
            "reconnect" => {
                let after = between(text, "\"after_ms\":", "}").expect("a time").parse().expect("a number");
                told.after_ms.push(after);
                self.comes_at = Some(Alarm::after(Duration::from_millis(after)));
            }
            _ => panic!("{}: {text}", self.number),
        }
        self.last_event_id = event_id(text);
    }

    fn take_message(&mut self, text: &str, messages: &mut Vec<Message>) {
        if self.next == messages.len() {
            let content = between(text, "\"content\":\"", "\"").expect("a content");
            assert_eq!(content.parse(), Ok(self.next), "{} gets each once and in order", self.number);
            let event_id = event_id(text).expect("an event id");
            messages.push(Message { text: text.to_owned(), event_id });
        }
        let message = &messages[self.next];
        assert_eq!(text, message.text, "{} gets each once and in order, as all do", self.number);
        self.last_event_id = Some(message.event_id.clone());
        self.next += 1;
    }

    /// The connection is over.
    fn leave(&mut self) {
        assert!(self.stage != Stage::Handshake, "{} was dropped without an answer", self.number);
        self.stream = None;
        self.stage = Stage::Away;
        self.goodbyes += 1;
        // Who was left behind, for it was too slow, comes at once.
        self.comes_at.get_or_insert_with(|| Alarm::after(Duration::ZERO));
    }
}

/// The last of a message: what is within the payload is another.
fn event_id(text: &str) -> Option<String> {
    let id = text.rsplit("\"event_id\":\"").next().and_then(|rest| rest.split('"').next());
    id.map(str::to_owned)
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    text.split_once(start)?.1.split(end).next()
}
