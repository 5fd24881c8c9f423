//! Slow readers: PROTOCOL.md, "10. Slow readers". A client that does not read slows down no other, costs no
//! queue, and gets everything once it reads. PROTOCOL.md, "6. Echo: `/api/ws`", too.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};
use serde_json::Value;

use crate::support::process::Memory;
use crate::support::socket::message;
use crate::support::{Home, Http, PATIENCE, Process, RawSocket, Socket, raw, skip};

const MESSAGES: u64 = 800;
const CONTENT_BYTES: usize = 64 * 1024;
/// Together they are 50 MiB: a server that queued them for one slow reader could not stay below this.
const GROWTH_BYTES_MAX: u64 = 32 << 20;

#[test]
fn one_of_200_subscribers_does_not_read_while_50_mb_are_published() {
    let home = Home::new();
    let process = Process::serve(&home.database(), &["--heartbeat-interval", "3600"]);
    let mut slow = RawSocket::connect(process.addr(), "/api/ws/room");
    let readers = Readers::start(process.addr(), "/api/ws/room", 199);
    let mut publisher = Http::connect(process.addr());
    publisher.expect_open();
    let before = process.memory();

    for number in 1..=MESSAGES {
        publisher.post("/api/messages", &message("room", "publisher", &content(number))).ok();
        // The publisher stays a few messages ahead of the 199 that read as fast as they can. Nobody waits for
        // the one that does not.
        readers.wait_for(number.saturating_sub(8));
    }
    readers.finish();
    assert_growth("for a slow reader", before, process.memory(), GROWTH_BYTES_MAX);

    for number in 1..=MESSAGES {
        let frame = slow.next_message();
        let broadcast = serde_json::from_slice::<Value>(&frame.payload).expect("JSON");
        assert_eq!(broadcast["data"]["id"], number, "everything, in order");
        assert!(broadcast["data"]["content"] == content(number), "message {number} is another");
    }
    publisher.post("/api/messages", &message("room", "publisher", "live")).ok();
    let frame = slow.next_message();
    assert!(frame.payload.windows(6).any(|part| part == b"\"live\""), "then it is live again");
    assert_growth("for its catching up", before, process.memory(), GROWTH_BYTES_MAX);
}

