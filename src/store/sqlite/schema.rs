//! The database file: its required shape, and how an old file is upgraded.
//!
//! `messages` belongs to the channel service as much as to polecat: any program may write to it, before,
//! after and while polecat runs. So the totals that `/api/summary` shows are kept by triggers, which run in
//! every other program that writes (see [`super::counts`] for this one). They are filled from the table once,
//! when the triggers are created. (One way bypasses them: `INSERT OR REPLACE` over an existing id, without
//! `PRAGMA recursive_triggers`. The service never does that.)
//!
//! All checks come before the first write, so that a refused file is left as it was, byte for byte.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, Error, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use uuid::Uuid;

use crate::wire::protocol::ID_MAX;

use super::checkpoint::FILE_BYTES_MAX;
use super::file::{DatabaseFile, OpenError};
use super::opening;
use super::options::Durability;
use super::queries::{newest_in, object};
use super::terms;
use super::verify::{check, damaged};

/// How long opening waits for another program to unlock the file.
const OPENING_PATIENCE: Duration = Duration::from_secs(1);

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS messages (
  id INTEGER PRIMARY KEY AUTOINCREMENT, channel_id TEXT NOT NULL, author TEXT NOT NULL, content TEXT NOT NULL,
  timestamp TEXT NOT NULL, lane TEXT, provider TEXT, token_count INTEGER);
CREATE INDEX IF NOT EXISTS idx_messages_channel ON messages(channel_id);
CREATE TABLE IF NOT EXISTS events (
  id INTEGER PRIMARY KEY AUTOINCREMENT, type TEXT NOT NULL, payload TEXT NOT NULL, correlation_id TEXT,
  timestamp TEXT NOT NULL);";

/// Columns that older files of the channel service lack.
const LATER_COLUMNS: [(&str, &str); 3] = [("lane", "TEXT"), ("provider", "TEXT"), ("token_count", "INTEGER")];

const COUNTS: &str = "CREATE TABLE polecat_counts (
  kind TEXT NOT NULL, name TEXT NOT NULL, count INTEGER NOT NULL,
  tokens_high INTEGER NOT NULL DEFAULT 0, tokens_low INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (kind, name)) WITHOUT ROWID";

const TOTAL_TRIGGERS: [&str; 3] = [
    "CREATE TRIGGER polecat_insert AFTER INSERT ON messages BEGIN
           UPDATE polecat_counts SET count = count + 1,
             tokens_high = tokens_high + coalesce(new.token_count >> 32, 0),
             tokens_low = tokens_low + coalesce(new.token_count & 4294967295, 0)
           WHERE kind = 'total' AND name = '';
         END",
    "CREATE TRIGGER polecat_delete AFTER DELETE ON messages BEGIN
           UPDATE polecat_counts SET count = count - 1,
             tokens_high = tokens_high - coalesce(old.token_count >> 32, 0),
             tokens_low = tokens_low - coalesce(old.token_count & 4294967295, 0)
           WHERE kind = 'total' AND name = '';
         END",
    "CREATE TRIGGER polecat_update AFTER UPDATE OF token_count ON messages BEGIN
           UPDATE polecat_counts SET
             tokens_high = tokens_high + coalesce(new.token_count >> 32, 0) - coalesce(old.token_count >> 32, 0),
             tokens_low = tokens_low + coalesce(new.token_count & 4294967295, 0)
                                     - coalesce(old.token_count & 4294967295, 0)
           WHERE kind = 'total' AND name = '';
         END",
];

/// The triggers that count messages by one column, whose name replaces `COLUMN`. Null and empty values are
/// not counted, and a count of zero is not kept.
const COLUMN_TRIGGERS: [&str; 3] = [
    "CREATE TRIGGER polecat_insert_COLUMN AFTER INSERT ON messages WHEN new.COLUMN <> '' BEGIN
           INSERT INTO polecat_counts (kind, name, count) VALUES ('COLUMN', new.COLUMN, 1)
             ON CONFLICT (kind, name) DO UPDATE SET count = count + 1;
         END",
    "CREATE TRIGGER polecat_delete_COLUMN AFTER DELETE ON messages WHEN old.COLUMN <> '' BEGIN
           UPDATE polecat_counts SET count = count - 1 WHERE kind = 'COLUMN' AND name = old.COLUMN;
           DELETE FROM polecat_counts WHERE kind = 'COLUMN' AND name = old.COLUMN AND count <= 0;
         END",
    "CREATE TRIGGER polecat_update_COLUMN AFTER UPDATE OF COLUMN ON messages
         WHEN old.COLUMN IS NOT new.COLUMN BEGIN
           UPDATE polecat_counts SET count = count - 1 WHERE kind = 'COLUMN' AND name = old.COLUMN;
           DELETE FROM polecat_counts WHERE kind = 'COLUMN' AND name = old.COLUMN AND count <= 0;
           INSERT INTO polecat_counts (kind, name, count) SELECT 'COLUMN', new.COLUMN, 1 WHERE new.COLUMN <> ''
             ON CONFLICT (kind, name) DO UPDATE SET count = count + 1;
         END",
];

