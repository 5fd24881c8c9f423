//! The cost of the SQLite engine: `cargo bench --bench store`. Inserts with and without triggers, queries
//! over many rows, turns with a checkpoint, and deletion in steps.

#![expect(clippy::print_stdout, reason = "it prints its figures")]

use std::error::Error;
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use polecat::base::time::Now;
use polecat::store::engine::{Answer, Engine, Names, Query, QueryId, Record, Stream};
use polecat::store::sqlite::{SqliteEngine, StoreOptions};
use polecat::wire::protocol::Message;
use rusqlite::Connection;

type Outcome<T> = Result<T, Box<dyn Error>>;

const MESSAGES: usize = 100_000;

fn main() -> Outcome<()> {
    inserts_with_and_without_triggers()?;
    lists_and_pages()?;
    turns_with_a_checkpoint()?;
    steps_of_deleting()
}

fn after_ms(ms: u64) -> Now {
    Now {
        monotonic_ms: ms,
        unix_micros: 1_767_605_400_123_456 + i64::try_from(ms * 1000).unwrap_or(i64::MAX),
    }
}

fn message(channel: &str, content: &str) -> Message {
    Message {
        channel_id: Rc::from(channel),
        author: "ann".to_owned(),
        content: content.to_owned(),
        timestamp: Rc::from("2026-01-05T09:30:00.123456+00:00"),
        lane: None,
        provider: None,
        token_count: None,
    }
}

fn open(path: &Path, options: &StoreOptions) -> Outcome<SqliteEngine> {
    Ok(SqliteEngine::open(path, options).map_err(|error| error.to_string())?)
}

/// The work of one turn of the server with its engine. Returns the answers.
fn turn(engine: &mut SqliteEngine, ms: u64, reads_max: usize) -> Vec<Answer> {
    let mut answers = Vec::new();
    engine.settle(after_ms(ms), reads_max, &mut answers);
    engine.maintain(after_ms(ms));
    answers
}

/// Asks one query, and runs turns until it is answered.
fn ask(engine: &mut SqliteEngine, query: Query) {
    engine.ask(query, QueryId(1));
    while turn(engine, 0, 4).is_empty() {}
}

/// The microseconds that `work` takes.
fn micros(work: impl FnOnce()) -> u128 {
    let start = Instant::now();
    work();
    start.elapsed().as_micros()
}

