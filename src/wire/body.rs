//! The JSON bodies of POST requests, and their validation errors. The errors have the shape that clients of
//! the old service know: a list under `detail`, with `type`, `loc` and `msg` for each.

use std::borrow::Cow;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::base::config::Limits;
use crate::base::limit::Limit;

use super::json::{Shallow, is_object, members};
use super::protocol::{CorrelationId, Draft, Sequence, lenient_integer};

/// One mistake in a body or a query.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FieldError {
    /// The kind of mistake, for programs.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// `["body"]`, `["body", FIELD]` or `["body", POSITION]`, and the same for a query.
    pub loc: Vec<Loc>,
    /// The mistake, for people.
    pub msg: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ctx: Option<Context>,
}

/// A step on the path to the mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Loc {
    /// A part of the request, or a key in it.
    Name(&'static str),
    /// Bytes from the beginning.
    Offset(usize),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Context {
    /// Why it is not JSON that can be stored.
    pub error: String,
}

impl FieldError {
    fn body(kind: &'static str, msg: &'static str) -> Self {
        Self { kind, loc: vec![Loc::Name("body")], msg, ctx: None }
    }

    fn query(field: &'static str, kind: &'static str, msg: &'static str) -> Self {
        Self { kind, loc: vec![Loc::Name("query"), Loc::Name(field)], msg, ctx: None }
    }

    fn field(field: &'static str, kind: &'static str, msg: &'static str) -> Self {
        Self { kind, loc: vec![Loc::Name("body"), Loc::Name(field)], msg, ctx: None }
    }

    fn json(offset: usize, error: String) -> Self {
        let loc = vec![Loc::Name("body"), Loc::Offset(offset)];
        Self { kind: "json_invalid", loc, msg: "JSON decode error", ctx: Some(Context { error }) }
    }
}

/// The mistakes in a body; never empty.
pub type FieldErrors = Vec<FieldError>;

/// The body of `POST /api/messages`.
#[derive(Debug, PartialEq, Eq)]
pub struct PostedMessage {
    /// A legal channel name.
    pub channel_id: Rc<str>,
    /// The other keys.
    pub draft: Draft,
}

#[derive(Deserialize)]
struct MessageFields {
    channel_id: String,
    author: String,
    content: String,
    #[serde(default)]
    lane: Option<String>,
    #[serde(default)]
    provider: Option<String>,
    #[serde(default, deserialize_with = "lenient_integer")]
    token_count: Option<i64>,
}

impl PostedMessage {
    /// Reads the body. Names are within their limits, and that of a channel has no control characters.
    pub fn parse(body: &[u8], limits: &Limits) -> Result<Self, FieldErrors> {
        let text = text_of(body)?;
        let name_bytes_max = limits.channel_name_bytes_max;
        match serde_json::from_str::<MessageFields>(text) {
            Ok(fields)
                if is_object(body) && channel_name_error(&fields.channel_id, name_bytes_max).is_none() =>
            {
                let MessageFields { channel_id, author, content, lane, provider, token_count } = fields;
                let draft = Draft { author, content, lane, provider, token_count };
                if draft.has_long_label(limits.label_bytes_max) {
                    return Self::parse_slowly(text, limits);
                }
                Ok(Self { channel_id: Rc::from(channel_id), draft })
            }
            _ => Self::parse_slowly(text, limits),
        }
    }

    /// Finds every mistake, and accepts numbers in all their legal forms.
    fn parse_slowly(text: &str, limits: &Limits) -> Result<Self, FieldErrors> {
        let keys = ["channel_id", "author", "content", "lane", "provider", "token_count"];
        let mut fields = Fields::parse(text, keys)?;
        let channel_id = fields.text("channel_id");
        if let Some((kind, msg)) =
            channel_id.as_deref().and_then(|name| channel_name_error(name, limits.channel_name_bytes_max))
        {
            fields.errors.push(FieldError::field("channel_id", kind, msg));
        }
        let author = fields.text("author");
        let content = fields.text("content");
        let lane = fields.label("lane", limits);
        let provider = fields.label("provider", limits);
        let token_count = fields.optional_integer("token_count");
        match (channel_id, author, content) {
            (Some(channel_id), Some(author), Some(content)) if fields.errors.is_empty() => Ok(Self {
                channel_id: Rc::from(channel_id),
                draft: Draft { author, content, lane, provider, token_count },
            }),
            _ => Err(fields.errors),
        }
    }
}

/// The body of `POST /api/events`.
#[derive(Debug, PartialEq, Eq)]
pub struct PostedEvent {
    /// The `type`, within the limit of a channel's name.
    pub kind: String,
    /// The text of a JSON object.
    pub payload: String,
    pub correlation_id: Option<CorrelationId>,
}

impl PostedEvent {
    /// Reads the body. The payload is kept as it was written.
    pub fn parse(body: &[u8], limits: &Limits) -> Result<Self, FieldErrors> {
        let text = text_of(body)?;
        let mut fields = Fields::parse(text, ["type", "payload", "correlation_id"])?;
        let kind = fields.text("type");
        match kind.as_deref().map(str::len) {
            Some(0) => fields.errors.push(FieldError::field("type", TOO_SHORT.0, TOO_SHORT.1)),
            Some(len) if len > limits.channel_name_bytes_max => {
                fields.errors.push(FieldError::field("type", TOO_LONG.0, TOO_LONG.1));
            }
            _ => {}
        }
        let has_payload = match fields.take("payload") {
            None | Some(Shallow::Null) => false,
            Some(Shallow::Object) => true,
            Some(_) => {
                let msg = "Input should be a valid dictionary";
                fields.errors.push(FieldError::field("payload", "dict_type", msg));
                false
            }
        };
        let correlation_id = fields.label("correlation_id", limits).and_then(CorrelationId::new);
        match kind {
            Some(kind) if fields.errors.is_empty() => {
                let payload = has_payload.then(|| raw_payload(text)).flatten().unwrap_or("{}").to_owned();
                Ok(Self { kind, payload, correlation_id })
            }
            _ => Err(fields.errors),
        }
    }
}

/// The payload as it is written in a body that is known to be valid: numbers keep their digits, and keys
/// their order.
fn raw_payload(text: &str) -> Option<&str> {
    let [payload] = members::<&RawValue, 1>(text, ["payload"]).ok()??;
    payload.map(RawValue::get)
}

/// Which messages a `GET /api/messages` selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListRange {
    pub limit: usize,
    /// Only ids above this one, beginning with the first of them.
    pub after: Option<u64>,
    /// Only ids below this one.
    pub before: Option<u64>,
}

