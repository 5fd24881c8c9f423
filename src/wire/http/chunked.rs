//! Chunked bodies (RFC 9112 section 7.1). A [`ChunkScan`] follows the chunks as they arrive and changes
//! nothing. When the last one is there, [`join`] moves their data together in place. Trailers are checked and
//! dropped.
//!
//! Bytes that are not data are bounded twice. Those that no body needs (extensions, leading zeros, trailers)
//! are bounded by `chunk_extra_bytes_max`. All framing together is bounded by that plus the largest body. So
//! an unfinished body in tiny chunks takes at most about twice the bytes of the largest body.

use super::field::{LineEnd, find_line_end, is_token, is_token_byte, note_work};
use super::status::Refusal;
use crate::base::config::{HEAD_FIELDS_CAP, Limits};
use crate::base::limit::Limit;

/// The most hex digits of a chunk size, without leading zeros.
const SIZE_DIGITS_MAX: usize = 16;

const CRLF_LEN: usize = "\r\n".len();

/// The progress of a chunked body. Offsets are from the body's beginning.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ChunkScan {
    stage: Stage,
    /// Where the unfinished line begins.
    line: usize,
    /// The offset up to which it was looked at.
    at: usize,
    /// Bytes of data in all chunks so far. The unfinished chunk counts as a whole.
    data_bytes: usize,
    /// Bytes of extensions, leading zeros and trailers so far.
    extra_bytes: usize,
    /// Trailer fields so far.
    trailers: usize,
}

#[derive(Debug, Clone, Copy, Default)]
enum Stage {
    #[default]
    Size,
    /// In the data of a chunk that ends at `end`, or in the CRLF behind it.
    Data {
        end: usize,
    },
    Trailer,
}

impl ChunkScan {
    /// Continues from where it stopped. Returns the length of the body as it was sent, or `None` if it is
    /// unfinished.
    pub(crate) fn advance(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, Refusal> {
        loop {
            match self.stage {
                Stage::Size => {
                    let Some(line) = self.take_line(bytes, SIZE_DIGITS_MAX, limits)? else { return Ok(None) };
                    self.finish_size(line, limits)?;
                }
                Stage::Data { end } => match bytes.get(end..).unwrap_or_default() {
                    [b'\r', b'\n', ..] => {
                        self.line = end + CRLF_LEN;
                        self.at = self.line;
                        self.stage = Stage::Size;
                    }
                    [] | [b'\r'] => return Ok(None),
                    _ => return Err(Refusal::bad("chunk longer than its size")),
                },
                Stage::Trailer => match self.take_line(bytes, 0, limits)? {
                    None => return Ok(None),
                    Some([]) => return Ok(Some(self.line)),
                    Some(line) => self.finish_trailer(line, limits)?,
                },
            }
        }
    }

    /// The unfinished line without its CRLF, once it is complete. It may take `free` bytes in addition to the
    /// remaining extra bytes.
    fn take_line<'b>(
        &mut self,
        bytes: &'b [u8],
        free: usize,
        limits: &Limits,
    ) -> Result<Option<&'b [u8]>, Refusal> {
        let extra_left = limits.chunk_extra_bytes_max.saturating_sub(self.extra_bytes);
        let end_max = self.line.saturating_add(extra_left).saturating_add(free + CRLF_LEN);
        match find_line_end(&bytes[..bytes.len().min(end_max)], self.at)? {
            LineEnd::Missing { resume } => {
                self.at = resume;
                if bytes.len() > end_max { Err(self.extra_too_long()) } else { Ok(None) }
            }
            LineEnd::At(end) => {
                let line = &bytes[self.line..end - CRLF_LEN];
                self.line = end;
                self.at = end;
                Ok(Some(line))
            }
        }
    }

    fn finish_size(&mut self, line: &[u8], limits: &Limits) -> Result<(), Refusal> {
        let too_large = Refusal::content_too_large(Limit::BodyBytes, "body too large");
        let size_line = SizeLine::parse(line)?;
        self.take_extra(line.len() - size_line.digits, limits)?;
        let framing_bytes = self.line - self.data_bytes;
        if framing_bytes > limits.body_bytes_max.saturating_add(limits.chunk_extra_bytes_max) {
            return Err(Refusal::content_too_large(Limit::ChunkExtraBytes, "too many chunks"));
        }
        let size = usize::try_from(size_line.size).map_err(|_| too_large)?;
        if size > limits.body_bytes_max - self.data_bytes {
            return Err(too_large);
        }
        self.data_bytes += size;
        self.stage = if size == 0 { Stage::Trailer } else { Stage::Data { end: self.line + size } };
        Ok(())
    }

    fn finish_trailer(&mut self, line: &[u8], limits: &Limits) -> Result<(), Refusal> {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        if name.len() == line.len() || !is_token(name) {
            return Err(Refusal::bad("invalid trailer field"));
        }
        self.trailers += 1;
        if self.trailers > limits.head_fields_max.min(HEAD_FIELDS_CAP) {
            return Err(Refusal::fields_too_large(Limit::HeaderFields, "too many trailer fields"));
        }
        self.take_extra(line.len(), limits)
    }

    fn take_extra(&mut self, bytes: usize, limits: &Limits) -> Result<(), Refusal> {
        self.extra_bytes += bytes;
        if self.extra_bytes > limits.chunk_extra_bytes_max { Err(self.extra_too_long()) } else { Ok(()) }
    }

    fn extra_too_long(&self) -> Refusal {
        match self.stage {
            Stage::Trailer => Refusal::fields_too_large(Limit::ChunkExtraBytes, "trailer section too large"),
            _ => Refusal::content_too_large(Limit::ChunkExtraBytes, "chunk extensions too large"),
        }
    }
}

