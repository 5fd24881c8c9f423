//! The JSON messages: PROTOCOL.md as types. A value that was parsed here is legal from then on, and a value
//! that can be built here can be sent.

use std::borrow::Cow;
use std::rc::Rc;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use jiff::tz::Offset;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::http::response::push_decimal;
use super::json::{Shallow, is_object, members};

/// A message of a channel as it is stored, without its id, which the store assigns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The channel's name: 1 to 200 bytes if polecat took it in, anything in an old database.
    pub channel_id: Rc<str>,
    pub author: String,
    pub content: String,
    /// ISO 8601 in UTC with microseconds, see [`timestamp`].
    pub timestamp: Rc<str>,
    /// For the clients' own use.
    pub lane: Option<String>,
    /// For the clients' own use; the summary counts messages by it.
    pub provider: Option<String>,
    /// Tokens that the message cost; the summary adds them up.
    pub token_count: Option<i64>,
}

impl Message {
    /// The approximate bytes that the message takes in memory.
    pub fn weight(&self) -> usize {
        let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        96 + self.channel_id.len()
            + self.author.len()
            + self.content.len()
            + optional(&self.lane)
            + optional(&self.provider)
    }
}

/// The cause of an event: a text that is not empty. Every event has one, and the server's own messages have
/// none. Clients tell the two apart by this, since events may have any type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorrelationId(String);

impl CorrelationId {
    /// The given one, unless it is empty.
    pub fn new(text: String) -> Option<Self> {
        (!text.is_empty()).then_some(Self(text))
    }

    /// A UUID made of random bits.
    pub fn made_up(random: u128) -> Self {
        Self(uuid::Builder::from_random_bytes(random.to_le_bytes()).into_uuid().to_string())
    }

    /// The one for an event that was stored without one: its own id, so that it is always the same.
    pub fn of_event(id: u64) -> Self {
        Self(Sequence::Events.text(id))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An event of the stream on `/ws` as it is stored, without its id, which the store assigns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The `type` of the envelope.
    pub kind: String,
    /// The `payload`: the text of a JSON object.
    pub payload: String,
    /// The cause of the event.
    pub correlation_id: CorrelationId,
    /// ISO 8601 in UTC with microseconds, see [`timestamp`].
    pub timestamp: Rc<str>,
}

impl Event {
    /// The approximate bytes that the event takes in memory.
    pub fn weight(&self) -> usize {
        96 + self.kind.len() + self.payload.len() + self.correlation_id.0.len()
    }
}

/// The two sequences of ids, as clients see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sequence {
    /// `event-00042`: a counter that rises by one.
    Events,
    /// `message-00017`: the message's id in the store; all channels share one sequence.
    Messages,
}

/// No id is greater: larger integers are not exact in JavaScript, or in JSON readers like it.
pub const ID_MAX: u64 = (1 << 53) - 1;

impl Sequence {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Events => "event-",
            Self::Messages => "message-",
        }
    }

    /// Writes `id` with its prefix and at least five digits.
    pub fn write(self, id: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(self.prefix().as_bytes());
        push_decimal(id, 5, out);
    }

    /// The same as a text of its own.
    pub fn text(self, id: u64) -> String {
        let mut text = Vec::new();
        self.write(id, &mut text);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The number of an id of this sequence; any other text as it is.
    pub fn without_prefix(self, text: &str) -> &str {
        text.strip_prefix(self.prefix()).unwrap_or(text)
    }

    /// Reads the output of [`Self::write`]; `None` for anything else, and for a number above [`ID_MAX`].
    pub fn parse(self, text: &str) -> Option<u64> {
        let digits = text.strip_prefix(self.prefix())?;
        let id = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?;
        id.filter(|id| *id <= ID_MAX)
    }
}

/// `unix_micros` in the form of all our timestamps: ISO 8601, UTC, microseconds,
/// `2026-01-05T09:30:00.123456+00:00`. A clock beyond the year 9999 shows the epoch.
pub fn timestamp(unix_micros: i64) -> String {
    let time = Timestamp::from_microsecond(unix_micros).unwrap_or(Timestamp::UNIX_EPOCH);
    DateTimePrinter::new().precision(Some(6)).timestamp_with_offset_to_string(&time, Offset::UTC)
}

pub fn write_message(id: u64, message: &Message, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"message\",\"data\":");
    write_numbered(id, message, out);
    out.extend_from_slice(b",\"event_id\":\"");
    Sequence::Messages.write(id, out);
    out.extend_from_slice(b"\"}");
}

