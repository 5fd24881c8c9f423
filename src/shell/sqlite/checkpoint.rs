//! The write-ahead log, and copying it back into the file: the checkpoint.
//!
//! A commit only appends to the log. A checkpoint copies pages and waits for the
//! disk twice, so it is done when the loop is idle, and after so few bytes that it
//! is short. A loop that is never idle does one after a commit once the log has
//! grown to some times that: it has to be done at some time, and the more there is
//! to be copied the longer it takes. On a small virtual machine with a disk, an idle
//! one took 8 ms and one within a turn 17 ms (99 of 100; 46 ms at most), and the first
//! commit after one 4 ms, which waits for the log's header.
//!
//! A checkpoint never waits for other programs. A reader elsewhere that keeps a
//! transaction open keeps the log from being copied, and what has gathered by
//! then is copied at once after it.

use rusqlite::Connection;

/// Bytes of log not yet copied back at which an idle loop does a checkpoint.
pub(super) const IDLE_BYTES_MAX: i64 = 1 << 20;
/// The same for a loop that is never idle.
pub(super) const BUSY_BYTES_MAX: i64 = 4 << 20;

/// How much of the log is not yet copied back into the file.
#[derive(Debug)]
pub(super) struct WriteAheadLog {
    page_bytes: i64,
    /// As of the last commit or checkpoint.
    pub(super) bytes: i64,
    /// What the last checkpoint had to leave, because of a reader or an error;
    /// another try is made after [`IDLE_BYTES_MAX`] more.
    pub(super) bytes_left: i64,
}

impl WriteAheadLog {
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let page_bytes = connection.query_row("PRAGMA page_size", (), |row| row.get(0))?;
        let mut log = Self { page_bytes, bytes: 0, bytes_left: 0 };
        log.measure(connection);
        Ok(log)
    }

    /// Notes how long it is.
    pub(super) fn measure(&mut self, connection: &Connection) {
        self.run(connection, "PRAGMA wal_checkpoint(NOOP)");
    }

    /// Does a checkpoint where there is more than `bytes_max` of it, and enough
    /// more than the last one had to leave.
    pub(super) fn check(&mut self, connection: &Connection, bytes_max: i64) {
        if self.bytes > bytes_max && self.bytes > self.bytes_left + IDLE_BYTES_MAX {
            self.run(connection, "PRAGMA wal_checkpoint(PASSIVE)");
            self.bytes_left = self.bytes;
        }
    }

    /// A failure changes nothing: what is committed stays in the log.
    fn run(&mut self, connection: &Connection, sql: &str) {
        let measured = connection.prepare_cached(sql).and_then(|mut statement| {
            statement.query_row((), |row| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))
        });
        match measured {
            Ok((frames, copied)) if frames >= copied && copied >= 0 => {
                self.bytes = (frames - copied) * self.page_bytes;
                self.bytes_left = self.bytes_left.min(self.bytes);
            }
            Ok(_) => {}
            Err(error) => log::warn!("the database's log could not be copied back yet: {error}"),
        }
    }
}
