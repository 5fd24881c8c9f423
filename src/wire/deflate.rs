//! The payload of compressed messages (RFC 7692 section 7.2). Every message is compressed by itself
//! (`no_context_takeover` both ways), so one compressor and one decompressor serve any number of
//! connections. Both exist from their first use on.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// The end of an empty stored block. Messages on the wire leave it out.
pub(super) const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// An empty stored block that is the last of its stream. If it is understood after the tail, the message was
/// complete.
const LAST_BLOCK: [u8; 5] = [0x01, 0x00, 0x00, 0xFF, 0xFF];

/// Level 1 takes a third of the time of level 6, and its output for JSON is a tenth longer.
const LEVEL: Compression = Compression::fast();

/// A buffer that is larger than this after its use is freed.
const BUFFER_BYTES_KEPT: usize = 256 << 10;

/// The least by which a buffer grows.
const BUFFER_BYTES_MIN: usize = 512;

/// How far back compressed data may refer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// 32 KiB, the maximum.
    Full,
    /// 256 bytes, the smallest window that a peer can ask for.
    Small,
}

impl Window {
    /// For the compressor. With 9 bits, the least that zlib has, it never looks further back than 250 bytes:
    /// of its window of 512 bytes, it keeps `MIN_LOOKAHEAD`, 262 bytes, free.
    const fn bits(self) -> u8 {
        match self {
            Self::Full => 15,
            Self::Small => 9,
        }
    }
}

#[derive(Debug, Default)]
pub struct Deflater {
    full: Option<Compress>,
    small: Option<Compress>,
    buffer: Vec<u8>,
}

impl Deflater {
    /// The payload of a compressed message; `None` if it would not be shorter.
    pub fn deflate(&mut self, window: Window, payload: &[u8]) -> Option<&[u8]> {
        let slot = match window {
            Window::Full => &mut self.full,
            Window::Small => &mut self.small,
        };
        let compress =
            slot.get_or_insert_with(|| Compress::new_with_window_bits(LEVEL, false, window.bits()));
        compress.reset();
        empty(&mut self.buffer);
        self.buffer.reserve(deflated_bytes_max(payload.len()));
        let status = compress.compress_vec(payload, &mut self.buffer, FlushCompress::Sync);
        debug_assert!(matches!(status, Ok(Status::Ok)), "there was room: {status:?}");
        if status.is_err() || !self.buffer.ends_with(&TAIL) {
            // A compressor that still holds output must not be reset: zlib-rs 0.6.8 keeps its position in
            // that output and panics later.
            debug_assert!(false, "{} bytes did not fit into {}", payload.len(), self.buffer.capacity());
            *slot = None;
            return None;
        }
        let compressed = self.buffer.strip_suffix(&TAIL)?;
        (compressed.len() < payload.len()).then_some(compressed)
    }
}

/// An upper bound for a compressed payload and its tail. At level 1, a byte takes at most 9 bits, and the
/// beginning and end of a block take a few bytes more.
const fn deflated_bytes_max(payload_bytes: usize) -> usize {
    payload_bytes + payload_bytes / 8 + 64
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is longer than allowed.
    TooLong,
    /// It is not the output of a compressor, or is incomplete.
    NotDeflate,
}

#[derive(Debug, Default)]
pub struct Inflater {
    inflate: Option<Decompress>,
    buffer: Vec<u8>,
    bytes_in: u64,
    bytes_out: u64,
}

impl Inflater {
    /// The message that a peer has compressed to `payload`. Not much more than `bytes_max` bytes are ever
    /// produced.
    ///
    /// # Errors
    /// If the message is longer than that, or `payload` is not a complete message.
    pub fn inflate(&mut self, payload: &[u8], bytes_max: usize) -> Result<&[u8], Fault> {
        empty(&mut self.buffer);
        let made = self.inflate_all(payload, bytes_max);
        self.bytes_in += payload.len() as u64;
        self.bytes_out += self.buffer.len() as u64;
        made.map(|()| &self.buffer[..])
    }

    /// Bytes of the payloads so far, before and after inflating.
    pub const fn bytes(&self) -> (u64, u64) {
        (self.bytes_in, self.bytes_out)
    }

