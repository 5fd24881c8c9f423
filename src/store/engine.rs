//! The engine: it stores records and reads them back. It decides ids and order, and it *answers later*:
//! nothing may assume that an append is done when the call returns. The embedded engine answers at the end of
//! the turn. Another engine may answer some turns later, from the same poll loop.

use std::fmt;
use std::rc::Rc;

use crate::base::histogram::Histogram;
use crate::base::time::Now;
use crate::wire::protocol::{Event, Message, Sequence};

use super::terms::Terms;

/// A stored item: an entry of one of the two id sequences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A message on a channel. All channels share one rising sequence of ids.
    Message(Message),
    /// An event; ids rise by one.
    Event(Event),
}

impl Record {
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Self::Message(message) => message.weight(),
            Self::Event(event) => event.weight(),
        }
    }

    #[must_use]
    pub fn stream(&self) -> Stream {
        match self {
            Self::Message(message) => Stream::Channel(Rc::clone(&message.channel_id)),
            Self::Event(_) => Stream::Events,
        }
    }
}

/// A sequence that a cursor runs along: the records that one kind of subscriber gets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Stream {
    Events,
    /// The messages of one channel.
    Channel(Rc<str>),
}

impl Stream {
    /// The name of the channel; `None` for events.
    pub const fn channel(&self) -> Option<&Rc<str>> {
        match self {
            Self::Events => None,
            Self::Channel(name) => Some(name),
        }
    }

    /// The sequence that its ids are of.
    pub const fn sequence(&self) -> Sequence {
        match self {
            Self::Events => Sequence::Events,
            Self::Channel(_) => Sequence::Messages,
        }
    }
}

/// The subject of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Messages of one channel, or of all.
    Messages(Option<Rc<str>>),
    /// Events of one type, or of all.
    Events(Option<Rc<str>>),
}

impl From<Stream> for Selection {
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::Events => Self::Events(None),
            Stream::Channel(name) => Self::Messages(Some(name)),
        }
    }
}

/// Which records a list has: those of its selection from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The id of the oldest.
    pub first: u64,
    /// The id of the newest.
    pub last: u64,
    /// Whether there may be older ones.
    pub has_older: bool,
    /// Whether there may be newer ones.
    pub has_newer: bool,
}

/// Identifies a query, so that the caller recognises its answer. The engine only passes it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct QueryId(pub u64);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// The records of `stream` after the id `after`, oldest first. There are at most `records_max`. The page
    /// ends once their weights reach `bytes_max`, but has at least one record.
    Page { stream: Stream, after: u64, records_max: usize, bytes_max: usize },
    /// How many records of `stream` have `after < id <= through`, counted up to `count_max`.
    Count { stream: Stream, after: u64, through: u64, count_max: u64 },
    /// Which records of `of` are between `after` and `before`: with `after`, the first ones beyond that id,
    /// else the newest ones. There are at most `records_max`. The list ends once their weights reach
    /// `bytes_max`, but has at least one record.
    Span { of: Selection, after: Option<u64>, before: Option<u64>, records_max: usize, bytes_max: usize },
    /// The records of `of` with `after < id <= through`, oldest first, within the same kind of bounds.
    /// Answered by [`Answer::Page`], which may end sooner, and may have no records although more follow.
    List {
        of: Selection,
        after: u64,
        through: u64,
        records_max: usize,
        bytes_max: usize,
        /// Weight that a record may have: the slice ends before one that has more.
        each_bytes_max: usize,
    },
    /// The names of that kind, sorted by their bytes: those above `after`, at most `names_max`, and at least one but no
    /// more once they weigh `bytes_max`.
    Names {
        of: Names,
        after: Option<StoredName>,
        names_max: usize,
        bytes_max: usize,
        /// The maximum weight of a name: the slice ends before a heavier one.
        each_bytes_max: usize,
    },
    /// Details of the channels that have a message and whose names are above `after` by their bytes: the
    /// first `channels_max` of them, or fewer once they weigh `bytes_max`.
    ChannelDetails { after: Option<Rc<str>>, channels_max: usize, bytes_max: usize },
    /// Totals over all messages.
    Totals,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// Channels that have a message; their counts are 0.
    Channels,
    /// The providers of messages, with the number of messages; empty ones do not count.
    Providers,
    /// Lanes, in the same way.
    Lanes,
}

