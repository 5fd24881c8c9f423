//! A connection. An idle one is one cache line: what is in progress lives in its
//! inbox and its outbox, which do not exist while nothing is.

use slab::Slab;

use crate::base::deadline::{Link, Links};
use crate::base::frame::Outbox;
use crate::base::id::{Id, NONE};
use crate::base::time::Stamp;
use crate::hub::entry::Encoding;
use crate::wire::http::decoder::RequestDecoder;
use crate::wire::protocol::Sequence;
use crate::wire::v1::Place;
use crate::wire::websocket::message::MessageDecoder;

/// One peer.
#[derive(Debug)]
pub struct Connection<S> {
    /// The way to it.
    pub socket: S,
    /// Tells it from others that had or will have its place in the slab.
    pub generation: u32,
    /// Its channel, or [`NONE`]; set exactly while it is a member.
    pub channel: u32,
    /// Its place among the channel's members.
    pub slot: u32,
    /// The id up to which it has been sent everything of its channel.
    pub cursor: u64,
    /// Its place on the FIFO that its phase names.
    pub deadline: Link,
    /// When it last gave a sign of life: bytes, or room in a socket that was full.
    pub heard: Stamp,
    /// What has arrived of something unfinished.
    pub inbox: Option<Box<Inbox>>,
    /// What is still to be written; never empty.
    pub outbox: Option<Box<Outbox>>,
    /// Appends and questions whose answers it waits for, as an HTTP client.
    pub pending: u16,
    /// What is being done with it.
    pub phase: Phase,
    /// Whether and why it is read.
    pub reading: Reading,
    /// Whether and why it is written.
    pub writing: Writing,
    /// The queues that its id is in. It stays there if the connection does not wait for its turn any more, and
    /// serves again if it does.
    pub queues: Queues,
    /// How it gets its messages.
    pub encoding: Encoding,
}

// The promise of very many idle connections, kept by the compiler: one cache line
// with a socket of four bytes, and the slab adds nothing to it.
const _: () = assert!(size_of::<Connection<u32>>() <= 64);
const _: () = assert!(size_of::<Option<Connection<u32>>>() == size_of::<Connection<u32>>());

/// A queue of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Queue {
    /// Of those to be read.
    Read = 1,
    /// Of those to be flushed.
    Flush = 2,
}

/// Those that a connection is in, each once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Queues(u8);

impl Queues {
    /// Whether it is in that one.
    #[must_use]
    pub const fn has(self, queue: Queue) -> bool {
        self.0 & queue as u8 != 0
    }

    /// Enters one; returns whether it was not there.
    pub const fn enter(&mut self, queue: Queue) -> bool {
        let is_new = !self.has(queue);
        self.0 |= queue as u8;
        is_new
    }

    /// Leaves one.
    pub const fn leave(&mut self, queue: Queue) {
        self.0 &= !(queue as u8);
    }
}

/// What is being done with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The first request is arriving.
    Handshake,
    /// A later request is arriving, or one is being answered, or its response sent.
    Request,
    /// The next request is waited for.
    KeepAlive,
    /// A WebSocket is open at this endpoint.
    Open(Endpoint),
    /// Our Close is sent, the peer's is waited for (RFC 6455 7.1.2).
    Closing,
    /// Nothing more is read; what is in the outbox is still sent.
    Ending(Farewell),
    /// Everything is sent and the peer told so; its end is waited for, so that a
    /// reset does not destroy what it has yet to read.
    Lingering(Farewell),
    /// To be dropped at the end of the turn.
    Dead,
}

/// What the peer of a connection that ends may still be doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Farewell {
    /// Nothing: both Closes were sent, or the last request was answered. Only the end of
    /// its TCP connection is missing.
    Mutual,
    /// It was cut short, and may be in the midst of sending.
    OneSided,
}

/// What a WebSocket is open for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `/ws`: all events.
    Events(Level),
    /// `/api/ws/{channel_id}`: the messages of a channel.
    Channel(Level),
    /// `/api/ws`: everything comes back.
    Echo,
}

/// What a connection is, as `/api/connections` and metrics say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It speaks HTTP.
    Http,
    /// A subscriber of events.
    Events,
    /// A subscriber of a channel.
    Channel,
    /// A WebSocket that gets everything back.
    Echo,
    /// It is being ended.
    Closing,
}

impl Kind {
    /// The name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Events => "events",
            Self::Channel => "channel",
            Self::Echo => "echo",
            Self::Closing => "closing",
        }
    }
}

impl Phase {
    /// What a connection in this phase is.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::Handshake | Self::Request | Self::KeepAlive => Kind::Http,
            Self::Open(Endpoint::Events(_)) => Kind::Events,
            Self::Open(Endpoint::Channel(_)) => Kind::Channel,
            Self::Open(Endpoint::Echo) => Kind::Echo,
            Self::Closing | Self::Ending(_) | Self::Lingering(_) | Self::Dead => Kind::Closing,
        }
    }
}

/// Which messages a subscriber gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Those of the two old services, and no others.
    Base,
    /// Those of `polecat.v1`; what it missed is not through yet.
    Replaying,
    /// Those of `polecat.v1`; it was told that it is live.
    Live,
}

impl Endpoint {
    /// The sequence and the level of a subscriber; `None` for an echo.
    #[must_use]
    pub const fn subscription(self) -> Option<(Sequence, Level)> {
        match self {
            Self::Events(level) => Some((Sequence::Events, level)),
            Self::Channel(level) => Some((Sequence::Messages, level)),
            Self::Echo => None,
        }
    }

