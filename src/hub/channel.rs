//! One channel: its members, and its log. The log is everybody's outbox: a
//! member owns no queue, only a cursor, the id of the last frame that it was sent.

use std::collections::VecDeque;

use crate::base::deadline::Link;
use crate::base::frame::Frame;

use super::entry::{Encoding, Entry, encode_front};
use crate::store::engine::Stream;

/// A channel that has members. One without is dropped.
#[derive(Debug)]
pub struct Channel {
    /// What its members get.
    pub stream: Stream,
    /// Tells this channel from others that had or will have its place.
    pub serial: u64,
    /// Its members, as indices into the slab of connections. A member knows its
    /// own place in here.
    pub members: Vec<u32>,
    /// Its newest frames.
    pub log: Log,
    /// How far the newest frames have been offered to the members.
    pub sweep: Sweep,
    /// Two ids between which the channel has no message: the newest one when every member was last offered
    /// everything, and the next.
    pub lull: (u64, u64),
    /// Members below this place have yet to be told what is not in the log.
    pub notice: usize,
    /// Its place among the channels whose logs hold frames.
    pub idle: Link,
}

/// A member that has another place now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// The connection.
    pub connection: u32,
    /// Its place among the members.
    pub slot: u32,
}

impl Channel {
    /// The id up to which a member whose cursor is `cursor` has been sent everything. A member that had all before
    /// the first message that the sweep is to offer has nothing to get until that one, however many
    /// ids other channels have used meanwhile.
    pub fn reach(&self, cursor: u64) -> u64 {
        let (newest, next) = self.lull;
        if (newest..next).contains(&cursor) { next - 1 } else { cursor }
    }

    /// Adds a member and returns its place.
    #[expect(clippy::cast_possible_truncation, reason = "members are connections, which are counted in u32")]
    pub fn join(&mut self, connection: u32) -> u32 {
        // A running sweep goes downwards, so the new member counts as swept: its
        // own flush, not the sweep, gives it what it has to get.
        self.members.push(connection);
        (self.members.len() - 1) as u32
    }

    /// Takes the member at `slot` out and returns the members that were moved, each
    /// with its new place.
    ///
    /// Where it has yet to be told something, the last of those who have, too, takes
    /// its place, and the last member of all takes that one's: nobody who was told,
    /// or came later, gets among those who are told next.
    ///
    /// A running sweep goes downwards, and so does whoever moves: it comes from the
    /// part that was swept already (then it is swept twice, which does nothing) or,
    /// where the sweep has yet to begin, stays within the part that is to come. No
    /// member ever moves past the sweep unseen.
    #[expect(clippy::cast_possible_truncation, reason = "members are connections, which are counted in u32")]
    pub fn leave(&mut self, slot: u32) -> [Option<Moved>; 2] {
        let slot = slot as usize;
        let mut hole = slot;
        if slot < self.notice {
            self.notice -= 1;
            hole = self.notice;
            self.members.swap(slot, hole);
        }
        self.members.swap_remove(hole);
        if let Sweep::Running { next, .. } = &mut self.sweep {
            *next = (*next).min(self.members.len());
        }
        if self.members.capacity() > 16 && self.members.len() * 4 < self.members.capacity() {
            self.members.shrink_to(self.members.len() * 2);
        }
        let moved = |slot: usize| {
            let connection = self.members.get(slot).copied();
            connection.map(|connection| Moved { connection, slot: slot as u32 })
        };
        [moved(hole), if hole == slot { None } else { moved(slot) }]
    }
}

/// The state of offering a channel's newest frames to all its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sweep {
    /// Every member was offered everything.
    Done,
    /// To be begun.
    Due,
    /// Members at `next` and above were offered all that the log held when the
    /// sweep began; it goes downwards. With `again` set, the log has grown since.
    Running {
        /// One above the member that is next.
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
    /// The cursor has fallen off the front: the store has to be asked.
    Behind,
}

impl Log {
    /// An empty log; every message with an id up to `floor` is in the store only.
    pub const fn new(floor: u64) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, floor }
    }

    /// Bytes of its frames, in all encodings.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many messages it holds.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it holds no message.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The id of the newest message, or one above it up to which there is none.
    pub fn newest(&self) -> u64 {
        self.entries.back().map_or(self.floor, |newest| newest.id)
    }

    /// Appends a message, whose id is above all ids so far.
    pub fn push(&mut self, id: u64, plain: Frame) {
        debug_assert!(id > self.newest());
        self.bytes += plain.len();
        self.entries.push_back(Entry::new(id, plain));
    }

    /// Lets the oldest message go and returns its size; 0 where there is none.
    pub fn pop(&mut self) -> usize {
        let Some(entry) = self.entries.pop_front() else { return 0 };
        self.floor = entry.id;
        let bytes = entry.bytes();
        self.bytes -= bytes;
        bytes
    }

    /// Lets all messages go, with their memory, and returns their size.
    pub fn clear(&mut self) -> usize {
        if let Some(newest) = self.entries.back() {
            self.floor = newest.id;
        }
        self.entries = VecDeque::new();
        std::mem::take(&mut self.bytes)
    }

    /// Sees to it that what is next for a member whose cursor is `cursor` is there in that encoding; see
    /// [`encode_front`]. Returns what that costs in bytes.
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
    fn first_after(&self, cursor: u64) -> usize {
        // Who keeps up has yet to be sent the newest alone.
        match self.entries.len() {
            from @ 1.. if self.entries[from - 1].id <= cursor => from,
            len @ 2.. if self.entries[len - 2].id > cursor => {
                self.entries.partition_point(|entry| entry.id <= cursor)
            }
            len => len.saturating_sub(1),
        }
    }

    /// Checks that it counts the bytes that it holds, and that its ids rise above its floor.
    ///
    /// # Panics
    /// Where something does not hold.
    pub fn check_invariants(&self) {
        assert_eq!(self.bytes, self.entries.iter().map(Entry::bytes).sum::<usize>(), "bytes of a log");
        assert!(self.entries.iter().map(|entry| entry.id).is_sorted(), "ids rise along a log");
        assert!(self.entries.front().is_none_or(|oldest| oldest.id > self.floor), "no id is below the floor");
    }

    /// What a member whose cursor is `cursor` has yet to be sent.
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
        Channel {
            stream: Stream::Events,
            serial: 0,
            members: (0..members).collect(),
            log: Log::new(0),
            sweep: Sweep::Done,
            lull: (0, 0),
            notice: 0,
            idle: Link::default(),
        }
    }

    #[test]
    fn a_member_that_has_all_reaches_to_the_next_message() {
        let mut channel = channel(1);
        assert_eq!([0, 5].map(|cursor| channel.reach(cursor)), [0, 5], "nothing is known yet");
        channel.lull = (10, 20);
        assert_eq!([9, 10, 15, 19, 20, 25].map(|cursor| channel.reach(cursor)), [9, 19, 19, 19, 20, 25]);
    }

    /// Whoever leaves and whenever, all who were there and stay are told, once, and
    /// who comes later is not; every member knows its place.
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
                        channel.join(members);
                        for moved in channel.leave(slots[leaver as usize]).into_iter().flatten() {
                            slots[moved.connection as usize] = moved.slot;
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

    /// Whoever leaves and whenever, a sweep meets every member that stays.
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
