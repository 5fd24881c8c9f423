//! A look at a database file from outside, to find out whether it is sound. Nothing is written, and a server
//! that uses the file is not disturbed.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rusqlite::{Connection, OpenFlags};

use super::schema::{Verdict, explanation, inspect_contents, log_path};

use super::shrink::{can_shrink, room};
use super::verify::CHECK_BYTES_MAX;

/// The characters that need no escape in the path of a URI.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');

/// How long to wait for another program's lock.
const PATIENCE: Duration = Duration::from_millis(500);

/// The findings about a usable file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Examined {
    pub(crate) newest_message: u64,
    pub(crate) newest_event: u64,
    /// Whether all of it was checked, or only its schema and the ends of its tables.
    pub(crate) is_whole: bool,
    pub(crate) bytes: u64,
    /// How much of that is in free pages.
    pub(crate) free_bytes: u64,
    /// Whether a server gives those pages back by itself.
    pub(crate) can_shrink: bool,
}

/// Examines the file at `path`, which must exist; `is_in_use` says whether a server has it open.
///
/// # Errors
/// Why a server could not use it, and what to do.
pub(crate) fn examine(path: &Path, is_in_use: bool) -> Result<Examined, String> {
    let bytes = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    let log_bytes = std::fs::metadata(log_path(path)).map_or(0, |log| log.len());
    let found = open_to_read(path, is_in_use || log_bytes > 0).and_then(|connection| {
        let verdict = inspect_contents(&connection)?;
        let (_, free_bytes) = room(&connection)?;
        let found = Examined {
            newest_message: newest(&connection, "messages")?,
            newest_event: newest(&connection, "events")?,
            is_whole: i64::try_from(bytes).is_ok_and(|bytes| bytes <= CHECK_BYTES_MAX),
            bytes,
            free_bytes,
            can_shrink: can_shrink(&connection)?,
        };
        Ok((verdict, found))
    });
    match found {
        Ok((Verdict::Usable, found)) => Ok(found),
        Ok((Verdict::Unusable(reason), _)) => Err(reason),
        Err(error) => Err(explanation(path, &error)),
    }
}

/// Opens the file at `path` for reading. If it is not shared, everything is in the file itself and nobody
/// writes: then neither locks nor further files are needed.
pub(super) fn open_to_read(path: &Path, is_shared: bool) -> rusqlite::Result<Connection> {
    let how = if is_shared { "mode=ro" } else { "mode=ro&immutable=1" };
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(format!("{}?{how}", uri(path)), flags)?;
    connection.busy_timeout(PATIENCE)?;
    Ok(connection)
}

/// The URI of the file at `path`, whatever its name is.
pub(super) fn uri(path: &Path) -> String {
    format!("file:{}", percent_encode(path.as_os_str().as_bytes(), PATH))
}

pub(super) fn newest(connection: &Connection, table: &str) -> rusqlite::Result<u64> {
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name = ?1";
    if connection.query_row(sql, (table,), |row| row.get::<_, i64>(0))? == 0 {
        return Ok(0);
    }
    let sql = format!("SELECT coalesce(max(id), 0) FROM {table}");
    let id = connection.query_row(&sql, (), |row| row.get::<_, i64>(0))?;
    Ok(u64::try_from(id).unwrap_or_default())
}
