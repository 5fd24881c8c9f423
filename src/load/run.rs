//! The course of a run: its connections are opened, its stages follow one another, and it ends by itself when
//! everything that was sent has arrived or nothing arrives any more, or early.

use crate::server::socket::{Readiness, Socket};
use crate::wire::reply::write_upgrade;
use crate::wire::websocket::extension::{EXTENSIONS_FIELD, OFFER};

use super::driver::{Driver, Stage};
use super::peer::{Inbox, Peer, Phase, Role};
use super::plan::Workload;

/// The most handshakes in progress at once.
const HANDSHAKES_MAX: u32 = 256;

/// How often slow readers read, and dribblers send a byte.
const TICK_US: u64 = 100_000;

impl<S: Socket> Driver<S> {
    /// The connection to open next, if one may be opened now. The shell answers with [`Self::opened`] or
    /// [`Self::failed`].
    pub fn next_to_open(&mut self, now_us: u64) -> Option<u32> {
        if self.handshaking >= HANDSHAKES_MAX || self.open_due_us() > now_us {
            return None;
        }
        let index = self.to_open.pop_front()?;
        self.opened += 1;
        Some(index)
    }

    /// When the next connection may be opened, according to the rate.
    #[expect(clippy::cast_possible_truncation, reason = "microseconds of a run")]
    fn open_due_us(&self) -> u64 {
        self.plan.connect_rate.map_or(0, |rate| (self.opened as f64 * 1e6 / rate) as u64)
    }

    pub fn opened(&mut self, index: u32, socket: S, now_us: u64) {
        self.now_us = now_us;
        self.progress_us = now_us;
        let target = &self.plan.endpoint.target;
        let resumed;
        let peer = &mut self.peers[index as usize];
        let target = if peer.last_id == 0 {
            target
        } else {
            let mark = if target.contains('?') { '&' } else { '?' };
            resumed = format!("{target}{mark}last_event_id={}{:05}", self.plan.id_prefix(), peer.last_id);
            &resumed
        };
        match peer.role {
            Role::Poster => {}
            Role::Dribbler => self.scratch.extend_from_slice(b"GET / HTTP/1.1\r\nX: "),
            Role::Echo | Role::Subscriber { .. } | Role::HalfOpen => {
                let extra = if self.plan.compresses {
                    format!("{EXTENSIONS_FIELD}: {OFFER}\r\n")
                } else {
                    String::new()
                };
                write_upgrade(&self.plan.endpoint.host, target, &self.plan.key, &extra, &mut self.scratch);
            }
        }
        peer.socket = Some(socket);
        peer.phase = Phase::Handshake;
        peer.inbox = Some(Box::new(Inbox { since_us: now_us, ..Inbox::default() }));
        self.handshaking += u32::from(peer.role != Role::Dribbler);
        // Nothing can be written before the socket is first ready.
        if !self.scratch.is_empty() {
            peer.outbox.get_or_insert_default().push(&self.scratch);
            self.scratch.clear();
        }
    }

    pub fn failed(&mut self, index: u32, reason: &str) {
        let peer = &mut self.peers[index as usize];
        self.handshaking += u32::from(peer.role != Role::Dribbler);
        peer.phase = Phase::Handshake;
        self.end(index, reason);
    }

    /// Reports a change of a socket; this only marks it.
    pub fn ready(&mut self, index: u32, readiness: Readiness) {
        let Some(peer) = self.peers.get_mut(index as usize) else { return };
        peer.to_end |= readiness.read_closed;
        if !peer.is_queued && peer.socket.is_some() {
            peer.is_queued = true;
            self.read_queue.push_back(index);
        }
    }

    pub fn turn(&mut self, now_us: u64) {
        self.now_us = now_us;
        self.read_all();
        if now_us >= self.ticked_us + TICK_US {
            self.ticked_us = now_us;
            self.tick();
        }
        self.publish();
        self.advance();
    }

    /// How long the next poll may sleep, in microseconds.
    pub fn timeout_us(&self) -> u64 {
        if !self.read_queue.is_empty() {
            return 0;
        }
        let mut due_us = self.ticked_us + TICK_US;
        if !self.to_open.is_empty() && self.handshaking < HANDSHAKES_MAX {
            due_us = due_us.min(self.open_due_us());
        }
        if let Some(next_us) = self.publish_due_us() {
            due_us = due_us.min(next_us);
        }
        if let Some(end_us) = self.stage_end_us() {
            due_us = due_us.min(end_us);
        }
        due_us.saturating_sub(self.now_us)
    }

    /// Ends the run early: nothing more is sent. Messages in flight are awaited, unless this is called twice,
    /// or not all connections are open yet.
    pub fn stop(&mut self, now_us: u64) {
        self.now_us = now_us;
        match self.stage {
            Stage::WarmUp | Stage::Measuring => self.enter(Stage::Finishing),
            Stage::Connecting | Stage::Finishing | Stage::Done => self.enter(Stage::Done),
        }
    }

