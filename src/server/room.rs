//! Which connection goes on when there is room for unsent bytes, and which one is closed for the sake of others.

use crate::base::limit::Limit;
use crate::wire::websocket::codec::{self, CloseCode};

use super::connections::{CloseReason, Eviction};
use super::server::Server;
use super::socket::Socket;

impl<S: Socket> Server<S> {
    /// Whether there is room for another answer.
    pub(super) const fn has_room(&self) -> bool {
        self.has_room_for(0)
    }

    /// The same beside answers of that many bytes, which are being made.
    pub(super) const fn has_room_for(&self, bytes: usize) -> bool {
        self.connections.has_room(self.store.backlog_bytes() + bytes)
    }

    pub(super) fn input_bytes_max(&self, index: u32, buffered_bytes: usize) -> usize {
        self.connections.input_bytes_max(index, buffered_bytes, self.store.backlog_bytes())
    }

    /// Reads a connection no further until there is room for its answers.
    pub(super) fn read_with_room(&mut self, index: u32) {
        if self.connections.read_with_room(index) {
            self.metrics.limits.count(Limit::UnsentBytes);
        }
    }

    /// Lets as many go on as there is room for.
    pub(super) fn offer_room(&mut self) {
        if self.connections.waits_for_room() {
            self.connections.offer_room(self.store.backlog_bytes(), &self.config.limits);
        }
    }

    /// Closes connections that hold something, take nothing of it, and make others wait.
    pub(super) fn expire_holders(&mut self, budget: &mut usize) {
        let wait_ms = self.config.timeouts.request_ms;
        while *budget > 0
            && self.is_room_wanted()
            && let Some(eviction) = self.connections.evict_holder(self.others_waiting(), wait_ms)
        {
            *budget -= 1;
            match eviction {
                Eviction::Spared => {}
                Eviction::Aborted(index) => self.abort(index, CloseReason::Unsent),
                Eviction::Closed(index) => {
                    let output = self.connections.output(index);
                    codec::write_close(Some(CloseCode::Again), "too much is unsent", output);
                    self.connections.push_output(index);
                    self.close_after_flush(index, CloseReason::Unsent);
                    self.connections.queue_flush(index);
                    self.connections.give_time(index);
                }
            }
        }
    }

    /// Milliseconds until [`Self::expire_holders`] has something to do.
    pub(super) fn holders_due_in_ms(&mut self) -> Option<u32> {
        if !self.is_room_wanted() {
            return None;
        }
        let (others_waiting, wait_ms) = (self.others_waiting(), self.config.timeouts.request_ms);
        self.connections.holders_due_in_ms(others_waiting, wait_ms)
    }

    /// Whether anything may wait for room: mostly, nothing does.
    fn is_room_wanted(&self) -> bool {
        self.connections.waits_for_room() || !self.lists_large.is_empty()
    }

    /// How many lists wait for room for a record, beside connections.
    fn others_waiting(&self) -> usize {
        if self.has_room() { 0 } else { self.lists_large.len() }
    }

    /// Drops connections in the middle of large messages, first those that have taken nothing for the longest time,
    /// until what they hold is within its bound and one message.
    pub(super) fn shed_holders(&mut self) {
        let message_bytes_max = self.config.limits.message_bytes_max;
        while let Some(index) = self.connections.holder_beyond_bound(message_bytes_max) {
            self.abort(index, CloseReason::Unsent);
        }
    }
}
