//! Payloads that tell who sent them, as which, and when: `@ppp.ssssssss.tttttttttt`,
//! in hexadecimal digits, and a filling up to the size that was asked for.

/// Bytes of the part that tells something.
pub const STAMP_BYTES: usize = 1 + 3 + 1 + 8 + 1 + 10;

/// What a payload tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Who sent it, below 4096.
    pub publisher: u16,
    /// Which of its payloads it is, from 0 on.
    pub sequence: u32,
    /// When it was sent, or should have been: microseconds of the run.
    pub sent_us: u64,
}

/// What fills a payload of `bytes` bytes: one letter again and again; or, where it is to be compressed, text that
/// shrinks about as much as JSON with numbers and names in it does.
#[must_use]
pub fn filling(bytes: usize, is_compressed: bool) -> Vec<u8> {
    let len = bytes.saturating_sub(STAMP_BYTES);
    if !is_compressed {
        return vec![b'x'; len];
    }
    const NAMES: [&str; 8] = ["pressure", "speed", "voltage", "width", "load", "torque", "humidity", "phase"];
    let mut random = fastrand::Rng::with_seed(len as u64);
    let mut filling = Vec::with_capacity(len + 64);
    while filling.len() < len {
        let (name, value) = (NAMES[random.usize(..NAMES.len())], random.u32(..1_000_000));
        filling
            .extend_from_slice(format!("(name: {name}, value: {value}, unit: {}), ", value % 7).as_bytes());
    }
    filling.truncate(len);
    filling
}

impl Stamp {
    /// Appends a payload with that [`filling`].
    pub fn write(self, filling: &[u8], out: &mut Vec<u8>) {
        out.push(b'@');
        push_hex(u64::from(self.publisher), 3, out);
        out.push(b'.');
        push_hex(u64::from(self.sequence), 8, out);
        out.push(b'.');
        push_hex(self.sent_us, 10, out);
        out.extend_from_slice(filling);
    }

    /// What the payload that begins with `bytes` tells.
    #[must_use]
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

    /// Whether `text` begins with a payload with that filling, and what may end it in JSON, so far as that can
    /// be told without its numbers.
    #[must_use]
    pub fn is_whole(text: &[u8], filling: &[u8]) -> bool {
        let rest = text.get(STAMP_BYTES..).and_then(|text| text.strip_prefix(filling));
        rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'"')))
    }

    /// Finds a payload within `text`, first at `hint`: where the last one was. Returns
    /// what it tells and where it is.
    #[must_use]
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

fn push_hex(value: u64, digits: u32, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for place in (0..digits).rev() {
        out.push(DIGITS[(value >> (4 * place) & 0xF) as usize]);
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

    #[test]
    fn what_is_written_is_found_wherever_it_is() {
        let mut text = b"{\"a\":\"me@home\",\"content\":\"".to_vec();
        let at = text.len();
        STAMP.write(&filling(40, false), &mut text);
        assert_eq!(text.len(), at + 40);
        for hint in [0, at, at + 1, 10_000] {
            assert_eq!(Stamp::find(&text, hint), Some((STAMP, at)));
        }
        assert_eq!(Stamp::find(&text[..at + STAMP_BYTES - 1], at), None);
        assert_eq!(Stamp::find(b"", 0), None);
    }

    #[test]
    fn a_changed_payload_is_seen() {
        let mut text = Vec::new();
        STAMP.write(&filling(30, false), &mut text);
        text.push(b'"');
        let is_whole = |text: &[u8], bytes| Stamp::is_whole(text, &filling(bytes, false));
        assert!(is_whole(&text, 30) && is_whole(&text[..30], 30));
        assert!(!is_whole(&text, 29) && !is_whole(&text, 31) && !is_whole(&text, 99));
        text[28] = b'y';
        assert!(!is_whole(&text, 30));
    }

    #[test]
    fn what_is_to_be_compressed_shrinks_like_json() {
        let mut text = br#"{"type":"message","content":""#.to_vec();
        STAMP.write(&filling(1000, true), &mut text);
        assert!(Stamp::is_whole(&text[29..], &filling(1000, true)) && text.len() == 1029);
        let mut deflater = Deflater::default();
        let len = deflater.deflate(Window::Full, &text).map_or(usize::MAX, <[u8]>::len);
        assert!((250..500).contains(&len), "{len}");
    }

    #[test]
    fn a_payload_is_never_shorter_than_what_it_tells() {
        let mut text = Vec::new();
        STAMP.write(&filling(1, true), &mut text);
        assert_eq!((text.len(), Stamp::parse(&text)), (STAMP_BYTES, Some(STAMP)));
    }
}
