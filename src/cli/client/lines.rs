//! Lines from bytes as they arrive: each is a message, and none is longer than the server accepts.

use std::collections::VecDeque;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Text(String),
    NotUtf8,
    TooLong,
}

#[derive(Debug, Default)]
pub(super) struct Lines {
    whole: VecDeque<(u64, Line)>,
    /// The beginning of the next line.
    partial: Vec<u8>,
    /// Whether the next line is too long already.
    is_too_long: bool,
    count: u64,
    has_ended: bool,
}

impl Lines {
    /// Takes in bytes that have arrived; no bytes mean the end. Lines of more than `bytes_max` are not kept.
    pub(super) fn feed(&mut self, mut bytes: &[u8], bytes_max: usize) {
        if bytes.is_empty() {
            self.has_ended = true;
            if !self.partial.is_empty() || self.is_too_long {
                self.finish();
            }
        }
        while !bytes.is_empty() {
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let part = &bytes[..end.unwrap_or(bytes.len())];
            if self.partial.len() + part.len() > bytes_max {
                self.is_too_long = true;
                self.partial = Vec::new();
            } else if !self.is_too_long {
                self.partial.extend_from_slice(part);
            }
            let Some(end) = end else { return };
            self.finish();
            bytes = &bytes[end + 1..];
        }
    }

    pub(super) fn next(&mut self) -> Option<(u64, Line)> {
        self.whole.pop_front()
    }

    pub(super) fn wants_more(&self) -> bool {
        self.whole.is_empty() && !self.has_ended
    }

    pub(super) fn is_over(&self) -> bool {
        self.whole.is_empty() && self.has_ended
    }

    fn finish(&mut self) {
        self.count += 1;
        let mut bytes = std::mem::take(&mut self.partial);
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        let line = if std::mem::take(&mut self.is_too_long) {
            Line::TooLong
        } else {
            String::from_utf8(bytes).map_or(Line::NotUtf8, Line::Text)
        };
        self.whole.push_back((self.count, line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_the_same_however_they_come() {
        let input = b"one\r\n\n0123456789ab\nth\xc3\xb6ee\n\xff\nlast";
        let expected = [
            Line::Text("one".to_owned()),
            Line::Text(String::new()),
            Line::TooLong,
            Line::Text("th\u{f6}ee".to_owned()),
            Line::NotUtf8,
            Line::Text("last".to_owned()),
        ];
        for size in 1..=input.len() {
            let mut lines = Lines::default();
            for chunk in input.chunks(size) {
                lines.feed(chunk, 10);
            }
            lines.feed(b"", 10);
            let found = std::iter::from_fn(|| lines.next()).collect::<Vec<_>>();
            assert!(found.iter().map(|(number, _)| *number).eq(1..=6), "{size}: {found:?}");
            assert!(found.iter().map(|(_, line)| line).eq(&expected), "{size}: {found:?}");
            assert!(lines.is_over() && !lines.wants_more());
        }
    }

    #[test]
    fn what_is_too_long_is_not_kept() {
        let mut lines = Lines::default();
        for _ in 0..1000 {
            lines.feed(&[b'x'; 100], 1000);
        }
        assert!(lines.partial.capacity() <= 4000);
        lines.feed(b"", 1000);
        assert_eq!(lines.next(), Some((1, Line::TooLong)));
    }
}
