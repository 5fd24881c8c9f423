//! Messages that arrive on open WebSockets.

use std::rc::Rc;

use crate::base::limit::Limit;
use crate::hub::subscriptions::Request;
use crate::server::connections::{CloseReason, Phase, Protocol};
use crate::server::owners::Owners;
use crate::server::progress::Progress;
use crate::server::socket::Socket;
use crate::server::store::Pending;
use crate::store::engine::{Record, Stream};
use crate::wire::body::channel_name_error;
use crate::wire::protocol::{ClientMessage, Draft, PONG};
use crate::wire::stream::{StreamRequest, channel_of};
use crate::wire::v1::{ClientId, ErrorCode, Inbound};
use crate::wire::websocket::codec::{self, CloseCode, OpCode, Violation};
use crate::wire::websocket::message::{Item, MessageDecoder, MessageStep};

use super::many;

pub(in crate::server) fn decode_message<S: Socket>(
    owners: &mut Owners<S>,
    index: u32,
    decoder: &mut MessageDecoder,
    input: &mut [u8],
) -> Progress {
    let mut inflater = owners.encoders.lend_inflater(owners.connections.at(index).encoding());
    let step = decoder.decode(input, owners.config.limits.message_bytes_max, inflater.as_mut());
    let progress = match step {
        Ok(MessageStep { consumed: 0, item: None }) => Progress::NeedMore,
        Ok(MessageStep { consumed, item }) => {
            if let Some(item) = item {
                handle_item(owners, index, item);
            }
            Progress::Consumed(consumed)
        }
        Err(violation) => {
            handle_violation(owners, index, violation);
            Progress::NeedMore
        }
    };
    owners.encoders.return_inflater(inflater, &mut owners.metrics.coded);
    progress
}

fn handle_item<S: Socket>(owners: &mut Owners<S>, index: u32, item: Item<'_>) {
    let phase = owners.connections.at(index).phase();
    match item {
        Item::Close(close) => handle_close(owners, index, close.map(|(code, _)| code)),
        // We have said goodbye: only the answer to that still matters.
        _ if phase == Phase::Closing => {}
        Item::Ping(payload) => codec::write_frame(OpCode::Pong, payload, owners.connections.output(index)),
        Item::Pong(_) => {}
        Item::Text(_) | Item::Binary(_) if !owners.connections.may_send(index, &owners.config.limits) => {
            owners.close(index, CloseCode::Policy, "too many messages", CloseReason::MessageRate);
        }
        Item::Text(text) => {
            owners.metrics.messages_received += 1;
            match phase {
                Phase::Open(Protocol::Echo, _) => {
                    owners.write_message(index, OpCode::Text, text.as_bytes());
                }
                Phase::Open(Protocol::Base, _) if is_on_channel(owners, index) => {
                    handle_text(owners, index, text);
                }
                Phase::Open(Protocol::Base, _) => {}
                _ => handle_inbound(owners, index, text),
            }
        }
        Item::Binary(bytes) => {
            owners.metrics.messages_received += 1;
            match phase {
                Phase::Open(Protocol::Echo, _) => {
                    owners.write_message(index, OpCode::Binary, bytes);
                }
                Phase::Open(Protocol::Base, _) => {
                    owners.metrics.invalid_messages += u64::from(is_on_channel(owners, index));
                }
                _ => reply_error(owners, index, ErrorCode::WrongType, "a message must be text", None),
            }
        }
    }
}

/// Whether a connection may publish: it subscribes to a channel.
fn is_on_channel<S: Socket>(owners: &Owners<S>, index: u32) -> bool {
    matches!(owners.stream(index), Some(Stream::Channel(_)))
}

fn handle_text<S: Socket>(owners: &mut Owners<S>, index: u32, text: &str) {
    match ClientMessage::parse(text) {
        Ok(ClientMessage::Publish(draft)) if is_too_long(owners, &draft) => {
            owners.metrics.invalid_messages += 1;
        }
        Ok(ClientMessage::Publish(draft)) => {
            if let Some(channel) = owners.stream(index).and_then(Stream::channel).cloned() {
                publish(owners, channel, draft, None, None);
            }
        }
        Ok(ClientMessage::Ping) => owners.write_message(index, OpCode::Text, PONG),
        Ok(ClientMessage::Unknown) => {}
        Err(_) => owners.metrics.invalid_messages += 1,
    }
}

/// A message of a client of `polecat.v1`, which hears what becomes of it.
fn handle_inbound<S: Socket>(owners: &mut Owners<S>, index: u32, text: &str) {
    let inbound = match Inbound::parse(text) {
        Ok(inbound) => inbound,
        Err(wrong) => return reply_error(owners, index, wrong.code, &wrong.message, wrong.id.as_ref()),
    };
    let set = owners.connections.at(index).set();
    match inbound.message {
        ClientMessage::Ping => owners.write_message(index, OpCode::Text, PONG),
        ClientMessage::Publish(draft) if set.is_some() || is_on_channel(owners, index) => {
            let error = if is_too_long(owners, &draft) { Some("lane or provider is too long") } else { None };
            let channel = match set {
                Some(_) => named_channel(owners, text),
                None => Ok(owners.stream(index).and_then(Stream::channel).cloned()),
            };
            match (channel, error) {
                (Ok(Some(channel)), None) => {
                    let connection = owners.connections.id(index);
                    let pending = Pending::Publish { connection, id: inbound.id };
                    let key = inbound.idempotency_key.map(Rc::from);
                    publish(owners, channel, draft, key, Some(pending));
                }
                (Err(message), _) | (_, Some(message)) => {
                    reply_error(owners, index, ErrorCode::WrongType, message, inbound.id.as_ref());
                }
                (Ok(None), None) => {}
            }
        }
        ClientMessage::Publish(_) | ClientMessage::Unknown => match set {
            Some(set) => handle_request(owners, (index, set), text, inbound.id),
            None => refuse_type(owners, index, inbound.id.as_ref()),
        },
    }
}