/// A name as the engine stores it, byte for byte; it may be shown differently. Names are continued after one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StoredName {
    pub bytes: Vec<u8>,
    /// Whether the name is not text.
    pub is_blob: bool,
}

/// Details of the kept messages of one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelDetail {
    pub name: Rc<str>,
    /// The id of its newest message.
    pub newest: u64,
    pub kept: u64,
}

impl ChannelDetail {
    #[must_use]
    pub fn weight(&self) -> usize {
        64 + self.name.len()
    }
}

/// The answers of the engine, in the order in which to act on them.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A record is committed, with this id. Within a stream, these come in the order of the ids, whichever
    /// server appended them: if several servers share a store, each is also told of the records of the
    /// others.
    Committed {
        id: u64,
        record: Record,
        /// The id of the append; `None` for a record that another server appended.
        query_id: Option<QueryId>,
        /// The weight of the append that this answers; 0 if another server appended the record.
        weight: usize,
    },
    /// An append had the same key as an earlier one on the same stream, within the window. It is not stored;
    /// this is the record that was stored then.
    Repeated {
        /// The id that the first one got.
        id: u64,
        /// The first one.
        record: Record,
        query_id: Option<QueryId>,
        /// The weight of the record that is not stored.
        weight: usize,
    },
    /// An append was not stored and will not be.
    Refused { query_id: Option<QueryId>, weight: usize, error: EngineError },
    /// Answers [`Query::Page`] and [`Query::List`]. It has exactly the requested records with
    /// `after < id <= through`. If it was cut short, `through` is the id of the last record that was looked
    /// at; otherwise it is the newest committed id, or the one that was requested.
    Page {
        query_id: QueryId,
        /// With their ids, oldest first.
        records: Vec<(u64, Record)>,
        /// The id up to which the page is complete.
        through: u64,
        /// The oldest id of its sequence that was kept when it was read.
        oldest: u64,
    },
    /// Answers [`Query::Count`].
    Count {
        query_id: QueryId,
        count: u64,
        /// Whether there are more.
        is_cut: bool,
        /// The oldest id of their sequence that was kept when they were counted.
        oldest: u64,
    },
    /// Answers [`Query::Span`].
    Span {
        query_id: QueryId,
        /// `None` if there are no such records.
        span: Option<Span>,
    },
    /// Answers [`Query::Names`].
    Names {
        query_id: QueryId,
        names: Vec<(String, u64)>,
        /// The position to continue after; `None` if there are no more.
        next: Option<StoredName>,
    },
    /// Answers [`Query::ChannelDetails`].
    ChannelDetails {
        query_id: QueryId,
        /// Sorted by the bytes of their names.
        channels: Vec<ChannelDetail>,
        /// Whether there may be more of them.
        is_cut: bool,
    },
    /// Answers [`Query::Totals`].
    Totals {
        query_id: QueryId,
        messages: u64,
        /// The sum of their token counts; it saturates.
        tokens: i64,
    },
    /// The first record or name of a slice weighs more than is allowed.
    TooLarge { query_id: QueryId },
    /// A query could not be answered.
    Failed { query_id: QueryId, error: EngineError },
}

/// Once the answers of one [`Engine::settle`] have this many bytes of records and names, it looks up no
/// further query.
pub const SETTLE_BYTES_MAX: usize = 1 << 20;

impl Answer {
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Self::Page { records, .. } => records.iter().map(|(_, record)| record.weight()).sum(),
            Self::ChannelDetails { channels, .. } => channels.iter().map(ChannelDetail::weight).sum(),
            Self::Names { names, .. } => names.iter().map(|(name, _)| name_weight(name)).sum(),
            _ => 0,
        }
    }
}

/// The approximate bytes that a name with its count takes in memory.
#[must_use]
pub const fn name_weight(name: &str) -> usize {
    48 + name.len()
}

/// Decides where a slice ends: after some records, once their weights reach a bound, or before a record that alone weighs
/// too much, but never before the first record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    records_left: usize,
    bytes: usize,
    bytes_max: usize,
    first_bytes: Option<usize>,
    each_bytes_max: usize,
}

