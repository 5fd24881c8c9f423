//! Payloads that tell who sent them, as which, and when: `@ppp.ssssssss.tttttttttt`,
//! in hexadecimal digits, and letters up to the size that was asked for.

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

impl Stamp {
    /// Appends a payload of `bytes` bytes, at least [`STAMP_BYTES`].
    pub fn write(self, bytes: usize, out: &mut Vec<u8>) {
        let end = out.len() + bytes.max(STAMP_BYTES);
        out.push(b'@');
        push_hex(u64::from(self.publisher), 3, out);
        out.push(b'.');
        push_hex(u64::from(self.sequence), 8, out);
        out.push(b'.');
        push_hex(self.sent_us, 10, out);
        out.resize(end, b'x');
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

    /// Whether `text` begins with a payload of `bytes` bytes that nobody has changed, as
    /// far as that can be told without its numbers.
    #[must_use]
    pub fn is_whole(text: &[u8], bytes: usize) -> bool {
        let letters = text.get(STAMP_BYTES..bytes.max(STAMP_BYTES));
        letters.is_some_and(|letters| letters.iter().all(|byte| *byte == b'x'))
            && text.get(bytes) != Some(&b'x')
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
    use super::*;

    const STAMP: Stamp = Stamp { publisher: 0xABC, sequence: 7, sent_us: 1_234_567 };

    #[test]
    fn what_is_written_is_found_wherever_it_is() {
        let mut text = b"{\"a\":\"me@home\",\"content\":\"".to_vec();
        let at = text.len();
        STAMP.write(40, &mut text);
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
        STAMP.write(30, &mut text);
        text.push(b'"');
        assert!(Stamp::is_whole(&text, 30) && Stamp::is_whole(&text[..30], 30));
        assert!(!Stamp::is_whole(&text, 29) && !Stamp::is_whole(&text, 31) && !Stamp::is_whole(&text, 99));
        text[28] = b'y';
        assert!(!Stamp::is_whole(&text, 30));
    }

    #[test]
    fn a_payload_is_never_shorter_than_what_it_tells() {
        let mut text = Vec::new();
        STAMP.write(1, &mut text);
        assert_eq!((text.len(), Stamp::parse(&text)), (STAMP_BYTES, Some(STAMP)));
    }
}
