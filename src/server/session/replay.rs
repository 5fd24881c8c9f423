//! How a subscriber gets what it missed: pages of history for a cursor that has fallen off its log, the count of
//! what it missed, the gap that retention has made, and the point from which it is live. The engine is asked as many
//! questions as it answers in a turn, and the others wait. So nothing is read or counted for subscribers that have gone
//! meanwhile.

use crate::base::id::Id;
use crate::hub::channel::Run;
use crate::server::connections::{CloseReason, Connection, Connections, Phase, Protocol, WriteState};
use crate::server::owners::Owners;
use crate::server::socket::Socket;
use crate::server::store::Bounds;
use crate::store::engine::Stream;
use crate::wire::v1::Gap;
use crate::wire::websocket::codec::CloseCode;

/// The ids that can be replayed: `oldest..=newest`, none if `oldest` is above.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    pub(super) oldest: u64,
    pub(super) newest: u64,
}

/// The ids of `stream` that can be replayed.
pub(super) fn kept<S: Socket>(owners: &Owners<S>, stream: &Stream) -> Kept {
    let oldest = owners.store.oldest(stream);
    let newest = owners.hub.newest(stream);
    // The engine may be ahead of what it has told.
    Kept { oldest: oldest.min(newest + 1), newest }
}

/// Moves the cursor of a subscriber that has got everything to the newest id of its sequence. Its own channel may
/// be quiet while others are not, and it is to resume from an id after which nothing is missing.
pub(in crate::server) fn note_caught_up<S: Socket>(owners: &mut Owners<S>, index: u32) {
    let connection = owners.connections.at(index);
    let cursor = connection.cursor();
    if let Some(channel) = connection.channel()
        && connection.write_state() == WriteState::Ready
        && matches!(owners.hub.after(channel, cursor), Run::End)
    {
        let newest = owners.hub.newest_for(channel);
        owners.connections.set_cursor(index, cursor.max(newest));
    }
}

/// Tells a client of `polecat.v1` that is so far behind that retention has
/// overtaken it. All others just do not get what is gone.
pub(in crate::server) fn notice_gap<S: Socket>(owners: &mut Owners<S>, index: u32) {
    let connection = owners.connections.at(index);
    let is_v1 = matches!(connection.phase(), Phase::Open(Protocol::V1, _));
    let Some(channel) = connection.channel() else { return };
    let cursor = connection.cursor();
    let Kept { oldest, newest } = kept(owners, owners.hub.stream(channel));
    if cursor + 1 >= oldest {
        return;
    }
    owners.connections.set_cursor(index, oldest - 1);
    let timestamp = owners.time.timestamp();
    if is_v1 && let Some(envelope) = owners.envelope(index, &timestamp) {
        let requested = envelope.sequence.text(cursor);
        let gap = Gap { requested: &requested, agreed: cursor, oldest, newest };
        owners.write_text(index, |out| envelope.write_gap(&gap, out));
        owners.connections.push_output(index);
    }
}

/// Tells a client of `polecat.v1` that messages are live from now on.
pub(in crate::server) fn go_live<S: Socket>(owners: &mut Owners<S>, index: u32) {
    let timestamp = owners.time.timestamp();
    if let Some(envelope) = owners.envelope(index, &timestamp) {
        owners.connections.go_live(index);
        owners.write_text(index, |out| envelope.write_live(out));
    }
}

/// Moves the cursor of a member that cannot be sent anything now up to the next message, if it has all
/// before that. A later sweep no longer knows that the channel has nothing in between.
pub(in crate::server) fn skip_lull<S: Socket>(owners: &mut Owners<S>, index: u32) {
    let connection = owners.connections.at(index);
    let Some(channel) = connection.channel() else { return };
    let reach = owners.hub.reach(channel, connection.cursor());
    owners.connections.set_cursor(index, reach);
}

/// Has the page after a cursor read that is behind its log. All cursors at one place share the answer.
pub(in crate::server) fn ask_for_page<S: Socket>(owners: &mut Owners<S>, index: u32) {
    let Some(channel) = owners.connections.at(index).channel() else { return };
    skip_lull(owners, index);
    notice_gap(owners, index);
    owners.connections.await_history(index);
    let connection = owners.connections.at(index);
    let (id, after) = (connection.id(index), connection.cursor());
    let serial = owners.hub.serial(channel);
    owners.store.ask_for_page(serial, after, id);
}

/// Asks the engine for the history that subscribers wait for, if they are still there.
pub(in crate::server) fn ask_for_history<S: Socket>(owners: &mut Owners<S>) {
    let budgets = &owners.config.budgets;
    let bounds = Bounds {
        asked_max: budgets.engine_reads,
        page_records: budgets.page_records,
        page_bytes: budgets.page_bytes,
        count_records: budgets.count_records,
    };
    let (connections, hub) = (&owners.connections, &owners.hub);
    owners.metrics.pages += owners.store.ask_for_history(budgets.flushes, bounds, |id, after| {
        Some(hub.stream(waiting(connections, id, after)?.channel()?).clone())
    });
}

/// Whether any of `waiters` still waits for the messages after that id.
pub(in crate::server) fn is_awaited<S: Socket>(owners: &Owners<S>, waiters: &[Id], after: u64) -> bool {
    waiters.iter().any(|id| waiting(&owners.connections, *id, after).is_some())
}

/// The subscriber of that id, if it is there and waits for the messages after its cursor, which is `after`.
fn waiting<S>(connections: &Connections<S>, id: Id, after: u64) -> Option<&Connection<S>> {
    connections.find(id).filter(|connection| {
        connection.channel().is_some()
            && connection.write_state() == WriteState::AwaitingHistory
            && connection.cursor() == after
    })
}

/// Tells a subscriber how many messages it missed; they follow. If there are none, no history has to be read.
pub(in crate::server) fn apply_count<S: Socket>(
    owners: &mut Owners<S>,
    connection: Id,
    (from, through): (u64, u64),
    (count, is_cut): (u64, bool),
    oldest: u64,
) {
    if owners.connections.end_history(connection) {
        owners.tell(connection, |envelope, out| envelope.write_resumed(from, count, is_cut, out));
        if count == 0
            && oldest <= from + 1
            && let Some(subscriber) = owners.connections.find(connection)
        {
            let cursor = subscriber.cursor().max(through);
            owners.connections.set_cursor(connection.index, cursor);
        }
        owners.connections.queue_flush(connection.index);
    }
}

/// Ends a subscriber whose history cannot be read now: it resumes when it reconnects. To go on without the history
/// would leave a gap.
pub(in crate::server) fn give_up_on<S: Socket>(owners: &mut Owners<S>, id: Id) {
    if owners.connections.end_history(id) {
        owners.close(id.index, CloseCode::Again, "history cannot be read now", CloseReason::StoreFailed);
    }
}
