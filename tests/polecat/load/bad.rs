//! Servers that do wrong, each on purpose in one way, and what the load generator
//! makes of them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use tungstenite::{Message, WebSocket};

use super::{Outcome, load};
use crate::support::PATIENCE;

/// What is done to the tenth message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Nothing,
    Lose,
    Double,
    SwapWithNext,
    Change,
    Close,
    /// Nothing is said for so long.
    Stall(Duration),
}

const TENTH: usize = 10;

/// Runs `serve` with a listener in a thread, and hands out its address.
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

/// Sends `texts` on, one of them wrongly, until there are no more or nobody takes them.
fn send_on(
    socket: &mut WebSocket<TcpStream>,
    wrong: Wrong,
    mut next: impl FnMut(&mut WebSocket<TcpStream>) -> Option<String>,
) {
    let mut held = None;
    for number in 1.. {
        let Some(mut text) = next(socket) else { return };
        let mut texts = Vec::new();
        match wrong {
            _ if number != TENTH => texts.push(text),
            Wrong::Nothing => texts.push(text),
            Wrong::Lose => {}
            Wrong::Double => texts.extend([text.clone(), text]),
            Wrong::SwapWithNext => {
                held = Some(text);
                continue;
            }
            Wrong::Change => {
                let at = text.rfind('x').expect("filling");
                text.replace_range(at..=at, "y");
                texts.push(text);
            }
            Wrong::Close => return,
            Wrong::Stall(time) => {
                // Nobody says anything there: only the time passes.
                let (_silent, channel) = mpsc::channel::<()>();
                channel.recv_timeout(time).expect_err("silence");
                texts.push(text);
            }
        }
        texts.extend(held.take());
        for text in texts {
            if socket.send(Message::text(text)).is_err() {
                return;
            }
        }
    }
}

/// `load echo` against a server that does wrong.
fn echo(wrong: Wrong) -> Outcome {
    let (addr, thread) = in_thread(move |listener| {
        let mut socket = accept_websocket(listener);
        send_on(&mut socket, wrong, |socket| match socket.read() {
            Ok(Message::Text(text)) => Some(text.as_str().to_owned()),
            _ => None,
        });
    });
    let url = format!("ws://{addr}/");
    let outcome =
        load(&["echo", &url, "-c", "1", "--depth", "4", "--size", "64", "--for", "0.2", "--patience", "1"]);
    thread.join().expect("the server ends");
    outcome
}

/// `load fanout` by POST against a server that does wrong to its one subscriber.
fn fanout(wrong: Wrong, more: &[&str]) -> Outcome {
    let (addr, thread) = in_thread(move |listener| {
        // In the order in which they are opened.
        let mut socket = accept_websocket(listener);
        let mut publisher = Publisher { stream: accept(listener), received: Vec::new() };
        send_on(&mut socket, wrong, |_| publisher.next());
    });
    let (url, post) = (format!("ws://{addr}/"), format!("http://{addr}/"));
    let args = ["fanout", &url, "-c", "1", "--size", "64", "--post", &post];
    let outcome = load(&[&args, more].concat());
    thread.join().expect("the server ends");
    outcome
}

/// The server's side of a connection that POSTs; the body is the answer, too.
struct Publisher {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Publisher {
    fn next(&mut self) -> Option<String> {
        loop {
            let text = String::from_utf8_lossy(&self.received).into_owned();
            if let Some((head, rest)) = text.split_once("\r\n\r\n") {
                let (_, len) = head.split_once("Content-Length: ").expect("a length");
                let len =
                    len.split("\r\n").next().and_then(|len| len.parse::<usize>().ok()).expect("a number");
                if let Some(body) = rest.get(..len) {
                    self.received.drain(..head.len() + 4 + len);
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n{body}");
                    self.stream.write_all(answer.as_bytes()).ok()?;
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
    ] {
        let outcome = echo(wrong);
        assert_eq!((outcome.status, outcome.faults()), (Some(1), faults), "{wrong:?}: {}", outcome.report);
        assert!(outcome.count("published") > 20, "it goes on: {}", outcome.report);
    }
    echo(Wrong::Nothing).expect_good();
}

#[test]
fn what_is_wrong_with_deliveries_is_told_apart() {
    let window = ["--window", "8", "--for", "0.2", "--patience", "1"];
    for (wrong, faults) in [
        (Wrong::Lose, [1, 0, 0, 0]),
        (Wrong::Double, [0, 1, 0, 0]),
        (Wrong::SwapWithNext, [0, 0, 1, 0]),
        (Wrong::Change, [0, 0, 0, 1]),
    ] {
        let outcome = fanout(wrong, &window);
        assert_eq!((outcome.status, outcome.faults()), (Some(1), faults), "{wrong:?}: {}", outcome.report);
        assert!(outcome.count("published") > 20, "it goes on: {}", outcome.report);
    }
    fanout(Wrong::Nothing, &window).expect_good();
}

#[test]
fn a_connection_that_ends_too_early_is_told() {
    let outcome = echo(Wrong::Close);
    assert_eq!((outcome.status, outcome.count("alive")), (Some(1), 0), "{}", outcome.report);
    assert!(outcome.count("lost") >= 1, "{}", outcome.report);
    let ended = outcome.report["ended"].as_object().expect("reasons");
    assert_eq!(ended.len(), 1, "{ended:?}");
}

#[test]
fn a_handshake_that_is_answered_wrongly_is_told() {
    for (answer, reason) in [
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "handshake answered 404"),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
            "handshake answered 101",
        ),
        ("SSH-2.0-OpenSSH_9.0\r\n", "no HTTP response"),
    ] {
        let (addr, thread) = in_thread(move |listener| {
            let mut stream = accept(listener);
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).expect("a request");
            stream.write_all(answer.as_bytes()).expect("it is taken");
            // Until the other side has gone.
            let _ = stream.read(&mut request);
        });
        let outcome = load(&["idle", &format!("ws://{addr}/"), "-n", "1", "--for", "0.1"]);
        thread.join().expect("the server ends");
        outcome.expect_ended(reason, 1);
        assert_eq!(outcome.count("handshakes"), 0);
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
    outcome.expect_ended("no answer to the handshake", 1);
}

#[test]
fn a_stall_is_seen_by_all_who_were_due_meanwhile() {
    let stall = Wrong::Stall(Duration::from_millis(500));
    let outcome = fanout(stall, &["--rate", "200", "--for", "0.8", "--patience", "20"]);
    outcome.expect_good();
    // A hundred of some 160 were due while it stood still; a closed loop would see one.
    let latency = &outcome.report["latency_us"];
    assert!(latency["max"].as_u64() >= Some(350_000), "{latency}");
    assert!(latency["p90"].as_u64() >= Some(250_000), "{latency}");
    assert!(latency["p50"].as_u64() >= Some(20_000), "{latency}");
}
