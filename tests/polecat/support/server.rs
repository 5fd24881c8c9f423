//! A server in a thread of the test process, on a free port of loopback and a
//! database of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;

use polecat::server::metrics::Metrics;
use polecat::shell::options::Options;
use polecat::shell::reactor::{Handle, Reactor};
use tempfile::TempDir;

use super::PATIENCE;

/// A directory for a database that outlives its servers.
pub(crate) struct Home {
    directory: TempDir,
}

/// A running server; stopped and joined when it is dropped.
pub(crate) struct Server {
    addr: SocketAddr,
    handle: Handle,
    ended: Receiver<Result<Metrics, String>>,
    thread: Option<JoinHandle<()>>,
    /// Dropped, and so deleted, after the server has stopped.
    _home: Option<Home>,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a temporary directory") }
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.directory.path().join("polecat.db")
    }

    /// Starts a server on this home's database.
    pub(crate) fn serve(&self) -> Server {
        self.serve_with(|_| {})
    }

    pub(crate) fn serve_with(&self, tweak: impl FnOnce(&mut Options)) -> Server {
        start(&self.database(), tweak)
    }
}

impl Server {
    /// Starts a server on an empty database.
    pub(crate) fn start() -> Self {
        Self::start_with(|_| {})
    }

    pub(crate) fn start_with(tweak: impl FnOnce(&mut Options)) -> Self {
        let home = Home::new();
        let mut server = home.serve_with(tweak);
        server._home = Some(home);
        server
    }

    /// Starts a server on an empty database with heartbeats every `interval_ms`.
    pub(crate) fn beating_every(interval_ms: u32) -> Self {
        Self::start_with(|options| options.config.timeouts.heartbeat_interval_ms = interval_ms)
    }

    pub(crate) const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Shuts down, waits for the end, and returns the counters.
    pub(crate) fn stop(mut self) -> Metrics {
        self.end().expect("the server ends well")
    }

    fn end(&mut self) -> Option<Metrics> {
        let thread = self.thread.take()?;
        self.handle.shut_down();
        let ended = self.ended.recv_timeout(PATIENCE);
        if std::thread::panicking() {
            return None;
        }
        let metrics = match ended {
            Ok(Ok(metrics)) => metrics,
            Ok(Err(error)) => panic!("the server ended with an error: {error}"),
            Err(error) => panic!("the server panicked or did not stop: {error}"),
        };
        thread.join().expect("the server's thread ends well");
        Some(metrics)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

fn start(database: &Path, tweak: impl FnOnce(&mut Options)) -> Server {
    let mut options = Options {
        listen: "127.0.0.1:0".parse().expect("an address"),
        database: Some(database.to_owned()),
        ..Options::default()
    };
    tweak(&mut options);
    let (started_sender, started) = mpsc::channel();
    let (ended_sender, ended) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let reactor = Reactor::start(&options).expect("the server starts");
        started_sender
            .send((reactor.local_addrs()[0], reactor.handle()))
            .expect("the test waits for the start");
        let outcome = reactor.run().map_err(|error| error.to_string());
        // The test may have failed and ended by now.
        ended_sender.send(outcome).ok();
    });
    let (addr, handle) = started.recv_timeout(PATIENCE).expect("the server starts in time");
    Server { addr, handle, ended, thread: Some(thread), _home: None }
}
