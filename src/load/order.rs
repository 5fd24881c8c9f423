//! The one order in which all subscribers must get what was published. Whoever
//! is the first to get a message says what comes at that place; everybody else must
//! get the same there. So a subscriber needs no more than its place, and losses,
//! doubles and swaps are all seen.

use std::collections::VecDeque;

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
    /// What was wrong.
    pub faults: Faults,
}

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
            faults: Faults::default(),
        }
    }

    /// The place after the last message that anybody has got.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "a run has fewer messages")]
    pub fn end(&self) -> u32 {
        self.base + self.entries.len() as u32
    }

    /// A subscriber at `position` got the message of `stamp`; it is one of those who
    /// are waited for, or is not.
    pub fn deliver(&mut self, position: u32, stamp: Stamp, is_awaited: bool) -> Delivered {
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
                self.faults.lost += ahead as u64;
                for missed in 0..ahead {
                    #[expect(clippy::cast_possible_truncation, reason = "a run has fewer messages")]
                    self.take(position + missed as u32, is_awaited);
                }
                #[expect(clippy::cast_possible_truncation, reason = "a run has fewer messages")]
                self.take(position + ahead as u32, is_awaited)
            }
            None => {
                let is_old =
                    self.next.get(usize::from(stamp.publisher)).is_some_and(|next| stamp.sequence < *next);
                if is_old {
                    self.faults.doubled += 1;
                } else {
                    self.faults.disordered += 1;
                }
                Delivered { position, is_complete: false }
            }
        }
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
        self.faults.lost += u64::from(stamp.sequence - *next) * u64::from(self.subscribers);
        *next = stamp.sequence + 1;
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
        let mut give = |who: usize, publisher, sequence| {
            let delivered = order.deliver(at[who], stamp(publisher, sequence), true);
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
            first = order.deliver(first, stamp(publisher, sequence), true).position;
        }
        // The second misses one.
        let second = order.deliver(0, stamp(0, 0), true).position;
        let second = order.deliver(second, stamp(0, 1), true).position;
        assert_eq!((second, order.faults), (3, Faults { lost: 1, ..Faults::default() }));
        // It gets one again.
        assert_eq!(order.deliver(second, stamp(1, 0), true).position, 3);
        assert_eq!(order.faults.doubled, 1);
        // Nobody gets a message that was sent before one that somebody gets.
        assert_eq!(order.deliver(first, stamp(0, 5), true).position, 5);
        assert_eq!(order.faults.lost, 1 + 2 * 2);
        // One that nobody can have sent.
        order.deliver(second, stamp(1, 99), true);
        assert_eq!(order.faults.disordered, 1);
        order.give_up(second, 6);
        assert_eq!(order.faults.lost, 5 + 3);
    }
}
