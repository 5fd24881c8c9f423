//! Requests: the same however they are split, bounded while they are unfinished, and read in the same way by
//! `httparse` and by a second reader of chunks.
//!
//! Input: a byte for the limits, three for the splits, and the stream.

use polecat::base::config::Limits;
use polecat::wire::http::decoder::{
    Method, Refusal, Request, RequestDecoder, RequestStep, Version, percent_decode_segment,
};
use polecat::wire::websocket::handshake;

use super::splits::{SEED_BYTES, Splits};

/// Bytes of empty lines that can precede a request.
const EMPTY_LINES_BYTES: usize = 2 * 4;

/// Bodies up to this length are also sent in chunks.
const CHUNKED_BODY_BYTES_MAX: usize = 256;

/// Runs the check.
pub fn check(data: &[u8]) {
    let Some((&[which, seed @ ..], stream)) = data.split_first_chunk::<{ 1 + SEED_BYTES }>() else { return };
    let limits = limits(which);
    let whole = Outcome::of([stream], &limits);
    let cut = Outcome::of(Splits::new(seed).cut(stream), &limits);
    assert_eq!(cut, whole, "it depends on how the stream was cut");
    for decoded in &whole.requests {
        decoded.check_canonical(&limits);
    }
}

/// Small limits, which a short input can reach, or the default ones.
fn limits(which: u8) -> Limits {
    if which.is_multiple_of(4) {
        return Limits::default();
    }
    Limits {
        head_bytes_max: 300,
        target_bytes_max: 100,
        head_fields_max: 6,
        body_bytes_max: usize::from(which),
        chunk_extra_bytes_max: 40,
        ..Limits::default()
    }
}

/// A request that outlives its input.
#[derive(Debug, PartialEq, Eq)]
struct Decoded {
    method: String,
    path: String,
    query: Option<String>,
    version: Version,
    keep_alive: bool,
    host: Option<String>,
    body: Vec<u8>,
    /// All header fields, in order.
    fields: Vec<(String, Vec<u8>)>,
    consumed: usize,
}

/// The outcome of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    requests: Vec<Decoded>,
    refusal: Option<Refusal>,
    /// Bytes of all complete requests.
    consumed: usize,
    /// Whether nothing is unfinished at the end.
    idle: bool,
}

impl Outcome {
    /// Feeds a decoder as a server does: the bytes that it leaves are kept, and passed in again with more
    /// behind them.
    fn of<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: &Limits) -> Self {
        let mut outcome = Self::default();
        let mut decoder = RequestDecoder::default();
        let mut kept = Vec::new();
        // The bytes as they were sent: a chunked body is joined in place.
        let mut sent = Vec::new();
        let mut continues = 0;
        for piece in pieces {
            kept.extend_from_slice(piece);
            sent.extend_from_slice(piece);
            let mut start = 0;
            loop {
                match decoder.decode(&mut kept[start..], limits) {
                    Ok(RequestStep::Request { request, consumed }) => {
                        assert!(consumed > 0 && decoder.is_idle());
                        let decoded = Decoded::of(&request, &sent[start..start + consumed]);
                        outcome.requests.push(decoded);
                        start += consumed;
                        outcome.consumed += consumed;
                        continues = 0;
                    }
                    Ok(RequestStep::NeedMore { send_continue }) => {
                        continues += usize::from(send_continue);
                        assert!(continues <= 1, "the body is asked for twice");
                        break;
                    }
                    Err(refusal) => {
                        outcome.refusal = Some(refusal);
                        return outcome;
                    }
                }
                if start == kept.len() {
                    break;
                }
            }
            kept.drain(..start);
            sent.drain(..start);
            assert!(kept == sent, "an unfinished request was changed");
            assert!(kept.len() <= unfinished_bytes_max(limits), "{} bytes are unfinished", kept.len());
        }
        outcome.idle = decoder.is_idle();
        outcome
    }
}

