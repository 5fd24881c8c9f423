//! The document at `/api/schema` as a check of everything that tests receive: each status, each field and
//! each message must be in it. This knows the keywords of JSON Schema that are used there, and fails on any
//! other.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, OnceLock};

use serde_json::{Map, Value};

use super::http::Response;

/// Keywords without anything to check.
const ANNOTATIONS: [&str; 3] = ["description", "format", "x-websocket"];

pub(crate) fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    let text = include_str!("../../../src/server/schema.json");
    DOCUMENT.get_or_init(|| serde_json::from_str(text).expect("the schema is JSON"))
}

/// Checks the answer to a request whose path and method the document has.
pub(crate) fn check_response(method: &str, target: &str, response: &Response) {
    let path = target.split('?').next().unwrap_or_default();
    let method = if method == "HEAD" { "get" } else { &method.to_ascii_lowercase() };
    let paths = document()["paths"].as_object().expect("paths");
    let is_name = |name: &str| !name.is_empty() && !name.contains('/');
    let is_channel = |path: &&str| path.strip_prefix("/api/ws/").is_some_and(is_name);
    let path = Some(path).filter(is_channel).map_or(path, |_| "/api/ws/{channel_id}");
    let Some(operation) = paths.get(path).and_then(|path| path.get(method)) else { return };
    let status = response.status.to_string();
    let described = operation["responses"].get(&status);
    let described = described.unwrap_or_else(|| panic!("{method} {path}: {status} is not in the schema"));
    let described = resolve(described);
    let kind = response.header("content-type").unwrap_or_default();
    // There is no body for HEAD, or if the connection became a WebSocket.
    if response.body.is_empty() {
        return;
    }
    let essence = kind.split(';').next().unwrap_or_default();
    let schema = described["content"].get(essence).and_then(|content| content.get("schema"));
    let schema = schema.unwrap_or_else(|| panic!("{method} {path} {status}: {kind:?} is not in the schema"));
    if essence == "application/json" {
        expect(&response.json(), schema, &format!("{method} {path} {status}"));
    }
}

/// Checks a message from a WebSocket at `path`.
pub(crate) fn check_message(path: &str, message: &Value) {
    let name = match path {
        "/ws" => "EventStreamMessage",
        "/api/stream" => "StreamMessage",
        _ if path.starts_with("/api/ws/") => "ChannelMessage",
        _ => return,
    };
    // A client that has to keep up with thousands of messages must not be delayed: one of each shape is
    // enough.
    static SEEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut shape = name.to_owned();
    write_shape(message, &mut shape);
    let is_new = SEEN.lock().map_or(true, |mut seen| seen.insert(shape));
    if is_new {
        expect(message, &document()["components"]["schemas"][name], path);
    }
}

/// Its kind, all keys within it, and the kind of each of their values.
fn write_shape(value: &Value, shape: &mut String) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                shape.push_str(key);
                match (key.as_str(), value) {
                    ("type", Value::String(kind)) => shape.push_str(kind),
                    _ => write_shape(value, shape),
                }
                shape.push(',');
            }
            shape.push('}');
        }
        Value::Array(_) => shape.push('['),
        Value::String(_) => shape.push('s'),
        Value::Number(number) => shape.push(if number.is_f64() { 'f' } else { 'i' }),
        Value::Bool(_) => shape.push('b'),
        Value::Null => shape.push('n'),
    }
}

/// Checks a value by the component of that name.
pub(crate) fn expect_component(value: &Value, name: &str) {
    expect(value, &document()["components"]["schemas"][name], name);
}

fn expect(value: &Value, schema: &Value, name: &str) {
    if let Err(error) = validate(value, schema, Place { within: None, name }) {
        panic!("{error}\nin {value}");
    }
}

fn resolve(schema: &Value) -> &Value {
    let Some(name) = schema.get("$ref") else { return schema };
    let name = name.as_str().and_then(|name| name.strip_prefix('#')).expect("a pointer");
    document().pointer(name).unwrap_or_else(|| panic!("{name} is not in the schema"))
}

/// A path in a value; it is formatted only for an error.
#[derive(Clone, Copy)]
struct Place<'p> {
    within: Option<&'p Place<'p>>,
    name: &'p str,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(within) = self.within {
            write!(out, "{within}.")?;
        }
        out.write_str(self.name)
    }
}

