//! Every change of a connection's state, and the queues, FIFOs and counts that follow from it.

use crate::base::id::Id;
use crate::hub::entry::Encoding;
use crate::hub::member::Replay;

use super::close_reason::CloseReason;
use super::connection::{
    CloseKind, Connection, Decoder, Inbox, Phase, Protocol, Queue, ReadState, Subscription, WriteState,
};
use super::owner::Connections;
use crate::server::socket::{Readiness, Socket};

/// Bytes that one connection may leave unfinished whatever the others do: the
/// beginning of a request, or of a small message.
const INBOX_BYTES_FREE: usize = 4 << 10;

/// Bytes that are read from a refused peer before its connection is ended.
const THROWN_AWAY_BYTES: usize = 16 << 10;

impl<S> Connections<S> {
    /// Changes a connection, and keeps the counts of those that lag and of those that may be dropped.
    #[inline]
    fn update<R>(&mut self, index: u32, change: impl FnOnce(&mut Connection<S>) -> R) -> R {
        let connection = &mut self.slab[index as usize];
        self.lagging -= usize::from(connection.is_lagging());
        self.let_go -= usize::from(connection.is_let_go());
        let result = change(connection);
        self.lagging += usize::from(connection.is_lagging());
        self.let_go += usize::from(connection.is_let_go());
        result
    }

    fn set_writing(&mut self, index: u32, writing: WriteState) {
        self.update(index, |connection| connection.writing = writing);
    }

    pub(super) fn set_reading(&mut self, index: u32, reading: ReadState) {
        self.update(index, |connection| connection.reading = reading);
    }

    fn set_phase(&mut self, index: u32, phase: Phase) {
        let old = self.update(index, |connection| std::mem::replace(&mut connection.phase, phase));
        self.echoes += usize::from(phase.is_echo());
        self.echoes -= usize::from(old.is_echo());
        if std::mem::discriminant(&old) == std::mem::discriminant(&phase) {
            return;
        }
        let closing = |phase| matches!(phase, Phase::Closing | Phase::Ending(_) | Phase::Lingering(_));
        if closing(old) && closing(phase) {
            return;
        }
        if let Some(fifo) = self.deadlines.of(old) {
            fifo.remove(&mut self.slab, index);
        }
        if let Some(fifo) = self.deadlines.of(phase) {
            fifo.push(&mut self.slab, index, self.now);
        }
    }

    /// Gives a connection the whole time again that its phase has.
    pub(in crate::server) fn restart_deadline(&mut self, index: u32) {
        let phase = self.at(index).phase;
        if let Some(fifo) = self.deadlines.of(phase) {
            fifo.touch(&mut self.slab, index, self.now);
        }
    }

    /// A connection is taken to be alive now.
    pub(in crate::server) fn note_alive(&mut self, index: u32) {
        self.slab[index as usize].heard = self.now;
    }

    // What a poll tells.

    /// Takes note of what has changed about the socket at `index`.
    pub(in crate::server) fn ready(&mut self, index: u32, readiness: Readiness) {
        let Some(connection) = self.slab.get_mut(index as usize) else { return };
        if readiness.writable && connection.writing == WriteState::Blocked {
            // Room in a socket that was full is the peer's doing: it lives.
            connection.heard = self.now;
            self.set_writing(index, WriteState::Queued);
            self.enter_flush_queue(index);
        }
        if readiness.readable || readiness.read_closed {
            match self.slab[index as usize].reading {
                ReadState::Idle => {
                    let queued =
                        if readiness.read_closed { ReadState::QueuedToEmpty } else { ReadState::Queued };
                    self.set_reading(index, queued);
                    self.enter_read_queue(index);
                }
                ReadState::Queued if readiness.read_closed => {
                    self.set_reading(index, ReadState::QueuedToEmpty);
                }
                // It will be read in any case, until it would block.
                ReadState::Queued
                | ReadState::QueuedToEmpty
                | ReadState::Backpressured
                | ReadState::AwaitingRoom
                | ReadState::Stalled
                | ReadState::AwaitingResponse
                | ReadState::Closed => {}
            }
        }
    }

    // Reading.

    /// Puts a connection in the queue, unless it is there: none is read twice in a turn.
    fn enter_read_queue(&mut self, index: u32) {
        let connection = &mut self.slab[index as usize];
        if connection.queues.enter(Queue::Read) {
            let id = connection.id(index);
            self.read_queue.push_back(id);
        }
    }

    /// Takes the next connection out of the queue of those to be read; at most `left` places of it are looked at.
    pub(in crate::server) fn next_to_read(&mut self, left: &mut usize) -> Option<u32> {
        while *left > 0 {
            *left -= 1;
            let id = self.read_queue.pop_front()?;
            if self.find(id).is_some() {
                self.slab[id.index as usize].queues.leave(Queue::Read);
                return Some(id.index);
            }
        }
        None
    }

