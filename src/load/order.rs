//! The one order in which all subscribers must get what was published. Whoever
//! is the first to get a message says what comes at that place; everybody else must
//! get the same there. So a subscriber needs no more than its place, and losses,
//! doubles and swaps are all seen.

use std::collections::{BTreeSet, VecDeque};

use super::payload::Stamp;

/// What has been delivered, from the first message on that somebody has yet to get.
#[derive(Debug)]
pub struct Order {
    /// The place of the first entry.
    base: u32,
    entries: VecDeque<Entry>,
    /// For each publisher, the number of its next message.
    next: Vec<u32>,
    /// Subscribers who get everything, and how many of them are waited for.
    subscribers: u32,
    awaited: u32,
    /// What counts as lost but may yet come, out of order: for one subscriber, or for all.
    missed: BTreeSet<Missed>,
    /// What was wrong.
    pub faults: Faults,
}

/// A message that somebody was to get: who (`None` is everybody), whose, and which.
type Missed = (Option<u32>, u16, u32);

/// Messages that are remembered as missed; beyond them one that comes late counts as doubled.
const MISSED_MAX: usize = 100_000;

#[derive(Debug)]
struct Entry {
    publisher: u16,
    sequence: u32,
    /// Subscribers who have yet to get it, and those of them who are waited for.
    missing: u32,
    awaited: u32,
}

/// What was wrong with deliveries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// Deliveries that did not come.
    pub lost: u64,
    /// Deliveries that came again.
    pub doubled: u64,
    /// Deliveries in another order than somebody else's.
    pub disordered: u64,
}

impl Faults {
    /// Whether there were none.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.disordered == 0
    }
}

/// What a delivery came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// The place of what the subscriber gets next.
    pub position: u32,
    /// Whether everybody who is waited for has it now.
    pub is_complete: bool,
}

impl Order {
    /// Nothing is published yet.
    #[must_use]
    pub fn new(publishers: usize, subscribers: u32, awaited: u32) -> Self {
        Self {
            base: 0,
            entries: VecDeque::new(),
            next: vec![0; publishers],
            subscribers,
            awaited,
            missed: BTreeSet::new(),
            faults: Faults::default(),
        }
    }

    /// The place after the last message that anybody has got.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "a run has fewer messages")]
    pub fn end(&self) -> u32 {
        self.base + self.entries.len() as u32
    }

    /// The subscriber `who` at `position` got the message of `stamp`; it is one of those who
    /// are waited for, or is not.
    #[expect(clippy::cast_possible_truncation, reason = "a run has fewer messages")]
    pub fn deliver(&mut self, who: u32, position: u32, stamp: Stamp, is_awaited: bool) -> Delivered {
        if position == self.end() {
            self.extend(stamp);
        }
        let at = position.wrapping_sub(self.base) as usize;
        let is_it = |entry: &Entry| (entry.publisher, entry.sequence) == (stamp.publisher, stamp.sequence);
        if self.entries.get(at).is_some_and(is_it) {
            return self.take(position, is_awaited);
        }
        match self.entries.iter().skip(at).position(is_it) {
            Some(ahead) => {
                for missed in position..position + ahead as u32 {
                    let entry = &self.entries[(missed - self.base) as usize];
                    let (publisher, sequence) = (entry.publisher, entry.sequence);
                    self.miss(Some(who), publisher, sequence);
                    self.take(missed, is_awaited);
                }
                self.take(position + ahead as u32, is_awaited)
            }
            None => {
                self.take_late(who, stamp);
                Delivered { position, is_complete: false }
            }
        }
    }

    /// Counts what did not come in its turn.
    pub fn miss(&mut self, who: Option<u32>, publisher: u16, sequence: u32) {
        self.faults.lost += 1;
        if self.missed.len() < MISSED_MAX {
            self.missed.insert((who, publisher, sequence));
        }
    }

    /// Counts what comes after its turn: it was not lost then, or it was there before. What
    /// nobody has sent is out of order, too.
    pub fn take_late(&mut self, who: u32, stamp: Stamp) {
        let Stamp { publisher, sequence, .. } = stamp;
        let next = self.next.get(usize::from(publisher)).copied();
        if self.missed.remove(&(Some(who), publisher, sequence))
            || self.missed.contains(&(None, publisher, sequence))
        {
            self.faults.lost = self.faults.lost.saturating_sub(1);
            self.faults.disordered += 1;
        } else if next.is_some_and(|next| sequence >= next) {
            self.faults.disordered += 1;
        } else {
            self.faults.doubled += 1;
        }
    }

    /// A subscriber at `position` is not there any more: nobody waits for it. Returns whose
    /// messages everybody else has got.
    pub fn leave(&mut self, position: u32, is_awaited: bool) -> Vec<u16> {
        let (base, end) = (self.base, self.end());
        let mut complete = Vec::new();
        for at in position.max(base)..end {
            let publisher = self.entries[(at - self.base) as usize].publisher;
            if self.take(at, is_awaited).is_complete {
                complete.push(publisher);
            }
        }
        self.subscribers = self.subscribers.saturating_sub(1);
        self.awaited = self.awaited.saturating_sub(u32::from(is_awaited));
        complete
    }

