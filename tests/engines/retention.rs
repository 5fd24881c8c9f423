//! How much the SQLite engine keeps, how it deletes the rest, and what survives a restart.

use std::path::PathBuf;

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::keys::keyed;

const DAY_MS: u64 = 86_400_000;
const HOUR_MS: u64 = 3_600_000;

pub(crate) fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("polecat.db");
    (folder, path)
}

fn everything() -> StoreOptions {
    StoreOptions { retain_events: None, ..StoreOptions::default() }
}

pub(crate) fn rows(path: &Path, table: &str) -> u64 {
    let person = Connection::open(path).unwrap();
    let count = person.query_row(&format!("SELECT count(*) FROM {table}"), (), |row| row.get::<_, i64>(0));
    count.unwrap().unsigned_abs()
}

fn execute(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

/// Settles whenever something is due, for this many milliseconds from [`NOW`], and returns how often that
/// was.
pub(crate) fn live_for(engine: &mut dyn Engine, until_ms: u64) -> usize {
    let (mut ms, mut settles) = (0, 0);
    while let Some(due) = engine.due_in_ms(after_ms(ms)).filter(|due| ms + due <= until_ms) {
        ms += due;
        assert!(engine.due_in_ms(after_ms(ms)) == Some(0), "due when it said so");
        turn(engine, after_ms(ms), 4, &mut Vec::new());
        settles += 1;
        assert!(settles < 10_000, "it spins");
    }
    settles
}

#[test]
fn old_events_go_in_small_steps() {
    let (_folder, path) = place();
    let mut engine = open_with(&path, &everything());
    store(&mut engine, (0..1_000).map(|_| Record::Event(event("u"))));
    assert_eq!((engine.oldest_event(), live_for(&mut engine, 10 * DAY_MS)), (1, 0), "nothing goes");
    drop(engine);
    let mut engine = open_with(&path, &StoreOptions { retain_events: Some(100), ..everything() });
    assert_eq!(engine.oldest_event(), 1, "opening deletes nothing");
    for (step, oldest) in [257, 513, 769, 901].into_iter().enumerate() {
        let now = after_ms(10 * step as u64);
        assert!(is_due_at(&engine, now));
        turn(&mut engine, now, 4, &mut Vec::new());
        assert_eq!(engine.oldest_event(), oldest);
        assert_eq!(page_ids(&mut engine, Stream::Events, 0, 1), (vec![oldest], oldest));
        assert_eq!(count(&mut engine, Stream::Events, 0, u64::MAX), 1_001 - oldest);
        assert_eq!(kept_from(&mut engine, &Stream::Events), [oldest; 2]);
        assert_eq!(kept_from(&mut engine, &channel("a")), [1; 2]);
        assert_eq!(rows(&path, "events"), 1_001 - oldest);
    }
    assert_eq!(engine.due_in_ms(after_ms(30)), None, "it is done");
    drop(engine);
    assert_eq!(open(&path).oldest_event(), 901);
}

#[test]
fn by_default_the_newest_ten_thousand_events_are_kept_and_all_messages() {
    let (_folder, path) = place();
    let mut engine = open(&path);
    publish(&mut engine, "a", &["x"; 12_000]);
    for _ in 0..12 {
        store(&mut engine, (0..1_000).map(|_| Record::Event(event("u"))));
    }
    live_for(&mut engine, 1_000);
    assert_eq!((engine.oldest_message(), engine.oldest_event()), (1, 2_001));
    assert_eq!((rows(&path, "messages"), rows(&path, "events")), (12_000, 10_000));
}

#[test]
fn old_messages_go_and_the_totals_follow() {
    let (_folder, path) = place();
    let options = StoreOptions { retain_messages: Some(50), ..StoreOptions::default() };
    let mut engine = open_with(&path, &options);
    let records = (0..120).map(|number| {
        let name = ["old", "new"][number / 100].to_owned();
        let (provider, lane) = (Some(name.clone()), Some(name.clone()));
        Record::Message(Message { provider, lane, token_count: Some(1), ..message(&name, "x") })
    });
    store(&mut engine, records);
    assert_eq!(engine.oldest_message(), 71, "the first turn looks");
    let totals = summary(&mut engine);
    assert_eq!((totals.total_messages, totals.total_tokens), (50, 50));
    assert_eq!(totals.by_provider.into_iter().collect::<Vec<_>>(), [("new".into(), 20), ("old".into(), 30)]);
    assert_eq!(totals.by_lane.len(), 2);
    assert_eq!(page_ids(&mut engine, channel("old"), 5, 2), (vec![71, 72], 72));

    publish(&mut engine, "new", &["x"; 30]);
    assert_eq!((engine.oldest_message(), engine.due_in_ms(NOW)), (71, Some(100)), "few at a time wait");
    run_at(&mut engine, after_ms(100));
    assert_eq!((engine.oldest_message(), channels(&mut engine)), (101, vec!["new".to_owned()]));
    assert_eq!((rows(&path, "messages"), summary(&mut engine).by_provider.len()), (50, 1));
}

#[test]
fn what_is_deleted_is_not_counted_as_kept() {
    let (_folder, path) = place();
    let options = StoreOptions { retain_messages: Some(50), ..StoreOptions::default() };
    let mut engine = open_with(&path, &options);
    let kept = |engine: &mut SqliteEngine| {
        details(engine, None, 9, 1000).0.into_iter().map(|(name, _, kept)| (name, kept)).collect::<Vec<_>>()
    };
    publish(&mut engine, "old", &["x"; 30]);
    publish(&mut engine, "new", &["x"; 20]);
    assert_eq!(kept(&mut engine), [("new".to_owned(), 20), ("old".to_owned(), 30)]);
    for (number, left) in [(10, 20), (5, 15)] {
        publish(&mut engine, "new", &vec!["x"; number]);
        live_for(&mut engine, 1_000);
        assert_eq!(kept(&mut engine), [("new".to_owned(), 50 - left), ("old".to_owned(), left)]);
    }
    publish(&mut engine, "new", &["x"; 100]);
    live_for(&mut engine, 2_000);
    assert_eq!(kept(&mut engine), [("new".to_owned(), 50)]);
    assert_eq!(rows(&path, "messages"), 50);
}

#[test]
fn a_turn_that_stores_much_deletes_as_much() {
    let (_folder, path) = place();
    let options = StoreOptions { retain_messages: Some(100), ..StoreOptions::default() };
    let mut engine = open_with(&path, &options);
    for number in 0..20 {
        for _ in 0..500 {
            engine.append(Record::Message(message("a", "x")), None, None);
        }
        turn(&mut engine, after_ms(10 * number), 4, &mut Vec::new());
        assert!(engine.newest_message() - engine.oldest_message() < 200, "it keeps up");
    }
}

#[test]
fn long_rows_make_short_steps() {
    let (_folder, path) = place();
    let long = "x".repeat(400 << 10);
    publish(&mut open(&path), "a", &[long.as_str(); 10]);
    let mut engine = open_with(&path, &StoreOptions { retain_messages: Some(1), ..StoreOptions::default() });
    for (step, oldest) in [4, 7, 10].into_iter().enumerate() {
        turn(&mut engine, after_ms(10 * step as u64), 4, &mut Vec::new());
        assert_eq!(engine.oldest_message(), oldest);
    }
}

#[test]
fn the_newest_rows_are_kept_whatever_the_totals_say() {
    let (_folder, path) = place();
    publish(&mut open(&path), "a", &["x"; 30]);
    execute(&path, "UPDATE polecat_counts SET count = 1000000");
    let mut engine = open_with(&path, &StoreOptions { retain_messages: Some(20), ..StoreOptions::default() });
    live_for(&mut engine, 1_000);
    assert_eq!((engine.oldest_message(), rows(&path, "messages")), (11, 20));
}

#[test]
fn rows_that_others_deleted_leave_room_for_older_ones() {
    let (_folder, path) = place();
    publish(&mut open(&path), "a", &["x"; 30]);
    execute(&path, "DELETE FROM messages WHERE id > 10 AND id < 30");
    let mut engine = open_with(&path, &StoreOptions { retain_messages: Some(5), ..StoreOptions::default() });
    live_for(&mut engine, 1_000);
    assert_eq!(page_ids(&mut engine, channel("a"), 0, 9), (vec![7, 8, 9, 10, 30], 30));
}

#[test]
fn age_goes_by_the_oldest_rows_in_whatever_format() {
    let (_folder, path) = place();
    drop(open(&path));
    let insert = |timestamp: &str, times: usize| {
        let values = vec![format!("('a', 'bob', 'hi', '{timestamp}')"); times].join(",");
        execute(
            &path,
            &format!("INSERT INTO messages (channel_id, author, content, timestamp) VALUES {values}"),
        );
    };
    insert("long ago", 600);
    insert("2025-12-01 10:00:00", 2);
    insert("2025-12-25T09:30:00+00:00", 1);
    insert("2025-12-26T10:30:00.123455+00:00", 1);
    insert("then", 3);
    insert("2025-12-26T13:30:00.123456+02:00", 1);
    insert("2025-01-01T00:00:00.000000+00:00", 1);
    let options = StoreOptions { retain_days: Some(10.0), ..StoreOptions::default() };
    let mut engine = open_with(&path, &options);
    live_for(&mut engine, HOUR_MS - 1);
    assert_eq!(engine.oldest_message(), 1, "the clock may be wrong");
    live_for(&mut engine, HOUR_MS + 200);
    assert_eq!(engine.oldest_message(), 605, "up to the last row that is old and has no young one before it");
    live_for(&mut engine, 4 * 3_600_000);
    assert_eq!((engine.oldest_message(), rows(&path, "messages")), (610, 0), "what comes after has its age");
    drop(engine);
    let mut engine = open_with(&path, &options);
    assert_eq!((engine.newest_message(), engine.oldest_message()), (609, 610));
    assert_eq!(publish(&mut engine, "a", &["new"]), [610]);
    assert_eq!((engine.oldest_message(), summary(&mut engine).total_messages), (610, 1));
}

#[test]
fn records_grow_old_while_nothing_happens() {
    let (_folder, path) = place();
    let mut engine = open_with(&path, &StoreOptions { retain_days: Some(0.5), ..StoreOptions::default() });
    publish(&mut engine, "a", &["x"; 10]);
    store(&mut engine, [Record::Event(event("u"))]);
    let looks = live_for(&mut engine, DAY_MS / 2 - 120_000);
    assert!((600..=800).contains(&looks), "about once a minute: {looks}");
    assert_eq!((engine.oldest_message(), engine.oldest_event()), (1, 1));
    live_for(&mut engine, DAY_MS / 2 + 61_000);
    assert_eq!((engine.oldest_message(), engine.oldest_event()), (11, 2));
    assert_eq!(page_ids(&mut engine, Stream::Events, 0, 9), (vec![], 1));
}

#[test]
fn deleting_that_fails_costs_no_append() {
    let (_folder, path) = place();
    let options = StoreOptions { retain_messages: Some(5), ..StoreOptions::default() };
    let mut engine = open_with(&path, &options);
    execute(&path, "CREATE TRIGGER no BEFORE DELETE ON messages BEGIN SELECT RAISE(ABORT, 'not today'); END");
    for _ in 0..3 {
        publish(&mut engine, "a", &["x"; 300]);
    }
    assert_eq!((engine.oldest_message(), engine.health()), (1, &Health::Sound));
    execute(&path, "DROP TRIGGER no");
    let locker = Connection::open(&path).unwrap();
    locker.execute_batch("BEGIN IMMEDIATE").unwrap();
    live_for(&mut engine, 15_000);
    assert_eq!(
        (engine.oldest_message(), engine.health()),
        (1, &Health::Sound),
        "nor does it wait for a lock"
    );
    locker.execute_batch("ROLLBACK").unwrap();
    live_for(&mut engine, 30_000);
    assert_eq!(engine.oldest_message(), 896);
}

#[test]
fn keys_outlive_a_restart() {
    let (_folder, path) = place();
    let mut engine = open(&path);
    assert_eq!(keyed(&mut engine, "a", "key", 0), (1, false));
    drop(engine);
    let mut engine = open(&path);
    assert_eq!(keyed(&mut engine, "a", "key", 1_000), (1, true));
    drop(engine);
    let options = StoreOptions { idempotency_window_ms: 1_500, ..StoreOptions::default() };
    let mut engine = open_with(&path, &options);
    assert_eq!(keyed(&mut engine, "a", "key", 5_000), (1, true), "at a start the window begins anew");
    assert_eq!(keyed(&mut engine, "a", "key", 6_499), (1, true));
    assert_eq!(keyed(&mut engine, "a", "key", 6_500), (2, false));
}

#[test]
fn a_key_outlives_its_record() {
    let (_folder, path) = place();
    let mut engine = open_with(&path, &StoreOptions { retain_messages: Some(2), ..StoreOptions::default() });
    assert_eq!(keyed(&mut engine, "a", "key", 0), (1, false));
    publish(&mut engine, "b", &["1", "2"]);
    live_for(&mut engine, 1_000);
    assert_eq!(engine.oldest_message(), 2);
    assert_eq!(keyed(&mut engine, "a", "key", 1_000), (1, true));
    assert_eq!(keyed(&mut engine, "a", "key", 300_000), (4, false), "after the window it is free");
}

#[test]
fn keys_whose_time_is_over_go_in_small_steps() {
    let (_folder, path) = place();
    let mut engine = open(&path);
    assert_eq!(live_for(&mut engine, DAY_MS), 1, "where there are none, nothing is done");
    for number in 0..600 {
        let key = Some(Rc::from(number.to_string()));
        engine.append(Record::Message(message("a", "x")), key, None);
    }
    run(&mut engine);
    assert_eq!(keyed(&mut engine, "a", "late", 200_000), (601, false));
    drop(engine);
    let mut engine = open(&path);
    live_for(&mut engine, 305_000);
    assert_eq!(rows(&path, "polecat_keys"), 601, "many go at once");
    for (step, left) in [345, 89, 1].into_iter().enumerate() {
        turn(&mut engine, after_ms(310_000 + 10 * step as u64), 4, &mut Vec::new());
        assert_eq!(rows(&path, "polecat_keys"), left);
    }
    live_for(&mut engine, 600_000);
    assert_eq!((rows(&path, "polecat_keys"), rows(&path, "messages")), (0, 601));
    assert_eq!(engine.due_in_ms(after_ms(600_000)), None);
}

#[test]
fn tables_of_others_by_our_names_are_refused() {
    for sql in [
        "CREATE TABLE polecat_meta (name, value)",
        "CREATE TABLE polecat_keys (stream, key, id, expires)",
        "CREATE VIEW polecat_keys_stored AS SELECT 1",
        "CREATE TABLE polecat_terms (ordinal INTEGER PRIMARY KEY, name TEXT)",
    ] {
        let (_folder, path) = place();
        execute(&path, sql);
        let error = SqliteEngine::open(&path, &StoreOptions::default()).expect_err(sql).to_string();
        assert!(error.contains("not one of polecat's"), "{error}");
    }
}
