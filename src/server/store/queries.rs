//! What the engine is asked about history, and when: as many queries as it answers in a turn. The others wait. So
//! nothing is read or counted for subscribers that have gone meanwhile.

use crate::base::id::Id;
use crate::hub::member::Subscriber;
use crate::store::engine::{Query, QueryId, Stream};

use super::history::{Bounds, HistoryPage};
use super::owner::Store;
use super::pending::Pending;

/// Places of an empty queue that are kept.
const DUE_CAPACITY_KEPT: usize = 1024;

impl Store {
    /// Has the page after a cursor read that is behind its log. All cursors at one place share the answer.
    pub(in crate::server) fn ask_for_page(&mut self, serial: u64, after: u64, waiter: Subscriber) {
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
    /// that waits at a cursor, in the channel of that serial number; `None` if it is gone or waits no more. Returns how many pages were asked for.
    pub(in crate::server) fn ask_for_history(
        &mut self,
        mut left: usize,
        bounds: Bounds,
        stream_of: impl Fn(Subscriber, u64, Option<u64>) -> Option<Stream>,
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
            self.history.due.shrink_to_fit();
        }
        pages
    }

    /// What to ask for `query_id`; `None` if no subscriber waits for the answer any more.
    fn history_query(
        &mut self,
        query_id: QueryId,
        bounds: Bounds,
        stream_of: impl Fn(Subscriber, u64, Option<u64>) -> Option<Stream>,
    ) -> Option<Query> {
        let Bounds { page_records, page_bytes, count_records, .. } = bounds;
        match self.pending.get_mut(usize::try_from(query_id.0).ok()?)? {
            Pending::Resume { connection, from, through } => {
                let stream = stream_of(Subscriber::of(*connection), *from, None)?;
                Some(Query::Count { stream, after: *from, through: *through, count_max: count_records })
            }
            Pending::Page { serial, after, waiters } => {
                waiters.retain(|one| stream_of(*one, *after, Some(*serial)).is_some());
                let stream = stream_of(*waiters.first()?, *after, Some(*serial))?;
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
