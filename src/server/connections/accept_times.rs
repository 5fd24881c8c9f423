//! When connections were accepted, without a byte in any of them: their generations rise with
//! time, so that a few marks of which generation came when tell it of all. Of what is long ago
//! fewer marks are kept, so that an age is always known to a hundredth.

/// Marks that are kept at most.
const MARKS_MAX: usize = 4096;

/// Marks are no closer to each other than this.
const MARK_MS: u64 = 16;

/// Two marks are not farther from each other than this part of their age.
const PART_OF_AGE: u64 = 128;

/// Which generation came when, oldest first.
#[derive(Debug, Default)]
pub(super) struct AcceptTimes {
    marks: Vec<Mark>,
}

/// The first connection that was accepted at a time or later.
#[derive(Debug, Clone, Copy)]
struct Mark {
    generation: u32,
    at_ms: u64,
}

impl AcceptTimes {
    /// Notes that `generation` is accepted now.
    pub(super) fn note(&mut self, generation: u32, now_ms: u64) {
        if self.marks.last().is_some_and(|last| now_ms < last.at_ms + MARK_MS) {
            return;
        }
        if self.marks.len() == MARKS_MAX {
            self.thin(now_ms);
        }
        self.marks.push(Mark { generation, at_ms: now_ms });
    }

    /// How long ago `generation` was accepted: less than a hundredth more than it is, or less than
    /// 16 milliseconds.
    pub(super) fn age_ms(&self, generation: u32, now_ms: u64) -> u64 {
        let Some(newest) = self.marks.last() else { return 0 };
        // What came after the newest mark is not older than that. Generations may wrap.
        let before = |mark: &Mark| {
            let distance = newest.generation.wrapping_sub(generation);
            distance > u32::MAX / 2 || newest.generation.wrapping_sub(mark.generation) >= distance
        };
        let place = self.marks.partition_point(before);
        let mark = self.marks.get(place.saturating_sub(1)).unwrap_or(newest);
        now_ms.saturating_sub(mark.at_ms)
    }

    /// Drops marks that are closer to their neighbours than they have to be.
    fn thin(&mut self, now_ms: u64) {
        let mut kept = Vec::with_capacity(MARKS_MAX);
        let mut later_ms = u64::MAX;
        for (place, mark) in self.marks.iter().enumerate().rev() {
            let apart_ms = (now_ms.saturating_sub(mark.at_ms) / PART_OF_AGE).max(MARK_MS);
            // The next one down would leave too wide a gap.
            let next_ms = place.checked_sub(1).map_or(0, |next| self.marks[next].at_ms);
            if place == 0 || later_ms - next_ms > apart_ms {
                kept.push(*mark);
                later_ms = mark.at_ms;
            }
        }
        kept.reverse();
        self.marks = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Accepts `count` connections, one every `step_ms`, and checks the age of each.
    fn check(first: u32, count: u32, step_ms: u64) {
        let mut times = AcceptTimes::default();
        for number in 0..count {
            times.note(first.wrapping_add(number), u64::from(number) * step_ms);
        }
        assert!(times.marks.len() <= MARKS_MAX);
        let now_ms = u64::from(count) * step_ms + 5;
        for number in (0..count).step_by(97).chain([count - 1]) {
            let age = now_ms - u64::from(number) * step_ms;
            let told = times.age_ms(first.wrapping_add(number), now_ms);
            let most = age + (age / 100).max(MARK_MS);
            assert!((age..=most).contains(&told), "{first} {number} {step_ms}: {told} for {age}");
        }
    }

    #[test]
    fn the_age_of_each_is_known_to_a_hundredth() {
        for (count, step_ms) in
            [(1, 1), (100, 1), (100_000, 1), (20_000, 100), (200_000, 16), (30_000, 60_000)]
        {
            check(1, count, step_ms);
            check(u32::MAX - count / 2, count, step_ms);
        }
    }

    #[test]
    fn where_none_came_none_is_old() {
        assert_eq!(AcceptTimes::default().age_ms(7, 1_000), 0);
    }
}
