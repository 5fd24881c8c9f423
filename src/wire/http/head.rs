//! The head of a request, in two passes. [`HeadScan`] finds its end, a few bytes at a time if they arrive
//! like that, and refuses what cannot be a line of HTTP. [`Head::parse`] then reads the complete head, once.
//!
//! The scan decides in the order of the bytes, and everything else is decided on the complete head. So a head
//! means the same, however it was split on its way.

use std::mem::MaybeUninit;

use httparse::Status::Complete;

use super::field::{Fields, LineEnd, elements, find_line_end, is_token, note_work};
use super::request::{Method, Request, Version};
use super::status::{Refusal, Status};
use super::target::Target;
use crate::base::authority::Authority;
use crate::base::config::{HEAD_FIELDS_CAP, Limits};
use crate::base::limit::Limit;

/// The most empty lines that are skipped before a request line. Some clients send one after a body (RFC 9112
/// section 2.2).
const EMPTY_LINES_MAX: usize = 4;

/// Bytes of a request line beyond those of its target: room for a method.
const REQUEST_LINE_EXTRA: usize = 64;

/// The progress of the search for the end of a head. Offsets are into the input.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct HeadScan {
    /// Where the request line begins.
    pub(crate) start: usize,
    /// Where the unfinished line begins.
    line: usize,
    /// The offset up to which it was looked at.
    at: usize,
    /// Finished lines, without empty ones in front.
    lines: usize,
    /// Empty lines skipped.
    empty_lines: usize,
}

impl HeadScan {
    /// Whether no byte of a request has arrived yet.
    pub(crate) const fn is_idle(&self) -> bool {
        self.at == self.start
    }

    /// Continues from where it stopped. Returns the end of the head, or `None` if it has not arrived.
    pub(crate) fn advance(&mut self, input: &[u8], limits: &Limits) -> Result<Option<usize>, Refusal> {
        loop {
            let (line_end_max, too_long) = self.line_end_max(limits);
            let window = &input[..input.len().min(line_end_max)];
            match find_line_end(window, self.at)? {
                LineEnd::Missing { resume } => {
                    self.at = resume;
                    return if input.len() > line_end_max { Err(too_long) } else { Ok(None) };
                }
                LineEnd::At(end) => {
                    let line = &input[self.line..end];
                    self.line = end;
                    self.at = end;
                    if self.finish_line(line, limits)? {
                        return Ok(Some(end));
                    }
                }
            }
        }
    }

    /// The offset at which the unfinished line must have ended, and the refusal if it has not.
    fn line_end_max(&self, limits: &Limits) -> (usize, Refusal) {
        let head_end_max = self.start.saturating_add(limits.head_bytes_max);
        if self.lines > 0 {
            return (head_end_max, Refusal::fields_too_large(Limit::HeaderBytes, "header section too large"));
        }
        let line_bytes_max = limits.target_bytes_max.saturating_add(REQUEST_LINE_EXTRA);
        (
            head_end_max.min(self.start.saturating_add(line_bytes_max)),
            Refusal::over(Limit::TargetBytes, Status::URI_TOO_LONG, "request target too long"),
        )
    }

    /// Takes in a line, including its CRLF, and returns whether it was the last.
    fn finish_line(&mut self, line: &[u8], limits: &Limits) -> Result<bool, Refusal> {
        match (self.lines, line) {
            (0, b"\r\n") => {
                self.start = self.at;
                self.empty_lines += 1;
                if self.empty_lines > EMPTY_LINES_MAX {
                    return Err(Refusal::bad("empty lines before the request"));
                }
                Ok(false)
            }
            (_, b"\r\n") => Ok(true),
            (1.., [b' ' | b'\t', ..]) => Err(Refusal::bad("folded header field")),
            _ => {
                self.lines += 1;
                if self.lines > 1 + limits.head_fields_max.min(HEAD_FIELDS_CAP) {
                    return Err(Refusal::fields_too_large(Limit::HeaderFields, "too many header fields"));
                }
                Ok(false)
            }
        }
    }
}

/// How a body is delimited (RFC 9112 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// By its length in bytes, which is within the limit; 0 if there is no body.
    Length(usize),
    Chunked,
}

