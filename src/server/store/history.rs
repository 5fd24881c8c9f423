//! Queries about history: pages for cursors that have fallen off their log, and how much a subscriber has missed.
//! The engine is asked as many as it answers in a turn, and the others wait here. So nothing is read or counted for
//! subscribers that have gone meanwhile.

use std::collections::VecDeque;

use super::pending::Pending;
use crate::base::map::Map;
use crate::hub::entry::Entry;
use crate::hub::member::Subscriber;
use crate::store::engine::QueryId;

/// Pages that may wait to be sent before no more are read.
const PAGES_WAITING_MAX: usize = 16;

/// Bytes of these before no more are read: a page is one message at least, however large.
const PAGES_BYTES_MAX: usize = 2 << 20;

/// A page of history on its way to the subscribers that asked for it.
#[derive(Debug)]
pub(in crate::server) struct HistoryPage {
    pub(in crate::server) entries: Vec<Entry>,
    /// Bytes of their plain frames.
    pub(in crate::server) bytes: usize,
    /// The channel, by its serial number.
    pub(in crate::server) serial: u64,
    pub(in crate::server) after: u64,
    pub(in crate::server) through: u64,
    /// The oldest id that was kept when it was read.
    pub(in crate::server) oldest: u64,
    pub(in crate::server) waiters: Vec<Subscriber>,
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
    pub(super) pages_asked: Map<(u64, u64), QueryId>,
    /// Queries that the engine was not asked yet, in their order.
    pub(super) due: VecDeque<QueryId>,
    /// How many the engine has yet to answer.
    pub(super) asked: usize,
    /// Pages that are read, and the subscribers that have yet to be sent them.
    pub(super) pages: VecDeque<HistoryPage>,
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

    pub(super) fn is_page_for(&self, one: Subscriber) -> bool {
        self.pages.iter().any(|page| page.waiters.contains(&one))
    }

    /// Checks the counts, given how many wait for pages and for counts.
    pub(super) fn check_invariants(&self, pages: usize, resumes: usize) {
        assert_eq!(pages, self.pages_asked.len(), "pages asked for are known by their place");
        assert_eq!(pages + resumes, self.due.len() + self.asked, "history is due, or asked for");
    }
}
