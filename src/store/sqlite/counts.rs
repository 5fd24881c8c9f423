//! The counts of messages that `/api/summary` shows, for this process's own writes.
//!
//! Triggers keep the counts right, row by row, whichever program writes to the file. For a turn that stores
//! many messages, that doubles the work. So this connection runs without triggers and adds up the counts
//! itself, once per transaction. If the file has triggers other than polecat's (for a search index, say),
//! those must run: then all triggers run, including ours, and nothing is added here.

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
/// Deletes a message and returns the values that it was counted by.
pub(super) const DELETE_MESSAGE: &str = "DELETE FROM messages WHERE id = ?1
     RETURNING coalesce(token_count >> 32, 0), coalesce(token_count & 4294967295, 0),
       nullif(provider, ''), nullif(lane, ''), channel_id";
/// The column of the channel's name in a row of [`DELETE_MESSAGE`].
pub(super) const DELETED_CHANNEL: usize = 4;

/// All of the above except one, which reads the schema and no table.
pub(super) const ALL: [&str; 5] = [SCHEMA_VERSION, ADD_TOTAL, ADD_NAME, FORGET_NAME, DELETE_MESSAGE];

/// The columns whose values are counted, as triggers and counts name them.
const PROVIDER: &str = "provider";
const LANE: &str = "lane";

/// Whether this process or the triggers count, as of the last transaction.
#[derive(Debug, Default)]
pub(super) struct Counts {
    schema_version: Option<i64>,
    by_triggers: bool,
}

impl Counts {
    /// Begins to count. Must come first in each transaction that writes: from here on, no other program
    /// changes the schema.
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

/// The changes of one transaction to the counts.
#[derive(Debug)]
pub(super) struct Tally<'r> {
    is_needed: bool,
    total: Total,
    /// Messages stored, by column and value.
    names: BTreeMap<(&'static str, &'r str), i64>,
}

impl<'r> Tally<'r> {
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

    /// Subtracts a deleted message from the counts, given its row of [`DELETE_MESSAGE`].
    pub(super) fn deleted(&mut self, connection: &Connection, row: &Row<'_>) -> rusqlite::Result<()> {
        if !self.is_needed {
            return Ok(());
        }
        self.total.add(-1, row.get(0)?, row.get(1)?);
        for (column, place) in [(PROVIDER, 2), (LANE, 3)] {
            // An old file may have values that are not text: they are counted as they are.
            let value: rusqlite::types::Value = row.get(place)?;
            if value != rusqlite::types::Value::Null {
                add_name(connection, column, &value, -1)?;
                connection.prepare_cached(FORGET_NAME)?.execute((column, &value))?;
            }
        }
        Ok(())
    }

    /// Adds everything to the counts. Must come last in the transaction.
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