impl ListRange {
    pub const LIMIT_DEFAULT: u64 = 200;
    pub const LIMIT_MAX: u64 = 1000;

    /// Reads the values of a query. An id of `sequence` is a number, or has the form of `event_id`.
    pub fn parse<'q>(
        sequence: Sequence,
        value: impl Fn(&str) -> Option<Cow<'q, str>>,
    ) -> Result<Self, FieldErrors> {
        let mut errors = Vec::new();
        let limit = query_number("limit", value("limit").as_deref(), &mut errors);
        let mut id = |field| {
            let text = value(field);
            query_number(field, text.as_deref().map(|text| sequence.without_prefix(text)), &mut errors)
        };
        let (after, before) = (id("after"), id("before"));
        let limit = checked_limit(limit, Self::LIMIT_DEFAULT, &mut errors);
        if errors.is_empty() { Ok(Self { limit, after, before }) } else { Err(errors) }
    }
}

/// Which connections a `GET /api/connections` selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionRange {
    pub limit: usize,
    /// Only those whose ids are above this one.
    pub after: Option<u64>,
}

impl ConnectionRange {
    pub const LIMIT_DEFAULT: u64 = 100;

    /// Reads the values of a query.
    pub fn parse<'q>(value: impl Fn(&str) -> Option<Cow<'q, str>>) -> Result<Self, FieldErrors> {
        let mut errors = Vec::new();
        let limit = query_number("limit", value("limit").as_deref(), &mut errors);
        let after = query_number("after", value("after").as_deref(), &mut errors);
        let limit = checked_limit(limit, Self::LIMIT_DEFAULT, &mut errors);
        if errors.is_empty() { Ok(Self { limit, after }) } else { Err(errors) }
    }
}

/// Which channels a `GET /api/channels?detail=1` selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelRange {
    pub limit: usize,
    /// Only those whose names are above this one.
    pub after: Option<Rc<str>>,
}

