//! Queries about history: pages for cursors that have fallen off their log, and how much a subscriber has missed.
//! The engine is asked as many as it answers in a turn, and the others wait here. So nothing is read or counted for
//! subscribers that have gone meanwhile.

use std::collections::VecDeque;

use super::owner::Store;
use super::pending::Pending;
use crate::base::id::Id;
use crate::base::map::Map;
use crate::hub::entry::Entry;
use crate::store::engine::{Query, QueryId, Stream};

/// Pages that may wait to be sent before no more are read.
const PAGES_WAITING_MAX: usize = 16;

/// Bytes of these before no more are read: a page is one message at least, however large.
const PAGES_BYTES_MAX: usize = 2 << 20;

/// Places of an empty queue that are kept.
const DUE_CAPACITY_KEPT: usize = 1024;

/// A page of history on its way to the subscribers that asked for it.
#[derive(Debug)]
pub(in crate::server) struct HistoryPage {
    pub(in crate::server) entries: Vec<Entry>,
    /// Bytes of their plain frames.
    pub(in crate::server) bytes: usize,
    pub(in crate::server) after: u64,
    pub(in crate::server) through: u64,
    /// The oldest id that was kept when it was read.
    pub(in crate::server) oldest: u64,
    pub(in crate::server) waiters: Vec<Id>,
}

impl HistoryPage {
    /// The id up to which subscribers have been sent everything that got the first `count` messages.
    pub(in crate::server) fn reach(&self, count: usize) -> u64 {
        self.entries.get(count).map_or(self.through, |next| next.id - 1)
    }
}

/// How much of history is asked for, and the bounds of what it may be.
#[derive(Debug, Clone, Copy)]
pub(in crate::server) struct Bounds {
    /// Queries that the engine has at once.
    pub(in crate::server) asked_max: usize,
    pub(in crate::server) page_records: usize,
    pub(in crate::server) page_bytes: usize,
    /// Records that are counted for one subscriber.
    pub(in crate::server) count_records: u64,
}

/// The queries about history, and the pages that are read.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Pages that are being read, by channel serial and cursor: looked up only.
    pages_asked: Map<(u64, u64), QueryId>,
    /// Queries that the engine was not asked yet, in their order.
    due: VecDeque<QueryId>,
    /// How many the engine has yet to answer.
    asked: usize,
    /// Pages that are read, and the subscribers that have yet to be sent them.
    pages: VecDeque<HistoryPage>,
}

impl History {
    /// Takes note that what waited for an answer has it, or waits no more.
    pub(super) fn note_answer(&mut self, pending: &Pending) {
        match pending {
            Pending::Resume { .. } => self.asked -= 1,
            Pending::Page { serial, after, .. } => {
                self.asked -= 1;
                self.pages_asked.remove(&(*serial, *after));
            }
            _ => {}
        }
    }

    /// Whether too much waits to be sent for more to be read.
    pub(super) fn is_full(&self) -> bool {
        self.pages.len() >= PAGES_WAITING_MAX
            || self.pages.iter().map(|page| page.bytes).sum::<usize>() >= PAGES_BYTES_MAX
    }

    pub(super) fn has_pages(&self) -> bool {
        !self.pages.is_empty()
    }

    pub(super) fn is_page_for(&self, id: Id) -> bool {
        self.pages.iter().any(|page| page.waiters.contains(&id))
    }

    /// Checks the counts, given how many wait for pages and for counts.
    pub(super) fn check_invariants(&self, pages: usize, resumes: usize) {
        assert_eq!(pages, self.pages_asked.len(), "pages asked for are known by their place");
        assert_eq!(pages + resumes, self.due.len() + self.asked, "history is due, or asked for");
    }
}

impl Store {
    /// Has the page after a cursor read that is behind its log. All cursors at one place share the answer.
    pub(in crate::server) fn ask_for_page(&mut self, serial: u64, after: u64, waiter: Id) {
        if let Some(query_id) = self.history.pages_asked.get(&(serial, after))
            && let Some(Pending::Page { waiters, .. }) =
                usize::try_from(query_id.0).ok().and_then(|key| self.pending.get_mut(key))
        {
            return waiters.push(waiter);
        }
        let query_id = self.insert(Pending::Page { serial, after, waiters: vec![waiter] });
        self.history.pages_asked.insert((serial, after), query_id);
        self.history.due.push_back(query_id);
    }

    /// Has the engine count what a subscriber missed: the messages after `from` and up to `through`.
    pub(in crate::server) fn ask_for_count(&mut self, connection: Id, from: u64, through: u64) {
        let query_id = self.insert(Pending::Resume { connection, from, through });
        self.history.due.push_back(query_id);
    }

    /// Whether the engine would be asked something about history at once.
    pub(in crate::server) fn has_history_due(&self, asked_max: usize) -> bool {
        !self.history.due.is_empty() && self.history.asked < asked_max
    }

    /// Asks the engine for what is due; at most `left` queries are looked at. `stream_of` says what a subscriber gets
    /// that waits at a cursor; `None` if it is gone or waits no more. Returns how many pages were asked for.
    pub(in crate::server) fn ask_for_history(
        &mut self,
        mut left: usize,
        bounds: Bounds,
        stream_of: impl Fn(Id, u64) -> Option<Stream>,
    ) -> u64 {
        let mut pages = 0;
        while left > 0
            && self.has_history_due(bounds.asked_max)
            && let Some(query_id) = self.history.due.pop_front()
        {
            left -= 1;
            self.history.asked += 1;
            if let Some(query) = self.history_query(query_id, bounds, &stream_of) {
                pages += u64::from(matches!(query, Query::Page { .. }));
                self.engine.ask(query, query_id);
            } else {
                self.take(query_id);
            }
        }
        if self.history.due.is_empty() && self.history.due.capacity() > DUE_CAPACITY_KEPT {
            self.history.due = VecDeque::new();
        }
        pages
    }

    /// What to ask for `query_id`; `None` if no subscriber waits for the answer any more.
    fn history_query(
        &mut self,
        query_id: QueryId,
        bounds: Bounds,
        stream_of: impl Fn(Id, u64) -> Option<Stream>,
    ) -> Option<Query> {
        let Bounds { page_records, page_bytes, count_records, .. } = bounds;
        match self.pending.get_mut(usize::try_from(query_id.0).ok()?)? {
            Pending::Resume { connection, from, through } => {
                let stream = stream_of(*connection, *from)?;
                Some(Query::Count { stream, after: *from, through: *through, count_max: count_records })
            }
            Pending::Page { after, waiters, .. } => {
                waiters.retain(|id| stream_of(*id, *after).is_some());
                let stream = stream_of(*waiters.first()?, *after)?;
                Some(Query::Page { stream, after: *after, records_max: page_records, bytes_max: page_bytes })
            }
            _ => None,
        }
    }

    /// A page was read.
    pub(in crate::server) fn push_page(&mut self, page: HistoryPage) {
        self.history.pages.push_back(page);
    }

    /// Whether pages wait to be sent.
    pub(in crate::server) fn has_pages(&self) -> bool {
        self.history.has_pages()
    }

    /// The next page to be sent.
    pub(in crate::server) fn next_page(&mut self) -> Option<HistoryPage> {
        self.history.pages.pop_front()
    }

    /// Gives a page back that has not reached all subscribers that wait for it: it is the next one again, unless it
    /// `had_its_share`.
    pub(in crate::server) fn return_page(&mut self, page: HistoryPage, had_its_share: bool) {
        if had_its_share {
            self.history.pages.push_back(page);
        } else {
            self.history.pages.push_front(page);
        }
    }
}
