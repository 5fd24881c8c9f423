//! All connections: the slab that they are in, their queues, deadlines and output, what they hold together, and who is
//! let in. Every change of a connection's state is made in `transitions`, which alone keeps the counts that
//! follow from it. Nothing here knows a path of HTTP, the name of a channel, or the store.

mod connection;
mod close_reason;
mod accept_times;
mod recent_closes;
mod admission;
mod deadlines;
mod unsent;
mod transitions;
mod output;
mod room;
mod checks;

use std::collections::VecDeque;

use slab::Slab;

use crate::base::config::Limits;
use crate::base::id::Id;
use crate::base::limit::Limit;
use crate::base::time::Stamp;
use crate::hub::entry::Encoding;

use accept_times::AcceptTimes;
use admission::Admission;
use deadlines::Deadlines;
use recent_closes::RecentCloses;
use unsent::Unsent;

pub use admission::Source;
pub(super) use checks::expect_once;
pub use close_reason::CloseReason;
pub use connection::{CloseKind, Connection, Decoder, Endpoint, Kind, Level, Phase, ReadState, WriteState};
pub(super) use deadlines::Deadline;
pub(super) use output::{GATHER_MAX, Sent, Written};
pub(super) use recent_closes::Close;
pub(super) use room::Eviction;

/// The connections over sockets `S`.
#[derive(Debug)]
pub(super) struct Connections<S> {
    slab: Slab<Connection<S>>,
    /// The time of this turn.
    now: Stamp,
    generations: u32,
    accept_times: AcceptTimes,
    recent_closes: RecentCloses,
    admission: Admission,
    deadlines: Deadlines,
    read_queue: VecDeque<Id>,
    flush_queue: VecDeque<Id>,
    /// Those that are not read until the store, or the encoders, have caught up.
    stalled: Vec<Id>,
    /// Those to be dropped at the end of the turn.
    dead: Vec<u32>,
    /// What is being written to one connection, before it is offered to its socket.
    output: Vec<u8>,
    /// The connection whose input is being worked on: its output is sent when that is done.
    receiving: Option<u32>,
    /// What all have yet to be sent.
    unsent: Unsent,
    /// Bytes of all inboxes.
    inboxes_bytes: usize,
    /// Open echoes.
    echoes: usize,
    /// Subscribers that take less than they are sent, see [`Connection::is_lagging`].
    lagging: usize,
    /// Subscribers by their [`Encoding`].
    subscribers: [usize; Encoding::ALL.len()],
}

/// How many connections there are, by what they are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    pub(super) http: usize,
    /// Open WebSockets.
    pub(super) open: usize,
    /// Those of these that are echoes.
    pub(super) echo: usize,
    pub(super) closing: usize,
    /// Subscribers that take less than they are sent.
    pub(super) lagging: usize,
    /// Subscribers by their [`Encoding`].
    pub(super) subscribers: [usize; Encoding::ALL.len()],
}

