//! The poll loop. It owns the poll, the listeners and the clock, and reports events to the server, which
//! makes all decisions.

use std::fmt;
use std::io::{self, Read as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::net::UnixStream;
use mio::{Events, Interest, Poll, Token, Waker};
use signal_hook::consts::{SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};
use uuid::Uuid;

use crate::server::host::LoopTiming;
use crate::server::metrics::Metrics;
use crate::server::server::Server;
use crate::store::engine::Engine;
use crate::store::memory::MemoryEngine;

use super::clock::Clock;
use super::lines::say;
use super::listeners::Listeners;
use super::notify::Supervisor;
use super::options::Options;
use super::process::{self, Process};
use super::stream::{TcpSocket, readiness};
use crate::store::sqlite::descriptors;
use crate::store::sqlite::{OpenError, SqliteEngine, is_taken};

const WAKER: Token = Token(usize::MAX);
const SIGNALS: Token = Token(usize::MAX - 1);

/// Events taken from the kernel by one poll.
const EVENTS_MAX: usize = 1024;

/// The most polls before a turn: enough to hear of all connections, but not without end.
const ROUNDS_MAX: usize = 64;

/// A poll that returns this much too late has not reported everything that arrived in the meantime.
const LATE: Duration = Duration::from_millis(20);

/// The time between two checks of the memory in use.
const MEMORY_INTERVAL: Duration = Duration::from_millis(500);

/// Why a server could not be started: one line that says what to do.
#[derive(Debug)]
pub struct StartError(String);

impl fmt::Display for StartError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl From<OpenError> for StartError {
    fn from(error: OpenError) -> Self {
        Self(error.to_string())
    }
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self(format!("cannot set up the poll loop: {}", descriptors::explain(&error)))
    }
}

/// Stops a running server from another thread.
#[derive(Debug, Clone)]
pub struct Handle {
    stop: Arc<AtomicBool>,
    waker: Arc<Waker>,
}

impl Handle {
    /// Does the same as SIGTERM: the server stops accepting, commits, closes all connections and returns from
    /// [`Reactor::run`].
    pub fn shut_down(&self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Err(error) = self.waker.wake() {
            log::error!("the poll loop cannot be woken: {error}");
        }
    }
}

/// A server on its poll loop. It stays in the thread that made it.
pub struct Reactor {
    poll: Poll,
    events: Events,
    listeners: Listeners,
    local_addrs: Vec<SocketAddr>,
    signals: Option<UnixStream>,
    /// Whether the counters were requested.
    is_asked: Arc<AtomicBool>,
    /// Whether a reload was requested.
    is_hung_up: Arc<AtomicBool>,
    /// Whether children may have ended that nobody has waited for. We start none. But process 1 of a
    /// container gets all orphans, and a shell that replaces itself by us leaves us its children.
    has_defunct: Arc<AtomicBool>,
    /// Set by SIGCONT.
    was_continued: Arc<AtomicBool>,
    supervisor: Option<Supervisor>,
    /// When to check the memory in use, if it has a limit.
    memory_due: Option<Instant>,
    handle: Handle,
    server: Server<TcpSocket>,
    clock: Clock,
    /// When the last poll returned.
    woken: Instant,
}

impl Reactor {
    /// Opens the store, and listens according to the options.
    pub fn start(options: &Options) -> Result<Self, StartError> {
        // The address comes first: a start that fails must leave no new file behind.
        let listeners = Listeners::bind(options.listen).map_err(|error| listen_error(options, &error))?;
        Self::start_with(options, listeners)
    }

    /// Opens the store, and listens on `sockets`, which are bound already and may be held by other processes
    /// too: then clients that connect while no process serves them are not refused.
    pub fn start_on(options: &Options, sockets: Vec<TcpListener>) -> Result<Self, StartError> {
        let listeners = Listeners::take_over(sockets);
        let listeners = listeners.map_err(|error| {
            let reason = descriptors::explain(&error);
            StartError(format!("cannot listen on the sockets that were handed over: {reason}"))
        })?;
        Self::start_with(options, listeners)
    }

