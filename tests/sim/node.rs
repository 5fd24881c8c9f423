//! One server of a world: its sockets, the time at which it is due, and everything that must hold after each
//! of its turns.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use polecat::base::time::Now;
use polecat::server::connections::Source;
use polecat::server::metrics::Metrics;
use polecat::server::server::Server;

use crate::engine::NodeEngine;
use crate::host::{Host, Shared};
use crate::lifetime::Lifetime;
use crate::model::Ledger;
use crate::options::Options;
use crate::pipe::{Pipe, SharedWire};
use crate::store::Store;

/// The most bytes that the server reads at once.
const READ_BUFFER_BYTES: usize = 64 << 10;

/// Bytes of an inbox that other connections cannot take away, in addition to what was read at once.
const INBOX_BYTES_FREE: usize = 4 << 10;

/// The most queries for lists at once.
const LISTS_MAX: usize = 4;

/// Bytes of a slice of a list in addition to its last message, and the spare capacity of a buffer.
const SLICE_BYTES: usize = 512 << 10;

/// Bytes of the responses that have a reserve each.
const RESERVES_BYTES: usize = 1 << 20;

/// Bytes that each connection may have unsent, whatever the others do.
const OWN_BYTES: usize = 16 << 10;

/// The most bytes of a message without a client's content.
const SMALL_BYTES: usize = 1_000;

/// The most bytes that every client may be sent in one turn without a request: a refusal with its head.
const NOTICE_BYTES: usize = 400;

/// The most turns in a row that did nothing and were not followed by a sleep. A turn may find nothing to do a
/// few times: a sweep looks at members that have everything already, one by one if the budget is one.
const IDLE_TURNS_MAX: u32 = 300;

/// A poll that returns this much late is normal; more is a stall.
const LATENESS_MS_MAX: u64 = 100;
/// If it is later than this, the process was stopped, and nobody knows since when.
const STOP_MS_MIN: u64 = 1_000;

/// The state that the nodes of a world share.
pub(crate) struct Ground {
    pub(crate) shared: Rc<Shared>,
    pub(crate) store: Rc<RefCell<Store>>,
    pub(crate) ledger: Rc<RefCell<Ledger>>,
}

/// A connection that the server has.
#[derive(Debug, Clone)]
struct Place {
    wire: SharedWire,
    source: u64,
    /// Whether there was room for it when it connected.
    is_let_in: bool,
    lifetime: Lifetime,
}

pub(crate) struct Node {
    pub(crate) server: Server<Pipe>,
    pub(crate) host: Rc<Host>,
    pub(crate) backlog: VecDeque<SharedWire>,
    /// The connections that the server has, by the index that it gave them.
    places: Vec<Option<Place>>,
    /// How long the server asked to sleep, as a time.
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) due_ms: Option<u64>,
    /// Whether the next turn begins the shutdown.
    is_stopped: bool,
    /// When it began, by the clock that does not count stalls.
    stopped_at_ms: u64,
    /// Whether too much memory was in use, and usage is not clearly lower since.
    is_memory_short: bool,
    idle_turns: u32,
    stored_before: (usize, u64, u64),
    answers_before: u64,
    /// Time without stalls, calculated independently of the server.
    attended_ms: u64,
    turned_at_ms: u64,
    /// The counters of its former lives.
    pub(crate) past: Vec<Metrics>,
}

impl Node {
    pub(crate) fn new(options: &Options, ground: &Ground, now: Now, seed: u64) -> Self {
        let host = Rc::new(Host::new(&ground.shared));
        let engine = NodeEngine::new(&options.engine, seed ^ 1, &host, &ground.store, &ground.ledger);
        Self {
            server: Server::new(options.config.clone(), Box::new(engine), seed ^ 2, now),
            host,
            backlog: VecDeque::new(),
            places: Vec::new(),
            timeout_ms: Some(0),
            due_ms: Some(0),
            is_stopped: false,
            stopped_at_ms: 0,
            is_memory_short: false,
            idle_turns: 0,
            stored_before: (0, 0, 0),
            answers_before: 0,
            attended_ms: 0,
            turned_at_ms: now.monotonic_ms,
            past: Vec::new(),
        }
    }

    /// The process is gone, and another one begins with the contents of the store. Some peers see a reset,
    /// others the end of what was sent.
    pub(crate) fn restart(
        &mut self,
        options: &Options,
        ground: &Ground,
        now: Now,
        random: &mut fastrand::Rng,
    ) {
        for place in self.places.iter().flatten() {
            let mut wire = place.wire.borrow_mut();
            wire.crashed = true;
            if random.bool() {
                wire.abort();
            }
        }
        self.begin_again(options, ground, now, random);
    }

