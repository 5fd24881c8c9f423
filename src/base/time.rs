//! Time as an argument. The shell reads the clock once per turn and passes it down as a [`Now`]; nothing else
//! reads a clock.

/// One reading of both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that never goes back, with any origin.
    pub monotonic_ms: u64,
    /// Microseconds since 1970-01-01T00:00:00 UTC, according to the wall clock.
    pub unix_micros: i64,
}

/// A time of the monotonic clock in 4 bytes: milliseconds modulo 2^32.
///
/// Two stamps are compared by their distance, which is right as long as they are less than 49 days apart. The
/// server looks at every stamp that it keeps at least once per heartbeat interval, which is at most a day
/// ([`crate::base::config::HEARTBEAT_INTERVAL_MS_MAX`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp(u32);

impl Stamp {
    #[expect(clippy::cast_possible_truncation, reason = "modulo 2^32 is the representation")]
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms as u32)
    }

    pub const fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }
}

/// The clock that deadlines use: stalled time does not count.
///
/// A loop that was stopped (a suspended laptop, SIGSTOP, a slow disk) finds every deadline overdue at once,
/// while bytes from the peers are still unread. So a turn or a poll counts for no longer than it normally
/// takes; the excess does not count toward deadlines.
///
/// If the process was stopped while it slept, nobody knows how soon after it fell asleep that happened. Then
/// none of that sleep counts: perhaps a peer was sent a Ping just before, and has had no time to answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct AttendedClock {
    attended_ms: u64,
    wall_ms: u64,
    asked_ms: Option<u64>,
    was_stopped: bool,
}

impl AttendedClock {
    /// A turn this long, or a poll that returns this much late, is normal; anything longer is a stall.
    pub const LATENESS_MS_MAX: u64 = 100;

    /// If a poll returns this much late, it was not only late: the process was stopped.
    pub const STOP_MS_MIN: u64 = 1_000;

    pub const fn new(now: Now) -> Self {
        Self { attended_ms: 0, wall_ms: now.monotonic_ms, asked_ms: Some(0), was_stopped: false }
    }

    /// Remembers how long the next poll may sleep; `None` is for ever.
    pub const fn sleep(&mut self, timeout_ms: Option<u64>) {
        self.asked_ms = timeout_ms;
    }

    /// Remembers that the process was stopped during the poll that has just returned.
    pub const fn note_stop(&mut self) {
        self.was_stopped = true;
    }

    /// Advances to `now`, at the end of a turn, when the poll begins. Returns the milliseconds that did not
    /// count.
    pub fn end_turn(&mut self, now: Now) -> u64 {
        self.count(now, |passed| passed.min(Self::LATENESS_MS_MAX))
    }

    /// Advances to `now`, when the poll has returned. Returns the milliseconds that did not count.
    pub fn advance(&mut self, now: Now) -> u64 {
        let asked = self.asked_ms.unwrap_or(u64::MAX);
        let was_stopped = std::mem::take(&mut self.was_stopped);
        self.count(now, |passed| match passed.saturating_sub(asked) {
            late if was_stopped || late >= Self::STOP_MS_MIN => passed.min(Self::LATENESS_MS_MAX),
            late => passed - late + late.min(Self::LATENESS_MS_MAX),
        })
    }

    fn count(&mut self, now: Now, part: impl Fn(u64) -> u64) -> u64 {
        let passed = now.monotonic_ms.saturating_sub(self.wall_ms);
        let counted = part(passed);
        self.wall_ms = self.wall_ms.max(now.monotonic_ms);
        self.attended_ms = self.attended_ms.saturating_add(counted);
        passed - counted
    }

    /// Milliseconds since the start, without stalled time.
    pub const fn ms(&self) -> u64 {
        self.attended_ms
    }

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
        assert_eq!(clock.advance(at(61_050)), 60_000 - AttendedClock::LATENESS_MS_MAX);
        assert_eq!(clock.ms(), 50 + AttendedClock::LATENESS_MS_MAX);
    }

    #[test]
    fn of_a_sleep_in_which_it_was_stopped_nothing_counts() {
        let mut clock = AttendedClock::new(at(0));
        let mut step = |asked, now, is_known: bool| {
            clock.sleep(Some(asked));
            if is_known {
                clock.note_stop();
            }
            let before = clock.ms();
            clock.advance(at(now));
            clock.ms() - before
        };
        // Late, as on a busy machine; so late that it must have been stopped; stopped, as a signal says.
        assert_eq!(step(25_000, 25_900, false), 25_100);
        assert_eq!(step(25_000, 25_900 + 26_000, false), 100);
        assert_eq!(step(25_000, 51_900 + 10_000, true), 100);
        assert_eq!(step(25_000, 61_900 + 40, true), 40);
        assert_eq!(step(25_000, 61_940 + 25_000, false), 25_000, "that goes for one sleep");
    }

    #[test]
    fn a_long_turn_is_no_part_of_the_sleep_after_it() {
        let mut clock = AttendedClock::new(at(0));
        clock.sleep(Some(500));
        assert_eq!(clock.end_turn(at(3_000)), 2_900);
        assert_eq!(clock.advance(at(3_500)), 0);
        assert_eq!(clock.ms(), 600);
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
