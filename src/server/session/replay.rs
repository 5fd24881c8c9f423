//! How a subscriber gets what it missed: pages of history for a cursor that has fallen off its log, the count of
//! what it missed, the gap that retention has made, and the point from which it is live. The engine is asked as many
//! questions as it answers in a turn, and the others wait. So nothing is read or counted for subscribers that have gone
//! meanwhile.

use crate::base::id::Id;
use crate::hub::channel::Run;
use crate::hub::member::{Member, Subscriber};
use crate::hub::subscriptions::{State, Subscriptions};
use crate::server::connections::{CloseReason, Connections, Phase, Protocol, WriteState};
use crate::server::owners::Owners;
use crate::server::socket::Socket;
use crate::server::store::Bounds;
use crate::store::engine::Stream;
use crate::wire::protocol::Sequence;
use crate::wire::v1::{Gap, Hello};
use crate::wire::websocket::codec::CloseCode;

/// The ids that can be replayed: `oldest..=newest`, none if `oldest` is above.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    pub(super) oldest: u64,
    pub(super) newest: u64,
}

/// The ids of a sequence that can be replayed.
pub(super) fn kept<S: Socket>(owners: &Owners<S>, sequence: Sequence) -> Kept {
    let oldest = owners.store.oldest(sequence);
    let newest = owners.hub.newest(sequence);
    // The engine may be ahead of what it has told.
    Kept { oldest: oldest.min(newest + 1), newest }
}

/// What `hello` says to a client of `polecat.v1`.
pub(super) fn hello<'a, S: Socket>(
    owners: &'a Owners<S>,
    channel: Option<&'a str>,
    features: &'static [&'static str],
    sequence: Sequence,
) -> Hello<'a> {
    let Kept { oldest, newest } = kept(owners, sequence);
    Hello {
        epoch: owners.store.terms().epoch(),
        channel,
        features,
        oldest: sequence.text(oldest),
        newest: sequence.text(newest),
        heartbeat_interval_ms: owners.config.timeouts.heartbeat_interval_ms,
        message_bytes_max: owners.config.limits.message_bytes_max,
        idempotency_window_ms: owners.store.idempotency_window_ms(),
        stored: owners.store.is_storing(),
    }
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
pub(in crate::server) fn notice_gap<S: Socket>(owners: &mut Owners<S>, subscriber: Subscriber) {
    let Some((channel, cursor)) = owners.place(subscriber.member) else { return };
    let stream = owners.hub.stream(channel).clone();
    let kept = kept(owners, stream.sequence());
    if cursor + 1 >= kept.oldest {
        return;
    }
    owners.set_cursor(subscriber.member, kept.oldest - 1);
    let index = subscriber.connection.index;
    if matches!(owners.connections.at(index).phase(), Phase::Open(Protocol::V1 | Protocol::Many, _)) {
        tell_gap(owners, subscriber, &stream, (&stream.sequence().text(cursor), cursor), kept);
        owners.connections.push_output(index);
    }
}

/// Writes `gap` for a client of `polecat.v1`: it asked for what came after `requested`, and has what came up to `agreed`.
pub(super) fn tell_gap<S: Socket>(
    owners: &mut Owners<S>,
    subscriber: Subscriber,
    stream: &Stream,
    (requested, agreed): (&str, u64),
    Kept { oldest, newest }: Kept,
) {
    let index = subscriber.connection.index;
    let timestamp = owners.time.timestamp();
    let Some(envelope) = owners.envelope(index, &timestamp) else { return };
    let channel = match subscriber.member {
        Member::Connection(_) => None,
        Member::Subscription(_) => Some(stream.channel().map(|name| &**name)),
    };
    let [agreed, oldest, newest] = [agreed, oldest, newest].map(|id| stream.sequence().text(id));
    let gap = Gap { requested, agreed, oldest, newest, channel };
    owners.write_text(index, |out| envelope.write_gap(&gap, out));
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
pub(in crate::server) fn skip_lull<S: Socket>(owners: &mut Owners<S>, member: Member) {
    let Some((channel, cursor)) = owners.place(member) else { return };
    let reach = owners.hub.reach(channel, cursor);
    owners.set_cursor(member, reach);
}

/// Has the page after a cursor read that is behind its log. All cursors at one place share the answer.
pub(in crate::server) fn ask_for_page<S: Socket>(owners: &mut Owners<S>, subscriber: Subscriber) {
    skip_lull(owners, subscriber.member);
    notice_gap(owners, subscriber);
    owners.await_history(subscriber.member);
    let Some((channel, after)) = owners.place(subscriber.member) else { return };
    let serial = owners.hub.serial(channel);
    owners.store.ask_for_page(serial, after, subscriber);
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
    let Owners { connections, subscriptions, hub, store, .. } = owners;
    owners.metrics.pages += store.ask_for_history(budgets.flushes, bounds, |subscriber, after, serial| {
        let channel = waiting(connections, subscriptions, subscriber, after)?;
        let is_it = serial.is_none_or(|serial| hub.serial(channel) == serial);
        is_it.then(|| hub.stream(channel).clone())
    });
}

/// Whether any of `waiters` still waits for the messages after an id of the channel with that serial number.
pub(in crate::server) fn is_awaited<S: Socket>(
    owners: &Owners<S>,
    waiters: &[Subscriber],
    (serial, after): (u64, u64),
) -> bool {
    let channel = |one: &Subscriber| waiting(&owners.connections, &owners.subscriptions, *one, after);
    waiters.iter().filter_map(channel).any(|channel| owners.hub.serial(channel) == serial)
}

/// The channel of a subscriber, if it is there and waits for the messages after its cursor, which is `after`.
fn waiting<S>(
    connections: &Connections<S>,
    subscriptions: &Subscriptions,
    subscriber: Subscriber,
    after: u64,
) -> Option<u32> {
    let connection = connections.find(subscriber.connection)?;
    let (waits, channel, cursor) = match subscriber.member {
        Member::Connection(_) => {
            let waits = connection.write_state() == WriteState::AwaitingHistory;
            (waits, connection.channel()?, connection.cursor())
        }
        Member::Subscription(key) => {
            let one = subscriptions.get(key, subscriber.connection)?;
            (one.state == State::AwaitingHistory, one.channel, one.cursor)
        }
    };
    (waits && cursor == after).then_some(channel)
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
pub(in crate::server) fn give_up_on<S: Socket>(owners: &mut Owners<S>, subscriber: Subscriber) {
    if owners.end_history(subscriber) {
        owners.close(
            subscriber.connection.index,
            CloseCode::Again,
            "history cannot be read now",
            CloseReason::StoreFailed,
        );
    }
}
