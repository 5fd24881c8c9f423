#![allow(clippy::unwrap_used)]

use std::rc::Rc;

use rusqlite::config::DbConfig;
use tempfile::TempDir;

use super::super::backup;
use super::super::checkpoint::{BUSY_BYTES_MAX, IDLE_BYTES_MAX};
use super::super::options::Durability;
use super::super::queries::COUNT_ROWS;
use super::super::questions::SLICE_ROWS;
use super::*;
use crate::store::engine::{Names, Stream, name_weight};
use crate::wire::protocol::Message;

const NOW: Now = Now { monotonic_ms: 50_000, unix_micros: 1_767_605_400_123_456 };

fn new_engine() -> (TempDir, SqliteEngine) {
    let folder = tempfile::tempdir().unwrap();
    let engine = SqliteEngine::open(&folder.path().join("polecat.db"), &StoreOptions::default()).unwrap();
    (folder, engine)
}

fn message(channel: &str, content: String) -> Record {
    Record::Message(Message {
        channel_id: Rc::from(channel),
        author: "ann".to_owned(),
        content,
        timestamp: Rc::from("2026-01-05T09:30:00.123456+00:00"),
        lane: None,
        provider: Some(channel.to_owned()),
        token_count: None,
    })
}

fn publish(engine: &mut SqliteEngine, records: impl IntoIterator<Item = Record>) {
    for record in records {
        engine.append(record, None, None);
    }
    let mut answers = Vec::new();
    engine.settle(NOW, 0, &mut answers);
    let is_committed = |answer: &Answer| matches!(answer, Answer::Committed { .. });
    assert!(!answers.is_empty() && answers.iter().all(is_committed));
    engine.maintain(NOW);
}

/// Lets a moment pass in which nothing is published.
fn rest(engine: &mut SqliteEngine) {
    let later = Now { monotonic_ms: NOW.monotonic_ms + 1_000, ..NOW };
    engine.settle(later, 0, &mut Vec::new());
    engine.maintain(later);
}

/// SQLite's plan for `sql`, including the triggers.
fn plan(connection: &Connection, sql: &str) -> Vec<String> {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let mut rows = statement.raw_query();
    let mut lines = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        lines.push(row.get("detail").unwrap());
    }
    lines
}

#[test]
fn no_statement_scans_or_sorts() {
    let (_folder, mut engine) = new_engine();
    engine.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRIGGER_EQP, true).unwrap();
    // If the file has triggers of other programs, ours run as well.
    engine
        .connection
        .execute_batch("CREATE TRIGGER other AFTER INSERT ON messages BEGIN SELECT 1; END")
        .unwrap();
    engine.counts.begin(&engine.connection).unwrap();
    let others = ["UPDATE messages SET lane = 'l', provider = 'p', token_count = 1 WHERE id = 1"];
    let sparse = |n: u32| message(&n.to_string(), String::new());
    let dense = |_| message("a", String::new());
    for statistics in ["none", "of nothing", "of many channels", "of one channel"] {
        let stored = "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
            INSERT OR IGNORE INTO polecat_keys SELECT i % 7, i, i, i / 3 FROM n";
        match statistics {
            "of many channels" => {
                publish(&mut engine, (0..500).map(sparse));
                engine.connection.execute_batch(stored).unwrap();
            }
            "of one channel" => publish(&mut engine, (0..50_000).map(dense)),
            _ => {}
        }
        if statistics != "none" {
            engine.connection.execute_batch("ANALYZE").unwrap();
        }
        for sql in statements().chain(others) {
            for line in plan(&engine.connection, sql) {
                assert!(!line.contains("SCAN"), "{line} (statistics {statistics}) in {sql}");
                assert!(!line.contains("TEMP B-TREE"), "{line} (statistics {statistics}) in {sql}");
            }
        }
        let page = statements()
            .find(|sql| sql.contains("token_count") && sql.contains("channel_id = ?3 AND id > ?1"))
            .unwrap();
        let expected =
            "SEARCH messages USING INDEX idx_messages_channel (channel_id=? AND rowid>? AND rowid<?)";
        assert_eq!(plan(&engine.connection, page), [expected], "statistics {statistics}");
    }
}

