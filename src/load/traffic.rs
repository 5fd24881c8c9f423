//! Reading from the sockets, checking what was received, and answering it.

use std::collections::VecDeque;
use std::io;

use crate::server::socket::Socket;
use crate::wire::reply::{self, Offer, Reply};
use crate::wire::websocket::codec::{OpCode, Sender, Violation};
use crate::wire::websocket::extension::is_agreed;
use crate::wire::websocket::message::{Item, MessageDecoder, MessageStep};

use super::driver::{Driver, Stage};
use super::payload::Stamp;
use super::peer::{Inbox, NO_PUBLISHER, Phase, Role};
use super::plan::Workload;

/// The largest message that is accepted, in bytes.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// The longest response to a handshake, in bytes.
const HANDSHAKE_BYTES_MAX: usize = 64 << 10;

/// The bytes that a slow reader reads at once.
const SIP_BYTES: usize = 4 << 10;

/// The bytes read from one connection before it is the next one's turn.
const READ_BYTES_MAX: usize = 256 << 10;

impl<S: Socket> Driver<S> {
    pub(super) fn read_all(&mut self) {
        for _ in 0..self.read_queue.len() {
            let Some(index) = self.read_queue.pop_front() else { break };
            self.peers[index as usize].is_queued = false;
            self.attend(index);
        }
    }

    /// Writes the bytes that wait to be sent, and reads those that have arrived.
    fn attend(&mut self, index: u32) {
        if !self.flush(index) {
            return;
        }
        let peer = &mut self.peers[index as usize];
        match (peer.phase, peer.role) {
            (Phase::Closed | Phase::Ended, _) => {}
            (Phase::Handshake, Role::Poster) if !peer.to_end => self.is_open(index),
            (Phase::Open, Role::Subscriber { slow: true }) if self.stage < Stage::Finishing => {}
            (Phase::Open, Role::HalfOpen) if !peer.to_end => {}
            _ => self.read(index, usize::MAX),
        }
    }

    /// Slow readers read a little; dribblers send a little.
    pub(super) fn tick(&mut self) {
        for index in 0..self.plan.slow {
            let peer = &self.peers[index as usize];
            if peer.phase == Phase::Open && self.stage < Stage::Finishing {
                self.read(index, SIP_BYTES);
            }
        }
        for index in self.plan.peers() - self.plan.dribblers..self.plan.peers() {
            if self.peers[index as usize].phase == Phase::Handshake {
                self.scratch.push(b'x');
                self.send_scratch(index);
            }
        }
    }

