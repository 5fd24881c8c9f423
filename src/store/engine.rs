//! The engine: what stores records and gives them back. It decides ids and
//! order, and it *answers later*: nothing may assume that an append is done
//! when the call returns. The embedded engine answers at the end of the turn;
//! another may answer some turns later, from the same poll loop.

use std::fmt;
use std::rc::Rc;

use crate::base::histogram::Histogram;
use crate::base::time::Now;
use crate::wire::protocol::{Event, Message};

use super::terms::Terms;

/// What is stored: one line of one of the two id sequences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A message on a channel; ids rise over all channels together.
    Message(Message),
    /// An event; ids rise by one.
    Event(Event),
}

impl Record {
    /// Bytes that the record takes in memory, about.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Self::Message(message) => message.weight(),
            Self::Event(event) => event.weight(),
        }
    }

    /// The stream that the record belongs to.
    #[must_use]
    pub fn stream(&self) -> Stream {
        match self {
            Self::Message(message) => Stream::Channel(Rc::clone(&message.channel_id)),
            Self::Event(_) => Stream::Events,
        }
    }
}

/// What a cursor runs along: the records that one kind of subscriber gets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Stream {
    /// All events.
    Events,
    /// The messages of one channel.
    Channel(Rc<str>),
}

/// What a list is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Messages: of one channel, or of all.
    Messages(Option<Rc<str>>),
    /// Events: of one type, or of all.
    Events(Option<Rc<str>>),
}

/// Which records a list has: those of its selection from `first` to `last`, both of which are among them.
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

/// Names a question, so that its asker knows the answer. The engine only
/// repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// A question to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// The records of `stream` after the id `after`, oldest first: at most
    /// `records_max`, and at least one but no more once their weights reach `bytes_max`.
    Page {
        /// Whose records.
        stream: Stream,
        /// The id before the first that is wanted.
        after: u64,
        /// Most records.
        records_max: usize,
        /// Weight at which the page ends.
        bytes_max: usize,
    },
    /// How many records of `stream` have `after < id <= through`, counted up to `count_max`.
    Count {
        /// Whose records.
        stream: Stream,
        /// The id before the first that counts.
        after: u64,
        /// The id of the last that counts.
        through: u64,
        /// Where counting may end.
        count_max: u64,
    },
    /// Which records of `of` are between `after` and `before`: with `after` the first ones beyond that
    /// id, else the newest ones. At most `records_max`, and at least one but no more once their weights reach `bytes_max`.
    Span {
        /// What is listed.
        of: Selection,
        /// Only ids above this one.
        after: Option<u64>,
        /// Only ids below this one.
        before: Option<u64>,
        /// Most records.
        records_max: usize,
        /// Weight at which the list ends.
        bytes_max: usize,
    },
    /// The records of `of` with `after < id <= through`, oldest first, within the same kind of bounds. Answered by
    /// [`Answer::Page`], which may be cut sooner, and have none although more follow.
    List {
        /// What is listed.
        of: Selection,
        /// The id before the first that is wanted.
        after: u64,
        /// The id of the last that is wanted.
        through: u64,
        /// Most records.
        records_max: usize,
        /// Weight at which the slice ends.
        bytes_max: usize,
        /// Weight that a record may have: the slice ends before one that has more.
        each_bytes_max: usize,
    },
    /// The names of that kind, sorted by their bytes: those above `after`, at most `names_max`, and at least one but no
    /// more once they weigh `bytes_max`.
    Names {
        /// What is named.
        of: Names,
        /// What comes before the first that is wanted.
        after: Option<Mark>,
        /// Most names.
        names_max: usize,
        /// Weight at which the slice ends.
        bytes_max: usize,
        /// Weight that a name may have: the slice ends before one that has more.
        each_bytes_max: usize,
    },
    /// What is kept of the channels that have a message and whose names are above `after` by
    /// their bytes: the first `channels_max` of them, or fewer once they weigh `bytes_max`.
    ChannelDetails {
        /// The name before the first that is wanted.
        after: Option<Rc<str>>,
        /// Most channels.
        channels_max: usize,
        /// Weight at which the list ends.
        bytes_max: usize,
    },
    /// Totals over all messages.
    Totals,
}

/// What names are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// Channels that have a message; what is counted with them is 0.
    Channels,
    /// Providers that messages name, with how many; empty ones do not count.
    Providers,
    /// Lanes, in the same way.
    Lanes,
}

