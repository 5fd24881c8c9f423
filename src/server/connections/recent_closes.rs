//! The connections that ended last, and why.

use core::net::SocketAddr;
use std::collections::VecDeque;
use std::rc::Rc;

use super::close_reason::CloseReason;
use super::connection::Kind;

/// How many are remembered.
const RECENT_MAX: usize = 50;

/// A connection that was ended.
#[derive(Debug, Clone)]
pub(in crate::server) struct Close {
    pub(in crate::server) address: Option<SocketAddr>,
    pub(in crate::server) kind: Kind,
    pub(in crate::server) channel: Option<Rc<str>>,
    pub(in crate::server) reason: CloseReason,
    /// How long it had been there.
    pub(in crate::server) age_ms: u64,
    /// When that was decided, by the attended clock.
    pub(in crate::server) at_ms: u64,
}

/// The newest of them.
#[derive(Debug, Default)]
pub(in crate::server) struct RecentCloses(VecDeque<Close>);

impl RecentCloses {
    pub(in crate::server) fn note(&mut self, close: Close) {
        if self.0.len() == RECENT_MAX {
            self.0.pop_back();
        }
        self.0.push_front(close);
    }

    /// Newest first.
    pub(in crate::server) fn iter(&self) -> impl Iterator<Item = &Close> {
        self.0.iter()
    }
}
