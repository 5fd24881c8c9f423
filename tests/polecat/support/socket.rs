//! A WebSocket client that follows the rules, based on tungstenite's blocking client.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::HandshakeError;
use tungstenite::http::HeaderValue;
use tungstenite::http::header::HeaderName;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Error, Message, WebSocket};

use super::http::is_gone;
use super::schema::check_message;
use super::{PATIENCE, post};

/// One open WebSocket.
pub(crate) struct Socket {
    inner: WebSocket<TcpStream>,
    addr: SocketAddr,
    /// The request's path, without a query.
    path: String,
    handshake: Vec<(String, String)>,
}

impl Socket {
    pub(crate) fn connect(addr: SocketAddr, target: &str) -> Self {
        Self::connect_with(addr, target, &[])
    }

    pub(crate) fn connect_with(addr: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Self {
        match Self::try_connect(addr, target, headers) {
            Ok(socket) => socket,
            Err(error) => panic!("no WebSocket at {target}: {error}"),
        }
    }

    /// Connects with the subprotocol `polecat.v1`, which must be selected.
    pub(crate) fn connect_v1(addr: SocketAddr, target: &str) -> Self {
        let socket = Self::connect_with(addr, target, &[("Sec-WebSocket-Protocol", "polecat.v1")]);
        assert_eq!(socket.header("sec-websocket-protocol"), Some("polecat.v1"));
        socket
    }

    pub(crate) fn try_connect(
        addr: SocketAddr,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, Error> {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut request = format!("ws://{addr}{target}").into_client_request()?;
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
            request.headers_mut().insert(name, HeaderValue::from_str(value).expect("a header value"));
        }
        let (inner, response) = match tungstenite::client(request, stream) {
            Ok(opened) => opened,
            Err(HandshakeError::Failure(error)) => return Err(error),
            Err(HandshakeError::Interrupted(_)) => panic!("the handshake at {target} is not answered"),
        };
        let headers = response.headers().iter();
        let handshake = headers.map(|(name, value)| (name.to_string(), text(value))).collect();
        let path = target.split('?').next().unwrap_or_default().to_owned();
        Ok(Self { inner, addr, path, handshake })
    }

    /// A header of the 101, whose name is given in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.handshake.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn send_json(&mut self, value: &Value) {
        self.send_text(&value.to_string());
    }

    pub(crate) fn send_text(&mut self, text: &str) {
        self.send(Message::text(text));
    }

    pub(crate) fn send(&mut self, message: Message) {
        self.inner.send(message).expect("the server takes a message");
    }

    pub(crate) fn try_send_json(&mut self, value: &Value) -> Result<(), Error> {
        self.inner.send(Message::text(value.to_string()))
    }

    /// The next message of any kind.
    pub(crate) fn read(&mut self) -> Message {
        match self.try_read() {
            Ok(message) => message,
            Err(error) => panic!("{} was to get a message: {error}", self.path),
        }
    }

    /// The next message; an error if the connection has ended. Fails the test if nothing comes in time.
    pub(crate) fn try_read(&mut self) -> Result<Message, Error> {
        match self.inner.read() {
            Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("{} was to get a message, but none came", self.path)
            }
            other => other,
        }
    }

    /// The next text or binary message.
    pub(crate) fn next_message(&mut self) -> Message {
        loop {
            match self.read() {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }

    /// The next message as it is on the wire; it must be text.
    pub(crate) fn next_text(&mut self) -> String {
        match self.next_message() {
            Message::Text(text) => text.as_str().to_owned(),
            other => panic!("{} was to get text, not {other:?}", self.path),
        }
    }

    pub(crate) fn next_json(&mut self) -> Value {
        let text = self.next_text();
        let message = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"));
        check_message(&self.path, &message);
        message
    }

    /// The next message that is not a heartbeat.
    pub(crate) fn next(&mut self) -> Value {
        loop {
            let message = self.next_json();
            if message["type"] != "heartbeat" {
                return message;
            }
        }
    }

    /// The next message that is not a heartbeat; it must be of type `kind`.
    pub(crate) fn next_of_type(&mut self, kind: &str) -> Value {
        let message = self.next();
        assert_eq!(message["type"], kind, "{message}");
        message
    }

    /// The payload of the next message that is not a heartbeat, of type `kind`.
    pub(crate) fn next_payload(&mut self, kind: &str) -> Value {
        self.next_of_type(kind)["payload"].clone()
    }

    /// The `data` of the next message of the channel.
    pub(crate) fn next_data(&mut self) -> Value {
        self.next_of_type("message")["data"].clone()
    }

    /// The contents of the next `count` messages of the channel.
    pub(crate) fn next_contents(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.next_data()["content"].as_str().expect("a string").to_owned()).collect()
    }

    /// The next heartbeat; other messages are skipped.
    pub(crate) fn next_heartbeat(&mut self) -> Value {
        loop {
            let message = self.next_json();
            if message["type"] == "heartbeat" {
                return message;
            }
        }
    }

    /// Expects that nothing is in flight: what is published now comes next.
    pub(crate) fn expect_nothing_more(&mut self) {
        let marker = format!("marker {}", fastrand::u64(..));
        let place = match self.path.strip_prefix("/api/ws/") {
            Some(channel) => {
                let channel = percent_decode_str(channel).decode_utf8().expect("UTF-8");
                post(self.addr, "/api/messages", &message(&channel, "marker", &marker)).ok();
                "/data/content"
            }
            None => {
                let event = json!({"type": "marker", "payload": {"marker": marker}});
                post(self.addr, "/api/events", &event).ok();
                "/payload/marker"
            }
        };
        let next = self.next();
        assert_eq!(next.pointer(place), Some(&json!(marker)), "nothing was to come before the marker");
    }

    /// The code and the reason of the server's Close; earlier messages are skipped.
    pub(crate) fn expect_close(&mut self) -> (u16, String) {
        loop {
            match self.read() {
                Message::Close(Some(frame)) => return (frame.code.into(), frame.reason.to_string()),
                Message::Close(None) => panic!("a Close without a code"),
                _ => {}
            }
        }
    }

    /// Expects that the connection ends, in any way; earlier messages are skipped.
    pub(crate) fn expect_end(&mut self) {
        loop {
            match self.try_read() {
                Ok(_) => {}
                Err(Error::ConnectionClosed | Error::AlreadyClosed | Error::Protocol(_)) => return,
                Err(Error::Io(error)) if is_gone(&error) => return,
                Err(error) => panic!("{} was to end, not {error}", self.path),
            }
        }
    }

    /// Closes as the RFC says; returns the server's Close.
    pub(crate) fn close(mut self) -> (u16, String) {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        self.inner.close(Some(frame)).expect("a Close can be sent");
        let answer = loop {
            match self.read() {
                Message::Close(frame) => break frame,
                _ => continue,
            }
        };
        self.expect_end();
        answer.map_or((1005, String::new()), |frame| (frame.code.into(), frame.reason.to_string()))
    }

    /// Ends the connection with a TCP reset, as a machine does that has crashed and restarted.
    pub(crate) fn reset(self) {
        reset(self.inner.get_ref());
    }
}

/// Lets the stream end with a reset instead of a FIN when it is dropped.
pub(crate) fn reset(stream: &TcpStream) {
    let linger = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
    linger.expect("a socket can be told not to linger");
}

/// A body for `POST /api/messages`.
pub(crate) fn message(channel: &str, author: &str, content: &str) -> Value {
    json!({"channel_id": channel, "author": author, "content": content})
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}
