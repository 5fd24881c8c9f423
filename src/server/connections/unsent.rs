//! What all connections have yet to be sent: outboxes are changed and counted here and nowhere else. There are two
//! pools, so that neither uses up the other's room: one for answers, and one for the rests of large messages that were
//! sent in part. Each knows the connections that hold some of it, and those that wait for it.

use std::collections::VecDeque;

use slab::Slab;

use crate::base::deadline::{Fifo, Link, Links};
use crate::base::frame::{Frame, Outbox, SMALL_BYTES};
use crate::base::id::Id;
use crate::base::map::Map;
use crate::base::time::Stamp;
use crate::wire::websocket::codec::{self, Sender};

use super::connection::{Connection, Phase, ReadState, WriteState};

/// Bytes that the outbox of each connection may hold whatever the others do: for Pongs, acks, errors
/// and other small answers.
pub(in crate::server) const OWN_BYTES: usize = SMALL_BYTES;

pub(super) const POOLS: [Pool; 2] = [Pool::Answers, Pool::Frames];

/// Ids of connections that no longer wait are dropped from the queue once there are this many beside those of
/// connections.
const STALE_MAX: usize = 64;

/// What the room is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pool {
    /// What connections hold beyond [`OWN_BYTES`] of each, but for large frames: a connection that waits for it is not
    /// read.
    Answers,
    /// Large frames, each once: a connection that waits for it is not sent history.
    Frames,
}

/// The counts of what outboxes hold.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    bytes_max: usize,
    /// Bytes of memory of all outboxes, large frames left out.
    held_bytes: usize,
    pools: [Counts; 2],
    /// How many outboxes hold each large frame, by its address; looked up only.
    frames: Map<usize, u32>,
}

/// What is known of a pool.
#[derive(Debug, Default)]
struct Counts {
    bytes: usize,
    /// Connections that hold some of it; in front the one that has taken nothing for the longest time. One that
    /// holds some of both is with answers.
    holders: Fifo,
    /// Connections that wait for room; in front the one that waits longest.
    waiting: VecDeque<Id>,
}

/// What one outbox holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Share {
    held_bytes: usize,
    counted_bytes: usize,
    holds: Option<Pool>,
}

impl Share {
    const fn of(outbox: &Outbox) -> Self {
        let held_bytes = outbox.held_bytes();
        let counted_bytes = held_bytes.saturating_sub(OWN_BYTES);
        let holds = if counted_bytes > 0 {
            Some(Pool::Answers)
        } else if outbox.has_large_frames() {
            Some(Pool::Frames)
        } else {
            None
        };
        Self { held_bytes, counted_bytes, holds }
    }
}

/// The outboxes, as things that wait in a FIFO. Only one that is there is in it.
struct Outboxes<'a, S>(&'a mut Slab<Connection<S>>);

impl<S> Links for Outboxes<'_, S> {
    fn link(&mut self, index: u32) -> &mut Link {
        &mut self.0[index as usize].outbox.get_or_insert_default().link
    }
}

impl Unsent {
    /// Nothing is held; `bytes_max` is what the two pools may hold together.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    /// Bytes that a pool may hold.
    pub(super) const fn bytes_max(&self, pool: Pool) -> usize {
        match pool {
            Pool::Answers => self.bytes_max - self.bytes_max / 4,
            Pool::Frames => self.bytes_max / 4,
        }
    }

    /// Bytes of memory of all outboxes.
    pub(super) const fn held_bytes(&self) -> usize {
        self.held_bytes + self.bytes(Pool::Frames)
    }

    /// Bytes of a pool that are taken.
    pub(super) const fn bytes(&self, pool: Pool) -> usize {
        self.pools[pool as usize].bytes
    }

    /// Lets `change` change the outbox of a connection, which is made if there is none and
    /// dropped if it is empty, and brings the counts in line with it.
    pub(super) fn change<S, R>(
        &mut self,
        connections: &mut Slab<Connection<S>>,
        index: u32,
        now: Stamp,
        change: impl FnOnce(&mut Outbox) -> R,
    ) -> R {
        let outbox = connections[index as usize].outbox.get_or_insert_default();
        let before = Share::of(outbox);
        let result = change(outbox);
        let after = Share::of(outbox);
        let is_empty = outbox.is_empty();
        self.held_bytes = self.held_bytes + after.held_bytes - before.held_bytes;
        let answers = &mut self.pools[Pool::Answers as usize];
        answers.bytes = answers.bytes + after.counted_bytes - before.counted_bytes;
        if before.holds != after.holds {
            if let Some(pool) = before.holds {
                self.pools[pool as usize].holders.remove(&mut Outboxes(connections), index);
            }
            if let Some(pool) = after.holds {
                self.pools[pool as usize].holders.push(&mut Outboxes(connections), index, now);
            }
        }
        if is_empty {
            connections[index as usize].outbox = None;
        }
        result
    }

