//! The cost of a server before any client connects: `cargo bench --bench start`. The time from the start of
//! the process to the first response, the size of the binary, memory at rest.

#![expect(clippy::print_stdout, reason = "it prints its table")]

use std::error::Error;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 50;

const BINARY: &str = env!("CARGO_BIN_EXE_polecat");

/// The most bytes resident at rest that are not shared with other processes.
const PRIVATE_BYTES_MAX: u64 = 5_000_000;

const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    // Creating a database waits for the disk several times.
    starts("a new database", |round| folder.path().join(format!("{round}.db")))?;
    let memory = starts("a database that is there", |_| folder.path().join("0.db"))?;
    println!("bytes of the binary            {}", std::fs::metadata(BINARY)?.len());
    let Some(memory) = memory else { return Ok(()) };
    println!("bytes resident at rest         {}", memory.resident);
    println!("of them shared with no other   {}", memory.private);
    if memory.private > PRIVATE_BYTES_MAX {
        return Err(
            format!("more than {PRIVATE_BYTES_MAX} bytes that are shared with no other process").into()
        );
    }
    Ok(())
}

/// Starts it repeatedly; returns its memory in the last round.
fn starts(what: &str, database: impl Fn(usize) -> PathBuf) -> Result<Option<Memory>, Box<dyn Error>> {
    let (mut listening, mut answered, mut memory) = (Vec::new(), Vec::new(), None);
    for round in 0..ROUNDS {
        let begun = Instant::now();
        let mut server = Command::new(BINARY)
            .args(["serve", "--listen", "127.0.0.1:0", "--db"])
            .arg(database(round))
            .stderr(Stdio::piped())
            .spawn()?;
        let outcome = first_answer(&mut server, begun);
        memory = Memory::of(server.id());
        server.kill()?;
        server.wait()?;
        let (at_listening, at_answer) = outcome?;
        listening.push(ms(at_listening));
        answered.push(ms(at_answer));
    }
    println!("{what}: ms until it listens, until the first answer; median (and range) of {ROUNDS}");
    for times in [&mut listening, &mut answered] {
        times.sort_unstable_by(f64::total_cmp);
        println!("{:30} {:.2} ({:.2} to {:.2})", "", times[ROUNDS / 2], times[0], times[ROUNDS - 1]);
    }
    Ok(memory)
}

/// When it reported that it listens, and when it had answered a request.
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

#[derive(Clone, Copy)]
struct Memory {
    resident: u64,
    /// The part that is not shared with other processes, as a shared library is.
    private: u64,
}

impl Memory {
    /// `None` if the system has no `/proc`.
    fn of(process: u32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
        let field = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
        };
        Some(Self { resident: field("Rss:")?, private: field("Private_Clean:")? + field("Private_Dirty:")? })
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
