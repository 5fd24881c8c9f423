//! The embedded engine: one SQLite file, one writer, one transaction for all
//! that a turn published.
//!
//! A commit only appends to the write-ahead log. Copying that log back into the
//! file (a checkpoint) waits for the disk, so it is done when the loop is idle, and
//! within a turn only if the log has grown out of all proportion.

mod queries;
mod schema;

use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use crate::hub::engine::{Answer, Engine, EngineError, Query, Record, Ticket};
use queries::{Bounds, Listing, Newest, Question};

pub use schema::OpenError;

/// How long a commit waits for another program that is writing to the file.
/// Long enough for a small transaction with its `fsync` on a slow disk; the
/// loop stands still meanwhile.
const PATIENCE: Duration = Duration::from_millis(250);
/// The same after that was not enough, until a commit succeeds: a file that is
/// locked for long must not hold up every turn.
const PATIENCE_WHILE_LOCKED: Duration = Duration::from_millis(10);
/// Bytes of log not yet copied back at which an idle loop does a checkpoint.
const WAL_BYTES_SOFT_MAX: i64 = 4 << 20;
/// The same for a loop that is never idle.
const WAL_BYTES_HARD_MAX: i64 = 64 << 20;
/// Appends that the queue keeps room for when it is empty.
const APPENDS_CAPACITY_IDLE: usize = 1024;

/// Stores records in an SQLite file. All work is done in [`Engine::settle`] and
/// [`Engine::idle`].
#[derive(Debug)]
pub struct SqliteEngine {
    connection: Connection,
    newest: Newest,
    appends: Vec<(Record, Option<Ticket>)>,
    questions: VecDeque<(Question, Ticket)>,
    /// Questions whose answers take several settles. Only the first one is being
    /// worked on, so there is at most one unfinished answer in memory.
    listings: VecDeque<(Listing, Ticket)>,
    /// Whether the last commit failed because another program held the lock.
    is_locked_out: bool,
    log: WriteAheadLog,
}

/// How much of the write-ahead log is not yet copied back into the file.
#[derive(Debug)]
struct WriteAheadLog {
    page_bytes: i64,
    /// As of the last commit or checkpoint.
    bytes: i64,
    /// What the last checkpoint had to leave, because of a reader or an error;
    /// another try is made after [`WAL_BYTES_SOFT_MAX`] more.
    bytes_left: i64,
}

impl SqliteEngine {
    /// Opens the database at `path`, and makes it where there is none. A file of
    /// the channel service is taken over as it is, and what it lacks is added; its
    /// messages are counted then, once, at some seconds for each million.
    ///
    /// # Errors
    /// Where the file cannot be opened, is no database, is damaged, or has tables
    /// of other shapes. A file that is refused for what is in it is not written to.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let connection = schema::open(path)?;
        Self::with(connection).map_err(|error| OpenError::new(path, &error))
    }

    fn with(connection: Connection) -> rusqlite::Result<Self> {
        connection.busy_timeout(PATIENCE)?;
        connection.set_prepared_statement_cache_capacity(2 * queries::ALL.len());
        for sql in queries::ALL {
            connection.prepare_cached(sql)?;
        }
        let newest = Newest::read(&connection)?;
        let page_bytes = connection.query_row("PRAGMA page_size", (), |row| row.get(0))?;
        let mut engine = Self {
            connection,
            newest,
            appends: Vec::new(),
            questions: VecDeque::new(),
            listings: VecDeque::new(),
            is_locked_out: false,
            log: WriteAheadLog { page_bytes, bytes: 0, bytes_left: 0 },
        };
        engine.measure_log(Checkpoint::None);
        Ok(engine)
    }

    /// Commits everything that is queued, or nothing.
    fn commit(&mut self, answers: &mut Vec<Answer>) {
        match store(&mut self.connection, &self.appends, self.newest) {
            Ok((ids, newest)) => {
                self.newest = newest;
                self.set_locked_out(false);
                let appends = self.appends.drain(..).zip(ids);
                answers.extend(appends.map(|((record, ticket), id)| Answer::Committed {
                    id,
                    record,
                    ticket,
                }));
                self.measure_log(Checkpoint::None);
                self.checkpoint_above(WAL_BYTES_HARD_MAX);
            }
            Err(setback) => {
                self.set_locked_out(setback.is_lock());
                let error = EngineError(setback.to_string());
                answers.extend(self.appends.drain(..).map(|(record, ticket)| Answer::Refused {
                    ticket,
                    weight: record.weight(),
                    error: error.clone(),
                }));
            }
        }
        self.appends.shrink_to(APPENDS_CAPACITY_IDLE);
    }

    fn set_locked_out(&mut self, is_locked_out: bool) {
        let patience = if is_locked_out { PATIENCE_WHILE_LOCKED } else { PATIENCE };
        if self.is_locked_out != is_locked_out && self.connection.busy_timeout(patience).is_ok() {
            self.is_locked_out = is_locked_out;
        }
    }

    /// Answers questions in at most `steps_max` steps. A list gets one of them,
    /// the last, however long it is: pages are what subscribers wait for.
    fn answer(&mut self, steps_max: usize, answers: &mut Vec<Answer>) {
        let reserved = usize::from(steps_max > 1 && !self.listings.is_empty());
        let mut steps_left = steps_max;
        while steps_left > reserved
            && let Some((question, ticket)) = self.questions.pop_front()
        {
            steps_left -= 1;
            let answer = question.answer(&self.connection, self.newest, ticket);
            answers.push(answer.unwrap_or_else(|error| failed(ticket, &error)));
        }
        if steps_left > 0
            && let Some((mut listing, ticket)) = self.listings.pop_front()
        {
            match listing.step(&self.connection) {
                Ok(true) => answers.push(listing.into_answer(ticket)),
                Ok(false) => self.listings.push_front((listing, ticket)),
                Err(error) => answers.push(failed(ticket, &error)),
            }
        }
    }

    /// Does a checkpoint where the log has grown past `bytes_max`.
    fn checkpoint_above(&mut self, bytes_max: i64) {
        if self.log.bytes > bytes_max && self.log.bytes > self.log.bytes_left + WAL_BYTES_SOFT_MAX {
            self.measure_log(Checkpoint::Passive);
            self.log.bytes_left = self.log.bytes;
        }
    }

    /// Does a `checkpoint` and notes how much of the log is left. A failure
    /// changes nothing: what is committed stays in the log.
    fn measure_log(&mut self, checkpoint: Checkpoint) {
        let sql = match checkpoint {
            Checkpoint::None => "PRAGMA wal_checkpoint(NOOP)",
            Checkpoint::Passive => "PRAGMA wal_checkpoint(PASSIVE)",
        };
        let measured = self.connection.prepare_cached(sql).and_then(|mut statement| {
            statement.query_row((), |row| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))
        });
        match measured {
            Ok((frames, copied)) if frames >= copied && copied >= 0 => {
                self.log.bytes = (frames - copied) * self.log.page_bytes;
                self.log.bytes_left = self.log.bytes_left.min(self.log.bytes);
            }
            Ok(_) => {}
            Err(error) => log::warn!("the database's log could not be copied back yet: {error}"),
        }
    }
}

