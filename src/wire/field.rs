//! Lines and header fields, as heads and trailers of HTTP/1.1 share them
//! (RFC 9110 section 5, RFC 9112 sections 2.2 and 5).

use super::status::Refusal;

/// Where a line ends, if it does.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LineEnd {
    /// Behind its CRLF.
    At(usize),
    /// Not within the bytes; they were all seen up to `resume`.
    Missing {
        /// Where to look on when there are more bytes.
        resume: usize,
    },
}

/// Finds the end of the line that goes on at `from`, and refuses what no line of
/// HTTP holds: a CR or LF that is not part of a CRLF, or another control
/// character than a tab. Looks at no byte before `from`.
pub(super) fn find_line_end(bytes: &[u8], from: usize) -> Result<LineEnd, Refusal> {
    let mut at = from;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(offset) = rest.iter().position(u8::is_ascii_control) else {
            at += rest.len();
            break;
        };
        at += offset;
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

/// Whether `bytes` are a `token` (RFC 9110 section 5.6.2).
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| is_token_byte(*byte))
}

/// Whether a token may hold `byte`.
pub(super) const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// The elements of a comma-separated list, empty ones included (RFC 9110 section
/// 5.6.1). Quoted commas are not known: no list that is read here may quote.
pub(super) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// The header section of a head that was found legal: lines with their CRLF,
/// without the empty one at the end.
///
/// A lookup runs over the lines, which costs less than an index would for the
/// dozen short fields that a request has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'b>(pub(super) &'b [u8]);

impl<'b> Fields<'b> {
    /// The values of all fields of that name, in order, without the white space
    /// around them.
    pub(super) fn values<'n>(self, name: &'n str) -> impl Iterator<Item = &'b [u8]> + use<'b, 'n> {
        self.0.split_inclusive(|byte| *byte == b'\n').filter_map(move |line| {
            let (head, rest) = line.split_at_checked(name.len())?;
            let value = rest.strip_prefix(b":")?;
            head.eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii())
        })
    }

    /// Whether one of the comma-separated lists in the fields of that name has
    /// the token, in whatever case.
    pub(super) fn has_token(self, name: &str, token: &str) -> bool {
        self.values(name).flat_map(elements).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
    }
}

/// Counts bytes looked at, so that tests can tell linear work from quadratic.
#[cfg(not(test))]
#[inline]
pub(super) fn note_work(_bytes: usize) {}

#[cfg(test)]
pub(super) use work::note_work;

#[cfg(test)]
pub(super) mod work {
    use std::cell::Cell;

    thread_local! {
        static BYTES: Cell<usize> = const { Cell::new(0) };
    }

    pub(in super::super) fn note_work(bytes: usize) {
        BYTES.set(BYTES.get() + bytes);
    }

    pub(in super::super) fn take() -> usize {
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
    fn fields_are_found_whatever_their_case() {
        let fields = Fields(b"Accept: a\r\nX-A:  one \r\nx-a:\r\nConnection: keep-alive ,, UPGRADE\r\n");
        assert_eq!(fields.values("x-A").collect::<Vec<_>>(), [&b"one"[..], b""]);
        assert_eq!(fields.values("x").count(), 0);
        assert_eq!(fields.values("accept: a").count(), 0);
        assert!(fields.has_token("connection", "upgrade"));
        assert!(!fields.has_token("connection", "keep"));
    }
}
