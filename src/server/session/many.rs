//! Connections with many channels (`/api/stream`): how they subscribe, what they are sent, and their cursor.
//!
//! A request to subscribe is worked off in slices, so that it delays nothing else. Until it is done, its connection is
//! not read. Each subscription moves along the log of its own channel, and those of one connection take turns.

use std::borrow::Cow;
use std::rc::Rc;

use crate::base::id::Id;
use crate::base::limit::Limit;
use crate::hub::channel::Run;
use crate::hub::member::{Member, Replay, Subscriber};
use crate::hub::subscriptions::{Request, State};
use crate::server::connections::CloseReason;
use crate::server::owners::Owners;
use crate::server::socket::Socket;
use crate::store::engine::Stream;
use crate::wire::body::channel_name_error;
use crate::wire::protocol::{Position, Sequence};
use crate::wire::stream::{Cursor, Names, Refused, Subscribed};
use crate::wire::v1::{ClientId, EnvelopeContext};
use crate::wire::websocket::codec::{CloseCode, OpCode};

use super::replay::{Kept, hello, kept, skip_lull, tell_gap};
use super::start::Start;

/// What a connection to `/api/stream` can do.
const FEATURES: &[&str] = &["subscribe", "unsubscribe", "cursor"];

/// Channels that one request is taken in of before it is another's turn.
const SLICE_MAX: usize = 128;

/// Bytes that the request of one connection may take whatever the others do.
const REQUEST_BYTES_FREE: usize = 4 << 10;

/// Bytes of names in a slice.
const SLICE_BYTES_MAX: usize = 16 << 10;

/// Begins a connection that was just opened, and what it asked for with its handshake.
pub(super) fn begin<S: Socket>(owners: &mut Owners<S>, index: u32, request: Option<Request>) {
    let set = owners.subscriptions.open(owners.connections.id(index));
    owners.connections.begin_set(index, set);
    let resumed = request.as_ref().and_then(|request| request.cursor.as_ref());
    let cursor = least(owners, cursor(owners, set), resumed).to_string();
    let timestamp = owners.time.timestamp();
    let mut text = Vec::new();
    let hello = hello(owners, None, FEATURES, Sequence::Messages);
    envelope(&cursor, &timestamp).write_hello(&hello, &mut text);
    owners.write_message(index, OpCode::Text, &text);
    if let Some(request) = request {
        begin_request(owners, index, set, request);
    }
}

/// What the messages that tell a cursor have in common.
const fn envelope<'a>(cursor: &'a str, timestamp: &'a str) -> EnvelopeContext<'a> {
    EnvelopeContext { sequence: Sequence::Messages, position: Position::Cursor(cursor), timestamp }
}

/// Takes a request in. The connection is not read on before it is done.
pub(super) fn begin_request<S: Socket>(owners: &mut Owners<S>, index: u32, set: u32, request: Request) {
    let bytes = request.bytes();
    let unfinished = owners.connections.inboxes_bytes() + owners.subscriptions.requests_bytes() + bytes;
    if bytes > REQUEST_BYTES_FREE && unfinished > owners.config.limits.inboxes_bytes_max {
        return owners.close(index, CloseCode::Again, "too much is unfinished", CloseReason::Unfinished);
    }
    owners.subscriptions.begin_request(set, Box::new(request));
    owners.connections.expect_response(index, true);
    owners.connections.await_response(index);
}

/// Up to where everything was sent, on all channels of a connection. A request that is not done counts as what it
/// resumes from: a client that reconnects asks for all its channels at once.
pub(super) fn cursor<S: Socket>(owners: &Owners<S>, set: u32) -> Cursor {
    let [mut message, mut event] = [Sequence::Messages, Sequence::Events].map(|one| owners.hub.newest(one));
    for one in owners.subscriptions.of(set) {
        let is_through = one.state != State::AwaitingHistory
            && matches!(owners.hub.after(one.channel, one.cursor), Run::End);
        if is_through {
            continue;
        }
        let least = match owners.hub.stream(one.channel) {
            Stream::Channel(_) => &mut message,
            Stream::Events => &mut event,
        };
        *least = one.cursor.min(*least);
    }
    let cursor = Cursor { message, event, epoch: Rc::from(owners.store.terms().epoch()) };
    least(owners, cursor, owners.subscriptions.request(set).and_then(|request| request.cursor.as_ref()))
}

/// The lesser of two cursors, in the current term.
fn least<S: Socket>(owners: &Owners<S>, cursor: Cursor, other: Option<&Cursor>) -> Cursor {
    let Some(other) = other else { return cursor };
    let terms = owners.store.terms();
    let agreed = |sequence| other.id(sequence).min(terms.agreed(&other.epoch, sequence).unwrap_or(0));
    Cursor {
        message: cursor.message.min(agreed(Sequence::Messages)),
        event: cursor.event.min(agreed(Sequence::Events)),
        epoch: cursor.epoch,
    }
}

