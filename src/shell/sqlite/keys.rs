//! The keys of appends: what was stored with one is not stored again within
//! the window.
//!
//! A key is written in the transaction that stores its record, so the two are
//! never apart, over restarts and crashes too. Times are those of the wall clock,
//! since nothing else goes on over a restart; a clock that was set back by more
//! than the window forgets what is later than it.

use rusqlite::{Connection, OptionalExtension as _};

use crate::ground::time::Now;
use crate::hub::engine::{Record, Stream};

use super::queries;

const FIND: &str = "SELECT id, stored FROM polecat_keys WHERE stream = ?1 AND key = ?2";
const NOTE: &str = "INSERT INTO polecat_keys (stream, key, id, stored) VALUES (?1, ?2, ?3, ?4)
     ON CONFLICT (stream, key) DO UPDATE SET id = excluded.id, stored = excluded.stored";
const OLDEST: &str = "SELECT min(stored) FROM polecat_keys";
const NEWEST: &str = "SELECT max(stored) FROM polecat_keys";
const FORGET: &str = "DELETE FROM polecat_keys WHERE (stream, key) IN
     (SELECT stream, key FROM polecat_keys INDEXED BY polecat_keys_stored WHERE stored <= ?1 ORDER BY stored LIMIT ?2)";
const FORGET_LATER: &str = "DELETE FROM polecat_keys WHERE (stream, key) IN
     (SELECT stream, key FROM polecat_keys INDEXED BY polecat_keys_stored WHERE stored >= ?1 ORDER BY stored LIMIT ?2)";

/// All of the above.
pub(super) const ALL: [&str; 6] = [FIND, NOTE, OLDEST, NEWEST, FORGET, FORGET_LATER];

/// Milliseconds that a key is left lying after its time, so that many go at once.
const SLACK_MS: i64 = 10_000;

/// What is known of the keys without asking for them: where there are none, they
/// cost nothing.
#[derive(Debug)]
pub(super) struct Keys {
    window_ms: i64,
    /// Between which milliseconds since 1970 all that are there were stored.
    span: Option<(i64, i64)>,
}

impl Keys {
    pub(super) fn read(connection: &Connection, window_ms: u64) -> rusqlite::Result<Self> {
        let mut keys = Self { window_ms: i64::try_from(window_ms).unwrap_or(i64::MAX), span: None };
        keys.look(connection)?;
        Ok(keys)
    }

    /// What was stored with `key` on the stream of `record`, if that is within the
    /// window. Where it was deleted since, `record` stands for it.
    pub(super) fn find(
        &self,
        connection: &Connection,
        record: &Record,
        key: &str,
        now: Now,
    ) -> rusqlite::Result<Option<(u64, Record)>> {
        let stream = record.stream();
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
        let found = connection.prepare_cached(FIND)?.query_row((name_of(&stream), key), read).optional()?;
        match found {
            Some((id, stored)) if wall_ms(now).abs_diff(stored) < self.window_ms.unsigned_abs() => {
                let first = queries::record(connection, &stream, id)?;
                Ok(Some((id.unsigned_abs(), first.unwrap_or_else(|| record.clone()))))
            }
            _ => Ok(None),
        }
    }

    /// Remembers that the append with `key` got this `id`.
    pub(super) fn note(
        &self,
        connection: &Connection,
        record: &Record,
        key: &str,
        id: u64,
        now: Now,
    ) -> rusqlite::Result<()> {
        let values = (name_of(&record.stream()).to_owned(), key, queries::row_id(id), wall_ms(now));
        connection.prepare_cached(NOTE)?.execute(values)?;
        Ok(())
    }

    /// Knows from now on that keys were stored at `now`.
    pub(super) fn noted(&mut self, now: Now) {
        let now = wall_ms(now);
        let (oldest, newest) = self.span.unwrap_or((now, now));
        self.span = Some((oldest.min(now), newest.max(now)));
    }

    /// Milliseconds until there is something to forget.
    pub(super) fn due_in_ms(&self, now: Now) -> Option<u64> {
        let (oldest, newest) = self.span?;
        let now = wall_ms(now);
        if newest >= now.saturating_add(self.window_ms).saturating_add(SLACK_MS) {
            return Some(0);
        }
        let due = oldest.saturating_add(self.window_ms).saturating_add(SLACK_MS);
        Some(due.saturating_sub(now).max(0).unsigned_abs())
    }

    /// Forgets at most `rows_max` keys whose time is over, within a transaction;
    /// returns whether there may be more. What is known is to be looked up after it.
    pub(super) fn forget(
        &self,
        connection: &Connection,
        rows_max: usize,
        now: Now,
    ) -> rusqlite::Result<bool> {
        let rows = i64::try_from(rows_max).unwrap_or(i64::MAX);
        let now = wall_ms(now);
        let early = connection.prepare_cached(FORGET)?.execute((now.saturating_sub(self.window_ms), rows))?;
        let later =
            connection.prepare_cached(FORGET_LATER)?.execute((now.saturating_add(self.window_ms), rows))?;
        Ok(early.max(later) >= rows_max)
    }

    /// Looks up what is there.
    pub(super) fn look(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let end = |sql| connection.prepare_cached(sql)?.query_row((), |row| row.get::<_, Option<i64>>(0));
        self.span = end(OLDEST)?.zip(end(NEWEST)?);
        Ok(())
    }
}

/// The stream as the table names it. No channel's name is empty.
fn name_of(stream: &Stream) -> &str {
    match stream {
        Stream::Events => "",
        Stream::Channel(name) => name,
    }
}

/// Milliseconds since 1970.
const fn wall_ms(now: Now) -> i64 {
    now.unix_micros.div_euclid(1_000)
}
