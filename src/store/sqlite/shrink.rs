//! Pages that nothing is in any more go back to the file system, a few at a time.
//!
//! SQLite can do that only with a file that was made for it, as polecat makes it. What a file of the channel service, or
//! of an earlier polecat, has once taken it keeps, and uses again for what comes.

use rusqlite::Connection;

/// Free pages that are kept for what comes: this much, or a quarter of what is in use.
const SPARE_BYTES: i64 = 1 << 20;
/// Pages that go in one step: a millisecond or two.
const STEP_PAGES: i64 = 256;

const PAGES: &str = "PRAGMA page_count";
const FREE_PAGES: &str = "PRAGMA freelist_count";

/// Gives pages back.
#[derive(Debug)]
pub(super) struct Shrink {
    is_able: bool,
    page_bytes: i64,
    is_going_on: bool,
    /// Whether a reader keeps the log from being copied back: what is moved would only be added to that.
    pub(super) is_held: bool,
}

impl Shrink {
    pub(super) fn new(connection: &Connection) -> rusqlite::Result<Self> {
        let (is_able, page_bytes) = (can_shrink(connection)?, pragma(connection, "PRAGMA page_size")?);
        Ok(Self { is_able, page_bytes, is_going_on: false, is_held: false })
    }

    /// Gives back some of so many pages; returns whether there are more to go.
    pub(super) fn give_back(&mut self, connection: &Connection, pages: i64) -> rusqlite::Result<bool> {
        let sql = format!("PRAGMA incremental_vacuum({})", pages.min(STEP_PAGES));
        let mut statement = connection.prepare(&sql)?;
        let mut rows = statement.query(())?;
        // One page goes with each.
        while rows.next()?.is_some() {}
        self.is_going_on = pages > STEP_PAGES;
        Ok(self.is_going_on)
    }

    /// Free pages that are too many. Once it is begun, it goes on until there are none: it does not begin for a few.
    pub(super) fn over(&self, connection: &Connection) -> rusqlite::Result<i64> {
        if !self.is_able || self.is_held {
            return Ok(0);
        }
        let (pages, free) = (pragma(connection, PAGES)?, pragma(connection, FREE_PAGES)?);
        let spare = (SPARE_BYTES / self.page_bytes).max((pages - free) / 4);
        let is_enough = self.is_going_on || free > 2 * spare;
        Ok(if is_enough { (free - spare).max(0) } else { 0 })
    }
}

/// Whether the file was made so that pages can be given back.
pub(super) fn can_shrink(connection: &Connection) -> rusqlite::Result<bool> {
    Ok(pragma(connection, "PRAGMA auto_vacuum")? != 0)
}

/// How many bytes the file has, and how many of them are in pages that nothing is in.
pub(super) fn room(connection: &Connection) -> rusqlite::Result<(u64, u64)> {
    let page_bytes = pragma(connection, "PRAGMA page_size")?;
    let bytes = |pages: i64| (pages * page_bytes).unsigned_abs();
    Ok((bytes(pragma(connection, PAGES)?), bytes(pragma(connection, FREE_PAGES)?)))
}

fn pragma(connection: &Connection, sql: &str) -> rusqlite::Result<i64> {
    connection.prepare_cached(sql)?.query_row((), |row| row.get(0))
}
