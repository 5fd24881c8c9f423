//! What whoever supervises the process is told, in the way of systemd: when it serves, when it stops, and, where
//! there is a watchdog, that the loop still turns. Where nobody asks for it, nothing is said and nothing wakes up.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// A supervisor that wants to be told.
#[derive(Debug)]
pub(super) struct Supervisor {
    socket: UnixDatagram,
    addr: SocketAddr,
    watchdog: Option<Watchdog>,
}

/// Without a sign of life for its whole time, the process is killed: it gives one in half of it.
#[derive(Debug)]
struct Watchdog {
    half: Duration,
    due: Instant,
}

impl Supervisor {
    /// The one that the environment names, if any.
    ///
    /// # Errors
    ///
    /// A line that says what cannot be understood or reached.
    pub(super) fn from_env() -> Result<Option<Self>, String> {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        let reach = || {
            let addr = addr(&name)?;
            let socket = UnixDatagram::unbound()?;
            // A sign that nobody takes is not waited for.
            socket.set_nonblocking(true)?;
            Ok((socket, addr))
        };
        let (socket, addr) = reach().map_err(|error: io::Error| {
            format!("cannot notify {} (NOTIFY_SOCKET): {error}", name.to_string_lossy())
        })?;
        let watchdog = watchdog_half()?.map(|half| Watchdog { half, due: Instant::now() + half });
        Ok(Some(Self { socket, addr, watchdog }))
    }

    /// It serves.
    pub(super) fn ready(&mut self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// It stops.
    pub(super) fn stopping(&mut self, status: &str) {
        self.tell(&format!("STOPPING=1\nSTATUS={status}"));
    }

    /// The loop has turned.
    pub(super) fn turned(&mut self, status: impl FnOnce() -> String) {
        let Some(watchdog) = &mut self.watchdog else { return };
        let now = Instant::now();
        if now >= watchdog.due {
            watchdog.due = now + watchdog.half;
            self.tell(&format!("WATCHDOG=1\nSTATUS={}", status()));
        }
    }

    /// How long the loop may sleep until it has to give a sign of life.
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        let watchdog = self.watchdog.as_ref()?;
        Some(watchdog.due.saturating_duration_since(Instant::now()))
    }

    fn tell(&mut self, lines: &str) {
        if let Err(error) = self.socket.send_to_addr(lines.as_bytes(), &self.addr) {
            log::warn!("whoever supervises this process cannot be told {lines:?}: {error}");
        }
    }
}

/// The address of a socket: a path, or a name of its own that begins with `@`.
fn addr(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(name),
        #[cfg(any(target_os = "linux", target_os = "android"))]
        [b'@', name @ ..] => {
            #[cfg(target_os = "android")]
            use std::os::android::net::SocketAddrExt as _;
            #[cfg(target_os = "linux")]
            use std::os::linux::net::SocketAddrExt as _;
            SocketAddr::from_abstract_name(name)
        }
        _ => Err(io::Error::new(io::ErrorKind::Unsupported, "neither a path nor an abstract name")),
    }
}

/// Half of the time of the watchdog, if there is one and it watches this process.
fn watchdog_half() -> Result<Option<Duration>, String> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let Some(given) = variable("WATCHDOG_USEC") else { return Ok(None) };
    let is_ours = variable("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
    match given.parse::<u64>() {
        Ok(0) => Ok(None),
        Ok(microseconds) => Ok(is_ours.then(|| Duration::from_micros(microseconds) / 2)),
        Err(_) => Err(format!("WATCHDOG_USEC is no number of microseconds: {given}")),
    }
}
