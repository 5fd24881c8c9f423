//! The contract of every engine, run against each of them, and the additional duties of the SQLite engine
//! toward the file that it shares with other programs.
#![allow(clippy::unwrap_used, clippy::expect_used)]

/// Turns each clause of the contract into a test for each engine.
macro_rules! contract {
    ($($clause:ident),* $(,)?) => {
        mod memory {
            $(#[test] fn $clause() { super::$clause(&mut crate::MemoryEngine::default()); })*
        }
        mod memory_answering_late {
            $(#[test] fn $clause() { super::$clause(&mut crate::MemoryEngine::default().with_delay(3)); })*
        }
        mod sqlite {
            $(#[test] fn $clause() {
                let folder = tempfile::tempdir().unwrap();
                super::$clause(&mut crate::open(&folder.path().join("polecat.db")));
            })*
        }
    };
}

mod contract;
mod keys;
mod questions;
mod memory;
mod sqlite;
mod retention;
mod clocks;
mod ids;
mod space;
mod failures;
mod terms;
#[path = "../polecat/support/skip.rs"]
mod skip;

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use polecat::base::time::Now;
use polecat::store::engine::{
    Answer, Engine, Health, Names, Query, QueryId, Record, Selection, Span, Stream,
};
use polecat::store::memory::MemoryEngine;
use polecat::store::sqlite::{SqliteEngine, StoreOptions};
use polecat::wire::protocol::{CorrelationId, Event, Message, Sequence};

const TICKET: QueryId = QueryId(7);

const ALL_CHANNELS: Query = Query::Names {
    of: Names::Channels,
    after: None,
    names_max: usize::MAX,
    bytes_max: usize::MAX,
    each_bytes_max: usize::MAX,
};

/// The default time of all events, which the timestamps show.
const NOW: Now = Now { monotonic_ms: 50_000, unix_micros: 1_767_605_400_123_456 };

/// `ms` milliseconds after [`NOW`].
fn after_ms(ms: u64) -> Now {
    let micros = i64::try_from(ms * 1000).expect("a short time");
    Now { monotonic_ms: NOW.monotonic_ms + ms, unix_micros: NOW.unix_micros + micros }
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

fn event(kind: &str) -> Event {
    Event {
        kind: kind.to_owned(),
        payload: "{\"a\": 1}".to_owned(),
        correlation_id: CorrelationId::new("cause".to_owned()).expect("it is not empty"),
        timestamp: Rc::from("2026-01-05T09:30:00.123456+00:00"),
    }
}

fn open(path: &Path) -> SqliteEngine {
    open_with(path, &StoreOptions::default())
}

fn open_with(path: &Path, options: &StoreOptions) -> SqliteEngine {
    SqliteEngine::open(path, options).expect("the database opens")
}

/// Whether settling now would do something.
fn is_due(engine: &dyn Engine) -> bool {
    is_due_at(engine, NOW)
}

fn is_due_at(engine: &dyn Engine, now: Now) -> bool {
    engine.due_in_ms(now) == Some(0)
}

/// The work of one turn of the server with its engine.
fn turn(engine: &mut dyn Engine, now: Now, reads_max: usize, answers: &mut Vec<Answer>) {
    engine.settle(now, reads_max, answers);
    engine.maintain(now);
}

/// Settles until nothing is due.
fn run(engine: &mut dyn Engine) -> Vec<Answer> {
    run_at(engine, NOW)
}

fn run_at(engine: &mut dyn Engine, now: Now) -> Vec<Answer> {
    let mut answers = Vec::new();
    let mut settles = 0;
    while is_due_at(engine, now) {
        turn(engine, now, 4, &mut answers);
        settles += 1;
        assert!(settles < 10_000, "the engine is due for ever");
    }
    answers
}

/// Appends all of `records` in one turn and returns their ids.
fn store(engine: &mut dyn Engine, records: impl IntoIterator<Item = Record>) -> Vec<u64> {
    for record in records {
        engine.append(record, None, None);
    }
    run(engine)
        .into_iter()
        .map(|answer| match answer {
            Answer::Committed { id, .. } => id,
            other => panic!("not committed: {other:?}"),
        })
        .collect()
}

/// Stores one message with each of `contents` on `channel`.
fn publish(engine: &mut dyn Engine, channel: &str, contents: &[&str]) -> Vec<u64> {
    store(engine, contents.iter().map(|content| Record::Message(message(channel, content))))
}

/// Asks one query and returns its answer.
fn ask(engine: &mut dyn Engine, query: Query) -> Answer {
    engine.ask(query, TICKET);
    let mut answers = run(engine);
    assert_eq!(answers.len(), 1, "one question has one answer: {answers:?}");
    answers.remove(0)
}

fn channel(name: &str) -> Stream {
    Stream::Channel(Rc::from(name))
}

fn page(
    engine: &mut dyn Engine,
    stream: Stream,
    after: u64,
    records_max: usize,
    bytes_max: usize,
) -> (Vec<(u64, Record)>, u64) {
    match ask(engine, Query::Page { stream, after, records_max, bytes_max }) {
        Answer::Page { query_id: TICKET, records, through, .. } => (records, through),
        other => panic!("not a page: {other:?}"),
    }
}

/// The ids of a page that is bounded only by the number of records.
fn page_ids(engine: &mut dyn Engine, stream: Stream, after: u64, records_max: usize) -> (Vec<u64>, u64) {
    let (records, through) = page(engine, stream, after, records_max, usize::MAX);
    (records.iter().map(|(id, _)| *id).collect(), through)
}

/// The selection of a list: ids above `after` and below `before`, the most records, and the most bytes.
type Range = (Option<u64>, Option<u64>, usize, usize);

/// A list, collected from slices of `slice` records.
fn list(
    engine: &mut dyn Engine,
    of: &Selection,
    (after, before, records_max, bytes_max): Range,
    slice: usize,
) -> (Vec<(u64, Record)>, Option<Span>) {
    let span = match ask(engine, Query::Span { of: of.clone(), after, before, records_max, bytes_max }) {
        Answer::Span { query_id: TICKET, span } => span,
        other => panic!("not a span: {other:?}"),
    };
    let Some(Span { first, last, .. }) = span else { return (Vec::new(), None) };
    let (mut listed, mut read) = (Vec::new(), first - 1);
    while read < last {
        let (of, bytes_max) = (of.clone(), usize::MAX);
        match ask(
            engine,
            Query::List {
                of,
                after: read,
                through: last,
                records_max: slice,
                bytes_max,
                each_bytes_max: bytes_max,
            },
        ) {
            Answer::Page { query_id: TICKET, records, through, .. } => {
                assert!(records.len() <= slice && (read + 1..=last).contains(&through), "{through}");
                listed.extend(records);
                read = through;
            }
            other => panic!("not a slice: {other:?}"),
        }
    }
    (listed, span)
}

fn newest(
    engine: &mut dyn Engine,
    channel: Option<&str>,
    records_max: usize,
    bytes_max: usize,
) -> Vec<(u64, String)> {
    let of = Selection::Messages(channel.map(Rc::from));
    let (listed, _) = list(engine, &of, (None, None, records_max, bytes_max), 3);
    let content = |record| match record {
        Record::Message(message) => message.content,
        Record::Event(event) => panic!("not a message: {event:?}"),
    };
    listed.into_iter().map(|(id, record)| (id, content(record))).collect()
}

/// The oldest kept id at that time, according to a page and to a count.
fn kept_from(engine: &mut dyn Engine, stream: &Stream) -> [u64; 2] {
    let (after, through) = (0, u64::MAX);
    let page = Query::Page { stream: stream.clone(), after, records_max: 1, bytes_max: 1 };
    [page, Query::Count { stream: stream.clone(), after, through, count_max: 9 }].map(|query| {
        match ask(engine, query) {
            Answer::Page { oldest, .. } | Answer::Count { oldest, .. } => oldest,
            other => panic!("neither a page nor a count: {other:?}"),
        }
    })
}

fn count(engine: &mut dyn Engine, stream: Stream, after: u64, through: u64) -> u64 {
    let (count, is_cut) = count_up_to(engine, stream, after, through, u64::MAX);
    assert!(!is_cut, "nothing is left out");
    count
}

/// The same up to a number, and whether there are more.
fn count_up_to(
    engine: &mut dyn Engine,
    stream: Stream,
    after: u64,
    through: u64,
    count_max: u64,
) -> (u64, bool) {
    match ask(engine, Query::Count { stream, after, through, count_max }) {
        Answer::Count { query_id: TICKET, count, is_cut, .. } => (count, is_cut),
        other => panic!("not a count: {other:?}"),
    }
}

fn channels(engine: &mut dyn Engine) -> Vec<String> {
    names(engine, Names::Channels, 3).into_iter().map(|(name, _)| name).collect()
}

/// All names of that kind, collected from slices of this size.
fn names(engine: &mut dyn Engine, of: Names, slice: usize) -> Vec<(String, u64)> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        match ask(
            engine,
            Query::Names { of, after, names_max: slice, bytes_max: usize::MAX, each_bytes_max: usize::MAX },
        ) {
            Answer::Names { query_id: TICKET, names, next } => {
                assert!(names.len() <= slice && (next.is_none() || !names.is_empty()), "{names:?}");
                all.extend(names);
                after = next;
            }
            other => panic!("not names: {other:?}"),
        }
        if after.is_none() {
            return all;
        }
    }
}

