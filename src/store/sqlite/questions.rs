//! What the store is asked, and the steps in which it is answered.

use rusqlite::{Connection, Row};

use crate::store::engine::{Answer, Record, Selection, Stream, Ticket};
use crate::wire::protocol::Summary;

use super::details::{Details, KeptCounts};
use super::lists::{Search, slice};
use super::queries::{Bounds, Known, Name, event, integer, message, row_id, take, text};

/// Rows of a list without end that one step reads.
pub(super) const SLICE_ROWS: usize = 512;
/// Index entries that one step counts.
pub(super) const COUNT_ROWS: usize = 4_096;

pub(super) const CHANNEL_AFTER: &str =
    "SELECT id, channel_id, author, content, timestamp, lane, provider, token_count
       FROM messages INDEXED BY idx_messages_channel
      WHERE channel_id = ?1 AND id > ?2 AND id <= ?3 ORDER BY id";
pub(super) const CHANNEL_COUNT: &str = "SELECT id FROM messages INDEXED BY idx_messages_channel
      WHERE channel_id = ?1 AND id > ?2 AND id <= ?3 ORDER BY id";
pub(super) const ALL_AFTER: &str =
    "SELECT id, channel_id, author, content, timestamp, lane, provider, token_count
       FROM messages WHERE id > ?1 AND id <= ?2 ORDER BY id";
pub(super) const EVENTS_AFTER: &str = "SELECT id, type, payload, correlation_id, timestamp
       FROM events WHERE id > ?1 AND id <= ?2 ORDER BY id";
pub(super) const FIRST_CHANNEL: &str = "SELECT channel_id FROM messages INDEXED BY idx_messages_channel
      WHERE channel_id >= '' ORDER BY channel_id LIMIT 1";
pub(super) const NEXT_CHANNEL: &str = "SELECT channel_id FROM messages INDEXED BY idx_messages_channel
      WHERE channel_id > ?1 ORDER BY channel_id LIMIT 1";
const COUNTS_AFTER: &str = "SELECT kind, name, count, tokens_high, tokens_low FROM polecat_counts
      WHERE (kind, name) > (?1, ?2) ORDER BY kind, name";

/// All of the above.
pub(super) const ALL: [&str; 7] =
    [CHANNEL_AFTER, CHANNEL_COUNT, ALL_AFTER, EVENTS_AFTER, FIRST_CHANNEL, NEXT_CHANNEL, COUNTS_AFTER];

/// A question whose steps are short, and most of which take only one.
#[derive(Debug)]
pub(super) enum Question {
    Page { stream: Stream, after: u64, bounds: Bounds },
    Span(Search),
    List { of: Selection, after: u64, through: u64, bounds: Bounds },
    Count { stream: Stream, after: u64, through: u64, count_max: u64 },
}

/// What a step of a question has come to.
pub(super) enum Progress {
    Done(Answer),
    /// The rest of it.
    Unfinished(Question),
}

impl Question {
    /// Answers from what is committed and `known`, or does a part of that.
    pub(super) fn step(
        self,
        connection: &Connection,
        known: Known,
        ticket: Ticket,
    ) -> rusqlite::Result<Progress> {
        let Known { newest, oldest } = known;
        let answer = match self {
            Self::Page { stream: Stream::Events, after, bounds } => {
                let mut statement = connection.prepare_cached(EVENTS_AFTER)?;
                let rows = statement.query((row_id(after), row_id(newest.event)))?;
                let page = take(rows, bounds, Record::weight, |row| Ok(Record::Event(event(row)?)))?;
                page_answer(ticket, page, newest.event, oldest.event)
            }
            Self::Page { stream: Stream::Channel(name), after, bounds } => {
                let mut statement = connection.prepare_cached(CHANNEL_AFTER)?;
                let rows = statement.query((&*name, row_id(after), row_id(newest.message)))?;
                let read = |row: &Row<'_>| Ok(Record::Message(message(row, Some(&name))?));
                let page = take(rows, bounds, Record::weight, read)?;
                page_answer(ticket, page, newest.message, oldest.message)
            }
            Self::Span(mut search) => match search.step(connection, newest, ticket)? {
                Some(answer) => answer,
                None => return Ok(Progress::Unfinished(Self::Span(search))),
            },
            Self::List { of, after, through, bounds } => {
                let (records, through) = slice(connection, &of, (after, through), bounds)?;
                let oldest = match of {
                    Selection::Events(_) => oldest.event,
                    Selection::Messages(_) => oldest.message,
                };
                Answer::Page { ticket, records, through, oldest }
            }
            Self::Count { stream: Stream::Events, after, through, count_max } => {
                // Their ids rise by one and only the oldest are ever missing.
                let before_first = after.max(oldest.event - 1);
                let count = through.min(newest.event).saturating_sub(before_first);
                let (count, is_cut) = (count.min(count_max), count > count_max);
                Answer::Count { ticket, count, is_cut, oldest: oldest.event }
            }
            Self::Count { stream: Stream::Channel(name), after, through, count_max } => {
                let through = through.min(newest.message);
                let (count, is_cut) = count(connection, &name, after, through, count_max)?;
                Answer::Count { ticket, count, is_cut, oldest: oldest.message }
            }
        };
        Ok(Progress::Done(answer))
    }
}

