//! What the triggers cost, and what a list costs. Run by hand, with SQLite optimised:
//! `cargo --config 'profile.dev.package.libsqlite3-sys.opt-level=3' test --test engines -- --ignored --nocapture measure`

#![expect(clippy::print_stdout, reason = "a measurement is there to be read")]

use std::time::Instant;

use rusqlite::Connection;

use super::*;

const MESSAGES: usize = 100_000;

#[test]
#[ignore = "a measurement, run by hand"]
fn inserts_with_and_without_triggers() {
    for batch in [100, 1] {
        for (counted, kind) in [(false, "without provider and lane"), (true, "with provider and lane")] {
            for has_triggers in [false, true] {
                let micros = insert_micros(batch, counted, has_triggers);
                let triggers = if has_triggers { "triggers" } else { "no triggers" };
                println!("transactions of {batch:>3}, {kind}, {triggers}: {micros:.2} µs per message");
            }
        }
    }
}

fn insert_micros(batch: usize, counted: bool, has_triggers: bool) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("polecat.db");
    let mut engine = open(&path);
    if has_triggers {
        // Where others' triggers have to run, ours do as well.
        let person = Connection::open(&path).unwrap();
        person.execute_batch("CREATE TRIGGER other AFTER INSERT ON events BEGIN SELECT 1; END").unwrap();
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
    let mut answers = Vec::new();
    let start = Instant::now();
    let mut records = records.into_iter();
    while records.len() > 0 {
        for record in records.by_ref().take(batch) {
            engine.append(record, None, None);
        }
        turn(&mut engine, NOW, 0, &mut answers);
        answers.clear();
        turn(&mut engine, after_ms(1_000), 0, &mut Vec::new());
    }
    start.elapsed().as_secs_f64() * 1e6 / MESSAGES as f64
}

#[test]
#[ignore = "a measurement, run by hand"]
fn lists_and_pages() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = open(&folder.path().join("polecat.db"));
    for rows in [1_000, 100_000, 1_000_000] {
        let have = engine.newest_message();
        for start in (have..rows).step_by(10_000) {
            let end = rows.min(start + 10_000);
            let named = |number: u64| message(&format!("channel {}", number % 200), "x");
            store(&mut engine, (start..end).map(|number| Record::Message(named(number))));
            turn(&mut engine, after_ms(1_000), 0, &mut Vec::new());
        }
        let mut time = |query: Query| {
            ask(&mut engine, query.clone());
            let start = Instant::now();
            ask(&mut engine, query);
            start.elapsed().as_micros()
        };
        let (summary, channels) = (time(Query::Summary), time(Query::Channels));
        let page = time(Query::Page {
            stream: channel("channel 7"),
            after: rows / 2,
            records_max: 256,
            bytes_max: 128 << 10,
        });
        println!("{rows} rows, 200 channels: summary {summary} µs, channels {channels} µs, page {page} µs");
    }
}

#[test]
#[ignore = "a measurement, run by hand"]
fn turns_with_a_checkpoint() {
    for is_idle in [true, false] {
        for bytes in [1 << 10, 64 << 10] {
            let folder = tempfile::tempdir().unwrap();
            let mut engine = open(&folder.path().join("polecat.db"));
            let content = "x".repeat(bytes);
            let (mut settles, mut idles) = (Vec::new(), Vec::new());
            let mut answers = Vec::new();
            for number in 0..(128 << 20) / bytes / 16 {
                for place in 0..16 {
                    let channel = format!("channel {}", (number * 7 + place) % 200);
                    engine.append(Record::Message(message(&channel, &content)), None, None);
                }
                let start = Instant::now();
                turn(&mut engine, NOW, 0, &mut answers);
                settles.push(start.elapsed().as_micros());
                answers.clear();
                if is_idle {
                    let start = Instant::now();
                    turn(&mut engine, after_ms(1_000), 0, &mut Vec::new());
                    idles.push(start.elapsed().as_micros());
                }
            }
            let spread = |mut times: Vec<u128>| {
                times.sort_unstable();
                let at = |share: usize| times.get(times.len() * share / 10_000).copied().unwrap_or_default();
                (at(5_000), at(9_900), at(9_990), times.last().copied().unwrap_or_default())
            };
            println!(
                "16 messages of {bytes} bytes a turn, idle {is_idle}: settle {:?}, idle {:?} µs (50 %, 99 %, 99.9 %, most)",
                spread(settles),
                spread(idles)
            );
        }
    }
}

#[test]
#[ignore = "a measurement, run by hand"]
fn steps_of_deleting() {
    for bytes in [100, 16 << 10] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("polecat.db");
        let mut engine = open(&path);
        for start in (0..20_000).step_by(1_000) {
            let record = |number: usize| {
                let channel = format!("channel {}", number * 7 % 200);
                let provider = Some(format!("provider {}", number % 4));
                Record::Message(Message { provider, ..message(&channel, &"x".repeat(bytes)) })
            };
            store(&mut engine, (start..start + 1_000).map(record));
            turn(&mut engine, after_ms(1_000), 0, &mut Vec::new());
        }
        drop(engine);
        let mut engine =
            open_with(&path, &StoreOptions { retain_messages: Some(10), ..StoreOptions::default() });
        let (mut times, mut ms) = (Vec::new(), 0);
        while engine.oldest_message() < 19_991 {
            let before = engine.oldest_message();
            let start = Instant::now();
            turn(&mut engine, after_ms(ms), 0, &mut Vec::new());
            times.push((start.elapsed().as_micros(), engine.oldest_message() - before));
            ms += 10;
        }
        times.sort_unstable();
        println!(
            "{bytes} bytes: {} steps, {:?} to {:?} µs and rows",
            times.len(),
            times[times.len() / 2],
            times.last()
        );
    }
}
