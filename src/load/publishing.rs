//! What is sent: echoes and requests that follow one another on each connection, and
//! what publishers publish, within a window or at a rate.

use crate::server::socket::Socket;
use crate::wire::codec::OpCode;
use crate::wire::reply::write_post;

use super::driver::{Driver, Stage};
use super::payload::Stamp;
use super::peer::{Phase, Role};
use super::plan::{Publishing, Workload};

/// Messages that are published in one turn.
const PUBLISHED_MAX: usize = 256;

/// Unsent bytes of a publisher beyond which it says nothing more.
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
            let mut payload = Vec::with_capacity(self.plan.payload_bytes);
            let stamp = Stamp { publisher: 0, ..stamp };
            stamp.write(&self.filling, &mut payload);
            self.say(OpCode::Text, &payload);
        }
    }

    /// Whether as much was published as there is to publish.
    pub(super) fn is_said(&self) -> bool {
        self.plan.messages_max.is_some_and(|max| self.tally.published >= max)
    }

    /// Publishes what is due: each publisher in turn that can.
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
            // After it was held.
            Workload::Idle => self.stage == Stage::Finishing,
            _ => matches!(self.stage, Stage::WarmUp | Stage::Measuring),
        }
    }

    /// When the next message is due: now, where there is no rate.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "microseconds of a run"
    )]
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
            stamp.write(&self.filling, &mut text);
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
        stamp.write(&self.filling, &mut body);
        body.extend_from_slice(after);
        write_post(&endpoint.host, &endpoint.target, "", &body, &mut self.scratch);
    }
}
