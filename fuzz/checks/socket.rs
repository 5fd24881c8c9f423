//! A connection in memory: the bytes that the peer sends and those that the server has sent, with the
//! behaviour of a non-blocking, edge-triggered socket.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::rc::Rc;

use polecat::server::socket::{Readiness, Socket};

/// Both sides of one connection.
#[derive(Debug, Default)]
pub struct Line {
    arrived: Vec<u8>,
    /// Everything that the server has sent.
    pub sent: Vec<u8>,
    /// Bytes that the server has read and sent.
    pub moved: usize,
    /// Bytes that the server may still send before the peer reads.
    room: usize,
    peer_ended: bool,
    /// In both directions.
    pub is_reset: bool,
    /// The server has ended its half.
    pub server_ended: bool,
    /// The server has dropped its socket.
    pub is_dropped: bool,
    was_full: bool,
    edge: Readiness,
}

impl Line {
    /// The peer sends.
    pub fn send(&mut self, bytes: &[u8]) {
        if !self.peer_ended && !self.is_reset && !self.is_dropped && !bytes.is_empty() {
            self.arrived.extend_from_slice(bytes);
            self.edge.readable = true;
        }
    }

    /// The peer reads, so there is more room.
    pub fn make_room(&mut self, bytes: usize) {
        self.room = self.room.saturating_add(bytes);
        if bytes > 0 && std::mem::take(&mut self.was_full) {
            self.edge.writable = true;
        }
    }

    /// The peer ends its half.
    pub fn end(&mut self) {
        self.peer_ended = true;
        self.edge.readable = true;
        self.edge.read_closed = true;
    }

    /// The peer resets the connection.
    pub fn reset(&mut self) {
        self.is_reset = true;
        self.arrived.clear();
        self.edge = Readiness { readable: true, read_closed: true, writable: true };
    }

    /// The events to report to the server, once.
    pub fn take_edge(&mut self) -> Option<Readiness> {
        let edge = std::mem::take(&mut self.edge);
        (edge != Readiness::default() && !self.is_dropped).then_some(edge)
    }
}

/// The server's end of a [`Line`].
#[derive(Debug)]
pub struct End(pub Rc<RefCell<Line>>);

impl Read for End {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut line = self.0.borrow_mut();
        if line.is_reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let len = buffer.len().min(line.arrived.len());
        buffer[..len].copy_from_slice(&line.arrived[..len]);
        line.arrived.drain(..len);
        line.moved += len;
        if len > 0 || line.peer_ended { Ok(len) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }
}

impl Write for End {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut line = self.0.borrow_mut();
        assert!(!line.server_ended, "nothing is written after the end was told");
        assert!(!bytes.is_empty(), "nothing is written");
        if line.is_reset {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let len = bytes.len().min(line.room);
        if len == 0 {
            line.was_full = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        line.sent.extend_from_slice(&bytes[..len]);
        line.room -= len;
        line.moved += len;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket for End {
    fn shutdown_write(&mut self) -> io::Result<()> {
        let mut line = self.0.borrow_mut();
        if line.is_reset {
            return Err(io::ErrorKind::NotConnected.into());
        }
        line.server_ended = true;
        Ok(())
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.0.borrow_mut().is_dropped = true;
    }
}