    /// The same endpoint at another level.
    #[must_use]
    pub const fn at_level(self, level: Level) -> Self {
        match self {
            Self::Events(_) => Self::Events(level),
            Self::Channel(_) => Self::Channel(level),
            Self::Echo => Self::Echo,
        }
    }
}

/// Whether a connection is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// The socket was read empty; a readiness event marks it again.
    Idle,
    /// It is in the queue of those to be read.
    Queued,
    /// The same, until the socket says that it is empty: more may be there than an
    /// event has told of, or the end.
    QueuedToEmpty,
    /// It has yet to take what it asked for: it is read again when its outbox is empty.
    Full,
    /// All connections together hold too much that is unsent: it is read again when there is room.
    NoRoom,
    /// The engine has too much to do: it is read again when that has caught up.
    Stalled,
    /// An answer that it waits for has to be sent before what follows.
    Awaiting,
    /// It is not read any more.
    Over,
}

/// Whether a connection is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writing {
    /// The socket takes bytes, as far as is known, and nothing is left to be sent.
    Ready,
    /// It is in the queue of those to be flushed.
    Queued,
    /// The socket is full; a readiness event queues it.
    Blocked,
    /// A page of history is waited for, or how much of it there is.
    Paging,
    /// All connections together hold too much that is unsent: history goes on when there is room.
    NoRoom,
}

/// What has arrived of something unfinished.
#[derive(Debug)]
pub struct Inbox {
    /// Bytes that are not decoded yet.
    pub rest: Vec<u8>,
    /// What this inbox counts for among all of them.
    pub bytes: usize,
    /// How far the decoding is.
    pub decoder: Decoder,
}

/// How far the decoding of a request or a message is.
#[derive(Debug)]
pub enum Decoder {
    /// Before the handshake.
    Http(RequestDecoder),
    /// After it.
    WebSocket(MessageDecoder),
}

impl Decoder {
    /// Bytes held of an unfinished message.
    #[must_use]
    pub const fn buffered_bytes(&self) -> usize {
        match self {
            Self::Http(_) => 0,
            Self::WebSocket(decoder) => decoder.buffered_bytes(),
        }
    }

    /// Whether there is nothing to remember.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        match self {
            Self::Http(decoder) => decoder.is_idle(),
            Self::WebSocket(decoder) => decoder.is_idle(),
        }
    }
}

impl<S> Connection<S> {
    /// A connection that was just accepted.
    pub fn new(socket: S, generation: u32, now: Stamp) -> Self {
        Self {
            socket,
            generation,
            channel: NONE,
            slot: NONE,
            cursor: 0,
            deadline: Link::default(),
            heard: now,
            inbox: None,
            outbox: None,
            pending: 0,
            phase: Phase::Handshake,
            reading: Reading::Idle,
            writing: Writing::Ready,
            queues: Queues::default(),
            encoding: Encoding::Plain,
        }
    }

    /// Its id, given its index.
    pub const fn id(&self, index: u32) -> Id {
        Id { index, generation: self.generation }
    }

    /// Bytes in the outbox that are neither of a shared frame nor static.
    #[must_use]
    pub fn private_bytes(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.private_bytes())
    }

    /// What messages of `polecat.v1` to it have in common; `None` where it is no
    /// subscriber.
    pub fn place<'a>(&self, timestamp: &'a str) -> Option<Place<'a>> {
        let Phase::Open(endpoint) = self.phase else { return None };
        let (sequence, _) = endpoint.subscription()?;
        Some(Place { sequence, cursor: self.cursor, timestamp })
    }

    /// Whether it is a subscriber that takes less than it is sent: its socket is full, or
    /// history is being read for it, or waits for room.
    pub const fn is_lagging(&self) -> bool {
        self.channel != NONE && matches!(self.writing, Writing::Blocked | Writing::Paging | Writing::NoRoom)
    }

    /// Whether it speaks HTTP.
    pub const fn is_http(&self) -> bool {
        matches!(self.phase, Phase::Handshake | Phase::Request | Phase::KeepAlive)
    }

    /// Whether what it has sent is worked on, as far as that waits for nothing.
    pub const fn may_go_on(&self) -> bool {
        matches!(self.reading, Reading::Idle | Reading::Queued | Reading::QueuedToEmpty)
    }

    /// Whether it is our doing that what it has sent is not read yet.
    #[must_use]
    pub const fn is_unread(&self) -> bool {
        match self.reading {
            Reading::Queued | Reading::QueuedToEmpty | Reading::Stalled => true,
            // Who has something to take shows by that that it lives.
            Reading::NoRoom => self.outbox.is_none(),
            Reading::Idle | Reading::Full | Reading::Awaiting | Reading::Over => false,
        }
    }

    /// Whether it is our doing that it is not sent what there is.
    #[must_use]
    pub const fn is_unwritten(&self) -> bool {
        matches!(self.writing, Writing::Queued)
    }

    /// Whether nothing is lost where the process ends now: our end is sent, the peer has
    /// nothing more to say, and what it did say is read.
    #[must_use]
    pub const fn is_let_go(&self) -> bool {
        matches!(self.phase, Phase::Lingering(Farewell::Mutual)) && matches!(self.reading, Reading::Idle)
    }

    /// Whether a request is being worked on.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.inbox.is_some() || self.outbox.is_some() || self.pending > 0
    }
}

impl<S> Links for Slab<Connection<S>> {
    fn link(&mut self, index: u32) -> &mut Link {
        &mut self[index as usize].deadline
    }
}
