//! Open WebSockets: messages that arrive on them, and how they are closed.

use std::rc::Rc;

use crate::base::limit::Limit;
use crate::store::engine::{Record, Stream};
use crate::wire::protocol::{ClientMessage, Draft, PONG};
use crate::wire::v1::{ClientId, ErrorCode, Inbound};
use crate::wire::websocket::codec::{self, CloseCode, OpCode, Violation};
use crate::wire::websocket::message::{Item, MessageDecoder, MessageStep};

use super::connections::{CloseReason, Endpoint, Level, Phase};
use super::reading::Progress;
use super::server::Server;
use super::socket::Socket;
use super::store::Pending;

impl<S: Socket> Server<S> {
    pub(super) fn decode_message(
        &mut self,
        index: u32,
        decoder: &mut MessageDecoder,
        input: &mut [u8],
    ) -> Progress {
        let mut inflater = self.encoders.lend_inflater(self.connections.at(index).encoding());
        let step = decoder.decode(input, self.config.limits.message_bytes_max, inflater.as_mut());
        let progress = match step {
            Ok(MessageStep { consumed: 0, item: None }) => Progress::NeedMore,
            Ok(MessageStep { consumed, item }) => {
                if let Some(item) = item {
                    self.handle_item(index, item);
                }
                Progress::Consumed(consumed)
            }
            Err(violation) => {
                self.handle_violation(index, violation);
                Progress::NeedMore
            }
        };
        self.encoders.return_inflater(inflater, &mut self.metrics.coded);
        progress
    }

    fn handle_item(&mut self, index: u32, item: Item<'_>) {
        let phase = self.connections.at(index).phase();
        match item {
            Item::Close(close) => self.handle_close(index, close.map(|(code, _)| code)),
            // We have said goodbye: only the answer to that still matters.
            _ if phase == Phase::Closing => {}
            Item::Ping(payload) => codec::write_frame(OpCode::Pong, payload, self.connections.output(index)),
            Item::Pong(_) => {}
            Item::Text(_) | Item::Binary(_) if !self.connections.may_send(index, &self.config.limits) => {
                self.close(index, CloseCode::Policy, "too many messages", CloseReason::MessageRate);
            }
            Item::Text(text) => {
                self.metrics.messages_received += 1;
                match phase {
                    Phase::Open(Endpoint::Echo) => {
                        self.write_message(index, OpCode::Text, text.as_bytes());
                    }
                    Phase::Open(Endpoint::Channel(Level::Base)) => self.handle_text(index, text),
                    Phase::Open(Endpoint::Events(Level::Base)) => {}
                    _ => self.handle_inbound(index, text),
                }
            }
            Item::Binary(bytes) => {
                self.metrics.messages_received += 1;
                match phase {
                    Phase::Open(Endpoint::Echo) => {
                        self.write_message(index, OpCode::Binary, bytes);
                    }
                    Phase::Open(Endpoint::Events(Level::Base)) => {}
                    Phase::Open(Endpoint::Channel(Level::Base)) => self.metrics.invalid_messages += 1,
                    _ => self.reply_error(index, ErrorCode::WrongType, "a message must be text", None),
                }
            }
        }
    }

    fn handle_text(&mut self, index: u32, text: &str) {
        match ClientMessage::parse(text) {
            Ok(ClientMessage::Publish(draft)) if self.is_too_long(&draft) => {
                self.metrics.invalid_messages += 1;
            }
            Ok(ClientMessage::Publish(draft)) => self.publish(index, draft, None, None),
            Ok(ClientMessage::Ping) => self.write_message(index, OpCode::Text, PONG),
            Ok(ClientMessage::Unknown) => {}
            Err(_) => self.metrics.invalid_messages += 1,
        }
    }

    /// A message of a client of `polecat.v1`, which hears what becomes of it.
    fn handle_inbound(&mut self, index: u32, text: &str) {
        let said = match Inbound::parse(text) {
            Ok(said) => said,
            Err(wrong) => return self.reply_error(index, wrong.code, &wrong.message, wrong.id.as_ref()),
        };
        match said.message {
            ClientMessage::Ping => self.write_message(index, OpCode::Text, PONG),
            ClientMessage::Publish(draft)
                if matches!(self.connections.at(index).phase(), Phase::Open(Endpoint::Channel(_))) =>
            {
                if self.is_too_long(&draft) {
                    let message = "lane or provider is too long";
                    return self.reply_error(index, ErrorCode::WrongType, message, said.id.as_ref());
                }
                let connection = self.connections.id(index);
                let pending = Pending::Publish { connection, id: said.id };
                let key = said.idempotency_key.map(Rc::from);
                self.publish(index, draft, key, Some(pending));
            }
            ClientMessage::Publish(_) | ClientMessage::Unknown => {
                if said.id.is_some() {
                    let message = "this type is not accepted here";
                    self.reply_error(index, ErrorCode::UnknownType, message, said.id.as_ref());
                }
            }
        }
    }

    /// Whether a message is not taken because of its labels.
    fn is_too_long(&mut self, draft: &Draft) -> bool {
        let is_too_long = draft.has_long_label(self.config.limits.label_bytes_max);
        if is_too_long {
            self.metrics.limits.count(Limit::LabelBytes);
        }
        is_too_long
    }

    fn publish(&mut self, index: u32, draft: Draft, key: Option<Rc<str>>, pending: Option<Pending>) {
        let Some(channel) = self.connections.at(index).channel() else { return };
        if let Stream::Channel(name) = self.hub.stream(channel) {
            let name = name.clone();
            let message = draft.into_message(name, self.time.timestamp());
            self.store.append(Record::Message(message), key, pending);
        }
    }

    fn reply_error(&mut self, index: u32, code: ErrorCode, message: &str, id: Option<&ClientId>) {
        self.metrics.invalid_messages += 1;
        let timestamp = self.time.timestamp();
        if let Some(place) = self.connections.at(index).place(&timestamp) {
            self.write_text(index, |out| place.write_error(code, message, id, out));
        }
    }

    /// The peer's Close: answered with its own code, unless it is the answer to ours.
    fn handle_close(&mut self, index: u32, code: Option<CloseCode>) {
        if self.connections.at(index).phase() != Phase::Closing {
            codec::write_close(code, "", self.connections.output(index));
        }
        self.close_after_flush(index, CloseReason::ClientClose);
    }

    fn handle_violation(&mut self, index: u32, violation: Violation) {
        let reason = match violation.code {
            CloseCode::Invalid => CloseReason::InvalidUtf8,
            CloseCode::Size => CloseReason::MessageTooLong,
            _ => CloseReason::ProtocolError,
        };
        if self.connections.at(index).phase() != Phase::Closing {
            let output = self.connections.output(index);
            codec::write_close(Some(violation.code), violation.reason, output);
        }
        // Nothing that follows can be understood, the peer's Close neither.
        self.close_after_flush(index, reason);
    }

    /// Says goodbye to an open WebSocket: Close goes out at the next frame
    /// boundary, and the peer's is waited for.
    pub(super) fn close(&mut self, index: u32, code: CloseCode, text: &str, reason: CloseReason) {
        self.count_close(index, reason);
        self.unsubscribe(index);
        self.connections.begin_close(index);
        codec::write_close(Some(code), text, self.connections.output(index));
        // While its input is worked on, its output holds what goes before, and is sent next.
        if !self.connections.is_receiving(index) {
            self.connections.push_output(index);
        }
        self.connections.queue_flush(index);
    }
}