/// The most bytes that the decoder promises to leave unfinished.
fn unfinished_bytes_max(limits: &Limits) -> usize {
    limits.head_bytes_max + EMPTY_LINES_BYTES + 2 * limits.body_bytes_max + 2 * limits.chunk_extra_bytes_max
}

impl Decoded {
    /// Copies `request`, which was made from the bytes `sent`, and compares it with what others read there.
    fn of(request: &Request<'_>, sent: &[u8]) -> Self {
        let mut storage = [httparse::EMPTY_HEADER; 256];
        let mut theirs = httparse::Request::new(&mut storage);
        let head_bytes = match theirs.parse(sent) {
            Ok(httparse::Status::Complete(len)) => len,
            other => panic!("httparse has another opinion of a whole request: {other:?}"),
        };
        assert_eq!(theirs.method, Some(request.method.as_str()));
        assert_eq!(theirs.version == Some(1), request.version == Version::Http11);
        let fields: Vec<(String, Vec<u8>)> = theirs
            .headers
            .iter()
            .map(|field| (field.name.to_owned(), field.value.trim_ascii().to_vec()))
            .collect();
        let decoded = Self {
            method: request.method.as_str().to_owned(),
            path: request.path.to_owned(),
            query: request.query.map(str::to_owned),
            version: request.version,
            keep_alive: request.keep_alive,
            host: request.host.map(str::to_owned),
            body: request.body.to_vec(),
            fields,
            consumed: sent.len(),
        };
        decoded.check_fields(request);
        decoded.check_target(theirs.path.unwrap_or_default());
        let body = &sent[head_bytes..];
        assert_eq!(decoded.body, if decoded.is_chunked() { dechunk(body) } else { body.to_vec() });
        use_up(request);
        decoded
    }

    fn is_chunked(&self) -> bool {
        self.values("transfer-encoding").next().is_some()
    }

    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let named = self.fields.iter().filter(move |(known, _)| known.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_slice())
    }

    fn check_fields(&self, request: &Request<'_>) {
        for (name, _) in &self.fields {
            let ours: Vec<&[u8]> = request.header_values(name).collect();
            assert_eq!(ours, self.values(name).collect::<Vec<_>>(), "the fields called {name}");
            let first = ours.first().and_then(|value| std::str::from_utf8(value).ok());
            assert_eq!(request.header(name), first);
        }
        // A message that declares its length in two ways is an attack.
        let lengths: Vec<&[u8]> = self.values("content-length").collect();
        assert!(lengths.is_empty() || !self.is_chunked(), "two framings");
        for length in lengths.iter().flat_map(|value| value.split(|byte| *byte == b',')) {
            let length = std::str::from_utf8(length.trim_ascii()).ok().and_then(|text| text.parse().ok());
            assert_eq!(length, Some(self.body.len()));
        }
    }

    /// Path and query are parts of the target as it was sent.
    fn check_target(&self, target: &str) {
        let tail = match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        };
        if target.starts_with('/') || target == "*" {
            assert_eq!(tail, target);
        } else {
            let rest = target.split_once("://").map_or("", |(_, rest)| rest);
            let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            assert_eq!(self.host.as_deref(), Some(authority));
            // An absolute target may have no path.
            let made_up = if rest.is_empty() && self.method == "OPTIONS" { "*" } else { "/" };
            assert_eq!(
                tail,
                if rest.starts_with('/') { rest.to_owned() } else { format!("{made_up}{rest}") }
            );
        }
        assert!(self.path.starts_with('/') || (self.path == "*" && self.method == "OPTIONS"));
    }

    /// Sent again in the plainest form, it is the same request.
    fn check_canonical(&self, limits: &Limits) {
        let query = self.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        let version = if self.version == Version::Http11 { "1.1" } else { "1.0" };
        let mut bytes = format!("{} {}{query} HTTP/{version}\r\n", self.method, self.path).into_bytes();
        for (name, value) in self.fields.iter().filter(|(name, _)| !is_replaced(name)) {
            bytes.extend_from_slice(format!("{name}: ").as_bytes());
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        if let Some(host) = &self.host {
            bytes.extend_from_slice(format!("Host: {host}\r\n").as_bytes());
        }
        let mut chunked = bytes.clone();
        bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", self.body.len()).as_bytes());
        bytes.extend_from_slice(&self.body);
        self.check_again(&bytes, limits);
        if self.version == Version::Http11 && self.body.len() <= CHUNKED_BODY_BYTES_MAX {
            chunked.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            for chunk in self.body.chunks(3) {
                chunked.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
                chunked.extend_from_slice(chunk);
                chunked.extend_from_slice(b"\r\n");
            }
            chunked.extend_from_slice(b"0\r\n\r\n");
            self.check_again(&chunked, limits);
        }
    }

    /// `bytes` are this request with other framing.
    fn check_again(&self, bytes: &[u8], limits: &Limits) {
        // The additional headers need some room.
        let limits = Limits {
            head_bytes_max: limits.head_bytes_max * 2,
            head_fields_max: limits.head_fields_max + 2,
            chunk_extra_bytes_max: 4 * CHUNKED_BODY_BYTES_MAX,
            ..limits.clone()
        };
        let again = Outcome::of([bytes], &limits);
        assert_eq!((again.refusal, again.consumed, again.requests.len()), (None, bytes.len(), 1));
        let again = &again.requests[0];
        let told = |decoded: &Self| {
            let fields = decoded.fields.iter().filter(|(name, _)| !is_replaced(name));
            fields.cloned().collect::<Vec<_>>()
        };
        assert_eq!(told(again), told(self));
        assert_eq!(
            (&again.method, &again.path, &again.query, again.version, again.keep_alive),
            (&self.method, &self.path, &self.query, self.version, self.keep_alive)
        );
        assert_eq!((&again.host, &again.body), (&self.host, &self.body));
    }
}

