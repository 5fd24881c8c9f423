//! From logs, pages and outboxes to the sockets: moving cursors along.

use crate::base::limit::Limit;
use crate::hub::channel::Run;
use crate::hub::entry::{Encoding, Entry, encode_front};
use crate::hub::registry::SweepStep;

use super::connections::{
    CloseKind, CloseReason, Endpoint, GATHER_MAX, Level, Phase, Sent, WriteState, Written,
};
use super::server::Server;
use super::socket::Socket;
use super::store::HistoryPage;

impl<S: Socket> Server<S> {
    /// Sends private messages, messages that were missed, and new ones. If there is more than a turn may write, each of
    /// the three gets its share.
    pub(super) fn flush_all(&mut self) {
        let budget = self.write_bytes_left;
        let reserved = match (self.store.has_pages(), self.hub.has_sweeps()) {
            (false, false) => 0,
            _ => budget / 2,
        };
        let mut left = self.config.budgets.flushes;
        while self.write_bytes_left > reserved
            && let Some(index) = self.connections.next_to_flush(&mut left)
        {
            self.flush(index);
        }
        self.send_pages(if self.hub.has_sweeps() { budget / 4 } else { 0 });
        self.sweep();
        self.shed_holders();
    }

    /// Offers the newest frames of channels to their members: a slice of one
    /// channel, a slice of the next, until the budget is used up.
    fn sweep(&mut self) {
        let mut members_left = self.config.budgets.sweep_members;
        while members_left > 0 && self.write_bytes_left > 0 {
            let mut slice = self.config.budgets.sweep_members_per_channel.min(members_left);
            let mut is_finished = false;
            while slice > 0 && self.write_bytes_left > 0 {
                match self.hub.sweep_next() {
                    Some(SweepStep::Member(index)) => {
                        slice -= 1;
                        members_left -= 1;
                        match self.connections.at(index).write_state() {
                            WriteState::Ready => self.flush(index),
                            // Its page begins where it is.
                            WriteState::AwaitingHistory => {}
                            // It gets there by itself once there is room.
                            _ => self.skip_lull(index),
                        }
                    }
                    Some(SweepStep::Finished) => {
                        is_finished = true;
                        break;
                    }
                    None => return,
                }
            }
            // Whichever budget has ended it: the next turn begins with another channel.
            if !is_finished {
                self.hub.sweep_later();
            }
        }
    }

    /// Moves the cursor of a member that cannot be sent anything now up to the next message, if it has all
    /// before that. A later sweep no longer knows that the channel has nothing in between.
    pub(super) fn skip_lull(&mut self, index: u32) {
        let connection = self.connections.at(index);
        let Some(channel) = connection.channel() else { return };
        let reach = self.hub.reach(channel, connection.cursor());
        self.connections.set_cursor(index, reach);
    }

    /// Gives pages of history to the subscribers that asked for them, until `reserved` bytes
    /// are left of what the turn may write.
    fn send_pages(&mut self, reserved: usize) {
        let mut budget = self.config.budgets.flushes;
        while let Some(mut page) = self.store.next_page() {
            let waiting = page.waiters.len();
            while budget > 0
                && self.write_bytes_left > reserved
                && self.encoders.may_write()
                && let Some(id) = page.waiters.pop()
            {
                budget -= 1;
                // One that has left its channel meanwhile does not wait any more.
                if self.is_awaited(&[id], page.after) {
                    self.send_page(id.index, &mut page);
                }
            }
            // The next turn begins with another page, if this one has had its share.
            if page.waiters.len() == waiting && waiting > 0 {
                return self.store.return_page(page, false);
            } else if !page.waiters.is_empty() {
                return self.store.return_page(page, true);
            }
        }
    }

    fn send_page(&mut self, index: u32, page: &mut HistoryPage) {
        self.connections.end_history(self.connections.id(index));
        // Retention may have overtaken it before the page was read. What was read is sent, kept or not.
        if page.oldest > page.after + 1 {
            self.notice_gap(index);
        }
        let is_at_page = self.connections.at(index).cursor() == page.after;
        if is_at_page {
            self.connections.set_cursor(index, page.reach(0));
        }
        if is_at_page && !self.connections.at(index).has_unsent() {
            self.encode_page(index, page);
            let mut at = 0;
            while at < page.entries.len() && !self.connections.at(index).has_unsent() {
                if self.must_wait_for_room(index, &page.entries[at]) {
                    self.metrics.limits.count(Limit::UnsentBytes);
                    return self.connections.write_with_room(index);
                }
                let Written { sent, delivered } =
                    self.connections.write_entries(index, page.entries[at..].iter(), usize::MAX, None);
                match sent {
                    Sent::Bytes(len) => {
                        self.write_bytes_left = self.write_bytes_left.saturating_sub(len);
                        self.metrics.bytes_sent += len as u64;
                    }
                    Sent::Failed => return self.abort(index, CloseReason::SocketError),
                    // The page is read again when there is room: a slow reader holds none.
                    _ => return self.connections.block(index),
                }
                at += delivered;
                self.metrics.deliveries += delivered as u64;
                self.metrics.delivery_writes += 1;
            }
            self.connections.set_cursor(index, page.reach(at));
        }
        self.connections.queue_flush(index);
    }

