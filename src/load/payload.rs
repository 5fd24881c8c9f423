//! Payloads that contain their sender, number and time: `@ppp.ssssssss.tttttttttt` in hexadecimal digits,
//! padded to the requested size.

/// The bytes of that part.
pub const STAMP_BYTES: usize = 1 + 3 + 1 + 8 + 1 + 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The publisher, below 4096.
    pub publisher: u16,
    /// The number of the payload, from 0 on.
    pub sequence: u32,
    /// When it was sent, or should have been: microseconds of the run.
    pub sent_us: u64,
}

/// A payload of `bytes` bytes, whose front [`Stamp::write_over`] replaces. The rest is one letter repeated;
/// or, if it is to be compressed, text that compresses about as well as JSON with numbers and names.
pub fn blank(bytes: usize, is_compressed: bool) -> Vec<u8> {
    let len = bytes.max(STAMP_BYTES);
    if !is_compressed {
        return vec![b'x'; len];
    }
    const NAMES: [&str; 8] = ["pressure", "speed", "voltage", "width", "load", "torque", "humidity", "phase"];
    let mut random = fastrand::Rng::with_seed(len as u64);
    let mut blank = Vec::with_capacity(len + 64);
    while blank.len() < len {
        let (name, value) = (NAMES[random.usize(..NAMES.len())], random.u32(..1_000_000));
        blank.extend_from_slice(format!("(name: {name}, value: {value}, unit: {}), ", value % 7).as_bytes());
    }
    blank.truncate(len);
    blank
}

impl Stamp {
    /// Writes the stamp into a payload; only the front changes.
    pub fn write_over(self, payload: &mut [u8]) {
        if let Some(stamp) = payload.first_chunk_mut::<STAMP_BYTES>() {
            stamp[0] = b'@';
            write_hex(u64::from(self.publisher), &mut stamp[1..4]);
            stamp[4] = b'.';
            write_hex(u64::from(self.sequence), &mut stamp[5..13]);
            stamp[13] = b'.';
            write_hex(self.sent_us, &mut stamp[14..]);
        }
    }

    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let stamp: &[u8; STAMP_BYTES] = bytes.first_chunk()?;
        if stamp[0] != b'@' || stamp[4] != b'.' || stamp[13] != b'.' {
            return None;
        }
        Some(Self {
            publisher: u16::try_from(parse_hex(&stamp[1..4])?).ok()?,
            sequence: u32::try_from(parse_hex(&stamp[5..13])?).ok()?,
            sent_us: parse_hex(&stamp[14..])?,
        })
    }

    /// Whether `text` begins with a payload that equals `payload` except for its stamp, followed by a byte that
    /// can end it in JSON.
    pub fn is_whole(text: &[u8], payload: &[u8]) -> bool {
        let rest = text.get(STAMP_BYTES..).and_then(|text| text.strip_prefix(&payload[STAMP_BYTES..]));
        rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'"')))
    }

    /// Finds a payload within `text`, first at `hint`, where the last one was. Returns its stamp and
    /// position.
    pub fn find(text: &[u8], hint: usize) -> Option<(Self, usize)> {
        let at_hint = text.get(hint..).and_then(Self::parse);
        if let Some(stamp) = at_hint {
            return Some((stamp, hint));
        }
        let mut from = 0;
        while let Some(offset) = text[from..].iter().position(|byte| *byte == b'@') {
            if let Some(stamp) = Self::parse(&text[from + offset..]) {
                return Some((stamp, from + offset));
            }
            from += offset + 1;
        }
        None
    }
}

fn write_hex(mut value: u64, digits: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(value & 0xF) as usize];
        value >>= 4;
    }
}

fn parse_hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use crate::wire::deflate::{Deflater, Window};

    use super::*;

    const STAMP: Stamp = Stamp { publisher: 0xABC, sequence: 7, sent_us: 1_234_567 };

    fn payload(bytes: usize, is_compressed: bool) -> Vec<u8> {
        let mut payload = blank(bytes, is_compressed);
        STAMP.write_over(&mut payload);
        payload
    }

    #[test]
    fn what_is_written_is_found_wherever_it_is() {
        let mut text = b"{\"a\":\"me@home\",\"content\":\"".to_vec();
        let at = text.len();
        text.extend(payload(40, false));
        assert_eq!(text.len(), at + 40);
        for hint in [0, at, at + 1, 10_000] {
            assert_eq!(Stamp::find(&text, hint), Some((STAMP, at)));
        }
        assert_eq!(Stamp::find(&text[..at + STAMP_BYTES - 1], at), None);
        assert_eq!(Stamp::find(b"", 0), None);
    }

    #[test]
    fn a_changed_payload_is_seen() {
        let mut text = payload(30, false);
        text.push(b'"');
        let is_whole = |text: &[u8], bytes| Stamp::is_whole(text, &blank(bytes, false));
        assert!(is_whole(&text, 30) && is_whole(&text[..30], 30));
        assert!(!is_whole(&text, 29) && !is_whole(&text, 31) && !is_whole(&text, 99));
        text[28] = b'y';
        assert!(!is_whole(&text, 30));
    }

    #[test]
    fn what_is_to_be_compressed_shrinks_like_json() {
        let text = [&br#"{"type":"message","content":""#[..], &payload(1000, true)].concat();
        assert!(Stamp::is_whole(&text[29..], &blank(1000, true)) && text.len() == 1029);
        let mut deflater = Deflater::default();
        let len = deflater.deflate(Window::Full, &text).map_or(usize::MAX, <[u8]>::len);
        assert!((250..500).contains(&len), "{len}");
    }

    #[test]
    fn a_payload_is_never_shorter_than_what_it_tells() {
        let text = payload(1, true);
        assert_eq!((text.len(), Stamp::parse(&text)), (STAMP_BYTES, Some(STAMP)));
    }
}
