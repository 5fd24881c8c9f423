//! The SQLite engine and its file: what it takes over, what it leaves to the channel service, what it
//! refuses, and how it fails.

use std::fs;
use std::path::PathBuf;

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;

const SERVICE_TABLE: &str =
    "CREATE TABLE messages (id INTEGER PRIMARY KEY AUTOINCREMENT, channel_id TEXT NOT NULL, author TEXT NOT NULL,
       content TEXT NOT NULL, timestamp TEXT NOT NULL, lane TEXT, provider TEXT, token_count INTEGER);";
const SERVICE_TABLE_OLD: &str =
    "CREATE TABLE messages (id INTEGER PRIMARY KEY AUTOINCREMENT, channel_id TEXT NOT NULL, author TEXT NOT NULL,
       content TEXT NOT NULL, timestamp TEXT NOT NULL);";
const SERVICE_INDEXES: &str = "CREATE INDEX idx_messages_channel ON messages(channel_id);
     CREATE INDEX idx_messages_time ON messages(timestamp);";
const SERVICE_INSERT: &str = "INSERT INTO messages(channel_id, author, content, timestamp, lane, provider,
     token_count) VALUES (?1, 'bob', 'hi', '2026-01-05T09:30:00.123456+00:00', ?2, ?3, ?4)";

fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("polecat.db");
    (folder, path)
}

/// Another program that has the file open and runs this SQL.
fn other(path: &Path, sql: &str) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch(sql).unwrap();
    connection
}

type Counts = Vec<(String, u64)>;

fn totals(engine: &mut dyn Engine) -> (u64, i64, Counts, Counts) {
    let Summary { total_messages, total_tokens, by_provider, by_lane } = summary(engine);
    (total_messages, total_tokens, by_provider.into_iter().collect(), by_lane.into_iter().collect())
}

fn counts(pairs: &[(&str, u64)]) -> Counts {
    pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

#[test]
fn a_reopened_file_has_everything_and_goes_on() {
    let (folder, path) = place();
    let mut engine = open(&path);
    publish(&mut engine, "a", &["1", "2"]);
    store(&mut engine, [Record::Event(event("u"))]);
    drop(engine);
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["polecat.db"], "a clean exit leaves one file");
    let mut engine = open(&path);
    assert_eq!((engine.newest_message(), engine.newest_event()), (2, 1));
    assert_eq!(page_ids(&mut engine, channel("a"), 0, 9), (vec![1, 2], 2));
    assert_eq!(publish(&mut engine, "a", &["3"]), [3]);
    assert_eq!(store(&mut engine, [Record::Event(event("v"))]), [2]);
}

#[test]
fn a_file_that_was_not_closed_loses_nothing() {
    let (folder, path) = place();
    let mut engine = open(&path);
    publish(&mut engine, "a", &["1", "2"]);
    let copy = folder.path().join("copy.db");
    fs::copy(&path, &copy).unwrap();
    fs::copy(folder.path().join("polecat.db-wal"), folder.path().join("copy.db-wal")).unwrap();
    let mut found = open(&copy);
    assert_eq!(page_ids(&mut found, channel("a"), 0, 9), (vec![1, 2], 2));
    assert_eq!(summary(&mut found).total_messages, 2);
}

#[test]
fn the_id_of_a_deleted_newest_row_is_not_given_again() {
    let (_folder, path) = place();
    let mut engine = open(&path);
    publish(&mut engine, "a", &["1", "2", "3"]);
    other(&path, "DELETE FROM messages WHERE id >= 2");
    assert_eq!(publish(&mut engine, "a", &["4"]), [4]);
    other(&path, "DELETE FROM messages WHERE id = 4");
    drop(engine);
    let mut engine = open(&path);
    assert_eq!(engine.newest_message(), 4);
    assert_eq!(publish(&mut engine, "a", &["5"]), [5]);
    assert_eq!(page_ids(&mut engine, channel("a"), 0, 9), (vec![1, 5], 5));
}

