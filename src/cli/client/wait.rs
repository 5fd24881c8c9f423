//! Waiting without threads: for a socket, for standard input, for the reader of our output to go away, or for
//! a time.

use std::io;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Awaited<'s> {
    /// Bytes of it, or its end.
    pub(super) socket: Option<&'s TcpStream>,
    pub(super) room: bool,
    /// Bytes of standard input, or its end.
    pub(super) input: bool,
    /// The end of the reader of standard output.
    pub(super) output: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Woken {
    pub(super) input: bool,
    /// Nobody reads standard output any more.
    pub(super) is_unread: bool,
}

/// Waits until one of them is there, or `until` has passed. It may return early.
pub(super) fn wait(awaited: Awaited<'_>, until: Option<Instant>) -> io::Result<Woken> {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    let mut descriptors = Vec::with_capacity(3);
    if let Some(socket) = awaited.socket {
        let room = if awaited.room { PollFlags::OUT } else { PollFlags::empty() };
        descriptors.push(PollFd::new(socket, PollFlags::IN | room));
    }
    let input = awaited.input.then(|| {
        descriptors.push(PollFd::new(&stdin, PollFlags::IN));
        descriptors.len() - 1
    });
    let output = awaited.output.then(|| {
        // The end is reported without asking for it.
        descriptors.push(PollFd::new(&stdout, PollFlags::empty()));
        descriptors.len() - 1
    });
    let left = until.map(|until| timespec(until.saturating_duration_since(Instant::now())));
    match poll(&mut descriptors, left.as_ref()) {
        Ok(_) => {}
        // The process was stopped and continued, or the size of the window has changed.
        Err(rustix::io::Errno::INTR) => return Ok(Woken::default()),
        Err(error) => return Err(error.into()),
    }
    let told = |index: Option<usize>| index.map_or(PollFlags::empty(), |index| descriptors[index].revents());
    Ok(Woken {
        input: !told(input).is_empty(),
        is_unread: told(output).intersects(PollFlags::ERR | PollFlags::HUP),
    })
}

/// Waits for `time`. Returns early if `output` is set and nobody reads standard output any more, and returns
/// whether that is so.
pub(super) fn pause(time: Duration, output: bool) -> io::Result<bool> {
    let until = Instant::now() + time;
    loop {
        let woken = wait(Awaited { output, ..Awaited::default() }, Some(until))?;
        if woken.is_unread || Instant::now() >= until {
            return Ok(woken.is_unread);
        }
    }
}

fn timespec(time: Duration) -> Timespec {
    let tv_sec = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timespec { tv_sec, tv_nsec: time.subsec_nanos().into() }
}
