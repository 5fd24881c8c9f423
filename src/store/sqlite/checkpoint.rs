//! The write-ahead log, and the checkpoint, which copies it back into the file.
//!
//! A commit only appends to the log. A checkpoint copies pages and waits for the disk twice. So it is done
//! when nothing has been published for a moment, and after so few bytes that it is short. A loop that always
//! has something to store does a checkpoint once the log has grown to several times that size: it must be
//! done at some time, and the more there is to copy, the longer it takes. Both are done between two turns: no
//! client waits for an answer then, and only requests that arrive in the meantime have to wait. On a small
//! virtual machine with a disk, an idle checkpoint took 8 ms and one of a busy loop 17 ms (99 of 100; 46 ms at
//! most). The first commit after a checkpoint took 4 ms, since it waits for the log's header.
//!
//! A checkpoint never waits for other programs. A reader elsewhere that keeps a transaction open prevents the
//! log from being copied, so the checkpoint is tried again from time to time until the reader has gone. All
//! that has gathered by then is copied at once, and blocks the loop for 5 to 10 ms per MiB, or longer on a slow
//! disk: SQLite copies everything that it may or nothing, and remembers nothing of an interrupted checkpoint.
//! Only another thread or process could copy while the loop runs; a backup does so for whatever it has held up
//! itself. So the checkpoint is timed, counted and, if it takes long, logged.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::base::time::Now;
use crate::store::engine::Commits;

/// At this many bytes of log that are not copied back, a quiet loop does a checkpoint.
pub(super) const IDLE_BYTES_MAX: i64 = 1 << 20;
/// The same for a loop that is never quiet.
pub(super) const BUSY_BYTES_MAX: i64 = 4 << 20;
/// Milliseconds after a commit after which a loop is quiet.
const QUIET_MS: u64 = 50;
/// The most that an empty log takes up on the disk.
pub(super) const FILE_BYTES_MAX: i64 = 16 << 20;
/// Milliseconds between attempts to copy back what a reader has held up.
const RETRY_MS: u64 = 5_000;
/// A checkpoint that takes longer is logged.
const LONG: Duration = Duration::from_millis(250);
/// The approximate bytes that a commit adds in addition to its records: its changes to some pages.
const COMMIT_BYTES: usize = 6 << 10;
/// After approximately this many added bytes, the log is measured again, which costs as much as storing a
/// record.
const MEASURE_BYTES: usize = 128 << 10;

/// How much of the log is not yet copied back into the file.
#[derive(Debug, Default)]
pub(super) struct WriteAheadLog {
    page_bytes: i64,
    /// As of the last measurement or checkpoint.
    pub(super) bytes: i64,
    /// The approximate bytes added since then.
    unmeasured: usize,
    written_ms: u64,
    /// The bytes that the last checkpoint had to leave, because of a reader or an error. The next attempt is
    /// made after [`IDLE_BYTES_MAX`] more, or after a while.
    pub(super) bytes_left: i64,
    /// The whole log, copied back or not.
    file_bytes: i64,
    /// When to try again, if something could not be done.
    retry_at_ms: Option<u64>,
}

impl WriteAheadLog {
    /// Copies back what a crash has left, before any client waits for it.
    pub(super) fn open(connection: &Connection) -> rusqlite::Result<Self> {
        let page_bytes = connection.query_row("PRAGMA page_size", (), |row| row.get(0))?;
        let mut log = Self { page_bytes, ..Self::default() };
        log.measure(connection);
        if log.is_over(IDLE_BYTES_MAX) {
            log.copy_back(connection);
        }
        log.retry_at_ms = log.is_unfinished().then_some(0);
        Ok(log)
    }

    /// Notes that records of `weight` bytes were committed.
    pub(super) fn wrote(&mut self, weight: usize, now: Now) {
        self.written_ms = now.monotonic_ms;
        self.unmeasured = self.unmeasured.saturating_add(weight).saturating_add(COMMIT_BYTES);
    }

    /// The same for a commit that has changed an unknown number of pages.
    pub(super) fn deleted(&mut self, now: Now) {
        self.wrote(MEASURE_BYTES, now);
    }