fn validate(value: &Value, schema: &Value, place: Place<'_>) -> Result<(), String> {
    let schema = resolve(schema);
    for (word, said) in schema.as_object().expect("a schema is an object") {
        let holds = match word.as_str() {
            "type" => match said {
                Value::Array(types) => types.iter().any(|one| is_of_type(value, one)),
                one => is_of_type(value, one),
            },
            "const" => value == said,
            "enum" => said.as_array().expect("a list").contains(value),
            "minimum" => value.as_i64().is_none_or(|number| number >= said.as_i64().unwrap_or_default()),
            "minLength" => value.as_str().is_none_or(|text| text.len() as u64 >= said.as_u64().unwrap_or(0)),
            "pattern" => value.as_str().is_none_or(|text| is_numbered(text, said)),
            "required" => said.as_array().expect("a list").iter().all(|key| {
                value.as_object().is_none_or(|object| object.contains_key(key.as_str().unwrap_or_default()))
            }),
            "properties" | "additionalProperties" => {
                validate_object(value, schema.as_object().expect("an object"), place)?;
                true
            }
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    validate(item, said, Place { within: Some(&place), name: "[]" })?;
                }
                true
            }
            "anyOf" | "oneOf" => {
                let possible = said.as_array().expect("a list").iter().filter(|one| may_be(value, one));
                let outcomes = possible.map(|one| validate(value, one, place));
                let outcomes = outcomes.collect::<Vec<_>>();
                let good = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
                if good == 0 || (word == "oneOf" && good > 1) {
                    return Err(format!("{place}: {good} of {said} hold: {outcomes:#?}"));
                }
                true
            }
            annotation if ANNOTATIONS.contains(&annotation) => true,
            other => panic!("{place}: this checker does not know {other:?}"),
        };
        if !holds {
            return Err(format!("{place}: {value} is not as {word} {said}"));
        }
    }
    Ok(())
}

/// Whether the `type` of a message fits this kind of message: others need no closer look.
fn may_be(value: &Value, schema: &Value) -> bool {
    let expected = resolve(schema).pointer("/properties/type/const");
    expected.is_none_or(|expected| value["type"] == *expected)
}

fn validate_object(value: &Value, schema: &Map<String, Value>, place: Place<'_>) -> Result<(), String> {
    for (key, value) in value.as_object().into_iter().flatten() {
        let place = Place { within: Some(&place), name: key };
        let known = schema.get("properties").and_then(|properties| properties.get(key));
        match (known, schema.get("additionalProperties")) {
            (Some(schema), _) => validate(value, schema, place)?,
            (None, Some(Value::Bool(false))) => return Err(format!("{place} is not in the schema")),
            (None, Some(schema @ Value::Object(_))) => validate(value, schema, place)?,
            (None, _) => {}
        }
    }
    Ok(())
}

fn is_of_type(value: &Value, kind: &Value) -> bool {
    match kind.as_str().expect("a type is a name") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("{other:?} is no type"),
    }
}

/// The only form that patterns have: a prefix and five digits or more.
fn is_numbered(text: &str, pattern: &Value) -> bool {
    let pattern = pattern.as_str().expect("a pattern is text");
    let prefix = pattern.strip_prefix('^').and_then(|rest| rest.strip_suffix("[0-9]{5,}$"));
    let prefix = prefix.unwrap_or_else(|| panic!("this checker does not know {pattern:?}"));
    let digits = text.strip_prefix(prefix).unwrap_or_default();
    digits.len() >= 5 && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[test]
fn the_checker_bites() {
    let good = serde_json::json!({"status": "ok"});
    assert_eq!(
        validate(
            &good,
            &document()["components"]["schemas"]["Health"],
            Place { within: None, name: "health" }
        ),
        Ok(())
    );
    for bad in [
        serde_json::json!({}),
        serde_json::json!({"status": "well"}),
        serde_json::json!({"status": "ok", "mood": 1}),
        serde_json::json!({"status": "degraded", "reason": 1}),
        serde_json::json!([]),
    ] {
        assert!(
            validate(
                &bad,
                &document()["components"]["schemas"]["Health"],
                Place { within: None, name: "health" }
            )
            .is_err(),
            "{bad}"
        );
    }
    let id = &document()["components"]["schemas"]["MessageEventId"];
    for (text, is_good) in [("message-00001", true), ("message-1", false), ("event-00001", false)] {
        assert_eq!(
            validate(&Value::from(text), id, Place { within: None, name: "id" }).is_ok(),
            is_good,
            "{text}"
        );
    }
    let channel = &document()["components"]["schemas"]["ChannelMessage"];
    assert!(
        validate(&serde_json::json!({"type": "hello"}), channel, Place { within: None, name: "message" })
            .is_err()
    );
}
