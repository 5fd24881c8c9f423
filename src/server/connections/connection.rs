//! A connection. An idle one is one cache line: what is in progress lives in its
//! inbox and its outbox, which do not exist while nothing is.

use core::net::SocketAddr;

use slab::Slab;

use crate::base::deadline::{Link, Links};
use crate::base::frame::Outbox;
use crate::base::id::{Id, NONE};
use crate::base::time::Stamp;
use crate::hub::entry::Encoding;
use crate::hub::member::Replay;
use crate::server::socket::Socket;
use crate::wire::http::decoder::RequestDecoder;
use crate::wire::websocket::message::MessageDecoder;

/// One peer.
#[derive(Debug)]
pub struct Connection<S> {
    /// The way to it.
    pub(super) socket: S,
    /// Tells it from others that had or will have its place in the slab.
    pub(super) generation: u32,
    /// What it subscribes to; it has a channel exactly while it is a member.
    pub(super) subscription: Subscription,
    /// Its place on the FIFO that its phase names.
    pub(super) deadline: Link,
    /// When it last gave a sign of life: bytes, or room in a socket that was full.
    pub(super) heard: Stamp,
    /// What has arrived of something unfinished.
    pub(super) inbox: Option<Box<Inbox>>,
    /// What is still to be written; never empty.
    pub(super) outbox: Option<Box<Outbox>>,
    /// Appends and queries whose answers it waits for, as an HTTP client.
    pub(super) pending: u16,
    /// Its state between the accept and the end.
    pub(super) phase: Phase,
    /// Whether and why it is read.
    pub(super) reading: ReadState,
    /// Whether and why it is written.
    pub(super) writing: WriteState,
    /// The queues that its id is in. The id stays there if the connection no longer waits for its turn, and
    /// serves again if it does.
    pub(super) queues: Queues,
    /// How it gets its messages.
    pub(super) encoding: Encoding,
}

// The promise of very many idle connections, kept by the compiler: one cache line
// with a socket of four bytes, and the slab adds nothing to it.
const _: () = assert!(size_of::<Connection<u32>>() <= 64);
const _: () = assert!(size_of::<Option<Connection<u32>>>() == size_of::<Connection<u32>>());

/// A queue of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Queue {
    /// Of those to be read.
    Read = 1,
    /// Of those to be flushed.
    Flush = 2,
}

/// Those that a connection is in, each once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Queues(u8);

impl Queues {
    /// Whether it is in that one.
    pub(super) const fn has(self, queue: Queue) -> bool {
        self.0 & queue as u8 != 0
    }

    /// Enters one; returns whether it was not there.
    pub(super) const fn enter(&mut self, queue: Queue) -> bool {
        let is_new = !self.has(queue);
        self.0 |= queue as u8;
        is_new
    }

    /// Leaves one.
    pub(super) const fn leave(&mut self, queue: Queue) {
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
    /// A WebSocket is open.
    Open(Protocol, Replay),
    /// Our Close is sent, the peer's is waited for (RFC 6455 7.1.2).
    Closing,
    /// Nothing more is read; what is in the outbox is still sent.
    Ending(CloseKind),
    /// Everything is sent and the peer told so; its end is waited for, so that a
    /// reset does not destroy what it has yet to read.
    Lingering(CloseKind),
    /// To be dropped at the end of the turn.
    Dead,
}

impl Phase {
    /// Whether everything comes back.
    pub(super) const fn is_echo(self) -> bool {
        matches!(self, Self::Open(Protocol::Echo, _))
    }
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseKind {
    /// Both Closes were sent, or the last request was answered. Only the end of
    /// its TCP connection is missing.
    Clean,
    /// It was cut short, and may be in the middle of sending.
    Abrupt,
}

/// The protocol that an open WebSocket speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Everything comes back (`/api/ws`).
    Echo,
    /// That of the two old services.
    Base,
    /// `polecat.v1`.
    V1,
    /// `polecat.v1` with many channels (`/api/stream`).
    Many,
}

/// A member of a channel: what a connection subscribes to, and how far it has got.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subscription {
    /// The id up to which everything of the channel was sent.
    pub(super) cursor: u64,
    /// The channel, or [`NONE`].
    pub(super) channel: u32,
    /// The place among the channel's members. Of a connection that may have many: the key of their set.
    pub(super) slot: u32,
}