#[test]
fn a_file_of_the_service_is_taken_over() {
    let (_folder, path) = place();
    let service = other(&path, &format!("{SERVICE_TABLE}{SERVICE_INDEXES}"));
    let mut insert = service.prepare(SERVICE_INSERT).unwrap();
    insert.execute(("b", "left", "p", 10)).unwrap();
    insert.execute(("a", "", "p", None::<i64>)).unwrap();
    insert.execute(("b", None::<&str>, None::<&str>, 5)).unwrap();
    let mut engine = open(&path);
    assert_eq!(engine.newest_message(), 3);
    assert_eq!(channels(&mut engine), ["a", "b"]);
    assert_eq!(page_ids(&mut engine, channel("b"), 0, 9), (vec![1, 3], 3));
    assert_eq!(totals(&mut engine), (3, 15, counts(&[("p", 2)]), counts(&[("left", 1)])));
    assert_eq!(publish(&mut engine, "b", &["4"]), [4]);
}

#[test]
fn a_file_of_the_service_gets_the_later_columns() {
    let (_folder, path) = place();
    let insert =
        "INSERT INTO messages(channel_id, author, content, timestamp) VALUES ('a', 'bob', 'hi', 'then')";
    let service = other(&path, &format!("{SERVICE_TABLE_OLD}{SERVICE_INDEXES}{insert}"));
    let mut engine = open(&path);
    service.execute_batch(insert).unwrap();
    service.prepare(SERVICE_INSERT).unwrap().execute(("a", "left", "p", 3)).unwrap();
    let expected = Message { author: "bob".to_owned(), timestamp: Rc::from("then"), ..message("a", "hi") };
    assert_eq!(publish(&mut engine, "a", &["4"]), [4]);
    let (records, _) = page(&mut engine, channel("a"), 0, 1, usize::MAX);
    assert_eq!(records, [(1, Record::Message(expected))]);
    assert_eq!(totals(&mut engine), (4, 3, counts(&[("p", 1)]), counts(&[("left", 1)])));
    drop(engine);
    open(&path);
}

#[test]
fn rows_of_another_program_appear_once_ids_have_passed_them() {
    let (_folder, path) = place();
    let mut engine = open(&path);
    publish(&mut engine, "a", &["1"]);
    let service = other(&path, "");
    service.prepare(SERVICE_INSERT).unwrap().execute(("a", "left", "p", 3)).unwrap();
    assert_eq!(page_ids(&mut engine, channel("a"), 0, 9), (vec![1], 1));
    assert_eq!(newest(&mut engine, None, 9, usize::MAX).len(), 1);
    assert_eq!(publish(&mut engine, "a", &["3"]), [3]);
    assert_eq!(page_ids(&mut engine, channel("a"), 0, 9), (vec![1, 2, 3], 3));
    assert_eq!(newest(&mut engine, Some("a"), 9, usize::MAX).len(), 3);
}

#[test]
fn totals_follow_whatever_others_do_to_the_rows() {
    let (_folder, path) = place();
    let mut engine = open(&path);
    let person = other(&path, "");
    let mut insert = person.prepare(SERVICE_INSERT).unwrap();
    for number in 0..10 {
        let provider = ["p", "q", ""][number % 3];
        insert.execute(("a", "left", provider, i64::MAX - 5)).unwrap();
    }
    assert_eq!(totals(&mut engine), (10, i64::MAX, counts(&[("p", 4), ("q", 3)]), counts(&[("left", 10)])));
    person.execute_batch("UPDATE messages SET token_count = id, lane = NULL WHERE id > 1").unwrap();
    person.execute_batch("UPDATE messages SET token_count = NULL, provider = 'r' WHERE id = 1").unwrap();
    assert_eq!(
        totals(&mut engine),
        (10, 54, counts(&[("p", 3), ("q", 3), ("r", 1)]), counts(&[("left", 1)]))
    );
    person.execute_batch("UPDATE messages SET provider = '' WHERE provider = 'q'").unwrap();
    person.execute_batch("UPDATE messages SET provider = 'p' WHERE provider = ''").unwrap();
    person.execute_batch("DELETE FROM messages WHERE id IN (1, 2)").unwrap();
    assert_eq!(totals(&mut engine), (8, 52, counts(&[("p", 8)]), counts(&[])));
    person.execute_batch("BEGIN; DELETE FROM messages; ROLLBACK").unwrap();
    assert_eq!(totals(&mut engine).0, 8);
    person.execute_batch("DELETE FROM messages").unwrap();
    assert_eq!(totals(&mut engine), (0, 0, counts(&[]), counts(&[])));
    assert_eq!(channels(&mut engine), Vec::<String>::new());
}

