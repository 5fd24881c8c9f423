//! A WebSocket client without rules: the test decides every byte, and nothing is answered automatically.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;
use super::http::is_gone;

pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// The key of RFC 6455, section 1.3, and its answer.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// One connection, upgraded.
pub(crate) struct RawSocket {
    stream: TcpStream,
    received: Vec<u8>,
    /// Whether compression was negotiated.
    compresses: bool,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) last: bool,
    pub(crate) opcode: u8,
    /// Whether its payload is compressed.
    pub(crate) compressed: bool,
    pub(crate) payload: Vec<u8>,
}

impl RawSocket {
    /// Connects and completes the handshake.
    pub(crate) fn connect(addr: SocketAddr, target: &str) -> Self {
        let mut socket = Self::connect_and_send(addr, &upgrade(target));
        let head = socket.read_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "no WebSocket at {target}: {head}");
        socket
    }

    /// Connects, offers compression, and completes the handshake. Also returns what was negotiated.
    pub(crate) fn connect_offering(addr: SocketAddr, target: &str, offer: &str) -> (Self, Option<String>) {
        let fields = format!("Host: polecat.test\r\nSec-WebSocket-Extensions: {offer}\r\n");
        let mut socket = Self::connect_and_send(addr, &upgrade_with(target, &fields));
        let head = socket.read_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "no WebSocket at {target}: {head}");
        let agreed = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Extensions: "));
        socket.compresses = agreed.is_some();
        (socket, agreed.map(str::to_owned))
    }

    /// Connects and sends the bytes, which contain the request to upgrade.
    pub(crate) fn connect_and_send(addr: SocketAddr, bytes: &[u8]) -> Self {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE).expect("the server accepts a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream.set_write_timeout(Some(PATIENCE)).expect("a time-out");
        stream.set_nodelay(true).expect("no delay");
        let mut socket = Self { stream, received: Vec::new(), compresses: false };
        socket.send(bytes);
        socket
    }

    /// The head of the response to the upgrade.
    pub(crate) fn read_head(&mut self) -> String {
        let end = loop {
            match self.received.windows(4).position(|window| window == b"\r\n\r\n") {
                Some(place) => break place + 4,
                None => assert!(self.receive(), "the connection ended within the handshake"),
            }
        };
        String::from_utf8(self.received.drain(..end).collect()).expect("a head of ASCII")
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server takes what is sent");
    }

    /// Like [`Self::send`], but the server may have closed already.
    pub(crate) fn send_what_is_taken(&mut self, bytes: &[u8]) {
        if let Err(error) = self.stream.write_all(bytes) {
            assert!(is_gone(&error), "the server stopped reading: {error}");
        }
    }

    pub(crate) fn send_frame(&mut self, last: bool, opcode: u8, payload: &[u8]) {
        self.send(&frame(last, opcode, payload));
    }

    /// The next frame; `None` if the connection has ended.
    pub(crate) fn next_frame(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, len)) = parse(&self.received) {
                assert!(self.compresses || !frame.compressed, "compression was not agreed on");
                self.received.drain(..len);
                return Some(frame);
            }
            if !self.receive() {
                assert!(self.received.is_empty(), "the connection ended within a frame");
                return None;
            }
        }
    }

    /// The next frame that is neither Ping nor Pong.
    pub(crate) fn next_message(&mut self) -> Frame {
        loop {
            let frame = self.next_frame().expect("the connection was to stay open");
            if frame.opcode != PING && frame.opcode != PONG {
                return frame;
            }
        }
    }

    /// The code of the next Close; checks that the connection ends after it was answered. Earlier frames are
    /// skipped.
    pub(crate) fn expect_close(&mut self) -> u16 {
        loop {
            let frame = self.next_frame().expect("a Close was to come before the end");
            if frame.opcode == CLOSE {
                let code = u16::from_be_bytes([frame.payload[0], frame.payload[1]]);
                self.send_what_is_taken(&self::frame(true, CLOSE, &code.to_be_bytes()));
                assert_eq!(self.next_frame(), None, "nothing may follow a Close");
                return code;
            }
        }
    }

    /// The connection, and the bytes that were received and not yet parsed.
    pub(crate) fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.received)
    }

    pub(crate) const fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Whether more bytes came; `false` at the end of the connection.
    fn receive(&mut self) -> bool {
        let mut buffer = vec![0; 64 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(read) => {
                self.received.extend_from_slice(&buffer[..read]);
                read > 0
            }
            Err(error) if is_gone(&error) => false,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("nothing came in time"),
            Err(error) => panic!("{error}"),
        }
    }
}

/// A request to upgrade at `target`.
pub(crate) fn upgrade(target: &str) -> Vec<u8> {
    upgrade_with(target, "Host: polecat.test\r\n")
}

/// The same with `fields` instead of `Host`, each with its CRLF.
pub(crate) fn upgrade_with(target: &str, fields: &str) -> Vec<u8> {
    format!(
        "GET {target} HTTP/1.1\r\n{fields}Upgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )
    .into_bytes()
}

/// A masked frame as bytes.
pub(crate) fn frame(last: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut bytes = vec![if last { 0x80 | opcode } else { opcode }];
    match payload.len() {
        len @ 0..=125 => bytes.push(0x80 | u8::try_from(len).expect("it fits")),
        len @ 126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(len).expect("it fits").to_be_bytes());
        }
        len => {
            bytes.push(0x80 | 127);
            bytes.extend(u64::try_from(len).expect("it fits").to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The first frame of `bytes` and its length, if it is complete.
pub(crate) fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let head = bytes.first_chunk::<2>()?;
    assert_eq!(head[0] & 0x30, 0, "a server sets no bit that is reserved");
    assert_eq!(head[1] & 0x80, 0, "a server masks nothing");
    let (len, start) = match head[1] {
        126 => (u64::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?)), 4),
        127 => (u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?), 10),
        len => (u64::from(len), 2),
    };
    let end = start + usize::try_from(len).expect("a length");
    let payload = bytes.get(start..end)?.to_vec();
    let compressed = head[0] & 0x40 != 0;
    Some((Frame { last: head[0] & 0x80 != 0, opcode: head[0] & 0x0f, compressed, payload }, end))
}
