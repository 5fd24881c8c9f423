//! A request that asks for a WebSocket: whether it gets one, and for what.

use std::borrow::Cow;
use std::rc::Rc;

use crate::base::limit::Limit;
use crate::hub::subscriptions;
use crate::server::session::opening::{Endpoint, Opening};
use crate::store::engine::Stream;
use crate::wire::body::channel_name_error;
use crate::wire::http::decoder::{Request, Status, percent_decode_segment};
use crate::wire::stream::Names;
use crate::wire::v1::SUBPROTOCOL;
use crate::wire::websocket::handshake::{self, Upgrade};

use super::context::Context;
use super::origins::refuse_foreign;
use super::outcome::{Outcome, Reply};
use super::table::Target;

/// Answers a request for a WebSocket.
pub(super) fn open<'b>(
    request: &Request<'b>,
    context: &Context<'_>,
    target: Target<'_>,
) -> Result<Outcome<'b>, Reply<'b>> {
    let upgrade = handshake::parse(request).map_err(|error| {
        let fields = error.fields().iter();
        fields.fold(Reply::detail(error.status(), error.detail()), |reply, (name, value)| {
            reply.with(name, *value)
        })
    })?;
    refuse_foreign(request, context.response)?;
    let endpoint = endpoint(request, target, &upgrade, context)?;
    if context.is_draining {
        let reply = Reply::detail(Status::SERVICE_UNAVAILABLE, "the server is shutting down");
        return Err(reply.with("Retry-After", "1"));
    }
    if let Endpoint::One(stream) = &endpoint
        && context.hub.is_full(stream, context.config.limits.channels_max)
    {
        let reply = Reply::detail(Status::SERVICE_UNAVAILABLE, "too many channels");
        return Err(reply.with("Retry-After", "5").for_limit(Limit::Channels));
    }
    let has_legal_token = target != Target::Events || has_legal_token(request);
    Ok(Outcome::Open(Opening { upgrade, endpoint, has_legal_token }))
}

fn endpoint<'b>(
    request: &Request<'_>,
    target: Target<'_>,
    upgrade: &Upgrade<'_>,
    context: &Context<'_>,
) -> Result<Endpoint, Reply<'b>> {
    let name_bytes_max = context.config.limits.channel_name_bytes_max;
    let segment = match target {
        Target::Events => return Ok(Endpoint::One(Stream::Events)),
        Target::Echo => return Ok(Endpoint::Echo),
        Target::Many => return many(request, upgrade),
        Target::Channel(segment) => segment,
    };
    let refuse = |detail| Reply::detail(Status::BAD_REQUEST, detail);
    let name = percent_decode_segment(segment)
        .map_err(|_| refuse("the channel's name is not percent-encoded UTF-8"))?;
    if channel_name_error(&name, name_bytes_max).is_none() {
        return Ok(Endpoint::One(Stream::Channel(Rc::from(name.as_ref()))));
    }
    let reply = refuse("the channel's name is too long, has control characters, or is . or ..");
    Err(if name.len() > name_bytes_max { reply.for_limit(Limit::ChannelNameBytes) } else { reply })
}

/// The channels that the handshake itself asks for: `?channel=a&channel=b&events=1&cursor=…`.
fn many<'b>(request: &Request<'_>, upgrade: &Upgrade<'_>) -> Result<Endpoint, Reply<'b>> {
    if !upgrade.offers(SUBPROTOCOL) {
        let detail = "the subprotocol polecat.v1 must be offered on /api/stream";
        return Err(Reply::detail(Status::BAD_REQUEST, detail));
    }
    let names = Names {
        channels: request.query_values("channel").map(Cow::into_owned).collect(),
        events: request.query_value("events").is_some_and(|value| value == "1"),
        cursor: request.query_value("cursor").map(Cow::into_owned),
    };
    let request = subscriptions::Request::of(names, None)
        .map_err(|_| Reply::detail(Status::BAD_REQUEST, "no server has given this cursor"))?;
    let is_asked = request.events || !request.channels.is_empty();
    Ok(Endpoint::Many(is_asked.then_some(request)))
}

/// Whether the client names itself as it should: not at all, or by 32 lower-case hex digits.
fn has_legal_token(request: &Request<'_>) -> bool {
    request.query_value("subscribe_token").is_none_or(|token| {
        token.len() == 32 && token.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}
