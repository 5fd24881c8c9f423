//! A whole server over up to three connections at once. Whatever they send, in whatever order, its output is
//! well-formed, all invariants hold after each turn, the server comes to rest, and nothing is left when all
//! have gone.
//!
//! Input: a byte for the options, then steps. Each step is a byte for the action and the connection, a byte
//! with an amount, and as many bytes as the action takes.

use std::cell::RefCell;
use std::rc::Rc;

use polecat::base::config::{Budgets, Config, Limits, Timeouts};
use polecat::base::time::Now;
use polecat::server::connections::Source;
use polecat::server::server::Server;
use polecat::store::memory::MemoryEngine;

use super::answers;
use super::socket::{End, Line};

/// Connections at once.
const PLACES: usize = 3;

/// Connections in total.
const LINES_MAX: usize = 12;

/// The most turns in a row that move no byte and are not followed by a sleep, without new input.
const IDLE_TURNS_MAX: u32 = 300;

/// 2026-01-05T09:30:00 UTC.
const START_UNIX_MICROS: i64 = 1_767_605_400_000_000;

/// Longer than any time-out of the server.
const LONG_MS: u64 = 20_000;

/// Bytes of an inbox that other connections cannot take away, in addition to what was read at once.
const INBOX_BYTES_FREE: usize = 4 << 10;

/// Bytes that each connection may have unsent, whatever the others do.
const OWN_BYTES: usize = 16 << 10;

/// The number of records of each kind that a small server keeps, and a larger one.
const RECORDS_MAX: [usize; 2] = [8, 1_000];

/// Bytes of a record in addition to its content, and of any other message to a client. The largest response
/// without records has about this many too: the document at `/api/schema`.
const SMALL_BYTES: usize = 1_000;
const DOCUMENT_BYTES_MAX: usize = 100 << 10;