    fn read(&mut self, index: u32, bytes_max: usize) {
        let mut buffer = std::mem::take(&mut self.read_buffer);
        let mut read_bytes = 0;
        loop {
            let peer = &mut self.peers[index as usize];
            let Some(socket) = &mut peer.socket else { break };
            let len = buffer.len().min(bytes_max - read_bytes);
            match socket.read(&mut buffer[..len]) {
                Ok(0) => {
                    self.end(index, "ended by the server");
                    break;
                }
                Ok(read) => {
                    read_bytes += read;
                    if self.stage >= Stage::Measuring {
                        self.tally.received_bytes += read as u64;
                    }
                    let is_empty = read < len && !peer.to_end;
                    self.take_in(index, &mut buffer[..read]);
                    if is_empty || read_bytes >= bytes_max {
                        break;
                    }
                    if read_bytes >= READ_BYTES_MAX {
                        self.peers[index as usize].is_queued = true;
                        self.read_queue.push_back(index);
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    self.end(index, &error.kind().to_string());
                    break;
                }
            }
        }
        self.read_buffer = buffer;
    }

    /// Decodes `input`, after the bytes that the inbox still holds, and sends the answers.
    fn take_in(&mut self, index: u32, input: &mut [u8]) {
        let mut inbox = self.peers[index as usize].inbox.take().map_or_else(
            || Inbox { decoder: MessageDecoder::of(Sender::Server), ..Inbox::default() },
            |inbox| *inbox,
        );
        if inbox.rest.is_empty() {
            let consumed = self.decode(index, &mut inbox, input);
            inbox.rest.extend_from_slice(&input[consumed..]);
        } else {
            let mut rest = std::mem::take(&mut inbox.rest);
            rest.extend_from_slice(input);
            let consumed = self.decode(index, &mut inbox, &mut rest);
            rest.drain(..consumed);
            inbox.rest = rest;
        }
        let is_poster = self.peers[index as usize].role == Role::Poster;
        if inbox.rest.len() > if is_poster { MESSAGE_BYTES_MAX } else { HANDSHAKE_BYTES_MAX } {
            self.end(index, "an incomplete response");
        }
        let peer = &mut self.peers[index as usize];
        let is_unfinished = !inbox.rest.is_empty() || !inbox.decoder.is_idle();
        if peer.phase == Phase::Handshake || (peer.phase == Phase::Open && is_unfinished) {
            peer.inbox = Some(Box::new(inbox));
        }
        self.send_scratch(index);
    }

    fn decode(&mut self, index: u32, inbox: &mut Inbox, input: &mut [u8]) -> usize {
        let mut at = 0;
        loop {
            let peer = &self.peers[index as usize];
            let consumed = match (peer.phase, peer.role) {
                (Phase::Closed | Phase::Ended, _) => return input.len(),
                (_, Role::Poster) => self.take_answer(index, &input[at..]),
                (Phase::Handshake, _) => self.shake_hands(index, inbox, &input[at..]),
                (Phase::Open, _) => match self.decode_item(index, inbox, &mut input[at..]) {
                    Ok(consumed) => consumed,
                    Err(violation) => {
                        self.end(index, violation.reason);
                        return input.len();
                    }
                },
            };
            at += consumed;
            if consumed == 0 {
                return at;
            }
        }
    }

    /// Decodes the next item, and returns the bytes that it took.
    fn decode_item(&mut self, index: u32, inbox: &mut Inbox, input: &mut [u8]) -> Result<usize, Violation> {
        let mut inflater = self.plan.compresses.then(|| std::mem::take(&mut self.inflater));
        let step = inbox.decoder.decode(input, MESSAGE_BYTES_MAX, inflater.as_mut());
        let consumed = step.map(|MessageStep { consumed, item }| {
            if let Some(item) = item {
                self.take_item(index, item);
            }
            consumed
        });
        self.inflater = inflater.unwrap_or_default();
        consumed
    }

    fn shake_hands(&mut self, index: u32, inbox: &mut Inbox, input: &[u8]) -> usize {
        match reply::parse(input) {
            Ok(None) => 0,
            Ok(Some(reply)) if reply.status == 101 => {
                if let Err(fault) = self.check_switching(&reply) {
                    self.end(index, fault);
                    return 0;
                }
                self.tally.handshakes += 1;
                self.tally.handshake_latencies.record(self.now_us - inbox.since_us);
                inbox.decoder = MessageDecoder::of(Sender::Server);
                self.is_open(index);
                reply.consumed
            }
            Ok(Some(reply)) => {
                self.end(index, &format!("handshake answered {}", reply.status));
                0
            }
            Err(error) => {
                self.end(index, error);
                0
            }
        }
    }

    fn check_switching(&self, reply: &Reply<'_>) -> Result<(), &'static str> {
        let deflate = self.plan.compresses;
        reply.check_switching(Offer { accept: &self.accept, protocol: "", deflate })?;
        if deflate && !is_agreed(reply.extensions) { Err("compression was not negotiated") } else { Ok(()) }
    }

    fn is_open(&mut self, index: u32) {
        let peer = &mut self.peers[index as usize];
        peer.phase = Phase::Open;
        if peer.role == Role::Poster {
            peer.inbox = None;
        }
        self.handshaking -= 1;
        self.open += 1;
        self.progress_us = self.now_us;
    }

    fn take_item(&mut self, index: u32, item: Item<'_>) {
        match item {
            Item::Text(text) => self.take_message(index, text.as_bytes(), true),
            Item::Binary(bytes) => self.take_message(index, bytes, false),
            Item::Ping(payload) => {
                self.tally.pings += 1;
                self.count_heartbeat();
                self.say(OpCode::Pong, payload);
            }
            Item::Pong(_) => {
                self.tally.pongs += 1;
                self.count_heartbeat();
            }
            Item::Close(close) => {
                let reason = match close {
                    Some((code, reason)) => format!("Close {} {reason}", u16::from(code)),
                    None => "Close".to_owned(),
                };
                self.end(index, &reason);
            }
        }
    }

    /// Everything that is sent is text, and so must be everything that is sent back.
    fn take_message(&mut self, index: u32, bytes: &[u8], is_text: bool) {
        let peer = &mut self.peers[index as usize];
        match peer.role {
            Role::Echo => match Stamp::parse(bytes).filter(|stamp| stamp.sequence < peer.sent) {
                Some(stamp) => {
                    let is_whole =
                        bytes.len() == self.plan.payload_bytes && Stamp::is_whole(bytes, &self.payload);
                    self.take_echo(index, stamp, is_whole && is_text);
                }
                None => self.take_stray(index),
            },
            Role::Subscriber { .. } => match Stamp::find(bytes, self.hint) {
                Some((stamp, at)) => {
                    self.hint = at;
                    if self.plan.rounds > 0 {
                        peer.last_id = event_id(bytes).unwrap_or(peer.last_id);
                    }
                    let is_whole = Stamp::is_whole(&bytes[at..], &self.payload);
                    self.tally.wrong += u64::from(!(is_whole && is_text));
                    self.take_delivery(index, stamp);
                }
                None => {
                    self.tally.other_texts += 1;
                    self.count_heartbeat();
                }
            },
            Role::Poster | Role::HalfOpen | Role::Dribbler => self.tally.other_texts += 1,
        }
    }

    fn take_delivery(&mut self, index: u32, stamp: Stamp) {
        let publisher = self.publishers.get(usize::from(stamp.publisher));
        if publisher.is_none_or(|publisher| stamp.sequence >= self.peers[publisher.peer as usize].sent) {
            // Nobody has sent that.
            self.tally.wrong += 1;
            return;
        }
        let peer = &mut self.peers[index as usize];
        let is_awaited = peer.role == Role::Subscriber { slow: false };
        peer.position = self.order.deliver(index, peer.position, stamp, is_awaited);
        self.release();
        self.count(stamp.sent_us);
    }

    fn take_answer(&mut self, index: u32, input: &[u8]) -> usize {
        let reply = match reply::parse(input) {
            Ok(None) => return 0,
            Ok(Some(reply)) => reply,
            Err(error) => {
                self.end(index, error);
                return 0;
            }
        };
        let peer = &self.peers[index as usize];
        if peer.position >= peer.sent {
            self.end(index, "a response without a request");
            return 0;
        }
        let found = Stamp::find(&reply.body, self.hint);
        let stamp = if self.plan.status_only {
            let times = self.sent_times.get_mut(index as usize);
            let sent_us = times.and_then(VecDeque::pop_front).unwrap_or(self.now_us);
            Some(Stamp { publisher: peer.publisher, sequence: peer.position, sent_us })
        } else {
            found.and_then(|(stamp, at)| {
                self.hint = at;
                Stamp::is_whole(&reply.body[at..], &self.payload).then_some(stamp)
            })
        };
        let is_right = |stamp: &Stamp| {
            (200..300).contains(&reply.status)
                && (stamp.publisher, stamp.sequence) == (peer.publisher, peer.position)
        };
        let stamp = stamp.filter(is_right);
        if index < self.plan.connections {
            self.take_reply(index, stamp);
        } else {
            // Its deliveries count; its responses only have to have a stamp.
            self.tally.wrong += u64::from(stamp.is_none());
            self.outstanding = self.outstanding.saturating_sub(1);
            self.peers[index as usize].position += 1;
        }
        if !reply.keep_alive {
            self.end(index, "closed after a response");
        }
        reply.consumed
    }

    /// Takes in a message that claims to be the echo of one that was sent, and may be a wrong one.
    fn take_echo(&mut self, index: u32, stamp: Stamp, is_right: bool) {
        let position = self.peers[index as usize].position;
        if stamp.sequence < position {
            if !self.order.was_presumed(index, stamp.sequence) {
                self.order.take_late(index, Stamp { publisher: NO_PUBLISHER, ..stamp });
            } else if is_right {
                self.count(stamp.sent_us);
            } else {
                self.tally.wrong += 1;
            }
            return;
        }
        for missed in position..stamp.sequence {
            self.order.miss(index, NO_PUBLISHER, missed);
            self.go_on(index);
        }
        self.take_reply(index, Some(stamp).filter(|_| is_right));
    }

    /// Takes in a message that is not an echo. It may be what became of the one that is due, for which nobody
    /// should wait any longer. Or it is a greeting, after which that one arrives.
    fn take_stray(&mut self, index: u32) {
        let peer = &self.peers[index as usize];
        if peer.position < peer.sent {
            self.order.presume(index, peer.position);
            self.take_reply(index, None);
        } else {
            self.tally.wrong += 1;
        }
    }

    /// Takes in an echo or a response, `None` if it is not the expected one, and sends the next.
    fn take_reply(&mut self, index: u32, stamp: Option<Stamp>) {
        match stamp {
            Some(stamp) => self.count(stamp.sent_us),
            None => self.tally.wrong += 1,
        }
        self.go_on(index);
    }

    /// One message or request of a connection is finished: the next one is sent.
    fn go_on(&mut self, index: u32) {
        self.peers[index as usize].position += 1;
        self.outstanding = self.outstanding.saturating_sub(1);
        if matches!(self.stage, Stage::WarmUp | Stage::Measuring) {
            self.send_next(index);
        }
    }

    fn count_heartbeat(&mut self) {
        let counts = self.plan.workload == Workload::Idle && self.stage == Stage::Measuring;
        self.tally.operations += u64::from(counts);
    }

    fn count(&mut self, sent_us: u64) {
        self.progress_us = self.now_us;
        self.tally.operations += u64::from(self.stage == Stage::Measuring);
        // Only messages that were sent while the run measures, whenever they arrive: those that were stuck
        // until the end must not be left out.
        if sent_us >= self.counting_from_us {
            self.tally.latencies.record(self.now_us.saturating_sub(sent_us));
        }
    }
}

/// The number of a broadcast's `event_id`.
fn event_id(text: &[u8]) -> Option<u64> {
    const BEFORE: &[u8] = b"\"event_id\":\"";
    // It is the last key.
    let at = text.windows(BEFORE.len()).rposition(|window| window == BEFORE)? + BEFORE.len();
    let id = text[at..].split(|byte| *byte == b'"').next()?;
    let digits = id.split(|byte| *byte == b'-').next_back()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
