//! Lines on stderr, and output on stdout. The server never waits for a reader, and never ends because there
//! is none: a line that cannot be written now is dropped.

use std::io::{self, Write as _};

use log::{LevelFilter, Log, Metadata, Record};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use simple_logger::SimpleLogger;

use crate::wire::protocol::timestamp;

use super::clock::unix_micros;

/// Writes `line` if that is possible without waiting.
pub(crate) fn say(line: &str) {
    let mut stderr = io::stderr().lock();
    if takes_a_line(&stderr) {
        // A full disk, or a reader that has gone: there is nobody to tell.
        let _ = writeln!(stderr, "{line}");
    }
}

/// Writes the output `text` to stdout.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Starts logging at `level`.
pub(crate) fn log_at(level: LevelFilter) -> Result<(), log::SetLoggerError> {
    let lines = Lines { levels: SimpleLogger::new().with_level(level) };
    log::set_max_level(lines.levels.max_level());
    log::set_boxed_logger(Box::new(lines))
}

/// `simple_logger` decides what is logged. It would end the process if a line cannot be written, so the
/// writing is ours.
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

/// Whether a line can be written without waiting: there is room, and there may be a reader.
fn takes_a_line(stderr: &io::StderrLock<'_>) -> bool {
    let mut descriptors = [PollFd::new(stderr, PollFlags::OUT)];
    let ready = poll(&mut descriptors, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    ready.is_ok() && descriptors[0].revents() == PollFlags::OUT
}