    /// Queues a connection to be read, whether or not its socket has told so.
    pub(in crate::server) fn queue_read(&mut self, index: u32) {
        debug_assert!(!matches!(self.at(index).reading, ReadState::Queued | ReadState::QueuedToEmpty));
        self.set_reading(index, ReadState::QueuedToEmpty);
        self.enter_read_queue(index);
    }

    /// Reads a connection on in the next turn: it has had its share of this one.
    pub(in crate::server) fn read_on_later(&mut self, index: u32) {
        self.enter_read_queue(index);
    }

    /// A short read has emptied the socket: an event tells of the next bytes.
    pub(in crate::server) fn note_short_read(&mut self, index: u32) {
        if self.at(index).reading == ReadState::Queued {
            self.set_reading(index, ReadState::Idle);
        }
    }

    /// Reads a connection no further until it has taken what it was sent.
    pub(super) fn read_when_flushed(&mut self, index: u32) {
        self.set_reading(index, ReadState::Backpressured);
    }

    pub(super) fn read_when_there_is_room(&mut self, index: u32) {
        self.set_reading(index, ReadState::AwaitingRoom);
    }

    /// Reads a connection no further until [`Self::resume_stalled`].
    pub(in crate::server) fn stall(&mut self, index: u32) {
        self.set_reading(index, ReadState::Stalled);
        self.stalled.push(self.id(index));
    }

    /// Reads the connections on that were stalled.
    pub(in crate::server) fn resume_stalled(&mut self) {
        for id in std::mem::take(&mut self.stalled) {
            if self.find(id).is_some_and(|connection| connection.reading == ReadState::Stalled) {
                self.queue_read(id.index);
            }
        }
    }

    /// Reads a connection no further until its responses were sent.
    pub(in crate::server) fn await_response(&mut self, index: u32) {
        if self.at(index).reading != ReadState::Closed {
            self.set_reading(index, ReadState::AwaitingResponse);
        }
    }

    /// Reads a connection no more.
    pub(in crate::server) fn stop_reading(&mut self, index: u32) {
        self.set_reading(index, ReadState::Closed);
    }

    // What has arrived and is not finished.

    /// Takes out the unfinished input, or begins with none; `None` if input is thrown away.
    pub(in crate::server) fn take_inbox(&mut self, index: u32) -> Option<Inbox> {
        let connection = &mut self.slab[index as usize];
        let fresh = Decoder::of(connection.phase)?;
        let Some(inbox) = connection.inbox.take() else {
            return Some(Inbox { rest: Vec::new(), bytes: 0, decoder: fresh });
        };
        self.inboxes_bytes -= inbox.bytes;
        Some(*inbox)
    }

    /// Keeps what is unfinished. Fails, and gives back the bytes, if all together would hold more than `bytes_max`.
    pub(in crate::server) fn keep_inbox(
        &mut self,
        index: u32,
        mut inbox: Inbox,
        bytes_max: usize,
    ) -> Result<(), Vec<u8>> {
        let connection = &mut self.slab[index as usize];
        // Input after a last request will not be looked at.
        let is_over = connection.reading == ReadState::Closed || Decoder::of(connection.phase).is_none();
        if is_over || (inbox.rest.is_empty() && inbox.decoder.is_idle()) {
            return Ok(());
        }
        if inbox.rest.is_empty() {
            inbox.rest = Vec::new();
        }
        inbox.bytes = inbox.rest.capacity() + inbox.decoder.buffered_bytes();
        if inbox.bytes > INBOX_BYTES_FREE && self.inboxes_bytes + inbox.bytes > bytes_max {
            return Err(inbox.rest);
        }
        self.inboxes_bytes += inbox.bytes;
        connection.inbox = Some(Box::new(inbox));
        Ok(())
    }

    fn drop_inbox(&mut self, index: u32) {
        if let Some(inbox) = self.slab[index as usize].inbox.take() {
            self.inboxes_bytes -= inbox.bytes;
        }
    }

    // Writing.

    fn enter_flush_queue(&mut self, index: u32) {
        let connection = &mut self.slab[index as usize];
        if connection.queues.enter(Queue::Flush) {
            let id = connection.id(index);
            self.flush_queue.push_back(id);
        }
    }

