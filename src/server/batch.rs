//! The messages that members of a channel get next, put together once for all members that get the same. One buffer
//! for each member costs the kernel less than as many slices.

use crate::base::frame::Frame;
use crate::hub::entry::Encoding;

/// Bytes put together at most: what is longer costs as much to copy as it saves.
const BYTES_MAX: usize = 16 << 10;

/// The frames from `first` to `last`, two ids of the log of the channel with that serial number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) serial: u64,
    pub(super) encoding: Encoding,
    pub(super) first: u64,
    pub(super) last: u64,
}

/// What was put together last.
#[derive(Debug, Default)]
pub(super) struct Batch {
    range: Option<Range>,
    bytes: Vec<u8>,
    frames: usize,
    /// The id of the last of its frames.
    through: u64,
}

impl Batch {
    /// The bytes of `frames`, which are those of `range` as far as they are made already, how many
    /// that is, and the id of the last of them. `None` if they are too long.
    pub(super) fn of<'a>(
        &mut self,
        range: Range,
        frames: impl Iterator<Item = (u64, &'a Frame)>,
    ) -> Option<(&[u8], usize, u64)> {
        if self.range != Some(range) {
            self.gather(frames);
            self.range = Some(range);
        }
        (self.frames > 0).then_some((&self.bytes[..], self.frames, self.through))
    }

    fn gather<'a>(&mut self, frames: impl Iterator<Item = (u64, &'a Frame)>) {
        self.bytes.clear();
        self.frames = 0;
        for (id, frame) in frames {
            if self.bytes.len() + frame.len() > BYTES_MAX {
                self.frames = 0;
                return;
            }
            self.bytes.extend_from_slice(frame);
            self.frames += 1;
            self.through = id;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    const RANGE: Range = Range { serial: 1, encoding: Encoding::Plain, first: 3, last: 7 };

    #[test]
    fn frames_are_put_together_once_for_all_who_get_the_same() {
        let frames: Vec<(u64, Frame)> = vec![(3, Rc::from(&b"abc"[..])), (7, Rc::from(&b"de"[..]))];
        let all = || frames.iter().map(|(id, frame)| (*id, frame));
        let mut batch = Batch::default();
        assert_eq!(batch.of(RANGE, all()), Some((&b"abcde"[..], 2, 7)));
        assert_eq!(batch.of(RANGE, std::iter::empty()), Some((&b"abcde"[..], 2, 7)), "they are there");
        for other in [
            Range { serial: 2, ..RANGE },
            Range { encoding: Encoding::Deflate, ..RANGE },
            Range { first: 2, ..RANGE },
            Range { last: 8, ..RANGE },
        ] {
            assert_eq!(batch.of(other, all().take(1)), Some((&b"abc"[..], 1, 3)), "{other:?}");
            assert_eq!(batch.of(RANGE, all()), Some((&b"abcde"[..], 2, 7)));
        }
    }

    #[test]
    fn what_is_long_is_not_copied() {
        let long: Frame = Rc::from(vec![0; BYTES_MAX / 2 + 1]);
        let mut batch = Batch::default();
        assert_eq!(batch.of(RANGE, [(3, &long), (7, &long)].into_iter()), None);
        assert!(batch.bytes.capacity() <= BYTES_MAX);
        assert_eq!(batch.of(RANGE, std::iter::empty()), None, "nor is it tried again");
    }
}
