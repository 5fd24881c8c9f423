//! The server: all connections, all channels, one engine. The shell tells it of
//! new sockets, of readiness and of the time, and calls [`Server::turn`]; see
//! `turn.rs` for what a turn does, in its order.

use std::collections::VecDeque;

use crate::base::config::Config;
use crate::base::frame::Frame;
use crate::base::id::Id;
use crate::base::limit::Limit;
use crate::base::map::Map;
use crate::base::time::{AttendedClock, Now};
use crate::hub::registry::Registry;
use crate::store::engine::Engine;

use super::batch::Batch;
use super::connections::{CloseReason, Connections, Phase, Source};
use super::drain::Drain;
use super::encoders::Encoders;
use super::host::{Host, LoopTiming, LoopTimings};
use super::http::inspections::Inspections;
use super::http::list::List;
use super::metrics::Metrics;
use super::socket::{Readiness, Socket};
use super::store::Store;
use super::turn_time::TurnTime;

/// Bytes read from a socket at once, into the one buffer that all share.
pub(super) const READ_BUFFER_BYTES: usize = 64 << 10;

/// A server over sockets `S`.
pub struct Server<S> {
    pub(super) config: Config,
    pub(super) store: Store,
    pub(super) connections: Connections<S>,
    pub(super) hub: Registry,
    pub(super) clock: AttendedClock,
    pub(super) time: TurnTime,
    pub(super) read_buffer: Vec<u8>,
    /// A record as text, before it is a frame.
    pub(super) scratch: Vec<u8>,
    /// Lists that are asked for and not all sent; looked up only.
    pub(super) lists: Map<Id, List>,
    /// Those of which more is to be read, in their order.
    pub(super) lists_due: VecDeque<Id>,
    /// Those of them whose next slice needs room.
    pub(super) lists_large: VecDeque<Id>,
    /// Questions about lists that the engine has yet to answer.
    pub(super) lists_asked: usize,
    /// The list that had a slice last for which there was no room.
    pub(super) list_in_reserve: Option<Id>,
    /// What is asked about the server itself.
    pub(super) inspections: Inspections,
    /// The metrics that were told last, and when, if there was no room for more of them.
    pub(super) last_metrics: Option<(u64, Frame)>,
    pub(super) host: Box<dyn Host>,
    pub(super) timings: LoopTimings,
    /// When it was started, by the shell's clock.
    pub(super) started_ms: u64,
    /// Bytes that this turn may still write.
    pub(super) write_bytes_left: usize,
    pub(super) encoders: Encoders,
    pub(super) batch: Batch,
    pub(super) random: fastrand::Rng,
    pub(super) lifecycle: Lifecycle,
    pub(super) metrics: Metrics,
}

/// Whether the server goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifecycle {
    Running,
    Draining(Drain),
}

impl<S: Socket> Server<S> {
    /// A server without connections. `seed` is what the UUIDs that it makes up
    /// depend on; it should be random.
    pub fn new(config: Config, engine: Box<dyn Engine>, seed: u64, now: Now) -> Self {
        let hub =
            Registry::new(&config.limits, &config.timeouts, engine.newest_message(), engine.newest_event());
        let backlog_bytes_max = config.limits.engine_backlog_bytes_max;
        let connections = Connections::new(&config.limits);
        Self {
            config,
            store: Store::new(engine, backlog_bytes_max),
            connections,
            hub,
            clock: AttendedClock::new(now),
            time: TurnTime::new(now),
            read_buffer: vec![0; READ_BUFFER_BYTES],
            scratch: Vec::new(),
            lists: Map::default(),
            lists_due: VecDeque::new(),
            lists_large: VecDeque::new(),
            lists_asked: 0,
            list_in_reserve: None,
            inspections: Inspections::default(),
            last_metrics: None,
            host: Box::new(()),
            timings: LoopTimings::default(),
            started_ms: now.monotonic_ms,
            write_bytes_left: 0,
            encoders: Encoders::default(),
            batch: Batch::default(),
            random: fastrand::Rng::with_seed(seed),
            lifecycle: Lifecycle::Running,
            metrics: Metrics::default(),
        }
    }

    /// The same server in a process that can be asked about.
    #[must_use]
    pub fn with_host(self, host: Box<dyn Host>) -> Self {
        Self { host, ..self }
    }

    /// Tells that the poll has returned and what time it is. Comes before
    /// everything else that belongs to a turn.
    pub fn wake(&mut self, now: Now) {
        self.metrics.stalled_ms += self.clock.advance(now);
        self.time.advance(now, self.clock.stamp());
        self.connections.begin_turn(self.time.stamp);
    }

    /// Tells when the poll begins: the time of a turn is not part of the sleep. A shell whose turns take no time need not
    /// tell.
    pub fn end_turn(&mut self, now: Now) {
        self.metrics.stalled_ms += self.clock.end_turn(now);
    }

    /// Tells that the process was stopped in the poll. Comes before [`Server::wake`].
    pub const fn note_stop(&mut self) {
        self.clock.note_stop();
    }

    /// The index that the next accepted connection will have.
    #[must_use]
    pub fn next_index(&self) -> u32 {
        self.connections.next_index()
    }

    /// Takes a new connection in and returns its index, by which the shell names
    /// it in [`Server::ready`] until the turn ends in which it is dropped. If
    /// there are too many, it is told so and ended.
    pub fn accept(&mut self, socket: S, source: Source) -> u32 {
        self.metrics.accepted += 1;
        let (index, limit) = self.connections.accept(socket, source, &self.config.limits, self.clock.ms());
        if let Some(limit) = limit {
            self.metrics.limits.count(limit);
            self.reject(index, limit);
        }
        index
    }

    /// Tells how many bytes of memory the process has in use, if that has a limit.
    pub fn note_resident(&mut self, bytes: u64) {
        let bytes_max = self.config.limits.resident_bytes_max;
        match self.connections.note_resident(bytes, &self.config.limits) {
            Some(true) => {
                log::info!("new connections are accepted again: {bytes} bytes of memory are in use");
            }
            Some(false) => {
                log::warn!("new connections are refused: {bytes} of {bytes_max} bytes of memory are in use");
            }
            None => {}
        }
    }

    /// Counts a connection that the shell has refused for lack of descriptors.
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
        self.connections.ready(index, readiness);
    }

    /// Tells of the time round the loop that ends with this wake.
    pub fn note_timing(&mut self, timing: LoopTiming) {
        self.timings.note(timing, self.clock.ms());
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

    /// Counts why a connection is ended, the first time that this is decided.
    pub(super) fn count_close(&mut self, index: u32, reason: CloseReason) {
        let connection = self.connections.at(index);
        if matches!(connection.phase(), Phase::Open(_)) || connection.is_http() {
            let channel = connection.channel().and_then(|channel| self.hub.name(channel)).cloned();
            self.connections.note_close(index, reason, channel, self.clock.ms());
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
        if self.connections.at(index).awaits_response() {
            let id = self.connections.id(index);
            self.lists.remove(&id);
        }
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
        let Some((channel, slot)) = self.connections.unsubscribe(index) else { return };
        for moved in self.hub.leave(channel, slot).into_iter().flatten() {
            self.connections.set_slot(moved.connection, moved.slot);
        }
    }
}
