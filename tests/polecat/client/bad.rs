//! Servers that are not polecat, or are wrong: the commands' error messages.
//! Against PROTOCOL.md, "14. polecat.v1", on purpose.

use std::io::{Read as _, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};

use tungstenite::handshake::derive_accept_key;

use crate::support::PATIENCE;

/// Sends something on each connection. The connection ends when that is done, or nobody takes it.
type Answer = Box<dyn Fn(&mut TcpStream) + Send>;

const HELLO: &str = r#"{"type":"hello","payload":{"epoch":"e","heartbeat_interval_ms":20,"message_bytes_max":1000},"event_id":"message-00000"}"#;

/// A server that reads a request on every connection and answers it with this.
fn serving(answer: Answer) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
            answer(&mut stream);
        }
    });
    addr
}

fn request_of(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    let mut chunk = [0; 4096];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut chunk) {
            Ok(read) if read > 0 => request.extend_from_slice(&chunk[..read]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&request).into_owned()
}

/// Answers with `bytes`.
fn saying(bytes: impl Into<Vec<u8>>) -> Answer {
    let bytes = bytes.into();
    Box::new(move |stream| {
        request_of(stream);
        stream.write_all(&bytes).ok();
    })
}

/// Sends `start`, and `more` for ever.
fn endless(start: &'static str, more: &'static str) -> Answer {
    Box::new(move |stream| {
        request_of(stream);
        let more = more.repeat(1000);
        let mut taken = stream.write_all(start.as_bytes());
        while taken.is_ok() {
            taken = stream.write_all(more.as_bytes());
        }
    })
}

/// Opens the WebSocket, then does `more`, then waits for the end of the other side.
fn upgrading(more: impl Fn(&mut TcpStream) -> std::io::Result<()> + Send + 'static) -> Answer {
    Box::new(move |stream| {
        let request = request_of(stream);
        let key =
            request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap_or_default();
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: polecat.v1\r\n\r\n",
            derive_accept_key(key.as_bytes())
        );
        let done = stream.write_all(head.as_bytes()).and_then(|()| more(stream));
        let mut rest = [0; 4096];
        while done.is_ok() && stream.read(&mut rest).is_ok_and(|read| read > 0) {}
    })
}

fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).expect("a short one").to_be_bytes();
    let mut bytes = vec![0x80 | opcode];
    match payload.len() {
        0..126 => bytes.push(len[1]),
        _ => bytes.extend([126, len[0], len[1]]),
    }
    bytes.extend_from_slice(payload);
    bytes
}

/// Opens the WebSocket, sends hello and `texts`.
fn talking(texts: &[&str]) -> Answer {
    let frames = [HELLO].iter().chain(texts).flat_map(|text| frame(1, text.as_bytes())).collect::<Vec<_>>();
    upgrading(move |stream| stream.write_all(&frames))
}

fn framing(bytes: impl Into<Vec<u8>>) -> Answer {
    let bytes = bytes.into();
    upgrading(move |stream| stream.write_all(&bytes))
}

/// The errors about a server that is silent.
const OF_SILENCE: [&str; 2] = ["no response", "has been silent for"];

/// Runs a command with half a GiB of memory; it is ended if it wants more.
fn run(addr: SocketAddr, args: &str, timeout: &str) -> Output {
    let script = format!("ulimit -v 500000; exec \"$0\" {args} --url http://{addr} --timeout {timeout}");
    let mut command = Command::new("bash");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_polecat")]).stdin(Stdio::null());
    command.output().expect("a shell")
}

/// The error is one line for people, about the server, with `part` in it; it is not a panic.
fn expect_line(addr: SocketAddr, args: &str, part: &str) {
    // Only silence is waited for.
    let output = run(addr, args, if OF_SILENCE.contains(&part) { "1.5" } else { "60" });
    let stderr = String::from_utf8_lossy(&output.stderr);
    let last = stderr.lines().last().unwrap_or_default();
    assert_eq!((output.status.code(), &*output.stdout), (Some(1), &b""[..]), "{args}, {part:?}: {stderr}");
    assert!(last.starts_with("polecat: ") && last.contains(part), "{args}, {part:?}: {stderr}");
    assert!(!stderr.contains("panicked") && last.len() < 600, "{args}: {stderr}");
}

const FOLLOW: &str = "tail room --retry 0";
const SEND: &str = "send room text --retry 0";

