//! Deadlines: heartbeats, and the time-outs of peers that do not go on.

use crate::base::limit::Limit;
use crate::base::time::Stamp;
use crate::wire::http::decoder::{Refusal, Status, begins_head};
use crate::wire::websocket::codec::{self, CloseCode, OpCode};

use super::connections::{CloseReason, Deadline, Endpoint, Level, Phase, WriteState};
use super::server::Server;
use super::socket::Socket;

impl<S: Socket> Server<S> {
    /// Does what is due, as much as the budget allows.
    pub(super) fn expire(&mut self) {
        let mut budget = self.config.budgets.deadlines;
        for deadline in Deadline::ALL {
            let wait_ms = deadline.wait_ms(&self.config.timeouts);
            while budget > 0
                && let Some((index, since)) = self.connections.overdue(deadline, wait_ms)
            {
                budget -= 1;
                match deadline {
                    Deadline::Handshake => self.request_is_late(index, CloseReason::HandshakeTimeout),
                    Deadline::Request => self.request_is_late(index, CloseReason::RequestTimeout),
                    Deadline::KeepAlive => self.idle_is_over(index),
                    Deadline::Heartbeat => self.send_heartbeat(index, since),
                    Deadline::Close => self.close_is_late(index),
                }
            }
        }
        self.expire_holders(&mut budget);
        self.hub.release_idle(self.time.stamp, self.config.budgets.deadlines);
    }

    /// Milliseconds until something of the server itself falls due.
    pub(super) fn next_deadline_ms(&mut self) -> Option<u64> {
        let connections = self.connections.next_deadline_ms(&self.config.timeouts);
        let idle = self.hub.idle_due_in(self.time.stamp);
        let server = [connections, idle, self.drain_due_in_ms(), self.holders_due_in_ms()];
        server.into_iter().flatten().min().map(u64::from)
    }

    fn idle_is_over(&mut self, index: u32) {
        if self.connections.at(index).is_unread() {
            // It has sent something: a request, most likely.
            return self.connections.restart_deadline(index);
        }
        self.close_after_flush(index, CloseReason::KeepAliveTimeout);
        self.connections.queue_flush(index);
    }

    fn request_is_late(&mut self, index: u32, reason: CloseReason) {
        let connection = self.connections.at(index);
        if connection.is_unread() || connection.is_unwritten() {
            // The peer waits for us.
            self.connections.restart_deadline(index);
        } else if connection.has_unsent() {
            self.abort(index, reason);
        } else if connection.awaits_response() {
            // Here, too: the engine has yet to answer.
            self.connections.restart_deadline(index);
        } else if let Some(unfinished) = connection.unfinished() {
            let head_only = begins_head(unfinished);
            let refusal = Refusal::new(Status::REQUEST_TIMEOUT, "the request did not arrive in time");
            self.refuse(index, &refusal, head_only, reason);
            self.send_output(index);
        } else {
            self.close_after_flush(index, reason);
            self.connections.queue_flush(index);
        }
    }

    fn close_is_late(&mut self, index: u32) {
        if self.connections.at(index).is_unwritten() {
            return self.connections.restart_deadline(index);
        }
        self.metrics.limits.count(Limit::CloseTime);
        self.abort(index, CloseReason::SocketError);
    }

    /// One heartbeat: the peer is told that we live. If it has said nothing for long, it is asked
    /// whether it does, too; if it was asked at the heartbeat before, at `since`, and has said
    /// nothing yet, it is given up.
    fn send_heartbeat(&mut self, index: u32, since: Stamp) {
        let now = self.time.stamp;
        self.connections.restart_deadline(index);
        // One that we have yet to read cannot be said to be silent, nor to have been asked.
        if self.connections.at(index).is_unread() {
            self.connections.note_alive(index);
        }
        let connection = self.connections.at(index);
        let silent_ms = now.since(connection.heard());
        let ping_after_ms = self.config.timeouts.ping_after_ms();
        // Not by how long it is silent: a heartbeat that is a little late would find one that the last did not ask.
        let was_silent_ms = silent_ms.saturating_sub(now.since(since));
        if was_silent_ms >= ping_after_ms {
            let output = self.connections.output(index);
            codec::write_close(Some(CloseCode::Error), "heartbeat timeout", output);
            self.send_output(index);
            return self.abort(index, CloseReason::HeartbeatTimeout);
        }
        // One heartbeat waits before a full socket, at the next frame boundary:
        // another would say nothing new.
        if connection.write_state() == WriteState::Blocked && connection.private_bytes() > 0 {
            return;
        }
        self.metrics.heartbeats += 1;
        // Reading an answer costs as much as writing, so none is asked of a peer that was heard.
        // The Ping first: a client that reads one message at a time has answered
        // it before it is busy with the heartbeat.
        let asks = silent_ms >= ping_after_ms;
        if asks {
            codec::write_frame(OpCode::Ping, b"", self.connections.output(index));
        }
        self.note_caught_up(index);
        let connection = self.connections.at(index);
        let is_told = !matches!(connection.phase(), Phase::Open(Endpoint::Channel(Level::Base)));
        let timestamp = self.time.timestamp();
        if let Some(place) = connection.place(&timestamp).filter(|_| is_told) {
            self.write_text(index, |out| place.write_heartbeat(out));
        } else if !asks {
            codec::write_frame(OpCode::Pong, b"", self.connections.output(index));
        }
        self.send_output(index);
    }
}