/// Writes a message with its id, in the form of `/api/messages` and of broadcasts.
pub fn write_numbered(id: u64, message: &Message, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"id\":");
    write_json(&id, out);
    out.extend_from_slice(b",\"channel_id\":");
    write_json(&*message.channel_id, out);
    out.extend_from_slice(b",\"author\":");
    write_json(message.author.as_str(), out);
    out.extend_from_slice(b",\"content\":");
    write_json(message.content.as_str(), out);
    out.extend_from_slice(b",\"timestamp\":");
    write_json(&*message.timestamp, out);
    out.extend_from_slice(b",\"lane\":");
    write_json(&message.lane, out);
    out.extend_from_slice(b",\"provider\":");
    write_json(&message.provider, out);
    out.extend_from_slice(b",\"token_count\":");
    write_json(&message.token_count, out);
    out.push(b'}');
}

pub fn write_event(id: u64, event: &Event, out: &mut Vec<u8>) {
    let correlation_id = Some(event.correlation_id.as_str());
    let position = Position::Id(Sequence::Events, id);
    write_envelope(&event.kind, event.payload.as_bytes(), correlation_id, &event.timestamp, position, out);
}

/// The answer to `{"type":"ping"}` on a channel.
pub const PONG: &[u8] = b"{\"type\":\"pong\"}";

/// What an envelope tells of how far its receiver has got.
#[derive(Debug, Clone, Copy)]
pub enum Position<'a> {
    /// The `event_id`.
    Id(Sequence, u64),
    /// The `cursor` of a connection with many channels.
    Cursor(&'a str),
    /// Nothing.
    Untold,
}

/// Writes an envelope; `payload` is JSON. The server's own messages have no `correlation_id`.
pub fn write_envelope(
    kind: &str,
    payload: &[u8],
    correlation_id: Option<&str>,
    timestamp: &str,
    position: Position<'_>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"{\"type\":");
    write_json(kind, out);
    out.extend_from_slice(b",\"payload\":");
    out.extend_from_slice(payload);
    out.extend_from_slice(b",\"correlation_id\":");
    write_json(&correlation_id, out);
    out.extend_from_slice(b",\"timestamp\":");
    write_json(timestamp, out);
    match position {
        Position::Id(sequence, id) => {
            out.extend_from_slice(b",\"event_id\":\"");
            sequence.write(id, out);
            out.push(b'"');
        }
        Position::Cursor(cursor) => {
            out.extend_from_slice(b",\"cursor\":");
            write_json(cursor, out);
        }
        Position::Untold => {}
    }
    out.push(b'}');
}

/// Writes one of our own values as JSON. Serializing our own types into memory cannot fail.
pub fn write_json(value: &(impl Serialize + ?Sized), out: &mut Vec<u8>) {
    let written = serde_json::to_writer(out, value);
    debug_assert!(written.is_ok());
}

#[derive(Debug, PartialEq, Eq)]
pub enum ClientMessage {
    /// Store it and broadcast it.
    Publish(Draft),
    /// Answer it with [`PONG`].
    Ping,
    /// Its type is not known here.
    Unknown,
}

/// A message before it has a channel and a time.
#[derive(Debug, PartialEq, Eq)]
pub struct Draft {
    pub author: String,
    pub content: String,
    pub lane: Option<String>,
    pub provider: Option<String>,
    pub token_count: Option<i64>,
}

impl Draft {
    /// Whether its lane or provider has more bytes than this.
    pub fn has_long_label(&self, bytes_max: usize) -> bool {
        [&self.lane, &self.provider].into_iter().flatten().any(|label| label.len() > bytes_max)
    }

    pub fn into_message(self, channel_id: Rc<str>, timestamp: Rc<str>) -> Message {
        let Self { author, content, lane, provider, token_count } = self;
        Message { channel_id, author, content, timestamp, lane, provider, token_count }
    }
}

/// Text that is not a message of the protocol: it is not a JSON object, or has wrong types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidMessage;

#[derive(Deserialize)]
struct ClientFields<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Option<Cow<'a, str>>,
    #[serde(default)]
    author: Option<String>,
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    lane: Option<String>,
    #[serde(default)]
    provider: Option<String>,
    #[serde(default, deserialize_with = "lenient_integer")]
    token_count: Option<i64>,
}

/// Reads an integer, even if it is written `12.0` or `"12"`, or null.
pub(super) fn lenient_integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    Shallow::deserialize(deserializer)?.integer().ok_or_else(|| D::Error::custom("not an integer"))
}

