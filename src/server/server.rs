//! The server: all connections, all channels, one engine. The shell tells it of
//! new sockets, of readiness and of the time, and calls [`Server::turn`]; see
//! `turn.rs` for what a turn does, in its order.

use std::collections::VecDeque;
use std::rc::Rc;

use slab::Slab;

use crate::base::config::Config;
use crate::base::id::{Id, NONE};
use crate::base::limit::Limit;
use crate::base::map::Map;
use crate::base::time::{AttendedClock, Now};
use crate::hub::entry::{Encoding, Entry};
use crate::hub::registry::Registry;
use crate::store::engine::{Answer, Engine, Health, Ticket};
use crate::wire::body::ChannelRange;
use crate::wire::v1::ClientId;

use super::admission::{Admission, Source};
use super::arrivals::Arrivals;
use super::batch::Batch;
use super::closings::{Closing, Closings};
use super::connection::{Connection, Endpoint, Phase, Reading, Writing};
use super::drain::Drain;
use super::encoders::Encoders;
use super::exchange::Exchange;
use super::facts::{Facts, Lap, Laps};
use super::inspections::Inspections;
use super::list::List;
use super::metrics::{CloseReason, Metrics};
use super::moment::{Deadlines, Moment};
use super::socket::{Readiness, Socket};
use super::unsent::Unsent;

/// Bytes read from a socket at once, into the one buffer that all share.
pub(super) const READ_BUFFER_BYTES: usize = 64 << 10;

/// A server over sockets `S` and a store `E`.
pub struct Server<S, E> {
    pub(super) config: Config,
    pub(super) engine: E,
    pub(super) connections: Slab<Connection<S>>,
    pub(super) registry: Registry,
    pub(super) clock: AttendedClock,
    pub(super) moment: Moment,
    pub(super) deadlines: Deadlines,
    pub(super) read_queue: VecDeque<Id>,
    pub(super) flush_queue: VecDeque<Id>,
    /// Publishers that are not read until the engine has caught up.
    pub(super) stalled: Vec<Id>,
    /// Connections to be dropped at the end of the turn.
    pub(super) dead: Vec<u32>,
    /// What the engine was asked and has not answered; the key is the ticket.
    pub(super) asks: Slab<Ask>,
    /// Pages that are being read, by channel serial and cursor: looked up only.
    pub(super) pages_asked: Map<(u64, u64), u64>,
    /// Questions about history that the engine was not asked yet, in their order.
    pub(super) history_due: VecDeque<Ticket>,
    /// Questions about history that the engine has yet to answer.
    pub(super) history_asked: usize,
    /// Pages that are read, and who has yet to be sent them.
    pub(super) pages: VecDeque<Page>,
    /// Responses that are ready but come after ones that are not; looked up only.
    pub(super) held: Map<Id, Vec<u8>>,
    /// Weight of the records that the engine has yet to answer.
    pub(super) engine_backlog_bytes: usize,
    /// How many these are.
    pub(super) engine_backlog_records: usize,
    /// Emptied and filled again every turn.
    pub(super) answers: Vec<Answer>,
    pub(super) read_buffer: Vec<u8>,
    /// What is being written to one connection, before it is offered to its socket.
    pub(super) scratch: Vec<u8>,
    /// Bytes of all inboxes.
    pub(super) inboxes_bytes: usize,
    /// What all connections have yet to be sent.
    pub(super) unsent: Unsent,
    /// Lists that are asked for and not all sent; looked up only.
    pub(super) lists: Map<Id, List>,
    /// Those of which more is to be read, in their order.
    pub(super) lists_due: VecDeque<Id>,
    /// Questions about lists that the engine has yet to answer.
    pub(super) lists_asked: usize,
    /// For whom the last of these was.
    pub(super) list_asked: Option<Id>,
    /// Open echoes.
    pub(super) echoes: usize,
    /// Subscribers that take less than they are sent, see [`Connection::is_lagging`]: kept as they
    /// come to be that and cease to be, so that nobody has to look at all of them.
    pub(super) lagging: usize,
    /// Subscribers by their [`Encoding`].
    pub(super) subscribers: [usize; Encoding::ALL.len()],
    /// What is asked about the server itself.
    pub(super) inspections: Inspections,
    pub(super) arrivals: Arrivals,
    pub(super) closings: Closings,
    /// As the shell told last.
    pub(super) facts: Facts,
    pub(super) laps: Laps,
    /// When it was started, by the shell's clock.
    pub(super) started_ms: u64,
    /// Records that this turn may still take in.
    pub(super) appends_left: usize,
    /// Bytes that this turn may still write.
    pub(super) write_bytes_left: usize,
    pub(super) encoders: Encoders,
    pub(super) batch: Batch,
    pub(super) random: fastrand::Rng,
    /// Seconds for which the key of an append is remembered, as text.
    pub(super) idempotency_window: Rc<str>,
    /// As subscribers of events were told last.
    pub(super) health: Health,
    pub(super) admission: Admission,
    pub(super) lifecycle: Lifecycle,
    pub(super) metrics: Metrics,
    generations: u32,
}