#[test]
fn what_is_no_http_is_told_by_every_command() {
    let kettle = "{\"detail\":\"a \\u001b[31m kettle\"}";
    let cases: Vec<(Answer, &str)> = vec![
        (saying(""), "ended the connection without a complete response"),
        (saying("SSH-2.0-OpenSSH_9.0\r\n"), "does not behave like polecat"),
        (saying("HTTP/1.1 200 OK\r\nConte"), "ended the connection without a complete response"),
        (saying("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"), "ended the connection"),
        (saying("HTTP/1.1 200 OK\r\n\r\n"), "without Content-Length"),
        (saying("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), "invalid Content-Length"),
        (endless("HTTP/1.1 200 OK\r\n", "A: b\r\n"), "does not behave like polecat"),
        (endless("HTTP/1.1 200 OK\r\nA: ", "bbbbbbbbbb"), "sent more than"),
        (endless("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n", "b"), "sent more than"),
        (saying("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), "answered 404; is it polecat"),
        (
            saying(format!("HTTP/1.1 418 No\r\nContent-Length: {}\r\n\r\n{kettle}", kettle.len())),
            "answered 418: a \\u{1b}[31m kettle",
        ),
        (saying("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"), "answered 302"),
        (
            Box::new(|stream| drop(stream.read(&mut [0; 4096]).and_then(|_| stream.read(&mut [0])))),
            "no response",
        ),
    ];
    for (answer, part) in cases {
        let addr = serving(answer);
        for args in [FOLLOW, SEND, "event text --retry 0", "status"] {
            expect_line(addr, args, part);
        }
    }
}

#[test]
fn a_200_of_another_program_is_told() {
    let addr = serving(saying("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"));
    expect_line(addr, "event text", "without an event; is it polecat?");
    expect_line(addr, "status", "without a status; is it polecat?");
    expect_line(addr, FOLLOW, "answered 200");
}

#[test]
fn a_handshake_that_is_wrong_is_told() {
    let head = "HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ";
    let other_key = serving(saying(format!("{head}AAAA\r\nSec-WebSocket-Protocol: polecat.v1\r\n\r\n")));
    let switching = |more: &'static str| {
        serving(Box::new(move |stream| {
            let request = request_of(stream);
            let key =
                request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap_or_default();
            write!(stream, "{head}{}\r\n{more}\r\n", derive_accept_key(key.as_bytes())).ok();
        }))
    };
    let without_protocol = switching("");
    let with_extension =
        switching("Sec-WebSocket-Protocol: polecat.v1\r\nSec-WebSocket-Extensions: permessage-deflate\r\n");
    for args in [FOLLOW, SEND] {
        expect_line(other_key, args, "answered the handshake incorrectly (wrong Sec-WebSocket-Accept)");
        expect_line(
            with_extension,
            args,
            "answered the handshake incorrectly (an extension that was not offered)",
        );
        expect_line(without_protocol, args, "does not know polecat.v1");
    }
}

#[test]
fn frames_that_are_wrong_are_told() {
    let mut huge = vec![0x81, 127];
    huge.extend((1_u64 << 40).to_be_bytes());
    let pings = frame(9, b"ping").repeat(20_000);
    let cases: Vec<(Answer, &str)> = vec![
        (framing([0x81, 0x81, 0, 0, 0, 0, b'x']), "violated the WebSocket protocol"),
        (framing([0x83, 0]), "violated the WebSocket protocol"),
        (framing([0xf1, 0]), "violated the WebSocket protocol"),
        (framing([0x81, 1, 0xff]), "violated the WebSocket protocol"),
        (framing(huge), "the limit is"),
        // A message that never ends, in fragments.
        (
            upgrading(|stream| {
                let mut fragment = vec![0x01, 126, 0xff, 0xff];
                fragment.extend([b'x'; 65_535]);
                loop {
                    stream.write_all(&fragment)?;
                    fragment[0] = 0;
                }
            }),
            "the limit is",
        ),
        (framing(frame(8, b"\x03\xe8bye")), "has closed the connection"),
        (framing(frame(8, b"\x0f\xa0")), "has closed the connection"),
        (framing(pings), "no response"),
        (framing(frame(2, b"binary")), "no response"),
    ];
    for (answer, part) in cases {
        let addr = serving(answer);
        for args in [FOLLOW, SEND] {
            // It varies which of the two reports the silence.
            let part = match (part, args) {
                ("no response", FOLLOW) => "has been silent for",
                _ => part,
            };
            expect_line(addr, args, part);
        }
    }
}

#[test]
fn messages_that_are_wrong_are_told() {
    let nested = format!(r#"{{"type":"gap","payload":{}{}}}"#, "[".repeat(5000), "]".repeat(5000));
    for (texts, part) in [
        (&["no JSON \u{1b}[31m"][..], "sent something that polecat does not send"),
        (&["[]"], "sent something that polecat does not send"),
        (&[r#"{"type":"gap","payload":[]}"#], "sent something that polecat does not send"),
        (&[&nested], "sent something that polecat does not send"),
        (
            &[r#"{"type":"message","data":{"id":1},"event_id":"message-00001"}"#],
            "sent something that polecat does not send",
        ),
        (&[r#"{"type":"message","data":{},"event_id":"nothing"}"#], "a message with the id \"nothing\""),
        (&[r#"{"type":"novelty"}"#, r#"{"type":"live","payload":{}}"#], "has been silent for"),
    ] {
        expect_line(serving(talking(texts)), FOLLOW, part);
    }
    for (texts, part) in [
        (&["no JSON \u{1b}[31m"][..], "sent something that polecat does not send"),
        (&[r#"{"type":"ack","payload":{"id":"x"}}"#], "sent something that polecat does not send"),
        // For a message that nobody sent.
        (&[r#"{"type":"ack","payload":{"id":77,"event_id":"message-00001"}}"#], "no response"),
        (&[r#"{"type":"error","payload":{"code":"wrong_type","message":"no","id":null}}"#], "refused it: no"),
        (&[r#"{"type":"error","payload":{"code":"wrong_type","message":"no","id":1}}"#], "is not stored: no"),
        (
            &[r#"{"type":"error","payload":{"code":"store_unavailable","message":"full","id":1}}"#],
            "full; given up",
        ),
    ] {
        expect_line(serving(talking(texts)), SEND, part);
    }
}
