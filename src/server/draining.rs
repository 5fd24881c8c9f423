//! How the server stops. Connections that speak HTTP end as soon as what they asked is answered. WebSockets are
//! closed one by one, spread over a part of the time that there is: their clients reconnect as they went, and avoid a
//! thundering herd on the next server.

use crate::wire::websocket::codec::CloseCode;

use super::connections::{CloseReason, Connection, Phase, Protocol};
use super::drain::Drain;
use super::owners::Owners;
use super::socket::Socket;

/// No client is asked to reconnect sooner than this after the last one is closed: the next server has to start.
const RECONNECT_MS_MIN: u32 = 500;

/// Begins to stop: from the next turn on, every connection is told and ended.
pub(super) fn shut_down<S: Socket>(owners: &mut Owners<S>) {
    if owners.is_draining() {
        return;
    }
    // A thousand in a second are not a thundering herd, so a few are closed at once, however much time there is.
    // The rest of the time is for peers that have to answer.
    let open = u32::try_from(owners.connections.counts().open).unwrap_or(u32::MAX);
    let spread_ms = open.min(owners.config.timeouts.drain_ms / 2);
    let since = owners.time.stamp;
    owners.drain = Some(Drain { since, http_next: 0, spread_ms, open, closed: 0, next: 0 });
}

/// Whether a shutdown is complete: nothing is left to be stored, and no peer to be told or to be heard out, or the
/// time for that is over.
pub(super) fn is_finished<S: Socket>(owners: &Owners<S>) -> bool {
    let Some(drain) = owners.drain else { return false };
    if drain.elapsed_ms(owners.time.stamp) >= owners.config.timeouts.drain_ms {
        return true;
    }
    let counts = owners.connections.counts();
    counts.open == 0
        && counts.http == 0
        && owners.store.backlog_bytes() == 0
        && owners.connections.are_let_go()
}

/// Ends connections that are due, as many as the budget of a turn allows.
pub(super) fn drain<S: Socket>(owners: &mut Owners<S>) {
    let Some(mut drain) = owners.drain else { return };
    let capacity = capacity(owners);
    for _ in 0..owners.config.budgets.deadlines {
        if drain.http_next >= capacity {
            break;
        }
        let_go(owners, drain.http_next);
        drain.http_next += 1;
    }
    let due = drain.due(owners.time.stamp);
    for _ in 0..owners.config.budgets.deadlines {
        if drain.next >= capacity || drain.closed >= due {
            break;
        }
        drain.closed += u32::from(send_away(owners, drain.next, &drain));
        drain.next += 1;
    }
    owners.drain = Some(drain);
}

/// Every index is below this.
fn capacity<S: Socket>(owners: &Owners<S>) -> u32 {
    u32::try_from(owners.connections.capacity()).unwrap_or(u32::MAX)
}

/// Whether a connection is due now.
pub(super) fn has_to_drain<S: Socket>(owners: &Owners<S>) -> bool {
    let Some(drain) = owners.drain else { return false };
    let capacity = capacity(owners);
    drain.http_next < capacity
        || (owners.connections.counts().open > 0
            && drain.next < capacity
            && drain.closed < drain.due(owners.time.stamp))
}

/// Milliseconds until a shutdown has something to do, or is over.
pub(super) fn drain_due_in_ms<S: Socket>(owners: &Owners<S>) -> Option<u32> {
    let drain = owners.drain?;
    let (now, capacity) = (owners.time.stamp, capacity(owners));
    let is_closing = owners.connections.counts().open > 0 && drain.next < capacity;
    let next = is_closing.then(|| drain.due_in_ms(now));
    let end = owners.config.timeouts.drain_ms.saturating_sub(drain.elapsed_ms(now));
    next.into_iter().chain([end]).min()
}

/// Ends a connection that speaks HTTP, unless it is being answered: then the answer says `Connection: close`.
fn let_go<S: Socket>(owners: &mut Owners<S>, index: u32) {
    let Some(connection) = owners.connections.get(index) else { return };
    let is_begun = connection.phase() != Phase::KeepAlive && connection.is_busy();
    if connection.is_http() && !is_begun {
        owners.close_after_flush(index, CloseReason::Shutdown);
        owners.connections.queue_flush(index);
    }
}

/// Closes the WebSocket at `index`; returns whether there is one.
fn send_away<S: Socket>(owners: &mut Owners<S>, index: u32, drain: &Drain) -> bool {
    let phase = owners.connections.get(index).map(Connection::phase);
    let Some(Phase::Open(protocol, _)) = phase else { return false };
    if matches!(protocol, Protocol::V1 | Protocol::Many) {
        say_reconnect(owners, index, drain);
    }
    owners.close(index, CloseCode::Away, "going away", CloseReason::Shutdown);
    true
}

/// Asks a client of `polecat.v1` to reconnect when all are gone and the next server is there, at a time of
/// its own within as long again as it took them to go.
fn say_reconnect<S: Socket>(owners: &mut Owners<S>, index: u32, drain: &Drain) {
    let left_ms = drain.spread_ms.saturating_sub(drain.elapsed_ms(owners.time.stamp));
    let after_ms = left_ms + RECONNECT_MS_MIN + owners.random.u32(0..=drain.spread_ms);
    let timestamp = owners.time.timestamp();
    if let Some(envelope) = owners.envelope(index, &timestamp) {
        owners.write_text(index, |out| envelope.write_reconnect(after_ms, out));
        owners.connections.push_output(index);
    }
}
