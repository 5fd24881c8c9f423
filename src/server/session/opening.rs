//! From an HTTP request to an open WebSocket: which endpoint, from which id on.

use crate::hub::entry::Encoding;
use crate::hub::member::{Member, Subscriber};
use crate::hub::subscriptions;
use crate::server::connections::{CloseReason, Phase, Protocol};
use crate::server::owners::Owners;
use crate::server::response_context::ResponseContext;
use crate::server::socket::Socket;
use crate::store::engine::Stream;
use crate::wire::http::decoder::Request;
use crate::wire::v1::SUBPROTOCOL;
use crate::wire::websocket::codec::{CloseCode, OpCode};
use crate::wire::websocket::handshake::Upgrade;

use super::many;
use super::replay::{Kept, go_live, hello, kept, tell_gap};
use super::start::Start;

/// What a WebSocket is opened for.
#[derive(Debug)]
pub(in crate::server) enum Endpoint {
    Echo,
    /// One channel, or events.
    One(Stream),
    /// Any number of channels, of which some may be asked for at once.
    Many(Option<subscriptions::Request>),
}

/// A WebSocket to be opened.
#[derive(Debug)]
pub(in crate::server) struct Opening<'b> {
    pub(in crate::server) upgrade: Upgrade<'b>,
    pub(in crate::server) endpoint: Endpoint,
    /// Whether its `subscribe_token` has a form that is allowed.
    pub(in crate::server) has_legal_token: bool,
}

/// Makes an HTTP connection a WebSocket.
pub(in crate::server) fn upgrade<S: Socket>(
    owners: &mut Owners<S>,
    index: u32,
    request: &Request<'_>,
    response: &ResponseContext,
    Opening { upgrade, endpoint, has_legal_token }: Opening<'_>,
) {
    let headers = response.headers();
    let is_v1 = !matches!(endpoint, Endpoint::Echo) && upgrade.offers(SUBPROTOCOL);
    let subprotocol = is_v1.then_some(SUBPROTOCOL);
    let deflate = if owners.config.compression.over > 0 { upgrade.deflate() } else { None };
    let (date, output) = (owners.time.http_date(), owners.connections.output(index));
    upgrade.write_switching(&headers[..1], subprotocol, deflate.as_ref(), date, output);
    let encoding = Encoding::of_websocket(deflate.map(|deflate| deflate.window()));
    owners.metrics.upgrades += 1;
    let protocol = match endpoint {
        Endpoint::Echo => Protocol::Echo,
        Endpoint::Many(_) => Protocol::Many,
        Endpoint::One(_) if is_v1 => Protocol::V1,
        Endpoint::One(_) => Protocol::Base,
    };
    owners.connections.open(index, protocol, encoding);
    if !has_legal_token {
        let reason = "Invalid subscribe_token format";
        owners.close(index, CloseCode::from(4400), reason, CloseReason::SubscribeToken);
        return;
    }
    match endpoint {
        Endpoint::Echo => {}
        Endpoint::One(stream) => subscribe(owners, index, &stream, request),
        Endpoint::Many(request) => many::begin(owners, index, request),
    }
}

/// Makes a connection a member of the channel of `stream`. Its cursor stands at
/// the end, or at the id after which it asked to go on.
fn subscribe<S: Socket>(owners: &mut Owners<S>, index: u32, stream: &Stream, request: &Request<'_>) {
    let kept = kept(owners, stream.sequence());
    let start = Start::of(request, stream.sequence(), kept, owners.store.terms());
    let place = owners.hub.join(stream, Member::Connection(index));
    let cursor = start.cursor(kept);
    owners.connections.subscribe(index, place, cursor);
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
    let channel = stream.channel().map(|name| &**name);
    let mut text = Vec::new();
    envelope.write_hello(&hello(owners, channel, &[], stream.sequence()), &mut text);
    owners.write_message(index, OpCode::Text, &text);
    match start {
        Start::Live => go_live(owners, index),
        Start::Gap { requested, agreed } => {
            let subscriber = Subscriber::of(owners.connections.id(index));
            tell_gap(owners, subscriber, stream, (requested, *agreed), kept);
            owners.connections.queue_flush(index);
        }
        Start::After(from) => {
            owners.connections.await_history(index);
            let connection = owners.connections.id(index);
            owners.store.ask_for_count(connection, *from, kept.newest);
        }
    }
}