/// Who waits for an answer of the engine, or to be asked about.
#[derive(Debug)]
pub(super) enum Ask {
    /// An HTTP client.
    Request { connection: Id, exchange: Exchange },
    /// An HTTP client that is being sent a list.
    List { connection: Id },
    /// An HTTP client that wants to know about channels.
    Channels { connection: Id, exchange: Exchange, range: ChannelRange },
    /// A subscriber that wants to hear whether a message of its own is stored.
    Publish { connection: Id, id: Option<ClientId> },
    /// A subscriber that has to be told how much it missed of what there was up to `through`, before it gets that.
    Resume { connection: Id, from: u64, through: u64 },
    /// Subscribers whose cursors are all at `after`, behind the log of their channel.
    Page { serial: u64, after: u64, waiters: Vec<Id> },
}

/// A page of history on its way to those who asked for it.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) entries: Vec<Entry>,
    /// Bytes of their plain frames.
    pub(super) bytes: usize,
    pub(super) after: u64,
    pub(super) through: u64,
    /// The oldest id that was kept when it was read.
    pub(super) oldest: u64,
    pub(super) waiters: Vec<Id>,
}

/// Whether the server goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifecycle {
    Running,
    Draining(Drain),
}

impl<S: Socket, E: Engine> Server<S, E> {
    /// A server without connections. `seed` is what the UUIDs that it makes up
    /// depend on; it should be random.
    pub fn new(config: Config, engine: E, seed: u64, now: Now) -> Self {
        let registry =
            Registry::new(&config.limits, &config.timeouts, engine.newest_message(), engine.newest_event());
        let idempotency_window = Rc::from((engine.idempotency_window_ms() as f64 / 1e3).to_string());
        Self {
            config,
            engine,
            idempotency_window,
            connections: Slab::new(),
            registry,
            clock: AttendedClock::new(now),
            moment: Moment::new(now),
            deadlines: Deadlines::default(),
            read_queue: VecDeque::new(),
            flush_queue: VecDeque::new(),
            stalled: Vec::new(),
            dead: Vec::new(),
            asks: Slab::new(),
            pages_asked: Map::default(),
            history_due: VecDeque::new(),
            history_asked: 0,
            pages: VecDeque::new(),
            held: Map::default(),
            engine_backlog_bytes: 0,
            engine_backlog_records: 0,
            answers: Vec::new(),
            read_buffer: vec![0; READ_BUFFER_BYTES],
            scratch: Vec::new(),
            inboxes_bytes: 0,
            unsent: Unsent::default(),
            lists: Map::default(),
            lists_due: VecDeque::new(),
            lists_asked: 0,
            list_asked: None,
            echoes: 0,
            lagging: 0,
            subscribers: [0; Encoding::ALL.len()],
            inspections: Inspections::default(),
            arrivals: Arrivals::default(),
            closings: Closings::default(),
            facts: Facts::default(),
            laps: Laps::default(),
            started_ms: now.monotonic_ms,
            appends_left: 0,
            write_bytes_left: 0,
            encoders: Encoders::default(),
            batch: Batch::default(),
            random: fastrand::Rng::with_seed(seed),
            health: Health::Sound,
            admission: Admission::default(),
            lifecycle: Lifecycle::Running,
            metrics: Metrics::default(),
            generations: 0,
        }
    }

    /// Tells that the poll has returned and what time it is. Comes before
    /// everything else that belongs to a turn.
    pub fn wake(&mut self, now: Now) {
        self.metrics.stalled_ms += self.clock.advance(now);
        self.moment.advance(now, self.clock.stamp());
    }

