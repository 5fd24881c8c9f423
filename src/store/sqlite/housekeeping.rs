//! What is deleted, and when: records beyond the retention limits, and expired keys.
//!
//! Deletion is done in steps. Each is a transaction of its own after that of the turn, so that a failing step
//! costs no append. After a turn that stored much, a step also deletes much: otherwise a loop that is never
//! idle would never catch up.

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::base::time::Now;

use super::clocks::{Clocks, Moment};
use super::counts::Counts;
use super::details::KeptCounts;
use super::keys::Keys;
use super::queries::Ids;
use super::retention::Retention;
use super::shrink::Shrink;

/// The rows of each table that a step deletes; or twice as many as were stored since the last step, if that
/// is more.
const STEP_ROWS: usize = 256;
/// The most rows of each table that a step deletes.
const STEP_ROWS_MAX: usize = 2_048;
/// Milliseconds after an append within which the records that it replaces are deleted, if they are fewer than
/// a step.
const GATHER_MS: u64 = 100;
/// Milliseconds between two steps of many.
const PAUSE_MS: u64 = 10;
/// Milliseconds after a failed step.
const PAUSE_AFTER_FAILURE_MS: u64 = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    Nothing,
    /// The file was written, but no record was deleted.
    Wrote,
    Deleted,
}

/// Deletes expired records and keys.
#[derive(Debug)]
pub(super) struct Housekeeping {
    pub(super) keys: Keys,
    retention: Retention,
    pub(super) shrink: Shrink,
    clocks: Clocks,
    /// When to look for records to delete.
    look_at_ms: Option<u64>,
    /// The next step is not made before this time.
    rest_until_ms: u64,
    stepped_at_ms: u64,
    /// Records stored since the last step.
    appended: usize,
}

impl Housekeeping {
    /// `is_at_once` says that there are pages to give back.
    pub(super) fn new(keys: Keys, retention: Retention, shrink: Shrink, is_at_once: bool) -> Self {
        Self {
            look_at_ms: (is_at_once || !retention.keeps_all()).then_some(0),
            keys,
            retention,
            shrink,
            clocks: Clocks::default(),
            rest_until_ms: 0,
            stepped_at_ms: 0,
            appended: 0,
        }
    }

    /// Reads the clocks; this must come before they decide anything. `newest` are the newest ids.
    pub(super) fn read_clocks(&mut self, newest: Ids, now: Now) {
        if !self.clocks.is_started() {
            self.retention.start(newest, now);
        }
        if let Some(jump) = self.clocks.read(now) {
            self.retention.clock_was_set(jump);
        }
    }

    /// The time, in the forms that ages are calculated from.
    pub(super) fn moment(&self, now: Now) -> Moment {
        self.clocks.at(now)
    }

    /// Notes that records were stored, up to `newest`.
    pub(super) fn appended(&mut self, count: usize, newest: Ids, now: Now) {
        if self.retention.keeps_all() {
            return;
        }
        self.retention.stored(newest, now);
        self.appended += count;
        let at = if self.appended < STEP_ROWS { self.stepped_at_ms.saturating_add(GATHER_MS) } else { 0 };
        self.look_at_ms = Some(self.look_at_ms.map_or(at, |earlier| earlier.min(at)));
    }

    pub(super) fn due_in_ms(&self, now: Now) -> Option<u64> {
        let until = |at: u64| at.saturating_sub(now.monotonic_ms);
        if !self.clocks.is_started() && !self.keys.is_empty() {
            // The window of keys from before the start begins now.
            return Some(0);
        }
        let look = self.look_at_ms.map(until);
        let due = [look, self.keys.due_in_ms(self.moment(now))].into_iter().flatten().min()?;
        Some(due.max(until(self.rest_until_ms)))
    }

    /// Makes a step and returns its outcome. `newest` are the ids that were announced last.
    pub(super) fn step(
        &mut self,
        connection: &Connection,
        counts: &mut Counts,
        kept: &mut KeptCounts,
        newest: Ids,
        now: Now,
    ) -> Done {
        let rows_max = (2 * std::mem::take(&mut self.appended)).clamp(STEP_ROWS, STEP_ROWS_MAX);
        self.stepped_at_ms = now.monotonic_ms;
        match self.delete(connection, counts, kept, newest, rows_max, now) {
            Ok((done, is_cut)) => {
                let interval = if is_cut { Some(PAUSE_MS) } else { self.retention.scan_interval_ms() };
                self.look_at_ms = interval.map(|ms| now.monotonic_ms.saturating_add(ms));
                self.rest_until_ms = now.monotonic_ms.saturating_add(PAUSE_MS);
                done
            }
            Err(error) => {
                log::warn!("old records could not be deleted yet: {error}");
                self.rest_until_ms = now.monotonic_ms.saturating_add(PAUSE_AFTER_FAILURE_MS);
                Done::Nothing
            }
        }
    }

    /// Also returns whether there is more to do.
    fn delete(
        &mut self,
        connection: &Connection,
        counts: &mut Counts,
        kept: &mut KeptCounts,
        newest: Ids,
        rows_max: usize,
        now: Now,
    ) -> rusqlite::Result<(Done, bool)> {
        let moment = self.moment(now);
        let records = self.retention.step(connection, newest, rows_max, moment)?;
        let has_keys = self.keys.due_in_ms(moment) == Some(0);
        if records.is_empty() && !has_keys {
            return match self.shrink.over(connection)? {
                0 => Ok((Done::Nothing, records.is_cut)),
                pages => Ok((Done::Wrote, self.shrink.give_back(connection, pages)? || records.is_cut)),
            };
        }
        let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
        let mut deleted = Vec::new();
        records.delete(&transaction, counts, (!kept.is_empty()).then_some(&mut deleted))?;
        if has_keys {
            self.keys.forget(&transaction, rows_max, moment)?;
        }
        transaction.commit()?;
        deleted.iter().for_each(|message| kept.deleted(message));
        if has_keys {
            self.keys.look(connection)?;
        }
        // Deleted records may have left free pages, which the next step gives back.
        let is_cut = records.is_cut || self.shrink.over(connection)? > 0;
        Ok((if records.is_empty() { Done::Wrote } else { Done::Deleted }, is_cut))
    }
}
