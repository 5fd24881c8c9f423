//! Queries to the store, and the steps in which they are answered.

use rusqlite::{Connection, Row};

use crate::store::engine::{Answer, Mark, Names, QueryId, Record, Selection, Stream, name_weight};

use super::lists::{Search, slice};
use super::queries::{
    Bounds, CHANNEL_AFTER, EVENTS_AFTER, Known, Name, event, integer, message, row_id, take,
};

/// Names that one step looks up.
pub(super) const SLICE_ROWS: usize = 512;

pub(super) const CHANNEL_COUNT: &str = "SELECT id FROM messages INDEXED BY idx_messages_channel
      WHERE channel_id = ?1 AND id > ?2 AND id <= ?3 ORDER BY id";
const FIRST_CHANNEL: &str = "SELECT channel_id FROM messages INDEXED BY idx_messages_channel
      WHERE channel_id >= '' ORDER BY channel_id LIMIT 1";
const NEXT_CHANNEL: &str = "SELECT channel_id FROM messages INDEXED BY idx_messages_channel
      WHERE channel_id > ?1 ORDER BY channel_id LIMIT 1";
const FIRST_COUNT: &str = "SELECT name, count FROM polecat_counts WHERE kind = ?1 ORDER BY name LIMIT 1";
const NEXT_COUNT: &str =
    "SELECT name, count FROM polecat_counts WHERE kind = ?1 AND name > ?2 ORDER BY name LIMIT 1";
const TOTAL: &str =
    "SELECT count, tokens_high, tokens_low FROM polecat_counts WHERE kind = 'total' AND name = ''";

/// All of the above.
pub(super) const ALL: [&str; 6] =
    [CHANNEL_COUNT, FIRST_CHANNEL, NEXT_CHANNEL, FIRST_COUNT, NEXT_COUNT, TOTAL];

/// A query with short steps; most take only one.
#[derive(Debug)]
pub(super) enum Question {
    Page { stream: Stream, after: u64, bounds: Bounds },
    Span(Search),
    List { of: Selection, after: u64, through: u64, bounds: Bounds },
    Count { stream: Stream, after: u64, through: u64, count_max: u64 },
    Names { of: Names, after: Option<Name>, bounds: Bounds },
    Totals,
}

pub(super) enum Progress {
    Done(Answer),
    Unfinished(Question),
}

impl Question {
    /// Answers from the committed records and `known`, or does a part of that.
    pub(super) fn step(
        self,
        connection: &Connection,
        known: Known,
        query_id: QueryId,
    ) -> rusqlite::Result<Progress> {
        let Known { newest, oldest } = known;
        let answer = match self {
            Self::Page { stream: Stream::Events, after, bounds } => {
                let mut statement = connection.prepare_cached(EVENTS_AFTER)?;
                let rows = statement.query((row_id(after), row_id(newest.event)))?;
                let page = take(rows, bounds, Record::weight, |row| Ok(Record::Event(event(row)?)))?;
                page_answer(query_id, page, newest.event, oldest.event)
            }
            Self::Page { stream: Stream::Channel(name), after, bounds } => {
                let mut statement = connection.prepare_cached(CHANNEL_AFTER)?;
                let rows = statement.query((&*name, row_id(after), row_id(newest.message)))?;
                let read = |row: &Row<'_>| Ok(Record::Message(message(row, Some(&name))?));
                let page = take(rows, bounds, Record::weight, read)?;
                page_answer(query_id, page, newest.message, oldest.message)
            }
            Self::Span(mut search) => match search.step(connection, newest, query_id)? {
                Some(answer) => answer,
                None => return Ok(Progress::Unfinished(Self::Span(search))),
            },
            Self::List { of, after, through, bounds } => {
                let (records, through) = slice(connection, &of, (after, through), bounds)?;
                let oldest = if matches!(of, Selection::Events(_)) { oldest.event } else { oldest.message };
                let is_large = |(_, first): &(u64, Record)| first.weight() > bounds.each_bytes_max;
                match records.first().is_some_and(is_large) {
                    true => Answer::TooLarge { query_id },
                    false => Answer::Page { query_id, records, through, oldest },
                }
            }
            Self::Names { of, after, bounds } => {
                let (names, next) = names(connection, of, after, bounds)?;
                let is_large = |(name, _): &(String, u64)| name_weight(name) > bounds.each_bytes_max;
                match names.first().is_some_and(is_large) {
                    true => Answer::TooLarge { query_id },
                    false => Answer::Names { query_id, names, next },
                }
            }
            Self::Totals => totals(connection, query_id)?,
            Self::Count { stream: Stream::Events, after, through, count_max } => {
                // The ids of events rise by one, and only the oldest are ever missing.
                let before_first = after.max(oldest.event - 1);
                let count = through.min(newest.event).saturating_sub(before_first);
                let (count, is_cut) = (count.min(count_max), count > count_max);
                Answer::Count { query_id, count, is_cut, oldest: oldest.event }
            }
            Self::Count { stream: Stream::Channel(name), after, through, count_max } => {
                let through = through.min(newest.message);
                let (count, is_cut) = count(connection, &name, after, through, count_max)?;
                Answer::Count { query_id, count, is_cut, oldest: oldest.message }
            }
        };
        Ok(Progress::Done(answer))
    }
}

