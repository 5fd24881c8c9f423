//! `/api/stream`: the messages of `polecat.v1` that a connection with many channels sends and gets, and its cursor.

use std::borrow::Cow;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::protocol::{ID_MAX, Sequence};
use super::v1::{ClientId, EnvelopeContext};

/// The longest cursor that is read, in bytes.
pub const CURSOR_BYTES_MAX: usize = 320;

/// A place in both sequences, and the term that gave the ids. To clients it is text without a meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    pub message: u64,
    pub event: u64,
    pub epoch: Rc<str>,
}

impl Cursor {
    /// Reads the output of `to_string`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '.');
        let mut id = || {
            let digits = parts.next()?;
            let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| digits.parse::<u64>().ok())?.filter(|id| *id <= ID_MAX)
        };
        let (message, event) = (id()?, id()?);
        let epoch = parts.next().filter(|epoch| !epoch.is_empty() && text.len() <= CURSOR_BYTES_MAX)?;
        Some(Self { message, event, epoch: Rc::from(epoch) })
    }

    /// The id in that sequence.
    pub const fn id(&self, sequence: Sequence) -> u64 {
        match sequence {
            Sequence::Messages => self.message,
            Sequence::Events => self.event,
        }
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}.{}.{}", self.message, self.event, self.epoch)
    }
}

/// Channels and events that a client names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub channels: Vec<String>,
    pub events: bool,
    /// As the client gave it.
    pub cursor: Option<String>,
}

/// What a client asks beside what it can ask on other endpoints.
#[derive(Debug, PartialEq, Eq)]
pub enum StreamRequest {
    Subscribe(Names),
    Unsubscribe(Names),
    /// Its type is not known.
    Unknown,
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
}

#[derive(Deserialize)]
struct NamesFields {
    #[serde(default)]
    channels: Option<Vec<String>>,
    #[serde(default)]
    events: Option<bool>,
    #[serde(default)]
    cursor: Option<String>,
}

#[derive(Deserialize)]
struct ChannelField {
    channel_id: String,
}

impl StreamRequest {
    /// Reads a message that is an object with a type, which is neither `message` nor `ping`.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let make = match serde_json::from_str::<Kind<'_>>(text).as_ref().map(|kind| &*kind.kind) {
            Ok("subscribe") => Self::Subscribe,
            Ok("unsubscribe") => Self::Unsubscribe,
            _ => return Ok(Self::Unknown),
        };
        let fields = serde_json::from_str::<NamesFields>(text).map_err(|error| error.to_string())?;
        let NamesFields { channels, events, cursor } = fields;
        let (channels, events) = (channels.unwrap_or_default(), events.unwrap_or_default());
        if channels.is_empty() && !events {
            return Err("it names neither channels nor events".to_owned());
        }
        Ok(make(Names { channels, events, cursor }))
    }
}

/// The channel that a `message` names.
pub fn channel_of(text: &str) -> Option<String> {
    serde_json::from_str::<ChannelField>(text).ok().map(|field| field.channel_id)
}

/// Why a channel was not subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Refused {
    /// Its name is not one that a channel can have.
    InvalidName,
    /// The connection subscribes to it already.
    AlreadySubscribed,
    /// The connection has as many channels as it may.
    TooManyOnConnection,
    /// All connections together have as many subscriptions as they may.
    TooManySubscriptions,
    /// There are as many channels with subscribers as there may be.
    TooManyChannels,
    /// The connection does not subscribe to it.
    NotSubscribed,
}

/// What became of a `subscribe`, or of a part of it.
#[derive(Debug, Default)]
pub struct Subscribed {
    /// The channels, and the id after which each begins.
    pub channels: Vec<(Rc<str>, u64)>,
    /// The id after which events begin.
    pub events: Option<u64>,
    /// The channels that were refused; `None` is events.
    pub refused: Vec<(Option<String>, Refused)>,
    /// Whether more of the same request follows.
    pub more: bool,
}

#[derive(Serialize)]
struct From<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    from: String,
}

#[derive(Serialize)]
struct RefusedChannel<'a> {
    channel: Option<&'a str>,
    code: Refused,
}

fn refused(list: &[(Option<String>, Refused)]) -> Vec<RefusedChannel<'_>> {
    list.iter().map(|(name, why)| RefusedChannel { channel: name.as_deref(), code: *why }).collect()
}

