//! Which clock decides the age of a record.
//!
//! The wall clock of a small machine is sometimes wrong: until the network is up, it starts in 1970 or runs a
//! year ahead. So records that were stored since the start age by the monotonic clock alone. Older records
//! have only a time of the wall clock, which is believed once both clocks have agreed for an hour.

use jiff::Timestamp;

use crate::base::time::Now;

/// For how long the clocks must agree before the wall clock is believed.
const UNDISTURBED_MS: u64 = 3_600_000;
/// An ordinary difference: a clock that is being corrected, or a process that was stopped between reading
/// both.
const ORDINARY_MICROS: u64 = 60_000_000;

/// Both clocks since the start.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    started: Option<Now>,
    last: Option<Now>,
    agree_since_ms: u64,
    is_told: bool,
}

/// A time, in the forms that ages are calculated from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) now: Now,
    pub(super) uptime_ms: u64,
    /// Milliseconds since 1970, as the wall clock would show them if it had not been set since the start.
    pub(super) steady_ms: i64,
    /// Milliseconds until the wall clock has not been set for an hour.
    pub(super) undisturbed_in_ms: u64,
    /// Whether the wall clock shows the time at the start plus the time that has passed since.
    pub(super) is_as_at_start: bool,
}

/// The wall clock was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Jump {
    from_micros: i64,
    to_micros: i64,
    /// Whether this is the first since the clocks agreed.
    pub(super) is_first: bool,
}

impl std::fmt::Display for Jump {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = |micros: i64| Timestamp::from_microsecond(micros).unwrap_or_default();
        write!(out, "from {:.0} to {:.0}", at(self.from_micros), at(self.to_micros))
    }
}

impl Clocks {
    pub(super) const fn is_started(&self) -> bool {
        self.started.is_some()
    }

    /// Reads the clocks, and returns whether the wall clock was set since the last time.
    pub(super) fn read(&mut self, now: Now) -> Option<Jump> {
        let Some(last) = self.last.replace(now) else {
            self.started = Some(now);
            self.agree_since_ms = now.monotonic_ms;
            return None;
        };
        let expected = unix_micros_after(last, now);
        if expected.abs_diff(now.unix_micros) < ORDINARY_MICROS {
            return None;
        }
        let is_first =
            !self.is_told || now.monotonic_ms.saturating_sub(self.agree_since_ms) >= UNDISTURBED_MS;
        self.is_told = true;
        self.agree_since_ms = now.monotonic_ms;
        Some(Jump { from_micros: expected, to_micros: now.unix_micros, is_first })
    }

    pub(super) fn at(&self, now: Now) -> Moment {
        let started = self.started.unwrap_or(now);
        let steady_micros = unix_micros_after(started, now);
        let agree_since_ms = if self.is_started() { self.agree_since_ms } else { now.monotonic_ms };
        let agreed_ms = now.monotonic_ms.saturating_sub(agree_since_ms);
        Moment {
            now,
            uptime_ms: now.monotonic_ms.saturating_sub(started.monotonic_ms),
            steady_ms: steady_micros.div_euclid(1_000),
            undisturbed_in_ms: UNDISTURBED_MS.saturating_sub(agreed_ms),
            is_as_at_start: steady_micros.abs_diff(now.unix_micros) < ORDINARY_MICROS,
        }
    }
}

/// The time that the wall clock shows at `now` if it was not set since `then`.
fn unix_micros_after(then: Now, now: Now) -> i64 {
    let passed_ms = now.monotonic_ms.saturating_sub(then.monotonic_ms);
    let passed = i64::try_from(passed_ms.saturating_mul(1_000)).unwrap_or(i64::MAX);
    then.unix_micros.saturating_add(passed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const DAY_MICROS: i64 = 86_400_000_000;

    fn at(monotonic_ms: u64, unix_micros: i64) -> Now {
        Now { monotonic_ms, unix_micros }
    }

    #[test]
    fn a_wall_clock_is_believed_after_an_hour_in_which_nobody_set_it() {
        let mut clocks = Clocks::default();
        let day = |ms: u64| 20_000 * DAY_MICROS + i64::try_from(ms).unwrap() * 1_000;
        assert_eq!(clocks.read(at(7, day(7))), None);
        assert_eq!(clocks.read(at(7 + 1_800_000, day(1_800_007) + 59_000_000)), None, "a small correction");
        let hour = at(7 + UNDISTURBED_MS, day(7 + UNDISTURBED_MS) + 59_000_000);
        assert_eq!(clocks.at(at(hour.monotonic_ms - 1, 0)).undisturbed_in_ms, 1);
        assert_eq!(clocks.at(hour).undisturbed_in_ms, 0);
        let ahead = at(hour.monotonic_ms + 5, hour.unix_micros + 5_000 + 400 * DAY_MICROS);
        let jump = clocks.read(ahead).unwrap();
        assert_eq!(
            jump.to_string(),
            "from 2024-10-04T01:00:59Z to 2025-11-08T01:00:59Z",
            "it says what it was and what it is"
        );
        assert!(jump.is_first && clocks.at(ahead).undisturbed_in_ms == UNDISTURBED_MS);
        let back = at(hour.monotonic_ms + 3_005, hour.unix_micros + 3_005_000);
        assert!(!clocks.read(back).unwrap().is_first, "told once in an hour");
        let moment = clocks.at(back);
        let expected = (3_603_005, UNDISTURBED_MS, true);
        assert_eq!((moment.uptime_ms, moment.undisturbed_in_ms, moment.is_as_at_start), expected);
    }

    #[test]
    fn the_steady_time_goes_on_from_the_start_whatever_the_wall_clock_says() {
        let mut clocks = Clocks::default();
        assert_eq!(clocks.at(at(5, 9_000)).steady_ms, 9, "before the start it is the wall clock's");
        clocks.read(at(5, 0));
        let moment = clocks.at(at(1_005, 20_000 * DAY_MICROS));
        assert_eq!((moment.steady_ms, moment.is_as_at_start), (1_000, false));
    }
}