#[test]
fn triggers_of_others_run_as_soon_as_they_are_there_and_the_totals_stay_right() {
    let (_folder, path) = place();
    let options = StoreOptions { retain_messages: Some(5), ..StoreOptions::default() };
    let mut engine = open_with(&path, &options);
    let person = other(&path, "CREATE TABLE seen (id INTEGER)");
    let seen = || person.query_row("SELECT count(*) FROM seen", (), |row| row.get::<_, i64>(0)).unwrap();
    let counted = |name: &str, lane: &str, tokens: i64| {
        let mut message = message("a", "x");
        message.provider = Some(name.to_owned());
        message.lane = Some(lane.to_owned());
        message.token_count = Some(tokens);
        Record::Message(message)
    };
    let three = || [counted("p", "", 1 << 40), counted("q", "left", -3), counted("p", "left", 7)];
    store(&mut engine, three());
    assert_eq!((totals(&mut engine).0, seen()), (3, 0));
    person
        .execute_batch(
            "CREATE TRIGGER look AFTER INSERT ON messages BEGIN INSERT INTO seen VALUES (new.id); END",
        )
        .unwrap();
    store(&mut engine, three());
    assert_eq!(seen(), 3);
    person.execute_batch("DROP TRIGGER look").unwrap();
    store(&mut engine, three());
    run_at(&mut engine, after_ms(1_000));
    assert_eq!(seen(), 3);
    let kept = totals(&mut engine);
    assert_eq!(kept.0, 5, "two of the second three, and the last three");
    drop(engine);
    person.execute_batch("DROP TRIGGER polecat_update_lane").unwrap();
    assert_eq!(totals(&mut open(&path)), kept, "counted anew, they are the same");
}

#[test]
fn totals_are_counted_once_and_again_only_if_a_trigger_was_lost() {
    let (_folder, path) = place();
    publish(&mut open(&path), "a", &["1", "2"]);
    other(&path, "UPDATE polecat_counts SET count = 77");
    assert_eq!(summary(&mut open(&path)).total_messages, 77, "reopening counts nothing");
    other(&path, "DROP TRIGGER polecat_update_lane");
    assert_eq!(summary(&mut open(&path)).total_messages, 2, "what nobody kept is counted");
    other(&path, "DROP TABLE polecat_counts");
    assert_eq!(summary(&mut open(&path)).total_messages, 2);
}

#[test]
fn odd_rows_are_read_as_text() {
    let (_folder, path) = place();
    let mut engine = open(&path);
    let person = other(
        &path,
        "INSERT INTO messages(channel_id, author, content, timestamp, provider, token_count) VALUES
           ('a', 5, 1.5, x'ff41', x'fe', 'many'), (CAST(x'ff' AS TEXT), '', '', '', NULL, 2.5),
           (x'fe', '', '', '', NULL, NULL);
         INSERT INTO messages(id, channel_id, author, content, timestamp) VALUES (-5, 'a', '', '', '');
         PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = replace(sql, 'author TEXT NOT NULL', 'author TEXT')
           WHERE name = 'messages';",
    );
    drop(person);
    other(&path, "INSERT INTO messages(channel_id, author, content, timestamp) VALUES ('a', NULL, '', '')");
    assert_eq!(publish(&mut engine, "a", &["x"]), [5]);
    let (records, through) = page(&mut engine, channel("a"), 0, 9, usize::MAX);
    assert_eq!((records.len(), through), (3, 5));
    let Record::Message(first) = &records[0].1 else { panic!("{records:?}") };
    assert_eq!((first.author.as_str(), first.content.as_str()), ("5", "1.5"));
    assert_eq!((&*first.timestamp, first.provider.as_deref()), ("\u{FFFD}A", Some("\u{FFFD}")));
    assert_eq!(first.token_count, None);
    assert!(matches!(&records[1].1, Record::Message(message) if message.author.is_empty()));
    assert_eq!(newest(&mut engine, None, 9, usize::MAX).len(), 5);
    assert_eq!(channels(&mut engine), ["a", "\u{FFFD}"]);
    assert_eq!(totals(&mut engine).2, counts(&[("\u{FFFD}", 1)]));
}