impl Subscription {
    pub(super) const NONE: Self = Self { cursor: 0, channel: NONE, slot: NONE };
}

/// The kind of a connection, as `/api/connections` and metrics name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionKind {
    /// It speaks HTTP.
    Http,
    /// A subscriber of events.
    Events,
    /// A subscriber of a channel.
    Channel,
    /// A subscriber of any number of channels.
    Stream,
    /// A WebSocket that gets everything back.
    Echo,
    /// It is being ended.
    Closing,
}

impl ConnectionKind {
    /// The name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Events => "events",
            Self::Channel => "channel",
            Self::Stream => "stream",
            Self::Echo => "echo",
            Self::Closing => "closing",
        }
    }
}

/// Whether a connection is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadState {
    /// The socket was read empty; a readiness event queues the connection again.
    Idle,
    /// It is in the queue of those to be read.
    Queued,
    /// The same, until the socket says that it is empty: more may be there than an
    /// event has told of, or the end.
    QueuedToEmpty,
    /// It has yet to take what it asked for: it is read again when its outbox is empty.
    Backpressured,
    /// All connections together hold too much that is unsent: it is read again when there is room.
    AwaitingRoom,
    /// The store, or the encoders, have too much to do: it is read again when they have caught up.
    Stalled,
    /// A response that it waits for must be sent before what follows.
    AwaitingResponse,
    /// It is not read any more.
    Closed,
}

/// Whether a connection is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteState {
    /// The socket takes bytes, as far as is known, and nothing is left to be sent.
    Ready,
    /// It is in the queue of those to be flushed.
    Queued,
    /// The socket is full; a readiness event queues it.
    Blocked,
    /// A page of history, or the count of what was missed, was asked for.
    AwaitingHistory,
    /// All connections together hold too much that is unsent: history goes on when there is room.
    AwaitingRoom,
}

/// What has arrived of something unfinished.
#[derive(Debug)]
pub(in crate::server) struct Inbox {
    /// Bytes that are not decoded yet.
    pub(in crate::server) rest: Vec<u8>,
    /// What this inbox counts for among all of them.
    pub(in crate::server) bytes: usize,
    /// How far the decoding is.
    pub(in crate::server) decoder: Decoder,
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
    /// That of a connection in `phase`; `None` if its input is thrown away. It is read nonetheless: a socket
    /// that is closed with bytes unread resets the connection.
    #[must_use]
    pub fn of(phase: Phase) -> Option<Self> {
        match phase {
            Phase::Handshake | Phase::Request | Phase::KeepAlive => {
                Some(Self::Http(RequestDecoder::default()))
            }
            Phase::Open(..) | Phase::Closing => Some(Self::WebSocket(MessageDecoder::default())),
            Phase::Ending(_) | Phase::Lingering(_) | Phase::Dead => None,
        }
    }

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
    pub(super) fn new(socket: S, generation: u32, now: Stamp) -> Self {
        Self {
            socket,
            generation,
            subscription: Subscription::NONE,
            deadline: Link::default(),
            heard: now,
            inbox: None,
            outbox: None,
            pending: 0,
            phase: Phase::Handshake,
            reading: ReadState::Idle,
            writing: WriteState::Ready,
            queues: Queues::default(),
            encoding: Encoding::Plain,
        }
    }

    /// Its id, given its index.
    pub const fn id(&self, index: u32) -> Id {
        Id { index, generation: self.generation }
    }

    /// What is being done with it.
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether and why it is read.
    pub const fn read_state(&self) -> ReadState {
        self.reading
    }

    /// Whether and why it is written.
    pub const fn write_state(&self) -> WriteState {
        self.writing
    }

    /// The index of its channel; `None` if it is not a subscriber.
    pub const fn channel(&self) -> Option<u32> {
        if self.subscription.channel == NONE { None } else { Some(self.subscription.channel) }
    }