impl Engine for SqliteEngine {
    fn newest_message(&self) -> u64 {
        self.newest.message
    }

    fn newest_event(&self) -> u64 {
        self.newest.event
    }

    fn append(&mut self, record: Record, ticket: Option<Ticket>) {
        self.appends.push((record, ticket));
    }

    fn ask(&mut self, query: Query, ticket: Ticket) {
        match query {
            Query::Page { stream, after, records_max, bytes_max } => {
                let bounds = Bounds { records_max, bytes_max };
                self.questions.push_back((Question::Page { stream, after, bounds }, ticket));
            }
            Query::Messages { channel, records_max, bytes_max } => {
                let bounds = Bounds { records_max, bytes_max };
                self.questions.push_back((Question::Messages { channel, bounds }, ticket));
            }
            Query::Channels => self.listings.push_back((Listing::channels(), ticket)),
            Query::Summary => self.listings.push_back((Listing::summary(), ticket)),
        }
    }

    fn settle(&mut self, reads_max: usize, answers: &mut Vec<Answer>) {
        if !self.appends.is_empty() {
            self.commit(answers);
        }
        self.answer(reads_max, answers);
    }

    fn is_due(&self) -> bool {
        !self.appends.is_empty() || !self.questions.is_empty() || !self.listings.is_empty()
    }

    fn idle(&mut self) {
        self.checkpoint_above(WAL_BYTES_SOFT_MAX);
    }
}

#[derive(Clone, Copy)]
enum Checkpoint {
    /// Only looks.
    None,
    /// Copies what can be copied without waiting for anyone.
    Passive,
}

/// Why a transaction did not go through.
enum Setback {
    Sqlite(rusqlite::Error),
    /// The database gave an id again, or one that is older than what was announced.
    IdsWentBack,
}

impl Setback {
    fn is_lock(&self) -> bool {
        matches!(self, Self::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy))
    }
}

impl From<rusqlite::Error> for Setback {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl fmt::Display for Setback {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(error) => write!(out, "{error}"),
            Self::IdsWentBack => out.write_str("the database's ids went back: was sqlite_sequence changed?"),
        }
    }
}

/// Inserts all of `appends` in one transaction. Returns their ids and the
/// newest ones; leaves nothing behind where it fails.
fn store(
    connection: &mut Connection,
    appends: &[(Record, Option<Ticket>)],
    mut newest: Newest,
) -> Result<(Vec<u64>, Newest), Setback> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut ids = Vec::with_capacity(appends.len());
    for (record, _) in appends {
        let id = queries::insert(&transaction, record)?;
        let newest = match record {
            Record::Message(_) => &mut newest.message,
            Record::Event(_) => &mut newest.event,
        };
        if id <= *newest {
            return Err(Setback::IdsWentBack);
        }
        *newest = id;
        ids.push(id);
    }
    transaction.commit()?;
    Ok((ids, newest))
}

fn failed(ticket: Ticket, error: &rusqlite::Error) -> Answer {
    Answer::Failed { ticket, error: EngineError(error.to_string()) }
}

#[cfg(test)]
mod tests;