    /// The process has ended as requested, and another one follows. A client that was closed in time has lost
    /// nothing, unless it continues to talk to a process that no longer exists.
    pub(crate) fn follow(
        &mut self,
        options: &Options,
        ground: &Ground,
        now: Now,
        random: &mut fastrand::Rng,
    ) {
        let is_in_time = self.attended_ms - self.stopped_at_ms < u64::from(options.config.timeouts.drain_ms);
        for place in self.places.iter().flatten() {
            let mut wire = place.wire.borrow_mut();
            wire.crashed = !is_in_time || wire.is_unread();
            if wire.crashed && random.bool() {
                wire.abort();
            }
        }
        self.begin_again(options, ground, now, random);
    }

    fn begin_again(&mut self, options: &Options, ground: &Ground, now: Now, random: &mut fastrand::Rng) {
        let (past, backlog) = (std::mem::take(&mut self.past), std::mem::take(&mut self.backlog));
        let metrics = self.server.metrics().clone();
        *self = Self::new(options, ground, now, random.u64(..));
        self.past = past;
        self.past.push(metrics);
        self.backlog = backlog;
        if options.is_listener_passed_on {
            self.backlog.iter().for_each(|wire| wire.borrow_mut().move_to(&self.host));
        } else {
            self.refuse_backlog();
        }
    }

    /// Clients that have connected and were not accepted are refused when the listener ends.
    fn refuse_backlog(&mut self) {
        for wire in self.backlog.drain(..) {
            wire.borrow_mut().crashed = true;
            wire.borrow_mut().abort();
        }
    }

    /// The process is stopped: tells the server, as a signal would.
    pub(crate) fn stop(&mut self) {
        self.is_stopped = true;
    }

    pub(crate) fn wires(&self) -> impl Iterator<Item = &SharedWire> {
        self.places.iter().flatten().map(|place| &place.wire)
    }

    /// Whether a poll would return. A process that has ended polls no more.
    pub(crate) fn has_news(&self, ground: &Ground) -> bool {
        if self.server.is_finished() {
            return false;
        }
        (!self.backlog.is_empty() && !self.server.is_draining())
            || self.wires().any(|wire| wire.borrow().has_edge())
            || self.host.ready_at_ms.get().is_some_and(|ready| ready <= ground.shared.now_ms.get())
            || self.host.seen.get() < ground.store.borrow().commits.len()
    }

    /// One turn, and everything that must hold after it.
    pub(crate) fn turn(&mut self, options: &Options, ground: &Ground, now: Now, random: &mut fastrand::Rng) {
        self.attend(now.monotonic_ms);
        self.server.wake(now);
        let told = self.tell(options, ground, random);
        if std::mem::take(&mut self.is_stopped) && !self.server.is_draining() {
            self.server.shut_down();
            self.stopped_at_ms = self.attended_ms;
        }
        let bytes_max = options.config.limits.resident_bytes_max;
        if bytes_max > 0 {
            // The memory in use is any number; in the end it is small.
            let bytes = random.u64(..if ground.shared.faults.get() { bytes_max * 2 } else { 1 });
            self.server.note_resident(bytes);
            let is_clearly_below = bytes < bytes_max - bytes_max / 16;
            // A connection holds more than an eighth of that.
            self.is_memory_short = self.server.connections() > 0
                && (bytes >= bytes_max || (self.is_memory_short && !is_clearly_below));
        }
        let accepted = self.accept(options, random);
        let before = self.server.connections();
        self.server.turn();
        if self.host.is_dead() {
            return;
        }
        self.server.check_invariants();
        self.timeout_ms = self.server.poll_timeout_ms();
        let did_something =
            self.check_work(options) || told || accepted || before != self.server.connections();
        self.check_demand(options);
        self.check_rest(did_something, ground);
        self.check_memory(options, ground);
        for place in &mut self.places {
            if place.as_ref().is_some_and(|place| place.wire.borrow().dropped) {
                *place = None;
            }
        }
        self.check_deadlines(options);
    }

    /// Advances the clock, as ARCHITECTURE says: a stall does not count.
    fn attend(&mut self, now_ms: u64) {
        let passed = now_ms - self.turned_at_ms;
        self.turned_at_ms = now_ms;
        self.attended_ms += match self.timeout_ms {
            Some(timeout_ms) if passed >= timeout_ms + STOP_MS_MIN => LATENESS_MS_MAX,
            Some(timeout_ms) => passed.min(timeout_ms + LATENESS_MS_MAX),
            None => passed,
        };
    }

