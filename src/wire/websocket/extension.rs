//! Extensions: `permessage-deflate` (RFC 7692 section 7), without context in either direction, so that
//! nothing is kept between messages. An offer that is not understood is skipped; it is never a reason to
//! refuse the WebSocket.

use crate::wire::deflate::Window;

/// The field in which extensions are offered and accepted.
pub const EXTENSIONS_FIELD: &str = "Sec-WebSocket-Extensions";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deflate {
    /// The window that the client asked us to stay within.
    server_max_window_bits: Option<u8>,
    /// The window that the client says it will stay within, if it names one. We accept any, since our own
    /// window is the largest.
    client_max_window_bits: Option<u8>,
}

impl Deflate {
    /// The first offer that can be accepted; `values` are those of the field, as the client sent it.
    pub fn accept<'b>(values: impl Iterator<Item = &'b [u8]>) -> Option<Self> {
        let offers = values.flat_map(|value| unquoted_parts(value, b','));
        offers.filter_map(parse_offer).next()
    }

    /// The window to use, which is within the one that the client accepts.
    pub const fn window(&self) -> Window {
        match self.server_max_window_bits {
            None | Some(15) => Window::Full,
            Some(_) => Window::Small,
        }
    }

    pub fn answer(&self) -> String {
        let mut answer =
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover".to_owned();
        for (name, bits) in [
            ("server_max_window_bits", self.server_max_window_bits),
            ("client_max_window_bits", self.client_max_window_bits),
        ] {
            if let Some(bits) = bits {
                answer.push_str("; ");
                answer.push_str(name);
                answer.push('=');
                answer.push_str(&bits.to_string());
            }
        }
        answer
    }
}

/// The offer of our own clients. It names no window other than the largest.
pub const OFFER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// Whether a server's answer accepts the offer of our own clients.
pub fn is_agreed(answer: &[u8]) -> bool {
    let mut parts = unquoted_parts(answer, b';');
    parts.next() == Some(b"permessage-deflate") && parts.any(|part| part == b"server_no_context_takeover")
}

/// One offer of the list. `None` if it is another extension, or must be declined because a parameter is
/// unknown, is repeated, or has an invalid value (RFC 7692 section 7).
fn parse_offer(offer: &[u8]) -> Option<Deflate> {
    let mut parts = unquoted_parts(offer, b';');
    if parts.next()? != b"permessage-deflate" {
        return None;
    }
    let mut deflate = Deflate { server_max_window_bits: None, client_max_window_bits: None };
    let mut seen = [false; 4];
    for part in parts {
        let (name, value) = match part.iter().position(|byte| *byte == b'=') {
            None => (part, None),
            Some(at) => (part[..at].trim_ascii_end(), Some(part[at + 1..].trim_ascii_start())),
        };
        let place = match (name, value) {
            (b"server_no_context_takeover", None) => 0,
            (b"client_no_context_takeover", None) => 1,
            (b"server_max_window_bits", Some(value)) => {
                deflate.server_max_window_bits = Some(parse_bits(value)?);
                2
            }
            (b"client_max_window_bits", value) => {
                deflate.client_max_window_bits =
                    value.map(parse_bits).map_or(Some(None), |bits| bits.map(Some))?;
                3
            }
            _ => return None,
        };
        if std::mem::replace(&mut seen[place], true) {
            return None;
        }
    }
    Some(deflate)
}

