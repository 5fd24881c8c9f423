//! The load generator: all its connections, what they have to say, and how far
//! the run is. The shell opens sockets, tells of readiness and of the time, and calls
//! [`Driver::turn`].

use std::collections::VecDeque;

use crate::server::socket::{Readiness, Socket};
use crate::wire::deflate::Inflater;
use crate::wire::reply::{accept_of, write_upgrade};
use crate::wire::websocket::extension::{EXTENSIONS_FIELD, OFFER};

use super::order::Order;
use super::payload::blank;
use super::peer::{Inbox, NO_PUBLISHER, Peer, Phase, Role};
use super::plan::{Plan, Publishing, Workload};
use super::tally::Tally;

/// Handshakes that may be under way at once.
const HANDSHAKES_MAX: u32 = 256;

/// Bytes read from a socket at once, into the one buffer that all share: what one connection may read before the next
/// has its turn, so that few messages are cut in two.
const READ_BUFFER_BYTES: usize = 256 << 10;

/// How often slow readers read and dribblers dribble.
pub(super) const TICK_US: u64 = 100_000;

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The connections are being opened.
    Connecting,
    /// What is sent does not count yet.
    WarmUp,
    /// What is sent counts.
    Measuring,
    /// Nothing more is sent; what is on its way is waited for.
    Finishing,
    /// It is over.
    Done,
}

impl Stage {
    /// What is being done, for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::WarmUp => "warming-up",
            Self::Measuring => "measuring",
            Self::Finishing => "finishing",
            Self::Done => "done",
        }
    }
}

/// A run over sockets `S`.
pub struct Driver<S> {
    pub(super) plan: Plan,
    /// All connections: first those that are measured, then publishers, then who
    /// breaks the rules on purpose.
    pub(super) peers: Vec<Peer<S>>,
    pub(super) order: Order,
    pub(super) tally: Tally,
    pub(super) now_us: u64,
    pub(super) stage: Stage,
    pub(super) stage_since_us: u64,
    /// When anything that is waited for last came.
    pub(super) progress_us: u64,
    pub(super) publishers: Vec<Publisher>,
    /// Since when what is sent counts, and until when.
    pub(super) counting_from_us: u64,
    counting_to_us: u64,
    /// Whose turn it is to publish.
    pub(super) turn_of: usize,
    /// Messages that were due by the rate and were sent.
    pub(super) sent_by_rate: u64,
    /// Of each connection, when the requests on their way were sent, where answers do not say.
    pub(super) sent_times: Vec<VecDeque<u64>>,
    /// Messages and requests on their way.
    pub(super) outstanding: u64,
    /// The payload that was sent last: the next differs in its front alone.
    pub(super) payload: Vec<u8>,
    /// For all connections, as in the server.
    pub(super) inflater: Inflater,
    /// Where the last payload was found in a message.
    pub(super) hint: usize,
    pub(super) read_queue: VecDeque<u32>,
    pub(super) scratch: Vec<u8>,
    pub(super) read_buffer: Vec<u8>,
    pub(super) random: fastrand::Rng,
    /// What the server must answer to the key of the handshakes.
    pub(super) accept: String,
    pub(super) to_open: VecDeque<u32>,
    opened: u64,
    pub(super) handshaking: u32,
    pub(super) open: u32,
    pub(super) ticked_us: u64,
    rounds_done: u32,
    /// A connection that had not got all when that was last asked: as long as it has not,
    /// nobody else has to be looked at.
    pub(super) laggard: usize,
}

/// Who publishes.
#[derive(Debug)]
pub(super) struct Publisher {
    pub(super) peer: u32,
    /// Messages that not all who are waited for have got.
    pub(super) outstanding: u32,
}

impl<S: Socket> Driver<S> {
    /// A run that has not begun. `seed` is what the masks of frames depend on.
    #[must_use]
    pub fn new(plan: Plan, seed: u64) -> Self {
        let peers: Vec<_> = (0..plan.peers()).map(|index| peer(&plan, index)).collect();
        let is_subscriber = |peer: &&Peer<S>| matches!(peer.role, Role::Subscriber { .. });
        let is_awaited = |peer: &&Peer<S>| peer.role == Role::Subscriber { slow: false };
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        // A connection on which nothing is asked for so long would be ended by the server.
        let publishers_later = plan.workload == Workload::Idle;
        let subscribers = count(peers.iter().filter(is_subscriber).count());
        let awaited = count(peers.iter().filter(is_awaited).count());
        let publishers: Vec<_> = (0..plan.publishers)
            .map(|number| Publisher { peer: plan.connections + number, outstanding: 0 })
            .collect();
        Self {
            sent_times: if plan.status_only && plan.workload == Workload::Publish {
                (0..plan.connections).map(|_| VecDeque::new()).collect()
            } else {
                Vec::new()
            },
            order: Order::new(publishers.len(), subscribers, awaited),
            accept: accept_of(&plan.key),
            to_open: (0..plan.peers())
                .filter(|index| !(publishers_later && plan.publishes(*index)))
                .collect(),
            payload: blank(plan.payload_bytes, plan.compresses),
            inflater: Inflater::default(),
            plan,
            peers,
            tally: Tally::default(),
            now_us: 0,
            stage: Stage::Connecting,
            stage_since_us: 0,
            progress_us: 0,
            publishers,
            counting_from_us: u64::MAX,
            counting_to_us: u64::MAX,
            turn_of: 0,
            sent_by_rate: 0,
            outstanding: 0,
            hint: 0,
            read_queue: VecDeque::new(),
            scratch: Vec::new(),
            read_buffer: vec![0; READ_BUFFER_BYTES],
            random: fastrand::Rng::with_seed(seed),
            opened: 0,
            handshaking: 0,
            open: 0,
            ticked_us: 0,
            rounds_done: 0,
            laggard: 0,
        }
    }

