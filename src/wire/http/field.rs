//! Lines and header fields: what heads and trailers of HTTP/1.1 have in common (RFC 9110 section 5, RFC 9112
//! sections 2.2 and 5).

use std::io::BufRead as _;
use std::{mem, slice};

use super::status::Refusal;

/// Where a line ends, if it does.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LineEnd {
    /// The offset behind its CRLF.
    At(usize),
    /// The end is not within the bytes, which were all looked at up to `resume`.
    Missing {
        /// Where to continue when there are more bytes.
        resume: usize,
    },
}

/// Finds the end of the line that continues at `from`. Refuses bytes that no line of HTTP can have: a CR or
/// LF that is not part of a CRLF, or another control character except a tab. Looks at no byte before `from`.
pub(crate) fn find_line_end(bytes: &[u8], from: usize) -> Result<LineEnd, Refusal> {
    let mut at = from;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let offset = control_position(rest);
        at += offset;
        if offset == rest.len() {
            break;
        }
        match (bytes[at], bytes.get(at + 1)) {
            (b'\t', _) => at += 1,
            (b'\r', Some(b'\n')) => {
                note_work(at + 2 - from);
                return Ok(LineEnd::At(at + 2));
            }
            (b'\r', None) => break,
            (b'\r', Some(_)) => return Err(Refusal::bad("CR without LF")),
            (b'\n', _) => return Err(Refusal::bad("LF without CR")),
            _ => return Err(Refusal::bad("control character")),
        }
    }
    note_work(at - from);
    Ok(LineEnd::Missing { resume: at })
}

/// The position of the first control character (RFC 5234: `CTL`), or the length if there is none. Eight bytes
/// are looked at together, since most of the time for finding the end of a head is spent here.
fn control_position(bytes: &[u8]) -> usize {
    const LOW_BITS: u64 = u64::from_ne_bytes([0x7F; 8]);
    const HIGH_BIT: u64 = !LOW_BITS;
    let (words, rest) = bytes.as_chunks::<8>();
    for (number, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // No sum below carries into the next byte. Its high bit stays clear below 0x20, and for 0x7F.
        let not_low = (word & LOW_BITS) + u64::from_ne_bytes([0x60; 8]);
        let not_delete = ((word ^ LOW_BITS) & LOW_BITS) + LOW_BITS;
        let controls = !(not_low & not_delete | word) & HIGH_BIT;
        if controls != 0 {
            return number * 8 + controls.trailing_zeros() as usize / 8;
        }
    }
    let rest_start = words.len() * 8;
    rest_start + rest.iter().position(u8::is_ascii_control).unwrap_or(rest.len())
}

/// Whether no byte is a control character other than a tab.
pub(crate) fn is_text(mut bytes: &[u8]) -> bool {
    loop {
        let (_, rest) = bytes.split_at(control_position(bytes));
        match rest {
            [] => return true,
            [b'\t', after @ ..] => bytes = after,
            _ => return false,
        }
    }
}

/// Whether `bytes` are a `token` (RFC 9110 section 5.6.2).
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| is_token_byte(*byte))
}

#[inline]
pub(crate) const fn is_token_byte(byte: u8) -> bool {
    TOKEN_BYTES[byte as usize]
}

const TOKEN_BYTES: [bool; 256] = {
    const SIGNS: &[u8] = b"!#$%&'*+-.^_`|~";
    let (mut table, mut byte, mut place) = ([false; 256], 0_u8, 0);
    while byte < 0x80 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    while place < SIGNS.len() {
        table[SIGNS[place] as usize] = true;
        place += 1;
    }
    table
};

/// The elements of a comma-separated list, including empty ones (RFC 9110 section 5.6.1). Quoted commas are
/// not recognised: no list that is read here can have quoted strings.
pub(crate) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// The number of lines whose ends are remembered; usual requests have fewer.
const INDEXED_MAX: usize = 20;

/// The header section of a head that was found legal: lines with their CRLF, without the empty one at the
/// end.
///
/// A dozen fields are looked up in each request, so the ends of the first lines are searched for only once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'b> {
    /// The lines whose ends are in `ends`.
    indexed: &'b [u8],
    ends: [u16; INDEXED_MAX],
    lines: usize,
    /// The other lines.
    rest: &'b [u8],
}

impl<'b> Fields<'b> {
    pub(crate) fn of(section: &'b [u8]) -> Self {
        let mut fields = Self { indexed: &[], ends: [0; INDEXED_MAX], lines: 0, rest: section };
        let mut end = 0;
        while fields.lines < INDEXED_MAX {
            // Reading from memory cannot fail.
            let len = fields.rest.skip_until(b'\n').unwrap_or_default();
            let Ok(mark) = u16::try_from(end + len) else { break };
            if len == 0 {
                break;
            }
            end += len;
            fields.ends[fields.lines] = mark;
            fields.lines += 1;
        }
        (fields.indexed, fields.rest) = section.split_at(end);
        fields
    }

