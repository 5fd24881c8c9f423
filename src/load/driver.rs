//! The load generator: all of its connections, the messages that they send, and the progress of the run. The
//! shell opens sockets, reports readiness and the time, and calls [`Driver::turn`].

use std::collections::VecDeque;

use crate::server::socket::Socket;
use crate::wire::deflate::Inflater;
use crate::wire::reply::accept_of;

use super::order::Order;
use super::payload::blank;
use super::peer::{NO_PUBLISHER, Peer, Phase, Role};
use super::plan::{Plan, Publishing, Workload};
use super::tally::Tally;

/// The bytes that one connection may read before it is the next one's turn, into one buffer that all share.
/// It is large, so that few messages are split.
const READ_BUFFER_BYTES: usize = 256 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Connecting,
    /// Messages are sent, but do not count yet.
    WarmUp,
    /// Messages that are sent count.
    Measuring,
    /// Nothing more is sent; messages in flight are awaited.
    Finishing,
    Done,
}

impl Stage {
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

pub struct Driver<S> {
    pub(super) plan: Plan,
    /// All connections: first those that are measured, then publishers, then those that break the rules on
    /// purpose.
    pub(super) peers: Vec<Peer<S>>,
    pub(super) order: Order,
    pub(super) tally: Tally,
    pub(super) now_us: u64,
    pub(super) stage: Stage,
    pub(super) stage_since_us: u64,
    /// When anything that is awaited last arrived.
    pub(super) progress_us: u64,
    pub(super) publishers: Vec<Publisher>,
    /// The time from which sent messages count, and the time until which they do.
    pub(super) counting_from_us: u64,
    pub(super) counting_to_us: u64,
    /// The publisher whose turn it is.
    pub(super) turn_of: usize,
    /// Messages that were due by the rate and were sent.
    pub(super) sent_by_rate: u64,
    /// For each connection, when the requests in flight were sent, if responses do not say.
    pub(super) sent_times: Vec<VecDeque<u64>>,
    /// Messages and requests in flight.
    pub(super) outstanding: u64,
    /// The last payload: the next one differs only at its front.
    pub(super) payload: Vec<u8>,
    /// Shared by all connections, as in the server.
    pub(super) inflater: Inflater,
    /// Where in a message the last payload was found.
    pub(super) hint: usize,
    pub(super) read_queue: VecDeque<u32>,
    pub(super) scratch: Vec<u8>,
    pub(super) read_buffer: Vec<u8>,
    pub(super) random: fastrand::Rng,
    /// The answer that the server must give to the key of the handshakes.
    pub(super) accept: String,
    pub(super) to_open: VecDeque<u32>,
    pub(super) opened: u64,
    pub(super) handshaking: u32,
    pub(super) open: u32,
    pub(super) ticked_us: u64,
    pub(super) rounds_done: u32,
    /// A connection that did not have everything when it was last looked at. As long as it does not, no other
    /// has to be looked at.
    pub(super) laggard: usize,
}

#[derive(Debug)]
pub(super) struct Publisher {
    pub(super) peer: u32,
    /// Messages that not all awaited subscribers have received.
    pub(super) outstanding: u32,
}

impl<S: Socket> Driver<S> {
    /// A run that has not begun. The masks of frames depend on `seed`.
    pub fn new(plan: Plan, seed: u64) -> Self {
        let peers: Vec<_> = (0..plan.peers()).map(|index| peer(&plan, index)).collect();
        let is_subscriber = |peer: &&Peer<S>| matches!(peer.role, Role::Subscriber { .. });
        let is_awaited = |peer: &&Peer<S>| peer.role == Role::Subscriber { slow: false };
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        // The server would close a connection that makes no request for so long.
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

    /// For how long sent messages have counted; 0 if they never did.
    pub const fn counted_us(&self) -> u64 {
        self.counting_to_us.saturating_sub(self.counting_from_us)
    }

    pub const fn stage(&self) -> Stage {
        self.stage
    }

    pub const fn open(&self) -> u32 {
        self.open
    }

    /// How many of the connections that were opened at the beginning are still open.
    pub fn alive(&self) -> u32 {
        let is_open = |publisher: &&Publisher| self.peers[publisher.peer as usize].phase == Phase::Open;
        let later = match self.plan.workload {
            Workload::Idle => self.publishers.iter().filter(is_open).count(),
            _ => 0,
        };
        self.open - u32::try_from(later).unwrap_or_default()
    }

    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    pub const fn order(&self) -> &Order {
        &self.order
    }

    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Whether all connections are established, except those that never finish their request.
    pub(super) fn is_connected(&self) -> bool {
        self.to_open.is_empty() && self.handshaking == 0
    }

    /// Messages that every subscriber must get.
    #[expect(clippy::cast_possible_truncation, reason = "a run has fewer messages")]
    pub(super) const fn published_in_order(&self) -> u32 {
        if self.publishers.is_empty() { 0 } else { self.tally.published as u32 }
    }

    /// A connection has ended before the run has.
    pub(super) fn end(&mut self, index: u32, reason: &str) {
        let peer = &mut self.peers[index as usize];
        match peer.phase {
            Phase::Closed | Phase::Ended => return,
            Phase::Handshake => self.handshaking -= u32::from(peer.role != Role::Dribbler),
            Phase::Open => self.open -= 1,
        }
        peer.close(Phase::Ended);
        self.progress_us = self.now_us;
        let ended = if peer.is_unruly() { &mut self.tally.ended_rightly } else { &mut self.tally.ended };
        *ended.entry(reason.to_owned()).or_default() += 1;
        let (role, position) = (peer.role, peer.position);
        match role {
            Role::Echo | Role::Poster => {
                let missing = u64::from(peer.sent.saturating_sub(position));
                self.outstanding = self.outstanding.saturating_sub(missing);
                self.order.faults.lost += missing;
            }
            Role::Subscriber { slow } => {
                self.order.give_up(position, self.published_in_order());
                self.order.leave(position, !slow);
                self.release();
            }
            Role::HalfOpen | Role::Dribbler => {}
        }
    }

    /// After a message that all have received, another can follow.
    pub(super) fn release(&mut self) {
        for publisher in self.order.completed.drain(..) {
            if let Some(publisher) = self.publishers.get_mut(usize::from(publisher)) {
                publisher.outstanding = publisher.outstanding.saturating_sub(1);
            }
        }
    }
}

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
