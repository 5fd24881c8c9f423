//! The world: servers on one store, their clients, and the time. The driver sleeps exactly as long as a
//! server asked for, unless there is an event that a poll would report. So if a server counts on a wake-up
//! that does not come, the test hangs and fails.

use std::cell::RefCell;
use std::rc::Rc;

use polecat::base::time::Now;
use polecat::server::server::Server;

use crate::client::{Client, Context, Mood, Trace};
use crate::host::Shared;
use crate::model::Ledger;
use crate::node::{Ground, Node};
use crate::options::Options;
use crate::pipe::{Manners, Pipe, SharedWire, Wire};
use crate::store::{Moment, Store};

/// 2026-01-05T09:30:00 UTC.
const START_UNIX_MICROS: i64 = 1_767_605_400_000_000;

/// Servers and their environment.
pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    pub(crate) ground: Ground,
    pub(crate) options: Options,
    pub(crate) ledger: Rc<RefCell<Ledger>>,
    pub(crate) shared: Rc<Shared>,
    pub(crate) random: fastrand::Rng,
    pub(crate) now_ms: u64,
    /// The offset of the wall clock.
    wall_offset_micros: i64,
    pub(crate) mood: Mood,
    pub(crate) lost: Vec<SharedWire>,
    pub(crate) trace: Trace,
    pub(crate) crashes: u64,
    /// The contents of the disk at some time.
    moment: Option<Moment>,
    /// How often the disk went back.
    pub(crate) returns: u64,
    /// How many processes were asked to end.
    pub(crate) deploys: u64,
    is_stopped: bool,
}

impl World {
    pub(crate) fn new(options: Options, seed: u64) -> Self {
        let ledger = Ledger::starting_at(options.engine.newest, options.engine.window_ms);
        let ledger = Rc::new(RefCell::new(ledger));
        let shared = Rc::new(Shared::default());
        shared.faults.set(true);
        let store = Store::new(&options.engine, options.nodes > 1, &shared, &ledger);
        let store = Rc::new(RefCell::new(store));
        let ground = Ground { shared: Rc::clone(&shared), store, ledger: Rc::clone(&ledger) };
        let now = Now { monotonic_ms: 0, unix_micros: START_UNIX_MICROS };
        let nodes = (0..options.nodes.max(1) as u64)
            .map(|number| Node::new(&options, &ground, now, seed ^ (number << 32)))
            .collect();
        Self {
            nodes,
            ground,
            options,
            ledger,
            shared,
            random: fastrand::Rng::with_seed(seed),
            now_ms: 0,
            wall_offset_micros: 0,
            mood: Mood::Chaos,
            lost: Vec::new(),
            trace: Trace(seed),
            crashes: 0,
            moment: None,
            returns: 0,
            deploys: 0,
            is_stopped: false,
        }
    }

    /// The server, where there is one.
    pub(crate) fn server(&self) -> &Server<Pipe> {
        &self.nodes[0].server
    }

    /// A connection to the first server, in its backlog.
    /// How many questions the engine was asked.
    pub(crate) fn questions(&self) -> u64 {
        self.nodes[0].host.questions.get()
    }

    pub(crate) fn connect(&mut self, manners: Manners) -> SharedWire {
        let node = &mut self.nodes[0];
        let wire = Rc::new(RefCell::new(Wire::new(manners, 1, Rc::clone(&node.host))));
        node.backlog.push_back(Rc::clone(&wire));
        wire
    }

