//! An HTTP/1.1 client without magic: it sends exactly what the test says, on exactly one connection.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::PATIENCE;
use super::schema::check_response;

/// One connection.
pub(crate) struct Http {
    stream: TcpStream,
    received: Vec<u8>,
}

/// One response.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// `GET target` on a connection of its own.
pub(crate) fn get(addr: SocketAddr, target: &str) -> Response {
    Http::connect(addr).get(target)
}

/// `POST target` on a connection of its own.
pub(crate) fn post(addr: SocketAddr, target: &str, body: &Value) -> Response {
    Http::connect(addr).post(target, body)
}

impl Http {
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        Self::try_connect(addr).expect("the server accepts a connection")
    }

    pub(crate) fn try_connect(addr: SocketAddr) -> io::Result<Self> {
        Self::over(TcpStream::connect_timeout(&addr, PATIENCE)?)
    }

    /// Speaks HTTP over an existing connection.
    pub(crate) fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::new() })
    }

    /// Sends exactly `bytes`.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the server takes what is sent");
    }

    /// Like [`Self::send`], but the server may have closed already.
    pub(crate) fn send_what_is_taken(&mut self, bytes: impl AsRef<[u8]>) {
        match self.stream.write_all(bytes.as_ref()) {
            Ok(()) => {}
            Err(error) => assert!(is_gone(&error), "the server stopped reading: {error}"),
        }
    }

    pub(crate) fn get(&mut self, target: &str) -> Response {
        self.request("GET", target, &[], None)
    }

    pub(crate) fn post(&mut self, target: &str, body: &Value) -> Response {
        self.request("POST", target, &[("Content-Type", "application/json")], Some(&body.to_string()))
    }

    pub(crate) fn try_post(&mut self, target: &str, body: &Value) -> io::Result<Response> {
        self.stream.write_all(&request("POST", target, &[], Some(&body.to_string())))?;
        self.try_response(false)
    }

    pub(crate) fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Response {
        self.send(request(method, target, headers, body));
        let response = self.try_response(method == "HEAD").expect("a response within the time-out");
        check_response(method, target, &response);
        response
    }

    /// The next response.
    pub(crate) fn response(&mut self) -> Response {
        self.try_response(false).expect("a response within the time-out")
    }

    /// The status of the next response; only its head is read.
    pub(crate) fn status(&mut self) -> u16 {
        self.response_head().status
    }

    /// The next response to a HEAD request: it has no body.
    pub(crate) fn response_to_head(&mut self) -> Response {
        self.try_response(true).expect("a response within the time-out")
    }

    /// Expects that the server closes this connection, and sends nothing more before.
    pub(crate) fn expect_end(&mut self) {
        let mut rest = std::mem::take(&mut self.received);
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert!(is_gone(&error), "the server keeps the connection open: {error}"),
        }
        assert!(rest.is_empty(), "nothing was to come, but {:?}", String::from_utf8_lossy(&rest));
    }

    /// Waits until the server has closed this connection, whatever it sends before.
    pub(crate) fn wait_for_the_end(&mut self) {
        if let Err(error) = self.stream.read_to_end(&mut self.received) {
            assert!(is_gone(&error), "the server keeps the connection open: {error}");
        }
    }

    /// Expects that the connection still serves requests.
    pub(crate) fn expect_open(&mut self) {
        assert_eq!(self.get("/api/health").status, 200, "the connection was to stay open");
    }

    pub(crate) fn try_response(&mut self, to_head: bool) -> io::Result<Response> {
        let (status, headers) = self.head()?;
        let mut response = Response { status, headers, body: Vec::new() };
        if to_head || status < 200 || status == 204 || status == 304 {
            return Ok(response);
        }
        if response.header("transfer-encoding") == Some("chunked") {
            response.body = self.chunks()?;
            return Ok(response);
        }
        let length = response.header("content-length").unwrap_or_else(|| panic!("no length: {response:?}"));
        let length = length.parse::<usize>().expect("Content-Length is a number");
        while self.received.len() < length {
            self.receive()?;
        }
        response.body = self.received.drain(..length).collect();
        Ok(response)
    }

    /// A chunked body; only its last chunk is empty.
    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.until(b"\r\n")?;
            let length =
                std::str::from_utf8(&line).ok().and_then(|line| usize::from_str_radix(line, 16).ok());
            let length = length.unwrap_or_else(|| panic!("no length of a chunk: {line:?}"));
            while self.received.len() < length + 2 {
                self.receive()?;
            }
            body.extend(self.received.drain(..length));
            assert_eq!(self.until(b"\r\n")?, b"", "a chunk is as long as it says");
            if length == 0 {
                return Ok(body);
            }
        }
    }

    /// The bytes before `end`, which is consumed too.
    fn until(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            match self.received.windows(end.len()).position(|window| window == end) {
                Some(place) => {
                    let before = self.received.drain(..place).collect();
                    self.received.drain(..end.len());
                    return Ok(before);
                }
                None => self.receive()?,
            }
        }
    }

    /// The head of the next response, and everything until the connection ends.
    pub(crate) fn response_to_the_end(&mut self) -> Response {
        let (status, headers) = self.head().expect("a response within the time-out");
        let mut body = std::mem::take(&mut self.received);
        self.stream.read_to_end(&mut body).expect("the end within the time-out");
        Response { status, headers, body }
    }

    /// The head of the next response; its body is left.
    pub(crate) fn response_head(&mut self) -> Response {
        let (status, headers) = self.head().expect("a response within the time-out");
        Response { status, headers, body: Vec::new() }
    }

    fn head(&mut self) -> io::Result<(u16, Vec<(String, String)>)> {
        let head = self.until(b"\r\n\r\n")?;
        let head = String::from_utf8(head).expect("a head of ASCII");
        let mut lines = head.split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let status = status_line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no header: {line:?}"));
            (name.to_ascii_lowercase(), value.trim().to_owned())
        });
        Ok((status.unwrap_or_else(|| panic!("no status line: {status_line:?}")), headers.collect()))
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        let read = self.stream.read(&mut buffer)?;
        if read == 0 {
            let seen = String::from_utf8_lossy(&self.received).into_owned();
            return Err(io::Error::new(
                ErrorKind::UnexpectedEof,
                format!("the connection ended after {seen:?}"),
            ));
        }
        self.received.extend_from_slice(&buffer[..read]);
        Ok(())
    }
}

impl Response {
    /// The value of a header, whose name is given in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body of UTF-8")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The body of a 200.
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()
    }
}

/// A request as bytes, with `Host`, and with `Content-Length` if there is a body.
pub(crate) fn request(method: &str, target: &str, headers: &[(&str, &str)], body: Option<&str>) -> Vec<u8> {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: polecat.test\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    if let Some(body) = body {
        text += &format!("Content-Length: {}\r\n", body.len());
    }
    text += "\r\n";
    text += body.unwrap_or_default();
    text.into_bytes()
}

/// Whether the error means that the other side has closed or reset.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof
            | ErrorKind::NotConnected
    )
}
