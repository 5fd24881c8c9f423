//! Output to stdout and stderr, and a parser that the flags share.

use std::io::{self, Write as _};
use std::time::Duration;

use crate::shell::flags::parse_within;
use crate::shell::lines;

/// Prints a line on stderr. If that fails, it is lost.
pub(super) fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "polecat: {line}");
}

/// Prints output on stdout; returns whether nobody reads it any more.
pub(super) fn print(text: &str) -> Result<bool, String> {
    match lines::print(text) {
        Ok(()) => Ok(false),
        Err(error) => unread(&error).map(|()| true),
    }
}

/// A reader that has gone is not an error.
pub(super) fn unread(error: &io::Error) -> Result<(), String> {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(format!("standard output cannot be written: {error}")),
    }
}

/// Seconds, with fractions, up to a hundred days.
pub(super) fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = parse_within(text, 0.0..=8_640_000.0, "a number of seconds between 0 and 8640000");
    seconds.map(Duration::from_secs_f64)
}
