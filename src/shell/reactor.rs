//! The poll loop. It owns the poll, the listener and the clock, and tells the
//! server what happened; every decision is the server's.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::net::{TcpListener, UnixStream};
use mio::{Events, Interest, Poll, Token, Waker};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};

use crate::ground::time::Now;
use crate::hub::engine::Engine;
use crate::hub::memory::MemoryEngine;
use crate::server::admission::Source;
use crate::server::facts::Lap;
use crate::server::metrics::Metrics;
use crate::server::server::Server;

use super::lines::say;
use super::options::Options;
use super::process::Process;
use super::sqlite::{OpenError, SqliteEngine, is_taken, random_uuid};
use super::stream::{TcpSocket, readiness};

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
const SIGNALS: Token = Token(usize::MAX - 2);

/// Events taken from the kernel by one poll.
const EVENTS_MAX: usize = 1024;

/// Polls before a turn: as many as it takes to hear of all connections, but not without end.
const ROUNDS_MAX: usize = 64;

/// Connections that the kernel may hold for us before we accept them.
pub(super) const BACKLOG: i32 = 4096;

/// Bytes that the kernel holds for one connection before they are on their way.
#[cfg(any(target_os = "linux", target_os = "android"))]
const NOT_SENT_BYTES_MAX: u32 = 128 << 10;

/// How long accepting rests when the system has no descriptor or memory for it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections turned away before accepting rests again.
const TURNED_AWAY_MAX: usize = 64;

const NO_DESCRIPTOR: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n\
    Connection: close\r\nContent-Type: application/json\r\nContent-Length: 33\r\n\r\n\
    {\"detail\":\"too many connections\"}";

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

/// Why a server could not be started: one line that says what to do.
#[derive(Debug)]
pub struct StartError(String);

impl fmt::Display for StartError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

impl From<OpenError> for StartError {
    fn from(error: OpenError) -> Self {
        Self(error.to_string())
    }
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self(format!("cannot set up the poll loop: {error}"))
    }
}

/// Stops a running server from another thread.
#[derive(Debug, Clone)]
pub struct Handle {
    stop: Arc<AtomicBool>,
    waker: Arc<Waker>,
}

impl Handle {
    /// Does what SIGTERM does: the server stops accepting, commits, says goodbye
    /// to everyone and returns from [`Reactor::run`].
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
    listener: Option<TcpListener>,
    local_addr: SocketAddr,
    accepting: Accepting,
    /// Whether the last attempt to accept failed, which is said once.
    accept_failing: bool,
    /// A descriptor to spare: given up for a moment to accept and turn away who
    /// would otherwise wait without an answer.
    spare: Option<File>,
    signals: Option<UnixStream>,
    /// Whether somebody wants to see the counters.
    is_asked: Arc<AtomicBool>,
    handle: Handle,
    server: Server<TcpSocket, Box<dyn Engine>>,
    clock: Clock,
    /// When the last poll came back.
    woken: Instant,
    process: Process,
}

/// Whether the listener may have a connection for us. It is edge-triggered, too:
/// what was left there must be remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Accepting {
    /// It was accepted empty.
    Idle,
    /// There may be more.
    Ready,
    /// There may be more, but the system has no means for it before this time.
    Paused(Instant),
}