    fn tell(&mut self, options: &Options, ground: &Ground, random: &mut fastrand::Rng) -> bool {
        let mut told = false;
        for (index, place) in self.places.iter_mut().enumerate() {
            let Some(place) = place else { continue };
            let mut wire = place.wire.borrow_mut();
            if ground.shared.faults.get() && random.u32(..1000) < options.spurious_chance {
                wire.pretend();
            }
            if wire.has_edge() {
                told = true;
                let edge = wire.take_edge();
                if edge.writable {
                    place.lifetime.hear(self.attended_ms);
                }
                self.server.ready(u32::try_from(index).unwrap(), edge);
            }
        }
        told
    }

    fn accept(&mut self, options: &Options, random: &mut fastrand::Rng) -> bool {
        if self.server.is_draining() {
            if !options.is_listener_passed_on {
                self.refuse_backlog();
            }
            return false;
        }
        let count = self.backlog.len().min(options.config.budgets.accepts);
        for wire in self.backlog.drain(..count).collect::<Vec<_>>() {
            self.host.shared.count_event();
            let index = self.server.next_index();
            let source = random.u64(..options.sources.max(1));
            let is_let_in = self.has_room_for(source, options);
            let accepted = self.server.accept(Pipe(Rc::clone(&wire)), Source(source));
            assert_eq!(accepted, index, "the index was foretold");
            let is_told = wire.borrow().work.write_calls > 0;
            assert_ne!(is_told, is_let_in, "who is beyond a limit, and nobody else, is turned away at once");
            let index = index as usize;
            self.places.resize(self.places.len().max(index + 1), None);
            assert!(self.places[index].is_none(), "a place is given once");
            let lifetime = Lifetime::new(self.attended_ms);
            self.places[index] = Some(Place { wire, source, is_let_in, lifetime });
        }
        count > 0
    }

    /// Whether another connection from there is within the limits (PROTOCOL 13.1, 13.3): refused connections
    /// take no place.
    fn has_room_for(&self, source: u64, options: &Options) -> bool {
        let limits = &options.config.limits;
        let let_in = || self.places.iter().flatten().filter(|place| place.is_let_in);
        let of_source = let_in().filter(|place| place.source == source).count();
        let per_source_max = limits.connections_per_source_max;
        let_in().count() < limits.connections_max
            && (!self.is_memory_short || let_in().next().is_none())
            && (per_source_max == 0 || of_source < per_source_max as usize)
    }

    /// Checks that the turn was within its budgets, and returns whether it moved anything.
    fn check_work(&mut self, options: &Options) -> bool {
        let budgets = &options.config.budgets;
        let read_max = budgets.read_bytes_per_connection - 1 + READ_BUFFER_BYTES;
        let (mut readers, mut read_bytes, mut writers, mut write_bytes) = (0, 0, 0, 0);
        let now_ms = self.attended_ms;
        for place in self.places.iter_mut().flatten() {
            let work = std::mem::take(&mut place.wire.borrow_mut().work);
            assert!(work.read_bytes <= read_max, "{} bytes were read from one connection", work.read_bytes);
            let is_within = work.read_before < budgets.read_bytes_per_connection;
            assert!(is_within, "read on after {} bytes from one connection", work.read_before);
            place.lifetime.note(work, now_ms);
            readers += usize::from(work.read_calls > 0);
            writers += usize::from(work.write_calls > 0);
            read_bytes += work.read_bytes;
            write_bytes += work.write_bytes;
        }
        // If too many are refused, one of them is read once, to be closed at once.
        assert!(readers <= budgets.reads + budgets.accepts, "{readers} connections were read");
        let read_bytes_max = budgets.read_bytes - 1 + read_max + budgets.accepts * READ_BUFFER_BYTES;
        assert!(read_bytes <= read_bytes_max, "{read_bytes} bytes were read");
        let visits = budgets.flushes + budgets.sweep_members;
        // A refused connection is sent the refusal when it is accepted.
        let written_max = budgets.accepts + budgets.reads + visits + budgets.flushes + budgets.deadlines;
        assert!(writers <= written_max, "{writers} connections were written");
        let has_answered = self.answers_before != self.host.answers.get();
        self.answers_before = self.host.answers.get();
        // Requests that were read and answers of the engine may be responded to at once.
        if readers == 0 && !has_answered {
            let frame = options.config.limits.message_bytes_max + 1_000;
            let one_write = (budgets.write_bytes_per_connection.max(budgets.page_bytes)) + frame;
            // Every connection may be told of the health and of a deadline (a heartbeat, or a refusal). A
            // refused one gets its refusal, and one introspection request its response.
            let there = self.places.iter().flatten().count();
            let notices = there.min(budgets.sweep_members) + there.min(budgets.deadlines);
            let small = notices * NOTICE_BYTES + (budgets.accepts.min(there) + 1) * SMALL_BYTES;
            let write_max = budgets.write_bytes - 1 + one_write + small;
            assert!(write_bytes <= write_max, "{write_bytes} bytes were written");
        }
        read_bytes + write_bytes > 0
    }

