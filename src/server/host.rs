//! What only the shell knows: how long its turns take, and what the process uses of the machine. It tells of each turn,
//! and of the process if it is asked.

use crate::base::histogram::Histogram;

/// What the system tells of this process; `None` is what it does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ProcessStats {
    /// Descriptors in use.
    pub descriptors: Option<u64>,
    /// Descriptors that it may use.
    pub descriptors_max: Option<u64>,
    /// Bytes of memory in use.
    pub resident_bytes: Option<u64>,
    /// Bytes of address space.
    pub virtual_bytes: Option<u64>,
    /// Seconds on a processor since the start.
    pub cpu_seconds: Option<f64>,
    /// When it was started, in seconds since 1970.
    pub started_unix_seconds: Option<f64>,
}

/// The process that a server runs in, as far as the server asks about it.
pub trait Host {
    /// The current values; there are this many connections.
    fn process_stats(&self, connections: usize) -> ProcessStats;
}

/// A process of which nothing is known.
impl Host for () {
    fn process_stats(&self, _connections: usize) -> ProcessStats {
        ProcessStats::default()
    }
}

/// One time round the loop, from one poll to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoopTiming {
    /// Microseconds from the end of one poll to the beginning of the next.
    pub turn_us: u64,
    /// How much later than asked for the poll has come back, in microseconds; `None` if
    /// something has woken it before that.
    pub lag_us: Option<u64>,
    /// Whether it might have slept.
    pub slept: bool,
}

/// The laps since the start. What a histogram counts is never the loop's own clock: that is
/// the shell's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoopTimings {
    /// Microseconds of turns.
    pub turn_us: Histogram,
    /// Microseconds that the loop looked later than it had asked for.
    pub lag_us: Histogram,
    /// Polls that might have slept, and have come back.
    pub wakeups: u64,
    turn_us_max: RecentMax,
    lag_us_max: RecentMax,
}

/// The longest of the last half minute at least, and of the last minute at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct RecentMax {
    window: u64,
    current: u64,
    previous: u64,
}

/// How long a window of [`RecentMax`] is.
const WINDOW_MS: u64 = 30_000;

impl LoopTimings {
    pub(super) fn note(&mut self, lap: LoopTiming, now_ms: u64) {
        self.turn_us.observe(lap.turn_us);
        self.turn_us_max.note(lap.turn_us, now_ms);
        if let Some(lag_us) = lap.lag_us {
            self.lag_us.observe(lag_us);
            self.lag_us_max.note(lag_us, now_ms);
        }
        self.wakeups += u64::from(lap.slept);
    }

    /// The longest turn and the greatest lag of the last 30 to 60 seconds.
    pub(super) fn recent_max(&self, now_ms: u64) -> (u64, u64) {
        (self.turn_us_max.at(now_ms), self.lag_us_max.at(now_ms))
    }
}

impl RecentMax {
    fn note(&mut self, value: u64, now_ms: u64) {
        let window = now_ms / WINDOW_MS;
        if window != self.window {
            self.previous = if window == self.window + 1 { self.current } else { 0 };
            self.current = 0;
            self.window = window;
        }
        self.current = self.current.max(value);
    }

    const fn at(&self, now_ms: u64) -> u64 {
        match (now_ms / WINDOW_MS).saturating_sub(self.window) {
            0 if self.previous > self.current => self.previous,
            0 | 1 => self.current,
            _ => 0,
        }
    }
}

/// The process, as what is asked about the server needs it.
pub(super) struct Process {
    pub(super) host: Box<dyn Host>,
    pub(super) timings: LoopTimings,
    /// When the server was started, by the shell's clock.
    pub(super) started_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_turn_is_forgotten_within_a_minute() {
        let mut laps = LoopTimings::default();
        let lap = |turn_us| LoopTiming { turn_us, lag_us: Some(turn_us / 2), slept: true };
        laps.note(lap(700), 1_000);
        laps.note(lap(20), 29_000);
        assert_eq!(laps.recent_max(29_999), (700, 350));
        assert_eq!(laps.recent_max(30_000), (700, 350));
        laps.note(lap(10), 31_000);
        assert_eq!(laps.recent_max(59_999), (700, 350));
        assert_eq!(laps.recent_max(60_000), (10, 5));
        laps.note(lap(3), 61_000);
        assert_eq!(laps.recent_max(61_000), (10, 5));
        laps.note(lap(2), 200_000);
        assert_eq!(laps.recent_max(200_000), (2, 1));
        assert_eq!(laps.recent_max(300_000), (0, 0));
        assert_eq!((laps.wakeups, laps.turn_us.count(), laps.lag_us.count()), (5, 5, 5));
    }
}
