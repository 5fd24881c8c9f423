//! The world around one server: its sockets, its time, and the loop that drives
//! it as a poll loop would. The driver sleeps exactly as long as the server asked
//! for, unless something happens that a poll would tell of; a wake-up that the
//! server counts on and that does not come is thus a test that hangs, and fails.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use polecat::ground::time::Now;
use polecat::server::admission::Source;
use polecat::server::server::Server;

use crate::client::{Client, Context, Mood, Trace};
use crate::engine::{FaultyEngine, Knobs};
use crate::model::Ledger;
use crate::options::Options;
use crate::pipe::{Newest, Pipe, SharedWire};

/// Bytes that the server reads at once, at most.
const READ_BUFFER_BYTES: usize = 64 << 10;

/// Turns in a row that did nothing and yet were not followed by sleep. A turn may
/// find nothing to do a few times: members that have everything already are
/// looked at by a sweep, one by one where the budget is one.
const IDLE_TURNS_MAX: u32 = 300;

/// 2026-01-05T09:30:00 UTC.
const START_UNIX_MICROS: i64 = 1_767_605_400_000_000;

/// A server and what is around it.
pub(crate) struct World {
    pub(crate) server: Server<Pipe, FaultyEngine>,
    pub(crate) options: Options,
    pub(crate) ledger: Rc<RefCell<Ledger>>,
    pub(crate) knobs: Rc<Knobs>,
    pub(crate) newest: Newest,
    pub(crate) random: fastrand::Rng,
    pub(crate) now_ms: u64,
    pub(crate) mood: Mood,
    pub(crate) backlog: VecDeque<SharedWire>,
    pub(crate) lost: Vec<SharedWire>,
    pub(crate) trace: Trace,
    /// The connections that the server has, by the index that it gave them.
    places: Vec<Option<SharedWire>>,
    /// What the server asked for, and until when that is.
    timeout_ms: Option<u64>,
    due_ms: Option<u64>,
    /// Whether the next turn begins the shutdown.
    is_stopped: bool,
    idle_turns: u32,
    stored_before: (usize, u64),
}

impl World {
    pub(crate) fn new(options: Options, seed: u64) -> Self {
        let newest = Newest::default();
        newest.set(options.engine.newest);
        let ledger = Rc::new(RefCell::new(Ledger::starting_at(&newest)));
        let knobs = Rc::new(Knobs::default());
        knobs.faults.set(true);
        let engine = FaultyEngine::new(&options.engine, seed ^ 1, Rc::clone(&knobs), Rc::clone(&ledger));
        let now = Now { monotonic_ms: 0, unix_micros: START_UNIX_MICROS };
        Self {
            server: Server::new(options.config.clone(), engine, seed ^ 2, now),
            options,
            ledger,
            knobs,
            newest,
            random: fastrand::Rng::with_seed(seed),
            now_ms: 0,
            mood: Mood::Chaos,
            backlog: VecDeque::new(),
            lost: Vec::new(),
            trace: Trace(seed),
            places: Vec::new(),
            timeout_ms: Some(0),
            due_ms: Some(0),
            is_stopped: false,
            idle_turns: 0,
            stored_before: (0, 0),
        }
    }

