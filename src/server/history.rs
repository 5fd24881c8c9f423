//! Questions about history: pages for cursors that have fallen off their log, and how much a subscriber has missed.
//! The engine is asked as many as it answers in a turn, and the others wait here. So nothing is read or counted for
//! those who have gone meanwhile.

use crate::base::id::Id;
use crate::store::engine::{Engine, Query, Ticket};

use super::connections::{Connection, Connections, WriteState};
use super::server::{Ask, Server};
use super::socket::Socket;

impl<S: Socket, E: Engine> Server<S, E> {
    /// Has a page read of what comes after a cursor that is behind its log. All
    /// cursors at one place share the answer.
    pub(super) fn ask_for_page(&mut self, index: u32) {
        let Some(channel) = self.connections.at(index).channel() else { return };
        self.skip_lull(index);
        self.notice_gap(index);
        self.connections.await_history(index);
        let connection = self.connections.at(index);
        let (id, after) = (connection.id(index), connection.cursor());
        let serial = self.registry.serial(channel);
        if let Some(ticket) = self.pages_asked.get(&(serial, after))
            && let Some(Ask::Page { waiters, .. }) =
                usize::try_from(*ticket).ok().and_then(|key| self.asks.get_mut(key))
        {
            waiters.push(id);
            return;
        }
        let ticket = self.asks.insert(Ask::Page { serial, after, waiters: vec![id] }) as u64;
        self.pages_asked.insert((serial, after), ticket);
        self.history_due.push_back(Ticket(ticket));
    }

    /// Whether the engine would be asked something at once.
    pub(super) fn has_history_to_ask_for(&self) -> bool {
        !self.history_due.is_empty() && self.history_asked < self.config.budgets.engine_reads
    }

    /// Asks the engine what those want to know who are still there.
    pub(super) fn ask_for_history(&mut self) {
        for _ in 0..self.config.budgets.flushes {
            if !self.has_history_to_ask_for() {
                break;
            }
            let Some(ticket) = self.history_due.pop_front() else { break };
            if let Some(query) = self.history_query(ticket) {
                self.history_asked += 1;
                self.metrics.pages += u64::from(matches!(query, Query::Page { .. }));
                self.engine.ask(query, ticket);
            } else if let Some(Ask::Page { serial, after, .. }) =
                usize::try_from(ticket.0).ok().and_then(|key| self.asks.try_remove(key))
            {
                self.pages_asked.remove(&(serial, after));
            }
        }
    }

    /// What to ask for `ticket`; `None` if nobody waits for the answer any more.
    fn history_query(&mut self, ticket: Ticket) -> Option<Query> {
        let budgets = &self.config.budgets;
        let stream_of = |connection: &Connection<S>| {
            connection.channel().map(|channel| self.registry.stream(channel).clone())
        };
        match self.asks.get_mut(usize::try_from(ticket.0).ok()?)? {
            Ask::Resume { connection, from, through } => {
                let stream = stream_of(waiting(&self.connections, *connection, *from)?)?;
                let count_max = budgets.count_records;
                Some(Query::Count { stream, after: *from, through: *through, count_max })
            }
            Ask::Page { after, waiters, .. } => {
                waiters.retain(|id| waiting(&self.connections, *id, *after).is_some());
                let stream = stream_of(waiting(&self.connections, *waiters.first()?, *after)?)?;
                let (records_max, bytes_max) = (budgets.page_records, budgets.page_bytes);
                Some(Query::Page { stream, after: *after, records_max, bytes_max })
            }
            _ => None,
        }
    }

    /// Whether any of `waiters` still waits for what comes after that id.
    pub(super) fn is_awaited(&self, waiters: &[Id], after: u64) -> bool {
        waiters.iter().any(|id| waiting(&self.connections, *id, after).is_some())
    }
}

/// The subscriber of that id, if it is there and waits for what comes after its cursor, which is `after`.
fn waiting<S>(connections: &Connections<S>, id: Id, after: u64) -> Option<&Connection<S>> {
    connections.find(id).filter(|connection| {
        connection.channel().is_some()
            && connection.write_state() == WriteState::AwaitingHistory
            && connection.cursor() == after
    })
}
