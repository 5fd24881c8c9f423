//! The connections that were ended last, and why.

use core::net::SocketAddr;
use std::collections::VecDeque;
use std::rc::Rc;

use super::connection::Kind;
use super::metrics::CloseReason;

/// So many are remembered.
const CLOSINGS_MAX: usize = 50;

/// A connection that was ended.
#[derive(Debug, Clone)]
pub(super) struct Closing {
    pub(super) address: Option<SocketAddr>,
    pub(super) kind: Kind,
    pub(super) channel: Option<Rc<str>>,
    pub(super) reason: CloseReason,
    /// How long it had been there.
    pub(super) age_ms: u64,
    /// When that was decided, by the attended clock.
    pub(super) at_ms: u64,
}

/// The newest of them.
#[derive(Debug, Default)]
pub(super) struct Closings(VecDeque<Closing>);

impl Closings {
    pub(super) fn note(&mut self, closing: Closing) {
        if self.0.len() == CLOSINGS_MAX {
            self.0.pop_back();
        }
        self.0.push_front(closing);
    }

    /// Newest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Closing> {
        self.0.iter()
    }
}
