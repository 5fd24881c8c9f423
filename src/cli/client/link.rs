//! A WebSocket with `polecat.v1` that never blocks: tungstenite's, over a socket that `poll` waits for.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use tungstenite::error::CapacityError;
use tungstenite::handshake::client::generate_key;
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tungstenite::{Error, Message, Utf8Bytes};

use crate::wire::reply::{self, Offer, accept_of, write_upgrade};
use crate::wire::v1::SUBPROTOCOL;

use super::server::{Failure, ServerFlags, excerpt};
use super::wait::{Awaited, Woken, wait};

/// The most bytes of a response's head, or of a refusal.
const HANDSHAKE_BYTES_MAX: usize = 64 << 10;

/// The longest message that is sent, whatever the server accepts.
pub(super) const SENT_BYTES_MAX: usize = 64 << 20;

pub(super) struct Link<'s> {
    server: &'s ServerFlags,
    socket: WebSocket<Stream>,
    has_unsent: bool,
}

pub(super) enum Got {
    Text(Utf8Bytes),
    /// Nothing of interest, and there may be more.
    Other,
    Nothing,
}

impl<'s> Link<'s> {
    /// Opens `target`, for messages of up to `message_bytes_max`.
    pub(super) fn open(
        server: &'s ServerFlags,
        target: &str,
        message_bytes_max: usize,
    ) -> Result<Self, Failure> {
        let mut stream = server.connect()?;
        let key = generate_key();
        let mut request = Vec::new();
        let offer = format!("Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n");
        write_upgrade(server.name(), &server.url.below(target), &key, &offer, &mut request);
        let mut buffer = Vec::new();
        server.exchange(&mut stream, &request, HANDSHAKE_BYTES_MAX, &mut buffer)?;
        let name = server.name();
        let Ok(Some(reply)) = reply::parse(&buffer) else {
            return Err(Failure::lasting(format!("{name} sent an incomplete response")));
        };
        if reply.status != 101 {
            return Err(server.refusal(reply.status, &reply.body));
        }
        let accept = accept_of(&key);
        let offer = Offer { accept: &accept, protocol: SUBPROTOCOL, deflate: false };
        reply.check_switching(offer).map_err(|fault| {
            Failure::lasting(format!("{name} answered the handshake incorrectly ({fault}); is it polecat?"))
        })?;
        if reply.protocol.is_empty() {
            return Err(Failure::lasting(format!(
                "{name} does not know {SUBPROTOCOL}, which this command needs"
            )));
        }
        let consumed = reply.consumed;
        stream.set_nonblocking(true).map_err(|error| server.broken(&error))?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(message_bytes_max))
            .max_frame_size(Some(message_bytes_max))
            .max_write_buffer_size(SENT_BYTES_MAX + (1 << 20));
        let rest = buffer.split_off(consumed);
        let now = Instant::now();
        let stream = Stream { stream, heard: now, sent: now };
        let socket = WebSocket::from_partially_read(stream, rest, Role::Client, Some(config));
        Ok(Self { server, socket, has_unsent: false })
    }

    pub(super) fn read(&mut self) -> Result<Got, Failure> {
        match self.socket.read() {
            Ok(Message::Text(text)) => Ok(Got::Text(text)),
            Ok(Message::Close(frame)) => Err(self.closed(frame)),
            Ok(_) => Ok(Got::Other),
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => Ok(Got::Nothing),
            Err(error) => Err(self.failure(error)),
        }
    }

    /// Takes in a message, to be sent by the next [`Self::flush`].
    pub(super) fn send(&mut self, text: &str) -> Result<(), Failure> {
        let written = self.socket.write(Message::text(text));
        self.note(written, self.has_unsent)
    }

    /// Sends as much as there is room for, including answers to Pings.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        let flushed = self.socket.flush();
        self.note(flushed, false)
    }

    /// Bytes that the socket does not take are kept and sent later; `has_unsent` is the state if it has taken
    /// them.
    fn note(&mut self, written: Result<(), Error>, has_unsent: bool) -> Result<(), Failure> {
        self.has_unsent = match written {
            Ok(()) => has_unsent,
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => true,
            Err(error) => return Err(self.failure(error)),
        };
        Ok(())
    }

    /// Sends a Close, as far as that is possible at once.
    pub(super) fn close(mut self) {
        let frame = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
        // A server that does not get it sees the end of the connection.
        let _ = self.socket.close(Some(frame));
    }

    pub(super) const fn has_unsent(&self) -> bool {
        self.has_unsent
    }

    /// When bytes last arrived.
    pub(super) fn heard(&self) -> Instant {
        self.socket.get_ref().heard
    }

    /// When the socket last took bytes.
    pub(super) fn sent(&self) -> Instant {
        self.socket.get_ref().sent
    }

    /// Waits for the socket, and for whatever else is requested.
    pub(super) fn wait(&self, awaited: Awaited<'_>, until: Instant) -> Result<Woken, Failure> {
        let stream = &self.socket.get_ref().stream;
        let awaited = Awaited { socket: Some(stream), room: self.has_unsent, ..awaited };
        wait(awaited, Some(until)).map_err(|error| Failure::lasting(format!("cannot wait: {error}")))
    }

    fn closed(&self, frame: Option<CloseFrame>) -> Failure {
        let name = self.server.name();
        let Some(frame) = frame else {
            return Failure::passing(format!("{name} has closed the connection"));
        };
        let code = u16::from(frame.code);
        let reason = excerpt(&frame.reason);
        let text = format!("{name} has closed the connection ({code} {reason})");
        let is_passing = !matches!(code, 1002 | 1003 | 1007 | 1009 | 1010 | 4400);
        Failure { text, is_passing, is_hasty: code == 1008 }
    }

    fn failure(&self, error: Error) -> Failure {
        let name = self.server.name();
        match error {
            Error::Io(error) => self.server.broken(&error),
            Error::ConnectionClosed | Error::AlreadyClosed => {
                Failure::passing(format!("{name} has closed the connection"))
            }
            Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => {
                Failure::passing(format!("{name} has ended the connection"))
            }
            Error::Capacity(CapacityError::MessageTooLong { size, max_size }) => Failure::lasting(format!(
                "{name} sent a message of {size} bytes or more, and the limit is {max_size}; raise \
                 --max-message-bytes"
            )),
            error => Failure::lasting(format!("{name} violated the WebSocket protocol: {error}")),
        }
    }
}

/// A socket that records when bytes last passed through it.
struct Stream {
    stream: TcpStream,
    heard: Instant,
    sent: Instant,
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        self.heard = Instant::now();
        Ok(read)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.stream.write(bytes)?;
        self.sent = Instant::now();
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
