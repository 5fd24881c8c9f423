//! Servers that each do one thing wrong, on purpose, and the load generator's verdict about them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;

use tungstenite::handshake::derive_accept_key;
use tungstenite::{Message, WebSocket};

use super::{Outcome, load, load_until};
use crate::support::PATIENCE;

/// What happens to the tenth message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Nothing,
    Lose,
    Double,
    SwapWithNext,
    Change,
    /// Text is sent back as binary.
    AsBinary,
    /// It comes after a text that nobody has sent.
    AfterGreeting,
    Close,
}

const TENTH: usize = 10;

/// Runs `serve` with a listener in a thread, and returns its address.
fn in_thread(serve: impl FnOnce(&TcpListener) + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    (addr, std::thread::spawn(move || serve(&listener)))
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream.set_nodelay(true).expect("an option");
    stream
}

fn accept_websocket(listener: &TcpListener) -> WebSocket<TcpStream> {
    tungstenite::accept(accept(listener)).unwrap_or_else(|error| panic!("no handshake: {error}"))
}

/// Forwards `texts`, one of them incorrectly, until there are no more or nobody takes them.
fn send_on(
    socket: &mut WebSocket<TcpStream>,
    wrong: Wrong,
    mut next: impl FnMut(&mut WebSocket<TcpStream>) -> Option<String>,
) {
    let mut held = None;
    for number in 1.. {
        let Some(mut text) = next(socket) else { return };
        let mut messages = Vec::new();
        match wrong {
            _ if number != TENTH => messages.push(Message::text(text)),
            Wrong::Nothing => messages.push(Message::text(text)),
            Wrong::Lose => {}
            Wrong::Double => messages.extend([Message::text(text.clone()), Message::text(text)]),
            Wrong::AsBinary => messages.push(Message::binary(text)),
            Wrong::AfterGreeting => messages.extend([Message::text("hello"), Message::text(text)]),
            Wrong::SwapWithNext => {
                held = Some(Message::text(text));
                continue;
            }
            Wrong::Change => {
                let at = text.rfind('x').expect("filling");
                text.replace_range(at..=at, "y");
                messages.push(Message::text(text));
            }
            Wrong::Close => return,
        }
        messages.extend(held.take());
        for message in messages {
            if socket.send(message).is_err() {
                return;
            }
        }
    }
}

/// How long to wait for a message that does not come: longer than any delay of a machine, but not much.
const WAIT_FOR_LOST: &str = "5";

/// `load echo` against a server that does this wrong.
fn echo(wrong: Wrong, is_enough: impl Fn(&Outcome) -> bool) -> Outcome {
    load_until(is_enough, |seconds| {
        let (addr, thread) = in_thread(move |listener| {
            let mut socket = accept_websocket(listener);
            send_on(&mut socket, wrong, |socket| match socket.read() {
                Ok(Message::Text(text)) => Some(text.as_str().to_owned()),
                _ => None,
            });
        });
        let url = format!("ws://{addr}/");
        let args = ["echo", &url, "-c", "1", "--depth", "4", "--size", "64", "--patience", WAIT_FOR_LOST];
        let outcome = load(&[&args[..], &["--for", seconds]].concat());
        thread.join().expect("the server ends");
        outcome
    })
}

/// `load fanout` by POST against a server that does this wrong to its one subscriber.
fn fanout(wrong: Wrong, is_enough: impl Fn(&Outcome) -> bool) -> Outcome {
    load_until(is_enough, |seconds| {
        let (addr, thread) = in_thread(move |listener| {
            // In the order in which they are opened.
            let mut socket = accept_websocket(listener);
            let mut publisher = Publisher { stream: accept(listener), received: Vec::new() };
            send_on(&mut socket, wrong, |_| publisher.next());
        });
        let (url, post) = (format!("ws://{addr}/"), format!("http://{addr}/"));
        let args = ["fanout", &url, "-c", "1", "--size", "64", "--window", "8", "--post", &post];
        let outcome = load(&[&args[..], &["--for", seconds, "--patience", WAIT_FOR_LOST]].concat());
        thread.join().expect("the server ends");
        outcome
    })
}

/// Checks that it continued after the message that was treated incorrectly.
fn goes_on(outcome: &Outcome) -> bool {
    outcome.count("published") > 2 * TENTH as u64
}

/// The server's side of a connection that POSTs; the response has the same body.
struct Publisher {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Publisher {
    /// Answers each request until there are no more.
    fn serve(&mut self, mut answer: impl FnMut(&str) -> String) {
        while let Some(body) = self.request() {
            if self.stream.write_all(answer(&body).as_bytes()).is_err() {
                return;
            }
        }
    }

