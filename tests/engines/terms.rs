//! Which ids of clients mean the same here, after restarts and after the file went back.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;

contract!(the_current_term_is_known_and_no_other);

fn the_current_term_is_known_and_no_other(engine: &mut dyn Engine) {
    let epoch = engine.terms().epoch().to_owned();
    assert_eq!(epoch.len(), 36, "{epoch}");
    publish(engine, "a", &["1", "2"]);
    assert_eq!(engine.terms().epoch(), epoch, "it stays as long as the process runs");
    assert_eq!(agreed(engine, &epoch), Some((u64::MAX, u64::MAX)));
    for other in ["", "other", &epoch[1..]] {
        assert_eq!(agreed(engine, other), None, "{other}");
    }
}

fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("polecat.db");
    (folder, path)
}

/// Stores this many messages and events, and returns the epoch that clients are told.
fn live(path: &Path, messages: usize, events: usize) -> String {
    let mut engine = open(path);
    publish(&mut engine, "a", &vec!["x"; messages]);
    store(&mut engine, (0..events).map(|_| Record::Event(event("e"))));
    engine.terms().epoch().to_owned()
}

fn ordinals(path: &Path) -> Vec<i64> {
    let person = Connection::open(path).unwrap();
    let mut statement = person.prepare("SELECT ordinal FROM polecat_terms ORDER BY ordinal").unwrap();
    statement.query_map((), |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn each_start_is_a_term_and_ends_the_one_before() {
    let (folder, path) = place();
    let first = live(&path, 3, 1);
    let second = live(&path, 0, 0);
    let third = live(&path, 2, 2);
    let engine = open(&path);
    assert_eq!(agreed(&engine, &first), Some((3, 1)));
    assert_eq!(agreed(&engine, &second), Some((3, 1)));
    assert_eq!(agreed(&engine, &third), Some((5, 3)));
    let names = [&first, &second, &third].map(String::as_str);
    assert_eq!(names.into_iter().collect::<BTreeSet<_>>().len(), 3);
    for name in names {
        let groups: Vec<&str> = name.split('-').collect();
        assert_eq!(groups.iter().map(|group| group.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        let hex = |group: &str| group.bytes().all(|byte| b"0123456789abcdef".contains(&byte));
        assert!(groups.iter().all(|group| hex(group)) && groups[2].starts_with('4'), "at random: {name}");
        assert_eq!(agreed(&open(&folder.path().join("other.db")), name), None);
    }
}

#[test]
fn a_file_that_went_back_agrees_up_to_where_it_was() {
    let (_folder, path) = place();
    let before = live(&path, 5, 5);
    let past = {
        // Copied in the middle of a term, as a power cut would leave it.
        let mut engine = open(&path);
        publish(&mut engine, "a", &["x"; 5]);
        let copy = path.with_extension("copy");
        let person = Connection::open(&path).unwrap();
        person.execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
        publish(&mut engine, "a", &["lost"; 5]);
        store(&mut engine, [Record::Event(event("lost"))]);
        (fs::read(copy).unwrap(), engine.terms().epoch().to_owned())
    };
    let lost = live(&path, 5, 5);
    for _ in 0..2 {
        fs::write(&path, &past.0).unwrap();
        let other = live(&path, 20, 20);
        let engine = open(&path);
        assert_eq!(agreed(&engine, &before), Some((5, 5)));
        assert_eq!(agreed(&engine, &past.1), Some((10, 5)));
        assert_eq!(agreed(&engine, &lost), None);
        assert_eq!(agreed(&engine, &other), Some((30, 25)));
    }
}

#[test]
fn a_term_is_on_the_disk_before_anyone_is_told() {
    let (_folder, path) = place();
    let engine = open(&path);
    let person = Connection::open(&path).unwrap();
    let name: String =
        person.query_row("SELECT name FROM polecat_terms WHERE ordinal = 1", (), |row| row.get(0)).unwrap();
    assert_eq!(name, engine.terms().epoch());
}

#[test]
fn what_was_given_before_there_were_terms_is_of_one() {
    let (_folder, path) = place();
    live(&path, 3, 2);
    let person = Connection::open(&path).unwrap();
    person.execute_batch("DROP TABLE polecat_terms").unwrap();
    let name: String = person
        .query_row("SELECT value FROM polecat_meta WHERE name = 'epoch'", (), |row| row.get(0))
        .unwrap();
    drop(person);
    let engine = open(&path);
    assert_eq!(agreed(&engine, &name), Some((3, 2)));
    assert_ne!(engine.terms().epoch(), name);
    drop(engine);
    assert_eq!(ordinals(&path), [0, 1]);
}

#[test]
fn terms_whose_ids_are_no_longer_kept_are_forgotten() {
    let (_folder, path) = place();
    let first = live(&path, 10, 10);
    let second = live(&path, 10, 10);
    let third = live(&path, 10, 10);
    let person = Connection::open(&path).unwrap();
    person.execute_batch("DELETE FROM messages WHERE id <= 20").unwrap();
    drop(person);
    assert_eq!(agreed(&open(&path), &first), Some((10, 10)), "its events are kept");
    let person = Connection::open(&path).unwrap();
    person.execute_batch("DELETE FROM events WHERE id <= 20").unwrap();
    drop(person);
    let engine = open(&path);
    assert_eq!(agreed(&engine, &first), None);
    assert_eq!(agreed(&engine, &second), Some((20, 20)), "who has 20 has missed nothing");
    assert_eq!(agreed(&engine, &third), Some((30, 30)));
    drop(engine);
    assert_eq!(ordinals(&path), [2, 3, 4, 5]);
    // If nothing is kept, a client that has everything has missed nothing.
    let person = Connection::open(&path).unwrap();
    person.execute_batch("DELETE FROM messages; DELETE FROM events").unwrap();
    drop(person);
    assert_eq!(agreed(&open(&path), &third), Some((30, 30)));
    assert_eq!(ordinals(&path)[0], 3);
}

#[test]
fn ten_thousand_terms_are_kept() {
    let (_folder, path) = place();
    live(&path, 1, 1);
    let person = Connection::open(&path).unwrap();
    person
        .execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 10998)
             INSERT INTO polecat_terms SELECT i, 'term ' || i, 2, 2 FROM n",
        )
        .unwrap();
    drop(person);
    let engine = open(&path);
    assert_eq!(agreed(&engine, "term 999"), None);
    assert_eq!(agreed(&engine, "term 1000"), Some((1, 1)));
    drop(engine);
    let kept = ordinals(&path);
    assert_eq!((kept.len(), kept[0]), (10_000, 1_000));
}

#[test]
fn ids_that_were_set_back_between_two_starts_are_not_believed() {
    let (_folder, path) = place();
    let first = live(&path, 10, 10);
    let second = live(&path, 10, 10);
    let person = Connection::open(&path).unwrap();
    person
        .execute_batch(
            "DELETE FROM messages WHERE id > 5; UPDATE sqlite_sequence SET seq = 5 WHERE name = 'messages'",
        )
        .unwrap();
    drop(person);
    let engine = open(&path);
    assert_eq!(agreed(&engine, &first), Some((5, 10)));
    assert_eq!(agreed(&engine, &second), Some((5, 20)));
}
