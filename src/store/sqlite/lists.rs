//! Lists: first, which records are in one; then these records, a slice at a time. The first step does not
//! read the contents: SQLite knows the lengths of a row's columns from its header.

use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection, Row};

use crate::store::engine::{Answer, Cut, QueryId, Record, Selection, Span};

use super::queries::{
    ALL_AFTER, CHANNEL_AFTER, COUNT_ROWS, EVENTS_AFTER, Ids, event, integer, message, row_id, text,
};

/// The weight of a record in addition to its texts.
const WEIGHT: usize = 96;

/// Queries for ids with the weight of the texts, and a third column with the type of an event.
macro_rules! walk {
    (messages $condition:literal, $order:literal) => {
        concat!(
            "SELECT id, octet_length(channel_id) + octet_length(author) + octet_length(content)
              + coalesce(octet_length(lane), 0) + coalesce(octet_length(provider), 0), NULL
               FROM messages ", $condition, " ORDER BY id", $order
        )
    };
    (events $order:literal) => {
        concat!(
            "SELECT id, octet_length(type) + octet_length(payload) + coalesce(octet_length(correlation_id), 0), type
               FROM events WHERE id > ?1 AND id <= ?2 ORDER BY id", $order
        )
    };
}

const CHANNEL_UP: &str =
    walk!(messages "INDEXED BY idx_messages_channel WHERE channel_id = ?3 AND id > ?1 AND id <= ?2", "");
const CHANNEL_DOWN: &str =
    walk!(messages "INDEXED BY idx_messages_channel WHERE channel_id = ?3 AND id > ?1 AND id <= ?2", " DESC");
const ALL_UP: &str = walk!(messages "WHERE id > ?1 AND id <= ?2", "");
const ALL_DOWN: &str = walk!(messages "WHERE id > ?1 AND id <= ?2", " DESC");
const EVENTS_UP: &str = walk!(events "");
const EVENTS_DOWN: &str = walk!(events " DESC");

pub(super) const ALL: [&str; 6] = [CHANNEL_UP, CHANNEL_DOWN, ALL_UP, ALL_DOWN, EVENTS_UP, EVENTS_DOWN];

/// A query in progress. It takes several steps if the type is rare.
#[derive(Debug)]
pub(super) struct Search {
    of: Selection,
    /// Whether the first records are wanted, not the newest.
    is_up: bool,
    /// The ids that were not looked at yet: above the first number, up to the second.
    rest: (u64, u64),
    cut: Cut,
    /// The ids that were found first and last.
    found: Option<(u64, u64)>,
}

impl Search {
    pub(super) fn new(of: Selection, after: Option<u64>, before: Option<u64>, cut: Cut) -> Self {
        let through = before.map_or(u64::MAX, |before| before.saturating_sub(1));
        let rest = (after.unwrap_or(0), through);
        Self { of, is_up: after.is_some(), rest, cut, found: None }
    }

    /// Looks at this many rows. Returns the answer if that was enough.
    pub(super) fn step(
        &mut self,
        connection: &Connection,
        newest: Ids,
        query_id: QueryId,
    ) -> rusqlite::Result<Option<Answer>> {
        let Some(is_cut) = self.walk(connection, newest)? else { return Ok(None) };
        let Some((begin, end)) = self.found else { return Ok(Some(Answer::Span { query_id, span: None })) };
        let (first, last) = (begin.min(end), begin.max(end));
        // On the other side, it only matters whether there are any.
        let beyond = if self.is_up { (0, first - 1) } else { (last, id_of(&self.of, newest)) };
        let is_beyond = {
            let mut statement = statement(connection, &self.of, !self.is_up)?;
            rows(&mut statement, &self.of, beyond)?.next()?.is_some()
        };
        let (has_older, has_newer) = if self.is_up { (is_beyond, is_cut) } else { (is_cut, is_beyond) };
        Ok(Some(Answer::Span { query_id, span: Some(Span { first, last, has_older, has_newer }) }))
    }