/// Fills the counts from the table. It upserts row by row instead of grouping: that needs no sort, and so no
/// memory.
const FILL: &str = "
INSERT INTO polecat_counts SELECT 'total', '', count(*), coalesce(sum(token_count >> 32), 0),
  coalesce(sum(token_count & 4294967295), 0) FROM messages;
INSERT INTO polecat_counts (kind, name, count) SELECT 'provider', provider, 1 FROM messages WHERE provider <> ''
  ON CONFLICT (kind, name) DO UPDATE SET count = count + 1;
INSERT INTO polecat_counts (kind, name, count) SELECT 'lane', lane, 1 FROM messages WHERE lane <> ''
  ON CONFLICT (kind, name) DO UPDATE SET count = count + 1;";

const META: &str = "CREATE TABLE polecat_meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID";
const KEYS: &str = "CREATE TABLE polecat_keys (
  stream TEXT NOT NULL, key TEXT NOT NULL, id INTEGER NOT NULL, stored INTEGER NOT NULL,
  PRIMARY KEY (stream, key)) WITHOUT ROWID";
const KEYS_INDEX: &str = "CREATE INDEX polecat_keys_stored ON polecat_keys(stored)";

/// Tables and an index of our own, which no other program has a reason to change.
const OWN: [&str; 4] = [META, KEYS, KEYS_INDEX, terms::TABLE];

/// The name of the object that one of the statements above creates.
fn name_of(sql: &str) -> &str {
    sql.split_whitespace().nth(2).unwrap_or_default()
}

/// Opens `file` and ensures that it has every table, index and trigger that the engine relies on.
pub(super) fn open(file: &DatabaseFile, durability: Durability) -> Result<Connection, OpenError> {
    let refusal = |reason: &str| OpenError::refusal(&file.name, reason);
    match open_and_inspect(file, durability) {
        Ok((connection, Verdict::Usable)) => Ok(connection),
        Ok((_, Verdict::Unusable(reason))) => Err(refusal(&reason)),
        Err(error) => Err(refusal(&explanation(&file.path, &error))),
    }
}

fn open_and_inspect(file: &DatabaseFile, durability: Durability) -> rusqlite::Result<(Connection, Verdict)> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let has_log = std::fs::metadata(log_path(&file.path)).is_ok_and(|log| log.len() > 0);
    let connection = Connection::open_with_flags(&file.path, flags)?;
    // Until the file is accepted, not even a log left by a crash is copied into it. If there is no log,
    // closing removes the empty one that reading the file has created.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, has_log)?;
    configure(&connection, durability)?;
    let verdict = inspect(&connection)?;
    if matches!(verdict, Verdict::Unusable(_)) {
        return Ok((connection, verdict));
    }
    if file.is_new() {
        // The file holds nothing yet, and this would wait for the disk seven times; the caller waits once.
        connection.execute_batch("PRAGMA synchronous = OFF")?;
        // So that free pages can be given back, see [`super::shrink`].
        connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL")?;
    }
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", (), |row| row.get(0))?;
    if !mode.eq_ignore_ascii_case("wal") {
        let reason = "it cannot have a write-ahead log there; name a file on a local disk with --db";
        return Ok((connection, Verdict::Unusable(reason.to_owned())));
    }
    bring_up_to_date(&connection, &file.name)?;
    connection.execute_batch(durability.pragma())?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    Ok((connection, Verdict::Usable))
}

impl Durability {
    /// NORMAL: a commit is safe from a crash of the process at once, and from a power cut at the next
    /// checkpoint. Only the checkpoint waits for the disk (and the log's header, each time the log begins
    /// anew). FULL: every commit waits for the disk.
    pub(super) const fn pragma(self) -> &'static str {
        match self {
            Self::Normal => "PRAGMA synchronous = NORMAL",
            Self::Full => "PRAGMA synchronous = FULL",
        }
    }
}

/// The path of SQLite's write-ahead log for the file at `path`.
pub(super) fn log_path(path: &Path) -> PathBuf {
    opening::beside(path, "-wal")
}