/// Counts entries of the channel's index without reading the rows. Also returns whether there are more.
fn count(
    connection: &Connection,
    name: &str,
    after: u64,
    through: u64,
    count_max: u64,
) -> rusqlite::Result<(u64, bool)> {
    let mut statement = connection.prepare_cached(CHANNEL_COUNT)?;
    let mut rows = statement.query((name, row_id(after), row_id(through)))?;
    let mut counted = 0;
    while rows.next()?.is_some() {
        if counted == count_max {
            return Ok((counted, true));
        }
        counted += 1;
    }
    Ok((counted, false))
}

/// `page` has the records, and whether they were cut short.
fn page_answer(query_id: QueryId, page: (Vec<(u64, Record)>, bool), newest: u64, oldest: u64) -> Answer {
    let (records, is_cut) = page;
    let last = records.last().filter(|_| is_cut);
    let through = last.map_or(newest, |(id, _)| *id);
    Answer::Page { query_id, records, through, oldest }
}

/// Names, and how many messages have them.
type NamesWithCounts = Vec<(String, u64)>;

/// A slice of the names of a kind, and the position to continue after. Consecutive names that are stored
/// differently but shown alike are one.
fn names(
    connection: &Connection,
    of: Names,
    after: Option<Name>,
    bounds: Bounds,
) -> rusqlite::Result<(NamesWithCounts, Option<Mark>)> {
    let mut names: NamesWithCounts = Vec::new();
    let (mut last, mut bytes) = (after, 0);
    for _ in 0..bounds.records_max.min(SLICE_ROWS) {
        if bytes >= bounds.bytes_max {
            break;
        }
        let Some((name, count)) = next_name(connection, of, last.as_ref())? else {
            return Ok((names, None));
        };
        let shown = name.as_text().into_owned();
        let weight = name_weight(&shown);
        if weight > bounds.each_bytes_max && !names.is_empty() {
            break;
        }
        bytes += weight;
        match names.last_mut().filter(|(before, _)| *before == shown) {
            Some((_, sum)) => *sum += count,
            None => names.push((shown, count)),
        }
        last = Some(name);
    }
    Ok((names, last.map(Mark::from)))
}

/// Skips from each name straight to the next: the cost depends on the number of names, not of messages.
pub(super) fn next_name(
    connection: &Connection,
    of: Names,
    last: Option<&Name>,
) -> rusqlite::Result<Option<(Name, u64)>> {
    let (first, next, kind) = match of {
        Names::Channels => (FIRST_CHANNEL, NEXT_CHANNEL, None),
        Names::Providers => (FIRST_COUNT, NEXT_COUNT, Some("provider")),
        Names::Lanes => (FIRST_COUNT, NEXT_COUNT, Some("lane")),
    };
    let mut statement = connection.prepare_cached(if last.is_some() { next } else { first })?;
    let mut rows = match (kind, last) {
        (None, None) => statement.query(())?,
        (None, Some(last)) => statement.query((last,))?,
        (Some(kind), None) => statement.query((kind,))?,
        (Some(kind), Some(last)) => statement.query((kind, last))?,
    };
    let Some(row) = rows.next()? else { return Ok(None) };
    let count = if kind.is_some() { integer(row.get_ref(1)?) } else { None };
    let count = count.and_then(|count| u64::try_from(count).ok()).unwrap_or_default();
    Ok(Some((Name::from(row.get_ref(0)?), count)))
}

fn totals(connection: &Connection, query_id: QueryId) -> rusqlite::Result<Answer> {
    let mut statement = connection.prepare_cached(TOTAL)?;
    let mut rows = statement.query(())?;
    let (mut messages, mut tokens) = (0, 0);
    if let Some(row) = rows.next()? {
        let number = |place| Ok::<_, rusqlite::Error>(integer(row.get_ref(place)?).unwrap_or_default());
        messages = u64::try_from(number(0)?).unwrap_or_default();
        tokens = saturated(number(1)?, number(2)?);
    }
    Ok(Answer::Totals { query_id, messages, tokens })
}

/// The sum of tokens as it is stored: in two halves of 32 bits, so that additions and subtractions never
/// overflow and stay exact.
fn saturated(high: i64, low: i64) -> i64 {
    let sum = (i128::from(high) << 32) + i128::from(low);
    i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX })
}
