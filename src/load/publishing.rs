//! Sending: echoes and requests that follow one another on each connection, and messages of publishers,
//! within a window or at a rate; and writing to the socket.

use std::io;

use crate::server::socket::Socket;
use crate::wire::reply::write_post;
use crate::wire::websocket::codec::{OpCode, write_masked_frame};

use super::driver::{Driver, Stage};
use super::payload::Stamp;
use super::peer::{Phase, Role};
use super::plan::{Publishing, Workload};

/// The most messages that are published in one turn.
const PUBLISHED_MAX: usize = 256;

/// With more unsent bytes than this, a publisher pauses.
const UNSENT_BYTES_MAX: usize = 1 << 20;

impl<S: Socket> Driver<S> {
    /// Sends the first messages or requests on each connection that is measured.
    pub(super) fn send_first(&mut self) {
        if !matches!(self.plan.workload, Workload::Echo | Workload::Publish) {
            return;
        }
        for index in 0..self.plan.connections {
            if self.peers[index as usize].phase == Phase::Open {
                for _ in 0..self.plan.depth {
                    self.send_next(index);
                }
                self.send_scratch(index);
            }
        }
    }

    /// Puts the next message or request of a connection into the scratch.
    pub(super) fn send_next(&mut self, index: u32) {
        if self.is_said() {
            return;
        }
        let peer = &mut self.peers[index as usize];
        let stamp = Stamp { publisher: peer.publisher, sequence: peer.sent, sent_us: self.now_us };
        let is_post = peer.role == Role::Poster;
        peer.sent += 1;
        self.outstanding += 1;
        self.tally.published += 1;
        if let Some(times) = self.sent_times.get_mut(index as usize) {
            times.push_back(self.now_us);
        }
        if is_post {
            self.post(stamp);
        } else {
            let mut payload = std::mem::take(&mut self.payload);
            Stamp { publisher: 0, ..stamp }.write_over(&mut payload);
            self.say(OpCode::Text, &payload);
            self.payload = payload;
        }
    }

    /// Whether everything that was planned has been published.
    pub(super) fn is_said(&self) -> bool {
        self.plan.messages_max.is_some_and(|max| self.tally.published >= max)
    }

    /// Publishes the messages that are due: by each publisher that can, in turn.
    pub(super) fn publish(&mut self) {
        for _ in 0..PUBLISHED_MAX {
            let Some(sent_us) = self.publish_due_us().filter(|due_us| *due_us <= self.now_us) else { return };
            let count = self.publishers.len();
            let next = (0..count).map(|step| (self.turn_of + step) % count);
            let Some(number) = { next }.find(|number| self.can_publish(*number)) else { return };
            self.turn_of = (number + 1) % count;
            self.publish_one(number, sent_us);
        }
    }

    fn may_publish(&self) -> bool {
        match self.plan.workload {
            // After the connections were held.
            Workload::Idle => self.stage == Stage::Finishing,
            _ => matches!(self.stage, Stage::WarmUp | Stage::Measuring),
        }
    }

    /// When the next message is due: now, if there is no rate.
    #[expect(clippy::cast_possible_truncation, reason = "microseconds of a run")]
    pub(super) fn publish_due_us(&self) -> Option<u64> {
        if !self.may_publish() || !(0..self.publishers.len()).any(|number| self.can_publish(number)) {
            return None;
        }
        let Some(rate) = self.plan.rate else { return Some(self.now_us) };
        let since_us = match self.stage {
            Stage::Measuring => self.stage_since_us - self.plan.warm_up_us,
            _ => self.stage_since_us,
        };
        Some(since_us + (self.sent_by_rate as f64 * 1e6 / rate) as u64)
    }

    fn can_publish(&self, number: usize) -> bool {
        let publisher = &self.publishers[number];
        let peer = &self.peers[publisher.peer as usize];
        let has_room = peer.outbox.as_ref().is_none_or(|outbox| outbox.len() < UNSENT_BYTES_MAX);
        let in_window = self.plan.rate.is_some() || publisher.outstanding < self.plan.depth;
        peer.phase == Phase::Open && has_room && in_window && !self.is_said()
    }

