//! Every statement that runs while the server does, and how its rows are read.
//!
//! None of them may scan `messages` or `events`, or sort. Each walks a b-tree from a starting point, and its
//! rows are read until the reader has enough. The statements name the channel index explicitly, since the
//! planner may otherwise prefer the ids of all channels. Rows are read leniently: an old file may have
//! anything in it, and one odd row must not hide the others.

use std::borrow::Cow;
use std::rc::Rc;

use rusqlite::types::{ToSql, ToSqlOutput, Type, ValueRef};
use rusqlite::{Connection, Row};

use crate::store::engine::{Record, StoredName, Stream};
use crate::wire::protocol::{CorrelationId, Event, Message};

/// Index entries that one step counts.
pub(super) const COUNT_ROWS: usize = 4_096;

pub(super) const INSERT_MESSAGE: &str =
    "INSERT INTO messages (channel_id, author, content, timestamp, lane, provider, token_count)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
pub(super) const INSERT_EVENT: &str =
    "INSERT INTO events (type, payload, correlation_id, timestamp) VALUES (?1, ?2, ?3, ?4)";
const MESSAGE: &str = "SELECT id, channel_id, author, content, timestamp, lane, provider, token_count
       FROM messages WHERE id = ?1";
const EVENT: &str = "SELECT id, type, payload, correlation_id, timestamp FROM events WHERE id = ?1";
const OLDEST_MESSAGE: &str = "SELECT min(id) FROM messages WHERE id > 0 AND id <= ?1";
const OLDEST_EVENT: &str = "SELECT min(id) FROM events WHERE id > 0 AND id <= ?1";
pub(super) const CHANNEL_AFTER: &str =
    "SELECT id, channel_id, author, content, timestamp, lane, provider, token_count
       FROM messages INDEXED BY idx_messages_channel
      WHERE channel_id = ?3 AND id > ?1 AND id <= ?2 ORDER BY id";
pub(super) const ALL_AFTER: &str =
    "SELECT id, channel_id, author, content, timestamp, lane, provider, token_count
       FROM messages WHERE id > ?1 AND id <= ?2 ORDER BY id";
pub(super) const EVENTS_AFTER: &str = "SELECT id, type, payload, correlation_id, timestamp
       FROM events WHERE id > ?1 AND id <= ?2 ORDER BY id";

pub(super) const ALL: [&str; 9] = [
    INSERT_MESSAGE,
    INSERT_EVENT,
    MESSAGE,
    EVENT,
    OLDEST_MESSAGE,
    OLDEST_EVENT,
    CHANNEL_AFTER,
    ALL_AFTER,
    EVENTS_AFTER,
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
                event.correlation_id.as_str(),
                &*event.timestamp,
            ))?;
        }
    }
    // A rowid is positive here: AUTOINCREMENT gives no other.
    Ok(connection.last_insert_rowid().unsigned_abs())
}

/// The record of `stream` with this id, if it exists.
pub(super) fn record(connection: &Connection, stream: &Stream, id: i64) -> rusqlite::Result<Option<Record>> {
    let sql = if *stream == Stream::Events { EVENT } else { MESSAGE };
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query((id,))?;
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(Some(match stream {
        Stream::Events => Record::Event(event(row)?),
        Stream::Channel(name) => Record::Message(message(row, Some(name))?),
    }))
}

/// An id of each sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) message: u64,
    pub(super) event: u64,
}

impl Ids {
    /// The newest ids that were ever given, even if their rows no longer exist.
    pub(super) fn newest(connection: &Connection) -> rusqlite::Result<Self> {
        Ok(Self { message: newest_in(connection, "messages")?, event: newest_in(connection, "events")? })
    }

    /// The oldest ids up to `newest` whose rows exist; one above `newest` if there are none.
    pub(super) fn oldest(connection: &Connection, newest: Self) -> rusqlite::Result<Self> {
        let read = |sql: &str, newest: u64| -> rusqlite::Result<u64> {
            let mut statement = connection.prepare_cached(sql)?;
            let oldest = statement.query_row((row_id(newest),), |row| row.get::<_, Option<i64>>(0))?;
            Ok(oldest.map_or(newest + 1, i64::unsigned_abs))
        };
        Ok(Self { message: read(OLDEST_MESSAGE, newest.message)?, event: read(OLDEST_EVENT, newest.event)? })
    }
}

/// The type and the SQL text of the schema object with this name.
pub(super) fn object(connection: &Connection, name: &str) -> rusqlite::Result<Option<(String, String)>> {
    let mut statement = connection
        .prepare("SELECT type, coalesce(sql, '') FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE")?;
    let mut rows = statement.query((name,))?;
    rows.next()?.map(|row| Ok((row.get(0)?, row.get(1)?))).transpose()
}

/// The newest id that `table`, which must exist, has ever given.
pub(super) fn newest_in(connection: &Connection, table: &str) -> rusqlite::Result<u64> {
    let sql = format!(
        "SELECT max(coalesce((SELECT max(id) FROM {table}), 0),
           coalesce((SELECT max(seq) FROM sqlite_sequence WHERE name = '{table}'), 0), 0)"
    );
    connection.query_row(&sql, (), |row| Ok(integer(row.get_ref(0)?).unwrap_or_default().unsigned_abs()))
}

/// The committed ids that the engine knows of. Rows that another program adds are not seen before a commit of
/// our own has passed them: an id that was never announced must not become a cursor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) oldest: Ids,
    pub(super) newest: Ids,
}

impl Known {
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let newest = Ids::newest(connection)?;
        Ok(Self { oldest: Ids::oldest(connection, newest)?, newest })
    }
}

impl StoredName {
    pub(super) fn of_text(text: &str) -> Self {
        Self { bytes: text.as_bytes().to_vec(), is_blob: false }
    }

    /// The text to show.
    pub(super) fn as_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }
}

impl From<ValueRef<'_>> for StoredName {
    fn from(value: ValueRef<'_>) -> Self {
        Self {
            bytes: value.as_bytes().unwrap_or_default().to_vec(),
            is_blob: value.data_type() == Type::Blob,
        }
    }
}

impl ToSql for StoredName {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let value = if self.is_blob { ValueRef::Blob(&self.bytes) } else { ValueRef::Text(&self.bytes) };
        Ok(ToSqlOutput::Borrowed(value))
    }
}

/// Reads a message; `channel` is the name of its channel if that is known.
pub(super) fn message(row: &Row<'_>, channel: Option<&Rc<str>>) -> rusqlite::Result<Message> {
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

pub(super) fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    let id = integer(row.get_ref(0)?).unwrap_or_default().unsigned_abs();
    let correlation_id = optional_text(row.get_ref(3)?).and_then(CorrelationId::new);
    Ok(Event {
        kind: text(row.get_ref(1)?),
        payload: text(row.get_ref(2)?),
        correlation_id: correlation_id.unwrap_or_else(|| CorrelationId::of_event(id)),
        timestamp: Rc::from(text(row.get_ref(4)?)),
    })
}

pub(super) fn text(value: ValueRef<'_>) -> String {
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

/// An integer, if there is one.
pub(super) fn integer(value: ValueRef<'_>) -> Option<i64> {
    match value {
        ValueRef::Null | ValueRef::Text(_) | ValueRef::Blob(_) => None,
        ValueRef::Integer(number) => Some(number),
        #[expect(clippy::cast_possible_truncation, reason = "saturates, as SQLite's own cast does")]
        ValueRef::Real(number) => Some(number as i64),
    }
}

/// `id` as the database stores it; ids never exceed the maximum.
pub(super) fn row_id(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}