    /// Makes all of a page in the encoding of a connection, whatever time is left: pages are bounded, and others
    /// that wait share them.
    fn encode_page(&mut self, index: u32, page: &mut HistoryPage) {
        let connection = self.connections.at(index);
        let encoding = connection.encoding();
        let Some(channel) = connection.channel().filter(|_| encoding != Encoding::Plain) else { return };
        let stream = self.hub.stream(channel);
        let (encoders, over) = (&mut self.encoders, self.config.compression.over);
        let coded = &mut self.metrics.coded;
        let mut make = |id, plain: &_| Some(encoders.encode(encoding, stream, id, plain, over, coded));
        encode_front(page.entries.iter_mut(), encoding, (usize::MAX, usize::MAX), &mut make);
    }

    /// Whether the rest of a message of a page might be more than there is room for.
    fn must_wait_for_room(&self, index: u32, entry: &Entry) -> bool {
        let frame = entry.frame(self.connections.at(index).encoding());
        frame.is_some_and(|frame| self.connections.is_too_large(frame))
    }

    /// Sends a connection what it has to get, until there is nothing left, its
    /// socket is full, or its budget is used up.
    pub(super) fn flush(&mut self, index: u32) {
        self.connections.begin_flush(index);
        let mut budget = self.config.budgets.write_bytes_per_connection;
        loop {
            match self.send_some(index, budget) {
                Sent::Bytes(len) => {
                    budget = budget.saturating_sub(len);
                    self.write_bytes_left = self.write_bytes_left.saturating_sub(len);
                    self.metrics.bytes_sent += len as u64;
                }
                Sent::Nothing if self.is_through(index) => {
                    self.go_live(index);
                    self.connections.push_output(index);
                }
                Sent::Nothing => return self.after_flush(index),
                Sent::Blocked => return self.connections.block(index),
                Sent::Behind => return self.ask_for_page(index),
                Sent::Later => return self.connections.queue_flush(index),
                Sent::Failed => return self.abort(index, CloseReason::SocketError),
            }
            if budget == 0 {
                return self.connections.queue_flush(index);
            }
        }
    }

    /// Whether a client of `polecat.v1` has got all that it missed, and is to be told.
    fn is_through(&self, index: u32) -> bool {
        let replaying =
            |endpoint: Endpoint| endpoint.subscription().is_some_and(|(_, level)| level == Level::Replaying);
        matches!(self.connections.at(index).phase(), Phase::Open(endpoint) if replaying(endpoint))
    }

    /// One write: what is private first, then what the log holds beyond the cursor.
    fn send_some(&mut self, index: u32, budget: usize) -> Sent {
        if let Some(sent) = self.connections.flush_outbox(index, budget) {
            return sent;
        }
        let connection = self.connections.at(index);
        let Some(channel) = connection.channel() else { return Sent::Nothing };
        let cursor = connection.cursor();
        let encoding = connection.encoding();
        if encoding != Encoding::Plain {
            self.encode_next(channel, cursor, encoding, budget);
        }
        match self.hub.after(channel, cursor) {
            Run::End => Sent::Nothing,
            Run::Behind => Sent::Behind,
            Run::Entries(entries) => {
                let serial = self.hub.serial(channel);
                let batch = Some((&mut self.batch, serial));
                let Written { sent, delivered } =
                    self.connections.write_entries(index, entries, budget, batch);
                self.metrics.deliveries += delivered as u64;
                self.metrics.delivery_writes += u64::from(delivered > 0);
                sent
            }
        }
    }

    /// Makes what one write takes from a cursor on, in that encoding, as far as there is time for it.
    fn encode_next(&mut self, channel: u32, cursor: u64, encoding: Encoding, budget: usize) {
        let (encoders, over) = (&mut self.encoders, self.config.compression.over);
        let coded = &mut self.metrics.coded;
        self.hub.encode(
            channel,
            cursor,
            encoding,
            (GATHER_MAX, budget),
            &mut self.metrics.limits,
            &mut |stream, id, plain| {
                encoders.may_write().then(|| encoders.encode(encoding, stream, id, plain, over, coded))
            },
        );
    }

    /// Everything was sent: what waited for that goes on.
    fn after_flush(&mut self, index: u32) {
        if let Phase::Ending(kind) = self.connections.at(index).phase() {
            return self.linger(index, kind);
        }
        if self.connections.at(index).awaits_response() {
            self.go_on_with_list(index);
        }
        self.settle_request(index);
    }

    /// Tells the peer that nothing more comes, and waits for its end.
    fn linger(&mut self, index: u32, kind: CloseKind) {
        if let Err(reason) = self.connections.linger(index, kind, &mut self.read_buffer) {
            self.abort(index, reason);
        }
    }
}
