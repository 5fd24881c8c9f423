//! The engine, and what it has not answered.

use std::rc::Rc;

use slab::Slab;

use super::history::History;
use super::pending::Pending;
use crate::base::time::Now;
use crate::hub::member::Subscriber;
use crate::store::engine::{Answer, Commits, Engine, Health, Query, QueryId, Record};
use crate::store::terms::Terms;
use crate::wire::protocol::Sequence;

/// The store as the server uses it.
pub(in crate::server) struct Store {
    pub(super) engine: Box<dyn Engine>,
    /// What waits for an answer; the key is the id of the query.
    pub(super) pending: Slab<Pending>,
    pub(super) history: History,
    /// Weight in bytes of the records that the engine has not answered.
    backlog_bytes: usize,
    /// How many these are.
    backlog_records: usize,
    /// Weight of the backlog at which publishers wait.
    backlog_bytes_max: usize,
    /// Records that this turn may still take in.
    appends_left: usize,
    /// Emptied and filled again every turn.
    answers: Vec<Answer>,
    /// As [`Self::take_health_change`] has told last.
    health: Health,
    /// Seconds for which the key of an append is remembered, as text.
    idempotency_window: Rc<str>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Store").field("engine", &self.engine.kind()).finish_non_exhaustive()
    }
}

impl Store {
    pub(in crate::server) fn new(engine: Box<dyn Engine>, backlog_bytes_max: usize) -> Self {
        let idempotency_window = Rc::from((engine.idempotency_window_ms() as f64 / 1e3).to_string());
        Self {
            engine,
            pending: Slab::new(),
            history: History::default(),
            backlog_bytes: 0,
            backlog_records: 0,
            backlog_bytes_max,
            appends_left: 0,
            answers: Vec::new(),
            health: Health::Sound,
            idempotency_window,
        }
    }

    /// This turn takes in at most `appends` records.
    pub(in crate::server) const fn begin_turn(&mut self, appends: usize) {
        self.appends_left = appends;
    }

    /// Hands a record to the engine. If `pending` waits for it, its answer comes with its id.
    pub(in crate::server) fn append(
        &mut self,
        record: Record,
        key: Option<Rc<str>>,
        pending: Option<Pending>,
    ) {
        self.backlog_bytes += record.weight();
        self.backlog_records += 1;
        self.appends_left = self.appends_left.saturating_sub(1);
        let query_id = pending.map(|pending| self.insert(pending));
        self.engine.append(record, key, query_id);
    }

    /// Asks the engine something.
    pub(in crate::server) fn ask(&mut self, query: Query, pending: Pending) {
        let query_id = self.insert(pending);
        self.engine.ask(query, query_id);
    }

    /// Notes something that waits without a query.
    pub(in crate::server) fn insert(&mut self, pending: Pending) -> QueryId {
        QueryId(self.pending.insert(pending) as u64)
    }

    /// Takes out what waits for the answer to that query.
    pub(in crate::server) fn take(&mut self, query_id: QueryId) -> Option<Pending> {
        let pending = self.pending.try_remove(usize::try_from(query_id.0).ok()?)?;
        self.history.note_answer(&pending);
        Some(pending)
    }

    /// Lets the engine commit and answer, with at most `reads_max` queries among these. The answers are given back by
    /// [`Self::end_settle`].
    pub(in crate::server) fn settle(&mut self, now: Now, reads_max: usize) -> Vec<Answer> {
        let reads_max = if self.history.is_full() { 0 } else { reads_max };
        let mut answers = std::mem::take(&mut self.answers);
        self.engine.settle(now, reads_max, &mut answers);
        answers
    }

    pub(in crate::server) fn end_settle(&mut self, answers: Vec<Answer>) {
        self.answers = answers;
    }

    /// An append of `weight` bytes is answered; 0 is none.
    pub(in crate::server) fn note_appended(&mut self, weight: usize) {
        self.backlog_bytes -= weight;
        self.backlog_records -= usize::from(weight > 0);
    }

    /// Lets the engine do what it has to do for itself, now that nothing waits for an answer.
    pub(in crate::server) fn maintain(&mut self, now: Now) {
        self.engine.maintain(now);
    }

