//! From an HTTP request to an open WebSocket: which endpoint, from which id on.

use std::borrow::Cow;

use crate::hub::entry::Encoding;
use crate::server::connections::{CloseReason, Phase, Protocol};
use crate::server::owners::Owners;
use crate::server::response_context::ResponseContext;
use crate::server::socket::Socket;
use crate::store::engine::Stream;
use crate::store::terms::Terms;
use crate::wire::http::decoder::Request;
use crate::wire::protocol::Sequence;
use crate::wire::v1::{Gap, Hello, SUBPROTOCOL};
use crate::wire::websocket::codec::{CloseCode, OpCode};
use crate::wire::websocket::handshake::Upgrade;

use super::replay::{Kept, go_live, kept};

/// A WebSocket to be opened.
#[derive(Debug)]
pub(in crate::server) struct Opening<'b> {
    pub(in crate::server) upgrade: Upgrade<'b>,
    /// What it subscribes to; `None` for an echo.
    pub(in crate::server) stream: Option<Stream>,
    /// Whether its `subscribe_token` has a form that is allowed.
    pub(in crate::server) has_legal_token: bool,
}

/// Makes an HTTP connection a WebSocket.
pub(in crate::server) fn upgrade<S: Socket>(
    owners: &mut Owners<S>,
    index: u32,
    request: &Request<'_>,
    response: &ResponseContext,
    Opening { upgrade, stream, has_legal_token }: &Opening<'_>,
) {
    let headers = response.headers();
    let is_v1 = stream.is_some() && upgrade.offers(SUBPROTOCOL);
    let subprotocol = is_v1.then_some(SUBPROTOCOL);
    let deflate = if owners.config.compression.over > 0 { upgrade.deflate() } else { None };
    let (date, output) = (owners.time.http_date(), owners.connections.output(index));
    upgrade.write_switching(&headers[..1], subprotocol, deflate.as_ref(), date, output);
    let encoding = Encoding::of_websocket(deflate.map(|deflate| deflate.window()));
    owners.metrics.upgrades += 1;
    let protocol = match stream {
        None => Protocol::Echo,
        Some(_) if is_v1 => Protocol::V1,
        Some(_) => Protocol::Base,
    };
    owners.connections.open(index, protocol, encoding);
    if !has_legal_token {
        let reason = "Invalid subscribe_token format";
        owners.close(index, CloseCode::from(4400), reason, CloseReason::SubscribeToken);
    } else if let Some(stream) = stream {
        subscribe(owners, index, stream, request);
    }
}

/// Makes a connection a member of the channel of `stream`. Its cursor stands at
/// the end, or at the id after which it asked to go on.
fn subscribe<S: Socket>(owners: &mut Owners<S>, index: u32, stream: &Stream, request: &Request<'_>) {
    let kept = kept(owners, stream);
    let start = Start::of(request, stream.sequence(), kept, owners.store.terms());
    let member = owners.hub.join(stream, index);
    let cursor = match start {
        Start::Live => kept.newest,
        Start::After(id) => id,
        // A client that is not told of the gap gets the same.
        Start::Gap { agreed, .. } => agreed.max(kept.oldest.saturating_sub(1)),
    };
    owners.connections.subscribe(index, member, cursor);
    if matches!(owners.connections.at(index).phase(), Phase::Open(Protocol::V1, _)) {
        send_hello(owners, index, stream, kept, &start);
    } else if cursor < kept.newest {
        owners.connections.queue_flush(index);
    }
}

/// Sends `hello` to a client of `polecat.v1`, which then goes live, is told of a gap, or waits for its history.
fn send_hello<S: Socket>(owners: &mut Owners<S>, index: u32, stream: &Stream, kept: Kept, start: &Start<'_>) {
    let timestamp = owners.time.timestamp();
    let Some(envelope) = owners.envelope(index, &timestamp) else { return };
    let hello = Hello {
        epoch: owners.store.terms().epoch(),
        channel: match stream {
            Stream::Events => None,
            Stream::Channel(name) => Some(name),
        },
        oldest: kept.oldest,
        newest: kept.newest,
        heartbeat_interval_ms: owners.config.timeouts.heartbeat_interval_ms,
        message_bytes_max: owners.config.limits.message_bytes_max,
        idempotency_window_ms: owners.store.idempotency_window_ms(),
        stored: owners.store.is_storing(),
    };
    let mut text = Vec::new();
    envelope.write_hello(&hello, &mut text);
    owners.write_message(index, OpCode::Text, &text);
    match start {
        Start::Live => go_live(owners, index),
        Start::Gap { requested, agreed } => {
            let gap = Gap { requested, agreed: *agreed, oldest: kept.oldest, newest: kept.newest };
            owners.write_text(index, |out| envelope.write_gap(&gap, out));
            owners.connections.queue_flush(index);
        }
        Start::After(from) => {
            owners.connections.await_history(index);
            let connection = owners.connections.id(index);
            owners.store.ask_for_count(connection, *from, kept.newest);
        }
    }
}

/// Where a subscriber begins.
#[derive(Debug)]
enum Start<'b> {
    /// It asked for nothing.
    Live,
    /// After an id that it has.
    After(u64),
    /// It named an id that does not say what it has, or something after it is no longer kept.
    Gap {
        /// What it named.
        requested: Cow<'b, str>,
        /// The last id that means the same to it and here.
        agreed: u64,
    },
}

impl<'b> Start<'b> {
    /// An id is believed if its term is known and has given it, and if all that came after it is kept; one that
    /// comes without a term, if it could be ours. A term need not have begun below the id: after
    /// a restart that has lost nothing, older ids are named with the new term, too.
    fn of(request: &Request<'b>, sequence: Sequence, kept: Kept, terms: &Terms) -> Self {
        // One that is not UTF-8 counts as an id that we never gave out, not as none.
        let last_seen = request
            .header_values("last-event-id")
            .next()
            .filter(|id| !id.is_empty())
            .map(String::from_utf8_lossy)
            .or_else(|| request.query_value("last_event_id").filter(|id| !id.is_empty()));
        let Some(last_seen) = last_seen else { return Self::Live };
        let id = sequence.parse(&last_seen);
        let agreed = id.and_then(|id| match request.query_value("epoch").filter(|epoch| !epoch.is_empty()) {
            None => (id <= kept.newest).then_some(id),
            // Whatever its term is, number 0 is before the first.
            Some(epoch) => Some(id.min(kept.newest).min(terms.agreed(&epoch, sequence).unwrap_or(0))),
        });
        match agreed {
            Some(agreed) if id == Some(agreed) && agreed + 1 >= kept.oldest => Self::After(agreed),
            _ => Self::Gap { requested: last_seen, agreed: agreed.unwrap_or(0) },
        }
    }
}
