//! From the socket to whole requests and messages. There is one read buffer for
//! all: bytes are decoded where they land, and only an unfinished rest is copied.

use std::io;

use crate::base::limit::Limit;
use crate::wire::http::decoder::{Refusal, Status, begins_head};
use crate::wire::websocket::codec::{self, CloseCode};
use crate::wire::websocket::message::MessageDecoder;

use super::connections::{CloseReason, Decoder, Endpoint, Phase, ReadState, Sent};
use super::server::Server;
use super::socket::Socket;

/// What one step of decoding came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// This many bytes were used.
    Consumed(usize),
    /// This many bytes were used, and WebSocket frames follow them.
    Upgraded(usize),
    /// More bytes are needed.
    NeedMore,
}

impl<S: Socket> Server<S> {
    pub(super) fn read_all(&mut self) {
        let mut bytes_left = self.config.budgets.read_bytes;
        let mut buffer = std::mem::take(&mut self.read_buffer);
        // Connections re-queued during this pass wait for the next turn.
        let mut left = self.config.budgets.reads.min(self.connections.read_queue_len());
        while bytes_left > 0
            && let Some(index) = self.connections.next_to_read(&mut left)
        {
            bytes_left = bytes_left.saturating_sub(self.read(index, &mut buffer));
        }
        self.read_buffer = buffer;
    }

    /// Reads one connection until its socket is empty, its budget is used up, or it has
    /// to wait. Returns how many bytes were read.
    fn read(&mut self, index: u32, buffer: &mut [u8]) -> usize {
        let mut read_bytes = 0;
        // First the rest from before it had to wait.
        if self.connections.at(index).unfinished().is_some() {
            self.take_in(index, &mut []);
        }
        loop {
            let to_end = match self.connections.at(index).read_state() {
                ReadState::Queued => false,
                ReadState::QueuedToEmpty => true,
                _ => return read_bytes,
            };
            if read_bytes >= self.config.budgets.read_bytes_per_connection {
                self.connections.read_on_later(index);
                return read_bytes;
            }
            let inbox_bytes = self.connections.at(index).inbox_bytes();
            let most = self.input_bytes_max(index, inbox_bytes).min(buffer.len());
            if most == 0 {
                self.read_with_room(index);
                return read_bytes;
            }
            match self.connections.read(index, &mut buffer[..most]) {
                Ok(0) => {
                    self.end_of_stream(index);
                    return read_bytes;
                }
                Ok(len) => {
                    read_bytes += len;
                    self.metrics.bytes_received += len as u64;
                    self.take_in(index, &mut buffer[..len]);
                    // That saves one system call each time.
                    if len < most && !to_end {
                        self.connections.note_short_read(index);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => self.abort(index, CloseReason::SocketError),
            }
        }
    }

    /// The peer will send no more. What it has asked for, it still gets.
    fn end_of_stream(&mut self, index: u32) {
        self.connections.stop_reading(index);
        let connection = self.connections.at(index);
        if connection.is_http() && connection.awaits_response() {
            return;
        }
        if connection.is_http() && connection.has_unsent() {
            self.close_after_flush(index, CloseReason::EndOfStream);
        } else {
            self.abort(index, CloseReason::EndOfStream);
        }
    }

    /// Decodes `input`, after what the inbox still holds, and sends the replies.
    fn take_in(&mut self, index: u32, input: &mut [u8]) {
        let Some(mut inbox) = self.connections.take_inbox(index) else { return };
        self.connections.begin_input(index);
        if inbox.rest.is_empty() {
            let consumed = self.decode(index, &mut inbox.decoder, input);
            inbox.rest.extend_from_slice(&input[consumed..]);
        } else {
            inbox.rest.extend_from_slice(input);
            let consumed = self.decode(index, &mut inbox.decoder, &mut inbox.rest);
            inbox.rest.drain(..consumed);
        }
        let bytes_max = self.config.limits.inboxes_bytes_max;
        if let Err(rest) = self.connections.keep_inbox(index, inbox, bytes_max) {
            self.give_up_unfinished(index, &rest);
        }
        self.connections.end_input();
        self.send_output(index);
        self.settle_request(index);
    }

    /// All connections together hold too much unfinished input: ends this one, whose client has to try again.
    fn give_up_unfinished(&mut self, index: u32, rest: &[u8]) {
        match self.connections.at(index).phase() {
            Phase::Open(_) => {
                let output = self.connections.output(index);
                codec::write_close(Some(CloseCode::Again), "too much is unfinished", output);
                self.close_after_flush(index, CloseReason::Unfinished);
            }
            // It was told why already, and speaks no HTTP any more. Seed 819 of the simulator.
            Phase::Closing => self.close_after_flush(index, CloseReason::Unfinished),
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
                    let is_held_up = end < input.len() && self.connections.at(index).may_go_on();
                    if is_held_up {
                        self.read_with_room(index);
                    }
                    break;
                }
            }
        }
        at
    }

    /// How many of `len` bytes may be worked on, as far as there is room for the answers; `None` if
    /// none may, and the connection waits.
    fn may_be_answered(&mut self, index: u32, decoder: &Decoder, len: usize) -> Option<usize> {
        let buffered_bytes = if decoder.is_idle() { 0 } else { decoder.buffered_bytes() };
        let most = self.input_bytes_max(index, buffered_bytes);
        if most >= len {
            return Some(most);
        }
        // What its socket takes at once needs no room.
        self.send_output(index);
        if self.connections.at(index).phase() == Phase::Dead {
            return None;
        }
        Some(self.input_bytes_max(index, buffered_bytes))
    }

    /// Whether the next request or message of a connection may be worked on; if
    /// not, its [`ReadState`] says what it waits for.
    fn may_decode(&mut self, index: u32) -> bool {
        let outbox_bytes_max = self.config.limits.outbox_bytes_max;
        let connection = self.connections.at(index);
        if !connection.may_go_on() {
            return false;
        }
        let publishes = match connection.phase() {
            Phase::Handshake | Phase::Request | Phase::KeepAlive | Phase::Open(Endpoint::Channel(_)) => true,
            Phase::Open(Endpoint::Events(_) | Endpoint::Echo) | Phase::Closing => false,
            Phase::Ending(_) | Phase::Lingering(_) | Phase::Dead => return false,
        };
        let is_over = self.store.is_behind();
        let must_inflate = connection.encoding().window().is_some();
        let is_late = must_inflate && !self.encoders.may_read();
        if is_late || (publishes && !self.store.may_append()) {
            if publishes && is_over {
                self.metrics.limits.count(Limit::EngineBacklogBytes);
            }
            self.connections.stall(index);
            return false;
        }
        let private_bytes = connection.private_bytes();
        if self.connections.output(index).len() + private_bytes < outbox_bytes_max {
            return true;
        }
        self.send_output(index);
        if !self.connections.check_backpressure(index, outbox_bytes_max) {
            self.metrics.limits.count(Limit::OutboxBytes);
            return false;
        }
        self.connections.at(index).phase() != Phase::Dead
    }

    /// Lets publishers go on when the engine has caught up.
    pub(super) fn resume_stalled(&mut self) {
        if !self.store.is_behind() {
            self.connections.resume_stalled();
        }
    }

    /// Sends what was written for a connection.
    pub(super) fn send_output(&mut self, index: u32) {
        match self.connections.send_output(index) {
            Sent::Bytes(len) => self.metrics.bytes_sent += len as u64,
            Sent::Failed => self.abort(index, CloseReason::SocketError),
            _ => {}
        }
    }
}
