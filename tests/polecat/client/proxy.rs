//! A proxy that loses responses: bytes to the server arrive, bytes from it do not.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::PATIENCE;

/// A proxy between a client and the server at `addr`. On its first connection, nothing comes back after
/// `mark` was seen, until the connection is cut; the next ones are forwarded completely.
pub(crate) struct Proxy {
    pub(crate) addr: SocketAddr,
    cut: Arc<AtomicBool>,
}

impl Proxy {
    pub(crate) fn before(server: SocketAddr, mark: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let cut = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&cut);
        std::thread::spawn(move || {
            for mark in std::iter::once(Some(mark)).chain(std::iter::repeat(None)) {
                let Ok((client, _)) = listener.accept() else { return };
                let Ok(server) = TcpStream::connect(server) else { continue };
                for stream in [&client, &server] {
                    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
                    stream.set_nodelay(true).expect("an option");
                }
                let (from, to) = (client.try_clone().expect("a copy"), server.try_clone().expect("a copy"));
                std::thread::spawn(move || pass_on(from, to, None, &AtomicBool::new(false)));
                let told = Arc::clone(&told);
                std::thread::spawn(move || pass_on(server, client, mark, &told));
            }
        });
        Self { addr, cut }
    }

    /// Ends the first connection at the next bytes that would come back.
    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, mark: Option<&[u8]>, cut: &AtomicBool) {
    let mut chunk = [0; 16 << 10];
    let mut seen = Vec::new();
    loop {
        let read = match from.read(&mut chunk) {
            Ok(read) if read > 0 => read,
            _ => break,
        };
        let is_lost =
            mark.is_some_and(|mark| mark.is_empty() || seen.windows(mark.len()).any(|part| part == mark));
        if is_lost && cut.load(Ordering::Relaxed) {
            break;
        }
        if !is_lost {
            seen.extend_from_slice(&chunk[..read]);
            if to.write_all(&chunk[..read]).is_err() {
                break;
            }
        }
    }
    to.shutdown(Shutdown::Both).ok();
    from.shutdown(Shutdown::Both).ok();
}
