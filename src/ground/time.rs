//! Time as an argument. The shell reads the clock once per turn and hands it
//! down as a [`Now`]; nothing else knows what time it is.

/// One reading of both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that never goes back, from any origin.
    pub monotonic_ms: u64,
    /// Microseconds since 1970-01-01T00:00:00 UTC, as the wall clock says.
    pub unix_micros: i64,
}

/// A moment of the monotonic clock in 4 bytes: milliseconds modulo 2^32.
///
/// Two stamps are compared by their distance, which is right as long as they
/// are less than 49 days apart. Whatever a server keeps a stamp of is looked at
/// every heartbeat interval or sooner, and that is at most a day
/// ([`crate::ground::config::HEARTBEAT_INTERVAL_MS_MAX`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp(u32);

impl Stamp {
    /// The stamp of `ms` milliseconds on the monotonic clock.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "modulo 2^32 is the representation")]
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms as u32)
    }

    /// Milliseconds from `earlier` to this stamp.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }
}

/// The clock by which deadlines fall due: it does not count the time in which
/// the loop was not attending.
///
/// A loop that was stopped (a suspended laptop, SIGSTOP, a slow disk) finds
/// every deadline overdue at once, while the peers' bytes still lie unread. So
/// a step of this clock is never longer than the poll time-out that was asked
/// for, plus [`Self::LATENESS_MS_MAX`]: the rest of the delay is credited to
/// every deadline by simply not having happened.
#[derive(Debug, Clone, Copy, Default)]
pub struct AttendedClock {
    attended_ms: u64,
    wall_ms: u64,
    asked_ms: Option<u64>,
}

impl AttendedClock {
    /// A turn this much later than asked for is ordinary; more is a stall.
    pub const LATENESS_MS_MAX: u64 = 100;

    /// A clock that starts at `now`.
    #[must_use]
    pub const fn new(now: Now) -> Self {
        Self { attended_ms: 0, wall_ms: now.monotonic_ms, asked_ms: Some(0) }
    }

    /// Remembers how long the coming poll may sleep; `None` is for ever.
    pub const fn sleep(&mut self, timeout_ms: Option<u64>) {
        self.asked_ms = timeout_ms;
    }

    /// Moves on to `now` and returns the milliseconds that were not counted.
    pub fn advance(&mut self, now: Now) -> u64 {
        let passed = now.monotonic_ms.saturating_sub(self.wall_ms);
        let counted = match self.asked_ms {
            Some(asked) => passed.min(asked.saturating_add(Self::LATENESS_MS_MAX)),
            None => passed,
        };
        self.wall_ms = self.wall_ms.max(now.monotonic_ms);
        self.attended_ms = self.attended_ms.saturating_add(counted);
        passed - counted
    }

    /// Milliseconds attended since the start.
    #[must_use]
    pub const fn ms(&self) -> u64 {
        self.attended_ms
    }

    /// The same as a stamp.
    #[must_use]
    pub const fn stamp(&self) -> Stamp {
        Stamp::from_ms(self.attended_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(monotonic_ms: u64) -> Now {
        Now { monotonic_ms, unix_micros: 0 }
    }

    #[test]
    fn stamps_measure_across_the_wrap() {
        let before = Stamp::from_ms(u64::from(u32::MAX) - 5);
        let after = Stamp::from_ms(u64::from(u32::MAX) + 10);
        assert_eq!(after.since(before), 15);
    }

    #[test]
    fn a_stall_is_not_counted() {
        let mut clock = AttendedClock::new(at(1_000));
        clock.sleep(Some(50));
        assert_eq!(clock.advance(at(1_050)), 0);
        clock.sleep(Some(50));
        assert_eq!(clock.advance(at(61_050)), 60_000 - 50 - AttendedClock::LATENESS_MS_MAX);
        assert_eq!(clock.ms(), 50 + 50 + AttendedClock::LATENESS_MS_MAX);
    }

    #[test]
    fn a_clock_that_goes_back_stands_still() {
        let mut clock = AttendedClock::new(at(1_000));
        clock.sleep(None);
        clock.advance(at(1_500));
        clock.advance(at(900));
        assert_eq!(clock.ms(), 500);
    }
}