fn refuse_type<S: Socket>(owners: &mut Owners<S>, index: u32, id: Option<&ClientId>) {
    if id.is_some() {
        reply_error(owners, index, ErrorCode::UnknownType, "this type is not accepted here", id);
    }
}

/// The channel that a message names, if a channel can have that name.
fn named_channel<S: Socket>(owners: &mut Owners<S>, text: &str) -> Result<Option<Rc<str>>, &'static str> {
    let Some(name) = channel_of(text) else { return Err("channel_id is not a string") };
    let bytes_max = owners.config.limits.channel_name_bytes_max;
    if channel_name_error(&name, bytes_max).is_none() {
        return Ok(Some(Rc::from(name)));
    }
    if name.len() > bytes_max {
        owners.metrics.limits.count(Limit::ChannelNameBytes);
    }
    Err("channel_id is too long, has control characters, or is empty, . or ..")
}

/// A message that only a connection with many channels can send.
fn handle_request<S: Socket>(
    owners: &mut Owners<S>,
    (index, set): (u32, u32),
    text: &str,
    id: Option<ClientId>,
) {
    let channels_max = owners.config.limits.channels_per_connection_max;
    let names = match StreamRequest::parse(text) {
        Ok(StreamRequest::Unknown) => return refuse_type(owners, index, id.as_ref()),
        Err(message) => return reply_error(owners, index, ErrorCode::WrongType, &message, id.as_ref()),
        Ok(_) if text.len() > owners.config.limits.subscribe_bytes_max => {
            owners.metrics.limits.count(Limit::SubscribeBytes);
            let message = "the request is too long; send several";
            return reply_error(owners, index, ErrorCode::TooLong, message, id.as_ref());
        }
        Ok(StreamRequest::Unsubscribe(names)) if names.channels.len() > channels_max => {
            let message = "it names more channels than a connection can have";
            return reply_error(owners, index, ErrorCode::TooLong, message, id.as_ref());
        }
        Ok(StreamRequest::Unsubscribe(names)) => {
            return many::unsubscribe(owners, (index, set), names, id.as_ref());
        }
        Ok(StreamRequest::Subscribe(names)) => names,
    };
    match Request::of(names, id) {
        Ok(request) => many::begin_request(owners, index, set, request),
        Err(id) => {
            let message = "no server has given this cursor";
            reply_error(owners, index, ErrorCode::InvalidCursor, message, id.as_ref());
        }
    }
}

/// Whether a message is not taken because of its labels.
fn is_too_long<S: Socket>(owners: &mut Owners<S>, draft: &Draft) -> bool {
    let is_too_long = draft.has_long_label(owners.config.limits.label_bytes_max);
    if is_too_long {
        owners.metrics.limits.count(Limit::LabelBytes);
    }
    is_too_long
}

fn publish<S: Socket>(
    owners: &mut Owners<S>,
    channel: Rc<str>,
    draft: Draft,
    key: Option<Rc<str>>,
    pending: Option<Pending>,
) {
    let message = draft.into_message(channel, owners.time.timestamp());
    owners.store.append(Record::Message(message), key, pending);
}

fn reply_error<S: Socket>(
    owners: &mut Owners<S>,
    index: u32,
    code: ErrorCode,
    message: &str,
    id: Option<&ClientId>,
) {
    owners.metrics.invalid_messages += 1;
    let timestamp = owners.time.timestamp();
    if let Some(envelope) = owners.envelope(index, &timestamp) {
        owners.write_text(index, |out| envelope.write_error(code, message, id, out));
    }
}

/// The peer's Close: answered with its own code, unless it is the answer to ours.
fn handle_close<S: Socket>(owners: &mut Owners<S>, index: u32, code: Option<CloseCode>) {
    if owners.connections.at(index).phase() != Phase::Closing {
        codec::write_close(code, "", owners.connections.output(index));
    }
    owners.close_after_flush(index, CloseReason::ClientClose);
}

fn handle_violation<S: Socket>(owners: &mut Owners<S>, index: u32, violation: Violation) {
    let reason = match violation.code {
        CloseCode::Invalid => CloseReason::InvalidUtf8,
        CloseCode::Size => CloseReason::MessageTooLong,
        _ => CloseReason::ProtocolError,
    };
    if owners.connections.at(index).phase() != Phase::Closing {
        let output = owners.connections.output(index);
        codec::write_close(Some(violation.code), violation.reason, output);
    }
    // Nothing that follows can be understood, the peer's Close neither.
    owners.close_after_flush(index, reason);
}