impl<S> Connections<S> {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            slab: Slab::new(),
            now: Stamp::default(),
            generations: 0,
            accept_times: AcceptTimes::default(),
            recent_closes: RecentCloses::default(),
            admission: Admission::default(),
            deadlines: Deadlines::default(),
            read_queue: VecDeque::new(),
            flush_queue: VecDeque::new(),
            stalled: Vec::new(),
            dead: Vec::new(),
            output: Vec::new(),
            receiving: None,
            unsent: Unsent::new(limits.outboxes_bytes_max),
            inboxes_bytes: 0,
            echoes: 0,
            lagging: 0,
            subscribers: [0; Encoding::ALL.len()],
        }
    }

    /// Tells what time it is in this turn.
    pub(super) const fn begin_turn(&mut self, now: Stamp) {
        self.now = now;
    }

    /// The index that the next accepted connection will have.
    #[expect(clippy::cast_possible_truncation, reason = "descriptors are counted in 31 bits")]
    pub(super) fn next_index(&self) -> u32 {
        self.slab.vacant_key() as u32
    }

    /// Takes a new connection in; `now_ms` is the attended clock. Returns its index, and the limit for which it is not
    /// let in, if any.
    #[expect(clippy::cast_possible_truncation, reason = "descriptors are counted in 31 bits")]
    pub(super) fn accept(
        &mut self,
        socket: S,
        source: Source,
        limits: &Limits,
        now_ms: u64,
    ) -> (u32, Option<Limit>) {
        self.generations = self.generations.wrapping_add(1);
        self.accept_times.note(self.generations, now_ms);
        let before = self.slab.len();
        let index = self.slab.insert(Connection::new(socket, self.generations, self.now)) as u32;
        if let Some(fifo) = self.deadlines.of(Phase::Handshake) {
            fifo.push(&mut self.slab, index, self.now);
        }
        (index, self.admission.enter(index, source, before, limits).err())
    }

    /// Takes note of how much memory is in use. Returns whether anybody is let in, if that has changed.
    pub(super) const fn note_resident(&mut self, bytes: u64, limits: &Limits) -> Option<bool> {
        self.admission.note_resident(bytes, limits)
    }

    /// Counts a message of a connection. Returns whether it is within the limit of messages per second.
    pub(super) fn may_send(&mut self, index: u32, limits: &Limits) -> bool {
        self.admission.may_send(index, self.now, limits)
    }

    /// Drops the connections that have ended. Comes last in a turn, so that no index changes its meaning within it.
    pub(super) fn reap(&mut self, limits: &Limits) {
        for index in std::mem::take(&mut self.dead) {
            self.slab.remove(index as usize);
            self.admission.leave(index, limits);
        }
        if self.slab.is_empty() && self.slab.capacity() > 1024 {
            self.slab.shrink_to_fit();
            // Ids of connections that are gone may be in there still.
            self.read_queue.shrink_to_fit();
            self.flush_queue.shrink_to_fit();
            self.unsent.shrink();
        }
    }

    /// The connection at `index`, which is there.
    pub(super) fn at(&self, index: u32) -> &Connection<S> {
        &self.slab[index as usize]
    }

    /// The id of the connection at `index`, which is there.
    pub(super) fn id(&self, index: u32) -> Id {
        self.at(index).id(index)
    }

    /// The connection at `index`, if there is one.
    pub(super) fn get(&self, index: u32) -> Option<&Connection<S>> {
        self.slab.get(index as usize)
    }

    /// The connection that `id` names, if it is still there and alive.
    pub(super) fn find(&self, id: Id) -> Option<&Connection<S>> {
        self.get(id.index)
            .filter(|connection| connection.generation == id.generation && connection.phase != Phase::Dead)
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// Every index is below this.
    pub(super) fn capacity(&self) -> usize {
        self.slab.capacity()
    }

    pub(super) fn counts(&self) -> Counts {
        let on = |deadline| self.deadlines.fifo(deadline).len() as usize;
        Counts {
            http: on(Deadline::Handshake) + on(Deadline::Request) + on(Deadline::KeepAlive),
            open: on(Deadline::Heartbeat),
            echo: self.echoes,
            closing: on(Deadline::Close),
            lagging: self.lagging,
            subscribers: self.subscribers,
        }
    }

    /// Bytes of all inboxes.
    pub(super) const fn inboxes_bytes(&self) -> usize {
        self.inboxes_bytes
    }

    /// Bytes of memory of all outboxes.
    pub(super) const fn outboxes_bytes(&self) -> usize {
        self.unsent.held_bytes()
    }

    /// How long the connection at `index` has been there, in milliseconds; `now_ms` is the attended clock.
    pub(super) fn age_ms(&self, index: u32, now_ms: u64) -> u64 {
        self.accept_times.age_ms(self.at(index).generation, now_ms)
    }

    /// The connections that ended last, newest first.
    pub(super) fn recent_closes(&self) -> impl Iterator<Item = &Close> {
        self.recent_closes.iter()
    }

    /// Whether any connection waits to be read or to be flushed.
    pub(super) fn has_queued(&self) -> bool {
        !self.read_queue.is_empty() || !self.flush_queue.is_empty()
    }

    /// How many wait to be read.
    pub(super) fn read_queue_len(&self) -> usize {
        self.read_queue.len()
    }

    /// The deadline that the connection waiting longest for it has reached, and since when it waits; `None` if it has
    /// not waited for `wait_ms`.
    pub(super) fn overdue(&mut self, deadline: Deadline, wait_ms: u32) -> Option<(u32, Stamp)> {
        let (index, since) = self.deadlines.fifo(deadline).front(&mut self.slab)?;
        (self.now.since(since) >= wait_ms).then_some((index, since))
    }

    /// Milliseconds until the first deadline of a connection.
    pub(super) fn next_deadline_ms(&mut self, timeouts: &crate::base::config::Timeouts) -> Option<u32> {
        let due_in_ms = Deadline::ALL.into_iter().filter_map(|deadline| {
            let (_, since) = self.deadlines.fifo(deadline).front(&mut self.slab)?;
            Some(deadline.wait_ms(timeouts).saturating_sub(self.now.since(since)))
        });
        due_in_ms.min()
    }
}
