//! Room for what is unsent. All connections together may hold `outboxes_bytes_max`, beside [`OWN_BYTES`] of
//! each: three quarters for answers, one quarter for the rests of large messages. Without room, a connection that would
//! add to it waits: it is not read, or not sent history. While any waits, one that holds some of it and
//! takes nothing is closed. Broadcasts do not wait for room: if their rests are too much, the connection that has
//! taken nothing for the longest time is closed.
//!
//! Room for the answer to a publisher is promised when its message is read, and counts as taken: `promised_bytes`.

use crate::base::config::Limits;
use crate::base::frame::{Frame, SMALL_BYTES};
use crate::base::id::Id;

use super::connection::{Connection, Phase};
use super::owner::Connections;
use super::unsent::{OWN_BYTES, POOLS, Pool, is_out_of_the_way};

/// However many wait, one that takes something this often is not closed, in milliseconds.
const PATIENCE_MS_MIN: u32 = 1_000;

/// How a connection ends that holds room and takes nothing of what it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Eviction {
    /// All but the frame that is being sent was dropped; a Close goes behind it.
    Closed(u32),
    /// Nothing more can be sent to it.
    Aborted(u32),
    /// It is our doing that it takes nothing: it has its whole time again.
    Spared,
}

impl<S> Connections<S> {
    /// Whether there is room for another answer beside those that are promised.
    pub(in crate::server) const fn has_room(&self, promised_bytes: usize) -> bool {
        self.has_room_in(Pool::Answers, promised_bytes)
    }

    /// An empty pool always has room.
    const fn has_room_in(&self, pool: Pool, promised_bytes: usize) -> bool {
        let bytes = self.unsent.bytes(pool) + promised_bytes;
        bytes == 0 || bytes < self.unsent.bytes_max(pool)
    }

    /// Whether what the connection of that id was sent is out of the way: it is gone, or has taken all but what it may
    /// hold in any case.
    pub(in crate::server) fn is_out_of_the_way(&self, id: Id) -> bool {
        is_out_of_the_way(&self.slab, id)
    }

    /// How many bytes of what a connection sends may be worked on now: without room for the answers of all,
    /// as many as its answer may have.
    pub(in crate::server) fn input_bytes_max(
        &self,
        index: u32,
        buffered_bytes: usize,
        promised_bytes: usize,
    ) -> usize {
        let connection = self.at(index);
        if self.has_room(promised_bytes) || !has_large_answers(connection) {
            return usize::MAX;
        }
        // The size of a compressed message is not known before, nor that of the other answers.
        if connection.encoding.window().is_some() || connection.pending > 0 {
            return 0;
        }
        let held_bytes = connection.outbox.as_ref().map_or(0, |outbox| outbox.held_bytes());
        OWN_BYTES.saturating_sub(held_bytes + self.output.len() + buffered_bytes)
    }

    /// Reads a connection no further until there is room for its answers, or until it has got or taken those to what
    /// it asked before. Returns whether it is the limit of all that holds it up.
    pub(in crate::server) fn read_with_room(&mut self, index: u32) -> bool {
        let connection = self.at(index);
        if connection.pending > 0 {
            self.await_response(index);
            return false;
        }
        if connection.outbox.is_some() {
            self.read_when_flushed(index);
        } else {
            self.read_when_there_is_room(index);
            self.unsent.wait(&self.slab, Pool::Answers, self.id(index));
        }
        true
    }

    /// Whether the output of a connection and what it holds of its own are within `bytes_max`; if not, it is read
    /// no further until it has taken them.
    pub(in crate::server) fn check_backpressure(&mut self, index: u32, bytes_max: usize) -> bool {
        let is_within = self.at(index).private_bytes() < bytes_max;
        if !is_within {
            self.read_when_flushed(index);
        }
        is_within
    }

    /// Sends a connection nothing more that is in no log until there is room.
    pub(in crate::server) fn write_with_room(&mut self, index: u32) {
        self.write_when_there_is_room(index);
        self.unsent.wait(&self.slab, Pool::Frames, self.id(index));
    }

    /// Whether a message of history has to wait, since its rest might be more than there is room for.
    pub(in crate::server) fn is_too_large(&self, frame: &Frame) -> bool {
        frame.len() > SMALL_BYTES && !self.has_room_in(Pool::Frames, 0)
    }

    /// Whether a connection waits for room, or has waited.
    pub(in crate::server) fn waits_for_room(&self) -> bool {
        POOLS.into_iter().any(|pool| self.unsent.waiting(pool) > 0)
    }