    /// How the store is, if that has changed since this was asked last.
    pub(in crate::server) fn take_health_change(&mut self) -> Option<&Health> {
        if self.health == *self.engine.health() {
            return None;
        }
        self.health = self.engine.health().clone();
        Some(&self.health)
    }

    /// As [`Self::take_health_change`] has told last.
    pub(in crate::server) const fn health_told(&self) -> &Health {
        &self.health
    }

    /// How the store is.
    pub(in crate::server) fn health(&self) -> &Health {
        self.engine.health()
    }

    /// Weight in bytes of the records that are not answered.
    pub(in crate::server) const fn backlog_bytes(&self) -> usize {
        self.backlog_bytes
    }

    /// How many records are not answered.
    pub(in crate::server) const fn backlog_records(&self) -> usize {
        self.backlog_records
    }

    /// Whether publishers wait for the engine.
    pub(in crate::server) const fn is_behind(&self) -> bool {
        self.backlog_bytes >= self.backlog_bytes_max
    }

    /// Whether this turn takes in another record.
    pub(in crate::server) const fn may_append(&self) -> bool {
        self.appends_left > 0 && !self.is_behind()
    }

    /// The oldest id of a sequence that is kept.
    pub(in crate::server) fn oldest(&self, sequence: Sequence) -> u64 {
        match sequence {
            Sequence::Events => self.engine.oldest_event(),
            Sequence::Messages => self.engine.oldest_message(),
        }
    }

    pub(in crate::server) fn newest_message(&self) -> u64 {
        self.engine.newest_message()
    }

    pub(in crate::server) fn newest_event(&self) -> u64 {
        self.engine.newest_event()
    }

    pub(in crate::server) fn terms(&self) -> &Terms {
        self.engine.terms()
    }

    pub(in crate::server) fn kind(&self) -> &'static str {
        self.engine.kind()
    }

    pub(in crate::server) fn is_storing(&self) -> bool {
        self.engine.is_storing()
    }

    pub(in crate::server) fn commits(&self) -> Option<&Commits> {
        self.engine.commits()
    }

    /// Milliseconds for which the key of an append is remembered.
    pub(in crate::server) fn idempotency_window_ms(&self) -> u64 {
        self.engine.idempotency_window_ms()
    }

    /// The same in seconds, as text.
    pub(in crate::server) fn idempotency_window(&self) -> Rc<str> {
        Rc::clone(&self.idempotency_window)
    }

    /// Milliseconds until the engine has something to do.
    pub(in crate::server) fn due_in_ms(&self, now: Now) -> Option<u64> {
        self.engine.due_in_ms(now)
    }

    /// How many wait for answers that `is_one` says of.
    pub(in crate::server) fn count_pending(&self, is_one: impl Fn(&Pending) -> bool) -> usize {
        self.pending.iter().filter(|(_, pending)| is_one(pending)).count()
    }

    /// Whether a subscriber waits for history, by looking at all that wait: for tests.
    pub(in crate::server) fn is_history_awaited_by(&self, one: Subscriber) -> bool {
        let waits = |pending: &Pending| match pending {
            Pending::Page { waiters, .. } => waiters.contains(&one),
            Pending::Resume { connection, .. } => *connection == one.connection,
            _ => false,
        };
        self.count_pending(waits) > 0 || self.history.is_page_for(one)
    }

    /// Checks the whole structure.
    ///
    /// # Panics
    ///
    /// If something does not hold.
    pub(in crate::server) fn check_invariants(&self) {
        let pages = self.count_pending(|pending| matches!(pending, Pending::Page { .. }));
        let resumes = self.count_pending(|pending| matches!(pending, Pending::Resume { .. }));
        self.history.check_invariants(pages, resumes);
    }

    /// Checks that nothing is waited for.
    ///
    /// # Panics
    ///
    /// If something is.
    pub(in crate::server) fn check_quiet(&self) {
        assert!(self.pending.is_empty(), "no question is left");
        assert!(!self.history.has_pages(), "no page is left");
        assert_eq!((self.backlog_bytes, self.backlog_records), (0, 0), "the engine has answered");
    }
}
