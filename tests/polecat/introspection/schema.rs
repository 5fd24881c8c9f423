//! How programs use the document: PROTOCOL.md, "3. The HTTP API", section 3.12.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::schema::document;
use crate::support::{Http, Server};

/// Each operation with its path and method.
fn operations() -> impl Iterator<Item = (&'static str, &'static str, &'static Value)> {
    let paths = document()["paths"].as_object().expect("paths").iter();
    paths.flat_map(|(path, methods)| {
        let methods = methods.as_object().expect("methods").iter();
        methods.map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
    })
}

/// Calls `look` with each part of the document, and with its path.
fn walk(value: &Value, place: &str, look: &mut impl FnMut(&str, &Value)) {
    look(place, value);
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(key, member)| walk(member, &format!("{place}/{key}"), look));
        }
        Value::Array(items) => {
            let numbered = items.iter().enumerate();
            numbered.for_each(|(number, item)| walk(item, &format!("{place}/{number}"), look));
        }
        _ => {}
    }
}

/// `closed_connection` as generators write it: `ClosedConnection`.
fn capitalised(name: &str) -> String {
    let parts = name.split(['_', '-']).filter(|part| !part.is_empty());
    parts.map(|part| part[..1].to_ascii_uppercase() + &part[1..]).collect()
}

#[test]
fn each_operation_has_a_name_of_its_own() {
    let names = operations().map(|(path, method, operation)| {
        operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {path} has no operationId"))
    });
    let names = names.collect::<Vec<_>>();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
    assert!(names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric())), "{names:?}");
}

#[test]
fn no_value_is_of_no_type_but_null() {
    // Half of the generators know null only as a part of another type.
    walk(document(), "", &mut |place, value| {
        assert_ne!(value.get("type"), Some(&Value::from("null")), "{place}");
        let has_null = |word: &str| value[word].as_array().is_some_and(|all| all.contains(&Value::Null));
        if has_null("enum") {
            assert!(
                value["type"].as_array().is_some_and(|types| types.contains(&Value::from("null"))),
                "{place}"
            );
        }
        assert_ne!(value.get("const"), Some(&Value::Null), "{place}");
    });
}

#[test]
fn no_name_that_a_generator_makes_is_taken() {
    // A schema without a name is called after its path.
    let schemas = document()["components"]["schemas"].as_object().expect("schemas");
    for (name, schema) in schemas {
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            let made = format!("{name}{}", capitalised(key));
            let is_shared = property.get("$ref").is_some();
            assert!(is_shared || !schemas.contains_key(&made), "{name}.{key} would be called {made}");
        }
    }
    for (_, _, operation) in operations() {
        let name = capitalised(operation["operationId"].as_str().unwrap_or_default());
        for status in operation["responses"].as_object().expect("responses").keys() {
            assert!(!schemas.contains_key(&format!("{name}{status}Response")), "{name} {status}");
        }
    }
}

#[test]
fn what_the_schema_forbids_the_server_refuses() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    let mut tried = 0;
    for (path, method, operation) in operations() {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let (name, schema) = (parameter["name"].as_str().expect("a name"), &parameter["schema"]);
            let beyond = |bound: &str, by: i64| schema[bound].as_i64().map(|bound| (bound + by).to_string());
            let mut wrong = vec![beyond("minimum", -1), beyond("maximum", 1)];
            let text = |bound: &str, by: i64| {
                let len = schema[bound].as_i64().and_then(|bound| usize::try_from(bound + by).ok());
                len.map(|len| "x".repeat(len))
            };
            wrong.extend([text("minLength", -1), text("maxLength", 1)]);
            for value in wrong.into_iter().flatten() {
                let is_header = parameter["in"] == "header";
                let target = match parameter["in"].as_str() {
                    Some("query") => format!("{path}?{name}={value}"),
                    Some("path") => path.replace(&format!("{{{name}}}"), &value),
                    _ => path.to_owned(),
                };
                let fields = if is_header { vec![(name, value.as_str())] } else { Vec::new() };
                let body = if path == "/api/events" {
                    "{\"type\":\"t\"}"
                } else {
                    "{\"channel_id\":\"c\",\"author\":\"a\",\"content\":\"c\"}"
                };
                let body = (method == "post").then_some(body);
                http.send(crate::support::http::request(
                    &method.to_ascii_uppercase(),
                    &target,
                    &fields,
                    body,
                ));
                let status = http.response().status;
                assert!(matches!(status, 400 | 404 | 422), "{method} {path}: {name} {value:.20} is {status}");
                tried += 1;
            }
        }
    }
    assert!(tried >= 12, "{tried}");
}
