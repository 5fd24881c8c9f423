//! From the socket to whole requests and messages. There is one read buffer for
//! all: bytes are decoded where they land, and only an unfinished rest is copied.

use std::io;

use crate::base::limit::Limit;
use crate::store::engine::Stream;
use crate::wire::http::decoder::{Refusal, Status, begins_head};
use crate::wire::websocket::codec::{self, CloseCode};
use crate::wire::websocket::message::MessageDecoder;

use super::connections::{CloseReason, Decoder, Phase, Protocol, ReadState};
use super::http::{Http, decode_request, refuse, settle_request};
use super::owners::Owners;
use super::progress::Progress;
use super::session::decode_message;
use super::socket::Socket;

/// Bytes read from a socket at once, into the one buffer that all share.
pub(super) const READ_BUFFER_BYTES: usize = 64 << 10;

pub(super) fn read_all<S: Socket>(owners: &mut Owners<S>, http: &mut Http, buffer: &mut [u8]) {
    let mut bytes_left = owners.config.budgets.read_bytes;
    // Connections re-queued during this pass wait for the next turn.
    let mut left = owners.config.budgets.reads.min(owners.connections.read_queue_len());
    while bytes_left > 0
        && let Some(index) = owners.connections.next_to_read(&mut left)
    {
        bytes_left = bytes_left.saturating_sub(read(owners, http, index, buffer));
    }
}