    /// The connection that is to be opened next, if one may be opened now. The shell
    /// answers with [`Self::opened`] or [`Self::failed`].
    pub fn next_to_open(&mut self, now_us: u64) -> Option<u32> {
        if self.handshaking >= HANDSHAKES_MAX || self.open_due_us() > now_us {
            return None;
        }
        let index = self.to_open.pop_front()?;
        self.opened += 1;
        Some(index)
    }

    /// When the next connection may be opened, by the rate of connects.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "microseconds of a run"
    )]
    fn open_due_us(&self) -> u64 {
        self.plan.connect_rate.map_or(0, |rate| (self.opened as f64 * 1e6 / rate) as u64)
    }

    /// A connect has begun.
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
        // Nothing can be written before the first readiness.
        if !self.scratch.is_empty() {
            peer.outbox.get_or_insert_default().push(&self.scratch);
            self.scratch.clear();
        }
    }

    /// A connection could not be opened.
    pub fn failed(&mut self, index: u32, reason: &str) {
        let peer = &mut self.peers[index as usize];
        self.handshaking += u32::from(peer.role != Role::Dribbler);
        peer.phase = Phase::Handshake;
        self.end(index, reason);
    }

    /// Tells what has changed about a socket; only marks it.
    pub fn ready(&mut self, index: u32, readiness: Readiness) {
        let Some(peer) = self.peers.get_mut(index as usize) else { return };
        peer.to_end |= readiness.read_closed;
        if !peer.is_queued && peer.socket.is_some() {
            peer.is_queued = true;
            self.read_queue.push_back(index);
        }
    }

    /// Does what is to be done now.
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
    #[must_use]
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

    /// For how long what was sent has counted; 0 where it never did.
    #[must_use]
    pub const fn counted_us(&self) -> u64 {
        self.counting_to_us.saturating_sub(self.counting_from_us)
    }

    /// How far it is.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        self.stage
    }

    /// How many connections are open.
    #[must_use]
    pub const fn open(&self) -> u32 {
        self.open
    }

    /// How many of those that were opened at the beginning are still there.
    #[must_use]
    pub fn alive(&self) -> u32 {
        let is_open = |publisher: &&Publisher| self.peers[publisher.peer as usize].phase == Phase::Open;
        let later = match self.plan.workload {
            Workload::Idle => self.publishers.iter().filter(is_open).count(),
            _ => 0,
        };
        self.open - u32::try_from(later).unwrap_or_default()
    }

    /// What was counted.
    #[must_use]
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// What was wrong with deliveries.
    #[must_use]
    pub const fn order(&self) -> &Order {
        &self.order
    }

    /// What is being run.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
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

    /// Goes on to the next stage when it is time.
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

    pub(super) fn enter(&mut self, stage: Stage) {
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

    /// Whether nobody is connecting any more; who dribbles is not waited for.
    pub(super) fn is_connected(&self) -> bool {
        self.to_open.is_empty() && self.handshaking == 0
    }

    /// All subscribers leave without a word, and come again; who has got nothing yet would
    /// not know from where to resume, and stays.
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
            peer.phase = Phase::Closed;
            peer.socket = None;
            peer.inbox = None;
            peer.outbox = None;
            peer.to_end = false;
            self.to_open.push_back(index);
        }
        self.progress_us = self.now_us;
    }

    /// Messages that every subscriber must get.
    #[expect(clippy::cast_possible_truncation, reason = "a run has fewer messages")]
    pub(super) const fn published_in_order(&self) -> u32 {
        if self.publishers.is_empty() { 0 } else { self.tally.published as u32 }
    }
}

/// The connection at `index` of a plan.
fn peer<S>(plan: &Plan, index: u32) -> Peer<S> {
    let publishers_end = plan.connections + plan.publishers;
    let number = u16::try_from(index.wrapping_sub(plan.connections) % 4096).unwrap_or(NO_PUBLISHER);
    if index < plan.connections {
        let role = match plan.workload {
            Workload::Echo => Role::Echo,
            Workload::Publish => return Peer::new(Role::Poster, u16::try_from(index % 4096).unwrap_or(0)),
            Workload::Idle | Workload::Fanout | Workload::Storm => {
                Role::Subscriber { slow: index < plan.slow }
            }
        };
        Peer::new(role, NO_PUBLISHER)
    } else if index < publishers_end {
        let role = match plan.publishing {
            Publishing::Message => Role::Subscriber { slow: false },
            Publishing::Post(_) | Publishing::PostEvent(_) | Publishing::PostRaw(_) => Role::Poster,
        };
        Peer::new(role, number)
    } else if index < publishers_end + plan.half_open {
        Peer::new(Role::HalfOpen, NO_PUBLISHER)
    } else {
        Peer::new(Role::Dribbler, NO_PUBLISHER)
    }
}