impl ClientMessage {
    /// Reads one text message of a channel's client.
    ///
    /// # Errors
    /// [`InvalidMessage`] if it is not a JSON object, or a key that matters has a wrong type.
    pub fn parse(text: &str) -> Result<Self, InvalidMessage> {
        if !is_object(text.as_bytes()) {
            return Err(InvalidMessage);
        }
        let Ok(fields) = serde_json::from_str::<ClientFields<'_>>(text) else {
            return Self::parse_type_only(text);
        };
        Ok(match fields.kind.as_deref() {
            Some("message") => Self::Publish(Draft {
                author: fields.author.unwrap_or_else(|| "unknown".to_owned()),
                content: fields.content.unwrap_or_default(),
                lane: fields.lane,
                provider: fields.provider,
                token_count: fields.token_count,
            }),
            Some("ping") => Self::Ping,
            _ => Self::Unknown,
        })
    }

    /// Why the keys of a publish are invalid, if that is why a message could not be read.
    pub(super) fn error_in(text: &str) -> Option<serde_json::Error> {
        serde_json::from_str::<ClientFields<'_>>(text).err()
    }

    /// In a message of another type, the keys of a publish can mean anything.
    fn parse_type_only(text: &str) -> Result<Self, InvalidMessage> {
        let kind = members::<Shallow, 1>(text, ["type"]).map_err(|_| InvalidMessage)?.map(|[kind]| kind);
        match kind.flatten().as_ref().and_then(Shallow::text) {
            Some("message") => Err(InvalidMessage),
            Some("ping") => Ok(Self::Ping),
            _ => Ok(Self::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn ids_have_five_digits_or_more_and_read_back() {
        for (id, shown) in [
            (0, "event-00000"),
            (42, "event-00042"),
            (99_999, "event-99999"),
            (100_000, "event-100000"),
            (ID_MAX, "event-9007199254740991"),
        ] {
            assert_eq!(text(|out| Sequence::Events.write(id, out)), shown);
            assert_eq!(Sequence::Events.parse(shown), Some(id));
        }
        assert_eq!(text(|out| Sequence::Events.write(u64::MAX, out)), "event-18446744073709551615");
        for wrong in [
            "",
            "event-",
            "event-+1",
            "message-00001",
            "event-9007199254740992",
            "event-99999999999999999999",
            "event-1 ",
        ] {
            assert_eq!(Sequence::Events.parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn timestamps_have_microseconds_and_an_offset() {
        assert_eq!(timestamp(1_767_605_400_123_456), "2026-01-05T09:30:00.123456+00:00");
        assert_eq!(timestamp(0), "1970-01-01T00:00:00.000000+00:00");
        assert_eq!(timestamp(i64::MAX), "1970-01-01T00:00:00.000000+00:00");
    }

    #[test]
    fn broadcasts_look_as_documented() {
        let message = Message {
            channel_id: Rc::from("general"),
            author: "Ann".to_owned(),
            content: "\"hi\"\n".to_owned(),
            timestamp: Rc::from("T"),
            lane: None,
            provider: Some("p".to_owned()),
            token_count: Some(-3),
        };
        assert_eq!(
            text(|out| write_message(17, &message, out)),
            r#"{"type":"message","data":{"id":17,"channel_id":"general","author":"Ann","content":"\"hi\"\n","timestamp":"T","lane":null,"provider":"p","token_count":-3},"event_id":"message-00017"}"#
        );
        assert_eq!(
            text(|out| write_envelope(
                "heartbeat",
                b"{}",
                None,
                "T",
                Position::Id(Sequence::Events, 42),
                out
            )),
            r#"{"type":"heartbeat","payload":{},"correlation_id":null,"timestamp":"T","event_id":"event-00042"}"#
        );
    }

    #[test]
    fn client_messages_have_defaults_and_invalid_ones_are_recognised() {
        let Ok(ClientMessage::Publish(draft)) = ClientMessage::parse(r#"{"type":"message","author":null}"#)
        else {
            panic!("a publish");
        };
        assert_eq!((draft.author.as_str(), draft.content.as_str()), ("unknown", ""));
        for (written, count) in [("3", Some(3)), ("3.0", Some(3)), ("\"3\"", Some(3)), ("null", None)] {
            let text = format!(r#"{{"type":"message","token_count":{written}}}"#);
            let Ok(ClientMessage::Publish(draft)) = ClientMessage::parse(&text) else { panic!("{text}") };
            assert_eq!(draft.token_count, count, "{text}");
        }
        for (text, expected) in [
            (r#"{"type":"ping"}"#, Ok(ClientMessage::Ping)),
            (r#"{"type":"ping","author":5}"#, Ok(ClientMessage::Ping)),
            (r#"{"type":"presence"}"#, Ok(ClientMessage::Unknown)),
            (r#"{"type":7}"#, Ok(ClientMessage::Unknown)),
            ("{}", Ok(ClientMessage::Unknown)),
            (r#"{"type":"message","content":5}"#, Err(InvalidMessage)),
            (r#"{"type":"message","token_count":1.5}"#, Err(InvalidMessage)),
            (r#"{"type":"message","token_count":[]}"#, Err(InvalidMessage)),
            ("[]", Err(InvalidMessage)),
            ("{", Err(InvalidMessage)),
            ("", Err(InvalidMessage)),
        ] {
            assert_eq!(ClientMessage::parse(text), expected, "{text}");
        }
    }
}
