//! What holds between any two turns, checked whole; for tests and the simulator.

use super::connections::{Connection, WriteState};
use crate::hub::member::{Member, Subscriber};

use super::http::Http;
use super::owners::Owners;
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
    /// Subscriptions of connections that may have many.
    pub subscriptions: usize,
    /// Weight of what the engine has yet to answer.
    pub engine_backlog_bytes: usize,
}

/// What is held, by looking at every connection: for tests, not for a turn.
pub(super) fn holdings<S: Socket>(owners: &Owners<S>) -> Holdings {
    let mut held = Holdings {
        logs_bytes: owners.hub.logs_bytes(),
        inboxes_bytes: owners.connections.inboxes_bytes() + owners.subscriptions.requests_bytes(),
        outboxes_bytes: owners.connections.outboxes_bytes(),
        unsent_bytes: owners.connections.unsent_bytes(),
        engine_backlog_bytes: owners.store.backlog_bytes(),
        ..Holdings::default()
    };
    held.channels = owners.hub.count_named();
    held.subscriptions = owners.subscriptions.len();
    (held.log_frames_max, held.log_bytes_max) = owners.hub.largest_logs();
    (held.inboxes, held.outboxes) = owners.connections.holding();
    let unsent = owners.connections.iter().map(|(_, connection)| connection.unsent_bytes());
    held.outbox_bytes_max = unsent.max().unwrap_or_default();
    held
}

/// Checks the whole structure.
///
/// # Panics
///
/// If something does not hold.
pub(super) fn check_invariants<S: Socket>(owners: &Owners<S>, http: &Http) {
    owners.hub.check_invariants();
    owners.connections.check_invariants();
    owners.connections.iter().for_each(|(index, connection)| check_connection(owners, index, connection));
    let members = owners.connections.iter().filter(|(_, connection)| connection.channel().is_some()).count();
    let listed = owners.hub.count_members();
    assert_eq!(members + owners.subscriptions.len(), listed, "members and connections agree");
    owners.subscriptions.check_invariants(|channel, slot| owners.hub.member(channel, slot));
    owners.store.check_invariants();
    let asked = owners.store.count_pending(|pending| matches!(pending, Pending::List { .. }));
    http.lists.check_invariants(asked);
}

/// Checks that nothing is held for anybody: no connection, no channel, no frame,
/// no question. That must hold when all clients have left and the engine has answered.
///
/// # Panics
///
/// If something is left.
pub(super) fn check_quiet<S: Socket>(owners: &Owners<S>, http: &Http) {
    owners.connections.check_quiet();
    assert!(owners.hub.is_empty(), "no channel is left");
    assert!(owners.subscriptions.is_empty(), "no subscription is left");
    assert_eq!(owners.hub.logs_bytes(), 0, "no frame is left");
    owners.store.check_quiet();
    http.lists.check_quiet();
    assert!(http.inspections.is_empty(), "nobody is asking");
}

fn check_connection<S: Socket>(owners: &Owners<S>, index: u32, connection: &Connection<S>) {
    if let Some(channel) = connection.channel() {
        let member = owners.hub.member(channel, connection.slot());
        assert_eq!(member, Some(Member::Connection(index)), "a member knows its place");
        assert!(connection.cursor() <= owners.hub.newest_for(channel), "no cursor is ahead");
    }
    if connection.write_state() == WriteState::AwaitingHistory {
        assert!(
            owners.store.is_history_awaited_by(Subscriber::of(connection.id(index))),
            "a page that is waited for was asked for"
        );
    }
}
