//! The terms that the file knows, and the one that begins with this start: see [`crate::store::terms`].
//!
//! A term is on the disk before a client can be told of it, whatever the durability: a power cut must not
//! lose a name that clients have. On a full disk the start succeeds nevertheless, and the row is stored in
//! the transaction that gives the first id.

use std::rc::Rc;

use rusqlite::{Connection, Error, ErrorCode};
use uuid::Uuid;

use crate::store::terms::{Term, Terms};

use super::health::{BEGIN, COMMIT, end_transaction};
use super::options::Durability;
use super::queries::{Ids, integer, row_id, text};

pub(super) const TABLE: &str = "CREATE TABLE polecat_terms (
  ordinal INTEGER PRIMARY KEY, name TEXT NOT NULL, first_message INTEGER NOT NULL, first_event INTEGER NOT NULL)";

/// The term of everything that was stored before terms were kept. Its name is that of the database, which
/// older versions tell their clients.
pub(super) const OLDEST: &str = "INSERT INTO polecat_terms
  SELECT 0, coalesce(CAST(value AS TEXT), ''), 1, 1 FROM polecat_meta
   WHERE name = 'epoch' AND NOT EXISTS (SELECT 1 FROM polecat_terms)";

const READ: &str = "SELECT ordinal, name, first_message, first_event FROM polecat_terms ORDER BY ordinal";
const INSERT: &str =
    "INSERT INTO polecat_terms (ordinal, name, first_message, first_event) VALUES (?1, ?2, ?3, ?4)";
const PRUNE: &str = "DELETE FROM polecat_terms WHERE ordinal < ?1";

/// The most terms to keep.
const TERMS_MAX: usize = 10_000;

/// The term that begins with this start.
#[derive(Debug)]
pub(super) struct NewTerm {
    ordinal: i64,
    term: Term,
    /// Terms before this one are no longer kept.
    oldest_ordinal: i64,
}

impl NewTerm {
    /// Follows `known`, oldest first, in a file with these ids.
    fn after(known: &[(i64, Term)], newest: Ids, oldest: Ids) -> Self {
        // Once a term has ended before the oldest id that clients can resume from, none of its ids is
        // accepted.
        let is_over = |pair: &[(i64, Term)]| {
            let next = &pair[1].1;
            next.first_message < oldest.message && next.first_event < oldest.event
        };
        let over = known.windows(2).take_while(|pair| is_over(pair)).count();
        let over = over.max((known.len() + 1).saturating_sub(TERMS_MAX));
        let ordinal = known.last().map_or(0, |(last, _)| last.saturating_add(1));
        Self {
            ordinal,
            term: Term {
                name: Rc::from(Uuid::new_v4().to_string()),
                first_message: newest.message + 1,
                first_event: newest.event + 1,
            },
            oldest_ordinal: known.get(over).map_or(ordinal, |(oldest, _)| *oldest),
        }
    }

    /// Stores it, within a transaction.
    pub(super) fn store(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.execute(PRUNE, (self.oldest_ordinal,))?;
        let (message, event) = (row_id(self.term.first_message), row_id(self.term.first_event));
        connection.execute(INSERT, (self.ordinal, &*self.term.name, message, event))?;
        Ok(())
    }
}

/// Begins a term. If the disk is full, the term is returned with the reason, and has yet to be stored.
pub(super) fn begin(
    connection: &Connection,
    durability: Durability,
) -> rusqlite::Result<(Terms, Option<(NewTerm, Error)>)> {
    connection.execute_batch(Durability::Full.pragma())?;
    connection.execute_batch(BEGIN)?;
    let known = read(connection)?;
    let newest = Ids::newest(connection)?;
    let new = NewTerm::after(&known, newest, Ids::oldest(connection, newest)?);
    let stored = new.store(connection).and_then(|()| connection.execute_batch(COMMIT));
    end_transaction(connection);
    connection.execute_batch(durability.pragma())?;
    let mut terms = Terms::default();
    let kept = known.iter().filter(|(ordinal, _)| *ordinal >= new.oldest_ordinal);
    kept.for_each(|(_, term)| terms.begin(term));
    match stored {
        Ok(()) => {
            terms.begin(&new.term);
            Ok((terms, None))
        }
        Err(error) if is_full(&error) => {
            terms.begin_unstored(&new.term);
            Ok((terms, Some((new, error))))
        }
        Err(error) => Err(error),
    }
}

fn read(connection: &Connection) -> rusqlite::Result<Vec<(i64, Term)>> {
    let mut statement = connection.prepare(READ)?;
    let mut rows = statement.query(())?;
    let mut known = Vec::new();
    while let Some(row) = rows.next()? {
        let id = |value| integer(value).unwrap_or_default().max(1).unsigned_abs();
        let term = Term {
            name: Rc::from(text(row.get_ref(1)?)),
            first_message: id(row.get_ref(2)?),
            first_event: id(row.get_ref(3)?),
        };
        known.push((row.get(0)?, term));
    }
    Ok(known)
}

fn is_full(error: &Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure))
}
