//! The subprotocol `polecat.v1`: the additional messages that a client which offers it gets and can send.
//! Each message that only such a client gets has the envelope of an event. Its `event_id` is the id up to
//! which the client has been sent everything.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::json::is_object;
use super::protocol::{ClientMessage, Position, Sequence, write_envelope, write_json};

/// The name by which it is offered and selected (RFC 6455 section 1.9).
pub const SUBPROTOCOL: &str = "polecat.v1";

/// The maximum length of a client's own message id, and of an idempotency key.
pub const NAME_BYTES_MAX: usize = 255;

/// The values that all messages to one connection at one time share.
#[derive(Debug, Clone, Copy)]
pub struct EnvelopeContext<'a> {
    /// The sequence of the ids in payloads.
    pub sequence: Sequence,
    /// Up to where everything has been sent.
    pub position: Position<'a>,
    /// The time of this turn.
    pub timestamp: &'a str,
}

#[derive(Debug, Serialize)]
pub struct Hello<'a> {
    /// Names the start of the server that gave the ids which follow. The client sends it back with the id to
    /// resume from.
    pub epoch: &'a str,
    /// The channel, or `None` for events.
    pub channel: Option<&'a str>,
    /// What this connection can do that older servers cannot; empty on a connection with one channel.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub features: &'static [&'static str],
    /// The oldest id that can be replayed.
    pub oldest: String,
    pub newest: String,
    pub heartbeat_interval_ms: u32,
    /// The largest message that the server accepts.
    pub message_bytes_max: usize,
    /// How long an idempotency key is remembered.
    pub idempotency_window_ms: u64,
    /// Whether messages survive the end of the server's process.
    pub stored: bool,
}

#[derive(Debug, Serialize)]
pub struct Gap<'a> {
    /// The channel, on a connection with many; `Some(None)` is events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<Option<&'a str>>,
    /// The id after which they may be missing, as the client gave it.
    pub requested: &'a str,
    /// The last id that means the same to the client and to the server.
    pub agreed: String,
    /// The oldest id that can be replayed.
    pub oldest: String,
    pub newest: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// It is not JSON, or not JSON that can be stored.
    MalformedJson,
    /// It is not an object, or a key has a wrong type or length.
    WrongType,
    /// Its type is not known here.
    UnknownType,
    /// It could not be stored; it may be sent again.
    StoreUnavailable,
    /// A `subscribe` with more bytes than one may have.
    TooLong,
    /// A `cursor` that no server gave.
    InvalidCursor,
}

impl EnvelopeContext<'_> {
    pub(super) fn write(self, kind: &str, payload: &impl Serialize, out: &mut Vec<u8>) {
        let mut text = Vec::with_capacity(128);
        write_json(payload, &mut text);
        write_envelope(kind, &text, None, self.timestamp, self.position, out);
    }

    pub fn write_hello(self, hello: &Hello<'_>, out: &mut Vec<u8>) {
        #[derive(Serialize)]
        struct Payload<'a> {
            server: &'a str,
            #[serde(flatten)]
            hello: &'a Hello<'a>,
        }
        let payload = Payload { server: concat!("polecat/", env!("CARGO_PKG_VERSION")), hello };
        self.write("hello", &payload, out);
    }

    /// Writes `resumed`: `count` messages after `from` follow, or more than that if `more`, and then `live`.
    pub fn write_resumed(self, from: u64, count: u64, more: bool, out: &mut Vec<u8>) {
        #[derive(Serialize)]
        struct Payload {
            from: String,
            count: u64,
            more: bool,
        }
        self.write("resumed", &Payload { from: self.sequence.text(from), count, more }, out);
    }

    /// Writes `gap`: messages after `requested` may be missing. All messages that are kept and come after
    /// `agreed` follow, and then `live`.
    pub fn write_gap(self, gap: &Gap<'_>, out: &mut Vec<u8>) {
        self.write("gap", gap, out);
    }

    /// Writes `live`: the replay is complete.
    pub fn write_live(self, out: &mut Vec<u8>) {
        self.write_bare("live", out);
    }

    /// Writes `ack`: the message that the client calls `id` is stored as `stored`.
    pub fn write_ack(self, id: &ClientId, stored: u64, out: &mut Vec<u8>) {
        #[derive(Serialize)]
        struct Payload<'a> {
            id: &'a RawValue,
            event_id: String,
        }
        self.write("ack", &Payload { id: &id.0, event_id: self.sequence.text(stored) }, out);
    }

    /// Writes `error`, for the message that the client calls `id`.
    pub fn write_error(self, code: ErrorCode, message: &str, id: Option<&ClientId>, out: &mut Vec<u8>) {
        #[derive(Serialize)]
        struct Payload<'a> {
            code: ErrorCode,
            message: &'a str,
            id: Option<&'a RawValue>,
        }
        let id = id.map(|id| &*id.0);
        self.write("error", &Payload { code, message, id }, out);
    }

    /// Writes `reconnect`: the server is shutting down, and asks the client to reconnect after `after_ms`.
    pub fn write_reconnect(self, after_ms: u32, out: &mut Vec<u8>) {
        #[derive(Serialize)]
        struct Payload {
            after_ms: u32,
        }
        self.write("reconnect", &Payload { after_ms }, out);
    }

    pub fn write_heartbeat(self, out: &mut Vec<u8>) {
        self.write_bare("heartbeat", out);
    }

    fn write_bare(self, kind: &str, out: &mut Vec<u8>) {
        write_envelope(kind, b"{}", None, self.timestamp, self.position, out);
    }
}

