//! What makes the further encodings of messages, and reads compressed ones: one of each for the
//! whole loop, so that a connection needs nothing of its own.

use crate::base::frame::Frame;
use crate::hub::entry::Encoding;
use crate::store::engine::{Record, Stream};
use crate::wire::deflate::{Deflater, Inflater, Window};
use crate::wire::http::gzip::Gzip;
use crate::wire::protocol::{write_event, write_message};
use crate::wire::websocket::codec::{self, OpCode};

use super::metrics::CodedBytes;

/// The encoders, and how much of a turn is left for them. What is read does not take the time of
/// what is written.
#[derive(Debug, Default)]
pub(super) struct Encoders {
    deflater: Deflater,
    inflater: Inflater,
    reading_left: usize,
    writing_left: usize,
    /// A record as text, before it is a frame.
    scratch: Vec<u8>,
}

/// Scratch space that is larger than this after its use is given back.
const SCRATCH_BYTES_KEPT: usize = 256 << 10;

impl Encoders {
    pub(super) fn begin_turn(&mut self, bytes: usize) {
        self.reading_left = bytes;
        self.writing_left = bytes;
        if self.scratch.capacity() > SCRATCH_BYTES_KEPT {
            self.scratch = Vec::new();
        }
    }

    /// A record as the frame that its subscribers get.
    pub(super) fn frame(&mut self, id: u64, record: &Record) -> Frame {
        self.scratch.clear();
        match record {
            Record::Message(message) => write_message(id, message, &mut self.scratch),
            Record::Event(event) => write_event(id, event, &mut self.scratch),
        }
        codec::frame(OpCode::Text, &self.scratch)
    }

    /// Whether this turn has time for another message that is read, and the answer to it.
    pub(super) const fn may_read(&self) -> bool {
        self.reading_left > 0
    }

    /// Whether this turn has time for another message that many will get.
    pub(super) const fn may_write(&self) -> bool {
        self.writing_left > 0
    }

    /// Lends the inflater for a message of a connection that may send compressed ones.
    pub(super) fn lend_inflater(&mut self, encoding: Encoding) -> Option<Inflater> {
        encoding.window().map(|_| std::mem::take(&mut self.inflater))
    }

    /// Takes the inflater back.
    pub(super) fn return_inflater(&mut self, inflater: Option<Inflater>, coded: &mut CodedBytes) {
        let Some(inflater) = inflater else { return };
        let (bytes_in, bytes_out) = inflater.bytes();
        let bytes = bytes_in + bytes_out - coded.inflate_in - coded.inflate_out;
        (coded.inflate_in, coded.inflate_out) = (bytes_in, bytes_out);
        self.reading_left = self.reading_left.saturating_sub(usize::try_from(bytes).unwrap_or(usize::MAX));
        self.inflater = inflater;
    }

    /// A message of `stream`, whose frame is `plain`, in another encoding. That may be the same frame.
    pub(super) fn encode(
        &mut self,
        encoding: Encoding,
        _stream: &Stream,
        _id: u64,
        plain: &Frame,
        over: usize,
        coded: &mut CodedBytes,
    ) -> Frame {
        let Some(window) = encoding.window() else { return plain.clone() };
        let payload = codec::payload(plain);
        if payload.len() > over {
            self.writing_left = self.writing_left.saturating_sub(payload.len());
        }
        let compressed = self.compress(window, payload, over, coded);
        compressed.map_or_else(|| plain.clone(), |payload| codec::compressed_frame(OpCode::Text, payload))
    }

    /// The payload of a message for one connection alone, compressed; `None` if it stays as it is.
    pub(super) fn encode_private(
        &mut self,
        encoding: Encoding,
        payload: &[u8],
        over: usize,
        coded: &mut CodedBytes,
    ) -> Option<&[u8]> {
        let window = encoding.window()?;
        if payload.len() > over {
            self.reading_left = self.reading_left.saturating_sub(payload.len());
        }
        self.compress(window, payload, over, coded)
    }

    /// Appends a part of a body, compressed, to `out`.
    pub(super) fn gzip(&mut self, gzip: &mut Gzip, part: &[u8], out: &mut Vec<u8>, coded: &mut CodedBytes) {
        self.writing_left = self.writing_left.saturating_sub(part.len());
        let before = out.len();
        gzip.write(&mut self.deflater, part, out);
        coded.gzip_in += part.len() as u64;
        coded.gzip_out += (out.len() - before) as u64;
    }

    /// Compresses what is longer than `over`; `None` if that would not make it shorter.
    fn compress(
        &mut self,
        window: Window,
        payload: &[u8],
        over: usize,
        coded: &mut CodedBytes,
    ) -> Option<&[u8]> {
        if payload.len() <= over {
            return None;
        }
        let compressed = self.deflater.deflate(window, payload);
        coded.deflate_in += payload.len() as u64;
        coded.deflate_out += compressed.map_or(payload.len(), <[u8]>::len) as u64;
        compressed
    }
}