    /// The rest of what was sent in part goes into an outbox, which is empty: all but the first `sent`
    /// of `bytes`.
    pub(super) fn push_rest<S>(
        &mut self,
        connections: &mut Slab<Connection<S>>,
        index: u32,
        now: Stamp,
        (bytes, sent): (&[u8], usize),
    ) {
        if sent < bytes.len() {
            self.change(connections, index, now, |outbox| {
                outbox.begun_bytes = begun_bytes(bytes, 0, sent);
                outbox.push(&bytes[sent..]);
            });
        }
    }

    /// The same for a frame, without a copy.
    pub(super) fn push_shared_rest<S>(
        &mut self,
        connections: &mut Slab<Connection<S>>,
        index: u32,
        now: Stamp,
        (frame, sent): (Frame, usize),
    ) {
        if sent < frame.len() {
            self.take_frame(&frame);
            self.change(connections, index, now, |outbox| {
                outbox.begun_bytes = frame.len() - sent;
                outbox.push_shared(frame, sent);
            });
        }
    }

    /// A whole frame goes behind all that is in an outbox, without a copy.
    pub(super) fn push_shared<S>(
        &mut self,
        connections: &mut Slab<Connection<S>>,
        index: u32,
        now: Stamp,
        frame: Frame,
    ) {
        self.take_frame(&frame);
        self.change(connections, index, now, |outbox| outbox.push_shared(frame, 0));
    }

    /// Takes out of an outbox what its socket has taken.
    pub(super) fn consume<S>(
        &mut self,
        connections: &mut Slab<Connection<S>>,
        index: u32,
        now: Stamp,
        sent: usize,
    ) {
        let frame = self.change(connections, index, now, |outbox| {
            outbox.begun_bytes = begun_bytes(outbox.front(), outbox.begun_bytes, sent);
            outbox.consume(sent)
        });
        if let Some(frame) = frame {
            self.give_back(&frame);
        }
        self.touch(connections, index, now);
    }

    /// Drops all but the first `kept` bytes of an outbox.
    pub(super) fn cut<S>(
        &mut self,
        connections: &mut Slab<Connection<S>>,
        index: u32,
        now: Stamp,
        kept: usize,
    ) {
        if connections[index as usize].outbox.is_some() {
            for frame in self.change(connections, index, now, |outbox| outbox.truncate(kept)) {
                self.give_back(&frame);
            }
        }
    }

    fn take_frame(&mut self, frame: &Frame) {
        if frame.len() <= SMALL_BYTES {
            return;
        }
        let count = self.frames.entry(frame.as_ptr().addr()).or_default();
        *count += 1;
        if *count == 1 {
            self.pools[Pool::Frames as usize].bytes += frame.len();
        }
    }

    fn give_back(&mut self, frame: &Frame) {
        let address = frame.as_ptr().addr();
        let Some(count) = self.frames.get_mut(&address) else { return };
        *count -= 1;
        if *count == 0 {
            self.frames.remove(&address);
            self.pools[Pool::Frames as usize].bytes -= frame.len();
        }
    }

    /// The connection, if it holds some of a pool, has its whole time again.
    pub(super) fn touch<S>(&mut self, connections: &mut Slab<Connection<S>>, index: u32, now: Stamp) {
        let outbox = connections[index as usize].outbox.as_ref();
        if let Some(pool) = outbox.and_then(|outbox| Share::of(outbox).holds) {
            self.pools[pool as usize].holders.touch(&mut Outboxes(connections), index, now);
        }
    }

    /// How many large frames there are.
    pub(super) fn frames(&self) -> usize {
        self.frames.len()
    }

    /// The connection that holds some of a pool and has taken nothing for the longest time, and since when.
    pub(super) fn first_holder<S>(
        &self,
        connections: &mut Slab<Connection<S>>,
        pool: Pool,
    ) -> Option<(u32, Stamp)> {
        let outboxes = &mut Outboxes(connections);
        let first = self.pools[pool as usize].holders.front(outboxes);
        // Those that hold frames and more are with answers.
        first.or_else(|| self.pools[Pool::Answers as usize].holders.front(outboxes))
    }

    /// Puts a connection behind all others that wait for room.
    pub(super) fn wait<S>(&mut self, connections: &Slab<Connection<S>>, pool: Pool, id: Id) {
        let waiting = &mut self.pools[pool as usize].waiting;
        if waiting.len() >= connections.len() + STALE_MAX {
            waiting.retain(|id| is_waiting(connections, pool, *id));
        }
        waiting.push_back(id);
    }

    /// How many connections wait for room, or have waited.
    pub(super) fn waiting(&self, pool: Pool) -> usize {
        self.pools[pool as usize].waiting.len()
    }

    /// How many connections hold some of a pool.
    pub(super) const fn holders(&self, pool: Pool) -> usize {
        self.pools[pool as usize].holders.len() as usize
    }

    /// Takes out the connection that waits longest.
    pub(super) fn next_waiting<S>(&mut self, connections: &Slab<Connection<S>>, pool: Pool) -> Option<u32> {
        while let Some(id) = self.pools[pool as usize].waiting.pop_front() {
            if is_waiting(connections, pool, id) {
                return Some(id.index);
            }
        }
        None
    }

