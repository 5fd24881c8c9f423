//! The effect of a wrong wall clock on the records that are kept: none that cannot be undone.

use tempfile::TempDir;

use super::*;
use crate::keys::keyed_at;
use crate::retention::{place, rows};

const DAY_MS: u64 = 86_400_000;
const HOUR_MS: u64 = 3_600_000;
const DAY_MICROS: i64 = 86_400_000_000;

/// An engine, and the clocks of its machine.
struct Machine {
    _folder: TempDir,
    path: std::path::PathBuf,
    options: StoreOptions,
    engine: Option<SqliteEngine>,
    monotonic_ms: u64,
    unix_micros: i64,
}

impl Machine {
    fn new(options: StoreOptions) -> Self {
        let (folder, path) = place();
        let Now { monotonic_ms, unix_micros } = NOW;
        Self { _folder: folder, path, options, engine: None, monotonic_ms, unix_micros }
    }

    fn keeping_days(days: f64) -> Self {
        Self::new(StoreOptions { retain_days: Some(days), ..StoreOptions::default() })
    }

    fn now(&self) -> Now {
        Now { monotonic_ms: self.monotonic_ms, unix_micros: self.unix_micros }
    }

    fn engine(&mut self) -> &mut SqliteEngine {
        let (path, options) = (&self.path, &self.options);
        self.engine.get_or_insert_with(|| open_with(path, options))
    }

    fn restart(&mut self) {
        self.engine = None;
        self.live(0);
    }

    fn set_clock(&mut self, days: i64) {
        self.unix_micros += days * DAY_MICROS;
    }

    /// Lets this time pass, with a turn whenever one is due.
    fn live(&mut self, ms: u64) {
        let mut left = ms;
        for _ in 0..20_000 {
            let now = self.now();
            let Some(due) = self.engine().due_in_ms(now).filter(|due| *due <= left) else {
                return self.pass(left);
            };
            left -= due;
            self.pass(due);
            let now = self.now();
            turn(self.engine(), now, 4, &mut Vec::new());
        }
        panic!("it spins");
    }

    fn pass(&mut self, ms: u64) {
        self.monotonic_ms += ms;
        self.unix_micros += i64::try_from(ms).unwrap() * 1_000;
    }

    /// Stores a message with the current time, as a server does.
    fn publish(&mut self) -> u64 {
        let now = self.now();
        let timestamp = jiff::Timestamp::from_microsecond(now.unix_micros).unwrap().to_string();
        let message = Message { timestamp: Rc::from(timestamp), ..message("a", "x") };
        self.engine().append(Record::Message(message), None, None);
        match run_at(self.engine(), now).as_slice() {
            [Answer::Committed { id, .. }] => *id,
            other => panic!("not stored: {other:?}"),
        }
    }

    fn keyed(&mut self, key: &str) -> (u64, bool) {
        let now = self.now();
        keyed_at(self.engine(), Record::Message(message("a", key)), key, now)
    }

    fn oldest(&mut self) -> u64 {
        self.engine().oldest_message()
    }
}

#[test]
fn one_message_from_the_future_does_not_stop_deletion() {
    let mut machine = Machine::keeping_days(2.0);
    machine.set_clock(3_000);
    machine.publish();
    machine.set_clock(-3_000);
    machine.publish();
    machine.live(DAY_MS);
    machine.publish();
    machine.restart();
    machine.live(DAY_MS - 60_000);
    assert_eq!(machine.oldest(), 1);
    machine.live(180_000);
    assert_eq!(machine.oldest(), 3, "it is as old as the one behind it");
    machine.live(DAY_MS);
    assert_eq!(machine.oldest(), 4);
}

