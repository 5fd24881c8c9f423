//! The engine of one server. Records that it was handed and has not committed die with it. It can be late and
//! can fail, and it reports what other servers have committed.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use polecat::base::time::Now;
use polecat::store::engine::{Answer, Engine, EngineError, Health, Query, QueryId, Record};
use polecat::store::terms::Terms;

use crate::host::{Demand, Host};
use crate::model::Ledger;
use crate::options::EngineOptions;
use crate::store::{Append, Store};

/// How long after a failure it checks by itself whether that is over.
const PROBE_INTERVAL_MS: u64 = 1_000;

/// An answer that is held back.
#[derive(Debug)]
struct Held {
    settle: u64,
    ready_at_ms: u64,
    answer: Answer,
}

pub(crate) struct NodeEngine {
    store: Rc<RefCell<Store>>,
    host: Rc<Host>,
    ledger: Rc<RefCell<Ledger>>,
    options: EngineOptions,
    /// The terms that the store knew when the process began.
    terms: Terms,
    random: fastrand::Rng,
    settles: u64,
    /// Appends that await their commit, with the settle in which that is due.
    appends: VecDeque<(u64, Append)>,
    questions: VecDeque<(Query, QueryId)>,
    held: VecDeque<Held>,
    /// Tickets of pending queries for lists.
    lists: BTreeSet<u64>,
    health: Health,
    probe_at_ms: u64,
}

impl NodeEngine {
    pub(crate) fn new(
        options: &EngineOptions,
        seed: u64,
        host: &Rc<Host>,
        store: &Rc<RefCell<Store>>,
        ledger: &Rc<RefCell<Ledger>>,
    ) -> Self {
        let terms = store.borrow_mut().start();
        host.era.set(ledger.borrow().era());
        terms.epoch().clone_into(&mut host.epoch.borrow_mut());
        host.seen.set(store.borrow().commits.len());
        host.announced.set(store.borrow().newest());
        Self {
            store: Rc::clone(store),
            host: Rc::clone(host),
            ledger: Rc::clone(ledger),
            options: options.clone(),
            terms,
            random: fastrand::Rng::with_seed(seed),
            settles: 0,
            appends: VecDeque::new(),
            questions: VecDeque::new(),
            held: VecDeque::new(),
            lists: BTreeSet::new(),
            health: Health::Sound,
            probe_at_ms: 0,
        }
    }

    fn happens(&mut self, percent: u32) -> bool {
        self.host.shared.faults.get() && percent > 0 && self.random.u32(..100) < percent
    }

    fn hold(&mut self, answer: Answer) {
        let late_ms = self.random.u64(self.options.late_ms_min..=self.options.late_ms_max);
        let after_ms = self.held.back().map_or(0, |held| held.ready_at_ms);
        let ready_at_ms = (self.host.shared.now_ms.get() + late_ms).max(after_ms);
        let settle = self.settles + u64::from(self.options.delay_settles);
        self.held.push_back(Held { settle, ready_at_ms, answer });
    }

    /// Reads what other servers have committed.
    fn follow(&mut self) {
        let commits = self.store.borrow().commits[self.host.seen.get()..].to_vec();
        self.host.seen.set(self.host.seen.get() + commits.len());
        for (id, record) in commits {
            self.hold(Answer::Committed { id, record, query_id: None, weight: 0 });
        }
    }

    /// Commits what is due, or refuses it.
    fn commit(&mut self, failure: Option<&EngineError>, now: Now) {
        let mut due = Vec::new();
        while self.appends.front().is_some_and(|(settle, _)| *settle <= self.settles)
            && let Some((_, append)) = self.appends.pop_front()
        {
            due.push(append);
        }
        if due.is_empty() {
            return;
        }
        let answers = match failure {
            Some(error) => {
                self.health = Health::Degraded(error.0.clone());
                self.probe_at_ms = now.monotonic_ms + PROBE_INTERVAL_MS;
                let refuse = |append: Append| Answer::Refused {
                    query_id: append.query_id,
                    weight: append.record.weight(),
                    error: error.clone(),
                };
                due.into_iter().map(refuse).collect()
            }
            None => {
                self.health = Health::Sound;
                self.store.borrow_mut().commit(due, now)
            }
        };
        self.host.seen.set(self.store.borrow().commits.len());
        // If it is killed here, it has committed and told nobody.
        if self.host.step() {
            for answer in answers {
                self.hold(answer);
            }
        } else if failure.is_some() {
            self.ledger.borrow_mut().lost += answers.len() as u64;
        }
    }

    fn look_up(&mut self, failure: Option<&EngineError>, now: Now) {
        let Some((query, query_id)) = self.questions.pop_front() else { return };
        let is_page = matches!(query, Query::Page { .. });
        let answer = if let Some(error) = failure {
            Answer::Failed { query_id, error: error.clone() }
        } else if is_page && self.happens(self.options.pages_fail_percent) {
            Answer::Failed { query_id, error: EngineError("a page cannot be read".to_owned()) }
        } else {
            self.store.borrow_mut().look_up(query, query_id, now)
        };
        self.hold(answer);
    }

