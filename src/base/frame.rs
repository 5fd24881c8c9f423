//! Shared bytes, and the bytes that one connection alone has yet to be sent.

use std::collections::VecDeque;
use std::rc::Rc;

use super::deadline::Link;

/// Encoded bytes, made once and shared by all receivers. `Rc` makes the compiler enforce that they stay on
/// one thread.
pub type Frame = Rc<[u8]>;

/// A frame up to this size counts for each outbox that holds it. A larger frame counts once, however many
/// outboxes hold it.
pub const SMALL_BYTES: usize = 16 << 10;

/// The most sent bytes that stay in memory before the unsent bytes are moved to the front.
const SENT_BYTES_MAX: usize = 4 << 10;

/// Everything that one connection still has to be sent and that no log holds: the rest of a partly written
/// frame, control frames, HTTP responses.
///
/// It exists only while it is not empty. Chunks are never interleaved: bytes that are pushed as whole frames
/// stay whole on the wire.
#[derive(Debug, Default)]
pub struct Outbox {
    chunks: VecDeque<Chunk>,
    len: usize,
    /// Unsent bytes of its own chunks.
    private_bytes: usize,
    /// What its chunks hold in memory, see [`Self::held_bytes`].
    held_bytes: usize,
    /// Shared frames larger than [`SMALL_BYTES`].
    large_frames: usize,
    /// Bytes at the front that end a frame whose beginning was sent. The owner of the outbox maintains this.
    pub begun_bytes: usize,
    /// Its position among the outboxes that hold much, if it is one of them.
    pub link: Link,
}

#[derive(Debug)]
enum Chunk {
    Shared { frame: Frame, start: usize },
    Static { bytes: &'static [u8] },
    Owned { bytes: Vec<u8>, start: usize },
}

impl Chunk {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Shared { frame, start } => &frame[*start..],
            Self::Static { bytes } => bytes,
            Self::Owned { bytes, start } => &bytes[*start..],
        }
    }

    /// Bytes of memory held for this outbox alone, or counted as if they were.
    fn held_bytes(&self) -> usize {
        match self {
            Self::Shared { frame, .. } if frame.len() > SMALL_BYTES => 0,
            Self::Shared { frame, .. } => frame.len(),
            Self::Static { .. } => 0,
            Self::Owned { bytes, .. } => bytes.capacity(),
        }
    }

    fn large_frame(&self) -> Option<&Frame> {
        match self {
            Self::Shared { frame, .. } if frame.len() > SMALL_BYTES => Some(frame),
            _ => None,
        }
    }

    /// Drops the first `sent` bytes. Frees their memory once that is worth copying the bytes behind them.
    fn consume(&mut self, sent: usize) {
        match self {
            Self::Shared { start, .. } => *start += sent,
            Self::Static { bytes } => *bytes = &bytes[sent..],
            Self::Owned { bytes, start } => {
                *start += sent;
                // Each byte is moved at most as often as another byte was sent.
                if *start > SENT_BYTES_MAX && *start >= bytes.len() - *start {
                    bytes.drain(..*start);
                    bytes.shrink_to_fit();
                    *start = 0;
                }
            }
        }
    }
}

impl Outbox {
    pub const fn len(&self) -> usize {
        self.len
    }

    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes still to be written that belong neither to a shared frame nor to the binary.
    pub const fn private_bytes(&self) -> usize {
        self.private_bytes
    }

    /// Bytes of memory that it holds, including sent bytes and spare capacity, but without
    /// [`Self::large_frames`].
    pub const fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Whether it holds a shared frame larger than [`SMALL_BYTES`].
    pub const fn has_large_frames(&self) -> bool {
        self.large_frames > 0
    }

    pub fn large_frames(&self) -> impl Iterator<Item = &Frame> {
        self.chunks.iter().filter_map(Chunk::large_frame)
    }

    pub fn push(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.len += bytes.len();
        self.private_bytes += bytes.len();
        if let Some(Chunk::Owned { bytes: last, .. }) = self.chunks.back_mut() {
            self.held_bytes -= last.capacity();
            last.extend_from_slice(bytes);
            self.held_bytes += last.capacity();
        } else {
            let bytes = bytes.to_vec();
            self.held_bytes += bytes.capacity();
            self.chunks.push_back(Chunk::Owned { bytes, start: 0 });
        }
    }

    /// Appends the rest of `frame`, from `start` on, without a copy.
    pub fn push_shared(&mut self, frame: Frame, start: usize) {
        if start < frame.len() {
            self.len += frame.len() - start;
            self.push_chunk(Chunk::Shared { frame, start });
        }
    }

    /// Appends a part of the binary, without a copy.
    pub fn push_static(&mut self, bytes: &'static [u8]) {
        if !bytes.is_empty() {
            self.len += bytes.len();
            self.push_chunk(Chunk::Static { bytes });
        }
    }

    fn push_chunk(&mut self, chunk: Chunk) {
        self.held_bytes += chunk.held_bytes();
        self.large_frames += usize::from(chunk.large_frame().is_some());
        self.chunks.push_back(chunk);
    }

    /// The next bytes for the wire; empty only if the whole outbox is empty.
    pub fn front(&self) -> &[u8] {
        self.chunks.front().map_or(&[], Chunk::as_slice)
    }

