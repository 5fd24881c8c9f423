//! The JSON messages and bodies: accepted input means what the client wrote, and is sent on as JSON with the
//! same meaning.
//!
//! Input: the text.

use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;

use polecat::base::config::Limits;
use polecat::wire::body::{FieldErrors, ListRange, PostedEvent, PostedMessage, channel_name_error};
use polecat::wire::http::decoder::{
    BadSegment, RequestDecoder, RequestStep, http_date, percent_decode_segment,
};
use polecat::wire::protocol::{
    ClientMessage, CorrelationId, Draft, Event, Position, Sequence, timestamp, write_event, write_json,
    write_message,
};
use polecat::wire::v1::{ClientId, EnvelopeContext, ErrorCode, Gap, Inbound};
use serde_json::Value;
use serde_json::value::RawValue;

const NAME_BYTES_MAX: usize = 40;
const LABEL_BYTES_MAX: usize = 60;

/// Runs the check.
pub fn check(data: &[u8]) {
    check_posted_message(data);
    check_posted_event(data);
    check_numbers(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    check_client_message(text);
    check_said(text);
    check_segment(text);
    check_query(text);
    check_sequences(text);
}

fn parse(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(text)))
}

fn check_client_message(text: &str) {
    let parsed = ClientMessage::parse(text);
    let value: Option<Value> = serde_json::from_str(text).ok();
    let kind = value.as_ref().and_then(Value::as_object).map(|object| object.get("type"));
    match parsed {
        Err(_) => assert!(kind.is_none_or(|kind| kind == Some(&Value::from("message"))), "it is no rubbish"),
        // Numbers that are out of range may be in keys that are ignored.
        Ok(ClientMessage::Ping) => assert!(kind.is_none_or(|kind| kind == Some(&Value::from("ping")))),
        Ok(ClientMessage::Unknown) => assert!(kind != Some(Some(&Value::from("message")))),
        Ok(ClientMessage::Publish(draft)) => {
            if let Some(value) = &value {
                check_draft(&draft, value, "unknown", "");
            }
            check_broadcast("general", draft);
        }
    }
}

/// The draft has the values of `value`, with these defaults.
fn check_draft(draft: &Draft, value: &Value, author: &str, content: &str) {
    let text = |field: &str| value.get(field).and_then(Value::as_str);
    assert_eq!(draft.author, text("author").unwrap_or(author));
    assert_eq!(draft.content, text("content").unwrap_or(content));
    assert_eq!(draft.lane.as_deref(), text("lane"));
    assert_eq!(draft.provider.as_deref(), text("provider"));
    match value.get("token_count") {
        None | Some(Value::Null) => assert_eq!(draft.token_count, None),
        Some(Value::String(digits)) => assert_eq!(digits.trim().parse().ok(), draft.token_count),
        Some(Value::Number(number)) if number.is_i64() => assert_eq!(number.as_i64(), draft.token_count),
        #[expect(clippy::cast_precision_loss, reason = "only integers that a double holds are taken")]
        Some(other) => assert_eq!(draft.token_count.map(|count| count as f64), other.as_f64()),
    }
}

/// A broadcast is JSON, and has the stored values.
fn check_broadcast(channel: &str, draft: Draft) {
    let message = draft.into_message(Rc::from(channel), Rc::from("T"));
    assert!(message.weight() >= message.content.len());
    let mut out = Vec::new();
    write_message(17, &message, &mut out);
    let sent = parse(&out);
    assert_eq!((&sent["type"], &sent["event_id"]), (&Value::from("message"), &Value::from("message-00017")));
    let data = &sent["data"];
    assert_eq!(data.as_object().map(serde_json::Map::len), Some(8));
    assert_eq!((&data["id"], data["channel_id"].as_str()), (&Value::from(17), Some(channel)));
    assert_eq!(data["author"].as_str(), Some(&*message.author));
    assert_eq!(data["content"].as_str(), Some(&*message.content));
    assert_eq!(data["lane"].as_str(), message.lane.as_deref());
    assert_eq!(data["provider"].as_str(), message.provider.as_deref());
    assert_eq!(data["token_count"].as_i64(), message.token_count);
}

fn check_said(text: &str) {
    let place = EnvelopeContext {
        sequence: Sequence::Messages,
        position: Position::Id(Sequence::Messages, 5),
        timestamp: "T",
    };
    let check_id = |id: &ClientId, write: &dyn Fn(&mut Vec<u8>)| {
        let _ = id;
        let mut out = Vec::new();
        write(&mut out);
        // As it was written: a number may be out of range.
        let sent: &RawValue = serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{error}"));
        assert!(sent.get().starts_with("{\"type\":"));
    };
    match Inbound::parse(text) {
        Ok(Inbound { message, id, idempotency_key }) => {
            assert_eq!(ClientMessage::parse(text), Ok(message), "the base protocol reads it so, too");
            assert!(idempotency_key.is_none_or(|key| (1..=255).contains(&key.len())));
            if let Some(id) = &id {
                check_id(id, &|out| place.write_ack(id, 9, out));
                check_id(id, &|out| place.write_error(ErrorCode::UnknownType, "?", Some(id), out));
            }
        }
        Err(wrong) => {
            let mut out = Vec::new();
            place.write_error(wrong.code, &wrong.message, None, &mut out);
            assert_eq!(parse(&out)["payload"]["message"].as_str(), Some(&*wrong.message));
            if let Some(id) = &wrong.id {
                check_id(id, &|out| place.write_error(wrong.code, &wrong.message, Some(id), out));
            }
        }
    }
    // The client's own id is sent back.
    let mut out = Vec::new();
    let [agreed, oldest, newest] = [0, 1, 2].map(|id| Sequence::Messages.text(id));
    place.write_gap(&Gap { requested: text, agreed, oldest, newest, channel: None }, &mut out);
    assert_eq!(parse(&out)["payload"]["requested"].as_str(), Some(text));
}

