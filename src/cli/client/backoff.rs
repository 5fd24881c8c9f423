//! Retries: back-off with full jitter, the delay that a server requests, and when to give up.

use std::time::{Duration, Instant};

use super::server::Failure;
use super::terminal::tell;
use super::wait::pause;
use crate::shell::reactor::random_seed;

/// The longest first wait; the next may be twice as long, and so on.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// Attempts are never closer together than this.
const SHORTEST: Duration = Duration::from_millis(50);

/// The longest delay that a server can request.
const ASKED_MAX: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) struct Backoff {
    random: fastrand::Rng,
    /// Attempts since the last one that made progress.
    attempts: u32,
    /// When it stopped working.
    since: Option<Instant>,
    /// How long that may last.
    patience: Option<Duration>,
    /// Whether a failed first attempt is also the last.
    is_first: bool,
    asked: Option<Duration>,
}

impl Backoff {
    /// `told` is the time that the user wants to keep trying. Without it, the time is `patience` (`None` is
    /// for ever), and there is no second attempt before it has worked once.
    pub(super) fn new(told: Option<Duration>, patience: Option<Duration>) -> Self {
        Self {
            random: fastrand::Rng::with_seed(random_seed()),
            attempts: 0,
            since: None,
            patience: told.or(patience),
            is_first: told.is_none(),
            asked: None,
        }
    }

    /// There is a connection to a server that behaves as expected.
    pub(super) const fn connected(&mut self) {
        self.is_first = false;
    }

    /// The connection was of use.
    pub(super) const fn progress(&mut self) {
        self.attempts = 0;
        self.since = None;
    }

    /// The server asks not to be contacted again within `ms`.
    pub(super) fn asked(&mut self, ms: u64) {
        self.asked = Some(Duration::from_millis(ms).min(ASKED_MAX));
    }

    /// How long to wait after `failure`.
    ///
    /// # Errors
    /// The line to end with: the failure is permanent, or has lasted for too long.
    fn after(&mut self, failure: &Failure) -> Result<Duration, String> {
        if !failure.is_passing || self.is_first {
            return Err(failure.text.clone());
        }
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        let drawn = self.drawn();
        let wait = self.asked.take().unwrap_or(drawn);
        let Some(patience) = self.patience else { return Ok(wait) };
        let left = patience.saturating_sub(now.saturating_duration_since(since));
        if left.is_zero() {
            return Err(format!("{}; given up after {} s (--retry)", failure.text, patience.as_secs_f64()));
        }
        // The last attempt is made at the end of the time, not before.
        Ok(wait.min(left))
    }

    /// The same, and tells the user.
    pub(super) fn announce(&mut self, failure: &Failure) -> Result<Duration, String> {
        let wait = self.after(failure)?;
        tell(&format!("{}; trying again in {:.1} s", failure.text, wait.as_secs_f64()));
        Ok(wait)
    }

    /// The same, and waits. Returns early if `output` is set and nobody reads standard output any more, and
    /// returns whether that is so.
    pub(super) fn wait(&mut self, failure: &Failure, output: bool) -> Result<bool, String> {
        pause(self.announce(failure)?, output).map_err(|error| format!("cannot wait: {error}"))
    }

    fn drawn(&mut self) -> Duration {
        let most = FIRST.saturating_mul(1 << self.attempts.min(8)).min(LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        most.mul_f64(self.random.f64()).max(SHORTEST)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn waits_grow_are_spread_and_have_bounds() {
        let mut backoff = Backoff::new(None, None);
        backoff.connected();
        let failure = Failure::passing("x");
        let waits = (0..2000).map(|_| backoff.after(&failure).unwrap()).collect::<Vec<_>>();
        assert!(waits.iter().all(|wait| (SHORTEST..=LONGEST).contains(wait)));
        assert!(waits[0] <= FIRST && waits[1] <= 2 * FIRST, "{waits:?}");
        let long = waits.iter().filter(|wait| **wait > LONGEST / 2).count();
        assert!((600..1400).contains(&long), "{long} of 2000");
        backoff.progress();
        assert!(backoff.after(&failure).unwrap() <= FIRST);
    }

    #[test]
    fn the_server_s_own_delay_counts_once_and_is_bounded() {
        let mut backoff = Backoff::new(Some(Duration::from_secs(5000)), None);
        backoff.asked(1234);
        assert_eq!(backoff.after(&Failure::passing("x")), Ok(Duration::from_millis(1234)));
        assert!(backoff.after(&Failure::passing("x")).unwrap() <= 2 * FIRST);
        backoff.asked(u64::MAX);
        assert_eq!(backoff.after(&Failure::passing("x")), Ok(ASKED_MAX));
    }

    #[test]
    fn it_ends_where_it_lasts_and_at_first_unless_told_otherwise() {
        assert_eq!(Backoff::new(None, None).after(&Failure::passing("x")), Err("x".to_owned()));
        let told = Some(Duration::from_secs(9));
        assert!(Backoff::new(told, None).after(&Failure::passing("x")).is_ok());
        assert_eq!(Backoff::new(told, None).after(&Failure::lasting("x")), Err("x".to_owned()));
        let given_up = Backoff::new(Some(Duration::ZERO), None).after(&Failure::passing("x"));
        assert!(given_up.unwrap_err().contains("given up after 0 s"));
    }
}
