//! Questions about history: pages for cursors that have fallen off their log, and how much a subscriber has missed.
//! The engine is asked as many as it answers in a turn, and the others wait here. So nothing is read or counted for
//! subscribers that have gone meanwhile.

use crate::base::id::Id;

use super::connections::{Connection, Connections, WriteState};
use super::server::Server;
use super::socket::Socket;
use super::store::Bounds;

impl<S: Socket> Server<S> {
    /// Has the page after a cursor read that is behind its log. All cursors at one place share the answer.
    pub(super) fn ask_for_page(&mut self, index: u32) {
        let Some(channel) = self.connections.at(index).channel() else { return };
        self.skip_lull(index);
        self.notice_gap(index);
        self.connections.await_history(index);
        let connection = self.connections.at(index);
        let (id, after) = (connection.id(index), connection.cursor());
        let serial = self.hub.serial(channel);
        self.store.ask_for_page(serial, after, id);
    }

    /// Asks the engine for the history that subscribers wait for, if they are still there.
    pub(super) fn ask_for_history(&mut self) {
        let budgets = &self.config.budgets;
        let bounds = Bounds {
            asked_max: budgets.engine_reads,
            page_records: budgets.page_records,
            page_bytes: budgets.page_bytes,
            count_records: budgets.count_records,
        };
        let (connections, hub) = (&self.connections, &self.hub);
        self.metrics.pages += self.store.ask_for_history(budgets.flushes, bounds, |id, after| {
            Some(hub.stream(waiting(connections, id, after)?.channel()?).clone())
        });
    }

    /// Whether any of `waiters` still waits for the messages after that id.
    pub(super) fn is_awaited(&self, waiters: &[Id], after: u64) -> bool {
        waiters.iter().any(|id| waiting(&self.connections, *id, after).is_some())
    }
}

/// The subscriber of that id, if it is there and waits for the messages after its cursor, which is `after`.
fn waiting<S>(connections: &Connections<S>, id: Id, after: u64) -> Option<&Connection<S>> {
    connections.find(id).filter(|connection| {
        connection.channel().is_some()
            && connection.write_state() == WriteState::AwaitingHistory
            && connection.cursor() == after
    })
}
