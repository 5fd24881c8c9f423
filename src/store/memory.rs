//! The engine that keeps records only in memory: the newest ones of each kind. It is for users who want
//! nothing stored. It is also the model that the other engines are tested against, and can be made to answer
//! late or to fail.

mod kept;

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::rc::Rc;

use super::engine::{
    Answer, Cut, Engine, EngineError, Health, Query, QueryId, Record, SETTLE_BYTES_MAX, Selection, Span,
    Stream,
};
use super::terms::{Term, Terms};
use crate::base::map::Map;
use crate::base::time::Now;
use crate::wire::protocol::{Event, ID_MAX};
use kept::{Kept, Messages};

/// Keeps the newest records of each kind; the oldest are dropped.
///
/// Appends are committed and announced in the same settle, so the store never holds a message that was not
/// announced.
#[derive(Debug, Clone)]
pub struct MemoryEngine {
    terms: Terms,
    messages: Messages,
    events: Kept<Event>,
    messages_max: usize,
    events_max: usize,
    bytes_max: usize,
    keys: Keys,
    delay_settles: u32,
    failure: Option<EngineError>,
    health: Health,
    /// While degraded: when to check whether the failure is over.
    probe_at_ms: u64,
    settles: u64,
    appends: VecDeque<Append>,
    questions: VecDeque<(Query, QueryId)>,
    held: VecDeque<(u64, Answer)>,
}

#[derive(Debug, Clone)]
struct Append {
    /// The number of the settle that commits it.
    due: u64,
    record: Record,
    key: Option<Rc<str>>,
    query_id: Option<QueryId>,
}

impl Default for MemoryEngine {
    fn default() -> Self {
        Self::starting_at(0, 0)
    }
}

impl MemoryEngine {
    /// The number of records to keep of each kind, by default.
    pub const RECORDS_MAX_DEFAULT: usize = 10_000;
    /// The weight to keep of each kind, by default.
    pub const BYTES_MAX_DEFAULT: usize = 16 << 20;
    pub const WINDOW_MS_DEFAULT: u64 = 300_000;
    /// Milliseconds between two checks whether a failure is over.
    pub const PROBE_INTERVAL_MS: u64 = 1_000;

    /// An empty engine whose next ids are `newest_message + 1` and `newest_event + 1`.
    #[must_use]
    pub fn starting_at(newest_message: u64, newest_event: u64) -> Self {
        Self {
            terms: one_term("00000000-0000-4000-8000-000000000000"),
            messages: Messages::after(newest_message),
            events: Kept::after(newest_event),
            messages_max: Self::RECORDS_MAX_DEFAULT,
            events_max: Self::RECORDS_MAX_DEFAULT,
            bytes_max: Self::BYTES_MAX_DEFAULT,
            keys: Keys { window_ms: Self::WINDOW_MS_DEFAULT, used: Map::default() },
            delay_settles: 0,
            failure: None,
            health: Health::Sound,
            probe_at_ms: 0,
            settles: 0,
            appends: VecDeque::new(),
            questions: VecDeque::new(),
            held: VecDeque::new(),
        }
    }

    /// Keeps at most `records_max` messages and as many events, and at most `bytes_max` of weight of each,
    /// but always the newest one.
    #[must_use]
    pub const fn with_bounds(self, records_max: usize, bytes_max: usize) -> Self {
        let mut engine = self.with_records(records_max, records_max);
        engine.bytes_max = bytes_max;
        engine
    }

    /// Keeps at most these numbers of messages and events, but always the newest one.
    #[must_use]
    pub const fn with_records(mut self, messages_max: usize, events_max: usize) -> Self {
        self.messages_max = messages_max;
        self.events_max = events_max;
        self
    }

    /// Answers `settles` settles late. Appends are committed that much later. Queries are looked up at once,
    /// and answered that much later with what was true when they were looked up.
    #[must_use]
    pub const fn with_delay(mut self, settles: u32) -> Self {
        self.delay_settles = settles;
        self
    }

    /// Names the first term; by default all engines use the same name.
    #[must_use]
    pub fn with_epoch(mut self, epoch: &str) -> Self {
        self.terms = one_term(epoch);
        self
    }