    fn publish_one(&mut self, number: usize, sent_us: u64) {
        let publisher = &mut self.publishers[number];
        publisher.outstanding += 1;
        let index = publisher.peer;
        let peer = &mut self.peers[index as usize];
        let stamp = Stamp { publisher: peer.publisher, sequence: peer.sent, sent_us };
        peer.sent += 1;
        self.tally.published += 1;
        self.sent_by_rate += 1;
        if peer.role == Role::Poster {
            self.outstanding += 1;
            self.post(stamp);
        } else {
            let mut text = b"{\"type\":\"message\",\"author\":\"load\",\"content\":\"".to_vec();
            stamp.write_over(&mut self.payload);
            text.extend_from_slice(&self.payload);
            text.extend_from_slice(b"\"}");
            self.say(OpCode::Text, &text);
        }
        self.send_scratch(index);
    }

    /// Puts a POST into the scratch.
    fn post(&mut self, stamp: Stamp) {
        let mut body = Vec::with_capacity(self.plan.payload_bytes + 64);
        let channel = self.plan.channel_json.as_bytes();
        let (endpoint, before, after): (_, [&[u8]; 3], &[u8]) = match &self.plan.publishing {
            Publishing::PostRaw(endpoint) => (endpoint, [b"", b"", b""], b""),
            Publishing::PostEvent(endpoint) => {
                (endpoint, [b"{\"type\":\"load\",\"payload\":{\"content\":\"", b"", b""], b"\"}}")
            }
            Publishing::Post(_) | Publishing::Message => {
                let before = [&b"{\"channel_id\":"[..], channel, b",\"author\":\"load\",\"content\":\""];
                (self.plan.publish_endpoint(), before, b"\"}")
            }
        };
        for part in before {
            body.extend_from_slice(part);
        }
        stamp.write_over(&mut self.payload);
        body.extend_from_slice(&self.payload);
        body.extend_from_slice(after);
        write_post(&endpoint.host, &endpoint.target, "", &body, &mut self.scratch);
    }

    /// Puts a frame into the scratch.
    pub(super) fn say(&mut self, opcode: OpCode, payload: &[u8]) {
        let mask = self.random.u32(..).to_ne_bytes();
        write_masked_frame(opcode, payload, mask, &mut self.scratch);
    }

    /// Sends the bytes in the scratch, at once if nothing else waits to be sent.
    pub(super) fn send_scratch(&mut self, index: u32) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let peer = &mut self.peers[index as usize];
        if let (Some(socket), None) = (&mut peer.socket, &peer.outbox) {
            match write(socket, &scratch) {
                Ok(written) if written == scratch.len() => {}
                Ok(written) => peer.outbox.get_or_insert_default().push(&scratch[written..]),
                Err(error) => self.end(index, &error.kind().to_string()),
            }
        } else if let Some(outbox) = &mut peer.outbox {
            outbox.push(&scratch);
            self.flush(index);
        }
        scratch.clear();
        self.scratch = scratch;
    }

    /// Writes the bytes that wait to be sent. Returns whether the connection still exists.
    pub(super) fn flush(&mut self, index: u32) -> bool {
        let peer = &mut self.peers[index as usize];
        let Some(socket) = &mut peer.socket else { return false };
        while let Some(outbox) = &mut peer.outbox {
            let front = outbox.front();
            match write(socket, front) {
                Ok(written) => {
                    let is_blocked = written < front.len();
                    outbox.consume(written);
                    if outbox.is_empty() {
                        peer.outbox = None;
                    }
                    if is_blocked {
                        return true;
                    }
                }
                Err(error) => {
                    self.end(index, &error.kind().to_string());
                    return false;
                }
            }
        }
        true
    }
}

/// Writes as much as the socket takes, and returns how much that was.
fn write(socket: &mut impl Socket, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match socket.write(&bytes[written..]) {
            Ok(0) => break,
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A socket that is not connected yet also returns this.
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => {
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}