#[test]
fn a_large_channel_is_counted_in_slices_and_only_once() {
    let (_folder, mut engine) = new_engine();
    let count = 2 * COUNT_ROWS + 10;
    publish(&mut engine, (0..count).map(|_| message("large", String::new())));
    publish(&mut engine, [message("small", String::new())]);
    let settles = |engine: &mut SqliteEngine| {
        let query = Query::ChannelDetails { after: None, channels_max: 9, bytes_max: 1000 };
        engine.ask(query, QueryId(1));
        let mut answers = Vec::new();
        for settle in 1..9 {
            engine.settle(NOW, 16, &mut answers);
            if let Some(Answer::ChannelDetails { channels, is_cut: false, .. }) = answers.pop() {
                let kept = channels.iter().map(|channel| (channel.newest, channel.kept)).collect::<Vec<_>>();
                let newest = count as u64;
                assert_eq!(kept, [(newest, newest), (newest + 1, 1)]);
                return settle;
            }
        }
        0
    };
    assert_eq!(settles(&mut engine), 3, "as many as it has slices");
    assert_eq!(settles(&mut engine), 1);
}

#[test]
fn a_slice_of_names_is_bounded_and_pages_go_on_between_them() {
    let (_folder, mut engine) = new_engine();
    let count = 2 * SLICE_ROWS + 10;
    let name = |n: usize| format!("room {n:05}");
    publish(&mut engine, (0..count).rev().map(|n| message(&name(n), String::new())));
    for (of, bytes_max, slices) in [
        (Names::Channels, usize::MAX, 3),
        (Names::Providers, usize::MAX, 3),
        // Of at least one, whatever it weighs.
        (Names::Channels, 1, count),
        (Names::Channels, 10 * name_weight(&name(0)), count.div_ceil(10)),
    ] {
        let (mut listed, mut after, mut asked) = (Vec::new(), None, 0);
        loop {
            let query = Query::Names {
                of,
                after: after.take(),
                names_max: usize::MAX,
                bytes_max,
                each_bytes_max: usize::MAX,
            };
            engine.ask(query, QueryId(1));
            let stream = Stream::Channel(Rc::from(name(asked)));
            engine.ask(Query::Page { stream, after: 0, records_max: 9, bytes_max: 9 }, QueryId(2));
            let mut answers = Vec::new();
            engine.settle(NOW, 2, &mut answers);
            let [Answer::Names { names, next, .. }, Answer::Page { .. }] = answers.as_slice() else {
                panic!("{answers:?}");
            };
            assert!(names.iter().all(|(_, messages)| *messages == u64::from(of == Names::Providers)));
            listed.extend(names.iter().map(|(name, _)| name.clone()));
            after.clone_from(next);
            asked += 1;
            if after.is_none() {
                break;
            }
        }
        assert_eq!((listed.len(), asked), (count, slices));
        assert!(listed.is_sorted());
    }
    assert_ne!(engine.due_in_ms(NOW), Some(0));
}

#[test]
fn a_count_is_one_step_however_much_there_is() {
    let (_folder, mut engine) = new_engine();
    publish(&mut engine, (0..COUNT_ROWS).map(|_| message("a", String::new())));
    let stream = Stream::Channel(Rc::from("a"));
    let mut answers = Vec::new();
    for (count_max, expected) in [(10, (10, true)), (COUNT_ROWS as u64, (COUNT_ROWS as u64, false))] {
        engine
            .ask(Query::Count { stream: stream.clone(), after: 0, through: u64::MAX, count_max }, QueryId(1));
        engine.settle(NOW, 1, &mut answers);
        let Some(Answer::Count { query_id: QueryId(1), count, is_cut, .. }) = answers.pop() else {
            panic!("no count")
        };
        assert_eq!((count, is_cut), expected);
    }
}

fn kibibytes(count: usize) -> impl Iterator<Item = Record> {
    (0..count.div_ceil(64)).map(|_| message("a", "x".repeat(64 << 10)))
}