    /// Lets as many go on as there is room for, whatever each of them adds.
    pub(in crate::server) fn offer_room(&mut self, promised_bytes: usize, limits: &Limits) {
        for pool in POOLS {
            let promised_bytes = if pool == Pool::Answers { promised_bytes } else { 0 };
            if self.unsent.waiting(pool) == 0 || !self.has_room_in(pool, promised_bytes) {
                continue;
            }
            let taken_bytes = self.unsent.bytes(pool) + promised_bytes;
            let room = self.unsent.bytes_max(pool).saturating_sub(taken_bytes);
            let message_bytes_max = limits.message_bytes_max.max(limits.body_bytes_max);
            for _ in 0..=room / limits.outbox_bytes_max.saturating_add(message_bytes_max) {
                let Some(index) = self.unsent.next_waiting(&self.slab, pool) else { break };
                match pool {
                    Pool::Answers => self.queue_read(index),
                    Pool::Frames => {
                        self.end_wait_for_room(index);
                        self.queue_flush(index);
                    }
                }
            }
        }
    }

    /// Decides about one connection that holds something, takes nothing of it, and makes others wait. `others_waiting`
    /// are the waiters for answers that are not connections. `None` if there is no such connection.
    pub(in crate::server) fn evict_holder(
        &mut self,
        others_waiting: usize,
        wait_ms: u32,
    ) -> Option<Eviction> {
        POOLS.into_iter().find_map(|pool| {
            let others_waiting = if pool == Pool::Answers { others_waiting } else { 0 };
            let patience_ms = self.patience_ms(pool, others_waiting, wait_ms)?;
            let (index, since) = self.unsent.first_holder(&mut self.slab, pool)?;
            if self.now.since(since) < patience_ms {
                return None;
            }
            let connection = self.at(index);
            Some(if connection.is_unwritten() {
                self.unsent.touch(&mut self.slab, index, self.now);
                Eviction::Spared
            } else if matches!(connection.phase, Phase::Open(..)) {
                self.cut_short(index, self.unsent.waiting(pool) > self.unsent.holders(pool))
            } else {
                Eviction::Aborted(index)
            })
        })
    }

    /// Milliseconds until [`Self::evict_holder`] has something to do.
    pub(in crate::server) fn holders_due_in_ms(
        &mut self,
        others_waiting: usize,
        wait_ms: u32,
    ) -> Option<u32> {
        let due_in_ms = POOLS.into_iter().filter_map(|pool| {
            let others_waiting = if pool == Pool::Answers { others_waiting } else { 0 };
            let patience_ms = self.patience_ms(pool, others_waiting, wait_ms)?;
            let (_, since) = self.unsent.first_holder(&mut self.slab, pool)?;
            Some(patience_ms.saturating_sub(self.now.since(since)))
        });
        due_in_ms.min()
    }

    /// How long one that holds some of a pool may take nothing: less if more wait than hold it, so that
    /// none waits for long behind a crowd that takes nothing. `None` if none waits.
    fn patience_ms(&self, pool: Pool, others_waiting: usize, wait_ms: u32) -> Option<u32> {
        let waiting = (self.unsent.waiting(pool) + others_waiting) as u64;
        let holders = self.unsent.holders(pool) as u64;
        let shared_ms = (u64::from(wait_ms) * holders).checked_div(waiting)?;
        Some(u32::try_from(shared_ms).unwrap_or(wait_ms).max(PATIENCE_MS_MIN).min(wait_ms))
    }

    /// Drops what a connection was to be sent behind the frame of which it has a part. In a
    /// crowd, and if that frame is large, all is dropped.
    fn cut_short(&mut self, index: u32, is_crowd: bool) -> Eviction {
        let outbox = self.at(index).outbox.as_ref();
        let (begun, len) = outbox.map_or((0, 0), |outbox| (outbox.begun_bytes, outbox.len()));
        if begun > len || (is_crowd && begun > OWN_BYTES) {
            return Eviction::Aborted(index);
        }
        self.unsent.cut(&mut self.slab, index, self.now, begun);
        Eviction::Closed(index)
    }

    /// A connection has its whole time again to take what it was sent.
    pub(in crate::server) fn give_time(&mut self, index: u32) {
        self.unsent.touch(&mut self.slab, index, self.now);
    }

    /// The connection in the middle of a large message that has taken nothing for the longest time, if what all of them
    /// hold is above its bound and one message.
    pub(in crate::server) fn holder_beyond_bound(&mut self, message_bytes_max: usize) -> Option<u32> {
        let bytes_max = self.unsent.bytes_max(Pool::Frames).saturating_add(message_bytes_max);
        if self.unsent.bytes(Pool::Frames) <= bytes_max || self.unsent.frames() <= 1 {
            return None;
        }
        self.unsent.first_holder(&mut self.slab, Pool::Frames).map(|(index, _)| index)
    }

    /// How much of the two pools is taken, in bytes.
    pub(in crate::server) fn unsent_bytes(&self) -> usize {
        POOLS.map(|pool| self.unsent.bytes(pool)).iter().sum()
    }
}

/// Whether a connection is answered with as much as it sends.
const fn has_large_answers<S>(connection: &Connection<S>) -> bool {
    connection.is_http() || connection.phase.is_echo() || connection.set().is_some()
}
