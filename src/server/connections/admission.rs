//! Limits on connections and on the rate of messages. The counts are kept beside the connections, and only if there
//! is a limit: the 64 bytes of a connection have no room for them.

use crate::base::config::Limits;
use crate::base::limit::Limit;
use crate::base::map::Map;
use crate::base::time::Stamp;

/// Where a connection comes from, as the shell sees it: equal for those that share
/// a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Source(pub u64);

/// At most this many connections that were not let in are waited for until they end, beside all that may be open.
/// Any others are ended at once.
const TURNED_AWAY_MAX: usize = 64;

/// Bytes of memory that are in use.
#[derive(Debug, Clone, Copy)]
pub(super) struct MemoryInUse {
    /// By the process, as the system tells.
    pub(super) resident: u64,
    /// By connections, as counted here.
    pub(super) held: u64,
}

/// Counts of what is limited per source and per connection.
#[derive(Debug, Default)]
pub(super) struct Admission {
    /// Those that were not let in and are there still, by their index. They take nobody's place.
    turned_away: Vec<u32>,
    /// Whether too much memory is in use to let anybody in.
    is_memory_short: bool,
    /// Connections that were let in, by source; looked up only.
    counts: Map<Source, u32>,
    /// The source of each connection, by its index.
    sources: Vec<Source>,
    /// What each connection has sent in its present second, by its index.
    rates: Vec<Rate>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Rate {
    since: Stamp,
    messages: u32,
}

const SECOND_MS: u32 = 1000;

impl Admission {
    /// Takes note of the connection at `index`; `connections` are there beside it.
    /// Fails with the limit for which it is not let in.
    pub(super) fn enter(
        &mut self,
        index: u32,
        source: Source,
        connections: usize,
        limits: &Limits,
    ) -> Result<(), Limit> {
        if limits.messages_per_second_max > 0 {
            put(&mut self.rates, index, Rate::default());
        }
        let let_in = connections - self.turned_away.len();
        let limit = if let_in >= limits.connections_max {
            Some(Limit::Connections)
        } else if self.is_memory_short && let_in > 0 {
            // Without any connection, none could end and so give memory back.
            Some(Limit::Memory)
        } else if limits.connections_per_source_max == 0 {
            None
        } else {
            let count = self.counts.entry(source).or_default();
            let is_over = *count >= limits.connections_per_source_max;
            *count += u32::from(!is_over);
            put(&mut self.sources, index, source);
            is_over.then_some(Limit::ConnectionsPerAddress)
        };
        limit.map_or(Ok(()), |limit| {
            self.turned_away.push(index);
            Err(limit)
        })
    }

    /// Takes note of how much memory is in use, and how much of it connections hold. Returns whether connections are
    /// accepted, if that has changed.
    ///
    /// They are refused only while others hold something that they give back when they end: memory that the heap
    /// keeps, or that the store needs, does not become less by that.
    pub(super) const fn note_memory(&mut self, memory: MemoryInUse, limits: &Limits) -> Option<bool> {
        let bytes_max = limits.resident_bytes_max;
        let margin = bytes_max / 16;
        // The bounds are farther apart than what a few pages or connections change.
        let (resident_min, held_min) =
            if self.is_memory_short { (bytes_max - margin, margin) } else { (bytes_max, 2 * margin) };
        let is_short = bytes_max > 0 && memory.resident >= resident_min && memory.held >= held_min;
        if is_short == self.is_memory_short {
            return None;
        }
        self.is_memory_short = is_short;
        Some(!is_short)
    }

    /// Whether the connection at `index` was not let in, and is one of too many of these to
    /// be waited for.
    pub(super) fn is_not_waited_for(&self, index: u32) -> bool {
        self.turned_away.len() > TURNED_AWAY_MAX && self.turned_away.contains(&index)
    }

    /// The connection at `index`, which was let in or not, is gone.
    pub(super) fn leave(&mut self, index: u32, limits: &Limits) {
        if let Some(place) = self.turned_away.iter().position(|one| *one == index) {
            self.turned_away.swap_remove(place);
            return;
        }
        if limits.connections_per_source_max == 0 {
            return;
        }
        let Some(source) = self.sources.get(index as usize) else { return };
        if let Some(count) = self.counts.get_mut(source) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(source);
            }
        }
    }

    /// Places that are reserved, used or not.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.turned_away.capacity() + self.counts.capacity() + self.sources.capacity() + self.rates.capacity()
    }

    /// Gives back what is of no use if no connection is left.
    pub(super) fn shrink(&mut self) {
        *self = Self { is_memory_short: self.is_memory_short, ..Self::default() };
    }

    /// Counts a message of the connection at `index`. Returns whether it is within the limit.
    pub(super) fn may_send(&mut self, index: u32, now: Stamp, limits: &Limits) -> bool {
        if limits.messages_per_second_max == 0 {
            return true;
        }
        let Some(rate) = self.rates.get_mut(index as usize) else { return true };
        if rate.messages == 0 || now.since(rate.since) >= SECOND_MS {
            *rate = Rate { since: now, messages: 0 };
        }
        rate.messages = rate.messages.saturating_add(1);
        rate.messages <= limits.messages_per_second_max
    }
}