impl ChannelRange {
    /// Reads the values of a query.
    pub fn parse<'q>(value: impl Fn(&str) -> Option<Cow<'q, str>>) -> Result<Self, FieldErrors> {
        let mut errors = Vec::new();
        let limit = query_number("limit", value("limit").as_deref(), &mut errors);
        let limit = checked_limit(limit, ListRange::LIMIT_MAX, &mut errors);
        let after = value("after").filter(|name| !name.is_empty()).map(|name| Rc::from(&*name));
        if errors.is_empty() { Ok(Self { limit, after }) } else { Err(errors) }
    }
}

fn query_number(field: &'static str, text: Option<&str>, errors: &mut FieldErrors) -> Option<u64> {
    let number = Some(text?).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let number = number.and_then(|digits| digits.parse().ok());
    if number.is_none() {
        errors.push(FieldError::query(field, "int_parsing", "Input should be a valid integer"));
    }
    number
}

fn checked_limit(given: Option<u64>, default: u64, errors: &mut FieldErrors) -> usize {
    let limit = given.unwrap_or(default);
    if limit == 0 {
        let msg = "Input should be greater than or equal to 1";
        errors.push(FieldError::query("limit", "greater_than_equal", msg));
    } else if limit > ListRange::LIMIT_MAX {
        let msg = "Input should be less than or equal to 1000";
        errors.push(FieldError::query("limit", "less_than_equal", msg));
    }
    usize::try_from(limit).unwrap_or(usize::MAX)
}

const TOO_SHORT: (&str, &str) = ("string_too_short", "String should have at least 1 character");
const TOO_LONG: (&str, &str) = ("string_too_long", "String should have fewer bytes of UTF-8");

/// The limits that names in the body exceed.
pub fn exceeded(errors: &[FieldError]) -> impl Iterator<Item = Limit> {
    errors.iter().filter(|error| error.kind == TOO_LONG.0).map(|error| match error.loc.last() {
        Some(Loc::Name("channel_id" | "type")) => Limit::ChannelNameBytes,
        _ => Limit::LabelBytes,
    })
}

/// Why `name` is not a legal channel name, as kind and message.
pub fn channel_name_error(name: &str, bytes_max: usize) -> Option<(&'static str, &'static str)> {
    if name.is_empty() {
        Some(TOO_SHORT)
    } else if name.len() > bytes_max {
        Some(TOO_LONG)
    } else if name.chars().any(char::is_control) {
        Some(("value_error", "Value error, a channel name must not have control characters"))
    } else if matches!(name, "." | "..") {
        // A browser takes these for steps in a path, however they are written.
        Some(("value_error", "Value error, a channel name must not be . or .."))
    } else {
        None
    }
}

/// A body as text; JSON is UTF-8, from its first byte to its last.
fn text_of(body: &[u8]) -> Result<&str, FieldErrors> {
    if body.is_empty() {
        return Err(vec![FieldError::body("missing", "Field required")]);
    }
    simdutf8::basic::from_utf8(body).or_else(|_| std::str::from_utf8(body)).map_err(|error| {
        vec![FieldError::json(error.valid_up_to(), format!("invalid UTF-8 at byte {}", error.valid_up_to()))]
    })
}

