//! One message of a log or of a page of history, in every encoding that its subscribers need. Each encoding
//! is made at most once, when a subscriber first needs it, and is then shared.

use std::rc::Rc;

use crate::base::frame::Frame;
use crate::wire::deflate::Window;

/// How a connection's messages are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// Frames without extensions.
    #[default]
    Plain,
    /// Frames compressed by permessage-deflate.
    Deflate,
    /// The same with a window small enough for any client that asks for a small one.
    DeflateSmall,
    /// Events of an event stream, not in frames.
    EventStream,
}

impl Encoding {
    pub const ALL: [Self; 4] = [Self::Plain, Self::Deflate, Self::DeflateSmall, Self::EventStream];

    /// The name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Deflate => "deflate",
            Self::DeflateSmall => "deflate_small",
            Self::EventStream => "event_stream",
        }
    }

    /// The compression window of this encoding. Its connections may also send compressed messages.
    pub const fn window(self) -> Option<Window> {
        match self {
            Self::Plain | Self::EventStream => None,
            Self::Deflate => Some(Window::Full),
            Self::DeflateSmall => Some(Window::Small),
        }
    }

    /// The encoding of a WebSocket, given the window that was negotiated for compression, if any.
    pub const fn of_websocket(window: Option<Window>) -> Self {
        match window {
            None => Self::Plain,
            Some(Window::Full) => Self::Deflate,
            Some(Window::Small) => Self::DeflateSmall,
        }
    }

    /// The index at which an [`Entry`] has it; `None` for the plain encoding, which every entry has.
    const fn place(self) -> Option<usize> {
        (self as usize).checked_sub(1)
    }
}

#[derive(Debug)]
pub struct Entry {
    pub id: u64,
    plain: Frame,
    /// By the index of the encoding. If an encoding has the same bytes, it is the plain frame itself.
    further: [Option<Frame>; Encoding::ALL.len() - 1],
}

impl Entry {
    /// A message in no encoding but the plain one.
    pub const fn new(id: u64, plain: Frame) -> Self {
        Self { id, plain, further: [const { None }; Encoding::ALL.len() - 1] }
    }

    pub const fn frame(&self, encoding: Encoding) -> Option<&Frame> {
        match encoding.place() {
            None => Some(&self.plain),
            Some(place) => self.further[place].as_ref(),
        }
    }

    /// Encodes the message, unless it is encoded already: `make` makes the frame from the plain one, or has
    /// no time left. Returns the bytes that this costs, 0 if it was encoded already; `None` if it is still
    /// not encoded.
    pub fn encode(
        &mut self,
        encoding: Encoding,
        make: &mut impl FnMut(u64, &Frame) -> Option<Frame>,
    ) -> Option<usize> {
        let Some(place) = encoding.place() else { return Some(0) };
        if self.further[place].is_some() {
            return Some(0);
        }
        let made = make(self.id, &self.plain)?;
        let price = self.price(&made);
        self.further[place] = Some(made);
        Some(price)
    }

    pub fn bytes(&self) -> usize {
        let further = self.further.iter().flatten().map(|frame| self.price(frame));
        self.plain.len() + further.sum::<usize>()
    }

    /// The bytes that a further frame costs.
    fn price(&self, frame: &Frame) -> usize {
        if Rc::ptr_eq(frame, &self.plain) { 0 } else { frame.len() }
    }
}

/// Encodes the first of `entries`: at most `frames_max`, until they reach `bytes_max`, or until `make` has no
/// time left. Returns the bytes that this costs.
pub fn encode_front<'a>(
    entries: impl Iterator<Item = &'a mut Entry>,
    encoding: Encoding,
    (frames_max, bytes_max): (usize, usize),
    make: &mut impl FnMut(u64, &Frame) -> Option<Frame>,
) -> usize {
    let (mut price, mut bytes) = (0, 0);
    for entry in entries.take(frames_max) {
        let Some(more) = entry.encode(encoding, make) else { break };
        price += more;
        bytes += entry.frame(encoding).map_or(0, |frame| frame.len());
        if bytes >= bytes_max {
            break;
        }
    }
    price
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_encoding_is_made_once_and_has_its_price() {
        let mut entry = Entry::new(7, Rc::from(&b"abcd"[..]));
        assert_eq!(entry.bytes(), 4);
        assert_eq!(entry.encode(Encoding::Plain, &mut |_, _| unreachable!("it is there")), Some(0));
        assert_eq!(entry.encode(Encoding::Deflate, &mut |_, _| None), None);
        assert_eq!(entry.frame(Encoding::Deflate), None);
        let mut short = |id, plain: &Frame| (id == 7).then(|| Frame::from(&plain[..2]));
        assert_eq!(entry.encode(Encoding::Deflate, &mut short), Some(2));
        assert_eq!(entry.encode(Encoding::Deflate, &mut |_, _| unreachable!("it is there")), Some(0));
        assert_eq!(entry.frame(Encoding::Deflate).map(|frame| &frame[..]), Some(&b"ab"[..]));
        assert_eq!(entry.frame(Encoding::DeflateSmall), None);
        assert_eq!(entry.encode(Encoding::DeflateSmall, &mut |_, plain| Some(plain.clone())), Some(0));
        assert_eq!(entry.bytes(), 6);
    }

    #[test]
    fn no_more_is_encoded_than_is_asked_for() {
        let made = |frames_max, bytes_max, time| {
            let mut entries: Vec<Entry> = (0..5).map(|id| Entry::new(id, Rc::from(&b"abcd"[..]))).collect();
            let mut left = time;
            let mut make = |_, plain: &Frame| {
                left -= 1;
                (left >= 0).then(|| Frame::from(&plain[..2]))
            };
            let price =
                encode_front(entries.iter_mut(), Encoding::Deflate, (frames_max, bytes_max), &mut make);
            let count = entries.iter().filter(|entry| entry.frame(Encoding::Deflate).is_some()).count();
            assert_eq!(price, 2 * count);
            count
        };
        assert_eq!([made(9, 99, 9), made(3, 99, 9), made(9, 3, 9), made(9, 99, 1)], [5, 3, 2, 1]);
    }
}
