//! Notifications to a supervisor, as systemd defines them: when the server serves, when it stops, and, if
//! there is a watchdog, that the loop is still running. If there is no supervisor, nothing is sent and
//! nothing wakes up.
//!
//! A notification that the supervisor does not accept, because its queue is full or its socket does not
//! exist, stays pending until it is sent: a supervisor that missed one would kill a working service.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// After a failed notification, the next attempt waits this long, or a quarter of the time left to the
/// watchdog.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// A supervisor that expects notifications.
#[derive(Debug)]
pub(crate) struct Supervisor {
    socket: UnixDatagram,
    addr: SocketAddr,
    watchdog: Option<Watchdog>,
    /// Notifications that are not sent yet, oldest first: at most that it serves and that it stops.
    pending: VecDeque<String>,
    /// When to try again, after the last attempt failed.
    retry: Option<Instant>,
}

/// Without a notification for its whole time, the process is killed. So one is sent in each half of that
/// time.
#[derive(Debug)]
struct Watchdog {
    half: Duration,
    due: Instant,
}

impl Supervisor {
    /// The supervisor that the environment names, if any.
    ///
    /// # Errors
    /// A line that says which variable is invalid or which socket cannot be reached.
    pub(crate) fn from_env() -> Result<Option<Self>, String> {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        let reach = || {
            let addr = addr(&name)?;
            let socket = UnixDatagram::unbound()?;
            // Sending never waits.
            socket.set_nonblocking(true)?;
            Ok((socket, addr))
        };
        let (socket, addr) = reach().map_err(|error: io::Error| {
            format!("cannot notify {} (NOTIFY_SOCKET): {error}", name.to_string_lossy())
        })?;
        let watchdog = watchdog_half()?.map(|half| Watchdog { half, due: Instant::now() + half });
        Ok(Some(Self { socket, addr, watchdog, pending: VecDeque::new(), retry: None }))
    }

    pub(crate) fn ready(&mut self, status: &str) {
        self.pending.push_back(format!("READY=1\nSTATUS={status}"));
        self.send_pending();
    }

    pub(crate) fn stopping(&mut self, status: &str) {
        self.pending.push_back(format!("STOPPING=1\nSTATUS={status}"));
        self.send_pending();
    }

    /// The loop has run.
    pub(crate) fn turned(&mut self, status: impl FnOnce() -> String) {
        let Some(due) = self.due() else { return };
        let now = Instant::now();
        if now < due || !self.send_pending() {
            return;
        }
        if self.watchdog.as_ref().is_some_and(|watchdog| now >= watchdog.due)
            && self.send(&format!("WATCHDOG=1\nSTATUS={}", status()))
            && let Some(watchdog) = &mut self.watchdog
        {
            watchdog.due = now + watchdog.half;
        }
    }

    /// How long the loop may sleep until it has to notify the watchdog, or to try again.
    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        Some(self.due()?.saturating_duration_since(Instant::now()))
    }

    /// When there is something to send.
    fn due(&self) -> Option<Instant> {
        self.retry.or(self.watchdog.as_ref().map(|watchdog| watchdog.due))
    }

    /// Returns whether nothing is pending any more.
    fn send_pending(&mut self) -> bool {
        while let Some(notice) = self.pending.pop_front() {
            if !self.send(&notice) {
                self.pending.push_front(notice);
                return false;
            }
        }
        true
    }

    /// Returns whether the supervisor has accepted it. Failure and recovery are each logged once.
    fn send(&mut self, notice: &str) -> bool {
        let had_failed = self.retry.is_some();
        match self.socket.send_to_addr(notice.as_bytes(), &self.addr) {
            Ok(_) => {
                self.retry = None;
                if had_failed {
                    log::info!("the supervisor accepts notifications again");
                }
            }
            Err(error) => {
                let quarter = self.watchdog.as_ref().map(|watchdog| watchdog.half / 4);
                self.retry = Some(Instant::now() + quarter.unwrap_or(RETRY_INTERVAL).min(RETRY_INTERVAL));
                if !had_failed {
                    log::warn!(
                        "the supervisor does not accept notifications (NOTIFY_SOCKET): {error}; {notice:?} will be sent again until it does"
                    );
                }
            }
        }
        self.retry.is_none()
    }
}

/// The address of a socket: a path, or an abstract name that begins with `@`.
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

/// Half of the watchdog's time, if there is one and it watches this process.
fn watchdog_half() -> Result<Option<Duration>, String> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let Some(given) = variable("WATCHDOG_USEC") else { return Ok(None) };
    let is_ours = variable("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
    match given.parse::<u64>() {
        Ok(0) => Ok(None),
        Ok(microseconds) => Ok(is_ours.then(|| Duration::from_micros(microseconds) / 2)),
        Err(_) => Err(format!("WATCHDOG_USEC is not a number of microseconds: {given}")),
    }
}
