//! The idempotency keys of appends: a record with a known key is not stored again within the window.
//!
//! A key is written in the transaction that stores its record, so the two are never apart, not even after
//! restarts and crashes. A key that was stored since the start ages by the monotonic clock. No clock says
//! reliably how old an earlier key is: its window begins anew at the start, and it is forgotten sooner only
//! if the wall clock can be believed.

use rusqlite::{Connection, OptionalExtension as _};

use crate::store::engine::{Record, Stream};

use super::clocks::Moment;
use super::queries::{self, Ids};

const FIND: &str = "SELECT id, stored FROM polecat_keys WHERE stream = ?1 AND key = ?2";
const NOTE: &str = "INSERT INTO polecat_keys (stream, key, id, stored) VALUES (?1, ?2, ?3, ?4)
     ON CONFLICT (stream, key) DO UPDATE SET id = excluded.id, stored = excluded.stored";
const OLDEST: &str = "SELECT min(stored) FROM polecat_keys";
const NEWEST: &str = "SELECT max(stored) FROM polecat_keys";
const FORGET: &str = "DELETE FROM polecat_keys WHERE (stream, key) IN
     (SELECT stream, key FROM polecat_keys INDEXED BY polecat_keys_stored WHERE stored <= ?1 ORDER BY stored LIMIT ?2)";
const FORGET_LATER: &str = "DELETE FROM polecat_keys WHERE (stream, key) IN
     (SELECT stream, key FROM polecat_keys INDEXED BY polecat_keys_stored WHERE stored >= ?1 ORDER BY stored LIMIT ?2)";

pub(super) const ALL: [&str; 6] = [FIND, NOTE, OLDEST, NEWEST, FORGET, FORGET_LATER];

/// Milliseconds that an expired key stays, so that many are deleted at once.
const SLACK_MS: u64 = 10_000;

/// What is known about the keys without reading them: if there are none, they cost nothing.
#[derive(Debug)]
pub(super) struct Keys {
    window_ms: u64,
    /// The newest ids at the start: keys up to them are from before.
    before: Ids,
    /// The steady times between which all existing keys were stored.
    span: Option<(i64, i64)>,
}

impl Keys {
    /// `newest` are the ids at the start.
    pub(super) fn read(connection: &Connection, newest: Ids, window_ms: u64) -> rusqlite::Result<Self> {
        let mut keys = Self { window_ms, before: newest, span: None };
        keys.look(connection)?;
        Ok(keys)
    }

    pub(super) const fn window_ms(&self) -> u64 {
        self.window_ms
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.span.is_none()
    }

    /// The record that was stored with `key` on the stream of `record`, if that is within the window. If it
    /// has been deleted since, `record` stands in for it.
    pub(super) fn find(
        &self,
        connection: &Connection,
        record: &Record,
        key: &str,
        moment: Moment,
    ) -> rusqlite::Result<Option<(u64, Record)>> {
        let stream = record.stream();
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
        let found = connection.prepare_cached(FIND)?.query_row((name_of(&stream), key), read).optional()?;
        match found {
            Some((id, stored)) if self.age_ms(&stream, id, stored, moment) < self.window_ms => {
                let first = queries::record(connection, &stream, id)?;
                Ok(Some((id.unsigned_abs(), first.unwrap_or_else(|| record.clone()))))
            }
            _ => Ok(None),
        }
    }

    /// How long ago the key of `id` was stored, or the process was started.
    fn age_ms(&self, stream: &Stream, id: i64, stored: i64, moment: Moment) -> u64 {
        let before = if *stream == Stream::Events { self.before.event } else { self.before.message };
        if id.unsigned_abs() <= before {
            return moment.uptime_ms;
        }
        moment.steady_ms.saturating_sub(stored).max(0).unsigned_abs()
    }

    /// Remembers that the append with `key` got this `id`.
    pub(super) fn note(
        &self,
        connection: &Connection,
        record: &Record,
        key: &str,
        id: u64,
        moment: Moment,
    ) -> rusqlite::Result<()> {
        let values = (name_of(&record.stream()).to_owned(), key, queries::row_id(id), moment.steady_ms);
        connection.prepare_cached(NOTE)?.execute(values)?;
        Ok(())
    }

    /// Records that keys were stored at `moment`.
    pub(super) fn noted(&mut self, moment: Moment) {
        let now = moment.steady_ms;
        let (oldest, newest) = self.span.unwrap_or((now, now));
        self.span = Some((oldest.min(now), newest.max(now)));
    }

    pub(super) fn due_in_ms(&self, moment: Moment) -> Option<u64> {
        let (oldest, newest) = self.span?;
        let until = |time: i64| time.saturating_sub(moment.steady_ms).max(0).unsigned_abs();
        let kept_ms = self.window_ms.saturating_add(SLACK_MS);
        let until_all_from_before_are_over = kept_ms.saturating_sub(moment.uptime_ms);
        if until(newest) >= kept_ms {
            // Stored while the wall clock was ahead, before the start.
            return Some(until_all_from_before_are_over);
        }
        let until_times_are_believed =
            if moment.is_as_at_start { moment.undisturbed_in_ms } else { u64::MAX };
        let until_oldest = until(oldest.saturating_add(i64::try_from(kept_ms).unwrap_or(i64::MAX)));
        Some(until_oldest.max(until_all_from_before_are_over.min(until_times_are_believed)))
    }

    /// Forgets at most `rows_max` expired keys, within a transaction. Returns whether there may be more.
    /// Afterwards, the known facts must be read again.
    pub(super) fn forget(
        &self,
        connection: &Connection,
        rows_max: usize,
        moment: Moment,
    ) -> rusqlite::Result<bool> {
        let rows = i64::try_from(rows_max).unwrap_or(i64::MAX);
        let window = i64::try_from(self.window_ms).unwrap_or(i64::MAX);
        let before = moment.steady_ms.saturating_sub(window);
        let early = connection.prepare_cached(FORGET)?.execute((before, rows))?;
        if moment.uptime_ms < self.window_ms {
            return Ok(early >= rows_max);
        }
        let after = moment.steady_ms.saturating_add(window);
        let later = connection.prepare_cached(FORGET_LATER)?.execute((after, rows))?;
        Ok(early.max(later) >= rows_max)
    }

    pub(super) fn look(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let end = |sql| connection.prepare_cached(sql)?.query_row((), |row| row.get::<_, Option<i64>>(0));
        self.span = end(OLDEST)?.zip(end(NEWEST)?);
        Ok(())
    }
}

/// The stream's name in the table. No channel's name is empty.
fn name_of(stream: &Stream) -> &str {
    match stream {
        Stream::Events => "",
        Stream::Channel(name) => name,
    }
}