/// Moves the data of all chunks to the front of `bytes`, a body that a [`ChunkScan`] has passed. Returns the
/// length of the data.
pub(crate) fn join(bytes: &mut [u8]) -> Result<usize, Refusal> {
    note_work(bytes.len());
    let short = Refusal::bad("chunked body has changed");
    let (mut from, mut to) = (0, 0);
    loop {
        let rest = bytes.get(from..).ok_or(short)?;
        let line_len = rest.iter().position(|byte| *byte == b'\r').ok_or(short)?;
        let size = usize::try_from(SizeLine::parse(&rest[..line_len])?.size).map_err(|_| short)?;
        if size == 0 {
            return Ok(to);
        }
        let data = from + line_len + CRLF_LEN;
        if bytes.len().saturating_sub(data) < size {
            return Err(short);
        }
        bytes.copy_within(data..data + size, to);
        to += size;
        from = data + size + CRLF_LEN;
    }
}

/// A line that opens a chunk.
struct SizeLine {
    /// Bytes of data; 0 in the last chunk.
    size: u64,
    /// Digits of the size, without leading zeros.
    digits: usize,
}

impl SizeLine {
    /// Parses a line without its CRLF.
    fn parse(line: &[u8]) -> Result<Self, Refusal> {
        let digits_end = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
        let (digits, extensions) = line.split_at(digits_end);
        if digits.is_empty() {
            return Err(Refusal::bad("invalid chunk size"));
        }
        if !are_extensions(extensions) {
            return Err(Refusal::bad("invalid chunk extension"));
        }
        // The last one counts as a digit, even if all are zeros.
        let zeros = digits[..digits.len() - 1].iter().take_while(|digit| **digit == b'0').count();
        let digits = &digits[zeros..];
        if digits.len() > SIZE_DIGITS_MAX {
            return Err(Refusal::content_too_large(Limit::BodyBytes, "body too large"));
        }
        let size = digits.iter().fold(0_u64, |size, digit| {
            let value = char::from(*digit).to_digit(16).unwrap_or(0);
            size << 4 | u64::from(value)
        });
        Ok(Self { size, digits: digits.len() })
    }
}

/// Whether `bytes` are any number of `chunk-ext` (RFC 9112 section 7.1.1).
fn are_extensions(mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let Some(rest) = bytes.trim_ascii_start().strip_prefix(b";") else { return false };
        let Some(rest) = strip_token(rest.trim_ascii_start()) else { return false };
        bytes = match rest.trim_ascii_start().strip_prefix(b"=") {
            None => rest,
            Some(value) => {
                let value = value.trim_ascii_start();
                match strip_token(value).or_else(|| strip_quoted(value)) {
                    None => return false,
                    Some(rest) => rest,
                }
            }
        };
    }
    true
}

/// The bytes after the token at the front of `bytes`.
fn strip_token(bytes: &[u8]) -> Option<&[u8]> {
    let len = bytes.iter().take_while(|byte| is_token_byte(**byte)).count();
    (len > 0).then(|| &bytes[len..])
}

