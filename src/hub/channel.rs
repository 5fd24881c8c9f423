//! One channel: its members, and its log. The log is everybody's outbox: a
//! member owns no queue, only a cursor, the id of the last frame that it was sent.

use std::collections::VecDeque;

use crate::ground::deadline::Link;
use crate::ground::frame::Frame;

use super::engine::Stream;

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

/// The newest frames of a channel with their ids, in order: all of its frames
/// with an id above `floor`.
#[derive(Debug)]
pub struct Log {
    frames: VecDeque<(u64, Frame)>,
    bytes: usize,
    floor: u64,
}

/// What a log holds beyond a cursor.
#[derive(Debug)]
pub enum Run<'a> {
    /// Nothing: the cursor is at the end.
    End,
    /// Frames `from..` of the log, at least one.
    Frames(std::collections::vec_deque::Iter<'a, (u64, Frame)>),
    /// The cursor has fallen off the front: the store has to be asked.
    Behind,
}

impl Log {
    /// An empty log; every frame with an id up to `floor` is in the store only.
    #[must_use]
    pub const fn new(floor: u64) -> Self {
        Self { frames: VecDeque::new(), bytes: 0, floor }
    }

    /// Bytes of its frames.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many frames it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether it holds no frame.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Appends a frame, whose id is above all ids so far.
    pub fn push(&mut self, id: u64, frame: Frame) {
        debug_assert!(id > self.frames.back().map_or(self.floor, |(newest, _)| *newest));
        self.bytes += frame.len();
        self.frames.push_back((id, frame));
    }

    /// Lets the oldest frame go and returns its size; 0 where there is none.
    pub fn pop(&mut self) -> usize {
        let Some((id, frame)) = self.frames.pop_front() else { return 0 };
        self.floor = id;
        self.bytes -= frame.len();
        frame.len()
    }

    /// Lets all frames go, with their memory, and returns their size.
    pub fn clear(&mut self) -> usize {
        if let Some((newest, _)) = self.frames.back() {
            self.floor = *newest;
        }
        self.frames = VecDeque::new();
        std::mem::take(&mut self.bytes)
    }

    /// What a member whose cursor is `cursor` has yet to be sent.
    #[must_use]
    pub fn after(&self, cursor: u64) -> Run<'_> {
        if cursor < self.floor {
            return Run::Behind;
        }
        if self.frames.back().is_none_or(|(newest, _)| *newest <= cursor) {
            return Run::End;
        }
        // Who keeps up has yet to be sent the newest alone.
        let mut from = self.frames.len() - 1;
        if from > 0 && self.frames[from - 1].0 > cursor {
            from = self.frames.partition_point(|(id, _)| *id <= cursor);
        }
        Run::Frames(self.frames.range(from..))
    }

    /// The ids that it holds, rising and above the floor; for checks.
    pub fn ids(&self) -> impl Iterator<Item = u64> + '_ {
        self.frames.iter().map(|(id, _)| *id)
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
            Run::Frames(frames) => Some(frames.map(|(id, _)| *id).collect()),
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

    fn channel(members: u32) -> Channel {
        Channel {
            stream: Stream::Events,
            serial: 0,
            members: (0..members).collect(),
            log: Log::new(0),
            sweep: Sweep::Done,
            notice: 0,
            idle: Link::default(),
        }
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
