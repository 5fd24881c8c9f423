//! The size of the file once much of it was deleted.

use rusqlite::Connection;

use super::*;
use crate::retention::{live_for, place, rows};

fn bytes(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

fn number(path: &Path, pragma: &str) -> i64 {
    Connection::open(path).unwrap().query_row(&format!("PRAGMA {pragma}"), (), |row| row.get(0)).unwrap()
}

/// Eight megabytes of messages, short and long.
fn fill(path: &Path) {
    let mut engine = open(path);
    for number in 0..40 {
        let long = "x".repeat(10_000 * (number % 3));
        publish(&mut engine, "a", &[&*long, &"y".repeat(200)].repeat(10));
    }
    run_at(&mut engine, after_ms(1_000));
}

#[test]
fn pages_that_are_free_go_back_in_small_steps() {
    let (_folder, path) = place();
    fill(&path);
    let before = bytes(&path);
    assert!(before > 3 << 20, "{before}");
    let mut engine = open_with(&path, &StoreOptions { retain_messages: Some(10), ..StoreOptions::default() });
    let log_bytes = |path: &Path| bytes(&path.with_file_name("polecat.db-wal"));
    let (mut ms, mut most, mut steps) = (0, 0, 0);
    while let Some(due) = engine.due_in_ms(after_ms(ms)) {
        ms += due;
        let log_before = log_bytes(&path);
        turn(&mut engine, after_ms(ms), 4, &mut Vec::new());
        most = most.max(log_bytes(&path).saturating_sub(log_before));
        steps += 1;
        assert!(steps < 1_000, "it spins");
    }
    assert!(most < 2 << 20, "no step writes much: {most}");
    assert_eq!((engine.oldest_message(), rows(&path, "messages")), (791, 10));
    drop(engine);
    assert!(bytes(&path) < 3 << 19, "{} of {before} bytes are left", bytes(&path));
    assert!(
        number(&path, "freelist_count") * number(&path, "page_size") <= 1 << 20,
        "a little for what comes"
    );
    assert_eq!(number(&path, "auto_vacuum"), 2);
    let mut engine = open(&path);
    assert_eq!(publish(&mut engine, "a", &["x"]), [801]);
    let check: String =
        Connection::open(&path).unwrap().query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
}

#[test]
fn a_file_whose_pages_come_and_go_does_not_shrink_and_grow() {
    let (_folder, path) = place();
    fill(&path);
    let mut engine =
        open_with(&path, &StoreOptions { retain_messages: Some(700), ..StoreOptions::default() });
    live_for(&mut engine, 60_000);
    assert_eq!(engine.oldest_message(), 101);
    let free = number(&path, "freelist_count");
    assert!(free > 100, "some are free, and will be used again: {free}");
    assert_eq!(live_for(&mut engine, 600_000), 0);
    assert_eq!(number(&path, "freelist_count"), free);
}

#[test]
fn while_a_reader_keeps_the_log_nothing_is_moved_into_it() {
    let (_folder, path) = place();
    fill(&path);
    let mut engine = open_with(&path, &StoreOptions { retain_messages: Some(10), ..StoreOptions::default() });
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM messages").unwrap();
    // Enough to be noticed.
    publish(&mut engine, "a", &[&*"z".repeat(100_000)].repeat(30));
    live_for(&mut engine, 60_000);
    assert_eq!(engine.oldest_message(), 821);
    let free = number(&path, "freelist_count");
    assert!(free > 3 << 10, "{free}");
    reader.execute_batch("COMMIT").unwrap();
    live_for(&mut engine, 120_000);
    run_at(&mut engine, after_ms(120_000));
    engine.append(Record::Message(message("a", "x")), None, None);
    run_at(&mut engine, after_ms(120_000));
    live_for(&mut engine, 300_000);
    assert!(number(&path, "freelist_count") <= 1 << 10);
}

#[test]
fn what_was_deleted_before_the_start_goes_back_though_all_is_kept() {
    let (_folder, path) = place();
    fill(&path);
    Connection::open(&path).unwrap().execute_batch("DELETE FROM messages WHERE id < 790").unwrap();
    let before = bytes(&path);
    let mut engine = open_with(&path, &StoreOptions { retain_events: None, ..StoreOptions::default() });
    live_for(&mut engine, 60_000);
    drop(engine);
    assert!(bytes(&path) < before / 2, "{} of {before}", bytes(&path));
}

#[test]
fn a_file_that_was_not_made_for_it_keeps_its_pages_and_works() {
    let (_folder, path) = place();
    let service = Connection::open(&path).unwrap();
    service
        .execute_batch(
            "CREATE TABLE messages (id INTEGER PRIMARY KEY AUTOINCREMENT, channel_id TEXT NOT NULL, author TEXT NOT NULL,
               content TEXT NOT NULL, timestamp TEXT NOT NULL, lane TEXT, provider TEXT, token_count INTEGER)",
        )
        .unwrap();
    drop(service);
    fill(&path);
    let before = bytes(&path);
    let mut engine = open_with(&path, &StoreOptions { retain_messages: Some(10), ..StoreOptions::default() });
    live_for(&mut engine, 60_000);
    assert_eq!(engine.oldest_message(), 791);
    drop(engine);
    assert!(bytes(&path) >= before, "{} of {before}", bytes(&path));
}