    fn inflate_all(&mut self, mut payload: &[u8], bytes_max: usize) -> Result<(), Fault> {
        let inflate = self.inflate.get_or_insert_with(|| Decompress::new(false));
        inflate.reset(false);
        // Most messages shrink to a third, or less.
        self.buffer.reserve(payload.len().saturating_mul(4).min(bytes_max.saturating_add(1)));
        while !payload.is_empty() {
            let (taken, is_at_end) = inflate_part(inflate, payload, &mut self.buffer, bytes_max)?;
            payload = &payload[taken..];
            if is_at_end {
                // A block may say that it is the last one although others follow (RFC 7692 section 7.2.3.4).
                inflate.reset(false);
                if payload.is_empty() {
                    return Ok(());
                }
            }
        }
        if inflate.total_in() == 0 {
            // No output, where there could have been a byte: an empty message.
            return Ok(());
        }
        for part in [&TAIL[..], &LAST_BLOCK] {
            let is_last = part.len() == LAST_BLOCK.len();
            if inflate_part(inflate, part, &mut self.buffer, bytes_max)? != (part.len(), is_last) {
                return Err(Fault::NotDeflate);
            }
        }
        Ok(())
    }
}

/// Inflates `input`, up to the end of its stream. Returns how many bytes it consumed, and whether it reached
/// that end.
fn inflate_part(
    inflate: &mut Decompress,
    input: &[u8],
    buffer: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<(usize, bool), Fault> {
    let before = inflate.total_in();
    let mut taken = 0;
    loop {
        if buffer.len() == buffer.capacity() {
            let missing = bytes_max.saturating_add(1) - buffer.len();
            buffer.reserve_exact(buffer.len().max(BUFFER_BYTES_MIN).min(missing));
        }
        let status = inflate.decompress_vec(&input[taken..], buffer, FlushDecompress::None);
        if buffer.len() > bytes_max {
            return Err(Fault::TooLong);
        }
        let Ok(status) = status else { return Err(Fault::NotDeflate) };
        taken = usize::try_from(inflate.total_in() - before).unwrap_or(input.len());
        // The remaining output comes as long as there is room for it.
        if status == Status::StreamEnd || (taken == input.len() && buffer.len() < buffer.capacity()) {
            return Ok((taken, status == Status::StreamEnd));
        }
        if status == Status::BufError && buffer.len() < buffer.capacity() {
            return Err(Fault::NotDeflate);
        }
    }
}

/// Empties a buffer, and frees it if it has become large.
fn empty(buffer: &mut Vec<u8>) {
    buffer.clear();
    if buffer.capacity() > BUFFER_BYTES_KEPT {
        *buffer = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The message that a peer makes of a payload.
    fn inflated(payload: &[u8]) -> Vec<u8> {
        Inflater::default().inflate(payload, 1 << 20).map(<[u8]>::to_vec).unwrap_or_default()
    }

    fn random(len: usize) -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(7);
        std::iter::repeat_with(|| random.u8(..)).take(len).collect()
    }

    #[test]
    fn each_message_is_compressed_by_itself() {
        let mut deflater = Deflater::default();
        let text = br#"{"type":"message","payload":{"text":"one and one and one"}}"#.repeat(40);
        for window in [Window::Full, Window::Small] {
            let first = deflater.deflate(window, &text).map(<[u8]>::to_vec).unwrap_or_default();
            assert!(first.len() < text.len() / 4, "{}", first.len());
            assert_eq!(inflated(&first), text);
            assert_eq!(
                deflater.deflate(window, b"aaaaaaaaaaaaaaaaaaaaaaaa").map(inflated),
                Some(vec![b'a'; 24])
            );
            assert_eq!(deflater.deflate(window, &text), Some(&first[..]));
        }
    }

    #[test]
    fn what_would_not_be_shorter_is_left_as_it_is() {
        let mut deflater = Deflater::default();
        for len in [0, 1, 4, 5, 250, 70_000] {
            assert_eq!(deflater.deflate(Window::Full, &random(len)), None, "{len}");
            assert_eq!(deflater.deflate(Window::Full, &vec![0; len]).is_some(), len > 5, "{len}");
        }
        // If it were stored as it is, it would end with the tail that is removed.
        let mut tail_like = random(300);
        tail_like.extend_from_slice(&TAIL);
        for len in 296..tail_like.len() {
            assert_eq!(deflater.deflate(Window::Full, &tail_like[..len]), None);
        }
    }

    #[test]
    fn a_small_window_looks_back_no_further_than_the_smallest_that_can_be_asked_for() {
        let mut deflater = Deflater::default();
        for distance in [40, 200, 249, 250, 251, 256, 257, 300, 511, 512] {
            let repeated = random(distance).repeat(4);
            let is_found = deflater.deflate(Window::Small, &repeated).is_some();
            assert!(!is_found || distance <= 256, "{distance}");
            assert!(is_found || distance > 249, "{distance}");
            assert!(deflater.deflate(Window::Full, &repeated).is_some(), "{distance}");
        }
    }

    #[test]
    fn no_memory_is_kept_of_a_large_message() {
        let mut deflater = Deflater::default();
        assert!(deflater.deflate(Window::Full, &vec![b'a'; 4 << 20]).is_some());
        assert!(deflater.deflate(Window::Full, &[b'a'; 100]).is_some());
        assert!(deflater.buffer.capacity() <= BUFFER_BYTES_KEPT);
    }

    /// The examples of RFC 7692 section 7.2.3, with the fragments of one joined.
    #[test]
    fn what_the_rfc_gives_as_examples_is_understood() {
        for payload in [
            &[0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00][..],
            &[0x00, 0x05, 0x00, 0xFA, 0xFF, 0x48, 0x65, 0x6C, 0x6C, 0x6F, 0x00],
            &[0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00],
            &[0xF2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xCA, 0xC9, 0xC9, 0x07, 0x00],
            // The last block, with nothing behind it.
            &[0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00],
        ] {
            assert_eq!(Inflater::default().inflate(payload, 5), Ok(&b"Hello"[..]), "{payload:x?}");
            assert_eq!(Inflater::default().inflate(payload, 4), Err(Fault::TooLong), "{payload:x?}");
        }
        for nothing in [&[0x00][..], &[]] {
            assert_eq!(Inflater::default().inflate(nothing, 0), Ok(&b""[..]), "{nothing:x?}");
        }
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        let text = br#"{"type":"message","payload":{"text":"one and one and one"}}"#.repeat(3);
        let mut deflater = Deflater::default();
        let whole = deflater.deflate(Window::Full, &text).map(<[u8]>::to_vec).unwrap_or_default();
        let mut inflater = Inflater::default();
        for end in 1..whole.len() {
            assert_eq!(inflater.inflate(&whole[..end], 1 << 20), Err(Fault::NotDeflate), "{end}");
        }
        assert_eq!(inflater.inflate(&whole, 1 << 20), Ok(&text[..]));
        assert_eq!(inflater.inflate(&whole, text.len()), Ok(&text[..]));
        assert_eq!(inflater.inflate(&whole, text.len() - 1), Err(Fault::TooLong));
        assert_eq!(inflater.inflate(&[0xFF, 0xFF, 0xFF], 1 << 20), Err(Fault::NotDeflate));
        // A reference to data that does not exist: each message begins anew.
        assert_eq!(inflater.inflate(&[0xF2, 0x00, 0x11, 0x00, 0x00], 1 << 20), Err(Fault::NotDeflate));
        assert_eq!(inflater.inflate(&whole, 1 << 20), Ok(&text[..]), "what was refused leaves no trace");
        let bytes_in = (1..=whole.len()).sum::<usize>() + 3 * whole.len() + 8;
        assert_eq!(inflater.bytes().0, bytes_in as u64);
    }

    #[test]
    fn a_bomb_costs_no_more_than_a_message_may_have() {
        let mut deflater = Deflater::default();
        let bomb = deflater.deflate(Window::Full, &vec![0; 8 << 20]).map(<[u8]>::to_vec).unwrap_or_default();
        let mut inflater = Inflater::default();
        for bytes_max in [0, 1, 1000, 1 << 20] {
            assert_eq!(inflater.inflate(&bomb, bytes_max), Err(Fault::TooLong));
            assert!(inflater.buffer.capacity() <= bytes_max.max(8) + 1, "{bytes_max}");
            inflater = Inflater::default();
        }
        assert_eq!(inflater.inflate(&[0x00], 9), Ok(&b""[..]));
        assert!(inflater.buffer.capacity() <= BUFFER_BYTES_KEPT);
    }

    /// Any bytes get an answer, and always the same one.
    #[test]
    fn invalid_input_is_refused() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut inflater = Inflater::default();
        let mut understood = 0;
        for _ in 0..20_000 {
            let len = random.usize(..40);
            let bytes = std::iter::repeat_with(|| random.u8(..)).take(len).collect::<Vec<_>>();
            let first = inflater.inflate(&bytes, 300).map(<[u8]>::to_vec);
            assert_eq!(Inflater::default().inflate(&bytes, 300).map(<[u8]>::to_vec), first, "{bytes:x?}");
            understood += usize::from(first.is_ok());
        }
        assert!(understood > 100, "{understood}");
    }
}