    fn start_with(options: &Options, mut listeners: Listeners) -> Result<Self, StartError> {
        let local_addrs = listeners.addrs().collect();
        let engine = open_engine(options)?;
        let poll = Poll::new()?;
        listeners.register(poll.registry())?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let clock = Clock::start();
        let is_limited = options.config.limits.resident_bytes_max > 0;
        if is_limited && process::resident_bytes().is_none() {
            return Err(StartError(
                "--max-memory does not work here: the system does not tell how much memory is in use"
                    .to_owned(),
            ));
        }
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            listeners,
            local_addrs,
            signals: None,
            is_asked: Arc::default(),
            is_hung_up: Arc::default(),
            has_defunct: Arc::default(),
            was_continued: Arc::default(),
            supervisor: None,
            memory_due: is_limited.then_some(clock.origin),
            handle: Handle { stop: Arc::default(), waker },
            server: Server::new(options.config.clone(), engine, random_seed(), clock.now())
                .with_host(Box::new(Process::new())),
            woken: clock.origin,
            clock,
        })
    }

    /// The addresses that it listens on, with their actual ports.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Sets up the signals: SIGTERM and SIGINT stop the server, and the second of them ends the process;
    /// SIGUSR1 prints the counters; SIGCHLD reaps children; SIGCONT reports that the process was stopped;
    /// SIGHUP does nothing.
    pub fn handle_signals(&mut self) -> io::Result<()> {
        let (receiver, sender) = StdUnixStream::pair()?;
        receiver.set_nonblocking(true)?;
        let stop = &self.handle.stop;
        for signal in [SIGTERM, SIGINT] {
            signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(stop))?;
            signal_hook::flag::register(signal, Arc::clone(stop))?;
            signal_hook::low_level::pipe::register(signal, sender.try_clone()?)?;
        }
        let flags = [
            (SIGUSR1, &self.is_asked),
            (SIGHUP, &self.is_hung_up),
            (SIGCHLD, &self.has_defunct),
            (SIGCONT, &self.was_continued),
        ];
        for (signal, flag) in flags {
            signal_hook::flag::register(signal, Arc::clone(flag))?;
            signal_hook::low_level::pipe::register(signal, sender.try_clone()?)?;
        }
        // If a file may not grow, that is for the store to handle; without a handler, the signal would end
        // the process.
        signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
        let mut receiver = UnixStream::from_std(receiver);
        self.poll.registry().register(&mut receiver, SIGNALS, Interest::READABLE)?;
        self.signals = Some(receiver);
        // Some may have ended before.
        self.has_defunct.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Notifies `supervisor` when the server serves, that its loop is running, and when it stops.
    pub(crate) fn report_to(&mut self, supervisor: Supervisor) {
        self.supervisor = Some(supervisor);
    }

    /// Serves until it is stopped, and returns the counters.
    pub fn run(mut self) -> io::Result<Metrics> {
        if let Some(supervisor) = &mut self.supervisor {
            supervisor.ready("serving");
        }
        while !self.server.is_finished() {
            self.look()?;
            if self.handle.stop.load(Ordering::Relaxed) && self.listeners.stop(self.poll.registry()) {
                self.begin_to_stop();
            }
            self.look_at_memory();
            self.listeners.accept(self.poll.registry(), &mut self.server);
            self.server.turn();
            self.heed_signals();
            if let Some(supervisor) = &mut self.supervisor {
                supervisor.turned(|| status(&self.server));
            }
        }
        Ok(self.server.metrics().clone())
    }

    /// Reports the memory in use to the server from time to time. Nothing wakes up for it: the check happens
    /// when a connection arrives that might have to be refused.
    fn look_at_memory(&mut self) {
        if self.memory_due.is_none_or(|due| self.woken < due) {
            return;
        }
        self.memory_due = Some(self.woken + MEMORY_INTERVAL);
        if let Some(bytes) = process::resident_bytes() {
            self.server.note_resident(bytes);
        }
    }

    fn begin_to_stop(&mut self) {
        self.server.shut_down();
        let stopping = format!("stopping; {}", status(&self.server));
        log::info!("{stopping}");
        if let Some(supervisor) = &mut self.supervisor {
            supervisor.stopping(&stopping);
        }
    }

    fn heed_signals(&mut self) {
        if self.is_asked.swap(false, Ordering::Relaxed) {
            // The counters are printed whatever the log level is.
            self.server.metrics().lines().iter().for_each(|line| say(&format!("polecat: {line}")));
        }
        if self.is_hung_up.swap(false, Ordering::Relaxed) {
            log::info!("SIGHUP has no effect: there is no file to reread or reopen");
        }
        if self.has_defunct.swap(false, Ordering::Relaxed) && process::reap() {
            self.has_defunct.store(true, Ordering::Relaxed);
        }
    }

    /// Sleeps, and reports all events to the server: a connection that has sent something is marked before
    /// any deadline is checked.
    fn look(&mut self) -> io::Result<()> {
        let mut timeout = self.poll_timeout();
        let left = Instant::now();
        self.server.end_turn(self.clock.at(left));
        for round in 0..ROUNDS_MAX {
            let mut is_cut_short = match self.poll.poll(&mut self.events, timeout) {
                Ok(()) => false,
                // If the process was stopped, the poll reports that instead of the events that occurred in
                // the meantime.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    self.events.clear();
                    true
                }
                Err(error) => return Err(error),
            };
            if round == 0 {
                let woken = Instant::now();
                // Stopped after it had found something, and before it could report it.
                is_cut_short |= timeout.is_some_and(|timeout| woken - left > timeout + LATE);
                if self.was_continued.swap(false, Ordering::Relaxed) {
                    self.server.note_stop();
                }
                self.server.wake(self.clock.at(woken));
                self.server.note_timing(timing(self.woken, left, timeout, woken));
                self.woken = woken;
            }
            self.mark();
            if !is_cut_short && self.events.iter().count() < EVENTS_MAX {
                break;
            }
            timeout = Some(Duration::ZERO);
        }
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Duration> {
        let reaping = self.has_defunct.load(Ordering::Relaxed).then_some(Duration::ZERO);
        let server = self.server.poll_timeout_ms().map(Duration::from_millis);
        let watchdog = self.supervisor.as_ref().and_then(Supervisor::poll_timeout);
        [reaping, server, self.listeners.poll_timeout(), watchdog].into_iter().flatten().min()
    }

    /// Reports the events of the poll to the server.
    fn mark(&mut self) {
        for event in &self.events {
            match event.token() {
                WAKER => {}
                SIGNALS => {
                    if let Some(signals) = &mut self.signals {
                        // Only the wake-up matters: the flags say the rest.
                        let _ = signals.read(&mut [0; 64]);
                    }
                }
                token if self.listeners.mark(token) => {}
                Token(index) => {
                    if let Ok(index) = u32::try_from(index) {
                        self.server.ready(index, readiness(event));
                    }
                }
            }
        }
    }
}