    /// What a client may use.
    pub(crate) fn context(&mut self) -> Context<'_> {
        Context {
            now_ms: self.now_ms,
            random: &mut self.random,
            options: &self.options,
            ledger: &self.ledger,
            newest: &self.newest,
            mood: self.mood,
            is_draining: self.server.is_draining(),
            backlog: &mut self.backlog,
            lost: &mut self.lost,
            trace: &mut self.trace,
        }
    }

    /// Sleeps as a poll would, and has one turn. Returns whether anything can happen still.
    pub(crate) fn step(&mut self, clients: &mut [Client]) -> bool {
        let due_ms = self.due_ms;
        while !self.has_news() {
            let next_ms = clients.iter().map(|client| client.next_ms).min().filter(|next| *next < u64::MAX);
            let event_ms = [next_ms, self.knobs.ready_at_ms.get()].into_iter().flatten().min();
            match (event_ms, due_ms) {
                (None, None) => return false,
                (Some(event_ms), due_ms) if due_ms.is_none_or(|due_ms| event_ms <= due_ms) => {
                    self.set_now(self.now_ms.max(event_ms));
                    self.step_clients(clients);
                }
                (_, Some(due_ms)) => {
                    self.set_now(self.now_ms.max(due_ms));
                    break;
                }
                (Some(_), None) => {}
            }
        }
        self.turn();
        for client in clients {
            client.nudge(self.now_ms);
        }
        true
    }

    /// The server does not attend for so long; the clients go on.
    pub(crate) fn stall(&mut self, stall_ms: u64, clients: &mut [Client]) {
        let until_ms = self.now_ms + stall_ms;
        while let Some(next_ms) = clients.iter().map(|client| client.next_ms).min()
            && next_ms <= until_ms
        {
            self.set_now(self.now_ms.max(next_ms));
            self.step_clients(clients);
        }
        self.set_now(until_ms);
        self.turn();
        for client in clients {
            client.nudge(self.now_ms);
        }
    }

    /// Tells the server to stop, as a signal would.
    pub(crate) fn shut_down(&mut self) {
        self.is_stopped = true;
        self.turn();
    }

    /// Has turns for as long as there is something to do now.
    pub(crate) fn rest(&mut self) {
        while self.has_news() || (self.timeout_ms == Some(0) && !self.server.is_finished()) {
            self.turn();
        }
    }

    /// Lets so much time pass, with the turns that fall into it.
    pub(crate) fn pass(&mut self, ms: u64) {
        let until_ms = self.now_ms + ms;
        self.rest();
        while let Some(due_ms) = self.due_ms
            && due_ms <= until_ms
            && !self.server.is_finished()
        {
            self.set_now(due_ms);
            self.turn();
            self.rest();
        }
        self.set_now(until_ms);
    }

    /// Lets so much time pass without attending, and has one turn then.
    pub(crate) fn sleep_through(&mut self, ms: u64) {
        self.set_now(self.now_ms + ms);
        self.turn();
    }

    fn set_now(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.knobs.now_ms.set(now_ms);
    }

    fn step_clients(&mut self, clients: &mut [Client]) {
        for client in clients {
            if client.next_ms <= self.now_ms {
                client.step(&mut self.context());
            }
        }
    }

    /// Whether a poll would return.
    fn has_news(&self) -> bool {
        let told = |wire: &SharedWire| wire.borrow().has_edge();
        (!self.backlog.is_empty() && !self.server.is_draining())
            || self.places.iter().flatten().any(told)
            || self.knobs.ready_at_ms.get().is_some_and(|ready_at_ms| ready_at_ms <= self.now_ms)
    }

    /// One turn, and all that must hold after it.
    pub(crate) fn turn(&mut self) {
        let unix_micros = START_UNIX_MICROS + i64::try_from(self.now_ms).unwrap() * 1000;
        self.server.wake(Now { monotonic_ms: self.now_ms, unix_micros });
        self.trace.mix(&self.now_ms.to_le_bytes());
        let told = self.tell();
        if std::mem::take(&mut self.is_stopped) {
            self.server.shut_down();
        }
        let accepted = self.accept();
        let before = self.server.connections();
        self.server.turn();
        self.server.check_invariants();
        self.timeout_ms = self.server.poll_timeout_ms();
        let did_something = self.check_work() || told || accepted || before != self.server.connections();
        self.check_rest(did_something);
        for place in &mut self.places {
            if place.as_ref().is_some_and(|wire| wire.borrow().dropped) {
                *place = None;
            }
        }
        if self.options.turn_ms_max > 0 {
            let turn_ms = self.random.u64(..=self.options.turn_ms_max);
            self.set_now(self.now_ms + turn_ms);
        }
        self.due_ms = self.timeout_ms.map(|timeout_ms| self.now_ms + timeout_ms);
    }

    fn tell(&mut self) -> bool {
        let mut told = false;
        for (index, wire) in self.places.iter().enumerate() {
            let Some(wire) = wire else { continue };
            let mut wire = wire.borrow_mut();
            if self.mood == Mood::Chaos && self.random.u32(..1000) < self.options.spurious_chance {
                wire.pretend();
            }
            if wire.has_edge() {
                told = true;
                let edge = wire.take_edge();
                self.server.ready(u32::try_from(index).unwrap(), edge);
            }
        }
        told
    }

    fn accept(&mut self) -> bool {
        if self.server.is_draining() {
            for wire in self.backlog.drain(..) {
                wire.borrow_mut().abort();
            }
        }
        let count = self.backlog.len().min(self.options.config.budgets.accepts);
        for wire in self.backlog.drain(..count) {
            let index = self.server.next_index();
            assert_eq!(
                self.server.accept(Pipe(Rc::clone(&wire)), Source::default()),
                index,
                "the index was foretold"
            );
            let index = index as usize;
            self.places.resize(self.places.len().max(index + 1), None);
            assert!(self.places[index].is_none(), "a place is given once");
            self.places[index] = Some(wire);
        }
        count > 0
    }

    /// Checks that the turn was within its budgets, and returns whether it moved anything.
    fn check_work(&mut self) -> bool {
        let budgets = &self.options.config.budgets;
        let read_max = budgets.read_bytes_per_connection - 1 + READ_BUFFER_BYTES;
        let (mut readers, mut read_bytes, mut writers, mut write_bytes) = (0, 0, 0, 0);
        let mut moved = false;
        for wire in self.places.iter().flatten() {
            let work = std::mem::take(&mut wire.borrow_mut().work);
            assert!(work.read_bytes <= read_max, "{} bytes were read from one connection", work.read_bytes);
            readers += usize::from(work.read_calls > 0);
            writers += usize::from(work.write_calls > 0);
            read_bytes += work.read_bytes;
            write_bytes += work.write_bytes;
            moved |= work.read_bytes + work.write_bytes > 0;
        }
        assert!(readers <= budgets.reads, "{readers} connections were read");
        assert!(read_bytes <= budgets.read_bytes - 1 + read_max, "{read_bytes} bytes were read");
        let visits = budgets.flushes + budgets.sweep_members;
        let written_max = budgets.reads + visits + budgets.flushes + budgets.deadlines;
        assert!(writers <= written_max, "{writers} connections were written");
        if readers == 0 {
            let frame = self.options.config.limits.message_bytes_max + 1_000;
            let write_max = visits * (budgets.write_bytes_per_connection + frame)
                + budgets.flushes * (budgets.page_bytes * 2 + frame)
                + budgets.deadlines * frame;
            assert!(write_bytes <= write_max, "{write_bytes} bytes were written");
        }
        moved
    }

    /// A server that has nothing to do sleeps.
    fn check_rest(&mut self, did_something: bool) {
        let ledger = self.ledger.borrow();
        let stored = (ledger.len(), ledger.refused);
        let is_busy = did_something || stored != self.stored_before || self.timeout_ms != Some(0);
        self.stored_before = stored;
        self.idle_turns = if is_busy { 0 } else { self.idle_turns + 1 };
        assert!(self.idle_turns < IDLE_TURNS_MAX, "the server spins at {} ms", self.now_ms);
    }

    /// Goes on until the engine has answered everything.
    pub(crate) fn settle_down(&mut self, clients: &mut [Client]) {
        while self.knobs.ready_at_ms.get().is_some() || self.timeout_ms == Some(0) {
            assert!(self.step(clients), "the engine answers");
        }
    }

    /// Nothing fails from now on.
    pub(crate) fn calm(&mut self, clients: &mut [Client]) {
        self.mood = Mood::Calm;
        self.knobs.faults.set(false);
        let lost = &self.lost;
        for wire in self.places.iter().flatten().chain(&self.backlog) {
            if !lost.iter().any(|lost| Rc::ptr_eq(lost, wire)) {
                wire.borrow_mut().relax();
            }
        }
        for client in clients {
            client.next_ms = client.next_ms.min(self.now_ms + 1);
        }
    }
}
