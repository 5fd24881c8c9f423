//! A connection. An idle one is one cache line: what is in progress lives in its
//! inbox and its outbox, which do not exist while nothing is.

use slab::Slab;

use crate::ground::deadline::{Link, Links};
use crate::ground::frame::{Frame, Outbox};
use crate::ground::id::{Id, NONE};
use crate::ground::time::Stamp;
use crate::wire::http::RequestDecoder;
use crate::wire::message::MessageDecoder;

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
}

// The promise of very many idle connections, kept by the compiler: one cache line
// with a socket of four bytes, and the slab adds nothing to it.
const _: () = assert!(size_of::<Connection<u32>>() <= 64);
const _: () = assert!(size_of::<Option<Connection<u32>>>() == size_of::<Connection<u32>>());

/// What is being done with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// A request is arriving, being answered, or its response being sent.
    Request,
    /// The next request is waited for.
    KeepAlive,
    /// A WebSocket is open at this endpoint.
    Open(Endpoint),
    /// Our Close is sent, the peer's is waited for (RFC 6455 7.1.2).
    Closing,
    /// Nothing more is read; what is in the outbox is still sent.
    Ending,
    /// Everything is sent and the peer told so; its end is waited for, so that a
    /// reset does not destroy what it has yet to read.
    Lingering,
    /// To be dropped at the end of the turn.
    Dead,
}

/// What a WebSocket is open for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `/ws`: all events.
    Events,
    /// `/api/ws/{channel_id}`: the messages of a channel.
    Channel,
    /// `/api/ws`: everything comes back.
    Echo,
}

/// Whether a connection is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// The socket was read empty; a readiness event marks it again.
    Idle,
    /// It is in the queue of those to be read.
    Queued,
    /// The same, and the end of the stream is in sight.
    QueuedToEnd,
    /// It does not read what it asked for: it is read again when its outbox is empty.
    Full,
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
    /// A page of history is waited for.
    Paging,
}

/// What has arrived of something unfinished.
#[derive(Debug)]
pub struct Inbox {
    /// Bytes that are not decoded yet.
    pub rest: Vec<u8>,
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
            phase: Phase::Request,
            reading: Reading::Idle,
            writing: Writing::Ready,
        }
    }

    /// Its id, given its index.
    pub const fn id(&self, index: u32) -> Id {
        Id { index, generation: self.generation }
    }

    /// Bytes in the outbox.
    #[must_use]
    pub fn outbox_bytes(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.len())
    }

    /// Appends a copy of `bytes` to the outbox.
    pub fn push(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.outbox.get_or_insert_default().push(bytes);
        }
    }

    /// Appends the rest of a partly written frame to the outbox.
    pub fn push_shared(&mut self, frame: Frame, start: usize) {
        if start < frame.len() {
            self.outbox.get_or_insert_default().push_shared(frame, start);
        }
    }

    /// Whether it is our doing that what it has sent is not read yet.
    #[must_use]
    pub const fn is_unread(&self) -> bool {
        matches!(self.reading, Reading::Queued | Reading::QueuedToEnd | Reading::Stalled)
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
