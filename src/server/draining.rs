//! How the server stops. Connections that speak HTTP end as soon as what they asked is answered. WebSockets are
//! closed one by one, spread over a part of the time that there is: their clients reconnect as they went, and avoid a
//! thundering herd on the next server.

use crate::wire::websocket::codec::CloseCode;

use super::connections::{CloseReason, Connection, Level, Phase};
use super::drain::Drain;
use super::server::{Lifecycle, Server};
use super::socket::Socket;

/// No client is asked to reconnect sooner than this after the last one is closed: the next server has to start.
const RECONNECT_MS_MIN: u32 = 500;

impl<S: Socket> Server<S> {
    /// Begins to stop: from the next turn on, every connection is told and ended.
    pub fn shut_down(&mut self) {
        if self.lifecycle != Lifecycle::Running {
            return;
        }
        // A thousand in a second are not a thundering herd, so a few are closed at once, however much time there is.
        // The rest of the time is for peers that have to answer.
        let open = u32::try_from(self.connections.counts().open).unwrap_or(u32::MAX);
        let spread_ms = open.min(self.config.timeouts.drain_ms / 2);
        self.lifecycle = Lifecycle::Draining(Drain {
            since: self.time.stamp,
            http_next: 0,
            spread_ms,
            crowd: open,
            closed: 0,
            next: 0,
        });
    }

    /// Whether [`Server::shut_down`] was called.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.lifecycle != Lifecycle::Running
    }

    /// Whether a shutdown is complete: nothing is left to be stored, and no peer to be told or to be heard out, or the
    /// time for that is over.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        let Lifecycle::Draining(drain) = self.lifecycle else { return false };
        if drain.elapsed_ms(self.time.stamp) >= self.config.timeouts.drain_ms {
            return true;
        }
        let counts = self.connections.counts();
        counts.open == 0
            && counts.http == 0
            && self.store.backlog_bytes() == 0
            && self.connections.are_let_go()
    }

    /// Ends connections that are due, as many as the budget of a turn allows.
    pub(super) fn drain(&mut self) {
        let Lifecycle::Draining(mut drain) = self.lifecycle else { return };
        let capacity = self.capacity();
        for _ in 0..self.config.budgets.deadlines {
            if drain.http_next >= capacity {
                break;
            }
            self.let_go(drain.http_next);
            drain.http_next += 1;
        }
        let due = drain.due(self.time.stamp);
        for _ in 0..self.config.budgets.deadlines {
            if drain.next >= capacity || drain.closed >= due {
                break;
            }
            drain.closed += u32::from(self.send_away(drain.next, &drain));
            drain.next += 1;
        }
        self.lifecycle = Lifecycle::Draining(drain);
    }

    /// Every index is below this.
    fn capacity(&self) -> u32 {
        u32::try_from(self.connections.capacity()).unwrap_or(u32::MAX)
    }

    /// Whether a connection is due now.
    pub(super) fn has_to_drain(&self) -> bool {
        let Lifecycle::Draining(drain) = self.lifecycle else { return false };
        let capacity = self.capacity();
        drain.http_next < capacity
            || (self.connections.counts().open > 0
                && drain.next < capacity
                && drain.closed < drain.due(self.time.stamp))
    }

    /// Milliseconds until a shutdown has something to do, or is over.
    pub(super) fn drain_due_in_ms(&self) -> Option<u32> {
        let Lifecycle::Draining(drain) = self.lifecycle else { return None };
        let (now, capacity) = (self.time.stamp, self.capacity());
        let is_closing = self.connections.counts().open > 0 && drain.next < capacity;
        let next = is_closing.then(|| drain.due_in_ms(now));
        let end = self.config.timeouts.drain_ms.saturating_sub(drain.elapsed_ms(now));
        next.into_iter().chain([end]).min()
    }

    /// Ends a connection that speaks HTTP, unless it is being answered: then the answer says `Connection: close`.
    fn let_go(&mut self, index: u32) {
        let Some(connection) = self.connections.get(index) else { return };
        let is_begun = connection.phase() != Phase::KeepAlive && connection.is_busy();
        if connection.is_http() && !is_begun {
            self.close_after_flush(index, CloseReason::Shutdown);
            self.connections.queue_flush(index);
        }
    }

    /// Closes the WebSocket at `index`; returns whether there is one.
    fn send_away(&mut self, index: u32, drain: &Drain) -> bool {
        let phase = self.connections.get(index).map(Connection::phase);
        let Some(Phase::Open(endpoint)) = phase else { return false };
        if endpoint.subscription().is_some_and(|(_, level)| level != Level::Base) {
            self.say_reconnect(index, drain);
        }
        self.close(index, CloseCode::Away, "going away", CloseReason::Shutdown);
        true
    }

    /// Asks a client of `polecat.v1` to reconnect when all are gone and the next server is there, at a time of
    /// its own within as long again as it took them to go.
    fn say_reconnect(&mut self, index: u32, drain: &Drain) {
        let left_ms = drain.spread_ms.saturating_sub(drain.elapsed_ms(self.time.stamp));
        let after_ms = left_ms + RECONNECT_MS_MIN + self.random.u32(0..=drain.spread_ms);
        let timestamp = self.time.timestamp();
        if let Some(place) = self.connections.at(index).place(&timestamp) {
            self.write_text(index, |out| place.write_reconnect(after_ms, out));
            self.connections.push_output(index);
        }
    }
}
