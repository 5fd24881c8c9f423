//! The truth: the record of everything that was committed, and what each kind of peer may see of it. Nothing
//! here asks the server.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use polecat::store::engine::{Answer, Record};
use serde_json::Value;

/// The key of the events; no channel has this name.
pub(crate) const EVENTS: &str = "";

/// The prefix of the ids of a stream (PROTOCOL 2.4).
pub(crate) fn prefix(stream: &str) -> &'static str {
    if stream == EVENTS { "event-" } else { "message-" }
}

/// The number of an `event_id`.
pub(crate) fn parse_id(stream: &str, value: &Value) -> u64 {
    let digits = value.as_str().and_then(|id| id.strip_prefix(prefix(stream))).expect("an id");
    assert!(digits.len() >= 5, "an id has five digits: {digits}");
    digits.parse().expect("an id is a number")
}

/// Everything that was committed, and what the engines have reported. Every publish has a key of its own: the
/// beginning of its content, or the type of its event.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// A new one begins whenever the disk goes back; the last one is current.
    eras: Vec<Era>,
    /// How long a key is remembered.
    pub(crate) window_ms: u64,
    /// How many appends were refused.
    pub(crate) refused: u64,
    /// How many queries failed, including those for pages.
    pub(crate) failures: u64,
    /// How many pages were returned.
    pub(crate) pages: u64,
    /// How many appends were taken in by a server that crashed before their commit, or were lost with the
    /// disk.
    pub(crate) lost: u64,
    /// How many resumes crossed terms, and how many gaps came because the disk went back.
    pub(crate) resumes_across_terms: u64,
    pub(crate) gaps_of_terms: u64,
    /// Bytes of everything that was committed, as subscribers see it.
    pub(crate) bytes: usize,
    records: usize,
}

/// Everything that the disk had, from the first record on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Era {
    streams: BTreeMap<String, Vec<Entry>>,
    /// The ids under which each key was committed, and the monotonic times.
    committed: BTreeMap<String, Vec<(u64, u64)>>,
    newest: [u64; 2],
    oldest: [u64; 2],
    /// What was acknowledged as stored, with its id.
    acknowledged: BTreeSet<(String, u64)>,
    /// The names of the terms, with the first ids that belong to each.
    terms: Vec<(String, [u64; 2])>,
}

/// A record as subscribers see it.
#[derive(Debug, Clone)]
struct Entry {
    id: u64,
    text: Rc<str>,
}

impl Ledger {
    pub(crate) fn starting_at(newest: [u64; 2], window_ms: u64) -> Self {
        Self { eras: vec![Era { newest, ..Era::default() }], window_ms, ..Self::default() }
    }

    /// The index of the current era.
    pub(crate) fn era(&self) -> usize {
        self.eras.len() - 1
    }

    fn now(&mut self) -> &mut Era {
        self.eras.last_mut().expect("there is always one")
    }

    /// The current contents of the disk.
    pub(crate) fn moment(&self) -> Era {
        self.eras[self.era()].clone()
    }

    /// The disk goes back to its contents at that moment.
    pub(crate) fn go_back(&mut self, moment: Era) {
        let records = |era: &Era| era.streams.values().map(Vec::len).sum::<usize>();
        self.lost += (records(&self.eras[self.era()]) - records(&moment)) as u64;
        self.eras.push(moment);
    }

    /// A term begins.
    pub(crate) fn begin_term(&mut self, name: &str) {
        let first = self.now().newest.map(|newest| newest + 1);
        self.now().terms.push((name.to_owned(), first));
    }

    /// The last id that means the same in `era` and to a client with this epoch (PROTOCOL 14.3).
    pub(crate) fn agreed(&self, era: usize, epoch: &str, stream: &str) -> Option<u64> {
        let terms = &self.eras[era].terms;
        let place = terms.iter().position(|(name, _)| name == epoch)?;
        Some(terms.get(place + 1).map_or(u64::MAX, |(_, first)| first[usize::from(stream == EVENTS)] - 1))
    }

    /// What subscribers of `stream` see as that id in `era`.
    pub(crate) fn text(&self, era: usize, stream: &str, id: u64) -> Option<&Rc<str>> {
        let entries = self.stream(era, stream);
        let place = entries.binary_search_by_key(&id, |entry| entry.id).ok()?;
        Some(&entries[place].text)
    }

