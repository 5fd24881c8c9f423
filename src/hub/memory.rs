//! The engine that keeps records in memory only, the newest ones of each kind.
//! It is the model that the other engines are tested against, and it can be
//! told to answer late or to fail.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use super::engine::{Answer, Engine, EngineError, Query, Record, Stream, Ticket};
use crate::wire::protocol::{Event, Message, Summary};

/// Keeps the newest records of each kind; the oldest are dropped.
///
/// Appends are committed and announced in the same settle, so the store never
/// holds a message that nobody was told of.
#[derive(Debug)]
pub struct MemoryEngine {
    messages: Messages,
    events: Kept<Event>,
    records_max: usize,
    bytes_max: usize,
    delay_settles: u32,
    failure: Option<EngineError>,
    settles: u64,
    appends: VecDeque<Append>,
    questions: VecDeque<(Query, Ticket)>,
    held: VecDeque<(u64, Answer)>,
}

/// A record that waits for its commit.
#[derive(Debug)]
struct Append {
    /// The settle that commits it.
    due: u64,
    record: Record,
    ticket: Option<Ticket>,
}

impl Default for MemoryEngine {
    fn default() -> Self {
        Self::starting_at(0, 0)
    }
}

impl MemoryEngine {
    /// Records kept of each kind unless [`Self::with_bounds`] says otherwise.
    pub const RECORDS_MAX_DEFAULT: usize = 10_000;
    /// Weight kept of each kind unless [`Self::with_bounds`] says otherwise.
    pub const BYTES_MAX_DEFAULT: usize = 16 << 20;

    /// An empty engine whose next ids are `newest_message + 1` and `newest_event + 1`.
    #[must_use]
    pub fn starting_at(newest_message: u64, newest_event: u64) -> Self {
        Self {
            messages: Messages::after(newest_message),
            events: Kept::after(newest_event),
            records_max: Self::RECORDS_MAX_DEFAULT,
            bytes_max: Self::BYTES_MAX_DEFAULT,
            delay_settles: 0,
            failure: None,
            settles: 0,
            appends: VecDeque::new(),
            questions: VecDeque::new(),
            held: VecDeque::new(),
        }
    }

    /// Keeps, of messages and of events, at most `records_max` and at most
    /// `bytes_max` of weight, but always the newest one.
    #[must_use]
    pub const fn with_bounds(mut self, records_max: usize, bytes_max: usize) -> Self {
        self.records_max = records_max;
        self.bytes_max = bytes_max;
        self
    }

    /// Answers `settles` settles late: appends are committed that much later,
    /// and questions, which are looked up at once, are answered that much later
    /// with what was true when they were looked up.
    #[must_use]
    pub const fn with_delay(mut self, settles: u32) -> Self {
        self.delay_settles = settles;
        self
    }

    /// While it is `Some`, appends that fall due are refused and questions fail.
    pub fn set_failure(&mut self, failure: Option<EngineError>) {
        self.failure = failure;
    }

    fn commit(&mut self, append: Append) -> Answer {
        let Append { record, ticket, .. } = append;
        if let Some(error) = &self.failure {
            return Answer::Refused { ticket, weight: record.weight(), error: error.clone() };
        }
        let weight = record.weight();
        let id = match &record {
            Record::Message(message) => self.messages.push(message.clone(), weight),
            Record::Event(event) => self.events.push(event.clone(), weight),
        };
        while self.messages.kept.is_over(self.records_max, self.bytes_max) {
            self.messages.drop_oldest();
        }
        while self.events.is_over(self.records_max, self.bytes_max) {
            self.events.drop_oldest();
        }
        Answer::Committed { id, record, ticket }
    }