    /// The body of the next request, which is answered with itself.
    fn next(&mut self) -> Option<String> {
        let body = self.request()?;
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        self.stream.write_all(answer.as_bytes()).ok()?;
        Some(body)
    }

    fn request(&mut self) -> Option<String> {
        loop {
            let text = String::from_utf8_lossy(&self.received).into_owned();
            if let Some((head, rest)) = text.split_once("\r\n\r\n") {
                let (_, len) = head.split_once("Content-Length: ").expect("a length");
                let len =
                    len.split("\r\n").next().and_then(|len| len.parse::<usize>().ok()).expect("a number");
                if let Some(body) = rest.get(..len) {
                    self.received.drain(..head.len() + 4 + len);
                    return Some(body.to_owned());
                }
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(read) if read > 0 => self.received.extend_from_slice(&buffer[..read]),
                _ => return None,
            }
        }
    }
}

#[test]
fn what_is_wrong_with_echoes_is_told_apart() {
    for (wrong, faults) in [
        (Wrong::Lose, [1, 0, 0, 0]),
        (Wrong::Double, [0, 1, 0, 0]),
        (Wrong::SwapWithNext, [0, 0, 1, 0]),
        (Wrong::Change, [0, 0, 0, 1]),
        (Wrong::AsBinary, [0, 0, 0, 1]),
        (Wrong::AfterGreeting, [0, 0, 0, 1]),
    ] {
        let outcome = echo(wrong, goes_on);
        assert_eq!((outcome.status, outcome.faults()), (Some(1), faults), "{wrong:?}: {}", outcome.report);
    }
    echo(Wrong::Nothing, goes_on).expect_good();
}

#[test]
fn what_is_wrong_with_deliveries_is_told_apart() {
    for (wrong, faults) in [
        (Wrong::Lose, [1, 0, 0, 0]),
        (Wrong::Double, [0, 1, 0, 0]),
        (Wrong::SwapWithNext, [0, 0, 1, 0]),
        (Wrong::Change, [0, 0, 0, 1]),
        (Wrong::AsBinary, [0, 0, 0, 1]),
    ] {
        let outcome = fanout(wrong, goes_on);
        assert_eq!((outcome.status, outcome.faults()), (Some(1), faults), "{wrong:?}: {}", outcome.report);
    }
    for right in [Wrong::Nothing, Wrong::AfterGreeting] {
        let outcome = fanout(right, goes_on);
        outcome.expect_good();
        assert_eq!(outcome.count("other_texts"), u64::from(right == Wrong::AfterGreeting));
    }
}

#[test]
fn a_connection_that_ends_too_early_is_told() {
    let outcome = echo(Wrong::Close, |outcome| outcome.count("alive") == 0);
    assert_eq!(outcome.status, Some(1), "{}", outcome.report);
    assert!(outcome.count("lost") >= 1, "{}", outcome.report);
    let ended = outcome.report["ended"].as_object().expect("reasons");
    assert_eq!(ended.len(), 1, "{ended:?}");
}

#[test]
fn a_handshake_that_is_answered_wrongly_is_told() {
    for (answer, reason) in [
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "handshake answered 404"),
        ("SSH-2.0-OpenSSH_9.0\r\n", "no HTTP response"),
    ] {
        let outcome = idle(&[], move |_| answer.to_owned());
        outcome.expect_ended(reason, 1);
        assert_eq!(outcome.count("handshakes"), 0);
    }
}

