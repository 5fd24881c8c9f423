//! One channel: its members and its log. The log is every member's outbox: a member has no queue, only a
//! cursor, the id of the last frame that it was sent.

use std::collections::VecDeque;

use crate::base::deadline::Link;
use crate::base::frame::Frame;

use super::entry::{Encoding, Entry, encode_front};
use super::member::Member;
use crate::store::engine::Stream;

/// A channel that has members. A channel without members is dropped.
#[derive(Debug)]
pub struct Channel {
    /// What its members subscribe to.
    pub(super) stream: Stream,
    /// Distinguishes this channel from others that had or will have its index.
    pub(super) serial: u64,
    /// Its members, packed. A member knows its own slot in this list.
    pub(super) members: Vec<u32>,
    /// How many of them are connections.
    pub(super) connections: usize,
    pub(super) log: Log,
    pub(super) sweep: Sweep,
    /// Two ids between which the channel has no message: the newest one when every member was last offered
    /// everything, and the next.
    pub(super) lull: (u64, u64),
    /// Members below this slot have yet to get the notice that is not in the log.
    pub(super) notice: usize,
    /// Its position among the channels whose logs hold frames.
    pub(super) idle: Link,
}

/// A member whose slot has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    pub member: Member,
    /// Its slot among the members.
    pub slot: u32,
}

impl Channel {
    /// A channel without members, which begins behind the id `newest`.
    pub(super) fn new(stream: Stream, serial: u64, newest: u64) -> Self {
        Self {
            stream,
            serial,
            members: Vec::new(),
            connections: 0,
            log: Log::new(newest),
            sweep: Sweep::Done,
            lull: (0, 0),
            notice: 0,
            idle: Link::default(),
        }
    }

    /// The id up to which a member with this `cursor` has been sent everything. Suppose that a member had
    /// everything before the first message that the sweep is about to offer. Then it has nothing to get until
    /// that message, however many ids other channels have used in between.
    pub fn reach(&self, cursor: u64) -> u64 {
        let (newest, next) = self.lull;
        if (newest..next).contains(&cursor) { next - 1 } else { cursor }
    }

    #[expect(clippy::cast_possible_truncation, reason = "members are connections, which are counted in u32")]
    pub fn join(&mut self, member: Member) -> u32 {
        // A running sweep goes downwards, so the new member counts as swept: it gets its frames from its own
        // flush, not from the sweep.
        if self.members.len() == self.members.capacity() {
            // A little at a time, since that of a doubling is too much for very many channels.
            self.members.reserve_exact(self.members.len() / 16 + 4);
        }
        self.members.push(member.pack());
        self.connections += usize::from(matches!(member, Member::Connection(_)));
        (self.members.len() - 1) as u32
    }

    /// Removes the member at `slot` and returns the members that were moved, each with its new slot.
    ///
    /// If the member has yet to get the notice, the last member of those takes its slot, and the last member
    /// of all takes the slot of that one. So a member that has got the notice, or joined later, never comes
    /// among those that have yet to get it.
    ///
    /// A running sweep goes downwards, and members move downwards. A moved member comes from the part that
    /// was swept already, so it is swept twice, which does nothing. Or, if the sweep has yet to begin, it
    /// stays within the part that is still to come. So no member ever moves past the sweep unseen.
    #[expect(clippy::cast_possible_truncation, reason = "members are connections, which are counted in u32")]
    pub fn leave(&mut self, slot: u32) -> [Option<Moved>; 2] {
        let slot = slot as usize;
        let mut hole = slot;
        if slot < self.notice {
            self.notice -= 1;
            hole = self.notice;
            self.members.swap(slot, hole);
        }
        let left = Member::unpack(self.members.swap_remove(hole));
        self.connections -= usize::from(matches!(left, Member::Connection(_)));
        if let Sweep::Running { next, .. } = &mut self.sweep {
            *next = (*next).min(self.members.len());
        }
        if self.members.capacity() > 16 && self.members.len() * 4 < self.members.capacity() {
            self.members.shrink_to(self.members.len() * 2);
        }
        let moved = |slot: usize| {
            let packed = self.members.get(slot).copied();
            packed.map(|packed| Moved { member: Member::unpack(packed), slot: slot as u32 })
        };
        [moved(hole), if hole == slot { None } else { moved(slot) }]
    }
}

/// The state of offering a channel's newest frames to all its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sweep {
    /// Every member was offered everything.
    Done,
    /// About to begin.
    Due,
    /// Members at `next` and above were offered everything that the log held when the sweep began; the sweep
    /// goes downwards. If `again` is set, the log has grown since.
    Running {
        /// One above the next member.
        next: usize,
        /// Whether another sweep has to follow.
        again: bool,
    },
}