/// Works requests to subscribe off, as many channels as the budget of a turn allows.
pub(in crate::server) fn subscribe_due<S: Socket>(owners: &mut Owners<S>) {
    let mut budget = owners.config.budgets.subscribes;
    while budget > 0
        && let Some((set, connection, request)) = owners.subscriptions.next_request()
    {
        // One that does not take what it was answered waits until it does.
        if owners.connections.at(connection.index).has_unsent() {
            owners.subscriptions.keep_request(set, request);
            continue;
        }
        subscribe_slice(owners, set, connection, request, &mut budget);
    }
}

fn subscribe_slice<S: Socket>(
    owners: &mut Owners<S>,
    set: u32,
    connection: Id,
    mut request: Box<Request>,
    budget: &mut usize,
) {
    let mut subscribed = Subscribed::default();
    let mut begun = Vec::new();
    if std::mem::take(&mut request.events) {
        *budget = budget.saturating_sub(1);
        match subscribe(owners, set, &Stream::Events, request.cursor.as_ref()) {
            Ok(one) => {
                subscribed.events = Some(one.from);
                begun.push(one);
            }
            Err(why) => subscribed.refused.push((None, why)),
        }
    }
    let mut bytes = 0;
    let mut left = SLICE_MAX.min(*budget);
    while left > 0
        && bytes < SLICE_BYTES_MAX
        && let Some(name) = request.channels.pop()
    {
        left -= 1;
        *budget -= 1;
        bytes += name.len();
        match subscribe_channel(owners, set, &name, request.cursor.as_ref()) {
            Ok((name, one)) => {
                subscribed.channels.push((name, one.from));
                begun.push(one);
            }
            Err(why) => subscribed.refused.push((Some(name), why)),
        }
    }
    subscribed.more = !request.channels.is_empty();
    answer(owners, set, connection, request, &subscribed, &begun);
}

/// Tells a client what it subscribes to now, and where messages may be missing; what it missed follows.
fn answer<S: Socket>(
    owners: &mut Owners<S>,
    set: u32,
    connection: Id,
    request: Box<Request>,
    subscribed: &Subscribed,
    begun: &[Begun],
) {
    let index = connection.index;
    let (id, more) = (request.id.clone(), subscribed.more);
    if more {
        owners.subscriptions.keep_request(set, request);
    }
    let at = cursor(owners, set).to_string();
    let timestamp = owners.time.timestamp();
    owners.write_text(index, |out| envelope(&at, &timestamp).write_subscribed(subscribed, id.as_ref(), out));
    for Begun { key, start, .. } in begun {
        if let Start::Gap { requested, agreed } = start {
            let subscriber = Subscriber { connection, member: Member::Subscription(*key) };
            let stream = owners.hub.stream(owners.subscriptions.at(*key).channel).clone();
            let kept = kept(owners, stream.sequence());
            tell_gap(owners, subscriber, &stream, (requested, *agreed), kept);
        }
        owners.subscriptions.set_state(*key, State::Queued);
    }
    owners.connections.push_output(index);
    owners.connections.queue_flush(index);
    if more {
        owners.subscriptions.resume_request(set);
    } else {
        owners.connections.note_response(index);
        owners.connections.end_wait_for_responses(index);
    }
}

/// A subscription that was added.
struct Begun {
    key: u32,
    start: Start<'static>,
    /// The id after which it begins.
    from: u64,
}

/// Where a subscription begins that resumes at `cursor`.
fn start<S: Socket>(
    owners: &Owners<S>,
    sequence: Sequence,
    kept: Kept,
    cursor: Option<&Cursor>,
) -> Start<'static> {
    let Some(cursor) = cursor else { return Start::Live };
    let id = cursor.id(sequence);
    let requested = Cow::Owned(sequence.text(id));
    Start::after(requested, (sequence, Some(id)), Some(&cursor.epoch), kept, owners.store.terms())
}

fn subscribe_channel<S: Socket>(
    owners: &mut Owners<S>,
    set: u32,
    name: &str,
    cursor: Option<&Cursor>,
) -> Result<(Rc<str>, Begun), Refused> {
    let limits = &owners.config.limits;
    if channel_name_error(name, limits.channel_name_bytes_max).is_some() {
        if name.len() > limits.channel_name_bytes_max {
            owners.metrics.limits.count(Limit::ChannelNameBytes);
        }
        return Err(Refused::InvalidName);
    }
    let name = Rc::<str>::from(name);
    let stream = Stream::Channel(Rc::clone(&name));
    if owners.hub.is_full(&stream, owners.config.limits.channels_max) {
        owners.metrics.limits.count(Limit::Channels);
        return Err(Refused::TooManyChannels);
    }
    let begun = subscribe(owners, set, &stream, cursor)?;
    Ok((name, begun))
}

