//! The only way to write to a peer. Bytes for one connection alone are collected as its output. They are offered to its
//! socket, or put behind the bytes that wait. Frames that it shares with others are written without a copy.

use std::io::{self, IoSlice};

use crate::base::frame::Frame;
use crate::hub::entry::Entry;

use super::connection::{Phase, ReadState, WriteState};
use super::owner::Connections;
use crate::server::batch::{Batch, Range};
use crate::server::socket::Socket;

/// Frames that go out by one gathered write.
pub(in crate::server) const GATHER_MAX: usize = 64;

/// Room for output that is larger than this after its use is given back.
const OUTPUT_BYTES_KEPT: usize = 256 << 10;

/// What one attempt to write came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Sent {
    /// This many bytes went out; there may be more to send.
    Bytes(usize),
    /// This many bytes went out, and with them everything that was to be sent.
    All(usize),
    /// There was nothing to send.
    Nothing,
    /// The socket is full.
    Blocked,
    /// The cursor is behind the log.
    Behind,
    /// The next message is not encoded yet, and no more are encoded in this turn.
    Later,
    /// The socket has failed.
    Failed,
}

impl Sent {
    /// The same, if everything was sent.
    const fn as_all(self) -> Self {
        match self {
            Self::Bytes(len) => Self::All(len),
            sent => sent,
        }
    }
}

/// What a write of frames came to.
#[derive(Debug, Clone, Copy)]
pub(in crate::server) struct Written {
    pub(in crate::server) sent: Sent,
    /// Frames that went out, the last one at least in part.
    pub(in crate::server) delivered: usize,
    /// The id up to which its receiver has been sent everything; `None` if nothing went out.
    pub(in crate::server) reached: Option<u64>,
}

impl<S> Connections<S> {
    /// The output of the connection at `index`, to append to. [`Self::send_output`] or [`Self::push_output`] sends it.
    pub(in crate::server) fn output(&mut self, index: u32) -> &mut Vec<u8> {
        debug_assert!(self.receiving.is_none_or(|receiving| receiving == index), "output for two at once");
        &mut self.output
    }

    /// The input of a connection is worked on: its output is sent when that is done.
    pub(in crate::server) fn begin_input(&mut self, index: u32) {
        debug_assert!(self.output.is_empty(), "output is sent");
        self.receiving = Some(index);
    }

    /// The input of a connection was worked on.
    pub(in crate::server) const fn end_input(&mut self) {
        self.receiving = None;
    }

    /// Whether the input of a connection is being worked on.
    pub(in crate::server) fn is_receiving(&self, index: u32) -> bool {
        self.receiving == Some(index)
    }

    /// Puts the output behind all that waits to be sent.
    pub(in crate::server) fn push_output(&mut self, index: u32) {
        let output = std::mem::take(&mut self.output);
        self.push(index, &output);
        self.put_back(output);
    }

    fn put_back(&mut self, mut output: Vec<u8>) {
        output.clear();
        self.output = if output.capacity() > OUTPUT_BYTES_KEPT { Vec::new() } else { output };
    }

    /// Puts a copy of `bytes` behind all that waits to be sent to a connection.
    pub(in crate::server) fn push(&mut self, index: u32, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.unsent.change(&mut self.slab, index, self.now, |outbox| outbox.push(bytes));
        }
    }

    /// Puts what is part of the binary behind all that waits to be sent to a connection.
    pub(in crate::server) fn push_static(&mut self, index: u32, bytes: &'static [u8]) {
        if !bytes.is_empty() {
            self.unsent.change(&mut self.slab, index, self.now, |outbox| outbox.push_static(bytes));
        }
    }

    /// Puts what others are sent, too, behind all that waits to be sent to a connection.
    pub(in crate::server) fn push_shared(&mut self, index: u32, frame: Frame) {
        self.unsent.push_shared(&mut self.slab, index, self.now, frame);
    }
}

impl<S: Socket> Connections<S> {
    /// Sends the output: at once if nothing else is waiting to be sent, else behind that. Returns
    /// [`Sent::Bytes`], [`Sent::Failed`], or that nothing went out.
    pub(in crate::server) fn send_output(&mut self, index: u32) -> Sent {
        let mut result = Sent::Nothing;
        if !self.output.is_empty() {
            let output = std::mem::take(&mut self.output);
            let connection = &mut self.slab[index as usize];
            if connection.phase != Phase::Dead {
                let mut taken = 0;
                if connection.outbox.is_none() && connection.writing != WriteState::Blocked {
                    result = write(&mut connection.socket, |socket| socket.write(&output));
                    if let Sent::Bytes(len) = result {
                        taken = len;
                    }
                }
                if result == Sent::Failed {
                    self.put_back(output);
                    return result;
                } else if taken == 0 {
                    self.push(index, &output);
                } else {
                    self.unsent.push_rest(&mut self.slab, index, self.now, (&output, taken));
                }
            }
            self.put_back(output);
        }
        let connection = self.at(index);
        if connection.outbox.is_some() || matches!(connection.phase, Phase::Ending(_)) {
            self.queue_flush(index);
        }
        result
    }

