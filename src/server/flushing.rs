//! From logs, pages and outboxes to the sockets: moving cursors along.

use std::io::{self, IoSlice};

use crate::base::frame::Frame;
use crate::base::id::NONE;
use crate::hub::channel::Run;
use crate::hub::entry::{Encoding, Entry, encode_front};
use crate::hub::registry::Step;
use crate::store::engine::Engine;

use super::batch::{Batch, Range};
use super::connection::{Connection, Endpoint, Farewell, Level, Phase, Queue, Reading, Writing};
use super::metrics::CloseReason;
use super::server::{Page, Server};
use super::socket::Socket;

/// Frames that go out by one gathered write.
const GATHER_MAX: usize = 64;

/// What a write of frames came to.
struct Written {
    sent: Sent,
    /// Frames that went out, the last one at least in part.
    delivered: usize,
    /// That one, and how much of it was sent, where that is not all.
    rest: Option<(Frame, usize)>,
}

/// What one attempt to send came to.
enum Sent {
    /// So many bytes went out; there may be more to send.
    Bytes(usize),
    /// There was nothing to send.
    Nothing,
    /// The socket is full.
    Blocked,
    /// The cursor is behind the log.
    Behind,
    /// What is next is not encoded yet, and no more is in this turn.
    Later,
    /// The socket has failed.
    Failed,
}