/// The bytes after the quoted string at the front of `bytes`. Control characters were ruled out before.
fn strip_quoted(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes.strip_prefix(b"\"")?;
    loop {
        rest = match rest {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', _, rest @ ..] => rest,
            [_, rest @ ..] => rest,
            [] => return None,
        };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn limits() -> Limits {
        Limits { body_bytes_max: 64, chunk_extra_bytes_max: 16, head_fields_max: 3, ..Limits::default() }
    }

    /// The joined body and the bytes that it took, or the status of the refusal. The body is fed as a whole
    /// and byte by byte; both must have the same result.
    fn decode(body: &[u8]) -> Result<(Vec<u8>, usize), u16> {
        let whole = ChunkScan::default().advance(body, &limits());
        let mut scan = ChunkScan::default();
        let dribbled =
            (0..=body.len()).map(|len| scan.advance(&body[..len], &limits())).find(|step| *step != Ok(None));
        assert_eq!(whole, dribbled.unwrap_or(Ok(None)), "{}", body.escape_ascii());
        let len = whole.map_err(|refusal| refusal.status.code())?.expect("a whole body");
        let mut bytes = body[..len].to_vec();
        let joined = join(&mut bytes).unwrap();
        bytes.truncate(joined);
        Ok((bytes, len))
    }

    #[test]
    fn chunks_are_joined() {
        for (body, data) in [
            ("0\r\n\r\n", ""),
            ("000\r\n\r\n", ""),
            ("3\r\nabc\r\n0\r\n\r\n", "abc"),
            ("3\r\nabc\r\nA\r\n0123456789\r\n001\r\n\n\r\n0\r\n\r\n", "abc0123456789\n"),
            ("2;a\r\nab\r\n0 ; b=\"\\\"\";c=d\r\n\r\n", "ab"),
            ("1\r\n\r\r\n0\r\nX: y\r\nZ:\r\n\r\n", "\r"),
            ("f\r\n0123456789abcde\r\n0\r\n\r\n", "0123456789abcde"),
        ] {
            let followed = [body, "GET"].concat();
            assert_eq!(decode(followed.as_bytes()), Ok((data.as_bytes().to_vec(), body.len())), "{body:?}");
        }
    }

    #[test]
    fn bad_chunks_are_refused() {
        for body in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            " 1\r\n",
            "1 \r\n",
            "1\n",
            "1\r\r\n",
            "1;\r\n",
            "1;=a\r\n",
            "1;a=\r\n",
            "1;a=\"\r\n",
            "1;a b\r\n",
            "1;a=b \r\n",
            "1,a\r\n",
            "1;\0\r\n",
            "1;a=\x7f\r\n",
            "1\r\nab\r\n",
            "2\r\na\r\n0\r\n",
            "1\r\na\n0\r\n\r\n",
            "1\r\na\r0",
            "0\r\nX\r\n\r\n",
            "0\r\n: y\r\n\r\n",
            "0\r\nX : y\r\n\r\n",
            "0\r\nX: y\r\n z\r\n\r\n",
            "0\r\nX: \x01\r\n\r\n",
            "0\r\n\n",
        ] {
            assert_eq!(decode(body.as_bytes()), Err(400), "{body:?}");
        }
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let tiny = "1\r\na\r\n".repeat(64);
        for (body, status) in [
            ("41\r\n".to_owned(), 413),
            ("40\r\n".to_owned() + &"a".repeat(64) + "\r\n1\r\n", 413),
            ("ffffffffffffffff\r\n".to_owned(), 413),
            ("1ffffffffffffffff\r\n".to_owned(), 413),
            ("1;".to_owned() + &"e".repeat(40), 413),
            ("1;".to_owned() + &"e".repeat(40) + "\0", 413),
            ("0\r\nX: ".to_owned() + &"y".repeat(40) + "\n", 431),
            ("1;aaaaaaa\r\na\r\n".repeat(3), 413),
            ("0".repeat(18) + "\r\n\r\n", 413),
            (tiny, 413),
            ("0\r\nX: 01234567890123456789\r\n\r\n".to_owned(), 431),
            ("0\r\nX: 0123456\r\nX: 0123456\r\n\r\n".to_owned(), 431),
            ("0\r\nA:\r\nB:\r\nC:\r\nD:\r\n\r\n".to_owned(), 431),
        ] {
            assert_eq!(decode(body.as_bytes()), Err(status), "{body:?}");
        }
        let full = "40\r\n".to_owned() + &"a".repeat(64) + "\r\n0\r\n\r\n";
        assert_eq!(decode(full.as_bytes()).map(|(data, _)| data.len()), Ok(64));
    }
}