/// The newest messages of a channel, in the order of their ids: all of its messages
/// with an id above `floor`.
#[derive(Debug)]
pub struct Log {
    entries: VecDeque<Entry>,
    bytes: usize,
    floor: u64,
}

/// What a log holds beyond a cursor.
#[derive(Debug)]
pub enum Run<'a> {
    /// Nothing: the cursor is at the end.
    End,
    /// The last ones of the log, at least one.
    Entries(std::collections::vec_deque::Iter<'a, Entry>),
    /// The cursor has fallen off the front of the log: the store has to be queried.
    Behind,
}

impl Log {
    /// An empty log. Messages with an id up to `floor` are only in the store.
    pub const fn new(floor: u64) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, floor }
    }

    /// Bytes of its frames, in all encodings.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The id of the newest message, or an id above it up to which there are no messages.
    pub fn newest(&self) -> u64 {
        self.entries.back().map_or(self.floor, |newest| newest.id)
    }

    /// Appends a message, whose id is above all ids so far.
    pub fn push(&mut self, id: u64, plain: Frame) {
        debug_assert!(id > self.newest());
        self.bytes += plain.len();
        self.entries.push_back(Entry::new(id, plain));
    }

    /// Evicts the oldest message and returns its size; 0 if there is none.
    pub fn pop(&mut self) -> usize {
        let Some(entry) = self.entries.pop_front() else { return 0 };
        self.floor = entry.id;
        let bytes = entry.bytes();
        self.bytes -= bytes;
        bytes
    }

    /// Evicts all messages, frees their memory, and returns their size.
    pub fn clear(&mut self) -> usize {
        if let Some(newest) = self.entries.back() {
            self.floor = newest.id;
        }
        self.entries = VecDeque::new();
        std::mem::take(&mut self.bytes)
    }

    /// Encodes the next messages for a member with this `cursor`, unless they are encoded already; see
    /// [`encode_front`]. Returns the bytes that this costs.
    pub fn encode(
        &mut self,
        cursor: u64,
        encoding: Encoding,
        bounds: (usize, usize),
        make: &mut impl FnMut(u64, &Frame) -> Option<Frame>,
    ) -> usize {
        if cursor < self.floor {
            return 0;
        }
        let from = self.first_after(cursor);
        let price = encode_front(self.entries.range_mut(from..), encoding, bounds, make);
        self.bytes += price;
        price
    }

    /// The place of the first message above `cursor`.
    #[inline]
    fn first_after(&self, cursor: u64) -> usize {
        // A member that keeps up has yet to be sent only the newest message.
        match self.entries.len() {
            from @ 1.. if self.entries[from - 1].id <= cursor => from,
            len @ 2.. if self.entries[len - 2].id > cursor => {
                self.entries.partition_point(|entry| entry.id <= cursor)
            }
            len => len.saturating_sub(1),
        }
    }

    /// Checks that the counted bytes are those that the log holds, and that its ids rise above its floor.
    ///
    /// # Panics
    /// If an invariant does not hold.
    pub fn check_invariants(&self) {
        assert_eq!(self.bytes, self.entries.iter().map(Entry::bytes).sum::<usize>(), "bytes of a log");
        assert!(self.entries.iter().map(|entry| entry.id).is_sorted(), "ids rise along a log");
        assert!(self.entries.front().is_none_or(|oldest| oldest.id > self.floor), "no id is below the floor");
    }

    /// What a member with this `cursor` has yet to be sent.
    #[inline]
    pub fn after(&self, cursor: u64) -> Run<'_> {
        if cursor < self.floor {
            return Run::Behind;
        }
        let from = self.first_after(cursor);
        if from == self.entries.len() { Run::End } else { Run::Entries(self.entries.range(from..)) }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    fn frame(text: &str) -> Frame {
        Rc::from(text.as_bytes())
    }

    fn run(log: &Log, cursor: u64) -> Option<Vec<u64>> {
        match log.after(cursor) {
            Run::End => Some(Vec::new()),
            Run::Entries(entries) => Some(entries.map(|entry| entry.id).collect()),
            Run::Behind => None,
        }
    }

    #[test]
    fn a_cursor_moves_along_a_log_or_has_fallen_off_it() {
        let mut log = Log::new(10);
        assert_eq!(run(&log, 10), Some(vec![]));
        assert_eq!(run(&log, 9), None);
        for id in [12, 15, 19] {
            log.push(id, frame("abc"));
        }
        assert_eq!(run(&log, 10), Some(vec![12, 15, 19]));
        assert_eq!(run(&log, 15), Some(vec![19]));
        assert_eq!(run(&log, 17), Some(vec![19]));
        assert_eq!(run(&log, 19), Some(vec![]));
        assert_eq!(log.pop(), 3);
        assert_eq!(run(&log, 11), None);
        assert_eq!(run(&log, 12), Some(vec![15, 19]));
        assert_eq!(log.clear(), 6);
        assert_eq!(run(&log, 15), None);
        assert_eq!(run(&log, 19), Some(vec![]));
    }

    #[test]
    fn a_log_counts_every_encoding_and_forgets_it_with_its_message() {
        let mut log = Log::new(0);
        for id in 1..=3 {
            log.push(id, frame("abcd"));
        }
        let mut short = |_, plain: &Frame| Some(Frame::from(&plain[..1]));
        assert_eq!(log.encode(1, Encoding::Deflate, (9, 99), &mut short), 2);
        assert_eq!(log.encode(0, Encoding::Deflate, (9, 99), &mut short), 1);
        assert_eq!(log.encode(3, Encoding::Deflate, (9, 99), &mut short), 0);
        assert_eq!(log.bytes(), 15);
        log.check_invariants();
        assert_eq!(log.pop(), 5);
        assert_eq!(log.encode(0, Encoding::DeflateSmall, (9, 99), &mut short), 0, "it is behind");
        log.check_invariants();
        assert_eq!(log.clear(), 10);
    }

    fn channel(members: u32) -> Channel {
        let mut channel = Channel::new(Stream::Events, 0, 0);
        (channel.members, channel.connections) = ((0..members).collect(), members as usize);
        channel
    }

    #[test]
    fn a_member_that_has_all_reaches_to_the_next_message() {
        let mut channel = channel(1);
        assert_eq!([0, 5].map(|cursor| channel.reach(cursor)), [0, 5], "nothing is known yet");
        channel.lull = (10, 20);
        assert_eq!([9, 10, 15, 19, 20, 25].map(|cursor| channel.reach(cursor)), [9, 19, 19, 19, 20, 25]);
    }

    /// Whichever members leave, and whenever, each member that was there and stays gets the notice once,
    /// later ones do not, and every member knows its slot.
    #[test]
    fn nobody_is_told_twice_while_others_leave() {
        for members in 1..7_u32 {
            for (leave_at, leaver) in (0..=members).flat_map(|at| (0..members).map(move |who| (at, who))) {
                let mut channel = channel(members);
                channel.notice = channel.members.len();
                let mut slots: Vec<u32> = (0..=members).collect();
                let mut told = Vec::new();
                for step in 0..=members {
                    if step == leave_at {
                        channel.join(Member::Connection(members));
                        for moved in channel.leave(slots[leaver as usize]).into_iter().flatten() {
                            slots[moved.member.pack() as usize] = moved.slot;
                        }
                    }
                    if let Some(next) = channel.notice.checked_sub(1) {
                        channel.notice = next;
                        told.push(channel.members[next]);
                    }
                }
                told.retain(|member| *member != leaver);
                told.sort_unstable();
                let stay: Vec<u32> = (0..members).filter(|member| *member != leaver).collect();
                assert_eq!(told, stay, "{members} {leave_at} {leaver}");
                for (slot, member) in channel.members.iter().enumerate() {
                    assert_eq!(slots[*member as usize] as usize, slot, "{members} {leave_at} {leaver}");
                }
            }
        }
    }

    /// Whichever members leave, and whenever, a sweep meets every member that stays.
    #[test]
    fn no_member_is_missed_by_a_sweep_from_which_others_leave() {
        for members in 1..7 {
            for (leave_at, notice) in
                (0..=members).flat_map(|at| (0..=members).map(move |notice| (at, notice)))
            {
                for leaver in 0..members {
                    let mut channel = channel(members);
                    channel.notice = notice as usize;
                    let mut met = Vec::new();
                    channel.sweep = Sweep::Running { next: members as usize, again: false };
                    for step in 0..=members {
                        if step == leave_at {
                            let slot = channel.members.iter().position(|member| *member == leaver);
                            channel.leave(u32::try_from(slot.unwrap_or_default()).unwrap_or_default());
                        }
                        let Sweep::Running { next, .. } = &mut channel.sweep else { break };
                        if *next > 0 {
                            *next -= 1;
                            met.push(channel.members[*next]);
                        }
                    }
                    for member in (0..members).filter(|member| *member != leaver) {
                        assert!(met.contains(&member), "{members} {leave_at} {leaver} {member}");
                    }
                }
            }
        }
    }
}