    /// One read from a socket. Bytes are a sign of life; a socket that is empty is waited for.
    pub(in crate::server) fn read(&mut self, index: u32, buffer: &mut [u8]) -> io::Result<usize> {
        let connection = &mut self.slab[index as usize];
        loop {
            match connection.socket.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.set_reading(index, ReadState::Idle);
                    return Err(error);
                }
                Ok(len) if len > 0 => {
                    connection.heard = self.now;
                    return Ok(len);
                }
                other => return other,
            }
        }
    }

    /// One write of what waits in the outbox, at most `budget` bytes; `None` if nothing does.
    #[inline]
    pub(in crate::server) fn flush_outbox(&mut self, index: u32, budget: usize) -> Option<Sent> {
        let connection = &mut self.slab[index as usize];
        let front = connection.outbox.as_ref()?.front();
        let sent = write(&mut connection.socket, |socket| socket.write(&front[..front.len().min(budget)]));
        if let Sent::Bytes(len) = sent {
            self.unsent.consume(&mut self.slab, index, self.now, len);
            // However much its channel still holds for it: its unread
            // input may hold the answer to a ping.
            let connection = self.at(index);
            if connection.outbox.is_none() && connection.reading == ReadState::Backpressured {
                self.queue_read(index);
            }
            // A peer that reads a response, or the rest before a Close, is waited for.
            if matches!(self.at(index).phase, Phase::Request | Phase::Closing | Phase::Ending(_)) {
                self.restart_deadline(index);
            }
        }
        Some(sent)
    }

    /// Writes messages that a connection has not been sent, from its cursor on, in its encoding. A frame that went out in
    /// part counts as sent: its rest goes before everything else. Messages that others get, too, are
    /// taken from `batch`, given with the serial number of their channel.
    pub(in crate::server) fn write_entries<'a>(
        &mut self,
        index: u32,
        mut entries: impl ExactSizeIterator<Item = &'a Entry> + DoubleEndedIterator + Clone,
        budget: usize,
        batch: Option<(&mut Batch, u64)>,
    ) -> Written {
        let connection = &mut self.slab[index as usize];
        let encoding = connection.encoding;
        let is_one = entries.len() == 1;
        let last = entries.clone().next_back().map_or(0, |entry| entry.id);
        let frames = entries.clone().map_while(|entry| Some((entry.id, entry.frame(encoding)?)));
        let sent = match frames.clone().next() {
            None => Sent::Later,
            Some((_, one)) if is_one || one.len() >= budget => {
                write(&mut connection.socket, |socket| socket.write(one))
            }
            Some((first, _)) => {
                let together = batch.and_then(|(batch, serial)| {
                    let range = Range { serial, encoding, first, last };
                    let (bytes, count, through) = batch.of(range, frames.clone())?;
                    (bytes.len() <= budget).then(|| {
                        let sent = write(&mut connection.socket, |socket| socket.write(bytes));
                        let is_whole = matches!(sent, Sent::Bytes(len) if len == bytes.len());
                        (sent, is_whole.then_some((count, through)))
                    })
                });
                match together {
                    Some((sent, Some((delivered, through)))) => {
                        let sent = if through == last { sent.as_all() } else { sent };
                        return Written { sent, delivered, reached: Some(through) };
                    }
                    Some((sent, None)) => sent,
                    None => write_gathered(&mut connection.socket, frames.clone(), budget),
                }
            }
        };
        let (mut delivered, mut reached, mut next, mut is_whole) = (0, None, None, true);
        let mut left = if let Sent::Bytes(len) = sent { len } else { 0 };
        for (id, frame) in frames {
            if left == 0 {
                next = Some(id);
                break;
            }
            delivered += 1;
            reached = Some(id);
            if left < frame.len() {
                is_whole = false;
                self.unsent.push_shared_rest(&mut self.slab, index, self.now, (frame.clone(), left));
                next = entries.nth(delivered).map(|entry| entry.id);
                break;
            }
            left -= frame.len();
        }
        // Its channel has nothing before the next message that it has not got: if what is there is deleted, it misses
        // nothing.
        let sent = if is_whole && reached == Some(last) { sent.as_all() } else { sent };
        Written { sent, delivered, reached: next.map(|next| next - 1).or(reached) }
    }
}

/// One write of several frames.
fn write_gathered<'a, S: Socket>(
    socket: &mut S,
    frames: impl Iterator<Item = (u64, &'a Frame)>,
    budget: usize,
) -> Sent {
    let mut slices = [IoSlice::new(&[]); GATHER_MAX];
    let mut count = 0;
    let mut bytes = 0;
    for (_, frame) in frames {
        if count == GATHER_MAX || bytes >= budget {
            break;
        }
        slices[count] = IoSlice::new(frame);
        count += 1;
        bytes += frame.len();
    }
    write(socket, |socket| socket.write_vectored(&slices[..count]))
}

/// One write, its outcome sorted. A socket that takes nothing has failed.
fn write<S: Socket>(socket: &mut S, mut attempt: impl FnMut(&mut S) -> io::Result<usize>) -> Sent {
    loop {
        match attempt(socket) {
            Ok(0) => return Sent::Failed,
            Ok(len) => return Sent::Bytes(len),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Sent::Blocked,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Sent::Failed,
        }
    }
}