    /// Milliseconds until nothing has been written for a moment.
    pub(super) fn quiet_in_ms(&self, now: Now) -> u64 {
        self.written_ms.saturating_add(QUIET_MS).saturating_sub(now.monotonic_ms)
    }

    /// Milliseconds until [`WriteAheadLog::maintain`] has something to do.
    pub(super) fn due_in_ms(&self, now: Now) -> Option<u64> {
        if self.unmeasured >= MEASURE_BYTES || self.is_over(BUSY_BYTES_MAX) {
            return Some(0);
        }
        let quiet = self.quiet_in_ms(now);
        let grown = self.is_over(IDLE_BYTES_MAX).then_some(quiet);
        let retry = self.retry_at_ms.map(|at_ms| at_ms.saturating_sub(now.monotonic_ms).max(quiet));
        [grown, retry].into_iter().flatten().min()
    }

    /// Whether the last checkpoint had to leave much of the log.
    pub(super) const fn is_held(&self) -> bool {
        self.bytes_left > IDLE_BYTES_MAX
    }

    /// Measures the log if much was added. Does a checkpoint if the loop is quiet and there is enough to
    /// copy, or if there is too much. It does not wait for other programs, if the connection does not.
    pub(super) fn maintain(&mut self, connection: &Connection, now: Now, commits: &mut Commits) {
        if self.due_in_ms(now) != Some(0) {
            return;
        }
        self.measure(connection);
        if self.due_in_ms(now) == Some(0) {
            let begun = Instant::now();
            let before = self.bytes;
            self.copy_back(connection);
            if self.quiet_in_ms(now) == 0 && self.bytes == 0 && self.file_bytes > FILE_BYTES_MAX {
                self.run(connection, "PRAGMA wal_checkpoint(TRUNCATE)");
            }
            self.retry_at_ms = self.is_unfinished().then_some(now.monotonic_ms.saturating_add(RETRY_MS));
            note(begun.elapsed(), before - self.bytes, commits);
        }
        commits.wal_pending_bytes = self.bytes.unsigned_abs();
    }

    /// Whether something could not be done.
    const fn is_unfinished(&self) -> bool {
        self.is_held() || self.file_bytes > FILE_BYTES_MAX
    }

    /// Whether the log has more than `bytes_max`, and enough more than the last checkpoint had to leave.
    fn is_over(&self, bytes_max: i64) -> bool {
        let bytes = self.bytes.saturating_add(i64::try_from(self.unmeasured).unwrap_or(i64::MAX));
        bytes > bytes_max && bytes > self.bytes_left + IDLE_BYTES_MAX
    }

    fn measure(&mut self, connection: &Connection) {
        self.unmeasured = 0;
        self.run(connection, "PRAGMA wal_checkpoint(NOOP)");
    }

    fn copy_back(&mut self, connection: &Connection) {
        self.run(connection, "PRAGMA wal_checkpoint(PASSIVE)");
        self.bytes_left = self.bytes;
    }

    /// A failure changes nothing: committed records stay in the log.
    fn run(&mut self, connection: &Connection, sql: &str) {
        let measured = connection.prepare_cached(sql).and_then(|mut statement| {
            statement.query_row((), |row| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))
        });
        match measured {
            Ok((frames, copied)) if frames >= copied && copied >= 0 => {
                self.bytes = (frames - copied) * self.page_bytes;
                self.file_bytes = frames * self.page_bytes;
                self.bytes_left = self.bytes_left.min(self.bytes);
            }
            Ok(_) => {}
            Err(error) => {
                log::warn!("the write-ahead log could not be copied back into the database yet: {error}");
            }
        }
    }
}

fn note(took: Duration, bytes: i64, commits: &mut Commits) {
    commits.checkpoint_us.observe(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    if took >= LONG {
        log::warn!(
            "the loop was blocked for {} ms while it copied {} KiB of the write-ahead log back into the database: another program was reading it, or the disk is slow",
            took.as_millis(),
            bytes >> 10
        );
    }
}