impl Cut {
    pub(super) fn new(records_max: usize, bytes_max: usize, each_bytes_max: usize) -> Self {
        let (records_left, bytes_max) = (records_max.max(1), bytes_max.max(1));
        Self { records_left, bytes: 0, bytes_max, first_bytes: None, each_bytes_max }
    }

    pub(super) const fn is_full(&self) -> bool {
        self.records_left == 0 || self.bytes >= self.bytes_max
    }

    /// Whether a further record, which weighs `weight`, still belongs to the slice.
    pub(super) const fn takes(&mut self, weight: usize) -> bool {
        if self.first_bytes.is_none() {
            self.first_bytes = Some(weight);
        } else if self.is_full() || weight > self.each_bytes_max {
            return false;
        }
        self.records_left -= 1;
        self.bytes += weight;
        true
    }

    /// Whether the first record weighs more than is allowed.
    pub(super) fn is_too_large(&self) -> bool {
        self.first_bytes.is_some_and(|bytes| bytes > self.each_bytes_max)
    }
}

/// Why the engine could not do what was requested: a fault of the environment, never of the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineError(pub String);

impl fmt::Display for EngineError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Whether the store can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It can, as far as is known.
    Sound,
    /// The last attempt failed for this reason. Attempts continue.
    Degraded(String),
}

/// Statistics of the transactions that have stored something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commits {
    pub duration_us: Histogram,
    pub records: Histogram,
    /// Microseconds of each checkpoint, which copies the write-ahead log back into the file.
    pub checkpoint_us: Histogram,
    /// The approximate bytes of the write-ahead log that are still to be copied back.
    pub wal_pending_bytes: u64,
    /// Records that are in the file but cannot be found: the file is damaged.
    pub faults: u64,
}

/// Stores records and reads them back, later. No id is above [`crate::wire::protocol::ID_MAX`]: an append
/// that would get a greater one is refused.
pub trait Engine {
    /// The kind of engine, as `/api/health` reports it.
    fn kind(&self) -> &'static str;

    /// The terms: they decide which epoch clients are told, and which of their ids are accepted. They do not
    /// change while the process runs, even if it cannot store that its term has begun.
    fn terms(&self) -> &Terms;

    /// Milliseconds for which the key of an append is remembered.
    fn idempotency_window_ms(&self) -> u64;

    /// The newest committed message id of all channels; 0 if there is none.
    fn newest_message(&self) -> u64;

    /// The newest committed event id; 0 if there is none.
    fn newest_event(&self) -> u64;

    /// The oldest kept message id of all channels; one above the newest if none is kept.
    fn oldest_message(&self) -> u64;

    /// The oldest kept event id; one above the newest if none is kept.
    fn oldest_event(&self) -> u64;

    /// Takes in `record`, to be committed with all others of this turn. Appends are answered in the order in
    /// which they were taken in, whatever their streams. The answer is [`Answer::Committed`],
    /// [`Answer::Refused`] or, if `key` was used before, [`Answer::Repeated`].
    fn append(&mut self, record: Record, key: Option<Rc<str>>, query_id: Option<QueryId>);

    /// Takes in a query. The answer has the query's name, or is [`Answer::Failed`].
    fn ask(&mut self, query: Query, query_id: QueryId);

    /// Does what is due, and appends the answers that are ready: first those of appends, then those of at
    /// most `reads_max` steps of queries, or of fewer once they weigh [`SETTLE_BYTES_MAX`]. It never blocks
    /// on anything except the store itself.
    fn settle(&mut self, now: Now, reads_max: usize, answers: &mut Vec<Answer>);

    /// Does work that is due and that nobody waits for. Called after a turn, when all answers are sent.
    fn maintain(&mut self, _now: Now) {}

    /// Milliseconds until [`Engine::settle`] or [`Engine::maintain`] has something to do, 0 for at once; `None`
    /// if there is nothing to do until the next call.
    fn due_in_ms(&self, now: Now) -> Option<u64>;

    /// Whether records can be stored, according to the last attempt.
    fn health(&self) -> &Health;

    /// Whether committed records survive the end of the process.
    fn is_storing(&self) -> bool {
        true
    }

    /// The transactions so far; `None` if there are none that would take time.
    fn commits(&self) -> Option<&Commits> {
        None
    }
}