impl EnvelopeContext<'_> {
    /// Writes `subscribed`, for the request that the client calls `id`.
    pub fn write_subscribed(self, subscribed: &Subscribed, id: Option<&ClientId>, out: &mut Vec<u8>) {
        #[derive(Serialize)]
        struct Payload<'a> {
            id: Option<&'a RawValue>,
            channels: Vec<From<'a>>,
            events: Option<From<'a>>,
            refused: Vec<RefusedChannel<'a>>,
            more: bool,
        }
        let from = |sequence: Sequence, channel, id| From { channel, from: sequence.text(id) };
        let channels = subscribed.channels.iter();
        let payload = Payload {
            id: id.map(ClientId::raw),
            channels: channels.map(|(name, id)| from(Sequence::Messages, Some(&**name), *id)).collect(),
            events: subscribed.events.map(|id| from(Sequence::Events, None, id)),
            refused: refused(&subscribed.refused),
            more: subscribed.more,
        };
        self.write("subscribed", &payload, out);
    }

    /// Writes `unsubscribed`, for the request that the client calls `id`.
    pub fn write_unsubscribed(
        self,
        channels: &[String],
        events: bool,
        refusals: &[(Option<String>, Refused)],
        id: Option<&ClientId>,
        out: &mut Vec<u8>,
    ) {
        #[derive(Serialize)]
        struct Payload<'a> {
            id: Option<&'a RawValue>,
            channels: &'a [String],
            events: bool,
            refused: Vec<RefusedChannel<'a>>,
        }
        let payload = Payload { id: id.map(ClientId::raw), channels, events, refused: refused(refusals) };
        self.write("unsubscribed", &payload, out);
    }

    /// Writes `live`: the replay of these is complete.
    pub fn write_live_channels(self, channels: &[Rc<str>], events: bool, out: &mut Vec<u8>) {
        #[derive(Serialize)]
        struct Payload<'a> {
            channels: Vec<&'a str>,
            events: bool,
        }
        let channels = channels.iter().map(|name| &**name).collect();
        self.write("live", &Payload { channels, events }, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let cursor = Cursor { message: 17, event: 0, epoch: Rc::from("a.b~1~2~c") };
        assert_eq!(cursor.to_string(), "17.0.a.b~1~2~c");
        assert_eq!(Cursor::parse("17.0.a.b~1~2~c"), Some(cursor));
        let long = format!("1.2.{}", "e".repeat(CURSOR_BYTES_MAX));
        for wrong in
            ["", "1", "1.2", "1.2.", "-1.2.a", "+1.2.a", "1.x.a", ".1.a", "9007199254740992.1.a", &long]
        {
            assert_eq!(Cursor::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_request_names_channels_or_events() {
        let names = |channels: &[&str], events, cursor: Option<&str>| Names {
            channels: channels.iter().map(|name| (*name).to_owned()).collect(),
            events,
            cursor: cursor.map(str::to_owned),
        };
        let table = [
            (
                r#"{"type":"subscribe","channels":["a","b"]}"#,
                StreamRequest::Subscribe(names(&["a", "b"], false, None)),
            ),
            (
                r#"{"type":"subscribe","events":true,"cursor":"c"}"#,
                StreamRequest::Subscribe(names(&[], true, Some("c"))),
            ),
            (
                r#"{"type":"unsubscribe","channels":["a"],"x":1}"#,
                StreamRequest::Unsubscribe(names(&["a"], false, None)),
            ),
            (r#"{"type":"other","channels":1}"#, StreamRequest::Unknown),
        ];
        for (text, request) in table {
            assert_eq!(StreamRequest::parse(text), Ok(request), "{text}");
        }
        for wrong in [
            r#"{"type":"subscribe"}"#,
            r#"{"type":"subscribe","channels":[]}"#,
            r#"{"type":"subscribe","channels":"a"}"#,
            r#"{"type":"subscribe","channels":[1]}"#,
            r#"{"type":"subscribe","channels":["a"],"cursor":7}"#,
            r#"{"type":"unsubscribe","events":"yes"}"#,
        ] {
            assert!(StreamRequest::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(channel_of(r#"{"type":"message","channel_id":"a"}"#).as_deref(), Some("a"));
        assert_eq!(channel_of(r#"{"type":"message","channel_id":1}"#), None);
    }
}
