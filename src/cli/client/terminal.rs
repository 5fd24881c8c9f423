//! Output to stdout and stderr, and a parser that the flags share.

use std::io::{self, Write as _};
use std::time::Duration;

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
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=8_640_000.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("not a number of seconds between 0 and 8640000".to_owned()),
    }
}
