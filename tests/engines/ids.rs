//! No id is above 2^53 - 1, wherever it comes from: PROTOCOL.md, "2. Ids".

use polecat::wire::protocol::ID_MAX;
use rusqlite::Connection;

use super::*;
use crate::retention::place;

fn execute(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

/// Appends a message, and returns its id, or why there is none.
fn append(engine: &mut dyn Engine, record: Record) -> Result<u64, String> {
    engine.append(record, None, None);
    match run(engine).as_slice() {
        [Answer::Committed { id, .. }] => Ok(*id),
        [Answer::Refused { error, .. }] => Err(error.to_string()),
        other => panic!("neither: {other:?}"),
    }
}

#[test]
fn the_last_id_in_a_file_is_2_to_the_53_less_1() {
    let (_folder, path) = place();
    drop(open(&path));
    execute(&path, &format!("INSERT INTO sqlite_sequence VALUES ('messages', {})", ID_MAX - 2));
    let mut engine = open(&path);
    let record = || Record::Message(message("a", "x"));
    assert_eq!(append(&mut engine, record()), Ok(ID_MAX - 1));
    assert_eq!(append(&mut engine, record()), Ok(ID_MAX));
    let why = "the database has an id of 9007199254740991 or more, and no greater ones can be given";
    assert_eq!(append(&mut engine, record()), Err(why.to_owned()));
    assert_eq!(engine.health(), &Health::Degraded(why.to_owned()));
    assert_eq!(page_ids(&mut engine, channel("a"), 0, 9), (vec![ID_MAX - 1, ID_MAX], ID_MAX));
    drop(engine);
    let mut engine = open(&path);
    assert_eq!(engine.newest_message(), ID_MAX, "what is there can be read");
    assert!(append(&mut engine, record()).is_err());
}

#[test]
fn a_file_with_ids_beyond_that_is_refused() {
    for (sql, newest) in [
        ("INSERT INTO messages VALUES (9223372036854775807, 'a', 'b', 'c', 'd', NULL, NULL, NULL)", i64::MAX),
        ("INSERT INTO events VALUES (9007199254740992, 'a', '{}', NULL, 'd')", 1 << 53),
        ("INSERT INTO sqlite_sequence VALUES ('events', 9007199254740992)", 1 << 53),
    ] {
        let (_folder, path) = place();
        drop(open(&path));
        execute(&path, sql);
        let error = SqliteEngine::open(&path, &StoreOptions::default()).expect_err(sql).to_string();
        assert!(
            error.contains(&format!("has ids up to {newest}, and none may be above 9007199254740991")),
            "{error}"
        );
    }
}

#[test]
fn an_id_beyond_that_which_another_program_writes_is_told_as_what_it_is() {
    for id in [i64::MAX, 1 << 60] {
        let (_folder, path) = place();
        let mut engine = open(&path);
        assert_eq!(publish(&mut engine, "a", &["x"]), [1]);
        execute(&path, &format!("INSERT INTO messages VALUES ({id}, 'a', 'b', 'c', 'd', NULL, NULL, NULL)"));
        let why = append(&mut engine, Record::Message(message("a", "x"))).expect_err("refused");
        assert!(why.starts_with("the database has an id of 9007199254740991 or more"), "{why}");
        run_at(&mut engine, after_ms(1_000));
        assert_ne!(engine.health(), &Health::Sound, "a probe sees it, too");
        assert_eq!(page_ids(&mut engine, channel("a"), 0, 9), (vec![1], 1), "nobody is sent it");
        execute(&path, &format!("DELETE FROM messages WHERE id = {id}; UPDATE sqlite_sequence SET seq = 1"));
        run_at(&mut engine, after_ms(2_000));
        assert_eq!(engine.health(), &Health::Sound);
        assert_eq!(publish(&mut engine, "a", &["x"]), [2]);
    }
}

#[test]
fn memory_gives_no_id_beyond_that() {
    let mut engine = MemoryEngine::starting_at(ID_MAX - 1, ID_MAX);
    assert_eq!(append(&mut engine, Record::Message(message("a", "x"))), Ok(ID_MAX));
    for record in [Record::Message(message("a", "x")), Record::Event(event("x"))] {
        assert_eq!(append(&mut engine, record), Err("all ids are used up".to_owned()));
    }
    assert_eq!((engine.newest_message(), engine.newest_event()), (ID_MAX, ID_MAX));
}