fn inserts_with_and_without_triggers() -> Outcome<()> {
    for batch in [100, 1] {
        for (counted, kind) in [(false, "without provider and lane"), (true, "with provider and lane")] {
            for has_triggers in [false, true] {
                let micros = insert_micros(batch, counted, has_triggers)?;
                let triggers = if has_triggers { "triggers" } else { "no triggers" };
                println!("transactions of {batch:>3}, {kind}, {triggers}: {micros:.2} µs per message");
            }
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn insert_micros(batch: usize, counted: bool, has_triggers: bool) -> Outcome<f64> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("polecat.db");
    let mut engine = open(&path, &StoreOptions::default())?;
    if has_triggers {
        // If triggers of other programs have to run, ours run too.
        Connection::open(&path)?
            .execute_batch("CREATE TRIGGER other AFTER INSERT ON events BEGIN SELECT 1; END")?;
    }
    let records: Vec<Record> = (0..MESSAGES)
        .map(|number| {
            let name = |names: usize| counted.then(|| format!("name {}", number % names));
            let channel = format!("channel {}", number % 50);
            let content =
                "a message of about a hundred bytes, as people write them to each other. ".repeat(2);
            Record::Message(Message { provider: name(4), lane: name(9), ..message(&channel, &content) })
        })
        .collect();
    let mut records = records.into_iter();
    let all = micros(|| {
        while records.len() > 0 {
            for record in records.by_ref().take(batch) {
                engine.append(record, None, None);
            }
            turn(&mut engine, 0, 0);
            turn(&mut engine, 1_000, 0);
        }
    });
    Ok(all as f64 / MESSAGES as f64)
}

const ALL_CHANNELS: Query = Query::Names {
    of: Names::Channels,
    after: None,
    names_max: usize::MAX,
    bytes_max: usize::MAX,
    each_bytes_max: usize::MAX,
};

fn lists_and_pages() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let mut engine = open(&folder.path().join("polecat.db"), &StoreOptions::default())?;
    for rows in [1_000, 100_000, 1_000_000] {
        let have = engine.newest_message();
        for start in (have..rows).step_by(10_000) {
            for number in start..rows.min(start + 10_000) {
                let channel = format!("channel {}", number % 200);
                engine.append(Record::Message(message(&channel, "x")), None, None);
            }
            turn(&mut engine, 0, 0);
            turn(&mut engine, 1_000, 0);
        }
        let mut time = |query: Query| {
            ask(&mut engine, query.clone());
            micros(|| ask(&mut engine, query))
        };
        let (totals, channels) = (time(Query::Totals), time(ALL_CHANNELS));
        let page = time(Query::Page {
            stream: Stream::Channel(Rc::from("channel 7")),
            after: rows / 2,
            records_max: 256,
            bytes_max: 128 << 10,
        });
        println!("{rows} rows, 200 channels: totals {totals} µs, channels {channels} µs, page {page} µs");
    }
    Ok(())
}

fn turns_with_a_checkpoint() -> Outcome<()> {
    for is_idle in [true, false] {
        for bytes in [1 << 10, 64 << 10] {
            let folder = tempfile::tempdir()?;
            let mut engine = open(&folder.path().join("polecat.db"), &StoreOptions::default())?;
            let content = "x".repeat(bytes);
            let (mut settles, mut idles) = (Vec::new(), Vec::new());
            for number in 0..(128 << 20) / bytes / 16 {
                for place in 0..16 {
                    let channel = format!("channel {}", (number * 7 + place) % 200);
                    engine.append(Record::Message(message(&channel, &content)), None, None);
                }
                settles.push(micros(|| drop(turn(&mut engine, 0, 0))));
                if is_idle {
                    idles.push(micros(|| drop(turn(&mut engine, 1_000, 0))));
                }
            }
            println!(
                "16 messages of {bytes} bytes a turn, idle {is_idle}: settle {:?}, idle {:?} µs (50 %, 99 %, 99.9 %, most)",
                spread(settles),
                spread(idles)
            );
        }
    }
    Ok(())
}

fn spread(mut times: Vec<u128>) -> [u128; 4] {
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 10_000).copied().unwrap_or_default();
    [at(5_000), at(9_900), at(9_990), times.last().copied().unwrap_or_default()]
}

fn steps_of_deleting() -> Outcome<()> {
    for bytes in [100, 16 << 10] {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("polecat.db");
        let mut engine = open(&path, &StoreOptions::default())?;
        for start in (0..20_000).step_by(1_000) {
            for number in start..start + 1_000 {
                let channel = format!("channel {}", number * 7 % 200);
                let provider = Some(format!("provider {}", number % 4));
                let message = Message { provider, ..message(&channel, &"x".repeat(bytes)) };
                engine.append(Record::Message(message), None, None);
            }
            turn(&mut engine, 0, 0);
            turn(&mut engine, 1_000, 0);
        }
        drop(engine);
        let options = StoreOptions { retain_messages: Some(10), ..StoreOptions::default() };
        let mut engine = open(&path, &options)?;
        let (mut times, mut ms) = (Vec::new(), 0);
        while engine.oldest_message() < 19_991 {
            let before = engine.oldest_message();
            let taken = micros(|| drop(turn(&mut engine, ms, 0)));
            times.push((taken, engine.oldest_message() - before));
            ms += 10;
        }
        times.sort_unstable();
        let (median, most) = (times.get(times.len() / 2), times.last());
        println!("{bytes} bytes: {} steps, {median:?} to {most:?} µs and rows", times.len());
    }
    Ok(())
}
