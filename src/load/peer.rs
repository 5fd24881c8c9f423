//! One connection of the load generator. An idle one is one cache line, as in the server.

use crate::base::frame::Outbox;
use crate::wire::websocket::message::MessageDecoder;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Echo,
    /// It receives everything that is published, at its own pace or slowly.
    Subscriber {
        /// Whether it reads a little at a time.
        slow: bool,
    },
    Poster,
    /// It completes the handshake and then does nothing.
    HalfOpen,
    /// It never finishes its request.
    Dribbler,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It has no socket yet, or has lost it and is to get another one.
    Closed,
    /// It is connecting, and waits for the answer to its handshake.
    Handshake,
    Open,
    Ended,
}

#[derive(Debug)]
pub struct Peer<S> {
    pub socket: Option<S>,
    /// The number of the message that it receives next, or its position in the order.
    pub position: u32,
    pub sent: u32,
    /// The id of the last message that it received, to resume from.
    pub last_id: u64,
    /// The received bytes of something unfinished.
    pub inbox: Option<Box<Inbox>>,
    /// What is still to be written; never empty.
    pub outbox: Option<Box<Outbox>>,
    /// Its number as a publisher, or [`NO_PUBLISHER`].
    pub publisher: u16,
    pub role: Role,
    pub phase: Phase,
    /// Whether it is in the queue of those to be read.
    pub is_queued: bool,
    /// Whether to read it until its socket is empty.
    pub to_end: bool,
}

/// The number of a connection that publishes nothing.
pub const NO_PUBLISHER: u16 = u16::MAX;

const _: () = assert!(size_of::<Peer<u32>>() <= 64);

#[derive(Debug, Default)]
pub struct Inbox {
    /// Bytes that are not decoded yet.
    pub rest: Vec<u8>,
    pub decoder: MessageDecoder,
    /// When the connect began.
    pub since_us: u64,
}

impl<S> Peer<S> {
    /// A connection that is not open yet.
    pub const fn new(role: Role, publisher: u16) -> Self {
        Self {
            socket: None,
            position: 0,
            sent: 0,
            last_id: 0,
            inbox: None,
            outbox: None,
            publisher,
            role,
            phase: Phase::Closed,
            is_queued: false,
            to_end: false,
        }
    }

    /// Its socket is closed, and what was unfinished is forgotten.
    pub fn close(&mut self, phase: Phase) {
        self.phase = phase;
        self.socket = None;
        self.inbox = None;
        self.outbox = None;
    }

    /// Whether it breaks the rules on purpose.
    pub const fn is_unruly(&self) -> bool {
        matches!(self.role, Role::HalfOpen | Role::Dribbler)
    }
}
