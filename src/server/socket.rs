//! The socket as the server needs it, and what a poll tells of one.

use core::net::SocketAddr;
#[cfg(test)]
use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
#[cfg(test)]
use std::rc::Rc;

/// A non-blocking byte stream to a peer. `read` and `write` return
/// [`io::ErrorKind::WouldBlock`] if they would have to wait, and the shell
/// then tells by [`Readiness`] when that has changed, once. A `read` that returns
/// less than was asked for has emptied the socket: later bytes are told anew.
pub trait Socket: Read + Write {
    /// Tells the peer that nothing more will be written; reading goes on.
    ///
    /// # Errors
    ///
    /// Those of the operating system; a peer that is gone already is one.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// The peer's address, if there is one and it is known. The system is asked each time: a
    /// connection does not keep it.
    fn peer(&self) -> Option<SocketAddr> {
        None
    }
}

/// What has changed about a socket since it was last told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Bytes, or the end, can be read.
    pub readable: bool,
    /// The peer will write no more, or is gone: a read that returns less than was
    /// asked for has not seen the end yet.
    pub read_closed: bool,
    /// Bytes can be written.
    pub writable: bool,
}

/// A socket for tests, which hold the peer's end: it reads the input, and keeps the output.
#[cfg(test)]
#[derive(Debug, Clone, Default)]
pub(super) struct Line {
    pub(super) input: Rc<RefCell<Vec<u8>>>,
    pub(super) output: Rc<RefCell<Vec<u8>>>,
    pub(super) is_ended: Rc<Cell<bool>>,
    /// How often its peer was asked for.
    pub(super) asked: Rc<Cell<usize>>,
}

#[cfg(test)]
impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let input = self.input.take();
        if input.is_empty() && !self.is_ended.get() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        buffer[..input.len()].copy_from_slice(&input);
        Ok(input.len())
    }
}

#[cfg(test)]
impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
impl Socket for Line {
    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn peer(&self) -> Option<SocketAddr> {
        self.asked.set(self.asked.get() + 1);
        Some(SocketAddr::from(([127, 0, 0, 1], 80)))
    }
}
