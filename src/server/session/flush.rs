//! From logs, pages and outboxes to the sockets: moving cursors along.

use crate::base::limit::Limit;
use crate::hub::channel::Run;
use crate::hub::entry::{Encoding, Entry, encode_front};
use crate::hub::member::{Member, Replay, Subscriber};
use crate::hub::registry::SweepStep;
use crate::server::batch::Batch;
use crate::server::connections::{CloseReason, GATHER_MAX, Phase, Protocol, Sent, WriteState, Written};
use crate::server::owners::Owners;
use crate::server::socket::Socket;
use crate::server::store::HistoryPage;

use super::many::{self, Next};
use super::replay::{ask_for_page, go_live, is_awaited, notice_gap, skip_lull};

/// What is written to connections in a turn.
#[derive(Debug, Default)]
pub(in crate::server) struct Flusher {
    batch: Batch,
    /// Bytes that this turn may still write.
    bytes_left: usize,
}

impl Flusher {
    /// This turn may write that many bytes.
    pub(in crate::server) const fn begin_turn(&mut self, bytes: usize) {
        self.bytes_left = bytes;
    }

    /// Bytes that this turn may still write.
    pub(in crate::server) const fn bytes_left(&self) -> usize {
        self.bytes_left
    }

    /// Offers the newest frames of channels to their members: a slice of one
    /// channel, a slice of the next, until the budget is used up.
    pub(in crate::server) fn sweep<S: Socket>(&mut self, owners: &mut Owners<S>) {
        let mut members_left = owners.config.budgets.sweep_members;
        while members_left > 0 && self.bytes_left > 0 {
            let mut slice = owners.config.budgets.sweep_members_per_channel.min(members_left);
            let mut is_finished = false;
            while slice > 0 && self.bytes_left > 0 {
                match owners.hub.sweep_next() {
                    Some(SweepStep::Member(member)) => {
                        slice -= 1;
                        members_left -= 1;
                        self.offer(owners, member);
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
                owners.hub.sweep_later();
            }
        }
    }

    /// Sends a member the newest frames of its channel, if it can be sent something now.
    fn offer<S: Socket>(&mut self, owners: &mut Owners<S>, member: Member) {
        match member {
            Member::Subscription(key) => {
                if let Some(index) = many::offer(owners, key) {
                    self.flush(owners, index);
                }
            }
            Member::Connection(index) => match owners.connections.at(index).write_state() {
                WriteState::Ready => {
                    self.flush(owners, index);
                }
                // Its page begins where it is.
                WriteState::AwaitingHistory => {}
                // It gets there by itself once there is room.
                _ => skip_lull(owners, member),
            },
        }
    }

    /// Gives pages of history to the subscribers that asked for them, until `reserved` bytes
    /// are left of what the turn may write.
    pub(in crate::server) fn send_pages<S: Socket>(&mut self, owners: &mut Owners<S>, reserved: usize) {
        let mut budget = owners.config.budgets.flushes;
        while let Some(mut page) = owners.store.next_page() {
            let waiting = page.waiters.len();
            while budget > 0
                && self.bytes_left > reserved
                && owners.encoders.may_write()
                && let Some(subscriber) = page.waiters.pop()
            {
                budget -= 1;
                // One that has left its channel meanwhile does not wait any more.
                if is_awaited(owners, &[subscriber], (page.serial, page.after)) {
                    self.send_page(owners, subscriber, &mut page);
                }
            }
            // The next turn begins with another page, if this one has had its share.
            if page.waiters.len() == waiting && waiting > 0 {
                return owners.store.return_page(page, false);
            } else if !page.waiters.is_empty() {
                return owners.store.return_page(page, true);
            }
        }
    }

    fn send_page<S: Socket>(
        &mut self,
        owners: &mut Owners<S>,
        subscriber: Subscriber,
        page: &mut HistoryPage,
    ) {
        let (index, member) = (subscriber.connection.index, subscriber.member);
        owners.end_history(subscriber);
        // Retention may have overtaken it before the page was read. What was read is sent, kept or not.
        if page.oldest > page.after + 1 {
            notice_gap(owners, subscriber);
        }
        let place = owners.place(member);
        let Some((channel, _)) = place.filter(|(_, cursor)| *cursor == page.after) else {
            return owners.queue(subscriber);
        };
        owners.set_cursor(member, page.reach(0));
        // The page is read again when there is room: a slow reader holds none.
        if !owners.connections.may_flush(index) {
            return owners.queue(subscriber);
        }
        owners.connections.begin_flush(index);
        encode_page(owners, (index, channel), page);
        let mut at = 0;
        while at < page.entries.len() && !owners.connections.at(index).has_unsent() {
            if must_wait_for_room(owners, index, &page.entries[at]) {
                owners.metrics.limits.count(Limit::UnsentBytes);
                owners.mark_queued(member);
                return owners.connections.write_with_room(index);
            }
            let written =
                owners.connections.write_entries(index, page.entries[at..].iter(), usize::MAX, None);
            if let Some(reached) = written.reached {
                owners.set_cursor(member, reached);
            }
            match written.sent {
                Sent::Bytes(len) | Sent::All(len) => self.count_sent(owners, len),
                Sent::Failed => return owners.abort(index, CloseReason::SocketError),
                _ => {
                    owners.mark_queued(member);
                    return owners.connections.block(index);
                }
            }
            at += written.delivered;
            owners.metrics.deliveries += written.delivered as u64;
            owners.metrics.delivery_writes += 1;
        }
        owners.set_cursor(member, page.reach(at));
        owners.queue(subscriber);
    }

    /// Sends a connection what it has to get, until there is nothing left, its
    /// socket is full, or its budget is used up. Returns whether there is nothing left.
    pub(in crate::server) fn flush<S: Socket>(&mut self, owners: &mut Owners<S>, index: u32) -> bool {
        owners.connections.begin_flush(index);
        let mut budget = owners.config.budgets.write_bytes_per_connection;
        while budget > 0 {
            match self.send_some(owners, index, budget) {
                Sent::All(len) if !is_through(owners, index) => {
                    self.count_sent(owners, len);
                    return true;
                }
                Sent::Bytes(len) | Sent::All(len) => {
                    budget = budget.saturating_sub(len);
                    self.count_sent(owners, len);
                }
                Sent::Nothing if is_through(owners, index) => {
                    go_live(owners, index);
                    owners.connections.push_output(index);
                }
                Sent::Nothing => return true,
                sent => {
                    match sent {
                        Sent::Blocked => owners.connections.block(index),
                        Sent::Behind => ask_for_page(owners, Subscriber::of(owners.connections.id(index))),
                        Sent::Failed => owners.abort(index, CloseReason::SocketError),
                        _ => owners.connections.queue_flush(index),
                    }
                    return false;
                }
            }
        }
        owners.connections.queue_flush(index);
        false
    }

    /// One write: what is private first, then what the log holds beyond the cursor.
    fn send_some<S: Socket>(&mut self, owners: &mut Owners<S>, index: u32, budget: usize) -> Sent {
        if let Some(sent) = owners.connections.flush_outbox(index, budget) {
            return sent;
        }
        if let Some(set) = owners.connections.at(index).set() {
            return self.send_next(owners, index, set, budget);
        }
        self.send_entries(owners, index, Member::Connection(index), budget)
    }

    /// What one of the subscriptions of a connection is to be sent.
    fn send_next<S: Socket>(&mut self, owners: &mut Owners<S>, index: u32, set: u32, budget: usize) -> Sent {
        loop {
            match many::next(owners, set) {
                Next::Send(key) => {
                    match self.send_entries(owners, index, Member::Subscription(key), budget) {
                        // Room for an encoding was made by evicting what it was to be sent.
                        Sent::Behind => continue,
                        Sent::Bytes(len) | Sent::All(len) => {
                            owners.subscriptions.rotate(set);
                            return Sent::Bytes(len);
                        }
                        sent => return sent,
                    }
                }
                Next::Page(key) => {
                    let connection = owners.connections.id(index);
                    ask_for_page(owners, Subscriber { connection, member: Member::Subscription(key) });
                }
                Next::Live(live) => many::tell_live(owners, (index, set), &live),
                Next::Nothing => return Sent::Nothing,
            }
            // What was written comes before what follows.
            if owners.connections.at(index).has_unsent() {
                return Sent::Bytes(0);
            }
        }
    }

    /// One write of what the log holds for a member.
    #[inline]
    fn send_entries<S: Socket>(
        &mut self,
        owners: &mut Owners<S>,
        index: u32,
        member: Member,
        budget: usize,
    ) -> Sent {
        let Some((channel, cursor)) = owners.place(member) else { return Sent::Nothing };
        let encoding = owners.connections.at(index).encoding();
        if encoding != Encoding::Plain {
            encode_next(owners, channel, cursor, encoding, budget);
        }
        match owners.hub.after(channel, cursor) {
            Run::End => Sent::Nothing,
            Run::Behind => Sent::Behind,
            Run::Entries(entries) => {
                let batch = Some((&mut self.batch, owners.hub.serial(channel)));
                let Written { sent, delivered, reached } =
                    owners.connections.write_entries(index, entries, budget, batch);
                if let Some(reached) = reached {
                    owners.set_cursor(member, reached);
                }
                owners.metrics.deliveries += delivered as u64;
                owners.metrics.delivery_writes += u64::from(delivered > 0);
                sent
            }
        }
    }

    fn count_sent<S: Socket>(&mut self, owners: &mut Owners<S>, bytes: usize) {
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        owners.metrics.bytes_sent += bytes as u64;
    }
}

/// Makes all of a page in the encoding of a connection, whatever time is left: pages are bounded, and others
/// that wait share them.
fn encode_page<S: Socket>(owners: &mut Owners<S>, (index, channel): (u32, u32), page: &mut HistoryPage) {
    let encoding = owners.connections.at(index).encoding();
    if encoding == Encoding::Plain {
        return;
    }
    let stream = owners.hub.stream(channel);
    let (encoders, over) = (&mut owners.encoders, owners.config.compression.over);
    let coded = &mut owners.metrics.coded;
    let mut make = |id, plain: &_| Some(encoders.encode(encoding, stream, id, plain, over, coded));
    encode_front(page.entries.iter_mut(), encoding, (usize::MAX, usize::MAX), &mut make);
}

/// Whether the rest of a message of a page might be more than there is room for.
fn must_wait_for_room<S: Socket>(owners: &Owners<S>, index: u32, entry: &Entry) -> bool {
    let frame = entry.frame(owners.connections.at(index).encoding());
    frame.is_some_and(|frame| owners.connections.is_too_large(frame))
}

/// Whether a client of `polecat.v1` has got all that it missed, and is to be told.
fn is_through<S: Socket>(owners: &Owners<S>, index: u32) -> bool {
    matches!(owners.connections.at(index).phase(), Phase::Open(Protocol::V1, Replay::Running))
}

/// Makes what one write takes from a cursor on, in that encoding, as far as there is time for it.
fn encode_next<S: Socket>(
    owners: &mut Owners<S>,
    channel: u32,
    cursor: u64,
    encoding: Encoding,
    budget: usize,
) {
    let (encoders, over) = (&mut owners.encoders, owners.config.compression.over);
    let coded = &mut owners.metrics.coded;
    owners.hub.encode(
        channel,
        cursor,
        encoding,
        (GATHER_MAX, budget),
        &mut owners.metrics.limits,
        &mut |stream, id, plain| {
            encoders.may_write().then(|| encoders.encode(encoding, stream, id, plain, over, coded))
        },
    );
}