    /// Drops the first `sent` bytes of [`Self::front`]. Returns a large frame if the outbox no longer holds
    /// it.
    pub fn consume(&mut self, sent: usize) -> Option<Frame> {
        let chunk = self.chunks.front_mut()?;
        let left = chunk.as_slice().len();
        debug_assert!(sent <= left);
        self.len -= sent;
        if matches!(chunk, Chunk::Owned { .. }) {
            self.private_bytes -= sent;
        }
        self.held_bytes -= chunk.held_bytes();
        if sent < left {
            chunk.consume(sent);
            self.held_bytes += chunk.held_bytes();
            return None;
        }
        let done = self.chunks.pop_front()?;
        let frame = done.large_frame().cloned();
        self.large_frames -= usize::from(frame.is_some());
        frame
    }

    /// Drops all but the first `kept` bytes, and returns the large frames that the outbox no longer holds.
    pub fn truncate(&mut self, kept: usize) -> Vec<Frame> {
        let mut chunks = std::mem::take(&mut self.chunks).into_iter();
        let mut dropped = Vec::new();
        let mut left = kept;
        *self = Self { begun_bytes: self.begun_bytes, link: self.link, ..Self::default() };
        for chunk in chunks.by_ref() {
            let slice = chunk.as_slice();
            let take = slice.len().min(left);
            left -= take;
            if take == slice.len() {
                let is_owned = matches!(chunk, Chunk::Owned { .. });
                self.len += take;
                self.private_bytes += if is_owned { take } else { 0 };
                self.push_chunk(chunk);
            } else {
                dropped.extend(chunk.large_frame().cloned());
                self.push(&slice[..take]);
            }
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_leave_in_order_and_may_be_cut_anywhere() {
        let mut outbox = Outbox::default();
        outbox.push_shared(Rc::from(&b"abcdef"[..]), 2);
        outbox.push(b"gh");
        outbox.push(b"ij");
        outbox.push_static(b"kl");
        outbox.push_shared(Rc::from(&b"mn"[..]), 2);
        assert_eq!((outbox.len(), outbox.private_bytes()), (10, 4));
        let mut seen = Vec::new();
        while !outbox.is_empty() {
            let take = outbox.front().len().min(3);
            seen.extend_from_slice(&outbox.front()[..take]);
            assert!(outbox.consume(take).is_none());
        }
        assert_eq!(seen, b"cdefghijkl");
        assert!(outbox.front().is_empty());
        assert_eq!((outbox.private_bytes(), outbox.held_bytes()), (0, 0));
    }

    #[test]
    fn what_was_sent_is_given_back_though_it_never_runs_empty() {
        let mut outbox = Outbox::default();
        let mut next = 0_u8;
        let mut sent = 0_u8;
        outbox.push(&[0; 0]);
        for _ in 0..1_000 {
            let piece: Vec<u8> = std::iter::repeat_with(|| {
                next = next.wrapping_add(1);
                next
            })
            .take(10_000)
            .collect();
            outbox.push(&piece);
            while outbox.len() > 20_000 {
                let take = outbox.front().len().min(700);
                for byte in &outbox.front()[..take] {
                    sent = sent.wrapping_add(1);
                    assert_eq!(*byte, sent);
                }
                outbox.consume(take);
            }
            let held: usize = outbox.chunks.iter().map(Chunk::held_bytes).sum();
            assert_eq!(held, outbox.held_bytes());
            assert!(held < 100_000, "{held} bytes for {}", outbox.len());
        }
    }

    #[test]
    fn large_frames_are_told_apart_and_given_back() {
        let large: Frame = Rc::from(vec![1; SMALL_BYTES + 1]);
        let small: Frame = Rc::from(vec![2; SMALL_BYTES]);
        let mut outbox = Outbox::default();
        outbox.push_shared(large.clone(), 1);
        outbox.push_shared(small, 1);
        assert_eq!((outbox.held_bytes(), outbox.large_frames().count()), (SMALL_BYTES, 1));
        assert!(outbox.consume(SMALL_BYTES - 1).is_none() && outbox.has_large_frames());
        assert_eq!(outbox.consume(1), Some(large.clone()));
        assert!(!outbox.has_large_frames());
        assert!(outbox.consume(SMALL_BYTES - 1).is_none());
        assert!(outbox.is_empty() && outbox.held_bytes() == 0);
    }

    #[test]
    fn what_is_behind_a_place_is_dropped() {
        let large: Frame = Rc::from(vec![7; SMALL_BYTES + 1]);
        for kept in 0..=12 {
            let mut outbox = Outbox::default();
            outbox.push(b"abcd");
            outbox.push_static(b"efgh");
            outbox.push(b"ijkl");
            outbox.push_shared(large.clone(), 0);
            assert_eq!(outbox.truncate(kept), std::slice::from_ref(&large));
            assert_eq!(outbox.len(), kept);
            let mut left = Vec::new();
            while !outbox.is_empty() {
                left.extend_from_slice(outbox.front());
                outbox.consume(outbox.front().len());
            }
            assert_eq!(left, &b"abcdefghijkl"[..kept]);
        }
    }
}