    /// The set of its subscriptions, if it may have many.
    #[inline]
    pub const fn set(&self) -> Option<u32> {
        match self.phase {
            Phase::Open(Protocol::Many, _) if self.subscription.slot != NONE => Some(self.subscription.slot),
            _ => None,
        }
    }

    /// Its place among the members of its channel.
    pub const fn slot(&self) -> u32 {
        self.subscription.slot
    }

    /// The id up to which it has been sent everything of its channel.
    pub const fn cursor(&self) -> u64 {
        self.subscription.cursor
    }

    /// How it gets its messages.
    pub const fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// When it last gave a sign of life.
    pub const fn heard(&self) -> Stamp {
        self.heard
    }

    /// Whether an answer of the store, or a turn of its own, must come before its next response.
    pub const fn awaits_response(&self) -> bool {
        self.pending > 0
    }

    /// How many responses it waits for.
    pub const fn responses_awaited(&self) -> u16 {
        self.pending
    }

    /// Whether anything waits to be sent to it.
    pub const fn has_unsent(&self) -> bool {
        self.outbox.is_some()
    }

    /// Bytes that wait to be sent to it.
    pub fn unsent_bytes(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.len())
    }

    /// Bytes held of something unfinished that has arrived.
    pub fn inbox_bytes(&self) -> usize {
        self.inbox.as_ref().map_or(0, |inbox| inbox.bytes)
    }

    /// The undecoded beginning of something unfinished that has arrived; `None` if nothing has.
    pub fn unfinished(&self) -> Option<&[u8]> {
        self.inbox.as_ref().map(|inbox| &inbox.rest[..])
    }

    /// Bytes in the outbox that are neither of a shared frame nor static.
    #[must_use]
    pub fn private_bytes(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.private_bytes())
    }

    /// Whether it is a subscriber that takes less than it is sent: its socket is full, or
    /// history is being read for it, or waits for room.
    pub const fn is_lagging(&self) -> bool {
        self.subscription.channel != NONE
            && matches!(
                self.writing,
                WriteState::Blocked | WriteState::AwaitingHistory | WriteState::AwaitingRoom
            )
    }

    /// Whether it speaks HTTP.
    pub const fn is_http(&self) -> bool {
        matches!(self.phase, Phase::Handshake | Phase::Request | Phase::KeepAlive)
    }

    /// Whether its input is worked on, as far as that waits for nothing.
    pub const fn may_go_on(&self) -> bool {
        matches!(self.reading, ReadState::Idle | ReadState::Queued | ReadState::QueuedToEmpty)
    }

    /// Whether its input is not read yet because of us.
    #[must_use]
    pub const fn is_unread(&self) -> bool {
        match self.reading {
            ReadState::Queued | ReadState::QueuedToEmpty | ReadState::Stalled => true,
            // A peer that has something to take shows that it lives by taking it.
            ReadState::AwaitingRoom => self.outbox.is_none(),
            ReadState::Idle | ReadState::Backpressured | ReadState::AwaitingResponse | ReadState::Closed => {
                false
            }
        }
    }

    /// Whether its messages are not sent yet because of us.
    #[must_use]
    pub const fn is_unwritten(&self) -> bool {
        matches!(self.writing, WriteState::Queued)
    }

    /// Whether nothing is lost if the process ends now: our end is sent, the peer has
    /// nothing more to say, and what it did say is read.
    #[must_use]
    pub const fn is_let_go(&self) -> bool {
        matches!(self.phase, Phase::Lingering(CloseKind::Clean)) && matches!(self.reading, ReadState::Idle)
    }

    /// Whether a request is being worked on.
    #[must_use]
    pub const fn is_busy(&self) -> bool {
        self.inbox.is_some() || self.outbox.is_some() || self.pending > 0
    }
}

impl<S: Socket> Connection<S> {
    /// The peer's address, if it is known.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.socket.peer()
    }
}

impl<S> Links for Slab<Connection<S>> {
    fn link(&mut self, index: u32) -> &mut Link {
        &mut self[index as usize].deadline
    }
}