fn limits() -> Limits {
    Limits { channel_name_bytes_max: NAME_BYTES_MAX, label_bytes_max: LABEL_BYTES_MAX, ..Limits::default() }
}

fn check_posted_message(body: &[u8]) {
    match PostedMessage::parse(body, &limits()) {
        Ok(PostedMessage { channel_id, draft }) => {
            assert!(std::str::from_utf8(body).is_ok(), "JSON is UTF-8");
            assert!(channel_name_error(&channel_id, NAME_BYTES_MAX).is_none());
            assert!(!draft.has_long_label(LABEL_BYTES_MAX));
            if let Ok(value) = serde_json::from_slice::<Value>(body) {
                assert_eq!(value["channel_id"].as_str(), Some(&*channel_id));
                assert!(value["author"].is_string() && value["content"].is_string());
                check_draft(&draft, &value, "", "");
            }
            check_broadcast(&channel_id, draft);
        }
        Err(errors) => check_errors(&errors),
    }
}

fn check_posted_event(body: &[u8]) {
    match PostedEvent::parse(body, &limits()) {
        Ok(PostedEvent { kind, payload, correlation_id }) => {
            // A tree of ignored values need not exist.
            let text = std::str::from_utf8(body).expect("JSON is UTF-8");
            let members: HashMap<String, &RawValue> = serde_json::from_str(text).expect("an object");
            let said =
                |key: &str| members.get(key).map_or(Value::Null, |value| parse(value.get().as_bytes()));
            assert_eq!(said("type").as_str(), Some(&*kind));
            assert!((1..=NAME_BYTES_MAX).contains(&kind.len()));
            // Null and empty ones count as absent.
            let given = said("correlation_id");
            let given = given.as_str().filter(|id| !id.is_empty());
            assert_eq!(correlation_id.as_ref().map(CorrelationId::as_str), given);
            let correlation_id = correlation_id.unwrap_or_else(|| CorrelationId::made_up(42));
            let event = Event { kind, payload, correlation_id, timestamp: Rc::from("T") };
            assert!(event.weight() >= event.payload.len());
            let mut out = Vec::new();
            write_event(42, &event, &mut out);
            let sent = parse(&out);
            assert_eq!(sent["type"].as_str(), Some(&*event.kind));
            assert_eq!(sent["correlation_id"].as_str(), Some(event.correlation_id.as_str()));
            let empty = Value::Object(serde_json::Map::new());
            let payload = said("payload");
            assert_eq!(sent["payload"], if payload.is_null() { empty } else { payload });
            assert_eq!(sent.as_object().map(serde_json::Map::len), Some(5));
        }
        Err(errors) => check_errors(&errors),
    }
}

fn check_errors(errors: &FieldErrors) {
    assert!(!errors.is_empty(), "something is wrong with it");
    let mut out = Vec::new();
    write_json(errors, &mut out);
    assert_eq!(parse(&out).as_array().map(Vec::len), Some(errors.len()));
}

fn check_numbers(data: &[u8]) {
    let Some(bytes) = data.first_chunk() else { return };
    // Times that a clock can show: from 1970 on; beyond the year 9999 it shows the epoch.
    let number = i64::from_le_bytes(*bytes) & i64::MAX;
    assert_eq!(timestamp(number).len(), "2026-01-05T09:30:00.123456+00:00".len());
    assert_eq!(http_date(number).len(), "Mon, 05 Jan 2026 09:30:00 GMT".len());
}

fn check_segment(text: &str) {
    match percent_decode_segment(text) {
        Ok(decoded) => {
            let encoded: String = decoded.bytes().map(|byte| format!("%{byte:02X}")).collect();
            assert_eq!(percent_decode_segment(&encoded), Ok(Cow::Borrowed(&*decoded)));
            assert_eq!(decoded == text, !text.contains('%') || decoded == text);
        }
        Err(BadSegment) => assert!(text.contains('%')),
    }
}

fn check_query(text: &str) {
    let mut bytes = format!("GET /?{text} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
    let Ok(RequestStep::Request { request, .. }) =
        RequestDecoder::default().decode(&mut bytes, &Limits::default())
    else {
        return;
    };
    match ListRange::parse(Sequence::Messages, |name| request.query_value(name)) {
        Ok(range) => assert!((1..=1000).contains(&range.limit)),
        Err(errors) => check_errors(&errors),
    }
}

fn check_sequences(text: &str) {
    for sequence in [Sequence::Events, Sequence::Messages] {
        if let Some(id) = sequence.parse(text) {
            let mut out = Vec::new();
            sequence.write(id, &mut out);
            let written = String::from_utf8_lossy(&out);
            assert_eq!(sequence.parse(&written), Some(id));
        }
    }
}
