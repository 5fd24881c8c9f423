//! A copy of a database file, made while a server uses it.
//!
//! The copy is a single read transaction: messages published in the meantime are not in it and do not delay
//! it. (SQLite's other way, page by page, begins again with each commit of another program.) The server
//! continues to run; only its log cannot be copied back until the copy is finished.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, Error, ErrorCode, OpenFlags};

use super::examine::{newest, open_to_read, uri};
use super::opening::beside;
use super::schema::{Verdict, explanation, inspect_schema, log_path};
use super::shrink::{can_shrink, room};
use super::verify::{damaged, misled};

/// How long to wait for another program's lock: if the file has no write-ahead log, a writer holds it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Instructions of SQLite's virtual machine between two reports: a few milliseconds.
const REPORT_INTERVAL: i32 = 20_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Copied {
    pub(crate) bytes: u64,
    pub(crate) newest_message: u64,
    pub(crate) newest_event: u64,
}

/// Copies the database at `path` into the file at `into`, which must exist and be empty, and checks the copy.
/// `report` is called repeatedly with the bytes written and the total, and returns whether to stop.
///
/// # Errors
/// Why there is no sound copy, and what to do. The contents of the file are then worthless.
pub(crate) fn copy(
    path: &Path,
    into: &Path,
    report: impl FnMut(u64, u64) -> bool + Clone + Send + 'static,
) -> Result<Copied, String> {
    loop {
        // Nobody has it open. Then the copy must need no files beside it: its user might be unable to create
        // them, or might leave files that a server cannot open.
        let is_shared = is_open(path);
        let state = state(path);
        fs::write(into, []).map_err(|error| error.to_string())?;
        let outcome = read(path, is_shared, into, report.clone());
        if is_shared {
            copy_log_back(path);
        } else if is_open(path) || state != self::state(path) {
            // A server has been started: the pages that were read are from several moments, and may even look
            // damaged.
            continue;
        }
        outcome?;
        return check(into, report).map_err(|error| reason(into, &error))?;
    }
}

/// Copies the database, if it is one of polecat's.
fn read(
    path: &Path,
    is_shared: bool,
    into: &Path,
    mut report: impl FnMut(u64, u64) -> bool + Send + 'static,
) -> Result<(), String> {
    let written = into.to_owned();
    let verdict = open_to_read(path, is_shared).and_then(|mut connection| {
        connection.busy_timeout(PATIENCE)?;
        let verdict = inspect_schema(&connection)?;
        if let Verdict::Unusable(_) = verdict {
            return Ok(verdict);
        }
        let (bytes, free) = room(&connection)?;
        let bytes = bytes.saturating_sub(free);
        let handler = move || report(fs::metadata(&written).map_or(0, |file| file.len()).min(bytes), bytes);
        connection.progress_handler(REPORT_INTERVAL, Some(handler))?;
        if !can_shrink(&connection)? {
            // This is for the copy; the file itself is not written to.
            connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL")?;
        }
        connection.execute("VACUUM INTO ?1", (uri(into),))?;
        Ok(verdict)
    });
    match verdict.map_err(|error| reason(path, &error))? {
        Verdict::Usable => Ok(()),
        Verdict::Unusable(reason) => Err(reason),
    }
}

/// Copies back what the log has gathered during the copy. The server could not do this in the meantime, and
/// doing all of it at once now would block its loop, which keeps running. If this process may not write to
/// the file, the server has to do it.
fn copy_log_back(path: &Path) {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let _ = Connection::open_with_flags(uri(path), flags).and_then(|connection| {
        // If there is no server any more, the log is left to the next one.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |_| Ok(()))
    });
}

/// Checks all of the copy, including its indexes, which are copied as they are.
fn check(
    into: &Path,
    mut report: impl FnMut(u64, u64) -> bool + Send + 'static,
) -> rusqlite::Result<Result<Copied, String>> {
    let bytes = fs::metadata(into).map_or(0, |file| file.len());
    let mut connection = open_to_read(into, false)?;
    connection.progress_handler(REPORT_INTERVAL, Some(move || report(bytes, bytes)))?;
    let found: String = connection.query_row("PRAGMA integrity_check(1)", (), |row| row.get(0))?;
    if found != "ok" {
        let found = found.replace('\n', " ");
        let is_of_index = found.contains(" index ");
        return Ok(Err(if is_of_index { misled(&found) } else { damaged(&found) }));
    }
    let (newest_message, newest_event) = (newest(&connection, "messages")?, newest(&connection, "events")?);
    Ok(Ok(Copied { bytes, newest_message, newest_event }))
}

/// Whether another program has the database open, or has left it in the middle of something: then there is a
/// log or a journal.
fn is_open(path: &Path) -> bool {
    log_path(path).exists() || beside(path, "-journal").exists()
}

/// Values that change when the file is written to.
fn state(path: &Path) -> Option<(u64, SystemTime)> {
    let file = fs::metadata(path).ok()?;
    Some((file.len(), file.modified().ok()?))
}

fn reason(path: &Path, error: &Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::OperationInterrupted) => "it was stopped".to_owned(),
        _ => explanation(path, error),
    }
}
