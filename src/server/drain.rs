//! How far a shutdown is, and which connection is next.

use crate::base::time::Stamp;

/// How far a shutdown is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Drain {
    pub(super) since: Stamp,
    /// Connections that speak HTTP from this index on have yet to be told.
    pub(super) http_next: u32,
    /// Within this time WebSockets are closed.
    pub(super) spread_ms: u32,
    /// How many WebSockets were open when it was asked for.
    pub(super) open: u32,
    /// How many of them are closed.
    pub(super) closed: u32,
    /// WebSockets from this index on have yet to be closed.
    pub(super) next: u32,
}

impl Drain {
    /// Milliseconds since the shutdown was asked for.
    pub(super) const fn elapsed_ms(&self, now: Stamp) -> u32 {
        now.since(self.since)
    }

    /// How many WebSockets must be closed by now.
    pub(super) fn due(&self, now: Stamp) -> u32 {
        let (open, elapsed_ms) = (u64::from(self.open), u64::from(self.elapsed_ms(now)));
        if elapsed_ms >= u64::from(self.spread_ms) {
            return u32::MAX;
        }
        u32::try_from(open * elapsed_ms / u64::from(self.spread_ms) + 1).unwrap_or(u32::MAX)
    }

    /// Milliseconds until the next WebSocket is due; zero if it is.
    pub(super) fn due_in_ms(&self, now: Stamp) -> u32 {
        let spread_ms = u64::from(self.spread_ms);
        let due_at_ms =
            (u64::from(self.closed) * spread_ms).div_ceil(u64::from(self.open.max(1))).min(spread_ms);
        u32::try_from(due_at_ms).unwrap_or(u32::MAX).saturating_sub(self.elapsed_ms(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn websockets_are_due_evenly() {
        let since = Stamp::from_ms(10);
        let drain = |spread_ms, closed| Drain { since, http_next: 0, spread_ms, open: 8, closed, next: 0 };
        let due = |spread_ms, ms| drain(spread_ms, 0).due(Stamp::from_ms(10 + ms));
        assert_eq!([0, 1, 9, 10, 50, 79].map(|ms| due(80, ms)), [1, 1, 1, 2, 6, 8]);
        assert_eq!([due(80, 80), due(2, 1), due(2, 2), due(0, 0)], [u32::MAX, 5, u32::MAX, u32::MAX]);
        assert_eq!([0, 1, 7, 9].map(|closed| drain(80, closed).due_in_ms(since)), [0, 10, 70, 80]);
        // After a sleep until then, one is due.
        for spread_ms in [1, 3, 7, 80, 999] {
            for closed in 0..10 {
                let due_in_ms = u64::from(drain(spread_ms, closed).due_in_ms(since));
                assert!(due(spread_ms, due_in_ms) > closed, "{spread_ms} {closed}");
            }
        }
    }
}