    /// Records what an engine reports.
    pub(crate) fn note(&mut self, answer: &Answer) {
        match answer {
            Answer::Refused { .. } => self.refused += 1,
            Answer::Failed { .. } => self.failures += 1,
            Answer::Page { .. } => self.pages += 1,
            _ => {}
        }
    }

    /// Records a commit.
    pub(crate) fn commit(&mut self, id: u64, record: &Record, now_ms: u64) {
        let (which, stream, key, text) = match record {
            Record::Message(message) => {
                let key = message.content.split(' ').next().unwrap_or_default();
                let text = format!(
                    "{{\"type\":\"message\",\"data\":{{\"id\":{id},\"channel_id\":\"{}\",\"author\":\"{}\",\
                     \"content\":\"{}\",\"timestamp\":\"{}\",\"lane\":null,\"provider\":null,\
                     \"token_count\":null}},\"event_id\":\"message-{id:05}\"}}",
                    message.channel_id, message.author, message.content, message.timestamp
                );
                (0, &*message.channel_id, key, text)
            }
            Record::Event(event) => {
                let cause = event.correlation_id.as_str();
                let text = format!(
                    "{{\"type\":\"{}\",\"payload\":{},\"correlation_id\":\"{cause}\",\
                     \"timestamp\":\"{}\",\"event_id\":\"event-{id:05}\"}}",
                    event.kind, event.payload, event.timestamp
                );
                (1, EVENTS, cause, text)
            }
        };
        self.bytes += text.len();
        self.records += 1;
        let window_ms = self.window_ms;
        let era = self.now();
        assert!(id > era.newest[which], "ids rise");
        era.newest[which] = id;
        let entry = Entry { id, text: Rc::from(text) };
        era.streams.entry(stream.to_owned()).or_default().push(entry);
        let before = era.committed.entry(key.to_owned()).or_default();
        // A key is valid for its window, whatever is done to the wall clock, and as long as its record is
        // kept.
        if let Some((first, stored_ms)) = before.last() {
            let is_over = now_ms - stored_ms >= window_ms;
            assert!(is_over || *first < era.oldest[which], "{key} is stored twice");
        }
        before.push((id, now_ms));
    }

    /// From now on, only these and newer ids are kept.
    pub(crate) fn keep_from(&mut self, oldest: [u64; 2]) {
        self.now().oldest = oldest;
    }

    /// A server of `era` has told a publisher that `key` is stored as `id`.
    pub(crate) fn acknowledge(&mut self, era: usize, key: &str, id: u64) {
        let era = &mut self.eras[era];
        let ids = era.committed.get(key);
        let is_stored = ids.is_some_and(|ids| ids.iter().any(|(stored, _)| *stored == id));
        assert!(is_stored, "{key} is said to be stored as {id}: {ids:?}");
        era.acknowledged.insert((key.to_owned(), id));
    }

    /// Everything that was acknowledged is in `stored`, the current contents, exactly once.
    pub(crate) fn check_store<'a>(&self, stored: impl Iterator<Item = (u64, &'a Record)>) {
        let mut counts: BTreeMap<(String, u64), u32> = BTreeMap::new();
        for (id, record) in stored {
            let key = match record {
                Record::Message(message) => message.content.split(' ').next().unwrap_or_default(),
                Record::Event(event) => event.correlation_id.as_str(),
            };
            *counts.entry((key.to_owned(), id)).or_default() += 1;
        }
        for acknowledged in &self.eras[self.era()].acknowledged {
            assert_eq!(counts.get(acknowledged), Some(&1), "{acknowledged:?} was acknowledged");
        }
    }

    /// Whether anything was committed with that key.
    pub(crate) fn is_stored(&self, era: usize, key: &str) -> bool {
        self.eras[era].committed.contains_key(key)
    }

    /// The newest committed id of events or of messages.
    pub(crate) fn newest(&self, era: usize, stream: &str) -> u64 {
        self.eras[era].newest[usize::from(stream == EVENTS)]
    }

    /// The oldest kept id, of events or of messages.
    pub(crate) fn oldest(&self, era: usize, stream: &str) -> u64 {
        self.eras[era].oldest[usize::from(stream == EVENTS)]
    }

    /// How many records there are.
    pub(crate) fn len(&self) -> usize {
        self.records
    }

    /// How many records of `stream` have ids in `from..=through`.
    pub(crate) fn count(&self, era: usize, stream: &str, from: u64, through: u64) -> u64 {
        self.stream(era, stream).iter().filter(|entry| (from..=through).contains(&entry.id)).count() as u64
    }

    fn stream(&self, era: usize, stream: &str) -> &[Entry] {
        self.eras[era].streams.get(stream).map_or(&[], Vec::as_slice)
    }
}