    /// Counts what a subscriber at `position` will not get any more.
    pub fn give_up(&mut self, position: u32, published: u32) {
        self.faults.lost += u64::from(published.max(self.end()).saturating_sub(position));
    }

    /// The first to get a message says what comes here, if it may come.
    fn extend(&mut self, stamp: Stamp) {
        let Some(next) = self.next.get_mut(usize::from(stamp.publisher)) else { return };
        if stamp.sequence < *next {
            return;
        }
        // What a publisher sent in between, nobody got.
        let skipped = *next..stamp.sequence;
        *next = stamp.sequence + 1;
        self.faults.lost += u64::from(stamp.sequence - skipped.start) * u64::from(self.subscribers);
        let room = MISSED_MAX.saturating_sub(self.missed.len());
        self.missed.extend(skipped.take(room).map(|sequence| (None, stamp.publisher, sequence)));
        self.entries.push_back(Entry {
            publisher: stamp.publisher,
            sequence: stamp.sequence,
            missing: self.subscribers,
            awaited: self.awaited,
        });
    }

    fn take(&mut self, position: u32, is_awaited: bool) -> Delivered {
        let entry = &mut self.entries[(position - self.base) as usize];
        entry.missing = entry.missing.saturating_sub(1);
        entry.awaited = entry.awaited.saturating_sub(u32::from(is_awaited));
        let is_complete = is_awaited && entry.awaited == 0;
        while self.entries.front().is_some_and(|entry| entry.missing == 0) {
            self.entries.pop_front();
            self.base += 1;
        }
        Delivered { position: position + 1, is_complete }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(publisher: u16, sequence: u32) -> Stamp {
        Stamp { publisher, sequence, sent_us: 0 }
    }

    #[test]
    fn all_get_the_same_in_the_same_order() {
        let mut order = Order::new(2, 2, 2);
        let mut at = [0, 0];
        #[expect(clippy::cast_possible_truncation, reason = "there are two")]
        let mut give = |who: usize, publisher, sequence| {
            let delivered = order.deliver(who as u32, at[who], stamp(publisher, sequence), true);
            at[who] = delivered.position;
            delivered.is_complete
        };
        assert!(!give(0, 0, 0));
        assert!(!give(0, 1, 0));
        assert!(give(1, 0, 0));
        assert!(give(1, 1, 0));
        assert!(!give(1, 0, 1));
        assert!(give(0, 0, 1));
        assert!(order.faults.is_none() && order.entries.is_empty());
        assert_eq!(order.end(), 3);
    }

    #[test]
    fn whatever_is_wrong_is_seen() {
        let mut order = Order::new(2, 2, 2);
        let mut first = 0;
        for (publisher, sequence) in [(0, 0), (1, 0), (0, 1), (0, 2)] {
            first = order.deliver(0, first, stamp(publisher, sequence), true).position;
        }
        // The second misses one.
        let second = order.deliver(1, 0, stamp(0, 0), true).position;
        let second = order.deliver(1, second, stamp(0, 1), true).position;
        assert_eq!((second, order.faults), (3, Faults { lost: 1, ..Faults::default() }));
        // It gets one again.
        assert_eq!(order.deliver(1, second, stamp(0, 0), true).position, 3);
        assert_eq!(order.faults.doubled, 1);
        // What it missed comes, out of order, and again.
        assert_eq!(order.deliver(1, second, stamp(1, 0), true).position, 3);
        assert_eq!(order.faults, Faults { lost: 0, doubled: 1, disordered: 1 });
        order.deliver(1, second, stamp(1, 0), true);
        assert_eq!(order.faults, Faults { lost: 0, doubled: 2, disordered: 1 });
        // Nobody gets a message that was sent before one that somebody gets.
        assert_eq!(order.deliver(0, first, stamp(0, 5), true).position, 5);
        assert_eq!(order.faults.lost, 2 * 2);
        // It comes to one of them after all.
        order.deliver(0, 5, stamp(0, 3), true);
        assert_eq!(order.faults, Faults { lost: 3, doubled: 2, disordered: 2 });
        // One that nobody can have sent.
        order.deliver(1, second, stamp(1, 99), true);
        assert_eq!(order.faults.disordered, 3);
        order.give_up(second, 6);
        assert_eq!(order.faults.lost, 3 + 3);
    }

    #[test]
    fn nobody_waits_for_who_has_left() {
        let mut order = Order::new(1, 2, 2);
        assert!(!order.deliver(0, 0, stamp(0, 0), true).is_complete);
        assert_eq!(order.leave(0, true), [0]);
        assert!(order.deliver(0, 1, stamp(0, 1), true).is_complete);
        assert!(order.entries.is_empty() && order.faults.is_none());
    }
}
