//! TCP connections as the state machines see them.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};

use mio::event::Event;
use mio::net::TcpStream;

use crate::server::socket::{Readiness, Socket};

#[derive(Debug)]
pub(crate) struct TcpSocket(pub(crate) TcpStream);

// As small as `server::connection` assumes; a debug build of mio keeps more.
#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<TcpSocket>() == 4);

impl Read for TcpSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for TcpSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket for TcpSocket {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }

    fn peer(&self) -> Option<SocketAddr> {
        let peer = self.0.peer_addr().ok()?;
        Some(SocketAddr::new(peer.ip().to_canonical(), peer.port()))
    }
}

/// What a poll reports about a connection.
pub(crate) fn readiness(event: &Event) -> Readiness {
    Readiness {
        readable: event.is_readable() || event.is_error(),
        read_closed: event.is_read_closed() || event.is_error(),
        writable: event.is_writable() || event.is_error(),
    }
}
