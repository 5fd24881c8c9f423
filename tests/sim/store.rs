//! The store outlives the servers that use it. Committed records stay, and every server learns of them in the
//! order of the ids.

use std::cell::RefCell;
use std::rc::Rc;

use polecat::base::time::Now;
use polecat::store::engine::{Answer, Engine, Query, QueryId, Record};
use polecat::store::memory::MemoryEngine;
use polecat::store::terms::Terms;

use crate::host::Shared;
use crate::model::{Era, Ledger};
use crate::options::EngineOptions;

/// A record that awaits its commit.
#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) record: Record,
    pub(crate) key: Option<Rc<str>>,
    pub(crate) query_id: Option<QueryId>,
}

/// Several servers share one of these.
pub(crate) struct Store {
    inner: MemoryEngine,
    shared: Rc<Shared>,
    ledger: Rc<RefCell<Ledger>>,
    /// Whether it has one term, which several servers share, or a new one for each start.
    is_shared: bool,
    is_started: bool,
    /// Everything that was ever committed, in that order.
    pub(crate) commits: Vec<(u64, Record)>,
}

/// The contents of the disk at some time.
#[derive(Clone)]
pub(crate) struct Moment {
    inner: MemoryEngine,
    commits: usize,
    era: Era,
}

impl Store {
    pub(crate) fn new(
        options: &EngineOptions,
        is_shared: bool,
        shared: &Rc<Shared>,
        ledger: &Rc<RefCell<Ledger>>,
    ) -> Self {
        let [newest_message, newest_event] = options.newest;
        let inner = MemoryEngine::starting_at(newest_message, newest_event)
            .with_window_ms(options.window_ms)
            .with_bounds(options.records_max, usize::MAX);
        let (shared, ledger) = (Rc::clone(shared), Rc::clone(ledger));
        let store = Self { inner, shared, ledger, is_shared, is_started: false, commits: Vec::new() };
        store.note_oldest();
        store
    }

    pub(crate) fn newest(&self) -> [u64; 2] {
        [self.inner.newest_message(), self.inner.newest_event()]
    }

    /// A server starts, and is told the terms.
    pub(crate) fn start(&mut self) -> Terms {
        if !self.is_started || !self.is_shared {
            self.shared.terms.set(self.shared.terms.get() + 1);
            let name = format!("term-{}", self.shared.terms.get());
            self.inner.begin_term(&name);
            self.ledger.borrow_mut().begin_term(&name);
            self.is_started = true;
        }
        self.inner.terms().clone()
    }

    /// The current contents.
    pub(crate) fn moment(&self) -> Moment {
        let era = self.ledger.borrow().moment();
        Moment { inner: self.inner.clone(), commits: self.commits.len(), era }
    }

    /// The disk goes back to these contents. All servers have ended.
    pub(crate) fn go_back(&mut self, moment: &Moment) {
        self.inner = moment.inner.clone();
        self.commits.truncate(moment.commits);
        self.ledger.borrow_mut().go_back(moment.era.clone());
        self.is_started = false;
        self.note_oldest();
    }

    pub(crate) fn idempotency_window_ms(&self) -> u64 {
        self.inner.idempotency_window_ms()
    }

    fn note_oldest(&self) {
        let oldest = [self.inner.oldest_message(), self.inner.oldest_event()];
        self.shared.oldest.set(oldest);
        self.ledger.borrow_mut().keep_from(oldest);
    }

    /// Commits all of `appends` in one transaction, and returns the outcome of each.
    pub(crate) fn commit(&mut self, appends: Vec<Append>, now: Now) -> Vec<Answer> {
        for Append { record, key, query_id } in appends {
            self.inner.append(record, key, query_id);
        }
        let mut answers = Vec::new();
        self.inner.settle(now, 0, &mut answers);
        // A record that is deleted within the transaction takes its key along.
        self.note_oldest();
        for answer in &answers {
            if let Answer::Committed { id, record, .. } = answer {
                self.ledger.borrow_mut().commit(*id, record, now.monotonic_ms);
                self.commits.push((*id, record.clone()));
            }
        }
        answers
    }

    pub(crate) fn look_up(&mut self, query: Query, query_id: QueryId, now: Now) -> Answer {
        let mut answers = Vec::new();
        self.inner.ask(query, query_id);
        self.inner.settle(now, 1, &mut answers);
        answers.pop().expect("a question is answered at once")
    }

    /// Checks that everything that was acknowledged is here.
    pub(crate) fn check(&self, ledger: &Ledger) {
        ledger.check_store(self.commits.iter().map(|(id, record)| (*id, record)));
    }
}