    /// Everything that a client may use.
    pub(crate) fn context(&mut self) -> Context<'_> {
        Context {
            now_ms: self.now_ms,
            random: &mut self.random,
            options: &self.options,
            ledger: &self.ledger,
            mood: self.mood,
            is_draining: self.is_stopped || self.deploys > 0,
            is_over: self.is_stopped,
            nodes: &mut self.nodes,
            lost: &mut self.lost,
            trace: &mut self.trace,
        }
    }

    /// Sleeps as a poll would, and runs a turn of every server that has something to do. Returns whether
    /// anything can still happen.
    pub(crate) fn step(&mut self, clients: &mut [Client]) -> bool {
        while !self.has_news() {
            let next_ms = clients.iter().map(|client| client.next_ms).min().filter(|next| *next < u64::MAX);
            let running = self.nodes.iter().filter(|node| !node.server.is_finished());
            let ready_ms = running.filter_map(|node| node.host.ready_at_ms.get());
            let event_ms = next_ms.into_iter().chain(ready_ms).min();
            let due_ms = self.nodes.iter().filter_map(|node| node.due_ms).min();
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
        let first = self.random.usize(..self.nodes.len());
        for number in 0..self.nodes.len() {
            let number = (first + number) % self.nodes.len();
            let node = &self.nodes[number];
            if node.has_news(&self.ground) || node.due_ms.is_some_and(|due_ms| due_ms <= self.now_ms) {
                self.turn_of(number);
            }
        }
        for client in clients {
            client.nudge(self.now_ms);
        }
        true
    }

    /// All servers are stalled for this long; the clients continue.
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

    /// Tells the servers to shut down, as a signal would.
    pub(crate) fn shut_down(&mut self) {
        self.is_stopped = true;
        for node in &mut self.nodes {
            node.stop();
        }
        self.turn();
    }

    /// Sets the wall clock; the other one continues unchanged.
    pub(crate) fn set_wall_clock(&mut self, by_ms: i64) {
        self.wall_offset_micros += by_ms * 1000;
    }

    /// The process of one server dies at one of its next steps: a socket call, a
    /// commit, or between a commit and its answers.
    pub(crate) fn crash(&mut self, number: usize) {
        let steps = self.random.u32(..30);
        self.nodes[number].host.light(steps);
    }

    /// Remembers the current contents of the disk.
    pub(crate) fn remember(&mut self) {
        self.moment = Some(self.ground.store.borrow().moment());
    }

    /// All servers die, and start again with the remembered contents of the disk.
    pub(crate) fn go_back(&mut self) {
        let Some(moment) = &self.moment else { return };
        self.ground.store.borrow_mut().go_back(moment);
        self.returns += 1;
        for number in 0..self.nodes.len() {
            let now = self.now();
            self.nodes[number].restart(&self.options, &self.ground, now, &mut self.random);
        }
    }

    /// The process of one server is asked to end; another will follow it.
    pub(crate) fn deploy(&mut self, number: usize) {
        self.deploys += 1;
        self.nodes[number].stop();
    }

    /// Runs turns as long as there is something to do now.
    pub(crate) fn rest(&mut self) {
        while self.has_news() || (self.nodes[0].timeout_ms == Some(0) && !self.server().is_finished()) {
            self.turn();
        }
    }

    /// Runs turns until that holds.
    pub(crate) fn rest_until(&mut self, is_so: impl Fn(&Self) -> bool) {
        while !is_so(self) {
            self.turn();
        }
    }

    /// Lets this much time pass, with the turns that fall into it.
    pub(crate) fn pass(&mut self, ms: u64) {
        let until_ms = self.now_ms + ms;
        self.rest();
        loop {
            let node = &self.nodes[0];
            let due_ms = [node.due_ms, node.host.ready_at_ms.get()].into_iter().flatten().min();
            let Some(due_ms) = due_ms.filter(|due_ms| *due_ms <= until_ms) else { break };
            if self.server().is_finished() {
                break;
            }
            self.set_now(self.now_ms.max(due_ms));
            self.turn();
            self.rest();
        }
        self.set_now(until_ms);
    }

    /// Lets this much time pass in a stall, and runs one turn after it.
    pub(crate) fn sleep_through(&mut self, ms: u64) {
        self.set_now(self.now_ms + ms);
        self.turn();
    }

    /// Lets this much time pass in a stall.
    pub(crate) fn skip(&mut self, ms: u64) {
        self.set_now(self.now_ms + ms);
    }

    fn set_now(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.shared.now_ms.set(now_ms);
    }

    fn step_clients(&mut self, clients: &mut [Client]) {
        for client in clients {
            if client.next_ms <= self.now_ms {
                client.step(&mut self.context());
            }
        }
    }

    fn has_news(&self) -> bool {
        self.nodes.iter().any(|node| node.has_news(&self.ground))
    }

    /// One turn of every server.
    pub(crate) fn turn(&mut self) {
        for number in 0..self.nodes.len() {
            self.turn_of(number);
        }
    }

    fn turn_of(&mut self, number: usize) {
        let now = self.now();
        self.trace.mix(&self.now_ms.to_le_bytes());
        let node = &mut self.nodes[number];
        node.turn(&self.options, &self.ground, now, &mut self.random);
        if node.host.is_dead() {
            self.crashes += 1;
            node.restart(&self.options, &self.ground, now, &mut self.random);
            if self.is_stopped {
                node.stop();
            }
        } else if node.server.is_finished() && !self.is_stopped {
            node.follow(&self.options, &self.ground, now, &mut self.random);
        }
        if self.options.turn_ms_max > 0 {
            let turn_ms = self.random.u64(..=self.options.turn_ms_max);
            self.set_now(self.now_ms + turn_ms);
        }
        let node = &mut self.nodes[number];
        // One that has ended while others continue is never due again: seed 4639.
        let timeout_ms = node.timeout_ms.filter(|_| !node.server.is_finished());
        node.due_ms = timeout_ms.map(|timeout_ms| self.now_ms + timeout_ms);
    }

    fn now(&self) -> Now {
        let micros = START_UNIX_MICROS + i64::try_from(self.now_ms).unwrap() * 1000;
        Now { monotonic_ms: self.now_ms, unix_micros: micros + self.wall_offset_micros }
    }

    pub(crate) fn connections(&self) -> usize {
        self.nodes.iter().map(|node| node.server.connections()).sum()
    }

    /// Continues until the engines have answered everything.
    pub(crate) fn settle_down(&mut self, clients: &mut [Client]) {
        let is_busy = |node: &Node| node.host.ready_at_ms.get().is_some() || node.timeout_ms == Some(0);
        while self.nodes.iter().any(is_busy) || self.has_news() {
            assert!(self.step(clients), "the engine answers");
        }
    }

    /// From now on, nothing fails.
    pub(crate) fn calm(&mut self, clients: &mut [Client]) {
        self.mood = Mood::Calm;
        self.shared.faults.set(false);
        let lost = &self.lost;
        for wire in self.nodes.iter().flat_map(|node| node.wires().chain(&node.backlog)) {
            if !lost.iter().any(|lost| Rc::ptr_eq(lost, wire)) {
                wire.borrow_mut().relax();
            }
        }
        for client in clients {
            client.wake(self.now_ms);
        }
    }
}
