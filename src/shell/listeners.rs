//! The listening sockets: either one of our own, or those that the parent process has created and keeps after
//! our end. Connections are accepted here, within the budget of a turn, and handed to the server.

use std::fs::File;
use std::io::{self, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener as StdTcpListener};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use mio::event::Source as _;
use mio::net::TcpListener;
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use service_binding::{Binding, Listener as Inherited};
use socket2::{Domain, SockRef, Type};

use crate::server::connections::Source;
use crate::server::server::Server;

use super::stream::TcpSocket;

/// The tokens of listeners, which limit their number.
const TOKENS: std::ops::Range<usize> = usize::MAX - 1024..usize::MAX - 64;

/// The first descriptor that is handed over (sd_listen_fds(3)).
const FIRST_INHERITED: i32 = 3;

/// Connections that the kernel may hold for us before we accept them.
pub(crate) const BACKLOG: i32 = 4096;

/// Bytes that the kernel holds for one connection before they are in flight.
#[cfg(any(target_os = "linux", target_os = "android"))]
const NOT_SENT_BYTES_MAX: u32 = 128 << 10;

/// How long accepting pauses if it would fail again at once.
const PAUSE: Duration = Duration::from_millis(100);

/// Connections that can be lost in succession before accepting pauses: a firewall may refuse them all.
const LOST_MAX: usize = 64;

/// Connections refused before accepting pauses again.
const TURNED_AWAY_MAX: usize = 64;