/// A number from 8 to 15 without leading zeros, with or without quotation marks.
fn parse_bits(value: &[u8]) -> Option<u8> {
    let digits = value.strip_prefix(b"\"").map_or(Some(value), |rest| rest.strip_suffix(b"\""))?;
    match *digits {
        [b'8'] => Some(8),
        [b'9'] => Some(9),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

/// The parts of a value between separators outside of quotation marks, without the white space around them.
fn unquoted_parts(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let parts = value.split(move |byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            _ => return *byte == separator && !is_quoted,
        }
        false
    });
    parts.map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(values: &[&str]) -> Option<String> {
        Deflate::accept(values.iter().map(|value| value.as_bytes())).map(|deflate| deflate.answer())
    }

    const BARE: &str = "";

    /// Values of the field, and the text behind the two parameters of every answer; `None` if nothing is
    /// accepted.
    const OFFERS: &[(&[&str], Option<&str>)] = &[
        (&["permessage-deflate"], Some(BARE)),
        (&["permessage-deflate; client_max_window_bits"], Some(BARE)),
        (&["permessage-deflate;client_max_window_bits=10"], Some("; client_max_window_bits=10")),
        (&["permessage-deflate; server_max_window_bits=8"], Some("; server_max_window_bits=8")),
        (&["permessage-deflate; server_max_window_bits = \"9\""], Some("; server_max_window_bits=9")),
        (
            &["permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
               server_max_window_bits=15 ; client_max_window_bits=15"],
            Some("; server_max_window_bits=15; client_max_window_bits=15"),
        ),
        (&[], None),
        (&[""], None),
        (&["permessage-bzip2", "x-webkit-deflate-frame"], None),
        (&["Permessage-Deflate"], None),
        (&["permessage-deflate; server_max_window_bits"], None),
        (&["permessage-deflate; server_max_window_bits="], None),
        (&["permessage-deflate; server_max_window_bits=7"], None),
        (&["permessage-deflate; server_max_window_bits=16"], None),
        (&["permessage-deflate; server_max_window_bits=09"], None),
        (&["permessage-deflate; server_max_window_bits=+9"], None),
        (&["permessage-deflate; server_max_window_bits=999999999999999999999"], None),
        (&["permessage-deflate; server_max_window_bits=\"9"], None),
        (&["permessage-deflate; server_max_window_bits=\"\""], None),
        (&["permessage-deflate; client_max_window_bits=0"], None),
        (&["permessage-deflate; client_max_window_bits=10; client_max_window_bits=10"], None),
        (&["permessage-deflate; client_max_window_bits; client_max_window_bits=10"], None),
        (&["permessage-deflate; server_no_context_takeover=1"], None),
        (&["permessage-deflate; server_no_context_takeover; server_no_context_takeover"], None),
        (&["permessage-deflate; client_no_context_takeover=\"\""], None),
        (&["permessage-deflate; something"], None),
        (&["permessage-deflate; "], None),
        (&["permessage-deflate x"], None),
        // The next offer is tried, wherever it is.
        (&["permessage-deflate; x, permessage-deflate"], Some(BARE)),
        (&["permessage-deflate; x=\"a, permessage-deflate\""], None),
        (&["permessage-deflate; x=\"a\\\", permessage-deflate\", permessage-deflate"], Some(BARE)),
        (&["x; y, , permessage-deflate; server_max_window_bits=1", "permessage-deflate"], Some(BARE)),
        (
            &["permessage-deflate; server_max_window_bits=10, permessage-deflate"],
            Some("; server_max_window_bits=10"),
        ),
    ];

    #[test]
    fn the_first_offer_that_can_be_met_is_agreed_on() {
        let always = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        for (values, more) in OFFERS {
            assert_eq!(answer(values), more.map(|more| format!("{always}{more}")), "{values:?}");
        }
    }

    #[test]
    fn a_window_is_never_larger_than_what_was_asked_for() {
        for bits in 8..=15 {
            let offer = format!("permessage-deflate; server_max_window_bits={bits}");
            let window = Deflate::accept([offer.as_bytes()].into_iter()).map(|deflate| deflate.window());
            assert_eq!(window, Some(if bits == 15 { Window::Full } else { Window::Small }));
        }
        let bare = Deflate::accept([&b"permessage-deflate"[..]].into_iter()).map(|deflate| deflate.window());
        assert_eq!(bare, Some(Window::Full));
    }

    #[test]
    fn what_our_own_clients_offer_is_agreed_on() {
        assert!(answer(&[OFFER]).is_some_and(|answer| is_agreed(answer.as_bytes())));
        for other in ["", "permessage-deflate", "permessage-bzip2; server_no_context_takeover"] {
            assert!(!is_agreed(other.as_bytes()), "{other}");
        }
    }
}