#[test]
fn a_quiet_loop_copies_the_log_back_and_a_reader_does_not_make_it_spin() {
    let (folder, mut engine) = new_engine();
    publish(&mut engine, kibibytes(512));
    rest(&mut engine);
    assert!(engine.log.bytes > 512 << 10, "too little to be worth it");
    publish(&mut engine, kibibytes(1024));
    assert!(engine.log.bytes > IDLE_BYTES_MAX);
    rest(&mut engine);
    assert_eq!(engine.log.bytes, 0);

    let reader = Connection::open(folder.path().join("polecat.db")).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM messages").unwrap();
    publish(&mut engine, kibibytes(2048));
    rest(&mut engine);
    let left = engine.log.bytes_left;
    assert!(left > IDLE_BYTES_MAX, "the reader still needs the old pages");
    reader.execute_batch("COMMIT").unwrap();
    rest(&mut engine);
    assert_eq!(engine.log.bytes, left, "not tried again at once, unless there is more");
    publish(&mut engine, kibibytes(2048));
    rest(&mut engine);
    assert_eq!((engine.log.bytes, engine.log.bytes_left), (0, 0));
}

#[test]
fn what_a_reader_has_held_up_is_copied_back_once_it_has_gone_though_nothing_more_is_published() {
    let (folder, mut engine) = new_engine();
    let file_bytes = || std::fs::metadata(folder.path().join("polecat.db-wal")).unwrap().len();
    let reader = Connection::open(folder.path().join("polecat.db")).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM messages").unwrap();
    publish(&mut engine, kibibytes(20 << 10));
    let mut now = NOW;
    let mut pass = |engine: &mut SqliteEngine, seconds: u64| {
        let until = now.monotonic_ms + seconds * 1_000;
        let mut turns = 0;
        while let Some(due) = engine.due_in_ms(now)
            && now.monotonic_ms + due <= until
        {
            now.monotonic_ms += due;
            engine.settle(now, 0, &mut Vec::new());
            engine.maintain(now);
            turns += 1;
        }
        now.monotonic_ms = until;
        turns
    };
    let turns = pass(&mut engine, 600);
    assert!((60..300).contains(&turns), "it tries now and then, and does not spin: {turns}");
    assert!(engine.log.bytes > 20 << 20 && engine.commits().unwrap().wal_pending_bytes > 20 << 20);
    let tries = engine.commits().unwrap().checkpoint_us.count();
    assert!(tries >= 60, "each is timed: {tries}");
    reader.execute_batch("COMMIT").unwrap();
    pass(&mut engine, 10);
    assert_eq!((engine.log.bytes, engine.commits().unwrap().wal_pending_bytes), (0, 0));
    assert_eq!(file_bytes(), 0, "nor does the empty log take up the disk");
    assert_eq!(pass(&mut engine, 86_400), 0, "an idle server sleeps");
}

#[test]
fn a_copy_of_the_file_leaves_the_server_nothing_to_copy_back() {
    let (folder, mut engine) = new_engine();
    let (path, copy) = (folder.path().join("polecat.db"), folder.path().join("copy.db"));
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM messages").unwrap();
    publish(&mut engine, kibibytes(8 << 10));
    rest(&mut engine);
    reader.execute_batch("COMMIT").unwrap();
    assert!(engine.log.bytes_left > 8 << 20, "as the copy itself would have held it up");
    backup::copy(&path, &copy, |_, _| false).unwrap();
    // Measured, once there is more.
    publish(&mut engine, kibibytes(192));
    assert!(engine.log.bytes < 1 << 20, "{}", engine.log.bytes);
}

#[test]
fn a_loop_that_is_never_quiet_copies_the_log_back_in_the_end() {
    let (folder, mut engine) = new_engine();
    let mut bytes_most = 0;
    for _ in 0..200 {
        publish(&mut engine, kibibytes(64));
        bytes_most = bytes_most.max(engine.log.bytes);
    }
    assert!(bytes_most > BUSY_BYTES_MAX - (512 << 10), "not before it must: {bytes_most}");
    assert!(bytes_most <= BUSY_BYTES_MAX + (256 << 10), "and then whole: {bytes_most}");
    let length = std::fs::metadata(folder.path().join("polecat.db-wal")).unwrap().len();
    assert!(length < BUSY_BYTES_MAX.unsigned_abs() + (1 << 20), "the log starts anew: {length}");
}

