//! What holds between any two turns, checked whole; for tests and the simulator.

use crate::base::id::{Id, NONE};
use crate::hub::entry::Encoding;
use crate::store::engine::{Engine, Stream};

use super::connection::{Connection, Endpoint, Phase, Queue, Reading, Writing};
use super::server::{Ask, Server};
use super::socket::Socket;
use super::unsent::POOLS;

/// What is held for connections beyond the connections themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Connections with something unfinished that has arrived.
    pub inboxes: usize,
    /// Connections with something unsent.
    pub outboxes: usize,
    /// Unsent bytes of the connection that has the most.
    pub outbox_bytes_max: usize,
    /// Bytes of all frames in logs.
    pub logs_bytes: usize,
    /// Frames in the log that has the most.
    pub log_frames_max: usize,
    /// Bytes of the largest log that has more than one frame.
    pub log_bytes_max: usize,
    /// Bytes of everything unfinished that has arrived.
    pub inboxes_bytes: usize,
    /// Memory of everything unsent, of all connections.
    pub outboxes_bytes: usize,
    /// Of that, what counts towards its limit.
    pub unsent_bytes: usize,
    /// Channels with somebody on them.
    pub channels: usize,
    /// Weight of what the engine has yet to answer.
    pub engine_backlog_bytes: usize,
}

impl<S: Socket, E: Engine> Server<S, E> {
    /// What is held, by looking at every connection: for tests, not for a turn.
    #[must_use]
    pub fn holdings(&self) -> Holdings {
        let mut held = Holdings {
            logs_bytes: self.registry.logs_bytes(),
            inboxes_bytes: self.inboxes_bytes,
            outboxes_bytes: self.unsent.held_bytes(),
            unsent_bytes: POOLS.map(|pool| self.unsent.bytes(pool)).iter().sum(),
            engine_backlog_bytes: self.engine_backlog_bytes,
            ..Holdings::default()
        };
        for (_, channel) in self.registry.iter() {
            let is_channel = matches!(channel.stream, Stream::Channel(_));
            held.channels += usize::from(is_channel && !channel.members.is_empty());
            held.log_frames_max = held.log_frames_max.max(channel.log.len());
            if channel.log.len() > 1 {
                held.log_bytes_max = held.log_bytes_max.max(channel.log.bytes());
            }
        }
        for (_, connection) in &self.connections {
            held.inboxes += usize::from(connection.inbox.is_some());
            held.outboxes += usize::from(connection.outbox.is_some());
            held.outbox_bytes_max =
                held.outbox_bytes_max.max(connection.outbox.as_ref().map_or(0, |outbox| outbox.len()));
        }
        held
    }

    /// Checks the whole structure.
    ///
    /// # Panics
    ///
    /// Where something does not hold.
    pub fn check_invariants(&self) {
        self.registry.check_invariants();
        assert!(self.dead.is_empty(), "the dead are dropped at the end of the turn");
        assert!(self.scratch.is_empty(), "the scratch is sent");
        self.unsent.check_invariants(&self.connections);
        let inboxes = self.connections.iter().filter_map(|(_, connection)| connection.inbox.as_ref());
        assert_eq!(inboxes.map(|inbox| inbox.bytes).sum::<usize>(), self.inboxes_bytes, "bytes of inboxes");
        expect_once(self.read_queue.iter(), "a connection is queued once to be read");
        expect_once(self.flush_queue.iter(), "a connection is queued once to be flushed");
        expect_once(self.stalled.iter(), "a connection is held up once");
        expect_once(self.lists_due.iter(), "a list is due once");
        let mut on_fifos = 0;
        let mut members = 0;
        for (index, connection) in &self.connections {
            let index = u32::try_from(index).unwrap_or(NONE);
            on_fifos += 1;
            members += usize::from(connection.channel != NONE);
            self.check_connection(index, connection);
        }
        let fifos = &self.deadlines;
        let listed = [fifos.handshake, fifos.request, fifos.keep_alive, fifos.heartbeat, fifos.closing];
        let listed: u32 = listed.iter().map(|fifo| fifo.len()).sum();
        assert_eq!(on_fifos, listed, "every connection is on one FIFO");
        let listed: usize = self.registry.iter().map(|(_, channel)| channel.members.len()).sum();
        assert_eq!(members, listed, "members and connections agree");
        let echoes = |connection: &Connection<S>| connection.phase == Phase::Open(Endpoint::Echo);
        let echoes = self.connections.iter().filter(|(_, connection)| echoes(connection)).count();
        let lagging = self.connections.iter().filter(|(_, connection)| connection.is_lagging()).count();
        assert_eq!((echoes, lagging), (self.echoes, self.lagging), "echoes, and cursors that lag");
        for encoding in Encoding::ALL {
            let is_one =
                |connection: &Connection<S>| connection.channel != NONE && connection.encoding == encoding;
            let count = self.connections.iter().filter(|(_, connection)| is_one(connection)).count();
            assert_eq!(count, self.subscribers[encoding as usize], "subscribers by encoding");
        }
        let pages = self.asks.iter().filter(|(_, ask)| matches!(ask, Ask::Page { .. })).count();
        assert_eq!(pages, self.pages_asked.len(), "pages asked for are known by their place");
        let history = |ask: &Ask| matches!(ask, Ask::Page { .. } | Ask::Resume { .. });
        let history = self.asks.iter().filter(|(_, ask)| history(ask)).count();
        assert_eq!(history, self.history_due.len() + self.history_asked, "history is due, or asked for");
        let asked = self.asks.iter().filter(|(_, ask)| matches!(ask, Ask::List { .. })).count();
        assert_eq!(asked, self.lists_asked, "lists that are being read");
    }