/// A client's own id for a message: a string or a number, as it was written.
#[derive(Debug, Clone)]
pub struct ClientId(Box<RawValue>);

impl ClientId {
    /// As it was written.
    pub(super) fn raw(&self) -> &RawValue {
        &self.0
    }
}

/// A client's message with its id and key.
#[derive(Debug)]
pub struct Inbound {
    pub message: ClientMessage,
    /// To be repeated in `ack` or `error`.
    pub id: Option<ClientId>,
    /// Stored once under this key.
    pub idempotency_key: Option<String>,
}

#[derive(Debug)]
pub struct ParseError {
    pub code: ErrorCode,
    pub message: String,
    /// The id, if the message had one.
    pub id: Option<ClientId>,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(rename = "type", borrow, default)]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    idempotency_key: Option<&'a RawValue>,
}

impl Inbound {
    /// Reads one text message of a client.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let parse_error = |code, message: &str, id| ParseError { code, message: message.to_owned(), id };
        let wrong = |message, id| parse_error(ErrorCode::WrongType, message, id);
        let fields = match serde_json::from_str::<Fields<'_>>(text) {
            Ok(fields) if is_object(text.as_bytes()) => fields,
            Ok(_) => return Err(wrong("not an object", None)),
            Err(error) if error.is_data() => return Err(wrong("not an object, or a key is repeated", None)),
            Err(error) => {
                let message = error.to_string();
                return Err(ParseError { code: ErrorCode::MalformedJson, message, id: None });
            }
        };
        let id = match fields.id.map(client_id) {
            None => None,
            Some(Some(id)) => Some(id),
            Some(None) => {
                return Err(wrong("id must be a number or a string of at most 255 bytes", None));
            }
        };
        if fields.kind.is_none_or(|kind| !kind.get().starts_with('"')) {
            return Err(wrong("type is not a string", id));
        }
        let idempotency_key =
            match fields.idempotency_key.map(|key| serde_json::from_str::<String>(key.get())) {
                None => None,
                Some(Ok(key)) if is_key(&key) => Some(key),
                Some(Err(error)) if !error.is_data() => {
                    let message = format!("idempotency_key: {error}");
                    return Err(ParseError { code: ErrorCode::MalformedJson, message, id });
                }
                Some(_) => return Err(wrong("idempotency_key must be a string of 1 to 255 bytes", id)),
            };
        match ClientMessage::parse(text) {
            Ok(message) => Ok(Self { message, id, idempotency_key }),
            Err(_) => Err(ParseError::publish(text, id)),
        }
    }
}

impl ParseError {
    /// For a publish with an invalid value in a key that is stored.
    fn publish(text: &str, id: Option<ClientId>) -> Self {
        let (code, mut message) = (ErrorCode::WrongType, "a key has a wrong type".to_owned());
        match ClientMessage::error_in(text) {
            Some(error) if !error.is_data() => {
                return Self { code: ErrorCode::MalformedJson, message: error.to_string(), id };
            }
            Some(error) => message += &format!(": {error}"),
            None => {}
        }
        Self { code, message, id }
    }
}

fn client_id(id: &RawValue) -> Option<ClientId> {
    let is_name = id.get().starts_with(|first: char| first == '"' || first == '-' || first.is_ascii_digit());
    (is_name && id.get().len() <= NAME_BYTES_MAX + 2).then(|| ClientId(id.to_owned()))
}

