//! Messages that arrive on open WebSockets.

use std::rc::Rc;

use crate::base::limit::Limit;
use crate::server::connections::{CloseReason, Phase, Protocol};
use crate::server::owners::Owners;
use crate::server::progress::Progress;
use crate::server::socket::Socket;
use crate::server::store::Pending;
use crate::store::engine::{Record, Stream};
use crate::wire::protocol::{ClientMessage, Draft, PONG};
use crate::wire::v1::{ClientId, ErrorCode, Inbound};
use crate::wire::websocket::codec::{self, CloseCode, OpCode, Violation};
use crate::wire::websocket::message::{Item, MessageDecoder, MessageStep};

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
        Ok(ClientMessage::Publish(draft)) => publish(owners, index, draft, None, None),
        Ok(ClientMessage::Ping) => owners.write_message(index, OpCode::Text, PONG),
        Ok(ClientMessage::Unknown) => {}
        Err(_) => owners.metrics.invalid_messages += 1,
    }
}

/// A message of a client of `polecat.v1`, which hears what becomes of it.
fn handle_inbound<S: Socket>(owners: &mut Owners<S>, index: u32, text: &str) {
    let said = match Inbound::parse(text) {
        Ok(said) => said,
        Err(wrong) => return reply_error(owners, index, wrong.code, &wrong.message, wrong.id.as_ref()),
    };
    match said.message {
        ClientMessage::Ping => owners.write_message(index, OpCode::Text, PONG),
        ClientMessage::Publish(draft) if is_on_channel(owners, index) => {
            if is_too_long(owners, &draft) {
                let message = "lane or provider is too long";
                return reply_error(owners, index, ErrorCode::WrongType, message, said.id.as_ref());
            }
            let connection = owners.connections.id(index);
            let pending = Pending::Publish { connection, id: said.id };
            let key = said.idempotency_key.map(Rc::from);
            publish(owners, index, draft, key, Some(pending));
        }
        ClientMessage::Publish(_) | ClientMessage::Unknown => {
            if said.id.is_some() {
                let message = "this type is not accepted here";
                reply_error(owners, index, ErrorCode::UnknownType, message, said.id.as_ref());
            }
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
    index: u32,
    draft: Draft,
    key: Option<Rc<str>>,
    pending: Option<Pending>,
) {
    if let Some(Stream::Channel(name)) = owners.stream(index) {
        let name = name.clone();
        let message = draft.into_message(name, owners.time.timestamp());
        owners.store.append(Record::Message(message), key, pending);
    }
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