impl<S: Socket, E: Engine> Server<S, E> {
    /// Sends what is private, what was missed, and what is new. Where there is more
    /// than a turn may write, each of the three gets its share.
    pub(super) fn flush_all(&mut self) {
        let budget = self.write_bytes_left;
        let reserved = match (self.pages.is_empty(), self.registry.has_sweeps()) {
            (true, false) => 0,
            _ => budget / 2,
        };
        for _ in 0..self.config.budgets.flushes {
            if self.write_bytes_left <= reserved {
                break;
            }
            let Some(id) = self.flush_queue.pop_front() else { break };
            let Some(connection) = self.find(id) else { continue };
            connection.queues.leave(Queue::Flush);
            if connection.writing == Writing::Queued {
                self.flush(id.index);
            }
        }
        self.send_pages(if self.registry.has_sweeps() { budget / 4 } else { 0 });
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
                match self.registry.sweep_next() {
                    Some(Step::Member(index)) => {
                        slice -= 1;
                        members_left -= 1;
                        // One that is full, or waits for a page, gets there by itself.
                        if self.at(index).writing == Writing::Ready {
                            self.flush(index);
                        }
                    }
                    Some(Step::Finished) => {
                        is_finished = true;
                        break;
                    }
                    None => return,
                }
            }
            // Whichever budget has ended it: the next turn begins with another channel.
            if !is_finished {
                self.registry.sweep_later();
            }
        }
    }

    /// Gives pages of history to those who asked for them, until `reserved` bytes
    /// are left of what the turn may write.
    fn send_pages(&mut self, reserved: usize) {
        let mut budget = self.config.budgets.flushes;
        while let Some(mut page) = self.pages.pop_front() {
            let waiting = page.waiters.len();
            while budget > 0
                && self.write_bytes_left > reserved
                && self.encoders.may_write()
                && let Some(id) = page.waiters.pop()
            {
                budget -= 1;
                // One that has left its channel meanwhile does not wait any more.
                if self.find(id).is_some_and(|connection| {
                    connection.writing == Writing::Paging && connection.cursor == page.after
                }) {
                    self.send_page(id.index, &mut page);
                }
            }
            // The next turn begins with another page, if this one has had its share.
            if page.waiters.len() == waiting && waiting > 0 {
                return self.pages.push_front(page);
            } else if !page.waiters.is_empty() {
                return self.pages.push_back(page);
            }
        }
    }

    fn send_page(&mut self, index: u32, page: &mut Page) {
        self.at(index).writing = Writing::Ready;
        self.lagging -= 1;
        // Retention may have overtaken it before the page was read. What was read is sent, kept or not.
        if page.oldest > page.after + 1 {
            self.notice_gap(index);
        }
        let connection = &mut self.connections[index as usize];
        if connection.outbox.is_none() && connection.cursor == page.after {
            let encoding = connection.encoding;
            if encoding != Encoding::Plain {
                // All of it, whatever time is left: pages are bounded, and whoever else waits shares them.
                let stream = &self.registry.channel(connection.channel).stream;
                let (encoders, over) = (&mut self.encoders, self.config.compression.over);
                let coded = &mut self.metrics.coded;
                let mut make =
                    |id, plain: &_| Some(encoders.encode(encoding, stream, id, plain, over, coded));
                encode_front(page.entries.iter_mut(), encoding, (usize::MAX, usize::MAX), &mut make);
            }
            let mut at = 0;
            while at < page.entries.len() && self.at(index).outbox.is_none() {
                if self.must_wait_for_room(index, &page.entries[at]) {
                    return self.write_with_room(index);
                }
                let connection = &mut self.connections[index as usize];
                let Written { sent, delivered, rest } =
                    write_frames(connection, page.entries[at..].iter(), usize::MAX, None);
                self.push_shared_rest(index, rest);
                match sent {
                    Sent::Bytes(len) => {
                        self.write_bytes_left = self.write_bytes_left.saturating_sub(len);
                        self.metrics.bytes_sent += len as u64;
                    }
                    Sent::Failed => return self.die(index, CloseReason::SocketError),
                    // The page is read again when there is room: a slow reader holds none.
                    _ => {
                        self.at(index).writing = Writing::Blocked;
                        self.lagging += 1;
                        return;
                    }
                }
                at += delivered;
                self.metrics.deliveries += delivered as u64;
                self.metrics.delivery_writes += 1;
            }
            if at == page.entries.len() {
                let connection = self.at(index);
                connection.cursor = connection.cursor.max(page.through);
            }
        }
        self.queue_flush(index);
    }

    /// Whether the rest of a message of a page might be more than there is room for.
    fn must_wait_for_room(&self, index: u32, entry: &Entry) -> bool {
        let frame = entry.frame(self.connections[index as usize].encoding);
        frame.is_some_and(|frame| self.is_too_large(frame))
    }

    fn push_shared_rest(&mut self, index: u32, rest: Option<(Frame, usize)>) {
        if let Some(rest) = rest {
            self.unsent.push_shared_rest(&mut self.connections, index, self.moment.stamp, rest);
        }
    }

    /// Marks a connection to be flushed in this turn or the next.
    pub(super) fn queue_flush(&mut self, index: u32) {
        let connection = self.at(index);
        if connection.writing == Writing::Ready {
            connection.writing = Writing::Queued;
            self.put_in_flush_queue(index);
        }
    }

    /// Puts a connection in the queue, unless it is there.
    pub(super) fn put_in_flush_queue(&mut self, index: u32) {
        let connection = self.at(index);
        if connection.queues.enter(Queue::Flush) {
            let id = connection.id(index);
            self.flush_queue.push_back(id);
        }
    }

    /// Sends a connection what it has to get, until there is nothing left, its
    /// socket is full, or its budget is used up.
    pub(super) fn flush(&mut self, index: u32) {
        self.at(index).writing = Writing::Ready;
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
                    self.push_scratch(index);
                }
                Sent::Nothing => return self.after_flush(index),
                Sent::Blocked => {
                    let connection = &mut self.connections[index as usize];
                    connection.writing = Writing::Blocked;
                    self.lagging += usize::from(connection.is_lagging());
                    return;
                }
                Sent::Behind => return self.ask_for_page(index),
                Sent::Later => return self.queue_flush(index),
                Sent::Failed => return self.die(index, CloseReason::SocketError),
            }
            if budget == 0 {
                return self.queue_flush(index);
            }
        }
    }

    /// Whether a client of `polecat.v1` has got all that it missed, and is to be told.
    fn is_through(&mut self, index: u32) -> bool {
        let replaying =
            |endpoint: Endpoint| endpoint.subscription().is_some_and(|(_, level)| level == Level::Replaying);
        matches!(self.at(index).phase, Phase::Open(endpoint) if replaying(endpoint))
    }

    /// One write: what is private first, then what the log holds beyond the cursor.
    fn send_some(&mut self, index: u32, budget: usize) -> Sent {
        let connection = &mut self.connections[index as usize];
        if let Some(outbox) = &connection.outbox {
            let front = outbox.front();
            let sent =
                write(&mut connection.socket, |socket| socket.write(&front[..front.len().min(budget)]));
            if let Sent::Bytes(len) = sent {
                self.unsent.consume(&mut self.connections, index, self.moment.stamp, len);
                // However much its channel still holds for it: the answer to a
                // ping may be among what it was not read for.
                let connection = self.at(index);
                if connection.outbox.is_none() && connection.reading == Reading::Full {
                    self.queue_read(index);
                }
                self.note_progress(index);
            }
            return sent;
        }
        if connection.channel == NONE {
            return Sent::Nothing;
        }
        if connection.encoding != Encoding::Plain {
            self.encode_next(index, budget);
        }
        let connection = &mut self.connections[index as usize];
        match self.registry.after(connection.channel, connection.cursor) {
            Run::End => Sent::Nothing,
            Run::Behind => Sent::Behind,
            Run::Entries(entries) => {
                let serial = self.registry.channel(connection.channel).serial;
                let Written { sent, delivered, rest } =
                    write_frames(connection, entries, budget, Some((&mut self.batch, serial)));
                self.push_shared_rest(index, rest);
                self.metrics.deliveries += delivered as u64;
                self.metrics.delivery_writes += u64::from(delivered > 0);
                sent
            }
        }
    }

    /// Makes what one write to a connection takes, in its encoding, as far as there is time for it.
    fn encode_next(&mut self, index: u32, budget: usize) {
        let connection = &self.connections[index as usize];
        let encoding = connection.encoding;
        let (encoders, over) = (&mut self.encoders, self.config.compression.over);
        let coded = &mut self.metrics.coded;
        self.registry.encode(
            connection.channel,
            connection.cursor,
            encoding,
            (GATHER_MAX, budget),
            &mut self.metrics.limits,
            &mut |stream, id, plain| {
                encoders.may_write().then(|| encoders.encode(encoding, stream, id, plain, over, coded))
            },
        );
    }

    /// Who reads a response, or the rest before a Close, is waited for.
    fn note_progress(&mut self, index: u32) {
        if matches!(self.at(index).phase, Phase::Request | Phase::Closing | Phase::Ending(_)) {
            self.restart_deadline(index);
        }
    }

    /// Everything was sent: what waited for that goes on.
    fn after_flush(&mut self, index: u32) {
        if let Phase::Ending(farewell) = self.at(index).phase {
            return self.linger(index, farewell);
        }
        if self.at(index).pending > 0 {
            self.go_on_with_list(index);
        }
        self.settle_request(index);
    }

    /// Tells the peer that nothing more comes, and waits for its end.
    fn linger(&mut self, index: u32, farewell: Farewell) {
        if self.at(index).socket.shutdown_write().is_err() {
            return self.die(index, CloseReason::SocketError);
        }
        if self.admission.is_not_waited_for(index) {
            // What it has asked is taken out, for a socket closed over it resets the connection.
            let _ = self.connections[index as usize].socket.read(&mut self.read_buffer);
            return self.die(index, CloseReason::NotAdmitted);
        }
        self.set_phase(index, Phase::Lingering(farewell));
        self.queue_read(index);
    }

    /// Puts what was collected in the scratch behind all that waits to be sent.
    pub(super) fn push_scratch(&mut self, index: u32) {
        let scratch = std::mem::take(&mut self.scratch);
        self.push(index, &scratch);
        self.scratch = scratch;
        self.clear_scratch();
    }

    /// Sends what was collected in the scratch: at once where nothing else is
    /// waiting to be sent, else behind that.
    pub(super) fn send_scratch(&mut self, index: u32) {
        let scratch = std::mem::take(&mut self.scratch);
        let connection = self.at(index);
        if connection.phase != Phase::Dead && !scratch.is_empty() {
            let mut sent = 0;
            if connection.outbox.is_none() && connection.writing != Writing::Blocked {
                match write(&mut connection.socket, |socket| socket.write(&scratch)) {
                    Sent::Bytes(len) => {
                        sent = len;
                        self.metrics.bytes_sent += len as u64;
                    }
                    Sent::Failed => self.die(index, CloseReason::SocketError),
                    _ => {}
                }
            }
            if self.at(index).phase != Phase::Dead {
                self.push_unsent(index, &scratch, sent);
            }
        }
        let connection = self.at(index);
        if connection.outbox.is_some() || matches!(connection.phase, Phase::Ending(_)) {
            self.queue_flush(index);
        }
        self.scratch = scratch;
        self.clear_scratch();
    }
}