/// Adds a subscription.
fn subscribe<S: Socket>(
    owners: &mut Owners<S>,
    set: u32,
    stream: &Stream,
    cursor: Option<&Cursor>,
) -> Result<Begun, Refused> {
    let channel = owners.hub.find(stream);
    if channel.is_some_and(|channel| owners.subscriptions.find(set, channel).is_some()) {
        return Err(Refused::AlreadySubscribed);
    }
    if owners.subscriptions.of(set).len() >= owners.config.limits.channels_per_connection_max {
        owners.metrics.limits.count(Limit::ChannelsPerConnection);
        return Err(Refused::TooManyOnConnection);
    }
    if owners.subscriptions.len() >= owners.config.limits.subscriptions_max {
        owners.metrics.limits.count(Limit::Subscriptions);
        return Err(Refused::TooManySubscriptions);
    }
    let kept = kept(owners, stream.sequence());
    let start = start(owners, stream.sequence(), kept, cursor);
    let from = start.cursor(kept);
    let place = owners.hub.join(stream, owners.subscriptions.next_member());
    Ok(Begun { key: owners.subscriptions.insert(set, place, from), start, from })
}

/// Ends subscriptions, also in the middle of their replay.
pub(super) fn unsubscribe<S: Socket>(
    owners: &mut Owners<S>,
    (index, set): (u32, u32),
    names: Names,
    id: Option<&ClientId>,
) {
    let mut refused = Vec::new();
    let end = |owners: &mut Owners<S>, stream: &Stream| {
        let channel = owners.hub.find(stream);
        let key = channel.and_then(|channel| owners.subscriptions.find(set, channel));
        if let Some(key) = key {
            let member = owners.subscriptions.remove(key);
            owners.leave(member);
        }
        key.is_some()
    };
    let mut channels = Vec::new();
    for name in names.channels {
        if end(owners, &Stream::Channel(Rc::from(&*name))) {
            channels.push(name);
        } else {
            refused.push((Some(name), Refused::NotSubscribed));
        }
    }
    let events = names.events && end(owners, &Stream::Events);
    if names.events && !events {
        refused.push((None, Refused::NotSubscribed));
    }
    let timestamp = owners.time.timestamp();
    if let Some(envelope) = owners.envelope(index, &timestamp) {
        owners.write_text(index, |out| envelope.write_unsubscribed(&channels, events, &refused, id, out));
    }
}

/// Tells a client that the replay of these is over: from now on it gets all messages that are published on them.
pub(super) fn tell_live<S: Socket>(owners: &mut Owners<S>, (index, set): (u32, u32), live: &[Stream]) {
    let at = cursor(owners, set).to_string();
    let timestamp = owners.time.timestamp();
    let channels = live.iter().filter_map(|stream| stream.channel().cloned()).collect::<Vec<_>>();
    let events = live.contains(&Stream::Events);
    owners.write_text(index, |out| envelope(&at, &timestamp).write_live_channels(&channels, events, out));
    owners.connections.push_output(index);
}

/// Writes the heartbeat of a connection with many channels.
pub(super) fn write_heartbeat<S: Socket>(owners: &mut Owners<S>, index: u32, set: u32) {
    let at = cursor(owners, set).to_string();
    let timestamp = owners.time.timestamp();
    owners.write_text(index, |out| envelope(&at, &timestamp).write_heartbeat(out));
}

/// What the front of the queue of a set comes to.
pub(super) enum Next {
    /// This subscription has messages to be sent.
    Send(u32),
    /// It needs a page of history.
    Page(u32),
    /// The replay of these is over.
    Live(Vec<Stream>),
    Nothing,
}

/// The next subscription of a set that has something to be sent. Those that have nothing leave the queue.
pub(super) fn next<S: Socket>(owners: &mut Owners<S>, set: u32) -> Next {
    let mut live = Vec::new();
    while let Some(key) = owners.subscriptions.next_queued(set) {
        let one = *owners.subscriptions.at(key);
        let run = owners.hub.after(one.channel, one.cursor);
        let is_end = matches!(run, Run::End);
        // Nothing is sent before `live` is told of what came before.
        if live.len() >= SLICE_MAX || (!is_end && !live.is_empty()) {
            break;
        }
        match run {
            Run::Entries(_) => return Next::Send(key),
            Run::Behind => return Next::Page(key),
            Run::End => {}
        }
        owners.subscriptions.set_state(key, State::Idle);
        if one.replay == Replay::Running {
            owners.subscriptions.end_replay(key);
            live.push(owners.hub.stream(one.channel).clone());
        }
    }
    if live.is_empty() { Next::Nothing } else { Next::Live(live) }
}

/// A sweep has come to a subscription. Returns its connection if it can be sent something now.
pub(super) fn offer<S: Socket>(owners: &mut Owners<S>, key: u32) -> Option<u32> {
    let subscriber = owners.subscriptions.subscriber(key)?;
    let index = subscriber.connection.index;
    let state = owners.subscriptions.at(key).state;
    // Its page begins where it is.
    if state == State::AwaitingHistory {
        return None;
    }
    if state == State::Idle {
        owners.subscriptions.set_state(key, State::Queued);
        if owners.connections.may_flush(index) {
            return Some(index);
        }
    }
    skip_lull(owners, subscriber.member);
    None
}