/// The state of the server, in a line.
fn status(server: &Server<TcpSocket>) -> String {
    format!("{} connections, {} records stored", server.connections(), server.metrics().committed)
}

/// The timing of one round: the turn after the poll that returned at `before`, and the poll from then to
/// `woken`.
fn timing(before: Instant, left: Instant, timeout: Option<Duration>, woken: Instant) -> LoopTiming {
    let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let late = timeout.and_then(|timeout| woken.duration_since(left).checked_sub(timeout));
    LoopTiming {
        turn_us: micros(left.duration_since(before)),
        lag_us: late.map(micros),
        slept: timeout != Some(Duration::ZERO),
    }
}

fn open_engine(options: &Options) -> Result<Box<dyn Engine>, OpenError> {
    let store = &options.store;
    if let Some(database) = &options.database {
        return Ok(Box::new(SqliteEngine::open(database, store)?));
    }
    // Memory has bounds of its own; within them, retention applies too.
    let records = |retained: Option<u64>| {
        let retained = retained.and_then(|count| usize::try_from(count).ok());
        retained.unwrap_or(MemoryEngine::RECORDS_MAX_DEFAULT).min(MemoryEngine::RECORDS_MAX_DEFAULT)
    };
    let engine = MemoryEngine::default()
        .with_records(records(store.retain_messages), records(store.retain_events))
        .with_window_ms(store.idempotency_window_ms)
        // Its ids begin anew at each start, so those of the start before mean nothing.
        .with_epoch(&Uuid::new_v4().to_string());
    Ok(Box::new(engine))
}

fn listen_error(options: &Options, error: &io::Error) -> StartError {
    let addr = options.listen;
    if descriptors::are_lacking(error) {
        return StartError(format!("cannot listen on {addr}: {}", descriptors::explain(error)));
    }
    let taken = options.database.as_deref().filter(|database| is_taken(database));
    let remedy = match (error.kind(), taken) {
        (io::ErrorKind::AddrInUse, Some(database)) => {
            let database = database.display();
            return StartError(format!(
                "cannot listen on {addr}: {error}, and another polecat is using {database}: it may be running \
                 already; stop that, or choose another address with --listen and another file with --db"
            ));
        }
        (io::ErrorKind::AddrInUse, None) => {
            "stop the program that listens there, or choose another address with --listen"
        }
        (io::ErrorKind::PermissionDenied, _) => "choose a port above 1023 with --listen",
        (io::ErrorKind::AddrNotAvailable, _) => "choose an address that this machine has with --listen",
        _ => "choose another address with --listen",
    };
    StartError(format!("cannot listen on {addr}: {error}; {remedy}"))
}

/// Randomness from the operating system.
pub(crate) fn random_seed() -> u64 {
    // The few bits that are the same in each UUID are at different positions of the two halves.
    let (high, low) = Uuid::new_v4().as_u64_pair();
    high ^ low
}