/// A place among names, as the engine knows it: a name may be shown otherwise than it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The name before it.
    pub bytes: Vec<u8>,
    /// Whether that is no text.
    pub is_blob: bool,
}

/// What is kept of one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelDetail {
    /// Its name.
    pub name: Rc<str>,
    /// The id of its newest message.
    pub newest: u64,
    /// How many messages are kept.
    pub kept: u64,
}

impl ChannelDetail {
    /// Bytes that it takes in memory, about.
    #[must_use]
    pub fn weight(&self) -> usize {
        64 + self.name.len()
    }
}

/// What the engine says, in the order in which it is to be acted on.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A record is committed, and this is its id. Within a stream these come in
    /// the order of the ids, whoever appended them: where several servers share a
    /// store, each is told of the records of the others, too.
    Committed {
        /// The id it got.
        id: u64,
        /// The record.
        record: Record,
        /// As given with the append; `None` for a record that another server appended.
        ticket: Option<Ticket>,
        /// The weight of the append that this answers; 0 where it answers none, since
        /// another server appended the record.
        weight: usize,
    },
    /// An append had a key that one before it had, on the same stream and within
    /// the window: it is not stored, and this is what was stored then.
    Repeated {
        /// The id that the first one got.
        id: u64,
        /// The first one.
        record: Record,
        /// As given with this append.
        ticket: Option<Ticket>,
        /// The weight of the record that is not stored.
        weight: usize,
    },
    /// An append was not stored and will not be.
    Refused {
        /// As given with the append.
        ticket: Option<Ticket>,
        /// The weight that the record had.
        weight: usize,
        /// Why.
        error: EngineError,
    },
    /// Answers [`Query::Page`] and [`Query::List`]. All records asked for with
    /// `after < id <= through` are in it, and nothing else: where it was cut, `through` is the id
    /// of the last one that was looked at, else the newest committed id, or the one that was asked for.
    Page {
        /// As given with the query.
        ticket: Ticket,
        /// With their ids, oldest first.
        records: Vec<(u64, Record)>,
        /// The id up to which the page is complete.
        through: u64,
        /// The oldest id of its sequence that was kept when it was read.
        oldest: u64,
    },
    /// Answers [`Query::Count`].
    Count {
        /// As given with the query.
        ticket: Ticket,
        /// How many.
        count: u64,
        /// Whether there are more.
        is_cut: bool,
        /// The oldest id of their sequence that was kept when they were counted.
        oldest: u64,
    },
    /// Answers [`Query::Span`].
    Span {
        /// As given with the query.
        ticket: Ticket,
        /// `None` where there are no such records.
        span: Option<Span>,
    },
    /// Answers [`Query::Names`].
    Names {
        /// As given with the query.
        ticket: Ticket,
        /// Each with its count.
        names: Vec<(String, u64)>,
        /// After what to ask for more; `None` where that was all.
        next: Option<Mark>,
    },
    /// Answers [`Query::ChannelDetails`].
    ChannelDetails {
        /// As given with the query.
        ticket: Ticket,
        /// Sorted by the bytes of their names.
        channels: Vec<ChannelDetail>,
        /// Whether there may be more of them.
        is_cut: bool,
    },
    /// Answers [`Query::Totals`].
    Totals {
        /// As given with the query.
        ticket: Ticket,
        /// How many messages are stored.
        messages: u64,
        /// The sum of their token counts; it saturates.
        tokens: i64,
    },
    /// The first record or name of a slice weighs more than it may.
    TooLarge {
        /// As given with the query.
        ticket: Ticket,
    },
    /// A query could not be answered.
    Failed {
        /// As given with the query.
        ticket: Ticket,
        /// Why.
        error: EngineError,
    },
}

/// Bytes of records and names in the answers of one [`Engine::settle`] after which no further question is
/// looked up in it.
pub const SETTLE_BYTES_MAX: usize = 1 << 20;

impl Answer {
    /// Bytes that the answer to a question takes in memory, about.
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

/// Bytes that a name with its count takes in memory, about.
#[must_use]
pub const fn name_weight(name: &str) -> usize {
    48 + name.len()
}

/// Why the engine could not do what it was asked: the world's fault, never the peer's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineError(pub String);

impl fmt::Display for EngineError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for EngineError {}

/// Whether the store can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// As far as is known.
    Sound,
    /// The last attempt failed, for this reason; attempts go on.
    Degraded(String),
}