/// The values of some keys of an object, and the mistakes found so far.
struct Fields<const N: usize> {
    keys: [&'static str; N],
    values: [Option<Shallow>; N],
    errors: FieldErrors,
}

impl<const N: usize> Fields<N> {
    fn parse(text: &str, keys: [&'static str; N]) -> Result<Self, FieldErrors> {
        match members(text, keys) {
            Ok(Some(values)) => Ok(Self { keys, values, errors: Vec::new() }),
            Ok(None) => Err(vec![FieldError::body(
                "model_attributes_type",
                "Input should be a valid dictionary or object to extract fields from",
            )]),
            Err(error) => Err(vec![FieldError::json(byte_offset(text, &error), error.to_string())]),
        }
    }

    fn take(&mut self, field: &str) -> Option<Shallow> {
        let place = self.keys.iter().position(|key| *key == field)?;
        self.values[place].take()
    }

    fn text(&mut self, field: &'static str) -> Option<String> {
        match self.take(field) {
            Some(Shallow::Text(text)) => Some(text),
            Some(_) => {
                self.errors.push(wrong_text(field));
                None
            }
            None => {
                self.errors.push(FieldError::field(field, "missing", "Field required"));
                None
            }
        }
    }

    /// An optional text of limited length.
    fn label(&mut self, field: &'static str, limits: &Limits) -> Option<String> {
        let error = match self.take(field)? {
            Shallow::Null => return None,
            Shallow::Text(text) if text.len() <= limits.label_bytes_max => return Some(text),
            Shallow::Text(_) => FieldError::field(field, TOO_LONG.0, TOO_LONG.1),
            _ => wrong_text(field),
        };
        self.errors.push(error);
        None
    }

    fn optional_integer(&mut self, field: &'static str) -> Option<i64> {
        self.take(field)?.integer().unwrap_or_else(|| {
            self.errors.push(FieldError::field(field, "int_type", "Input should be a valid integer"));
            None
        })
    }
}

fn wrong_text(field: &'static str) -> FieldError {
    FieldError::field(field, "string_type", "Input should be a valid string")
}

/// Where in `text` the parser stopped, in bytes.
fn byte_offset(text: &str, error: &serde_json::Error) -> usize {
    let lines = text.split_inclusive('\n');
    let before: usize = lines.take(error.line().saturating_sub(1)).map(str::len).sum();
    (before + error.column().saturating_sub(1)).min(text.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn mistakes(body: &str) -> Vec<(String, String)> {
        let errors = PostedMessage::parse(body.as_bytes(), &Limits::default()).unwrap_err();
        errors
            .iter()
            .map(|error| (error.kind.to_owned(), serde_json::to_string(&error.loc).unwrap()))
            .collect()
    }

    #[test]
    fn a_message_is_read_whole() {
        let body =
            br#"{"channel_id":"c","author":"a","content":"x","token_count":"12","lane":null,"more":1}"#;
        let posted = PostedMessage::parse(body, &Limits::default()).unwrap();
        assert_eq!(&*posted.channel_id, "c");
        assert_eq!(posted.draft.token_count, Some(12));
        assert_eq!(posted.draft.lane, None);
    }

    #[test]
    fn every_mistake_is_named_with_its_place() {
        assert_eq!(
            mistakes(r#"{"channel_id":"","author":5}"#),
            [
                ("string_too_short".to_owned(), r#"["body","channel_id"]"#.to_owned()),
                ("string_type".to_owned(), r#"["body","author"]"#.to_owned()),
                ("missing".to_owned(), r#"["body","content"]"#.to_owned()),
            ]
        );
        let legal = r#"{"channel_id":"c","author":"a","content":"x","#;
        assert_eq!(mistakes(&format!("{legal}\"token_count\":1.5}}"))[0].0, "int_type");
        assert_eq!(mistakes(&format!("{legal}\"lane\":[]}}"))[0].0, "string_type");
        assert_eq!(mistakes(r#"["c","a","x",null,null,null]"#)[0].0, "model_attributes_type");
        assert_eq!(mistakes("[]")[0].0, "model_attributes_type");
        assert_eq!(mistakes("")[0], ("missing".to_owned(), r#"["body"]"#.to_owned()));
        assert_eq!(mistakes("{\n \"a\": x}")[0], ("json_invalid".to_owned(), r#"["body",8]"#.to_owned()));
        assert_eq!(mistakes(r#"{"channel_id":null,"author":"a","content":"x"}"#)[0].0, "string_type");
        assert_eq!(mistakes(r#"{"channel_id":"a\u0000","author":"a","content":"x"}"#)[0].0, "value_error");
    }

    #[test]
    fn a_payload_is_kept_as_it_was_written() {
        let body = br#"{"type":"preview.ready","payload":{"b":1.50,"a":9007199254740993}}"#;
        let event = PostedEvent::parse(body, &Limits::default()).unwrap();
        assert_eq!(event.payload, r#"{"b":1.50,"a":9007199254740993}"#);
        let event =
            PostedEvent::parse(br#"{"type":"x","payload":{"a":1},"payload":{"a":2}}"#, &Limits::default())
                .unwrap();
        assert_eq!(event.payload, r#"{"a":2}"#);
        let event = PostedEvent::parse(br#"{"type":"x","payload":null}"#, &Limits::default()).unwrap();
        assert_eq!((event.payload.as_str(), event.correlation_id), ("{}", None));
        for wrong in [&br#"{"payload":{}}"#[..], br#"{"type":""}"#, br#"{"type":"x","payload":[]}"#] {
            assert!(PostedEvent::parse(wrong, &Limits::default()).is_err());
        }
    }
}
