//! What holds between any two turns, checked whole; for tests and the simulator.

use super::connections::{Connection, WriteState, expect_once};
use super::server::Server;
use super::socket::Socket;
use super::store::Pending;

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
    /// Channels with subscribers.
    pub channels: usize,
    /// Weight of what the engine has yet to answer.
    pub engine_backlog_bytes: usize,
}

impl<S: Socket> Server<S> {
    /// What is held, by looking at every connection: for tests, not for a turn.
    #[must_use]
    pub fn holdings(&self) -> Holdings {
        let mut held = Holdings {
            logs_bytes: self.hub.logs_bytes(),
            inboxes_bytes: self.connections.inboxes_bytes(),
            outboxes_bytes: self.connections.outboxes_bytes(),
            unsent_bytes: self.connections.unsent_bytes(),
            engine_backlog_bytes: self.store.backlog_bytes(),
            ..Holdings::default()
        };
        held.channels = self.hub.count_named();
        (held.log_frames_max, held.log_bytes_max) = self.hub.largest_logs();
        (held.inboxes, held.outboxes) = self.connections.holding();
        let unsent = self.connections.iter().map(|(_, connection)| connection.unsent_bytes());
        held.outbox_bytes_max = unsent.max().unwrap_or_default();
        held
    }

    /// Checks the whole structure.
    ///
    /// # Panics
    ///
    /// If something does not hold.
    pub fn check_invariants(&self) {
        self.hub.check_invariants();
        self.connections.check_invariants();
        assert!(self.scratch.is_empty(), "the scratch is empty");
        expect_once(self.lists_due.iter(), "a list is due once");
        self.connections.iter().for_each(|(index, connection)| self.check_connection(index, connection));
        let members =
            self.connections.iter().filter(|(_, connection)| connection.channel().is_some()).count();
        let listed = self.hub.count_members();
        assert_eq!(members, listed, "members and connections agree");
        self.store.check_invariants();
        let asked = self.store.count_pending(|pending| matches!(pending, Pending::List { .. }));
        assert_eq!(asked, self.lists_asked, "lists that are being read");
    }

    /// Checks that nothing is held for anybody: no connection, no channel, no frame,
    /// no question. That must hold when all clients have left and the engine has answered.
    ///
    /// # Panics
    ///
    /// If something is left.
    pub fn check_quiet(&self) {
        self.connections.check_quiet();
        assert!(self.hub.is_empty(), "no channel is left");
        assert_eq!(self.hub.logs_bytes(), 0, "no frame is left");
        self.store.check_quiet();
        assert!(self.lists.is_empty() && self.lists_due.is_empty(), "no list is being sent");
        assert!(self.inspections.is_empty(), "nobody is asking");
        assert_eq!(self.lists_asked, 0, "no list is being read");
    }

    fn check_connection(&self, index: u32, connection: &Connection<S>) {
        if let Some(channel) = connection.channel() {
            let member = self.hub.member(channel, connection.slot());
            assert_eq!(member, Some(index), "a member knows its place");
            assert!(connection.cursor() <= self.hub.newest_for(channel), "no cursor is ahead");
        }
        if connection.write_state() == WriteState::AwaitingHistory {
            assert!(
                self.store.is_history_awaited_by(connection.id(index)),
                "a page that is waited for was asked for"
            );
        }
    }
}