    /// Gives back what is of no use if no connection is left.
    pub(super) fn shrink(&mut self) {
        self.pools.iter_mut().for_each(|pool| pool.waiting = VecDeque::new());
        self.frames.shrink_to_fit();
    }

    /// Whether nothing is held.
    pub(super) fn is_quiet(&self) -> bool {
        let is_empty = |pool: &Counts| pool.bytes == 0 && pool.holders.is_empty();
        self.held_bytes == 0 && self.frames.is_empty() && self.pools.iter().all(is_empty)
    }

    /// Checks that everything is counted.
    ///
    /// # Panics
    ///
    /// If something does not hold.
    pub(super) fn check_invariants<S>(&self, connections: &Slab<Connection<S>>) {
        let (mut held, mut counted, mut shared, mut holders) = (0, 0, 0, [0; 2]);
        let mut frames: Map<usize, u32> = Map::default();
        for (index, connection) in connections {
            let id = connection.id(u32::try_from(index).unwrap_or(u32::MAX));
            for pool in POOLS {
                let is_queued = self.pools[pool as usize].waiting.contains(&id);
                assert!(
                    is_queued || !is_waiting(connections, pool, id),
                    "who waits for room is in the queue"
                );
            }
            let Some(outbox) = &connection.outbox else { continue };
            assert!(!outbox.is_empty(), "no empty outbox is kept");
            let share = Share::of(outbox);
            held += share.held_bytes;
            counted += share.counted_bytes;
            share.holds.into_iter().for_each(|pool| holders[pool as usize] += 1);
            for frame in outbox.large_frames() {
                let count = frames.entry(frame.as_ptr().addr()).or_default();
                *count += 1;
                shared += if *count == 1 { frame.len() } else { 0 };
            }
        }
        let pools = POOLS.map(|pool| self.bytes(pool));
        assert_eq!((held, [counted, shared]), (self.held_bytes, pools), "what outboxes hold");
        let listed = POOLS.map(|pool| self.pools[pool as usize].holders.len());
        assert_eq!(holders, listed, "connections that hold much are listed");
        assert_eq!(frames, self.frames, "large frames are counted");
    }
}

/// Whether what a connection was sent is out of the way: it is gone, or has taken all but what it may hold
/// in any case.
pub(super) fn is_out_of_the_way<S>(connections: &Slab<Connection<S>>, id: Id) -> bool {
    let outbox = find(connections, id).and_then(|connection| connection.outbox.as_ref());
    outbox.is_none_or(|outbox| Share::of(outbox).holds.is_none())
}

fn find<S>(connections: &Slab<Connection<S>>, id: Id) -> Option<&Connection<S>> {
    let connection = connections.get(id.index as usize);
    connection.filter(|one| one.generation == id.generation && one.phase != Phase::Dead)
}

fn is_waiting<S>(connections: &Slab<Connection<S>>, pool: Pool, id: Id) -> bool {
    find(connections, id).is_some_and(|connection| match pool {
        Pool::Answers => connection.reading == ReadState::AwaitingRoom,
        Pool::Frames => connection.writing == WriteState::AwaitingRoom,
    })
}

/// How many bytes end a frame of which a part was sent, once the first `sent` of `bytes` are; `begun` is
/// the same for before that. More than there are if that is not known, since something else than frames was
/// before them.
fn begun_bytes(bytes: &[u8], begun: usize, sent: usize) -> usize {
    let mut end = begun;
    while end < sent {
        let head = codec::parse_head(&bytes[end..], Sender::Server, true).ok().flatten();
        let payload_bytes = head.map_or(u64::MAX, |head| head.payload_bytes);
        end = match (head, usize::try_from(payload_bytes)) {
            (Some(head), Ok(payload_bytes)) => end.saturating_add(head.head_bytes + payload_bytes),
            _ => return usize::MAX,
        };
    }
    end - sent
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::websocket::codec::OpCode;

    #[test]
    fn the_end_of_a_frame_is_known_wherever_it_was_cut() {
        let mut bytes = Vec::new();
        let mut ends = vec![0];
        for len in [0, 5, 125, 126, 70_000, 1] {
            codec::write_frame(OpCode::Binary, &vec![7; len], &mut bytes);
            ends.push(bytes.len());
        }
        for first in [1, 2, 3, 100, 300, 70_300] {
            let (mut begun, mut at) = (0, 0);
            while at < bytes.len() {
                let sent = first.min(bytes.len() - at);
                begun = begun_bytes(&bytes[at..], begun, sent);
                at += sent;
                let end = ends.iter().find(|end| **end >= at).copied();
                assert_eq!(end, Some(at + begun), "after {at}");
            }
        }
        assert!(begun_bytes(b"HTTP/1.1 101 Switching Protocols\r\n", 0, 3) > 1 << 40);
        assert_eq!(begun_bytes(b"HTTP", 0, 0), 0);
    }
}
