//! What the server's state lives in, and what concerns several owners at once: a connection that is ended leaves its
//! channel, and a message for one connection alone is encoded as that one wants it.

use crate::base::config::Config;
use crate::base::id::Id;
use crate::base::limit::Limit;
use crate::base::time::{AttendedClock, Now};
use crate::hub::member::{Member, Subscriber};
use crate::hub::registry::Registry;
use crate::hub::subscriptions::{State, Subscriptions};
use crate::store::engine::{Engine, Stream};
use crate::wire::protocol::{Position, Sequence};
use crate::wire::v1::EnvelopeContext;
use crate::wire::websocket::codec::{self, CloseCode, OpCode};

use super::connections::{CloseReason, Connection, ConnectionKind, Connections, Phase, Protocol, Sent};
use super::drain::Drain;
use super::encoders::Encoders;
use super::metrics::Metrics;
use super::socket::Socket;
use super::store::Store;
use super::turn_time::TurnTime;

/// The owners of all state, each with private fields. Functions are given this and what they are to do.
pub(super) struct Owners<S> {
    pub(super) config: Config,
    pub(super) connections: Connections<S>,
    pub(super) hub: Registry,
    pub(super) subscriptions: Subscriptions,
    pub(super) store: Store,
    pub(super) encoders: Encoders,
    pub(super) metrics: Metrics,
    pub(super) clock: AttendedClock,
    pub(super) time: TurnTime,
    pub(super) random: fastrand::Rng,
    /// How far a shutdown is, once it was asked for.
    pub(super) drain: Option<Drain>,
}

impl<S: Socket> Owners<S> {
    /// Those of a server without connections; see [`super::server::Server::new`].
    pub(super) fn new(config: Config, engine: Box<dyn Engine>, seed: u64, now: Now) -> Self {
        let hub =
            Registry::new(&config.limits, &config.timeouts, engine.newest_message(), engine.newest_event());
        Self {
            connections: Connections::new(&config.limits),
            store: Store::new(engine, config.limits.engine_backlog_bytes_max),
            config,
            hub,
            subscriptions: Subscriptions::default(),
            encoders: Encoders::default(),
            metrics: Metrics::default(),
            clock: AttendedClock::new(now),
            time: TurnTime::new(now),
            random: fastrand::Rng::with_seed(seed),
            drain: None,
        }
    }

    /// Whether the server stops.
    pub(super) const fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// Every budget is whole again.
    pub(super) fn begin_turn(&mut self) {
        self.metrics.turns += 1;
        self.store.begin_turn(self.config.budgets.appends);
        self.encoders.begin_turn(self.config.budgets.coded_bytes);
    }

    /// Whether the store takes in a record of a connection; if not, it is not read until the store has caught up.
    pub(super) fn may_publish(&mut self, index: u32) -> bool {
        let may_append = self.store.may_append();
        if !may_append {
            if self.store.is_behind() {
                self.metrics.limits.count(Limit::EngineBacklogBytes);
            }
            self.connections.stall(index);
        }
        may_append
    }

    /// Lets publishers go on when the engine has caught up.
    pub(super) fn resume_stalled(&mut self) {
        if !self.store.is_behind() {
            self.connections.resume_stalled();
        }
    }

    /// Whether anything is to be done without delay.
    pub(super) fn has_work(&self) -> bool {
        self.connections.has_queued()
            || self.store.has_pages()
            || self.store.has_history_due(self.config.budgets.engine_reads)
            || self.hub.has_sweeps()
            || self.hub.has_notices()
            || self.subscriptions.has_requests()
            || self.subscriptions.has_ended()
    }

    /// What the connection at `index` subscribes to; `None` if it is not a subscriber.
    pub(super) fn stream(&self, index: u32) -> Option<&Stream> {
        Some(self.hub.stream(self.connections.at(index).channel()?))
    }

    /// What a connection is, as clients are told it.
    pub(super) fn kind(&self, connection: &Connection<S>) -> ConnectionKind {
        match connection.phase() {
            Phase::Handshake | Phase::Request | Phase::KeepAlive => ConnectionKind::Http,
            Phase::Open(Protocol::Echo, _) => ConnectionKind::Echo,
            Phase::Open(Protocol::Many, _) => ConnectionKind::Stream,
            Phase::Open(..) => match connection.channel().map(|channel| self.hub.stream(channel)) {
                Some(Stream::Channel(_)) => ConnectionKind::Channel,
                Some(Stream::Events) | None => ConnectionKind::Events,
            },
            Phase::Closing | Phase::Ending(_) | Phase::Lingering(_) | Phase::Dead => ConnectionKind::Closing,
        }
    }

