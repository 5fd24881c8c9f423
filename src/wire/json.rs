//! JSON that is read without building a tree. A body can have hundreds of thousands of values, most of which
//! are ignored or kept as they were written: a tree would cost many times as much as looking at them.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Error, Number};

/// A value of which only a text or a number is kept. All of it was checked: every text in it can be decoded,
/// every number is within the range of a double, and nothing is nested deeper than 127 levels.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shallow {
    Null,
    Text(String),
    Number(Number),
    Object,
    /// An array or a boolean.
    Other,
}

impl Shallow {
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// An integer, even if it is written `12.0` or `"12"`, or null; `None` for anything else.
    pub(super) fn integer(&self) -> Option<Option<i64>> {
        match self {
            Self::Null => return Some(None),
            Self::Number(number) => number.as_i64().or_else(|| number.as_f64().and_then(whole)),
            Self::Text(text) => text.trim().parse().ok(),
            Self::Object | Self::Other => None,
        }
        .map(Some)
    }
}

/// `number` as an integer, if it is one exactly.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the bound is the largest range in which doubles are exact"
)]
fn whole(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0).then_some(number as i64)
}

impl<'de> Deserialize<'de> for Shallow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue::<true>)
    }
}

/// A value of which nothing is kept; it is checked in the same way.
struct Checked;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue::<false>).map(|_| Self)
    }
}

/// Checks that `text` is JSON that can be stored.
pub(crate) fn check(text: &str) -> Result<(), Error> {
    serde_json::from_str::<Checked>(text).map(|_| ())
}

struct AnyValue<const KEEPS_TEXT: bool>;

impl<'de, const KEEPS_TEXT: bool> Visitor<'de> for AnyValue<KEEPS_TEXT> {
    type Value = Shallow;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Shallow, E> {
        Ok(Shallow::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shallow, E> {
        Ok(Shallow::Other)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Shallow, E> {
        Ok(Shallow::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Shallow, E> {
        Ok(Shallow::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Shallow, E> {
        Ok(Number::from_f64(number).map_or(Shallow::Other, Shallow::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Shallow, E> {
        Ok(if KEEPS_TEXT { Shallow::Text(text.to_owned()) } else { Shallow::Other })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Shallow, A::Error> {
        while items.next_element::<Checked>()?.is_some() {}
        Ok(Shallow::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Shallow, A::Error> {
        while members.next_entry::<Checked, Checked>()?.is_some() {}
        Ok(Shallow::Object)
    }
}

/// Whether `text`, if it is JSON, is an object: a derived reader would accept an array too.
pub(super) fn is_object(text: &[u8]) -> bool {
    text.trim_ascii_start().first() == Some(&b'{')
}

/// The values of these keys of an object; `None` if `text` is JSON, but not an object. If a key is there
/// twice, the last value counts. All other values are skipped.
///
/// # Errors
/// If the text is not JSON, or the value of one of the keys is not a `T`.
pub(super) fn members<'t, T: Deserialize<'t>, const N: usize>(
    text: &'t str,
    keys: [&str; N],
) -> Result<Option<[Option<T>; N]>, Error> {
    if !is_object(text.as_bytes()) {
        return serde_json::from_str::<IgnoredAny>(text).map(|_| None);
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let found = deserializer.deserialize_map(Members { keys, kind: PhantomData })?;
    deserializer.end()?;
    Ok(Some(found))
}

struct Members<'k, T, const N: usize> {
    keys: [&'k str; N],
    kind: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Members<'_, T, N> {
    type Value = [Option<T>; N];

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut found = [const { None }; N];
        while let Some(place) = members.next_key_seed(OneOf(&self.keys))? {
            match place {
                Some(place) => found[place] = Some(members.next_value()?),
                None => {
                    members.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

/// Reads a key as its index in this list.
struct OneOf<'k>(&'k [&'k str]);

impl<'de> DeserializeSeed<'de> for OneOf<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for OneOf<'_> {
    type Value = Option<usize>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Option<usize>, E> {
        Ok(self.0.iter().position(|known| *known == key))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::Value;
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn a_value_is_taken_if_and_only_if_a_tree_of_it_can_be_built() {
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let texts = [
            "null",
            "true",
            "0",
            "-1",
            "18446744073709551615",
            "1.5",
            "1e308",
            "1e309",
            "-1e400",
            "\"\\ud83d\\ude00\"",
            "\"\\ud800\"",
            "[\"\\udc00x\"]",
            "{\"a\":{\"\\ud800\":1}}",
            "{\"a\":[1,{\"b\":1e400}]}",
            "{}",
            "[]",
            "[1,]",
            "{\"a\":}",
            "\"\u{7}\"",
            "[1] 2",
            "",
        ];
        for text in texts.map(str::to_owned).into_iter().chain([126, 127, 128, 100_000].map(deep)) {
            let shallow = serde_json::from_str::<Shallow>(&text).map_err(|error| error.to_string());
            match serde_json::from_str::<Value>(&text) {
                Ok(Value::Null) => assert_eq!(shallow, Ok(Shallow::Null)),
                Ok(Value::String(string)) => assert_eq!(shallow, Ok(Shallow::Text(string))),
                Ok(Value::Number(number)) => assert_eq!(shallow, Ok(Shallow::Number(number))),
                Ok(Value::Object(_)) => assert_eq!(shallow, Ok(Shallow::Object)),
                Ok(_) => assert_eq!(shallow, Ok(Shallow::Other)),
                Err(error) => assert_eq!(shallow, Err(error.to_string()), "{text:.40}"),
            }
        }
    }

    #[test]
    fn only_what_is_asked_for_is_looked_into() {
        let text = r#" {"a":1,"x":["\ud800",1e400],"\u0061":"last","b":{"c":[]}} "#;
        let found = members::<Shallow, 3>(text, ["a", "b", "c"]).unwrap().unwrap();
        assert_eq!(found, [Some(Shallow::Text("last".to_owned())), Some(Shallow::Object), None]);
        assert!(members::<Shallow, 1>(text, ["x"]).is_err());
        let [raw] = members::<&RawValue, 1>(text, ["b"]).unwrap().unwrap();
        assert_eq!(raw.unwrap().get(), r#"{"c":[]}"#);
        assert_eq!(members::<Shallow, 1>("[{\"a\":1}]", ["a"]).unwrap(), None);
        for wrong in ["", "{", "[", "{} {}", "{\"a\":1,}", "{1:2}", "{\"\\ud800\":1}"] {
            assert!(members::<Shallow, 1>(wrong, ["a"]).is_err(), "{wrong}");
        }
    }
}