    fn stage_end_us(&self) -> Option<u64> {
        match self.stage {
            Stage::WarmUp => Some(self.stage_since_us + self.plan.warm_up_us),
            Stage::Measuring if self.plan.workload == Workload::Storm => {
                let steps = u64::from(self.plan.rounds) + 1;
                Some(self.stage_since_us + self.plan.run_us * u64::from(self.rounds_done + 1) / steps)
            }
            Stage::Measuring => Some(self.stage_since_us + self.plan.run_us),
            Stage::Connecting | Stage::Finishing | Stage::Done => None,
        }
    }

    /// Moves to the next stage when it is time.
    fn advance(&mut self) {
        let is_due = self.stage_end_us().is_some_and(|end_us| self.now_us >= end_us);
        let is_stuck = self.now_us >= self.progress_us + self.plan.patience_us;
        let is_through = self.stage == Stage::Finishing && self.is_through();
        match self.stage {
            Stage::Connecting if is_stuck && self.handshaking > 0 => {
                self.to_open.clear();
                self.give_up_handshakes();
                self.enter(Stage::WarmUp);
            }
            Stage::Connecting if self.is_connected() => self.enter(Stage::WarmUp),
            Stage::WarmUp if is_due => self.enter(Stage::Measuring),
            Stage::Measuring if is_due && self.rounds_done < self.plan.rounds => {
                self.rounds_done += 1;
                self.leave_all();
            }
            Stage::Measuring if is_due => self.enter(Stage::Finishing),
            Stage::Finishing if is_through || is_stuck => {
                self.give_up_handshakes();
                self.count_missing();
                self.enter(Stage::Done);
            }
            _ => {}
        }
    }

    fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        self.stage_since_us = self.now_us;
        self.progress_us = self.now_us;
        match stage {
            Stage::WarmUp if self.open == 0 => self.stage = Stage::Done,
            Stage::WarmUp => self.send_first(),
            Stage::Measuring => self.counting_from_us = self.now_us,
            Stage::Finishing => {
                self.counting_to_us = self.now_us;
                if self.plan.workload == Workload::Idle {
                    self.to_open.extend(self.publishers.iter().map(|publisher| publisher.peer));
                }
                for index in 0..self.plan.connections {
                    if self.peers[index as usize].role == (Role::Subscriber { slow: true }) {
                        self.ready(index, Readiness { readable: true, read_closed: true, writable: false });
                    }
                }
            }
            _ => {}
        }
    }

    /// All subscribers leave without a Close, and return. One that has received nothing yet would not know
    /// from where to resume, so it stays.
    fn leave_all(&mut self) {
        for index in 0..self.plan.connections {
            let peer = &mut self.peers[index as usize];
            if peer.last_id == 0 {
                continue;
            }
            match peer.phase {
                Phase::Ended | Phase::Closed => continue,
                Phase::Handshake => self.handshaking -= 1,
                Phase::Open => self.open -= 1,
            }
            peer.close(Phase::Closed);
            peer.to_end = false;
            self.to_open.push_back(index);
        }
        self.progress_us = self.now_us;
    }

    /// Whether everything that was sent has arrived.
    fn is_through(&mut self) -> bool {
        let published = self.published_in_order();
        let has_all = |peer: &Peer<S>| match peer.role {
            Role::Subscriber { .. } => peer.position >= published || peer.phase == Phase::Ended,
            _ => true,
        };
        let is_due = self.plan.messages_max.is_some() && !self.is_said();
        if self.outstanding > 0 || is_due || !self.is_connected() {
            return false;
        }
        // From the one that was found last, once around.
        let all = (self.laggard..self.peers.len()).chain(0..self.laggard);
        let laggard = { all }.find(|index| !has_all(&self.peers[*index]));
        self.laggard = laggard.unwrap_or_default();
        laggard.is_none()
    }

    /// A connection without an answer to its handshake by now will get none.
    fn give_up_handshakes(&mut self) {
        for index in 0..self.plan.peers() {
            let peer = &self.peers[index as usize];
            if peer.phase == Phase::Handshake && peer.role != Role::Dribbler {
                self.end(index, "no response to the handshake");
            }
        }
    }

    /// Whatever has not arrived by now will not arrive.
    fn count_missing(&mut self) {
        let published = self.published_in_order();
        for peer in &self.peers {
            match peer.role {
                Role::Subscriber { .. } if peer.phase != Phase::Ended => {
                    self.order.give_up(peer.position, published);
                }
                Role::Echo | Role::Poster if peer.phase != Phase::Ended => {
                    self.order.faults.lost += u64::from(peer.sent - peer.position);
                }
                _ => {}
            }
        }
    }
}