    /// Tells when the poll begins: what a turn takes is no part of the sleep. A shell whose turns take no time need not.
    pub fn end_turn(&mut self, now: Now) {
        self.metrics.stalled_ms += self.clock.end_turn(now);
    }

    /// Tells that the process was stopped in the poll. Comes before [`Server::wake`].
    pub const fn note_stop(&mut self) {
        self.clock.note_stop();
    }

    /// The index that the next accepted connection will have.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "descriptors are counted in 31 bits")]
    pub fn next_index(&self) -> u32 {
        self.connections.vacant_key() as u32
    }

    /// Takes a new connection in and returns its index, by which the shell names
    /// it in [`Server::ready`] until the turn ends in which it is dropped. Where
    /// there are too many, it is told so and ended.
    #[expect(clippy::cast_possible_truncation, reason = "descriptors are counted in 31 bits")]
    pub fn accept(&mut self, socket: S, source: Source) -> u32 {
        self.metrics.accepted += 1;
        self.generations = self.generations.wrapping_add(1);
        self.arrivals.note(self.generations, self.clock.ms());
        let connection = Connection::new(socket, self.generations, self.moment.stamp);
        let connections = self.connections.len();
        let index = self.connections.insert(connection) as u32;
        self.deadlines.handshake.push(&mut self.connections, index, self.moment.stamp);
        if let Err(limit) = self.admission.enter(index, source, connections, &self.config.limits) {
            self.metrics.limits.count(limit);
            self.turn_away(index, limit);
        }
        index
    }

    /// Tells how many bytes of memory the process has in use, where that has a limit.
    pub fn note_resident(&mut self, bytes: u64) {
        let bytes_max = self.config.limits.resident_bytes_max;
        match self.admission.note_resident(bytes, &self.config.limits) {
            Some(true) => {
                log::info!("new connections are accepted again: {bytes} bytes of memory are in use");
            }
            Some(false) => {
                log::warn!("new connections are refused: {bytes} of {bytes_max} bytes of memory are in use");
            }
            None => {}
        }
    }

    /// Counts a connection that the shell has turned away for want of descriptors.
    pub const fn count_turned_away(&mut self) {
        self.metrics.limits.count(Limit::Descriptors);
    }

    /// Counts a connection that was lost before it could be accepted.
    pub const fn count_lost(&mut self) {
        self.metrics.lost += 1;
    }

    /// Tells what has changed about the socket at `index`. Only marks it; the work
    /// is done in the turn.
    pub fn ready(&mut self, index: u32, readiness: Readiness) {
        let Some(connection) = self.connections.get_mut(index as usize) else { return };
        if readiness.writable && connection.writing == Writing::Blocked {
            // Room in a socket that was full is the peer's doing: it lives.
            connection.heard = self.moment.stamp;
            self.lagging -= usize::from(connection.is_lagging());
            connection.writing = Writing::Queued;
            self.put_in_flush_queue(index);
        }
        let connection = &mut self.connections[index as usize];
        if readiness.readable || readiness.read_closed {
            match connection.reading {
                Reading::Idle => {
                    connection.reading =
                        if readiness.read_closed { Reading::QueuedToEmpty } else { Reading::Queued };
                    self.put_in_read_queue(index);
                }
                Reading::Queued if readiness.read_closed => connection.reading = Reading::QueuedToEmpty,
                // It will be read in any case, until it would block.
                Reading::Queued
                | Reading::QueuedToEmpty
                | Reading::Full
                | Reading::NoRoom
                | Reading::Stalled
                | Reading::Awaiting
                | Reading::Over => {}
            }
        }
    }

    /// Tells of the time round the loop that ends with this wake.
    pub fn note_lap(&mut self, lap: Lap) {
        self.laps.note(lap, self.clock.ms());
    }

    /// Whether somebody has asked what only the shell knows: it is to call [`Server::tell_facts`]
    /// before the next turn.
    #[must_use]
    pub fn wants_facts(&self) -> bool {
        self.has_to_inspect()
    }

    /// Tells what the process uses of the machine.
    pub const fn tell_facts(&mut self, facts: Facts) {
        self.facts = facts;
    }

