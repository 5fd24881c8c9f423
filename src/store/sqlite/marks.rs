//! The ages of ids by the monotonic clock.
//!
//! Only some records have their time remembered, not each. So a record may count as younger than it is, by a
//! thousandth of the age in question.

use std::collections::VecDeque;

/// The approximate maximum number of marks.
const MARKS_MAX: usize = 1_024;

/// When ids were given, since the start.
#[derive(Debug)]
pub(super) struct Marks {
    age_ms: u64,
    marks: VecDeque<Mark>,
}

/// The ids up to `id`, beyond those of earlier marks, were given between two times.
#[derive(Debug)]
struct Mark {
    id: i64,
    from_ms: u64,
    to_ms: u64,
}

impl Marks {
    /// Finds the ids that are at least `age_ms` old.
    pub(super) const fn new(age_ms: u64) -> Self {
        Self { age_ms, marks: VecDeque::new() }
    }

    /// Notes that ids up to `id` were given by now.
    pub(super) fn note(&mut self, id: i64, now_ms: u64) {
        let spacing_ms = self.age_ms / MARKS_MAX as u64;
        let is_full = self.marks.len() >= MARKS_MAX;
        match self.marks.back_mut() {
            Some(last) if is_full || now_ms.saturating_sub(last.from_ms) < spacing_ms => {
                last.id = id;
                last.to_ms = now_ms;
            }
            _ => self.marks.push_back(Mark { id, from_ms: now_ms, to_ms: now_ms }),
        }
    }

    /// The last id that is old, if it was not returned before.
    pub(super) fn old_to(&mut self, now_ms: u64) -> Option<i64> {
        let mut old_to = None;
        while let Some(mark) = self.marks.front()
            && now_ms.saturating_sub(mark.to_ms) >= self.age_ms
        {
            old_to = Some(mark.id);
            self.marks.pop_front();
        }
        old_to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_old_once_its_age_has_passed_and_no_more_than_a_little_later() {
        let mut marks = Marks::new(1_024_000);
        marks.note(10, 5_000);
        marks.note(11, 5_999);
        marks.note(12, 6_000);
        assert_eq!(marks.old_to(5_999 + 1_024_000 - 1), None);
        assert_eq!(marks.old_to(5_999 + 1_024_000), Some(11));
        assert_eq!(marks.old_to(5_999 + 1_024_000), None, "said once");
        assert_eq!(marks.old_to(6_000 + 1_024_000), Some(12));
        assert_eq!(marks.old_to(u64::MAX), None);
    }

    #[test]
    fn marks_are_few_however_much_is_stored() {
        let mut marks = Marks::new(1_000);
        for ms in 0_u32..10_000 {
            marks.note(i64::from(ms), u64::from(ms));
        }
        assert_eq!(marks.marks.len(), MARKS_MAX);
        assert_eq!(marks.old_to(10_998), Some(1_022), "the last mark has the rest");
        assert_eq!(marks.old_to(10_999), Some(9_999));
    }
}
