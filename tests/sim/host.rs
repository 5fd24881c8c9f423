//! The state that one life of a server shares with its sockets and its engine: the time, what was announced,
//! and the moment of its death.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::health::HealthLog;

/// The state that all servers of a world share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// The virtual time.
    pub(crate) now_ms: Cell<u64>,
    /// Whether anything may fail now.
    pub(crate) faults: Cell<bool>,
    /// How many terms have begun, in all eras.
    pub(crate) terms: Cell<u64>,
    /// The oldest message id and the oldest event id that the store keeps.
    pub(crate) oldest: Cell<[u64; 2]>,
    /// Reads, writes, edges, accepts, ends and resets of all sockets.
    pub(crate) socket_events: Cell<u64>,
}

impl Shared {
    pub(crate) fn count_event(&self) {
        self.socket_events.set(self.socket_events.get() + 1);
    }
}

/// The demands of one turn on the engine.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Demand {
    /// Records to be stored.
    pub(crate) appends: usize,
    /// Answers that the engine may look up.
    pub(crate) reads: usize,
    /// The most records of a page.
    pub(crate) page_records: usize,
    /// The weight at which a page ends.
    pub(crate) page_bytes: usize,
}

/// One life of one server, from its start to its end or its crash.
#[derive(Debug, Default)]
pub(crate) struct Host {
    pub(crate) shared: Rc<Shared>,
    /// The newest message id and the newest event id that the engine has reported to the server.
    pub(crate) announced: Cell<[u64; 2]>,
    /// When the oldest answer that is held back will be ready.
    pub(crate) ready_at_ms: Cell<Option<u64>>,
    /// The era of the store that it lives in, and the `epoch` that its clients are told.
    pub(crate) era: Cell<usize>,
    pub(crate) epoch: RefCell<String>,
    /// How many commits of the store the engine has seen.
    pub(crate) seen: Cell<usize>,
    /// The history of the store's health.
    pub(crate) health: Rc<HealthLog>,
    /// Queries for lists of messages that the engine has yet to answer.
    pub(crate) lists: Cell<usize>,
    /// The number of answers of the engine.
    pub(crate) answers: Cell<u64>,
    /// The number of queries to the engine.
    pub(crate) questions: Cell<u64>,
    /// The server's demands on the engine in this turn.
    pub(crate) demand: Cell<Demand>,
    /// Steps until the process dies; a step is a socket call or a part of a settle.
    fuse: Cell<Option<u32>>,
    dead: Cell<bool>,
}

impl Host {
    pub(crate) fn new(shared: &Rc<Shared>) -> Self {
        Self { shared: Rc::clone(shared), ..Self::default() }
    }

    /// The process dies after this many steps.
    pub(crate) fn light(&self, steps: u32) {
        self.fuse.set(Some(steps));
    }

    /// One step of the process. Returns whether it is still alive: the actions of a dead process reach
    /// nobody.
    pub(crate) fn step(&self) -> bool {
        match self.fuse.get() {
            Some(0) => self.dead.set(true),
            Some(steps) => self.fuse.set(Some(steps - 1)),
            None => {}
        }
        !self.dead.get()
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.get()
    }
}