/// The records that one subscriber has yet to see, from its join or resume point on.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// The era of its server.
    pub(crate) era: usize,
    stream: String,
    /// The id up to which it has seen everything.
    pub(crate) after: u64,
    /// The index in the stream of the record that must come next.
    next: usize,
    /// Whether it is told of records that were deleted before they were sent (PROTOCOL 14.3).
    is_told: bool,
}

impl Run {
    pub(crate) fn after(ledger: &Ledger, era: usize, stream: &str, after: u64) -> Self {
        let next = ledger.stream(era, stream).partition_point(|entry| entry.id <= after);
        Self { era, stream: stream.to_owned(), after, next, is_told: false }
    }

    /// The same for a subscriber that is told of gaps.
    pub(crate) fn told(ledger: &Ledger, era: usize, stream: &str, after: u64) -> Self {
        Self { is_told: true, ..Self::after(ledger, era, stream, after) }
    }

    /// Skips deleted records, if that may happen silently.
    fn pass_deleted(&mut self, ledger: &Ledger, until: impl Fn(&Entry) -> bool) {
        let entries = ledger.stream(self.era, &self.stream);
        while !self.is_told
            && let Some(entry) = entries.get(self.next)
            && entry.id < ledger.oldest(self.era, &self.stream)
            && !until(entry)
        {
            self.next += 1;
        }
    }

    /// Takes in one broadcast: it must be the next record, byte for byte.
    pub(crate) fn take(&mut self, ledger: &Ledger, text: &str) {
        self.pass_deleted(ledger, |entry| *entry.text == *text);
        let Some(entry) = ledger.stream(self.era, &self.stream).get(self.next) else {
            panic!("nothing more is committed, but there came {text}");
        };
        assert_eq!(text, &*entry.text, "records come in order, once, and whole");
        self.after = entry.id;
        self.next += 1;
    }

    /// Takes in the id of a heartbeat or a similar message: everything up to it was sent, and it is not below
    /// what was sent.
    pub(crate) fn take_cursor(&mut self, ledger: &Ledger, id: u64) {
        assert!(id >= self.after, "a cursor is behind: {id}, but {} was sent", self.after);
        assert!(id <= ledger.newest(self.era, &self.stream), "a cursor is ahead of the store: {id}");
        self.pass_deleted(ledger, |entry| entry.id > id);
        if let Some(entry) = ledger.stream(self.era, &self.stream).get(self.next) {
            assert!(id < entry.id, "a cursor says {id}, but {} was not sent", entry.id);
        }
        self.after = id;
    }

    /// Takes in a gap: records after `requested` are deleted up to `cursor`.
    pub(crate) fn take_gap(&mut self, ledger: &Ledger, requested: u64, cursor: u64) {
        self.take_cursor(ledger, requested);
        assert!(cursor > requested, "a gap of nothing after {requested}");
        assert!(cursor < ledger.oldest(self.era, &self.stream), "{cursor} is kept, and was left out");
        self.next = ledger.stream(self.era, &self.stream).partition_point(|entry| entry.id <= cursor);
        self.after = cursor;
    }

    /// Whether everything that is kept up to `id` has arrived.
    pub(crate) fn is_past(&self, ledger: &Ledger, id: u64) -> bool {
        let rest = &ledger.stream(self.era, &self.stream)[self.next..];
        rest.iter().all(|entry| entry.id > id || entry.id < ledger.oldest(self.era, &self.stream))
    }

    /// Whether there is nothing more to come.
    pub(crate) fn is_through(&self, ledger: &Ledger) -> bool {
        let rest = &ledger.stream(self.era, &self.stream)[self.next..];
        rest.iter().all(|entry| entry.id < ledger.oldest(self.era, &self.stream))
    }
}