    /// What the envelopes of messages of `polecat.v1` to a connection have in common; `None` if it is not a
    /// subscriber.
    pub(super) fn envelope<'a>(&self, index: u32, timestamp: &'a str) -> Option<EnvelopeContext<'a>> {
        let connection = self.connections.at(index);
        if connection.set().is_some() {
            let position = Position::Untold;
            return Some(EnvelopeContext { sequence: Sequence::Messages, position, timestamp });
        }
        let sequence = self.stream(index)?.sequence();
        let position = Position::Id(sequence, connection.cursor());
        Some(EnvelopeContext { sequence, position, timestamp })
    }

    /// Counts why a connection is ended, the first time that this is decided.
    pub(super) fn count_close(&mut self, index: u32, reason: CloseReason) {
        let connection = self.connections.at(index);
        if matches!(connection.phase(), Phase::Open(..)) || connection.is_http() {
            let channel = connection.channel().and_then(|channel| self.hub.name(channel)).cloned();
            let kind = self.kind(connection);
            self.connections.note_close(index, reason, (kind, channel), self.clock.ms());
            self.metrics.count_close(reason);
            log::debug!("connection {index} closed: {reason:?}");
        }
    }

    /// Ends a connection at once; everything unsent is dropped.
    pub(super) fn abort(&mut self, index: u32, reason: CloseReason) {
        if self.connections.at(index).phase() == Phase::Dead {
            return;
        }
        self.count_close(index, reason);
        self.unsubscribe(index);
        self.connections.abort(index);
    }

    /// Ends a connection after what it is to be sent was sent.
    pub(super) fn close_after_flush(&mut self, index: u32, reason: CloseReason) {
        if self.connections.at(index).phase() == Phase::Dead {
            return;
        }
        self.count_close(index, reason);
        self.unsubscribe(index);
        self.connections.close_after_flush(index, reason.kind());
    }

    /// Takes a connection out of its channel.
    pub(super) fn unsubscribe(&mut self, index: u32) {
        if let Some(member) = self.connections.unsubscribe(index) {
            self.leave(member);
        } else if let Some(set) = self.connections.end_set(index) {
            self.subscriptions.end(set);
        }
    }

    /// Removes a member from a channel.
    pub(super) fn leave(&mut self, (channel, slot): (u32, u32)) {
        for moved in self.hub.leave(channel, slot).into_iter().flatten() {
            match moved.member {
                Member::Connection(index) => self.connections.set_slot(index, moved.slot),
                Member::Subscription(key) => self.subscriptions.set_slot(key, moved.slot),
            }
        }
    }

    /// Lets subscriptions of connections that have ended leave their channels.
    pub(super) fn drop_ended(&mut self) {
        for _ in 0..self.config.budgets.subscribes {
            let Some(member) = self.subscriptions.take_ended() else { return };
            self.leave(member);
        }
    }

    /// The channel of a member that is there, and its cursor.
    #[inline]
    pub(super) fn place(&self, member: Member) -> Option<(u32, u64)> {
        match member {
            Member::Connection(index) => {
                let connection = self.connections.at(index);
                Some((connection.channel()?, connection.cursor()))
            }
            Member::Subscription(key) => {
                let one = self.subscriptions.at(key);
                Some((one.channel, one.cursor))
            }
        }
    }

    /// A member was sent everything of its channel up to `id`.
    #[inline]
    pub(super) fn set_cursor(&mut self, member: Member, id: u64) {
        match member {
            Member::Connection(index) => self.connections.set_cursor(index, id),
            Member::Subscription(key) => self.subscriptions.set_cursor(key, id),
        }
    }

    /// A member, and its connection; `None` if that has ended.
    #[inline]
    pub(super) fn subscriber(&self, member: Member) -> Option<Subscriber> {
        match member {
            Member::Connection(index) => Some(Subscriber::of(self.connections.id(index))),
            Member::Subscription(key) => self.subscriptions.subscriber(key),
        }
    }

    /// A member waits for history: it is sent nothing before that.
    pub(super) fn await_history(&mut self, member: Member) {
        match member {
            Member::Connection(index) => self.connections.await_history(index),
            Member::Subscription(key) => self.subscriptions.set_state(key, State::AwaitingHistory),
        }
    }

    /// The history that a subscriber waited for is there; returns whether it did wait.
    pub(super) fn end_history(&mut self, subscriber: Subscriber) -> bool {
        match subscriber.member {
            Member::Connection(_) => self.connections.end_history(subscriber.connection),
            Member::Subscription(key) => {
                let one = self.subscriptions.get(key, subscriber.connection);
                let waits = one.is_some_and(|one| one.state == State::AwaitingHistory);
                if waits {
                    self.subscriptions.set_state(key, State::Idle);
                }
                waits
            }
        }
    }

    /// Has a member offered what its log holds for it.
    pub(super) fn queue(&mut self, Subscriber { connection, member }: Subscriber) {
        self.mark_queued(member);
        self.connections.queue_flush(connection.index);
    }

    /// The same, once its connection can be sent something.
    pub(super) fn mark_queued(&mut self, member: Member) {
        if let Member::Subscription(key) = member
            && self.subscriptions.at(key).state == State::Idle
        {
            self.subscriptions.set_state(key, State::Queued);
        }
    }

    /// Says goodbye to an open WebSocket: Close goes out at the next frame
    /// boundary, and the peer's is waited for.
    pub(super) fn close(&mut self, index: u32, code: CloseCode, text: &str, reason: CloseReason) {
        self.count_close(index, reason);
        self.unsubscribe(index);
        self.connections.begin_close(index);
        codec::write_close(Some(code), text, self.connections.output(index));
        // While its input is worked on, its output holds what goes before, and is sent next.
        if !self.connections.is_receiving(index) {
            self.connections.push_output(index);
        }
        self.connections.queue_flush(index);
    }

    /// Sends what was written for a connection.
    pub(super) fn send_output(&mut self, index: u32) {
        match self.connections.send_output(index) {
            Sent::Bytes(len) => self.metrics.bytes_sent += len as u64,
            Sent::Failed => self.abort(index, CloseReason::SocketError),
            _ => {}
        }
    }

    /// Appends a message to the output of a connection.
    pub(super) fn write_message(&mut self, index: u32, opcode: OpCode, payload: &[u8]) {
        let encoding = self.connections.at(index).encoding();
        let (over, coded) = (self.config.compression.over, &mut self.metrics.coded);
        let output = self.connections.output(index);
        match self.encoders.encode_private(encoding, payload, over, coded) {
            Some(payload) => codec::write_compressed_frame(opcode, payload, output),
            None => codec::write_frame(opcode, payload, output),
        }
    }

    /// The same for a text that `write` writes.
    pub(super) fn write_text(&mut self, index: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let mut text = Vec::with_capacity(256);
        write(&mut text);
        self.write_message(index, OpCode::Text, &text);
    }

    /// Sends a client of `polecat.v1` a message of its own.
    pub(super) fn tell(&mut self, id: Id, write: impl FnOnce(EnvelopeContext<'_>, &mut Vec<u8>)) {
        let timestamp = self.time.timestamp();
        if self.connections.find(id).is_none() {
            return;
        }
        let Some(envelope) = self.envelope(id.index, &timestamp) else { return };
        self.write_text(id.index, |out| write(envelope, out));
        self.connections.push_output(id.index);
        self.connections.queue_flush(id.index);
    }

    /// Whether there is room for another answer.
    pub(super) const fn has_room(&self) -> bool {
        self.has_room_for(0)
    }

    /// The same beside answers of that many bytes, which are being made.
    pub(super) const fn has_room_for(&self, bytes: usize) -> bool {
        self.connections.has_room(self.store.backlog_bytes() + bytes)
    }

    pub(super) fn input_bytes_max(&self, index: u32, buffered_bytes: usize) -> usize {
        self.connections.input_bytes_max(index, buffered_bytes, self.store.backlog_bytes())
    }

    /// Reads a connection no further until there is room for its answers.
    pub(super) fn read_with_room(&mut self, index: u32) {
        if self.connections.read_with_room(index) {
            self.metrics.limits.count(Limit::UnsentBytes);
        }
    }
}
