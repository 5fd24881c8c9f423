//! Every statement that runs while the server does, and how its rows are read.
//!
//! None of them may scan `messages` or `events`, or sort: each walks a b-tree
//! from where it starts, and its rows are read until the reader has enough. The
//! channel index is named in full, since the planner, left to itself, may
//! prefer the ids of all channels. Rows are read leniently: an old file may hold
//! anything, and one odd row must not hide the others.

use std::rc::Rc;

use rusqlite::types::{ToSql, ToSqlOutput, Type, ValueRef};
use rusqlite::{Connection, Row, Rows};

use crate::hub::engine::{Answer, Record, Stream, Ticket};
use crate::wire::protocol::{Event, Message, Summary};

/// Rows of a list without end that one step reads.
pub(super) const SLICE_ROWS: usize = 512;

pub(super) const INSERT_MESSAGE: &str =
    "INSERT INTO messages (channel_id, author, content, timestamp, lane, provider, token_count)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
pub(super) const INSERT_EVENT: &str =
    "INSERT INTO events (type, payload, correlation_id, timestamp) VALUES (?1, ?2, ?3, ?4)";
const CHANNEL_AFTER: &str = "SELECT id, channel_id, author, content, timestamp, lane, provider, token_count
       FROM messages INDEXED BY idx_messages_channel
      WHERE channel_id = ?1 AND id > ?2 AND id <= ?3 ORDER BY id";
const CHANNEL_NEWEST: &str = "SELECT id, channel_id, author, content, timestamp, lane, provider, token_count
       FROM messages INDEXED BY idx_messages_channel
      WHERE channel_id = ?1 AND id > 0 AND id <= ?2 ORDER BY id DESC";
const ALL_NEWEST: &str = "SELECT id, channel_id, author, content, timestamp, lane, provider, token_count
       FROM messages WHERE id > 0 AND id <= ?1 ORDER BY id DESC";
const EVENTS_AFTER: &str = "SELECT id, type, payload, correlation_id, timestamp
       FROM events WHERE id > ?1 AND id <= ?2 ORDER BY id";
const FIRST_CHANNEL: &str = "SELECT channel_id FROM messages INDEXED BY idx_messages_channel
      WHERE channel_id >= '' ORDER BY channel_id LIMIT 1";
const NEXT_CHANNEL: &str = "SELECT channel_id FROM messages INDEXED BY idx_messages_channel
      WHERE channel_id > ?1 ORDER BY channel_id LIMIT 1";
const COUNTS_AFTER: &str = "SELECT kind, name, count, tokens_high, tokens_low FROM polecat_counts
      WHERE (kind, name) > (?1, ?2) ORDER BY kind, name";

/// All of the above: they are compiled on opening, so that a file which they
/// do not fit is refused then.
pub(super) const ALL: [&str; 9] = [
    INSERT_MESSAGE,
    INSERT_EVENT,
    CHANNEL_AFTER,
    CHANNEL_NEWEST,
    ALL_NEWEST,
    EVENTS_AFTER,
    FIRST_CHANNEL,
    NEXT_CHANNEL,
    COUNTS_AFTER,
];

/// Inserts `record` and returns the id that it got.
pub(super) fn insert(connection: &Connection, record: &Record) -> rusqlite::Result<u64> {
    match record {
        Record::Message(message) => {
            connection.prepare_cached(INSERT_MESSAGE)?.execute((
                &*message.channel_id,
                &message.author,
                &message.content,
                &*message.timestamp,
                &message.lane,
                &message.provider,
                message.token_count,
            ))?;
        }
        Record::Event(event) => {
            connection.prepare_cached(INSERT_EVENT)?.execute((
                &event.kind,
                &event.payload,
                &event.correlation_id,
                &*event.timestamp,
            ))?;
        }
    }
    // A rowid is positive here: AUTOINCREMENT gives no other.
    Ok(connection.last_insert_rowid().unsigned_abs())
}

/// The newest committed ids that the engine knows of. Rows that another program
/// adds are not seen before a commit of our own has passed them: an id that was
/// never announced must not come back as a cursor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Newest {
    pub(super) message: u64,
    pub(super) event: u64,
}

impl Newest {
    /// The newest ids that were ever given, whether or not their rows are still there.
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let read = |table: &str| {
            let sql = format!(
                "SELECT max(coalesce((SELECT max(id) FROM {table}), 0),
                   coalesce((SELECT max(seq) FROM sqlite_sequence WHERE name = '{table}'), 0), 0)"
            );
            connection
                .query_row(&sql, (), |row| Ok(integer(row.get_ref(0)?).unwrap_or_default().unsigned_abs()))
        };
        Ok(Self { message: read("messages")?, event: read("events")? })
    }
}

/// A question that is answered in one step.
#[derive(Debug)]
pub(super) enum Question {
    Page { stream: Stream, after: u64, bounds: Bounds },
    Messages { channel: Option<Rc<str>>, bounds: Bounds },
}