    /// Whether the first answer may be returned.
    fn is_ready(&self) -> bool {
        let now_ms = self.host.shared.now_ms.get();
        self.held.front().is_some_and(|held| held.settle <= self.settles && held.ready_at_ms <= now_ms)
    }
}

impl Engine for NodeEngine {
    fn kind(&self) -> &'static str {
        "simulated"
    }

    fn terms(&self) -> &Terms {
        &self.terms
    }

    fn idempotency_window_ms(&self) -> u64 {
        self.store.borrow().idempotency_window_ms()
    }

    fn newest_message(&self) -> u64 {
        self.store.borrow().newest()[0]
    }

    fn newest_event(&self) -> u64 {
        self.store.borrow().newest()[1]
    }

    fn oldest_message(&self) -> u64 {
        self.host.shared.oldest.get()[0]
    }

    fn oldest_event(&self) -> u64 {
        self.host.shared.oldest.get()[1]
    }

    fn append(&mut self, record: Record, key: Option<Rc<str>>, query_id: Option<QueryId>) {
        let demand = self.host.demand.get();
        self.host.demand.set(Demand { appends: demand.appends + 1, ..demand });
        let due = self.settles + 1 + u64::from(self.options.delay_settles);
        self.appends.push_back((due, Append { record, key, query_id }));
    }

    fn ask(&mut self, query: Query, query_id: QueryId) {
        self.host.questions.set(self.host.questions.get() + 1);
        match query {
            Query::Page { records_max, bytes_max, .. } => {
                let mut demand = self.host.demand.get();
                demand.page_records = demand.page_records.max(records_max);
                demand.page_bytes = demand.page_bytes.max(bytes_max);
                self.host.demand.set(demand);
            }
            Query::Span { .. } | Query::List { .. } | Query::Names { .. } | Query::Totals => {
                self.lists.insert(query_id.0);
                self.host.lists.set(self.lists.len());
            }
            _ => {}
        }
        self.questions.push_back((query, query_id));
    }

    fn settle(&mut self, now: Now, reads_max: usize, answers: &mut Vec<Answer>) {
        self.settles += 1;
        self.host.demand.set(Demand { reads: reads_max, ..self.host.demand.get() });
        let failure =
            self.happens(self.options.refuses_percent).then(|| EngineError("the disk is full".into()));
        self.follow();
        if !self.host.step() {
            return;
        }
        self.commit(failure.as_ref(), now);
        if self.health != Health::Sound && now.monotonic_ms >= self.probe_at_ms {
            self.probe_at_ms = now.monotonic_ms + PROBE_INTERVAL_MS;
            if failure.is_none() {
                self.health = Health::Sound;
            }
        }
        for _ in 0..reads_max {
            self.look_up(failure.as_ref(), now);
        }
        while !self.host.is_dead()
            && self.is_ready()
            && let Some(Held { answer, .. }) = self.held.pop_front()
        {
            if let Answer::Committed { id, record, .. } = &answer {
                let mut announced = self.host.announced.get();
                announced[usize::from(matches!(record, Record::Event(_)))] = *id;
                self.host.announced.set(announced);
            }
            if let Answer::Span { query_id, .. }
            | Answer::Page { query_id, .. }
            | Answer::Names { query_id, .. }
            | Answer::Totals { query_id, .. }
            | Answer::TooLarge { query_id }
            | Answer::Failed { query_id, .. } = &answer
            {
                self.lists.remove(&query_id.0);
            }
            self.ledger.borrow_mut().note(&answer);
            self.host.answers.set(self.host.answers.get() + 1);
            answers.push(answer);
        }
        self.host.lists.set(self.lists.len());
        self.host.health.note(&self.health);
        self.host.ready_at_ms.set(self.held.front().map(|held| held.ready_at_ms));
    }

    fn due_in_ms(&self, now: Now) -> Option<u64> {
        let waits_for_settle = self.held.front().is_some_and(|held| {
            held.ready_at_ms <= self.host.shared.now_ms.get() || held.settle > self.settles
        });
        if waits_for_settle || !self.appends.is_empty() || !self.questions.is_empty() {
            return Some(0);
        }
        (self.health != Health::Sound).then(|| self.probe_at_ms.saturating_sub(now.monotonic_ms))
    }

    fn health(&self) -> &Health {
        &self.health
    }
}

impl Drop for NodeEngine {
    fn drop(&mut self) {
        let refused = |held: &&Held| matches!(held.answer, Answer::Refused { .. });
        let refused = self.held.iter().filter(refused).count();
        self.ledger.borrow_mut().lost += (self.appends.len() + refused) as u64;
    }
}
