//! A socket of the load generator, with a server at its other end that answers the handshake and sends back
//! what it gets.

use std::io::{self, Read, Write};

use polecat::load::driver::Driver;
use polecat::load::order::Faults;
use polecat::load::plan::{Endpoint, Plan, Publishing, Workload};
use polecat::server::socket::{Readiness, Socket};
use polecat::wire::reply::accept_of;
use polecat::wire::websocket::codec::unmask;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// Bytes of a client's frame header with a mask and a length of two bytes.
const HEAD_BYTES: usize = 8;

/// One socket. Bytes that are sent in a turn come back in the next.
#[derive(Debug, Default)]
struct Mirror {
    /// The bytes that can be read, and the offset of the next one.
    input: Vec<u8>,
    start: usize,
    /// Whether a read has reported that there are no more.
    is_told: bool,
    /// The bytes that can be read after that.
    next: Vec<u8>,
}

impl Read for Mirror {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_told {
            std::mem::swap(&mut self.input, &mut self.next);
            self.next.clear();
            self.start = 0;
        }
        let len = buffer.len().min(self.input.len() - self.start);
        self.is_told = len < buffer.len();
        if len == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        buffer[..len].copy_from_slice(&self.input[self.start..][..len]);
        self.start += len;
        Ok(len)
    }
}

impl Write for Mirror {
    /// Takes whole frames, or the request.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.starts_with(b"GET ") {
            let head = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {}\r\n\r\n",
                accept_of(KEY)
            );
            self.next.extend_from_slice(head.as_bytes());
            return Ok(bytes.len());
        }
        let mut rest = bytes;
        while let Some(&[first, _, high, low, mask @ ..]) = rest.first_chunk::<HEAD_BYTES>() {
            let end = HEAD_BYTES + usize::from(u16::from_be_bytes([high, low]));
            self.next.extend_from_slice(&[first, 126, high, low]);
            let at = self.next.len();
            self.next.extend_from_slice(&rest[HEAD_BYTES..end]);
            unmask(&mut self.next[at..], mask, 0);
            rest = &rest[end..];
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket for Mirror {
    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Turns of `polecat load echo` on one connection.
pub(crate) fn load_echo(turns: u32, depth: u32, payload_bytes: usize) {
    let plan = Plan {
        workload: Workload::Echo,
        endpoint: Endpoint { host: "a".to_owned(), target: "/api/ws".to_owned() },
        channel_json: String::new(),
        connections: 1,
        publishers: 0,
        publishing: Publishing::Message,
        depth,
        payload_bytes,
        rate: None,
        messages_max: None,
        connect_rate: None,
        slow: 0,
        half_open: 0,
        dribblers: 0,
        rounds: 0,
        status_only: false,
        compresses: false,
        warm_up_us: 0,
        run_us: u64::MAX / 2,
        patience_us: u64::MAX / 2,
        key: KEY.to_owned(),
    };
    let mut driver = Driver::new(plan, 1);
    let index = driver.next_to_open(0).unwrap_or_default();
    driver.opened(index, Mirror::default(), 0);
    // The handshake, the warm-up, the first messages.
    for now_us in 0..6 {
        driver.ready(index, Readiness { readable: true, ..Readiness::default() });
        driver.turn(now_us);
    }
    let before = driver.tally().operations;
    for now_us in 6..6 + u64::from(turns) {
        driver.ready(index, Readiness { readable: true, ..Readiness::default() });
        driver.turn(now_us);
    }
    let echoes = driver.tally().operations - before;
    assert_eq!(echoes, u64::from(turns * depth), "everything comes back");
    assert_eq!((driver.order().faults, driver.tally().wrong), (Faults::default(), 0), "and is right");
}