const NO_DESCRIPTOR: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n\
    Connection: close\r\nContent-Type: application/json\r\nContent-Length: 33\r\n\
    Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\r\n\
    {\"detail\":\"too many connections\"}";

pub(crate) struct Listeners {
    listeners: Vec<Listener>,
    /// Whether other processes hold them too.
    are_inherited: bool,
    /// Whether nothing is accepted any more.
    are_stopped: bool,
    /// The listener that is looked at first; it rotates.
    first: usize,
    /// Before this time, the system lacks the resources to accept a connection.
    paused_until: Option<Instant>,
    /// Whether the last attempt to accept failed, which is logged once.
    are_failing: bool,
    /// A spare descriptor. It is closed for a moment to accept and refuse a connection that would otherwise
    /// wait without an answer.
    spare: Option<File>,
}

struct Listener {
    socket: TcpListener,
    addr: SocketAddr,
    /// Whether it may have a connection. Listeners are edge-triggered too: a connection that was left there
    /// must be remembered.
    is_ready: bool,
}

impl Listeners {
    pub(crate) fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(
            Domain::for_address(addr),
            Type::STREAM.nonblocking(),
            Some(socket2::Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        prepare(&SockRef::from(&socket))?;
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        Self::new(vec![socket.into()], false)
    }

    /// Listens on sockets that other processes hold too.
    pub(crate) fn take_over(sockets: Vec<StdTcpListener>) -> io::Result<Self> {
        for socket in &sockets {
            socket.set_nonblocking(true)?;
            prepare(&SockRef::from(socket))?;
        }
        Self::new(sockets, true)
    }

    fn new(sockets: Vec<StdTcpListener>, are_inherited: bool) -> io::Result<Self> {
        let listener = |socket: StdTcpListener| {
            let addr = socket.local_addr()?;
            Ok(Listener { socket: TcpListener::from_std(socket), addr, is_ready: false })
        };
        Ok(Self {
            listeners: sockets.into_iter().map(listener).collect::<io::Result<_>>()?,
            are_inherited,
            are_stopped: false,
            first: 0,
            paused_until: None,
            are_failing: false,
            spare: spare(),
        })
    }

    pub(crate) fn register(&mut self, registry: &Registry) -> io::Result<()> {
        for (listener, token) in self.listeners.iter_mut().zip(TOKENS) {
            listener.socket.register(registry, Token(token), Interest::READABLE)?;
        }
        Ok(())
    }

    /// The addresses, with their actual ports.
    pub(crate) fn addrs(&self) -> impl Iterator<Item = SocketAddr> {
        self.listeners.iter().map(|listener| listener.addr)
    }

    /// Records an event, if it is one of a listener.
    pub(crate) fn mark(&mut self, token: Token) -> bool {
        let listener = token.0.checked_sub(TOKENS.start).and_then(|place| self.listeners.get_mut(place));
        let Some(listener) = listener else { return false };
        listener.is_ready = true;
        true
    }

    /// Stops accepting. Our own sockets are closed, so new connections are refused. If other processes hold
    /// the sockets too, the kernel keeps new connections for the next process. Returns whether this is the
    /// first call.
    pub(crate) fn stop(&mut self, registry: &Registry) -> bool {
        if std::mem::replace(&mut self.are_stopped, true) {
            return false;
        }
        if self.are_inherited {
            for listener in &mut self.listeners {
                if let Err(error) = listener.socket.deregister(registry) {
                    log::warn!("{} cannot be removed from the poll: {error}", listener.addr);
                }
            }
        } else {
            self.listeners.clear();
        }
        true
    }

    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        if self.are_stopped || self.listeners.iter().all(|listener| !listener.is_ready) {
            return None;
        }
        let until = self.paused_until.unwrap_or_else(Instant::now);
        Some(until.saturating_duration_since(Instant::now()))
    }

    /// Whether there may be a connection to accept now.
    pub(crate) fn has_some(&self) -> bool {
        self.poll_timeout() == Some(Duration::ZERO)
    }

    /// Accepts as many connections as a turn may, from each listener in turn.
    pub(crate) fn accept(&mut self, registry: &Registry, server: &mut Server<TcpSocket>) {
        if !self.has_some() {
            return;
        }
        self.paused_until = None;
        let mut budget = server.config().budgets.accepts;
        let mut lost = 0;
        let count = self.listeners.len();
        let first = self.first;
        for place in (0..count).map(|offset| (first + offset) % count) {
            while self.listeners[place].is_ready && budget > 0 {
                budget -= 1;
                let Err(error) = self.accept_one(place, registry, server) else { continue };
                let failure = Failure::of(&error);
                if failure == Failure::Connection {
                    log::debug!("a connection was lost before it was accepted: {error}");
                    server.count_lost();
                    lost += 1;
                }
                if failure != Failure::Connection || lost == LOST_MAX {
                    self.pause(place, failure, &error, server);
                    return;
                }
            }
        }
        self.first = (first + 1) % count;
    }

    /// Pauses accepting for a moment. If the system lacks the resources for another connection, those that
    /// wait are refused.
    fn pause(&mut self, place: usize, failure: Failure, error: &io::Error, server: &mut Server<TcpSocket>) {
        if !std::mem::replace(&mut self.are_failing, true) {
            let becomes = if failure == Failure::System { "refused" } else { "not accepted" };
            log::warn!("new connections are {becomes} for now: {error}");
        }
        if failure == Failure::System {
            self.turn_away(place, server);
        }
        self.paused_until = Some(Instant::now() + PAUSE);
    }

    fn accept_one(
        &mut self,
        place: usize,
        registry: &Registry,
        server: &mut Server<TcpSocket>,
    ) -> io::Result<()> {
        let listener = &mut self.listeners[place];
        match listener.socket.accept() {
            Ok((mut stream, peer)) => {
                self.are_failing = false;
                let token = Token(server.next_index() as usize);
                match registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE) {
                    Ok(()) => {
                        server.accept(TcpSocket(stream), source(peer.ip()));
                    }
                    Err(error) => log::error!("a connection cannot be polled and is dropped: {error}"),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => listener.is_ready = false,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Refuses connections that wait while there is no descriptor for them: one at a time, with the spare
    /// one.
    fn turn_away(&mut self, place: usize, server: &mut Server<TcpSocket>) {
        for _ in 0..TURNED_AWAY_MAX {
            if self.spare.take().is_none() {
                break;
            }
            let Ok((mut stream, _)) = self.listeners[place].socket.accept() else { break };
            // It fits into any socket buffer, and a client that does not read it loses nothing.
            let _ = stream.write(NO_DESCRIPTOR);
            let _ = stream.shutdown(Shutdown::Write);
            drop(stream);
            server.count_turned_away();
            self.spare = spare();
        }
        self.spare = self.spare.take().or_else(spare);
    }
}

/// The sockets that the parent process has created for us, as systemd hands them over; none if there are
/// none. This must come first: a descriptor that is opened before could be taken for one of them.
///
/// # Errors
/// A line that says which of them is not a listening socket.
pub(crate) fn inherited() -> Result<Vec<StdTcpListener>, String> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let Some(count) = variable("LISTEN_FDS") else { return Ok(Vec::new()) };
    // They may be meant for the parent process.
    if variable("LISTEN_PID").is_some_and(|pid| pid != std::process::id().to_string()) {
        return Ok(Vec::new());
    }
    let count = count.parse::<u16>().ok().filter(|count| usize::from(*count) <= TOKENS.len());
    let count = count.ok_or_else(|| "LISTEN_FDS is not a number of listening sockets".to_owned())?;
    let descriptors = (0..i32::from(count)).map(|place| FIRST_INHERITED + place);
    descriptors
        .map(|descriptor| {
            inherit(descriptor).map_err(|error| {
                format!("descriptor {descriptor} of LISTEN_FDS is not a listening TCP socket: {error}")
            })
        })
        .collect()
}

fn inherit(descriptor: i32) -> io::Result<StdTcpListener> {
    // The kind of the descriptor is checked here.
    let Inherited::Unix(socket) = Binding::FileDescriptor(descriptor).try_into()? else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    let socket = socket2::Socket::from(OwnedFd::from(socket));
    let wrong = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    if !matches!(socket.domain()?, Domain::IPV4 | Domain::IPV6) || socket.r#type()? != Type::STREAM {
        return wrong("it is another kind of socket");
    }
    if !socket.is_listener()? {
        return wrong("it is a connection (with systemd, set Accept=no)");
    }
    socket.set_cloexec(true)?;
    Ok(socket.into())
}

fn prepare(socket: &SockRef<'_>) -> io::Result<()> {
    // Accepted sockets inherit this: small frames leave at once, and it costs no system call per connection.
    socket.set_tcp_nodelay(true)?;
    // This is inherited too: how much the kernel buffers for a slow reader beyond what is in flight. It
    // bounds the kernel's memory, lets a Ping overtake a backlog, and reports early that a reader has resumed
    // reading.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_notsent_lowat(NOT_SENT_BYTES_MAX)?;
    Ok(())
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

/// The key of a per-address limit: an IPv4 address, or the first half of an IPv6 address, which one site has.
fn source(addr: IpAddr) -> Source {
    match addr.to_canonical() {
        // At the place where an IPv6 address would have the prefix of mapped IPv4 addresses, which it never
        // has.
        IpAddr::V4(addr) => Source(0xffff_0000_0000 | u64::from(addr.to_bits())),
        IpAddr::V6(addr) => Source((addr.to_bits() >> 64) as u64),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// This one connection was lost, by its peer or on its way: the next one may be accepted.
    Connection,
    /// The system has no descriptor or memory for another one.
    System,
    /// The listener itself does not work.
    Listener,
}

impl Failure {
    fn of(error: &io::Error) -> Self {
        let is_one_of =
            |errors: &[Errno]| errors.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()));
        if is_one_of(LACKING) {
            Self::System
        } else if is_one_of(LOST) {
            Self::Connection
        } else {
            Self::Listener
        }
    }
}

const LACKING: &[Errno] = &[Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];

/// Errors of a connection while it waited: Linux reports them by `accept` (accept(2), "Error handling").
const LOST: &[Errno] = &[
    Errno::CONNABORTED,
    Errno::CONNRESET,
    Errno::HOSTDOWN,
    Errno::HOSTUNREACH,
    Errno::INTR,
    Errno::NETDOWN,
    Errno::NETRESET,
    Errno::NETUNREACH,
    #[cfg(any(target_os = "linux", target_os = "android"))]
    Errno::NONET,
    Errno::NOPROTOOPT,
    Errno::OPNOTSUPP,
    // From a firewall.
    Errno::PERM,
    Errno::PROTO,
    Errno::TIMEDOUT,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_connection_is_no_lack_of_descriptors() {
        let failure = |errno: Errno| Failure::of(&io::Error::from_raw_os_error(errno.raw_os_error()));
        for lost in [
            Errno::NETDOWN,
            Errno::PROTO,
            Errno::NOPROTOOPT,
            Errno::HOSTDOWN,
            Errno::HOSTUNREACH,
            Errno::OPNOTSUPP,
            Errno::NETUNREACH,
            Errno::PERM,
            Errno::CONNABORTED,
            Errno::CONNRESET,
            Errno::TIMEDOUT,
            Errno::INTR,
        ] {
            assert_eq!(failure(lost), Failure::Connection, "{lost}");
        }
        for lacking in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
            assert_eq!(failure(lacking), Failure::System, "{lacking}");
        }
        for broken in [Errno::BADF, Errno::INVAL, Errno::NOTSOCK, Errno::FAULT] {
            assert_eq!(failure(broken), Failure::Listener, "{broken}");
        }
        assert_eq!(Failure::of(&io::ErrorKind::Other.into()), Failure::Listener);
    }
}