    /// Whether there are more records than the bounds allow; `None` if too few were looked at.
    fn walk(&mut self, connection: &Connection, newest: Ids) -> rusqlite::Result<Option<bool>> {
        self.rest.1 = self.rest.1.min(id_of(&self.of, newest));
        let mut statement = statement(connection, &self.of, self.is_up)?;
        let mut rows = rows(&mut statement, &self.of, self.rest)?;
        for _ in 0..COUNT_ROWS {
            let Some(row) = rows.next()? else { return Ok(Some(false)) };
            let id = row.get::<_, i64>(0)?.unsigned_abs();
            if is_kind(&self.of, row.get_ref(2)?) {
                if !self.cut.takes(weight(row)?) {
                    return Ok(Some(true));
                }
                self.found = Some((self.found.map_or(id, |(begin, _)| begin), id));
            }
            if self.is_up {
                self.rest.0 = id;
            } else {
                self.rest.1 = id - 1;
            }
        }
        Ok(None)
    }
}

/// The id of the sequence of `of`.
pub(super) const fn id_of(of: &Selection, ids: Ids) -> u64 {
    match of {
        Selection::Messages(_) => ids.message,
        Selection::Events(_) => ids.event,
    }
}

fn statement<'c>(
    connection: &'c Connection,
    of: &Selection,
    is_up: bool,
) -> rusqlite::Result<CachedStatement<'c>> {
    connection.prepare_cached(match (of, is_up) {
        (Selection::Messages(Some(_)), true) => CHANNEL_UP,
        (Selection::Messages(Some(_)), false) => CHANNEL_DOWN,
        (Selection::Messages(None), true) => ALL_UP,
        (Selection::Messages(None), false) => ALL_DOWN,
        (Selection::Events(_), true) => EVENTS_UP,
        (Selection::Events(_), false) => EVENTS_DOWN,
    })
}

fn rows<'s>(
    statement: &'s mut CachedStatement<'_>,
    of: &Selection,
    (after, through): (u64, u64),
) -> rusqlite::Result<rusqlite::Rows<'s>> {
    match of {
        Selection::Messages(Some(name)) => statement.query((row_id(after), row_id(through), &**name)),
        Selection::Messages(None) | Selection::Events(_) => statement.query((row_id(after), row_id(through))),
    }
}

fn weight(row: &Row<'_>) -> rusqlite::Result<usize> {
    let texts = integer(row.get_ref(1)?).unwrap_or_default();
    Ok(WEIGHT.saturating_add(usize::try_from(texts).unwrap_or_default()))
}

/// A slice of the selected records between two ids, and the id up to which it is complete.
pub(super) fn slice(
    connection: &Connection,
    of: &Selection,
    (after, through): (u64, u64),
    cut: &mut Cut,
) -> rusqlite::Result<(Vec<(u64, Record)>, u64)> {
    let mut statement = connection.prepare_cached(match of {
        Selection::Messages(Some(_)) => CHANNEL_AFTER,
        Selection::Messages(None) => ALL_AFTER,
        Selection::Events(_) => EVENTS_AFTER,
    })?;
    let mut rows = rows(&mut statement, of, (after, through))?;
    let (mut records, mut seen) = (Vec::new(), after);
    for _ in 0..COUNT_ROWS {
        let Some(row) = rows.next()? else { return Ok((records, through)) };
        if cut.is_full() {
            return Ok((records, seen));
        }
        let id = row.get::<_, i64>(0)?.unsigned_abs();
        if is_kind(of, row.get_ref(1)?) {
            let record = match of {
                Selection::Messages(channel) => Record::Message(message(row, channel.as_ref())?),
                Selection::Events(_) => Record::Event(event(row)?),
            };
            if !cut.takes(record.weight()) {
                return Ok((records, seen));
            }
            records.push((id, record));
        }
        seen = id;
    }
    Ok((records, seen))
}

/// Whether a record of this type is wanted.
fn is_kind(of: &Selection, kind: ValueRef<'_>) -> bool {
    match of {
        Selection::Events(Some(wanted)) => text(kind) == **wanted,
        Selection::Messages(_) | Selection::Events(None) => true,
    }
}