/// Phrases that a peer can send as one step.
const PHRASES: [&str; 12] = [
    "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    "GET /api/ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    "GET /api/ws/a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    "GET /api/ws/a?last_event_id=message-00000 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: polecat.v1\r\n\r\n",
    "GET /ws?last_event_id=event-00001 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: polecat.v1\r\n\r\n",
    "POST /api/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 45\r\n\r\n{\"channel_id\":\"a\",\"author\":\"b\",\"content\":\"c\"}",
    "POST /api/events HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{\"type\":\r\n4\r\n\"x\"}\r\n0\r\n\r\n",
    "GET /api/messages HTTP/1.1\r\nHost: a\r\n\r\n",
    "HEAD /api/summary HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /api/health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "{\"type\":\"message\",\"author\":\"b\",\"content\":\"c\",\"id\":1,\"idempotency_key\":\"k\"}",
    "{\"type\":\"ping\"}",
];

/// Runs the check.
pub fn check(data: &[u8]) {
    let Some((&which, mut steps)) = data.split_first() else { return };
    let mut world = World::new(which);
    while let Some((&[step, amount], rest)) = steps.split_first_chunk() {
        let taken = world.step(step, usize::from(amount), rest);
        steps = &rest[taken..];
    }
    world.wind_up();
}

struct World {
    server: Server<End>,
    lines: Vec<Rc<RefCell<Line>>>,
    /// The line, and the server's index for it.
    places: [Option<(usize, u32)>; PLACES],
    now_ms: u64,
    timeout_ms: Option<u64>,
    records_max: usize,
}

impl World {
    fn new(which: u8) -> Self {
        let is_small = which & 1 != 0;
        let is_tight = which & 2 != 0;
        let limits = Limits {
            connections_max: if which & 4 != 0 { 2 } else { usize::MAX },
            connections_per_source_max: if which & 8 != 0 { 2 } else { 0 },
            messages_per_second_max: if which & 16 != 0 { 2 } else { 0 },
            ..if is_small { small_limits() } else { Limits::default() }
        };
        let timeouts = Timeouts {
            heartbeat_interval_ms: 1_000,
            handshake_ms: 900,
            request_ms: 800,
            keep_alive_ms: 1_500,
            close_ms: 500,
            log_idle_ms: 2_000,
            drain_ms: 700,
        };
        let budgets = if is_tight { tight_budgets() } else { Budgets::default() };
        let records_max = RECORDS_MAX[usize::from(!is_small)];
        let engine = MemoryEngine::starting_at(3, 1)
            .with_bounds(records_max, 1 << 20)
            .with_delay(u32::from(which >> 5 & 3));
        let config = Config { limits, timeouts, budgets, ..Config::default() };
        let now = Now { monotonic_ms: 0, unix_micros: START_UNIX_MICROS };
        Self {
            server: Server::new(config, Box::new(engine), 1, now),
            lines: Vec::new(),
            places: [None; PLACES],
            now_ms: 0,
            timeout_ms: Some(0),
            records_max,
        }
    }

    /// Takes one step, and returns how many bytes of `rest` belong to it.
    fn step(&mut self, step: u8, amount: usize, rest: &[u8]) -> usize {
        let place = usize::from(step >> 4) % PLACES;
        let bytes = &rest[..amount.min(rest.len())];
        match step & 0x0F {
            0..=2 => self.line(place).borrow_mut().send(bytes),
            3 | 4 => self.send_frame(place, 0x81, bytes),
            5 => {
                let Some((&first, payload)) = bytes.split_first() else { return 0 };
                self.send_frame(place, first, payload);
            }
            6..=10 => {
                let phrase = PHRASES[amount % PHRASES.len()].as_bytes();
                if phrase[0] == b'{' {
                    self.send_frame(place, 0x81, phrase);
                } else {
                    self.line(place).borrow_mut().send(phrase);
                }
                if amount & 0x80 != 0 {
                    self.turn();
                }
                return 0;
            }
            other => {
                self.step_without_bytes(other, place, amount);
                return 0;
            }
        }
        bytes.len()
    }

    fn step_without_bytes(&mut self, step: u8, place: usize, amount: usize) {
        match (step, amount) {
            (11, _) => self.line(place).borrow_mut().make_room(amount * 64),
            (12, 0..8) => self.line(place).borrow_mut().end(),
            (12, 8..16) => self.line(place).borrow_mut().reset(),
            (12, 16..24) => self.abandon(place),
            (12, 24) => self.server.shut_down(),
            (13, _) => self.pass(amount as u64 * 16),
            // The server is stalled for this long.
            (14, _) => self.now_ms += amount as u64 * 16,
            _ => self.turn(),
        }
    }

    /// Abandons the connection, so that the next step there opens a new one.
    fn abandon(&mut self, place: usize) {
        if let Some((line, _)) = self.places[place] {
            self.lines[line].borrow_mut().reset();
            self.turn();
        }
    }

    /// The line at a place; a new one if there is none.
    fn line(&mut self, place: usize) -> Rc<RefCell<Line>> {
        if let Some((line, _)) = self.places[place] {
            return Rc::clone(&self.lines[line]);
        }
        let line = Rc::new(RefCell::new(Line::default()));
        if self.lines.len() < LINES_MAX && !self.server.is_draining() {
            self.wake();
            let index = self.server.accept(End(Rc::clone(&line)), Source(place as u64 % 2));
            line.borrow_mut().make_room(4_096);
            self.places[place] = Some((self.lines.len(), index));
            self.lines.push(Rc::clone(&line));
            self.turn();
        }
        line
    }

    /// Masked with zeros, so that the fuzzer sees the bytes that it writes.
    fn send_frame(&mut self, place: usize, first: u8, payload: &[u8]) {
        let mut frame = vec![first];
        match u8::try_from(payload.len()) {
            Ok(len) if len < 126 => frame.push(0x80 | len),
            _ => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&u16::try_from(payload.len()).unwrap_or(0).to_be_bytes());
            }
        }
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(payload);
        self.line(place).borrow_mut().send(&frame);
    }

    fn wake(&mut self) {
        let unix_micros = START_UNIX_MICROS + i64::try_from(self.now_ms).unwrap_or(0) * 1000;
        self.server.wake(Now { monotonic_ms: self.now_ms, unix_micros });
    }

    fn turn(&mut self) {
        self.wake();
        for (line, index) in self.places.iter().flatten() {
            if let Some(edge) = self.lines[*line].borrow_mut().take_edge() {
                self.server.ready(*index, edge);
            }
        }
        self.server.turn();
        self.server.check_invariants();
        self.check_memory();
        self.timeout_ms = self.server.poll_timeout_ms();
        for place in &mut self.places {
            if place.is_some_and(|(line, _)| self.lines[line].borrow().is_dropped) {
                *place = None;
            }
        }
    }

    /// Everything that has a limit is within it after every turn.
    fn check_memory(&self) {
        let limits = &self.server.config().limits;
        let held = self.server.holdings();
        let connections = self.server.connections();
        let frame = limits.message_bytes_max.max(limits.body_bytes_max) + SMALL_BYTES;
        assert!(held.channels <= limits.channels_max, "{held:?}");
        assert!(held.logs_bytes <= limits.logs_bytes_max, "{held:?}");
        assert!(held.log_frames_max <= limits.log_frames_max, "{held:?}");
        assert!(held.log_bytes_max <= limits.log_bytes_max, "{held:?}");
        assert!(held.inboxes_bytes <= limits.inboxes_bytes_max + INBOX_BYTES_FREE * connections, "{held:?}");
        assert!(held.engine_backlog_bytes <= limits.engine_backlog_bytes_max + frame, "{held:?}");
        // A response that was requested is sent, however large it is; the next request waits.
        let answer = DOCUMENT_BYTES_MAX + self.records_max * frame;
        let unsent = limits.outbox_bytes_max + 2 * frame + answer;
        assert!(held.outbox_bytes_max <= unsent, "{held:?}");
        // A response in the making is completed. Beyond that, no connection that would add to the total is
        // read.
        let all = limits.outboxes_bytes_max.saturating_add(unsent);
        assert!(held.unsent_bytes <= all, "{held:?}");
        assert!(held.outboxes_bytes <= held.unsent_bytes + OWN_BYTES * connections, "{held:?}");
    }

    /// Lets time pass, with the turns that a poll loop would make.
    fn pass(&mut self, ms: u64) {
        let until_ms = self.now_ms + ms;
        let (mut idle_turns, mut moved_before) = (0, 0);
        self.turn();
        // A poll loop ends when a shutdown is complete.
        while !self.server.is_finished()
            && let Some(timeout_ms) = self.timeout_ms
            && self.now_ms + timeout_ms <= until_ms
        {
            let moved = self.lines.iter().map(|line| line.borrow().moved).sum::<usize>();
            idle_turns = if timeout_ms == 0 && moved == moved_before { idle_turns + 1 } else { 0 };
            moved_before = moved;
            assert!(idle_turns < IDLE_TURNS_MAX, "the server spins");
            self.now_ms += timeout_ms;
            self.turn();
        }
        self.now_ms = until_ms;
    }

    /// Reads everything, closes, and checks that nothing is left.
    fn wind_up(mut self) {
        self.turn();
        for line in &self.lines {
            line.borrow_mut().make_room(usize::MAX);
        }
        self.pass(100);
        for line in &self.lines {
            line.borrow_mut().end();
        }
        self.pass(LONG_MS);
        if self.server.is_draining() {
            assert!(self.server.is_finished(), "a shutdown ends");
        } else {
            self.server.check_quiet();
        }
        for line in &self.lines {
            let line = line.borrow();
            assert!(line.is_dropped || self.server.is_draining(), "no connection is left");
            answers::check(&line.sent, line.server_ended && !line.is_reset);
        }
    }
}

fn small_limits() -> Limits {
    Limits {
        message_bytes_max: 200,
        body_bytes_max: 200,
        channels_max: 2,
        head_bytes_max: 600,
        head_fields_max: 10,
        target_bytes_max: 100,
        chunk_extra_bytes_max: 40,
        channel_name_bytes_max: 20,
        outbox_bytes_max: 512,
        inboxes_bytes_max: 6 << 10,
        outboxes_bytes_max: 4 << 10,
        log_bytes_max: 400,
        log_frames_max: 3,
        logs_bytes_max: 700,
        engine_backlog_bytes_max: 500,
        ..Limits::default()
    }
}

fn tight_budgets() -> Budgets {
    Budgets {
        accepts: 1,
        reads: 1,
        read_bytes_per_connection: 100,
        read_bytes: 150,
        appends: 1,
        sweep_members: 1,
        sweep_members_per_channel: 1,
        write_bytes_per_connection: 90,
        write_bytes: 150,
        flushes: 1,
        subscribes: 2,
        deadlines: 1,
        page_records: 2,
        page_bytes: 300,
        count_records: 2,
        engine_reads: 1,
        coded_bytes: 200,
    }
}
