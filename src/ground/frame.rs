//! Shared bytes, and what is private to one connection until it is sent.

use std::collections::VecDeque;
use std::rc::Rc;

/// Encoded bytes, made once and shared by all who get them. `Rc` keeps the
/// promise of one thread by the compiler's hand.
pub type Frame = Rc<[u8]>;

/// What one connection still has to be sent that no log holds: the rest of a
/// partly written frame, control frames, HTTP responses.
///
/// It exists only while it is not empty. A chunk is never split by another, so
/// what is pushed whole frames at a time stays whole on the wire.
#[derive(Debug, Default)]
pub struct Outbox {
    chunks: VecDeque<Chunk>,
    len: usize,
}

#[derive(Debug)]
enum Chunk {
    Shared { frame: Frame, start: usize },
    Owned { bytes: Vec<u8>, start: usize },
}

impl Chunk {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Shared { frame, start } => &frame[*start..],
            Self::Owned { bytes, start } => &bytes[*start..],
        }
    }
}

impl Outbox {
    /// Bytes still to be written.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is left to be written.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes still to be written that are no rest of a shared frame.
    #[must_use]
    pub fn private_bytes(&self) -> usize {
        let private = |chunk: &Chunk| matches!(chunk, Chunk::Owned { .. });
        self.chunks.iter().filter(|chunk| private(chunk)).map(|chunk| chunk.as_slice().len()).sum()
    }

    /// Appends a copy of `bytes`.
    pub fn push(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.len += bytes.len();
        if let Some(Chunk::Owned { bytes: last, .. }) = self.chunks.back_mut() {
            last.extend_from_slice(bytes);
        } else {
            self.chunks.push_back(Chunk::Owned { bytes: bytes.to_vec(), start: 0 });
        }
    }

    /// Appends the rest of `frame`, from `start` on, without a copy.
    pub fn push_shared(&mut self, frame: Frame, start: usize) {
        if start < frame.len() {
            self.len += frame.len() - start;
            self.chunks.push_back(Chunk::Shared { frame, start });
        }
    }

    /// What is next on the wire; empty only where the whole outbox is.
    #[must_use]
    pub fn front(&self) -> &[u8] {
        self.chunks.front().map_or(&[], Chunk::as_slice)
    }

    /// Drops the first `written` bytes. Returns how many of them were no rest of a
    /// shared frame.
    pub fn consume(&mut self, mut written: usize) -> usize {
        debug_assert!(written <= self.len);
        self.len -= written;
        let mut private_bytes = 0;
        while let Some(chunk) = self.chunks.front_mut() {
            let left = chunk.as_slice().len();
            let consumed = left.min(written);
            written -= consumed;
            match chunk {
                Chunk::Shared { start, .. } => *start += consumed,
                Chunk::Owned { start, .. } => {
                    *start += consumed;
                    private_bytes += consumed;
                }
            }
            if consumed < left {
                break;
            }
            self.chunks.pop_front();
        }
        private_bytes
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
        outbox.push_shared(Rc::from(&b"kl"[..]), 2);
        assert_eq!(outbox.len(), 8);
        assert_eq!(outbox.private_bytes(), 4);
        let mut seen = Vec::new();
        let mut private_bytes = 0;
        while !outbox.is_empty() {
            let take = outbox.front().len().min(3);
            seen.extend_from_slice(&outbox.front()[..take]);
            private_bytes += outbox.consume(take);
        }
        assert_eq!(private_bytes, 4);
        assert_eq!(seen, b"cdefghij");
        assert!(outbox.front().is_empty());
    }
}
