//! The connections, and what is known of all of them together.

use std::collections::VecDeque;
use std::rc::Rc;

use slab::Slab;

use crate::base::config::{Limits, Timeouts};
use crate::base::id::Id;
use crate::base::limit::Limit;
use crate::base::map::Map;
use crate::base::time::Stamp;
use crate::hub::entry::Encoding;

use super::accept_times::AcceptTimes;
use super::admission::{Admission, MemoryInUse, Source};
use super::deadlines::Deadlines;
use super::recent_closes::RecentCloses;
use super::unsent::Unsent;
use crate::server::socket::Socket;

use super::close_reason::CloseReason;
use super::connection::ConnectionKind;
use super::connection::{Connection, Phase};
use super::deadlines::Deadline;
use super::recent_closes::Close;

/// The connections over sockets `S`.
#[derive(Debug)]
pub(in crate::server) struct Connections<S> {
    pub(super) slab: Slab<Connection<S>>,
    /// The time of this turn.
    pub(super) now: Stamp,
    pub(super) generations: u32,
    pub(super) accept_times: AcceptTimes,
    pub(super) recent_closes: RecentCloses,
    pub(super) admission: Admission,
    pub(super) deadlines: Deadlines,
    pub(super) read_queue: VecDeque<Id>,
    pub(super) flush_queue: VecDeque<Id>,
    /// Those that are not read until the store, or the encoders, have caught up.
    pub(super) stalled: Vec<Id>,
    /// Those to be dropped at the end of the turn.
    pub(super) dead: Vec<u32>,
    /// What is being written to one connection, before it is offered to its socket.
    pub(super) output: Vec<u8>,
    /// Responses that are ready but come after ones that are not; looked up only.
    pub(super) deferred: Map<Id, Vec<u8>>,
    /// The connection whose input is being worked on: its output is sent when that is done.
    pub(super) receiving: Option<u32>,
    /// What all have yet to be sent.
    pub(super) unsent: Unsent,
    /// Bytes of all inboxes.
    pub(super) inboxes_bytes: usize,
    /// Open echoes.
    pub(super) echoes: usize,
    /// Connections that may have many subscriptions.
    pub(super) streams: usize,
    /// Subscribers that take less than they are sent, see [`Connection::is_lagging`].
    pub(super) lagging: usize,
    /// Those that may be dropped, see [`Connection::is_let_go`].
    pub(super) let_go: usize,
    /// Subscribers by their [`Encoding`].
    pub(super) subscribers: [usize; Encoding::ALL.len()],
}

/// How many connections there are, by kind.
#[derive(Debug, Clone, Copy)]
pub(in crate::server) struct Counts {
    pub(in crate::server) http: usize,
    /// Open WebSockets.
    pub(in crate::server) open: usize,
    /// Those of these that are echoes.
    pub(in crate::server) echo: usize,
    /// Those of these that may have many subscriptions.
    pub(in crate::server) stream: usize,
    pub(in crate::server) closing: usize,
    /// Subscribers that take less than they are sent.
    pub(in crate::server) lagging: usize,
    /// Subscribers by their [`Encoding`].
    pub(in crate::server) subscribers: [usize; Encoding::ALL.len()],
}