#[test]
fn a_locked_file_refuses_a_turn_as_a_whole_and_recovers() {
    let (_folder, path) = place();
    let mut engine = open(&path);
    publish(&mut engine, "a", &["1"]);
    let locker = other(&path, "BEGIN IMMEDIATE");
    for _ in 0..2 {
        engine.append(Record::Message(message("a", "lost")), None, Some(TICKET));
        engine.append(Record::Event(event("lost")), None, None);
        let answers = run(&mut engine);
        let [
            Answer::Refused { query_id: Some(TICKET), weight, error },
            Answer::Refused { query_id: None, .. },
        ] = answers.as_slice()
        else {
            panic!("{answers:?}");
        };
        assert_eq!(
            (*weight, error.to_string().as_str()),
            (message("a", "lost").weight(), "another program holds the database locked")
        );
    }
    assert_eq!(page_ids(&mut engine, channel("a"), 0, 9), (vec![1], 1), "reading goes on");
    locker.execute_batch("ROLLBACK").unwrap();
    assert_eq!(publish(&mut engine, "a", &["2"]), [2]);
    assert_eq!((engine.newest_message(), engine.newest_event()), (2, 0));
}

#[test]
fn a_turn_that_fails_in_the_middle_leaves_nothing() {
    let (_folder, path) = place();
    let mut engine = open(&path);
    let person = other(
        &path,
        "CREATE TRIGGER moody BEFORE INSERT ON messages WHEN new.content = 'bad'
         BEGIN SELECT RAISE(ABORT, 'not today'); END",
    );
    for content in ["good", "bad", "good"] {
        engine.append(Record::Message(message("a", content)), None, None);
    }
    let answers = run(&mut engine);
    let refused = |answer: &Answer| matches!(answer, Answer::Refused { error, .. } if error.0 == "not today");
    assert!(answers.len() == 3 && answers.iter().all(refused), "{answers:?}");
    assert_eq!((engine.newest_message(), summary(&mut engine).total_messages), (0, 0));
    person.execute_batch("DROP TRIGGER moody").unwrap();
    assert_eq!(publish(&mut engine, "a", &["bad"]), [1]);
}

#[test]
fn ids_that_went_back_are_refused() {
    let (_folder, path) = place();
    let mut engine = open(&path);
    publish(&mut engine, "a", &["1", "2"]);
    let person = other(&path, "DELETE FROM messages; DELETE FROM sqlite_sequence");
    engine.append(Record::Message(message("a", "1 again")), None, None);
    assert!(matches!(run(&mut engine).as_slice(), [Answer::Refused { .. }]));
    person.execute_batch("INSERT INTO sqlite_sequence VALUES ('messages', 2)").unwrap();
    assert_eq!(publish(&mut engine, "a", &["3"]), [3]);
}

#[test]
fn a_query_that_cannot_be_answered_fails_alone() {
    let (_folder, path) = place();
    let mut engine = open(&path);
    publish(&mut engine, "a", &["1"]);
    let person = other(&path, "DROP INDEX idx_messages_channel");
    engine.ask(ALL_CHANNELS, QueryId(1));
    engine.ask(Query::Page { stream: channel("a"), after: 0, records_max: 9, bytes_max: 900 }, QueryId(2));
    engine.ask(Query::Totals, QueryId(3));
    let answers = run(&mut engine);
    let failures = answers.iter().filter(|answer| matches!(answer, Answer::Failed { .. })).count();
    assert_eq!((answers.len(), failures), (3, 2), "{answers:?}");
    person.execute_batch("CREATE INDEX idx_messages_channel ON messages(channel_id)").unwrap();
    assert_eq!(channels(&mut engine), ["a"]);
}

