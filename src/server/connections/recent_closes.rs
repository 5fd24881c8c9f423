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
    /// How many addresses were asked for in this turn.
    asked: usize,
}

impl RecentCloses {
    /// Remembers one. Its `address` is asked for at once, since the peer may be gone in a moment. In a crowd that is left
    /// to [`Self::name`]: the system is not asked for those that are forgotten in the same turn.
    pub(super) fn note(&mut self, mut close: Close, address: impl FnOnce() -> Option<SocketAddr>) {
        if self.asked < RECENT_MAX {
            self.asked += 1;
            close.address = address();
        } else {
            self.unnamed = (self.unnamed + 1).min(RECENT_MAX);
        }
        if self.closes.len() == RECENT_MAX {
            self.closes.pop_back();
        }
        self.closes.push_front(close);
    }

    /// Adds the addresses that are missing.
    pub(super) fn name(&mut self, address: impl Fn(Id) -> Option<SocketAddr>) {
        self.asked = 0;
        for close in self.closes.iter_mut().take(std::mem::take(&mut self.unnamed)) {
            close.address = address(close.id);
        }
    }

    /// Newest first.
    pub(in crate::server) fn iter(&self) -> impl Iterator<Item = &Close> {
        self.closes.iter()
    }
}
