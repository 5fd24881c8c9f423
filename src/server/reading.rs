//! From the socket to whole requests and messages. There is one read buffer for
//! all: bytes are decoded where they land, and only an unfinished rest is copied.

use std::io;

use crate::base::id::Id;
use crate::base::limit::Limit;
use crate::store::engine::Engine;
use crate::wire::http::decoder::{Refusal, RequestDecoder, Status, begins_head};
use crate::wire::websocket::codec::{self, CloseCode};
use crate::wire::websocket::message::MessageDecoder;

use super::connection::{Decoder, Endpoint, Inbox, Phase, Queue, Reading};
use super::metrics::CloseReason;
use super::server::Server;
use super::socket::Socket;

/// What one step of decoding came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// So many bytes were used.
    Consumed(usize),
    /// So many bytes were used, and what follows them is WebSocket frames.
    Upgraded(usize),
    /// More bytes are needed.
    NeedMore,
}

/// Bytes that one connection may leave unfinished whatever the others do: the
/// beginning of a request, or of a small message.
const INBOX_BYTES_FREE: usize = 4 << 10;

/// Scratch space that is larger than this after its use is given back.
const SCRATCH_BYTES_KEPT: usize = 256 << 10;

impl<S: Socket, E: Engine> Server<S, E> {
    pub(super) fn read_all(&mut self) {
        let mut bytes_left = self.config.budgets.read_bytes;
        let mut buffer = std::mem::take(&mut self.read_buffer);
        // Who is queued again meanwhile has had its share of this turn.
        for _ in 0..self.config.budgets.reads.min(self.read_queue.len()) {
            if bytes_left == 0 {
                break;
            }
            let Some(id) = self.read_queue.pop_front() else { break };
            if let Some(connection) = self.find(id) {
                connection.queues.leave(Queue::Read);
                bytes_left = bytes_left.saturating_sub(self.read(id, &mut buffer));
            }
        }
        self.read_buffer = buffer;
    }

