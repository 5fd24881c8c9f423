//! What holds between any two turns, checked whole; for tests and the simulator.

use crate::base::id::{Id, NONE};
use crate::hub::entry::Encoding;

use super::connection::{Connection, Phase, Queue, ReadState, WriteState};
use super::deadlines::Deadline;
use super::owner::Connections;

impl<S> Connections<S> {
    /// All connections with their indexes, in the order of the slab.
    pub(in crate::server) fn iter(&self) -> impl Iterator<Item = (u32, &Connection<S>)> {
        self.slab.iter().map(|(index, connection)| (u32::try_from(index).unwrap_or(NONE), connection))
    }

    /// How many hold something unfinished that has arrived, and how many something unsent.
    pub(in crate::server) fn holding(&self) -> (usize, usize) {
        let inboxes = self.iter().filter(|(_, connection)| connection.inbox.is_some()).count();
        (inboxes, self.iter().filter(|(_, connection)| connection.outbox.is_some()).count())
    }

    /// Checks the whole structure.
    ///
    /// # Panics
    ///
    /// If something does not hold.
    pub(in crate::server) fn check_invariants(&self) {
        assert!(self.dead.is_empty(), "the dead are dropped at the end of the turn");
        assert!(self.output.is_empty() && self.receiving.is_none(), "output is sent");
        self.unsent.check_invariants(&self.slab);
        let inboxes = self.iter().filter_map(|(_, connection)| connection.inbox.as_ref());
        assert_eq!(inboxes.map(|inbox| inbox.bytes).sum::<usize>(), self.inboxes_bytes, "bytes of inboxes");
        expect_once(self.read_queue.iter(), "a connection is queued once to be read");
        expect_once(self.flush_queue.iter(), "a connection is queued once to be flushed");
        expect_once(self.stalled.iter(), "a connection is held up once");
        self.iter().for_each(|(index, connection)| self.check_connection(index, connection));
        let on_fifos = Deadline::ALL.map(|deadline| self.deadlines.fifo(deadline).len() as usize);
        assert_eq!(on_fifos.iter().sum::<usize>(), self.len(), "every connection is on one FIFO");
        let count =
            |is_one: &dyn Fn(&Connection<S>) -> bool| self.iter().filter(|(_, one)| is_one(one)).count();
        assert_eq!(count(&|one| one.set().is_some()), self.streams, "connections with many channels");
        let echoes = count(&|one| one.phase.is_echo());
        let lagging = count(&Connection::is_lagging);
        assert_eq!((echoes, lagging), (self.echoes, self.lagging), "echoes, and cursors that lag");
        assert_eq!(count(&Connection::is_let_go), self.let_go, "connections that have nothing left to do");
        for encoding in Encoding::ALL {
            let subscribers =
                count(&|one| (one.channel().is_some() || one.set().is_some()) && one.encoding == encoding);
            assert_eq!(subscribers, self.subscribers[encoding as usize], "subscribers by encoding");
        }
    }

    fn check_connection(&self, index: u32, connection: &Connection<S>) {
        assert!(connection.phase != Phase::Dead, "the dead are dropped");
        if connection.channel().is_some() {
            assert!(matches!(connection.phase, Phase::Open(..)), "members are open");
        }
        let waits = connection.writing != WriteState::Ready;
        assert!(connection.outbox.is_none() || waits, "what is unsent will be sent");
        let is_in_read_queue = self.read_queue.contains(&connection.id(index));
        assert_eq!(
            connection.queues.has(Queue::Read),
            is_in_read_queue,
            "a connection in the queue knows it"
        );
        let is_in_flush_queue = self.flush_queue.contains(&connection.id(index));
        assert_eq!(connection.queues.has(Queue::Flush), is_in_flush_queue, "and in the other queue");
        if connection.writing == WriteState::Queued {
            assert!(is_in_flush_queue, "a connection to be flushed is in the queue");
        }
        if matches!(connection.reading, ReadState::Queued | ReadState::QueuedToEmpty) {
            assert!(is_in_read_queue, "a connection to be read is in the queue");
        }
        if connection.reading == ReadState::AwaitingResponse {
            assert!(connection.pending > 0, "a response that is awaited will come");
        }
    }

    /// Checks that nothing is held for anybody.
    ///
    /// # Panics
    ///
    /// If something is left.
    pub(in crate::server) fn check_quiet(&self) {
        assert!(self.slab.is_empty(), "no connection is left");
        assert!(!self.has_queued(), "nothing is queued");
        assert!(self.stalled.is_empty() && self.deferred.is_empty(), "none is held up");
        assert!(self.unsent.is_quiet(), "nothing is unsent");
        assert_eq!(self.inboxes_bytes, 0, "nothing has arrived");
    }
}

/// Checks that no id comes twice.
///
/// # Panics
///
/// If one does.
pub(in crate::server) fn expect_once<'a>(queue: impl Iterator<Item = &'a Id>, what: &str) {
    let mut ids: Vec<_> = queue.collect();
    ids.sort_unstable();
    assert!(ids.is_sorted_by(|left, right| left < right), "{what}: {ids:?}");
}
