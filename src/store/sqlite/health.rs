//! Whether the file can be written, and the attempts that find out when it can be written again.
//!
//! Every commit is such an attempt. If nobody publishes, a probe is made once a second. It is a transaction
//! of about the size of the data that could not be stored: a full disk often has room for one page, and the
//! log has pages of unfinished transactions that can be overwritten.

use std::fmt;
use std::time::Duration;

use rusqlite::{Connection, Error, ErrorCode};

use crate::base::time::Now;
use crate::store::engine::Health;
use crate::wire::protocol::ID_MAX;

use super::queries::Ids;

/// How long a commit waits for another program that is writing to the file. It is long enough for a small
/// transaction with its `fsync` on a slow disk. The loop is blocked in the meantime.
const PATIENCE: Duration = Duration::from_millis(250);
/// The same after a commit has failed, until one succeeds: a file that stays locked must not delay every
/// turn.
const PATIENCE_WHILE_DEGRADED: Duration = Duration::from_millis(10);
/// Milliseconds between the last failure and the next probe.
const PROBE_INTERVAL_MS: u64 = 1_000;
/// The bytes that a probe writes in addition to those that could not be stored: about what even the smallest
/// record takes in the log, a page of each table and index.
const PROBE_BYTES_MIN: usize = 64 << 10;
/// The most bytes that a probe writes.
const PROBE_BYTES_MAX: usize = 1 << 20;

const PROBE_WRITE: &str = "INSERT INTO polecat_meta (name, value) VALUES ('probe', zeroblob(?1))
     ON CONFLICT (name) DO UPDATE SET value = excluded.value";
const PROBE_CLEAR: &str = "DELETE FROM polecat_meta WHERE name = 'probe'";

pub(super) const ALL: [&str; 2] = [PROBE_WRITE, PROBE_CLEAR];

/// The known health of the store.
#[derive(Debug)]
pub(super) struct Watch {
    health: Health,
    /// While degraded: when to try again.
    probe_at_ms: u64,
    /// Bytes that could not be stored.
    bytes: usize,
}

impl Watch {
    /// If `failed` says that something has failed already, the first check is due at once.
    pub(super) fn new(failed: Option<Setback>) -> Self {
        let health = failed.map_or(Health::Sound, |setback| Health::Degraded(setback.to_string()));
        Self { health, probe_at_ms: 0, bytes: 0 }
    }

    pub(super) const fn health(&self) -> &Health {
        &self.health
    }

    pub(super) fn is_sound(&self) -> bool {
        self.health == Health::Sound
    }

    /// Milliseconds until the next probe, if one is needed.
    pub(super) fn due_in_ms(&self, now: Now) -> Option<u64> {
        (!self.is_sound()).then(|| self.probe_at_ms.saturating_sub(now.monotonic_ms))
    }

    pub(super) fn patience(&self) -> Duration {
        if self.is_sound() { PATIENCE } else { PATIENCE_WHILE_DEGRADED }
    }

    /// Notes that a commit of records that weigh `bytes` has failed.
    pub(super) fn failed(&mut self, reason: String, bytes: usize, now: Now) {
        self.bytes = bytes;
        self.set(Health::Degraded(reason), now);
    }

    pub(super) fn succeeded(&mut self) {
        self.health = Health::Sound;
    }

    /// Finds out whether records can be stored again. `newest` are the ids that were announced last.
    pub(super) fn probe(&mut self, connection: &Connection, newest: Ids, now: Now) {
        let bytes = self.bytes.saturating_add(PROBE_BYTES_MIN).min(PROBE_BYTES_MAX);
        match probe(connection, bytes, newest) {
            Ok(()) => self.succeeded(),
            Err(setback) => {
                end_transaction(connection);
                self.set(Health::Degraded(setback.to_string()), now);
            }
        }
    }

    fn set(&mut self, health: Health, now: Now) {
        self.probe_at_ms = now.monotonic_ms.saturating_add(PROBE_INTERVAL_MS);
        self.health = health;
    }
}

/// Stores `bytes` and deletes them again.
fn probe(connection: &Connection, bytes: usize, newest: Ids) -> Result<(), Setback> {
    let known = Ids::newest(connection)?;
    if known.message < newest.message || known.event < newest.event {
        return Err(Setback::IdsWentBack);
    }
    if known.message.max(known.event) >= ID_MAX {
        return Err(Setback::IdsUsedUp);
    }
    // The first transaction is the one that matters.
    connection.prepare_cached(PROBE_WRITE)?.execute((i64::try_from(bytes).unwrap_or(0),))?;
    connection.prepare_cached(PROBE_CLEAR)?.execute(())?;
    Ok(())
}

/// The statements that begin and end the transaction of a turn.
pub(super) const BEGIN: &str = "BEGIN IMMEDIATE";
pub(super) const COMMIT: &str = "COMMIT";

/// Leaves the connection without a transaction, whether or not SQLite has
/// ended the one that failed.
pub(super) fn end_transaction(connection: &Connection) {
    if !connection.is_autocommit()
        && let Err(error) = connection.execute_batch("ROLLBACK")
    {
        log::error!("a transaction could not be rolled back: {error}");
    }
}

/// Why a transaction failed, as a sentence for the publisher.
#[derive(Debug)]
pub(super) enum Setback {
    Sqlite(Error),
    /// The database gave an id again, or one that is older than those that were announced.
    IdsWentBack,
    /// The next id would be above [`ID_MAX`].
    IdsUsedUp,
}

impl Setback {
    /// SQLite counts to 2^63. When a table has reached that, it says that the disk is full.
    pub(super) fn told_apart(self, connection: &Connection) -> Self {
        let is_full =
            matches!(&self, Self::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull));
        let has_all = |ids: Ids| ids.message.max(ids.event) >= ID_MAX;
        if is_full && Ids::newest(connection).is_ok_and(has_all) { Self::IdsUsedUp } else { self }
    }
}

impl From<Error> for Setback {
    fn from(error: Error) -> Self {
        Self::Sqlite(error)
    }
}

impl fmt::Display for Setback {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(error) => write_reason(error, out),
            Self::IdsWentBack => out.write_str("the database's ids went back: was sqlite_sequence changed?"),
            Self::IdsUsedUp => {
                write!(out, "the database has an id of {ID_MAX} or more, and no greater ones can be given")
            }
        }
    }
}

fn write_reason(error: &Error, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    let code = error.sqlite_error().map_or(0, |error| error.extended_code);
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => out.write_str("the disk is full"),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            out.write_str("another program holds the database locked")
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            write!(out, "the database cannot be written ({error}, code {code})")
        }
        Some(ErrorCode::SystemIoFailure) => write!(out, "the disk does not work ({error}, code {code})"),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            write!(out, "the database is damaged ({error}, code {code})")
        }
        Some(ErrorCode::CannotOpen) => write!(out, "the database cannot be opened ({error}, code {code})"),
        _ => write!(out, "{error}"),
    }
}
