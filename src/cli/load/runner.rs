//! A run of the load generator on a poll loop of its own.

use std::io::{self, IsTerminal as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustix::process::{Resource, getrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};
use tungstenite::handshake::client::generate_key;

use crate::load::driver::{Driver, Stage};
use crate::load::plan::Workload;

use crate::shell::reactor::random_seed;
use crate::shell::stream::{TcpSocket, readiness};

use super::super::url::Url;
use super::flags::{Load, Run};
use super::process::{self, Usage};
use super::report::{ClientUsage, Report, ServerUsage};
use super::target::Sources;

/// The most events taken from the kernel by one poll. They are few, since the clock is read only once for all
/// of them.
const EVENTS_MAX: usize = 128;

/// Connects that are begun before the next poll.
const CONNECTS_MAX: usize = 64;

/// Runs the load generator and prints its report. Returns whether all was well.
pub(in crate::cli) fn run(load: Load) -> Result<bool, String> {
    let run = load.run(generate_key());
    let addr = run.url.addr()?;
    let publish_addr = run.publish_url.as_ref().map_or(Ok(addr), Url::addr)?;
    check_descriptors(run.plan.peers())?;
    let pids = if run.pids.is_empty() && addr.ip().is_loopback() {
        process::listening_on(addr.port())
    } else {
        run.pids.clone()
    };
    let is_json = run.json;
    let report = Runner::new(run, addr, publish_addr, pids)
        .and_then(Runner::run)
        .map_err(|error| format!("the poll loop failed: {error}"))?;
    let text = if is_json {
        serde_json::to_string(&report).map_err(|error| error.to_string())? + "\n"
    } else {
        report.table()
    };
    crate::shell::lines::print(&text).map_err(|error| format!("the report cannot be written: {error}"))?;
    Ok(report.is_good())
}

fn check_descriptors(connections: u32) -> Result<(), String> {
    const RESERVED: u64 = 16;
    match getrlimit(Resource::Nofile).current {
        Some(descriptors) if u64::from(connections) + RESERVED > descriptors => Err(format!(
            "{connections} connections need more than the {descriptors} descriptors that the system allows this \
             process; raise that with `ulimit -n`"
        )),
        _ => Ok(()),
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Snapshot {
    at_us: u64,
    server: Option<Usage>,
    client: Option<Usage>,
}

impl Snapshot {
    fn of(pids: &[u32], origin: Instant) -> Self {
        Self { at_us: us_since(origin), server: Usage::of(pids), client: Usage::of(&[std::process::id()]) }
    }
}

fn us_since(origin: Instant) -> u64 {
    u64::try_from(origin.elapsed().as_micros()).unwrap_or(u64::MAX)
}

struct Runner {
    poll: Poll,
    driver: Driver<TcpSocket>,
    addr: SocketAddr,
    publish_addr: SocketAddr,
    sources: Option<Sources>,
    origin: Instant,
    pids: Vec<u32>,
    /// Before the first connect, when all connections were open, and when measuring began and ended.
    snapshots: [Snapshot; 4],
    connections: u32,
    progress: ProgressBar,
    /// Whether to print a line for each stage.
    stages: bool,
    /// Whether to end, which the next turn does; and whether that was requested.
    stop: Arc<AtomicBool>,
    is_interrupted: bool,
}

impl Runner {
    fn new(run: Run, addr: SocketAddr, publish_addr: SocketAddr, pids: Vec<u32>) -> io::Result<Self> {
        let begun = Instant::now();
        // Before memory is allocated for connections: that counts as use of this process.
        let before = Snapshot::of(&pids, begun);
        let is_shown = io::stderr().is_terminal() && !run.json && !run.stages;
        let progress =
            if is_shown { ProgressBar::new(u64::from(run.plan.peers())) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{msg:12} {bar:40} {pos}/{len} {elapsed}") {
            progress.set_style(style);
        }
        let stop = Arc::default();
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&stop))?;
        }
        let sources = run.sources.or_else(|| Sources::found(addr, run.plan.peers()));
        Ok(Self {
            poll: Poll::new()?,
            driver: Driver::new(run.plan, random_seed()),
            sources,
            addr,
            publish_addr,
            origin: begun,
            pids,
            snapshots: [before; 4],
            connections: 0,
            progress,
            stages: run.stages,
            stop,
            is_interrupted: false,
        })
    }

    fn run(mut self) -> io::Result<Report> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut stage = Stage::Connecting;
        while stage != Stage::Done {
            self.connect_some();
            let mut timeout = self.timeout();
            while let Err(error) = self.poll.poll(&mut events, Some(timeout)) {
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
                // If the process was stopped, the poll reports that instead of the events that occurred in
                // the meantime.
                timeout = Duration::ZERO;
            }
            for event in &events {
                if let Ok(index) = u32::try_from(event.token().0) {
                    self.driver.ready(index, readiness(event));
                }
            }
            let now_us = us_since(self.origin);
            self.driver.turn(now_us);
            if self.stop.swap(false, Ordering::Relaxed) {
                self.is_interrupted = true;
                self.driver.stop(now_us);
            }
            let next = self.driver.stage();
            if next != stage {
                self.enter(stage, next);
                stage = next;
            }
            self.show(stage);
        }
        self.progress.finish_and_clear();
        Ok(self.report())
    }

    /// A poll sleeps for whole milliseconds. If messages are due at a rate, it wakes up before and checks
    /// again, so that they are not late.
    fn timeout(&self) -> Duration {
        let us = self.driver.timeout_us();
        if self.driver.plan().rate.is_some() {
            Duration::from_millis(us / 1000)
        } else {
            Duration::from_micros(us)
        }
    }

    /// Records the use so far, at the end of a stage.
    fn enter(&mut self, before: Stage, next: Stage) {
        if self.stages {
            let (open, seconds) = (self.driver.open(), us_since(self.origin) / 1_000_000);
            // The report has the same information.
            let _ = writeln!(io::stderr(), "{} with {open} open after {seconds} s", next.name());
        }
        let snapshot = Snapshot::of(&self.pids, self.origin);
        if before == Stage::Connecting {
            self.connections = self.driver.open();
            self.snapshots[1..].fill(snapshot);
        }
        match next {
            Stage::Measuring => self.snapshots[2..].fill(snapshot),
            Stage::Finishing if before == Stage::WarmUp => self.snapshots[2..].fill(snapshot),
            Stage::Finishing => self.snapshots[3] = snapshot,
            _ => {}
        }
    }

    fn show(&self, stage: Stage) {
        if self.progress.is_hidden() {
            return;
        }
        self.progress.set_message(stage.name());
        self.progress.set_position(u64::from(self.driver.open()));
    }

    fn connect_some(&mut self) {
        for _ in 0..CONNECTS_MAX {
            let now_us = us_since(self.origin);
            let Some(index) = self.driver.next_to_open(now_us) else { return };
            match self.connect(index) {
                Ok(stream) => self.driver.opened(index, TcpSocket(stream), now_us),
                Err(error) => self.driver.failed(index, &format!("cannot connect: {}", error.kind())),
            }
        }
    }

    fn connect(&self, index: u32) -> io::Result<TcpStream> {
        let plan = self.driver.plan();
        let addr = if plan.publishes(index) { self.publish_addr } else { self.addr };
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(addr),
            socket2::Type::STREAM.nonblocking(),
            Some(socket2::Protocol::TCP),
        )?;
        socket.set_tcp_nodelay(true)?;
        if let Some(sources) = self.sources {
            let source: IpAddr = sources.of(index);
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        match socket.connect(&addr.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        let mut stream = TcpStream::from_std(socket.into());
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(index as usize), interest)?;
        Ok(stream)
    }

    fn report(&self) -> Report {
        let [before, open, begin, end] = self.snapshots;
        let last = Snapshot::of(&self.pids, self.origin);
        let (plan, tally) = (self.driver.plan(), self.driver.tally());
        let seconds = self.driver.counted_us() as f64 / 1e6;
        let connecting_seconds = (open.at_us - before.at_us) as f64 / 1e6;
        let connections = u64::from(self.connections);
        // After resuming, the handshakes are not those of the beginning.
        let first_handshakes = if plan.workload == Workload::Storm { connections } else { tally.handshakes };
        let server = self.server_usage(last.server, first_handshakes);
        let client = before.client.zip(open.client).map(|(first, open_usage)| {
            let cpu = cpu_ns(begin.client, end.client);
            let cpu_ns_per_operation = cpu.and_then(|cpu| per(cpu, tally.operations));
            let cpu_share = cpu.and_then(|cpu| per(cpu / 1e3, end.at_us - begin.at_us));
            ClientUsage {
                resident_bytes_per_connection: per(grown(first, open_usage), connections),
                ..ClientUsage::new(cpu_ns_per_operation, cpu_share, plan.rate.is_some())
            }
        });
        Report {
            workload: plan.workload.name(),
            url: format!("{}{}", plan.endpoint.host, plan.endpoint.target),
            interrupted: self.is_interrupted,
            connections: self.connections,
            alive: self.driver.alive(),
            seconds,
            operations_per_second: tally.operations as f64 / seconds.max(1e-6),
            latency_us: tally.latencies.summary(),
            handshakes_per_second: first_handshakes as f64 / connecting_seconds.max(1e-6),
            handshake_latency_us: tally.handshake_latencies.summary(),
            received_bytes_per_operation: per(tally.received_bytes as f64, tally.operations),
            tally: tally.clone(),
            faults: self.driver.order().faults,
            server,
            client,
        }
    }

    /// The use of the server up to now, `last`.
    fn server_usage(&self, last: Option<Usage>, first_handshakes: u64) -> Option<ServerUsage> {
        let [before, open, begin, end] = self.snapshots;
        let (first, open_usage, usage) = (before.server?, open.server?, last?);
        let (connections, operations) = (u64::from(self.connections), self.driver.tally().operations);
        let cpu = cpu_ns(begin.server, end.server).unwrap_or_default();
        Some(ServerUsage {
            pids: self.pids.clone(),
            cpu_seconds: cpu / 1e9,
            cpu_ns_per_operation: per(cpu, operations),
            cpu_ns_per_handshake: cpu_ns(before.server, open.server)
                .and_then(|cpu| per(cpu, first_handshakes)),
            resident_bytes_before: first.resident_bytes,
            resident_bytes_open: open_usage.resident_bytes,
            resident_bytes: usage.resident_bytes,
            resident_bytes_per_connection_open: per(grown(first, open_usage), connections),
            resident_bytes_per_connection: per(grown(first, usage), connections),
        })
    }
}

fn per(value: f64, count: u64) -> Option<f64> {
    (count > 0).then(|| value / count as f64)
}

fn cpu_ns(from: Option<Usage>, to: Option<Usage>) -> Option<f64> {
    from.zip(to).map(|(from, to)| to.cpu_ns.saturating_sub(from.cpu_ns) as f64)
}

fn grown(from: Usage, to: Usage) -> f64 {
    to.resident_bytes as f64 - from.resident_bytes as f64
}
