//! Room for what is unsent. All connections together may hold `outboxes_bytes_max`, beside [`OWN_BYTES`] of
//! each: three quarters for answers, one for the rests of large messages. Without room, a connection that would
//! add to it waits: it is not read, or not sent history. While any waits, one that holds some of it and
//! takes nothing is closed. Broadcasts wait for no room: where their rests are too much, the connection goes that has
//! taken nothing for the longest time.

use crate::base::frame::{Frame, SMALL_BYTES};
use crate::base::limit::Limit;
use crate::store::engine::Engine;
use crate::wire::websocket::codec::{self, CloseCode};

use super::connection::{Connection, Endpoint, Phase, Reading, Writing};
use super::metrics::CloseReason;
use super::server::Server;
use super::socket::Socket;
use super::unsent::{OWN_BYTES, POOLS, Pool};

/// However many wait, one that takes something so often is not closed.
const PATIENCE_MS_MIN: u32 = 1_000;

impl<S: Socket, E: Engine> Server<S, E> {
    /// Puts a copy of `bytes` behind all that waits to be sent to a connection.
    pub(super) fn push(&mut self, index: u32, bytes: &[u8]) {
        if !bytes.is_empty() {
            let now = self.moment.stamp;
            self.unsent.change(&mut self.connections, index, now, |outbox| outbox.push(bytes));
        }
    }

    /// Puts what is part of the binary behind all that waits to be sent to a connection.
    pub(super) fn push_static(&mut self, index: u32, bytes: &'static [u8]) {
        if !bytes.is_empty() {
            let now = self.moment.stamp;
            self.unsent.change(&mut self.connections, index, now, |outbox| outbox.push_static(bytes));
        }
    }

    /// Puts all but the first `sent` of `bytes` behind what waits to be sent: if they were offered to the
    /// socket, nothing does.
    pub(super) fn push_unsent(&mut self, index: u32, bytes: &[u8], sent: usize) {
        if sent == 0 {
            return self.push(index, bytes);
        }
        self.unsent.push_rest(&mut self.connections, index, self.moment.stamp, (bytes, sent));
    }

    /// Whether there is room for another answer.
    pub(super) const fn has_room(&self) -> bool {
        self.has_room_for(0)
    }

    /// The same beside answers of so many bytes, which are being made.
    pub(super) const fn has_room_for(&self, bytes: usize) -> bool {
        self.has_room_in(Pool::Answers, bytes)
    }

    /// An empty pool always has room.
    const fn has_room_in(&self, pool: Pool, more: usize) -> bool {
        let bytes = self.bytes_taken(pool) + more;
        bytes == 0 || bytes < self.bytes_max(pool)
    }

    /// What publishers are to be answered is taken when it is read.
    const fn bytes_taken(&self, pool: Pool) -> usize {
        let promised_bytes = match pool {
            Pool::Answers => self.engine_backlog_bytes,
            Pool::Frames => 0,
        };
        self.unsent.bytes(pool) + promised_bytes
    }

    const fn bytes_max(&self, pool: Pool) -> usize {
        let bytes_max = self.config.limits.outboxes_bytes_max;
        match pool {
            Pool::Answers => bytes_max - bytes_max / 4,
            Pool::Frames => bytes_max / 4,
        }
    }

    /// How many bytes of what a connection sends may be worked on now: without room for the answers of all,
    /// as many as its answer may have.
    pub(super) fn input_bytes_max(&self, index: u32, buffered_bytes: usize) -> usize {
        let connection = &self.connections[index as usize];
        if self.has_room() || !has_large_answers(connection) {
            return usize::MAX;
        }
        // What a compressed message comes to is not known before, nor what else is to be answered.
        if connection.encoding.window().is_some() || connection.pending > 0 {
            return 0;
        }
        let held_bytes = connection.outbox.as_ref().map_or(0, |outbox| outbox.held_bytes());
        OWN_BYTES.saturating_sub(held_bytes + self.scratch.len() + buffered_bytes)
    }

    /// Reads a connection no further until there is room for its answers, or until it has got or taken those to what
    /// it asked before.
    pub(super) fn read_with_room(&mut self, index: u32) {
        let connection = self.at(index);
        if connection.pending > 0 {
            self.wait(index);
        } else if connection.outbox.is_some() {
            connection.reading = Reading::Full;
            self.metrics.limits.count(Limit::UnsentBytes);
        } else {
            connection.reading = Reading::NoRoom;
            self.wait_for_room(index, Pool::Answers);
        }
    }

    /// Sends a connection nothing more that is in no log until there is room.
    pub(super) fn write_with_room(&mut self, index: u32) {
        debug_assert_eq!(self.at(index).writing, Writing::Ready);
        self.at(index).writing = Writing::NoRoom;
        self.lagging += 1;
        self.wait_for_room(index, Pool::Frames);
    }

    /// Whether a message of history has to wait, since its rest might be more than there is room for.
    pub(super) fn is_too_large(&self, frame: &Frame) -> bool {
        frame.len() > SMALL_BYTES && !self.has_room_in(Pool::Frames, 0)
    }

