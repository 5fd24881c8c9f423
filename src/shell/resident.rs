//! How much memory the process has in use, asked of the kernel now and then.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

/// It is asked no more often.
const INTERVAL: Duration = Duration::from_millis(500);

/// The kernel's count of resident memory.
#[derive(Debug)]
pub(super) struct Resident {
    statm: File,
    page_bytes: u64,
    /// Not before this time.
    next: Option<Instant>,
}

impl Resident {
    /// The count of this process.
    ///
    /// # Errors
    ///
    /// Where the system does not tell.
    pub(super) fn of_this_process() -> io::Result<Self> {
        let page_bytes = rustix::param::page_size() as u64;
        let resident = Self { statm: File::open("/proc/self/statm")?, page_bytes, next: None };
        resident.bytes().map(|_| resident)
    }

    /// Bytes in use, where it is time to ask again and the kernel tells.
    pub(super) fn ask(&mut self) -> Option<u64> {
        let now = Instant::now();
        if self.next.is_some_and(|next| now < next) {
            return None;
        }
        self.next = Some(now + INTERVAL);
        self.bytes().ok()
    }

    fn bytes(&self) -> io::Result<u64> {
        let mut text = [0; 128];
        let len = self.statm.read_at(&mut text, 0)?;
        let pages = resident_pages(&text[..len]);
        let pages = pages.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not understood"))?;
        Ok(pages * self.page_bytes)
    }
}

/// The second number is that of the pages that are resident.
fn resident_pages(statm: &[u8]) -> Option<u64> {
    str::from_utf8(statm).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_second_number_counts() {
        assert_eq!(resident_pages(b"4096 1234 600 1 0 300 0\n"), Some(1234));
        assert_eq!(resident_pages(b"4096"), None);
    }

    #[test]
    fn memory_is_counted_and_not_asked_again_at_once() {
        let Ok(mut resident) = Resident::of_this_process() else { return };
        assert!(resident.ask().unwrap() > 64 << 10);
        assert_eq!(resident.ask(), None);
    }
}
