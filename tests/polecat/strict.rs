//! Input on the byte level: PROTOCOL.md, "12. HTTP rules". Each row of the tables has the whole input of a
//! connection, its responses, and what becomes of the connection. Each input is sent at once, and split at
//! every byte.

mod bodies;
mod handshakes;
mod heads;
mod limits;
mod pipelines;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::support::http::is_gone;
use crate::support::{Http, PATIENCE, Server, raw, socket};

/// A name; the input, with `|` for CRLF; the statuses of the responses; and what becomes of the connection.
pub(crate) type Case = (&'static str, &'static [u8], &'static [u16], After);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// It serves another request.
    Open,
    /// The server ends it after the response.
    Closed,
    /// It is a WebSocket, on which a Ping is answered.
    Upgraded,
}

#[test]
fn heads_mean_the_same_however_they_are_cut() {
    check(heads::CASES);
}

#[test]
fn bodies_mean_the_same_however_they_are_cut() {
    check(bodies::CASES);
}

#[test]
fn handshakes_mean_the_same_however_they_are_cut() {
    check(handshakes::CASES);
}

#[test]
fn pipelined_requests_mean_the_same_however_they_are_cut() {
    check(pipelines::CASES);
}

#[test]
fn what_is_too_much_is_refused_however_it_is_cut() {
    let server = Server::start_with(|options| limits::allow_little(&mut options.config.limits));
    check_at(&server, limits::CASES);
}

#[test]
fn there_are_many_of_them_and_no_two_are_the_same() {
    let all = [heads::CASES, bodies::CASES, handshakes::CASES, limits::CASES, pipelines::CASES].concat();
    assert!(all.len() >= 150, "{} inputs", all.len());
    let mut inputs = all.iter().map(|(_, input, ..)| *input).collect::<Vec<_>>();
    let mut names = all.iter().map(|(name, ..)| *name).collect::<Vec<_>>();
    inputs.sort_unstable();
    names.sort_unstable();
    assert!(inputs.windows(2).all(|two| two[0] != two[1]), "an input is there twice");
    for two in names.windows(2) {
        assert_ne!(two[0], two[1], "a name is there twice");
    }
}

/// Connections with an input in progress at once.
const AT_ONCE: usize = 400;

fn check(cases: &[Case]) {
    check_at(&Server::start(), cases);
}

fn check_at(server: &Server, cases: &[Case]) {
    let mut barrier = Http::connect(server.addr());
    let mut faults = Vec::new();
    for (name, input, statuses, after) in cases {
        let input = expand(input);
        let cuts = (0..input.len()).collect::<Vec<_>>();
        for cuts in cuts.chunks(AT_ONCE) {
            let mut connections = cuts.iter().map(|_| connect(server.addr())).collect::<Vec<_>>();
            for (connection, cut) in connections.iter_mut().zip(cuts) {
                send(connection, &input[..*cut]);
            }
            // When this is answered, the server has read all first parts.
            barrier.get("/api/health").ok();
            for (connection, cut) in connections.iter_mut().zip(cuts) {
                send(connection, &input[*cut..]);
            }
            for (connection, cut) in connections.into_iter().zip(cuts) {
                if let Err(fault) = look(connection, &input, statuses, *after) {
                    faults.push(format!("{name}, cut at {cut}: {fault}"));
                    // A mistake at one byte is mostly a mistake at all of them.
                    break;
                }
            }
        }
    }
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), cases.len(), faults.join("\n"));
}

fn expand(input: &[u8]) -> Vec<u8> {
    input.split(|byte| *byte == b'|').collect::<Vec<_>>().join(&b"\r\n"[..])
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr, PATIENCE).expect("the server accepts a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream.set_nodelay(true).expect("no delay");
    // Thousands of connections leave nothing behind.
    socket::reset(&stream);
    stream
}

/// The server may have responded and closed before the second part.
fn send(stream: &mut TcpStream, bytes: &[u8]) {
    if let Err(error) = stream.write_all(bytes) {
        assert!(is_gone(&error), "the server stopped reading: {error}");
    }
}

