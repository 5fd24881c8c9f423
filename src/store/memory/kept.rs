//! The records that the engine in memory keeps, with their indexes.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Bound, RangeInclusive};
use std::rc::Rc;

use crate::store::engine::{ChannelDetail, Cut, Names, StoredName, Stream, name_weight};
use crate::wire::protocol::Message;

/// The newest records of one id sequence, without gaps: the id of a record is `newest` less its distance from
/// the back.
#[derive(Debug, Clone)]
pub(super) struct Kept<T> {
    records: VecDeque<Entry<T>>,
    bytes: usize,
    pub(super) newest: u64,
}

#[derive(Debug, Clone)]
struct Entry<T> {
    weight: usize,
    record: T,
    key: Option<Rc<str>>,
}

impl<T> Kept<T> {
    pub(super) const fn after(newest: u64) -> Self {
        Self { records: VecDeque::new(), bytes: 0, newest }
    }

    /// Keeps `record`, which was appended with `key`, and returns its id.
    pub(super) fn push(&mut self, record: T, key: Option<Rc<str>>, weight: usize) -> u64 {
        let weight = weight + key.as_ref().map_or(0, |key| key.len());
        self.records.push_back(Entry { weight, record, key });
        self.bytes += weight;
        self.newest += 1;
        self.newest
    }

    /// Whether the oldest record must be dropped; the newest never is.
    pub(super) fn is_over(&self, records_max: usize, bytes_max: usize) -> bool {
        self.records.len() > 1 && (self.records.len() > records_max || self.bytes > bytes_max)
    }

    /// Returns the dropped record and its key.
    pub(super) fn drop_oldest(&mut self) -> Option<(T, Option<Rc<str>>)> {
        let Entry { weight, record, key } = self.records.pop_front()?;
        self.bytes -= weight;
        Some((record, key))
    }

    /// The id of the oldest record; one above the newest if there is none.
    pub(super) fn oldest(&self) -> u64 {
        self.newest + 1 - self.records.len() as u64
    }

    /// The ids that are kept and in `range`, in order.
    pub(super) fn ids(&self, range: RangeInclusive<u64>) -> RangeInclusive<u64> {
        (*range.start()).max(self.oldest())..=(*range.end()).min(self.newest)
    }

    pub(super) fn at(&self, id: u64) -> Option<(usize, &T)> {
        let index = usize::try_from(id.checked_sub(self.oldest())?).ok()?;
        self.records.get(index).map(|entry| (entry.weight, &entry.record))
    }
}

/// The messages, indexed by id and by channel, and their totals.
#[derive(Debug, Clone)]
pub(super) struct Messages {
    pub(super) kept: Kept<Message>,
    /// The ids of each channel, oldest first. A channel without messages is not in it.
    by_channel: BTreeMap<Rc<str>, VecDeque<u64>>,
    by_provider: BTreeMap<String, u64>,
    by_lane: BTreeMap<String, u64>,
    tokens: i128,
}

impl Messages {
    pub(super) const fn after(newest: u64) -> Self {
        Self {
            kept: Kept::after(newest),
            by_channel: BTreeMap::new(),
            by_provider: BTreeMap::new(),
            by_lane: BTreeMap::new(),
            tokens: 0,
        }
    }

    pub(super) fn push(&mut self, message: Message, key: Option<Rc<str>>, weight: usize) -> u64 {
        for (counts, name) in [(&mut self.by_provider, &message.provider), (&mut self.by_lane, &message.lane)]
        {
            if let Some(name) = name.as_ref().filter(|name| !name.is_empty()) {
                *counts.entry(name.clone()).or_default() += 1;
            }
        }
        self.tokens += i128::from(message.token_count.unwrap_or(0));
        let channel = Rc::clone(&message.channel_id);
        let id = self.kept.push(message, key, weight);
        self.by_channel.entry(channel).or_default().push_back(id);
        id
    }

    /// Returns the key of the dropped message, and the stream of the key.
    pub(super) fn drop_oldest(&mut self) -> Option<(Stream, Rc<str>)> {
        let (message, key) = self.kept.drop_oldest()?;
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
        Some((Stream::Channel(message.channel_id), key?))
    }

    pub(super) fn count(&self, channel: &str, after: u64, through: u64) -> u64 {
        let Some(ids) = self.by_channel.get(channel) else { return 0 };
        let up_to = |id: u64| ids.partition_point(|other| *other <= id);
        up_to(through).saturating_sub(up_to(after)) as u64
    }

    /// The ids of one channel, or of all, that are in `range`, in order.
    pub(super) fn ids(
        &self,
        channel: Option<&str>,
        range: RangeInclusive<u64>,
    ) -> Box<dyn DoubleEndedIterator<Item = u64> + '_> {
        match channel.map(|name| self.by_channel.get(name)) {
            None => Box::new(self.kept.ids(range)),
            Some(None) => Box::new(std::iter::empty()),
            Some(Some(ids)) => {
                let first = ids.partition_point(|id| id < range.start());
                let end = ids.partition_point(|id| id <= range.end()).max(first);
                Box::new(ids.range(first..end).copied())
            }
        }
    }

    /// The names above `after`, and after what to ask for more.
    pub(super) fn names(
        &self,
        of: Names,
        after: Option<&StoredName>,
        cut: &mut Cut,
    ) -> (Vec<(String, u64)>, Option<StoredName>) {
        let after = after.map(|mark| String::from_utf8_lossy(&mark.bytes));
        let above = (after.as_deref().map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        match of {
            Names::Channels => {
                let names = self.by_channel.range::<str, _>(above).map(|(name, _)| (&**name, 0));
                slice(names, cut)
            }
            Names::Providers => slice(counted(&self.by_provider, above), cut),
            Names::Lanes => slice(counted(&self.by_lane, above), cut),
        }
    }

    /// Details of the channels above `after`, and whether there are more of them.
    pub(super) fn details(&self, after: Option<&str>, mut cut: Cut) -> (Vec<ChannelDetail>, bool) {
        let above = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut channels = Vec::new();
        for (name, ids) in self.by_channel.range::<str, _>((above, Bound::Unbounded)) {
            let newest = ids.back().copied().unwrap_or_default();
            let detail = ChannelDetail { name: Rc::clone(name), newest, kept: ids.len() as u64 };
            if !cut.takes(detail.weight()) {
                return (channels, true);
            }
            channels.push(detail);
        }
        (channels, false)
    }

    pub(super) fn totals(&self) -> (u64, i64) {
        let tokens = self.tokens.clamp(i128::from(i64::MIN), i128::from(i64::MAX));
        (self.kept.records.len() as u64, i64::try_from(tokens).unwrap_or_default())
    }
}

fn counted<'a>(
    counts: &'a BTreeMap<String, u64>,
    range: (Bound<&str>, Bound<&str>),
) -> impl Iterator<Item = (&'a str, u64)> {
    counts.range::<str, _>(range).map(|(name, count)| (name.as_str(), *count))
}

fn slice<'a>(
    names: impl Iterator<Item = (&'a str, u64)>,
    cut: &mut Cut,
) -> (Vec<(String, u64)>, Option<StoredName>) {
    let mut taken: Vec<(String, u64)> = Vec::new();
    for (name, count) in names {
        if !cut.takes(name_weight(name)) {
            let last = taken.last().map(|(name, _)| name.as_bytes().to_vec());
            return (taken, last.map(|bytes| StoredName { bytes, is_blob: false }));
        }
        taken.push((name.to_owned(), count));
    }
    (taken, None)
}
