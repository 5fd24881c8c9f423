//! The clocks of the system.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::base::time::Now;

/// The clocks, read once per turn.
pub(crate) struct Clock {
    pub(crate) origin: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    pub(crate) fn now(&self) -> Now {
        self.at(Instant::now())
    }

    /// Both clocks, given the one that has just been read.
    pub(crate) fn at(&self, instant: Instant) -> Now {
        let elapsed = instant.duration_since(self.origin);
        let monotonic_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        Now { monotonic_ms, unix_micros: unix_micros() }
    }
}

/// Microseconds since 1970, in UTC; zero before that.
pub(crate) fn unix_micros() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX)
}