    /// Begins another term, as an engine with a file does at each start.
    pub fn begin_term(&mut self, name: &str) {
        self.terms.begin(&Term {
            name: Rc::from(name),
            first_message: self.newest_message() + 1,
            first_event: self.newest_event() + 1,
        });
    }

    #[must_use]
    pub const fn with_window_ms(mut self, window_ms: u64) -> Self {
        self.keys.window_ms = window_ms;
        self
    }

    /// While it is `Some`, appends that fall due are refused, and queries fail. The health changes once an
    /// append was refused. It changes back once one was committed, or [`Self::PROBE_INTERVAL_MS`] have
    /// passed.
    pub fn set_failure(&mut self, failure: Option<EngineError>) {
        self.failure = failure;
    }

    fn commit(&mut self, append: Append, now: Now) -> Answer {
        let Append { record, key, query_id, .. } = append;
        let weight = record.weight();
        if let Some(error) = &self.failure {
            self.health = Health::Degraded(error.0.clone());
            self.probe_at_ms = now.monotonic_ms.saturating_add(Self::PROBE_INTERVAL_MS);
            return Answer::Refused { query_id, weight, error: error.clone() };
        }
        let used = key.clone().map(|key| (record.stream(), key));
        if let Some(used) = &used
            && let Some(id) = self.keys.find(used, now)
            && let Some(record) = self.record(&used.0, id)
        {
            return Answer::Repeated { id, record, query_id, weight };
        }
        if self.newest_of(&record) >= ID_MAX {
            let error = EngineError("all ids are used up".to_owned());
            return Answer::Refused { query_id, weight, error };
        }
        self.health = Health::Sound;
        let id = self.push(&record, key, weight);
        if let Some(used) = used {
            self.keys.note(used, id, now);
        }
        Answer::Committed { id, record, query_id, weight }
    }

    const fn newest_of(&self, record: &Record) -> u64 {
        match record {
            Record::Message(_) => self.messages.kept.newest,
            Record::Event(_) => self.events.newest,
        }
    }

    fn push(&mut self, record: &Record, key: Option<Rc<str>>, weight: usize) -> u64 {
        let id = match record {
            Record::Message(message) => self.messages.push(message.clone(), key, weight),
            Record::Event(event) => self.events.push(event.clone(), key, weight),
        };
        while self.messages.kept.is_over(self.messages_max, self.bytes_max) {
            let id = self.messages.kept.oldest();
            if let Some(used) = self.messages.drop_oldest() {
                self.keys.forget(&used, id);
            }
        }
        while self.events.is_over(self.events_max, self.bytes_max) {
            let id = self.events.oldest();
            if let Some((_, Some(key))) = self.events.drop_oldest() {
                self.keys.forget(&(Stream::Events, key), id);
            }
        }
        id
    }

    /// The record of `stream` with this id, if it is still kept.
    fn record(&self, stream: &Stream, id: u64) -> Option<Record> {
        match stream {
            Stream::Events => self.events.at(id).map(|(_, event)| Record::Event(event.clone())),
            Stream::Channel(_) => {
                self.messages.kept.at(id).map(|(_, message)| Record::Message(message.clone()))
            }
        }
    }

    fn oldest(&self, stream: &Stream) -> u64 {
        match stream {
            Stream::Events => self.events.oldest(),
            Stream::Channel(_) => self.messages.kept.oldest(),
        }
    }

    fn probe(&mut self, now: Now) {
        if self.health == Health::Sound || now.monotonic_ms < self.probe_at_ms {
            return;
        }
        self.probe_at_ms = now.monotonic_ms.saturating_add(Self::PROBE_INTERVAL_MS);
        if self.failure.is_none() {
            self.health = Health::Sound;
        }
    }

