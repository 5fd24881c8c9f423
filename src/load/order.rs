//! The one order in which all subscribers must receive the published messages. The first subscriber to
//! receive a message decides which one has that position; all others must receive the same there. So a
//! subscriber needs only its position, and losses, duplicates and reordering are all detected.

use std::collections::{BTreeSet, VecDeque};

use serde::Serialize;

use super::payload::Stamp;

/// The messages that have been delivered, from the first one that a subscriber has yet to receive.
#[derive(Debug, Default)]
pub struct Order {
    /// The position of the first entry.
    base: u32,
    entries: VecDeque<Entry>,
    /// For each publisher, the number of its next message.
    next: Vec<u32>,
    /// Subscribers that receive everything, and how many of them are awaited.
    subscribers: u32,
    awaited: u32,
    /// Messages that count as lost but may still arrive, out of order.
    missed: BTreeSet<Missed>,
    /// Messages that were taken for a wrong echo, but may still arrive: the subscriber and the number.
    presumed: BTreeSet<(u32, u32)>,
    /// Publishers of messages that all awaited subscribers have received. The sender of the next message
    /// takes them from here.
    pub completed: Vec<u16>,
    pub faults: Faults,
}

/// A message that a subscriber was to receive: the subscriber, the publisher, and the number.
type Missed = (u32, u16, u32);

/// The most messages remembered as missed; beyond that, a late message counts as a duplicate.
const MISSED_MAX: usize = 100_000;

#[derive(Debug)]
struct Entry {
    publisher: u16,
    sequence: u32,
    /// Subscribers that have yet to receive it, and how many of them are awaited.
    missing: u32,
    awaited: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Faults {
    pub lost: u64,
    pub doubled: u64,
    /// Deliveries in an order that differs from another subscriber's.
    pub disordered: u64,
}

impl Order {
    pub fn new(publishers: usize, subscribers: u32, awaited: u32) -> Self {
        Self { next: vec![0; publishers], subscribers, awaited, ..Self::default() }
    }

    /// The position after the last message that any subscriber has received.
    #[expect(clippy::cast_possible_truncation, reason = "a run has fewer messages")]
    pub fn end(&self) -> u32 {
        self.base + self.entries.len() as u32
    }

    /// The subscriber `who` at `position` received the message of `stamp`, which was sent. `is_awaited` says
    /// whether the subscriber is awaited. Returns the position of what it receives next.
    #[expect(clippy::cast_possible_truncation, reason = "a run has fewer messages")]
    pub fn deliver(&mut self, who: u32, position: u32, stamp: Stamp, is_awaited: bool) -> u32 {
        if position == self.end() {
            self.extend(stamp);
        }
        let at = position.wrapping_sub(self.base) as usize;
        let is_it = |entry: &Entry| (entry.publisher, entry.sequence) == (stamp.publisher, stamp.sequence);
        let Some(ahead) = self.entries.iter().skip(at).position(is_it) else {
            self.take_late(who, stamp);
            return position;
        };
        let found = position + ahead as u32;
        for missed in position..found {
            let entry = &self.entries[(missed - self.base) as usize];
            self.miss(who, entry.publisher, entry.sequence);
            self.take(missed, is_awaited);
        }
        self.take(found, is_awaited);
        found + 1
    }

    pub fn miss(&mut self, who: u32, publisher: u16, sequence: u32) {
        self.faults.lost += 1;
        if self.missed.len() < MISSED_MAX {
            self.missed.insert((who, publisher, sequence));
        }
    }

    /// Counts a message that arrives after its turn: either it was not lost, or it is a duplicate.
    pub fn take_late(&mut self, who: u32, stamp: Stamp) {
        if self.missed.remove(&(who, stamp.publisher, stamp.sequence)) {
            self.faults.lost -= 1;
            self.faults.disordered += 1;
        } else {
            self.faults.doubled += 1;
        }
    }

    /// Takes the message that came instead of an echo for a wrong echo.
    pub fn presume(&mut self, who: u32, sequence: u32) {
        if self.presumed.len() < MISSED_MAX {
            self.presumed.insert((who, sequence));
        }
    }

    /// Whether another message was taken for this echo, which has now arrived.
    pub fn was_presumed(&mut self, who: u32, sequence: u32) -> bool {
        self.presumed.remove(&(who, sequence))
    }

    /// A subscriber at `position` has gone: it is no longer awaited.
    pub fn leave(&mut self, position: u32, is_awaited: bool) {
        for at in position.max(self.base)..self.end() {
            self.take(at, is_awaited);
        }
        self.subscribers = self.subscribers.saturating_sub(1);
        self.awaited = self.awaited.saturating_sub(u32::from(is_awaited));
    }