/// A head, legal in itself.
#[derive(Debug)]
pub(crate) struct Head<'b> {
    /// The request, its body still empty.
    pub(crate) request: Request<'b>,
    pub(crate) framing: Framing,
    /// Whether the peer waits for `100 Continue` before it sends the body.
    pub(crate) expects_continue: bool,
}

impl<'b> Head<'b> {
    /// Parses a head, from its request line to its empty line inclusive, that a [`HeadScan`] has passed.
    pub(crate) fn parse(bytes: &'b [u8], limits: &Limits) -> Result<Self, Refusal> {
        note_work(bytes.len());
        let mut storage = [const { MaybeUninit::uninit() }; HEAD_FIELDS_CAP];
        let mut parsed = httparse::Request::new(&mut []);
        match parsed.parse_with_uninit_headers(bytes, &mut storage) {
            Ok(Complete(len)) if len == bytes.len() => {}
            Ok(_) => return Err(Refusal::bad("malformed request")),
            Err(error) => return Err(refusal_of(error, bytes)),
        }
        let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
            return Err(Refusal::bad("malformed request"));
        };
        let version = if version == 0 { Version::Http10 } else { Version::Http11 };
        if target.len() > limits.target_bytes_max {
            return Err(Refusal::over(Limit::TargetBytes, Status::URI_TOO_LONG, "request target too long"));
        }
        // "METHOD target HTTP/1.x" and CRLF: the parser accepts only single spaces.
        let line_len = method.len() + target.len() + " ".len() * 2 + "HTTP/1.1\r\n".len();
        let fields = Fields::of(bytes.get(line_len..bytes.len() - "\r\n".len()).unwrap_or_default());
        let target = Target::parse(method, target)?;

        let mut told = FramingFields::default();
        for header in parsed.headers.iter() {
            told.take(header.name, header.value)?;
        }
        let host = told.host(version)?;
        let framing = told.framing(version, limits)?;
        Ok(Self {
            request: Request {
                method: Method::named(method),
                path: target.path,
                query: target.query,
                version,
                keep_alive: !told.close && (version == Version::Http11 || told.keep_alive),
                host: target.authority.or(host),
                body: &[],
                fields,
            },
            framing,
            expects_continue: told.expects_continue
                && version == Version::Http11
                && framing != Framing::Length(0),
        })
    }
}

fn refusal_of(error: httparse::Error, head: &[u8]) -> Refusal {
    match error {
        httparse::Error::Version if names_another_version(head) => {
            Refusal::new(Status::VERSION_NOT_SUPPORTED, "HTTP/1.0 and HTTP/1.1 are supported")
        }
        httparse::Error::TooManyHeaders => {
            Refusal::fields_too_large(Limit::HeaderFields, "too many header fields")
        }
        httparse::Error::HeaderName => Refusal::bad("invalid header field name"),
        httparse::Error::HeaderValue => Refusal::bad("invalid header field value"),
        _ => Refusal::bad("malformed request line"),
    }
}

/// Whether the request line has three parts, and the last is `HTTP/` digit `.` digit.
fn names_another_version(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut parts = line.splitn(3, |byte| *byte == b' ').skip(2);
    matches!(parts.next().and_then(|version| version.strip_prefix(b"HTTP/")), Some([major, b'.', minor])
        if major.is_ascii_digit() && minor.is_ascii_digit())
}

/// What the fields say about host, framing and connection.
#[derive(Debug, Default)]
struct FramingFields<'b> {
    hosts: usize,
    host: &'b [u8],
    length: Option<u64>,
    codings: Codings,
    expects_continue: bool,
    close: bool,
    keep_alive: bool,
}

/// The transfer codings, over all fields of that name.
#[derive(Debug, Default)]
struct Codings {
    /// How many of them are `chunked`.
    chunked: usize,
    /// Whether the last one is.
    chunked_is_last: bool,
    /// Whether there is any other.
    unknown: bool,
    /// Whether one is not a token, is empty, or gives `chunked` a parameter.
    malformed: bool,
}