    fn look_up(&self, query: &Query, query_id: QueryId) -> Answer {
        if let Some(error) = &self.failure {
            return Answer::Failed { query_id, error: error.clone() };
        }
        match query {
            Query::Page { stream, after, records_max, bytes_max } => {
                let newest = match stream {
                    Stream::Events => self.events.newest,
                    Stream::Channel(_) => self.messages.kept.newest,
                };
                let cut = Cut::new(*records_max, *bytes_max, usize::MAX);
                self.list(query_id, &Selection::from(stream.clone()), (*after, newest), cut)
            }
            Query::Count { stream, after, through, count_max } => {
                let count = match stream {
                    Stream::Events => {
                        let before_first = (*after).max(self.events.oldest() - 1);
                        (*through).min(self.events.newest).saturating_sub(before_first)
                    }
                    Stream::Channel(name) => self.messages.count(name, *after, *through),
                };
                let (count, is_cut) = (count.min(*count_max), count > *count_max);
                Answer::Count { query_id, count, is_cut, oldest: self.oldest(stream) }
            }
            Query::Span { of, after, before, records_max, bytes_max } => {
                let cut = Cut::new(*records_max, *bytes_max, usize::MAX);
                Answer::Span { query_id, span: self.span(of, *after, *before, cut) }
            }
            Query::List { of, after, through, records_max, bytes_max, each_bytes_max } => {
                let cut = Cut::new(*records_max, *bytes_max, *each_bytes_max);
                self.list(query_id, of, (*after, *through), cut)
            }
            Query::Names { of, after, names_max, bytes_max, each_bytes_max } => {
                let mut cut = Cut::new(*names_max, *bytes_max, *each_bytes_max);
                let (names, next) = self.messages.names(*of, after.as_ref(), &mut cut);
                if cut.is_too_large() {
                    return Answer::TooLarge { query_id };
                }
                Answer::Names { query_id, names, next }
            }
            Query::ChannelDetails { after, channels_max, bytes_max } => {
                let cut = Cut::new(*channels_max, *bytes_max, usize::MAX);
                let (channels, is_cut) = self.messages.details(after.as_deref(), cut);
                Answer::ChannelDetails { query_id, channels, is_cut }
            }
            Query::Totals => {
                let (messages, tokens) = self.messages.totals();
                Answer::Totals { query_id, messages, tokens }
            }
        }
    }

    /// The ids and weights of the selected records within `range`, in order.
    fn selected<'a>(
        &'a self,
        of: &'a Selection,
        range: RangeInclusive<u64>,
    ) -> Box<dyn DoubleEndedIterator<Item = (u64, usize)> + 'a> {
        match of {
            Selection::Messages(channel) => {
                let ids = self.messages.ids(channel.as_deref(), range);
                Box::new(ids.filter_map(|id| Some((id, self.messages.kept.at(id)?.0))))
            }
            Selection::Events(kind) => Box::new(self.events.ids(range).filter_map(move |id| {
                let (weight, event) = self.events.at(id)?;
                kind.as_deref().is_none_or(|kind| event.kind == kind).then_some((id, weight))
            })),
        }
    }

    fn span(&self, of: &Selection, after: Option<u64>, before: Option<u64>, mut cut: Cut) -> Option<Span> {
        let first = after.map_or(0, |after| after.saturating_add(1));
        let last = before.map_or(u64::MAX, |before| before.saturating_sub(1));
        let selected = self.selected(of, first..=last);
        let forward = after.is_some();
        let walk: Box<dyn Iterator<Item = _>> = if forward { selected } else { Box::new(selected.rev()) };
        let mut ids = Vec::new();
        let mut is_cut = false;
        for (id, weight) in walk {
            if !cut.takes(weight) {
                is_cut = true;
                break;
            }
            ids.push(id);
        }
        let (first, last) = (*ids.iter().min()?, *ids.iter().max()?);
        let has_older = if forward { self.selected(of, 0..=first - 1).next().is_some() } else { is_cut };
        let has_newer =
            if forward { is_cut } else { self.selected(of, last + 1..=u64::MAX).next().is_some() };
        Some(Span { first, last, has_older, has_newer })
    }

    fn list(
        &self,
        query_id: QueryId,
        of: &Selection,
        (after, mut through): (u64, u64),
        mut cut: Cut,
    ) -> Answer {
        let stream = match of {
            Selection::Events(_) => Stream::Events,
            Selection::Messages(_) => Stream::Channel(Rc::from("")),
        };
        let mut records: Vec<(u64, Record)> = Vec::new();
        for (id, weight) in self.selected(of, after.saturating_add(1)..=through) {
            if !cut.takes(weight) {
                through = records.last().map_or(after, |(id, _)| *id);
                break;
            }
            records.extend(self.record(&stream, id).map(|record| (id, record)));
        }
        if cut.is_too_large() {
            return Answer::TooLarge { query_id };
        }
        Answer::Page { query_id, records, through, oldest: self.oldest(&stream) }
    }
}

