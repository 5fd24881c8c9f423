//! The socket as the server needs it, and what a poll tells of one.

use core::net::SocketAddr;
use std::io::{self, Read, Write};

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