#[test]
fn a_clock_that_is_ahead_for_a_moment_deletes_nothing() {
    let mut machine = Machine::keeping_days(2.0);
    machine.publish();
    machine.restart();
    machine.publish();
    machine.set_clock(400);
    machine.live(3_000);
    assert_eq!(machine.publish(), 3);
    machine.live(3_000);
    machine.set_clock(-400);
    machine.live(2 * DAY_MS - 120_000);
    assert_eq!(machine.oldest(), 1);
    machine.live(240_000);
    assert_eq!(machine.oldest(), 4, "all are two days old");
}

#[test]
fn a_clock_that_is_ahead_at_the_start_deletes_nothing() {
    let mut machine = Machine::keeping_days(2.0);
    machine.publish();
    machine.live(DAY_MS);
    machine.publish();
    machine.set_clock(400);
    machine.restart();
    machine.live(HOUR_MS - 60_000);
    assert_eq!(machine.oldest(), 1);
    machine.set_clock(-400);
    machine.live(23 * HOUR_MS);
    assert_eq!(machine.oldest(), 1, "a day old");
    machine.live(2 * HOUR_MS);
    assert_eq!(machine.oldest(), 2, "two days old");
}

#[test]
fn a_clock_that_is_set_from_1970_deletes_nothing() {
    let mut machine = Machine::keeping_days(2.0);
    let today = machine.unix_micros;
    machine.unix_micros = 0;
    machine.publish();
    machine.live(5_000);
    machine.unix_micros = today;
    machine.publish();
    machine.live(DAY_MS);
    machine.restart();
    machine.live(2 * HOUR_MS);
    assert_eq!(machine.oldest(), 1, "what says 1970 is as old as what comes after it");
    machine.live(DAY_MS);
    assert_eq!(machine.oldest(), 3);
}

#[test]
fn what_was_looked_at_while_the_clock_was_in_1970_is_looked_at_again() {
    let mut machine = Machine::keeping_days(2.0);
    machine.publish();
    machine.live(HOUR_MS);
    machine.publish();
    let today = machine.unix_micros;
    machine.unix_micros = 0;
    machine.restart();
    machine.live(2 * HOUR_MS);
    machine.unix_micros = today + 2 * DAY_MICROS;
    machine.live(HOUR_MS - 1);
    assert_eq!(machine.oldest(), 1, "nobody knows yet whether it is right");
    machine.live(120_000);
    assert_eq!(machine.oldest(), 3);
}

#[test]
fn age_needs_no_wall_clock_once_the_process_itself_is_that_old() {
    let mut machine = Machine::keeping_days(0.001);
    machine.publish();
    machine.restart();
    machine.publish();
    machine.live(86_399);
    assert_eq!(machine.oldest(), 1);
    machine.live(2_000);
    assert_eq!((machine.oldest(), rows(&machine.path, "messages")), (3, 0));
}

#[test]
fn keys_outlive_a_restart_whatever_the_clock_says() {
    for days in [400, -400, -20_000] {
        let mut machine = Machine::new(StoreOptions::default());
        assert_eq!(machine.keyed("key"), (1, false));
        machine.set_clock(days);
        machine.restart();
        machine.live(299_999);
        assert_eq!(machine.keyed("key"), (1, true), "{days}");
        machine.live(1);
        assert_eq!(machine.keyed("key"), (2, false), "{days}");
        machine.set_clock(-days);
        machine.restart();
        assert_eq!(machine.keyed("key"), (2, true), "{days}");
        machine.live(2 * DAY_MS);
        assert_eq!(rows(&machine.path, "polecat_keys"), 0, "{days}");
    }
}

#[test]
fn keys_do_not_pile_up_over_restarts_that_are_closer_than_the_window() {
    let mut machine = Machine::new(StoreOptions { idempotency_window_ms: DAY_MS, ..StoreOptions::default() });
    for day in 0..9 {
        assert_eq!(machine.keyed(&day.to_string()), (day + 1, false));
        machine.live(23 * HOUR_MS);
        machine.restart();
    }
    machine.live(HOUR_MS + 60_000);
    assert!(rows(&machine.path, "polecat_keys") <= 2, "those of the last day");
}
