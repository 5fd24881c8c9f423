//! Checks of the forms that the wire promises.

/// A version 4 UUID in lower-case hex.
pub(crate) fn is_uuid_v4(text: &str) -> bool {
    has_form(text, "xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx")
}

/// UTC in ISO 8601 with microseconds, as `2026-01-05T09:30:00.123456+00:00`.
pub(crate) fn assert_timestamp(text: &str) {
    assert!(has_form(text, "dddd-dd-ddTdd:dd:dd.dddddd+00:00"), "{text:?} is no timestamp of the wire");
}

/// `d` is a digit, `x` a lower-case hex digit, `y` one of 89ab, and everything else is literal.
fn has_form(text: &str, form: &str) -> bool {
    text.len() == form.len()
        && text.bytes().zip(form.bytes()).all(|(byte, expected)| match expected {
            b'd' => byte.is_ascii_digit(),
            b'x' => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
            b'y' => b"89ab".contains(&byte),
            exact => byte == exact,
        })
}

/// Checks that each key occurs in the JSON `text`, in this order.
pub(crate) fn assert_keys_in_order(text: &str, keys: &[&str]) {
    let mut from = 0;
    for key in keys {
        let quoted = format!("\"{key}\":");
        match text[from..].find(&quoted) {
            Some(place) => from += place + quoted.len(),
            None => panic!("the key {key:?} is missing or out of order in {text}"),
        }
    }
}

#[test]
fn forms_are_told_from_what_only_resembles_them() {
    assert!(is_uuid_v4("c0ffee00-1234-4abc-8def-000000000001"));
    assert!(!is_uuid_v4("c0ffee00-1234-1abc-8def-000000000001"));
    assert!(!is_uuid_v4("C0FFEE00-1234-4ABC-8DEF-000000000001"));
    assert_timestamp("2026-01-05T09:30:00.123456+00:00");
    assert!(!has_form("2026-01-05T09:30:00.123456Z", "dddd-dd-ddTdd:dd:dd.dddddd+00:00"));
    assert_keys_in_order(r#"{"a":1,"b":{"a":2}}"#, &["a", "b", "a"]);
}