    fn look_up(&self, query: &Query, ticket: Ticket) -> Answer {
        if let Some(error) = &self.failure {
            return Answer::Failed { ticket, error: error.clone() };
        }
        match query {
            Query::Page { stream, after, records_max, bytes_max } => {
                let cut = Cut::new(*records_max, *bytes_max);
                let (records, through) = match stream {
                    Stream::Events => self.event_page(*after, cut),
                    Stream::Channel(name) => self.messages.page(name, *after, cut),
                };
                Answer::Page { ticket, records, through }
            }
            Query::Messages { channel, records_max, bytes_max } => {
                let cut = Cut::new(*records_max, *bytes_max);
                Answer::Messages { ticket, messages: self.messages.newest(channel.as_deref(), cut) }
            }
            Query::Channels => Answer::Channels { ticket, names: self.messages.names() },
            Query::Summary => Answer::Summary { ticket, summary: self.messages.summary() },
        }
    }

    fn event_page(&self, after: u64, mut cut: Cut) -> (Vec<(u64, Record)>, u64) {
        let mut page = Vec::new();
        let first = self.events.oldest().max(after.saturating_add(1));
        for id in first..=self.events.newest {
            let Some((weight, event)) = self.events.at(id) else { break };
            if !cut.takes(weight) {
                return (page, id - 1);
            }
            page.push((id, Record::Event(event.clone())));
        }
        (page, self.events.newest)
    }
}

impl Engine for MemoryEngine {
    fn newest_message(&self) -> u64 {
        self.messages.kept.newest
    }

    fn newest_event(&self) -> u64 {
        self.events.newest
    }

    fn append(&mut self, record: Record, ticket: Option<Ticket>) {
        let due = self.settles + 1 + u64::from(self.delay_settles);
        self.appends.push_back(Append { due, record, ticket });
    }

    fn ask(&mut self, query: Query, ticket: Ticket) {
        self.questions.push_back((query, ticket));
    }

    fn settle(&mut self, reads_max: usize, answers: &mut Vec<Answer>) {
        self.settles += 1;
        while self.appends.front().is_some_and(|append| append.due <= self.settles)
            && let Some(append) = self.appends.pop_front()
        {
            let answer = self.commit(append);
            answers.push(answer);
        }
        for _ in 0..reads_max {
            let Some((query, ticket)) = self.questions.pop_front() else { break };
            let answer = self.look_up(&query, ticket);
            self.held.push_back((self.settles + u64::from(self.delay_settles), answer));
        }
        while self.held.front().is_some_and(|(due, _)| *due <= self.settles)
            && let Some((_, answer)) = self.held.pop_front()
        {
            answers.push(answer);
        }
    }

    fn is_due(&self) -> bool {
        !self.appends.is_empty() || !self.questions.is_empty() || !self.held.is_empty()
    }

    fn idle(&mut self) {}
}

/// The newest records of one id sequence, without a hole: the id of a record
/// is `newest` less its distance from the back.
#[derive(Debug)]
struct Kept<T> {
    records: VecDeque<(usize, T)>,
    bytes: usize,
    newest: u64,
}

impl<T> Kept<T> {
    const fn after(newest: u64) -> Self {
        Self { records: VecDeque::new(), bytes: 0, newest }
    }

    fn push(&mut self, record: T, weight: usize) -> u64 {
        self.records.push_back((weight, record));
        self.bytes += weight;
        self.newest += 1;
        self.newest
    }

    /// Whether the oldest record has to go; the newest never has to.
    fn is_over(&self, records_max: usize, bytes_max: usize) -> bool {
        self.records.len() > 1 && (self.records.len() > records_max || self.bytes > bytes_max)
    }

    fn drop_oldest(&mut self) -> Option<T> {
        let (weight, record) = self.records.pop_front()?;
        self.bytes -= weight;
        Some(record)
    }

    /// The id of the oldest record; one more than the newest where there is none.
    fn oldest(&self) -> u64 {
        self.newest + 1 - self.records.len() as u64
    }

    fn at(&self, id: u64) -> Option<(usize, &T)> {
        let index = usize::try_from(id.checked_sub(self.oldest())?).ok()?;
        self.records.get(index).map(|(weight, record)| (*weight, record))
    }
}

/// The messages, found by id and by channel, and their totals.
#[derive(Debug)]
struct Messages {
    kept: Kept<Message>,
    /// The ids of each channel, oldest first; a channel that has none is not in it.
    by_channel: BTreeMap<Rc<str>, VecDeque<u64>>,
    by_provider: BTreeMap<String, u64>,
    by_lane: BTreeMap<String, u64>,
    tokens: i128,
}