impl<'b> FramingFields<'b> {
    fn take(&mut self, name: &str, value: &'b [u8]) -> Result<(), Refusal> {
        match name.len() {
            4 if name.eq_ignore_ascii_case("host") => {
                self.hosts += 1;
                self.host = value;
            }
            6 if name.eq_ignore_ascii_case("expect") => self.take_expect(value)?,
            10 if name.eq_ignore_ascii_case("connection") => {
                for option in elements(value) {
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            14 if name.eq_ignore_ascii_case("content-length") => {
                for length in elements(value) {
                    self.take_length(length)?;
                }
            }
            17 if name.eq_ignore_ascii_case("transfer-encoding") => self.codings.take(value),
            _ => {}
        }
        Ok(())
    }

    fn take_expect(&mut self, value: &[u8]) -> Result<(), Refusal> {
        for expectation in elements(value).filter(|element| !element.is_empty()) {
            if !expectation.eq_ignore_ascii_case(b"100-continue") {
                return Err(Refusal::new(
                    Status::EXPECTATION_FAILED,
                    "only the expectation 100-continue is supported",
                ));
            }
            self.expects_continue = true;
        }
        Ok(())
    }

    /// A length may be repeated, but must not differ (RFC 9110 section 8.6).
    fn take_length(&mut self, digits: &[u8]) -> Result<(), Refusal> {
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(Refusal::bad("invalid Content-Length"));
        }
        let length = digits
            .iter()
            .fold(0_u64, |length, digit| length.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
        if self.length.is_some_and(|earlier| earlier != length) {
            return Err(Refusal::bad("conflicting Content-Length"));
        }
        self.length = Some(length);
        Ok(())
    }

    fn host(&self, version: Version) -> Result<Option<&'b str>, Refusal> {
        match (self.hosts, version) {
            (0, Version::Http10) => Ok(None),
            (0, Version::Http11) => Err(Refusal::bad("Host is missing")),
            (1, _) => match std::str::from_utf8(self.host) {
                Ok(host) if Authority::parse(host).is_ok() => Ok(Some(host)),
                _ => Err(Refusal::bad("invalid Host")),
            },
            _ => Err(Refusal::bad("more than one Host")),
        }
    }

    fn framing(&self, version: Version, limits: &Limits) -> Result<Framing, Refusal> {
        if self.codings.is_empty() {
            let length = usize::try_from(self.length.unwrap_or(0)).unwrap_or(usize::MAX);
            return if length <= limits.body_bytes_max {
                Ok(Framing::Length(length))
            } else {
                Err(Refusal::content_too_large(Limit::BodyBytes, "body too large"))
            };
        }
        if self.length.is_some() {
            return Err(Refusal::bad("both Content-Length and Transfer-Encoding"));
        }
        if version == Version::Http10 {
            return Err(Refusal::bad("Transfer-Encoding in HTTP/1.0"));
        }
        self.codings.check()?;
        Ok(Framing::Chunked)
    }
}

impl Codings {
    fn take(&mut self, value: &[u8]) {
        for coding in elements(value) {
            let name = coding.split(|byte| *byte == b';').next().unwrap_or_default();
            self.chunked_is_last = name.trim_ascii_end().eq_ignore_ascii_case(b"chunked");
            if self.chunked_is_last {
                self.chunked += 1;
                self.malformed |= name.len() != coding.len();
            } else {
                self.unknown = true;
                self.malformed |= !is_token(name.trim_ascii_end());
            }
        }
    }

    const fn is_empty(&self) -> bool {
        self.chunked == 0 && !self.unknown
    }

    /// Accepts only `chunked` (RFC 9112 sections 6.1 and 6.3).
    fn check(&self) -> Result<(), Refusal> {
        match self {
            Self { malformed: true, .. } | Self { chunked: 2.., .. } => {
                Err(Refusal::bad("invalid Transfer-Encoding"))
            }
            Self { chunked: 1, chunked_is_last: false, .. } => {
                Err(Refusal::bad("chunked is not the last transfer coding"))
            }
            Self { unknown: true, .. } => {
                Err(Refusal::new(Status::NOT_IMPLEMENTED, "only the transfer coding chunked is supported"))
            }
            _ => Ok(()),
        }
    }
}