#[test]
fn what_is_deleted_is_copied_back_too() {
    const RECORDS: u64 = 45_000;
    let (folder, mut engine) = new_engine();
    publish(&mut engine, (0..RECORDS).map(|number| message(&number.to_string(), "x".repeat(500))));
    drop(engine);
    let options = StoreOptions { retain_messages: Some(1), ..StoreOptions::default() };
    let mut engine = SqliteEngine::open(&folder.path().join("polecat.db"), &options).unwrap();
    let (mut now, mut bytes_all) = (NOW, 0);
    while engine.oldest_message() < RECORDS {
        let before = engine.log.bytes;
        engine.settle(now, 0, &mut Vec::new());
        engine.maintain(now);
        bytes_all += (engine.log.bytes - before).max(0);
        assert!(engine.log.bytes <= BUSY_BYTES_MAX);
        now.monotonic_ms += 10;
    }
    assert!(bytes_all > BUSY_BYTES_MAX + IDLE_BYTES_MAX, "not enough to show it: {bytes_all}");
}

#[test]
fn a_log_left_by_a_crash_is_copied_back_on_opening() {
    let (folder, mut engine) = new_engine();
    publish(&mut engine, kibibytes(2048));
    for (from, to) in [("polecat.db", "copy.db"), ("polecat.db-wal", "copy.db-wal")] {
        std::fs::copy(folder.path().join(from), folder.path().join(to)).unwrap();
    }
    let engine = SqliteEngine::open(&folder.path().join("copy.db"), &StoreOptions::default()).unwrap();
    assert_eq!((engine.log.bytes, engine.newest_message()), (0, 32));
}

#[test]
fn durability_is_what_it_was_asked_for() {
    for (durability, expected) in [(Durability::Normal, 1), (Durability::Full, 2)] {
        let folder = tempfile::tempdir().unwrap();
        let options = StoreOptions { durability, ..StoreOptions::default() };
        let engine = SqliteEngine::open(&folder.path().join("polecat.db"), &options).unwrap();
        let pragma = |name: &str| -> String {
            engine
                .connection
                .pragma_query_value(None, name, |row| Ok(queries::text(row.get_ref(0)?)))
                .unwrap()
        };
        assert_eq!(pragma("synchronous"), expected.to_string());
        assert_eq!(pragma("journal_mode"), "wal");
        assert_eq!(pragma("wal_autocheckpoint"), "0", "no commit does more than it was told to");
    }
}

#[test]
fn patience_is_short_while_locked_out_and_comes_back() {
    let (folder, mut engine) = new_engine();
    let patience = |engine: &SqliteEngine| -> i64 {
        engine.connection.query_row("PRAGMA busy_timeout", (), |row| row.get(0)).unwrap()
    };
    assert_eq!(patience(&engine), 250);
    let locker = Connection::open(folder.path().join("polecat.db")).unwrap();
    locker.execute_batch("BEGIN IMMEDIATE").unwrap();
    engine.append(message("a", String::new()), None, None);
    let mut answers = Vec::new();
    engine.settle(NOW, 0, &mut answers);
    assert!(matches!(answers.as_slice(), [Answer::Refused { .. }]));
    assert_eq!(patience(&engine), 10);
    locker.execute_batch("COMMIT").unwrap();
    publish(&mut engine, [message("a", String::new())]);
    assert_eq!(patience(&engine), 250);
}