/// The transactions that have stored something, and what became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commits {
    /// Microseconds that each took.
    pub duration_us: Histogram,
    /// Records that each has stored.
    pub records: Histogram,
    /// Microseconds that each checkpoint took, which copies the write-ahead log back into the file.
    pub checkpoint_us: Histogram,
    /// Bytes of the write-ahead log that are yet to be copied back, about.
    pub wal_pending_bytes: u64,
    /// Records that are in the file and that a search does not find: it is damaged.
    pub faults: u64,
}

/// Stores records and gives them back, later. No id is above [`crate::wire::protocol::ID_MAX`]: an append that would get one
/// is refused.
pub trait Engine {
    /// Which engine it is, as `/api/health` says.
    fn kind(&self) -> &'static str;

    /// From when ids are: what clients are told of it, and what is believed of theirs. The same as long as the
    /// process runs, also where it fails to store that it has begun.
    fn terms(&self) -> &Terms;

    /// Milliseconds for which the key of an append is remembered.
    fn idempotency_window_ms(&self) -> u64;

    /// The newest committed message id, over all channels; 0 where there is none.
    fn newest_message(&self) -> u64;

    /// The newest committed event id; 0 where there is none.
    fn newest_event(&self) -> u64;

    /// The oldest message id that is kept, over all channels; one above the newest where none is.
    fn oldest_message(&self) -> u64;

    /// The oldest event id that is kept; one above the newest where none is.
    fn oldest_event(&self) -> u64;

    /// Takes `record` in, to be committed with all others of this turn. Appends are
    /// answered in the order in which they were taken in, of whatever stream. Answered
    /// by [`Answer::Committed`], [`Answer::Refused`] or, where `key` was used
    /// before, [`Answer::Repeated`].
    fn append(&mut self, record: Record, key: Option<Rc<str>>, ticket: Option<Ticket>);

    /// Takes a question in. Answered by the answer of its name or [`Answer::Failed`].
    fn ask(&mut self, query: Query, ticket: Ticket);

    /// Does what is due and appends the answers that are ready: first those of
    /// appends, then those of at most `reads_max` steps of questions, or of fewer once they weigh
    /// [`SETTLE_BYTES_MAX`]. Never blocks on anything but the store itself.
    fn settle(&mut self, now: Now, reads_max: usize, answers: &mut Vec<Answer>);

    /// Does what is due and concerns nobody who waits. Comes after a turn, when all that was
    /// answered is sent.
    fn rest(&mut self, _now: Now) {}

    /// Milliseconds until [`Engine::settle`] or [`Engine::rest`] has something to do, 0 for at
    /// once; `None` where there is nothing to do until it is asked.
    fn due_in_ms(&self, now: Now) -> Option<u64>;

    /// Whether records can be stored, as of the last attempt.
    fn health(&self) -> &Health;

    /// Whether what is committed outlives the process.
    fn is_storing(&self) -> bool {
        true
    }

    /// The transactions so far; `None` where there are none that would take time.
    fn commits(&self) -> Option<&Commits> {
        None
    }
}

/// Which engine it is may be decided at the start.
impl Engine for Box<dyn Engine> {
    fn kind(&self) -> &'static str {
        (**self).kind()
    }

    fn terms(&self) -> &Terms {
        (**self).terms()
    }

    fn idempotency_window_ms(&self) -> u64 {
        (**self).idempotency_window_ms()
    }

    fn newest_message(&self) -> u64 {
        (**self).newest_message()
    }

    fn newest_event(&self) -> u64 {
        (**self).newest_event()
    }

    fn oldest_message(&self) -> u64 {
        (**self).oldest_message()
    }

    fn oldest_event(&self) -> u64 {
        (**self).oldest_event()
    }

    fn append(&mut self, record: Record, key: Option<Rc<str>>, ticket: Option<Ticket>) {
        (**self).append(record, key, ticket);
    }

    fn ask(&mut self, query: Query, ticket: Ticket) {
        (**self).ask(query, ticket);
    }

    fn settle(&mut self, now: Now, reads_max: usize, answers: &mut Vec<Answer>) {
        (**self).settle(now, reads_max, answers);
    }

    fn rest(&mut self, now: Now) {
        (**self).rest(now);
    }

    fn due_in_ms(&self, now: Now) -> Option<u64> {
        (**self).due_in_ms(now)
    }

    fn health(&self) -> &Health {
        (**self).health()
    }

    fn is_storing(&self) -> bool {
        (**self).is_storing()
    }

    fn commits(&self) -> Option<&Commits> {
        (**self).commits()
    }
}