fn configure(connection: &Connection, durability: Durability) -> rusqlite::Result<()> {
    connection.busy_timeout(OPENING_PATIENCE)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.execute_batch(durability.pragma())?;
    // For a new file: a commit writes whole pages, and most records are small, so small pages reduce what it
    // writes to a third.
    connection.execute_batch("PRAGMA page_size = 1024")?;
    connection.execute_batch(
        "PRAGMA foreign_keys = OFF; PRAGMA temp_store = MEMORY;
         PRAGMA cache_size = -2048; PRAGMA mmap_size = 0; PRAGMA wal_autocheckpoint = 0;",
    )?;
    connection.pragma_update(None, "journal_size_limit", FILE_BYTES_MAX)
}

/// Whether a file can be the database, or why not.
pub(super) enum Verdict {
    Usable,
    Unusable(String),
}

/// Checks the file without writing to it.
fn inspect(connection: &Connection) -> rusqlite::Result<Verdict> {
    if connection.is_readonly("main")? {
        return Ok(Verdict::Unusable("it cannot be written; change its permissions".to_owned()));
    }
    inspect_contents(connection)
}

pub(super) fn inspect_contents(connection: &Connection) -> rusqlite::Result<Verdict> {
    match inspect_schema(connection)? {
        Verdict::Usable => Ok(check(connection)?.map_or(Verdict::Usable, Verdict::Unusable)),
        unusable @ Verdict::Unusable(_) => Ok(unusable),
    }
}

/// Checks the tables and indexes, and the ends of each.
pub(super) fn inspect_schema(connection: &Connection) -> rusqlite::Result<Verdict> {
    let tables: [(&str, &[&str]); 2] = [
        ("messages", &["channel_id", "author", "content", "timestamp"]),
        ("events", &["type", "payload", "correlation_id", "timestamp"]),
    ];
    for (table, columns) in tables {
        if !table_is_sound(connection, table, columns)? {
            return Ok(Verdict::Unusable(format!(
                "its table `{table}` is not one of polecat's; name another file with --db"
            )));
        }
        let newest = if object(connection, table)?.is_some() { newest_in(connection, table)? } else { 0 };
        if newest > ID_MAX {
            return Ok(Verdict::Unusable(format!(
                "its table `{table}` has ids up to {newest}, and none may be above {ID_MAX}; delete those rows and the \
                 table's line in sqlite_sequence, or name another file with --db"
            )));
        }
    }
    for (index, column) in [("idx_messages_channel", "channel_id"), ("idx_messages_time", "timestamp")] {
        if !index_is_sound(connection, index, column)? {
            return Ok(Verdict::Unusable(format!(
                "its index `{index}` is not one of polecat's; drop it, and polecat creates it again"
            )));
        }
    }
    for sql in OWN {
        let name = name_of(sql);
        if object(connection, name)?.is_some_and(|(_, found)| found != sql) {
            return Ok(Verdict::Unusable(format!(
                "its `{name}` is not one of polecat's; drop it, and polecat creates it again"
            )));
        }
    }
    Ok(Verdict::Usable)
}