impl<S> Connections<S> {
    pub(in crate::server) fn new(limits: &Limits) -> Self {
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
            deferred: Map::default(),
            receiving: None,
            unsent: Unsent::new(limits.outboxes_bytes_max),
            inboxes_bytes: 0,
            echoes: 0,
            streams: 0,
            lagging: 0,
            let_go: 0,
            subscribers: [0; Encoding::ALL.len()],
        }
    }

    /// Tells what time it is in this turn.
    pub(in crate::server) const fn begin_turn(&mut self, now: Stamp) {
        self.now = now;
    }

    /// The index that the next accepted connection will have.
    #[expect(clippy::cast_possible_truncation, reason = "descriptors are counted in 31 bits")]
    pub(in crate::server) fn next_index(&self) -> u32 {
        self.slab.vacant_key() as u32
    }

    /// Takes a new connection in; `now_ms` is the attended clock. Returns its index, and the limit for which it is not
    /// let in, if any.
    #[expect(clippy::cast_possible_truncation, reason = "descriptors are counted in 31 bits")]
    pub(in crate::server) fn accept(
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

    /// Takes note of how much memory is in use. Returns whether connections are accepted, if that has changed.
    pub(in crate::server) fn note_resident(&mut self, resident: u64, limits: &Limits) -> Option<bool> {
        let held = self.slab.len() * size_of::<Connection<S>>() + self.inboxes_bytes + self.outboxes_bytes();
        self.admission.note_memory(MemoryInUse { resident, held: held as u64 }, limits)
    }

    /// Counts a message of a connection. Returns whether it is within the limit of messages per second.
    pub(in crate::server) fn may_send(&mut self, index: u32, limits: &Limits) -> bool {
        self.admission.may_send(index, self.now, limits)
    }

    /// Remembers why a connection ends; `now_ms` is the attended clock.
    pub(in crate::server) fn note_close(
        &mut self,
        index: u32,
        reason: CloseReason,
        (kind, channel): (ConnectionKind, Option<Rc<str>>),
        now_ms: u64,
    ) where
        S: Socket,
    {
        let connection = &self.slab[index as usize];
        let close = Close {
            id: connection.id(index),
            address: None,
            kind,
            channel,
            reason,
            age_ms: self.age_ms(index, now_ms),
            at_ms: now_ms,
        };
        self.recent_closes.note(close, || connection.socket.peer());
    }

    /// Adds the addresses of the peers to the connections that ended last.
    pub(in crate::server) fn name_recent_closes(&mut self)
    where
        S: Socket,
    {
        let slab = &self.slab;
        self.recent_closes.name(|id| {
            let connection = slab.get(id.index as usize).filter(|one| one.generation == id.generation)?;
            connection.socket.peer()
        });
    }

    /// Drops the connections that have ended; `forget` is told of those that waited for a response. Comes last in a turn,
    /// so that no index changes its meaning within it.
    pub(in crate::server) fn reap(&mut self, limits: &Limits, mut forget: impl FnMut(Id))
    where
        S: Socket,
    {
        self.name_recent_closes();
        for index in std::mem::take(&mut self.dead) {
            let connection = self.slab.remove(index as usize);
            if connection.awaits_response() {
                forget(connection.id(index));
            }
            self.admission.leave(index, limits);
        }
        if self.slab.is_empty() && self.slab.capacity() > 1024 {
            self.slab.shrink_to_fit();
            // Ids of connections that are gone may be in there still.
            self.read_queue.shrink_to_fit();
            self.flush_queue.shrink_to_fit();
            self.stalled.shrink_to_fit();
            self.deferred.shrink_to_fit();
            self.unsent.shrink();
            self.admission.shrink();
        }
    }

    /// Whether all connections may be dropped.
    pub(in crate::server) fn are_let_go(&self) -> bool {
        self.let_go == self.slab.len()
    }

    /// The connection at `index`, which is there.
    #[inline]
    pub(in crate::server) fn at(&self, index: u32) -> &Connection<S> {
        &self.slab[index as usize]
    }

    /// The id of the connection at `index`, which is there.
    pub(in crate::server) fn id(&self, index: u32) -> Id {
        self.at(index).id(index)
    }

    /// The connection at `index`, if there is one.
    pub(in crate::server) fn get(&self, index: u32) -> Option<&Connection<S>> {
        self.slab.get(index as usize)
    }

    /// The connection that `id` names, if it is still there and alive.
    pub(in crate::server) fn find(&self, id: Id) -> Option<&Connection<S>> {
        self.get(id.index)
            .filter(|connection| connection.generation == id.generation && connection.phase != Phase::Dead)
    }

    pub(in crate::server) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Every index is below this.
    pub(in crate::server) fn capacity(&self) -> usize {
        self.slab.capacity()
    }

    pub(in crate::server) fn counts(&self) -> Counts {
        let on = |deadline| self.deadlines.fifo(deadline).len() as usize;
        Counts {
            http: on(Deadline::Handshake) + on(Deadline::Request) + on(Deadline::KeepAlive),
            open: on(Deadline::Heartbeat),
            echo: self.echoes,
            stream: self.streams,
            closing: on(Deadline::Close),
            lagging: self.lagging,
            subscribers: self.subscribers,
        }
    }

    /// Bytes of all inboxes.
    pub(in crate::server) const fn inboxes_bytes(&self) -> usize {
        self.inboxes_bytes
    }

    /// Bytes of memory of all outboxes.
    pub(in crate::server) const fn outboxes_bytes(&self) -> usize {
        self.unsent.held_bytes()
    }

    /// How long the connection at `index` has been there, in milliseconds; `now_ms` is the attended clock.
    pub(in crate::server) fn age_ms(&self, index: u32, now_ms: u64) -> u64 {
        self.accept_times.age_ms(self.at(index).generation, now_ms)
    }

    /// The connections that ended last, newest first.
    pub(in crate::server) fn recent_closes(&self) -> impl Iterator<Item = &Close> {
        self.recent_closes.iter()
    }

    /// Whether any connection waits to be read or to be flushed.
    pub(in crate::server) fn has_queued(&self) -> bool {
        !self.read_queue.is_empty() || !self.flush_queue.is_empty()
    }

    /// How many wait to be read.
    pub(in crate::server) fn read_queue_len(&self) -> usize {
        self.read_queue.len()
    }

    /// The deadline that the connection waiting longest for it has reached, and since when it waits; `None` if it has
    /// not waited for `wait_ms`.
    pub(in crate::server) fn overdue(&mut self, deadline: Deadline, wait_ms: u32) -> Option<(u32, Stamp)> {
        let (index, since) = self.deadlines.fifo(deadline).front(&mut self.slab)?;
        (self.now.since(since) >= wait_ms).then_some((index, since))
    }

    /// Milliseconds until the first deadline of a connection.
    pub(in crate::server) fn next_deadline_ms(&mut self, timeouts: &Timeouts) -> Option<u32> {
        let due_in_ms = Deadline::ALL.into_iter().filter_map(|deadline| {
            let (_, since) = self.deadlines.fifo(deadline).front(&mut self.slab)?;
            Some(deadline.wait_ms(timeouts).saturating_sub(self.now.since(since)))
        });
        due_in_ms.min()
    }
}

