//! Simulated connections: two byte queues between a client and the server, with the behaviour of a
//! non-blocking, edge-triggered socket.
//!
//! A read never returns less than it could: as with TCP, a short read means that the socket is empty. Which
//! bytes have arrived determines where reads are split.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::rc::Rc;

use polecat::server::socket::{Readiness, Socket};

use crate::health::HealthLog;
use crate::host::Host;
use crate::outflow::Outflow;

/// A client and the server share one of these for each connection.
pub(crate) type SharedWire = Rc<RefCell<Wire>>;

/// How a socket behaves.
#[derive(Debug, Clone)]
pub(crate) struct Manners {
    /// Bytes from the client that may be unread.
    pub(crate) arrived_max: usize,
    /// Bytes to the client that may be unread.
    pub(crate) down_max: usize,
    /// The most bytes that one write takes.
    pub(crate) write_max: usize,
    /// Whether every arrival is reported, or only one after a read found nothing more.
    pub(crate) tells_every_arrival: bool,
    /// Whether an edge also reports readiness that has not changed.
    pub(crate) tells_levels: bool,
    /// One call in this many is interrupted; 0 for none.
    pub(crate) interrupts_one_in: u32,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            arrived_max: 1 << 20,
            down_max: 256 << 10,
            write_max: usize::MAX,
            tells_every_arrival: true,
            tells_levels: false,
            interrupts_one_in: 0,
        }
    }
}

/// One connection, seen from both sides.
#[derive(Debug)]
pub(crate) struct Wire {
    manners: Manners,
    random: fastrand::Rng,
    arrived: VecDeque<u8>,
    client_ended: bool,
    client_gone: bool,
    end_is_read: bool,
    reset: bool,
    down: VecDeque<u8>,
    server_ended: bool,
    /// The server has dropped its socket.
    pub(crate) dropped: bool,
    edge: Readiness,
    /// A read has found the socket empty since the last edge.
    armed: bool,
    /// A write has found the socket full since it last had room.
    is_full: bool,
    host: Rc<Host>,
    /// The server has died while this was open.
    pub(crate) crashed: bool,
    /// The index of the store's health when the server last read, before its first write.
    health_before: usize,
    /// The state when the server first wrote.
    pub(crate) first_write: Option<FirstWrite>,
    /// Everything that the server has sent.
    pub(crate) outflow: Outflow,
    /// What the server did in this turn.
    pub(crate) work: Work,
}

/// The state when the server first wrote to a socket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FirstWrite {
    /// The newest message id and event id that its engine had reported.
    pub(crate) newest: [u64; 2],
    /// The oldest that the store kept.
    pub(crate) oldest: [u64; 2],
    /// The index of the store's health, and that when the server last read before.
    pub(crate) health: usize,
    pub(crate) health_before: usize,
}

/// The work of one turn on one socket.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Work {
    pub(crate) read_bytes: usize,
    pub(crate) read_calls: usize,
    /// Bytes that were read before the last of these calls.
    pub(crate) read_before: usize,
    pub(crate) write_bytes: usize,
    pub(crate) write_calls: usize,
}

impl Wire {
    pub(crate) fn new(manners: Manners, seed: u64, host: Rc<Host>) -> Self {
        Self {
            manners,
            random: fastrand::Rng::with_seed(seed),
            arrived: VecDeque::new(),
            client_ended: false,
            client_gone: false,
            end_is_read: false,
            reset: false,
            down: VecDeque::new(),
            server_ended: false,
            dropped: false,
            // The first events of a socket after its registration.
            edge: Readiness { readable: false, read_closed: false, writable: true },
            armed: true,
            is_full: false,
            host,
            crashed: false,
            health_before: 0,
            first_write: None,
            outflow: Outflow::new(),
            work: Work::default(),
        }
    }

    /// The server at the other end.
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// Takes as many of the first `len` bytes of `out` as fit.
    pub(crate) fn send(&mut self, out: &mut VecDeque<u8>, len: usize) -> usize {
        if self.dropped || self.reset || self.client_ended {
            let lost = out.len();
            out.clear();
            return lost;
        }
        let len = len.min(out.len()).min(self.manners.arrived_max - self.arrived.len());
        if len > 0 {
            self.arrived.extend(&out.make_contiguous()[..len]);
            out.drain(..len);
            if self.armed || self.manners.tells_every_arrival {
                self.armed = false;
                self.edge.readable = true;
            }
        }
        len
    }

    /// Takes at most `len` bytes that the server has sent.
    pub(crate) fn receive(&mut self, len: usize) -> Vec<u8> {
        let len = len.min(self.down.len());
        let bytes = self.down.make_contiguous()[..len].to_vec();
        self.down.drain(..len);
        if !bytes.is_empty() && self.is_full {
            self.is_full = false;
            self.edge.writable = true;
        }
        bytes
    }

    /// From now on, holds at most this many bytes for the client.
    pub(crate) fn set_room(&mut self, down_max: usize) {
        self.manners.down_max = down_max;
    }

    /// From now on, behaves well.
    pub(crate) fn relax(&mut self) {
        self.manners = Manners { tells_levels: self.manners.tells_levels, ..Manners::default() };
        if std::mem::take(&mut self.is_full) {
            self.edge.writable = true;
        }
    }

    /// Reports that the socket is ready, whether or not it is.
    pub(crate) fn pretend(&mut self) {
        self.edge.readable = true;
        self.edge.writable = true;
    }