#[test]
fn what_is_no_database_of_ours_is_refused_and_left_alone() {
    let shapes = [
        "CREATE TABLE messages (id INTEGER PRIMARY KEY, channel_id, author, content, timestamp)",
        "CREATE TABLE messages (id TEXT PRIMARY KEY, channel_id, author, content, timestamp)",
        "CREATE TABLE messages (id INTEGER PRIMARY KEY AUTOINCREMENT, author, content, timestamp)",
        "CREATE TABLE messages (id INTEGER PRIMARY KEY AUTOINCREMENT, channel_id, author, content, timestamp,
           room TEXT NOT NULL)",
        "CREATE VIEW messages AS SELECT 1 AS id",
        "CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, date TEXT)",
    ];
    let old = format!("{SERVICE_TABLE}CREATE INDEX idx_messages_channel ON");
    let indexes = [" messages(author)", " messages(channel_id COLLATE NOCASE)", " messages(channel_id, id)"];
    let shapes = shapes.map(str::to_owned).into_iter().chain(indexes.map(|index| format!("{old}{index}")));
    for shape in shapes {
        let (_folder, path) = place();
        other(&path, &shape);
        let before = fs::read(&path).unwrap();
        let error = SqliteEngine::open(&path, &StoreOptions::default()).expect_err(&shape).to_string();
        assert!(error.contains("polecat.db") && error.contains("not one of polecat's"), "{error}");
        assert!(fs::read(&path).unwrap() == before, "written to: {shape}");
    }
}

#[test]
fn a_damaged_file_is_refused_and_left_alone() {
    let (_folder, path) = place();
    publish(&mut open(&path), "a", &["x".repeat(100).as_str(); 2000]);
    let whole = fs::read(&path).unwrap();
    let roots: Vec<usize> = other(&path, "")
        .prepare("SELECT rootpage FROM sqlite_schema WHERE name IN ('messages', 'idx_messages_channel')")
        .unwrap()
        .query_map((), |row| row.get::<_, u32>(0).map(|page| page as usize))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let page_bytes = usize::from(u16::from_be_bytes([whole[16], whole[17]]));
    let garbled = |from: usize| {
        let mut bytes = whole.clone();
        bytes[from..from + page_bytes].fill(0xA5);
        bytes
    };
    let mut cases = vec![garbled(0), garbled(100), whole[..whole.len() / 2].to_vec(), vec![b'x'; 5000]];
    cases.extend(roots.iter().map(|root| garbled((root - 1) * page_bytes)));
    cases.push(garbled(whole.len() / 2 / page_bytes * page_bytes));
    // One bit of the channel in an inner page of the index: nothing fails, and many rows are not found.
    let mut misled = whole.clone();
    let mut pages = misled.chunks_exact_mut(page_bytes).enumerate();
    let (_, inner) = pages.find(|(number, page)| number % 205 != 1 && page[0] == 2).unwrap();
    let entry = inner.windows(3).rposition(|bytes| bytes[0] == 15 && bytes[2] == b'a').unwrap();
    inner[entry + 2] ^= 1;
    cases.push(misled);
    assert_eq!(cases.len(), 8);
    for (number, bytes) in cases.into_iter().enumerate() {
        let (_folder, path) = place();
        fs::write(&path, &bytes).unwrap();
        let error =
            SqliteEngine::open(&path, &StoreOptions::default()).expect_err("a damaged file").to_string();
        assert!(error.contains("polecat.db") && !error.contains('\n'), "{error}");
        assert!(error.contains("damaged") || error.contains("not an SQLite database"), "{number}: {error}");
        assert!(fs::read(&path).unwrap() == bytes, "written to: case {number}");
    }
}

#[test]
fn opening_says_what_is_in_the_way() {
    let (folder, path) = place();
    let error = |path: &Path| {
        SqliteEngine::open(path, &StoreOptions::default()).expect_err("no database").to_string()
    };
    assert!(error(&folder.path().join("none/polecat.db")).contains("folder does not exist"));
    assert!(error(folder.path()).contains("it is a folder"));
    assert!(error(Path::new(":memory:")).contains("it is not a file"));
    let locker = other(&path, "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; CREATE TABLE t (a)");
    assert!(error(&path).contains("locked"));
    drop(locker);
    open(&path);
}