/// The contents of `/api/summary`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Summary {
    total_messages: u64,
    total_tokens: i64,
    by_provider: BTreeMap<String, u64>,
    by_lane: BTreeMap<String, u64>,
}

/// A page of details of channels: names, newest ids and counts, and whether it was cut short.
fn details(
    engine: &mut dyn Engine,
    after: Option<&str>,
    channels_max: usize,
    bytes_max: usize,
) -> (Vec<(String, u64, u64)>, bool) {
    let query = Query::ChannelDetails { after: after.map(Rc::from), channels_max, bytes_max };
    match ask(engine, query) {
        Answer::ChannelDetails { query_id: TICKET, channels, is_cut } => {
            let told =
                |one: polecat::store::engine::ChannelDetail| (one.name.to_string(), one.newest, one.kept);
            (channels.into_iter().map(told).collect(), is_cut)
        }
        other => panic!("not details: {other:?}"),
    }
}

fn summary(engine: &mut dyn Engine) -> Summary {
    let Answer::Totals { query_id: TICKET, messages, tokens } = ask(engine, Query::Totals) else {
        panic!("not totals");
    };
    Summary {
        total_messages: messages,
        total_tokens: tokens,
        by_provider: names(engine, Names::Providers, 2).into_iter().collect(),
        by_lane: names(engine, Names::Lanes, 1).into_iter().collect(),
    }
}

/// The last message id and the last event id that mean the same here as under that epoch.
fn agreed(engine: &dyn Engine, epoch: &str) -> Option<(u64, u64)> {
    let of = |sequence| engine.terms().agreed(epoch, sequence);
    of(Sequence::Messages).zip(of(Sequence::Events))
}