impl Messages {
    const fn after(newest: u64) -> Self {
        Self {
            kept: Kept::after(newest),
            by_channel: BTreeMap::new(),
            by_provider: BTreeMap::new(),
            by_lane: BTreeMap::new(),
            tokens: 0,
        }
    }

    fn push(&mut self, message: Message, weight: usize) -> u64 {
        for (counts, name) in [(&mut self.by_provider, &message.provider), (&mut self.by_lane, &message.lane)]
        {
            if let Some(name) = name.as_ref().filter(|name| !name.is_empty()) {
                *counts.entry(name.clone()).or_default() += 1;
            }
        }
        self.tokens += i128::from(message.token_count.unwrap_or(0));
        let channel = Rc::clone(&message.channel_id);
        let id = self.kept.push(message, weight);
        self.by_channel.entry(channel).or_default().push_back(id);
        id
    }

    fn drop_oldest(&mut self) {
        let Some(message) = self.kept.drop_oldest() else { return };
        for (counts, name) in [(&mut self.by_provider, &message.provider), (&mut self.by_lane, &message.lane)]
        {
            if let Some(name) = name
                && let Some(count) = counts.get_mut(name)
            {
                *count -= 1;
                if *count == 0 {
                    counts.remove(name);
                }
            }
        }
        self.tokens -= i128::from(message.token_count.unwrap_or(0));
        if let Some(ids) = self.by_channel.get_mut(&message.channel_id) {
            ids.pop_front();
            if ids.is_empty() {
                self.by_channel.remove(&message.channel_id);
            }
        }
    }

    fn page(&self, channel: &str, after: u64, mut cut: Cut) -> (Vec<(u64, Record)>, u64) {
        let mut page: Vec<(u64, Record)> = Vec::new();
        let Some(ids) = self.by_channel.get(channel) else { return (page, self.kept.newest) };
        for &id in ids.range(ids.partition_point(|id| *id <= after)..) {
            let Some((weight, message)) = self.kept.at(id) else { continue };
            if !cut.takes(weight) {
                let through = page.last().map_or(after, |(id, _)| *id);
                return (page, through);
            }
            page.push((id, Record::Message(message.clone())));
        }
        (page, self.kept.newest)
    }

    fn newest(&self, channel: Option<&str>, mut cut: Cut) -> Vec<(u64, Message)> {
        let mut take = |id: u64| {
            let (weight, message) = self.kept.at(id)?;
            cut.takes(weight).then(|| (id, message.clone()))
        };
        let mut messages: Vec<_> = match channel {
            None => (self.kept.oldest()..=self.kept.newest).rev().map_while(&mut take).collect(),
            Some(name) => {
                let ids = self.by_channel.get(name).into_iter().flatten();
                ids.rev().map_while(|id| take(*id)).collect()
            }
        };
        messages.reverse();
        messages
    }

    fn names(&self) -> Vec<String> {
        self.by_channel.keys().map(|name| String::from(&**name)).collect()
    }

    fn summary(&self) -> Summary {
        let tokens = self.tokens.clamp(i128::from(i64::MIN), i128::from(i64::MAX));
        Summary {
            total_messages: self.kept.records.len() as u64,
            total_tokens: i64::try_from(tokens).unwrap_or_default(),
            by_provider: self.by_provider.clone(),
            by_lane: self.by_lane.clone(),
        }
    }
}

/// Says where a page ends: after `records_left` records, or once the weights
/// taken reach a bound, but never before the first record.
struct Cut {
    records_left: usize,
    bytes: usize,
    bytes_max: usize,
}

impl Cut {
    fn new(records_max: usize, bytes_max: usize) -> Self {
        Self { records_left: records_max.max(1), bytes: 0, bytes_max: bytes_max.max(1) }
    }

    /// Whether a further record, which weighs `weight`, still belongs to the page.
    fn takes(&mut self, weight: usize) -> bool {
        if self.records_left == 0 || self.bytes >= self.bytes_max {
            return false;
        }
        self.records_left -= 1;
        self.bytes += weight;
        true
    }
}
