//! Request targets and their parts: authority, path, query (RFC 9112 section 3.2, RFC 3986).

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::base::authority::Authority;

use super::status::{Refusal, Status};

/// A request target, split but not decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target<'b> {
    /// Begins with `/`, or is `*`.
    pub(crate) path: &'b str,
    /// The part behind the first `?`.
    pub(crate) query: Option<&'b str>,
    /// Of a target in absolute form.
    pub(crate) authority: Option<&'b str>,
}

impl<'b> Target<'b> {
    /// Parses a target in the form that the method allows: origin and absolute
    /// form for all, `*` for OPTIONS. CONNECT is not implemented.
    pub(crate) fn parse(method: &str, target: &'b str) -> Result<Self, Refusal> {
        if method == "CONNECT" {
            return Err(Refusal::new(Status::NOT_IMPLEMENTED, "CONNECT is not implemented"));
        }
        if !target.bytes().all(is_target_byte) {
            return Err(Refusal::bad("invalid character in the request target"));
        }
        if target.starts_with('/') {
            let (path, query) = split_query(target);
            return Ok(Self { path, query, authority: None });
        }
        if target == "*" && method == "OPTIONS" {
            return Ok(Self { path: target, query: None, authority: None });
        }
        let Some(rest) = strip_scheme(target) else {
            return Err(Refusal::bad("invalid request target"));
        };
        let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if Authority::parse(authority).is_err() {
            return Err(Refusal::bad("invalid authority in the request target"));
        }
        let (path, query) = split_query(rest);
        let path = match (path, query, method) {
            ("", None, "OPTIONS") => "*",
            ("", ..) => "/",
            _ => path,
        };
        Ok(Self { path, query, authority: Some(authority) })
    }
}

/// Whether a target may have this byte: RFC 3986 allows it, or browsers send it in a query without encoding
/// it. `#` is not allowed, since fragments are not sent.
const fn is_target_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'#' | b'<' | b'>')
}

fn split_query(target: &str) -> (&str, Option<&str>) {
    target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)))
}

fn strip_scheme(target: &str) -> Option<&str> {
    let (scheme, rest) = target.split_once("://")?;
    (scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")).then_some(rest)
}

/// The values of that name in a query of `name=value` pairs, decoded: `+` is a space, and invalid UTF-8
/// becomes U+FFFD.
pub(crate) fn query_values<'b, 'n>(
    query: &'b str,
    name: &'n str,
) -> impl Iterator<Item = Cow<'b, str>> + use<'b, 'n> {
    query.split('&').filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (form_decode(key) == name).then(|| form_decode(value))
    })
}

fn form_decode(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let spaced = text.replace('+', " ");
    Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
}

/// A path segment that is not text: a `%` without two hex digits behind it, or invalid UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadSegment;

/// Decodes one segment of a path (RFC 3986 section 2.1). `+` is a plus, and an encoded `/` is part of the
/// segment.
///
/// # Errors
/// [`BadSegment`] if an escape is incomplete or the result is not UTF-8.
pub fn percent_decode_segment(segment: &str) -> Result<Cow<'_, str>, BadSegment> {
    let complete = segment.split('%').skip(1).all(|escape| {
        escape.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    if !complete {
        return Err(BadSegment);
    }
    percent_decode_str(segment).decode_utf8().map_err(|_| BadSegment)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn segments_decode_strictly() {
        assert_eq!(percent_decode_segment("plain"), Ok(Cow::Borrowed("plain")));
        assert_eq!(percent_decode_segment("a+b%2Fc%20%C3%A9").unwrap(), "a+b/c é");
        assert_eq!(percent_decode_segment("").unwrap(), "");
        for bad in ["%", "%4", "a%4", "%zz", "%C3", "%ff", "%+1", "%é"] {
            assert_eq!(percent_decode_segment(bad), Err(BadSegment), "{bad}");
        }
    }

    #[test]
    fn query_values_are_decoded() {
        let query = "a=1&b=x+y%2B%c3%a9&a=2&c&=e&d=%zz%ff&x%5Fy=z=w";
        let value = |name| query_values(query, name).next().map(Cow::into_owned);
        assert_eq!(value("a").as_deref(), Some("1"));
        assert_eq!(value("b").as_deref(), Some("x y+é"));
        assert_eq!(value("c").as_deref(), Some(""));
        assert_eq!(value("").as_deref(), Some("e"));
        assert_eq!(value("d").as_deref(), Some("%zz\u{fffd}"));
        assert_eq!(value("x_y").as_deref(), Some("z=w"));
        assert_eq!(value("e"), None);
    }
}
