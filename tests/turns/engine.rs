//! An engine that can be late and can fail, and that writes down what it said.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use polecat::ground::time::Now;
use polecat::hub::engine::{Answer, Engine, EngineError, Health, Query, Record, Ticket};
use polecat::hub::memory::MemoryEngine;

use crate::model::Ledger;
use crate::options::EngineOptions;

/// What tests can turn while the engine runs.
#[derive(Debug, Default)]
pub(crate) struct Knobs {
    /// Whether it may fail at all now.
    pub(crate) faults: Cell<bool>,
    /// The virtual time.
    pub(crate) now_ms: Cell<u64>,
    /// When the oldest answer that is held back will be ready.
    pub(crate) ready_at_ms: Cell<Option<u64>>,
    /// How many answers it gave.
    pub(crate) answers: Cell<u64>,
}

/// The engine in memory, in front of which answers may wait for a time; the
/// order of the answers stays.
pub(crate) struct FaultyEngine {
    inner: MemoryEngine,
    options: EngineOptions,
    random: fastrand::Rng,
    knobs: Rc<Knobs>,
    ledger: Rc<RefCell<Ledger>>,
    held: VecDeque<(u64, Answer)>,
    answered: Vec<Answer>,
}

impl FaultyEngine {
    pub(crate) fn new(
        options: &EngineOptions,
        seed: u64,
        knobs: Rc<Knobs>,
        ledger: Rc<RefCell<Ledger>>,
    ) -> Self {
        let [newest_message, newest_event] = options.newest;
        let inner = MemoryEngine::starting_at(newest_message, newest_event)
            .with_bounds(usize::MAX, usize::MAX)
            .with_delay(options.delay_settles);
        Self {
            inner,
            options: options.clone(),
            random: fastrand::Rng::with_seed(seed),
            knobs,
            ledger,
            held: VecDeque::new(),
            answered: Vec::new(),
        }
    }

    fn happens(&mut self, percent: u32) -> bool {
        self.knobs.faults.get() && percent > 0 && self.random.u32(..100) < percent
    }

    /// What becomes of an answer on its way out.
    fn spoil(&mut self, answer: Answer) -> Answer {
        match answer {
            Answer::Page { ticket, .. } if self.happens(self.options.pages_fail_percent) => {
                Answer::Failed { ticket, error: EngineError("a page cannot be read".to_owned()) }
            }
            other => other,
        }
    }
}

impl Engine for FaultyEngine {
    fn epoch(&self) -> &str {
        self.inner.epoch()
    }

    fn oldest_message(&self) -> u64 {
        self.inner.oldest_message()
    }

    fn oldest_event(&self) -> u64 {
        self.inner.oldest_event()
    }

    fn health(&self) -> &Health {
        self.inner.health()
    }

    fn newest_message(&self) -> u64 {
        self.inner.newest_message()
    }

    fn newest_event(&self) -> u64 {
        self.inner.newest_event()
    }

    fn append(&mut self, record: Record, key: Option<Rc<str>>, ticket: Option<Ticket>) {
        self.inner.append(record, key, ticket);
    }

    fn ask(&mut self, query: Query, ticket: Ticket) {
        self.inner.ask(query, ticket);
    }

    fn settle(&mut self, time: Now, reads_max: usize, answers: &mut Vec<Answer>) {
        let failure =
            self.happens(self.options.refuses_percent).then(|| EngineError("the disk is full".into()));
        self.inner.set_failure(failure);
        let mut fresh = std::mem::take(&mut self.answered);
        self.inner.settle(time, reads_max, &mut fresh);
        let now = self.knobs.now_ms.get();
        for answer in fresh.drain(..) {
            let answer = self.spoil(answer);
            let late_ms = self.random.u64(self.options.late_ms_min..=self.options.late_ms_max);
            let after = self.held.back().map_or(0, |(ready_at, _)| *ready_at);
            self.held.push_back(((now + late_ms).max(after), answer));
        }
        self.answered = fresh;
        while self.held.front().is_some_and(|(ready_at, _)| *ready_at <= now)
            && let Some((_, answer)) = self.held.pop_front()
        {
            self.ledger.borrow_mut().note(&answer);
            self.knobs.answers.set(self.knobs.answers.get() + 1);
            answers.push(answer);
        }
        self.knobs.ready_at_ms.set(self.held.front().map(|(ready_at, _)| *ready_at));
    }

    fn due_in_ms(&self, time: Now) -> Option<u64> {
        let now = self.knobs.now_ms.get();
        let is_ready = self.held.front().is_some_and(|(ready_at, _)| *ready_at <= now);
        if is_ready { Some(0) } else { self.inner.due_in_ms(time) }
    }
}