/// Whether `key` may be an idempotency key.
pub fn is_key(key: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&key.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn written(write: impl FnOnce(EnvelopeContext<'_>, &mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(
            EnvelopeContext {
                sequence: Sequence::Messages,
                position: Position::Id(Sequence::Messages, 17),
                timestamp: "T",
            },
            &mut out,
        );
        let text = String::from_utf8(out).unwrap();
        let rest = r#","correlation_id":null,"timestamp":"T","event_id":"message-00017"}"#;
        text.strip_suffix(rest).unwrap().to_owned()
    }

    #[test]
    fn messages_look_as_documented() {
        let hello = Hello {
            epoch: "E",
            channel: Some("general"),
            features: &[],
            oldest: Sequence::Messages.text(3),
            newest: Sequence::Messages.text(19),
            heartbeat_interval_ms: 25_000,
            message_bytes_max: 1_048_576,
            idempotency_window_ms: 300_000,
            stored: true,
        };
        let server = concat!("polecat/", env!("CARGO_PKG_VERSION"));
        assert_eq!(
            written(|place, out| place.write_hello(&hello, out)),
            format!(
                r#"{{"type":"hello","payload":{{"server":"{server}","epoch":"E","channel":"general","oldest":"message-00003","newest":"message-00019","heartbeat_interval_ms":25000,"message_bytes_max":1048576,"idempotency_window_ms":300000,"stored":true}}"#
            )
        );
        for (text, expected) in [
            (
                written(|place, out| place.write_resumed(4, 2, false, out)),
                r#""resumed","payload":{"from":"message-00004","count":2,"more":false}"#,
            ),
            (
                written(|place, out| {
                    let id = |id| Sequence::Messages.text(id);
                    let (agreed, oldest, newest) = (id(2), id(3), id(19));
                    place.write_gap(&Gap { requested: "x", agreed, oldest, newest, channel: None }, out);
                }),
                r#""gap","payload":{"requested":"x","agreed":"message-00002","oldest":"message-00003","newest":"message-00019"}"#,
            ),
            (written(|place, out| place.write_live(out)), r#""live","payload":{}"#),
            (
                written(|place, out| place.write_reconnect(250, out)),
                r#""reconnect","payload":{"after_ms":250}"#,
            ),
            (written(|place, out| place.write_heartbeat(out)), r#""heartbeat","payload":{}"#),
        ] {
            assert_eq!(text, format!("{{\"type\":{expected}"));
        }
    }

    #[test]
    fn a_clients_id_comes_back_as_it_was_written() {
        for id in [r#""a\u0062""#, "7", "-1.50", "9007199254740993"] {
            let said =
                Inbound::parse(&format!(r#"{{"type":"message","id":{id},"idempotency_key":"k"}}"#)).unwrap();
            assert_eq!(said.idempotency_key.as_deref(), Some("k"));
            let id_said = said.id.as_ref().unwrap();
            assert_eq!(
                written(|place, out| place.write_ack(id_said, 18, out)),
                format!(r#"{{"type":"ack","payload":{{"id":{id},"event_id":"message-00018"}}"#)
            );
            assert!(matches!(said.message, ClientMessage::Publish(_)));
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_the_id_where_there_is_one() {
        let long = "x".repeat(256);
        for (text, code, has_id) in [
            ("{", ErrorCode::MalformedJson, false),
            ("", ErrorCode::MalformedJson, false),
            ("[1]", ErrorCode::WrongType, false),
            ("7", ErrorCode::WrongType, false),
            (r#"{"id":[],"type":"ping"}"#, ErrorCode::WrongType, false),
            (r#"{"id":true,"type":"ping"}"#, ErrorCode::WrongType, false),
            (r#"{"id":1}"#, ErrorCode::WrongType, true),
            (r#"{"id":1,"type":5}"#, ErrorCode::WrongType, true),
            (r#"{"id":1,"type":"message","content":5}"#, ErrorCode::WrongType, true),
            (r#"{"id":1,"type":"message","idempotency_key":""}"#, ErrorCode::WrongType, true),
            (r#"{"id":1,"type":"message","idempotency_key":5}"#, ErrorCode::WrongType, true),
            (
                &format!(r#"{{"id":1,"type":"message","idempotency_key":"{long}"}}"#),
                ErrorCode::WrongType,
                true,
            ),
            (&format!(r#"{{"id":"{long}","type":"message"}}"#), ErrorCode::WrongType, false),
        ] {
            let wrong = Inbound::parse(text).unwrap_err();
            assert_eq!((wrong.code, wrong.id.is_some()), (code, has_id), "{text}");
        }
        assert!(Inbound::parse(r#"{"type":"ping","id":null}"#).unwrap().id.is_none());
    }
}