    /// Takes the next connection out of the queue of those to be flushed; at most `left` places of it are looked at.
    pub(in crate::server) fn next_to_flush(&mut self, left: &mut usize) -> Option<u32> {
        while *left > 0 {
            *left -= 1;
            let id = self.flush_queue.pop_front()?;
            if self.find(id).is_some() {
                let connection = &mut self.slab[id.index as usize];
                connection.queues.leave(Queue::Flush);
                if connection.writing == WriteState::Queued {
                    return Some(id.index);
                }
            }
        }
        None
    }

    /// Queues a connection to be flushed in this turn or the next, unless it waits for something else.
    pub(in crate::server) fn queue_flush(&mut self, index: u32) {
        let connection = &mut self.slab[index as usize];
        if connection.writing == WriteState::Ready {
            connection.writing = WriteState::Queued;
            self.enter_flush_queue(index);
        }
    }

    /// Whether a connection can be sent messages now: its socket is not full, and nothing goes before them.
    pub(in crate::server) fn may_flush(&self, index: u32) -> bool {
        let connection = self.at(index);
        matches!(connection.writing, WriteState::Ready | WriteState::Queued) && connection.outbox.is_none()
    }

    /// A connection is flushed now.
    pub(in crate::server) fn begin_flush(&mut self, index: u32) {
        self.set_writing(index, WriteState::Ready);
    }

    /// Its socket is full.
    pub(in crate::server) fn block(&mut self, index: u32) {
        self.set_writing(index, WriteState::Blocked);
    }

    /// Sends a connection nothing of its channel until history was read for it.
    pub(in crate::server) fn await_history(&mut self, index: u32) {
        self.set_writing(index, WriteState::AwaitingHistory);
    }

    pub(super) fn write_when_there_is_room(&mut self, index: u32) {
        debug_assert_eq!(self.at(index).writing, WriteState::Ready);
        self.set_writing(index, WriteState::AwaitingRoom);
    }

    /// What a subscriber waited for is there; returns whether it did wait for history.
    pub(in crate::server) fn end_history(&mut self, id: Id) -> bool {
        let waits = self.find(id).is_some_and(|one| one.writing == WriteState::AwaitingHistory);
        if waits {
            self.set_writing(id.index, WriteState::Ready);
        }
        waits
    }

    pub(super) fn end_wait_for_room(&mut self, index: u32) {
        self.set_writing(index, WriteState::Ready);
    }

    // HTTP.

    /// A request has arrived whole. It sets the clock back for the next one.
    pub(in crate::server) fn begin_request(&mut self, index: u32) {
        if self.at(index).phase == Phase::Request {
            self.restart_deadline(index);
        } else {
            self.set_phase(index, Phase::Request);
        }
    }

    /// A connection between two requests has begun to send the next.
    pub(in crate::server) fn note_request(&mut self, index: u32) {
        if self.at(index).phase == Phase::KeepAlive {
            self.set_phase(index, Phase::Request);
        }
    }

    /// Everything that was asked is answered: the next request is waited for.
    pub(in crate::server) fn keep_alive(&mut self, index: u32) {
        if self.at(index).phase == Phase::Request {
            self.set_phase(index, Phase::KeepAlive);
        }
    }

    /// Another response has to be sent to a connection, after which it is read on if `keep_alive`.
    pub(in crate::server) fn expect_response(&mut self, index: u32, keep_alive: bool) -> Id {
        self.slab[index as usize].pending += 1;
        if !keep_alive {
            self.stop_reading(index);
        }
        self.id(index)
    }

    /// A response that was awaited is on its way. Returns whether it was the last one;
    /// then those that were deferred follow.
    pub(in crate::server) fn note_response(&mut self, index: u32) -> bool {
        let connection = &mut self.slab[index as usize];
        connection.pending -= 1;
        if connection.pending > 0 {
            return false;
        }
        let id = connection.id(index);
        if let Some(deferred) = self.deferred.remove(&id) {
            self.unsent.change(&mut self.slab, index, self.now, |outbox| outbox.push(&deferred));
        }
        true
    }

    /// Responses that wait for those that are awaited, to be added to.
    pub(in crate::server) fn deferred(&mut self, index: u32) -> &mut Vec<u8> {
        self.deferred.entry(self.id(index)).or_default()
    }

    /// Reads a connection on that has waited for its responses.
    pub(in crate::server) fn end_wait_for_responses(&mut self, index: u32) {
        if self.at(index).reading == ReadState::AwaitingResponse {
            self.queue_read(index);
        }
    }

    // WebSocket.

    /// A connection is a WebSocket from now on.
    pub(in crate::server) fn open(&mut self, index: u32, protocol: Protocol, encoding: Encoding) {
        let replay = if protocol == Protocol::V1 { Replay::Running } else { Replay::Done };
        self.set_phase(index, Phase::Open(protocol, replay));
        let connection = &mut self.slab[index as usize];
        connection.heard = self.now;
        connection.encoding = encoding;
    }

