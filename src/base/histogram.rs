//! Histograms as plain numbers. Counting a value costs a handful of instructions; results are computed only
//! when they are requested.

/// Buckets of a [`Histogram`]: the last but one counts values up to 2^30.
const BUCKETS: usize = 32;

/// How many values there were up to each power of two, in any unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    /// Values up to 2^n that are above the previous bucket; the last one counts all others.
    buckets: [u64; BUCKETS],
    sum: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], sum: 0 }
    }
}

impl Histogram {
    pub fn observe(&mut self, value: u64) {
        let bucket = (u64::BITS - value.saturating_sub(1).leading_zeros()) as usize;
        self.buckets[bucket.min(BUCKETS - 1)] += 1;
        self.sum = self.sum.saturating_add(value);
    }

    pub const fn sum(&self) -> u64 {
        self.sum
    }

    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The powers of two from `2^first` to `2^last`, each with the number of values above the previous one;
    /// the first has all values up to it. Values above the last are not included.
    pub fn buckets(&self, first: usize, last: usize) -> impl Iterator<Item = (u64, u64)> + '_ {
        let last = last.min(BUCKETS - 2);
        (first..=last).map(move |bucket| {
            let from = if bucket == first { 0 } else { bucket };
            (1 << bucket, self.buckets[from..=bucket].iter().sum())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_in_the_first_bucket_that_takes_it() {
        let mut histogram = Histogram::default();
        for value in [0, 1, 2, 3, 4, 5, 8, 9, 1 << 30, (1 << 30) + 1, u64::MAX] {
            histogram.observe(value);
        }
        let buckets = histogram.buckets(0, 4).collect::<Vec<_>>();
        assert_eq!(buckets, [(1, 2), (2, 1), (4, 2), (8, 2), (16, 1)]);
        assert_eq!(histogram.buckets(2, 3).collect::<Vec<_>>(), [(4, 5), (8, 2)]);
        assert_eq!(histogram.buckets(0, 99).map(|(_, count)| count).sum::<u64>(), 9);
        assert_eq!((histogram.count(), histogram.sum()), (11, u64::MAX));
    }
}