impl Question {
    /// Answers from what is committed up to `newest`.
    pub(super) fn answer(
        self,
        connection: &Connection,
        newest: Newest,
        ticket: Ticket,
    ) -> rusqlite::Result<Answer> {
        match self {
            Self::Page { stream: Stream::Events, after, bounds } => {
                let mut statement = connection.prepare_cached(EVENTS_AFTER)?;
                let rows = statement.query((row_id(after), row_id(newest.event)))?;
                let page = take(rows, bounds, Record::weight, |row| Ok(Record::Event(event(row)?)))?;
                Ok(page_answer(ticket, page, newest.event))
            }
            Self::Page { stream: Stream::Channel(name), after, bounds } => {
                let mut statement = connection.prepare_cached(CHANNEL_AFTER)?;
                let rows = statement.query((&*name, row_id(after), row_id(newest.message)))?;
                let read = |row: &Row<'_>| Ok(Record::Message(message(row, Some(&name))?));
                let page = take(rows, bounds, Record::weight, read)?;
                Ok(page_answer(ticket, page, newest.message))
            }
            Self::Messages { channel, bounds } => {
                let newest = row_id(newest.message);
                let sql = if channel.is_some() { CHANNEL_NEWEST } else { ALL_NEWEST };
                let mut statement = connection.prepare_cached(sql)?;
                let rows = match &channel {
                    Some(name) => statement.query((&**name, newest))?,
                    None => statement.query((newest,))?,
                };
                let (mut messages, _) =
                    take(rows, bounds, Message::weight, |row| message(row, channel.as_ref()))?;
                messages.reverse();
                Ok(Answer::Messages { ticket, messages })
            }
        }
    }
}

/// `page` is the records and whether they were cut short.
fn page_answer(ticket: Ticket, page: (Vec<(u64, Record)>, bool), newest: u64) -> Answer {
    let (records, is_cut) = page;
    let last = records.last().filter(|_| is_cut);
    let through = last.map_or(newest, |(id, _)| *id);
    Answer::Page { ticket, records, through }
}

/// Where a page ends: at `records_max`, or once the weights reach `bytes_max`,
/// but not before its first record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) records_max: usize,
    pub(super) bytes_max: usize,
}

/// Reads rows, whose first column is the id, until `bounds` says to stop.
/// Returns also whether a row was left over.
fn take<T>(
    mut rows: Rows<'_>,
    bounds: Bounds,
    weigh: impl Fn(&T) -> usize,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<(Vec<(u64, T)>, bool)> {
    let mut taken = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        if !taken.is_empty() && (taken.len() >= bounds.records_max || bytes >= bounds.bytes_max) {
            return Ok((taken, true));
        }
        let record = read(row)?;
        bytes += weigh(&record);
        taken.push((integer(row.get_ref(0)?).unwrap_or_default().unsigned_abs(), record));
    }
    Ok((taken, false))
}

/// An answer that is put together over several settles, since nothing bounds
/// how many channels, providers and lanes there are.
#[derive(Debug)]
pub(super) enum Listing {
    Channels { names: Vec<String>, last: Option<Name> },
    Summary { summary: Summary, last: (Name, Name) },
}

impl Listing {
    pub(super) const fn channels() -> Self {
        Self::Channels { names: Vec::new(), last: None }
    }

    pub(super) fn summary() -> Self {
        Self::Summary { summary: Summary::default(), last: (Name::default(), Name::default()) }
    }

    /// Reads the next slice and returns whether it was the last.
    pub(super) fn step(&mut self, connection: &Connection) -> rusqlite::Result<bool> {
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
        }
    }

    pub(super) fn into_answer(self, ticket: Ticket) -> Answer {
        match self {
            Self::Channels { names, .. } => Answer::Channels { ticket, names },
            Self::Summary { summary, .. } => Answer::Summary { ticket, summary },
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

/// A key of the database, byte for byte, to go on from.
#[derive(Debug, Default)]
pub(super) struct Name {
    bytes: Vec<u8>,
    is_blob: bool,
}

impl From<ValueRef<'_>> for Name {
    fn from(value: ValueRef<'_>) -> Self {
        Self {
            bytes: value.as_bytes().unwrap_or_default().to_vec(),
            is_blob: value.data_type() == Type::Blob,
        }
    }
}

impl ToSql for Name {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let value = if self.is_blob { ValueRef::Blob(&self.bytes) } else { ValueRef::Text(&self.bytes) };
        Ok(ToSqlOutput::Borrowed(value))
    }
}

/// Reads a message; its channel's name is `channel` where that is known.
fn message(row: &Row<'_>, channel: Option<&Rc<str>>) -> rusqlite::Result<Message> {
    let channel_id = match channel {
        Some(channel) => Rc::clone(channel),
        None => Rc::from(text(row.get_ref(1)?)),
    };
    Ok(Message {
        channel_id,
        author: text(row.get_ref(2)?),
        content: text(row.get_ref(3)?),
        timestamp: Rc::from(text(row.get_ref(4)?)),
        lane: optional_text(row.get_ref(5)?),
        provider: optional_text(row.get_ref(6)?),
        token_count: integer(row.get_ref(7)?),
    })
}

fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    Ok(Event {
        kind: text(row.get_ref(1)?),
        payload: text(row.get_ref(2)?),
        correlation_id: optional_text(row.get_ref(3)?),
        timestamp: Rc::from(text(row.get_ref(4)?)),
    })
}

fn text(value: ValueRef<'_>) -> String {
    optional_text(value).unwrap_or_default()
}

fn optional_text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
    }
}

/// A whole number, where there is one.
fn integer(value: ValueRef<'_>) -> Option<i64> {
    match value {
        ValueRef::Null | ValueRef::Text(_) | ValueRef::Blob(_) => None,
        ValueRef::Integer(number) => Some(number),
        #[expect(clippy::cast_possible_truncation, reason = "saturates, as SQLite's own cast does")]
        ValueRef::Real(number) => Some(number as i64),
    }
}

/// `id` as the database knows it: none is larger than the largest of these.
fn row_id(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}