    /// A connection is a member of a channel from now on.
    pub(in crate::server) fn subscribe(&mut self, index: u32, (channel, slot): (u32, u32), cursor: u64) {
        debug_assert_eq!(self.at(index).channel(), None);
        self.subscribers[self.at(index).encoding as usize] += 1;
        // The answers to what it asked before it was upgraded may have filled its socket.
        self.update(index, |connection| connection.subscription = Subscription { cursor, channel, slot });
    }

    /// A connection has that set of subscriptions from now on.
    pub(in crate::server) fn begin_set(&mut self, index: u32, set: u32) {
        self.subscribers[self.at(index).encoding as usize] += 1;
        self.streams += 1;
        self.slab[index as usize].subscription.slot = set;
    }

    /// A connection has no set of subscriptions any more. Returns it.
    pub(in crate::server) fn end_set(&mut self, index: u32) -> Option<u32> {
        let set = self.at(index).set()?;
        self.streams -= 1;
        self.subscribers[self.at(index).encoding as usize] -= 1;
        let connection = &mut self.slab[index as usize];
        connection.subscription = Subscription::NONE;
        if connection.writing == WriteState::AwaitingRoom {
            self.set_writing(index, WriteState::Ready);
        }
        Some(set)
    }

    /// A connection is no longer a member of its channel. Returns the channel and the place in it that it had.
    pub(in crate::server) fn unsubscribe(&mut self, index: u32) -> Option<(u32, u32)> {
        self.at(index).channel()?;
        self.subscribers[self.at(index).encoding as usize] -= 1;
        self.update(index, |connection| {
            let Subscription { channel, slot, cursor } = connection.subscription;
            connection.subscription = Subscription { cursor, ..Subscription::NONE };
            if matches!(connection.writing, WriteState::AwaitingHistory | WriteState::AwaitingRoom) {
                // The page is not for it any more; messages for it alone do not wait.
                connection.writing = WriteState::Ready;
            }
            Some((channel, slot))
        })
    }

    /// A member has another place in its channel.
    pub(in crate::server) fn set_slot(&mut self, index: u32, slot: u32) {
        self.slab[index as usize].subscription.slot = slot;
    }

    /// A subscriber was sent everything of its channel up to `id`.
    pub(in crate::server) fn set_cursor(&mut self, index: u32, id: u64) {
        self.slab[index as usize].subscription.cursor = id;
    }

    /// A subscriber of `polecat.v1` is told that messages are live from now on.
    pub(in crate::server) fn go_live(&mut self, index: u32) {
        let connection = &mut self.slab[index as usize];
        if let Phase::Open(_, replay) = &mut connection.phase {
            *replay = Replay::Done;
        }
    }

    // The end.

    /// Our Close is sent; the peer's is waited for.
    pub(in crate::server) fn begin_close(&mut self, index: u32) {
        debug_assert!(self.at(index).reading != ReadState::Closed);
        self.set_phase(index, Phase::Closing);
    }

    /// Ends a connection once everything was sent to it. It is a member of no channel.
    pub(in crate::server) fn close_after_flush(&mut self, index: u32, kind: CloseKind) {
        debug_assert_eq!(self.at(index).channel(), None);
        self.set_phase(index, Phase::Ending(kind));
        self.drop_inbox(index);
        self.stop_reading(index);
    }

    /// Ends a connection at once: nothing more is sent to it. It is a member of no channel.
    pub(in crate::server) fn abort(&mut self, index: u32) {
        debug_assert_eq!(self.at(index).channel(), None);
        self.set_phase(index, Phase::Dead);
        self.drop_inbox(index);
        self.stop_reading(index);
        self.unsent.cut(&mut self.slab, index, self.now, 0);
        if self.at(index).pending > 0 {
            self.deferred.remove(&self.id(index));
        }
        self.dead.push(index);
    }
}

impl<S: Socket> Connections<S> {
    /// Tells the peer that nothing more comes, and waits for its end. Fails with the reason to abort instead.
    pub(in crate::server) fn linger(&mut self, index: u32, kind: CloseKind) -> Result<(), CloseReason> {
        let socket = &mut self.slab[index as usize].socket;
        if socket.shutdown_write().is_err() {
            return Err(CloseReason::SocketError);
        }
        if self.admission.is_not_waited_for(index) {
            // What it has asked is taken out, for a socket closed over it resets the connection.
            let _ = socket.read(&mut [0; THROWN_AWAY_BYTES]);
            return Err(CloseReason::NotAdmitted);
        }
        self.set_phase(index, Phase::Lingering(kind));
        self.queue_read(index);
        Ok(())
    }
}