/// Whether a field is replaced when a request is sent again.
fn is_replaced(name: &str) -> bool {
    let replaced = ["host", "content-length", "transfer-encoding", "expect"];
    replaced.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Reads a chunked body, with the sizes as `httparse` reads them.
fn dechunk(mut sent: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        // It counts leading zeros among the 15 digits that it accepts.
        while sent.len() > 1 && sent[0] == b'0' && sent[1].is_ascii_hexdigit() {
            sent = &sent[1..];
        }
        let (line_bytes, size) = match httparse::parse_chunk_size(sent) {
            Ok(httparse::Status::Complete(line)) => line,
            other => panic!("httparse has another opinion of a chunk: {other:?}"),
        };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size == 0 {
            return body;
        }
        let (chunk, rest) = sent[line_bytes..].split_at(size);
        body.extend_from_slice(chunk);
        sent = rest.strip_prefix(b"\r\n").unwrap_or_else(|| panic!("a chunk ends with its line"));
    }
}

/// Uses a request as routes do.
fn use_up(request: &Request<'_>) {
    for segment in request.path.split('/') {
        if let Ok(decoded) = percent_decode_segment(segment) {
            assert!(decoded.len() <= segment.len());
        }
    }
    for pair in request.query.into_iter().flat_map(|query| query.split('&')) {
        let name = pair.split('=').next().unwrap_or_default();
        if !name.contains(['%', '+']) {
            assert!(request.query_value(name).is_some(), "a value that stands in the query");
        }
    }
    if let Ok(upgrade) = handshake::parse(request) {
        assert_eq!((request.method, request.version), (Method::Get, Version::Http11));
        let mut out = Vec::new();
        let protocol = upgrade.offers("polecat.v1").then_some("polecat.v1");
        upgrade.write_switching(
            &[("X-Correlation-ID", "x")],
            protocol,
            upgrade.deflate().as_ref(),
            "now",
            &mut out,
        );
        let mut storage = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut storage);
        assert_eq!(response.parse(&out), Ok(httparse::Status::Complete(out.len())));
        assert_eq!(response.code, Some(101));
    }
}
