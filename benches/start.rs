//! What a server costs before anybody comes: `cargo bench --bench start`. From the
//! start of the process to the first answer, the size of the binary, memory at rest.

#![allow(missing_docs)]
#![expect(clippy::print_stdout, reason = "it prints its table")]

use std::error::Error;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 50;

/// Bytes resident at rest, at most.
const RESIDENT_BYTES_MAX: u64 = 5_000_000;

const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Result<(), Box<dyn Error>> {
    let binary = env!("CARGO_BIN_EXE_polecat");
    let folder = tempfile::tempdir()?;
    let (mut listening, mut answered, mut resident) = (Vec::new(), Vec::new(), 0);
    for round in 0..ROUNDS {
        let begun = Instant::now();
        let mut server = Command::new(binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--db"])
            .arg(folder.path().join(format!("{round}.db")))
            .stderr(Stdio::piped())
            .spawn()?;
        let outcome = first_answer(&mut server, begun);
        resident = resident.max(resident_bytes(server.id()).unwrap_or_default());
        server.kill()?;
        server.wait()?;
        let (at_listening, at_answer) = outcome?;
        listening.push(at_listening);
        answered.push(at_answer);
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        format!(
            "{:.2} ms (of {ROUNDS}: {:.2} to {:.2} ms)",
            ms(times[ROUNDS / 2]),
            ms(times[0]),
            ms(times[ROUNDS - 1])
        )
    };
    println!("start, new database, until it listens         {}", median(&mut listening));
    println!("start, new database, until the first answer   {}", median(&mut answered));
    println!("bytes of the binary                           {}", std::fs::metadata(binary)?.len());
    println!("bytes resident at rest                        {resident}");
    if resident > RESIDENT_BYTES_MAX {
        return Err(format!("more than {RESIDENT_BYTES_MAX} bytes resident").into());
    }
    Ok(())
}

/// When it said that it listens, and when it had answered a request.
fn first_answer(server: &mut Child, begun: Instant) -> Result<(Duration, Duration), Box<dyn Error>> {
    let mut lines = BufReader::new(server.stderr.take().ok_or("no stderr")?);
    let mut line = String::new();
    lines.read_line(&mut line)?;
    let at_listening = begun.elapsed();
    let addr = line.split_once("listening on http://").and_then(|(_, rest)| rest.split_whitespace().next());
    let mut stream = TcpStream::connect(addr.ok_or_else(|| format!("it does not listen: {line}"))?)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /api/health HTTP/1.1\r\nHost: bench\r\n\r\n")?;
    let read = stream.read(&mut [0; 4096])?;
    if read == 0 {
        return Err("no answer".into());
    }
    Ok((at_listening, begun.elapsed()))
}

/// `None` where the system has no `/proc`.
fn resident_bytes(process: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
    let line = text.lines().find(|line| line.starts_with("Rss:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