    /// Whether the server has yet to read bytes that have arrived.
    pub(crate) fn is_unread(&self) -> bool {
        !self.arrived.is_empty()
    }

    /// From now on, another process has its end.
    pub(crate) fn move_to(&mut self, host: &Rc<Host>) {
        self.host = Rc::clone(host);
    }

    /// Bytes that wait for the client.
    pub(crate) fn waiting(&self) -> usize {
        self.down.len()
    }

    /// Whether the client has seen the end of what the server sent: a shutdown of its half, or a reset.
    pub(crate) fn is_over(&self) -> bool {
        self.reset || (self.down.is_empty() && (self.server_ended || self.dropped))
    }

    /// The client ends its half.
    pub(crate) fn end(&mut self) {
        if !self.client_ended {
            self.host.shared.count_event();
            self.client_ended = true;
            self.edge.readable = true;
            self.edge.read_closed = true;
        }
    }

    /// The client closes its socket: bytes that it is sent from now on are answered by a reset.
    pub(crate) fn close(&mut self) {
        self.end();
        self.client_gone = true;
        if !self.down.is_empty() {
            self.abort();
        }
    }

    /// A reset, in both directions.
    pub(crate) fn abort(&mut self) {
        self.host.shared.count_event();
        self.reset = true;
        self.arrived.clear();
        self.down.clear();
        self.edge = Readiness { readable: true, read_closed: true, writable: true };
    }

    /// Whether there are bytes that the server has not read, or an end that it has not seen.
    pub(crate) fn has_unread(&self) -> bool {
        !self.arrived.is_empty() || (self.client_ended && !self.end_is_read) || self.reset
    }

    /// Whether a write has found no room, and there is none yet.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Whether the server has said that it sends no more.
    pub(crate) fn has_server_ended(&self) -> bool {
        self.server_ended
    }

    /// Whether there is an event to report to the server.
    pub(crate) fn has_edge(&self) -> bool {
        self.edge != Readiness::default()
    }

    /// The events to report to the server, once.
    pub(crate) fn take_edge(&mut self) -> Readiness {
        self.host.shared.count_event();
        let mut edge = std::mem::take(&mut self.edge);
        if self.manners.tells_levels {
            edge.readable |= !self.arrived.is_empty();
            edge.read_closed |= self.client_ended;
            edge.writable |= self.down.len() < self.manners.down_max;
        }
        edge
    }

    /// The history of the health of the server's store.
    pub(crate) fn health_log(&self) -> Rc<HealthLog> {
        Rc::clone(&self.host.health)
    }

    fn interrupted(&mut self) -> io::Result<()> {
        let one_in = self.manners.interrupts_one_in;
        if one_in > 0 && self.random.u32(..one_in) == 0 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.host.shared.count_event();
        self.interrupted()?;
        self.work.read_calls += 1;
        self.work.read_before = self.work.read_bytes;
        self.health_before = self.host.health.newest();
        if !self.host.step() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if self.reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let len = buffer.len().min(self.arrived.len());
        buffer[..len].copy_from_slice(&self.arrived.make_contiguous()[..len]);
        self.arrived.drain(..len);
        self.work.read_bytes += len;
        self.armed |= len < buffer.len();
        self.end_is_read |= len == 0 && self.client_ended;
        if len > 0 || self.client_ended { Ok(len) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.host.shared.count_event();
        self.interrupted()?;
        self.work.write_calls += 1;
        assert!(!self.server_ended || self.host.is_dead(), "nothing is written after the end was told");
        if self.reset {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let room = self.manners.down_max.saturating_sub(self.down.len());
        if room == 0 {
            self.is_full = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        if !self.host.step() {
            // The writes of a dead process reach nobody.
            return Ok(offered);
        }
        assert!(offered > 0, "nothing is written");
        let some = if self.manners.write_max == usize::MAX {
            usize::MAX
        } else {
            self.random.usize(1..=self.manners.write_max)
        };
        let len = offered.min(room).min(some);
        let (newest, oldest) = (self.host.announced.get(), self.host.shared.oldest.get());
        let (health, health_before) = (self.host.health.newest(), self.health_before);
        self.first_write.get_or_insert(FirstWrite { newest, oldest, health, health_before });
        if self.client_gone {
            self.abort();
            return Ok(len);
        }
        let mut left = len;
        for slice in slices {
            let part = left.min(slice.len());
            self.down.extend(&slice[..part]);
            self.outflow.take(&slice[..part]);
            left -= part;
        }
        self.work.write_bytes += len;
        Ok(len)
    }
}

/// The server's end of a [`Wire`].
#[derive(Debug)]
pub(crate) struct Pipe(pub(crate) SharedWire);

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.borrow_mut().read(buffer)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.borrow_mut().write(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket for Pipe {
    fn shutdown_write(&mut self) -> io::Result<()> {
        let mut wire = self.0.borrow_mut();
        if wire.host.is_dead() {
            return Ok(());
        }
        if wire.reset {
            return Err(io::ErrorKind::NotConnected.into());
        }
        wire.server_ended = true;
        Ok(())
    }
}

impl Drop for Pipe {
    /// If a socket is dropped with bytes unread, it resets the connection, and bytes that the peer has not
    /// read yet are lost.
    fn drop(&mut self) {
        let mut wire = self.0.borrow_mut();
        if !wire.arrived.is_empty() {
            wire.abort();
        }
        wire.dropped = true;
        wire.edge = Readiness::default();
    }
}