/// Writes messages that `connection` has not been sent, from its cursor on, in its encoding, and
/// moves the cursor along. A frame that went out in part counts as sent: its
/// rest has to go before everything else. What others get, too, is
/// taken from `batch`, given with the serial number of their channel.
fn write_frames<'a, S: Socket>(
    connection: &mut Connection<S>,
    entries: impl ExactSizeIterator<Item = &'a Entry> + DoubleEndedIterator + Clone,
    budget: usize,
    batch: Option<(&mut Batch, u64)>,
) -> Written {
    let encoding = connection.encoding;
    let is_one = entries.len() == 1;
    let last = entries.clone().next_back().map_or(0, |entry| entry.id);
    let frames = entries.map_while(|entry| Some((entry.id, entry.frame(encoding)?)));
    let sent = match frames.clone().next() {
        None => Sent::Later,
        Some((_, one)) if is_one || one.len() >= budget => {
            write(&mut connection.socket, |socket| socket.write(one))
        }
        Some((first, _)) => {
            let together = batch.and_then(|(batch, serial)| {
                let range = Range { serial, encoding, first, last };
                let (bytes, count, through) = batch.of(range, frames.clone())?;
                (bytes.len() <= budget).then(|| {
                    let sent = write(&mut connection.socket, |socket| socket.write(bytes));
                    let is_whole = matches!(sent, Sent::Bytes(len) if len == bytes.len());
                    (sent, is_whole.then_some((count, through)))
                })
            });
            match together {
                Some((sent, Some((delivered, through)))) => {
                    connection.cursor = through;
                    return Written { sent, delivered, rest: None };
                }
                Some((sent, None)) => sent,
                None => write_gathered(&mut connection.socket, frames.clone(), budget),
            }
        }
    };
    let (mut delivered, mut rest) = (0, None);
    let Sent::Bytes(mut left) = sent else { return Written { sent, delivered, rest } };
    for (id, frame) in frames {
        if left == 0 {
            break;
        }
        delivered += 1;
        connection.cursor = id;
        if left < frame.len() {
            rest = Some((frame.clone(), left));
            break;
        }
        left -= frame.len();
    }
    Written { sent, delivered, rest }
}

/// One write of several frames.
fn write_gathered<'a, S: Socket>(
    socket: &mut S,
    frames: impl Iterator<Item = (u64, &'a Frame)>,
    budget: usize,
) -> Sent {
    let mut slices = [IoSlice::new(&[]); GATHER_MAX];
    let mut count = 0;
    let mut bytes = 0;
    for (_, frame) in frames {
        if count == GATHER_MAX || bytes >= budget {
            break;
        }
        slices[count] = IoSlice::new(frame);
        count += 1;
        bytes += frame.len();
    }
    write(socket, |socket| socket.write_vectored(&slices[..count]))
}

/// One write, its outcome sorted. A socket that takes nothing has failed.
fn write<S: Socket>(socket: &mut S, mut attempt: impl FnMut(&mut S) -> io::Result<usize>) -> Sent {
    loop {
        match attempt(socket) {
            Ok(0) => return Sent::Failed,
            Ok(len) => return Sent::Bytes(len),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Sent::Blocked,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Sent::Failed,
        }
    }
}