/// An engine on a file with one changed byte: `find` chooses it, in pages of one kind.
fn damaged_engine(kind: u8, find: impl Fn(&[u8]) -> Option<usize>) -> (TempDir, SqliteEngine) {
    const PAGE_BYTES: usize = 1024;
    let (folder, mut engine) = new_engine();
    publish(
        &mut engine,
        (0..5_000).map(|number| message(["a room", "another room"][number % 2], String::new())),
    );
    drop(engine);
    let path = folder.path().join("polecat.db");
    let mut bytes = std::fs::read(&path).unwrap();
    // Every 205th page, beginning with the second, has pointers.
    let pages = bytes.chunks_exact_mut(PAGE_BYTES).enumerate().filter(|(number, _)| number % 205 != 1);
    let mut pages = pages.map(|(_, page)| page).filter(|page| page[0] == kind);
    assert!(pages.any(|page| find(page).map(|at| page[at] ^= 1).is_some()), "no such page");
    std::fs::write(&path, bytes).unwrap();
    let connection = Connection::open(&path).unwrap();
    let engine = SqliteEngine::with(connection, &StoreOptions::default()).unwrap();
    (folder, engine)
}

/// Checks all of it; returns the steps that this took and the faults that were found.
fn look_through(engine: &mut SqliteEngine) -> (usize, u64) {
    engine.verification = Verification::of_all(engine.known);
    let (mut now, mut steps) = (NOW, 0);
    while let Some(due) = engine.due_in_ms(now) {
        now.monotonic_ms += due;
        engine.settle(now, 0, &mut Vec::new());
        engine.maintain(now);
        steps += 1;
        assert!(steps < 1_000, "it spins");
    }
    (steps, engine.commits().unwrap().faults)
}

#[test]
fn a_bit_that_leads_searches_astray_is_noticed() {
    const INNER_OF_INDEX: u8 = 2;
    const INNER_OF_TABLE: u8 = 5;
    // The cell in the middle of the page: the number of the page below, and the last key in that.
    let cell = |page: &[u8]| {
        let place = 12 + usize::from(u16::from_be_bytes([page[3], page[4]])) / 2 * 2;
        usize::from(u16::from_be_bytes([page[place], page[place + 1]])) + 4
    };
    // A key of the index is its length, the header of a record, and its values; the first is a channel.
    let channel = |page: &[u8]| Some(cell(page) + 1 + usize::from(page[cell(page) + 1]));
    let (_folder, mut engine) = damaged_engine(INNER_OF_INDEX, channel);
    let (steps, faults) = look_through(&mut engine);
    assert!(steps >= 20, "a few rows at a time: {steps}");
    assert!(faults > 10, "{faults}");
    // A key of the table is an id, in one byte or two.
    let last_id = |page: &[u8]| Some(cell(page) + usize::from(page[cell(page)] >= 0x80));
    let (_folder, mut engine) = damaged_engine(INNER_OF_TABLE, last_id);
    assert!(look_through(&mut engine).1 > 0);
}

#[test]
fn a_file_is_looked_through_though_the_loop_is_never_quiet() {
    let (_folder, mut engine) = new_engine();
    publish(&mut engine, (0..500).map(|_| message("a", String::new())));
    engine.verification = Verification::of_all(engine.known);
    let (mut now, mut turns) = (NOW, 0);
    while engine.verification.due_in_ms(now).is_some() {
        now.monotonic_ms += 1;
        engine.append(message("a", String::new()), None, None);
        engine.settle(now, 0, &mut Vec::new());
        engine.maintain(now);
        turns += 1;
        assert!(turns < 2_000, "it never ends");
    }
    assert!(turns > 300, "it looks at few rows at once while others wait: {turns}");
}

#[test]
fn a_sound_file_has_no_faults() {
    let (folder, mut engine) = new_engine();
    publish(&mut engine, (0..1_000).map(|_| message("a", String::new())));
    assert_eq!(engine.verification.due_in_ms(NOW), None, "so small a file was checked on opening");
    engine.connection.execute_batch("DELETE FROM messages WHERE id BETWEEN 100 AND 900").unwrap();
    let writer = Connection::open(folder.path().join("polecat.db")).unwrap();
    let odd = "INSERT INTO messages (id, channel_id, author, content, timestamp) VALUES (-5, x'00', '', '', ''), (0, 7, '', '', '')";
    writer.execute_batch(odd).unwrap();
    assert_eq!(look_through(&mut engine).1, 0);
}