    /// Counts the messages that a subscriber at `position` will no longer receive.
    pub fn give_up(&mut self, position: u32, published: u32) {
        self.faults.lost += u64::from(published.max(self.end()).saturating_sub(position));
    }

    /// The first subscriber to receive a message decides which one is next, after the earlier messages of its
    /// publisher.
    fn extend(&mut self, stamp: Stamp) {
        let Some(next) = self.next.get_mut(usize::from(stamp.publisher)) else { return };
        while *next <= stamp.sequence {
            self.entries.push_back(Entry {
                publisher: stamp.publisher,
                sequence: *next,
                missing: self.subscribers,
                awaited: self.awaited,
            });
            *next += 1;
        }
    }

    /// A subscriber has received the message at `position`, or will not receive it.
    fn take(&mut self, position: u32, is_awaited: bool) {
        let entry = &mut self.entries[(position - self.base) as usize];
        entry.missing = entry.missing.saturating_sub(1);
        entry.awaited = entry.awaited.saturating_sub(u32::from(is_awaited));
        if is_awaited && entry.awaited == 0 {
            self.completed.push(entry.publisher);
        }
        while self.entries.front().is_some_and(|entry| entry.missing == 0) {
            self.entries.pop_front();
            self.base += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(publisher: u16, sequence: u32) -> Stamp {
        Stamp { publisher, sequence, sent_us: 0 }
    }

    const NONE: Faults = Faults { lost: 0, doubled: 0, disordered: 0 };

    #[test]
    fn all_get_the_same_in_the_same_order() {
        let mut order = Order::new(2, 2, 2);
        let mut at = [0, 0];
        let mut give = |who: u32, publisher, sequence| {
            let position = &mut at[who as usize];
            *position = order.deliver(who, *position, stamp(publisher, sequence), true);
            std::mem::take(&mut order.completed)
        };
        assert!(give(0, 0, 0).is_empty());
        assert!(give(0, 1, 0).is_empty());
        assert_eq!(give(1, 0, 0), [0]);
        assert_eq!(give(1, 1, 0), [1]);
        assert!(give(1, 0, 1).is_empty());
        assert_eq!(give(0, 0, 1), [0]);
        assert!(order.faults == Faults::default() && order.entries.is_empty());
        assert_eq!(order.end(), 3);
    }

    #[test]
    fn whatever_is_wrong_is_seen() {
        let mut order = Order::new(2, 2, 2);
        let mut first = 0;
        for (publisher, sequence) in [(0, 0), (1, 0), (0, 1), (0, 2)] {
            first = order.deliver(0, first, stamp(publisher, sequence), true);
        }
        // The second subscriber misses one, so it is no longer awaited.
        let second = order.deliver(1, 0, stamp(0, 0), true);
        let second = order.deliver(1, second, stamp(0, 1), true);
        assert_eq!((second, order.faults), (3, Faults { lost: 1, ..NONE }));
        assert_eq!(order.completed, [0, 1, 0]);
        // It receives one twice.
        assert_eq!(order.deliver(1, second, stamp(0, 0), true), 3);
        assert_eq!(order.faults, Faults { lost: 1, doubled: 1, ..NONE });
        // The message that it missed arrives, out of order, and again.
        assert_eq!(order.deliver(1, second, stamp(1, 0), true), 3);
        assert_eq!(order.faults, Faults { doubled: 1, disordered: 1, ..NONE });
        order.deliver(1, second, stamp(1, 0), true);
        assert_eq!(order.faults, Faults { doubled: 2, disordered: 1, ..NONE });
        // The first subscriber also misses earlier messages, one of which arrives after all.
        assert_eq!(order.deliver(0, first, stamp(0, 5), true), 7);
        assert_eq!(order.faults.lost, 2);
        assert_eq!(order.deliver(0, 7, stamp(0, 3), true), 7);
        assert_eq!(order.faults, Faults { lost: 1, doubled: 2, disordered: 2 });
        order.give_up(second, 7);
        assert_eq!(order.faults.lost, 1 + 4);
    }

    #[test]
    fn nobody_waits_for_who_has_left() {
        let mut order = Order::new(1, 2, 2);
        order.deliver(0, 0, stamp(0, 0), true);
        assert!(order.completed.is_empty());
        order.leave(0, true);
        assert_eq!(order.completed, [0]);
        order.deliver(0, 1, stamp(0, 1), true);
        assert_eq!(order.completed, [0, 0]);
        assert!(order.entries.is_empty() && order.faults == Faults::default());
    }
}