/// Reads one connection until its socket is empty, its budget is used up, or it has
/// to wait. Returns how many bytes were read.
fn read<S: Socket>(owners: &mut Owners<S>, http: &mut Http, index: u32, buffer: &mut [u8]) -> usize {
    let mut read_bytes = 0;
    // First the rest from before it had to wait.
    if owners.connections.at(index).unfinished().is_some() {
        take_in(owners, http, index, &mut []);
    }
    loop {
        let to_end = match owners.connections.at(index).read_state() {
            ReadState::Queued => false,
            ReadState::QueuedToEmpty => true,
            _ => return read_bytes,
        };
        if read_bytes >= owners.config.budgets.read_bytes_per_connection {
            owners.connections.read_on_later(index);
            return read_bytes;
        }
        let inbox_bytes = owners.connections.at(index).inbox_bytes();
        let most = owners.input_bytes_max(index, inbox_bytes).min(buffer.len());
        if most == 0 {
            owners.read_with_room(index);
            return read_bytes;
        }
        match owners.connections.read(index, &mut buffer[..most]) {
            Ok(0) => {
                end_of_stream(owners, index);
                return read_bytes;
            }
            Ok(len) => {
                read_bytes += len;
                owners.metrics.bytes_received += len as u64;
                take_in(owners, http, index, &mut buffer[..len]);
                // That saves one system call each time.
                if len < most && !to_end {
                    owners.connections.note_short_read(index);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => owners.abort(index, CloseReason::SocketError),
        }
    }
}

/// The peer will send no more. What it has asked for, it still gets.
fn end_of_stream<S: Socket>(owners: &mut Owners<S>, index: u32) {
    owners.connections.stop_reading(index);
    let connection = owners.connections.at(index);
    if connection.is_http() && connection.awaits_response() {
        return;
    }
    if connection.is_http() && connection.has_unsent() {
        owners.close_after_flush(index, CloseReason::EndOfStream);
    } else {
        owners.abort(index, CloseReason::EndOfStream);
    }
}

/// Decodes `input`, after what the inbox still holds, and sends the replies.
fn take_in<S: Socket>(owners: &mut Owners<S>, http: &mut Http, index: u32, input: &mut [u8]) {
    let Some(mut inbox) = owners.connections.take_inbox(index) else { return };
    owners.connections.begin_input(index);
    if inbox.rest.is_empty() {
        let consumed = decode(owners, http, index, &mut inbox.decoder, input);
        inbox.rest.extend_from_slice(&input[consumed..]);
    } else {
        inbox.rest.extend_from_slice(input);
        let consumed = decode(owners, http, index, &mut inbox.decoder, &mut inbox.rest);
        inbox.rest.drain(..consumed);
    }
    let bytes_max = owners.config.limits.inboxes_bytes_max;
    if let Err(rest) = owners.connections.keep_inbox(index, inbox, bytes_max) {
        give_up_unfinished(owners, index, &rest);
    }
    owners.connections.end_input();
    owners.send_output(index);
    settle_request(owners, index);
}

/// All connections together hold too much unfinished input: ends this one, whose client has to try again.
fn give_up_unfinished<S: Socket>(owners: &mut Owners<S>, index: u32, rest: &[u8]) {
    match owners.connections.at(index).phase() {
        Phase::Open(..) => {
            let output = owners.connections.output(index);
            codec::write_close(Some(CloseCode::Again), "too much is unfinished", output);
            owners.close_after_flush(index, CloseReason::Unfinished);
        }
        // It was told why already, and speaks no HTTP any more. Seed 819 of the simulator.
        Phase::Closing => owners.close_after_flush(index, CloseReason::Unfinished),
        _ => {
            let refusal = Refusal::new(Status::SERVICE_UNAVAILABLE, "too much is unfinished");
            refuse(owners, index, &refusal, begins_head(rest), CloseReason::Unfinished);
        }
    }
}

/// Decodes as much of `input` as there is and as may be worked on now.
/// Returns how many bytes were used.
fn decode<S: Socket>(
    owners: &mut Owners<S>,
    http: &mut Http,
    index: u32,
    decoder: &mut Decoder,
    input: &mut [u8],
) -> usize {
    let mut at = 0;
    while may_decode(owners, index)
        && let Some(most) = may_be_answered(owners, index, decoder, input.len() - at)
    {
        let end = at.saturating_add(most).min(input.len());
        let progress = match decoder {
            Decoder::Http(_) if at == end => Progress::NeedMore,
            Decoder::Http(decoder) => decode_request(owners, http, index, decoder, &mut input[at..end]),
            Decoder::WebSocket(decoder) => decode_message(owners, index, decoder, &mut input[at..end]),
        };
        match progress {
            Progress::Consumed(len) => at += len,
            Progress::Upgraded(len) => {
                at += len;
                *decoder = Decoder::WebSocket(MessageDecoder::default());
            }
            Progress::NeedMore => {
                let is_held_up = end < input.len() && owners.connections.at(index).may_go_on();
                if is_held_up {
                    owners.read_with_room(index);
                }
                break;
            }
        }
    }
    at
}

/// How many of `len` bytes may be worked on, as far as there is room for the answers; `None` if
/// none may, and the connection waits.
fn may_be_answered<S: Socket>(
    owners: &mut Owners<S>,
    index: u32,
    decoder: &Decoder,
    len: usize,
) -> Option<usize> {
    let buffered_bytes = if decoder.is_idle() { 0 } else { decoder.buffered_bytes() };
    let most = owners.input_bytes_max(index, buffered_bytes);
    if most >= len {
        return Some(most);
    }
    // What its socket takes at once needs no room.
    owners.send_output(index);
    if owners.connections.at(index).phase() == Phase::Dead {
        return None;
    }
    Some(owners.input_bytes_max(index, buffered_bytes))
}

/// Whether the next request or message of a connection may be worked on; if
/// not, its [`ReadState`] says what it waits for.
fn may_decode<S: Socket>(owners: &mut Owners<S>, index: u32) -> bool {
    let outbox_bytes_max = owners.config.limits.outbox_bytes_max;
    let connection = owners.connections.at(index);
    if !connection.may_go_on() {
        return false;
    }
    let publishes = match connection.phase() {
        // Of its requests, only POSTs are: see `decode_request`.
        Phase::Handshake | Phase::Request | Phase::KeepAlive => false,
        Phase::Open(Protocol::Many, _) => true,
        Phase::Open(Protocol::Base | Protocol::V1, _) => {
            matches!(owners.stream(index), Some(Stream::Channel(_)))
        }
        Phase::Open(Protocol::Echo, _) | Phase::Closing => false,
        Phase::Ending(_) | Phase::Lingering(_) | Phase::Dead => return false,
    };
    let must_inflate = connection.encoding().window().is_some();
    if must_inflate && !owners.encoders.may_read() {
        owners.connections.stall(index);
        return false;
    }
    if publishes && !owners.may_publish(index) {
        return false;
    }
    let private_bytes = owners.connections.at(index).private_bytes();
    if owners.connections.output(index).len() + private_bytes < outbox_bytes_max {
        return true;
    }
    owners.send_output(index);
    if !owners.connections.check_backpressure(index, outbox_bytes_max) {
        owners.metrics.limits.count(Limit::OutboxBytes);
        return false;
    }
    owners.connections.at(index).phase() != Phase::Dead
}