/// Reads the responses, and tests the connection.
fn look(mut stream: TcpStream, input: &[u8], statuses: &[u16], after: After) -> Result<(), String> {
    let mut received = Vec::new();
    let mut requests = input.split(|byte| *byte == b'\n').filter(|line| line.ends_with(b"HTTP/1.1\r"));
    for status in statuses {
        let to_head = requests.next().is_some_and(|line| line.starts_with(b"HEAD "));
        let mut seen = answer(&mut stream, &mut received, to_head)?;
        if seen == 100 {
            seen = answer(&mut stream, &mut received, to_head)?;
        }
        if seen != *status {
            return Err(format!("answered {seen}, not {status}"));
        }
    }
    match after {
        After::Closed => {
            let end = stream.read_to_end(&mut received);
            match end {
                Err(error) if !is_gone(&error) => {
                    Err(format!("the connection was to be closed, but {error}"))
                }
                _ if received.is_empty() => Ok(()),
                _ => Err(format!("nothing was to follow, but {:?}", String::from_utf8_lossy(&received))),
            }
        }
        After::Open => {
            send(&mut stream, b"GET /api/health HTTP/1.1\r\nHost: a\r\n\r\n");
            match answer(&mut stream, &mut received, false)? {
                200 if received.is_empty() => Ok(()),
                other => Err(format!("the next request was answered {other} and {} bytes", received.len())),
            }
        }
        After::Upgraded => {
            send(&mut stream, &raw::frame(true, raw::PING, b"up"));
            let pong = [0x80 | raw::PONG, 2, b'u', b'p'];
            while received.len() < pong.len() {
                receive(&mut stream, &mut received)?;
            }
            if received.ends_with(&pong) { Ok(()) } else { Err(format!("no Pong: {received:?}")) }
        }
    }
}

/// Takes one response off `received`, including its body; returns its status. The response to a refusal must
/// announce the end of the connection.
fn answer(stream: &mut TcpStream, received: &mut Vec<u8>, to_head: bool) -> Result<u16, String> {
    let end = loop {
        match received.windows(4).position(|window| window == b"\r\n\r\n") {
            Some(place) => break place + 4,
            None => receive(stream, received)?,
        }
    };
    let head = String::from_utf8_lossy(&received[..end]).to_ascii_lowercase();
    received.drain(..end);
    let status = head.get(9..12).and_then(|digits| digits.parse::<u16>().ok());
    let status = status.ok_or_else(|| format!("no status: {head}"))?;
    let lengths = head.split("\r\n").filter_map(|line| line.strip_prefix("content-length:"));
    let lengths = lengths.map(|length| length.trim().parse::<usize>()).collect::<Vec<_>>();
    let length = match lengths[..] {
        [] if status < 200 => 0,
        [Ok(length)] if status >= 200 => length,
        _ => return Err(format!("not one length: {head}")),
    };
    if status >= 200 && !head.contains("\r\ndate: ") {
        return Err(format!("no Date: {head}"));
    }
    let length = if to_head { 0 } else { length };
    while received.len() < length {
        receive(stream, received)?;
    }
    let body = received.drain(..length).collect::<Vec<_>>();
    if status >= 400 && !to_head && !body.starts_with(b"{\"detail\":") {
        return Err(format!("{status} without a detail: {:?}", String::from_utf8_lossy(&body)));
    }
    Ok(status)
}

fn receive(stream: &mut TcpStream, received: &mut Vec<u8>) -> Result<(), String> {
    let mut buffer = [0; 4096];
    match stream.read(&mut buffer) {
        Ok(0) => Err(format!("ended after {:?}", String::from_utf8_lossy(received))),
        Ok(read) => {
            received.extend_from_slice(&buffer[..read]);
            Ok(())
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Err(format!("nothing comes after {:?}", String::from_utf8_lossy(received)))
        }
        Err(error) => Err(error.to_string()),
    }
}