#[test]
fn a_handshake_that_is_not_what_was_asked_for_is_told() {
    const RIGHT: &str = "Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Accept: ACCEPT|";
    const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover|";
    let with = |more: &str| format!("{RIGHT}{more}");
    let without =
        |field: &str| RIGHT.split_inclusive('|').filter(|line| !line.starts_with(field)).collect::<String>();
    for (flags, fields, reason) in [
        (&[][..], RIGHT.replace("ACCEPT", "AAAAAAAAAAAAAAAAAAAAAAAAAAA="), "wrong Sec-WebSocket-Accept"),
        (&[], without("Sec-WebSocket-Accept"), "wrong Sec-WebSocket-Accept"),
        (&[], without("Upgrade"), "101 without Upgrade: websocket"),
        (&[], without("Connection"), "101 without Connection: Upgrade"),
        (&[], with("Sec-WebSocket-Protocol: chat|"), "a subprotocol that was not offered"),
        (&[], with(DEFLATE), "an extension that was not offered"),
        (&["--compress"], with("Sec-WebSocket-Extensions: x-mux|"), "an extension that was not offered"),
        (&["--compress"], with(&format!("{DEFLATE}{DEFLATE}")), "Sec-WebSocket-Extensions twice"),
        (&["--compress"], RIGHT.to_owned(), "compression was not negotiated"),
    ] {
        let said = fields.clone();
        let outcome = idle(flags, move |key| {
            let head = format!("HTTP/1.1 101 Switching Protocols|{fields}|").replace('|', "\r\n");
            head.replace("ACCEPT", &derive_accept_key(key.as_bytes()))
        });
        assert_eq!(outcome.count("handshakes"), 0, "{said}");
        outcome.expect_ended(reason, 1);
    }
    for (flags, more) in [(&[][..], ""), (&["--compress"], DEFLATE)] {
        let fields = with(more);
        let outcome = idle(flags, move |key| {
            let head = format!("HTTP/1.1 103 Early Hints||HTTP/1.1 101 Yes|{fields}|").replace('|', "\r\n");
            head.replace("ACCEPT", &derive_accept_key(key.as_bytes()))
        });
        assert_eq!(outcome.count("handshakes"), 1, "{}", outcome.report);
    }
}

/// `load idle` with one connection, whose handshake is answered by `answer`, given its key.
fn idle(flags: &[&str], answer: impl FnOnce(&str) -> String + Send + 'static) -> Outcome {
    let (addr, thread) = in_thread(move |listener| {
        let mut stream = accept(listener);
        let mut request = [0; 4096];
        let read = stream.read(&mut request).expect("a request");
        let request_text = String::from_utf8_lossy(&request[..read]).into_owned();
        let (_, key) = request_text.split_once("Sec-WebSocket-Key: ").expect("a key");
        stream.write_all(answer(key.lines().next().expect("a line")).as_bytes()).expect("it is taken");
        // Until the other side has gone.
        let _ = stream.read(&mut request);
    });
    let url = format!("ws://{addr}/");
    let outcome = load(&[&["idle", &url, "-n", "1", "--for", "0.1"], flags].concat());
    thread.join().expect("the server ends");
    outcome
}

#[test]
fn an_answer_that_does_not_end_is_not_held() {
    let outcome = idle(&[], |_| format!("HTTP/1.1 101 Yes\r\nX: {}", "x".repeat(100_000)));
    outcome.expect_ended("an incomplete response", 1);
    let (addr, thread) = in_thread(move |listener| {
        let mut publisher = Publisher { stream: accept(listener), received: Vec::new() };
        publisher.request().expect("a request");
        let mut part = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n".to_owned();
        // Until the other side has gone.
        while publisher.stream.write_all(part.as_bytes()).is_ok() {
            part = "x".repeat(1 << 20);
        }
    });
    let outcome =
        load(&["publish", &format!("http://{addr}/"), "-c", "1", "--for", "0.1", "--patience", "300"]);
    thread.join().expect("the server ends");
    outcome.expect_ended("an incomplete response", 1);
    assert_eq!(outcome.count("lost"), 1);
}

/// `body` in one chunk or two, after `before`.
fn chunked(before: &str, body: &str, in_two: bool) -> String {
    let (first, second) = body.split_at(body.len() / 2);
    let chunk = |data: &str| format!("{:x};a=b\r\n{data}\r\n", data.len());
    let chunks = if in_two { chunk(first) + &chunk(second) } else { chunk(body) };
    format!("{before}HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\nX: y\r\n\r\n")
}

#[test]
fn an_answer_may_come_in_chunks_and_after_hints() {
    for (place, before) in ["", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"].into_iter().enumerate() {
        let is_enough = |outcome: &Outcome| {
            outcome.expect_good();
            outcome.count("operations") > 10
        };
        load_until(is_enough, |seconds| {
            let (addr, thread) = in_thread(move |listener| {
                let mut publisher = Publisher { stream: accept(listener), received: Vec::new() };
                publisher.serve(|body| chunked(before, body, place == 0));
            });
            let url = format!("http://{addr}/");
            let outcome = load(&["publish", &url, "-c", "1", "--depth", "3", "--for", seconds]);
            thread.join().expect("the server ends");
            outcome
        });
    }
}

#[test]
fn who_says_nothing_is_given_up() {
    let (addr, thread) = in_thread(move |listener| {
        let mut stream = accept(listener);
        while stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {}
    });
    let outcome = load(&["idle", &format!("ws://{addr}/"), "-n", "1", "--for", "0.1", "--patience", "0.2"]);
    thread.join().expect("the server ends");
    outcome.expect_ended("no response to the handshake", 1);
}
