//! Queries to the store, and the steps in which they are answered.

use rusqlite::Connection;

use crate::store::engine::{Answer, Cut, Names, QueryId, Selection, StoredName, Stream, name_weight};

use super::lists::{Search, id_of, slice};
use super::queries::{Known, integer, row_id};

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

pub(super) const ALL: [&str; 6] =
    [CHANNEL_COUNT, FIRST_CHANNEL, NEXT_CHANNEL, FIRST_COUNT, NEXT_COUNT, TOTAL];

/// A query with short steps; most take only one.
#[derive(Debug)]
pub(super) enum Question {
    Span(Search),
    /// Up to the newest record, if `through` is not given.
    List {
        of: Selection,
        after: u64,
        through: Option<u64>,
        cut: Cut,
    },
    Count {
        stream: Stream,
        after: u64,
        through: u64,
        count_max: u64,
    },
    Names {
        of: Names,
        after: Option<StoredName>,
        cut: Cut,
    },
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
            Self::Span(mut search) => match search.step(connection, newest, query_id)? {
                Some(answer) => answer,
                None => return Ok(Progress::Unfinished(Self::Span(search))),
            },
            Self::List { of, after, through, mut cut } => {
                let through = through.unwrap_or(id_of(&of, newest));
                let (records, through) = slice(connection, &of, (after, through), &mut cut)?;
                let oldest = id_of(&of, oldest);
                match cut.is_too_large() {
                    true => Answer::TooLarge { query_id },
                    false => Answer::Page { query_id, records, through, oldest },
                }
            }
            Self::Names { of, after, mut cut } => {
                let (names, next) = names(connection, of, after, &mut cut)?;
                match cut.is_too_large() {
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

/// Names, and how many messages have them.
type NamesWithCounts = Vec<(String, u64)>;

/// A slice of the names of a kind, and the position to continue after. Consecutive names that are stored
/// differently but shown alike are one.
fn names(
    connection: &Connection,
    of: Names,
    after: Option<StoredName>,
    cut: &mut Cut,
) -> rusqlite::Result<(NamesWithCounts, Option<StoredName>)> {
    let mut names: NamesWithCounts = Vec::new();
    let mut last = after;
    for _ in 0..SLICE_ROWS {
        let Some((name, count)) = next_name(connection, of, last.as_ref())? else {
            return Ok((names, None));
        };
        let shown = name.as_text().into_owned();
        if !cut.takes(name_weight(&shown)) {
            break;
        }
        match names.last_mut().filter(|(before, _)| *before == shown) {
            Some((_, sum)) => *sum += count,
            None => names.push((shown, count)),
        }
        last = Some(name);
    }
    Ok((names, last))
}

/// Skips from each name straight to the next: the cost depends on the number of names, not of messages.
pub(super) fn next_name(
    connection: &Connection,
    of: Names,
    last: Option<&StoredName>,
) -> rusqlite::Result<Option<(StoredName, u64)>> {
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
    Ok(Some((StoredName::from(row.get_ref(0)?), count)))
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
