//! The store: it outlives the servers that use it. What is committed stays, and
//! every server learns of it in the order of the ids.

use std::cell::RefCell;
use std::rc::Rc;

use polecat::ground::time::Now;
use polecat::hub::engine::{Answer, Engine, Query, Record, Ticket};
use polecat::hub::memory::MemoryEngine;
use polecat::hub::terms::Terms;

use crate::host::Shared;
use crate::model::Ledger;
use crate::options::EngineOptions;

/// Names the database of every run.
pub(crate) const EPOCH: &str = "5eed5eed-0000-4000-8000-000000000001";

/// A record that waits to be committed.
#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) record: Record,
    pub(crate) key: Option<Rc<str>>,
    pub(crate) ticket: Option<Ticket>,
}

/// Several servers share one of these.
pub(crate) struct Store {
    inner: MemoryEngine,
    shared: Rc<Shared>,
    ledger: Rc<RefCell<Ledger>>,
    /// Everything that was ever committed, in that order.
    pub(crate) commits: Vec<(u64, Record)>,
}

impl Store {
    pub(crate) fn new(options: &EngineOptions, shared: &Rc<Shared>, ledger: &Rc<RefCell<Ledger>>) -> Self {
        let [newest_message, newest_event] = options.newest;
        let inner = MemoryEngine::starting_at(newest_message, newest_event)
            .with_epoch(EPOCH)
            .with_window_ms(options.window_ms)
            .with_bounds(options.records_max, usize::MAX);
        let store = Self { inner, shared: Rc::clone(shared), ledger: Rc::clone(ledger), commits: Vec::new() };
        store.note_oldest();
        store
    }

    pub(crate) fn newest(&self) -> [u64; 2] {
        [self.inner.newest_message(), self.inner.newest_event()]
    }

    pub(crate) fn terms(&self) -> Terms {
        self.inner.terms().clone()
    }

    pub(crate) fn idempotency_window_ms(&self) -> u64 {
        self.inner.idempotency_window_ms()
    }

    fn note_oldest(&self) {
        let oldest = [self.inner.oldest_message(), self.inner.oldest_event()];
        self.shared.oldest.set(oldest);
        self.ledger.borrow_mut().keep_from(oldest);
    }

    /// Commits all of `appends` in one transaction, and says what became of each.
    pub(crate) fn commit(&mut self, appends: Vec<Append>, now: Now) -> Vec<Answer> {
        for Append { record, key, ticket } in appends {
            self.inner.append(record, key, ticket);
        }
        let mut answers = Vec::new();
        self.inner.settle(now, 0, &mut answers);
        // What is deleted within the transaction takes its key along.
        self.note_oldest();
        for answer in &answers {
            if let Answer::Committed { id, record, .. } = answer {
                self.ledger.borrow_mut().commit(*id, record, now.monotonic_ms);
                self.commits.push((*id, record.clone()));
            }
        }
        answers
    }

    pub(crate) fn look_up(&mut self, query: Query, ticket: Ticket, now: Now) -> Answer {
        let mut answers = Vec::new();
        self.inner.ask(query, ticket);
        self.inner.settle(now, 1, &mut answers);
        answers.pop().expect("a question is answered at once")
    }

    /// Checks that everything that was acknowledged is here.
    pub(crate) fn check(&self, ledger: &Ledger) {
        ledger.check_store(self.commits.iter().map(|(id, record)| (*id, record)));
    }
}