#[cfg(test)]
mod tests {
    use super::super::close_reason::CloseReason;
    use super::super::connection::ConnectionKind;
    use super::*;
    use crate::server::socket::Line;

    #[test]
    fn the_address_of_a_crowd_that_ends_is_asked_for_those_that_are_remembered() {
        let limits = Limits::default();
        let (line, mut connections) = (Line::default(), Connections::new(&limits));
        for number in 0..200 {
            let (index, _) = connections.accept(line.clone(), Source(0), &limits, number);
            connections.note_close(index, CloseReason::SocketError, (ConnectionKind::Http, None), number);
            connections.abort(index);
        }
        connections.reap(&limits, |_| ());
        let named = connections.recent_closes().filter(|close| close.address.is_some()).count();
        assert_eq!((connections.recent_closes().count(), named, line.asked.get()), (50, 50, 100));
        connections.reap(&limits, |_| ());
        assert_eq!(line.asked.get(), 100, "none is asked twice");
    }

    #[test]
    fn room_for_many_is_given_back_when_all_have_gone() {
        let limits =
            Limits { connections_per_source_max: 10_000, messages_per_second_max: 1, ..Limits::default() };
        let mut connections = Connections::new(&limits);
        for number in 0..5_000 {
            let (index, limit) = connections.accept(Line::default(), Source(number), &limits, 0);
            assert_eq!((limit, connections.may_send(index, &limits)), (None, true));
            connections.stall(index);
            connections.deferred(index).push(b'x');
        }
        connections.resume_stalled();
        let ids = connections.iter().map(|(index, _)| index).collect::<Vec<_>>();
        for index in ids {
            connections.deferred.remove(&connections.id(index));
            connections.abort(index);
        }
        connections.reap(&limits, |_| ());
        let kept = [
            connections.slab.capacity(),
            connections.read_queue.capacity(),
            connections.stalled.capacity(),
            connections.deferred.capacity(),
            connections.admission.capacity(),
        ];
        assert!(kept.iter().all(|kept| *kept < 1_000 || *kept == connections.read_queue.len()), "{kept:?}");
    }
}
