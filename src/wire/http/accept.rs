//! The preferences of a client: lists of names with weights (RFC 9110 section 12).

use super::field::elements;
use super::request::Request;

/// A weight of 1 (RFC 9110 section 12.4.2).
const WHOLE: u16 = 1000;

/// Whether to compress a response with gzip: the client must rate gzip at least as high as no compression
/// (RFC 9110 section 12.5.3).
pub fn accepts_gzip(request: &Request<'_>) -> bool {
    let (mut gzip, mut identity, mut other) = (None, None, None);
    for (name, weight) in weighted(request.header_values("accept-encoding")) {
        let slot = match name {
            _ if name.eq_ignore_ascii_case(b"gzip") || name.eq_ignore_ascii_case(b"x-gzip") => &mut gzip,
            _ if name.eq_ignore_ascii_case(b"identity") => &mut identity,
            b"*" => &mut other,
            _ => continue,
        };
        slot.get_or_insert(weight);
    }
    let gzip = gzip.or(other).unwrap_or_default();
    gzip > 0 && gzip >= identity.unwrap_or_default()
}

/// The elements of the lists without their parameters, each with its weight; 0 if the weight is malformed.
fn weighted<'b>(values: impl Iterator<Item = &'b [u8]>) -> impl Iterator<Item = (&'b [u8], u16)> {
    values.flat_map(elements).map(|element| {
        let mut parts = element.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix(b"q=").or_else(|| part.strip_prefix(b"Q=")));
        (name, weight.map_or(WHOLE, |weight| parse_weight(weight).unwrap_or(0)))
    })
}

/// A weight in thousandths.
fn parse_weight(text: &[u8]) -> Option<u16> {
    let (whole, decimals) = match text {
        [whole] | [whole, b'.'] => (whole, &[][..]),
        [whole, b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return None,
    };
    let mut weight = if matches!(whole, b'0' | b'1') { u16::from(whole - b'0') } else { return None };
    for place in 0..3 {
        let digit = decimals.get(place).copied().unwrap_or(b'0');
        weight = weight * 10 + if digit.is_ascii_digit() { u16::from(digit - b'0') } else { return None };
    }
    (weight <= WHOLE).then_some(weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::config::Limits;
    use crate::wire::http::decoder::{RequestDecoder, RequestStep};

    fn takes_gzip(field: &str) -> bool {
        let mut input = format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n").into_bytes();
        match RequestDecoder::default().decode(&mut input, &Limits::default()) {
            Ok(RequestStep::Request { request, .. }) => accepts_gzip(&request),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn gzip_is_taken_where_it_is_wanted_no_less_than_nothing() {
        for (list, expected) in [
            ("gzip", true),
            ("GZIP", true),
            ("x-gzip", true),
            ("deflate, gzip;q=1.0, *;q=0.5", true),
            ("br , gzip ; q=0.1", true),
            ("*", true),
            ("*;q=0.001", true),
            ("identity;q=0.5, gzip;q=0.5", true),
            ("identity;q=0, *", true),
            ("", false),
            ("identity", false),
            ("br, deflate", false),
            ("gzip;q=0", false),
            ("gzip;q=0.000", false),
            ("gzip;q=0, *", false),
            ("*;q=0", false),
            ("gzip;q=0.5, identity", false),
            ("gzip;q=0.5, identity;q=0.501", false),
            ("gzip;q=2", false),
            ("gzip;q=1.001", false),
            ("gzip;q=0.0001", false),
            ("gzip;q=.5", false),
            ("gzip;q=0.x", false),
            ("gzip;q=", false),
        ] {
            assert_eq!(takes_gzip(&format!("Accept-Encoding: {list}")), expected, "{list}");
        }
        assert!(!takes_gzip("A: b"), "who says nothing is not taken by surprise");
        assert!(takes_gzip("Accept-Encoding: br\r\nAccept-Encoding: gzip"));
    }
}
