//! Memory that runs short: PROTOCOL.md, "13.3 Limits".

use crate::support::raw::TEXT;
use crate::support::{Home, Http, Process, RawSocket, Response, Socket, eventually, skip};

/// Bytes of a message that is never finished.
const UNFINISHED: usize = 1_000_000;
const CLIENTS: usize = 40;
/// The memory that is left for new connections, beyond what a server uses.
const LEFT: u64 = 20 << 20;

/// Connects until one is answered with `status`.
fn come_until(status: u16, process: &Process) -> Response {
    eventually(&format!("an answer {status}"), || {
        let mut http = Http::connect(process.addr());
        http.send_what_is_taken("GET /api/health HTTP/1.1\r\nHost: a\r\n\r\n");
        Some(http.response()).filter(|response| response.status == status)
    })
}

#[test]
fn who_comes_while_memory_is_short_is_told_to_come_later_and_who_is_there_is_served() {
    let home = Home::new();
    let probe = Process::serve(&home.database(), &[]);
    let Some(memory) = probe.memory() else { return skip("no /proc to see memory in") };
    probe.kill();
    let bytes_max = (memory.resident + LEFT).to_string();
    let mut process = Process::serve(&home.database(), &["--max-memory", &bytes_max]);
    let mut witness = Socket::connect(process.addr(), "/api/ws");
    come_until(200, &process);
    let mut hoarders = Vec::new();
    for _ in 0..CLIENTS {
        let mut hoarder =
            RawSocket::connect_and_send(process.addr(), &crate::support::raw::upgrade("/api/ws"));
        if !hoarder.read_head().starts_with("HTTP/1.1 101 ") {
            break;
        }
        hoarder.send_frame(false, TEXT, &vec![b'x'; UNFINISHED]);
        hoarders.push(hoarder);
    }
    let refused = come_until(503, &process);
    assert_eq!(refused.json()["detail"], "too little memory is left");
    assert_eq!((refused.header("retry-after"), refused.header("connection")), (Some("5"), Some("close")));
    process.next_logged(" WARN  new connections are refused: ");
    witness.send_text("still here");
    assert_eq!(witness.next_text(), "still here");
    drop(hoarders);
    come_until(200, &process);
    // Not because nobody was connected.
    witness.send_text("still here");
    assert_eq!(witness.next_text(), "still here");
    process.kill();
}
