//! Databases as service A leaves them behind.

use std::path::Path;

use rusqlite::{Connection, params};

/// The tables of service A.
pub(crate) const SCHEMA: &str = "
    CREATE TABLE messages (id INTEGER PRIMARY KEY AUTOINCREMENT, channel_id TEXT NOT NULL, author TEXT NOT NULL,
        content TEXT NOT NULL, timestamp TEXT NOT NULL, lane TEXT, provider TEXT, token_count INTEGER);
    CREATE INDEX idx_messages_channel ON messages(channel_id);
    CREATE INDEX idx_messages_time ON messages(timestamp);";

/// Its tables before it had lanes, providers and token counts.
pub(crate) const SCHEMA_WITHOUT_LATER_COLUMNS: &str = "
    CREATE TABLE messages (id INTEGER PRIMARY KEY AUTOINCREMENT, channel_id TEXT NOT NULL, author TEXT NOT NULL,
        content TEXT NOT NULL, timestamp TEXT NOT NULL);
    CREATE INDEX idx_messages_channel ON messages(channel_id);
    CREATE INDEX idx_messages_time ON messages(timestamp);";

/// The time of every message in these databases.
pub(crate) const TIMESTAMP: &str = "2025-11-30T08:15:00.000001+00:00";

/// Creates a database with `schema`.
pub(crate) fn create(path: &Path, schema: &str) -> Connection {
    let connection = Connection::open(path).expect("a database can be created");
    connection.execute_batch(schema).expect("the schema is valid");
    connection
}

/// Stores `count` messages on `channel`, with `message 1` and so on as content.
pub(crate) fn fill(connection: &mut Connection, channel: &str, count: u64) {
    let transaction = connection.transaction().expect("a transaction");
    let sql = "INSERT INTO messages (channel_id, author, content, timestamp) VALUES (?1, 'old', ?2, ?3)";
    let mut insert = transaction.prepare(sql).expect("the statement is valid");
    for number in 1..=count {
        insert
            .execute(params![channel, format!("message {number}"), TIMESTAMP])
            .expect("a message is stored");
    }
    drop(insert);
    transaction.commit().expect("the messages are committed");
}