    fn wait_for_room(&mut self, index: u32, pool: Pool) {
        self.metrics.limits.count(Limit::UnsentBytes);
        let id = self.at(index).id(index);
        self.unsent.wait(&self.connections, pool, id);
    }

    /// Lets as many go on as there is room for, whatever each of them adds.
    pub(super) fn offer_room(&mut self) {
        for pool in POOLS {
            if self.unsent.waiting(pool) == 0 || !self.has_room_in(pool, 0) {
                continue;
            }
            let limits = &self.config.limits;
            let room = self.bytes_max(pool).saturating_sub(self.bytes_taken(pool));
            let message_bytes_max = limits.message_bytes_max.max(limits.body_bytes_max);
            for _ in 0..=room / limits.outbox_bytes_max.saturating_add(message_bytes_max) {
                let Some(index) = self.unsent.next_waiting(&self.connections, pool) else { break };
                match pool {
                    Pool::Answers => self.queue_read(index),
                    Pool::Frames => {
                        self.at(index).writing = Writing::Ready;
                        self.lagging -= 1;
                        self.queue_flush(index);
                    }
                }
            }
        }
    }

    /// Closes connections that hold something, take nothing of it, and have others wait.
    pub(super) fn expire_holders(&mut self, budget: &mut usize) {
        let now = self.moment.stamp;
        for pool in POOLS {
            while *budget > 0
                && let Some(patience_ms) = self.patience_ms(pool)
                && let Some((index, since)) = self.unsent.first_holder(&mut self.connections, pool)
                && now.since(since) >= patience_ms
            {
                *budget -= 1;
                let connection = self.at(index);
                if connection.is_unwritten() {
                    self.unsent.touch(&mut self.connections, index, now);
                } else if matches!(connection.phase, Phase::Open(_)) {
                    let is_crowd = self.unsent.waiting(pool) > self.unsent.holders(pool);
                    self.close_holder(index, is_crowd);
                } else {
                    self.die(index, CloseReason::Unsent);
                }
            }
        }
    }

    /// Milliseconds until [`Self::expire_holders`] has something to do.
    pub(super) fn holders_due_in_ms(&mut self) -> Option<u32> {
        let now = self.moment.stamp;
        let due_in_ms = POOLS.into_iter().filter_map(|pool| {
            let patience_ms = self.patience_ms(pool)?;
            let (_, since) = self.unsent.first_holder(&mut self.connections, pool)?;
            Some(patience_ms.saturating_sub(now.since(since)))
        });
        due_in_ms.min()
    }

    /// How long one that holds some of a pool may take nothing: less where more wait than hold it, so that
    /// nobody waits for long behind a crowd that takes nothing. `None` where nobody waits.
    fn patience_ms(&self, pool: Pool) -> Option<u32> {
        let waiting = self.waiting_for(pool) as u64;
        let holders = self.unsent.holders(pool) as u64;
        let wait_ms = self.config.timeouts.request_ms;
        let shared_ms = (u64::from(wait_ms) * holders).checked_div(waiting)?;
        Some(u32::try_from(shared_ms).unwrap_or(wait_ms).max(PATIENCE_MS_MIN).min(wait_ms))
    }

    /// How many wait for room in a pool.
    fn waiting_for(&self, pool: Pool) -> usize {
        let others = match pool {
            Pool::Answers if !self.has_room() => self.lists_due.len() + self.inspections.len(),
            Pool::Answers | Pool::Frames => 0,
        };
        self.unsent.waiting(pool) + others
    }

    /// Drops what a connection was to be sent behind the frame of which it has a part, and says why instead. In a
    /// crowd, and where that frame is large, all is dropped.
    fn close_holder(&mut self, index: u32, is_crowd: bool) {
        let outbox = self.connections[index as usize].outbox.as_ref();
        let (begun, len) = outbox.map_or((0, 0), |outbox| (outbox.begun_bytes, outbox.len()));
        if begun > len || (is_crowd && begun > OWN_BYTES) {
            return self.die(index, CloseReason::Unsent);
        }
        let now = self.moment.stamp;
        self.unsent.cut(&mut self.connections, index, now, begun);
        codec::write_close(Some(CloseCode::Again), "too much is unsent", &mut self.scratch);
        self.push_scratch(index);
        self.finish(index, CloseReason::Unsent);
        self.queue_flush(index);
        self.unsent.touch(&mut self.connections, index, now);
    }

    /// Drops connections in the midst of large messages, first those that have taken nothing for the longest time,
    /// until what they hold is within its bound and one message.
    pub(super) fn shed_holders(&mut self) {
        let bytes_max = self.bytes_max(Pool::Frames).saturating_add(self.config.limits.message_bytes_max);
        while self.unsent.bytes(Pool::Frames) > bytes_max
            && self.unsent.frames() > 1
            && let Some((index, _)) = self.unsent.first_holder(&mut self.connections, Pool::Frames)
        {
            self.die(index, CloseReason::Unsent);
        }
    }
}

/// Whether a connection is answered with as much as it sends.
const fn has_large_answers<S>(connection: &Connection<S>) -> bool {
    connection.is_http() || matches!(connection.phase, Phase::Open(Endpoint::Echo))
}