    /// Reads one connection until its socket is empty, its budget is used up, or it has
    /// to wait. Returns how many bytes were read.
    fn read(&mut self, id: Id, buffer: &mut [u8]) -> usize {
        let index = id.index;
        let mut read_bytes = 0;
        // First what was left undone when it had to wait.
        if self.at(index).inbox.is_some() {
            self.take_in(index, &mut []);
        }
        loop {
            let connection = self.at(index);
            let to_end = match connection.reading {
                Reading::Queued => false,
                Reading::QueuedToEmpty => true,
                _ => return read_bytes,
            };
            if read_bytes >= self.config.budgets.read_bytes_per_connection {
                self.put_in_read_queue(index);
                return read_bytes;
            }
            let inbox_bytes = self.at(index).inbox.as_ref().map_or(0, |inbox| inbox.bytes);
            let most = self.input_bytes_max(index, inbox_bytes).min(buffer.len());
            if most == 0 {
                self.read_with_room(index);
                return read_bytes;
            }
            match self.at(index).socket.read(&mut buffer[..most]) {
                Ok(0) => {
                    self.end_of_stream(index);
                    return read_bytes;
                }
                Ok(len) => {
                    read_bytes += len;
                    self.metrics.bytes_received += len as u64;
                    let now = self.moment.stamp;
                    self.at(index).heard = now;
                    self.take_in(index, &mut buffer[..len]);
                    // A short read has emptied the socket; whatever comes next
                    // comes with an event. That saves one system call each time.
                    let connection = self.at(index);
                    if len < most && !to_end && connection.reading == Reading::Queued {
                        connection.reading = Reading::Idle;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.at(index).reading = Reading::Idle;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.die(index, CloseReason::SocketError),
            }
        }
    }

    /// The peer will send no more. What it has asked for, it still gets.
    fn end_of_stream(&mut self, index: u32) {
        let connection = self.at(index);
        connection.reading = Reading::Over;
        match connection.phase {
            _ if connection.is_http() && connection.pending > 0 => {}
            _ if connection.is_http() && connection.outbox.is_some() => {
                self.finish(index, CloseReason::EndOfStream);
            }
            _ => self.die(index, CloseReason::EndOfStream),
        }
    }

    /// Decodes `input`, after what the inbox still holds, and sends the replies.
    fn take_in(&mut self, index: u32, input: &mut [u8]) {
        let connection = self.at(index);
        let fresh = match connection.phase {
            Phase::Handshake | Phase::Request | Phase::KeepAlive => Decoder::Http(RequestDecoder::default()),
            Phase::Open(_) | Phase::Closing => Decoder::WebSocket(MessageDecoder::default()),
            // What comes now is thrown away, but read: a socket that is closed
            // with bytes unread resets the connection.
            Phase::Ending(_) | Phase::Lingering(_) | Phase::Dead => return,
        };
        let mut inbox = match connection.inbox.take() {
            Some(inbox) => *inbox,
            None => Inbox { rest: Vec::new(), bytes: 0, decoder: fresh },
        };
        self.inboxes_bytes -= inbox.bytes;
        if inbox.rest.is_empty() {
            let consumed = self.decode(index, &mut inbox.decoder, input);
            inbox.rest.extend_from_slice(&input[consumed..]);
        } else {
            inbox.rest.extend_from_slice(input);
            let consumed = self.decode(index, &mut inbox.decoder, &mut inbox.rest);
            inbox.rest.drain(..consumed);
        }
        self.keep(index, inbox);
        self.send_scratch(index);
        self.settle_request(index);
    }

    /// Keeps what is unfinished for the next time.
    fn keep(&mut self, index: u32, mut inbox: Inbox) {
        // What follows a last request will not be looked at.
        let is_over = self.at(index).reading == Reading::Over
            || matches!(self.at(index).phase, Phase::Ending(_) | Phase::Lingering(_) | Phase::Dead);
        if is_over || (inbox.rest.is_empty() && inbox.decoder.is_idle()) {
            return;
        }
        if inbox.rest.is_empty() {
            inbox.rest = Vec::new();
        }
        inbox.bytes = inbox.rest.capacity() + inbox.decoder.buffered_bytes();
        if inbox.bytes > INBOX_BYTES_FREE
            && self.inboxes_bytes + inbox.bytes > self.config.limits.inboxes_bytes_max
        {
            return self.give_up_unfinished(index, &inbox.rest);
        }
        self.inboxes_bytes += inbox.bytes;
        self.at(index).inbox = Some(Box::new(inbox));
    }

    /// All together hold too much that is not finished: this one has to come again.
    fn give_up_unfinished(&mut self, index: u32, rest: &[u8]) {
        match self.at(index).phase {
            Phase::Open(_) => {
                codec::write_close(Some(CloseCode::Again), "too much is unfinished", &mut self.scratch);
                self.finish(index, CloseReason::Unfinished);
            }
            // It was told why already, and speaks no HTTP any more. Seed 819 of the simulator.
            Phase::Closing => self.finish(index, CloseReason::Unfinished),
            _ => {
                let refusal = Refusal::new(Status::SERVICE_UNAVAILABLE, "too much is unfinished");
                self.refuse(index, &refusal, begins_head(rest), CloseReason::Unfinished);
            }
        }
    }

    /// Decodes as much of `input` as there is and as may be worked on now.
    /// Returns how many bytes were used.
    fn decode(&mut self, index: u32, decoder: &mut Decoder, input: &mut [u8]) -> usize {
        let mut at = 0;
        while self.may_decode(index)
            && let Some(most) = self.may_be_answered(index, decoder, input.len() - at)
        {
            let end = at.saturating_add(most).min(input.len());
            let progress = match decoder {
                Decoder::Http(_) if at == end => Progress::NeedMore,
                Decoder::Http(decoder) => self.decode_request(index, decoder, &mut input[at..end]),
                Decoder::WebSocket(decoder) => self.decode_message(index, decoder, &mut input[at..end]),
            };
            match progress {
                Progress::Consumed(len) => at += len,
                Progress::Upgraded(len) => {
                    at += len;
                    *decoder = Decoder::WebSocket(MessageDecoder::default());
                }
                Progress::NeedMore => {
                    let is_held_up = end < input.len() && self.at(index).may_go_on();
                    if is_held_up {
                        self.read_with_room(index);
                    }
                    break;
                }
            }
        }
        at
    }

    /// How many of `len` bytes may be worked on, as far as there is room for the answers; `None` where
    /// none may, and the connection waits.
    fn may_be_answered(&mut self, index: u32, decoder: &Decoder, len: usize) -> Option<usize> {
        let buffered_bytes = if decoder.is_idle() { 0 } else { decoder.buffered_bytes() };
        let most = self.input_bytes_max(index, buffered_bytes);
        if most >= len {
            return Some(most);
        }
        // What its socket takes at once needs no room.
        self.send_scratch(index);
        let connection = self.at(index);
        if connection.phase == Phase::Dead {
            return None;
        }
        Some(self.input_bytes_max(index, buffered_bytes))
    }

    /// Whether the next request or message of a connection may be worked on; if
    /// not, its [`Reading`] says what it waits for.
    fn may_decode(&mut self, index: u32) -> bool {
        let outbox_bytes_max = self.config.limits.outbox_bytes_max;
        let connection = &mut self.connections[index as usize];
        if !connection.may_go_on() {
            return false;
        }
        let publishes = match connection.phase {
            Phase::Handshake | Phase::Request | Phase::KeepAlive | Phase::Open(Endpoint::Channel(_)) => true,
            Phase::Open(Endpoint::Events(_) | Endpoint::Echo) | Phase::Closing => false,
            Phase::Ending(_) | Phase::Lingering(_) | Phase::Dead => return false,
        };
        let is_over = self.engine_backlog_bytes >= self.config.limits.engine_backlog_bytes_max;
        let must_inflate = connection.encoding.window().is_some();
        let is_late = must_inflate && !self.encoders.may_read();
        if is_late || (publishes && (is_over || self.appends_left == 0)) {
            if publishes && is_over {
                self.metrics.limits.count(Limit::EngineBacklogBytes);
            }
            connection.reading = Reading::Stalled;
            let id = connection.id(index);
            self.stalled.push(id);
            return false;
        }
        if self.scratch.len() + connection.private_bytes() < outbox_bytes_max {
            return true;
        }
        self.send_scratch(index);
        let connection = self.at(index);
        if connection.private_bytes() >= outbox_bytes_max {
            connection.reading = Reading::Full;
            self.metrics.limits.count(Limit::OutboxBytes);
            return false;
        }
        connection.phase != Phase::Dead
    }

    /// Lets publishers go on when the engine has caught up.
    pub(super) fn resume_stalled(&mut self) {
        if self.engine_backlog_bytes >= self.config.limits.engine_backlog_bytes_max {
            return;
        }
        for id in std::mem::take(&mut self.stalled) {
            if self.find(id).is_some_and(|connection| connection.reading == Reading::Stalled) {
                self.queue_read(id.index);
            }
        }
    }

    /// Marks a connection to be read, whether or not its socket has told so.
    pub(super) fn queue_read(&mut self, index: u32) {
        let connection = self.at(index);
        debug_assert!(!matches!(connection.reading, Reading::Queued | Reading::QueuedToEmpty));
        connection.reading = Reading::QueuedToEmpty;
        self.put_in_read_queue(index);
    }

    /// Puts a connection in the queue, unless it is there: nobody is read twice in a turn.
    pub(super) fn put_in_read_queue(&mut self, index: u32) {
        let connection = self.at(index);
        if connection.queues.enter(Queue::Read) {
            let id = connection.id(index);
            self.read_queue.push_back(id);
        }
    }

    /// Gives the scratch space back, if one connection has made it large.
    pub(super) fn clear_scratch(&mut self) {
        self.scratch.clear();
        if self.scratch.capacity() > SCRATCH_BYTES_KEPT {
            self.scratch = Vec::new();
        }
    }
}
