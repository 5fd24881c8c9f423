//! How far a shutdown is, and who is next.

use crate::base::time::Stamp;

/// How far a shutdown is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Drain {
    pub(super) since: Stamp,
    /// Connections that speak HTTP from this index on have yet to be told.
    pub(super) http_next: u32,
    /// Within this time WebSockets are closed.
    pub(super) spread_ms: u32,
    pub(super) walk: Walk,
    /// Places that were walked to; all of them in the end.
    pub(super) walked: u32,
}

impl Drain {
    /// Milliseconds since the shutdown was asked for.
    pub(super) const fn elapsed_ms(&self, now: Stamp) -> u32 {
        now.since(self.since)
    }

    /// How many places must have been walked to by now.
    pub(super) fn due(&self, now: Stamp) -> u32 {
        let places = u64::from(self.walk.places());
        let elapsed_ms = u64::from(self.elapsed_ms(now));
        let due = (places * elapsed_ms).checked_div(u64::from(self.spread_ms)).map_or(places, |due| due + 1);
        u32::try_from(due.min(places)).unwrap_or(u32::MAX)
    }

    /// Milliseconds until the next place is due; zero where it is.
    pub(super) fn due_in_ms(&self, now: Stamp) -> u32 {
        let spread_ms = u64::from(self.spread_ms);
        let due_at_ms = (u64::from(self.walked) * spread_ms).div_ceil(u64::from(self.walk.places()));
        u32::try_from(due_at_ms).unwrap_or(u32::MAX).saturating_sub(self.elapsed_ms(now))
    }
}

/// A walk to each of a power of two of places, once, in an order of chance and without a list of it: a linear
/// congruential generator whose period is full (the theorem of Hull and Dobell).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Walk {
    at: u32,
    multiplier: u32,
    increment: u32,
    mask: u32,
}

impl Walk {
    /// A walk to at least `places`.
    pub(super) fn new(places: usize, random: &mut fastrand::Rng) -> Self {
        // Indices are 31 bits.
        let places = u32::try_from(places).unwrap_or(u32::MAX).clamp(1, 1 << 31).next_power_of_two();
        let mask = places - 1;
        Self {
            at: random.u32(..) & mask,
            multiplier: (random.u32(..) & !7) | 5,
            increment: random.u32(..) | 1,
            mask,
        }
    }

    pub(super) const fn places(&self) -> u32 {
        self.mask + 1
    }

    pub(super) const fn step(&mut self) -> u32 {
        let at = self.at;
        self.at = at.wrapping_mul(self.multiplier).wrapping_add(self.increment) & self.mask;
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_goes_everywhere_once_and_each_goes_its_own_way() {
        let mut random = fastrand::Rng::with_seed(1);
        for places in [0, 1, 2, 3, 8, 100, 1 << 10] {
            let mut ways = Vec::new();
            for _ in 0..2 {
                let mut walk = Walk::new(places, &mut random);
                let way = (0..walk.places()).map(|_| walk.step()).collect::<Vec<_>>();
                let mut visited = way.clone();
                visited.sort_unstable();
                assert!(visited.into_iter().eq(0..walk.places()), "{way:?}");
                assert!(way.len() >= places.max(1) && way.len() < 2 * places.max(1));
                ways.push(way);
            }
            assert!(places < 8 || ways[0] != ways[1], "{ways:?}");
        }
    }

    #[test]
    fn places_are_due_evenly() {
        let walk = Walk { at: 0, multiplier: 5, increment: 1, mask: 7 };
        let since = Stamp::from_ms(10);
        let drain = |spread_ms, walked| Drain { since, http_next: 0, spread_ms, walk, walked };
        let due = |spread_ms, ms| drain(spread_ms, 0).due(Stamp::from_ms(10 + ms));
        assert_eq!([0, 1, 9, 10, 50, 79, 80].map(|ms| due(80, ms)), [1, 1, 1, 2, 6, 8, 8]);
        assert_eq!([0, 1, 2, 99].map(|ms| due(2, ms)), [1, 5, 8, 8]);
        assert_eq!(due(0, 0), 8);
        assert_eq!([0, 1, 7].map(|walked| drain(80, walked).due_in_ms(since)), [0, 10, 70]);
        // Whoever sleeps until then finds one due.
        for spread_ms in [1, 3, 7, 80, 999] {
            for walked in 0..8 {
                let due_in_ms = u64::from(drain(spread_ms, walked).due_in_ms(since));
                assert!(due(spread_ms, due_in_ms) > walked, "{spread_ms} {walked}");
            }
        }
    }
}