#[test]
fn an_echo_client_that_does_not_read_is_not_read_any_further() {
    const SENT_BYTES_MAX: usize = 64 << 20;
    let home = Home::new();
    let process = Process::serve(&home.database(), &["--heartbeat-interval", "3600"]);
    let mut other = Socket::connect(process.addr(), "/api/ws");
    let mut client = RawSocket::connect(process.addr(), "/api/ws");
    let before = process.memory();

    // A client notices by a time-out of its write that the server does not read.
    client.stream().set_write_timeout(Some(Duration::from_secs(1))).expect("a time-out");
    let frame = raw::frame(true, raw::BINARY, &vec![42; CONTENT_BYTES]);
    let mut sent = 0;
    loop {
        assert!(sent < SENT_BYTES_MAX, "the server reads on although nobody takes its answers");
        match client.stream().write(&frame[sent % frame.len()..]) {
            Ok(written) => sent += written,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert_growth("for an echo that nobody reads", before, process.memory(), 8 << 20);
    other.send_text("others go on");
    assert_eq!(other.next_text(), "others go on");

    // Now it reads, and everything that it sent comes back, including the rest of the last frame.
    let mut stream = client.stream().try_clone().expect("a second handle");
    stream.set_write_timeout(Some(PATIENCE)).expect("a time-out");
    let rest = frame[sent % frame.len()..].to_vec();
    let whole_frames = sent / frame.len() + 1;
    let writer = std::thread::spawn(move || stream.write_all(&rest).expect("the server reads again"));
    for number in 0..whole_frames {
        let echo = client.next_message();
        assert!(echo.opcode == raw::BINARY && echo.payload == frame_payload(), "frame {number} is another");
    }
    writer.join().expect("the writer ends well");
}

#[test]
fn a_subscriber_that_never_reads_does_not_hold_up_a_shutdown() {
    let home = Home::new();
    let server = home.serve_with(|options| options.config.timeouts.drain_ms = 200);
    let stuck = RawSocket::connect(server.addr(), "/api/ws/room");
    socket2::SockRef::from(stuck.stream()).set_recv_buffer_size(4096).expect("a small buffer");
    let mut publisher = Http::connect(server.addr());
    for number in 1..=200 {
        publisher.post("/api/messages", &message("room", "publisher", &content(number))).ok();
    }
    // Waits for its end, with a time-out.
    server.stop();
    drop(stuck);
}

fn frame_payload() -> Vec<u8> {
    vec![42; CONTENT_BYTES]
}

fn content(number: u64) -> String {
    let mut content = format!("{number} ");
    content.extend(std::iter::repeat_n('x', CONTENT_BYTES - content.len()));
    content
}

fn assert_growth(what: &str, before: Option<Memory>, after: Option<Memory>, bytes_max: u64) {
    let (Some(before), Some(after)) = (before, after) else {
        skip(&format!("memory used {what} is not measured, since there is no /proc"));
        return;
    };
    let growth = after.resident_peak.saturating_sub(before.resident);
    assert!(growth <= bytes_max, "{growth} bytes {what}, from {before:?} to {after:?}");
}

/// Many subscribers that read everything, in one thread. They look only at the id of each message, which must
/// rise by one.
struct Readers {
    progress: Receiver<u64>,
    thread: JoinHandle<()>,
    seen_by_all: std::cell::Cell<u64>,
}

struct Reader {
    stream: mio::net::TcpStream,
    scanner: Scanner,
}

/// Finds the frames in a stream of bytes, however it is split, and keeps the first few bytes of each.
#[derive(Default)]
struct Scanner {
    head: Vec<u8>,
    payload_left: usize,
    messages: u64,
}

impl Readers {
    fn start(addr: SocketAddr, target: &str, count: usize) -> Self {
        let sockets = (0..count).map(|_| RawSocket::connect(addr, target)).collect::<Vec<_>>();
        let streams = sockets.into_iter().map(|socket| socket.stream().try_clone().expect("a second handle"));
        let poll = Poll::new().expect("a poll");
        let readers = streams.enumerate().map(|(index, stream)| {
            stream.set_nonblocking(true).expect("it can be set");
            let mut stream = mio::net::TcpStream::from_std(stream);
            poll.registry()
                .register(&mut stream, Token(index), Interest::READABLE)
                .expect("it can be polled");
            Reader { stream, scanner: Scanner::default() }
        });
        let readers = readers.collect();
        let (progress_sender, progress) = mpsc::channel();
        let thread = std::thread::spawn(move || read_all(poll, readers, &progress_sender));
        Self { progress, thread, seen_by_all: std::cell::Cell::new(0) }
    }

    /// Waits until each of them has seen the message `number`.
    fn wait_for(&self, number: u64) {
        while self.seen_by_all.get() < number {
            let seen = self.progress.recv_timeout(PATIENCE).expect("the readers go on getting messages");
            self.seen_by_all.set(seen);
        }
    }

    fn finish(self) {
        self.wait_for(MESSAGES);
        self.thread.join().expect("the readers end well");
    }
}

fn read_all(mut poll: Poll, mut readers: Vec<Reader>, progress: &Sender<u64>) {
    let mut buffer = vec![0; 256 * 1024];
    let mut events = Events::with_capacity(256);
    let mut seen_by = vec![0; usize::try_from(MESSAGES).expect("it fits") + 1];
    let mut seen_by_all = 0;
    while seen_by_all < MESSAGES {
        poll.poll(&mut events, Some(PATIENCE)).expect("a poll");
        assert!(!events.is_empty(), "the readers were to get more");
        for event in &events {
            let reader = &mut readers[event.token().0];
            loop {
                let read = match reader.stream.read(&mut buffer) {
                    Ok(0) => panic!("a reader was cut off"),
                    Ok(read) => read,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                };
                reader.scanner.scan(&buffer[..read], |number| seen_by[number] += 1);
            }
        }
        let before = seen_by_all;
        while seen_by_all < MESSAGES
            && seen_by[usize::try_from(seen_by_all).expect("it fits") + 1] == readers.len()
        {
            seen_by_all += 1;
        }
        if seen_by_all > before {
            // The test may have failed and ended by now.
            progress.send(seen_by_all).ok();
        }
    }
}

impl Scanner {
    /// The bytes of a frame that have its length and the id of its message.
    const HEAD_BYTES: usize = 64;

    fn scan(&mut self, mut bytes: &[u8], mut seen: impl FnMut(usize)) {
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let skipped = self.payload_left.min(bytes.len());
                self.payload_left -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let wanted = (Self::HEAD_BYTES - self.head.len()).min(bytes.len());
            self.head.extend_from_slice(&bytes[..wanted]);
            bytes = &bytes[wanted..];
            if self.head.len() == Self::HEAD_BYTES {
                // All messages of this test have a length that needs eight bytes.
                assert_eq!(self.head[..2], [0x81, 127], "a whole text message");
                let len = u64::from_be_bytes(*self.head[2..].first_chunk().expect("eight bytes"));
                self.payload_left = usize::try_from(len).expect("it fits") + 10 - Self::HEAD_BYTES;
                self.messages += 1;
                let start = format!("{{\"type\":\"message\",\"data\":{{\"id\":{},", self.messages);
                assert!(self.head[10..].starts_with(start.as_bytes()), "message {} was next", self.messages);
                seen(usize::try_from(self.messages).expect("it fits"));
                self.head.clear();
            }
        }
    }
}
