//! HTTP/1.1 requests, strictly (RFC 9110, RFC 9112): bytes in, and a [`Request`], a [`Refusal`] or "need
//! more" out. `httparse` reads the head. Anything that it accepts against the RFCs is refused before and
//! after.
//!
//! A request is processed in three steps, each of which remembers where it stopped: find the end of the head,
//! line by line; follow the body to its end; then parse the head and return the request. Every byte is looked
//! at a fixed number of times, however the bytes arrive.

use super::chunked::{self, ChunkScan};
use super::head::{Framing, Head, HeadScan};
use crate::base::config::Limits;

pub use super::request::{Method, Request, Version};
pub use super::response::{
    BodyEnd, LAST_CHUNK, Response, ResponseHead, http_date, write_chunk, write_continue,
};
pub use super::status::{Refusal, Status};
pub use super::target::{BadSegment, percent_decode_segment};

/// Decodes the requests of one connection, one after the other. It holds no bytes: it remembers only its
/// progress in an unfinished request.
#[derive(Debug, Default)]
pub struct RequestDecoder {
    stage: Stage,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// The head is incomplete.
    Head(HeadScan),
    /// The head is complete and legal, the body is incomplete.
    Body { head_start: usize, head_end: usize, body: BodyScan },
}

impl Default for Stage {
    fn default() -> Self {
        Self::Head(HeadScan::default())
    }
}

#[derive(Debug, Clone, Copy)]
enum BodyScan {
    Length(usize),
    Chunked(ChunkScan),
}

/// The result of the bytes so far.
#[derive(Debug)]
pub enum RequestStep<'b> {
    /// A complete request, including its body, in the first `consumed` bytes.
    Request {
        request: Request<'b>,
        /// Bytes that it took, including empty lines in front.
        consumed: usize,
    },
    /// The request is unfinished; nothing was consumed or changed.
    NeedMore {
        /// Whether to send [`write_continue`] now. True once per request: when the head is complete and asks
        /// for it, and no byte of the body has arrived.
        send_continue: bool,
    },
}

/// Whether the method of the request at the front of `input` is HEAD, whatever the rest of it is: then a
/// refusal has no body either (RFC 9110 section 9.3.2).
pub fn begins_head(input: &[u8]) -> bool {
    let start = input.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    input[start..].starts_with(b"HEAD ")
}

impl RequestDecoder {
    /// Decodes the request at the front of `input`. After [`RequestStep::NeedMore`], the caller keeps the bytes and
    /// calls again with the same bytes and more behind them. After [`RequestStep::Request`], the decoder is ready
    /// for the next request. A chunked body is joined within `input`; nothing else changes `input`.
    ///
    /// An unfinished request takes at most `head_bytes_max` and some empty lines, and twice `body_bytes_max`
    /// and `chunk_extra_bytes_max`: `NeedMore` is never returned for a longer one.
    ///
    /// # Errors
    /// A request that RFC 9110 or 9112 forbids, that polecat does not implement, or that exceeds a limit. The
    /// caller must close the connection after the response.
    pub fn decode<'b>(&mut self, input: &'b mut [u8], limits: &Limits) -> Result<RequestStep<'b>, Refusal> {
        let stage = std::mem::take(&mut self.stage);
        let (head_start, head_end, scanned) = match stage {
            Stage::Head(mut scan) => match scan.advance(input, limits)? {
                Some(head_end) => (scan.start, head_end, None),
                None => {
                    if !scan.is_idle() {
                        self.stage = Stage::Head(scan);
                    }
                    return Ok(RequestStep::NeedMore { send_continue: false });
                }
            },
            Stage::Body { head_start, head_end, body } => (head_start, head_end, Some(body)),
        };
        let Some((front, rest)) = input.split_at_mut_checked(head_end) else {
            debug_assert!(false, "an unfinished request has lost bytes");
            return Ok(RequestStep::NeedMore { send_continue: false });
        };
        let front: &'b [u8] = &front[head_start..];
        let (head, mut body) = match scanned {
            Some(body) => (None, body),
            None => {
                let head = Head::parse(front, limits)?;
                let body = BodyScan::new(head.framing);
                (Some(head), body)
            }
        };
        let Some(body_len) = body.advance(rest, limits)? else {
            self.stage = Stage::Body { head_start, head_end, body };
            let send_continue = rest.is_empty() && head.is_some_and(|head| head.expects_continue);
            return Ok(RequestStep::NeedMore { send_continue });
        };
        let head = match head {
            Some(head) => head,
            None => Head::parse(front, limits)?,
        };
        let body = body.join(&mut rest[..body_len])?;
        Ok(RequestStep::Request { request: Request { body, ..head.request }, consumed: head_end + body_len })
    }

    /// Whether no request has begun: since the last one, no byte or only empty lines have arrived. Then
    /// nothing is remembered.
    pub const fn is_idle(&self) -> bool {
        matches!(&self.stage, Stage::Head(scan) if scan.is_idle())
    }
}

impl BodyScan {
    fn new(framing: Framing) -> Self {
        match framing {
            Framing::Length(len) => Self::Length(len),
            Framing::Chunked => Self::Chunked(ChunkScan::default()),
        }
    }

    /// Continues from where it stopped. Returns the length of the body, or `None` if it is unfinished.
    fn advance(&mut self, rest: &[u8], limits: &Limits) -> Result<Option<usize>, Refusal> {
        match self {
            Self::Length(len) => Ok((rest.len() >= *len).then_some(*len)),
            Self::Chunked(scan) => scan.advance(rest, limits),
        }
    }

    /// The body without its transfer coding.
    fn join(self, sent: &mut [u8]) -> Result<&[u8], Refusal> {
        match self {
            Self::Length(_) => Ok(sent),
            Self::Chunked(_) => {
                let len = chunked::join(sent)?;
                Ok(&sent[..len])
            }
        }
    }
}

#[cfg(test)]
mod tests;