/// Counts entries of the channel's index, the rows themselves are not read. Returns also whether there are more.
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

/// `page` is the records and whether they were cut short.
fn page_answer(ticket: Ticket, page: (Vec<(u64, Record)>, bool), newest: u64, oldest: u64) -> Answer {
    let (records, is_cut) = page;
    let last = records.last().filter(|_| is_cut);
    let through = last.map_or(newest, |(id, _)| *id);
    Answer::Page { ticket, records, through, oldest }
}

/// An answer that is put together over several settles, since nothing bounds
/// how many channels, providers and lanes there are.
#[derive(Debug)]
pub(super) enum Listing {
    Channels { names: Vec<String>, last: Option<Name> },
    Summary { summary: Summary, last: (Name, Name) },
    Details(Details),
}

impl Listing {
    pub(super) const fn channels() -> Self {
        Self::Channels { names: Vec::new(), last: None }
    }

    pub(super) fn summary() -> Self {
        Self::Summary { summary: Summary::default(), last: (Name::default(), Name::default()) }
    }

    /// Reads the next slice and returns whether it was the last.
    pub(super) fn step(
        &mut self,
        connection: &Connection,
        known: Known,
        kept: &mut KeptCounts,
    ) -> rusqlite::Result<bool> {
        match self {
            Self::Channels { names, last } => {
                let is_done = channels_step(connection, names, last)?;
                if is_done && !names.is_sorted_by(|left, right| left < right) {
                    // Only odd names get here: what is no UTF-8 is repaired after the sort.
                    names.sort_unstable();
                    names.dedup();
                }
                Ok(is_done)
            }
            Self::Summary { summary, last } => summary_step(connection, summary, last),
            Self::Details(details) => details.step(connection, known.newest, kept),
        }
    }

    pub(super) fn into_answer(self, ticket: Ticket) -> Answer {
        match self {
            Self::Channels { names, .. } => Answer::Channels { ticket, names },
            Self::Summary { summary, .. } => Answer::Summary { ticket, summary },
            Self::Details(details) => details.into_answer(ticket),
        }
    }
}

/// Hops from each name straight to the next: the cost is the number of
/// channels, not of messages.
fn channels_step(
    connection: &Connection,
    names: &mut Vec<String>,
    last: &mut Option<Name>,
) -> rusqlite::Result<bool> {
    let mut first = connection.prepare_cached(FIRST_CHANNEL)?;
    let mut next = connection.prepare_cached(NEXT_CHANNEL)?;
    for _ in 0..SLICE_ROWS {
        let mut rows = match last {
            Some(last) => next.query((&*last,))?,
            None => first.query(())?,
        };
        let Some(row) = rows.next()? else { return Ok(true) };
        let name = row.get_ref(0)?;
        names.push(text(name));
        let name = Name::from(name);
        drop(rows);
        *last = Some(name);
    }
    Ok(false)
}

fn summary_step(
    connection: &Connection,
    summary: &mut Summary,
    last: &mut (Name, Name),
) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached(COUNTS_AFTER)?;
    let mut rows = statement.query((&last.0, &last.1))?;
    let mut next = None;
    for _ in 0..SLICE_ROWS {
        let Some(row) = rows.next()? else { return Ok(true) };
        let count = integer(row.get_ref(2)?).and_then(|count| u64::try_from(count).ok()).unwrap_or_default();
        let name = row.get_ref(1)?;
        match row.get_ref(0)?.as_bytes().unwrap_or_default() {
            b"total" => {
                summary.total_messages = count;
                let high = integer(row.get_ref(3)?).unwrap_or_default();
                let low = integer(row.get_ref(4)?).unwrap_or_default();
                summary.total_tokens = saturated(high, low);
            }
            b"provider" => *summary.by_provider.entry(text(name)).or_default() += count,
            b"lane" => *summary.by_lane.entry(text(name)).or_default() += count,
            _ => {}
        }
        next = Some((Name::from(row.get_ref(0)?), Name::from(name)));
    }
    drop(rows);
    if let Some(next) = next {
        *last = next;
    }
    Ok(false)
}

/// The sum of tokens as it is kept: in two halves of 32 bits, so that adding and
/// taking away never overflows and stays exact.
fn saturated(high: i64, low: i64) -> i64 {
    let sum = (i128::from(high) << 32) + i128::from(low);
    i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX })
}
