//! The counts of messages that `/api/summary` shows, for what this process writes.
//!
//! Triggers keep them right whoever writes to the file, row by row. For a turn that stores many
//! messages that is as much again as the rest of it, so this connection runs without triggers and adds up
//! by itself, once in a transaction. Where the file has other triggers than polecat's (a
//! search index, say) they have to run: then all run, ours too, and nothing is added here.

use std::collections::BTreeMap;

use rusqlite::config::DbConfig;
use rusqlite::types::ToSql;
use rusqlite::{Connection, Row};

use crate::wire::protocol::Message;

const SCHEMA_VERSION: &str = "PRAGMA schema_version";
const HAS_OTHER_TRIGGERS: &str =
    "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'trigger' AND name NOT GLOB 'polecat_*')";
const ADD_TOTAL: &str = "UPDATE polecat_counts SET count = count + ?1, tokens_high = tokens_high + ?2,
     tokens_low = tokens_low + ?3 WHERE kind = 'total' AND name = ''";
const ADD_NAME: &str = "INSERT INTO polecat_counts (kind, name, count) VALUES (?1, ?2, ?3)
     ON CONFLICT (kind, name) DO UPDATE SET count = count + excluded.count";
const FORGET_NAME: &str = "DELETE FROM polecat_counts WHERE kind = ?1 AND name = ?2 AND count <= 0";
/// Deletes a message and returns what it was counted for.
pub(super) const DELETE_MESSAGE: &str = "DELETE FROM messages WHERE id = ?1
     RETURNING coalesce(token_count >> 32, 0), coalesce(token_count & 4294967295, 0),
       nullif(provider, ''), nullif(lane, ''), channel_id";
/// The column of the channel's name in a row of [`DELETE_MESSAGE`].
pub(super) const DELETED_CHANNEL: usize = 4;

/// All of the above but one, which walks through the schema, and no table.
pub(super) const ALL: [&str; 5] = [SCHEMA_VERSION, ADD_TOTAL, ADD_NAME, FORGET_NAME, DELETE_MESSAGE];

/// The columns whose values are counted, as triggers and counts name them.
const PROVIDER: &str = "provider";
const LANE: &str = "lane";

/// Who counts, as of the last transaction.
#[derive(Debug, Default)]
pub(super) struct Counts {
    schema_version: Option<i64>,
    by_triggers: bool,
}

impl Counts {
    /// Begins to count, first thing in each transaction that writes: from here on nobody
    /// else changes the schema.
    pub(super) fn begin<'r>(&mut self, connection: &Connection) -> rusqlite::Result<Tally<'r>> {
        let version = connection.prepare_cached(SCHEMA_VERSION)?.query_row((), |row| row.get(0))?;
        if self.schema_version != Some(version) {
            self.by_triggers =
                connection.prepare_cached(HAS_OTHER_TRIGGERS)?.query_row((), |row| row.get(0))?;
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, self.by_triggers)?;
            self.schema_version = Some(version);
        }
        Ok(Tally { is_needed: !self.by_triggers, total: Total::default(), names: BTreeMap::new() })
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Total {
    count: i64,
    tokens_high: i64,
    tokens_low: i64,
}

impl Total {
    const fn add(&mut self, sign: i64, tokens_high: i64, tokens_low: i64) {
        self.count += sign;
        self.tokens_high += sign * tokens_high;
        self.tokens_low += sign * tokens_low;
    }
}

/// What one transaction changes of the counts.
#[derive(Debug)]
pub(super) struct Tally<'r> {
    is_needed: bool,
    total: Total,
    /// Messages stored, by column and value.
    names: BTreeMap<(&'static str, &'r str), i64>,
}

impl<'r> Tally<'r> {
    /// Counts a message that was stored.
    pub(super) fn stored(&mut self, message: &'r Message) {
        if !self.is_needed {
            return;
        }
        let tokens = message.token_count.unwrap_or_default();
        self.total.add(1, tokens >> 32, tokens & 0xffff_ffff);
        for (column, value) in [(PROVIDER, &message.provider), (LANE, &message.lane)] {
            if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
                *self.names.entry((column, value)).or_default() += 1;
            }
        }
    }

    /// Takes a message off the counts that was deleted, by a row of [`DELETE_MESSAGE`].
    pub(super) fn deleted(&mut self, connection: &Connection, row: &Row<'_>) -> rusqlite::Result<()> {
        if !self.is_needed {
            return Ok(());
        }
        self.total.add(-1, row.get(0)?, row.get(1)?);
        for (column, place) in [(PROVIDER, 2), (LANE, 3)] {
            // An old file may hold what is no text: it is counted as it is.
            let value: rusqlite::types::Value = row.get(place)?;
            if value != rusqlite::types::Value::Null {
                add_name(connection, column, &value, -1)?;
                connection.prepare_cached(FORGET_NAME)?.execute((column, &value))?;
            }
        }
        Ok(())
    }

    /// Adds it all to the counts, last thing in the transaction.
    pub(super) fn write(self, connection: &Connection) -> rusqlite::Result<()> {
        if self.total != Total::default() {
            let Total { count, tokens_high, tokens_low } = self.total;
            connection.prepare_cached(ADD_TOTAL)?.execute((count, tokens_high, tokens_low))?;
        }
        for ((column, value), count) in self.names {
            add_name(connection, column, &value, count)?;
        }
        Ok(())
    }
}

fn add_name(connection: &Connection, column: &str, value: &dyn ToSql, count: i64) -> rusqlite::Result<()> {
    connection.prepare_cached(ADD_NAME)?.execute((column, value, count)).map(|_| ())
}
