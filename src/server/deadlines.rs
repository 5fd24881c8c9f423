//! What falls due: heartbeats, and the patience with peers that do not go on.

use crate::base::deadline::Fifo;
use crate::base::limit::Limit;
use crate::base::time::Stamp;
use crate::store::engine::Engine;
use crate::wire::http::decoder::{Refusal, Status, begins_head};
use crate::wire::websocket::codec::{self, CloseCode, OpCode};

use super::connection::{Endpoint, Level, Phase, Writing};
use super::metrics::CloseReason;
use super::server::Server;
use super::socket::Socket;

impl<S: Socket, E: Engine> Server<S, E> {
    /// Does what is due, as much as the budget allows.
    pub(super) fn expire(&mut self) {
        let mut budget = self.config.budgets.deadlines;
        while let Some((index, _)) =
            self.due(self.deadlines.handshake, self.config.timeouts.handshake_ms, &mut budget)
        {
            self.request_is_late(index, CloseReason::HandshakeTimeout);
        }
        while let Some((index, _)) =
            self.due(self.deadlines.request, self.config.timeouts.request_ms, &mut budget)
        {
            self.request_is_late(index, CloseReason::RequestTimeout);
        }
        while let Some((index, _)) =
            self.due(self.deadlines.keep_alive, self.config.timeouts.keep_alive_ms, &mut budget)
        {
            self.idle_is_over(index);
        }
        while let Some((index, since)) =
            self.due(self.deadlines.heartbeat, self.config.timeouts.heartbeat_interval_ms, &mut budget)
        {
            self.beat(index, since);
        }
        while let Some((index, _)) =
            self.due(self.deadlines.closing, self.config.timeouts.close_ms, &mut budget)
        {
            self.close_is_late(index);
        }
        self.expire_holders(&mut budget);
        self.registry.release_idle(self.moment.stamp, self.config.budgets.deadlines);
    }

    /// The front of `fifo`, and since when it waits, if that is for `wait_ms` and the budget is not used up.
    fn due(&mut self, fifo: Fifo, wait_ms: u32, budget: &mut usize) -> Option<(u32, Stamp)> {
        let (index, since) = fifo.front(&mut self.connections)?;
        if self.moment.stamp.since(since) < wait_ms || *budget == 0 {
            return None;
        }
        *budget -= 1;
        Some((index, since))
    }

    /// Milliseconds until something falls due.
    pub(super) fn next_deadline_ms(&mut self) -> Option<u64> {
        let now = self.moment.stamp;
        let timeouts = &self.config.timeouts;
        let fifos = [
            (self.deadlines.handshake, timeouts.handshake_ms),
            (self.deadlines.request, timeouts.request_ms),
            (self.deadlines.keep_alive, timeouts.keep_alive_ms),
            (self.deadlines.heartbeat, timeouts.heartbeat_interval_ms),
            (self.deadlines.closing, timeouts.close_ms),
        ];
        let remaining = |since: Stamp, wait_ms: u32| wait_ms.saturating_sub(now.since(since));
        let mut next: Option<u32> = None;
        for (fifo, wait_ms) in fifos {
            if let Some((_, since)) = fifo.front(&mut self.connections) {
                let due_in = remaining(since, wait_ms);
                next = Some(next.map_or(due_in, |next| next.min(due_in)));
            }
        }
        let idle = self.registry.idle_due_in(now);
        let server = [next, idle, self.drain_due_in_ms(), self.holders_due_in_ms()]
            .into_iter()
            .flatten()
            .min()
            .map(u64::from);
        [server, self.engine.due_in_ms(self.moment.now)].into_iter().flatten().min()
    }

    /// Gives a connection the whole time again that its phase has.
    pub(super) fn restart_deadline(&mut self, index: u32) {
        let now = self.moment.stamp;
        let phase = self.at(index).phase;
        if let Some(fifo) = self.deadlines.of(phase) {
            fifo.touch(&mut self.connections, index, now);
        }
    }

    fn idle_is_over(&mut self, index: u32) {
        if self.at(index).is_unread() {
            // It has sent something: a request, most likely.
            return self.restart_deadline(index);
        }
        self.finish(index, CloseReason::KeepAliveTimeout);
        self.queue_flush(index);
    }

    fn request_is_late(&mut self, index: u32, reason: CloseReason) {
        let connection = self.at(index);
        if connection.is_unread() || connection.is_unwritten() {
            // It is we who keep it waiting.
            self.restart_deadline(index);
        } else if connection.outbox.is_some() {
            self.die(index, reason);
        } else if connection.pending > 0 {
            // So it is here: the engine has yet to answer.
            self.restart_deadline(index);
        } else if let Some(inbox) = &connection.inbox {
            let head_only = begins_head(&inbox.rest);
            let refusal = Refusal::new(Status::REQUEST_TIMEOUT, "the request did not arrive in time");
            self.refuse(index, &refusal, head_only, reason);
            self.send_scratch(index);
        } else {
            self.finish(index, reason);
            self.queue_flush(index);
        }
    }

    fn close_is_late(&mut self, index: u32) {
        if self.at(index).is_unwritten() {
            return self.restart_deadline(index);
        }
        self.metrics.limits.count(Limit::CloseTime);
        self.die(index, CloseReason::SocketError);
    }

    /// One heartbeat: the peer is told that we live. Where it has said nothing for long, it is asked
    /// whether it does, too; where it was asked at the heartbeat before, at `since`, and has said
    /// nothing yet, it is given up.
    fn beat(&mut self, index: u32, since: Stamp) {
        let now = self.moment.stamp;
        self.restart_deadline(index);
        let connection = &mut self.connections[index as usize];
        // Whom we have yet to read cannot be said to be silent, nor to have been asked.
        if connection.is_unread() {
            connection.heard = now;
        }
        let silent_ms = now.since(connection.heard);
        let ping_after_ms = self.config.timeouts.ping_after_ms();
        // Not by how long it is silent: a heartbeat that is a little late would find one whom the last did not ask.
        let was_silent_ms = silent_ms.saturating_sub(now.since(since));
        if was_silent_ms >= ping_after_ms {
            codec::write_close(Some(CloseCode::Error), "heartbeat timeout", &mut self.scratch);
            self.send_scratch(index);
            return self.die(index, CloseReason::HeartbeatTimeout);
        }
        // Before a full socket one heartbeat waits, at the next frame boundary:
        // another would say nothing new.
        if connection.writing == Writing::Blocked && connection.private_bytes() > 0 {
            return;
        }
        self.metrics.heartbeats += 1;
        // Reading an answer costs as much as writing, so none is asked of whom we have heard.
        // The Ping first: a client that reads one message at a time has answered
        // it before it is busy with the heartbeat.
        let asks = silent_ms >= ping_after_ms;
        if asks {
            codec::write_frame(OpCode::Ping, b"", &mut self.scratch);
        }
        self.note_caught_up(index);
        let connection = &mut self.connections[index as usize];
        let is_told = !matches!(connection.phase, Phase::Open(Endpoint::Channel(Level::Base)));
        let timestamp = self.moment.timestamp();
        if let Some(place) = connection.place(&timestamp).filter(|_| is_told) {
            self.write_text(index, |out| place.write_heartbeat(out));
        } else if !asks {
            codec::write_frame(OpCode::Pong, b"", &mut self.scratch);
        }
        self.send_scratch(index);
    }
}