    /// How many connections there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// What was counted since the start.
    #[must_use]
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// How this server was configured.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn at(&mut self, index: u32) -> &mut Connection<S> {
        &mut self.connections[index as usize]
    }

    /// The connection that `id` names, if it is still there and alive.
    pub(super) fn find(&mut self, id: Id) -> Option<&mut Connection<S>> {
        self.connections
            .get_mut(id.index as usize)
            .filter(|connection| connection.generation == id.generation && connection.phase != Phase::Dead)
    }

    pub(super) fn set_phase(&mut self, index: u32, phase: Phase) {
        let now = self.moment.stamp;
        let old = std::mem::replace(&mut self.at(index).phase, phase);
        self.echoes += usize::from(phase == Phase::Open(Endpoint::Echo));
        self.echoes -= usize::from(old == Phase::Open(Endpoint::Echo));
        if std::mem::discriminant(&old) == std::mem::discriminant(&phase) {
            return;
        }
        let closing = |phase| matches!(phase, Phase::Closing | Phase::Ending(_) | Phase::Lingering(_));
        if closing(old) && closing(phase) {
            return;
        }
        if let Some(fifo) = self.deadlines.of(old) {
            fifo.remove(&mut self.connections, index);
        }
        if let Some(fifo) = self.deadlines.of(phase) {
            fifo.push(&mut self.connections, index, now);
        }
    }

    /// Counts why a connection is ended, the first time that this is decided.
    pub(super) fn count_close(&mut self, index: u32, reason: CloseReason) {
        if matches!(self.at(index).phase, Phase::Open(_)) || self.at(index).is_http() {
            self.metrics.count_close(reason);
            self.note_closing(index, reason);
            log::debug!("connection {index} closed: {reason:?}");
        }
    }

    fn note_closing(&mut self, index: u32, reason: CloseReason) {
        let connection = &self.connections[index as usize];
        let closing = Closing {
            address: connection.socket.peer(),
            kind: connection.phase.kind(),
            channel: self.registry.name(connection.channel).cloned(),
            reason,
            age_ms: self.age_ms(index),
            at_ms: self.clock.ms(),
        };
        self.closings.note(closing);
    }

    /// How long the connection at `index` has been there.
    pub(super) fn age_ms(&self, index: u32) -> u64 {
        self.arrivals.age_ms(self.connections[index as usize].generation, self.clock.ms())
    }

    /// Ends a connection at once; what it has not been sent, it will not be.
    pub(super) fn die(&mut self, index: u32, reason: CloseReason) {
        if self.at(index).phase == Phase::Dead {
            return;
        }
        self.count_close(index, reason);
        self.leave(index);
        self.set_phase(index, Phase::Dead);
        self.drop_inbox(index);
        let connection = self.at(index);
        connection.reading = Reading::Over;
        self.unsent.cut(&mut self.connections, index, self.moment.stamp, 0);
        let connection = self.at(index);
        if connection.pending > 0 {
            let id = connection.id(index);
            self.held.remove(&id);
            self.lists.remove(&id);
        }
        self.dead.push(index);
    }

    /// Ends a connection after what is in its outbox (or in the scratch) was sent.
    pub(super) fn finish(&mut self, index: u32, reason: CloseReason) {
        if self.at(index).phase == Phase::Dead {
            return;
        }
        self.count_close(index, reason);
        self.leave(index);
        self.set_phase(index, Phase::Ending(reason.farewell()));
        self.drop_inbox(index);
        self.at(index).reading = Reading::Over;
    }

    /// Lets go of what has arrived and is not finished.
    fn drop_inbox(&mut self, index: u32) {
        if let Some(inbox) = self.at(index).inbox.take() {
            self.inboxes_bytes -= inbox.bytes;
        }
    }

    /// Takes a connection out of its channel.
    pub(super) fn leave(&mut self, index: u32) {
        let connection = self.at(index);
        if connection.channel == NONE {
            return;
        }
        let (channel, slot) = (connection.channel, connection.slot);
        let was_lagging = connection.is_lagging();
        let encoding = connection.encoding;
        connection.channel = NONE;
        connection.slot = NONE;
        if matches!(connection.writing, Writing::Paging | Writing::NoRoom) {
            // The page is not for it any more; what it has to be told does not wait.
            connection.writing = Writing::Ready;
        }
        self.lagging -= usize::from(was_lagging);
        self.subscribers[encoding as usize] -= 1;
        for moved in self.registry.leave(channel, slot).into_iter().flatten() {
            self.at(moved.connection).slot = moved.slot;
        }
    }
}