fn put<T: Copy + Default>(values: &mut Vec<T>, index: u32, value: T) {
    let index = index as usize;
    if values.len() <= index {
        values.resize(index + 1, T::default());
    }
    values[index] = value;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_its_share_and_gets_it_back() {
        let limits = Limits { connections_per_source_max: 2, connections_max: 10, ..Limits::default() };
        let mut admission = Admission::default();
        let (a, b) = (Source(1), Source(2));
        assert_eq!(admission.enter(0, a, 0, &limits), Ok(()));
        assert_eq!(admission.enter(1, a, 1, &limits), Ok(()));
        assert_eq!(admission.enter(2, a, 2, &limits), Err(Limit::ConnectionsPerAddress));
        assert_eq!(admission.enter(3, b, 3, &limits), Ok(()));
        // A connection that was not let in has no share.
        admission.leave(0, &limits);
        assert_eq!(admission.enter(0, a, 3, &limits), Ok(()));
        admission.leave(2, &limits);
        assert_eq!(admission.enter(4, b, 10, &limits), Err(Limit::Connections));
        for index in [0, 1, 3, 4] {
            admission.leave(index, &limits);
        }
        assert!(admission.counts.is_empty() && admission.turned_away.is_empty());
    }

    #[test]
    fn who_is_not_let_in_takes_no_place() {
        let limits = Limits { connections_max: 2, ..Limits::default() };
        let mut admission = Admission::default();
        assert_eq!(admission.enter(0, Source(1), 0, &limits), Ok(()));
        assert_eq!(admission.enter(1, Source(1), 1, &limits), Ok(()));
        for index in 2..82 {
            assert_eq!(admission.enter(index, Source(1), index as usize, &limits), Err(Limit::Connections));
            let is_one_of_many = index as usize >= 2 + TURNED_AWAY_MAX;
            assert_eq!(admission.is_not_waited_for(index), is_one_of_many);
            assert!(!admission.is_not_waited_for(1));
        }
        admission.leave(1, &limits);
        assert_eq!(admission.enter(1, Source(1), 81, &limits), Ok(()));
    }

    #[test]
    fn nobody_else_is_let_in_until_there_is_clearly_enough_memory() {
        let limits = Limits { resident_bytes_max: 1600, ..Limits::default() };
        let mut admission = Admission::default();
        let memory = |resident| MemoryInUse { resident, held: 200 };
        assert_eq!(admission.note_memory(memory(1599), &limits), None);
        assert_eq!(admission.enter(0, Source(1), 0, &limits), Ok(()));
        assert_eq!(admission.note_memory(memory(1600), &limits), Some(false));
        assert_eq!(admission.enter(1, Source(1), 1, &limits), Err(Limit::Memory));
        assert_eq!(admission.note_memory(memory(1599), &limits), None);
        assert_eq!(admission.note_memory(memory(1500), &limits), None);
        assert_eq!(admission.enter(2, Source(1), 2, &limits), Err(Limit::Memory));
        admission.leave(0, &limits);
        assert_eq!(admission.enter(0, Source(1), 2, &limits), Ok(()), "somebody has to be there");
        assert_eq!(admission.enter(3, Source(1), 3, &limits), Err(Limit::Memory));
        assert_eq!(admission.note_memory(memory(1499), &limits), Some(true));
        assert_eq!(admission.enter(4, Source(1), 4, &limits), Ok(()));
        let unlimited = Limits::default();
        assert_eq!(admission.note_memory(memory(u64::MAX), &unlimited), None);
    }

    #[test]
    fn memory_that_no_connection_holds_keeps_nobody_out() {
        let limits = Limits { resident_bytes_max: 1600, ..Limits::default() };
        let mut admission = Admission::default();
        let memory = |held| MemoryInUse { resident: 5000, held };
        assert_eq!(admission.note_memory(memory(199), &limits), None);
        assert_eq!(admission.note_memory(memory(200), &limits), Some(false));
        assert_eq!(admission.note_memory(memory(100), &limits), None);
        assert_eq!(admission.note_memory(memory(99), &limits), Some(true));
    }

    #[test]
    fn a_second_has_so_many_messages() {
        let limits = Limits { messages_per_second_max: 2, ..Limits::default() };
        let mut admission = Admission::default();
        assert_eq!(admission.enter(0, Source(1), 0, &limits), Ok(()));
        let mut sent = |ms| admission.may_send(0, Stamp::from_ms(ms), &limits);
        assert_eq!(
            [sent(5), sent(6), sent(7), sent(1004), sent(1005), sent(1006), sent(1007)],
            [true, true, false, false, true, true, false]
        );
    }
}
