//! Damage that does not show by itself.
//!
//! One bit of an index or of an inner page can lead a search astray: rows are there and are not found, and nothing fails. A
//! small file is checked before it is used. A large one is checked while it is served, a few rows at a time, and fewer
//! while records are stored: whether each row is found by its id, and a message by its channel, which takes about two
//! microseconds once it has been read from the disk.

use std::fmt;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension as _};

use crate::base::time::Now;

use super::queries::{Known, object, row_id};

/// Files up to this size are checked from end to end when they are opened. That takes half a second for the
/// largest of them, and two seconds if they have to be read from the disk.
pub(super) const CHECK_BYTES_MAX: i64 = 64 << 20;

/// Rows that one step checks while nothing is stored. They may have to come from the disk.
pub(super) const QUIET_STEP_ROWS: usize = 256;
/// The same while something is stored, which waits meanwhile.
pub(super) const BUSY_STEP_ROWS: usize = 16;
/// A step ends after this time, since a row takes milliseconds on a slow disk.
const STEP_TIME_MAX: Duration = Duration::from_millis(5);
/// Milliseconds between two steps.
const PAUSE_MS: u64 = 10;

/// The rows after the first id and up to the second, and whether each can be found.
const MESSAGES: &str = "SELECT one.id,
         EXISTS (SELECT 1 FROM messages AS other NOT INDEXED WHERE other.id = one.id)
     AND EXISTS (SELECT 1 FROM messages AS other INDEXED BY idx_messages_channel
                  WHERE other.channel_id = one.channel_id AND other.id = one.id)
    FROM messages AS one NOT INDEXED WHERE one.id > ?1 AND one.id <= ?2 ORDER BY one.id";
const EVENTS: &str =
    "SELECT one.id, EXISTS (SELECT 1 FROM events AS other NOT INDEXED WHERE other.id = one.id)
    FROM events AS one NOT INDEXED WHERE one.id > ?1 AND one.id <= ?2 ORDER BY one.id";

/// The first message that is not found by its channel.
const UNINDEXED: &str = "SELECT one.id FROM messages AS one NOT INDEXED WHERE NOT EXISTS
         (SELECT 1 FROM messages AS other INDEXED BY idx_messages_channel
           WHERE other.channel_id = one.channel_id AND other.id = one.id) LIMIT 1";

/// All statements that run while the server does.
pub(super) const ALL: [&str; 2] = [MESSAGES, EVENTS];

/// Checks the whole file for damage, unless that takes too long. Returns a description of the damage.
pub(super) fn check(connection: &Connection) -> rusqlite::Result<Option<String>> {
    if bytes(connection)? > CHECK_BYTES_MAX {
        return Ok(None);
    }
    let found: String = connection.query_row("PRAGMA quick_check(1)", (), |row| row.get(0))?;
    if found != "ok" {
        return Ok(Some(damaged(&found.replace('\n', " "))));
    }
    // The check above does not compare indexes with their tables.
    let Some(_) = object(connection, "idx_messages_channel")? else { return Ok(None) };
    let unindexed = connection.query_row(UNINDEXED, (), |row| row.get(0)).optional()?;
    Ok(unindexed.map(|id| unfound("messages", id)))
}

fn bytes(connection: &Connection) -> rusqlite::Result<i64> {
    let sql = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
    connection.query_row(sql, (), |row| row.get(0))
}

/// What is wrong with the file, and what to do.
pub(super) fn damaged(how: &dyn fmt::Display) -> String {
    format!("it is damaged ({how}); restore a copy of it, or save what is left with `sqlite3 FILE .recover`")
}

/// The same if perhaps only its indexes are damaged.
pub(super) fn misled(how: &dyn fmt::Display) -> String {
    format!(
        "it is damaged ({how}); stop the programs that use it and rebuild its indexes with `sqlite3 FILE REINDEX`; if that \
         does not help, restore a copy of it"
    )
}

fn unfound(table: &str, id: i64) -> String {
    misled(&format_args!("row {id} of {table} exists but cannot be found"))
}

/// Checks a large file, once.
#[derive(Debug, Default)]
pub(super) struct Verification {
    /// What is yet to be checked; the last table is checked first.
    tables: Vec<Table>,
    due_ms: u64,
    /// Rows that were not found.
    pub(super) faults: u64,
}

#[derive(Debug)]
struct Table {
    name: &'static str,
    sql: &'static str,
    /// The id that it has reached, and the id that it has to reach.
    from: i64,
    to: i64,
}

impl Verification {
    /// The checks that opening the file has left to be done.
    pub(super) fn new(connection: &Connection, known: Known) -> rusqlite::Result<Self> {
        Ok(if bytes(connection)? > CHECK_BYTES_MAX { Self::of_all(known) } else { Self::default() })
    }

    pub(super) fn of_all(known: Known) -> Self {
        let table = |name, sql, newest| Table { name, sql, from: i64::MIN, to: row_id(newest) };
        let tables = vec![
            table("events", EVENTS, known.newest.event),
            table("messages", MESSAGES, known.newest.message),
        ];
        Self { tables, ..Self::default() }
    }

    pub(super) fn due_in_ms(&self, now: Now) -> Option<u64> {
        (!self.tables.is_empty()).then(|| self.due_ms.saturating_sub(now.monotonic_ms))
    }

    pub(super) fn step(&mut self, connection: &Connection, rows_max: usize, now: Now) {
        let Some(table) = self.tables.last_mut() else { return };
        self.due_ms = now.monotonic_ms.saturating_add(PAUSE_MS);
        match table.step(connection, rows_max) {
            Ok((is_last, misled)) => {
                if let Some(id) = misled.first()
                    && self.faults == 0
                {
                    log::error!("the database: {}", unfound(table.name, *id));
                }
                self.faults += misled.len() as u64;
                if is_last {
                    self.tables.pop();
                }
            }
            Err(error) => {
                log::error!("the database cannot be checked for damage: {error}");
                self.tables.clear();
            }
        }
        if self.tables.is_empty() {
            match self.faults {
                0 => log::info!("the database was checked: every record can be found"),
                faults => log::error!("the database was checked: {faults} records exist but cannot be found"),
            }
        }
    }
}

impl Table {
    /// Returns whether this was the last step, and the rows that were not found.
    fn step(&mut self, connection: &Connection, rows_max: usize) -> rusqlite::Result<(bool, Vec<i64>)> {
        let begun = Instant::now();
        let mut statement = connection.prepare_cached(self.sql)?;
        let mut rows = statement.query((self.from, self.to))?;
        let (mut count, mut misled) = (0, Vec::new());
        while count < rows_max && (count == 0 || begun.elapsed() < STEP_TIME_MAX) {
            count += 1;
            let Some(row) = rows.next()? else { return Ok((true, misled)) };
            self.from = row.get(0)?;
            if !row.get::<_, bool>(1)? {
                misled.push(self.from);
            }
        }
        Ok((false, misled))
    }
}
