//! Waiting for what must happen. Tests look at a clock only here, as `tidy.rs` checks: a test waits for a
//! state, however long that takes. How long something takes is checked in simulated time (`sim/`), where it
//! is exact, or measured in `benches/`.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// How long a test waits for something that must happen before it fails. A passing test never waits for all
/// of it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Patience with something that must make progress.
pub(crate) struct Patience(Instant);

impl Patience {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }

    /// Something has made progress: the time for the next step begins.
    pub(crate) fn renew(&mut self) {
        *self = Self::new();
    }

    /// Fails the test if the time is over.
    pub(crate) fn check(&self, what: impl Display) {
        self.check_with(|| what);
    }

    /// The same; only a failure calls `what`.
    pub(crate) fn check_with<T: Display>(&self, what: impl FnOnce() -> T) {
        assert!(self.0.elapsed() < PATIENCE, "{}: not within {PATIENCE:?}", what());
    }
}

/// Tries until `attempt` succeeds.
pub(crate) fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let patience = Patience::new();
    loop {
        if let Some(outcome) = attempt() {
            return outcome;
        }
        patience.check(what);
    }
}

/// Waits until that is true.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    eventually(what, || is_so().then_some(()));
}

/// Lets `time` pass, and calls `attend` with the remaining time for everything that must be done meanwhile.
pub(crate) fn let_pass(time: Duration, mut attend: impl FnMut(Duration)) {
    let begun = Instant::now();
    while let Some(left) = time.checked_sub(begun.elapsed()) {
        attend(left);
    }
}

/// Goes off after a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Alarm(Instant);

impl Alarm {
    pub(crate) fn after(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    pub(crate) fn has_gone_off(self) -> bool {
        self.0 <= Instant::now()
    }
}

/// Shows that something is not too early: a time that began before cannot seem shorter than it is. It cannot
/// show that something is not too late, since any machine may be slower.
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Fails the test if less time has passed.
    pub(crate) fn expect_at_least(&self, time: Duration) {
        let elapsed = self.0.elapsed();
        assert!(elapsed >= time, "too early: {elapsed:?} instead of {time:?}");
    }
}