    /// Checks that nothing is held for anybody: no connection, no channel, no frame,
    /// no question. So it must be when everybody has left and the engine has answered.
    ///
    /// # Panics
    ///
    /// Where something is left.
    pub fn check_quiet(&self) {
        assert!(self.connections.is_empty(), "no connection is left");
        assert!(self.registry.is_empty(), "no channel is left");
        assert_eq!(self.registry.logs_bytes(), 0, "no frame is left");
        assert!(self.asks.is_empty() && self.pages_asked.is_empty(), "no question is left");
        assert!(self.pages.is_empty() && self.held.is_empty(), "no answer is left");
        assert!(self.read_queue.is_empty() && self.flush_queue.is_empty(), "nothing is queued");
        assert!(self.lists.is_empty() && self.lists_due.is_empty(), "no list is being sent");
        assert!(self.stalled.is_empty(), "nobody is held up");
        let backlog = (self.engine_backlog_bytes, self.engine_backlog_records);
        assert_eq!(backlog, (0, 0), "the engine has answered");
        assert!(self.inspections.is_empty(), "nobody is asking");
        assert!(self.unsent.is_quiet(), "nothing is unsent");
        assert_eq!((self.inboxes_bytes, self.lists_asked), (0, 0), "nothing counts");
    }

    fn check_connection(&self, index: u32, connection: &Connection<S>) {
        assert!(connection.phase != Phase::Dead, "the dead are dropped");
        if connection.channel != NONE {
            assert!(matches!(connection.phase, Phase::Open(_)), "members are open");
            let channel = self.registry.channel(connection.channel);
            assert_eq!(
                channel.members.get(connection.slot as usize),
                Some(&index),
                "a member knows its place"
            );
            assert!(connection.cursor <= self.registry.newest(&channel.stream), "no cursor is ahead");
        }
        if connection.writing == Writing::Paging {
            let is_waiter = |ask: &Ask| match ask {
                Ask::Page { waiters, .. } => waiters.contains(&connection.id(index)),
                Ask::Resume { connection: asker, .. } => *asker == connection.id(index),
                Ask::Request { .. } | Ask::List { .. } | Ask::Channels { .. } | Ask::Publish { .. } => false,
            };
            assert!(
                self.asks.iter().any(|(_, ask)| is_waiter(ask))
                    || self.pages.iter().any(|page| page.waiters.contains(&connection.id(index))),
                "a page that is waited for was asked for"
            );
        }
        let queued = |writing| writing != Writing::Ready;
        assert!(connection.outbox.is_none() || queued(connection.writing), "what is unsent will be sent");
        let is_in_read_queue = self.read_queue.contains(&connection.id(index));
        assert_eq!(connection.queues.has(Queue::Read), is_in_read_queue, "who is in the queue knows it");
        let is_in_flush_queue = self.flush_queue.contains(&connection.id(index));
        assert_eq!(
            connection.queues.has(Queue::Flush),
            is_in_flush_queue,
            "who is in the other queue knows it"
        );
        if connection.writing == Writing::Queued {
            assert!(is_in_flush_queue, "who is to be flushed is in the queue");
        }
        if matches!(connection.reading, Reading::Queued | Reading::QueuedToEmpty) {
            assert!(is_in_read_queue, "who is marked is in the queue");
        }
        if connection.reading == Reading::Awaiting {
            assert!(connection.pending > 0, "an answer that is awaited will come");
        }
    }
}

fn expect_once<'a>(queue: impl Iterator<Item = &'a Id>, what: &str) {
    let mut ids: Vec<_> = queue.collect();
    ids.sort_unstable();
    assert!(ids.is_sorted_by(|left, right| left < right), "{what}: {ids:?}");
}