impl Reactor {
    /// Opens the store and the listener.
    ///
    /// # Errors
    ///
    /// A line that says what is wrong and what to do.
    pub fn start(options: &Options) -> Result<Self, StartError> {
        // The address first: who is started in vain shall leave no new file behind.
        let mut listener = listen(options.listen).map_err(|error| listen_error(options, &error))?;
        let local_addr = listener.local_addr()?;
        let engine = open_engine(options)?;
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let clock = Clock::start();
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            listener: Some(listener),
            local_addr,
            accepting: Accepting::Idle,
            accept_failing: false,
            spare: spare(),
            signals: None,
            is_asked: Arc::new(AtomicBool::new(false)),
            handle: Handle { stop: Arc::new(AtomicBool::new(false)), waker },
            server: Server::new(options.config.clone(), engine, random_seed(), clock.now()),
            woken: clock.origin,
            clock,
            process: Process::new(),
        })
    }

    /// Where it listens, with the port that it got.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What stops it from another thread.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Lets SIGTERM and SIGINT stop it, a second one of them end the process, and SIGUSR1 tell
    /// what was counted so far.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    pub fn handle_signals(&mut self) -> io::Result<()> {
        let (receiver, sender) = StdUnixStream::pair()?;
        receiver.set_nonblocking(true)?;
        let stop = &self.handle.stop;
        for signal in [SIGTERM, SIGINT] {
            signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(stop))?;
            signal_hook::flag::register(signal, Arc::clone(stop))?;
            signal_hook::low_level::pipe::register(signal, sender.try_clone()?)?;
        }
        signal_hook::flag::register(SIGUSR1, Arc::clone(&self.is_asked))?;
        signal_hook::low_level::pipe::register(SIGUSR1, sender)?;
        // A file that may not grow is the store's affair: without a handler it is our end.
        signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
        let mut receiver = UnixStream::from_std(receiver);
        self.poll.registry().register(&mut receiver, SIGNALS, Interest::READABLE)?;
        self.signals = Some(receiver);
        Ok(())
    }

    /// Serves until it is stopped, and returns what was counted.
    ///
    /// # Errors
    ///
    /// Where polling fails, which nothing can be done about.
    pub fn run(mut self) -> io::Result<Metrics> {
        while !self.server.is_finished() {
            self.look()?;
            if self.handle.stop.load(Ordering::Relaxed) && self.listener.take().is_some() {
                self.server.shut_down();
            }
            self.accept();
            if self.server.wants_facts() {
                self.server.tell_facts(self.process.facts(self.server.connections()));
            }
            self.server.turn();
            if self.is_asked.swap(false, Ordering::Relaxed) {
                // Whoever asks is told, whatever is logged.
                self.server.metrics().lines().iter().for_each(|line| say(&format!("polecat: {line}")));
            }
        }
        Ok(self.server.metrics().clone())
    }

    /// Sleeps, and tells the server all that the system has to tell: whoever has sent something
    /// is marked before the time of anyone is up.
    fn look(&mut self) -> io::Result<()> {
        let mut timeout = self.poll_timeout();
        let left = Instant::now();
        for round in 0..ROUNDS_MAX {
            let is_cut_short = match self.poll.poll(&mut self.events, timeout) {
                Ok(()) => false,
                // A process that was stopped is told this, and not what has come meanwhile.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    self.events.clear();
                    true
                }
                Err(error) => return Err(error),
            };
            if round == 0 {
                let woken = Instant::now();
                self.server.wake(self.clock.at(woken));
                self.server.note_lap(lap(self.woken, left, timeout, woken));
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

    /// How long the poll may sleep.
    fn poll_timeout(&mut self) -> Option<Duration> {
        let server = self.server.poll_timeout_ms().map(Duration::from_millis);
        let accept = match self.accepting {
            Accepting::Idle => None,
            Accepting::Ready => Some(Duration::ZERO),
            Accepting::Paused(until) => Some(until.saturating_duration_since(Instant::now())),
        };
        [server, accept].into_iter().flatten().min()
    }

    /// Tells the server what the poll has found.
    fn mark(&mut self) {
        for event in &self.events {
            match event.token() {
                LISTENER => self.accepting = Accepting::Ready,
                WAKER => {}
                SIGNALS => {
                    if let Some(signals) = &mut self.signals {
                        // Only the waking matters: the flag says the rest.
                        let _ = signals.read(&mut [0; 64]);
                    }
                }
                Token(index) => {
                    if let Ok(index) = u32::try_from(index) {
                        self.server.ready(index, readiness(event));
                    }
                }
            }
        }
    }

    /// Answers those who wait to be accepted while there is no descriptor for
    /// them: one at a time, with the spare one.
    fn turn_away(&mut self) {
        for _ in 0..TURNED_AWAY_MAX {
            if self.spare.take().is_none() {
                break;
            }
            if let Some(listener) = &self.listener
                && let Ok((mut stream, _)) = listener.accept()
            {
                // It fits into any socket buffer, and who does not read it loses nothing.
                let _ = stream.write(NO_DESCRIPTOR);
                let _ = stream.shutdown(Shutdown::Write);
                drop(stream);
                self.server.count_turned_away();
                self.spare = spare();
            } else {
                self.spare = spare();
                return;
            }
        }
        self.spare = self.spare.take().or_else(spare);
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else {
            self.accepting = Accepting::Idle;
            return;
        };
        match self.accepting {
            Accepting::Idle => return,
            Accepting::Paused(until) if Instant::now() < until => return,
            Accepting::Ready | Accepting::Paused(_) => self.accepting = Accepting::Ready,
        }
        for _ in 0..self.server.config().budgets.accepts {
            match listener.accept() {
                Ok((mut stream, peer)) => {
                    self.accept_failing = false;
                    let token = Token(self.server.next_index() as usize);
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    match self.poll.registry().register(&mut stream, token, interest) {
                        Ok(()) => {
                            self.server.accept(TcpSocket(stream), source(peer.ip()));
                        }
                        Err(error) => log::error!("a connection cannot be polled and is dropped: {error}"),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.accepting = Accepting::Idle;
                    return;
                }
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) => {
                    if !self.accept_failing {
                        log::warn!("new connections are turned away until this is over: {error}");
                        self.accept_failing = true;
                    }
                    self.turn_away();
                    self.accepting = Accepting::Paused(Instant::now() + ACCEPT_PAUSE);
                    return;
                }
            }
        }
    }
}

/// The time round the loop: the turn after the poll that came back at `before`, and the poll
/// from then to `woken`.
fn lap(before: Instant, left: Instant, timeout: Option<Duration>, woken: Instant) -> Lap {
    let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let late = timeout.and_then(|timeout| woken.duration_since(left).checked_sub(timeout));
    Lap {
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
    // Memory has bounds of its own, within which retention counts, too.
    let records = |retained: Option<u64>| {
        let retained = retained.and_then(|count| usize::try_from(count).ok());
        retained.unwrap_or(MemoryEngine::RECORDS_MAX_DEFAULT).min(MemoryEngine::RECORDS_MAX_DEFAULT)
    };
    let engine = MemoryEngine::default()
        .with_records(records(store.retain_messages), records(store.retain_events))
        .with_window_ms(store.idempotency_window_ms)
        // Its ids begin anew at each start: those of the one before mean nothing.
        .with_epoch(&random_uuid());
    Ok(Box::new(engine))
}

/// What shares a limit on connections: an IPv4 address, or the first half of an
/// IPv6 address, which is what one site has.
fn source(addr: IpAddr) -> Source {
    match addr.to_canonical() {
        // Where an IPv6 address would have the prefix of mapped IPv4 addresses, which it never has.
        IpAddr::V4(addr) => Source(0xffff_0000_0000 | u64::from(addr.to_bits())),
        IpAddr::V6(addr) => Source((addr.to_bits() >> 64) as u64),
    }
}

/// Whether accepting failed for this one connection only, so that the next may succeed.
fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(addr),
        socket2::Type::STREAM.nonblocking(),
        Some(socket2::Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    // Inherited by what is accepted: small frames leave at once, and it costs no
    // system call for each connection.
    socket.set_tcp_nodelay(true)?;
    // Inherited, too: what the kernel takes in for a slow reader beyond what is on
    // its way. That bounds the kernel's memory, lets a ping pass a backlog, and tells
    // early of a reader that goes on.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_notsent_lowat(NOT_SENT_BYTES_MAX)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

fn listen_error(options: &Options, error: &io::Error) -> StartError {
    let addr = options.listen;
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
            "stop what is listening there, or choose another address with --listen"
        }
        (io::ErrorKind::PermissionDenied, _) => "choose a port above 1023 with --listen",
        (io::ErrorKind::AddrNotAvailable, _) => "choose an address of this machine with --listen",
        _ => "choose another address with --listen",
    };
    StartError(format!("cannot listen on {addr}: {error}; {remedy}"))
}

/// The clocks, read once per turn.
struct Clock {
    origin: Instant,
}

impl Clock {
    fn start() -> Self {
        Self { origin: Instant::now() }
    }

    fn now(&self) -> Now {
        self.at(Instant::now())
    }

    /// Both clocks, the one of which has just been read.
    fn at(&self, instant: Instant) -> Now {
        let elapsed = instant.duration_since(self.origin);
        let monotonic_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_micros = i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX);
        Now { monotonic_ms, unix_micros }
    }
}

/// Randomness from the operating system, by way of what the standard library
/// seeds its hash maps with.
pub(super) fn random_seed() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(std::process::id())
}
