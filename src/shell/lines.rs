//! Lines on stderr, and what was asked for on stdout. The server never waits for whoever reads them, and never
//! ends because nobody does: a line that cannot be written now is dropped.

use std::io::{self, Write as _};

use log::{LevelFilter, Log, Metadata, Record};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use simple_logger::SimpleLogger;

use crate::wire::protocol::timestamp;

use super::clock::unix_micros;

/// Writes `line`, if that is possible without waiting.
pub(crate) fn say(line: &str) {
    let mut stderr = io::stderr().lock();
    if takes_a_line(&stderr) {
        // A full disk, a reader that went away: there is nobody to tell.
        let _ = writeln!(stderr, "{line}");
    }
}

/// Writes `text` to stdout: what was asked for.
///
/// # Errors
/// Those of the operating system; a reader that went away is one.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Starts logging at `level`.
///
/// # Errors
/// Where a logger was installed before.
pub(crate) fn log_at(level: LevelFilter) -> Result<(), log::SetLoggerError> {
    let lines = Lines { levels: SimpleLogger::new().with_level(level) };
    log::set_max_level(lines.levels.max_level());
    log::set_boxed_logger(Box::new(lines))
}

/// `simple_logger` decides what is logged. It would end the process where a line cannot
/// be written, so the line is ours.
struct Lines {
    levels: SimpleLogger,
}

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.levels.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let time = timestamp(unix_micros());
            say(&format!("{time} {:<5} {}", record.level(), record.args()));
        }
    }

    fn flush(&self) {}
}

/// Whether a line can be written without waiting: there is room, and somebody who may read it.
fn takes_a_line(stderr: &io::StderrLock<'_>) -> bool {
    let mut descriptors = [PollFd::new(stderr, PollFlags::OUT)];
    let ready = poll(&mut descriptors, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    ready.is_ok() && descriptors[0].revents() == PollFlags::OUT
}