    /// The values of all fields of that name, in order, without the white space
    /// around them.
    pub(crate) fn values<'n>(&'n self, name: &'n str) -> impl Iterator<Item = &'b [u8]> + use<'b, 'n> {
        self.lines().filter_map(move |line| {
            // Few lines have their colon at this position.
            if line.get(name.len()) != Some(&b':') {
                return None;
            }
            let (head, value) = line.split_at(name.len());
            head.eq_ignore_ascii_case(name.as_bytes()).then(|| value[1..].trim_ascii())
        })
    }

    fn lines(&self) -> Lines<'b, '_> {
        Lines { indexed: self.indexed, start: 0, ends: self.ends[..self.lines].iter(), rest: self.rest }
    }

    /// Whether one of the comma-separated lists in the fields of that name contains the token, ignoring case.
    pub(crate) fn has_token(&self, name: &str, token: &str) -> bool {
        self.values(name).flat_map(elements).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
    }
}

struct Lines<'b, 'f> {
    indexed: &'b [u8],
    start: usize,
    ends: slice::Iter<'f, u16>,
    rest: &'b [u8],
}

impl<'b> Iterator for Lines<'b, '_> {
    type Item = &'b [u8];

    fn next(&mut self) -> Option<&'b [u8]> {
        if let Some(end) = self.ends.next() {
            let start = mem::replace(&mut self.start, usize::from(*end));
            return self.indexed.get(start..self.start);
        }
        let end = self.rest.iter().position(|byte| *byte == b'\n')? + 1;
        let (line, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(line)
    }
}

/// Counts bytes looked at, so that tests can tell linear work from quadratic.
#[cfg(not(test))]
#[inline]
pub(crate) fn note_work(_bytes: usize) {}

#[cfg(test)]
pub(crate) use work::note_work;

#[cfg(test)]
pub(crate) mod work {
    use std::cell::Cell;

    thread_local! {
        static BYTES: Cell<usize> = const { Cell::new(0) };
    }

    pub(crate) fn note_work(bytes: usize) {
        BYTES.set(BYTES.get() + bytes);
    }

    pub(crate) fn take() -> usize {
        BYTES.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_from_where_the_search_stopped() {
        let line = b"a\tb: c\r\nd";
        assert_eq!(find_line_end(line, 0), Ok(LineEnd::At(8)));
        assert_eq!(find_line_end(&line[..7], 0), Ok(LineEnd::Missing { resume: 6 }));
        assert_eq!(find_line_end(line, 6), Ok(LineEnd::At(8)));
        assert_eq!(find_line_end(line, 8), Ok(LineEnd::Missing { resume: 9 }));
        assert_eq!(find_line_end(line, 99), Ok(LineEnd::Missing { resume: 99 }));
    }

    #[test]
    fn every_control_character_is_found_wherever_it_is() {
        for byte in 0..=u8::MAX {
            for place in 0..20 {
                // Its neighbours are bytes that could carry.
                for other in [b' ', b'~', 0x80, 0xFF] {
                    let mut bytes = [other; 20];
                    bytes[place] = byte;
                    let found = control_position(&bytes);
                    assert_eq!(found, if byte.is_ascii_control() { place } else { 20 }, "{byte} at {place}");
                }
            }
        }
    }

    #[test]
    fn token_bytes_are_those_of_the_grammar() {
        let token = (0..=u8::MAX).filter(|byte| is_token_byte(*byte)).collect::<Vec<_>>();
        let signs = b"!#$%&'*+-.^_`|~";
        let wanted = (0..=u8::MAX).filter(|byte| byte.is_ascii_alphanumeric() || signs.contains(byte));
        assert_eq!(token, wanted.collect::<Vec<_>>());
    }

    #[test]
    fn fields_behind_many_others_are_found() {
        let section = (0..60).map(|number| format!("a-{number}: {number}\r\n")).collect::<String>();
        let fields = Fields::of(section.as_bytes());
        for number in 0..60 {
            let values = fields.values(&format!("A-{number}")).map(<[u8]>::to_vec).collect::<Vec<_>>();
            assert_eq!(values, [number.to_string().into_bytes()]);
        }
        assert_eq!(Fields::of(b"").values("a").count(), 0);
    }

    #[test]
    fn fields_are_found_whatever_their_case() {
        let fields = Fields::of(b"Accept: a\r\nX-A:  one \r\nx-a:\r\nConnection: keep-alive ,, UPGRADE\r\n");
        assert_eq!(fields.values("x-A").collect::<Vec<_>>(), [&b"one"[..], b""]);
        assert_eq!(fields.values("x").count(), 0);
        assert_eq!(fields.values("accept: a").count(), 0);
        assert!(fields.has_token("connection", "upgrade"));
        assert!(!fields.has_token("connection", "keep"));
    }
}
