//! The connections that ended last, and why.

use core::net::SocketAddr;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::base::id::Id;

use super::close_reason::CloseReason;
use super::connection::ConnectionKind;

/// How many are remembered.
const RECENT_MAX: usize = 50;

/// A connection that was ended.
#[derive(Debug, Clone)]
pub(in crate::server) struct Close {
    /// The connection, which may be gone.
    pub(super) id: Id,
    pub(in crate::server) address: Option<SocketAddr>,
    pub(in crate::server) kind: ConnectionKind,
    pub(in crate::server) channel: Option<Rc<str>>,
    pub(in crate::server) reason: CloseReason,
    /// How long it had been there.
    pub(in crate::server) age_ms: u64,
    /// When that was decided, by the attended clock.
    pub(in crate::server) at_ms: u64,
}

/// The newest of them.
#[derive(Debug, Default)]
pub(in crate::server) struct RecentCloses {
    closes: VecDeque<Close>,
    /// How many in front have no address yet.
    unnamed: usize,
}

impl RecentCloses {
    pub(in crate::server) fn note(&mut self, close: Close) {
        if self.closes.len() == RECENT_MAX {
            self.closes.pop_back();
        }
        self.closes.push_front(close);
        self.unnamed = (self.unnamed + 1).min(RECENT_MAX);
    }

    /// Adds the addresses that are missing. The system is asked for each, so it is not asked for those of a crowd that
    /// are forgotten at once.
    pub(super) fn name(&mut self, address: impl Fn(Id) -> Option<SocketAddr>) {
        for close in self.closes.iter_mut().take(std::mem::take(&mut self.unnamed)) {
            close.address = address(close.id);
        }
    }

    /// Newest first.
    pub(in crate::server) fn iter(&self) -> impl Iterator<Item = &Close> {
        self.closes.iter()
    }
}