impl Engine for MemoryEngine {
    fn kind(&self) -> &'static str {
        "memory"
    }

    fn terms(&self) -> &Terms {
        &self.terms
    }

    fn idempotency_window_ms(&self) -> u64 {
        self.keys.window_ms
    }

    fn newest_message(&self) -> u64 {
        self.messages.kept.newest
    }

    fn newest_event(&self) -> u64 {
        self.events.newest
    }

    fn oldest_message(&self) -> u64 {
        self.messages.kept.oldest()
    }

    fn oldest_event(&self) -> u64 {
        self.events.oldest()
    }

    fn append(&mut self, record: Record, key: Option<Rc<str>>, query_id: Option<QueryId>) {
        let due = self.settles + 1 + u64::from(self.delay_settles);
        self.appends.push_back(Append { due, record, key, query_id });
    }

    fn ask(&mut self, query: Query, query_id: QueryId) {
        self.questions.push_back((query, query_id));
    }

    fn settle(&mut self, now: Now, reads_max: usize, answers: &mut Vec<Answer>) {
        self.settles += 1;
        while self.appends.front().is_some_and(|append| append.due <= self.settles)
            && let Some(append) = self.appends.pop_front()
        {
            let answer = self.commit(append, now);
            answers.push(answer);
        }
        self.probe(now);
        let mut bytes = 0;
        for _ in 0..reads_max {
            if bytes >= SETTLE_BYTES_MAX {
                break;
            }
            let Some((query, query_id)) = self.questions.pop_front() else { break };
            let answer = self.look_up(&query, query_id);
            bytes += answer.weight();
            self.held.push_back((self.settles + u64::from(self.delay_settles), answer));
        }
        while self.held.front().is_some_and(|(due, _)| *due <= self.settles)
            && let Some((_, answer)) = self.held.pop_front()
        {
            answers.push(answer);
        }
    }

    fn due_in_ms(&self, now: Now) -> Option<u64> {
        if !self.appends.is_empty() || !self.questions.is_empty() || !self.held.is_empty() {
            return Some(0);
        }
        (self.health != Health::Sound).then(|| self.probe_at_ms.saturating_sub(now.monotonic_ms))
    }

    fn health(&self) -> &Health {
        &self.health
    }

    fn is_storing(&self) -> bool {
        false
    }
}

/// All ids belong to one term.
fn one_term(name: &str) -> Terms {
    let mut terms = Terms::default();
    terms.begin(&Term { name: Rc::from(name), first_message: 1, first_event: 1 });
    terms
}

/// The keys of the records that are kept; there are never more of them than of those.
#[derive(Debug, Clone)]
struct Keys {
    window_ms: u64,
    /// The id and the monotonic time of the last use of each key; for lookups only.
    used: Map<(Stream, Rc<str>), (u64, u64)>,
}

impl Keys {
    /// The id that the first append with this key got, if it is within the window.
    fn find(&self, key: &(Stream, Rc<str>), now: Now) -> Option<u64> {
        let (id, stored_ms) = self.used.get(key)?;
        (now.monotonic_ms.saturating_sub(*stored_ms) < self.window_ms).then_some(*id)
    }

    fn note(&mut self, key: (Stream, Rc<str>), id: u64, now: Now) {
        self.used.insert(key, (id, now.monotonic_ms));
    }

    /// The record `id`, which had this key, is gone. A later record may have the same key.
    fn forget(&mut self, key: &(Stream, Rc<str>), id: u64) {
        if self.used.get(key).is_some_and(|(last, _)| *last == id) {
            self.used.remove(key);
        }
    }
}