/// Whether `table` does not exist yet, or can be used: its id is as required, and it has no column that
/// polecat would have to fill and does not know. Reads both ends of it, which finds gross damage.
fn table_is_sound(connection: &Connection, table: &str, columns: &[&str]) -> rusqlite::Result<bool> {
    let Some((kind, sql)) = object(connection, table)? else { return Ok(true) };
    let mut statement = connection.prepare(
        "SELECT lower(name), upper(type), pk, \"notnull\" AND dflt_value IS NULL FROM pragma_table_xinfo(?1)",
    )?;
    let found: Vec<(String, String, i64, bool)> = statement
        .query_map((table,), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let has_id = found.iter().any(|(name, kind, key, _)| name == "id" && kind == "INTEGER" && *key == 1);
    let keys = found.iter().filter(|(_, _, key, _)| *key > 0).count();
    let has_all = columns.iter().all(|column| found.iter().any(|(name, ..)| name == column));
    let wants_more =
        found.iter().any(|(name, _, key, must)| *must && *key == 0 && !columns.contains(&name.as_str()));
    let never_reuses_ids = sql.to_ascii_uppercase().contains("AUTOINCREMENT");
    if kind != "table" || !has_id || keys != 1 || !has_all || wants_more || !never_reuses_ids {
        return Ok(false);
    }
    connection.query_row(&format!("SELECT max(id) FROM {table}"), (), |_| Ok(()))?;
    connection.query_row(&format!("SELECT min(id) FROM {table}"), (), |_| Ok(()))?;
    Ok(true)
}

/// Whether `index` does not exist yet, or is a plain index of `messages` by only the bytes of `column`.
fn index_is_sound(connection: &Connection, index: &str, column: &str) -> rusqlite::Result<bool> {
    if object(connection, index)?.is_none() {
        return Ok(true);
    }
    let mut statement = connection.prepare(
        "SELECT part.name, part.coll, part.\"desc\"
           FROM pragma_index_list('messages') AS list, pragma_index_xinfo(list.name) AS part
          WHERE list.name = ?1 COLLATE NOCASE AND list.\"unique\" = 0 AND list.partial = 0 AND part.key = 1",
    )?;
    let found: Vec<(Option<String>, String, i64)> = statement
        .query_map((index,), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let [(Some(name), collation, 0)] = found.as_slice() else { return Ok(false) };
    if !name.eq_ignore_ascii_case(column) || collation != "BINARY" {
        return Ok(false);
    }
    for end in ["min", "max"] {
        let probe = format!("SELECT {end}({column}) FROM messages INDEXED BY {index}");
        connection.query_row(&probe, (), |_| Ok(()))?;
    }
    Ok(true)
}

/// Adds what is missing, in one transaction.
fn bring_up_to_date(connection: &Connection, name: &Path) -> rusqlite::Result<()> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    transaction.execute_batch(TABLES)?;
    for (name, kind) in LATER_COLUMNS {
        let is_there = transaction.query_row(
            "SELECT count(*) FROM pragma_table_xinfo('messages') WHERE name = ?1 COLLATE NOCASE",
            (name,),
            |row| row.get::<_, bool>(0),
        )?;
        if !is_there {
            transaction.execute_batch(&format!("ALTER TABLE messages ADD COLUMN {name} {kind}"))?;
        }
    }
    for sql in OWN {
        if object(&transaction, name_of(sql))?.is_none() {
            transaction.execute_batch(sql)?;
        }
    }
    transaction
        .execute("INSERT OR IGNORE INTO polecat_meta VALUES ('epoch', ?1)", (Uuid::new_v4().to_string(),))?;
    transaction.execute(terms::OLDEST, ())?;
    let triggers = triggers();
    if !counts_are_kept(&transaction, &triggers)? {
        if transaction.query_row("SELECT EXISTS (SELECT 1 FROM messages)", (), |row| row.get::<_, bool>(0))? {
            log::info!("counting the messages in {}; this is done only once", name.display());
        }
        for sql in &triggers {
            transaction.execute_batch(&format!("DROP TRIGGER IF EXISTS {}", name_of(sql)))?;
        }
        transaction.execute_batch("DROP TABLE IF EXISTS polecat_counts")?;
        transaction.execute_batch(COUNTS)?;
        transaction.execute_batch(FILL)?;
        for sql in &triggers {
            transaction.execute_batch(sql)?;
        }
    }
    transaction.commit()
}

fn triggers() -> Vec<String> {
    let of_column = |column| COLUMN_TRIGGERS.map(|sql| sql.replace("COLUMN", column));
    [TOTAL_TRIGGERS.map(str::to_owned), of_column("provider"), of_column("lane")].concat()
}

/// Whether the counts and all of their triggers exist as they are written here. If one is missing or was
/// changed, the counts may be wrong.
fn counts_are_kept(connection: &Connection, triggers: &[String]) -> rusqlite::Result<bool> {
    let mut expected = std::iter::once(COUNTS).chain(triggers.iter().map(String::as_str));
    expected.try_fold(true, |all, sql| {
        Ok(all && object(connection, name_of(sql))?.is_some_and(|(_, found)| found == sql))
    })
}

/// The error and what to do about it, in words for the person who started the server.
pub(super) fn explanation(path: &Path, error: &Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => {
            "it is not an SQLite database; name another file with --db".to_owned()
        }
        Some(ErrorCode::DatabaseCorrupt) => damaged(error),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another program holds it locked; stop that program, or try again".to_owned()
        }
        Some(ErrorCode::CannotOpen) => opening::explanation(path),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            format!("it cannot be written ({error}); change the permissions of the file and its folder")
        }
        Some(ErrorCode::DiskFull) => "the disk is full; make room".to_owned(),
        Some(ErrorCode::SystemIoFailure) => {
            format!("the disk does not work, or is full ({error}); make room, or name another file with --db")
        }
        _ => error.to_string(),
    }
}