    /// Checks the demands of the turn on its engine.
    fn check_demand(&self, options: &Options) {
        let (demand, budgets) = (self.host.demand.take(), &options.config.budgets);
        assert!(demand.appends <= budgets.appends, "{} records were taken in", demand.appends);
        assert!(demand.reads <= budgets.engine_reads, "{} answers are to be looked up", demand.reads);
        assert!(demand.page_records <= budgets.page_records, "a page of {} records", demand.page_records);
        assert!(demand.page_bytes <= budgets.page_bytes, "a page of {} bytes", demand.page_bytes);
        assert!(self.host.lists.get() <= LISTS_MAX, "{} lists are to be read", self.host.lists.get());
    }

    /// A server that has nothing to do sleeps.
    fn check_rest(&mut self, did_something: bool, ground: &Ground) {
        let ledger = ground.ledger.borrow();
        let stored = (ledger.len(), ledger.refused, self.host.answers.get());
        let is_busy = did_something || stored != self.stored_before || self.timeout_ms != Some(0);
        self.stored_before = stored;
        self.idle_turns = if is_busy { 0 } else { self.idle_turns + 1 };
        assert!(self.idle_turns < IDLE_TURNS_MAX, "the server spins at {} ms", self.turned_at_ms);
    }

    /// Everything that has a limit is within it after every turn.
    fn check_memory(&self, options: &Options, ground: &Ground) {
        let limits = &options.config.limits;
        let held = self.server.holdings();
        let frame = limits.message_bytes_max.max(limits.body_bytes_max) + 1_000;
        assert!(held.logs_bytes <= limits.logs_bytes_max, "{} bytes in all logs", held.logs_bytes);
        assert!(
            held.log_frames_max <= limits.log_frames_max.max(1),
            "{} frames in a log",
            held.log_frames_max
        );
        assert!(held.log_bytes_max <= limits.log_bytes_max, "{} bytes in a log", held.log_bytes_max);
        let unfinished = limits.inboxes_bytes_max + INBOX_BYTES_FREE * self.server.connections();
        assert!(held.inboxes_bytes <= unfinished, "{} bytes are unfinished", held.inboxes_bytes);
        let backlog = limits.engine_backlog_bytes_max + frame;
        assert!(
            held.engine_backlog_bytes <= backlog,
            "{} bytes wait for the engine",
            held.engine_backlog_bytes
        );
        // A response that was requested is sent, however large it is: responses to appends, and a slice of a
        // list.
        let slice = SLICE_BYTES + frame;
        let answers = backlog.min(ground.ledger.borrow().bytes * 2) + slice;
        let unsent = limits.outbox_bytes_max + 2 * frame + answers;
        assert!(held.outbox_bytes_max <= unsent, "{} bytes wait for a connection", held.outbox_bytes_max);
        assert!(held.channels <= limits.channels_max, "{} channels have members", held.channels);
        // Beyond that, no connection that would add to it is read: responses in the making are completed, and
        // there are reserves.
        let reserves = slice + RESERVES_BYTES;
        let most = limits.outboxes_bytes_max.saturating_add(2 * (2 * frame + answers) + reserves);
        assert!(held.unsent_bytes <= most, "{} bytes wait for all, of {most}", held.unsent_bytes);
        let own = OWN_BYTES * self.server.connections();
        assert!(held.outboxes_bytes <= held.unsent_bytes + own, "{} bytes in all", held.outboxes_bytes);
    }

    /// No connection outlives its time.
    fn check_deadlines(&mut self, options: &Options) {
        // The number of deadlines per turn is limited, and a turn takes time.
        let slack_ms = 1_000 + options.turn_ms_max * 200;
        let is_excused = self.host.ready_at_ms.get().is_some() || self.timeout_ms == Some(0);
        for place in self.places.iter_mut().flatten() {
            let wire = place.wire.borrow();
            let timeouts = &options.config.timeouts;
            place.lifetime.check(&wire, timeouts, is_excused, self.attended_ms, slack_ms);
        }
    }
}
