//! Messages that were sent and not answered: each may or may not be stored. Such a message is sent again only
//! while the server remembers its idempotency key, and so stores it once.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A time by a clock that nobody sets, and that goes on while the machine sleeps. The server's may stand still
/// meanwhile: then it remembers a key for longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment(Duration);

/// On Linux the monotonic clock sleeps with the machine.
#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::Monotonic;

impl Moment {
    pub(super) fn now() -> Self {
        let time = clock_gettime(CLOCK);
        let part = |number: i64| u64::try_from(number).unwrap_or_default();
        Self(Duration::from_secs(part(time.tv_sec)) + Duration::from_nanos(part(time.tv_nsec)))
    }

    #[cfg(test)]
    pub(super) const fn at_ms(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// When a message that may be stored was first sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    first: Moment,
    /// The shortest window that a server has reported since then: the server may have been restarted with
    /// another one.
    window: Duration,
}

impl Sent {
    /// It is sent for the first time, to a server that remembers keys for `window`.
    pub(super) const fn new(first: Moment, window: Duration) -> Self {
        Self { first, window }
    }

    /// Whether it may be sent again, to a server that remembers keys for `window`.
    pub(super) fn check(&mut self, window: Duration, now: Moment) -> Result<(), String> {
        self.window = self.window.min(window);
        let age = now.since(self.first);
        // A message under way takes time too.
        if age < self.window.mul_f64(0.8) {
            return Ok(());
        }
        let (age, window) = (age.as_secs_f64(), self.window.as_secs_f64());
        Err(format!("it was first sent {age:.1} s ago, and the server remembers its key for {window} s"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_sent_again_within_four_fifths_of_the_shortest_window() {
        let seconds = Duration::from_secs;
        let mut sent = Sent::new(Moment::at_ms(1_000), Duration::MAX);
        assert_eq!(sent.check(seconds(10), Moment::at_ms(8_999)), Ok(()));
        assert!(sent.check(seconds(10), Moment::at_ms(9_000)).is_err());
        // A key that was once forgotten does not come back.
        assert!(sent.check(seconds(300), Moment::at_ms(9_000)).is_err());
        assert_eq!(sent.check(seconds(300), Moment::at_ms(8_999)), Ok(()));
        let told = "it was first sent 2.5 s ago, and the server remembers its key for 0.5 s";
        assert_eq!(sent.check(Duration::from_millis(500), Moment::at_ms(3_500)), Err(told.to_owned()));
        assert!(
            Sent::new(Moment::at_ms(7), Duration::MAX).check(Duration::ZERO, Moment::at_ms(7)).is_err(),
            "it says none"
        );
    }
}
