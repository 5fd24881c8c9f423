//! Free pages go back to the file system, a few at a time.
//!
//! SQLite can do that only with a file that was created for it, as polecat creates it. A file of the channel
//! service, or of an earlier polecat, keeps its pages and uses them again for new records.

use rusqlite::Connection;

/// Free pages that are kept for new records: this much, or a quarter of what is in use.
const SPARE_BYTES: i64 = 1 << 20;
/// Pages that one step gives back: a millisecond or two.
const STEP_PAGES: i64 = 256;

const PAGES: &str = "PRAGMA page_count";
const FREE_PAGES: &str = "PRAGMA freelist_count";

#[derive(Debug)]
pub(super) struct Shrink {
    is_able: bool,
    page_bytes: i64,
    is_going_on: bool,
    /// Whether a reader prevents the log from being copied back: moved pages would only make the log longer.
    pub(super) is_held: bool,
}

impl Shrink {
    pub(super) fn new(connection: &Connection) -> rusqlite::Result<Self> {
        let (is_able, page_bytes) = (can_shrink(connection)?, pragma(connection, "PRAGMA page_size")?);
        Ok(Self { is_able, page_bytes, is_going_on: false, is_held: false })
    }

    /// Gives back some of this many pages. Returns whether there are more to give back.
    pub(super) fn give_back(&mut self, connection: &Connection, pages: i64) -> rusqlite::Result<bool> {
        let sql = format!("PRAGMA incremental_vacuum({})", pages.min(STEP_PAGES));
        let mut statement = connection.prepare(&sql)?;
        let mut rows = statement.query(())?;
        // Each row gives back one page.
        while rows.next()?.is_some() {}
        self.is_going_on = pages > STEP_PAGES;
        Ok(self.is_going_on)
    }

    /// The number of free pages to give back. Once begun, this continues until there are none; it does not
    /// begin for a few.
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

/// Whether the file was created so that pages can be given back.
pub(super) fn can_shrink(connection: &Connection) -> rusqlite::Result<bool> {
    Ok(pragma(connection, "PRAGMA auto_vacuum")? != 0)
}

/// The bytes of the file, and how many of them are in free pages.
pub(super) fn room(connection: &Connection) -> rusqlite::Result<(u64, u64)> {
    let page_bytes = pragma(connection, "PRAGMA page_size")?;
    let bytes = |pages: i64| (pages * page_bytes).unsigned_abs();
    Ok((bytes(pragma(connection, PAGES)?), bytes(pragma(connection, FREE_PAGES)?)))
}

fn pragma(connection: &Connection, sql: &str) -> rusqlite::Result<i64> {
    connection.prepare_cached(sql)?.query_row((), |row| row.get(0))
}
